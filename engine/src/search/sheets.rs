//! Reading sheets: the entries of many messages, from pages that stay unpacked in memory while there is room, and from
//! the records of the messages where the pages do not reach.

use std::{
    collections::HashMap,
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    keys::{Sheet, is_whole},
    page::Stored,
    reach::{Reach, SEGMENT},
};
use crate::{
    command::EngineError,
    kv::{Family, Read, keys},
};

/// The entries of a segment.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Ascending, each with the place of its entry.
    messages: Vec<(u32, Range<usize>)>,
    octets: Vec<u8>,
    /// Messages from here on are not in it.
    until: u32,
}

impl Block {
    /// Its size in memory.
    fn bytes(&self) -> usize {
        self.messages.len() * size_of::<(u32, Range<usize>)>() + self.octets.len()
    }

    fn push(&mut self, message: u32, entry: &[u8]) {
        let start = self.octets.len();
        self.octets.extend_from_slice(entry);
        self.messages.push((message, start..self.octets.len()));
    }

    fn place(&self, message: u32) -> Option<usize> {
        let at = self.messages.binary_search_by_key(&message, |(message, _)| *message).ok()?;
        self.messages.get(at).filter(|(_, entry)| !entry.is_empty()).map(|_| at)
    }

    fn entry(&self, at: usize) -> &[u8] {
        self.messages.get(at).and_then(|(_, entry)| self.octets.get(entry.clone())).unwrap_or_default()
    }
}

type Key = (u32, Sheet, u32);

/// Blocks in memory, bounded in octets. Those used longest ago leave.
#[derive(Debug)]
pub(crate) struct SheetCache(Mutex<Cached>);

#[derive(Debug)]
struct Cached {
    blocks: HashMap<Key, (Arc<Block>, u64)>,
    bytes: usize,
    bytes_max: usize,
    uses: u64,
}

impl SheetCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Mutex::new(Cached { blocks: HashMap::new(), bytes: 0, bytes_max, uses: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block that reaches up to `until`.
    fn get(&self, key: Key, until: u32) -> Option<Arc<Block>> {
        let mut cached = self.lock();
        cached.uses += 1;
        let uses = cached.uses;
        let (block, used) = cached.blocks.get_mut(&key)?;
        *used = uses;
        (block.until >= until).then(|| Arc::clone(block))
    }

    fn put(&self, key: Key, block: &Arc<Block>) {
        let mut cached = self.lock();
        cached.uses += 1;
        let uses = cached.uses;
        if let Some((before, _)) = cached.blocks.insert(key, (Arc::clone(block), uses)) {
            cached.bytes -= before.bytes();
        }
        cached.bytes += block.bytes();
        if cached.bytes > cached.bytes_max {
            cached.shrink();
        }
    }
}

impl Cached {
    /// Removes an eighth more than must be, so that this is not done for every block.
    fn shrink(&mut self) {
        let mut by_use: Vec<(u64, Key)> = self.blocks.iter().map(|(key, (_, used))| (*used, *key)).collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_use {
            if self.bytes <= self.bytes_max / 8 * 7 {
                break;
            }
            if let Some((block, _)) = self.blocks.remove(&key) {
                self.bytes -= block.bytes();
            }
        }
    }
}

/// The sheets of an account at one moment.
pub(crate) struct Sheets<'a> {
    read: &'a dyn Read,
    account: u32,
    next: u32,
    cache: &'a SheetCache,
}

/// Makes the entries of messages that no page has, in their order; an empty one for a message that is gone.
pub(super) type Make<'m> = &'m dyn Fn(&[u32]) -> Result<Vec<Vec<u8>>, EngineError>;

/// Messages whose records are read at once.
const MADE_AT_ONCE: usize = 512;

/// The entries of some messages, in the order asked.
pub(super) struct Entries {
    blocks: Vec<Arc<Block>>,
    places: Vec<(u32, u32)>,
}

impl Entries {
    pub(super) fn get(&self, at: usize) -> &[u8] {
        let Some((block, place)) = self.places.get(at) else { return &[] };
        self.blocks.get(*block as usize).map(|block| block.entry(*place as usize)).unwrap_or_default()
    }
}

