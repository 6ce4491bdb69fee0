//! Framing: where commands and literals begin and end, decided before anybody looks at what they say.

use bytes::{Buf, Bytes};
use memchr::memchr;

use super::words::tag_of;
use crate::limits::{COMMAND_OCTETS_MAX, SKIP_OCTETS_MAX, TAG_OCTETS_MAX};

/// What the framer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole command without its last line end; literals stand in it as received (`{3}\r\nabc`).
    Command(Bytes),
    /// A synchronising literal is announced and welcome: send a continuation request, then ask for the next frame.
    Continue,
    /// APPEND up to its message. The octets follow ([`Frames::take_octets`]), then [`Frame::AppendNext`] or
    /// [`Frame::AppendTail`].
    Append {
        /// The text before the `{`.
        head: Bytes,
        /// Octets announced.
        octets: u64,
        /// The client waits for a continuation request, or for a refusal ([`Frames::refuse_append`]).
        synchronising: bool,
        /// It is a `literal8` (RFC 3516): NUL may be in it.
        binary: bool,
    },
    /// The line after APPEND's message goes on with another one (RFC 3502), whose octets follow in the same way.
    AppendNext {
        /// The text before the `{`.
        head: Bytes,
        /// Octets announced.
        octets: u64,
        /// The client waits for a continuation request, or for a refusal ([`Frames::refuse_append`]).
        synchronising: bool,
        /// It is a `literal8` (RFC 3516).
        binary: bool,
    },
    /// The rest of the line after APPEND's last message; empty when the command is well-formed.
    AppendTail(Bytes),
    /// A line or literal over a limit. Nothing of it is kept, and the next frame is the next command.
    TooLong {
        /// The tag, where there was one.
        tag: Option<String>,
        /// It is too long even to be skipped: the connection cannot go on, there will be no more frames.
        fatal: bool,
    },
}

/// A line was longer than allowed; it has been skipped to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Cuts what is received into commands. A line ends with LF; a CR before it belongs to the ending.
#[derive(Debug, Default)]
pub struct Frames {
    /// Received and not looked at yet.
    chunk: Bytes,
    /// What has come of a command whose end has not.
    partial: Vec<u8>,
    /// Where the line after the last literal begins in `partial`.
    line_start: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// In a line of a command.
    #[default]
    Line,
    /// In a literal of a command, with so many octets to come.
    Literal(usize),
    /// In APPEND's message, with so many octets to come.
    Octets(u64),
    /// In the line after APPEND's message.
    Tail,
    /// Getting past something that is not wanted.
    Skip(Box<Skip>),
    /// Not to be understood any more.
    Dead,
}

/// How far one step got.
enum Turn {
    Found(Frame),
    GoOn,
    NeedsMore,
}

#[derive(Debug)]
struct Skip {
    /// What to say when it is over.
    then: Frame,
    /// Octets of a literal to come; zero in a line.
    literal: u64,
    /// Octets that may still be thrown away.
    allowance: u64,
}

/// The literal that a line announces at its end.
struct Announced {
    /// Octets of the line before the `{`.
    before: usize,
    octets: u64,
    synchronising: bool,
}

impl Frames {
    /// Takes received octets.
    pub fn push(&mut self, bytes: Bytes) {
        if matches!(self.state, State::Dead) {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            self.chunk = [&self.chunk[..], &bytes[..]].concat().into();
        }
    }

