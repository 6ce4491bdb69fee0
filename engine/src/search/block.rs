//! Blocks: the words of a column in a range of messages, and which messages have each. Immutable.
//!
//! ```text
//! words:    01 pieces_from4 groups4 (place4 chunk4 offset4)*groups ff word ff word … ff
//! postings: 01 (code.. …)*
//! code:     ordinal << 2 | 0                one message
//!           octets << 2 | 1  step..*        several: steps from 0, then from the one before
//!           octets << 2 | 2  bitmap…        many
//! ```
//! Words ascend; pieces, which begin with `fe`, come behind all words, from `pieces_from` of the list on. Sixteen words
//! are a group: its place in the list, and where the postings of its first word are. Ordinals count from the first
//! message id of the block.

use memchr::{memchr_iter, memmem};

use super::{page::PIECE, words::PIECE_MARK};
use crate::store::octets::{Take, put_varint};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 9;
const GROUP_BYTES: usize = 12;
const GROUP_WORDS: usize = 16;
/// A chunk of postings is closed behind the group with which it has this many octets.
const CHUNK_BYTES: usize = 16 * 1024;

const ONE: u64 = 0;
const STEPS: u64 = 1;
const BITMAP: u64 = 2;

/// Message ordinals of a block, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ordinals {
    bits: Vec<u64>,
}

impl Ordinals {
    pub(super) fn new(span: u32) -> Self {
        Self { bits: vec![0; span.div_ceil(64) as usize] }
    }

    pub(super) fn insert(&mut self, ordinal: u32) {
        if let Some(word) = self.bits.get_mut((ordinal / 64) as usize) {
            *word |= 1 << (ordinal % 64);
        }
    }

    pub(super) fn has(&self, ordinal: u32) -> bool {
        self.bits.get((ordinal / 64) as usize).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    pub(super) fn unite(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(word, other)| *word &= !other);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.bits).flat_map(|(number, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some(number * 64 + bit)
            })
        })
    }
}

/// Writes a block, word by word.
pub(super) struct Writer {
    list: Vec<u8>,
    pieces_from: Option<u32>,
    groups: Vec<[u32; 3]>,
    in_group: usize,
    chunks: Vec<Vec<u8>>,
}

/// The rows of a block.
pub(super) struct Rows {
    pub(super) words: Vec<u8>,
    pub(super) postings: Vec<Vec<u8>>,
}

fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { list: vec![PIECE], pieces_from: None, groups: Vec::new(), in_group: 0, chunks: Vec::new() }
    }

    /// Adds a word that comes after all others, and the messages that have it, ascending. Without messages it is left
    /// out.
    pub(super) fn push(&mut self, word: &[u8], ordinals: &[u32]) {
        if ordinals.is_empty() {
            return;
        }
        if word.first() == Some(&PIECE_MARK) && self.pieces_from.is_none() {
            self.pieces_from = Some(small(self.list.len()));
        }
        if self.in_group == 0 {
            if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK_BYTES) {
                self.chunks.push(vec![VERSION]);
            }
            let offset = self.chunks.last().map_or(0, Vec::len);
            self.groups.push([small(self.list.len()), small(self.chunks.len() - 1), small(offset)]);
        }
        self.in_group = (self.in_group + 1) % GROUP_WORDS;
        self.list.extend_from_slice(word);
        self.list.push(PIECE);
        if let Some(chunk) = self.chunks.last_mut() {
            put_postings(chunk, ordinals);
        }
    }

    /// `None` when there are no words.
    pub(super) fn finish(self) -> Option<Rows> {
        if self.groups.is_empty() {
            return None;
        }
        let mut words = Vec::with_capacity(HEAD_BYTES + self.groups.len() * GROUP_BYTES + self.list.len());
        words.push(VERSION);
        words.extend(self.pieces_from.unwrap_or(small(self.list.len())).to_le_bytes());
        words.extend(small(self.groups.len()).to_le_bytes());
        words.extend(self.groups.iter().flatten().flat_map(|number| number.to_le_bytes()));
        words.extend(self.list);
        Some(Rows { words, postings: self.chunks })
    }
}

fn put_postings(chunk: &mut Vec<u8>, ordinals: &[u32]) {
    if let [ordinal] = ordinals {
        return put_varint(chunk, u64::from(*ordinal) << 2 | ONE);
    }
    let mut steps = Vec::with_capacity(ordinals.len());
    let mut before = 0;
    for ordinal in ordinals {
        put_varint(&mut steps, u64::from(ordinal - before));
        before = *ordinal;
    }
    let bitmap_bytes = before as usize / 8 + 1;
    if steps.len() <= bitmap_bytes {
        put_varint(chunk, (steps.len() as u64) << 2 | STEPS);
        return chunk.extend(steps);
    }
    let mut bitmap = vec![0_u8; bitmap_bytes];
    for ordinal in ordinals {
        bitmap[*ordinal as usize / 8] |= 1 << (ordinal % 8);
    }
    put_varint(chunk, (bitmap_bytes as u64) << 2 | BITMAP);
    chunk.extend(bitmap);
}

