//! The items of FETCH.

use super::words::{Words, Wrong, utf8};
use crate::{
    fetch::{FetchItem, Section, SectionText},
    limits::{FETCH_ITEMS_MAX, SECTION_DEPTH_MAX},
};

/// `"ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")"`
pub(super) fn items(words: &mut Words<'_>) -> Result<Vec<FetchItem>, Wrong> {
    if words.peek() == Some(b'(') {
        let items = words.list(FETCH_ITEMS_MAX, item)?;
        return if items.is_empty() { Err("an item is missing") } else { Ok(items) };
    }
    let mut ahead = *words;
    let fast = [FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size];
    //= rfc3501#section-6.4.5
    //# ALL
    //#    Macro equivalent to: (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)
    let more: &[FetchItem] = match ahead.keyword().as_str() {
        "FAST" => &[],
        "ALL" => &[FetchItem::Envelope],
        "FULL" => &[FetchItem::Envelope, FetchItem::Body],
        _ => return Ok(vec![item(words)?]),
    };
    *words = ahead;
    Ok(fast.iter().chain(more).cloned().collect())
}

/// `fetch-att = "ENVELOPE" / "FLAGS" / "INTERNALDATE" / "RFC822" [".HEADER" / ".SIZE" / ".TEXT"] / "BODY" ["STRUCTURE"] /
/// "BINARY" [".PEEK"] section-binary [partial] / "BINARY.SIZE" section-binary /
/// "UID" / "BODY" section ["<" number "." nz-number ">"] / "BODY.PEEK" section ["<" number "." nz-number ">"] / "MODSEQ" /
/// "SAVEDATE"` (RFC 8514)
pub(super) fn item(words: &mut Words<'_>) -> Result<FetchItem, Wrong> {
    Ok(match words.keyword().as_str() {
        "UID" => FetchItem::Uid,
        "FLAGS" => FetchItem::Flags,
        "INTERNALDATE" => FetchItem::InternalDate,
        "ENVELOPE" => FetchItem::Envelope,
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "MODSEQ" => FetchItem::ModSeq,
        "EMAILID" => FetchItem::EmailId,
        "THREADID" => FetchItem::ThreadId,
        "SAVEDATE" => FetchItem::SaveDate,
        "PREVIEW" => preview(words)?,
        "RFC822" => FetchItem::Rfc822,
        "RFC822.SIZE" => FetchItem::Size,
        "RFC822.HEADER" => FetchItem::Rfc822Header,
        "RFC822.TEXT" => FetchItem::Rfc822Text,
        "BODY" if words.peek() != Some(b'[') => FetchItem::Body,
        "BODY" => section(words, false)?,
        "BODY.PEEK" => section(words, true)?,
        "BINARY" => binary(words, false)?,
        "BINARY.PEEK" => binary(words, true)?,
        "BINARY.SIZE" => FetchItem::BinarySize { path: section_binary(words)? },
        _ => return Err("there is no such item"),
    })
}

/// `"PREVIEW" [SP "(" preview-mod *(SP preview-mod) ")"]`; `preview-mod = "LAZY"` (RFC 8970)
fn preview(words: &mut Words<'_>) -> Result<FetchItem, Wrong> {
    let mut ahead = *words;
    ahead.spaces();
    if ahead.peek() != Some(b'(') {
        return Ok(FetchItem::Preview { lazy: false });
    }
    let modifiers = ahead.list(FETCH_ITEMS_MAX, |words| match words.keyword().as_str() {
        "LAZY" => Ok(()),
        _ => Err("there is no such preview modifier"),
    })?;
    *words = ahead;
    if modifiers.is_empty() { Err("a preview modifier is missing") } else { Ok(FetchItem::Preview { lazy: true }) }
}

/// `section = "[ [section-spec] "]"`; `section-spec = section-msgtext / (section-part ["." section-text])`;
/// `section-part = nz-number *("." nz-number)`
fn section(words: &mut Words<'_>, peek: bool) -> Result<FetchItem, Wrong> {
    words.expect(b'[', "a section is missing")?;
    words.spaces();
    let mut section = Section::default();
    let text_follows = words.peek() != Some(b']') && section_part(words, &mut section.path)?;
    if text_follows {
        section.text = section_text(words, section.path.is_empty())?;
    }
    words.spaces();
    words.expect(b']', "a section has no end")?;
    Ok(FetchItem::Section { section, partial: partial(words)?, peek })
}

/// `section-part = nz-number *("." nz-number)`; tells whether something else is to follow.
fn section_part(words: &mut Words<'_>, path: &mut Vec<u32>) -> Result<bool, Wrong> {
    while words.peek().is_some_and(|next| next.is_ascii_digit()) {
        if path.len() >= SECTION_DEPTH_MAX {
            return Err("a section is too deep");
        }
        path.push(words.nz_number()?);
        if !words.eat(b'.') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `"BINARY" [".PEEK"] section-binary [partial]` (RFC 3516)
fn binary(words: &mut Words<'_>, peek: bool) -> Result<FetchItem, Wrong> {
    Ok(FetchItem::Binary { path: section_binary(words)?, partial: partial(words)?, peek })
}

/// `section-binary = "[" [section-part] "]"`
fn section_binary(words: &mut Words<'_>) -> Result<Vec<u32>, Wrong> {
    words.expect(b'[', "a section is missing")?;
    words.spaces();
    let mut path = Vec::new();
    if words.peek() != Some(b']') && section_part(words, &mut path)? {
        return Err("there is no such section");
    }
    words.spaces();
    words.expect(b']', "a section has no end")?;
    Ok(path)
}

/// `section-text = section-msgtext / "MIME"`; `section-msgtext = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT"`
fn section_text(words: &mut Words<'_>, of_message: bool) -> Result<SectionText, Wrong> {
    Ok(match words.keyword().as_str() {
        "HEADER" => SectionText::Header,
        "TEXT" => SectionText::Text,
        //= rfc3501#section-6.4.5
        //# The MIME part specifier MUST be prefixed by one or more numeric
        //# part specifiers.
        "MIME" if !of_message => SectionText::Mime,
        "HEADER.FIELDS" => SectionText::HeaderFields(header_list(words)?),
        "HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(header_list(words)?),
        _ => return Err("there is no such section"),
    })
}

/// `header-list = "(" header-fld-name *(SP header-fld-name) ")"`; `header-fld-name = astring`
fn header_list(words: &mut Words<'_>) -> Result<Vec<String>, Wrong> {
    words.space()?;
    let names = words.list(usize::MAX, |words| {
        let name = utf8(words.astring()?)?;
        // It is repeated in the response.
        if name.chars().any(char::is_control) { Err("a field name is not acceptable") } else { Ok(name) }
    })?;
    if names.is_empty() { Err("a field name is missing") } else { Ok(names) }
}

/// `"<" number64 "." nz-number64 ">"` (RFC 9051)
fn partial(words: &mut Words<'_>) -> Result<Option<(u64, u64)>, Wrong> {
    if !words.eat(b'<') {
        return Ok(None);
    }
    let first = words.number64()?;
    words.expect(b'.', "a partial is malformed")?;
    let octets = match words.number64()? {
        0 => return Err("a number must not be zero"),
        octets => octets,
    };
    words.expect(b'>', "a partial is malformed")?;
    Ok(Some((first, octets)))
}
