//! A client that looks into an INBOX.

use std::{io, thread, time::Duration};

use crate::{DOMAIN, Door, PASSWORD, Server, Wire};

/// A POP3 session behind login.
#[derive(Debug)]
pub struct Pop3 {
    /// The connection.
    pub wire: Wire,
}

impl Pop3 {
    /// Logs in; the lock of a session that was just lost may take a moment to go.
    pub fn login(server: &Server, name: &str) -> Self {
        for _ in 0..200 {
            let mut pop3 = Self { wire: server.connect(Door::Pop3) };
            pop3.answer().expect("a greeting");
            pop3.say(&format!("USER {name}@{DOMAIN}"));
            pop3.wire.send(format!("PASS {PASSWORD}\r\n").as_bytes());
            match pop3.answer() {
                Ok(_) => return pop3,
                Err(error) => assert!(error.to_string().contains("[IN-USE]"), "{error}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
        unreachable!("the maildrop of {name} stays locked")
    }

    fn answer(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.wire.try_line()?).into_owned();
        if line.starts_with("+OK") { Ok(line) } else { Err(io::Error::other(line)) }
    }

    /// A command that goes well; its answer.
    pub fn say(&mut self, command: &str) -> String {
        self.wire.send(format!("{command}\r\n").as_bytes());
        self.answer().unwrap_or_else(|error| unreachable!("{command}: {error}"))
    }

    /// A command with an answer of many lines; those behind the first, unstuffed, with their CRLF.
    pub fn lines(&mut self, command: &str) -> Vec<u8> {
        self.say(command);
        let mut all = Vec::new();
        loop {
            let line = self.wire.try_line().expect("a line");
            if line == b"." {
                return all;
            }
            all.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            all.extend_from_slice(b"\r\n");
        }
    }

    /// Every message, as it is stored, in the order of arrival.
    pub fn messages(&mut self) -> Vec<Vec<u8>> {
        let stat = self.say("STAT");
        let count: usize = stat.split(' ').nth(1).and_then(|count| count.parse().ok()).expect("a count");
        (1..=count).map(|number| self.lines(&format!("RETR {number}"))).collect()
    }

    /// Every message of an account; leaves them where they are.
    pub fn inbox(server: &Server, name: &str) -> Vec<Vec<u8>> {
        let mut pop3 = Self::login(server, name);
        let messages = pop3.messages();
        pop3.say("QUIT");
        messages
    }
}
