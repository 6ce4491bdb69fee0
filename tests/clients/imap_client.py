"""imaplib against an account with five messages in INBOX. Argument: what the server is like, as JSON."""

import base64
import imaplib
import json
import smtplib
import socket
import ssl
import sys
import zlib

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


class Compressed:
    """COMPRESS (RFC 4978), QRESYNC (RFC 7162), MULTIAPPEND (RFC 3502) and BINARY (RFC 3516) by hand, under TLS."""

    def __init__(self):
        self.wire = tls.wrap_socket(socket.create_connection(("localhost", server["imaps"]), 30), server_hostname="localhost")
        self.pack = self.unpack = None
        self.heard = b""
        assert self.line().startswith(b"* OK")

    def octets(self, count):
        while len(self.heard) < count:
            received = self.wire.recv(4096)
            assert received, "the connection has ended"
            self.heard += self.unpack.decompress(received) if self.unpack else received
        octets, self.heard = self.heard[:count], self.heard[count:]
        return octets

    def line(self):
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.octets(1)
        return line

    def send(self, octets):
        if self.pack:
            octets = self.pack.compress(octets) + self.pack.flush(zlib.Z_SYNC_FLUSH)
        self.wire.sendall(octets)

    def say(self, command):
        """Everything up to the tagged response, literals in place."""
        self.send(b"x " + command + b"\r\n")
        said = []
        while True:
            line = self.line()
            while line.endswith(b"}\r\n"):
                line += self.octets(int(line[line.rindex(b"{") + 1 : -3])) + self.line()
            said.append(line)
            if line.startswith(b"x "):
                assert line.startswith(b"x OK"), (command, said)
                return said

    def compress(self):
        self.say(b"COMPRESS DEFLATE")
        self.pack = zlib.compressobj(wbits=-15)
        self.unpack = zlib.decompressobj(wbits=-15)


def login():
    client = Compressed()
    client.say(b'LOGIN %s "%s"' % (user.encode(), password.encode()))
    client.compress()
    assert client.say(b"ENABLE QRESYNC")[0] == b"* ENABLED QRESYNC\r\n"
    return client


def code(said, name):
    found = [line for line in said if name in line]
    return int(found[0].split(name + b" ")[1].split(b"]")[0])


one, other = login(), login()
one.say(b"CREATE Many")
large = b"Subject: large\r\n\r\n" + b"".join(b"%d lines of it\r\n" % number for number in range(40_000))
binary = b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(bytes(range(256)) * 1000).replace(b"\n", b"\r\n")
messages = [b"Subject: a\r\n\r\na", large, binary, b"Subject: NUL\r\n\r\n\0"]
append = b"APPEND Many" + b"".join(b" (\\Seen) ~{%d+}\r\n" % len(text) + text for text in messages)
for uids in [b" 1:4]", b" 5:8]"]:
    assert uids in one.say(append)[-1]
said = one.say(b"SELECT Many")
uid_validity, modseq = code(said, b"UIDVALIDITY"), code(said, b"HIGHESTMODSEQ")
assert any(b"* 8 EXISTS" in line for line in said), said
for number, text in enumerate(messages, 1):
    assert text in one.say(b"FETCH %d BODY.PEEK[]" % number)[0], number
decoded = one.say(b"FETCH 3 (BINARY.SIZE[1] BINARY.PEEK[1] BINARY.PEEK[1]<65530.20>)")[0]
assert b"BINARY.SIZE[1] 256000 BINARY[1] ~{256000}\r\n" + bytes(range(256)) * 1000 in decoded
assert b"BINARY[1]<65530> ~{20}\r\n" + (bytes(range(256)) * 1000)[65530:65550] in decoded
other.say(b"SELECT Many")
other.say(b"UID STORE 1,5 +FLAGS (\\Deleted)")
assert other.say(b"UID EXPUNGE 5")[0] == b"* VANISHED 5\r\n"
assert b"* VANISHED 5\r\n" in one.say(b"NOOP")
said = login().say(b"EXAMINE Many (QRESYNC (%d %d 1:8 (4,7 4,7)))" % (uid_validity, modseq))
assert b"* VANISHED (EARLIER) 5\r\n" in said and len([line for line in said if b" FETCH (UID 1 FLAGS " in line]) == 1, said
print("ok")