    /// Whether everything received has been looked at, and no command has begun.
    pub fn is_drained(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    /// Octets received and not looked at.
    pub fn buffered_octets(&self) -> usize {
        self.chunk.len()
    }

    /// Forgets everything (STARTTLS).
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next thing in command mode; `None`: needs more octets. What is left of a message that was announced and not
    /// taken is thrown away.
    #[expect(clippy::should_implement_trait, reason = "None is not the end: more octets may come")]
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            let turn = match &mut self.state {
                State::Line => self.line(),
                State::Literal(left) => {
                    let now = (*left).min(self.chunk.len());
                    *left = left.saturating_sub(now);
                    let over = *left == 0;
                    self.partial.extend_from_slice(&self.chunk.split_to(now));
                    self.after_octets(over, State::Line)
                }
                State::Octets(left) => {
                    let now = usize::try_from(*left).unwrap_or(usize::MAX).min(self.chunk.len());
                    *left = left.saturating_sub(now as u64);
                    let over = *left == 0;
                    self.chunk.advance(now);
                    self.after_octets(over, State::Tail)
                }
                State::Tail => self.tail(),
                State::Skip(_) => self.skip(),
                State::Dead => Turn::NeedsMore,
            };
            match turn {
                Turn::Found(frame) => return Some(frame),
                Turn::GoOn => {}
                Turn::NeedsMore => return None,
            }
        }
    }

    fn after_octets(&mut self, over: bool, next: State) -> Turn {
        if !over {
            return Turn::NeedsMore;
        }
        self.line_start = self.partial.len();
        self.state = next;
        Turn::GoOn
    }

    /// The next line of at most `octets_max` with its ending, in line mode (SASL responses, DONE); comes without it.
    /// `None`: needs more octets.
    pub fn next_line(&mut self, octets_max: usize) -> Option<Result<Bytes, LineTooLong>> {
        loop {
            if let State::Skip(skip) = &mut self.state {
                let end = memchr(b'\n', &self.chunk);
                skip.allowance = skip.allowance.saturating_sub(end.unwrap_or(self.chunk.len()) as u64);
                let dead = skip.allowance == 0;
                self.chunk.advance(end.map_or(self.chunk.len(), |at| at.saturating_add(1)));
                if dead {
                    self.die();
                } else if end.is_some() {
                    self.forget();
                    self.state = State::Line;
                } else {
                    return None;
                }
                return Some(Err(LineTooLong));
            }
            if !matches!(self.state, State::Line) {
                return None;
            }
            match memchr(b'\n', &self.chunk) {
                Some(end) if self.partial.len().saturating_add(end) < octets_max => {
                    let line = self.take_line(end);
                    let line = self.finish(&line);
                    return Some(Ok(without_ending(line)));
                }
                None if self.partial.len().saturating_add(self.chunk.len()) < octets_max => {
                    self.keep_rest();
                    return None;
                }
                _ => {
                    self.skip_line(Frame::TooLong { tag: None, fatal: false });
                }
            }
        }
    }

    /// Up to `most` octets of APPEND's message, uncopied; empty: needs more, or all have been taken.
    pub fn take_octets(&mut self, most: u64) -> Vec<Bytes> {
        let State::Octets(left) = &mut self.state else { return Vec::new() };
        let now = usize::try_from(most.min(*left)).unwrap_or(usize::MAX).min(self.chunk.len());
        *left = left.saturating_sub(now as u64);
        if *left == 0 {
            self.state = State::Tail;
        }
        let octets = self.chunk.split_to(now);
        if octets.is_empty() { Vec::new() } else { vec![octets] }
    }

    /// The synchronising literal that [`Frame::Append`] or [`Frame::AppendNext`] announced is refused: its octets will not come, the next frame is
    /// the next command.
    pub fn refuse_append(&mut self) {
        if let State::Octets(_) = self.state {
            self.state = State::Line;
        }
    }

    /// In a line of a command.
    fn line(&mut self) -> Turn {
        let room = COMMAND_OCTETS_MAX.saturating_sub(self.partial.len());
        let Some(end) = memchr(b'\n', &self.chunk) else {
            if self.chunk.len() > room {
                self.skip_command();
                return Turn::GoOn;
            }
            self.keep_rest();
            return Turn::NeedsMore;
        };
        if end >= room {
            self.skip_command();
            return Turn::GoOn;
        }
        let line = self.take_line(end);
        let current = self.partial.get(self.line_start..).unwrap_or_default();
        let announced = if self.partial.is_empty() { announced(&line) } else { announced(&[current, &line].concat()) };
        match announced {
            None => Turn::Found(Frame::Command(without_ending(self.finish(&line)))),
            Some(literal) => self.literal(&line, &literal),
        }
    }

    /// A line ends with the announcement of a literal.
    fn literal(&mut self, line: &[u8], literal: &Announced) -> Turn {
        let before = self.line_start.saturating_add(literal.before);
        self.partial.extend_from_slice(line);
        let head = self.partial.get(..before).unwrap_or_default();
        if announces_message(head) {
            let (head, binary) = without_tilde(head);
            let head = Bytes::copy_from_slice(head);
            self.forget();
            self.state = State::Octets(literal.octets);
            let Announced { octets, synchronising, .. } = *literal;
            return Turn::Found(Frame::Append { head, octets, synchronising, binary });
        }
        let room = COMMAND_OCTETS_MAX.saturating_sub(self.partial.len());
        match usize::try_from(literal.octets) {
            Ok(octets) if octets < room => {
                self.state = State::Literal(octets);
                if literal.synchronising { Turn::Found(Frame::Continue) } else { Turn::GoOn }
            }
            _ => {
                let tag = tag_of(&self.partial);
                self.forget();
                if literal.synchronising {
                    return Turn::Found(Frame::TooLong { tag, fatal: false });
                }
                self.start_skip(Frame::TooLong { tag, fatal: false }, literal.octets, SKIP_OCTETS_MAX);
                Turn::GoOn
            }
        }
    }

    /// In the line after APPEND's message.
    fn tail(&mut self) -> Turn {
        let room = COMMAND_OCTETS_MAX.saturating_sub(self.partial.len());
        let end = memchr(b'\n', &self.chunk);
        if end.unwrap_or(self.chunk.len()) >= room {
            // Whatever it is, it is not the end of an APPEND.
            self.skip_line(Frame::AppendTail(Bytes::from_static(b"...")));
            return Turn::GoOn;
        }
        let Some(end) = end else {
            self.keep_rest();
            return Turn::NeedsMore;
        };
        let line = self.take_line(end);
        let line = self.finish(&line);
        let Some(Announced { before, octets, synchronising }) = announced(&line) else {
            self.state = State::Line;
            return Turn::Found(Frame::AppendTail(without_ending(line)));
        };
        self.state = State::Octets(octets);
        let (head, binary) = without_tilde(line.get(..before).unwrap_or_default());
        Turn::Found(Frame::AppendNext { head: line.slice_ref(head), octets, synchronising, binary })
    }

    /// Getting past something.
    fn skip(&mut self) -> Turn {
        let State::Skip(skip) = &mut self.state else { return Turn::GoOn };
        if skip.literal > skip.allowance {
            let tag = if let Frame::TooLong { tag, .. } = &mut skip.then { tag.take() } else { None };
            self.die();
            return Turn::Found(Frame::TooLong { tag, fatal: true });
        }
        if skip.literal > 0 {
            let now = usize::try_from(skip.literal).unwrap_or(usize::MAX).min(self.chunk.len());
            self.chunk.advance(now);
            skip.literal = skip.literal.saturating_sub(now as u64);
            skip.allowance = skip.allowance.saturating_sub(now as u64);
            return if skip.literal > 0 { Turn::NeedsMore } else { Turn::GoOn };
        }
        // In a line: its end is kept, because it may announce a literal once more.
        let end = memchr(b'\n', &self.chunk);
        let piece = self.chunk.split_to(end.map_or(self.chunk.len(), |at| at.saturating_add(1)));
        let Some(left) = skip.allowance.checked_sub(piece.len() as u64) else {
            skip.literal = u64::MAX;
            return Turn::GoOn;
        };
        skip.allowance = left;
        keep_end(&mut self.partial, &piece);
        if end.is_none() {
            return Turn::NeedsMore;
        }
        let literal = announced(&self.partial).filter(|literal| !literal.synchronising);
        self.partial = Vec::new();
        if let Some(literal) = literal {
            skip.literal = literal.octets;
            return Turn::GoOn;
        }
        let then = std::mem::replace(&mut skip.then, Frame::Continue);
        self.state = State::Line;
        Turn::Found(then)
    }

    /// The command is too long; its line goes on.
    fn skip_command(&mut self) {
        // The tag may be cut.
        let begin: Vec<u8> =
            self.partial.iter().chain(&self.chunk[..]).take(TAG_OCTETS_MAX.saturating_add(1)).copied().collect();
        let tag = tag_of(&begin);
        self.skip_line(Frame::TooLong { tag, fatal: false });
    }

    /// Throws away the line that has begun. What had come of it counts as well, so that the cut does not matter.
    fn skip_line(&mut self, then: Frame) {
        let thrown = self.partial.len() as u64;
        let line = self.partial.split_off(self.line_start.min(self.partial.len()));
        self.start_skip(then, 0, SKIP_OCTETS_MAX.saturating_sub(thrown));
        keep_end(&mut self.partial, &line);
    }

    fn start_skip(&mut self, then: Frame, literal: u64, allowance: u64) {
        self.forget();
        self.state = State::Skip(Box::new(Skip { then, literal, allowance }));
    }

    fn die(&mut self) {
        self.forget();
        self.chunk = Bytes::new();
        self.state = State::Dead;
    }

    fn forget(&mut self) {
        self.partial = Vec::new();
        self.line_start = 0;
    }

    /// Takes the octets up to and with the LF at `end`.
    fn take_line(&mut self, end: usize) -> Bytes {
        self.chunk.split_to(end.saturating_add(1))
    }

    fn keep_rest(&mut self) {
        let rest = std::mem::take(&mut self.chunk);
        self.partial.extend_from_slice(&rest);
    }

    /// What had come before, and this line.
    fn finish(&mut self, line: &Bytes) -> Bytes {
        if self.partial.is_empty() {
            return line.clone();
        }
        let mut whole = std::mem::take(&mut self.partial);
        self.line_start = 0;
        whole.extend_from_slice(line);
        whole.into()
    }
}

