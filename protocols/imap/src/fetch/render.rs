//! Writes FETCH responses.

use std::ops::Range;

use bytes::Bytes;
use rockdove_mail::{Flags, ModSeq, Uid, UidSet, header, mime::Encoding};

use super::{FetchItem, FetchRequest, Section, SectionText};
use crate::{
    ask::ObjectId,
    grammar::write,
    limits::{HEADER_OCTETS_MAX, LITERAL_OCTETS_MIN, PAGE_MESSAGES_MAX, SLICE_OCTETS_MIN},
    numbers::Numbers,
};

/// Where the next page begins; the default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchCursor {
    /// Messages with a lower UID are done.
    pub(crate) uid: Uid,
    /// Items of this message that are done.
    pub(crate) item: usize,
    /// Octets of this item's literal that are out.
    pub(crate) octet: u64,
    /// Where the encoded octets go on that have not been decoded; of BINARY only.
    pub(crate) encoded: u64,
}

impl FetchCursor {
    /// Whether a response has begun.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.item > 0 || self.is_inside_item()
    }

    /// Whether a literal has begun.
    pub(super) fn is_inside_item(&self) -> bool {
        self.octet > 0 || self.encoded > 0
    }

    /// The beginning of an item.
    fn item(uid: Uid, item: usize) -> Self {
        Self { uid, item, octet: 0, encoded: 0 }
    }
}

/// What is known of a message without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFacts {
    /// Flags and keywords, without `\Recent`.
    pub flags: Flags,
    /// MODSEQ.
    pub modseq: ModSeq,
    /// INTERNALDATE: seconds since 1970 and zone east of UTC in minutes.
    pub internal_date: (i64, i16),
    /// RFC822.SIZE, in octets.
    pub size_bytes: u64,
    /// EMAILID.
    pub email_id: ObjectId,
    /// SAVEDATE: when it came into its mailbox, in seconds since 1970.
    pub save_date_unix_s: i64,
}

/// Why a message cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// It has been removed meanwhile.
    Gone,
    /// It cannot be read.
    Unreadable,
}

/// Messages as the host holds them. Offsets count octets of the whole message.
pub trait MessageSource {
    /// Facts of a message of the view.
    fn facts(&mut self, uid: Uid) -> Option<MessageFacts>;
    /// Ready ENVELOPE.
    fn envelope(&mut self, uid: Uid) -> Result<Bytes, FetchFailure>;
    /// Ready BODY.
    fn body(&mut self, uid: Uid) -> Result<Bytes, FetchFailure>;
    /// Ready BODYSTRUCTURE.
    fn body_structure(&mut self, uid: Uid) -> Result<Bytes, FetchFailure>;
    /// The preview; `None` when `lazy` and it is not there without undue delay.
    fn preview(&mut self, uid: Uid, lazy: bool) -> Result<Option<String>, FetchFailure>;
    /// Where a part's octets are; for `HeaderFields` and `HeaderFieldsNot` the header they are chosen from. `None` when
    /// the message has no such part.
    fn section(&mut self, uid: Uid, path: &[u32], text: &SectionText) -> Result<Option<Range<u64>>, FetchFailure>;
    /// Where the content of a part is, and how it is encoded. `None` when the message has no such part.
    fn content(&mut self, uid: Uid, path: &[u32]) -> Result<Option<(Range<u64>, Encoding)>, FetchFailure>;
    /// Octets of a message; all that was asked for.
    fn read(&mut self, uid: Uid, range: Range<u64>) -> Result<Bytes, FetchFailure>;
}

/// A page of FETCH responses.
#[derive(Debug, Default)]
pub struct Rendered {
    /// Octets for the client.
    pub octets: Vec<Bytes>,
    /// Where to go on; `None` when all is written.
    pub next: Option<FetchCursor>,
    /// Messages that were gone and passed over.
    pub missing: u32,
    /// Messages were left out because it is not known how their content is encoded.
    pub unknown_cte: bool,
}

