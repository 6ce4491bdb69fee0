//! Another mail server, as good or as bad as a test wants it.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustls::{ServerConnection, StreamOwned};

use crate::Identity;

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
    /// It came over TLS.
    pub tls: bool,
    /// What stood behind the reverse-path.
    pub parameters: String,
}

/// How it meets its clients.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Who it is; without one it does not offer STARTTLS.
    pub identity: Option<Identity>,
    /// It offers REQUIRETLS over TLS.
    pub require_tls: bool,
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
        let address = "127.0.0.1:0".parse().expect("an address");
        Self::meet(address, Manner::default(), on_recipient, on_end)
    }

    /// One that takes everything, there and in this manner. Port 0 for any.
    pub fn at(address: SocketAddr, manner: Manner) -> Self {
        Self::meet(address, manner, |_, _| "250 2.1.5 ok", |_| End::Say("250 2.0.0 taken"))
    }

    fn meet(address: SocketAddr, manner: Manner, on_recipient: OnRecipient, on_end: OnEnd) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| unreachable!("{address}: {error}"));
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is no news here.
                let manner = manner.clone();
                thread::spawn(move || {
                    Conversation::new(stream, manner).serve(&state, on_recipient, on_end).unwrap_or_default();
                });
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

/// What is between a client and us.
enum Line {
    Clear(BufReader<TcpStream>),
    Tls(Box<BufReader<StreamOwned<ServerConnection, TcpStream>>>),
}

struct Conversation {
    /// `None` only while TLS begins.
    line: Option<Line>,
    manner: Manner,
}

impl Conversation {
    fn new(stream: TcpStream, manner: Manner) -> Self {
        Self { line: Some(Line::Clear(BufReader::new(stream))), manner }
    }

    fn is_tls(&self) -> bool {
        matches!(self.line, Some(Line::Tls(_)))
    }

    fn reader(&mut self) -> std::io::Result<&mut dyn BufRead> {
        match &mut self.line {
            Some(Line::Clear(line)) => Ok(line),
            Some(Line::Tls(line)) => Ok(line),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        let octets = format!("{text}\r\n");
        match &mut self.line {
            Some(Line::Clear(line)) => line.get_mut().write_all(octets.as_bytes()),
            Some(Line::Tls(line)) => {
                line.get_mut().write_all(octets.as_bytes())?;
                line.get_mut().flush()
            }
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    fn hello(&mut self) -> std::io::Result<()> {
        let mut offers = String::from("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n");
        if self.manner.identity.is_some() && !self.is_tls() {
            offers += "250-STARTTLS\r\n";
        }
        if self.manner.require_tls && self.is_tls() {
            offers += "250-REQUIRETLS\r\n";
        }
        self.say(&(offers + "250 SIZE 10000000"))
    }

    fn start_tls(&mut self) -> std::io::Result<()> {
        let Some(identity) = self.manner.identity.clone() else { return self.say("502 5.5.1 no") };
        self.say("220 2.0.0 go on")?;
        let Some(Line::Clear(line)) = self.line.take() else { return Ok(()) };
        let connection = ServerConnection::new(identity.server()).map_err(std::io::Error::other)?;
        self.line = Some(Line::Tls(Box::new(BufReader::new(StreamOwned::new(connection, line.into_inner())))));
        Ok(())
    }

    fn serve(mut self, state: &Mutex<State>, on_recipient: OnRecipient, on_end: OnEnd) -> std::io::Result<()> {
        self.say("220 sink.example ESMTP")?;
        let (mut from, mut to, mut parameters) = (String::new(), Vec::new(), String::new());
        loop {
            let mut line = String::new();
            if self.reader()?.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
            let (path, rest) = path.map_or((String::new(), ""), |(path, rest)| (path.to_owned(), rest.trim()));
            match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
                "EHLO" => self.hello()?,
                "STAR" => self.start_tls()?,
                "MAIL" => {
                    (from, to, parameters) = (path, Vec::new(), rest.to_owned());
                    self.say("250 2.1.0 ok")?;
                }
                "RCPT" => {
                    let answer = on_recipient(&path, asked_before(state, &path));
                    if answer.starts_with('2') {
                        to.push(path);
                    }
                    self.say(answer)?;
                }
                "DATA" if to.is_empty() => self.say("554 5.5.1 nobody")?,
                "DATA" => {
                    self.say("354 go on")?;
                    let content = read_content(self.reader()?)?;
                    let (tls, parameters) = (self.is_tls(), parameters.clone());
                    let received = Received { from: from.clone(), to: to.clone(), content, tls, parameters };
                    let before = {
                        let mut state = locked(state);
                        state.received.push(received);
                        state.received.len() - 1
                    };
                    match on_end(before) {
                        End::Say(text) => self.say(text)?,
                        End::HangUp => return Ok(()),
                        End::Silence => thread::sleep(WAIT),
                    }
                }
                "RSET" => self.say("250 2.0.0 ok")?,
                "QUIT" => return self.say("221 2.0.0 bye"),
                _ => self.say("500 5.5.1 what?")?,
            }
        }
    }
}

/// How many times a recipient was asked for before.
fn asked_before(state: &Mutex<State>, address: &str) -> usize {
    let mut state = locked(state);
    state.recipients.push(address.to_owned());
    state.recipients.iter().filter(|asked| *asked == address).count() - 1
}

fn read_content(lines: &mut dyn BufRead) -> std::io::Result<Vec<u8>> {
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
