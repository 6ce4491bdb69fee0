//! A client that delivers.

use std::io;

use crate::{DOMAIN, Wire};

/// An SMTP or LMTP conversation behind its greeting.
#[derive(Debug)]
pub struct Smtp {
    /// The connection.
    pub wire: Wire,
    lmtp: bool,
}

impl Smtp {
    /// Says hello on a fresh connection.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn hello(mut wire: Wire, lmtp: bool) -> io::Result<Self> {
        reply(&mut wire)?;
        wire.try_send(if lmtp { b"LHLO client.example\r\n" } else { b"EHLO client.example\r\n" })?;
        reply(&mut wire)?;
        Ok(Self { wire, lmtp })
    }

    /// Delivers a message to accounts of ours, in one pipelined group; the codes of the last replies, one per recipient
    /// with LMTP.
    ///
    /// # Errors
    /// When the connection ends before the server has answered.
    pub fn deliver(&mut self, to: &[&str], message: &[u8]) -> io::Result<Vec<u16>> {
        let mut group = b"MAIL FROM:<sender@elsewhere.example>\r\n".to_vec();
        for name in to {
            group.extend_from_slice(format!("RCPT TO:<{name}@{DOMAIN}>\r\n").as_bytes());
        }
        group.extend_from_slice(b"DATA\r\n");
        self.wire.try_send(&group)?;
        for _ in 0..=to.len() {
            expect(&mut self.wire, 250)?;
        }
        expect(&mut self.wire, 354)?;
        let mut content = Vec::with_capacity(message.len() + 64);
        for line in message.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                content.push(b'.');
            }
            content.extend_from_slice(line);
        }
        content.extend_from_slice(b".\r\n");
        self.wire.try_send(&content)?;
        let replies = if self.lmtp { to.len() } else { 1 };
        (0..replies).map(|_| reply(&mut self.wire)).collect()
    }
}

fn expect(wire: &mut Wire, code: u16) -> io::Result<()> {
    let got = reply(wire)?;
    if got == code { Ok(()) } else { Err(io::Error::other(format!("{got} instead of {code}"))) }
}

/// The code of a reply of any number of lines.
fn reply(wire: &mut Wire) -> io::Result<u16> {
    loop {
        let line = String::from_utf8_lossy(&wire.try_line()?).into_owned();
        if line.as_bytes().get(3) != Some(&b'-') {
            let code = line.get(..3).and_then(|code| code.parse().ok());
            return code.ok_or_else(|| io::Error::other(format!("not a reply: {line}")));
        }
    }
}
