//! Pages: the texts of one column of neighbouring messages. The store compresses them, with a dictionary of what all of
//! them have in common.
//!
//! ```text
//! 02 count.. (message_step.. length..)* checksum8 text…   steps from 0 and then from the message before; XXH3 (64 bits)
//! ```
//! A text is pieces (a header field, a text part, a file name), each behind an octet `ff`, which no UTF-8 has: so a
//! needle is never found across two of them.

use memchr::{memchr, memmem};
use twox_hash::XxHash3_64;

use crate::store::octets::{Take, put_varint};

const VERSION: u8 = 2;
/// Begins every piece of a text.
pub(super) const PIECE: u8 = 0xff;
/// A page is closed when it has this many octets of text. Larger ones are read for the sake of few messages.
pub(super) const PAGE_BYTES: usize = 16 * 1024;
/// Octets of text that a page may have: a text of [`super::TEXT_BYTES_MAX`] behind an open page.
const RAW_BYTES_MAX: usize = PAGE_BYTES + super::TEXT_BYTES_MAX;
const CHECKSUM_BYTES: usize = 8;

fn checksum(text: &[u8]) -> [u8; CHECKSUM_BYTES] {
    XxHash3_64::oneshot(text).to_le_bytes()
}

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Messages, ascending, each with its octets.
    messages: Vec<(u32, usize)>,
    text: Vec<u8>,
}

impl Page {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= PAGE_BYTES
    }

    /// The first message: the number in its key.
    pub(super) fn first(&self) -> Option<u32> {
        self.messages.first().map(|(message, _)| *message)
    }

    /// Adds the text of a message that comes after all others.
    pub(super) fn push(&mut self, message: u32, text: &[u8]) {
        self.messages.push((message, text.len()));
        self.text.extend_from_slice(text);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        put_varint(&mut row, self.messages.len() as u64);
        let mut before = 0;
        for (message, length) in &self.messages {
            put_varint(&mut row, u64::from(message - before));
            put_varint(&mut row, *length as u64);
            before = *message;
        }
        row.extend(checksum(&self.text));
        row.extend_from_slice(&self.text);
        row
    }
}

/// A page of the store. Its text is looked at when somebody wants it.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    /// Messages, ascending, each with the end of its text.
    pub(super) messages: Vec<(u32, usize)>,
    text: &'a [u8],
}

impl<'a> Stored<'a> {
    /// `None` when the row is damaged or of an unknown version.
    pub(super) fn decode(row: &'a [u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let count: usize = take.small().filter(|count| *count <= row.len())?;
        let mut messages: Vec<(u32, usize)> = Vec::with_capacity(count);
        let (mut message, mut end) = (0_u32, 0_usize);
        for number in 0..count {
            let step = take.small::<u32>()?;
            if number > 0 && step == 0 {
                return None;
            }
            message = message.checked_add(step)?;
            end = end.checked_add(take.small()?).filter(|end| *end <= RAW_BYTES_MAX)?;
            messages.push((message, end));
        }
        Some(Self { messages, text: take.rest() })
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.last().is_some_and(|(_, end)| *end >= PAGE_BYTES)
    }

    /// The texts one after the other; `None` when they are not what was stored.
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        let length = self.messages.last().map_or(0, |(_, end)| *end);
        let (sum, text) = self.text.split_first_chunk::<CHECKSUM_BYTES>()?;
        (text.len() == length && checksum(text) == *sum).then_some(text)
    }

    /// Each message with its text.
    pub(super) fn texts<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = (u32, &'t [u8])> {
        let mut start = 0;
        self.messages.iter().map(move |(message, end)| {
            let slice = text.get(start..*end).unwrap_or_default();
            start = *end;
            (*message, slice)
        })
    }
}

/// What is looked for in a text.
#[derive(Debug)]
pub(super) enum Pattern<'n> {
    /// A needle in any piece. The empty one is in every text.
    Anywhere(Box<memmem::Finder<'n>>),
    /// A needle in the value of a header field; `anchor` is what its pieces begin with, mark and colon included.
    Field {
        /// Finds the field.
        anchor: Box<memmem::Finder<'static>>,
        /// Finds the needle.
        needle: Box<memmem::Finder<'n>>,
    },
}

impl<'n> Pattern<'n> {
    pub(super) fn anywhere(needle: &'n str) -> Self {
        Self::Anywhere(Box::new(memmem::Finder::new(needle)))
    }

    /// `None` for a name that no field can have.
    pub(super) fn field(name: &str, needle: &'n str) -> Option<Self> {
        // Names of fields are graphic ASCII without a colon, or empty where a line is no field.
        if !name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':') {
            return None;
        }
        let mut anchor = vec![PIECE];
        anchor.extend(name.bytes().map(|octet| octet.to_ascii_lowercase()));
        anchor.extend(b": ");
        let anchor = Box::new(memmem::Finder::new(&anchor).into_owned());
        Some(Self::Field { anchor, needle: Box::new(memmem::Finder::new(needle)) })
    }

    /// Whether the text of a message has it.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Self::Anywhere(needle) => needle.find(text).is_some(),
            Self::Field { anchor, needle } => anchor.find_iter(text).any(|at| {
                let value = text.get(at + anchor.needle().len()..).unwrap_or_default();
                let value = value.get(..memchr(PIECE, value).unwrap_or(value.len())).unwrap_or_default();
                needle.find(value).is_some()
            }),
        }
    }
}
