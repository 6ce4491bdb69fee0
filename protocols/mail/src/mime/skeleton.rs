//! Where the parts of a message are.
//!
//! ```text
//! 01 count.. part*
//! part: kind1 descendants.. start.. header.. body..
//! ```
//! `kind` holds the [`Kind`] in its low four bits and the [`Encoding`] above; `start` is counted from where the header
//! of the part before starts, `header` and `body` are lengths. `..` marks varints (seven bits per octet, low bits
//! first).

use std::ops::Range;

use super::{DEPTH_MAX, PARTS_MAX};

const VERSION: u8 = 1;

/// What a part holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Content that has no parts.
    #[default]
    Leaf,
    /// `multipart/*`: any number of parts.
    Multipart,
    /// `message/rfc822` or `message/global`: one message.
    Message,
}

/// Content-Transfer-Encoding (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `7bit`, `8bit` or `binary`: the octets are as they are.
    #[default]
    Identity,
    /// `base64`.
    Base64,
    /// `quoted-printable`.
    QuotedPrintable,
    /// One we do not know.
    Unknown,
}

/// One part. Offsets are octets from the start of the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The header block with its empty line.
    pub header: Range<u64>,
    /// The body. For a [`Kind::Message`] it is the whole message inside.
    pub body: Range<u64>,
    /// What it holds.
    pub kind: Kind,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// Parts within this one, at any depth. They follow it in the list.
    pub descendants: usize,
}

/// The parts of a message in the order of the document. The first is the message itself; a [`Kind::Message`] has one
/// part, the message inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    parts: Vec<Part>,
}

impl Default for Skeleton {
    /// That of an empty message.
    fn default() -> Self {
        Self { parts: vec![Part::default()] }
    }
}

/// Which octets of a part `BODY[…]` names (RFC 9051 section 6.4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Nothing behind the part number: the body; without a part number the whole message.
    Whole,
    /// `HEADER`, and what `HEADER.FIELDS` is taken from: the header of a message.
    Header,
    /// `TEXT`: the body of a message.
    Text,
    /// `MIME`: the header of a part.
    Mime,
}

impl Skeleton {
    /// From parts that the scanner put in order.
    pub(super) fn new(parts: Vec<Part>) -> Self {
        if parts.is_empty() { Self::default() } else { Self { parts } }
    }

    /// All parts; never empty.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The message itself.
    pub fn root(&self) -> &Part {
        const EMPTY: &Part =
            &Part { header: 0..0, body: 0..0, kind: Kind::Leaf, encoding: Encoding::Identity, descendants: 0 };
        self.parts.first().unwrap_or(EMPTY)
    }

    /// Places in the list of the parts directly within the part at `parent`.
    pub fn children(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let first = parent.saturating_add(1);
        let end = first.saturating_add(self.parts.get(parent).map_or(0, |part| part.descendants));
        let after =
            |at: usize| at.saturating_add(self.parts.get(at).map_or(0, |part| part.descendants)).saturating_add(1);
        std::iter::successors(Some(first), move |at| Some(after(*at))).take_while(move |at| *at < end)
    }

    /// The same parts when `octets` octets of header fields stand before the message. They belong to its header.
    #[must_use]
    pub fn behind_prefix(mut self, octets: u64) -> Self {
        for part in &mut self.parts {
            for end in [&mut part.header.start, &mut part.header.end, &mut part.body.start, &mut part.body.end] {
                *end = end.saturating_add(octets);
            }
        }
        if let Some(root) = self.parts.first_mut() {
            root.header.start = 0;
        }
        self
    }

    /// Place in the list of the part that the numbers name.
    fn place(&self, numbers: &[u32]) -> Option<usize> {
        let mut at = 0;
        let mut message = true;
        for number in numbers {
            let part = self.parts.get(at)?;
            if !message && part.kind == Kind::Message {
                at = self.children(at).next()?;
                message = true;
            }
            let part = if message { self.parts.get(at)? } else { part };
            let index = usize::try_from(*number).ok()?.checked_sub(1)?;
            if part.kind == Kind::Multipart {
                at = self.children(at).nth(index)?;
            } else if !message || index != 0 {
                return None;
            }
            message = false;
        }
        Some(at)
    }

