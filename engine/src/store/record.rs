//! Message records: what FETCH needs without the body.
//!
//! ```text
//! 02 trace(..) shared                      the trace header of this recipient; the rest is alike for all recipients
//! shared: size.. header.. sent1 [sent± zone±] message_id8 subject8 count.. reference8*
//!         envelope(..) body(..) body_structure(..) skeleton(..) head(..) rest(..) count.. piece*
//! head:   a frame with the header of the message, when it is kept here; empty for none
//! rest:   a frame with what else is kept here; empty for none
//! piece:  00 length..                      the next octets of what is kept here, the head first
//!         01 part8 offset.. length.. encoding           octets of a part, and how they stand in the message (`encoding`)
//! ```
//! The pieces are the message, in their order, without its trace header.
//!
//! `size` and `header` are octets without the trace header. `message_id`, `subject` (base subject) and `reference` are
//! the first eight octets of BLAKE3, 0 for none: what threads and sorting need, kept so that they need no body.

use std::{ops::Range, sync::OnceLock};

use bytes::{Bytes, BytesMut};
use rockdove_mail::mime::Skeleton;

use super::{
    encoding::Encoding,
    frame,
    octets::{Take, put_bytes, put_step, put_varint},
    parts::Parts,
};
use crate::{
    command::{EngineError, InternalDate, MessageId},
    kv::SharedKv,
};

const VERSION: u8 = 2;
const INLINE: u8 = 0;
const PART: u8 = 1;
/// References that are remembered: threads longer than this hang together by the nearest ones.
pub(crate) const REFERENCES_MAX: usize = 32;

/// Where some of a message's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next ones that are in the record.
    Inline {
        /// Octets.
        length: u64,
    },
    /// In a part.
    Part {
        /// Its id.
        part: u64,
        /// First octet there.
        offset: u64,
        /// Octets there.
        length: u64,
        /// How they stand in the message.
        encoding: Encoding,
    },
}

impl Piece {
    /// Octets of the message. `None` when there are too many to count.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Inline { length } => Some(*length),
            Self::Part { length, encoding, .. } => encoding.length(*length),
        }
    }
}

/// What a message is found and ordered by, beside its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) sent: Option<InternalDate>,
    pub(crate) message_id: u64,
    pub(crate) subject: u64,
    pub(crate) references: Vec<u64>,
}

/// What is kept in a record of the octets of a message: two frames, so that reading the header touches it alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The header of the message.
    pub(crate) head: Bytes,
    /// What comes behind it, without the parts.
    pub(crate) rest: Bytes,
}

impl Kept {
    /// All octets; `None` when some are damaged.
    pub(crate) fn octets(&self) -> Option<Bytes> {
        let mut octets = BytesMut::new();
        for frame in [&self.head, &self.rest].into_iter().filter(|frame| !frame.is_empty()) {
            octets.extend_from_slice(&frame::decode(frame)?);
        }
        Some(octets.freeze())
    }
}

/// What is known of a message without its body. Immutable; offsets are those of the message as the client sees it,
/// trace header included.
#[derive(Debug)]
pub struct MessageRecord {
    /// Its id in the account (EMAILID).
    pub id: MessageId,
    /// RFC822.SIZE in octets.
    pub size_bytes: u64,
    /// The header block with its empty line.
    pub header: Range<u64>,
    /// Ready IMAP ENVELOPE.
    pub envelope: Bytes,
    /// Ready IMAP BODY.
    pub body: Bytes,
    /// Ready IMAP BODYSTRUCTURE.
    pub body_structure: Bytes,
    pub(crate) digest: Digest,
    pub(crate) trace: Bytes,
    pub(crate) kept: Kept,
    pub(crate) pieces: Vec<Piece>,
    skeleton: Bytes,
    /// What is kept of the head and the rest, once it was read.
    unpacked: [OnceLock<Bytes>; 2],
}

/// The part of a record that all recipients share.
#[derive(Clone, Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) size: u64,
    pub(crate) header: u64,
    pub(crate) digest: &'a Digest,
    pub(crate) envelope: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) body_structure: &'a [u8],
    pub(crate) skeleton: &'a [u8],
    pub(crate) kept: &'a Kept,
    pub(crate) pieces: &'a [Piece],
}

