//! What a search looks for (RFC 9051 section 6.4.4), free of protocol syntax.
//!
//! Sequence numbers have been turned into UIDs by the session; strings are UTF-8 in whatever case the client wrote.

use crate::{Keyword, ModSeq, SystemFlags, UidSet};

/// A header field that searching names by a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchField {
    /// `FROM`.
    From,
    /// `TO`.
    To,
    /// `CC`.
    Cc,
    /// `BCC`.
    Bcc,
    /// `SUBJECT`.
    Subject,
    /// `HEADER` with this field name.
    Header(String),
    /// `BODY`: the text of the body.
    Body,
    /// `TEXT`: header or body.
    Text,
}

/// A calendar day without a time zone, as search dates are (RFC 9051: "disregarding time and timezone").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    /// Days since 1970-01-01.
    pub days_since_epoch: i32,
}

/// Which date of a message a search compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateField {
    /// The internal date (`BEFORE`, `ON`, `SINCE`).
    Internal,
    /// The `Date:` header (`SENTBEFORE`, `SENTON`, `SENTSINCE`).
    Sent,
}

/// One condition, or several joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// Every one of these holds. The empty list holds.
    And(Vec<SearchKey>),
    /// At least one of the two holds.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// The condition does not hold.
    Not(Box<SearchKey>),
    /// The UID is one of these.
    Uids(UidSet),
    /// All these system flags are set.
    Flag(SystemFlags),
    /// The keyword is set.
    Keyword(Keyword),
    /// The day is before the given one.
    Before(DateField, Day),
    /// The day is the given one.
    On(DateField, Day),
    /// The day is the given one or later.
    Since(DateField, Day),
    /// Size in octets greater than this.
    Larger(u64),
    /// Size in octets smaller than this.
    Smaller(u64),
    /// Mod-sequence at least this (RFC 7162 section 3.1.5).
    ModSeq(ModSeq),
    /// The message of this number and its copies (RFC 8474 EMAILID).
    Message(u32),
    /// Case-insensitive substring of a field. An empty needle in `Header` asks whether the field is there.
    Text(SearchField, String),
}
