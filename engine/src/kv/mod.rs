//! The ordered key-value contract on which the whole engine stands.
//!
//! * What: snapshot reads (point, multi, range), an atomic batch of puts, deletes and range deletes, and one durability
//!   switch. Small on purpose, so that the same engine can later run on a distributed ordered store.
//! * In: keys of [`keys`], made of plain integers and bytes, in one of the [`families`].
//! * Out: bytes.
//! * Never: merges, locks rows or retries a conflict; the engine plans under its own locks and writes absolute values.
//! * Fails: with a [`KvError`]; a write that failed has not happened, and may be tried again when it says busy.
//!
//! Two implementations pass one conformance suite: [`rocks`] (RocksDB, the only file that names it) and [`memory`]
//! (the model, which also yields crash images).

pub mod families;
pub mod keys;
pub mod memory;
pub mod rocks;
mod wal;

use std::{fmt, ops::ControlFlow, sync::Arc};

use bytes::Bytes;

pub use families::Family;

/// Called for each row of a scan; answers whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reading, from the newest state or from a snapshot.
pub trait Read {
    /// The value of one key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// The values of several keys of one family, in the order asked.
    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError>;

    /// Visits the rows with `from <= key < to` in ascending order until told to stop.
    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError>;

    /// Visits the rows with `from <= key < to` in descending order until told to stop.
    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError>;
}

/// An ordered key-value store.
pub trait Kv: Read + Send + Sync {
    /// A consistent view of this moment. Keep it briefly: it holds old versions alive.
    fn snapshot(&self) -> Box<dyn Read + '_>;

    /// Applies the whole batch or nothing. With [`Durability::Synced`] the batch, and every batch before it, is on
    /// disk when this returns.
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError>;
}

/// A store shared by threads.
pub type SharedKv = Arc<dyn Kv>;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk before the call returns.
    Synced,
    /// Ordered before every later write, durable with the next synced one.
    Ordered,
}

/// One change in a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the value of a key.
    Put(Family, Bytes, Bytes),
    /// Removes a key; a missing one is no error.
    Delete(Family, Bytes),
    /// Removes every key with `from <= key < to`.
    DeleteRange(Family, Bytes, Bytes),
}

/// Changes that happen together, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The changes; a later one wins over an earlier one of the same key.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put(family, key.into(), value.into()));
    }

    /// Removes `key`.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete(family, key.into()));
    }

    /// Removes `from <= key < to`.
    pub fn delete_range(&mut self, family: Family, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.changes.push(Change::DeleteRange(family, from.into(), to.into()));
    }

    /// Octets of keys and values, for bounding a group of batches.
    pub fn size_bytes(&self) -> usize {
        self.changes
            .iter()
            .map(|change| match change {
                Change::Put(_, key, value) => key.len() + value.len(),
                Change::Delete(_, key) => key.len(),
                Change::DeleteRange(_, from, to) => from.len() + to.len(),
            })
            .sum()
    }
}

/// Why the store failed. All of these are the world's fault; the caller answers "try again later".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvError {
    /// No space left, or a write stall longer than its deadline: try again later.
    Busy(String),
    /// A read or write failed; the operator must look.
    Io(String),
    /// Stored bytes are not what was written; run `rockdove fsck`.
    Corrupt(String),
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(why) => write!(f, "the store is busy, try again later: {why}"),
            Self::Io(why) => write!(f, "the store failed, check the disk: {why}"),
            Self::Corrupt(why) => write!(f, "the store holds damaged data, run `rockdove fsck`: {why}"),
        }
    }
}

impl std::error::Error for KvError {}
