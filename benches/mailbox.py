#!/usr/bin/env python3
"""One large mailbox of real messages over IMAP: Rockdove and Dovecot 2.3 side by side, in milliseconds.

    cargo build --release -p rockdove
    sudo python3 benches/mailbox.py target/release --corpus FOLDER

FOLDER has messages, one a file, at any depth. They are repeated, each time with other ids and dates, until the mailbox
has `--messages`. Both servers run at once and are asked in turn, so that what else happens on the machine hits both. A
figure is the median of the rounds, from the first octet of the command sent to the last of its answer received. Must run
as root: Dovecot changes users.
"""

import argparse
import datetime
import email.utils
import os
import re
import socket
import statistics
import subprocess
import sys
import time

import compare
import servers

HERE = os.path.dirname(os.path.abspath(__file__))
USER = f"user1@{servers.DOMAIN}"
# The corpus is of 2002; repetitions are spread over the years after it.
FIRST_DAY = datetime.datetime(2003, 1, 1, tzinfo=datetime.timezone.utc)
UNDER_WAY_MAX = 64
INDEXED_SECONDS_MAX = 1_800


class Client:
    """An IMAP client that reads answers without looking at them, so that what is timed is the server."""

    def __init__(self, server, user=USER):
        host, port = server.addresses["imap"].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(1 << 20)
        self.tag = 0
        self.pending = b""
        self.socket.recv(4096)
        self.run(f"LOGIN {user} {servers.PASSWORD}")

    def next_tag(self):
        self.tag += 1
        return b"T%07d" % self.tag

    def run(self, command):
        """The whole answer of `command`."""
        tag = self.next_tag()
        self.socket.sendall(tag + b" " + command.encode() + b"\r\n")
        return self.answer(tag)

    def answer(self, tag):
        """All up to the tagged line of `tag`, which must be OK."""
        chunks, tail = [], b""
        end = b"\n" + tag + b" "
        while True:
            count = self.socket.recv_into(self.buffer)
            if count == 0:
                raise RuntimeError("the server hung up")
            chunk = bytes(self.buffer[:count])
            chunks.append(chunk)
            tail = (tail + chunk)[-4096:]
            if tail.endswith(b"\r\n"):
                last = (b"\n" + tail).rfind(end)
                if last >= 0:
                    if not tail[last + len(end) - 1:].startswith(b"OK"):
                        raise RuntimeError(tail[last:].decode(errors="replace"))
                    return b"".join(chunks)

    def append_all(self, mailbox, messages):
        """APPENDs with up to UNDER_WAY_MAX unanswered; seconds it took."""
        began = time.monotonic()
        waiting = 0
        lines = self.socket.makefile("rb")
        for octets, date in messages:
            stamp = date.strftime("%d-%b-%Y %H:%M:%S +0000")
            head = b"%s APPEND %s () \"%s\" {%d+}\r\n" % (self.next_tag(), mailbox.encode(), stamp.encode(), len(octets))
            self.socket.sendall(head + octets + b"\r\n")
            waiting += 1
            while waiting >= UNDER_WAY_MAX:
                waiting -= self.appended(lines)
        while waiting:
            waiting -= self.appended(lines)
        return time.monotonic() - began

    @staticmethod
    def appended(lines):
        line = lines.readline()
        if line.startswith(b"T"):
            if b" OK " not in line:
                raise RuntimeError(line.decode(errors="replace"))
            return 1
        return 0


def read_corpus(folder):
    paths = sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name != "cmds")
    messages = []
    for path in paths:
        with open(path, "rb") as file:
            octets = file.read()
        # Files of Unix: an mbox line before the header, lines that end in LF.
        if octets.startswith(b"From "):
            octets = octets[octets.index(b"\n") + 1:]
        messages.append(re.sub(rb"\r?\n", b"\r\n", octets))
    return messages


def made(corpus, count):
    """`count` messages and their dates: those of the corpus again and again, with other ids, references and dates."""
    ids = re.compile(rb"(?mi)^((?:message-id|in-reply-to|references):[^<]*<)")
    dates = re.compile(rb"(?mi)^date:[^\r]*\r\n")
    for number in range(count):
        repeat, octets = number // len(corpus), corpus[number % len(corpus)]
        date = FIRST_DAY + datetime.timedelta(minutes=number * 37 % 9_000_000)
        if repeat:
            end = octets.find(b"\r\n\r\n")
            head, body = (octets, b"") if end < 0 else (octets[:end + 2], octets[end + 2:])
            head = ids.sub(rb"\g<1>r%d." % repeat, head)
            head = dates.sub(b"Date: " + email.utils.format_datetime(date).encode() + b"\r\n", head, count=1)
            octets = head + body
        yield octets, date