/// Writes one page of FETCH responses: about `octets_aim` octets of those of `uids` that changed after `changed_since`,
/// from `cursor` on. A page may be empty and yet not the last.
///
/// A message that is gone or unreadable before its response began is left out and counted.
///
/// # Errors
/// When a response that a former page began cannot be gone on with.
#[expect(clippy::too_many_arguments, reason = "a page depends on all of these, and they live in different places")]
pub fn render_page(
    uids: &UidSet,
    request: &FetchRequest,
    numbers: &Numbers,
    recent: &UidSet,
    changed_since: Option<ModSeq>,
    cursor: FetchCursor,
    octets_aim: usize,
    source: &mut dyn MessageSource,
) -> Result<Rendered, FetchFailure> {
    let mut page = Page { request, recent, source, octets_aim, written: Written::default(), unknown_cte: false };
    let (mut missing, mut looked_at) = (0u32, 0usize);
    for uid in from(uids, cursor.uid) {
        if looked_at >= PAGE_MESSAGES_MAX || page.is_full() {
            return Ok(page.finish(Some(FetchCursor::item(uid, 0)), missing));
        }
        looked_at = looked_at.saturating_add(1);
        let start = if cursor.uid == uid { cursor } else { FetchCursor::item(uid, 0) };
        let begun = start.is_inside_message();
        let facts = page.source.facts(uid);
        if !begun && facts.as_ref().is_some_and(|facts| changed_since.is_some_and(|since| facts.modseq <= since)) {
            continue;
        }
        let mark = page.written.mark();
        let outcome = match (facts, numbers.number(uid)) {
            (Some(_), Some(_)) if !begun && page.has_unknown_encoding(uid) => {
                page.unknown_cte = true;
                continue;
            }
            (Some(facts), Some(number)) => page.message(number, &facts, start),
            _ => Err(FetchFailure::Gone),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(next)) => return Ok(page.finish(Some(next), missing)),
            Err(failure) if begun => return Err(failure),
            Err(_) => {
                page.written.back_to(mark);
                missing = missing.saturating_add(1);
            }
        }
    }
    Ok(page.finish(None, missing))
}

/// The UIDs of a set that are not below `first`.
fn from(uids: &UidSet, first: Uid) -> impl Iterator<Item = Uid> + '_ {
    let at = uids.ranges().partition_point(|range| range.1 < first);
    let ranges = uids.ranges().get(at..).unwrap_or_default();
    ranges.iter().flat_map(move |range| range.0.max(first)..=range.1)
}

pub(super) struct Page<'a> {
    request: &'a FetchRequest,
    recent: &'a UidSet,
    pub(super) source: &'a mut dyn MessageSource,
    octets_aim: usize,
    pub(super) written: Written,
    unknown_cte: bool,
}

