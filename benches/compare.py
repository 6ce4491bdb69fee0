#!/usr/bin/env python3
"""Runs rockdove-load with the same commands against Rockdove (io_uring and epoll) and Dovecot 2.3 and writes a table.

    cargo build --release -p rockdove -p rockdove-benches
    sudo python3 benches/compare.py target/release

Every server gets a fresh folder in each round, and the servers take turns, so that what else happens on the machine hits
all of them. A figure is the median of the rounds. Must run as root: Dovecot changes users, and the memory of its
processes is not ours to read otherwise.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import servers

HERE = os.path.dirname(os.path.abspath(__file__))
USERS = f"user{{1..20}}@{servers.DOMAIN}"
BIG = f"user{servers.ACCOUNTS}@{servers.DOMAIN}"
# Maildrops with as many messages on every server, whatever was delivered to the others.
POP = f"user{{101..110}}@{servers.DOMAIN}"
POP_MESSAGES = 200
# Neither a refusal nor a server that hangs may hold up the comparison for ever.
RUN_SECONDS_MAX = 900


class Row:
    """A line of the table: a title, the load as arguments of rockdove-load, and which figure counts."""

    def __init__(self, title, kind, door, arguments, figure="rate_per_s", unit="/s", fresh=False, asked=None):
        self.title, self.kind, self.door, self.arguments = title, kind, door, arguments
        self.figure, self.unit, self.fresh, self.asked = figure, unit, fresh, asked

    def fits(self, server):
        return self.door in server.addresses and (self.asked is None or self.asked(server))


def login(names=USERS):
    return ["--user", names, "--password", servers.PASSWORD]


TLS = ["--tls", "implicit", "--insecure"]


def delivery_rows(scale):
    count = str(10_000 // scale)
    common = ["-n", count, "-s", "30", "--size", "4096"]
    rows = []
    for kind in ("lmtp", "smtp"):
        name = kind.upper()
        rows.append(Row(f"{name}: 4 KiB, 20 connections", kind, kind, [*common, "-c", "20", "--to", USERS]))
        rows.append(Row(f"{name}: 4 KiB, 1 connection", kind, kind, [*common, "-c", "1", "--to", USERS, "--seed", "2"]))
        rows.append(Row(f"{name}: 100 KiB, 20 connections", kind, kind,
                        ["-n", str(1_000 // scale), "-s", "30", "--size", "102400", "-c", "20", "--to", USERS]))
        rows.append(Row(f"{name}: 4 KiB to 20 recipients, 4 connections", kind, kind,
                        ["-n", str(1_000 // scale), "-s", "30", "-c", "4", "--to", USERS, "--recipients", "0",
                         "--seed", "3"]))
    append = ["imap-append", "imap", [*common, *login(), "--seed", "4"]]
    for title, more in (
        ("IMAP APPEND: 4 KiB, 1 connection", ["-c", "1"]),
        ("IMAP APPEND: 4 KiB, 1 connection, 16 under way", ["-c", "1", "--pipeline", "16"]),
        ("IMAP APPEND: 4 KiB, 20 connections", ["-c", "20"]),
    ):
        rows.append(Row(title, append[0], append[1], append[2] + more))
    return rows


def reading_rows(scale):
    """Over the one large mailbox that `fill` makes."""
    big = login(BIG)
    whole = ["-n", str(max(30 // scale, 3)), "-s", "20", "-c", "2", *big]
    rows = []
    for items in ("(UID FLAGS)", "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)", "BODYSTRUCTURE",
                  "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", "BODY.PEEK[]"):
        fetched = "responses_per_s"
        rows.append(Row(f"FETCH 1:* {items}, 2 connections", "imap-fetch", "imap", [*whole, f"1:* {items}"], fetched,
                        " messages/s"))
    one = ["-n", str(5_000 // scale), "-s", "20", "-c", "10", *big]
    rows.append(Row("FETCH of one message BODY.PEEK[], 10 connections", "imap-fetch", "imap",
                    [*one, "{random} BODY.PEEK[]"]))
    for criteria in ("UNSEEN", "SUBJECT 7777", "BODY engine"):
        rows.append(Row(f"SEARCH {criteria}, 2 connections", "imap-search", "imap", [*whole, criteria]))
    rows.append(Row("STORE 1:* +FLAGS.SILENT (\\Flagged), once", "imap-command", "imap",
                    ["-n", "1", *big, "STORE 1:* +FLAGS.SILENT (\\Flagged)"]))
    rows.append(Row("STORE of one message's flags, 10 connections", "imap-command", "imap",
                    [*one, "STORE {random} +FLAGS.SILENT (\\Seen)"]))
    retrieve = ["-n", str(10_000 // scale), "-s", "20", "-c", "10", *login(POP)]
    rows.append(Row(f"POP3 sessions of {POP_MESSAGES} RETR, 10 connections", "pop3", "pop3", retrieve, unit=" messages/s"))
    rows.append(Row("POP3 the same, 10 under way", "pop3", "pop3", [*retrieve, "--pipeline", "10"], unit=" messages/s"))
    return rows


def login_rows(scale):
    common = ["-n", str(4_000 // scale), "-s", "20", "-c", "10", *login()]
    return [
        Row("IMAP logins, 10 connections", "imap-login", "imap", common),
        Row("IMAP logins with TLS, 10 connections", "imap-login", "imaps", common + TLS),
    ]


def holds(server, count, dovecot_max):
    """Whether a server is asked to hold so many idle connections."""
    if server.title.startswith("Rockdove"):
        return True
    # A Dovecot session takes an inotify instance of its user before it can hibernate.
    return count <= dovecot_max and (not getattr(server, "hibernate", False) or count < servers.inotify_instances())


ALL = f"user{{1..{servers.ACCOUNTS}}}@{servers.DOMAIN}"


def idle_rows(counts, dovecot_max):
    """Each on a server that has done nothing before: freed memory that it keeps would be counted as none."""
    rows = []
    for count in counts:
        for door, tls, name in (("imap", [], "plain"), ("imaps", TLS, "TLS")):
            arguments = ["-c", str(count), "-s", "300", "--settle", "8", *tls, *login(ALL)]
            rows.append(Row(f"memory of an idle IMAP connection, {name}, {count:,}", "imap-idle", door, arguments,
                            "pss_bytes_per_connection", " B", True,
                            lambda server, count=count: holds(server, count, dovecot_max)))
    return rows


class Comparison:
    def __init__(self, options):
        self.options = options
        self.figures = {}
        self.versions = {}
        self.failures = []
        self.syncs_ms = []

    def load(self, server, kind, door, arguments):
        program = os.path.join(self.options.programs, "rockdove-load")
        command = [program, kind, "--server", server.addresses[door], "--json", "--quiet", *arguments]
        if kind == "imap-idle":
            command += ["--pid-tree", str(server.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return json.loads(done.stdout)

    def row(self, server, row):
        try:
            if row.kind in ("imap-fetch", "imap-search"):
                # What a server works out at the first time and then keeps is not what is measured.
                once = list(row.arguments)
                once[once.index("-n") + 1] = "1"
                self.load(server, row.kind, row.door, once)
            elif row.kind == "imap-idle":
                # What checking passwords takes once and keeps is not what a connection costs.
                self.load(server, "imap-login", "imap", ["-n", str(servers.ACCOUNTS), "-c", "10", *login(ALL)])
            figure = self.load(server, row.kind, row.door, row.arguments)[row.figure]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self.failed(f"{server.title}: {row.title}", error)
            return
        print(f"{server.title}: {row.title}: {figure}{row.unit}", file=sys.stderr, flush=True)
        self.figures.setdefault((row.title, server.title), []).append(figure)

    def failed(self, what, error):
        """Told in the results too: a figure that is missing must not look like one that was never asked for."""
        print(f"{what}: {error}", file=sys.stderr, flush=True)
        self.failures.append(f"{what}: {' '.join(str(error).split())[:200]}")

    def fill(self, server):
        """The mailboxes that are read from; not measured. False when the server did not take them.

        One connection for each mailbox: Dovecot 2.3 may find the index of a new mdbox broken when several append to it
        at once, and what is read then is a mailbox that was rebuilt.
        """
        for names, count, connections in ((BIG, self.options.messages, 1), (POP, 10 * POP_MESSAGES, 10)):
            arguments = ["-n", str(count), "-s", "600", "-c", str(connections), "--pipeline", "16", "--size", "2048",
                         "--seed", "5"]
            try:
                self.load(server, "imap-append", "imap", arguments + login(names))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                self.failed(f"{server.title}: filling {names}", error)
                return False
        return True

    def round(self, make, rows):
        server = make()
        self.versions[server.title] = server.version
        try:
            server.start()
            warm = [row for row in rows if not row.fresh and row.fits(server)]
            reading = [row for row in warm if BIG in row.arguments or POP in row.arguments]
            if reading and not self.fill(server):
                warm = [row for row in warm if row not in reading]
            for row in warm:
                self.row(server, row)
        finally:
            server.stop()
        for row in (row for row in rows if row.fresh and row.fits(server)):
            server = make()
            try:
                server.start()
                self.row(server, row)
            finally:
                server.stop()

    def median(self, row, title):
        figures = self.figures.get((row.title, title))
        return statistics.median(figures) if figures else None


def rounded(value, unit):
    if value is None:
        return "—"
    return f"{value:,.0f}{unit}" if value >= 10 else f"{value:.2f}{unit}"


def cell(figures, rounds, unit):
    """The median, how far the rounds went apart, and how many there are when some failed."""
    if not figures:
        return "—"
    text = rounded(statistics.median(figures), unit)
    if len(figures) > 1:
        text += f" ({rounded(min(figures), '')} to {rounded(max(figures), '')})"
    return text if len(figures) == rounds else f"{text}, {len(figures)} of {rounds} rounds"


def sync_ms(work):
    """Milliseconds of a write of 4 KiB made durable, median and longest of 200: the disk that all figures stand on."""
    took = []
    with tempfile.TemporaryFile(dir=work) as file:
        for _ in range(200):
            began = time.monotonic()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            took.append((time.monotonic() - began) * 1000)
    return statistics.median(took), max(took)


def table(comparison, rows, titles):
    lines = ["| | " + " | ".join(titles) + " | ratio |", "|---" * (len(titles) + 2) + "|"]
    for row in rows:
        medians = [comparison.median(row, title) for title in titles]
        if all(median is None for median in medians):
            continue
        ours = [value for title, value in zip(titles, medians) if title.startswith("Rockdove") and value]
        other = comparison.median(row, "Dovecot")
        ratio = "—"
        if ours and other:
            # The first of ours is the default backend; less memory is better.
            better = other / ours[0] if row.figure.endswith("connection") else ours[0] / other
            ratio = f"{better:.2f}"
        rounds = comparison.options.rounds
        cells = [cell(comparison.figures.get((row.title, title)), rounds, row.unit) for title in titles]
        lines.append(f"| {row.title.replace('|', ' ')} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) // (1 << 20)
    return f"{os.cpu_count()} × {model}, {memory} GiB, Linux {platform.release()}"


def failures(comparison):
    if not comparison.failures:
        return "- Nothing failed."
    return "\n".join(["- Failed, and in no figure:", *(f"  - {failure}" for failure in comparison.failures)])


def results(comparison, rows, titles):
    options = comparison.options
    syncs = ", ".join(f"{median:.2f} ({longest:.1f})" for median, longest in comparison.syncs_ms)
    system = servers.output("stat", "-f", "-c", "%T", options.work)
    return f"""# Rockdove beside Dovecot

