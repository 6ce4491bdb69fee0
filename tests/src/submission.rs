//! A user who sends, and what waits in the queue.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use serde_json::Value;

use crate::{DOMAIN, Door, PASSWORD, Server, Wire};

/// A logged-in submission of `ada`.
#[derive(Debug)]
pub struct Submission {
    wire: Wire,
}

impl Submission {
    /// Connects and logs in.
    pub fn open(server: &Server, door: Door) -> Self {
        let mut submission = Self { wire: server.connect(door) };
        submission.reply();
        submission.say("EHLO client.example");
        let login = format!("\0ada@{DOMAIN}\0{PASSWORD}");
        let answer = submission.say(&format!("AUTH PLAIN {}", BASE64.encode(login)));
        assert!(answer.starts_with("235"), "{answer}");
        submission
    }

    fn reply(&mut self) -> String {
        loop {
            let line = self.wire.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Says a line and gives the last line of the reply.
    pub fn say(&mut self, line: &str) -> String {
        self.wire.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a message. `parameters`: of MAIL.
    pub fn send(&mut self, to: &[&str], parameters: &str, content: &str) {
        let answer = self.say(format!("MAIL FROM:<ada@{DOMAIN}> {parameters}").trim_end());
        assert!(answer.starts_with("250"), "{answer}");
        for address in to {
            let answer = self.say(&format!("RCPT TO:<{address}>"));
            assert!(answer.starts_with("250"), "{address}: {answer}");
        }
        assert!(self.say("DATA").starts_with("354"));
        let answer = self.say(&format!("{content}\r\n."));
        assert!(answer.starts_with("250"), "{answer}");
    }
}

/// What waits in the queue of a server.
pub fn queue(server: &Server) -> Vec<Value> {
    let printed = server.rockdove(&["queue", "list", "--json"], "").ok();
    serde_json::from_str::<Value>(&printed).expect("JSON").as_array().expect("a list").clone()
}

/// The last reply to each recipient that waits: address and reply.
pub fn replies(server: &Server) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for message in queue(server) {
        for task in message["tasks"].as_array().into_iter().flatten() {
            for recipient in task["recipients"].as_array().into_iter().flatten() {
                found.push((text(&recipient["address"]), text(&recipient["reply"])));
            }
        }
    }
    found.sort();
    found
}
