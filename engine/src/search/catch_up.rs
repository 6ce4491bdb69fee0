//! Catching up: takes in the texts of new messages, lists words, joins blocks, removes what is gone. In slices.
//!
//! Messages are given out ascending ids and never change, so all there is to remember is the first id that is not taken
//! in. A slice reads, works out rows, and writes them together with how far they reach: the machine may die at any
//! moment. Nothing is synced; what is lost is made again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
};

use bytes::Bytes;
use rockdove_mail::text;

use super::{
    TEXT_BYTES_MAX,
    block::{Rows, Words, Writer},
    column::{Column, Texts, texts},
    keys::{Sheet, entries_of, preview_entry},
    lookup::listed,
    page::{Page, Stored},
    reach::{Area, Reach, SEGMENT, SPANS},
    words::each_word,
};
use crate::{
    command::{AccountId, EngineError, MessageId},
    engine::Engine,
    kv::{
        Batch, Family, Read,
        keys::{self, KeyReader},
    },
    store::MessageRecord,
};

/// Octets of text taken in by one slice, unless a single message has more.
const SLICE_BYTES: usize = 4 * 1024 * 1024;
/// Rows of messages that are gone, looked at by one slice.
const GONE_AT_ONCE: usize = 4_096;
/// A block loses the words of messages that are gone when one in this many is.
const GONE_SHARE: u32 = 64;

/// What a slice has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Messages whose text was taken in.
    pub messages: u32,
    /// There is more to do.
    pub more: bool,
}

/// Pages that are written, by key; `None`: removed.
type Pages = BTreeMap<Bytes, Option<Bytes>>;

/// Works out the rows of one slice.
struct Slice<'a> {
    engine: &'a Engine,
    account: AccountId,
    reach: Reach,
    batch: Batch,
    pages: Pages,
}

impl Engine {
    /// Brings the texts of an account, which searching reads, a slice nearer to its messages. `thorough`: words of
    /// messages that are gone are removed even when they are few. Call it until there is no more to do; delivery,
    /// reading and searching go on meanwhile.
    pub fn catch_up(&self, account: AccountId, thorough: bool) -> Result<Caught, EngineError> {
        let _one = self.texts_lock();
        let next = match self.next_message(account) {
            Ok(next) => next,
            // It was removed, and its texts with it.
            Err(EngineError::NotFound(_)) => return Ok(Caught::default()),
            Err(error) => return Err(error),
        };
        let reach = Reach::load(self.kv_read(), account.0)?.filter(|reach| reach.next <= next);
        let caught = match reach {
            None => Err(EngineError::Corrupt("no texts that can be used".to_owned())),
            Some(reach) => {
                let slice = Slice { engine: self, account, reach, batch: Batch::default(), pages: Pages::new() };
                slice.run(next, thorough)
            }
        };
        match caught {
            Err(EngineError::Corrupt(_)) => {
                let mut batch = Batch::default();
                forget(&mut batch, account);
                batch.put(Family::Text, keys::text_reach(account.0), Reach::default().encode());
                self.write_derived(account, &batch)?;
                Ok(Caught { messages: 0, more: true })
            }
            caught => caught,
        }
    }
}

/// Removes all texts of an account: they are made again.
pub(crate) fn forget(batch: &mut Batch, account: AccountId) {
    let prefix = keys::account_prefix(account.0);
    let end = keys::prefix_end(&prefix);
    batch.delete_range(Family::Text, prefix, end);
}

fn damaged() -> EngineError {
    EngineError::Corrupt("texts".to_owned())
}