impl Page<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.written.octets() >= self.octets_aim
    }

    /// Whether a part that is to be decoded cannot be.
    fn has_unknown_encoding(&mut self, uid: Uid) -> bool {
        self.request.items_of(uid).any(|item| {
            let (FetchItem::Binary { path, .. } | FetchItem::BinarySize { path }) = item else { return false };
            matches!(self.source.content(uid, path), Ok(Some((_, Encoding::Unknown))))
        })
    }

    fn finish(mut self, next: Option<FetchCursor>, missing: u32) -> Rendered {
        self.written.flush();
        Rendered { octets: self.written.slices, next, missing, unknown_cte: self.unknown_cte }
    }

    /// One response, or the rest of it as far as the page goes. Tells where to go on when it is not done.
    fn message(
        &mut self,
        number: u32,
        facts: &MessageFacts,
        start: FetchCursor,
    ) -> Result<Option<FetchCursor>, FetchFailure> {
        if !start.is_inside_message() {
            self.written.text(b"* ");
            write::number(&mut self.written.small, u64::from(number));
            self.written.text(b" FETCH (");
        }
        let mut at = start;
        for (item, asked) in self.request.items_of(start.uid).enumerate().skip(start.item) {
            if item > start.item {
                at = FetchCursor::item(start.uid, item);
                if self.is_full() {
                    return Ok(Some(at));
                }
            }
            if item > 0 && !at.is_inside_item() {
                self.written.text(b" ");
            }
            let next = match asked {
                FetchItem::Binary { path, partial, .. } => self.binary(path, *partial, at)?,
                FetchItem::BinarySize { path } => self.binary_size(start.uid, path).map(|()| None)?,
                asked => self.item(start.uid, asked, facts, at.octet)?.map(|octet| FetchCursor { octet, ..at }),
            };
            if next.is_some() {
                return Ok(next);
            }
        }
        self.written.text(b")\r\n");
        Ok(None)
    }

    /// One item from this octet of its literal on. Tells where to go on when it is not done.
    fn item(
        &mut self,
        uid: Uid,
        item: &FetchItem,
        facts: &MessageFacts,
        octet: u64,
    ) -> Result<Option<u64>, FetchFailure> {
        let of_message;
        let (label, text) = match item {
            FetchItem::Rfc822 => ("RFC822", SectionText::All),
            FetchItem::Rfc822Header => ("RFC822.HEADER", SectionText::Header),
            FetchItem::Rfc822Text => ("RFC822.TEXT", SectionText::Text),
            _ => ("", SectionText::All),
        };
        let (section, partial) = match item {
            FetchItem::Section { section, partial, .. } => (section, *partial),
            _ if label.is_empty() => return self.simple(uid, item, facts).map(|()| None),
            _ => {
                of_message = Section::of_message(text);
                (&of_message, None)
            }
        };
        if octet == 0 {
            self.written.text(label.as_bytes());
            if label.is_empty() {
                section_label(&mut self.written.small, section, partial);
            }
            self.written.text(b" ");
        }
        match &section.text {
            SectionText::HeaderFields(names) => self.fields(uid, section, names, false, partial, octet),
            SectionText::HeaderFieldsNot(names) => self.fields(uid, section, names, true, partial, octet),
            _ => self.octets(uid, section, partial, octet),
        }
    }

    /// Items that need no literal of their own.
    fn simple(&mut self, uid: Uid, item: &FetchItem, facts: &MessageFacts) -> Result<(), FetchFailure> {
        if let FetchItem::Preview { lazy } = item {
            let preview = self.source.preview(uid, *lazy)?;
            self.written.text(b"PREVIEW ");
            write::nstring(&mut self.written.small, preview.as_deref().map(str::as_bytes));
            return Ok(());
        }
        let (label, ready) = match item {
            FetchItem::Envelope => (&b"ENVELOPE "[..], Some(self.source.envelope(uid)?)),
            FetchItem::Body => (&b"BODY "[..], Some(self.source.body(uid)?)),
            FetchItem::BodyStructure => (&b"BODYSTRUCTURE "[..], Some(self.source.body_structure(uid)?)),
            FetchItem::Uid => (&b"UID "[..], None),
            FetchItem::Flags => (&b"FLAGS "[..], None),
            FetchItem::InternalDate => (&b"INTERNALDATE "[..], None),
            FetchItem::Size => (&b"RFC822.SIZE "[..], None),
            FetchItem::EmailId => (&b"EMAILID ("[..], None),
            FetchItem::ThreadId => (&b"THREADID NIL"[..], None),
            FetchItem::SaveDate => (&b"SAVEDATE "[..], None),
            _ => (&b"MODSEQ ("[..], None),
        };
        self.written.text(label);
        if let Some(ready) = ready {
            self.written.slice(ready);
            return Ok(());
        }
        let out = &mut self.written.small;
        match item {
            FetchItem::Uid => write::number(out, u64::from(uid)),
            FetchItem::Flags => write::flag_list(out, &facts.flags, self.recent.contains(uid)),
            FetchItem::InternalDate => write::date_time(out, facts.internal_date),
            FetchItem::Size => write::number(out, facts.size_bytes),
            FetchItem::EmailId => {
                out.extend_from_slice(facts.email_id.email().as_bytes());
                out.push(b')');
            }
            FetchItem::ThreadId => {}
            // RFC 8514 section 4.2: NIL where it is not known, of messages that a repair has put back.
            FetchItem::SaveDate if facts.save_date_unix_s == 0 => out.extend_from_slice(b"NIL"),
            FetchItem::SaveDate => write::date_time(out, (facts.save_date_unix_s, 0)),
            _ => {
                write::number(out, facts.modseq);
                out.push(b')');
            }
        }
        Ok(())
    }

    /// Octets of a part as they are stored.
    fn octets(
        &mut self,
        uid: Uid,
        section: &Section,
        partial: Option<(u64, u64)>,
        octet: u64,
    ) -> Result<Option<u64>, FetchFailure> {
        let Some(range) = self.source.section(uid, &section.path, &section.text)? else {
            self.written.text(b"NIL");
            return Ok(None);
        };
        let wanted = narrowed(range.end.saturating_sub(range.start), partial);
        let length = wanted.end.saturating_sub(wanted.start);
        if octet == 0 && self.begin_literal(length) {
            return Ok(None);
        }
        let first = range.start.saturating_add(wanted.start).saturating_add(octet);
        let left = length.saturating_sub(octet);
        let most = self.room().min(left);
        let read = self.source.read(uid, first..first.saturating_add(most))?;
        if read.len() as u64 != most {
            return Err(FetchFailure::Unreadable);
        }
        self.written.slice(read);
        Ok((most < left).then(|| octet.saturating_add(most)))
    }

    /// Header fields chosen by name. They are chosen again for every page: what they come from is small.
    fn fields(
        &mut self,
        uid: Uid,
        section: &Section,
        names: &[String],
        not: bool,
        partial: Option<(u64, u64)>,
        octet: u64,
    ) -> Result<Option<u64>, FetchFailure> {
        let Some(range) = self.source.section(uid, &section.path, &section.text)? else {
            self.written.text(b"NIL");
            return Ok(None);
        };
        let end = range.end.min(range.start.saturating_add(HEADER_OCTETS_MAX));
        let block = self.source.read(uid, range.start..end)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = Bytes::from(header::fields(&block, &names, not));
        let wanted = narrowed(chosen.len() as u64, partial);
        let length = wanted.end.saturating_sub(wanted.start);
        if octet == 0 && self.begin_literal(length) {
            return Ok(None);
        }
        let left = length.saturating_sub(octet);
        let most = self.room().min(left);
        let first = wanted.start.saturating_add(octet);
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(chosen.len());
        self.written.slice(chosen.slice(at(first)..at(first.saturating_add(most))));
        Ok((most < left).then(|| octet.saturating_add(most)))
    }

    /// Announces a literal; an empty one is written as `""`, and done.
    fn begin_literal(&mut self, length: u64) -> bool {
        if length == 0 {
            self.written.text(b"\"\"");
            return true;
        }
        write::literal_head(&mut self.written.small, length);
        false
    }

    /// Octets of a literal that still go on this page; never none, so that every page goes on.
    fn room(&self) -> u64 {
        (self.octets_aim.saturating_sub(self.written.octets()) as u64).max(LITERAL_OCTETS_MIN)
    }
}

