//! Sort keys: what messages are ordered, threaded and previewed by, in sheets beside the texts.
//!
//! A sheet has one entry for each message, in pages like those of texts:
//! ```text
//! links:    flags1 [sent±] message_id8 subject8 reference8*      flags: 1 has a sent date, 2 is a reply
//! names:    subject(..) from(..) to(..) cc(..) display_from(..) display_to(..)
//! preview:  01 text…
//! ```
//! Names are folded by i;unicode-casemap. An empty entry says that the message itself is to be asked.

use rockdove_mail::{
    header,
    mime::{EnvelopeAddress, EnvelopeNames},
    text,
};

use crate::store::{
    MessageRecord,
    octets::{Take, put_bytes, put_step},
};

/// Octets of an entry; of a message with more it is made anew every time.
const ENTRY_BYTES_MAX: usize = 2 * 1024;
const HAS_SENT: u8 = 1;
const IS_REPLY: u8 = 2;
const PREVIEW: u8 = 1;

/// Which sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sheet {
    Links,
    Names,
    Preview,
}

impl Sheet {
    pub(super) const ALL: [Self; 3] = [Self::Links, Self::Names, Self::Preview];

    /// The number in keys, behind those of columns; never changed.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Links => 16,
            Self::Names => 17,
            Self::Preview => 18,
        }
    }
}

/// What messages are threaded and dated by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Seconds since 1970.
    pub(super) sent: Option<i64>,
    pub(super) is_reply: bool,
    /// 0: none.
    pub(super) message_id: u64,
    /// Base subject; 0: empty.
    pub(super) subject: u64,
    pub(super) references: Vec<u64>,
}

/// Names of a message, in the order of [`Name`].
pub(super) type Names = [String; 6];

/// A name that is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Subject,
    From,
    To,
    Cc,
    DisplayFrom,
    DisplayTo,
}

fn decoded(value: Option<Vec<u8>>) -> String {
    value.map(|value| header::decode_words(&value)).unwrap_or_default()
}

/// The name of an address for DISPLAYFROM and DISPLAYTO (RFC 5957 section 3).
fn display(address: Option<EnvelopeAddress>) -> String {
    let Some(EnvelopeAddress { name, mailbox, host }) = address else { return String::new() };
    let name = decoded(name);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    match (mailbox, host) {
        _ if !name.is_empty() => name,
        (Some(mailbox), Some(host)) => format!("{}@{}", text(&mailbox), text(&host)),
        (mailbox, _) => mailbox.map(|mailbox| text(&mailbox)).unwrap_or_default(),
    }
}

pub(super) fn names_of(record: &MessageRecord) -> Names {
    let names = EnvelopeNames::read(&record.envelope).unwrap_or_default();
    let mailbox = |address: &Option<EnvelopeAddress>| {
        let mailbox = address.as_ref().and_then(|address| address.mailbox.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(mailbox).into_owned()
    };
    let (from, to, cc) = (mailbox(&names.from), mailbox(&names.to), mailbox(&names.cc));
    let subject = header::base_subject(&decoded(names.subject)).text;
    [subject, from, to, cc, display(names.from), display(names.to)].map(|name| text::casemap(&name))
}

pub(super) fn links_of(record: &MessageRecord) -> Links {
    let names = EnvelopeNames::read(&record.envelope).unwrap_or_default();
    let digest = &record.digest;
    Links {
        sent: digest.sent.map(|sent| sent.unix_s),
        is_reply: header::base_subject(&decoded(names.subject)).is_reply,
        message_id: digest.message_id,
        subject: digest.subject,
        references: digest.references.clone(),
    }
}

/// The entry of a message in each sheet but that of previews.
pub(super) fn entries_of(record: &MessageRecord) -> [Vec<u8>; 2] {
    let links = links_of(record);
    let mut entry = vec![u8::from(links.sent.is_some()) * HAS_SENT + u8::from(links.is_reply) * IS_REPLY];
    if let Some(sent) = links.sent {
        put_step(&mut entry, 0, sent.cast_unsigned());
    }
    for hash in [links.message_id, links.subject].iter().chain(&links.references) {
        entry.extend_from_slice(&hash.to_le_bytes());
    }
    let mut names = Vec::new();
    for name in names_of(record) {
        put_bytes(&mut names, name.as_bytes());
    }
    [entry, names].map(|entry| if entry.len() > ENTRY_BYTES_MAX { Vec::new() } else { entry })
}

pub(super) fn preview_entry(preview: &str) -> Vec<u8> {
    [&[PREVIEW], preview.as_bytes()].concat()
}

/// The preview of an entry.
pub(super) fn preview_in(entry: &[u8]) -> Option<String> {
    let (kind, text) = entry.split_first()?;
    (*kind == PREVIEW).then(|| String::from_utf8(text.to_vec()).ok()).flatten()
}

pub(super) fn links_in(entry: &[u8]) -> Option<Links> {
    let mut take = Take::new(entry);
    let flags = take.u8()?;
    let sent = if flags & HAS_SENT == 0 { None } else { Some(take.step(0)?.cast_signed()) };
    let (message_id, subject) = (take.u64()?, take.u64()?);
    let mut references = Vec::with_capacity(take.rest().len() / 8);
    while take.end().is_none() {
        references.push(take.u64()?);
    }
    Some(Links { sent, is_reply: flags & IS_REPLY != 0, message_id, subject, references })
}

/// One name of an entry.
pub(super) fn name_in(entry: &[u8], name: Name) -> Option<&[u8]> {
    let mut take = Take::new(entry);
    for _ in 0..name as usize {
        take.bytes()?;
    }
    take.bytes()
}

/// Whether an entry can be read.
pub(super) fn is_whole(sheet: Sheet, entry: &[u8]) -> bool {
    match sheet {
        _ if entry.is_empty() => true,
        Sheet::Links => links_in(entry).is_some(),
        Sheet::Names => name_in(entry, Name::DisplayTo).is_some(),
        Sheet::Preview => preview_in(entry).is_some(),
    }
}
