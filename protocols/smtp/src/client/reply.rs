//! Replies of a server (RFC 5321 section 4.2), read with limits.

use bytes::{Buf, BytesMut};
use memchr::memchr;

/// Octets of one line; RFC 5321 section 4.5.3.1.5 says 512, real servers say more.
const LINE_OCTETS_MAX: usize = 4_096;
/// Lines of one reply.
const LINES_MAX: usize = 256;
/// Octets of a text that are kept.
const TEXT_OCTETS_MAX: usize = 1_024;

/// What a server said, or what we say in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerReply {
    /// The code.
    pub code: u16,
    /// The enhanced status code (RFC 2034), when there is one.
    pub status: Option<String>,
    /// The text, its lines joined by spaces.
    pub text: String,
}

impl ServerReply {
    /// A reply of our own.
    pub fn new(code: u16, status: &str, text: &str) -> Self {
        Self { code, status: Some(status.to_owned()), text: text.to_owned() }
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// 5xx: trying again does not help.
    pub fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }
}

impl std::fmt::Display for ServerReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = &self.status {
            write!(f, " {status}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

/// What does not follow the rules of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotSmtp;

/// A reply that is coming in.
#[derive(Debug, Default)]
pub(super) struct Replies {
    received: BytesMut,
    /// Lines of the reply under way: its code, and what they say.
    lines: Vec<String>,
    code: u16,
}

impl Replies {
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.received.extend_from_slice(octets);
    }

    /// Octets that wait to be looked at.
    pub(super) fn octets(&self) -> usize {
        self.received.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next whole reply; what the lines of EHLO say stays apart.
    pub(super) fn next(&mut self) -> Result<Option<(ServerReply, Vec<String>)>, NotSmtp> {
        loop {
            let Some(end) = memchr(b'\n', &self.received) else {
                return if self.received.len() > LINE_OCTETS_MAX { Err(NotSmtp) } else { Ok(None) };
            };
            if end > LINE_OCTETS_MAX || self.lines.len() >= LINES_MAX {
                return Err(NotSmtp);
            }
            let line = self.received.split_to(end);
            self.received.advance(1);
            let (code, more, text) = parsed(line.strip_suffix(b"\r").unwrap_or(&line)).ok_or(NotSmtp)?;
            if !self.lines.is_empty() && code != self.code {
                return Err(NotSmtp);
            }
            self.code = code;
            self.lines.push(text);
            if !more {
                let lines = std::mem::take(&mut self.lines);
                return Ok(Some((joined(code, &lines), lines)));
            }
        }
    }
}

/// `Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF`
fn parsed(line: &[u8]) -> Option<(u16, bool, String)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code: u16 =
        std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|c| c.is_ascii_digit()))?.parse().ok()?;
    (200..600).contains(&code).then_some(())?;
    let (more, text) = match rest.split_first() {
        None => (false, rest),
        Some((b' ', text)) => (false, text),
        Some((b'-', text)) => (true, text),
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    Some((code, more, text))
}

fn joined(code: u16, lines: &[String]) -> ServerReply {
    let mut status = None;
    let mut text = String::new();
    for line in lines {
        let (found, rest) = split_status(line);
        if let Some(found) = found {
            status.get_or_insert_with(|| found.to_owned());
        }
        if text.len().saturating_add(rest.len()) > TEXT_OCTETS_MAX {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(rest);
    }
    // A status of another class than the code means nothing.
    let class = code.checked_div(100).unwrap_or_default().to_string();
    let status = status.filter(|status: &String| status.starts_with(&class));
    ServerReply { code, status, text }
}

/// `status-code = class "." subject "." detail`
fn split_status(line: &str) -> (Option<&str>, &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let numbers: Vec<&str> = word.split('.').collect();
    let is_number = |text: &&str| (1..=3).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    let is_status = numbers.len() == 3 && numbers.iter().all(is_number) && word.starts_with(['2', '4', '5']);
    if is_status { (Some(word), rest) } else { (None, line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &str) -> Result<Option<ServerReply>, NotSmtp> {
        let mut replies = Replies::default();
        replies.push(octets.as_bytes());
        replies.next().map(|found| found.map(|(reply, _)| reply))
    }

    #[test]
    fn replies_are_read() {
        let reply = |code, status: &str, text: &str| Ok(Some(ServerReply::new(code, status, text)));
        assert_eq!(read("250 2.1.5 ok\r\n"), reply(250, "2.1.5", "ok"));
        assert_eq!(read("550-5.1.1 no such\r\n550 5.1.1 user\r\n"), reply(550, "5.1.1", "no such user"));
        assert_eq!(read("250"), Ok(None));
        assert_eq!(read("250\n"), Ok(Some(ServerReply { code: 250, ..ServerReply::default() })));
        assert_eq!(read("550 2.1.1 odd\r\n").map(|found| found.map(|reply| reply.status)), Ok(Some(None)));
        assert_eq!(
            read("250 1.2.3 is a version\r\n").map(|found| found.map(|reply| reply.text)),
            Ok(Some("1.2.3 is a version".into()))
        );
        for bad in ["hello\r\n", "2500 x\r\n", "99 x\r\n", "250-a\r\n251 b\r\n", "650 x\r\n", "\r\n"] {
            assert_eq!(read(bad), Err(NotSmtp), "{bad:?}");
        }
        assert_eq!(read(&"2".repeat(5_000)), Err(NotSmtp));
        assert_eq!(read(&"250-x\r\n".repeat(300)), Err(NotSmtp));
    }
}
