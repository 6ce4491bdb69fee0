//! A server of our own: its configuration, its life, its command line.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Ran, Wire, binary, program, program::run, wire::certificate_of};

/// The domain of every test server.
pub const DOMAIN: &str = "rockdove.test";
/// The password of every account.
pub const PASSWORD: &str = "correct horse battery";
/// How long a server may take to start or to stop. Only a hung one takes this long.
const WAIT: Duration = Duration::from_mins(1);
/// Lines of the log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// How the server drives its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// By `io_uring`. A kernel that refuses it makes the tests fail: half of the server would go untested.
    IoUring,
    /// By epoll.
    Epoll,
}

impl Io {
    /// Its name in configuration and status.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// SMTP with STARTTLS.
    Mx,
    /// Submission with STARTTLS.
    Submission,
    /// Submission with TLS from the start.
    Submissions,
    /// LMTP on TCP.
    Lmtp,
    /// LMTP on a unix socket.
    LmtpUnix,
    /// IMAP with STARTTLS.
    Imap,
    /// IMAP with TLS from the start.
    Imaps,
    /// POP3 with STLS.
    Pop3,
    /// POP3 with TLS from the start.
    Pop3s,
    /// SMTP behind a proxy on this machine.
    MxProxied,
    /// Submission behind a proxy on this machine.
    SubmissionProxied,
    /// IMAP behind a proxy on this machine.
    ImapProxied,
    /// POP3 behind a proxy on this machine.
    Pop3Proxied,
    /// SMTP behind a proxy on another machine.
    MxProxiedElsewhere,
}

impl Door {
    /// Its protocol and TLS mode, as the configuration and the status spell them.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Mx | Self::MxProxied | Self::MxProxiedElsewhere => ("smtp", "starttls"),
            Self::Submission | Self::SubmissionProxied => ("submission", "starttls"),
            Self::Submissions => ("submission", "implicit"),
            Self::Lmtp | Self::LmtpUnix => ("lmtp", "none"),
            Self::Imap | Self::ImapProxied => ("imap", "starttls"),
            Self::Imaps => ("imap", "implicit"),
            Self::Pop3 | Self::Pop3Proxied => ("pop3", "starttls"),
            Self::Pop3s => ("pop3", "implicit"),
        }
    }

    fn proxy_trusted(self) -> Option<&'static str> {
        match self {
            Self::MxProxied | Self::SubmissionProxied | Self::ImapProxied | Self::Pop3Proxied => Some("127.0.0.1"),
            Self::MxProxiedElsewhere => Some("192.0.2.0/24"),
            _ => None,
        }
    }
}

/// What a server is to be like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How sockets are driven.
    pub io: Io,
    doors: Vec<Door>,
    settings: BTreeMap<&'static str, Vec<String>>,
    accounts: Vec<String>,
}

impl Setup {
    /// A server with these listeners and the accounts `ada`, `ben` and `cleo`.
    pub fn new(io: Io, doors: &[Door]) -> Self {
        let accounts = ["ada", "ben", "cleo"].map(str::to_owned).to_vec();
        Self { io, doors: doors.to_vec(), settings: BTreeMap::new(), accounts }
    }

    /// With a line in a section of the configuration.
    #[must_use]
    pub fn with(mut self, section: &'static str, line: &str) -> Self {
        self.settings.entry(section).or_default().push(line.to_owned());
        self
    }

    fn config(&self, folder: &Path) -> String {
        let mut settings = self.settings.clone();
        settings.entry("runtime").or_default().push(format!("io = \"{}\"", self.io.name()));
        settings.entry("runtime").or_default().push("workers = 2".to_owned());
        settings.entry("store").or_default().push("memory = \"256 MiB\"".to_owned());
        settings.entry("tls").or_default().push("certificate = \"certificate.pem\"\nkey = \"key.pem\"".to_owned());
        let mut text = format!("hostname = \"mail.{DOMAIN}\"\ndata_dir = \"data\"\n");
        for (section, lines) in settings {
            writeln!(text, "[{section}]\n{}", lines.join("\n")).expect("written");
        }
        for door in &self.doors {
            let (protocol, tls) = door.names();
            let address = match door {
                Door::LmtpUnix => format!("unix:{}", folder.join("lmtp.sock").display()),
                _ => "127.0.0.1:0".to_owned(),
            };
            writeln!(text, "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"").expect("written");
            if *door != Door::LmtpUnix {
                writeln!(text, "tls = \"{tls}\"").expect("written");
            }
            if let Some(trusted) = door.proxy_trusted() {
                writeln!(text, "proxy_protocol = true\nproxy_trusted = [\"{trusted}\"]").expect("written");
            }
        }
        text
    }
}

/// A running server in a folder of its own. Dropping it stops it and ends the test with `fsck`, running and stopped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    setup: Setup,
    child: Option<Child>,
    addresses: BTreeMap<Door, String>,
}

