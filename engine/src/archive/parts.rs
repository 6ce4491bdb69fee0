//! One part: its chunks, its head, and who needs it.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::fsck::{Finding, KEYS_END, Repair};
use crate::{
    command::{AccountId, EngineError, MessageId},
    engine::Engine,
    kv::{
        Batch, Durability, Family, Read,
        keys::{self, KeyReader},
    },
    store::{
        frame,
        parts::{PartHead, decode_hash},
        record::MessageRecord,
    },
};

/// References looked at together.
const READ_AT_ONCE: usize = 256;

/// A part that was gone through.
pub(super) struct PartCheck {
    pub(super) part: u64,
    /// There are bytes of it.
    pub(super) is_there: bool,
    pub(super) findings: Vec<Finding>,
    /// What repairs the findings that can be repaired.
    pub(super) repairs: Batch,
    /// The head that the chunks call for; `None` when there is none or one is damaged.
    head: Option<PartHead>,
    /// References that no record stands behind.
    pub(super) strays: Vec<(AccountId, Bytes)>,
    /// References that a record stands behind.
    pub(super) needed: usize,
    pub(super) is_candidate: bool,
}

impl PartCheck {
    /// Reads everything of a part. `all_known`: every message record of the store can be read, so that a part that no
    /// reference names is not needed.
    pub(super) fn run(
        read: &dyn Read,
        hasher: blake3::Hasher,
        part: u64,
        all_known: bool,
    ) -> Result<Self, EngineError> {
        let mut check = Self {
            part,
            is_there: false,
            findings: Vec::new(),
            repairs: Batch::default(),
            head: None,
            strays: Vec::new(),
            needed: 0,
            is_candidate: read.get(Family::Reference, &keys::part_candidate(part))?.is_some(),
        };
        check.read_uses(read)?;
        let damaged = check.read_chunks(read, hasher)?;
        if let Some(head) = check.check_head(read, damaged)? {
            check.check_hash(read, &head)?;
        }
        check.check_uses(all_known);
        Ok(check)
    }

    fn found(&mut self, family: Family, key: Bytes, what: &str, repair: Repair) {
        let what = format!("part {}: {what}", self.part);
        self.findings.push(Finding { account: None, mailbox: None, family, key, what, repair });
    }

    fn read_uses(&mut self, read: &dyn Read) -> Result<(), EngineError> {
        let prefix = keys::part_references(self.part);
        let mut uses: Vec<(u32, u32, Bytes)> = Vec::new();
        read.scan(Family::Reference, &prefix, &keys::prefix_end(&prefix), &mut |key, _| {
            let mut reader = KeyReader::new(key.get(prefix.len()..).unwrap_or_default());
            let key = Bytes::copy_from_slice(key);
            match (reader.u32(), reader.u32(), reader.end()) {
                (Some(account), Some(message), Some(())) => uses.push((account, message, key)),
                _ => self.found(Family::Reference, key, "a reference has a malformed key", Repair::Impossible),
            }
            ControlFlow::Continue(())
        })?;
        for some in uses.chunks(READ_AT_ONCE) {
            let rows: Vec<Bytes> =
                some.iter().map(|(account, message, _)| keys::message_record(*account, *message)).collect();
            let rows: Vec<&[u8]> = rows.iter().map(|key| &key[..]).collect();
            for ((account, message, key), row) in some.iter().zip(read.multi_get(Family::Message, &rows)?) {
                let row = match keys::queued_in(*account, *message) {
                    Some(queued) => read.get(Family::Queue, &keys::queue_record(queued))?,
                    None => row,
                };
                let names_it = |row: &Bytes| {
                    // A record that cannot be read may need it.
                    MessageRecord::decode(MessageId(*message), row)
                        .is_none_or(|record| record.parts().contains(&self.part))
                };
                if row.as_ref().is_some_and(names_it) {
                    self.needed += 1;
                } else {
                    self.strays.push((AccountId(*account), key.clone()));
                }
            }
        }
        Ok(())
    }

