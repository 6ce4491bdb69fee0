//! Where does a response end? At the first line end that does not follow the announcement of a literal.

use crate::limits::RESPONSE_TEXT_OCTETS_MAX;

/// A piece of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Up to the announcement of a literal, without it, or to the end of the line, without that.
    Text(Vec<u8>),
    /// A literal.
    Literal(Vec<u8>),
    /// A literal of so many octets that it was passed over.
    TooLarge(u64),
}

/// The text of a response is longer than [`RESPONSE_TEXT_OCTETS_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Collects one response at a time.
pub(super) struct Reader {
    pieces: Vec<Piece>,
    text: Vec<u8>,
    text_octets: usize,
    literal: Option<Literal>,
    literal_octets_max: u64,
}

struct Literal {
    announced: u64,
    missing: u64,
    kept: Option<Vec<u8>>,
}

/// Octets that are set aside for a literal before any of it has come.
const LITERAL_FIRST_OCTETS: u64 = 64 * 1024;

impl Reader {
    /// Literals of more than `literal_octets_max` octets are passed over.
    pub(super) fn new(literal_octets_max: u64) -> Self {
        Self { pieces: Vec::new(), text: Vec::new(), text_octets: 0, literal: None, literal_octets_max }
    }

    /// Whether the server is in the middle of a response.
    pub(super) fn in_the_middle(&self) -> bool {
        !self.pieces.is_empty() || !self.text.is_empty() || self.literal.is_some()
    }

    /// Takes octets from the front of `received` up to the end of a response, if it is in there.
    pub(super) fn take(&mut self, received: &mut &[u8]) -> Result<Option<Vec<Piece>>, TooLong> {
        while !received.is_empty() {
            if self.literal.is_some() {
                self.take_literal(received);
            } else if let Some(pieces) = self.take_line(received)? {
                return Ok(Some(pieces));
            }
        }
        Ok(None)
    }

    fn take_literal(&mut self, received: &mut &[u8]) {
        let Some(literal) = &mut self.literal else { return };
        let wanted = usize::try_from(literal.missing).unwrap_or(usize::MAX);
        let (taken, rest) = received.split_at_checked(wanted).unwrap_or((received, &[]));
        *received = rest;
        literal.missing = literal.missing.saturating_sub(taken.len() as u64);
        if let Some(kept) = &mut literal.kept {
            kept.extend_from_slice(taken);
        }
        self.end_literal();
    }

    /// Ends the literal if it is complete.
    fn end_literal(&mut self) {
        if let Some(Literal { announced, kept, .. }) = self.literal.take_if(|literal| literal.missing == 0) {
            self.pieces.push(kept.map_or(Piece::TooLarge(announced), Piece::Literal));
        }
    }

    fn take_line(&mut self, received: &mut &[u8]) -> Result<Option<Vec<Piece>>, TooLong> {
        let end = memchr::memchr(b'\n', received);
        let up_to = end.map_or(received.len(), |at| at.saturating_add(1));
        let (taken, rest) = received.split_at_checked(up_to).unwrap_or((received, &[]));
        *received = rest;
        self.text_octets = self.text_octets.saturating_add(taken.len());
        if self.text_octets > RESPONSE_TEXT_OCTETS_MAX {
            return Err(TooLong);
        }
        self.text.extend_from_slice(taken);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.text);
        while line.last().is_some_and(|octet| b"\r\n".contains(octet)) {
            line.pop();
        }
        if let Some((announced, length)) = self.may_have_literals(&line).then(|| announcement(&line)).flatten() {
            line.truncate(length);
            self.pieces.push(Piece::Text(line));
            let first = usize::try_from(announced.min(LITERAL_FIRST_OCTETS)).unwrap_or_default();
            let kept = (announced <= self.literal_octets_max).then(|| Vec::with_capacity(first));
            self.literal = Some(Literal { announced, missing: announced, kept });
            self.end_literal();
            return Ok(None);
        }
        self.text_octets = 0;
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.push(Piece::Text(line));
        Ok(Some(pieces))
    }

    /// What is meant for people may end with anything; literals are in data.
    fn may_have_literals(&self, line: &[u8]) -> bool {
        if !self.pieces.is_empty() {
            return true;
        }
        let mut words = line.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
        let untagged = words.next() == Some(b"*");
        let states: [&[u8]; 5] = [b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"];
        untagged && words.next().is_some_and(|word| !states.iter().any(|state| word.eq_ignore_ascii_case(state)))
    }
}

/// `literal = "{" number "}" CRLF`, `literal8 = "~{" number "}" CRLF` (RFC 3516) at the end of a line: the number, and
/// the length of the text before it.
fn announcement(line: &[u8]) -> Option<(u64, usize)> {
    let inner = line.strip_suffix(b"}")?;
    let inner = inner.strip_suffix(b"+").unwrap_or(inner);
    let open = memchr::memrchr(b'{', inner)?;
    let (before, digits) = inner.split_at_checked(open)?;
    let digits = digits.strip_prefix(b"{")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let octets = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((octets, before.strip_suffix(b"~").unwrap_or(before).len()))
}
