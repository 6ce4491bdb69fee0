//! POP3.

use std::rc::Rc;

use rockdove_benches::{failure::Result, link::Link, smtp::stuffed};

use super::{PASSWORD, Toy, line};

pub(super) async fn serve(toy: Rc<Toy>, mut link: Link) -> Result<()> {
    link.send(b"+OK toy\r\n").await?;
    let mut user = String::new();
    loop {
        let command = line(&mut link).await?;
        let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
        let messages = toy.messages(&user);
        let reply = match verb {
            "STLS" => {
                link.send(b"+OK go\r\n").await?;
                link.accept_tls(Rc::clone(&toy).tls.clone()).await?;
                continue;
            }
            "USER" => {
                rest.clone_into(&mut user);
                b"+OK\r\n".to_vec()
            }
            "PASS" if rest == PASSWORD => b"+OK\r\n".to_vec(),
            "STAT" => {
                format!("+OK {} {}\r\n", messages.len(), messages.iter().map(Vec::len).sum::<usize>()).into_bytes()
            }
            "RETR" => match rest.parse().ok().and_then(|number: usize| messages.get(number - 1)) {
                Some(message) => [b"+OK\r\n", stuffed(message).as_slice()].concat(),
                None => b"-ERR no such message\r\n".to_vec(),
            },
            "QUIT" => return link.send(b"+OK bye\r\n").await,
            _ => b"-ERR what?\r\n".to_vec(),
        };
        link.send(&reply).await?;
    }
}