impl Shared<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(256 + self.envelope.len() + self.body.len() + self.body_structure.len());
        put_varint(&mut row, self.size);
        put_varint(&mut row, self.header);
        row.push(u8::from(self.digest.sent.is_some()));
        if let Some(sent) = self.digest.sent {
            put_step(&mut row, 0, sent.unix_s.cast_unsigned());
            put_step(&mut row, 0, i64::from(sent.offset_minutes).cast_unsigned());
        }
        row.extend_from_slice(&self.digest.message_id.to_le_bytes());
        row.extend_from_slice(&self.digest.subject.to_le_bytes());
        put_varint(&mut row, self.digest.references.len() as u64);
        for reference in &self.digest.references {
            row.extend_from_slice(&reference.to_le_bytes());
        }
        let kept = [&self.kept.head[..], &self.kept.rest[..]];
        for bytes in [self.envelope, self.body, self.body_structure, self.skeleton].into_iter().chain(kept) {
            put_bytes(&mut row, bytes);
        }
        put_varint(&mut row, self.pieces.len() as u64);
        for piece in self.pieces {
            match piece {
                Piece::Inline { length } => {
                    row.push(INLINE);
                    put_varint(&mut row, *length);
                }
                Piece::Part { part, offset, length, encoding } => {
                    row.push(PART);
                    row.extend_from_slice(&part.to_le_bytes());
                    put_varint(&mut row, *offset);
                    put_varint(&mut row, *length);
                    encoding.put(&mut row);
                }
            }
        }
        row
    }
}

/// The record of one recipient.
pub(crate) fn encode(trace: &[u8], shared: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(6 + trace.len() + shared.len());
    row.push(VERSION);
    put_bytes(&mut row, trace);
    row.extend_from_slice(shared);
    row
}

fn take_digest(take: &mut Take<'_>) -> Option<Digest> {
    let sent = match take.u8()? {
        0 => None,
        1 => {
            let unix_s = take.step(0)?.cast_signed();
            Some(InternalDate { unix_s, offset_minutes: take.step(0)?.cast_signed().try_into().ok()? })
        }
        _ => return None,
    };
    let (message_id, subject) = (take.u64()?, take.u64()?);
    let count: usize = take.small().filter(|count| *count <= REFERENCES_MAX)?;
    let references = (0..count).map(|_| take.u64()).collect::<Option<_>>()?;
    Some(Digest { sent, message_id, subject, references })
}

/// ENVELOPE, BODY and BODYSTRUCTURE in the row of a record. `None` when the row is damaged or of an unknown version.
pub(crate) fn ready_texts(row: &[u8]) -> Option<[&[u8]; 3]> {
    let mut take = Take::versioned(row, VERSION)?;
    take.bytes()?;
    let _size_and_header = (take.varint()?, take.varint()?);
    pass_digest(&mut take)?;
    Some([take.bytes()?, take.bytes()?, take.bytes()?])
}

/// Passes over a digest.
fn pass_digest(take: &mut Take<'_>) -> Option<()> {
    if take.u8()? != 0 {
        let _sent = (take.step(0)?, take.step(0)?);
    }
    let _message_id_and_subject = (take.u64()?, take.u64()?);
    let count: usize = take.small().filter(|count| *count <= REFERENCES_MAX)?;
    take.slice(count * 8).map(drop)
}

fn take_piece(take: &mut Take<'_>) -> Option<Piece> {
    let piece = match take.u8()? {
        INLINE => Piece::Inline { length: take.varint()? },
        PART => {
            let (part, offset, length) = (take.u64()?, take.varint()?, take.varint()?);
            offset.checked_add(length)?;
            Piece::Part { part, offset, length, encoding: Encoding::take(take)? }
        }
        _ => return None,
    };
    piece.length().map(|_| piece)
}

/// Gives bytes of a part.
pub(crate) type FromPart<'a> = &'a dyn Fn(u64, Range<u64>) -> Result<Bytes, EngineError>;

