//! A crowd on shared mailboxes for as long as you like, then `fsck`:
//! `cargo run -p rockdove-tests --example stress -- CLIENTS SECONDS [epoll]`.

use std::{env, error::Error, io::Write as _, time::Duration};

use rockdove_tests::{Door, Io, Server, Setup, Until, crowd};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [clients, seconds, rest @ ..] = &words[..] else { return Err("say: stress CLIENTS SECONDS [epoll]".into()) };
    let io = if rest.first().is_some_and(|io| io == "epoll") { Io::Epoll } else { Io::IoUring };
    let setup = Setup::new(io, &[Door::Imap]).with("limits", "connections_per_address = 10000");
    let server = Server::start(setup);
    let lived = crowd(&server, clients.parse()?, Until::Time(Duration::from_secs(seconds.parse()?)));
    server.fsck();
    writeln!(std::io::stdout(), "{lived:?}; fsck found nothing")?;
    Ok(())
}