Written by `benches/compare.py` on {datetime.date.today().isoformat()}; it says how to run it again.

- Machine: {machine()}; mail on {system}. The load generator runs on the same machine.
- {"; ".join(sorted(set(comparison.versions.values())))}.
- Medians of {options.rounds} rounds, with the lowest and the highest; the servers took turns, each in a fresh folder.
- A write of 4 KiB made durable took, before each round and at the end, in ms (longest of 200): {syncs}.
- Load average over the last 15 minutes at the end: {os.getloadavg()[2]:.1f}.
- The mailbox read from has {options.messages:,} messages of 2 KiB. FETCH and SEARCH are done once before they are
  measured, so that every server has its caches filled.
- Dovecot: mdbox, zstd, `mail_fsync = always`, a static password in clear, login processes shared by connections. It has
  no SMTP server of its own. "Hibernating" is `imap_hibernate_timeout = 1s`, where the limit of
  `fs.inotify.max_user_instances` ({servers.inotify_instances()} here) allows as many sessions of one user to. Rockdove:
  as configured by default.
- Memory is the proportional set size of all processes of the server, what it grew by divided by the connections; every
  account has logged in before. Kernel memory is not in it.
- Ratio: the first Rockdove column beside Dovecot; above 1 is better for Rockdove.
{failures(comparison)}

