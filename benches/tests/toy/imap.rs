//! IMAP. Every mailbox is the INBOX of the one who logged in; the UID of a message is its number.

use std::rc::Rc;

use rockdove_benches::{failure::Result, imap::literal_after, link::Link};

use super::{PASSWORD, Toy, line};

pub(super) async fn serve(toy: Rc<Toy>, mut link: Link, tls: bool) -> Result<()> {
    if tls {
        link.accept_tls(Rc::clone(&toy).tls.clone()).await?;
    }
    // The text must not be taken for the announcement of a literal.
    link.send(b"* OK toy {5}\r\n").await?;
    let mut user = String::new();
    loop {
        let command = line(&mut link).await?;
        let mut words = command.splitn(3, ' ');
        let (tag, verb, rest) = (
            words.next().unwrap_or_default().to_owned(),
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let exists = toy.messages(&user).len();
        match verb {
            "STARTTLS" => {
                link.send(format!("{tag} OK go\r\n").as_bytes()).await?;
                link.accept_tls(Rc::clone(&toy).tls.clone()).await?;
                continue;
            }
            "LOGIN" if rest.ends_with(&format!(" \"{PASSWORD}\"")) => {
                rest.split('"').nth(1).unwrap_or_default().clone_into(&mut user);
            }
            "LOGIN" => {
                link.send(format!("{tag} NO wrong password\r\n").as_bytes()).await?;
                continue;
            }
            "SELECT" => {
                let next = exists + 1;
                link.send(format!("* {exists} EXISTS\r\n* OK [UIDNEXT {next}] next\r\n").as_bytes()).await?;
            }
            "APPEND" => append(&toy, &mut link, &user, rest).await?,
            "FETCH" | "UID" => fetch(&toy, &mut link, &user, rest).await?,
            "SEARCH" => link.send(b"* SEARCH 1 2\r\n").await?,
            "IDLE" => {
                idle(&toy, &mut link, &user).await?;
                continue;
            }
            "LOGOUT" => return link.send(format!("* BYE\r\n{tag} OK bye\r\n").as_bytes()).await,
            _ => {
                link.send(format!("{tag} BAD what?\r\n").as_bytes()).await?;
                continue;
            }
        }
        link.send(format!("{tag} OK done\r\n").as_bytes()).await?;
    }
}

async fn append(toy: &Toy, link: &mut Link, user: &str, rest: &str) -> Result<()> {
    let count = literal_after(format!("{rest}\r\n").as_bytes()).expect("a literal");
    if !rest.ends_with("+}") {
        link.send(b"+ go\r\n").await?;
    }
    let mut message = Vec::new();
    link.octets(count, &mut message).await?;
    assert_eq!(line(link).await?, "", "the command ends after the literal");
    toy.keep(user, message);
    Ok(())
}

/// All messages from the first number in the command on. The line after a literal looks like its announcement, but for
/// what stands before.
async fn fetch(toy: &Toy, link: &mut Link, user: &str, rest: &str) -> Result<()> {
    let digits: String = rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let first: usize = digits.parse().unwrap_or(1);
    for (index, message) in toy.messages(user).iter().enumerate().skip(first - 1) {
        let mut response = format!("* {} FETCH (", index + 1).into_bytes();
        if rest.contains("BODY.PEEK[]") {
            response.extend_from_slice(format!("BODY[] {{{}}}\r\n", message.len()).as_bytes());
            response.extend_from_slice(message);
        } else {
            response.extend_from_slice(b"FLAGS ()");
        }
        response.extend_from_slice(b")\r\n");
        link.send(&response).await?;
    }
    Ok(())
}

async fn idle(toy: &Toy, link: &mut Link, user: &str) -> Result<()> {
    let mut arrived = toy.arrived.subscribe();
    link.send(b"+ idling\r\n* OK still here\r\n").await?;
    let mut known = toy.messages(user).len();
    loop {
        if arrived.changed().await.is_err() {
            return Ok(());
        }
        let exists = toy.messages(user).len();
        if exists > known {
            link.send(format!("* {exists} EXISTS\r\n* 1 RECENT\r\n").as_bytes()).await?;
            known = exists;
        }
    }
}
