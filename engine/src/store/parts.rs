//! Parts: large contents in chunks, stored once for the whole server.
//!
//! ```text
//! Part       part8 chunk4        -> frame of up to 256 KiB (see `frame`)
//! Reference  head                -> 02 length8 stored8 chunks4 hash32
//!                                   length: octets; stored: octets of its frames; hash: keyed BLAKE3 of the octets
//! Reference  hash                -> part8, the part with these octets; written and removed with its head
//! Reference  use                 -> (empty)
//! Reference  candidate           -> since8, seconds since 1970; 0 for one that was never referenced
//! ```
//! Ids are given out in blocks; the end of the block is stored before any of its ids is used, so an id never comes
//! twice. A part is *live* while a message being staged, or staged and not yet dropped, holds it; only a part that is
//! neither live nor referenced is collected, and one that is being collected cannot be held any more: who looks for its
//! octets then writes them anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::{Bytes, BytesMut};

use super::{
    frame::{self, FRAME_BYTES_MAX},
    staged::{Row, StagedPart},
};
use crate::{
    command::EngineError,
    kv::{Batch, Durability, Family, SharedKv, keys},
};

/// Part ids taken at once: one small write for this many large messages.
pub const PART_IDS_PER_BLOCK: u64 = 4_096;
/// How long a part stays after its last message was expunged: a session that still shows the message may read it.
pub const PART_GRACE_S: i64 = 600;
/// Chunks of a part that are deleted one by one; the default largest message has as many.
const CHUNKS_REMOVED_SINGLY_MAX: u32 = 256;
const ALLOCATOR: &str = "part";
const HEAD_VERSION: u8 = 2;
/// Locks of the parts that are staged; who waits for one waits for a read of the store.
const STAGED_SHARDS: usize = 64;
const ALLOCATOR_VERSION: u8 = 1;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a part as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub(crate) length: u64,
    pub(crate) stored: u64,
    pub(crate) chunks: u32,
    pub(crate) hash: [u8; 32],
}

impl PartHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = vec![HEAD_VERSION];
        row.extend_from_slice(&self.length.to_le_bytes());
        row.extend_from_slice(&self.stored.to_le_bytes());
        row.extend_from_slice(&self.chunks.to_le_bytes());
        row.extend_from_slice(&self.hash);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = super::octets::Take::versioned(row, HEAD_VERSION)?;
        let head = Self { length: take.u64()?, stored: take.u64()?, chunks: take.u32()?, hash: take.array()? };
        take.end().map(|()| head)
    }
}

/// The part that a row of a hash names.
pub(crate) fn decode_hash(row: &[u8]) -> Option<u64> {
    row.try_into().ok().map(u64::from_le_bytes)
}

/// The parts of the server.
#[derive(Debug)]
pub(crate) struct Parts {
    ids: Mutex<Range<u64>>,
    lives: Mutex<Lives>,
    /// Parts that are staged, by their hashes.
    staged: Vec<Mutex<HashMap<[u8; 32], Weak<StagedPart>>>>,
    cache: Mutex<ChunkCache>,
    hash_key: [u8; 32],
}

#[derive(Debug, Default)]
struct Lives {
    /// Who is held, and how often.
    live: BTreeMap<u64, usize>,
    /// Who is being collected.
    going: BTreeSet<u64>,
}

/// Keeps a part from being collected.
#[derive(Debug)]
pub(crate) struct LivePart {
    pub(crate) id: u64,
    parts: Arc<Parts>,
}

impl LivePart {
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }
}

impl Drop for LivePart {
    fn drop(&mut self) {
        let mut lives = lock(&self.parts.lives);
        let left = lives.live.get_mut(&self.id).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            lives.live.remove(&self.id);
        }
    }
}

impl Parts {
    pub(crate) fn new(hash_key: [u8; 32], cache_bytes_max: usize) -> Self {
        Self {
            ids: Mutex::new(0..0),
            lives: Mutex::default(),
            staged: (0..STAGED_SHARDS).map(|_| Mutex::default()).collect(),
            cache: Mutex::new(ChunkCache::new(cache_bytes_max)),
            hash_key,
        }
    }