{table(comparison, rows, titles)}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="the folder with the programs rockdove and rockdove-load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1, help="divide the numbers of operations by this")
    parser.add_argument("--messages", type=int, default=10_000, help="messages of the mailbox that is read from")
    parser.add_argument("--idle", default="1000,10000", help="numbers of idle connections")
    parser.add_argument("--dovecot-idle", type=int, default=1_000, help="the most that Dovecot is asked to hold")
    parser.add_argument("--only", help="servers, by the beginnings of their titles: Dovecot,Rockdove")
    parser.add_argument("--rows", default="", help="only rows whose title has this in it")
    parser.add_argument("--work", default="/var/tmp", help="where folders are made; not in memory, or fsync is free")
    parser.add_argument("--out", default=os.path.join(HERE, "RESULTS.md"))
    return parser.parse_args()


def main():
    options = arguments()
    rockdove = os.path.join(os.path.abspath(options.programs), "rockdove")
    makers = {
        "Rockdove io_uring": lambda: servers.Rockdove(options.work, rockdove, "io_uring"),
        "Rockdove epoll": lambda: servers.Rockdove(options.work, rockdove, "epoll"),
        "Dovecot": lambda: servers.Dovecot(options.work),
        "Dovecot hibernating": lambda: servers.Dovecot(options.work, hibernate=True),
    }
    if options.only:
        wanted = tuple(options.only.split(","))
        makers = {title: make for title, make in makers.items() if title.startswith(wanted)}
    rows = delivery_rows(options.scale) + reading_rows(options.scale) + login_rows(options.scale)
    rows += idle_rows([int(count) for count in options.idle.split(",") if count], options.dovecot_idle)
    rows = [row for row in rows if options.rows in row.title]
    comparison = Comparison(options)
    for number in range(options.rounds):
        comparison.syncs_ms.append(sync_ms(options.work))
        for title, make in makers.items():
            print(f"round {number + 1} of {options.rounds}: {title}", file=sys.stderr, flush=True)
            # Hibernating makes no difference to sessions that work.
            some = [row for row in rows if row.fresh] if title.endswith("hibernating") else rows
            try:
                comparison.round(make, some)
            except (RuntimeError, OSError) as error:
                comparison.failed(title, error)
    comparison.syncs_ms.append(sync_ms(options.work))
    text = results(comparison, rows, list(makers))
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
