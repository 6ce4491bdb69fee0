//! Streaming a message in.
//!
//! A message is read once, while it comes: its MIME skeleton is taken, and along it the octets are cut into pieces. Large
//! bodies become parts, written in chunks as they fill up; the rest stays in the record. A part that is in the store before
//! its message has a candidate row, which marks it for collection until somebody's record refers to it.

use std::{collections::BTreeSet, fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use rockdove_mail::mime::{self, Cut, Kind, Scanner, Structure};

use super::{
    digest::digest,
    frame::FRAME_BYTES_MAX,
    parts::Parts,
    pieces::{INLINE_BYTES_MAX, Pieces},
    record::{self, Digest, Kept, MessageRecord, Piece, Shared},
    staged::StagedPart,
};
use crate::{
    command::{EngineError, MessageId},
    engine::EngineOptions,
    kv::{Batch, SharedKv},
};

/// Octets of header that ENVELOPE, dates and threads are taken from; what comes later in a longer header is not
/// looked at. RFC 5322 has no limit; real headers stay under 64 KiB.
pub const HEADER_BYTES_MAX: usize = 128 * 1024;

/// Octets that wait to be told from a delimiter: a line end, and the start of a line. A longer line that begins as a
/// delimiter is taken for part of the body before it.
const WAITING_BYTES_MAX: usize = 1024;

/// A message that is coming in. Dropping it abandons it; what it has written is collected later.
pub struct Staging {
    size_max: u64,
    scanner: Scanner,
    pieces: Pieces,
    size_bytes: u64,
    /// The beginning of the message, until the end of its header is known; then the header.
    header: Vec<u8>,
    header_ends: bool,
    /// The last octets, which may be the end of a body or belong behind it.
    waiting: Vec<u8>,
    /// Where the body that has begun and not ended begins.
    body: Option<u64>,
    failed: Option<EngineError>,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// The octets that are not in a piece yet: those that waited, and those that have just come.
struct Window<'a> {
    waiting: &'a [u8],
    bytes: &'a [u8],
}

impl Window<'_> {
    fn len(&self) -> usize {
        self.waiting.len() + self.bytes.len()
    }

    /// Passes on so many octets.
    fn pass(&mut self, count: usize, pieces: &mut Pieces) -> Result<(), EngineError> {
        let first = count.min(self.waiting.len());
        let (waiting, rest) = self.waiting.split_at(first);
        self.waiting = rest;
        let (bytes, rest) = self.bytes.split_at((count - first).min(self.bytes.len()));
        self.bytes = rest;
        pieces.write(waiting)?;
        pieces.write(bytes)
    }
}

impl Staging {
    /// Most octets of a message that are in memory at once, beside what is known of its parts: a chunk and its frame, what
    /// stays in the record and a body that may, the header, and the header of a part. A message smaller than a chunk never
    /// touches the disk before it is delivered.
    pub const MEMORY_BYTES_MAX: usize =
        2 * FRAME_BYTES_MAX + 2 * INLINE_BYTES_MAX + HEADER_BYTES_MAX + WAITING_BYTES_MAX + mime::HEADER_OCTETS_MAX;

    pub(crate) fn new(kv: SharedKv, parts: Arc<Parts>, options: &EngineOptions) -> Self {
        Self {
            // Sizes are 32 bits wide in the columns; the rest is for the trace header.
            size_max: options.message_size_max.min(u64::from(u32::MAX / 2)),
            scanner: Scanner::new(),
            pieces: Pieces::new(kv, parts, options.part_inline_max),
            size_bytes: 0,
            header: Vec::new(),
            header_ends: false,
            waiting: Vec::new(),
            body: None,
            failed: None,
        }
    }

    /// Answers `error` to everything from now on.
    pub(crate) fn refuse(&mut self, error: EngineError) {
        self.failed = Some(error);
    }

