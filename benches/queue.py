#!/usr/bin/env python3
"""A long queue: messages for a server that does not answer, and what they cost until it does.

    cargo build --release -p rockdove
    sudo apt-get install postfix
    python3 benches/queue.py target/release --messages 1000000

Postfix's smtp-source sends them in; the next hop refuses connections. Then the queue is listed, the server is killed, the next
hop begins to listen, and the server is started again: the time to the first message, and the rate after it.
"""

import argparse
import datetime
import os
import subprocess
import sys
import threading
import time

import compare
import relay
import servers

CONNECTIONS = 20
OCTETS = 4096


class Closed:
    """A port where nobody listens yet."""

    def __init__(self):
        self.port = servers.free_ports(1)[0]


class Sink(relay.Sink):
    """The next hop, at last: on the port that was closed."""

    def __init__(self, port):
        self.port = port
        self.count = 0
        self.process = subprocess.Popen(
            ["stdbuf", "-o0", "smtp-sink", "-u", "postfix", "-c", f"inet:127.0.0.1:{port}", "1000"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()


def memory(server):
    """Octets of the server's own memory: without files that are mapped."""
    with open(f"/proc/{server.pid}/status", encoding="utf-8") as file:
        words = next(line for line in file if line.startswith("RssAnon")).split()
    return int(words[1]) * 1024


def timed(server, *arguments):
    began = time.monotonic()
    text = servers.output(server.program, "-c", server.path("rockdove.toml"), *arguments)
    return time.monotonic() - began, text


def fill(server, messages):
    began = time.monotonic()
    left = messages
    while left > 0:
        # A connection may send 10,000.
        some = min(left, 5_000 * CONNECTIONS)
        servers.output("smtp-source", "-s", str(CONNECTIONS), "-m", str(some), "-l", str(OCTETS), "-d",
                       "-f", "sender@elsewhere.example", "-t", f"nobody@{servers.DOMAIN}", server.address())
        left -= some
    return messages / (time.monotonic() - began)


def measure(server, closed, messages):
    rows = [("memory, nothing queued", f"{memory(server) / 1e6:,.0f} MB")]
    have = 0
    for share in (10, 2, 1):
        want = messages // share
        rate = fill(server, want - have)
        have = want
        rows.append((f"taken in up to {want:,}", f"{rate:,.0f}/s"))
        rows.append((f"memory at {want:,}", f"{memory(server) / 1e6:,.0f} MB"))
    taken, text = timed(server, "queue", "hops")
    rows.append(("`rockdove queue hops`", f"{taken:.2f} s"))
    taken, text = timed(server, "queue", "list")
    rows.append((f"`rockdove queue list`, {len(text.splitlines()):,} lines", f"{taken:.2f} s"))
    # The first line of a message begins with its number.
    numbers = [line.split()[0] for line in text.splitlines() if line[:1].isdigit()]
    number = numbers[len(numbers) // 2]
    taken, _ = timed(server, "queue", "show", number)
    rows.append(("`rockdove queue show` of one", f"{taken * 1000:.0f} ms"))
    server.process.kill()
    server.process.wait()
    sink = Sink(closed.port)
    try:
        began = time.monotonic()
        server.start_again()
        sink.wait_for(1)
        rows.append(("from the start to the first message there", f"{time.monotonic() - began:.2f} s"))
        first = time.monotonic()
        part = max(1, messages // 5)
        sink.wait_for(part)
        rows.append((f"sent, the first {part:,}", f"{part / (time.monotonic() - first):,.0f}/s"))
        rows.append(("memory then", f"{memory(server) / 1e6:,.0f} MB"))
    finally:
        sink.stop()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="the folder with the program rockdove")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--work", default="/var/tmp", help="where folders are made; not in memory, or fsync is free")
    parser.add_argument("--out", help="write the table into this file too")
    options = parser.parse_args()
    closed = Closed()
    server = relay.Rockdove(options.work, os.path.join(os.path.abspath(options.programs), "rockdove"), closed)
    try:
        server.start()
        rows = measure(server, closed, options.messages)
    finally:
        server.stop()
    text = "# A long queue\n\n"
    text += f"Written by `benches/queue.py` on {datetime.date.today().isoformat()}; it says how to run it again. "
    text += f"{options.messages:,} messages of {OCTETS:,} octets for a server that refuses connections.\n\n| | |\n|---|---|\n"
    text += "".join(f"| {name} | {value} |\n" for name, value in rows)
    text += f"\nMachine: {compare.machine()}; load average at the end {os.getloadavg()[0]:.1f}.\n"
    print(text)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