/// Reads the postings of one word; `None` when they are damaged.
fn take_postings(take: &mut Take<'_>, tell: &mut dyn FnMut(u32)) -> Option<()> {
    let code = take.varint()?;
    let value = code >> 2;
    match code & 3 {
        ONE => tell(u32::try_from(value).ok()?),
        STEPS => {
            let mut steps = Take::new(take.slice(usize::try_from(value).ok()?)?);
            let mut ordinal = 0_u32;
            while steps.end().is_none() {
                ordinal = ordinal.checked_add(steps.small()?)?;
                tell(ordinal);
            }
        }
        BITMAP => {
            for (number, bits) in (0_u32..).zip(take.slice(usize::try_from(value).ok()?)?) {
                (0..8).filter(|bit| bits >> bit & 1 == 1).for_each(|bit| tell(number * 8 + bit));
            }
        }
        _ => return None,
    }
    Some(())
}

fn skip_postings(take: &mut Take<'_>) -> Option<()> {
    let code = take.varint()?;
    if code & 3 != ONE {
        take.slice(usize::try_from(code >> 2).ok()?)?;
    }
    Some(())
}

/// A chunk of postings, ready to be read.
fn chunk_of(row: &[u8]) -> Option<&[u8]> {
    row.split_first().filter(|(version, _)| **version == VERSION).map(|_| row)
}

/// The row of words of a block.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    groups: &'a [u8],
    list: &'a [u8],
    pieces_from: usize,
}

/// Which words: ascending places (group, word in the group).
pub(super) type Hits = Vec<(u32, u8)>;

impl<'a> Words<'a> {
    /// `None` when the row is damaged or of an unknown version.
    pub(super) fn decode(row: &'a [u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let (pieces_from, groups) = (take.u32()? as usize, take.u32()? as usize);
        let groups = take.slice(groups.checked_mul(GROUP_BYTES)?)?;
        let list = take.rest();
        (pieces_from <= list.len() && list.last() == Some(&PIECE)).then_some(Self { groups, list, pieces_from })
    }

    fn group(&self, number: usize) -> Option<[u32; 3]> {
        let mut take = Take::new(self.groups.get(number * GROUP_BYTES..)?);
        Some([take.u32()?, take.u32()?, take.u32()?])
    }

    /// The words that have this, or with `pieces` the pieces. `None` when the row is damaged.
    pub(super) fn find(&self, wanted: &[u8], pieces: bool) -> Option<Hits> {
        let (from, until) = if pieces { (self.pieces_from, self.list.len()) } else { (0, self.pieces_from) };
        // The separator before the first piece belongs to both.
        let from = from.saturating_sub(usize::from(pieces));
        let part = self.list.get(from..until)?;
        let mut hits = Hits::new();
        let (mut group, count) = (0, self.groups.len() / GROUP_BYTES);
        let mut next = 0;
        for at in memmem::find_iter(part, wanted) {
            // The octet of the find that is in the word itself.
            let place = from + at + usize::from(wanted.first() == Some(&PIECE));
            if place < next {
                continue;
            }
            while group + 1 < count && self.group(group + 1)?[0] as usize <= place {
                group += 1;
            }
            let start = self.group(group)?[0] as usize;
            let index = memchr_iter(PIECE, self.list.get(start..place)?).count();
            hits.push((u32::try_from(group).ok()?, u8::try_from(index).ok()?));
            next = place + memchr::memchr(PIECE, self.list.get(place..)?)?;
        }
        Some(hits)
    }

