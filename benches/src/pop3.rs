//! The client side of POP3 (RFC 1939), as far as a load generator needs it.

use crate::{
    failure::{LoadError, Result},
    imap::quoted,
    link::Link,
    login::Login,
    target::{Target, TlsMode},
};

/// A session in the transaction state.
pub struct Pop3 {
    link: Link,
}

impl Pop3 {
    /// Connects, begins TLS as wanted and logs in.
    ///
    /// # Errors
    /// When the server refuses any of it.
    pub async fn open(target: &Target, login: &Login, number: usize) -> Result<Self> {
        let mut pop3 = Self { link: Link::connect(target, number).await? };
        pop3.expect("the connection").await?;
        if target.tls == TlsMode::Starttls {
            pop3.command("STLS").await?;
            pop3.link.start_tls(target).await?;
        }
        // Only to keep line ends out of the commands; POP3 itself does not quote.
        quoted(&login.user)?;
        quoted(&login.password)?;
        pop3.command(&format!("USER {}", login.user)).await?;
        pop3.link.send(format!("PASS {}\r\n", login.password).as_bytes()).await?;
        pop3.expect(&format!("PASS of {}", login.user)).await?;
        Ok(pop3)
    }

    async fn expect(&mut self, asked: &str) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.link.line(&mut line).await?;
        if line.starts_with(b"+OK") {
            Ok(line)
        } else if line.starts_with(b"-ERR") {
            Err(LoadError::refused(asked, &line))
        } else {
            Err(LoadError::broken("a reply", &line))
        }
    }

    async fn command(&mut self, command: &str) -> Result<Vec<u8>> {
        self.link.send(format!("{command}\r\n").as_bytes()).await?;
        self.expect(command).await
    }

    /// Messages and octets of the maildrop.
    ///
    /// # Errors
    /// When the server does not tell.
    pub async fn stat(&mut self) -> Result<(u32, u64)> {
        let reply = self.command("STAT").await?;
        stat_reply(&reply).ok_or_else(|| LoadError::broken("the reply to STAT", &reply))
    }

    /// Asks for messages without waiting for any.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn ask(&mut self, numbers: impl Iterator<Item = u32>) -> Result<()> {
        let commands: Vec<String> = numbers.map(|number| format!("RETR {number}\r\n")).collect();
        self.link.send(commands.concat().as_bytes()).await
    }

    /// Reads the answer to one RETR into `message` (RFC 1939 section 3: dots undone).
    ///
    /// # Errors
    /// When there is no such message.
    pub async fn retrieved(&mut self, number: u32, message: &mut Vec<u8>) -> Result<()> {
        message.clear();
        self.expect(&format!("RETR {number}")).await?;
        loop {
            let start = message.len();
            self.link.line(message).await?;
            if message.get(start) == Some(&b'.') {
                if message.get(start..) == Some(b".\r\n") {
                    message.truncate(start);
                    return Ok(());
                }
                message.remove(start);
            }
        }
    }

    /// Says goodbye; nothing was marked, so nothing is deleted.
    ///
    /// # Errors
    /// When the server does not say goodbye.
    pub async fn quit(mut self) -> Result<()> {
        self.command("QUIT").await.map(drop)
    }
}

fn stat_reply(reply: &[u8]) -> Option<(u32, u64)> {
    let mut words = std::str::from_utf8(reply).ok()?.split_ascii_whitespace().skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read() {
        assert_eq!(stat_reply(b"+OK 2 320\r\n"), Some((2, 320)));
        assert_eq!(stat_reply(b"+OK 2\r\n"), None);
        assert_eq!(stat_reply(b"+OK two messages\r\n"), None);
    }
}