impl<'a> Sheets<'a> {
    /// None when `texts` is, or has none that this version can use: then every entry is made.
    pub(crate) fn open(texts: Option<(&'a dyn Read, u32)>, cache: &'a SheetCache) -> Result<Option<Self>, EngineError> {
        let Some((read, account)) = texts else { return Ok(None) };
        let reach = Reach::load(read, account)?;
        Ok(reach.map(|reach| Self { read, account, next: reach.next, cache }))
    }

    /// The block of a segment; `None` when a page of it cannot be read.
    fn block(&self, sheet: Sheet, segment: u32) -> Result<Option<Arc<Block>>, EngineError> {
        let key = (self.account, sheet, segment);
        let until = self.next.min(segment.saturating_add(1).saturating_mul(SEGMENT));
        if let Some(block) = self.cache.get(key, until) {
            return Ok(Some(block));
        }
        let mut block = Block { until, ..Block::default() };
        let from = keys::text_page(self.account, sheet.number(), segment.saturating_mul(SEGMENT));
        let to = keys::text_page(self.account, sheet.number(), until);
        let mut whole = true;
        self.read.scan(Family::Text, &from, &to, &mut |_, row| {
            whole = Stored::decode(row)
                .and_then(|page| {
                    let text = page.text()?;
                    page.texts(text)
                        .all(|(message, entry)| {
                            block.push(message, entry);
                            is_whole(sheet, entry)
                        })
                        .then_some(())
                })
                .is_some();
            if whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if !whole {
            return Ok(None);
        }
        let block = Arc::new(block);
        self.cache.put(key, &block);
        Ok(Some(block))
    }
}

/// Entries of messages as far as the pages have them.
pub(super) fn kept(
    sheets: Option<&Sheets<'_>>,
    sheet: Sheet,
    messages: &[u32],
) -> Result<(Entries, Vec<usize>), EngineError> {
    let mut found = Entries { blocks: Vec::new(), places: vec![(u32::MAX, 0); messages.len()] };
    let mut missing = Vec::new();
    let mut open: HashMap<u32, Option<u32>> = HashMap::new();
    let mut last: Option<(u32, Option<u32>)> = None;
    for (at, message) in messages.iter().enumerate() {
        let segment = message / SEGMENT;
        let block = match (sheets.filter(|sheets| *message < sheets.next), last) {
            (None, _) => None,
            (Some(_), Some((of, block))) if of == segment => block,
            (Some(sheets), _) => {
                if let Some(block) = open.get(&segment) {
                    *block
                } else {
                    let block = sheets.block(sheet, segment)?.map(|block| {
                        found.blocks.push(block);
                        u32::try_from(found.blocks.len() - 1).unwrap_or(u32::MAX)
                    });
                    open.insert(segment, block);
                    block
                }
            }
        };
        if sheets.is_some_and(|sheets| *message < sheets.next) {
            last = Some((segment, block));
        }
        let place = block.and_then(|block| Some((block, found.blocks.get(block as usize)?.place(*message)?)));
        match place {
            Some((block, place)) => found.places[at] = (block, u32::try_from(place).unwrap_or(u32::MAX)),
            None => missing.push(at),
        }
    }
    Ok((found, missing))
}

/// The entries of all these messages.
pub(super) fn entries(
    sheets: Option<&Sheets<'_>>,
    sheet: Sheet,
    messages: &[u32],
    make: Make<'_>,
) -> Result<Entries, EngineError> {
    let (mut found, missing) = kept(sheets, sheet, messages)?;
    let number = u32::try_from(found.blocks.len()).unwrap_or(u32::MAX);
    let mut made = Block::default();
    for some in missing.chunks(MADE_AT_ONCE) {
        let wanted: Vec<u32> = some.iter().map(|at| messages[*at]).collect();
        for (at, entry) in some.iter().zip(make(&wanted)?) {
            found.places[*at] = (number, u32::try_from(made.messages.len()).unwrap_or(u32::MAX));
            made.push(messages[*at], &entry);
        }
    }
    found.blocks.push(Arc::new(made));
    Ok(found)
}
