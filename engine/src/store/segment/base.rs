//! Base rows: a whole segment as one value.
//!
//! ```text
//! 01 folded8 count.. gone..                      mod-sequence up to which deltas are folded in; varint counts
//! slots128                                       bitmap of the UIDs that are there (absent when count is 0)
//! message±… thread±… size… date±… zone±… save±… modseq±…     one column after the other
//! system1 [bitmap128]*                           which system flags occur, one bitmap for each
//! keywords1 (bit1 bitmap128)*                    which keywords occur, one bitmap for each
//! (slot±.. modseq±..)*                           the expunged
//! ```
//! `±` is a zigzag varint of the difference from the element before (`thread`: from the message id), the others are
//! plain varints. Bitmaps are indexed by UID within the segment, least significant bit first.

use rockdove_mail::ModSeq;

use super::{FlagBits, Row, SEGMENT_UIDS, Segment};
use crate::{
    command::InternalDate,
    store::octets::{Take, put_step, put_varint},
};

const VERSION: u8 = 1;
const BITMAP_BYTES: usize = SEGMENT_UIDS as usize / 8;
const SYSTEM_BITS: u8 = 5;
const SLOTS: u16 = 1024;

fn bitmap(slots: impl Iterator<Item = u16>) -> [u8; BITMAP_BYTES] {
    let mut bits = [0; BITMAP_BYTES];
    for slot in slots {
        bits[usize::from(slot) / 8] |= 1 << (slot % 8);
    }
    bits
}

fn has(bits: &[u8], slot: u16) -> bool {
    bits.get(usize::from(slot) / 8).is_some_and(|byte| byte & (1 << (slot % 8)) != 0)
}

impl Segment {
    /// The base row of this state.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(64 + self.len() * 20);
        row.push(VERSION);
        row.extend_from_slice(&self.highest.to_le_bytes());
        put_varint(&mut row, self.len() as u64);
        put_varint(&mut row, self.gone_slots.len() as u64);
        if !self.is_empty() {
            row.extend_from_slice(&bitmap(self.slots.iter().copied()));
        }
        steps(&mut row, self.messages.iter().map(|&id| u64::from(id)));
        for (message, thread) in self.messages.iter().zip(&self.threads) {
            put_step(&mut row, u64::from(*message), u64::from(*thread));
        }
        for &size in &self.sizes {
            put_varint(&mut row, u64::from(size));
        }
        steps(&mut row, self.dates.iter().map(|&date| date.cast_unsigned()));
        steps(&mut row, self.zones.iter().map(|&zone| i64::from(zone).cast_unsigned()));
        steps(&mut row, self.save_dates.iter().map(|&date| u64::from(date)));
        steps(&mut row, self.modseqs.iter().copied());
        self.encode_flags(&mut row);
        let mut before = (0, 0);
        for (&slot, &modseq) in self.gone_slots.iter().zip(&self.gone_modseqs) {
            put_step(&mut row, before.0, u64::from(slot));
            put_step(&mut row, before.1, modseq);
            before = (u64::from(slot), modseq);
        }
        row
    }

    fn encode_flags(&self, row: &mut Vec<u8>) {
        let occurring = self.system.iter().fold(0, |all, bits| all | bits);
        row.push(occurring);
        for bit in (0..SYSTEM_BITS).filter(|bit| occurring & (1 << bit) != 0) {
            let set = self.slots.iter().zip(&self.system).filter(|(_, bits)| **bits & (1 << bit) != 0);
            row.extend_from_slice(&bitmap(set.map(|(slot, _)| *slot)));
        }
        let occurring = self.keywords.iter().fold(0_u64, |all, bits| all | bits);
        row.push(occurring.count_ones().to_le_bytes()[0]);
        for bit in (0..64_u8).filter(|bit| occurring & (1 << bit) != 0) {
            let set = self.slots.iter().zip(&self.keywords).filter(|(_, bits)| **bits & (1 << bit) != 0);
            row.push(bit);
            row.extend_from_slice(&bitmap(set.map(|(slot, _)| *slot)));
        }
    }

    /// The segment of a base row. `None` when the row is damaged or of an unknown version.
    pub(crate) fn decode(number: u32, row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let highest: ModSeq = take.u64()?;
        let count: usize = take.small()?;
        let gone: usize = take.small()?;
        if count.checked_add(gone)? > SEGMENT_UIDS as usize {
            return None;
        }
        let mut segment = Self { number, highest, ..Self::default() };
        if count > 0 {
            let bits = take.slice(BITMAP_BYTES)?;
            segment.slots = (0..SLOTS).filter(|slot| has(bits, *slot)).collect();
        }
        if segment.slots.len() != count {
            return None;
        }
        segment.messages = column(&mut take, count)?;
        for &message in &segment.messages {
            segment.threads.push(u32::try_from(take.step(u64::from(message))?).ok()?);
        }
        segment.sizes = (0..count).map(|_| take.small()).collect::<Option<_>>()?;
        segment.dates = wide(&mut take, count)?.into_iter().map(u64::cast_signed).collect();
        let zones = wide(&mut take, count)?;
        segment.zones = zones.into_iter().map(|zone| zone.cast_signed().try_into().ok()).collect::<Option<_>>()?;
        segment.save_dates = column(&mut take, count)?;
        segment.modseqs = wide(&mut take, count)?;
        segment.decode_flags(&mut take)?;
        let mut before = (0, 0);
        for _ in 0..gone {
            before = (take.step(before.0)?, take.step(before.1)?);
            let slot = u16::try_from(before.0).ok().filter(|slot| u32::from(*slot) < SEGMENT_UIDS)?;
            if segment.gone_slots.last().is_some_and(|last| *last >= slot) {
                return None;
            }
            segment.gone_slots.push(slot);
            segment.gone_modseqs.push(before.1);
        }
        take.end()?;
        Some(segment)
    }

    fn decode_flags(&mut self, take: &mut Take<'_>) -> Option<()> {
        self.system = vec![0; self.slots.len()];
        let occurring = take.u8()?;
        if occurring >> SYSTEM_BITS != 0 {
            return None;
        }
        for bit in (0..SYSTEM_BITS).filter(|bit| occurring & (1 << bit) != 0) {
            let bits = take.slice(BITMAP_BYTES)?;
            for (system, slot) in self.system.iter_mut().zip(&self.slots) {
                *system |= u8::from(has(bits, *slot)) << bit;
            }
        }
        let keywords = take.u8()?;
        if keywords > 0 {
            self.keywords = vec![0; self.slots.len()];
        }
        for _ in 0..keywords {
            let bit = take.u8().filter(|bit| *bit < 64)?;
            let bits = take.slice(BITMAP_BYTES)?;
            for (keywords, slot) in self.keywords.iter_mut().zip(&self.slots) {
                *keywords |= u64::from(has(bits, *slot)) << bit;
            }
        }
        Some(())
    }
}

