//! A client that can do what the tests need of IMAP.

use std::{io, path::Path};

use crate::{DOMAIN, PASSWORD, Wire};

/// The answer to a command.
#[derive(Debug)]
pub struct Reply {
    /// Untagged responses without `* `, literals in place (`{n}` CRLF octets).
    pub untagged: Vec<Vec<u8>>,
    /// The tagged response without its tag.
    pub status: String,
}

impl Reply {
    /// The value behind `[NAME ` in the tagged or an untagged response code.
    pub fn code(&self, name: &str) -> Option<String> {
        let texts = self.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
        let start = format!("[{name} ");
        let mut all = texts.chain([self.status.clone()]);
        all.find_map(|text| Some(text.split_once(&start)?.1.split_once(']')?.0.to_owned()))
    }

    /// The same as a number.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.code(name).unwrap_or_else(|| unreachable!("no {name} in {self:?}"));
        value.parse().expect("a number")
    }

    /// Untagged responses as text that contain this word.
    pub fn with(&self, word: &str) -> Vec<String> {
        let texts = self.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
        texts.filter(|text| text.contains(word)).collect()
    }
}

/// An IMAP session.
#[derive(Debug)]
pub struct Imap {
    /// The connection.
    pub wire: Wire,
    tag: u32,
}

impl Imap {
    /// Reads the greeting.
    ///
    /// # Errors
    /// When there is none.
    pub fn greet(mut wire: Wire) -> io::Result<Self> {
        let greeting = wire.try_line()?;
        if !greeting.starts_with(b"* OK") {
            return Err(io::Error::other(String::from_utf8_lossy(&greeting).into_owned()));
        }
        Ok(Self { wire, tag: 0 })
    }

    /// Reads the greeting and logs in.
    ///
    /// # Errors
    /// When the connection ends or the server refuses.
    pub fn login(wire: Wire, name: &str) -> io::Result<Self> {
        let mut imap = Self::greet(wire)?;
        imap.try_ok(&format!("LOGIN {name}@{DOMAIN} \"{PASSWORD}\""))?;
        Ok(imap)
    }

    /// STARTTLS.
    pub fn starttls(&mut self, certificate: &Path) {
        self.ok("STARTTLS");
        self.wire.secure(certificate).expect("TLS");
    }

    /// A command and everything up to its tagged response.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn try_say(&mut self, command: &str) -> io::Result<Reply> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.wire.try_send(format!("{tag} {command}\r\n").as_bytes())?;
        self.until(&tag)
    }

    fn until(&mut self, tag: &str) -> io::Result<Reply> {
        let mut untagged = Vec::new();
        loop {
            let line = self.response()?;
            if let Some(rest) = line.strip_prefix(b"* ") {
                untagged.push(rest.to_vec());
            } else {
                let line = String::from_utf8_lossy(&line).into_owned();
                let status = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' '));
                let status = status.ok_or_else(|| io::Error::other(format!("unexpected: {line}")))?.to_owned();
                return Ok(Reply { untagged, status });
            }
        }
    }

    /// One response with its literals.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn response(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let line = self.wire.try_line()?;
            all.extend_from_slice(&line);
            let Some(count) = literal(&line) else { return Ok(all) };
            all.extend_from_slice(b"\r\n");
            all.extend_from_slice(&self.wire.try_octets(count)?);
        }
    }

    /// A command that the server says OK to.
    ///
    /// # Errors
    /// When the connection ends before, or it says something else.
    pub fn try_ok(&mut self, command: &str) -> io::Result<Reply> {
        let reply = self.try_say(command)?;
        if reply.status.starts_with("OK") { Ok(reply) } else { Err(io::Error::other(reply.status)) }
    }

    /// A command that goes well.
    pub fn ok(&mut self, command: &str) -> Reply {
        self.try_ok(command).unwrap_or_else(|error| unreachable!("{command}: {error}"))
    }

    /// APPEND with a synchronizing literal.
    ///
    /// # Errors
    /// When the connection ends before, or the server refuses.
    pub fn try_append(&mut self, mailbox: &str, message: &[u8]) -> io::Result<Reply> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.wire.try_send(format!("{tag} APPEND {mailbox} {{{}}}\r\n", message.len()).as_bytes())?;
        let more = self.wire.try_line()?;
        if !more.starts_with(b"+") {
            return Err(io::Error::other(String::from_utf8_lossy(&more).into_owned()));
        }
        self.wire.try_send(message)?;
        self.wire.try_send(b"\r\n")?;
        let reply = self.until(&tag)?;
        if reply.status.starts_with("OK") { Ok(reply) } else { Err(io::Error::other(reply.status)) }
    }
}

/// The size of the literal that a line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}")?;
    let at = inside.iter().rposition(|octet| *octet == b'{')?;
    std::str::from_utf8(&inside[at + 1..]).ok()?.parse().ok()
}