    /// Reads the chunks and answers whether one is damaged.
    fn read_chunks(&mut self, read: &dyn Read, mut hasher: blake3::Hasher) -> Result<bool, EngineError> {
        let (first, end) = (keys::part_chunk(self.part, 0), keys::prefix_end(&self.part.to_be_bytes()));
        let (mut length, mut stored, mut chunks, mut damaged) = (0_u64, 0_u64, 0_u32, false);
        read.scan(Family::Part, &first, &end, &mut |key, row| {
            let raw = frame::decode(&Bytes::copy_from_slice(row));
            let in_order = keys::part_chunk(self.part, chunks)[..] == *key;
            if let (Some(raw), true) = (&raw, in_order) {
                hasher.update(raw);
                length += raw.len() as u64;
                stored += row.len() as u64;
            } else {
                damaged = true;
                let what = if in_order { "a chunk is damaged" } else { "a chunk is missing before this one" };
                self.found(Family::Part, Bytes::copy_from_slice(key), what, Repair::Impossible);
            }
            chunks = chunks.saturating_add(1);
            ControlFlow::Continue(())
        })?;
        self.is_there = chunks > 0;
        if chunks > 0 && !damaged {
            self.head = Some(PartHead { length, stored, chunks, hash: *hasher.finalize().as_bytes() });
        }
        Ok(damaged)
    }

    /// Answers the head that there is or should be.
    fn check_head(&mut self, read: &dyn Read, damaged: bool) -> Result<Option<PartHead>, EngineError> {
        let key = keys::part_head(self.part);
        let row = read.get(Family::Reference, &key)?;
        let stored = row.as_deref().map(PartHead::decode);
        match (stored, self.head) {
            // It is still coming in, or was abandoned.
            (None, _) if self.needed == 0 => return Ok(None),
            (_, None) if !damaged => self.found(Family::Part, key, "none of its bytes are there", Repair::Impossible),
            (_, None) => {}
            (Some(Some(stored)), Some(head)) if stored == head => {}
            (Some(Some(_)), Some(_)) => {
                // Whether the octets or the head are wrong cannot be told: nothing new may refer to them.
                self.head = None;
                self.found(Family::Reference, key, "its bytes are not what was stored", Repair::Impossible);
            }
            (None | Some(None), Some(head)) => {
                self.repairs.put(Family::Reference, key.clone(), head.encode());
                self.found(Family::Reference, key, "its head is missing or unreadable", Repair::Possible);
            }
        }
        Ok(stored.flatten().or(self.head))
    }

    /// The row of the hash must lead to a sound part with these octets: this one or an equal one.
    fn check_hash(&mut self, read: &dyn Read, head: &PartHead) -> Result<(), EngineError> {
        let key = keys::part_of_hash(&head.hash);
        let named = read.get(Family::Reference, &key)?.and_then(|row| decode_hash(&row));
        if self.head.is_none() {
            if named == Some(self.part) {
                self.repairs.delete(Family::Reference, key.clone());
                self.found(Family::Reference, key, "new mail would be led to its damaged bytes", Repair::Possible);
            }
            return Ok(());
        }
        let equal = match named {
            Some(part) if part == self.part => true,
            Some(part) => head_of(read, part)?.is_some_and(|other| other.hash == head.hash),
            None => false,
        };
        if !equal {
            self.repairs.put(Family::Reference, key.clone(), self.part.to_le_bytes().to_vec());
            self.found(Family::Reference, key, "its hash does not lead to it", Repair::Possible);
        }
        Ok(())
    }

    fn check_uses(&mut self, all_known: bool) {
        for (_, key) in self.strays.clone() {
            self.repairs.delete(Family::Reference, key.clone());
            self.found(Family::Reference, key, "a reference from a message that does not need it", Repair::Possible);
        }
        if self.needed > 0 || self.is_candidate || (!self.is_there && self.strays.is_empty()) {
            return;
        }
        let key = keys::part_candidate(self.part);
        if all_known {
            self.repairs.put(Family::Reference, key.clone(), 0_i64.to_le_bytes().to_vec());
            self.found(Family::Reference, key, "nobody needs it and it is not marked for collection", Repair::Possible);
        } else {
            self.found(Family::Reference, key, "nobody known needs it", Repair::Impossible);
        }
    }
}