    /// Adds the messages of these words. `chunk` reads a chunk of postings. `None` when something is damaged.
    pub(super) fn unite<E>(
        &self,
        hits: &Hits,
        into: &mut Ordinals,
        chunk: &mut dyn FnMut(u32) -> Result<Option<bytes::Bytes>, E>,
    ) -> Result<Option<()>, E> {
        let mut open: Option<(u32, bytes::Bytes)> = None;
        let mut rest = &hits[..];
        while let Some((group, _)) = rest.first() {
            let Some([_, number, offset]) = self.group(*group as usize) else { return Ok(None) };
            if open.as_ref().is_none_or(|(open, _)| *open != number) {
                let Some(row) = chunk(number)? else { return Ok(None) };
                open = Some((number, row));
            }
            let count = rest.iter().take_while(|(other, _)| other == group).count();
            let (these, others) = rest.split_at(count);
            rest = others;
            let row = open.as_ref().map(|(_, row)| row).and_then(|row| chunk_of(row));
            let postings = row.and_then(|row| row.get(offset as usize..));
            if postings.and_then(|postings| unite_group(postings, these, into)).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    /// Every word and its place. `None` when the row is damaged.
    pub(super) fn each_place(&self, tell: &mut dyn FnMut(&'a [u8], (u32, u8))) -> Option<()> {
        let words = self.list.get(1..self.list.len().checked_sub(1)?)?.split(|octet| *octet == PIECE);
        let groups = self.groups.len() / GROUP_BYTES;
        for (number, word) in words.enumerate() {
            let (group, index) = (number / GROUP_WORDS, number % GROUP_WORDS);
            if group >= groups {
                return None;
            }
            tell(word, (u32::try_from(group).ok()?, u8::try_from(index).ok()?));
        }
        Some(())
    }

    /// Every word with its messages, in order. `None` when something is damaged.
    pub(super) fn each(&self, chunks: &[bytes::Bytes], tell: &mut dyn FnMut(&'a [u8], Vec<u32>)) -> Option<()> {
        let mut words = self.list.get(1..self.list.len().checked_sub(1)?)?.split(|octet| *octet == PIECE);
        for group in 0..self.groups.len() / GROUP_BYTES {
            let [_, number, offset] = self.group(group)?;
            let chunk = chunk_of(chunks.get(number as usize)?)?;
            let mut take = Take::new(chunk.get(offset as usize..)?);
            for word in words.by_ref().take(GROUP_WORDS) {
                let mut ordinals = Vec::new();
                take_postings(&mut take, &mut |ordinal| ordinals.push(ordinal))?;
                tell(word, ordinals);
            }
        }
        words.next().is_none().then_some(())
    }
}

fn unite_group(postings: &[u8], hits: &[(u32, u8)], into: &mut Ordinals) -> Option<()> {
    let mut take = Take::new(postings);
    let mut at = 0;
    for (_, index) in hits {
        while at < *index {
            skip_postings(&mut take)?;
            at += 1;
        }
        take_postings(&mut take, &mut |ordinal| into.insert(ordinal))?;
        at += 1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn blocks_come_back_and_are_found_in() {
        let mut writer = Writer::new();
        let mut expected: Vec<(Vec<u8>, Vec<u32>)> = Vec::new();
        for number in 0..2_000_u32 {
            let word = if number < 1_500 { format!("w{number:04}x").into_bytes() } else { Vec::new() };
            let word =
                if word.is_empty() { [&[PIECE_MARK][..], format!("p{number}").as_bytes()].concat() } else { word };
            let ordinals: Vec<u32> = match number % 3 {
                0 => vec![number],
                1 => vec![number % 7, 100 + number, 4_000],
                _ => (0..4_000).filter(|ordinal| ordinal % 3 != number % 5).collect(),
            };
            writer.push(&word, &ordinals);
            expected.push((word, ordinals));
        }
        let rows = writer.finish().expect("words");
        assert!(rows.postings.len() > 1);
        let words = Words::decode(&rows.words).expect("whole");
        let chunks: Vec<Bytes> = rows.postings.into_iter().map(Bytes::from).collect();
        let mut found = Vec::new();
        words.each(&chunks, &mut |word, ordinals| found.push((word.to_vec(), ordinals))).expect("whole");
        assert!(found == expected);
        for (wanted, pieces) in [
            (&b"w00"[..], false),
            (b"7", false),
            (b"\xffw12", false),
            (b"9x\xff", false),
            (b"\xffw0500x\xff", false),
            (b"\xffw", false),
            (b"x\xff", false),
            (b"p15", true),
            (b"p", true),
            (b"nothing", false),
        ] {
            let has = |word: &[u8]| {
                (word[0] == PIECE_MARK) == pieces
                    && memmem::find(&[&[PIECE], word, &[PIECE]].concat(), wanted).is_some()
            };
            let mut into = Ordinals::new(4_096);
            let hits = words.find(wanted, pieces).expect("whole");
            let mut chunk = |number: u32| Ok::<_, ()>(chunks.get(number as usize).cloned());
            words.unite(&hits, &mut into, &mut chunk).expect("read").expect("whole");
            let mut all: Vec<u32> =
                expected.iter().filter(|(word, _)| has(word)).flat_map(|(_, ordinals)| ordinals.clone()).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(into.iter().collect::<Vec<_>>(), all, "{}", String::from_utf8_lossy(wanted));
        }
    }
}
