#!/usr/bin/env python3
"""Many accounts with a few messages each: what a host of mailboxes costs Rockdove.

    cargo build --release -p rockdove
    python3 benches/accounts.py target/release --corpus FOLDER --accounts 10000 --each 100

FOLDER has messages, one a file, at any depth; they are repeated with other ids and dates and delivered by LMTP, to one
account after the other. Then some accounts, spread over all, are asked what a client asks, each for the first time, and
the server is killed and started again.
"""

import argparse
import datetime
import os
import re
import socket
import statistics
import sys
import threading
import time

import compare
import mailbox
import servers

CONNECTIONS = 20
UNDER_WAY_MAX = 16
ASKED = 50
QUESTIONS = [
    "SELECT INBOX",
    "UID SEARCH UNSEEN",
    'UID SEARCH BODY "linux"',
    "FETCH 1:* (UID FLAGS ENVELOPE)",
    "UID SORT (REVERSE DATE) UTF-8 ALL",
]


class Deliverer(threading.Thread):
    """One LMTP connection: transactions of one recipient, several of them unanswered."""

    def __init__(self, address, messages):
        super().__init__()
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.messages = messages
        self.failure = None

    def reply(self, code):
        while True:
            line = self.lines.readline()
            if line[3:4] != b"-":
                break
        if not line.startswith(code):
            raise RuntimeError(f"{code} expected, not {line}")

    def run(self):
        try:
            self.reply(b"220")
            self.socket.sendall(b"LHLO bench.test\r\n")
            self.reply(b"250")
            under_way = 0
            for user, octets in self.messages:
                chunk = b"MAIL FROM:<sender@example.com>\r\nRCPT TO:<user%d@bench.test>\r\nBDAT %d LAST\r\n" % (user, len(octets))
                self.socket.sendall(chunk + octets)
                under_way += 1
                if under_way == UNDER_WAY_MAX:
                    self.take(under_way)
                    under_way = 0
            self.take(under_way)
            self.socket.close()
        except (OSError, RuntimeError) as error:
            self.failure = error

    def take(self, transactions):
        for _ in range(transactions):
            for _ in range(3):
                self.reply(b"250")


class Shared:
    """One iterator for many threads."""

    def __init__(self, iterator):
        self.iterator = iterator
        self.lock = threading.Lock()
        self.octets = 0

    def __iter__(self):
        return self

    def __next__(self):
        with self.lock:
            user, octets = next(self.iterator)
            self.octets += len(octets)
            return user, octets


def fill(server, corpus, options):
    count = options.accounts * options.each
    made = enumerate(mailbox.made(corpus, count))
    shared = Shared((number % options.accounts + 1, octets) for number, (octets, _) in made)
    threads = [Deliverer(server.addresses["lmtp"], shared) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for thread in threads:
        if thread.failure:
            raise thread.failure
    return count / (time.monotonic() - began), shared.octets


def ask(server, accounts):
    took = {}
    for number in range(1, accounts + 1, max(1, accounts // ASKED)):
        client = mailbox.Client(server, f"user{number}@{servers.DOMAIN}")
        for question in QUESTIONS:
            began = time.monotonic()
            client.run(question)
            took.setdefault(question, []).append((time.monotonic() - began) * 1000)
        client.socket.close()
    return took


def memory(server):
    with open(f"/proc/{server.pid}/smaps_rollup", encoding="utf-8") as file:
        return int(re.search(r"(?m)^Pss: +(\d+)", file.read()).group(1)) / 1e3


def measure(server, corpus, options):
    """Facts, in the order in which they were seen."""
    facts = {}
    began = time.monotonic()
    server.start()
    facts["making the accounts"] = f"{options.accounts / (time.monotonic() - began):,.0f}/s"
    facts["memory without mail"] = f"{memory(server):,.0f} MB"
    rate, octets = fill(server, corpus, options)
    peer = mailbox.Watched(server)
    facts[f"LMTP, {CONNECTIONS} connections, one recipient each"] = f"{rate:,.0f}/s"
    facts["indexed after the last"] = f"{peer.wait_until_indexed(options.accounts * options.each):,.1f} s"
    facts["written to files for it"] = f"{peer.written() / 1e6:,.0f} MB"
    facts["disk, log included"] = f"{peer.disk() / 1e6:,.0f} MB"
    facts["memory with it"] = f"{memory(server):,.0f} MB"
    server.process.kill()
    server.process.wait()
    began = time.monotonic()
    server.start_again()
    server.status()
    facts["start after a kill"] = f"{time.monotonic() - began:.2f} s"
    facts["memory after it"] = f"{memory(server):,.0f} MB"
    facts["disk after it"] = f"{peer.disk() / 1e6:,.0f} MB"
    for question, times in ask(server, options.accounts).items():
        facts[f"{question}, first in an account: median, worst"] = (
            f"{statistics.median(times):,.1f} ms, {max(times):,.1f} ms")
    facts["memory when they have asked"] = f"{memory(server):,.0f} MB"
    return facts, octets


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="the folder with the program rockdove")
    parser.add_argument("--corpus", required=True, help="a folder of messages, one a file")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=100, help="messages of each account")
    parser.add_argument("--work", default="/var/tmp", help="where folders are made; not in memory, or fsync is free")
    parser.add_argument("--out", help="write the table into this file too")
    options = parser.parse_args()
    servers.ACCOUNTS = options.accounts
    server = servers.Rockdove(options.work, os.path.join(os.path.abspath(options.programs), "rockdove"), "io_uring")
    try:
        facts, octets = measure(server, mailbox.read_corpus(options.corpus), options)
    finally:
        server.stop()
    text = f"# Many accounts\n\nWritten by `benches/accounts.py` on {datetime.date.today().isoformat()}; it says how to run it again.\n\n"
    text += f"{options.accounts:,} accounts with {options.each:,} messages each, {octets / 1e6:,.0f} MB as received.\n\n"
    text += "| | |\n|---|---|\n" + "".join(f"| {name} | {fact} |\n" for name, fact in facts.items())
    text += f"\nMachine: {compare.machine()}; load average at the end {os.getloadavg()[0]:.1f}.\n"
    print(text)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