/// What a partial leaves of so many octets.
///
//= rfc3501#section-6.4.5
//# Any partial fetch that attempts to read beyond the end of the
//# text is truncated as appropriate.  A partial fetch that
//# starts at octet 0 is returned as a partial fetch, even if
//# this truncation happened.
pub(super) fn narrowed(length: u64, partial: Option<(u64, u64)>) -> Range<u64> {
    let Some((first, octets)) = partial else { return 0..length };
    let first = first.min(length);
    first..first.saturating_add(octets).min(length)
}

/// `section-part = nz-number *("." nz-number)`
pub(super) fn section_part(out: &mut Vec<u8>, path: &[u32]) {
    for (at, number) in path.iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        write::number(out, u64::from(*number));
    }
}

/// `"BODY" section ["<" number ">"]`
fn section_label(out: &mut Vec<u8>, section: &Section, partial: Option<(u64, u64)>) {
    out.extend_from_slice(b"BODY[");
    section_part(out, &section.path);
    let (text, names) = match &section.text {
        SectionText::All => ("", None),
        SectionText::Header => ("HEADER", None),
        SectionText::HeaderFields(names) => ("HEADER.FIELDS", Some(names)),
        SectionText::HeaderFieldsNot(names) => ("HEADER.FIELDS.NOT", Some(names)),
        SectionText::Text => ("TEXT", None),
        SectionText::Mime => ("MIME", None),
    };
    if !section.path.is_empty() && !text.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(text.as_bytes());
    for (at, name) in names.into_iter().flatten().enumerate() {
        out.extend_from_slice(if at == 0 { b" (" } else { b" " });
        write::astring(out, name.as_bytes());
    }
    if names.is_some() {
        out.push(b')');
    }
    end_of_label(out, partial);
}

/// `"]" ["<" number ">"]`
pub(super) fn end_of_label(out: &mut Vec<u8>, partial: Option<(u64, u64)>) {
    out.push(b']');
    if let Some((first, _)) = partial {
        out.push(b'<');
        write::number(out, first);
        out.push(b'>');
    }
}

/// What is written: small things in one buffer, large ones as the slices they are.
#[derive(Default)]
pub(super) struct Written {
    slices: Vec<Bytes>,
    pub(super) small: Vec<u8>,
    /// Octets of the slices.
    sliced: usize,
}

/// A place to go back to.
#[derive(Clone, Copy)]
struct Mark {
    slices: usize,
    small: usize,
    sliced: usize,
}

impl Written {
    fn octets(&self) -> usize {
        self.sliced.saturating_add(self.small.len())
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        self.small.extend_from_slice(text);
    }

    pub(super) fn slice(&mut self, slice: Bytes) {
        if slice.len() < SLICE_OCTETS_MIN {
            self.text(&slice);
            return;
        }
        self.flush();
        self.sliced = self.sliced.saturating_add(slice.len());
        self.slices.push(slice);
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.sliced = self.sliced.saturating_add(self.small.len());
            self.slices.push(std::mem::take(&mut self.small).into());
        }
    }

    fn mark(&self) -> Mark {
        Mark { slices: self.slices.len(), small: self.small.len(), sliced: self.sliced }
    }

    fn back_to(&mut self, mark: Mark) {
        if self.slices.len() > mark.slices {
            // What was in the small buffer then begins the first slice since.
            self.small = self.slices.get(mark.slices).map(|slice| slice.to_vec()).unwrap_or_default();
            self.slices.truncate(mark.slices);
        }
        self.small.truncate(mark.small);
        self.sliced = mark.sliced;
    }
}