OPERATIONS = [
    # Title, command, what undoes it.
    ("FETCH 1:* (UID FLAGS)", "FETCH 1:* (UID FLAGS)", None),
    ("FETCH 1:* ENVELOPE", "FETCH 1:* ENVELOPE", None),
    ("FETCH 1:* BODYSTRUCTURE", "FETCH 1:* BODYSTRUCTURE", None),
    ("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", "FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", None),
    ("FETCH 1:5000 BODY.PEEK[]", "FETCH 1:5000 BODY.PEEK[]", None),
    ('UID SEARCH BODY "linux"', 'UID SEARCH BODY "linux"', None),
    ('UID SEARCH TEXT "free software"', 'UID SEARCH TEXT "free software"', None),
    ('UID SEARCH BODY "ernelhack"', 'UID SEARCH BODY "ernelhack"', None),
    ('UID SEARCH SUBJECT "linux"', 'UID SEARCH SUBJECT "linux"', None),
    ('UID SEARCH HEADER List-Id "linux"', 'UID SEARCH HEADER List-Id "linux"', None),
    ("UID SEARCH SINCE", "UID SEARCH SINCE 1-Jun-2003", None),
    ("UID SEARCH LARGER", "UID SEARCH LARGER 10000", None),
    ("UID SEARCH UNSEEN", "UID SEARCH UNSEEN", None),
    ("UID SORT REVERSE DATE", "UID SORT (REVERSE DATE) UTF-8 ALL", None),
    ("UID SORT SUBJECT", "UID SORT (SUBJECT) UTF-8 ALL", None),
    ("UID THREAD REFERENCES", "UID THREAD REFERENCES UTF-8 ALL", None),
    ("STORE 1:* +FLAGS.SILENT \\Seen", "STORE 1:* +FLAGS.SILENT (\\Seen)", ["STORE 1:* -FLAGS.SILENT (\\Seen)"]),
    ("COPY 1:5000", "COPY 1:5000 Copies", ["SELECT Copies", "STORE 1:* +FLAGS.SILENT (\\Deleted)"]),
    ("EXPUNGE 5,000", "EXPUNGE", ["SELECT INBOX"]),
    ("SELECT", "SELECT INBOX", None),
]


class Watched:
    """What is seen of a server from outside."""

    def __init__(self, server):
        self.server = server

    def metric(self, name):
        text = servers.output(self.server.program, "-c", self.server.path("rockdove.toml"), "status", "--metrics")
        found = re.search(rf"(?m)^{name} (\d+)", text)
        return int(found.group(1)) if found else 0

    def wait_until_indexed(self, messages):
        """Seconds until the texts of so many messages were taken in."""
        began = time.monotonic()
        while self.metric("rockdove_indexed_messages_total") < messages:
            if time.monotonic() - began > INDEXED_SECONDS_MAX:
                raise RuntimeError("the texts were not taken in")
            time.sleep(0.1)
        return time.monotonic() - began

    def disk(self):
        subprocess.run(["sync"], check=True)
        used = subprocess.run(["du", "-s", "--block-size=1", self.server.folder], capture_output=True, text=True, check=True)
        return int(used.stdout.split()[0])

    def written(self):
        """Octets that the server has written to files. What the disk gets is more: whole pages, and the journal of the
        file system. The kernel's own figure (write_bytes) counts a large folio of a log file anew with every sync."""
        with open(f"/proc/{self.server.pid}/io", encoding="utf-8") as file:
            return int(re.search(r"(?m)^wchar: (\d+)", file.read()).group(1))


