//! Cutting a message into pieces while it streams in: large bodies become parts, what is between them stays in the
//! record.
//!
//! Where a body begins and ends is the word of the MIME scanner, but nothing depends on it: the pieces are the octets
//! that came, in their order. How they are cut depends on the octets alone, not on how they came in, or equal messages
//! would not be stored alike.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_mail::mime;

use super::{
    encoding::{Decoder, Encoding, Pushed},
    frame,
    parts::Parts,
    record::{Kept, Piece},
    staged::{PartWriter, StagedPart},
};
use crate::{command::EngineError, kv::SharedKv};

/// Octets of a message that stay in its record. Every recipient has a copy of them. What comes between large bodies is
/// seldom a quarter of this, the headers of long lists are more.
pub(crate) const INLINE_BYTES_MAX: usize = 16 * 1024;
/// Pieces of one message: each costs every recipient some octets in the record, and a row when it is a part. Messages
/// with as many large attachments are archives; the rest of them is one part.
const PIECES_MAX: usize = 128;
/// Pieces that one body can bring: what came before it, its regular base64, what is behind that; and two at the end of
/// the message.
const PIECES_PER_BODY: usize = 5;

/// Takes the octets of a message.
pub(crate) struct Pieces {
    kv: SharedKv,
    store: Arc<Parts>,
    /// Octets from which a body is a part of its own.
    part_min: usize,
    /// What stays in the record, and from where on it belongs to no piece yet.
    inline: Vec<u8>,
    run: usize,
    /// A body that is not yet large: the octets of `inline` from this place on.
    body: Option<Body>,
    open: Option<Open>,
    done: Vec<Piece>,
    parts: Vec<Arc<StagedPart>>,
    /// No more bodies are looked at: all that follows is one part.
    sealed: bool,
    /// Rows of parts may stay in memory.
    keep: bool,
}

#[derive(Clone, Copy)]
struct Body {
    start: usize,
    base64: bool,
}

/// The part that is coming.
struct Open {
    writer: PartWriter,
    decoder: Option<Decoder>,
    /// It is a body; else it is what is between bodies.
    is_body: bool,
}

/// What a message is stored as.
pub(crate) struct Cut {
    /// What stays in the record.
    pub(crate) kept: Kept,
    pub(crate) pieces: Vec<Piece>,
    /// Each once.
    pub(crate) parts: Vec<Arc<StagedPart>>,
}

impl Pieces {
    pub(crate) fn new(kv: SharedKv, store: Arc<Parts>, part_inline_max: usize) -> Self {
        Self {
            kv,
            store,
            part_min: part_inline_max.clamp(1, INLINE_BYTES_MAX),
            inline: Vec::new(),
            run: 0,
            body: None,
            open: None,
            done: Vec::new(),
            parts: Vec::new(),
            sealed: false,
            keep: true,
        }
    }

