//! FETCH: messages as the renderer wants to see them, a page at a time.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use rockdove_engine::{AccountId, Engine, EngineError, MailboxView, MessageId, MessageRecord, ReadyTexts};
use rockdove_imap::{
    Answer, Numbers, ObjectId,
    fetch::{
        FetchCursor, FetchFailure, FetchItem, FetchRequest, MessageFacts, MessageSource, SectionText, render_page,
    },
};
use rockdove_mail::{
    ModSeq, Uid, UidSet,
    mime::{self, Encoding, Kind, Section, Skeleton},
};

use super::{Conversation, NoAnswer, Reach};

/// Octets of a page: large enough that a page costs little, small enough that a slow client holds little.
const PAGE_OCTETS: usize = 256 * 1024;
/// Records read at once. They come as one request to the store, and what a full page leaves unused is read again.
const RECORDS_AT_ONCE: usize = 128;
/// Changed messages that are looked for before a page: about as many as it shows.
const FEW_CHANGED: usize = 4096;
/// What a message adds to a page when only what its record says is wanted, roughly.
const RECORD_OCTETS: u64 = 1024;

/// A page that is asked for.
pub(super) struct PageOf {
    pub(super) uids: Arc<UidSet>,
    pub(super) request: Arc<FetchRequest>,
    pub(super) numbers: Arc<Numbers>,
    pub(super) recent: Arc<UidSet>,
    pub(super) changed_since: Option<ModSeq>,
    pub(super) cursor: FetchCursor,
}

/// How far one must reach for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// Columns, which the view has.
    Columns,
    /// The record.
    Record,
    /// The message.
    Content,
}

fn depth(request: &FetchRequest) -> Depth {
    let of = |item: &FetchItem| match item {
        FetchItem::Uid
        | FetchItem::Flags
        | FetchItem::InternalDate
        | FetchItem::Size
        | FetchItem::EmailId
        | FetchItem::ThreadId
        | FetchItem::SaveDate
        | FetchItem::ModSeq => Depth::Columns,
        FetchItem::Preview { .. } | FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure => Depth::Record,
        FetchItem::Rfc822
        | FetchItem::Rfc822Header
        | FetchItem::Rfc822Text
        | FetchItem::Section { .. }
        | FetchItem::Binary { .. }
        | FetchItem::BinarySize { .. } => Depth::Content,
    };
    request.all_items().map(of).max().unwrap_or(Depth::Columns)
}

impl Conversation {
    pub(super) fn fetch(&self, page: &PageOf, reach: Reach) -> Result<Answer, NoAnswer> {
        let depth = depth(&page.request);
        if reach == Reach::Memory && depth > Depth::Columns {
            return Err(NoAnswer::NotInMemory);
        }
        let (account, view) = self.view(reach)?;
        let changed = page.changed_since.and_then(|modseq| few_changed(&view, modseq, &page.uids));
        let uids = changed.as_ref().unwrap_or(&page.uids);
        let mut messages = Messages {
            engine: self.engine(),
            account,
            view: &view,
            uids,
            depth,
            ahead: VecDeque::new(),
            texts: VecDeque::new(),
            skeleton: None,
            previews: VecDeque::new(),
        };
        let rendered = render_page(
            uids,
            &page.request,
            &page.numbers,
            &page.recent,
            page.changed_since,
            page.cursor,
            PAGE_OCTETS,
            &mut messages,
        );
        Ok(match rendered {
            Ok(rendered) => Answer::Page {
                octets: rendered.octets,
                next: rendered.next,
                missing: rendered.missing,
                unknown_cte: rendered.unknown_cte,
            },
            Err(_) => Answer::Broken,
        })
    }
}

/// Those of `uids` that have changed, when they are few: found without looking at segments that have not changed. Many
/// are found as well by looking at each, which does not begin anew for every page.
fn few_changed(view: &MailboxView, since: ModSeq, uids: &UidSet) -> Option<UidSet> {
    let changed: Vec<Uid> = view.changed_since(since).map(|entry| entry.uid).take(FEW_CHANGED + 1).collect();
    (changed.len() <= FEW_CHANGED).then(|| changed.into_iter().collect::<UidSet>().intersection(uids))
}

/// The messages of a view.
struct Messages<'a> {
    engine: &'a Engine,
    account: AccountId,
    view: &'a MailboxView,
    /// Those that are wanted, in this order.
    uids: &'a UidSet,
    depth: Depth,
    /// Records read and not yet passed, ascending.
    ahead: VecDeque<(Uid, Arc<MessageRecord>)>,
    /// The same of what is shown without a record.
    texts: VecDeque<(Uid, ReadyTexts)>,
    /// The structure looked at last.
    skeleton: Option<(Uid, Skeleton)>,
    /// Previews looked for and not yet passed, ascending.
    previews: VecDeque<(Uid, Option<String>)>,
}

