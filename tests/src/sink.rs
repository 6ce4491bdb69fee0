//! Another mail server, as good or as bad as a test wants it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a message may take to come. Only a hung server takes this long.
const WAIT: Duration = Duration::from_mins(1);

/// A message that came in whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The reverse-path.
    pub from: String,
    /// Recipients that were accepted.
    pub to: Vec<String>,
    /// The content, with dots unstuffed.
    pub content: Vec<u8>,
}

/// What happens behind the end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This is said.
    Say(&'static str),
    /// The connection is closed without a word.
    HangUp,
    /// Nothing is said for a long time.
    Silence,
}

/// What a recipient is answered, by its address and how many times it was asked for before.
pub type OnRecipient = fn(&str, usize) -> &'static str;
/// What happens behind the end of a message, by how many came before.
pub type OnEnd = fn(usize) -> End;

/// The server. It lives as long as the test.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    recipients: Vec<String>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// One that takes everything.
    pub fn start() -> Self {
        Self::with(|_, _| "250 2.1.5 ok", |_| End::Say("250 2.0.0 taken"))
    }

    /// One that answers so.
    pub fn with(on_recipient: OnRecipient, on_end: OnEnd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is no news here.
                thread::spawn(move || serve(stream, &state, on_recipient, on_end).unwrap_or_default());
            }
        });
        Self { address, state }
    }

    /// What has come in so far.
    pub fn received(&self) -> Vec<Received> {
        locked(&self.state).received.clone()
    }

    /// Waits until so many messages have come in, and gives them.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let end = Instant::now() + WAIT;
        loop {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            assert!(Instant::now() < end, "{count} messages wanted, {} came", received.len());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, on_recipient: OnRecipient, on_end: OnEnd) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes());
    say("220 sink.example ESMTP")?;
    let (mut from, mut to) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned());
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => say("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 10000000")?,
            "MAIL" => {
                (from, to) = (path.unwrap_or_default(), Vec::new());
                say("250 2.1.0 ok")?;
            }
            "RCPT" => {
                let address = path.unwrap_or_default();
                let before = {
                    let mut state = locked(state);
                    state.recipients.push(address.clone());
                    state.recipients.iter().filter(|asked| **asked == address).count() - 1
                };
                let answer = on_recipient(&address, before);
                if answer.starts_with('2') {
                    to.push(address);
                }
                say(answer)?;
            }
            "DATA" if to.is_empty() => say("554 5.5.1 nobody")?,
            "DATA" => {
                say("354 go on")?;
                let content = read_content(&mut lines)?;
                let before = {
                    let mut state = locked(state);
                    state.received.push(Received { from: from.clone(), to: to.clone(), content });
                    state.received.len() - 1
                };
                match on_end(before) {
                    End::Say(text) => say(text)?,
                    End::HangUp => return Ok(()),
                    End::Silence => thread::sleep(WAIT),
                }
            }
            "RSET" => say("250 2.0.0 ok")?,
            "QUIT" => return say("221 2.0.0 bye"),
            _ => say("500 5.5.1 what?")?,
        }
    }
}

fn read_content(lines: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
