//! Commands about annotations (RFC 5464), and the return option of LIST (RFC 9590).

use bytes::Bytes;
use rockdove_mail::MetadataEntry;

use super::{
    mailbox::mailbox_or_server,
    words::{Words, Wrong, utf8},
};
use crate::{
    command::{Command, MetadataCommand, MetadataDepth, MetadataRequest},
    limits::METADATA_ENTRIES_MAX,
};

/// A command about annotations by its name; `None`: it is none.
pub(super) fn metadata(name: &str, words: &mut Words<'_>) -> Option<Result<Command, Wrong>> {
    let read = match name {
        "GETMETADATA" => get_metadata,
        "SETMETADATA" => set_metadata,
        _ => return None,
    };
    Some(words.space().map_err(|_| "arguments are missing").and_then(|()| read(words)).map(Command::Metadata))
}

/// `entry = astring`, which MUST NOT contain `*` or `%`
fn entry(words: &mut Words<'_>) -> Result<MetadataEntry, Wrong> {
    MetadataEntry::parse(&utf8(words.astring()?)?).ok_or("there is no such entry")
}

/// `entries = entry / "(" entry *(SP entry) ")"`
pub(super) fn entries(words: &mut Words<'_>) -> Result<Vec<MetadataEntry>, Wrong> {
    if words.peek() != Some(b'(') {
        return Ok(vec![entry(words)?]);
    }
    let entries = words.list(METADATA_ENTRIES_MAX, entry)?;
    if entries.is_empty() { Err("an entry is missing") } else { Ok(entries) }
}

/// `getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries`
///
/// The examples of RFC 5464 have the options behind the mailbox, and entries without parentheses.
fn get_metadata(words: &mut Words<'_>) -> Result<MetadataCommand, Wrong> {
    let mut request = MetadataRequest::default();
    if words.peek() == Some(b'(') {
        options(words, &mut request)?;
        words.space()?;
    }
    let mailbox = mailbox_or_server(words)?;
    words.space()?;
    let mut ahead = *words;
    if ahead.eat(b'(') && matches!(ahead.keyword().as_str(), "MAXSIZE" | "DEPTH") {
        options(words, &mut request)?;
        words.space()?;
    }
    request.entries = entries(words)?;
    while words.spaces() && !words.rest().is_empty() {
        if request.entries.len() >= METADATA_ENTRIES_MAX {
            return Err("the list is too long");
        }
        request.entries.push(entry(words)?);
    }
    Ok(MetadataCommand::Get { mailbox, request })
}

/// `maxsize-opt = "MAXSIZE" SP number`; `scope-opt = "DEPTH" SP ("0" / "1" / "infinity")`
fn options(words: &mut Words<'_>, request: &mut MetadataRequest) -> Result<(), Wrong> {
    words.list(METADATA_ENTRIES_MAX, |words| match words.keyword().as_str() {
        "MAXSIZE" => {
            words.space()?;
            request.octets_max = Some(words.number()?);
            Ok(())
        }
        "DEPTH" => {
            words.space()?;
            request.depth = match words.keyword().as_str() {
                "0" => MetadataDepth::Zero,
                "1" => MetadataDepth::One,
                "INFINITY" => MetadataDepth::Infinity,
                _ => return Err("there is no such depth"),
            };
            Ok(())
        }
        _ => Err("there is no such option"),
    })?;
    Ok(())
}

/// `setmetadata = "SETMETADATA" SP mailbox SP entry-values`;
/// `entry-values = "(" entry-value *(SP entry-value) ")"`; `entry-value = entry SP value`
fn set_metadata(words: &mut Words<'_>) -> Result<MetadataCommand, Wrong> {
    let mailbox = mailbox_or_server(words)?;
    words.space()?;
    let entries = words.list(METADATA_ENTRIES_MAX, |words| {
        let entry = entry(words)?;
        if !entry.can_have_value() {
            return Err("this entry cannot have a value");
        }
        words.space()?;
        Ok((entry, value(words)?))
    })?;
    if entries.is_empty() { Err("an entry is missing") } else { Ok(MetadataCommand::Set { mailbox, entries }) }
}

/// `value = nstring / literal8`
fn value(words: &mut Words<'_>) -> Result<Option<Bytes>, Wrong> {
    if words.eat(b'~') {
        return words.literal8().map(|octets| Some(Bytes::copy_from_slice(octets)));
    }
    Ok(words.nstring()?.map(|text| Bytes::from(text.into_owned())))
}
