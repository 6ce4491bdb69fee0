//! What a search looks for (RFC 9051 section 6.4.4), free of protocol syntax.
//!
//! Sequence numbers have been turned into UIDs by the session; strings are UTF-8 in whatever case the client wrote.

use crate::{Keyword, ModSeq, SystemFlags, Uid, UidSet};

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
    /// When it came into its mailbox, in UTC (`SAVEDBEFORE`, `SAVEDON`, `SAVEDSINCE`; RFC 8514).
    Saved,
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
    /// The internal date is at least so many seconds ago (RFC 5032). [`SearchKey::at`] says when that is.
    Older(u32),
    /// The internal date is at most so many seconds ago (RFC 5032). [`SearchKey::at`] says when that is.
    Younger(u32),
    /// The internal date is this second, in seconds since 1970, or an earlier one.
    ArrivedBy(i64),
    /// Case-insensitive substring of a field. An empty needle in `Header` asks whether the field is there.
    Text(SearchField, String),
    /// Words that are alike, in any order, in a field (RFC 6203). Without words it is [`SearchKey::Text`].
    Fuzzy(SearchField, String),
}

impl SearchKey {
    /// The condition as of this second (since 1970): ages become dates.
    #[must_use]
    pub fn at(self, now_unix_s: i64) -> Self {
        let at = |key: Box<Self>| Box::new(key.at(now_unix_s));
        match self {
            Self::And(keys) => Self::And(keys.into_iter().map(|key| key.at(now_unix_s)).collect()),
            Self::Or(a, b) => Self::Or(at(a), at(b)),
            Self::Not(key) => Self::Not(at(key)),
            //= rfc5032#section-3
            //# For OLDER, messages match if the
            //# INTERNALDATE is less recent than or equal to the target time.  For
            //# YOUNGER, messages match if the INTERNALDATE is more recent than or
            //# equal to the target time.
            Self::Older(seconds) => Self::ArrivedBy(now_unix_s.saturating_sub(i64::from(seconds))),
            Self::Younger(seconds) => {
                let before = now_unix_s.saturating_sub(i64::from(seconds)).saturating_sub(1);
                Self::Not(Box::new(Self::ArrivedBy(before)))
            }
            other => other,
        }
    }
}

/// What SORT compares (RFC 5256 section 3, RFC 5957).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// `ARRIVAL`: internal date and time.
    Arrival,
    /// `CC`: mailbox of the first `Cc:` address.
    Cc,
    /// `DATE`: sent date and time in UTC, or where there is none the internal date.
    Date,
    /// `DISPLAYFROM`: display name of the first `From:` address, or its address.
    DisplayFrom,
    /// `DISPLAYTO`: display name of the first `To:` address, or its address.
    DisplayTo,
    /// `FROM`: mailbox of the first `From:` address.
    From,
    /// `RELEVANCY`: how well a message matches what is searched fuzzily, best first (RFC 6203).
    Relevancy,
    /// `SIZE`: octets.
    Size,
    /// `SUBJECT`: base subject.
    Subject,
    /// `TO`: mailbox of the first `To:` address.
    To,
}

/// One criterion of SORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortCriterion {
    /// What is compared.
    pub key: SortKey,
    /// `REVERSE`: descending.
    pub reverse: bool,
}

/// How THREAD finds threads (RFC 5256 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadAlgorithm {
    /// `ORDEREDSUBJECT`: equal base subjects.
    OrderedSubject,
    /// `REFERENCES`: who answers whom.
    References,
}

/// A message in a forest of threads. Parents come before their children, and these follow each other with what is below
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadNode {
    /// The message; `None` for one that is not there but has several children at the top level.
    pub uid: Option<Uid>,
    /// How many are above it.
    pub depth: u32,
    /// It is the only child of its parent. Not said of those at the top level.
    pub only_child: bool,
}
