//! The data of responses, read without asking what they mean.

use super::reader::Piece;
use crate::limits::RESPONSE_DEPTH_MAX;

/// One datum.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// An atom, a number, a flag.
    Atom(Vec<u8>),
    /// A quoted string or a literal.
    String(Vec<u8>),
    /// A literal that was too large to be kept, and its octets.
    TooLarge(u64),
    /// `NIL`
    Nil,
    /// A list in parentheses.
    List(Vec<Value>),
}

impl Value {
    /// The octets of an atom or a string.
    pub(super) fn octets(self) -> Option<Vec<u8>> {
        match self {
            Self::Atom(octets) | Self::String(octets) => Some(octets),
            _ => None,
        }
    }

    /// The number that it is.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Atom(octets) | Self::String(octets) => std::str::from_utf8(octets).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// A response as far as it has not been read.
pub(super) struct Values {
    pieces: std::vec::IntoIter<Piece>,
    text: std::vec::IntoIter<u8>,
    literal: Option<Piece>,
}

impl Values {
    pub(super) fn new(pieces: Vec<Piece>) -> Self {
        let mut values = Self { pieces: pieces.into_iter(), text: Vec::new().into_iter(), literal: None };
        values.next_piece();
        values
    }

    fn next_piece(&mut self) {
        match self.pieces.next() {
            Some(Piece::Text(text)) => self.text = text.into_iter(),
            literal => self.literal = literal,
        }
    }

    /// What is left of the text before the next literal.
    pub(super) fn rest(&self) -> &[u8] {
        self.text.as_slice()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Passes over spaces; whether nothing is left behind them.
    pub(super) fn at_end(&mut self) -> bool {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.text.next();
        }
        self.peek().is_none() && self.literal.is_none() && self.pieces.as_slice().is_empty()
    }

    pub(super) fn eat(&mut self, octet: u8) -> bool {
        self.at_end();
        let found = self.peek() == Some(octet);
        if found {
            self.text.next();
        }
        found
    }

    /// A word: everything up to a space or a parenthesis; what stands in brackets belongs to it, spaces and all:
    /// `BODY[HEADER.FIELDS (DATE)]<0>`.
    pub(super) fn word(&mut self) -> Vec<u8> {
        self.at_end();
        let (mut word, mut depth) = (Vec::new(), 0u32);
        while let Some(next) = self.peek() {
            match next {
                b'[' => depth = depth.saturating_add(1),
                b']' => depth = depth.saturating_sub(1),
                b' ' | b'(' | b')' if depth == 0 => break,
                _ => {}
            }
            word.push(next);
            self.text.next();
        }
        word
    }

    /// The next datum; `None` where there is none or it is broken.
    pub(super) fn value(&mut self) -> Option<Value> {
        self.nested(0)
    }

    fn nested(&mut self, depth: usize) -> Option<Value> {
        self.at_end();
        match self.peek() {
            None => self.literal(),
            Some(b'"') => self.quoted().map(Value::String),
            Some(b'(') if depth < RESPONSE_DEPTH_MAX => {
                self.text.next();
                let mut list = Vec::new();
                while !self.eat(b')') {
                    list.push(self.nested(depth.saturating_add(1))?);
                }
                Some(Value::List(list))
            }
            Some(b'(' | b')') => None,
            Some(_) => {
                let atom = self.atom();
                Some(if atom.eq_ignore_ascii_case(b"NIL") { Value::Nil } else { Value::Atom(atom) })
            }
        }
    }

    fn literal(&mut self) -> Option<Value> {
        if self.literal.is_none() {
            self.next_piece();
        }
        let value = match self.literal.take()? {
            Piece::Literal(octets) => Value::String(octets),
            Piece::TooLarge(octets) => Value::TooLarge(octets),
            Piece::Text(_) => return None,
        };
        self.next_piece();
        Some(value)
    }

    /// An atom: servers put brackets, `%`, `*`, `\` and 8-bit octets in flags and names.
    fn atom(&mut self) -> Vec<u8> {
        let length = self.rest().iter().position(|octet| b" ()\"\t".contains(octet)).unwrap_or(self.rest().len());
        self.text.by_ref().take(length).collect()
    }

    /// `quoted`; `\` before anything else than `"` and `\` stands for itself.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        self.text.next();
        let mut text = Vec::new();
        loop {
            match self.text.next()? {
                b'"' => return Some(text),
                b'\\' if matches!(self.peek(), Some(b'"' | b'\\')) => text.extend(self.text.next()),
                octet => text.push(octet),
            }
        }
    }
}