    /// The message is large: from now on parts are in the store as soon as they are complete.
    pub(crate) fn write_out(&mut self) -> Result<(), EngineError> {
        if std::mem::replace(&mut self.keep, false) {
            self.parts.iter().try_for_each(|part| part.write_out(&self.kv))?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        let rows: usize = self.parts.iter().map(|part| part.size_bytes()).sum();
        rows + self.inline.capacity() + self.open.as_ref().map_or(0, |open| open.writer.memory_bytes())
    }

    /// A body begins here.
    pub(crate) fn begin_body(&mut self, encoding: mime::Encoding) {
        self.sealed |= self.done.len() + PIECES_PER_BODY > PIECES_MAX;
        if !self.sealed {
            self.body = Some(Body { start: self.inline.len(), base64: encoding == mime::Encoding::Base64 });
        }
    }

    /// The body that began last ends here.
    pub(crate) fn end_body(&mut self) -> Result<(), EngineError> {
        if let Some(body) = self.body.take() {
            // A small one is like all that is between bodies.
            let octets = self.inline.split_off(body.start);
            return self.write(&octets);
        }
        if self.open.as_ref().is_some_and(|open| open.is_body) {
            let behind = self.close()?;
            return self.write(&behind);
        }
        Ok(())
    }

    /// Takes octets.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), EngineError> {
        while !bytes.is_empty() {
            let taken = if let Some(body) = self.body {
                self.write_body(body, bytes)?
            } else if self.open.is_some() {
                self.write_part(bytes)?;
                bytes.len()
            } else {
                self.write_inline(bytes)?
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Takes octets of a body that is not large yet, and answers how many.
    fn write_body(&mut self, body: Body, bytes: &[u8]) -> Result<usize, EngineError> {
        let room = self.part_min.saturating_sub(self.inline.len() - body.start);
        let taken = bytes.len().min(room);
        self.inline.extend_from_slice(&bytes[..taken]);
        if taken == room {
            self.body = None;
            let octets = self.inline.split_off(body.start);
            self.close()?;
            self.begin_part(true, body.base64);
            self.write(&octets)?;
        }
        Ok(taken)
    }

    fn write_part(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(decoder) = &mut open.decoder else { return open.writer.write(bytes) };
        let mut decoded = Vec::new();
        // Little by little, for what is decoded is in memory.
        for (number, some) in bytes.chunks(INLINE_BYTES_MAX).enumerate() {
            decoded.clear();
            let pushed = decoder.push(some, &mut decoded);
            open.writer.write(&decoded)?;
            if let Pushed::Over(behind) = pushed {
                self.end_base64(&behind)?;
                return self.write(bytes.get((number + 1) * INLINE_BYTES_MAX..).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The regular base64 of a body is at its end, the body maybe not.
    fn end_base64(&mut self, behind: &[u8]) -> Result<(), EngineError> {
        let small = self.open.as_mut().and_then(|open| {
            let encoding = open.decoder.as_ref()?.encoding();
            open.writer.in_memory().filter(|octets| octets.len() < self.part_min).map(|octets| (encoding, octets))
        });
        let Some((encoding, octets)) = small else {
            self.close()?;
            self.body = Some(Body { start: self.inline.len(), base64: false });
            return self.write(behind);
        };
        // So little is not worth a part of its own: the body is stored as it is.
        let length = octets.len() as u64;
        let decoded = Bytes::copy_from_slice(octets);
        let wanted = 0..encoding.length(length).unwrap_or(0);
        let slice = |range: std::ops::Range<u64>| {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(decoded.len());
            Ok(decoded.slice(place(range.start)..place(range.end)))
        };
        let encoded = encoding.read(length, wanted, slice)?;
        self.begin_part(true, false);
        self.write(&encoded)?;
        self.write(behind)
    }

    /// Takes octets that are between bodies, and answers how many.
    fn write_inline(&mut self, bytes: &[u8]) -> Result<usize, EngineError> {
        let room = INLINE_BYTES_MAX.saturating_sub(self.inline.len());
        let taken = bytes.len().min(room);
        self.inline.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            let octets = self.inline.split_off(self.run);
            // When all that is between bodies is too much, parts would be ever smaller.
            self.sealed |= octets.len() < self.part_min;
            self.begin_part(false, false);
            self.write(&octets)?;
        }
        Ok(taken)
    }

    fn begin_part(&mut self, is_body: bool, base64: bool) {
        let writer = PartWriter::new(Arc::clone(&self.kv), Arc::clone(&self.store));
        self.open = Some(Open { writer, decoder: base64.then(Decoder::default), is_body });
    }

    /// Ends what is open, part or run, and answers the octets that came and are not in it.
    fn close(&mut self) -> Result<Vec<u8>, EngineError> {
        let Some(mut open) = self.open.take() else {
            let length = (self.inline.len() - self.run) as u64;
            if length > 0 {
                self.done.push(Piece::Inline { length });
            }
            self.run = self.inline.len();
            return Ok(Vec::new());
        };
        let (encoding, behind) = open
            .decoder
            .as_mut()
            .map_or((Encoding::AsIs, Vec::new()), |decoder| (decoder.encoding(), decoder.finish()));
        let length = open.writer.length();
        if length > 0 {
            let part = open.writer.finish(self.keep)?;
            self.done.push(Piece::Part { part: part.id(), offset: 0, length, encoding });
            if !self.parts.iter().any(|known| known.id() == part.id()) {
                self.parts.push(part);
            }
        }
        self.run = self.inline.len();
        Ok(behind)
    }

    /// The message is at its end. `header`: octets of its header.
    pub(crate) fn finish(mut self, header: u64) -> Result<Cut, EngineError> {
        self.end_body()?;
        self.close()?;
        self.done.shrink_to_fit();
        let head = match self.done.first() {
            Some(Piece::Inline { length }) => usize::try_from(header.min(*length)).unwrap_or(usize::MAX),
            _ => 0,
        };
        let (head, rest) = self.inline.split_at(head.min(self.inline.len()));
        let frame = |octets: &[u8]| if octets.is_empty() { Bytes::new() } else { frame::encode_plain(octets).into() };
        Ok(Cut { kept: Kept { head: frame(head), rest: frame(rest) }, pieces: self.done, parts: self.parts })
    }
}
