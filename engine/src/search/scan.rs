//! Searching one message: its columns first, its record next, its text last. Right whatever the texts hold.

use std::sync::Arc;

use rockdove_mail::{
    Keyword,
    search::{DateField, Day, SearchField, SearchKey},
    text,
};

use super::fuzzy::{Terms, is_found};
use crate::{
    command::{EngineError, InternalDate},
    store::{MessageRecord, segment::Row},
};

/// Reads what a search needs beyond the columns.
pub(crate) trait Messages {
    /// The record of a message; `None` when it went meanwhile.
    fn record(&self, message: u32) -> Result<Option<Arc<MessageRecord>>, EngineError>;

    /// Its bytes: the header only, or all.
    fn bytes(&self, record: &MessageRecord, header_only: bool) -> Result<bytes::Bytes, EngineError>;
}

/// The key with its needles folded once.
pub(super) fn prepared(key: &SearchKey) -> SearchKey {
    match key {
        SearchKey::And(keys) => SearchKey::And(keys.iter().map(prepared).collect()),
        SearchKey::Or(a, b) => SearchKey::Or(Box::new(prepared(a)), Box::new(prepared(b))),
        SearchKey::Not(key) => SearchKey::Not(Box::new(prepared(key))),
        SearchKey::Text(field, needle) => SearchKey::Text(field.clone(), text::fold(needle)),
        SearchKey::Fuzzy(field, needle) => {
            let needle = text::fold(needle);
            // Without words there is nothing to be inexact about.
            let fuzzy = Terms::new(&needle).is_some();
            if fuzzy { SearchKey::Fuzzy(field.clone(), needle) } else { SearchKey::Text(field.clone(), needle) }
        }
        other => other.clone(),
    }
}

/// How much work deciding a key may take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effort {
    Columns,
    Record,
    Header,
    Whole,
}

const EFFORTS: [Effort; 4] = [Effort::Columns, Effort::Record, Effort::Header, Effort::Whole];

/// The outer `None`: not looked for yet. The inner one: looked for and not there.
#[allow(clippy::option_option, reason = "both levels have a meaning")]
type Looked<T> = Option<Option<T>>;

pub(super) struct Message<'a> {
    row: Row,
    keywords: &'a [Keyword],
    messages: &'a dyn Messages,
    record: Looked<Arc<MessageRecord>>,
    header: Option<bytes::Bytes>,
    whole: Option<bytes::Bytes>,
}

impl<'a> Message<'a> {
    pub(super) fn new(row: Row, keywords: &'a [Keyword], messages: &'a dyn Messages) -> Self {
        Self { row, keywords, messages, record: None, header: None, whole: None }
    }

    /// Whether a key holds whose needles are folded.
    pub(super) fn matches(&mut self, key: &SearchKey) -> Result<bool, EngineError> {
        for effort in EFFORTS {
            if let Some(decided) = self.decide(key, effort)? {
                return Ok(decided);
            }
        }
        Ok(false)
    }