fn steps(row: &mut Vec<u8>, column: impl Iterator<Item = u64>) {
    let mut before = 0;
    for value in column {
        put_step(row, before, value);
        before = value;
    }
}

fn wide(take: &mut Take<'_>, count: usize) -> Option<Vec<u64>> {
    let mut before = 0;
    let mut next = || {
        before = take.step(before)?;
        Some(before)
    };
    (0..count).map(|_| next()).collect()
}

fn column(take: &mut Take<'_>, count: usize) -> Option<Vec<u32>> {
    wide(take, count)?.into_iter().map(|value| u32::try_from(value).ok()).collect()
}

/// An entry on its own, as delta rows hold it: `slot.. message.. thread± size.. date± zone± save.. system1 keywords..`
pub(super) fn put_row(bytes: &mut Vec<u8>, row: &Row) {
    put_varint(bytes, u64::from(row.uid % SEGMENT_UIDS));
    put_varint(bytes, u64::from(row.message));
    put_step(bytes, u64::from(row.message), u64::from(row.thread));
    put_varint(bytes, u64::from(row.size));
    put_step(bytes, 0, row.date.unix_s.cast_unsigned());
    put_step(bytes, 0, i64::from(row.date.offset_minutes).cast_unsigned());
    put_varint(bytes, u64::from(row.save_date));
    put_flags(bytes, row.flags);
}

pub(super) fn take_row(take: &mut Take<'_>, number: u32) -> Option<Row> {
    let slot: u32 = take.small().filter(|slot| *slot < SEGMENT_UIDS)?;
    let message: u32 = take.small()?;
    Some(Row {
        uid: number.checked_mul(SEGMENT_UIDS)?.checked_add(slot)?,
        message,
        thread: u32::try_from(take.step(u64::from(message))?).ok()?,
        size: take.small()?,
        date: InternalDate {
            unix_s: take.step(0)?.cast_signed(),
            offset_minutes: take.step(0)?.cast_signed().try_into().ok()?,
        },
        save_date: take.small()?,
        modseq: 0,
        flags: take_flags(take)?,
    })
}

pub(super) fn put_flags(bytes: &mut Vec<u8>, flags: FlagBits) {
    bytes.push(flags.system);
    put_varint(bytes, flags.keywords);
}

pub(super) fn take_flags(take: &mut Take<'_>) -> Option<FlagBits> {
    Some(FlagBits { system: take.u8().filter(|bits| bits >> SYSTEM_BITS == 0)?, keywords: take.varint()? })
}
