//! Programs of the machine that play the client.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// Programs the tests need, and the Debian package of each.
const PACKAGES: [(&str, &str); 6] = [
    ("/usr/bin/python3", "python3-dkim"),
    ("python3", "python3"),
    ("curl", "curl"),
    ("mbsync", "isync"),
    ("swaks", "swaks"),
    ("openssl", "openssl"),
];

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it complained about.
    pub err: String,
}

impl Ran {
    /// What it printed, when it went well.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "exit code\n--- printed\n{}\n--- complained\n{}", self.out, self.err);
        self.out
    }
}

/// Runs a program of the machine with `input` to its end.
pub fn program(name: &str, args: &[&str], input: &[u8]) -> Ran {
    run(Command::new(name).args(args), name, input)
}

/// Runs one of the Python scripts in `clients/`.
pub fn client_script(name: &str, args: &[&str]) -> Ran {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    run(Command::new("python3").arg("-B").arg(script).args(args), "python3", b"")
}

/// Runs `clients/dkim_tool.py` with the Python that Debian's dkimpy is for.
pub fn dkim_tool(args: &[&str], input: &[u8]) -> Ran {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/dkim_tool.py");
    run(Command::new("/usr/bin/python3").arg("-B").arg(script).args(args), "/usr/bin/python3", input)
}

pub(crate) fn run(command: &mut Command, name: &str, input: &[u8]) -> Ran {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| {
        let package = PACKAGES.iter().find(|(program, _)| *program == name).map(|(_, package)| *package);
        let advice = package.map(|package| format!(": install it with `apt-get install -y {package}`"));
        unreachable!("cannot run {name}: {error}{}", advice.unwrap_or_default())
    });
    // A program that ends before it has read everything says why itself.
    let _ended_early = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}
