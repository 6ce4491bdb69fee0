"""Servers to compare, each in a folder that is thrown away, on free ports of the loopback.

A server has `title`, `version`, `addresses` ({"lmtp": "127.0.0.1:40001", ...}), `pid` while it runs, and start() and
stop(). All know the accounts user1@bench.test to user<ACCOUNTS>@bench.test with the password PASSWORD.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ACCOUNTS = 200
DOMAIN = "bench.test"
PASSWORD = "correct-horse-9"
START_SECONDS_MAX = 60


def free_ports(count):
    """Ports nobody listens on; all are held until the last one is found, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def accepts(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False


def output(*command):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def inotify_instances():
    """How many a user may have."""
    with open("/proc/sys/fs/inotify/max_user_instances", encoding="utf-8") as file:
        return int(file.read())


class Server:
    """What servers have in common: a folder, addresses, one process in the foreground."""

    protocols = ("lmtp", "imap", "imaps", "pop3")

    def __init__(self, work):
        # On the disk that `work` is on: a memory file system would make fsync free.
        self.folder = tempfile.mkdtemp(prefix="compare-", dir=work)
        os.chmod(self.folder, 0o755)
        ports = free_ports(len(self.protocols))
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(self.protocols, ports)}
        self.process = None
        self.environment = {}

    @property
    def pid(self):
        return self.process.pid

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def port(self, protocol):
        return self.addresses[protocol].rsplit(":", 1)[1]

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def start(self):
        self.prepare()
        self.start_again()

    def start_again(self):
        with open(self.path("output"), "wb") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment})
        end = time.monotonic() + START_SECONDS_MAX
        while not all(accepts(address) for address in self.addresses.values()):
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.path("output"), encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"{self.title} did not start:\n{log.read()[-4000:]}")
            time.sleep(0.1)

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Rockdove(Server):
    """Our server. `backend` is io_uring or epoll."""

    protocols = ("lmtp", "smtp", "imap", "imaps", "pop3")

    def __init__(self, work, program, backend):
        super().__init__(work)
        self.program = program
        self.backend = backend
        self.title = f"Rockdove {backend}"
        self.version = output(program, "--version")

    def command(self):
        return [self.program, "-c", self.path("rockdove.toml"), "serve"]

    def prepare(self):
        kinds = {"imaps": ("imap", "implicit"), "lmtp": ("lmtp", "none")}
        text = f'hostname = "mail.{DOMAIN}"\ndata_dir = "{self.path("data")}"\n[log]\nlevel = "warn"\n'
        text += f'[runtime]\nio = "{self.backend}"\n'
        for name, address in self.addresses.items():
            protocol, tls = kinds.get(name, (name, "starttls"))
            text += f'[[listener]]\nprotocol = "{protocol}"\naddress = "{address}"\ntls = "{tls}"\n'
        self.write("rockdove.toml", text)
        accounts = (f"user{number}@{DOMAIN}:{PASSWORD}\n" for number in range(1, ACCOUNTS + 1))
        listed = self.write("accounts", "".join(accounts))
        self.administer("domain", "add", DOMAIN)
        self.administer("account", "import", listed)

    def administer(self, *arguments):
        output(self.program, "-c", self.path("rockdove.toml"), *arguments)

    def start(self):
        super().start()
        status = json.loads(self.status())
        if status["backend"] != self.backend:
            raise RuntimeError(f"the server runs on {status['backend']}, not on {self.backend}")

    def status(self):
        """The control socket opens a moment after the listeners, when the store is open."""
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                return output(self.program, "-c", self.path("rockdove.toml"), "status", "--json")
            except RuntimeError as error:
                refused = error
            if self.process.poll() is not None or time.monotonic() > end:
                break
            time.sleep(0.1)
        raise refused


DOVECOT_CONF = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
mail_location = mdbox:{folder}/mail/%u
mail_fsync = always
mail_plugins = zlib
plugin {{
  zlib_save = zstd
}}
namespace inbox {{
  inbox = yes
}}
first_valid_uid = 1
mail_max_userip_connections = 0
default_vsz_limit = 2G
default_client_limit = 20000
default_process_limit = 20000
auth_cache_size = 10M
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u allow_all_users=yes
}}
protocol imap {{
  imap_hibernate_timeout = {hibernate}
}}
# Login processes that serve many connections: the setting for busy servers in Dovecot's documentation.
service imap-login {{
  service_count = 0
  process_min_avail = {cores}
  process_limit = {cores}
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  process_min_avail = {cores}
  process_limit = {cores}
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
# Processes are used again for the next session, and some are always ready. Where sessions hibernate a process ends when
# its session does: waiting for the next one it would hold the memory that hibernating is to save.
service imap {{
  service_count = {sessions}
  process_min_avail = {cores}
  unix_listener imap-master {{
    user = {internal}
  }}
}}
service imap-hibernate {{
  unix_listener imap-hibernate {{
    mode = 0660
    user = {user}
  }}
}}
service pop3 {{
  service_count = 1000
  process_min_avail = {cores}
}}
service lmtp {{
  service_count = 1000
  process_min_avail = 20
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
"""


class Dovecot(Server):
    """Dovecot 2.3: mdbox, zstd, fsync always. It has no SMTP server of its own."""

    packages = ("dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd")

    def __init__(self, work, hibernate=False):
        super().__init__(work)
        self.hibernate = hibernate
        self.title = "Dovecot hibernating" if hibernate else "Dovecot"
        self.install()
        self.version = "Dovecot " + output("dovecot", "--version")

    @classmethod
    def install(cls):
        if not all(os.path.exists(f"/usr/lib/dovecot/{part}") for part in ("imap", "pop3", "lmtp")):
            subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *cls.packages], check=True)

    def command(self):
        return ["dovecot", "-F", "-c", self.path("dovecot.conf")]

    def prepare(self):
        user = pwd.getpwnam("nobody")
        os.mkdir(self.path("mail"))
        os.chown(self.path("mail"), user.pw_uid, user.pw_gid)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", "/CN=localhost", "-keyout", self.path("key.pem"), "-out", self.path("cert.pem")],
            check=True, capture_output=True)
        self.write("dovecot.conf", DOVECOT_CONF.format(
            folder=self.folder, password=PASSWORD, uid=user.pw_uid, gid=user.pw_gid, user=user.pw_name,
            internal="dovecot", cores=os.cpu_count(), hibernate="1s" if self.hibernate else 0,
            sessions=1 if self.hibernate else 1000,
            **{name: self.port(name) for name in self.protocols}))