impl Server {
    /// Starts one and makes its accounts.
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("rockdove-test-").tempdir().expect("a folder");
        let mut server = Self { folder, setup, child: None, addresses: BTreeMap::new() };
        server.new_certificate();
        server.run();
        server.rockdove(&["domain", "add", DOMAIN], "").ok();
        for name in server.setup.accounts.clone() {
            server.add_account(&name);
        }
        server
    }

    /// Makes an account with the common password.
    pub fn add_account(&self, name: &str) {
        let address = format!("{name}@{DOMAIN}");
        self.rockdove(&["account", "add", &address, "--password-stdin"], &format!("{PASSWORD}\n")).ok();
    }

    /// Starts the program and waits until it listens.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        fs::write(self.config_path(), self.setup.config(self.folder.path())).expect("written");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log");
        let child = Command::new(binary())
            .arg("--config")
            .arg(self.config_path())
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the server starts"));
        let status = self.await_status();
        let backend = status["backend"].as_str().expect("backend");
        assert_eq!(backend, self.setup.io.name(), "this kernel does not let the server drive its sockets as told");
        let listeners = status["listeners"].as_array().expect("listeners");
        assert_eq!(listeners.len(), self.setup.doors.len(), "listeners: {listeners:?}");
        for (door, listener) in self.setup.doors.iter().zip(listeners) {
            let (protocol, tls) = door.names();
            assert_eq!((listener["protocol"].as_str(), listener["tls"].as_str()), (Some(protocol), Some(tls)));
            self.addresses.insert(*door, listener["address"].as_str().expect("an address").to_owned());
        }
    }

    fn await_status(&mut self) -> Value {
        let began = Instant::now();
        loop {
            if let Some(ended) = self.ended() {
                unreachable!("the server did not start: {ended}\n{}", self.log());
            }
            let ran = self.rockdove(&["status", "--json"], "");
            if ran.code == Some(0) {
                return serde_json::from_str(&ran.out).expect("status as JSON");
            }
            assert!(began.elapsed() < WAIT, "no status: {}\n{}", ran.err, self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the running server says about itself.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.rockdove(&["status", "--json"], "").ok()).expect("status as JSON")
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("a child"))
    }

    /// Runs the command line, beside the running server or alone.
    pub fn rockdove(&self, args: &[&str], input: &str) -> Ran {
        let mut command = Command::new(binary());
        run(command.arg("--config").arg(self.config_path()).args(args), "rockdove", input.as_bytes())
    }

    /// `fsck` finds nothing.
    pub fn fsck(&self) {
        let ran = self.rockdove(&["fsck"], "");
        assert_eq!(ran.code, Some(0), "fsck: {}\n{}", ran.out, ran.err);
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running server").id();
        program("sh", &["-c", &format!("kill -{name} {pid}")], b"").ok();
    }

    /// Ends it at once, as a power cut would end the program.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    /// Waits for it to end by itself.
    pub fn await_end(&mut self) {
        let began = Instant::now();
        while self.ended().is_none() {
            assert!(began.elapsed() < WAIT, "it does not stop\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
        let ended = self.child.take().expect("a child").wait().expect("ended");
        assert!(ended.success(), "it did not stop well: {ended}\n{}", self.log());
    }

    /// Stops it as an operator does.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.await_end();
    }

    /// Lets it drive its sockets otherwise from the next start on.
    pub fn set_io(&mut self, io: Io) {
        self.setup.io = io;
    }

    /// Makes a new self-signed certificate; a running server does not know it before SIGHUP.
    pub fn new_certificate(&self) {
        let (key, certificate) = (self.folder.path().join("key.pem"), self.certificate_path());
        let args = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
        ];
        let files = [&*key.to_string_lossy(), "-out", &*certificate.to_string_lossy()].map(str::to_owned);
        let args: Vec<&str> = args.into_iter().chain(files.iter().map(String::as_str)).collect();
        program("openssl", &args, b"").ok();
    }

    /// Where a listener listens.
    pub fn address(&self, door: Door) -> SocketAddr {
        self.addresses[&door].parse().expect("a TCP address")
    }

    /// Connects, with TLS where the listener begins with it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn try_connect(&self, door: Door) -> io::Result<Wire> {
        if door == Door::LmtpUnix {
            return Wire::unix(&self.path("lmtp.sock"));
        }
        let mut wire = Wire::tcp(self.address(door))?;
        if door.names().1 == "implicit" {
            wire.secure(&self.certificate_path())?;
        }
        Ok(wire)
    }

    /// Connects to a server that is there.
    pub fn connect(&self, door: Door) -> Wire {
        self.try_connect(door).unwrap_or_else(|error| unreachable!("{door:?} does not answer: {error}"))
    }

    /// Where a file of this server lies, or may be put by a test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration.
    pub fn config_path(&self) -> PathBuf {
        self.path("rockdove.toml")
    }

    /// The certificate, PEM.
    pub fn certificate_path(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    /// The certificate on disk, DER.
    pub fn certificate(&self) -> Vec<u8> {
        certificate_of(&self.certificate_path())
    }

    fn log_path(&self) -> PathBuf {
        self.path("log")
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

/// The address of a demo account.
pub fn at(name: &str) -> String {
    format!("{name}@{DOMAIN}")
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the end of the server's log\n{}", self.log());
            if let Some(mut child) = self.child.take() {
                // The test has failed already; this only cleans up.
                drop(child.kill());
                drop(child.wait());
            }
            return;
        }
        if self.child.is_some() {
            self.fsck();
            self.stop();
        }
        self.fsck();
    }
}
