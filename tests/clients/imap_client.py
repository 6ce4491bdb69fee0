"""imaplib against an account with five messages in INBOX. Argument: what the server is like, as JSON."""

import imaplib
import json
import smtplib
import ssl
import sys

from scram import Scram

server = json.loads(sys.argv[1])
tls = ssl.create_default_context(cafile=server["certificate"])
user, password = server["user"], server["password"]


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


def numbers(data):
    return [int(number) for number in (data[0] or b"").split()]


# STARTTLS, and every way to log in.
imap = imaplib.IMAP4("localhost", server["imap"])
ok(imap.starttls(ssl_context=tls))
assert "STARTTLS" not in imap.capabilities, imap.capabilities
try:
    imap.login(user, "wrong")
    raise AssertionError("a wrong password")
except imaplib.IMAP4.error:
    pass
ok(imap.login(user, password))
imap.logout()
imap = imaplib.IMAP4_SSL("localhost", server["imaps"], ssl_context=tls)
ok(imap.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode()))
imap.logout()
imap = imaplib.IMAP4_SSL("localhost", server["imaps"], ssl_context=tls)
scram = Scram(user, password)
ok(imap.authenticate("SCRAM-SHA-256", lambda challenge: scram(challenge).encode()))
assert scram.verified

# SELECT, FETCH, SEARCH.
assert ok(imap.select("INBOX")) == [b"5"]
for number in range(1, 6):
    (head, body), _end = ok(imap.fetch(str(number), "(UID RFC822.SIZE BODY.PEEK[])"))
    assert f"RFC822.SIZE {len(body)}".encode() in head, head
    assert b"Subject: number %d\r\n" % number in body and body.endswith(b"body %d\r\n" % number), body
assert b"\\Seen" not in ok(imap.fetch("1", "(FLAGS)"))[0]
ok(imap.fetch("1", "(BODY[TEXT])"))
assert b"\\Seen" in ok(imap.fetch("1", "(FLAGS)"))[0]
envelope = ok(imap.fetch("2", "(ENVELOPE BODYSTRUCTURE INTERNALDATE)"))[0]
assert b'"number 2"' in envelope and b'("text" "plain"' in envelope.lower(), envelope
assert numbers(ok(imap.search(None, "ALL"))) == [1, 2, 3, 4, 5]
assert numbers(ok(imap.search(None, "SUBJECT", '"UMBER 3"'))) == [3]
assert numbers(ok(imap.search(None, "BODY", '"ody 4"'))) == [4]
assert numbers(ok(imap.search(None, "UNSEEN", "NOT", "SUBJECT", '"number 5"'))) == [2, 3, 4]
assert numbers(ok(imap.search(None, "OR", "SEEN", "TEXT", '"body 5"'))) == [1, 5]

# STORE, COPY, EXPUNGE.
assert b"\\Flagged" in ok(imap.store("2:3", "+FLAGS", "(\\Flagged)"))[0]
assert numbers(ok(imap.search(None, "FLAGGED"))) == [2, 3]
ok(imap.create("Archive/2026"))
ok(imap.copy("2:4", "Archive/2026"))
status, data = imap.copy("1", "Nowhere")
assert status == "NO" and b"[TRYCREATE]" in data[0], data
ok(imap.store("1", "+FLAGS", "(\\Deleted)"))
assert ok(imap.expunge()) == [b"1"]
assert numbers(ok(imap.search(None, "ALL"))) == [1, 2, 3, 4]
assert b'"number 2"' in ok(imap.fetch("1", "(ENVELOPE)"))[0]
assert any(b"Archive/2026" in line for line in ok(imap.list())), imap.list()
assert ok(imap.status("Archive/2026", "(MESSAGES UNSEEN)"))[0].endswith(b"(MESSAGES 3 UNSEEN 3)")

# APPEND keeps flags, date and octets.
appended = b"Subject: appended\r\n\r\n\xff as it came\r\n"
ok(imap.append("Archive/2026", "(\\Seen \\Draft)", '"17-Jul-1996 02:44:25 -0700"', appended))
assert ok(imap.select("Archive/2026")) == [b"4"]
(head, body), _end = ok(imap.fetch("4", "(FLAGS INTERNALDATE BODY.PEEK[])"))
assert body == appended and b"\\Draft" in head and b'"17-Jul-1996 02:44:25 -0700"' in head, (head, body)
assert numbers(ok(imap.uid("SEARCH", None, "FLAGGED"))) == [1, 2]

# IDLE tells about a delivery.
assert ok(imap.select("INBOX")) == [b"4"]
imap.send(b"i1 IDLE\r\n")
assert imap.readline().startswith(b"+ ")
with smtplib.SMTP("localhost", server["mx"]) as smtp:
    smtp.sendmail("stranger@elsewhere.example", user, "Subject: number 6\r\n\r\nbody 6\r\n")
line = imap.readline()
assert line == b"* 5 EXISTS\r\n", line
imap.send(b"DONE\r\n")
while not line.startswith(b"i1 "):
    line = imap.readline()
assert line.startswith(b"i1 OK"), line
assert b"body 6\r\n" in ok(imap.fetch("5", "(BODY[TEXT])"))[0][1]
ok(imap.rename("Archive/2026", "Archive/2027"))
ok(imap.subscribe("Archive/2027"))
assert any(b"Archive/2027" in line for line in ok(imap.lsub()))
ok(imap.delete("Archive/2027"))
ok(imap.close())
imap.logout()
print("ok")
