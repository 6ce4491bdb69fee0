//! The grammar of commands (RFC 2449 section 3).

/// One command, decoded. Message numbers count from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    User(String),
    Pass(String),
    /// No mechanism: the client asks which there are, as clients older than CAPA do.
    Auth(Option<(String, Option<Vec<u8>>)>),
    Capa,
    Stls,
    Quit,
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    Top(u32, u64),
    Dele(u32),
    Noop,
    Rset,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Unknown,
    Arguments,
    Number,
}

impl Wrong {
    /// For the client.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown command",
            Self::Arguments => "wrong arguments",
            Self::Number => "no such message",
        }
    }
}

/// Decodes a line without its ending.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Wrong> {
    let (keyword, rest) = match memchr::memchr(b' ', line) {
        Some(at) => (line.get(..at).unwrap_or_default(), line.get(at.saturating_add(1)..).unwrap_or_default()),
        None => (line, &[][..]),
    };
    //= rfc1939#section-3
    //# Keywords and arguments consist of printable ASCII characters.
    // Passwords and names in UTF-8 are let through: clients send them, and whether they are right is not ours to say.
    let rest = std::str::from_utf8(rest).map_err(|_| Wrong::Arguments)?;
    let keyword = keyword.to_ascii_uppercase();
    match keyword.as_slice() {
        b"USER" => one(rest).map(|name| Command::User(name.to_owned())),
        //= rfc1939#section-7
        //# Since the PASS command has exactly one argument, a POP3
        //# server may treat spaces in the argument as part of the
        //# password, instead of as argument separators.
        b"PASS" if rest.is_empty() => Err(Wrong::Arguments),
        b"PASS" => Ok(Command::Pass(rest.to_owned())),
        b"AUTH" => auth(rest),
        b"CAPA" => none(rest, Command::Capa),
        b"STLS" => none(rest, Command::Stls),
        b"QUIT" => none(rest, Command::Quit),
        b"STAT" => none(rest, Command::Stat),
        b"LIST" => optional_number(rest).map(Command::List),
        b"UIDL" => optional_number(rest).map(Command::Uidl),
        b"RETR" => one(rest).and_then(number).map(Command::Retr),
        b"DELE" => one(rest).and_then(number).map(Command::Dele),
        b"TOP" => top(rest),
        b"NOOP" => none(rest, Command::Noop),
        b"RSET" => none(rest, Command::Rset),
        _ => Err(Wrong::Unknown),
    }
}

/// Spaces at the end are not worth a quarrel.
fn none(rest: &str, command: Command) -> Result<Command, Wrong> {
    if rest.trim_end_matches(' ').is_empty() { Ok(command) } else { Err(Wrong::Arguments) }
}

fn one(rest: &str) -> Result<&str, Wrong> {
    let argument = rest.trim_end_matches(' ');
    if argument.is_empty() || argument.contains(' ') { Err(Wrong::Arguments) } else { Ok(argument) }
}

fn optional_number(rest: &str) -> Result<Option<u32>, Wrong> {
    if rest.trim_end_matches(' ').is_empty() { Ok(None) } else { one(rest).and_then(number).map(Some) }
}

/// A message number. One that does not fit can only name a message that is not there.
fn number(digits: &str) -> Result<u32, Wrong> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::Arguments);
    }
    digits.parse().map_err(|_| Wrong::Number)
}

fn top(rest: &str) -> Result<Command, Wrong> {
    let (message, lines) = rest.trim_end_matches(' ').split_once(' ').ok_or(Wrong::Arguments)?;
    if lines.is_empty() || !lines.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::Arguments);
    }
    // More lines than can be counted are all lines.
    Ok(Command::Top(number(message)?, lines.parse().unwrap_or(u64::MAX)))
}

fn auth(rest: &str) -> Result<Command, Wrong> {
    let mut words = rest.trim_end_matches(' ').split(' ');
    let mechanism = words.next().unwrap_or_default();
    if mechanism.is_empty() {
        return none(rest, Command::Auth(None));
    }
    let initial = words.next().map(|word| word.as_bytes().to_vec());
    match words.next() {
        None => Ok(Command::Auth(Some((mechanism.to_ascii_uppercase(), initial)))),
        Some(_) => Err(Wrong::Arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_the_rfc_says() {
        for (line, want) in [
            ("USER ann", Ok(Command::User("ann".into()))),
            ("user ann ", Ok(Command::User("ann".into()))),
            ("USER", Err(Wrong::Arguments)),
            ("USER a b", Err(Wrong::Arguments)),
            ("PASS  a b ", Ok(Command::Pass(" a b ".into()))),
            ("PASS", Err(Wrong::Arguments)),
            ("AUTH", Ok(Command::Auth(None))),
            ("AUTH plain", Ok(Command::Auth(Some(("PLAIN".into(), None))))),
            ("AUTH PLAIN =", Ok(Command::Auth(Some(("PLAIN".into(), Some(b"=".to_vec())))))),
            ("AUTH PLAIN = x", Err(Wrong::Arguments)),
            ("LIST", Ok(Command::List(None))),
            ("LIST 3", Ok(Command::List(Some(3)))),
            ("LIST +3", Err(Wrong::Arguments)),
            ("RETR 99999999999", Err(Wrong::Number)),
            ("RETR", Err(Wrong::Arguments)),
            ("TOP 1 0", Ok(Command::Top(1, 0))),
            ("TOP 1 99999999999999999999999", Ok(Command::Top(1, u64::MAX))),
            ("TOP 1", Err(Wrong::Arguments)),
            ("TOP 1 -1", Err(Wrong::Arguments)),
            ("NOOP x", Err(Wrong::Arguments)),
            ("", Err(Wrong::Unknown)),
            ("APOP ann c4c9334bac560ecc979e58001b3e22fb", Err(Wrong::Unknown)),
        ] {
            assert_eq!(parse(line.as_bytes()), want, "{line}");
        }
        assert_eq!(parse(b"USER \xff"), Err(Wrong::Arguments));
    }
}
