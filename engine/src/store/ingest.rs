//! Streaming a message in.
//!
//! A message is read once, while it comes: its MIME skeleton is taken, its bytes are cut into chunks, hashed and
//! compressed. One chunk stays in memory; from the second chunk on they go to the store as they fill up, under a part
//! that a candidate row marks for collection until somebody's record refers to it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rockdove_mail::mime::{self, Scanner, Structure};

use super::{
    digest::digest,
    frame::{self, FRAME_BYTES_MAX},
    parts::{LivePart, PartHead, Parts},
    record::{self, Digest, MessageRecord, Piece, Shared},
};
use crate::{
    command::EngineError,
    engine::EngineOptions,
    kv::{Batch, Durability, Family, SharedKv, keys},
};

/// Octets of header that ENVELOPE, dates and threads are taken from; what comes later in a longer header is not
/// looked at. RFC 5322 has no limit; real headers stay under 64 KiB.
pub const HEADER_BYTES_MAX: usize = 128 * 1024;

/// A message that is coming in. Dropping it abandons it; what it has written is collected later.
pub struct Staging {
    kv: SharedKv,
    parts: Arc<Parts>,
    part_inline_max: usize,
    size_max: u64,
    scanner: Scanner,
    hasher: blake3::Hasher,
    /// The chunk that is filling up.
    chunk: Vec<u8>,
    size_bytes: u64,
    spilled: Option<Spilled>,
    failed: Option<EngineError>,
}

/// What is left in memory of a message whose first chunks are in the store.
struct Spilled {
    part: LivePart,
    chunks: u32,
    /// The beginning of the message, which has the header.
    header: Vec<u8>,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Staging {
    /// Most octets of a message that are in memory at once, beside what is known of its parts: a chunk, the header, and
    /// the header of a part. A smaller message never touches the disk before it is delivered.
    pub const MEMORY_BYTES_MAX: usize = FRAME_BYTES_MAX + HEADER_BYTES_MAX + mime::HEADER_OCTETS_MAX;

    pub(crate) fn new(kv: SharedKv, parts: Arc<Parts>, options: &EngineOptions) -> Self {
        let hasher = parts.hasher();
        Self {
            kv,
            parts,
            part_inline_max: options.part_inline_max,
            // Sizes are 32 bits wide in the columns; the rest is for the trace header.
            size_max: options.message_size_max.min(u64::from(u32::MAX / 2)),
            scanner: Scanner::new(),
            hasher,
            chunk: Vec::new(),
            size_bytes: 0,
            spilled: None,
            failed: None,
        }
    }

    /// Answers `error` to everything from now on.
    pub(crate) fn refuse(&mut self, error: EngineError) {
        self.failed = Some(error);
    }

    /// Takes the next bytes. Writes to the store when a chunk of 256 KiB is full, so call it where blocking is allowed
    /// once a message is that large. After an error every further call answers it again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let taken = self.take(bytes);
        if let Err(error) = &taken {
            self.failed = Some(error.clone());
            self.chunk = Vec::new();
        }
        taken
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), EngineError> {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        if self.size_bytes > self.size_max {
            return Err(EngineError::Limit(format!("a message has at most {} octets", self.size_max)));
        }
        self.scanner.push(bytes);
        while !bytes.is_empty() {
            if self.chunk.len() == FRAME_BYTES_MAX {
                self.flush()?;
            }
            let room = bytes.len().min(FRAME_BYTES_MAX - self.chunk.len());
            self.chunk.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
        }
        Ok(())
    }

    /// Octets taken so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes the full chunk.
    fn flush(&mut self) -> Result<(), EngineError> {
        let mut batch = Batch::default();
        if self.spilled.is_none() {
            let part = self.parts.allocate(&self.kv)?;
            batch.put(Family::Reference, keys::part_candidate(part.id), 0_i64.to_le_bytes().to_vec());
            let header = self.chunk[..HEADER_BYTES_MAX].to_vec();
            self.spilled = Some(Spilled { part, chunks: 0, header });
        }
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        self.hasher.update(&self.chunk);
        batch.put(Family::Part, keys::part_chunk(spilled.part.id, spilled.chunks), frame::encode(&self.chunk));
        self.kv.write(&batch, Durability::Ordered)?;
        spilled.chunks += 1;
        self.chunk.clear();
        Ok(())
    }

