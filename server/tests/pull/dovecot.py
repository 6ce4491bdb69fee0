"""A Dovecot to pull mail from: python3 dovecot.py FOLDER CERT KEY. Prints its ports as JSON when it serves, fills the
account ann, and stops when its input ends. A line `more` adds a message, `anew` makes the mailbox Anew anew; both are
answered by `done`."""

import atexit
import imaplib
import json
import os
import pwd
import socket
import subprocess
import sys
import time

folder, certificate, key = sys.argv[1:]
user = pwd.getpwnam("nobody")
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
imap, imaps = (held.getsockname()[1] for held in sockets)
for held in sockets:
    held.close()
os.makedirs(f"{folder}/mail")
if os.geteuid() == 0:
    os.chmod(folder, 0o755)
    os.chown(f"{folder}/mail", user.pw_uid, user.pw_gid)
CONF = f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain scram-sha-256
mail_location = maildir:{folder}/mail/%u
namespace inbox {{
  inbox = yes
  separator = .
  prefix = INBOX.
  mailbox Gesendet {{
    auto = create
    special_use = \\Sent
  }}
}}
first_valid_uid = 1
default_vsz_limit = 256M
passdb {{
  driver = static
  args = password=pencil
}}
userdb {{
  driver = static
  args = uid={user.pw_uid} gid={user.pw_gid} home={folder}/mail/%u allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service stats {{
  chroot =
}}
"""
with open(f"{folder}/dovecot.conf", "w", encoding="utf-8") as file:
    file.write(CONF)
server = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", f"{folder}/dovecot.conf"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL)
atexit.register(lambda: (server.terminate(), server.wait()))
for _ in range(200):
    try:
        client = imaplib.IMAP4("127.0.0.1", imap)
        break
    except OSError:
        time.sleep(0.05)
client.login("ann", "pencil")


def ok(answer):
    assert answer[0] == "OK", answer


def append(mailbox, flags, octets):
    ok(client.append(f'"{mailbox}"', flags, '"17-Jul-1996 02:44:25 -0700"', octets))


for mailbox in ("INBOX.Many", "INBOX.Entw&APw-rfe", "INBOX.Lists", "INBOX.Lists.a b", "INBOX.Anew", "INBOX.Empty"):
    ok(client.create(f'"{mailbox}"'))
ok(client.subscribe('"INBOX.Entw&APw-rfe"'))
append("INBOX", r"(\Seen \Flagged $Forwarded)", b"Subject: one\r\n\r\nbody\r\n")
append("INBOX.Entw&APw-rfe", r"(\Draft)", b"Subject: \xc3\xa4\xff\r\n\r\nFrom 8-bit\r\n.\r\n")
append("INBOX.Lists.a b", "()", b"Subject: slash\r\n\r\n" + b"x" * 100_000 + b"\r\n")
append("INBOX.Lists", "()", b"Subject: large\r\n\r\n" + b"y" * 300_000 + b"\r\n")
append("INBOX.Anew", "()", b"Subject: old\r\n\r\n")
for number in range(250):
    append("INBOX.Many", r"(\Seen)" if number % 2 else "()", b"Subject: many %d\r\n\r\n" % number)
print(json.dumps({"imap": imap, "imaps": imaps}), flush=True)
for line in sys.stdin:
    if line == "more\n":
        append("INBOX.Many", "()", b"Subject: more\r\n\r\n")
    else:
        ok(client.delete("INBOX.Anew"))
        time.sleep(1.1)
        ok(client.create("INBOX.Anew"))
        append("INBOX.Anew", "()", b"Subject: new\r\n\r\n")
    print("done", flush=True)
