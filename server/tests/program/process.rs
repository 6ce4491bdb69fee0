//! The real program in a folder of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// A listener of each kind that the tests speak to, on any free port.
pub(crate) const LISTENERS: &str = r#"
[[listener]]
protocol = "smtp"
address = "127.0.0.1:0"

[[listener]]
protocol = "pop3"
address = "127.0.0.1:0"
tls = "implicit"

[[listener]]
protocol = "pop3"
address = "127.0.0.1:0"
"#;

/// A folder with a configuration.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder") };
        place.configure(LISTENERS);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("rockdove.toml")
    }

    /// Writes the configuration: the head, two workers, small caches, and `rest`.
    pub(crate) fn configure(&self, rest: &str) {
        self.configure_head("", rest);
    }

    /// The same, with `more` in the head.
    pub(crate) fn configure_head(&self, more: &str, rest: &str) {
        let head = format!("hostname = \"mail.here.example\"\ndata_dir = \"data\"\n{more}");
        let sizes = "[runtime]\nworkers = 2\n[store]\nmemory = \"256 MiB\"\n";
        fs::write(self.config(), format!("{head}{sizes}{rest}")).expect("a configuration");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rockdove"));
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "")
    }

    /// Runs a command that reads `input`.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        // A command that refuses early does not read.
        child.stdin.take().expect("input").write_all(input.as_bytes()).unwrap_or_default();
        let Output { status, stdout, stderr } = child.wait_with_output().expect("an end");
        let text = |octets| String::from_utf8(octets).expect("text");
        Said { code: status.code().expect("a code"), out: text(stdout), err: text(stderr) }
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "")
    }

    pub(crate) fn ok_with(&self, arguments: &[&str], input: &str) -> String {
        let said = self.run_with(arguments, input);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said.out
    }

    /// Starts a server and waits until it serves.
    pub(crate) fn serve(&self) -> Serving<'_> {
        self.start(&["serve"])
    }

    /// Starts a command that serves, and waits until it does.
    pub(crate) fn start(&self, arguments: &[&str]) -> Serving<'_> {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let log = BufReader::new(child.stderr.take().expect("standard error"));
        let mut serving = Serving { place: self, child, log, lines: String::new() };
        serving.wait_for("serving");
        serving
    }
}

/// A server that runs.
pub(crate) struct Serving<'a> {
    place: &'a Place,
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    /// What it has logged so far, as far as it was read.
    pub(crate) lines: String,
}

impl Serving<'_> {
    /// Reads the log until a line has `text` in it, and gives that line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let count = self.log.read_line(&mut line).expect("the log");
            assert!(count > 0, "the server ended before it said {text:?}:\n{}", self.lines);
            self.lines.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.place.ok(&["status", "--json"])).expect("JSON")
    }

    /// The address of the first listener of a protocol.
    pub(crate) fn address(&self, protocol: &str, tls: &str) -> SocketAddr {
        let status = self.status();
        let listeners = status["listeners"].as_array().expect("listeners");
        let listener = listeners.iter().find(|l| l["protocol"] == protocol && l["tls"] == tls).expect("the listener");
        listener["address"].as_str().expect("an address").parse().expect("an address")
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// What it has printed to standard output; to be asked when it has ended by [`Serving::end`].
    fn printed(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().expect("standard output").read_to_string(&mut text).expect("text");
        text
    }

    /// Asks it to end, and gives its exit code.
    pub(crate) fn stop(self) -> i32 {
        self.end().0
    }

    /// Asks it to end, and gives its exit code and what it has printed.
    pub(crate) fn end(mut self) -> (i32, String) {
        self.signal("TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the log");
        self.lines.push_str(&rest);
        let printed = self.printed();
        (self.child.wait().expect("an end").code().expect("a code"), printed)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // Gone already after `stop`.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// A connection on which lines are spoken.
pub(crate) struct Talk<S: Read + Write> {
    stream: BufReader<S>,
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream
}

impl<S: Read + Write> Talk<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    pub(crate) fn say(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("written");
        self.line()
    }
}