impl Messages<'_> {
    fn record(&mut self, uid: Uid) -> Result<Arc<MessageRecord>, FetchFailure> {
        if !passed_to(&mut self.ahead, uid) {
            let (uids, ids) = self.wanted_from(uid);
            self.ahead = if let Ok(records) = self.engine.records_found(self.account, &ids) {
                found(uids, records)
            } else {
                // One of them may be damaged; the others are shown all the same.
                let id = self.view.entry(uid).ok_or(FetchFailure::Gone)?.message;
                let record = self.engine.record(self.account, id).map_err(|error| self.failure(uid, &error))?;
                VecDeque::from([(uid, record)])
            };
        }
        first(&self.ahead, uid).map(Arc::clone).ok_or(FetchFailure::Gone)
    }

    /// What is shown of a message without its header and body.
    fn texts(&mut self, uid: Uid) -> Result<ReadyTexts, FetchFailure> {
        if self.depth == Depth::Content {
            // The record is read anyway.
            let record = self.record(uid)?;
            let (envelope, body) = (record.envelope.clone(), record.body.clone());
            return Ok(ReadyTexts { envelope, body, body_structure: record.body_structure.clone() });
        }
        if !passed_to(&mut self.texts, uid) {
            let (uids, ids) = self.wanted_from(uid);
            self.texts = if let Ok(texts) = self.engine.ready_texts(self.account, &ids) {
                found(uids, texts)
            } else {
                let id = self.view.entry(uid).ok_or(FetchFailure::Gone)?.message;
                let texts = self.engine.ready_texts(self.account, &[id]);
                found(vec![uid], texts.map_err(|error| self.failure(uid, &error))?)
            };
        }
        first(&self.texts, uid).cloned().ok_or(FetchFailure::Gone)
    }

    /// A message and those that will be wanted next.
    fn wanted_from(&self, uid: Uid) -> (Vec<Uid>, Vec<MessageId>) {
        let (mut uids, mut ids) = (Vec::new(), Vec::new());
        let mut octets = 0;
        for next in following(self.uids, uid).take(RECORDS_AT_ONCE) {
            let Some(entry) = self.view.entry(next) else { continue };
            uids.push(next);
            ids.push(entry.message);
            octets += if self.depth == Depth::Content { entry.size_bytes } else { RECORD_OCTETS };
            if octets >= PAGE_OCTETS as u64 {
                break;
            }
        }
        (uids, ids)
    }

    /// The structure of a message.
    fn structure(&mut self, uid: Uid, record: &MessageRecord) -> &Skeleton {
        if self.skeleton.as_ref().is_none_or(|(of, _)| *of != uid) {
            self.skeleton = None;
        }
        &self.skeleton.get_or_insert_with(|| (uid, record.skeleton())).1
    }

    fn failure(&self, uid: Uid, error: &EngineError) -> FetchFailure {
        if let EngineError::NotFound(_) = error {
            return FetchFailure::Gone;
        }
        let (account, mailbox) = (self.account.0, self.view.id().0);
        tracing::error!(account, mailbox, uid, %error, "a message cannot be read for IMAP");
        FetchFailure::Unreadable
    }
}

/// Drops what comes before `uid`; whether it is there then.
fn passed_to<T>(ahead: &mut VecDeque<(Uid, T)>, uid: Uid) -> bool {
    while ahead.pop_front_if(|(next, _)| *next < uid).is_some() {}
    first(ahead, uid).is_some()
}

/// What is there of `uid`, when it comes next.
fn first<T>(ahead: &VecDeque<(Uid, T)>, uid: Uid) -> Option<&T> {
    ahead.front().filter(|(next, _)| *next == uid).map(|(_, found)| found)
}

/// What was found, with its UIDs.
fn found<T>(uids: Vec<Uid>, found: Vec<Option<T>>) -> VecDeque<(Uid, T)> {
    uids.into_iter().zip(found).filter_map(|(uid, found)| Some((uid, found?))).collect()
}

/// The UIDs of a set from this one on.
fn following(uids: &UidSet, from: Uid) -> impl Iterator<Item = Uid> + '_ {
    let ranges = uids.ranges();
    let at = ranges.partition_point(|range| range.1 < from);
    ranges.get(at..).unwrap_or_default().iter().flat_map(move |range| range.0.max(from)..=range.1)
}

