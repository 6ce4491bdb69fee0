//! The conversation: commands on their way, and who is answered by what.

use std::{
    collections::{HashSet, VecDeque},
    fmt, mem,
};

use bytes::Bytes;
use rockdove_mail::{
    sasl::{decode_line, encode_line},
    sasl_client::{ClientExchange, SaslClientError},
};

use super::{
    reader::Reader,
    response::{self, Code, Response, Untagged},
};

/// Names a command, so that its end finds it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was refused or failed.
    No,
    /// The server did not understand it or does not allow it now.
    Bad,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which command.
    pub tag: Tag,
    /// How it ended.
    pub outcome: Outcome,
    /// The response code.
    pub code: Option<Code>,
    /// For people.
    pub text: String,
}

/// What the server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Whether there is nothing to be logged in for: `PREAUTH`.
    pub authenticated: bool,
    /// Whether the server will not talk to us: `BYE`.
    pub refused: bool,
    /// For people.
    pub text: String,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server has greeted.
    Greeting(Greeting),
    /// It has told something.
    Untagged(Untagged),
    /// A command has come to its end.
    Done(Done),
}

/// Why a conversation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// What came is no response of IMAP; its beginning.
    NotImap(String),
    /// A response is too long.
    TooLong,
    /// An exchange of SASL has failed in a way that the server must not get past.
    Sasl(SaslClientError),
    /// The server ended a command that was not sent.
    UnknownTag(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotImap(line) => write!(f, "the server does not speak IMAP: {line:?}"),
            Self::TooLong => f.write_str("a response of the server is too long"),
            Self::Sasl(error) => error.fmt(f),
            Self::UnknownTag(tag) => write!(f, "the server answers a command that it was not given: {tag:?}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Octets of a line that is no IMAP which are repeated to people.
const SHOWN_OCTETS_MAX: usize = 200;

/// The client's side of one connection.
pub struct ImapClient {
    reader: Reader,
    received: Bytes,
    greeted: bool,
    last_tag: u64,
    running: VecDeque<Running>,
    waiting: VecDeque<Part>,
    permitted: bool,
    pub(super) capabilities: HashSet<String>,
}

struct Running {
    tag: Tag,
    exchange: Option<ClientExchange>,
}

/// A part of a command.
struct Part {
    tag: Tag,
    octets: Bytes,
    /// Whether the server has to ask for it.
    asked_for: bool,
}

impl ImapClient {
    /// A client that has not heard the greeting. Literals of more than `literal_octets_max` octets are passed over
    /// ([`Body::TooLarge`](super::Body::TooLarge)).
    pub fn new(literal_octets_max: u64) -> Self {
        Self {
            reader: Reader::new(literal_octets_max),
            received: Bytes::new(),
            greeted: false,
            last_tag: 0,
            running: VecDeque::new(),
            waiting: VecDeque::new(),
            permitted: false,
            capabilities: HashSet::new(),
        }
    }

    /// Whether the server has told of this capability, upper case. What is told of them is taken note of wherever it is.
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether the server has told of its capabilities at all since the connection, TLS or the login began.
    pub fn knows_capabilities(&self) -> bool {
        !self.capabilities.is_empty()
    }

    /// Commands that have not come to their end.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// What is to be sent now. Ask until there is nothing.
    pub fn output(&mut self) -> Option<Bytes> {
        let part = self.waiting.front()?;
        if part.asked_for && !mem::take(&mut self.permitted) {
            return None;
        }
        self.waiting.pop_front().map(|part| part.octets)
    }

    /// Takes octets from the server. Take all [`Self::event`]s before the next ones, for they wait in memory.
    pub fn receive(&mut self, octets: Bytes) {
        if self.received.is_empty() {
            self.received = octets;
        } else {
            self.received = [mem::take(&mut self.received), octets].concat().into();
        }
    }

    /// The next event, if there is one in what has been received.
    ///
    /// # Errors
    /// When the conversation cannot go on; close the connection.
    pub fn event(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            let mut rest: &[u8] = &self.received;
            let taken = self.reader.take(&mut rest);
            let left = rest.len();
            self.received = self.received.split_off(self.received.len().saturating_sub(left));
            let Some(pieces) = taken.map_err(|_| ClientError::TooLong)? else { return Ok(None) };
            let line = match pieces.first() {
                Some(super::reader::Piece::Text(line)) => line.get(..SHOWN_OCTETS_MAX).unwrap_or(line).to_vec(),
                _ => Vec::new(),
            };
            let not_imap = || ClientError::NotImap(String::from_utf8_lossy(&line).into_owned());
            match response::read(pieces) {
                // An empty line between responses is not worth a quarrel.
                None if line.is_empty() && self.greeted => {}
                None => return Err(not_imap()),
                Some(Response::Untagged(untagged)) if !self.greeted => {
                    return self.greeting(untagged).map(Some).ok_or_else(not_imap);
                }
                Some(_) if !self.greeted => return Err(not_imap()),
                Some(Response::Untagged(untagged)) => {
                    self.note(&untagged);
                    return Ok(Some(Event::Untagged(untagged)));
                }
                Some(Response::Continue(text)) => self.go_on(&text)?,
                Some(Response::Tagged { tag, state, code, text }) => {
                    return self.done(&tag, &state, code, text).map(|done| Some(Event::Done(done)));
                }
            }
        }
    }

    /// Forgets what was said in clear. Call it when STARTTLS has ended with OK, before the handshake; what the server
    /// sent behind that answer was not encrypted, and is dropped.
    pub fn tls_begins(&mut self) {
        self.received = Bytes::new();
        self.capabilities.clear();
    }

    /// Whether the server broke off within a response, should the connection end here.
    pub fn in_the_middle(&self) -> bool {
        self.reader.in_the_middle() || !self.received.is_empty()
    }

    fn greeting(&mut self, untagged: Untagged) -> Option<Event> {
        self.note(&untagged);
        let Untagged::State { state, text, .. } = untagged else { return None };
        self.greeted = true;
        let (authenticated, refused) = (state == "PREAUTH", !matches!(state.as_str(), "OK" | "PREAUTH"));
        Some(Event::Greeting(Greeting { authenticated, refused, text }))
    }

    fn note(&mut self, untagged: &Untagged) {
        match untagged {
            Untagged::Capability(names) => self.capabilities = names.iter().cloned().collect(),
            Untagged::State { code, .. } => self.note_code(code.as_ref()),
            _ => {}
        }
    }

    fn note_code(&mut self, code: Option<&Code>) {
        if let Some(code) = code.filter(|code| code.name == "CAPABILITY") {
            self.capabilities = response::words(&code.argument.to_ascii_uppercase()).into_iter().collect();
        }
    }

    /// The server asks for more: of the exchange that runs, or for a literal.
    fn go_on(&mut self, text: &[u8]) -> Result<(), ClientError> {
        let Some((tag, exchange)) = self
            .running
            .iter_mut()
            .find_map(|running| running.exchange.as_mut().map(|exchange| (running.tag, exchange)))
        else {
            self.permitted = self.waiting.front().is_some_and(|part| part.asked_for);
            return Ok(());
        };
        // Some servers put words where nothing is to be decoded.
        let challenge = decode_line(text.trim_ascii()).ok().flatten().unwrap_or_default();
        // What is given up is cancelled, and then refused by the server; a server that proves nothing is not answered.
        let line = match exchange.respond(&challenge) {
            Ok(response) => encode_line(&response),
            Err(SaslClientError::ServerUnproven) => return Err(ClientError::Sasl(SaslClientError::ServerUnproven)),
            Err(_) => "*".to_owned(),
        };
        let octets = Bytes::from(line + "\r\n");
        self.waiting.push_front(Part { tag, octets, asked_for: false });
        Ok(())
    }

    fn done(&mut self, tag: &str, state: &str, code: Option<Code>, text: String) -> Result<Done, ClientError> {
        let place = self.running.iter().position(|running| running.tag.to_string() == tag);
        let ended = place.and_then(|place| self.running.remove(place));
        let ended = ended.ok_or_else(|| ClientError::UnknownTag(tag.chars().take(SHOWN_OCTETS_MAX).collect()))?;
        // What is left of a command that was refused half-way is not asked for any more.
        self.waiting.retain(|part| part.tag != ended.tag);
        let outcome = match state {
            "OK" => Outcome::Ok,
            "NO" => Outcome::No,
            _ => Outcome::Bad,
        };
        let unproven = ended.exchange.is_some_and(|exchange| !exchange.is_complete());
        if unproven && outcome == Outcome::Ok {
            return Err(ClientError::Sasl(SaslClientError::ServerUnproven));
        }
        self.note_code(code.as_ref());
        Ok(Done { tag: ended.tag, outcome, code, text })
    }

    /// Begins a command: its tag is sent with the first part.
    pub(super) fn begin(&mut self, exchange: Option<ClientExchange>) -> Tag {
        self.last_tag = self.last_tag.saturating_add(1);
        let tag = Tag(self.last_tag);
        self.running.push_back(Running { tag, exchange });
        tag
    }

    pub(super) fn push(&mut self, tag: Tag, octets: impl Into<Bytes>, asked_for: bool) {
        self.waiting.push_back(Part { tag, octets: octets.into(), asked_for });
    }
}
