//! SMTP and LMTP.

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rockdove_benches::{failure::Result, link::Link};

use super::{PASSWORD, Toy, line};

pub(super) async fn serve(toy: Rc<Toy>, mut link: Link, lmtp: bool) -> Result<()> {
    link.send(b"220 toy\r\n").await?;
    let mut recipients: Vec<String> = Vec::new();
    loop {
        let command = line(&mut link).await?;
        let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
        let reply = match verb {
            "EHLO" | "LHLO" if (verb == "LHLO") == lmtp => {
                "250-toy\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n".to_owned()
            }
            "STARTTLS" => {
                link.send(b"220 go\r\n").await?;
                link.accept_tls(Rc::clone(&toy).tls.clone()).await?;
                continue;
            }
            "AUTH" => auth(rest).to_owned(),
            "MAIL" => "250 ok\r\n".to_owned(),
            "RCPT" if rest.contains("<nobody@x>") => "550 5.1.1 nobody here\r\n".to_owned(),
            "RCPT" => {
                recipients.push(rest.trim_start_matches("TO:<").trim_end_matches('>').to_owned());
                "250 ok\r\n".to_owned()
            }
            "DATA" => {
                link.send(b"354 go\r\n").await?;
                let message = data(&mut link).await?;
                accept(&toy, &mut recipients, &message, lmtp)
            }
            "BDAT" => {
                let count = rest.trim_end_matches(" LAST").parse().expect("a count");
                let mut message = Vec::new();
                link.octets(count, &mut message).await?;
                accept(&toy, &mut recipients, &message, lmtp)
            }
            "QUIT" => return link.send(b"221 bye\r\n").await,
            _ => "500 what?\r\n".to_owned(),
        };
        link.send(reply.as_bytes()).await?;
    }
}

fn auth(rest: &str) -> &'static str {
    let response = rest.strip_prefix("PLAIN ").and_then(|encoded| STANDARD.decode(encoded).ok());
    let right = response.is_some_and(|clear| clear.ends_with(format!("\0{PASSWORD}").as_bytes()));
    if right { "235 ok\r\n" } else { "535 5.7.8 no\r\n" }
}

async fn data(link: &mut Link) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let start = message.len();
        link.line(&mut message).await?;
        if message[start..] == *b".\r\n" {
            message.truncate(start);
            return Ok(message);
        }
        if message[start] == b'.' {
            message.remove(start);
        }
    }
}

fn accept(toy: &Toy, recipients: &mut Vec<String>, message: &[u8], lmtp: bool) -> String {
    let replies = if lmtp { recipients.len() } else { 1 };
    if message.windows(6).any(|window| window == b"REFUSE") {
        recipients.clear();
        return "554 5.6.0 I do not like it\r\n".repeat(replies);
    }
    for recipient in recipients.drain(..) {
        toy.deliver(&recipient, message);
    }
    "250 kept\r\n".repeat(replies)
}
