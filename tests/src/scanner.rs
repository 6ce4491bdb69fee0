//! Real scanners: clamd, Rspamd, and a milter on Sendmail's own library.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Wire, program};

/// How long one may take to start. Only a broken one takes this long.
const WAIT: Duration = Duration::from_mins(2);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `clamd`, which knows one thing only: the harmless test file of EICAR.
    Clamd,
    /// `rspamd`, with its test patterns.
    Rspamd,
    /// `clients/milter.py`, which does what the subject says.
    Milter,
}

/// A scanner in a folder of its own. It ends with the test.
#[derive(Debug)]
pub struct Scanner {
    kind: Kind,
    folder: TempDir,
    child: Option<Child>,
}

/// What virus scanners are tested with, in two pieces, so that nobody takes these sources for it.
pub fn eicar() -> String {
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

/// What spam filters are tested with: `X` for spam, `Y` for what only looks like it.
pub fn gtube(kind: char) -> String {
    format!("{kind}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X")
}

impl Scanner {
    /// Starts one and waits until it answers.
    pub fn start(kind: Kind) -> Self {
        let folder = tempfile::Builder::new().prefix("rockdove-scan-").tempdir().expect("a folder");
        let mut scanner = Self { kind, folder, child: None };
        scanner.run();
        scanner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its address, as the configuration writes it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.path("socket").display())
    }

    /// What the milter was told, one message a line.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let told = fs::read_to_string(self.path("told")).unwrap_or_default();
        told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Starts the program again.
    pub fn run(&mut self) {
        let (folder, socket) = (self.folder.path().display().to_string(), self.path("socket"));
        drop(fs::remove_file(&socket));
        let mut command = match self.kind {
            Kind::Clamd => clamd(self.folder.path()),
            Kind::Rspamd => rspamd(self.folder.path()),
            Kind::Milter => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/milter.py");
                // The library is a package of the system's Python.
                let mut command = Command::new("/usr/bin/python3");
                command.arg("-B").arg(script).arg(&socket).arg(self.path("told"));
                command
            }
        };
        let log = fs::File::create(self.path("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| {
            unreachable!("cannot run {:?}: {error}: install {} with apt-get", self.kind, self.package())
        });
        self.child = Some(child);
        let end = Instant::now() + WAIT;
        while Wire::unix(&socket).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a child"));
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(ended.is_none(), "{:?} has ended (package {}): {}", self.kind, self.package(), log());
            assert!(Instant::now() < end, "{:?} in {folder} does not answer: {}", self.kind, log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn package(&self) -> &'static str {
        match self.kind {
            Kind::Clamd => "clamav-daemon",
            Kind::Rspamd => "rspamd",
            Kind::Milter => "python3-milter",
        }
    }

    /// It answers nothing, and takes connections still.
    pub fn pause(&self) {
        let pid = self.child.as_ref().expect("a running scanner").id();
        program("sh", &["-c", &format!("kill -STOP {pid}")], b"").ok();
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running scanner");
        // What it has started goes with it: Rspamd's workers ask whether their parent lives.
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let pid = child.id();
            // The test is over, and Rspamd is asked politely, because it has processes to end.
            drop(program("sh", &["-c", &format!("kill -CONT {pid}; kill -TERM {pid}; sleep 1")], b""));
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn clamd(folder: &Path) -> Command {
    let database = folder.join("database");
    fs::create_dir_all(&database).expect("a folder");
    let signature: String = eicar().bytes().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"));
    fs::write(database.join("test.ndb"), format!("Eicar-Test-Signature:0:*:{signature}\n")).expect("written");
    let config = folder.join("clamd.conf");
    let (place, database) = (folder.display(), database.display());
    let text = format!(
        "Foreground yes\nLocalSocket {place}/socket\nDatabaseDirectory {database}\nTemporaryDirectory {place}\n\
         StreamMaxLength 1M\nMaxThreads 4\nSelfCheck 0\nConcurrentDatabaseReload no\n"
    );
    fs::write(&config, text).expect("written");
    let mut command = Command::new("/usr/sbin/clamd");
    command.arg("--foreground").arg(format!("--config-file={}", config.display()));
    command
}

fn rspamd(folder: &Path) -> Command {
    let place = folder.display();
    let text = format!(
        "options {{ pidfile = \"{place}/pid\"; temp_dir = \"{place}\"; url_tld = \"{place}/tld\"; filters = [];\n\
         enable_test_patterns = true; dns {{ nameserver = [\"127.0.0.1:1\"]; timeout = 0.1s; retransmits = 1; }} }}\n\
         logging {{ type = \"console\"; level = \"error\"; }}\n\
         worker \"normal\" {{ bind_socket = \"{place}/socket mode=0666\"; count = 1; }}\n\
         actions {{ reject = 15; add_header = 6; }}\n"
    );
    fs::write(folder.join("tld"), "example\ntest\n").expect("written");
    let config = folder.join("rspamd.conf");
    fs::write(&config, text).expect("written");
    let mut command = Command::new("rspamd");
    command.arg("-f").arg("--insecure").arg("-c").arg(config);
    command
}
