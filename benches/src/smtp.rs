//! The client side of SMTP (RFC 5321) and LMTP (RFC 2033), as far as a load generator needs it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    failure::{LoadError, Result},
    link::Link,
    login::Login,
    target::{Target, TlsMode},
};

/// Lines of one reply; EHLO of the largest servers has about thirty.
const REPLY_LINES_MAX: usize = 1_000;

/// How a message is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transfer {
    /// One command at a time.
    Stepwise,
    /// MAIL, RCPT and DATA together (PIPELINING, RFC 2920).
    #[default]
    Pipelined,
    /// MAIL, RCPT and the message together (CHUNKING, RFC 3030).
    Chunked,
}

/// A reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code.
    pub code: u16,
    /// All lines, without their line ends.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// RFC 5321 section 4.2.1: the command was carried out (2yz) or may go on (3yz).
    pub fn good(&self) -> bool {
        (200..400).contains(&self.code)
    }

    fn said(&self) -> Vec<u8> {
        self.lines.join(&b"\n"[..])
    }
}

/// Code and whether more lines follow, of one line of a reply.
///
/// # Errors
/// When the line is none of a reply (RFC 5321 section 4.2).
pub fn reply_line(line: &[u8]) -> Result<(u16, bool)> {
    let broken = || LoadError::broken("a reply", line);
    let (code, rest) = line.split_at_checked(3).ok_or_else(broken)?;
    if !code.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&code[0]) {
        return Err(broken());
    }
    let more = match rest.first() {
        Some(b'-') => true,
        Some(b' ') | None => false,
        Some(_) => return Err(broken()),
    };
    Ok((code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')), more))
}

/// A session after its greeting.
pub struct Smtp {
    link: Link,
    lmtp: bool,
    extensions: Vec<Vec<u8>>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Every recipient has it.
    Accepted,
    /// The server did not take it for some.
    Refused {
        /// For how many: all of them with SMTP.
        recipients: usize,
        /// The server's words.
        said: String,
    },
}

impl Smtp {
    /// Connects, greets, begins TLS and logs in as wanted.
    ///
    /// # Errors
    /// When the server refuses any of it.
    pub async fn open(target: &Target, lmtp: bool, login: Option<&Login>, number: usize) -> Result<Self> {
        let link = Link::connect(target, number).await?;
        let mut smtp = Self { link, lmtp, extensions: Vec::new() };
        smtp.expect("the connection").await?;
        smtp.hello().await?;
        if target.tls == TlsMode::Starttls {
            smtp.command(b"STARTTLS\r\n").await?;
            smtp.link.start_tls(target).await?;
            smtp.hello().await?;
        }
        if let Some(login) = login {
            let credentials = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
            smtp.link.send(format!("AUTH PLAIN {credentials}\r\n").as_bytes()).await?;
            smtp.expect(&format!("AUTH PLAIN as {}", login.user)).await?;
        }
        Ok(smtp)
    }

    async fn hello(&mut self) -> Result<()> {
        let hello: &[u8] = if self.lmtp { b"LHLO load.example\r\n" } else { b"EHLO load.example\r\n" };
        let reply = self.command(hello).await?;
        self.extensions = reply.lines.iter().skip(1).filter_map(|line| line.get(4..)).map(<[u8]>::to_vec).collect();
        Ok(())
    }

    /// Whether the server offers an extension.
    pub fn offers(&self, extension: &str) -> bool {
        let first = |line: &[u8]| line.split(|&octet| octet == b' ').next().unwrap_or_default().to_ascii_uppercase();
        self.extensions.iter().any(|line| first(line) == extension.as_bytes())
    }

    async fn reply(&mut self) -> Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            self.link.line(&mut line).await?;
            line.truncate(line.trim_ascii_end().len());
            let (code, more) = reply_line(&line)?;
            lines.push(line);
            if !more {
                return Ok(Reply { code, lines });
            }
            if lines.len() > REPLY_LINES_MAX {
                return Err(LoadError::Broken("a reply without an end".into()));
            }
        }
    }

    async fn expect(&mut self, asked: &str) -> Result<Reply> {
        let reply = self.reply().await?;
        if reply.good() { Ok(reply) } else { Err(LoadError::refused(asked, &reply.said())) }
    }

    async fn command(&mut self, line: &[u8]) -> Result<Reply> {
        self.link.send(line).await?;
        self.expect(String::from_utf8_lossy(line).trim_end()).await
    }

    /// Hands over a message. A refusal of the message is told; a refusal of a command is an error.
    ///
    /// # Errors
    /// When the server refuses a command, lacks what `transfer` needs, or the connection breaks.
    pub async fn deliver(
        &mut self,
        reverse_path: &str,
        recipients: &[&str],
        message: &[u8],
        transfer: Transfer,
    ) -> Result<Delivery> {
        let needed = match transfer {
            Transfer::Stepwise => None,
            Transfer::Pipelined => Some("PIPELINING"),
            Transfer::Chunked => Some("CHUNKING"),
        };
        if let Some(extension) = needed.filter(|extension| !self.offers(extension)) {
            return Err(LoadError::Usage(format!("the server does not offer {extension}; choose another --transfer")));
        }
        let body = if self.offers("8BITMIME") && !message.is_ascii() { " BODY=8BITMIME" } else { "" };
        let mut commands = vec![format!("MAIL FROM:<{reverse_path}>{body}\r\n")];
        commands.extend(recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n")));
        match transfer {
            Transfer::Stepwise => {
                commands.push("DATA\r\n".into());
                for command in &commands {
                    self.command(command.as_bytes()).await?;
                }
                self.link.send(&stuffed(message)).await?;
            }
            Transfer::Pipelined => {
                commands.push("DATA\r\n".into());
                self.link.send(commands.concat().as_bytes()).await?;
                self.expect_all(&commands).await?;
                self.link.send(&stuffed(message)).await?;
            }
            Transfer::Chunked => {
                let mut octets = commands.concat().into_bytes();
                octets.extend_from_slice(format!("BDAT {} LAST\r\n", message.len()).as_bytes());
                octets.extend_from_slice(message);
                self.link.send(&octets).await?;
                self.expect_all(&commands).await?;
            }
        }
        self.outcome(recipients.len()).await
    }

    async fn expect_all(&mut self, commands: &[String]) -> Result<()> {
        for command in commands {
            self.expect(command.trim_end()).await?;
        }
        Ok(())
    }

    /// One reply for the message with SMTP, one for each recipient with LMTP (RFC 2033 section 4.2).
    async fn outcome(&mut self, recipients: usize) -> Result<Delivery> {
        let (replies, each) = if self.lmtp { (recipients, 1) } else { (1, recipients) };
        let mut outcome = Delivery::Accepted;
        let mut refused = 0;
        for _ in 0..replies {
            let reply = self.reply().await?;
            if !reply.good() {
                refused += each;
                let said = String::from_utf8_lossy(&reply.said()).into_owned();
                outcome = Delivery::Refused { recipients: refused, said };
            }
        }
        Ok(outcome)
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the connection breaks before the server's goodbye.
    pub async fn quit(mut self) -> Result<()> {
        self.command(b"QUIT\r\n").await.map(drop)
    }
}

/// The message with its dots doubled and its end (RFC 5321 section 4.5.2). It gets a last CRLF when it has none.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 64 + 5);
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_lines_are_read() {
        for (line, want) in [
            (&b"250 OK"[..], Some((250, false))),
            (b"250-SIZE 1", Some((250, true))),
            (b"354", Some((354, false))),
            (b"550 5.1.1 no", Some((550, false))),
            (b"25", None),
            (b"2500 x", None),
            (b"650 x", None),
            (b"abc x", None),
            (b"", None),
        ] {
            assert_eq!(reply_line(line).ok(), want, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn dots_are_doubled() {
        for (message, want) in [
            (&b"a\r\n"[..], &b"a\r\n.\r\n"[..]),
            (b".a\r\n..\r\nb.\r\n", b"..a\r\n...\r\nb.\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"", b".\r\n"),
        ] {
            assert_eq!(stuffed(message), want);
        }
    }
}