    /// For storage; a few octets per part.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        put_varint(&mut row, self.parts.len() as u64);
        let mut last = 0;
        for part in &self.parts {
            row.push(part.kind.code() | part.encoding.code() << 4);
            put_varint(&mut row, part.descendants as u64);
            put_varint(&mut row, part.header.start.saturating_sub(last));
            put_varint(&mut row, part.header.end.saturating_sub(part.header.start));
            put_varint(&mut row, part.body.end.saturating_sub(part.body.start));
            last = part.header.start;
        }
        row
    }

    /// What [`encode`](Self::encode) wrote. `None` when the octets are damaged or of an unknown version.
    pub fn decode(row: &[u8]) -> Option<Self> {
        let mut row = row.strip_prefix(&[VERSION])?;
        let count = usize::try_from(take_varint(&mut row)?).ok().filter(|count| (1..=PARTS_MAX).contains(count))?;
        let mut parts = Vec::with_capacity(count.min(row.len()));
        let mut last: u64 = 0;
        // How many parts each of the parts around us still has.
        let mut open: Vec<usize> = Vec::new();
        for number in 0..count {
            while open.pop_if(|left| *left == 0).is_some() {}
            let part = take_part(&mut row, last)?;
            last = part.header.start;
            for left in &mut open {
                *left = left.checked_sub(1)?;
            }
            if number > 0 && open.is_empty() || open.last().is_some_and(|left| part.descendants > *left) {
                return None;
            }
            open.push(part.descendants);
            if open.len() > DEPTH_MAX.saturating_add(1) {
                return None;
            }
            parts.push(part);
        }
        let complete = row.is_empty() && open.last() == Some(&0);
        complete.then_some(Self { parts }).filter(|skeleton| skeleton.root().descendants == count.saturating_sub(1))
    }
}

fn take_part(row: &mut &[u8], last: u64) -> Option<Part> {
    let (code, rest) = row.split_first()?;
    *row = rest;
    let (kind, encoding) = (Kind::from_code(code & 15)?, Encoding::from_code(code >> 4)?);
    let descendants = usize::try_from(take_varint(row)?).ok()?;
    if (kind == Kind::Leaf && descendants > 0) || (kind == Kind::Message && descendants == 0) {
        return None;
    }
    let start = last.checked_add(take_varint(row)?)?;
    let body = start.checked_add(take_varint(row)?)?;
    let end = body.checked_add(take_varint(row)?)?;
    Some(Part { header: start..body, body: body..end, kind, encoding, descendants })
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Leaf => 0,
            Self::Multipart => 1,
            Self::Message => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Leaf, Self::Multipart, Self::Message].into_iter().find(|kind| kind.code() == code)
    }
}

impl Encoding {
    fn code(self) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Base64 => 1,
            Self::QuotedPrintable => 2,
            Self::Unknown => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Identity, Self::Base64, Self::QuotedPrintable, Self::Unknown];
        all.into_iter().find(|encoding| encoding.code() == code)
    }

    /// The encoding of this name, in any case.
    pub fn from_name(name: &[u8]) -> Self {
        match name.to_ascii_lowercase().as_slice() {
            b"" | b"7bit" | b"8bit" | b"binary" => Self::Identity,
            b"base64" => Self::Base64,
            b"quoted-printable" => Self::QuotedPrintable,
            _ => Self::Unknown,
        }
    }
}

fn put_varint(row: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        row.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    row.push(value.to_le_bytes()[0]);
}

fn take_varint(row: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0_u32);
    loop {
        let (octet, rest) = row.split_first()?;
        *row = rest;
        let bits = u64::from(octet & 0x7f);
        let placed = bits.checked_shl(shift).filter(|placed| placed >> shift == bits)?;
        value |= placed;
        if octet & 0x80 == 0 {
            return Some(value);
        }
        shift = shift.checked_add(7).filter(|shift| *shift < 64)?;
    }
}

//= rfc9051#section-6.4.5.1
//# Every message has at least one part number.  Messages that do not
//# use MIME, and MIME messages that are not multipart and have no
//# encapsulated message within them, only have a part 1.
/// The part that section numbers name; no number names the message itself. `None` when there is no such part.
pub fn part<'a>(skeleton: &'a Skeleton, numbers: &[u32]) -> Option<&'a Part> {
    skeleton.parts.get(skeleton.place(numbers)?)
}

/// The octets that `BODY[numbers.section]` names. `None` when there is no such part, when `HEADER` or `TEXT` is asked of
/// a part that is no message, and for `MIME` without a part number.
pub fn section(skeleton: &Skeleton, numbers: &[u32], section: Section) -> Option<Range<u64>> {
    let at = skeleton.place(numbers)?;
    let part = skeleton.parts.get(at)?;
    match section {
        Section::Whole if numbers.is_empty() => Some(part.header.start..part.body.end),
        Section::Whole => Some(part.body.clone()),
        Section::Mime => (!numbers.is_empty()).then(|| part.header.clone()),
        Section::Header | Section::Text => {
            let message = if numbers.is_empty() {
                part
            } else if part.kind == Kind::Message {
                skeleton.parts.get(skeleton.children(at).next()?)?
            } else {
                return None;
            };
            Some(if section == Section::Header { message.header.clone() } else { message.body.clone() })
        }
    }
}
