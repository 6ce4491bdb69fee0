//! Moving mail in and out: what is moved, where it comes from and where it goes.
//!
//! * What: the formats that mail is kept in outside of a server (mbox, Maildir++, folders of `.eml` files, archives of
//!   those), each to read and to write; an account of the running server, likewise, through the administrator's door.
//! * In: a file or a folder; the messages of an account.
//! * Out: messages with their mailbox, flags and internal date, one after the other; a file or a folder.
//! * Never: changes an octet of a message that an export of our own holds; holds more than one message in memory; leaves
//!   the file or folder that was named; follows a link in it; shows an export under its name before it is whole and synced.
//! * Fails: with the file and the place in it. A message that cannot be moved is told and passed over.

pub mod account_source;
pub mod account_target;
pub mod archive;
pub mod command;
mod connection;
pub mod dial;
mod door;
mod draft;
pub mod eml;
pub mod imap;
mod lines;
mod listed;
pub mod loose;
pub mod maildir;
mod manifest;
pub mod mbox;
mod names;
mod noted;
mod progress;
mod pull;
mod remote;
mod status;
#[cfg(test)]
mod tests;
mod walk;

use std::{collections::BTreeMap, fmt, io, path::Path};

pub use rockdove_engine::InternalDate;
use rockdove_mail::SpecialUse;

use crate::failure::Failure;

/// A message on its way, with what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The levels of the mailbox's name, in UTF-8; `["INBOX"]` is the inbox.
    pub mailbox: Vec<String>,
    /// `\Seen`, `$Forwarded` ...
    pub flags: Vec<String>,
    /// When the message came.
    pub internal_date: InternalDate,
    /// The message. One at a time is in memory, bounded by the message size limit.
    pub octets: Vec<u8>,
}

/// What can be told of a source beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Messages, when their number is known.
    pub messages: Option<u64>,
    /// Octets of the files, when their size is known.
    pub octets: Option<u64>,
}

/// Where messages come from.
pub trait Source {
    /// The next message; `None` behind the last.
    ///
    /// # Errors
    /// [`TransferError::PassedOver`]: ask again for what comes behind it. [`TransferError::Stopped`]: nothing more comes.
    fn next(&mut self) -> Result<Option<Item>, TransferError>;

    /// What can be told beforehand, for the display of progress.
    fn total(&self) -> Option<Total>;

    /// The mailboxes there are, also those without messages, where the source can tell.
    fn mailboxes(&self) -> Vec<SourceMailbox> {
        Vec::new()
    }

    /// Hears that the target has the first `given` of all messages that were given on disk, and what it says now of the
    /// mailboxes they are in. A source that is slow to read need not give them again next time.
    ///
    /// # Errors
    /// When that cannot be noted.
    fn settled(&mut self, given: u64, places: &Places) -> Result<(), TransferError> {
        let (_, _) = (given, places);
        Ok(())
    }
}

/// A mailbox of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMailbox {
    /// The levels of its name, in UTF-8; `["INBOX"]` is the inbox.
    pub levels: Vec<String>,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
    /// Whether it is subscribed to.
    pub subscribed: bool,
    /// Whether it can hold messages.
    pub selectable: bool,
}

/// What a target says of a mailbox: enough to tell whether it is still the one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// UIDNEXT
    pub uid_next: u32,
}

/// The mailboxes of a target by the levels of their names in the source.
pub type Places = BTreeMap<Vec<String>, Place>;

/// Where messages go.
pub trait Target {
    /// Takes the mailboxes there are, also those without messages, before any message.
    ///
    /// # Errors
    /// When they cannot be written.
    fn mailboxes(&mut self, all: &[SourceMailbox]) -> Result<(), TransferError>;

    /// Takes a message.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&mut self, item: &Item) -> Result<(), TransferError>;

    /// Makes what was put last: synced, and under its name.
    ///
    /// # Errors
    /// When it cannot; then nothing is under that name.
    fn finish(self: Box<Self>) -> Result<(), TransferError>;
}

/// Why a message, or all that comes behind it, cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// One message cannot be moved; what comes behind it can.
    PassedOver {
        /// The file, and the place in it.
        place: String,
        /// Why.
        why: String,
    },
    /// The source or the target is of no further use.
    Stopped {
        /// The file, and the place in it.
        place: String,
        /// Why.
        why: String,
    },
}

impl TransferError {
    pub(crate) fn passed_over(place: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::PassedOver { place: place.to_string(), why: why.to_string() }
    }

    pub(crate) fn stopped(place: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Stopped { place: place.to_string(), why: why.to_string() }
    }

    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::stopped(path.display(), error)
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::PassedOver { place, why } | Self::Stopped { place, why }) = self;
        write!(f, "{place}: {why}")
    }
}

impl std::error::Error for TransferError {}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Why a message of this many octets is passed over.
fn too_large(octets: u64, size_octets_max: usize) -> String {
    format!("the message has {octets} octets, and at most {size_octets_max} are taken")
}

/// A message whose lines end as its file's do, with lines that end in CRLF as RFC 5322 section 2.3 wants it.
fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// When a foreign message came, as far as its `Date` tells.
fn date_of_header(octets: &[u8]) -> Option<InternalDate> {
    let header = octets.split_inclusive(|octet| *octet == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let named = |line: &&[u8]| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"Date:"));
    let value = header.take(HEADER_LINES_MAX).find(named)?.get(5..)?;
    let (unix_s, offset_minutes) = rockdove_mail::date::parse_rfc5322(value)?;
    Some(InternalDate { unix_s, offset_minutes })
}

/// Lines in which a `Date` is looked for.
const HEADER_LINES_MAX: usize = 1_000;