fn head_of(read: &dyn Read, part: u64) -> Result<Option<PartHead>, EngineError> {
    Ok(read.get(Family::Reference, &keys::part_head(part))?.and_then(|row| PartHead::decode(&row)))
}

/// Hash rows from `from` on that lead to no part with that hash, out of the first `limit`, and where to go on.
pub(super) fn stray_hashes(
    read: &dyn Read,
    from: &[u8],
    limit: usize,
) -> Result<(Vec<Bytes>, Option<Bytes>), EngineError> {
    let mut rows: Vec<(Bytes, Option<u64>)> = Vec::new();
    let mut next = None;
    read.scan(Family::Reference, from, &keys::prefix_end(&[keys::REFERENCE_HASH]), &mut |key, row| {
        let key = Bytes::copy_from_slice(key);
        if rows.len() == limit {
            next = Some(key);
            return ControlFlow::Break(());
        }
        rows.push((key, decode_hash(row)));
        ControlFlow::Continue(())
    })?;
    let mut strays = Vec::new();
    for (key, part) in rows {
        let head = match part {
            Some(part) => head_of(read, part)?,
            None => None,
        };
        if head.is_none_or(|head| keys::part_of_hash(&head.hash) != key) {
            strays.push(key);
        }
    }
    Ok((strays, next))
}

/// Looks at a page of hash rows while no group is written, and removes those that lead nowhere.
pub(super) fn remove_stray_hashes(
    engine: &Engine,
    from: &[u8],
    limit: usize,
) -> Result<(Vec<Bytes>, Option<Bytes>), EngineError> {
    let look = || {
        let found = stray_hashes(&**engine.kv() as &dyn Read, from, limit)?;
        let mut batch = Batch::default();
        found.0.iter().for_each(|key| batch.delete(Family::Reference, key.clone()));
        if !batch.changes.is_empty() {
            engine.kv().write(&batch, Durability::Synced)?;
        }
        Ok(found)
    };
    engine.exclusive(|| engine.parts().standstill(look))
}

/// The first part from `from` on that has any row.
pub(super) fn next_part(read: &dyn Read, from: u64) -> Result<Option<u64>, EngineError> {
    let mut next: Option<u64> = None;
    let kinds = [keys::REFERENCE_HEAD, keys::REFERENCE_USE, keys::REFERENCE_CANDIDATE];
    let ranges = kinds.map(|kind| {
        let start = keys::KeyWriter::kind(kind).u64(from).done();
        (Family::Reference, start, keys::prefix_end(&[kind]), 1)
    });
    let chunks = (Family::Part, keys::part_chunk(from, 0), Bytes::from_static(&KEYS_END), 0);
    for (family, start, end, skip) in ranges.into_iter().chain([chunks]) {
        read.scan(family, &start, &end, &mut |key, _| {
            // A malformed key is told of elsewhere.
            let Some(part) = KeyReader::new(key.get(skip..).unwrap_or_default()).u64() else {
                return ControlFlow::Continue(());
            };
            next = Some(next.map_or(part, |least| least.min(part)));
            ControlFlow::Break(())
        })?;
    }
    Ok(next)
}

/// Tells the rows of [`Family::Reference`] and [`Family::Part`] whose keys are malformed.
pub(super) fn check_reference_keys(read: &dyn Read, findings: &mut Vec<Finding>) -> Result<(), EngineError> {
    for family in [Family::Reference, Family::Part] {
        read.scan(family, &[], &KEYS_END, &mut |key, _| {
            let length = match (family, key.first()) {
                (Family::Part, _) => 12,
                (_, Some(&(keys::REFERENCE_HEAD | keys::REFERENCE_CANDIDATE))) => 9,
                (_, Some(&keys::REFERENCE_USE)) => 17,
                (_, Some(&keys::REFERENCE_HASH)) => 33,
                _ => 0,
            };
            if key.len() != length {
                let (key, what) = (Bytes::copy_from_slice(key), "nobody knows this row".to_owned());
                let repair = Repair::Impossible;
                findings.push(Finding { account: None, mailbox: None, family, key, what, repair });
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}