impl Slice<'_> {
    fn read(&self) -> &dyn Read {
        self.engine.kv_read()
    }

    fn run(mut self, next: u32, thorough: bool) -> Result<Caught, EngineError> {
        let mut caught = Caught { messages: 0, more: true };
        if let Some((tier, number)) = self.reach.foldable() {
            self.fold(tier, number)?;
        } else if self.reach.next < next {
            caught.messages = self.take_in(next)?;
        } else if !self.clear(thorough)? {
            caught.more = false;
        }
        if caught.more {
            self.write()?;
        }
        Ok(caught)
    }

    fn write(mut self) -> Result<(), EngineError> {
        for (key, row) in std::mem::take(&mut self.pages) {
            match row {
                Some(row) => self.batch.put(Family::Text, key, row),
                None => self.batch.delete(Family::Text, key),
            }
        }
        self.batch.put(Family::Text, keys::text_reach(self.account.0), self.reach.encode());
        self.engine.write_derived(self.account, &self.batch)
    }

    /// Takes in messages from `reach.next` on, within one segment, and closes it when that was the last of it.
    fn take_in(&mut self, next: u32) -> Result<u32, EngineError> {
        let open = self.reach.next / SEGMENT;
        let first = self.first_message(self.reach.next, next)?;
        let segment = first.map_or(next / SEGMENT, |first| first / SEGMENT);
        if segment != open {
            // What lies between holds no messages.
            let end = first.map_or(next, |_| segment * SEGMENT);
            if !self.reach.next.is_multiple_of(SEGMENT) {
                self.close(open)?;
            }
            self.reach.next = end;
            return Ok(0);
        }
        let end = (segment + 1).saturating_mul(SEGMENT).min(next);
        let rows = self.records(self.reach.next, end)?;
        let (mut bytes, mut taken, mut all) = (0, Vec::with_capacity(rows.len()), true);
        let mut sheets: [Vec<(u32, Vec<u8>)>; Sheet::ALL.len()] = Default::default();
        for (message, row) in rows {
            if bytes >= SLICE_BYTES {
                all = false;
                break;
            }
            match self.texts_of(message, &row, &mut sheets)? {
                Some(texts) => {
                    bytes += texts.iter().map(Vec::len).sum::<usize>();
                    taken.push((message, texts));
                }
                None => self.batch.put(Family::Text, keys::text_left_out(self.account.0, message), Bytes::new()),
            }
            self.reach.next = message + 1;
        }
        for column in Column::ALL {
            let place = usize::from(column.number());
            let texts = taken.iter().map(|(message, texts)| (*message, &texts[place][..]));
            self.append(column.number(), texts.filter(|(_, text)| !text.is_empty()));
        }
        for (sheet, entries) in Sheet::ALL.iter().zip(&sheets) {
            self.append(sheet.number(), entries.iter().map(|(message, entry)| (*message, &entry[..])));
        }
        if all {
            self.reach.next = end;
        }
        if self.reach.next.is_multiple_of(SEGMENT) {
            self.close(segment)?;
        }
        Ok(u32::try_from(taken.len()).unwrap_or(u32::MAX))
    }

    fn first_message(&self, from: u32, until: u32) -> Result<Option<u32>, EngineError> {
        let account = self.account.0;
        let mut first = None;
        let (from, until) = (keys::message_record(account, from), keys::message_record(account, until));
        self.read().scan(Family::Message, &from, &until, &mut |key, _| {
            first = KeyReader::new(key.get(4..).unwrap_or_default()).u32();
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    fn records(&self, from: u32, until: u32) -> Result<Vec<(u32, Bytes)>, EngineError> {
        let account = self.account.0;
        let mut rows = Vec::new();
        let (from, until) = (keys::message_record(account, from), keys::message_record(account, until));
        self.read().scan(Family::Message, &from, &until, &mut |key, row| {
            let mut reader = KeyReader::new(key.get(4..).unwrap_or_default());
            if let (Some(message), Some(keys::MESSAGE_RECORD)) = (reader.u32(), reader.u8()) {
                rows.push((message, Bytes::copy_from_slice(row)));
            }
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// `None` for a message that has too much text, or that cannot be read. Its sort keys are added to `sheets`.
    fn texts_of(
        &self,
        message: u32,
        row: &Bytes,
        sheets: &mut [Vec<(u32, Vec<u8>)>; Sheet::ALL.len()],
    ) -> Result<Option<Texts>, EngineError> {
        let Some(record) = MessageRecord::decode(MessageId(message), row) else { return Ok(None) };
        let [in_links, in_names, in_previews] = sheets;
        let [links, names] = entries_of(&record);
        in_links.push((message, links));
        in_names.push((message, names));
        match self.engine.read(self.account, &record, 0..record.size_bytes) {
            Ok(octets) => {
                let skeleton = record.skeleton();
                in_previews.push((message, preview_entry(&text::preview(&octets, &skeleton))));
                Ok(texts(&octets, &skeleton, TEXT_BYTES_MAX))
            }
            // Whoever searches is told of the damage.
            Err(EngineError::Corrupt(_) | EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds texts to the pages of a column or sheet. A page that is not full is left so until its segment closes: to write
    /// it again with every message that comes would cost more than the message.
    fn append<'t>(&mut self, column: u8, texts: impl Iterator<Item = (u32, &'t [u8])>) {
        let mut texts = texts.peekable();
        let mut page = Page::default();
        while let Some((message, text)) = texts.next() {
            page.push(message, text);
            if page.is_full() || texts.peek().is_none() {
                self.put_page(column, &page);
                page = Page::default();
            }
        }
    }

    fn put_page(&mut self, column: u8, page: &Page) {
        if let Some(first) = page.first() {
            let key = keys::text_page(self.account.0, column, first);
            self.pages.insert(key, Some(page.encode().into()));
        }
    }

    /// The keys of the pages of some messages.
    fn range(&self, column: u8, start: u32, span: u32) -> (Bytes, Bytes) {
        let account = self.account.0;
        let end = start.checked_add(span);
        let until = end.map_or_else(
            || keys::prefix_end(&keys::KeyWriter::default().u32(account).u8(keys::TEXT_PAGE).u8(column).done()),
            |end| keys::text_page(account, column, end),
        );
        (keys::text_page(account, column, start), until)
    }

    /// The pages of an area, as they will be.
    fn pages_of(&self, column: u8, area: Area) -> Result<BTreeMap<Bytes, Bytes>, EngineError> {
        let (from, until) = self.range(column, area.start(), area.span);
        let mut pages = BTreeMap::new();
        self.read().scan(Family::Text, &from, &until, &mut |key, row| {
            pages.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(row));
            ControlFlow::Continue(())
        })?;
        for (key, row) in self.pages.range(from..until) {
            match row {
                Some(row) => pages.insert(key.clone(), row.clone()),
                None => pages.remove(key),
            };
        }
        Ok(pages)
    }

    /// Joins the pages of a segment that is complete, and lists its words.
    fn close(&mut self, segment: u32) -> Result<(), EngineError> {
        let area = Area { tier: Some(0), number: segment, span: SEGMENT };
        for sheet in Sheet::ALL {
            self.join_pages(sheet.number(), area)?;
        }
        for column in Column::ALL {
            self.join_pages(column.number(), area)?;
            let rows = self.block_from_pages(column, area)?;
            self.put_block(column, (0, segment), rows);
        }
        Ok(())
    }

    fn join_pages(&mut self, column: u8, area: Area) -> Result<(), EngineError> {
        let rows = self.pages_of(column, area)?;
        let pages: Option<Vec<Stored<'_>>> = rows.values().map(|row| Stored::decode(row)).collect();
        let pages = pages.ok_or_else(damaged)?;
        if pages.iter().filter(|page| !page.is_full()).count() < 2 {
            return Ok(());
        }
        self.pages.extend(rows.keys().map(|key| (key.clone(), None)));
        let mut joined = Page::default();
        for page in &pages {
            for (message, text) in page.texts(page.text().ok_or_else(damaged)?) {
                joined.push(message, text);
                if joined.is_full() {
                    self.put_page(column, &joined);
                    joined = Page::default();
                }
            }
        }
        self.put_page(column, &joined);
        Ok(())
    }

    fn block_from_pages(&self, column: Column, area: Area) -> Result<Option<Rows>, EngineError> {
        let mut words: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
        for row in self.pages_of(column.number(), area)?.values() {
            let page = Stored::decode(row).ok_or_else(damaged)?;
            let text = page.text().ok_or_else(damaged)?;
            for (message, text) in page.texts(text) {
                let ordinal = message.saturating_sub(area.start());
                let mut note = |word: &[u8]| match words.get_mut(word) {
                    Some(ordinals) if ordinals.last() == Some(&ordinal) => {}
                    Some(ordinals) => ordinals.push(ordinal),
                    None => {
                        words.insert(word.to_vec(), vec![ordinal]);
                    }
                };
                column.values(text).for_each(|value| each_word(value, &mut note));
            }
        }
        let mut words: Vec<(Vec<u8>, Vec<u32>)> = words.into_iter().collect();
        words.sort_unstable();
        let mut writer = Writer::new();
        for (word, ordinals) in &words {
            writer.push(word, ordinals);
        }
        Ok(writer.finish())
    }

    fn put_block(&mut self, column: Column, (tier, number): (u8, u32), rows: Option<Rows>) {
        self.drop_block(column, (tier, number));
        let Some(rows) = rows else { return };
        let (account, column) = (self.account.0, column.number());
        self.batch.put(Family::Text, keys::text_words(account, column, tier, number), rows.words);
        for (chunk, row) in (0..).zip(rows.postings) {
            self.batch.put(Family::Text, keys::text_postings(account, column, tier, number, chunk), row);
        }
    }

    fn drop_block(&mut self, column: Column, (tier, number): (u8, u32)) {
        let (account, column) = (self.account.0, column.number());
        self.batch.delete(Family::Text, keys::text_words(account, column, tier, number));
        let from = keys::text_postings(account, column, tier, number, 0);
        let until = keys::prefix_end(&from[..from.len() - 4]);
        self.batch.delete_range(Family::Text, from, until);
    }

    /// The rows of a block: its words, its postings. `None`: it has no words.
    fn block(&self, column: Column, (tier, number): (u8, u32)) -> Result<Option<(Bytes, Vec<Bytes>)>, EngineError> {
        let (account, column) = (self.account.0, column.number());
        let words = self.read().get(Family::Text, &keys::text_words(account, column, tier, number))?;
        let Some(words) = words else { return Ok(None) };
        let mut chunks = Vec::new();
        let from = keys::text_postings(account, column, tier, number, 0);
        let until = keys::prefix_end(&from[..from.len() - 4]);
        self.read().scan(Family::Text, &from, &until, &mut |_, row| {
            chunks.push(Bytes::copy_from_slice(row));
            ControlFlow::Continue(())
        })?;
        Ok(Some((words, chunks)))
    }

    /// Joins the blocks below into one of this tier.
    fn fold(&mut self, tier: u8, number: u32) -> Result<(), EngineError> {
        let place = usize::from(tier);
        let (below, span) = (SPANS[place - 1], SPANS[place]);
        let parts = span / below;
        for column in Column::ALL {
            let mut blocks = Vec::new();
            for part in 0..parts {
                let lower = (tier - 1, number * parts + part);
                if let Some(block) = self.block(column, lower)? {
                    blocks.push((part * below, block));
                    self.drop_block(column, lower);
                }
            }
            let mut writer = Writer::new();
            let rows = match joined(&blocks, &mut writer) {
                Some(()) => writer.finish(),
                None => self.block_from_pages(column, Area { tier: Some(tier), number, span })?,
            };
            self.put_block(column, (tier, number), rows);
        }
        self.reach.folded[place - 1] += 1;
        Ok(())
    }

    /// Removes the texts of messages that are gone, in one area; `false` when there is nothing to do.
    fn clear(&mut self, thorough: bool) -> Result<bool, EngineError> {
        let gone = listed(self.read(), self.account.0, keys::TEXT_GONE, GONE_AT_ONCE)?;
        let gone: Vec<u32> = gone.into_iter().collect();
        let mut done = false;
        let area_of = |message: &u32| self.reach.area(*message);
        let areas: Vec<(Area, BTreeSet<u32>)> = gone
            .chunk_by(|a, b| area_of(a) == area_of(b))
            .filter_map(|some| Some((area_of(some.first()?), some.iter().copied().collect())))
            .collect();
        for (area, messages) in areas {
            let many = messages.len() >= (area.span / GONE_SHARE) as usize || gone.len() >= GONE_AT_ONCE;
            if !(thorough || many || area.tier.is_none()) {
                continue;
            }
            for column in Column::ALL {
                self.clear_pages(column.number(), area, &messages)?;
                if let Some(tier) = area.tier {
                    self.clear_block(column, (tier, area), &messages)?;
                }
            }
            for sheet in Sheet::ALL {
                self.clear_pages(sheet.number(), area, &messages)?;
            }
            for message in messages {
                self.batch.delete(Family::Text, keys::text_gone(self.account.0, message));
                self.batch.delete(Family::Text, keys::text_left_out(self.account.0, message));
            }
            done = true;
            break;
        }
        Ok(done)
    }

    fn clear_pages(&mut self, column: u8, area: Area, gone: &BTreeSet<u32>) -> Result<(), EngineError> {
        for (key, row) in self.pages_of(column, area)? {
            let stored = Stored::decode(&row).ok_or_else(damaged)?;
            if !stored.messages.iter().any(|(message, _)| gone.contains(message)) {
                continue;
            }
            let text = stored.text().ok_or_else(damaged)?;
            let mut page = Page::default();
            stored
                .texts(text)
                .filter(|(message, _)| !gone.contains(message))
                .for_each(|(message, text)| page.push(message, text));
            self.pages.insert(key, None);
            if !page.is_empty() {
                self.put_page(column, &page);
            }
        }
        Ok(())
    }

    fn clear_block(
        &mut self,
        column: Column,
        (tier, area): (u8, Area),
        gone: &BTreeSet<u32>,
    ) -> Result<(), EngineError> {
        let Some((words, chunks)) = self.block(column, (tier, area.number))? else { return Ok(()) };
        let mut writer = Writer::new();
        let left = Words::decode(&words).and_then(|words| {
            words.each(&chunks, &mut |word, mut ordinals| {
                ordinals.retain(|ordinal| !gone.contains(&(area.start() + ordinal)));
                writer.push(word, &ordinals);
            })
        });
        let rows = match left {
            Some(()) => writer.finish(),
            None => self.block_from_pages(column, area)?,
        };
        self.put_block(column, (tier, area.number), rows);
        Ok(())
    }
}

/// The block of several, each with what its ordinals are raised by. `None` when one is damaged.
fn joined(blocks: &[(u32, (Bytes, Vec<Bytes>))], writer: &mut Writer) -> Option<()> {
    let mut words: Vec<(&[u8], u32, Vec<u32>)> = Vec::new();
    for (offset, (list, chunks)) in blocks {
        Words::decode(list)?.each(chunks, &mut |word, mut ordinals| {
            for ordinal in &mut ordinals {
                *ordinal += offset;
            }
            words.push((word, *offset, ordinals));
        })?;
    }
    words.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    for same in words.chunk_by_mut(|a, b| a.0 == b.0) {
        let Some(((word, _, ordinals), others)) = same.split_first_mut() else { continue };
        for (_, _, more) in others {
            ordinals.extend_from_slice(more);
        }
        writer.push(word, ordinals);
    }
    Some(())
}
