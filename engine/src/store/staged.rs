//! Parts on their way in: written while they stream, and given up in favour of an equal one that is there.
//!
//! What a part is found by is the keyed hash of its octets, known when the last of them has come. Equal parts that are
//! staged at the same time are one from then on, and one that is stored is referred to. Nothing of this shows outside: a
//! message is answered when the group that it is in is on disk, whatever that group has to write.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{
    frame::{self, FRAME_BYTES_MAX},
    parts::{LivePart, PartHead, Parts, remove_chunks},
};
use crate::{
    command::EngineError,
    kv::{Batch, Durability, Family, SharedKv, keys},
};

/// A row to be written.
pub(crate) type Row = (Family, Bytes, Bytes);

/// A part that staged messages refer to. It stays as long as one of them does.
#[derive(Debug)]
pub(crate) struct StagedPart {
    live: LivePart,
    pub(crate) hash: [u8; 32],
    /// What the first group with a record that refers to it writes; empty when the part is in the store, be it not for
    /// sure on disk.
    rows: Mutex<Vec<Row>>,
}

impl StagedPart {
    /// One with rows that are not in the store.
    pub(crate) fn new(live: LivePart, hash: [u8; 32], rows: Vec<Row>) -> Self {
        Self { live, hash, rows: Mutex::new(rows) }
    }

    pub(crate) fn id(&self) -> u64 {
        self.live.id
    }

    fn with_rows<T>(&self, work: impl FnOnce(&mut Vec<Row>) -> T) -> T {
        work(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All its octets, while none of them is in the store.
    pub(crate) fn in_memory(&self) -> Option<Bytes> {
        self.with_rows(|rows| {
            let row = rows.iter().find(|(family, ..)| *family == Family::Part).map(|(_, _, row)| row.clone());
            row.and_then(|row| frame::decode(&row))
        })
    }

    /// Octets that a group has to write for it.
    pub(crate) fn size_bytes(&self) -> usize {
        self.with_rows(|rows| rows.iter().map(|(_, key, row)| key.len() + row.len()).sum())
    }

    /// Adds to a batch what a record that refers to the part needs. `written`: the batch has its rows already.
    pub(crate) fn put(&self, batch: &mut Batch, written: bool) {
        self.with_rows(|rows| {
            if rows.is_empty() || written {
                batch.delete(Family::Reference, keys::part_candidate(self.id()));
                return;
            }
            for (family, key, row) in rows {
                batch.put(*family, key.clone(), row.clone());
            }
        });
    }

    /// A batch with the rows is durable.
    pub(crate) fn set_in_store(&self) {
        self.with_rows(|rows| *rows = Vec::new());
    }

    /// Writes the rows at once, so that they take no memory; until a record refers to the part it may be collected.
    pub(crate) fn write_out(&self, kv: &SharedKv) -> Result<(), EngineError> {
        let write = |rows: &mut Vec<Row>| {
            if rows.is_empty() {
                return Ok(());
            }
            write_rows(kv, self.id(), rows)?;
            *rows = Vec::new();
            Ok(())
        };
        self.live.parts().at_hash(&self.hash, || self.with_rows(write))
    }
}

/// Writes the rows of a part that may be collected.
fn write_rows(kv: &SharedKv, part: u64, rows: &[Row]) -> Result<(), EngineError> {
    let mut batch = Batch::default();
    batch.put(Family::Reference, keys::part_candidate(part), 0_i64.to_le_bytes().to_vec());
    for (family, key, row) in rows {
        batch.put(*family, key.clone(), row.clone());
    }
    Ok(kv.write(&batch, Durability::Ordered)?)
}

impl Drop for StagedPart {
    fn drop(&mut self) {
        self.live.parts().forget_staged(&self.hash);
    }
}

/// Writes a part while it comes.
pub(crate) struct PartWriter {
    kv: SharedKv,
    parts: Arc<Parts>,
    hasher: blake3::Hasher,
    /// The chunk that is filling up.
    chunk: Vec<u8>,
    /// The chunks before it: in the store, under a part that may be collected.
    spilled: Option<Spilled>,
}

struct Spilled {
    live: LivePart,
    chunks: u32,
    stored: u64,
}

impl PartWriter {
    pub(crate) fn new(kv: SharedKv, parts: Arc<Parts>) -> Self {
        Self { hasher: parts.hasher(), kv, parts, chunk: Vec::new(), spilled: None }
    }

    /// Octets so far.
    pub(crate) fn length(&self) -> u64 {
        let before = self.spilled.as_ref().map_or(0, |spilled| u64::from(spilled.chunks) * FRAME_BYTES_MAX as u64);
        before + self.chunk.len() as u64
    }

    /// All octets, as long as none is in the store.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        self.spilled.is_none().then_some(&self.chunk)
    }

    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunk.capacity()
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), EngineError> {
        while !bytes.is_empty() {
            if self.chunk.len() == FRAME_BYTES_MAX {
                self.flush()?;
            }
            let (some, rest) = bytes.split_at(bytes.len().min(FRAME_BYTES_MAX - self.chunk.len()));
            let (length, room) = (self.chunk.len() + some.len(), self.chunk.capacity());
            if length > room {
                // Doubling from an odd size would go beyond a chunk.
                self.chunk.reserve_exact((2 * room).clamp(length, FRAME_BYTES_MAX) - self.chunk.len());
            }
            self.chunk.extend_from_slice(some);
            bytes = rest;
        }
        Ok(())
    }

