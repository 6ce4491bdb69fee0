//! One conversation about one message.

use bytes::{Bytes, BytesMut};
use rockdove_mail::header;

use crate::{
    Actions, CHANGES_MAX, CHANGES_OCTETS_MAX, Change, Reply, Subject,
    packet::{Packets, clean, put},
    stage::{LEADING_SPACE, OFFERED, Stage},
};

/// The version that we speak.
const VERSION: u32 = 6;
/// The oldest version of a filter that we understand.
const VERSION_LEAST: u32 = 2;
/// The first version that knows of DATA.
const VERSION_DATA: u32 = 4;
/// Octets of a body in one packet (`MILTER_CHUNK_SIZE`).
const CHUNK_OCTETS: usize = 65_535;
/// Octets collected before they are sent.
const SEND_OCTETS: usize = 64 * 1024;
/// Octets of a field value that a filter is told; the rest of a longer one is cut off.
const VALUE_OCTETS_MAX: usize = 64 * 1024 - 1_024;
/// Octets of the reason of a quarantine.
const REASON_OCTETS_MAX: usize = 256;

/// The packet that ends a conversation: to be sent after [`Step::Done`], or whenever there is no more time.
pub const QUIT: &[u8] = b"\0\0\0\x01Q";

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Send(Bytes),
    /// Receive something.
    Receive,
    /// It is over.
    Done(Result<Judgement, Failure>),
}

/// What a filter says of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it is taken.
    pub disposition: Disposition,
    /// It is to be kept apart, and why.
    pub quarantine: Option<String>,
    /// What is to be changed, in order.
    pub changes: Vec<Change>,
    /// Recipients that are refused, by their places.
    pub refused: Vec<(usize, Reply)>,
}

/// Whether a message is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Disposition {
    /// It is.
    #[default]
    Accept,
    /// It is not, and the client is told so.
    Refuse(Reply),
    /// It is not, and the client believes it is.
    Discard,
}

/// Why a conversation was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A packet has a length that none has.
    Length,
    /// The filter speaks another version.
    Version(u32),
    /// The filter wants to do what was not offered to it.
    NotOffered(String),
    /// A packet that makes no sense where it came, by the octet that says what it is.
    Unexpected(char),
    /// The filter wants more changed than is kept.
    TooMuch,
    /// The filter says that it cannot work.
    Gone,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length => f.write_str("it sent a packet of an impossible length"),
            Self::Version(version) => write!(f, "it speaks version {version} of the protocol"),
            Self::NotOffered(what) => write!(f, "it wants to do what is not offered: {what}"),
            Self::Unexpected(kind) => write!(f, "it sent {kind:?} where that makes no sense"),
            Self::TooMuch => f.write_str("it wants too much changed"),
            Self::Gone => f.write_str("it says that it cannot work"),
        }
    }
}

/// The conversation. Call [`Session::poll`] until it wants to receive, then [`Session::received`], until it is done.
#[derive(Debug)]
pub struct Session {
    subject: Subject,
    stage: Stage,
    /// An answer is to come.
    awaits: bool,
    out: BytesMut,
    packets: Packets,
    version: u32,
    protocol: u32,
    /// Octets of the message that the filter has been told of.
    told: usize,
    judgement: Judgement,
    changes_octets: usize,
    end: Option<Result<(), Failure>>,
}

impl Session {
    /// Begins.
    pub fn new(subject: Subject) -> Self {
        Self {
            subject,
            stage: Stage::Negotiate,
            awaits: false,
            out: BytesMut::new(),
            packets: Packets::default(),
            version: VERSION,
            protocol: 0,
            told: 0,
            judgement: Judgement::default(),
            changes_octets: 0,
            end: None,
        }
    }

