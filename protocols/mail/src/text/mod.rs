//! What a person reads of a message, for searching.
//!
//! * What: text of parts (transfer and charset decoded, HTML without tags), folding, and substring search in them.
//! * In: the octets of a message, or of its header only, with its skeleton.
//! * Out: text, and whether a needle is in it.
//! * Never: looks into parts that are no text; depends on an index.
//! * Fails: not at all; what cannot be decoded is U+FFFD, or no text.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod casemap;
pub(crate) mod charset;
mod fold;
mod html;
mod preview;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;

use std::ops::Range;

use memchr::memmem;

use crate::{
    header,
    mime::{Content, HEADER_OCTETS_MAX, Kind, Part, Skeleton},
    search::SearchField,
};

pub use casemap::casemap;
pub use fold::fold;
pub use preview::{PREVIEW_CHARACTERS_MAX, PREVIEW_OCTETS_MAX, preview};
pub use transfer::{decode, decode_piece, is_end};

/// Where a piece of text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A field of the message's header, by its name as it was written; the text is its value.
    Header(&'a [u8]),
    /// The body: text, and headers of messages inside.
    Body,
    /// The name of an attached file.
    FileName,
}

fn slice<'m>(message: &'m [u8], range: &Range<u64>) -> Option<&'m [u8]> {
    message.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// The header block of a part; what is beyond the message or [`HEADER_OCTETS_MAX`] is not looked at.
fn header_of<'m>(message: &'m [u8], part: &Part) -> &'m [u8] {
    let block = slice(message, &part.header).unwrap_or_default();
    block.get(..block.len().min(HEADER_OCTETS_MAX)).unwrap_or_default()
}

/// The text of a part as its sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Transfer and charset decoded.
    pub text: String,
    /// It is HTML, with its tags.
    pub html: bool,
}

impl Written {
    /// As a person reads it: HTML without tags.
    pub fn shown(self) -> String {
        if self.html { html::to_text(&self.text) } else { self.text }
    }
}

/// The text of a part as it was written. `None` for a part that is no text, that has parts of its own, or whose encoding
/// we do not know.
pub fn written(message: &[u8], part: &Part) -> Option<Written> {
    if part.kind != Kind::Leaf {
        return None;
    }
    let content = Content::of_header(header_of(message, part));
    // Delivery reports and their like are there to be read.
    if !content.is("text", "") && !content.is("message", "") {
        return None;
    }
    let octets = decode(slice(message, &part.body)?, part.encoding)?;
    let charset = content.parameters.get("charset").unwrap_or_default();
    let text = charset::decode(charset, &octets).into_owned();
    Some(Written { text, html: content.is("text", "html") })
}

/// The text of a part, as a person reads it; see [`written`].
pub fn of_part(message: &[u8], part: &Part) -> Option<String> {
    Some(written(message, part)?.shown())
}

/// Shows all text of a message to `visit`, piece by piece: the header, then the body in the order of the document.
/// Stops when it answers true, and answers that. With the header's octets only, it is the header only.
pub fn visit<'m>(message: &'m [u8], skeleton: &Skeleton, visit: &mut dyn FnMut(Source<'m>, &str) -> bool) -> bool {
    for field in header::iter(slice(message, &skeleton.root().header).unwrap_or_default()) {
        if visit(Source::Header(field.name), &header::decode_words(&header::unfold(field.value))) {
            return true;
        }
    }
    visit_body(message, skeleton, &mut |source, text| visit(source, text))
}

fn visit_body(message: &[u8], skeleton: &Skeleton, visit: &mut dyn FnMut(Source<'static>, &str) -> bool) -> bool {
    let mut inside_message = false;
    for part in skeleton.parts() {
        let block = header_of(message, part);
        if inside_message {
            for field in header::iter(block) {
                let name = String::from_utf8_lossy(field.name);
                let value = header::decode_words(&header::unfold(field.value));
                if visit(Source::Body, &format!("{name}: {value}")) {
                    return true;
                }
            }
        }
        inside_message = part.kind == Kind::Message;
        if let Some(name) = Content::of_header(block).file_name()
            && visit(Source::FileName, &name)
        {
            return true;
        }
        if let Some(text) = of_part(message, part)
            && visit(Source::Body, &text)
        {
            return true;
        }
    }
    false
}

/// Whether a field of a message has a folded needle as a substring (RFC 9051 section 6.4.4). For the fields of the
/// header the octets of the header are enough. An empty needle is in every field that is there, and in every body.
pub fn matches(message: &[u8], skeleton: &Skeleton, field: &SearchField, folded_needle: &str) -> bool {
    let finder = memmem::Finder::new(folded_needle);
    let has = |text: &str| finder.find(fold(text).as_bytes()).is_some();
    let named = |name: &str| {
        let block = slice(message, &skeleton.root().header).unwrap_or(message);
        header::iter(block)
            .filter(|field| field.is(name))
            .any(|field| has(&header::decode_words(&header::unfold(field.value))))
    };
    match field {
        SearchField::From => named("From"),
        SearchField::To => named("To"),
        SearchField::Cc => named("Cc"),
        SearchField::Bcc => named("Bcc"),
        SearchField::Subject => named("Subject"),
        SearchField::Header(name) => named(name),
        SearchField::Body | SearchField::Text if folded_needle.is_empty() => true,
        SearchField::Body => visit_body(message, skeleton, &mut |_, text| has(text)),
        SearchField::Text => visit(message, skeleton, &mut |source, text| match source {
            Source::Header(name) => has(&format!("{}: {text}", String::from_utf8_lossy(name))),
            Source::Body | Source::FileName => has(text),
        }),
    }
}