    /// Takes the next bytes. Writes to the store when the message has more than a chunk of 256 KiB, so call it where
    /// blocking is allowed once it is that large. After an error every further call answers it again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let taken = self.take(bytes);
        if let Err(error) = &taken {
            self.failed = Some(error.clone());
        }
        taken
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        if self.size_bytes > self.size_max {
            return Err(EngineError::Limit(format!("a message has at most {} octets", self.size_max)));
        }
        if self.size_bytes > FRAME_BYTES_MAX as u64 {
            self.pieces.write_out()?;
        }
        self.scanner.push(bytes);
        self.take_header(bytes);
        let waiting = std::mem::take(&mut self.waiting);
        let mut window = Window { waiting: &waiting, bytes };
        for cut in self.scanner.take_cuts() {
            let (Cut::Begins { at, .. } | Cut::Ends { at }) = cut;
            self.pass(&mut window, at)?;
            match cut {
                Cut::Begins { encoding, .. } => {
                    self.pieces.begin_body(encoding);
                    self.body = Some(at);
                }
                Cut::Ends { .. } => {
                    self.pieces.end_body()?;
                    self.body = None;
                }
            }
        }
        let least = self.size_bytes.saturating_sub(WAITING_BYTES_MAX as u64);
        self.pass(&mut window, self.scanner.settled().max(least))?;
        let mut left = window.waiting.to_vec();
        left.extend_from_slice(window.bytes);
        self.waiting = left;
        Ok(())
    }

    /// Passes on the octets before `at`.
    fn pass(&mut self, window: &mut Window<'_>, at: u64) -> Result<(), EngineError> {
        let passed = self.size_bytes - window.len() as u64;
        let count = usize::try_from(at.saturating_sub(passed)).unwrap_or(usize::MAX).min(window.len());
        window.pass(count, &mut self.pieces)
    }

    fn take_header(&mut self, bytes: &[u8]) {
        if self.header_ends {
            return;
        }
        let room = HEADER_BYTES_MAX - self.header.len();
        self.header.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if let Some(end) = self.scanner.header_end() {
            self.header.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            self.header_ends = true;
        }
    }

    /// Octets taken so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Ends the message. It can then be delivered any number of times.
    pub fn finish(mut self) -> Result<Arc<StagedMessage>, EngineError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let structure = std::mem::take(&mut self.scanner).finish();
        let waiting = std::mem::take(&mut self.waiting);
        let mut window = Window { waiting: &waiting, bytes: &[] };
        let mut leaves = structure.skeleton.parts().iter().filter(|part| part.kind == Kind::Leaf);
        if let Some(body) = self.body
            && let Some(leaf) = leaves.find(|leaf| leaf.body.start == body)
        {
            self.pass(&mut window, leaf.body.end)?;
        }
        self.pieces.end_body()?;
        self.pass(&mut window, self.size_bytes)?;
        let derived = Derived::of(&self.header, self.size_bytes, &structure);
        let cut = self.pieces.finish(derived.header)?;
        let octets = cut.pieces.iter().try_fold(0, |sum: u64, piece| sum.checked_add(piece.length()?));
        if octets != Some(self.size_bytes) {
            // Never seen; but what does not come back as it came in is not taken.
            return Err(EngineError::Corrupt("the pieces of a message do not have its length".to_owned()));
        }
        let shared = derived.row(&cut.kept, &cut.pieces);
        let (size_bytes, header) = (self.size_bytes, self.header);
        Ok(Arc::new(StagedMessage { size_bytes, header, shared, parts: cut.parts }))
    }

    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.pieces.memory_bytes() + self.header.capacity() + self.waiting.capacity()
    }
}

/// What a record says of a message beside where its octets are: all of it follows from them.
struct Derived {
    size: u64,
    header: u64,
    digest: Digest,
    envelope: Vec<u8>,
    body: Vec<u8>,
    body_structure: Vec<u8>,
    skeleton: Vec<u8>,
}

impl Derived {
    /// `start`: the first octets of the message, with its header.
    fn of(start: &[u8], size: u64, structure: &Structure) -> Self {
        let header_end = structure.skeleton.root().header.end.min(size);
        let header = &start[..start.len().min(usize::try_from(header_end).unwrap_or(usize::MAX))];
        Self {
            size,
            header: header_end,
            digest: digest(header),
            envelope: mime::envelope(header),
            body: mime::body_structure(structure, false),
            body_structure: mime::body_structure(structure, true),
            skeleton: structure.skeleton.encode(),
        }
    }

    fn row(&self, kept: &Kept, pieces: &[Piece]) -> Vec<u8> {
        Shared {
            size: self.size,
            header: self.header,
            digest: &self.digest,
            envelope: &self.envelope,
            body: &self.body,
            body_structure: &self.body_structure,
            skeleton: &self.skeleton,
            kept,
            pieces,
        }
        .encode()
    }
}

/// The row of a record as it would be written today; `octets` are those of the message without its trace header.
pub(crate) fn record_again(record: &MessageRecord, octets: &[u8]) -> Vec<u8> {
    let mut scanner = Scanner::new();
    scanner.push(octets);
    let derived = Derived::of(octets, octets.len() as u64, &scanner.finish());
    record::encode(&record.trace, &derived.row(&record.kept, &record.pieces))
}

/// A whole message, ready to be delivered or appended.
#[derive(Debug)]
pub struct StagedMessage {
    size_bytes: u64,
    header: Vec<u8>,
    /// What the records of all recipients have in common.
    shared: Vec<u8>,
    /// Each once.
    parts: Vec<Arc<StagedPart>>,
}

impl StagedMessage {
    /// Octets, without any trace header.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its header, up to [`HEADER_BYTES_MAX`].
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    pub(crate) fn shared(&self) -> &[u8] {
        &self.shared
    }

    /// The first octets of the message, without any trace header, also where some of it is not in the store yet.
    pub(crate) fn start(&self, kv: &SharedKv, parts: &Parts, octets_max: u64) -> Result<Bytes, EngineError> {
        let damaged = || EngineError::Corrupt("a message that is coming in".to_owned());
        let row = Bytes::from(record::encode(&[], &self.shared));
        let record = MessageRecord::decode(MessageId(0), &row).ok_or_else(damaged)?;
        let from_part = |id: u64, cut: Range<u64>| {
            let staged = self.parts.iter().find(|part| part.id() == id).and_then(|part| part.in_memory());
            let Some(whole) = staged else { return parts.read(kv, id, cut) };
            let place = |at: u64| usize::try_from(at).ok().filter(|at| *at <= whole.len()).ok_or_else(damaged);
            Ok(whole.slice(place(cut.start)?..place(cut.end)?))
        };
        record.read_from(&from_part, 0..self.size_bytes.min(octets_max))
    }

    pub(crate) fn parts(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.id()).collect()
    }

    /// Octets that a group has to write beside the records.
    pub(crate) fn part_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.size_bytes()).sum()
    }

    /// Adds what the parts need to a batch that refers to them. `written`: parts whose rows are in the batch.
    pub(crate) fn put_parts(&self, batch: &mut Batch, written: &mut BTreeSet<u64>) {
        for part in &self.parts {
            part.put(batch, !written.insert(part.id()));
        }
    }

    /// A batch with the rows of the parts is durable.
    pub(crate) fn set_in_store(&self) {
        self.parts.iter().for_each(|part| part.set_in_store());
    }
}
