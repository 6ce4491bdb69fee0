#!/usr/bin/env python3
"""Messages through a server and out again: Rockdove and Postfix side by side, in messages a second.

    cargo build --release -p rockdove
    sudo apt-get install postfix
    sudo python3 benches/relay.py target/release

Postfix's smtp-source sends, the server keeps each message on disk and sends it on, Postfix's smtp-sink takes it. What
counts is the time from the first octet in to the last message out. Must run as root: Postfix changes users.
"""

import argparse
import datetime
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import compare
import servers

CASES = [(1, 4096), (20, 4096), (100, 4096), (20, 51200)]
WAIT_SECONDS_MAX = 600


class Sink:
    """smtp-sink, which counts."""

    def __init__(self):
        self.port = servers.free_ports(1)[0]
        self.count = 0
        self.process = subprocess.Popen(
            ["stdbuf", "-o0", "smtp-sink", "-u", "postfix", "-c", f"inet:127.0.0.1:{self.port}", "1000"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()
        while not servers.accepts(f"127.0.0.1:{self.port}"):
            time.sleep(0.05)

    def read(self):
        """The counter is written over and over again: `sess=1 quit=0 mesg=17`."""
        line = b""
        while octets := os.read(self.process.stdout.fileno(), 65536):
            line = (line + octets)[-4096:]
            found = line.rfind(b"mesg=")
            if found >= 0:
                digits = line[found + 5:].split()
                if digits and digits[0].isdigit():
                    self.count = int(digits[0])

    def wait_for(self, count):
        end = time.monotonic() + WAIT_SECONDS_MAX
        while self.count < count:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.count} of {count} messages came out")
            time.sleep(0.005)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Rockdove(servers.Rockdove):
    """A domain is shared with the sink: mail for whom we do not know goes there."""

    def __init__(self, work, program, sink):
        self.sink = sink
        super().__init__(work, program, "io_uring")
        self.title = "Rockdove"

    def write(self, name, text):
        if name == "rockdove.toml":
            text += f'[outbound]\nconnections_per_destination = 20\n[[route]]\nname = "sink"\n'
            text += f'domains = ["{servers.DOMAIN}"]\nhost = "127.0.0.1"\nport = {self.sink.port}\ntls = "none"\n'
            # What is measured is the relaying, also while the sink is not there yet.
            text += '[gate]\ncallforward = false\n'
        return super().write(name, text)

    def address(self):
        return self.addresses["smtp"]


class Postfix:
    """Postfix as Debian sets it up, on a folder of its own."""

    title = "Postfix"

    def __init__(self, work, sink):
        self.folder = tempfile.mkdtemp(prefix="relay-", dir=work)
        os.chmod(self.folder, 0o755)
        self.port = servers.free_ports(1)[0]
        self.version = servers.output("postconf", "-d", "-h", "mail_version")
        self.sink = sink

    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        config, queue, data = (os.path.join(self.folder, name) for name in ("etc", "queue", "data"))
        for folder in (config, queue, data):
            os.mkdir(folder)
        os.chown(data, pwd.getpwnam("postfix").pw_uid, 0)
        with open(os.path.join(config, "main.cf"), "w", encoding="utf-8") as file:
            file.write(f"""compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
myhostname = mail.{servers.DOMAIN}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{self.sink.port}
smtp_host_lookup = native
smtp_tls_security_level = none
maillog_file =
syslog_name = relay-bench
smtpd_client_connection_count_limit = 0
""")
        with open("/etc/postfix/master.cf", encoding="utf-8") as file:
            master = file.read()
        lines = [f"127.0.0.1:{self.port} inet n - n - - smtpd"]
        for line in master.splitlines():
            words = line.split()
            if line[:1].isalpha() and len(words) > 7 and words[:2] != ["smtp", "inet"]:
                # Nothing is in a chroot: its folder would lack what the system's has.
                words[4] = "n"
                lines.append(" ".join(words))
            elif line[:1].isspace():
                lines.append(line)
        text = "\n".join(lines)
        with open(os.path.join(config, "master.cf"), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        if os.path.exists("/etc/postfix/dynamicmaps.cf"):
            shutil.copy("/etc/postfix/dynamicmaps.cf", config)
        servers.output("postfix", "-c", config, "start")
        while not servers.accepts(self.address()):
            time.sleep(0.1)

    def stop(self):
        subprocess.run(["postfix", "-c", os.path.join(self.folder, "etc"), "stop"], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(server, sink, connections, octets, messages):
    before = sink.count
    began = time.monotonic()
    source = ["smtp-source", "-s", str(connections), "-m", str(messages), "-l", str(octets), "-d"]
    source += ["-f", "sender@elsewhere.example", "-t", f"nobody@{servers.DOMAIN}", server.address()]
    servers.output(*source)
    taken = time.monotonic() - began
    sink.wait_for(before + messages)
    return messages / taken, messages / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="the folder with the program rockdove")
    parser.add_argument("--messages", type=int, default=5_000, help="for each case; a fifth with one connection")
    parser.add_argument("--work", default="/var/tmp", help="where folders are made; not in memory, or fsync is free")
    parser.add_argument("--out", help="write the table into this file too")
    options = parser.parse_args()
    rows = {}
    makers = [
        lambda sink: Rockdove(options.work, os.path.join(os.path.abspath(options.programs), "rockdove"), sink),
        lambda sink: Postfix(options.work, sink),
    ]
    for maker in makers:
        sink = Sink()
        server = maker(sink)
        try:
            server.start()
            for connections, octets in CASES:
                messages = options.messages // 5 if connections == 1 else options.messages
                measure(server, sink, connections, octets, max(1, messages // 10))
                rows.setdefault((connections, octets), []).append(measure(server, sink, connections, octets, messages))
        finally:
            server.stop()
            sink.stop()
    text = f"# Through a server and out again\n\nWritten by `benches/relay.py` on {datetime.date.today().isoformat()}; it says how to run it again.\n\n"
    text += "Messages a second, taken in and, in brackets, through to the other side.\n\n"
    text += "| connections, octets | Rockdove | Postfix | ratio of what came through |\n|---|---|---|---|\n"
    for (connections, octets), ((ours_in, ours), (theirs_in, theirs)) in rows.items():
        text += f"| {connections}, {octets:,} | {ours_in:,.0f} ({ours:,.0f}) | {theirs_in:,.0f} ({theirs:,.0f}) | {ours / theirs:.1f} |\n"
    text += f"\nMachine: {compare.machine()}; load average at the end {os.getloadavg()[0]:.1f}.\n"
    print(text)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