impl MessageSource for Messages<'_> {
    fn facts(&mut self, uid: Uid) -> Option<MessageFacts> {
        let entry = self.view.entry(uid)?;
        Some(MessageFacts {
            flags: entry.flags,
            modseq: entry.modseq,
            internal_date: (entry.internal_date.unix_s, entry.internal_date.offset_minutes),
            size_bytes: entry.size_bytes,
            email_id: ObjectId { account: self.account.0, number: entry.message.0 },
            save_date_unix_s: entry.save_date_unix_s,
        })
    }

    fn envelope(&mut self, uid: Uid) -> Result<Bytes, FetchFailure> {
        Ok(self.texts(uid)?.envelope)
    }

    fn body(&mut self, uid: Uid) -> Result<Bytes, FetchFailure> {
        Ok(self.texts(uid)?.body)
    }

    fn body_structure(&mut self, uid: Uid) -> Result<Bytes, FetchFailure> {
        Ok(self.texts(uid)?.body_structure)
    }

    fn preview(&mut self, uid: Uid, lazy: bool) -> Result<Option<String>, FetchFailure> {
        if !passed_to(&mut self.previews, uid) {
            let entries = following(self.uids, uid).filter_map(|uid| self.view.entry(uid)).take(RECORDS_AT_ONCE);
            let (uids, ids): (Vec<Uid>, Vec<MessageId>) = entries.map(|entry| (entry.uid, entry.message)).unzip();
            let kept = self.engine.previews_kept(self.account, &ids).map_err(|error| self.failure(uid, &error))?;
            self.previews = uids.into_iter().zip(kept).collect();
        }
        let kept = first(&self.previews, uid).cloned().flatten();
        if kept.is_some() || lazy {
            return Ok(kept);
        }
        let record = self.record(uid)?;
        self.engine.preview(self.account, &record).map(Some).map_err(|error| self.failure(uid, &error))
    }

    fn section(&mut self, uid: Uid, path: &[u32], text: &SectionText) -> Result<Option<Range<u64>>, FetchFailure> {
        let record = self.record(uid)?;
        let section = match text {
            SectionText::All => Section::Whole,
            SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => Section::Header,
            SectionText::Text => Section::Text,
            SectionText::Mime => Section::Mime,
        };
        if path.is_empty() {
            // What is asked most often needs no structure.
            return Ok(match section {
                Section::Whole => Some(0..record.size_bytes),
                Section::Header => Some(record.header.clone()),
                Section::Text => Some(record.header.end..record.size_bytes),
                Section::Mime => None,
            });
        }
        Ok(mime::section(self.structure(uid, &record), path, section))
    }

    fn content(&mut self, uid: Uid, path: &[u32]) -> Result<Option<(Range<u64>, Encoding)>, FetchFailure> {
        let record = self.record(uid)?;
        if path.is_empty() {
            return Ok(Some((0..record.size_bytes, Encoding::Identity)));
        }
        let part = mime::part(self.structure(uid, &record), path);
        Ok(part
            .map(|part| (part.body.clone(), if part.kind == Kind::Leaf { part.encoding } else { Encoding::Identity })))
    }

    fn read(&mut self, uid: Uid, range: Range<u64>) -> Result<Bytes, FetchFailure> {
        let record = self.record(uid)?;
        let wanted = range.end.saturating_sub(range.start);
        let octets = self.engine.read(self.account, &record, range).map_err(|error| self.failure(uid, &error))?;
        if octets.len() as u64 == wanted {
            return Ok(octets);
        }
        let short = EngineError::Corrupt(format!("message {} ends too early", record.id.0));
        Err(self.failure(uid, &short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_message_begins_with_it() {
        let uids: UidSet = [1, 2, 3, 7, 9, 10].into_iter().collect();
        let after = |from| following(&uids, from).collect::<Vec<_>>();
        assert_eq!(after(0), [1, 2, 3, 7, 9, 10]);
        assert_eq!(after(3), [3, 7, 9, 10]);
        assert_eq!(after(8), [9, 10]);
        assert_eq!(after(11), [0_u32; 0]);
        assert_eq!(after(Uid::MAX), [0_u32; 0]);
    }

    #[test]
    fn only_what_columns_tell_is_answered_on_a_worker() {
        let request = |items: &[FetchItem]| FetchRequest { items: items.to_vec(), news: None };
        assert_eq!(depth(&request(&[FetchItem::Uid, FetchItem::Flags, FetchItem::Size])), Depth::Columns);
        assert_eq!(depth(&request(&[FetchItem::Uid, FetchItem::Envelope])), Depth::Record);
        assert_eq!(depth(&request(&[FetchItem::Rfc822Header, FetchItem::Flags])), Depth::Content);
    }
}
