//! The command grammar: one line without its CRLF becomes one [`Command`], or the reply that refuses it.

use crate::{
    address::Address,
    ask::BodyKind,
    data::has_control,
    limits::{CLIENT_NAME_OCTETS_MAX, COMMAND_LINE_OCTETS_MAX},
    parameter::{MailParameters, RcptParameters, size},
    path::{self, Path},
    reply::{self, Reply},
};

/// A command that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Helo(String),
    Ehlo(String),
    Lhlo(String),
    Mail { reverse_path: Option<Address>, parameters: MailParameters },
    Rcpt { recipient: RcptPath, parameters: RcptParameters },
    Data,
    Bdat { size: u64, last: bool },
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    StartTls,
    Auth { mechanism: String, initial: Option<String> },
}

/// What RCPT names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RcptPath {
    /// The postmaster of this server.
    Postmaster,
    /// An address.
    Address(Address),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Say this and go on.
    Reply(Reply),
    /// Say this and close: what follows cannot be told apart from commands, or is not mail at all.
    Close(Reply),
}

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Reads a line.
pub(crate) fn read(line: &[u8]) -> Result<Command, Refusal> {
    let verb_end = line.iter().position(|&octet| octet == b' ').unwrap_or(line.len());
    let (verb, rest) = line.split_at_checked(verb_end).unwrap_or((line, &[]));
    let verb = verb.to_ascii_uppercase();
    let auth = verb == b"AUTH";
    if !auth && line.len().saturating_add(2) > COMMAND_LINE_OCTETS_MAX {
        return Err(reply::LINE_TOO_LONG.into());
    }
    // Another protocol led here by mistake or malice (RFC 5321 has no such commands): do not play along.
    if matches!(verb.as_slice(), b"GET" | b"POST" | b"PUT" | b"CONNECT" | b"HEAD" | b"OPTIONS") {
        return Err(Refusal::Close(reply::NOT_MAIL));
    }
    if has_control(line) {
        return Err(reply::BARE_CR.into());
    }
    let rest = std::str::from_utf8(rest).map_err(|_| reply::NOT_UTF8)?.trim_matches(' ');
    Ok(match verb.as_slice() {
        b"HELO" => Command::Helo(client_name(rest)?),
        b"EHLO" => Command::Ehlo(client_name(rest)?),
        b"LHLO" => Command::Lhlo(client_name(rest)?),
        b"MAIL" => mail(rest)?,
        b"RCPT" => rcpt(rest)?,
        b"DATA" => bare(rest, Command::Data)?,
        b"BDAT" => bdat(rest).ok_or(Refusal::Close(reply::BAD_CHUNK))?,
        b"RSET" => bare(rest, Command::Rset)?,
        //= rfc5321#section-4.1.1.9
        //# If a parameter string is specified, servers SHOULD ignore it.
        b"NOOP" => Command::Noop,
        b"QUIT" => bare(rest, Command::Quit)?,
        b"VRFY" if rest.is_empty() => return Err(reply::BAD_ARGUMENT.into()),
        b"VRFY" => Command::Vrfy,
        b"EXPN" => Command::Expn,
        b"HELP" => Command::Help,
        b"STARTTLS" => bare(rest, Command::StartTls)?,
        b"AUTH" => auth_command(rest)?,
        _ => return Err(reply::UNKNOWN_COMMAND.into()),
    })
}

fn bare(rest: &str, command: Command) -> Result<Command, Reply> {
    if rest.is_empty() { Ok(command) } else { Err(reply::NO_ARGUMENT) }
}

/// A domain or address literal. Underscores and names without a dot are common and harmless; everything that could
/// disturb a trace header is refused.
fn client_name(rest: &str) -> Result<String, Reply> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    if rest.is_empty() || rest.len() > CLIENT_NAME_OCTETS_MAX || !rest.chars().all(plain) {
        return Err(reply::BAD_NAME);
    }
    Ok(rest.to_owned())
}

/// What follows `FROM` or `TO` and its colon. Spaces behind the colon are wrong and common.
fn clause<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    let (got, path) = rest.split_once(':')?;
    got.trim_end_matches(' ').eq_ignore_ascii_case(word).then(|| path.trim_start_matches(' '))
}

/// The path, and the parameters that follow it.
fn path_and_rest(text: &str) -> Option<(Path, &str)> {
    let (path, rest) = path::read(text)?;
    (rest.is_empty() || rest.starts_with(' ')).then_some((path, rest))
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let (path, rest) = clause(rest, "FROM").and_then(path_and_rest).ok_or(reply::BAD_SENDER)?;
    let parameters = MailParameters::read(rest)?;
    let reverse_path = match path {
        Path::Null => None,
        Path::Address(address) => Some(address),
        Path::Postmaster => return Err(reply::BAD_SENDER),
    };
    if !parameters.smtputf8 && reverse_path.as_ref().is_some_and(needs_utf8) {
        return Err(reply::SENDER_NEEDS_UTF8);
    }
    Ok(Command::Mail { reverse_path, parameters })
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    let (path, rest) = clause(rest, "TO").and_then(path_and_rest).ok_or(reply::BAD_RECIPIENT)?;
    let parameters = RcptParameters::read(rest)?;
    let recipient = match path {
        Path::Null => return Err(reply::BAD_RECIPIENT),
        Path::Postmaster => RcptPath::Postmaster,
        Path::Address(address) => RcptPath::Address(address),
    };
    Ok(Command::Rcpt { recipient, parameters })
}

/// Whether an address can only be said with SMTPUTF8.
pub(crate) fn needs_utf8(address: &Address) -> bool {
    !address.local.is_ascii() || !address.domain.is_ascii()
}

fn bdat(rest: &str) -> Option<Command> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let size = size(words.next()?)?;
    let last = match words.next() {
        None => false,
        Some(word) => word.eq_ignore_ascii_case("LAST").then_some(true)?,
    };
    words.next().is_none().then_some(Command::Bdat { size, last })
}

fn auth_command(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(reply::BAD_ARGUMENT)?.to_ascii_uppercase();
    let initial = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(reply::BAD_ARGUMENT);
    }
    Ok(Command::Auth { mechanism, initial })
}

/// BODY as MAIL gave it, or its default.
pub(crate) fn body_kind(parameters: &MailParameters) -> BodyKind {
    parameters.body.unwrap_or_default()
}
