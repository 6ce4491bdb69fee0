"""poplib against a maildrop with six messages. Argument: what the server is like, as JSON."""

import base64
import json
import poplib
import ssl
import sys

from scram import Scram

server = json.loads(sys.argv[1])
tls = ssl.create_default_context(cafile=server["certificate"])
user, password = server["user"], server["password"]

pop = poplib.POP3("localhost", server["pop3"])
assert {"TOP", "UIDL", "STLS", "PIPELINING"} <= set(pop.capa()), pop.capa()
pop.stls(context=tls)
assert "STLS" not in pop.capa()
pop.user(user)
pop.pass_(password)
count, octets = pop.stat()
assert count == 6, count
sizes = [int(line.split()[1]) for line in pop.list()[1]]
assert sum(sizes) == octets, (sizes, octets)
ids = [line.split()[1] for line in pop.uidl()[1]]
assert len(set(ids)) == 6 and pop.uidl(2).split()[2] == ids[1]
for number, size in enumerate(sizes, 1):
    lines = pop.retr(number)[1]
    assert sum(len(line) + 2 for line in lines) == size, (number, size)
    assert b"Subject: %d" % number in lines and lines[-3:] == [b".", b"..two dots", b"end"], lines
top = pop.top(1, 1)[1]
assert top[-2:] == [b"", b"."], top
try:
    pop.retr(7)
    raise AssertionError("a message that does not exist")
except poplib.error_proto:
    pass
pop.dele(1)
pop.rset()
pop.dele(2)
pop.dele(6)
pop.noop()
pop.quit()

pop = poplib.POP3_SSL("localhost", server["pop3s"], context=tls)
try:
    pop.user(user)
    pop.pass_("wrong")
    raise AssertionError("a wrong password")
except poplib.error_proto as error:
    assert b"[AUTH]" in error.args[0], error
scram = Scram(user, password)
line = pop._shortcmd("AUTH SCRAM-SHA-256 " + base64.b64encode(scram().encode()).decode())
while line.startswith(b"+ "):
    line = pop._shortcmd(base64.b64encode(scram(base64.b64decode(line[2:])).encode()).decode())
assert line.startswith(b"+OK") and scram.verified, line
left = [line.split()[1] for line in pop.uidl()[1]]
assert left == [ids[0], ids[2], ids[3], ids[4]], (ids, left)
pop.quit()
print("ok")