impl MessageRecord {
    /// The record of a row. `None` when the row is damaged or of an unknown version.
    pub(crate) fn decode(id: MessageId, row: &Bytes) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let trace = take.bytes_of(row)?;
        let (size, header) = (take.varint()?, take.varint()?);
        let digest = take_digest(&mut take)?;
        let mut next = || take.bytes_of(row);
        let (envelope, body, body_structure, skeleton) = (next()?, next()?, next()?, next()?);
        let kept = Kept { head: next()?, rest: next()? };
        let count: usize = take.small().filter(|count| *count <= row.len())?;
        let pieces = (0..count).map(|_| take_piece(&mut take)).collect::<Option<_>>()?;
        take.end()?;
        let extra = trace.len() as u64;
        Some(Self {
            id,
            size_bytes: size.checked_add(extra)?,
            header: 0..header.checked_add(extra)?,
            envelope,
            body,
            body_structure,
            digest,
            trace,
            kept,
            pieces,
            skeleton,
            unpacked: Default::default(),
        })
    }

    /// The `Date:` header, where it can be read.
    pub fn sent(&self) -> Option<InternalDate> {
        self.digest.sent
    }

    /// Parts that the message needs, each once.
    pub(crate) fn parts(&self) -> Vec<u64> {
        let mut parts: Vec<u64> = Vec::new();
        for piece in &self.pieces {
            if let Piece::Part { part, .. } = piece
                && !parts.contains(part)
            {
                parts.push(*part);
            }
        }
        parts
    }

    /// The MIME structure, with offsets into the message as the client sees it.
    pub fn skeleton(&self) -> Skeleton {
        Skeleton::decode(&self.skeleton).unwrap_or_default().behind_prefix(self.trace.len() as u64)
    }

    /// Bytes of the message, cut to its end.
    pub(crate) fn read(&self, kv: &SharedKv, parts: &Parts, range: Range<u64>) -> Result<Bytes, EngineError> {
        self.read_from(&|part, cut| parts.read(kv, part, cut), range)
    }

    /// The same, with the bytes of parts from `part`.
    pub(crate) fn read_from(&self, part: FromPart<'_>, range: Range<u64>) -> Result<Bytes, EngineError> {
        let from = part;
        let range = range.start.min(self.size_bytes)..range.end.min(self.size_bytes);
        let mut found: Vec<Bytes> = Vec::new();
        let mut start = 0_u64;
        let mut visit = |length: u64, slice: &mut dyn FnMut(Range<u64>) -> Result<Bytes, EngineError>| {
            let end = start.saturating_add(length);
            let (from, until) = (range.start.max(start), range.end.min(end));
            if from < until {
                found.push(slice(from - start..until - start)?);
            }
            start = end;
            Ok::<(), EngineError>(())
        };
        visit(self.trace.len() as u64, &mut |cut| Ok(sliced(&self.trace, cut)))?;
        // Octets of the head and of the rest that the pieces have not used yet.
        let mut left = [&self.kept.head, &self.kept.rest].map(|frame| frame::raw_length(frame));
        let whole = left;
        for piece in &self.pieces {
            match piece {
                Piece::Inline { length } => {
                    let head = left[0].min(*length);
                    for (number, octets) in [(0, head), (1, length - head)] {
                        let start = whole[number] - left[number];
                        visit(octets, &mut |cut| self.unpacked(number, start, cut))?;
                        left[number] = left[number].saturating_sub(octets);
                    }
                }
                Piece::Part { part, offset, length, encoding } => {
                    let from_part = |cut: Range<u64>| from(*part, cut.start + offset..cut.end + offset);
                    let octets = encoding.length(*length).unwrap_or(u64::MAX);
                    visit(octets, &mut |cut| encoding.read(*length, cut, from_part))?;
                }
            }
        }
        if found.len() == 1 {
            return Ok(found.swap_remove(0));
        }
        let mut whole = BytesMut::with_capacity(found.iter().map(Bytes::len).sum());
        for bytes in &found {
            whole.extend_from_slice(bytes);
        }
        Ok(whole.freeze())
    }

    /// Octets of the head (0) or the rest (1) that is kept, counted from `start` on.
    fn unpacked(&self, number: usize, start: u64, cut: Range<u64>) -> Result<Bytes, EngineError> {
        let damaged = || EngineError::Corrupt(format!("message {}", self.id.0));
        let raw = if let Some(raw) = self.unpacked[number].get() {
            raw
        } else {
            let frame = [&self.kept.head, &self.kept.rest][number];
            let raw = frame::decode(frame).ok_or_else(damaged)?;
            self.unpacked[number].get_or_init(|| raw)
        };
        let cut = cut.start.saturating_add(start)..cut.end.saturating_add(start);
        if cut.end > raw.len() as u64 {
            return Err(damaged());
        }
        Ok(sliced(raw, cut))
    }
}

fn sliced(bytes: &Bytes, cut: Range<u64>) -> Bytes {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(place(cut.start)..place(cut.end))
}