    /// Ends the message. It can then be delivered any number of times.
    pub fn finish(mut self) -> Result<Arc<StagedMessage>, EngineError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.spilled.is_some() {
            self.flush()?;
        }
        let inline = self.spilled.is_none() && self.chunk.len() < self.part_inline_max;
        let structure = std::mem::take(&mut self.scanner).finish();
        let start = self.spilled.as_ref().map_or(&self.chunk, |spilled| &spilled.header);
        let derived = Derived::of(start, self.size_bytes, &structure);
        let mut rows = Vec::new();
        let (part, piece) = if inline {
            (None, Piece::Inline(frame::encode(&self.chunk).into()))
        } else {
            let part = self.store(&mut rows)?;
            let piece = Piece::Part { part: part.id, offset: 0, length: self.size_bytes };
            (Some(part), piece)
        };
        let shared = derived.row(&[piece]);
        let (size_bytes, spilled) = (self.size_bytes, rows.is_empty());
        Ok(Arc::new(StagedMessage { size_bytes, shared, part, rows, in_store: AtomicBool::new(spilled) }))
    }

    /// The part of a message that is too large for its record. Its rows are in the store already, or in `rows`.
    fn store(&mut self, rows: &mut Vec<(Family, Bytes, Bytes)>) -> Result<LivePart, EngineError> {
        let hash = |hasher: &blake3::Hasher| *hasher.finalize().as_bytes();
        if let Some(spilled) = self.spilled.take() {
            let head = PartHead { length: self.size_bytes, chunks: spilled.chunks, hash: hash(&self.hasher) };
            let mut batch = Batch::default();
            batch.put(Family::Reference, keys::part_head(spilled.part.id), head.encode());
            self.kv.write(&batch, Durability::Ordered)?;
            return Ok(spilled.part);
        }
        let part = self.parts.allocate(&self.kv)?;
        self.hasher.update(&self.chunk);
        let head = PartHead { length: self.size_bytes, chunks: 1, hash: hash(&self.hasher) };
        rows.push((Family::Part, keys::part_chunk(part.id, 0), frame::encode(&self.chunk).into()));
        rows.push((Family::Reference, keys::part_head(part.id), head.encode().into()));
        Ok(part)
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

    fn row(&self, pieces: &[Piece]) -> Vec<u8> {
        Shared {
            size: self.size,
            header: self.header,
            digest: &self.digest,
            envelope: &self.envelope,
            body: &self.body,
            body_structure: &self.body_structure,
            skeleton: &self.skeleton,
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
    record::encode(&record.trace, &derived.row(&record.pieces))
}

/// A whole message, ready to be delivered or appended.
#[derive(Debug)]
pub struct StagedMessage {
    size_bytes: u64,
    /// What the records of all recipients have in common.
    shared: Vec<u8>,
    part: Option<LivePart>,
    /// Rows of the part that the first delivery writes.
    rows: Vec<(Family, Bytes, Bytes)>,
    /// The rows of the part are in the store, be it not for sure on disk.
    in_store: AtomicBool,
}

impl StagedMessage {
    /// Octets, without any trace header.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn shared(&self) -> &[u8] {
        &self.shared
    }

    pub(crate) fn part(&self) -> Option<u64> {
        self.part.as_ref().map(|part| part.id)
    }

    /// Adds the rows of the part to a batch that refers to it.
    pub(crate) fn put_part(&self, batch: &mut Batch) {
        let Some(part) = &self.part else { return };
        if self.in_store.load(Ordering::Acquire) {
            batch.delete(Family::Reference, keys::part_candidate(part.id));
            return;
        }
        for (family, key, value) in &self.rows {
            batch.put(*family, key.clone(), value.clone());
        }
    }

    /// A batch with the rows of the part is durable.
    pub(crate) fn set_in_store(&self) {
        self.in_store.store(true, Ordering::Release);
    }
}