class Peer(Watched):
    """A server that runs, its client, and what was seen of it."""

    def __init__(self, server, messages, corpus):
        super().__init__(server)
        server.start()
        self.client = Client(server)
        seconds = self.client.append_all("INBOX", made(corpus, messages))
        self.facts = {"APPEND pipelined": f"{messages / seconds:,.0f}/s"}
        if isinstance(server, servers.Rockdove):
            self.facts["indexed after the last APPEND"] = f"{self.wait_until_indexed(messages):.1f} s"
            self.facts["written to files for it"] = f"{self.written() / 1e6:,.0f} MB"
        self.facts["disk, log included"] = f"{self.disk() / 1e6:,.1f} MB"
        self.client.run("CREATE Copies")
        self.client.run("SELECT INBOX")
        self.took = {}

    def end(self):
        """What is seen only when all has been asked: memory, and a start after a kill. Dovecot is many processes."""
        if not isinstance(self.server, servers.Rockdove):
            return
        with open(f"/proc/{self.server.pid}/smaps_rollup", encoding="utf-8") as file:
            kilobytes = int(re.search(r"(?m)^Pss: +(\d+)", file.read()).group(1))
        self.facts["memory"] = f"{kilobytes / 1e3:,.0f} MB"
        self.server.process.kill()
        self.server.process.wait()
        began = time.monotonic()
        self.server.start_again()
        # The kernel gives up the sockets of the killed process a moment after it: not everything that accepts is ours.
        self.server.status()
        client = Client(self.server)
        self.facts["start after a kill"] = f"{time.monotonic() - began:.2f} s"
        began = time.monotonic()
        client.run("SELECT INBOX")
        self.facts["first SELECT after it"] = f"{(time.monotonic() - began) * 1000:,.1f} ms"
        self.facts["disk after it"] = f"{self.disk() / 1e6:,.1f} MB"
        self.facts["of it, to search and sort by"] = f"{self.metric('rockdove_store_search_bytes') / 1e6:,.1f} MB"

    def ask(self, title, command, after):
        began = time.monotonic()
        try:
            answer = self.client.run(command)
        except RuntimeError as error:
            self.facts.setdefault(f"refused: {title}", str(error).strip()[:80])
            return
        self.took.setdefault(title, []).append((time.monotonic() - began) * 1000)
        if "SEARCH" in command:
            self.facts[f"hits: {title}"] = f"{len(answer.splitlines()[0].split()) - 2:,}"
        for undo in after or []:
            self.client.run(undo)


def table(peers, messages, octets):
    compared = len(peers) == 2
    titles = [peer.server.title for peer in peers] + ["ratio"] * compared
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for title, _, _ in OPERATIONS:
        medians = [statistics.median(peer.took[title]) if title in peer.took else None for peer in peers]
        cells = ["—" if median is None else f"{median:,.1f} ms" for median in medians]
        if compared:
            cells.append(f"{medians[1] / medians[0]:.2f}" if None not in medians else "—")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for fact in dict.fromkeys(fact for peer in peers for fact in peer.facts):
        lines.append(f"| {fact} | " + " | ".join([peer.facts.get(fact, "—") for peer in peers] + [""] * compared) + " |")
    return f"{messages:,} messages, {octets / 1e6:,.0f} MB as received.\n\n" + "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="the folder with the program rockdove")
    parser.add_argument("--corpus", required=True, help="a folder of messages, one a file")
    parser.add_argument("--messages", type=int, default=20_200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="beginnings of titles: Rockdove,Dovecot")
    parser.add_argument("--work", default="/var/tmp", help="where folders are made; not in memory, or fsync is free")
    parser.add_argument("--out", help="write the table into this file too")
    return parser.parse_args()


def main():
    options = arguments()
    corpus = read_corpus(options.corpus)
    octets = sum(len(message) for message, _ in made(corpus, options.messages))
    rockdove = os.path.join(os.path.abspath(options.programs), "rockdove")
    makers = [lambda: servers.Rockdove(options.work, rockdove, "io_uring"), lambda: servers.Dovecot(options.work)]
    candidates = [make() for make in makers]
    wanted = [server for server in candidates if server.title.startswith(tuple(options.only.split(",")))]
    try:
        peers = [Peer(server, options.messages, corpus) for server in wanted]
        for number in range(options.rounds + 1):
            if number == 1:
                # The first round fills caches and is not counted.
                for peer in peers:
                    peer.took.clear()
            for operation in OPERATIONS:
                for peer in peers:
                    peer.ask(*operation)
        for peer in peers:
            peer.end()
        text = f"# One large mailbox\n\nWritten by `benches/mailbox.py` on {datetime.date.today().isoformat()}; it says how to run it again.\n\n"
        text += table(peers, options.messages, octets)
        text += f"\nMachine: {compare.machine()}; load average at the end {os.getloadavg()[0]:.1f}.\n"
        print(text)
        if options.out:
            with open(options.out, "w", encoding="utf-8") as file:
                file.write(text)
    finally:
        for server in candidates:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
