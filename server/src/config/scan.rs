//! `[clamd]`, `[rspamd]`, `[[milter]]` and `[quarantine]`: other programs that look at mail, and what they find.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Deserialize;

use super::values::{Size, Span};

/// Milters; each is asked about each message.
pub(super) const MILTERS_MAX: usize = 16;

/// Where another program listens: `unix:/run/clamav/clamd.ctl`, `127.0.0.1:3310`, `scanner.example.org:3310`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ScannerAddress {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A name or an address, and a port.
    Tcp(String, u16),
}

impl FromStr for ScannerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let tcp = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match tcp {
            Some((host, port)) if !host.is_empty() && !host.contains(['/', ' ']) && host != "unix" && port > 0 => {
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                Ok(Self::Tcp(host.to_owned(), port))
            }
            _ => Err(format!(
                "{text:?} is no address: write \"unix:/path\", or a host and a port as in \"127.0.0.1:3310\""
            )),
        }
    }
}

impl TryFrom<String> for ScannerAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ScannerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Whose mail is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// Other servers'.
    Incoming,
    /// Our users'.
    Submission,
}

/// What happens to a message that could not be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is put off: its sender tries again.
    #[default]
    Defer,
    /// It is taken, and a header field says that it was not looked at.
    Mark,
}

/// What happens to a message that should not be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFound {
    /// It is refused.
    #[default]
    Reject,
    /// It is taken, and kept apart.
    Quarantine,
    /// It is taken, a header field says what was found, and it goes to Junk.
    Mark,
}

/// What is said of every scanner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanner {
    /// What it is called in logs and metrics.
    pub name: String,
    /// Where it listens.
    pub address: ScannerAddress,
    /// Whose mail it is asked about.
    pub mail: Vec<Whose>,
    /// For all that it does with one message.
    pub timeout: Span,
    /// Connections to it at once.
    pub connections: usize,
    /// Octets of a message; a larger one is not given to it.
    pub size_max: Size,
    /// When it cannot be asked.
    pub on_failure: OnFailure,
}

/// `[clamd]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClamdSettings {
    /// What is said of every scanner.
    pub scanner: Scanner,
    /// When something was found.
    pub infected: OnFound,
}

/// `[rspamd]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RspamdSettings {
    /// What is said of every scanner.
    pub scanner: Scanner,
    /// When it says `reject`.
    pub reject: OnFound,
}

/// `[[milter]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MilterSettings {
    /// What is said of every scanner.
    pub scanner: Scanner,
}

/// `[quarantine]`: mail that is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineSettings {
    /// For how long; then it is deleted.
    pub keep: Span,
    /// Messages; what would be one more is put off.
    pub messages_max: u64,
}

impl Default for QuarantineSettings {
    fn default() -> Self {
        Self { keep: Span::seconds(30 * 24 * 60 * 60), messages_max: 100_000 }
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanSettings {
    /// `[clamd]`; off without it.
    pub clamd: Option<ClamdSettings>,
    /// `[rspamd]`; off without it.
    pub rspamd: Option<RspamdSettings>,
    /// `[[milter]]`, in the order of the file.
    pub milters: Vec<MilterSettings>,
    /// `[quarantine]`.
    pub quarantine: QuarantineSettings,
}

/// `[clamd]` in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClamdSection {
    address: ScannerAddress,
    mail: Option<Vec<Whose>>,
    timeout: Option<Span>,
    connections: Option<usize>,
    size_max: Option<Size>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    infected: OnFound,
}

/// `[rspamd]` in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RspamdSection {
    address: ScannerAddress,
    mail: Option<Vec<Whose>>,
    timeout: Option<Span>,
    connections: Option<usize>,
    size_max: Option<Size>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    reject: OnFound,
}

/// A `[[milter]]` in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MilterSection {
    name: String,
    address: ScannerAddress,
    mail: Option<Vec<Whose>>,
    timeout: Option<Span>,
    connections: Option<usize>,
    size_max: Option<Size>,
    #[serde(default)]
    on_failure: OnFailure,
}

/// What a section leaves to the defaults.
type Left = (Option<Vec<Whose>>, Option<Span>, Option<usize>, Option<Size>);

fn scanner(name: &str, address: ScannerAddress, left: Left, on_failure: OnFailure, usual: Whose) -> Scanner {
    let (mail, timeout, connections, size_max) = left;
    Scanner {
        name: name.to_owned(),
        address,
        mail: mail
            .unwrap_or_else(|| if usual == Whose::Submission { vec![Whose::Incoming, usual] } else { vec![usual] }),
        timeout: timeout.unwrap_or(Span::seconds(30)),
        connections: connections.unwrap_or(20),
        size_max: size_max.unwrap_or(Size::mib(25)),
        on_failure,
    }
}

impl ClamdSection {
    pub(super) fn settings(self) -> ClamdSettings {
        let left = (self.mail, self.timeout, self.connections, self.size_max);
        let scanner = scanner("clamd", self.address, left, self.on_failure, Whose::Submission);
        ClamdSettings { scanner, infected: self.infected }
    }
}

impl RspamdSection {
    pub(super) fn settings(self) -> RspamdSettings {
        let left = (self.mail, self.timeout, self.connections, self.size_max);
        let scanner = scanner("rspamd", self.address, left, self.on_failure, Whose::Incoming);
        RspamdSettings { scanner, reject: self.reject }
    }
}

impl MilterSection {
    pub(super) fn settings(self) -> MilterSettings {
        let left = (self.mail, self.timeout, self.connections, self.size_max);
        MilterSettings { scanner: scanner(&self.name, self.address, left, self.on_failure, Whose::Incoming) }
    }
}

impl ScanSettings {
    /// What is wrong in it, one line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let clamd = self.clamd.iter().map(|clamd| &clamd.scanner);
        let rspamd = self.rspamd.iter().map(|rspamd| &rspamd.scanner);
        let milters = self.milters.iter().map(|milter| &milter.scanner);
        for (number, scanner) in milters.clone().enumerate() {
            let name = &scanner.name;
            if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
                problems.push("milter.name: letters, digits, \"-\", \"_\" and \".\"".to_owned());
            }
            if milters.clone().take(number).any(|other| other.name == *name) {
                problems.push(format!("there are two milters called {name}: give each its own name"));
            }
        }
        if self.milters.len() > MILTERS_MAX {
            problems.push(format!("at most {MILTERS_MAX} milters"));
        }
        for scanner in clamd.chain(rspamd).chain(milters) {
            if scanner.connections == 0 || scanner.timeout < Span::seconds(1) || scanner.size_max.bytes == 0 {
                let what =
                    "connections and size_max at least 1, timeout at least \"1 s\", or nothing could be looked at";
                problems.push(format!("{}: {what}", scanner.name));
            }
        }
        if self.quarantine.keep < Span::seconds(60) {
            problems.push("quarantine.keep: at least \"1 min\"".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["unix:/run/clamav/clamd.ctl", "127.0.0.1:3310", "[::1]:3310", "scanner.example:1"] {
            assert_eq!(good.parse::<ScannerAddress>().expect(good).to_string(), good);
        }
        for bad in ["", "unix:", "unix:relative", "127.0.0.1", ":3310", "host:0", "host:99999", "a b:1", "/run/x"] {
            assert!(bad.parse::<ScannerAddress>().is_err(), "{bad}");
        }
    }
}