    pub(crate) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.hash_key)
    }

    /// A new id, live until the guard is dropped.
    pub(crate) fn allocate(self: &Arc<Self>, kv: &SharedKv) -> Result<LivePart, EngineError> {
        let mut ids = lock(&self.ids);
        if ids.is_empty() {
            *ids = next_block(kv)?;
        }
        let id = ids.start;
        ids.start += 1;
        drop(ids);
        lock(&self.lives).live.insert(id, 1);
        Ok(LivePart { id, parts: Arc::clone(self) })
    }

    /// Holds a part, unless it is being collected.
    fn hold(self: &Arc<Self>, id: u64) -> Option<LivePart> {
        let mut lives = lock(&self.lives);
        if lives.going.contains(&id) {
            return None;
        }
        *lives.live.entry(id).or_default() += 1;
        Some(LivePart { id, parts: Arc::clone(self) })
    }

    /// The part with these octets: one that is staged, one that is stored, or else what `make` answers with the rows that
    /// are not in the store.
    pub(crate) fn staged(
        self: &Arc<Self>,
        kv: &SharedKv,
        hash: &[u8; 32],
        length: u64,
        make: impl FnOnce() -> Result<(LivePart, Vec<Row>), EngineError>,
    ) -> Result<Arc<StagedPart>, EngineError> {
        // Under the lock, so that of two who look for the same octets the second finds what the first has made.
        let mut staged = lock(self.shard(hash));
        if let Some(part) = staged.get(hash).and_then(Weak::upgrade) {
            return Ok(part);
        }
        let (live, rows) = match self.stored(kv, hash, length)? {
            Some(live) => (live, Vec::new()),
            None => make()?,
        };
        let part = Arc::new(StagedPart::new(live, *hash, rows));
        staged.insert(*hash, Arc::downgrade(&part));
        Ok(part)
    }

    fn shard(&self, hash: &[u8; 32]) -> &Mutex<HashMap<[u8; 32], Weak<StagedPart>>> {
        &self.staged[usize::from(hash[0]) % STAGED_SHARDS]
    }

    /// The stored part with these octets, held.
    fn stored(self: &Arc<Self>, kv: &SharedKv, hash: &[u8; 32], length: u64) -> Result<Option<LivePart>, EngineError> {
        let row = kv.get(Family::Reference, &keys::part_of_hash(hash))?;
        let Some(live) = row.and_then(|row| decode_hash(&row)).and_then(|part| self.hold(part)) else {
            return Ok(None);
        };
        // Only now that it is held it cannot go between looking and referring to it.
        let head = kv.get(Family::Reference, &keys::part_head(live.id))?.and_then(|row| PartHead::decode(&row));
        Ok(head.is_some_and(|head| head.hash == *hash && head.length == length).then_some(live))
    }

    /// Runs `work` while the staged part of this hash is not looked for.
    pub(crate) fn at_hash<T>(&self, hash: &[u8; 32], work: impl FnOnce() -> T) -> T {
        let _staged = lock(self.shard(hash));
        work()
    }

    /// Runs `work` while no part that is being staged reaches the store as a whole.
    pub(crate) fn standstill<T>(&self, work: impl FnOnce() -> T) -> T {
        let _staged: Vec<_> = self.staged.iter().map(lock).collect();
        work()
    }

    /// Nobody stages the part with this hash any more, unless somebody has begun to since.
    pub(crate) fn forget_staged(&self, hash: &[u8; 32]) {
        let mut staged = lock(self.shard(hash));
        if staged.get(hash).is_some_and(|part| part.strong_count() == 0) {
            staged.remove(hash);
        }
    }

    /// Makes the next id come from the allocator's row, because that was repaired.
    pub(crate) fn forget_ids(&self) {
        *lock(&self.ids) = 0..0;
    }

    /// Bytes of a part.
    pub(crate) fn read(&self, kv: &SharedKv, part: u64, range: Range<u64>) -> Result<Bytes, EngineError> {
        let chunk_bytes = FRAME_BYTES_MAX as u64;
        let mut whole = BytesMut::new();
        let mut at = range.start;
        while at < range.end {
            let number = at / chunk_bytes;
            let chunk = self.chunk(kv, part, u32::try_from(number).map_err(|_| damaged(part))?)?;
            let from = usize::try_from(at - number * chunk_bytes).map_err(|_| damaged(part))?;
            let until = chunk.len().min(usize::try_from(range.end - number * chunk_bytes).unwrap_or(usize::MAX));
            if from >= until {
                return Err(damaged(part));
            }
            let piece = chunk.slice(from..until);
            at += piece.len() as u64;
            if whole.is_empty() && at >= range.end {
                return Ok(piece);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    fn chunk(&self, kv: &SharedKv, part: u64, number: u32) -> Result<Bytes, EngineError> {
        if let Some(chunk) = lock(&self.cache).get((part, number)) {
            return Ok(chunk);
        }
        let row = kv.get(Family::Part, &keys::part_chunk(part, number))?.ok_or_else(|| damaged(part))?;
        let chunk = frame::decode(&row).ok_or_else(|| damaged(part))?;
        lock(&self.cache).put((part, number), &chunk);
        Ok(chunk)
    }

    /// Removes up to `limit` parts that nobody needs and answers how many. `now_unix_s` ends the grace time of those
    /// whose last message went more than [`PART_GRACE_S`] ago.
    pub(crate) fn collect(&self, kv: &SharedKv, now_unix_s: i64, limit: usize) -> Result<usize, EngineError> {
        let from = [keys::REFERENCE_CANDIDATE];
        let mut candidates = Vec::new();
        kv.scan(Family::Reference, &from, &keys::prefix_end(&from), &mut |key, row| {
            if candidates.len() >= limit {
                return ControlFlow::Break(());
            }
            let since = row.try_into().map_or(0, i64::from_le_bytes);
            if let Some(part) = key.get(1..).and_then(|id| id.try_into().ok().map(u64::from_be_bytes))
                && since.saturating_add(PART_GRACE_S) <= now_unix_s
            {
                candidates.push(part);
            }
            ControlFlow::Continue(())
        })?;
        let going = Going(self);
        let mut batch = Batch::default();
        let mut collected = 0;
        for part in candidates {
            // In this order: a reference is on disk before the staged message that brought it lets go of the part.
            if !going.begin(part) {
                continue;
            }
            if !is_referenced(kv, part)? {
                remove(kv, part, &mut batch)?;
                collected += 1;
            }
            batch.delete(Family::Reference, keys::part_candidate(part));
        }
        if !batch.changes.is_empty() {
            kv.write(&batch, Durability::Ordered)?;
        }
        Ok(collected)
    }
}

/// Keeps parts from being held until they are collected.
struct Going<'a>(&'a Parts);

impl Going<'_> {
    /// `false` when it is held.
    fn begin(&self, part: u64) -> bool {
        let mut lives = lock(&self.0.lives);
        let free = !lives.live.contains_key(&part);
        if free {
            lives.going.insert(part);
        }
        free
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        lock(&self.0.lives).going.clear();
    }
}