    /// The filter has sent this.
    pub fn received(&mut self, octets: &[u8]) {
        self.packets.push(octets);
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Step {
        loop {
            match &self.end {
                Some(Ok(())) => return Step::Done(Ok(std::mem::take(&mut self.judgement))),
                Some(Err(failure)) => return Step::Done(Err(failure.clone())),
                None => {}
            }
            if !self.out.is_empty() && (self.awaits || self.out.len() >= SEND_OCTETS) {
                return Step::Send(self.out.split().freeze());
            }
            if !self.awaits {
                self.advance();
                continue;
            }
            match self.packets.next() {
                Ok(Some((kind, data))) => self.answered(kind, &data),
                Ok(None) => return Step::Receive,
                Err(_) => self.end = Some(Err(Failure::Length)),
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.end = Some(Err(failure));
    }

    /// Says what is to be said at this stage, or goes on when there is nothing.
    fn advance(&mut self) {
        let (unwanted, unanswered) = self.stage.flags();
        let said = self.protocol & unwanted == 0 && self.say();
        if !said {
            if self.stage == Stage::Header {
                self.end_header();
            }
            self.stage = self.next_stage();
        } else if self.protocol & unanswered == 0 || unanswered == 0 {
            self.awaits = true;
        } else {
            self.go_on();
        }
    }

    /// After something was said: stays where there is more of the kind.
    fn go_on(&mut self) {
        self.stage = match self.stage {
            Stage::Header | Stage::Body => self.stage,
            _ => self.next_stage(),
        };
    }

    fn next_stage(&self) -> Stage {
        match self.stage {
            Stage::Negotiate => Stage::Connect,
            Stage::Connect => Stage::Helo,
            Stage::Helo => Stage::Mail,
            Stage::Mail => Stage::Recipient(0),
            Stage::Recipient(number) => {
                let next = number.saturating_add(1);
                if next < self.subject.recipients.len() { Stage::Recipient(next) } else { Stage::Data }
            }
            Stage::Data => Stage::Header,
            Stage::Header => Stage::EndOfHeader,
            Stage::EndOfHeader => Stage::Body,
            Stage::Body | Stage::EndOfMessage => Stage::EndOfMessage,
        }
    }

    /// Writes the packets of this stage. `false`: there are none (any more).
    fn say(&mut self) -> bool {
        match self.stage {
            Stage::Negotiate => {
                let words = [VERSION, self.subject.actions.0, OFFERED].map(u32::to_be_bytes);
                put(&mut self.out, b'O', &[&words.concat()]);
            }
            Stage::Connect => self.say_connect(),
            Stage::Helo => self.say_helo(),
            Stage::Mail => self.say_mail(),
            Stage::Recipient(number) => return self.say_recipient(number),
            Stage::Data if self.version < VERSION_DATA => return false,
            Stage::Data => self.say_plain(b'T'),
            Stage::Header => return self.say_field(),
            Stage::EndOfHeader => self.say_plain(b'N'),
            Stage::Body => return self.say_chunk(),
            Stage::EndOfMessage => self.say_plain(b'E'),
        }
        true
    }

    /// A command without data, behind the name of the message.
    fn say_plain(&mut self, command: u8) {
        self.macros(command, &[("i", self.subject.id.clone())]);
        put(&mut self.out, command, &[]);
    }

    fn macros(&mut self, command: u8, values: &[(&str, String)]) {
        let mut data = vec![command];
        for (name, value) in values {
            data.extend_from_slice(name.as_bytes());
            data.push(0);
            data.extend_from_slice(&clean(value.as_bytes()));
            data.push(0);
        }
        put(&mut self.out, b'D', &[&data]);
    }

    fn say_connect(&mut self) {
        let address = self.subject.peer.map(|peer| peer.ip().to_canonical().to_string());
        // A client without a name is called by its address, in brackets.
        let literal = address.as_ref().map(|address| format!("[{address}]"));
        let name = self.subject.peer_name.clone().or(literal).unwrap_or_else(|| "localhost".to_owned());
        let values = [
            ("j", self.subject.hostname.clone()),
            ("_", name.clone()),
            ("{daemon_name}", self.subject.daemon_name.clone()),
            ("{client_addr}", address.clone().unwrap_or_default()),
            ("{client_name}", name.clone()),
        ];
        self.macros(b'C', &values);
        let mut data = clean(name.as_bytes());
        data.push(0);
        match self.subject.peer.zip(address) {
            Some((peer, address)) => {
                data.push(if peer.ip().to_canonical().is_ipv4() { b'4' } else { b'6' });
                data.extend_from_slice(&peer.port().to_be_bytes());
                data.extend_from_slice(address.as_bytes());
                data.push(0);
            }
            None => data.push(b'U'),
        }
        put(&mut self.out, b'C', &[&data]);
    }

    fn say_helo(&mut self) {
        if let Some((version, cipher)) = self.subject.tls.clone() {
            self.macros(b'H', &[("{tls_version}", version), ("{cipher}", cipher)]);
        }
        put(&mut self.out, b'H', &[&clean(self.subject.helo.as_bytes()), b"\0"]);
    }

    fn say_mail(&mut self) {
        let mut values = vec![("i", self.subject.id.clone()), ("{mail_addr}", self.subject.reverse_path.clone())];
        values.extend(self.subject.login.clone().map(|login| ("{auth_authen}", login)));
        self.macros(b'M', &values);
        let data = arguments(&self.subject.reverse_path, &self.subject.parameters);
        put(&mut self.out, b'M', &[&data]);
    }

    fn say_recipient(&mut self, number: usize) -> bool {
        let Some(recipient) = self.subject.recipients.get(number).cloned() else { return false };
        self.macros(b'R', &[("i", self.subject.id.clone()), ("{rcpt_addr}", recipient.address.clone())]);
        put(&mut self.out, b'R', &[&arguments(&recipient.address, &recipient.parameters)]);
        true
    }

    /// The next field of the header.
    fn say_field(&mut self) -> bool {
        loop {
            let rest = self.subject.octets.get(self.told..).unwrap_or_default();
            let Some(field) = header::iter(rest).next() else { return false };
            self.told = self.told.saturating_add(field.raw.len());
            // A line that is no field is nothing that a filter can be told.
            if field.name.is_empty() {
                continue;
            }
            let mut value = field.value;
            if self.protocol & LEADING_SPACE == 0 {
                value = value.strip_prefix(b" ").unwrap_or(value);
            }
            // `libmilter` wants lines of a value to end with LF alone.
            let value: Vec<u8> = value.iter().copied().filter(|octet| !matches!(octet, 0 | b'\r')).collect();
            let value = value.get(..VALUE_OCTETS_MAX).unwrap_or(&value);
            put(&mut self.out, b'L', &[field.name, b"\0", value, b"\0"]);
            return true;
        }
    }

    /// The next piece of the body.
    fn say_chunk(&mut self) -> bool {
        let rest = self.subject.octets.slice(self.told.min(self.subject.octets.len())..);
        let chunk = rest.get(..CHUNK_OCTETS).unwrap_or(&rest);
        if chunk.is_empty() {
            return false;
        }
        self.told = self.told.saturating_add(chunk.len());
        put(&mut self.out, b'B', &[chunk]);
        true
    }

    /// Behind the header: whatever of it was not wanted, and the empty line.
    fn end_header(&mut self) {
        let rest = self.subject.octets.get(self.told..).unwrap_or_default();
        let header: usize = header::iter(rest).fold(0, |sum, field| sum.saturating_add(field.raw.len()));
        let body = rest.get(header..).unwrap_or_default();
        let line = if body.starts_with(b"\r\n") { 2 } else { usize::from(body.starts_with(b"\n")) };
        self.told = self.told.saturating_add(header).saturating_add(line);
    }

    fn answered(&mut self, kind: u8, data: &Bytes) {
        if self.stage == Stage::Negotiate {
            return self.negotiated(kind, data);
        }
        match kind {
            // It is at work.
            b'p' => {}
            b'c' if self.stage == Stage::EndOfMessage => self.end = Some(Ok(())),
            b'c' => self.continued(),
            b's' if self.stage == Stage::Body => {
                self.told = self.subject.octets.len();
                self.continued();
            }
            b'a' => self.end = Some(Ok(())),
            b'd' => self.concluded(Disposition::Discard),
            b'r' => self.refused(Reply::refused()),
            b't' => self.refused(Reply::deferred()),
            b'y' => match Reply::parse(data) {
                Some(reply) => self.refused(reply),
                None => self.fail(Failure::Unexpected('y')),
            },
            b'f' | b'4' => self.fail(Failure::Gone),
            _ if self.stage == Stage::EndOfMessage => self.wished(kind, data),
            other => self.fail(Failure::Unexpected(char::from(other))),
        }
    }

    fn continued(&mut self) {
        self.awaits = false;
        self.go_on();
    }

    fn negotiated(&mut self, kind: u8, data: &[u8]) {
        let word = |at: usize| {
            let end = at.saturating_add(4);
            data.get(at..end).and_then(|octets| octets.try_into().ok()).map(u32::from_be_bytes)
        };
        let (b'O', Some(version), Some(actions), Some(protocol)) = (kind, word(0), word(4), word(8)) else {
            return self.fail(Failure::Unexpected(char::from(kind)));
        };
        if !(VERSION_LEAST..=VERSION).contains(&version) {
            return self.fail(Failure::Version(version));
        }
        if !self.subject.actions.has(Actions(actions)) {
            return self.fail(Failure::NotOffered(format!("actions {:#x}", actions & !self.subject.actions.0)));
        }
        if protocol & !OFFERED != 0 {
            return self.fail(Failure::NotOffered(format!("protocol {:#x}", protocol & !OFFERED)));
        }
        (self.version, self.protocol) = (version, protocol);
        self.continued();
    }

    fn concluded(&mut self, disposition: Disposition) {
        self.judgement = Judgement { disposition, ..Judgement::default() };
        self.end = Some(Ok(()));
    }

    /// One recipient is refused, or the message.
    fn refused(&mut self, reply: Reply) {
        let Stage::Recipient(number) = self.stage else { return self.concluded(Disposition::Refuse(reply)) };
        self.judgement.refused.push((number, reply.clone()));
        if self.judgement.refused.len() == self.subject.recipients.len() {
            return self.concluded(Disposition::Refuse(reply));
        }
        self.continued();
    }

    fn wished(&mut self, kind: u8, data: &[u8]) {
        self.changes_octets = self.changes_octets.saturating_add(data.len());
        if self.judgement.changes.len() >= CHANGES_MAX || self.changes_octets > CHANGES_OCTETS_MAX {
            return self.fail(Failure::TooMuch);
        }
        if kind == b'q' {
            if !self.subject.actions.has(Actions::QUARANTINE) {
                return self.fail(Failure::NotOffered("a quarantine".to_owned()));
            }
            let reason = String::from_utf8_lossy(data.strip_suffix(b"\0").unwrap_or(data)).into_owned();
            let reason = reason.chars().filter(|c| !c.is_control()).take(REASON_OCTETS_MAX).collect();
            self.judgement.quarantine = Some(reason);
            return;
        }
        match Change::parse(kind, data) {
            Some(change) if self.subject.actions.has(change.needs()) => self.judgement.changes.push(change),
            Some(change) => self.fail(Failure::NotOffered(format!("{change:?}"))),
            None => self.fail(Failure::Unexpected(char::from(kind))),
        }
    }
}

/// An address in brackets and what stood behind it, each with NUL at its end.
fn arguments(address: &str, parameters: &[String]) -> Vec<u8> {
    let mut data = clean(format!("<{address}>").as_bytes());
    data.push(0);
    for parameter in parameters {
        data.extend_from_slice(&clean(parameter.as_bytes()));
        data.push(0);
    }
    data
}
