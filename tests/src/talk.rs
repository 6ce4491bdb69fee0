//! An SMTP conversation, line by line.

use crate::{DOMAIN, Door, PASSWORD, Server, Wire};

/// The conversation.
#[derive(Debug)]
pub struct Talk {
    /// The connection.
    pub wire: Wire,
}

impl Talk {
    /// As another mail server that has said hello.
    pub fn as_stranger(server: &Server, door: Door) -> Self {
        let mut talk = Self { wire: server.connect(door) };
        talk.reply();
        talk.say(if door == Door::Lmtp { "LHLO elsewhere.example" } else { "EHLO elsewhere.example" });
        talk
    }

    /// At the submission door, logged in.
    pub fn as_user(server: &Server, name: &str) -> Self {
        let mut talk = Self { wire: server.connect(Door::Submission) };
        talk.reply();
        talk.say("EHLO client.example");
        let login = format!("\0{name}@{DOMAIN}\0{PASSWORD}");
        let answer = talk.say(&format!("AUTH PLAIN {}", base64(login.as_bytes())));
        assert!(answer.starts_with("235"), "{answer}");
        talk
    }

    /// At the submission door, logged in as `ada`.
    pub fn as_ada(server: &Server) -> Self {
        Self::as_user(server, "ada")
    }

    /// The last line of a reply.
    pub fn reply(&mut self) -> String {
        loop {
            let line = self.wire.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// A line, and the last line of the reply.
    pub fn say(&mut self, line: &str) -> String {
        self.wire.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Offers a message whose recipients are all good; what is said to its content.
    pub fn offer(&mut self, from: &str, to: &[&str], content: &str) -> String {
        assert!(self.say(&format!("MAIL FROM:<{from}>")).starts_with("250"));
        for address in to {
            let answer = self.say(&format!("RCPT TO:<{address}>"));
            assert!(answer.starts_with("250"), "{address}: {answer}");
        }
        assert!(self.say("DATA").starts_with("354"));
        self.say(&format!("{content}\r\n."))
    }

    /// Sends a message of `ada`, which is taken.
    pub fn send(&mut self, to: &[&str], content: &str) {
        let answer = self.offer(&format!("ada@{DOMAIN}"), to, content);
        assert!(answer.starts_with("250"), "{answer}");
    }
}

fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[usize::try_from(bits & 63).expect("small")]);
    let mut text = String::new();
    for piece in octets.chunks(3) {
        let bits = piece.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - piece.len()));
        for place in 0..4 {
            text.push(if place <= piece.len() { letter(bits >> (18 - 6 * place)) } else { '=' });
        }
    }
    text
}
