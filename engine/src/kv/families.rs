//! The families (RocksDB: column families) of the store: what each is for and how it is used.
//!
//! Few on purpose: every family costs a write buffer, and one that is seldom written holds back the log of all others.
//! The keys inside each family are described byte by byte in [`super::keys`].

/// A part of the key space with its own tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Format version, server-wide allocators and the directory. Small, read whole at start, written rarely.
    Sys,
    /// Account state, mailbox statics, counters, names and subscriptions. Small rows, rewritten by every change.
    Account,
    /// Mailbox entries in columns: base rows and the small delta rows that follow them. Scanned by prefix.
    Segment,
    /// Message records: what FETCH needs without the body, and small parts. Written once, read by point and by run.
    Message,
    /// Large parts in chunks, under sequential ids. Written once, read by range, kept in blob files.
    Part,
    /// Who needs a part, which part has which content, which parts may be collected. Tiny rows, mostly point lookups.
    Reference,
    /// What was taken away and can be had again for a while: expunged entries by time, deleted mailboxes.
    Change,
    /// What searching reads: text pages, words and postings. Derived from the messages, written in the background.
    Text,
    /// Mail that leaves: envelopes, what is left to do for each next hop and when, the records of its messages.
    Queue,
    /// What was learned of unwanted and wanted mail: counts of tokens. Tiny rows, many point lookups, few writes.
    Spam,
    /// What happened to each message, day by day. Written in the background, dropped by age.
    Trace,
}

impl Family {
    /// Every family, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Sys,
        Self::Account,
        Self::Segment,
        Self::Message,
        Self::Part,
        Self::Reference,
        Self::Change,
        Self::Text,
        Self::Queue,
        Self::Trace,
        Self::Spam,
    ];

    /// Name on disk; never changed. `Sys` lives in the family that RocksDB insists on having.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sys => "default",
            Self::Account => "account",
            Self::Segment => "segment",
            Self::Message => "message",
            Self::Part => "part",
            Self::Reference => "reference",
            Self::Change => "change",
            Self::Text => "text",
            Self::Queue => "queue",
            Self::Spam => "spam",
            Self::Trace => "trace",
        }
    }

    /// Position in [`Family::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Sys => 0,
            Self::Account => 1,
            Self::Segment => 2,
            Self::Message => 3,
            Self::Part => 4,
            Self::Reference => 5,
            Self::Change => 6,
            Self::Text => 7,
            Self::Queue => 8,
            Self::Trace => 9,
            Self::Spam => 10,
        }
    }
}
