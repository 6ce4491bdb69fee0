//! The part of `import` that names another server.

use std::{
    fs::{self, DirBuilder},
    io::{BufRead, BufReader, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use rockdove_mail::sasl::Password;

use super::{
    account_target::AccountTarget,
    dial::{Protection, Secret, Server},
    imap::{ImapSettings, ImapSource},
};
use crate::{
    config::Config,
    failure::{Failure, refused},
    net::tls::TlsDialer,
};

/// Octets of a file with a password or a token.
const SECRET_OCTETS_MAX: u64 = 16 << 10;
/// Connections at once that any server bears.
const PARALLEL_MAX: i64 = 32;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Tls {
    /// TLS from the start.
    #[default]
    Implicit,
    /// TLS by STARTTLS.
    Starttls,
    /// None; only to this machine.
    NoneOnLoopback,
}

/// Another server.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Pull from this server, by IMAP.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "source", requires = "user")]
    imap: Option<String>,
    /// The login there.
    #[arg(long, requires = "imap", requires = "secret")]
    user: Option<String>,
    /// Whose mail is wanted there, when the login may see that of others.
    #[arg(long, value_name = "USER", requires = "imap")]
    authorize_as: Option<String>,
    /// The file whose first line is the password.
    #[arg(long, value_name = "FILE", requires = "imap", group = "secret")]
    password_file: Option<PathBuf>,
    /// The file whose first line is an access token of OAuth 2.0.
    #[arg(long, value_name = "FILE", requires = "imap", group = "secret")]
    token_file: Option<PathBuf>,
    /// How the connection is protected.
    #[arg(long, requires = "imap", value_enum, default_value_t)]
    tls: Tls,
    /// A file of certificates (PEM) that are trusted beside those that this machine trusts.
    #[arg(long, value_name = "FILE", requires = "imap")]
    tls_trust: Option<PathBuf>,
    /// Connections at once.
    #[arg(long, requires = "imap", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=PARALLEL_MAX))]
    parallel: u32,
    /// Leave out this mailbox and those below it; may be given more than once.
    #[arg(long, value_name = "NAME", requires = "imap")]
    exclude: Vec<String>,
}

/// The first line of a file.
fn first_line(path: &Path) -> Result<Password, Failure> {
    let failed = || refused(path.display());
    let file = fs::File::open(path).map_err(failed())?;
    let mut line = String::new();
    BufReader::new(file.take(SECRET_OCTETS_MAX)).read_line(&mut line).map_err(failed())?;
    Ok(Password::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Host and port; an address of IPv6 with a port stands in brackets.
fn host_and_port(text: &str, tls: Tls) -> Result<(String, u16), Failure> {
    let port = if tls == Tls::Implicit { 993 } else { 143 };
    let (host, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']').unwrap_or((inside, "")),
        None if text.matches(':').count() == 1 => text.split_at(text.find(':').unwrap_or(text.len())),
        None => (text, ""),
    };
    let told = rest.strip_prefix(':').map(str::parse);
    match told {
        Some(Ok(port)) => Ok((host.to_owned(), port)),
        None if rest.is_empty() && !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(Failure::Usage(format!("{text:?} is no server: expected HOST, HOST:PORT or [ADDRESS]:PORT"))),
    }
}

impl Remote {
    /// Whether mail is to come from another server.
    pub(super) fn is_wanted(&self) -> bool {
        self.imap.is_some()
    }

    /// Connects, and lists what there is to be pulled.
    pub(super) fn open(self, config: &Config, target: &AccountTarget, only: &[String]) -> Result<ImapSource, Failure> {
        let (host, port) = host_and_port(self.imap.as_deref().unwrap_or_default(), self.tls)?;
        let secret = match (&self.password_file, &self.token_file) {
            (Some(path), _) => Secret::Password(first_line(path)?),
            (None, Some(path)) => Secret::Token(first_line(path)?),
            (None, None) => return Err(Failure::Usage("--imap needs --password-file or --token-file".to_owned())),
        };
        let more = self.tls_trust.as_ref().map(|path| fs::read(path).map_err(refused(path.display()))).transpose()?;
        let dialer = || TlsDialer::new(more.as_deref()).map_err(refused("the certificates to be trusted"));
        let protection = match self.tls {
            Tls::Implicit => Protection::Implicit(dialer()?),
            Tls::Starttls => Protection::StartTls(dialer()?),
            Tls::NoneOnLoopback => Protection::NoneOnLoopback,
        };
        let login = self.user.unwrap_or_default();
        let message_octets_max = config.limits.message_size.bytes;
        let server =
            Server { host, port, protection, login, authorize_as: self.authorize_as, secret, message_octets_max };
        let settings = ImapSettings {
            state_file: state_file(config, target, &server)?,
            server,
            parallel: usize::try_from(self.parallel).unwrap_or(1),
            only: only.to_vec(),
            exclude: self.exclude,
        };
        let opened = ImapSource::open(settings, &|mailbox| target.place(mailbox));
        opened.map_err(|error| Failure::Refused(error.to_string()))
    }
}

/// Where it is noted what has been pulled: a file for each source, account and place in it.
fn state_file(config: &Config, target: &AccountTarget, server: &Server) -> Result<PathBuf, Failure> {
    let folder = config.data_dir.join("imports");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(refused(folder.display()))?;
    let (address, into) = target.goes_to();
    let whole = serde_json::json!([address, into, server.to_string()]).to_string();
    Ok(folder.join(format!("{}.json", blake3::hash(whole.as_bytes()).to_hex())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_ports() {
        let read = |text| host_and_port(text, Tls::Implicit).ok();
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("mail.example"), is("mail.example", 993));
        assert_eq!(read("mail.example:1"), is("mail.example", 1));
        assert_eq!(read("[::1]:2"), is("::1", 2));
        assert_eq!(read("[::1]"), is("::1", 993));
        assert_eq!(read("::1"), is("::1", 993));
        assert_eq!(host_and_port("a", Tls::Starttls).ok(), is("a", 143));
        assert_eq!((read("a:x"), read("a:99999"), read("[::1]x"), read("")), (None, None, None, None));
    }
}