/// `literal8 = "~{" number ["+"] "}" CRLF *OCTET` (RFC 3516), also in parentheses (RFC 6855): the text before it, and
/// whether it is one.
fn without_tilde(head: &[u8]) -> (&[u8], bool) {
    match head.strip_suffix(b"~") {
        Some(before) if matches!(before.last(), Some(b' ' | b'(')) => (before, true),
        _ => (head, false),
    }
}

fn without_ending(mut line: Bytes) -> Bytes {
    for ending in [b'\n', b'\r'] {
        if line.last() == Some(&ending) {
            line.truncate(line.len().saturating_sub(1));
        }
    }
    line
}

/// Octets of the longest announcement that is understood, with room to spare: `{18446744073709551615+}` and CRLF.
const ANNOUNCEMENT_OCTETS_MAX: usize = 32;

/// Keeps the end of a line that comes in pieces.
fn keep_end(kept: &mut Vec<u8>, piece: &[u8]) {
    let from = piece.len().saturating_sub(ANNOUNCEMENT_OCTETS_MAX);
    kept.extend_from_slice(piece.get(from..).unwrap_or_default());
    let surplus = kept.len().saturating_sub(ANNOUNCEMENT_OCTETS_MAX);
    kept.drain(..surplus);
}

/// The literal that this line announces.
///
/// `literal = "{" number64 ["+"] "}" CRLF *CHAR8`
fn announced(line: &[u8]) -> Option<Announced> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_suffix(b"}")?;
    let (line, synchronising) = match line.strip_suffix(b"+") {
        Some(line) => (line, false),
        None => (line, true),
    };
    let before = line.iter().rposition(|octet| !octet.is_ascii_digit())?;
    let digits = line.get(before.saturating_add(1)..).filter(|digits| !digits.is_empty())?;
    if line.get(before) != Some(&b'{') {
        return None;
    }
    let octets = digits
        .iter()
        .fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0'))));
    Some(Announced { before, octets, synchronising })
}

/// Whether a literal after `head` is the message of an APPEND or REPLACE: its mailbox is there already.
fn announces_message(head: &[u8]) -> bool {
    let (tag, rest) = word(head);
    let (mut name, mut rest) = word(rest);
    if name.eq_ignore_ascii_case(b"UID") {
        (name, rest) = word(rest.trim_ascii_start());
        if !name.eq_ignore_ascii_case(b"REPLACE") {
            return false;
        }
    }
    if name.eq_ignore_ascii_case(b"REPLACE") {
        // The message that is replaced.
        (_, rest) = word(rest.trim_ascii_start());
    } else if !name.eq_ignore_ascii_case(b"APPEND") {
        return false;
    }
    !tag.is_empty() && rest.iter().any(|octet| *octet != b' ')
}

/// What stands before a space, and what behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let mut words = text.splitn(2, |octet| *octet == b' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}