    /// Writes the full chunk.
    fn flush(&mut self) -> Result<(), EngineError> {
        let mut batch = Batch::default();
        if self.spilled.is_none() {
            let live = self.parts.allocate(&self.kv)?;
            batch.put(Family::Reference, keys::part_candidate(live.id), 0_i64.to_le_bytes().to_vec());
            self.spilled = Some(Spilled { live, chunks: 0, stored: 0 });
        }
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        self.hasher.update(&self.chunk);
        let row = frame::encode(&self.chunk);
        let stored = row.len() as u64;
        batch.put(Family::Part, keys::part_chunk(spilled.live.id, spilled.chunks), row);
        self.kv.write(&batch, Durability::Ordered)?;
        spilled.chunks += 1;
        spilled.stored += stored;
        self.chunk.clear();
        Ok(())
    }

    /// Ends the part: the one that was written, or an equal one. With `keep` its rows may stay in memory.
    pub(crate) fn finish(mut self, keep: bool) -> Result<Arc<StagedPart>, EngineError> {
        let length = self.length();
        self.hasher.update(&self.chunk);
        let hash = *self.hasher.finalize().as_bytes();
        let mut spilled = self.spilled.take();
        let parts = Arc::clone(&self.parts);
        let part = parts.staged(&self.kv, &hash, length, || {
            let row = frame::encode(&self.chunk);
            let (live, chunks, stored) = match spilled.take() {
                Some(Spilled { live, chunks, stored }) => (live, chunks, stored),
                None => (self.parts.allocate(&self.kv)?, 0, 0),
            };
            let head = PartHead { length, stored: stored + row.len() as u64, chunks: chunks + 1, hash };
            let rows = vec![
                (Family::Part, keys::part_chunk(live.id, chunks), row.into()),
                (Family::Reference, keys::part_head(live.id), head.encode().into()),
                (Family::Reference, keys::part_of_hash(&hash), live.id.to_le_bytes().to_vec().into()),
            ];
            if chunks == 0 && keep {
                return Ok((live, rows));
            }
            write_rows(&self.kv, live.id, &rows)?;
            Ok((live, Vec::new()))
        })?;
        if let Some(spilled) = spilled {
            self.give_up(&spilled);
        }
        Ok(part)
    }

    /// Removes the chunks of a part that an equal one stands in for. What fails here is collected like any part that
    /// nobody needs.
    fn give_up(&self, spilled: &Spilled) {
        let mut batch = Batch::default();
        remove_chunks(spilled.live.id, Some(spilled.chunks), &mut batch);
        batch.delete(Family::Reference, keys::part_candidate(spilled.live.id));
        self.kv.write(&batch, Durability::Ordered).unwrap_or_default();
    }
}