fn damaged(part: u64) -> EngineError {
    EngineError::Corrupt(format!("part {part}"))
}

/// Adds the removal of a part.
fn remove(kv: &SharedKv, part: u64, batch: &mut Batch) -> Result<(), EngineError> {
    let head = kv.get(Family::Reference, &keys::part_head(part))?.and_then(|row| PartHead::decode(&row));
    remove_chunks(part, head.map(|head| head.chunks), batch);
    batch.delete(Family::Reference, keys::part_head(part));
    if let Some(head) = head {
        let key = keys::part_of_hash(&head.hash);
        if kv.get(Family::Reference, &key)?.is_some_and(|row| decode_hash(&row) == Some(part)) {
            batch.delete(Family::Reference, key);
        }
    }
    Ok(())
}

/// Adds the removal of chunks. One by one where it is known how many there are, because many range deletes slow all
/// reading down until they are compacted away.
pub(crate) fn remove_chunks(part: u64, chunks: Option<u32>, batch: &mut Batch) {
    match chunks.filter(|chunks| *chunks <= CHUNKS_REMOVED_SINGLY_MAX) {
        Some(chunks) => (0..chunks).for_each(|chunk| batch.delete(Family::Part, keys::part_chunk(part, chunk))),
        None => {
            batch.delete_range(Family::Part, keys::part_chunk(part, 0), keys::part_chunk(part.saturating_add(1), 0));
        }
    }
}

fn is_referenced(kv: &SharedKv, part: u64) -> Result<bool, EngineError> {
    let prefix = keys::part_references(part);
    let mut found = false;
    kv.scan(Family::Reference, &prefix, &keys::prefix_end(&prefix), &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Takes the next block of ids; its end is stored before any of them is used.
fn next_block(kv: &SharedKv) -> Result<Range<u64>, EngineError> {
    let key = keys::allocator(ALLOCATOR);
    let first = match kv.get(Family::Sys, &key)? {
        Some(row) => {
            let mut take = super::octets::Take::versioned(&row, ALLOCATOR_VERSION);
            let next = take.as_mut().and_then(super::octets::Take::u64);
            next.ok_or_else(|| EngineError::Corrupt("the allocator of part ids".to_owned()))?
        }
        None => 1,
    };
    let end = first.saturating_add(PART_IDS_PER_BLOCK);
    let mut row = vec![ALLOCATOR_VERSION];
    row.extend_from_slice(&end.to_le_bytes());
    let mut batch = Batch::default();
    batch.put(Family::Sys, key, row);
    kv.write(&batch, Durability::Ordered)?;
    Ok(first..end)
}

/// Decompressed chunks used last, so that reading a message in pages decompresses each chunk once.
#[derive(Debug)]
struct ChunkCache {
    chunks: HashMap<(u64, u32), (u64, Bytes)>,
    /// By last use.
    order: BTreeMap<u64, (u64, u32)>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

impl ChunkCache {
    fn new(bytes_max: usize) -> Self {
        Self { chunks: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    fn get(&mut self, key: (u64, u32)) -> Option<Bytes> {
        let (used, chunk) = self.chunks.get_mut(&key)?;
        self.order.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, key);
        Some(chunk.clone())
    }

    fn put(&mut self, key: (u64, u32), chunk: &Bytes) {
        self.uses += 1;
        if let Some((used, old)) = self.chunks.insert(key, (self.uses, chunk.clone())) {
            self.order.remove(&used);
            self.bytes -= old.len();
        }
        self.order.insert(self.uses, key);
        self.bytes += chunk.len();
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((_, gone)) = self.chunks.remove(&oldest) {
                self.bytes -= gone.len();
            }
        }
    }
}