    /// Whether the key holds, as far as this effort tells.
    fn decide(&mut self, key: &SearchKey, effort: Effort) -> Result<Option<bool>, EngineError> {
        Ok(match key {
            SearchKey::All => Some(true),
            SearchKey::And(keys) => self.decide_all(keys, effort)?,
            SearchKey::Or(a, b) => match self.decide(a, effort)? {
                Some(true) => Some(true),
                first => match self.decide(b, effort)? {
                    Some(true) => Some(true),
                    Some(false) => first,
                    None => None,
                },
            },
            SearchKey::Not(key) => self.decide(key, effort)?.map(|holds| !holds),
            SearchKey::Uids(uids) => Some(uids.contains(self.row.uid)),
            SearchKey::Flag(flag) => Some(self.row.flags.has(*flag)),
            SearchKey::Keyword(keyword) => Some(self.has_keyword(keyword)),
            SearchKey::Before(field, day) => self.day(*field, effort)?.map(|own| own.is_some_and(|own| own < *day)),
            SearchKey::On(field, day) => self.day(*field, effort)?.map(|own| own == Some(*day)),
            SearchKey::Since(field, day) => self.day(*field, effort)?.map(|own| own.is_some_and(|own| own >= *day)),
            SearchKey::Larger(size) => Some(u64::from(self.row.size) > *size),
            SearchKey::Smaller(size) => Some(u64::from(self.row.size) < *size),
            SearchKey::ArrivedBy(unix_s) => Some(self.row.date.unix_s <= *unix_s),
            // Whoever asks says when that is; see `find`.
            SearchKey::Older(_) | SearchKey::Younger(_) => Some(false),
            SearchKey::ModSeq(modseq) => Some(self.row.modseq >= *modseq),
            SearchKey::Message(message) => Some(self.row.message == *message),
            SearchKey::Text(field, needle) => {
                self.text(field, effort, &|octets, record| text::matches(octets, &record.skeleton(), field, needle))?
            }
            SearchKey::Fuzzy(field, needle) => self.text(field, effort, &|octets, record| {
                Terms::new(needle).is_some_and(|terms| is_found(&terms.in_message(field, octets, record)))
            })?,
        })
    }

    fn decide_all(&mut self, keys: &[SearchKey], effort: Effort) -> Result<Option<bool>, EngineError> {
        let mut open = false;
        for key in keys {
            match self.decide(key, effort)? {
                Some(false) => return Ok(Some(false)),
                Some(true) => {}
                None => open = true,
            }
        }
        Ok((!open).then_some(true))
    }

    fn has_keyword(&self, keyword: &Keyword) -> bool {
        let place = self.keywords.iter().position(|known| known == keyword);
        place.is_some_and(|place| self.row.flags.keywords & (1 << place) != 0)
    }

    /// The day of a date; the inner `None` when the message has no such date, and then no date key holds.
    fn day(&mut self, field: DateField, effort: Effort) -> Result<Looked<Day>, EngineError> {
        let of = |date: InternalDate| {
            let days = (date.unix_s.saturating_add(60 * i64::from(date.offset_minutes))).div_euclid(86_400);
            // Beyond these ends lie no dates that can be written.
            Day { days_since_epoch: i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }) }
        };
        match field {
            DateField::Internal => Ok(Some(Some(of(self.row.date)))),
            DateField::Saved => {
                let saved = InternalDate { unix_s: i64::from(self.row.save_date), offset_minutes: 0 };
                Ok(Some(Some(of(saved))))
            }
            DateField::Sent if effort < Effort::Record => Ok(None),
            DateField::Sent => Ok(Some(self.record()?.and_then(|record| record.sent()).map(of))),
        }
    }

    fn record(&mut self) -> Result<Option<Arc<MessageRecord>>, EngineError> {
        if let Some(record) = &self.record {
            return Ok(record.clone());
        }
        let record = self.messages.record(self.row.message)?;
        self.record = Some(record.clone());
        Ok(record)
    }

    /// Reads as much as a field needs, and asks about it.
    fn text(
        &mut self,
        field: &SearchField,
        effort: Effort,
        ask: &dyn Fn(&[u8], &MessageRecord) -> bool,
    ) -> Result<Option<bool>, EngineError> {
        let header_only = !matches!(field, SearchField::Body | SearchField::Text);
        if effort < if header_only { Effort::Header } else { Effort::Whole } {
            return Ok(None);
        }
        let Some(record) = self.record()? else { return Ok(Some(false)) };
        let kept = if header_only && self.whole.is_none() { &mut self.header } else { &mut self.whole };
        let bytes = match kept {
            Some(bytes) => bytes.clone(),
            None => kept.insert(self.messages.bytes(&record, header_only)?).clone(),
        };
        Ok(Some(ask(&bytes, &record)))
    }
}
