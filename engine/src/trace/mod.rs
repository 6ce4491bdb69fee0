//! What happened to each message, kept for a while and found again.
//!
//! * What: events in a family of its own: of the message as it came in, of each recipient, of whoever intervened.
//! * In: events from all who deal with mail; the moments of sweeping.
//! * Out: the events of a message in their order, found by its id, sender, recipient, Message-ID or the client's address.
//! * Never: holds up a delivery, waits for a disk sync, or grows beyond [`WAITING_EVENTS_MAX`] in memory. What a crash
//!   takes is what had come since the last [`Engine::write_trace`].
//! * Fails: what cannot be written is kept in memory as far as there is room, and counted when it is lost.
//!
//! [`Engine::write_trace`]: crate::Engine::write_trace

mod find;
mod row;
mod write;

pub use find::{Sought, Traced};
pub use row::day_of;
pub(crate) use row::{day_of_number, decode as decode_event, index_keys};
pub(crate) use write::Trace;

/// Events that wait to be written: at a thousand messages a second those of some seconds.
pub const WAITING_EVENTS_MAX: usize = 50_000;
/// Events of one day, which bounds the disk they take: about six gigabytes before compression.
pub const DAY_EVENTS_MAX: u64 = 20_000_000;
/// Octets that are kept of one fact; replies and reasons can be of any length.
pub const FACT_OCTETS_MAX: usize = 512;
/// Messages that one search finds.
pub const TRACES_FOUND_MAX: usize = 1_000;
/// Events that are shown of one message: enough for a list with thousands of members.
pub const TRACE_EVENTS_MAX: usize = 50_000;

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the message is called in the log; empty for one that was refused before it had a name.
    pub id: String,
    /// What.
    pub what: What,
    /// The rest, each fact at most once.
    pub facts: Vec<(Fact, String)>,
}

impl Event {
    /// An event without facts.
    pub fn new(at_ms: u64, id: &str, what: What) -> Self {
        Self { at_ms, id: id.to_owned(), what, facts: Vec::new() }
    }

    /// The same with a fact more.
    #[must_use]
    pub fn with(mut self, fact: Fact, text: &(impl ToString + ?Sized)) -> Self {
        self.facts.push((fact, text.to_string()));
        self
    }

    /// The same with a fact more, if it is known.
    #[must_use]
    pub fn with_some(self, fact: Fact, text: Option<impl ToString>) -> Self {
        match text {
            Some(text) => self.with(fact, &text),
            None => self,
        }
    }

    /// A fact, if it is known.
    pub fn fact(&self, wanted: Fact) -> Option<&str> {
        self.facts.iter().find(|(fact, _)| *fact == wanted).map(|(_, text)| text.as_str())
    }
}

/// Declares words with their number on disk, which never changes, and their name.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $word:ident = $number:literal $text:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$meaning])* $word,)+
        }

        impl $name {
            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)+
                }
            }

            pub(crate) const fn number(self) -> u8 {
                match self {
                    $(Self::$word => $number,)+
                }
            }

            pub(crate) const fn of_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$word),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// What can happen to a message.
    What {
        /// It is durable, and our responsibility.
        Accepted = 1 "accepted",
        /// A recipient has it in a mailbox.
        Delivered = 2 "delivered",
        /// It waits to leave to a recipient.
        Queued = 3 "queued",
        /// Another server has taken it for a recipient.
        Sent = 4 "sent",
        /// It could not be sent now, and is tried again.
        Deferred = 5 "deferred",
        /// It was given up.
        Bounced = 6 "bounced",
        /// It, or a recipient of it, was not taken.
        Refused = 7 "refused",
        /// A client has put it into a mailbox.
        Appended = 8 "appended",
        /// Somebody keeps it from leaving.
        Held = 9 "held",
        /// Somebody lets it leave.
        Released = 10 "released",
        /// Somebody has it tried at once.
        Retried = 11 "retried",
        /// Somebody sends it another way.
        Rerouted = 12 "rerouted",
        /// Somebody has taken it out of the queue.
        Cancelled = 13 "cancelled",
        /// What was found about it.
        Judged = 14 "judged",
    }
}

words! {
    /// What can be known of an event.
    Fact {
        /// The reverse-path.
        From = 1 "from",
        /// The recipient.
        To = 2 "to",
        /// The Message-ID of its header.
        MessageId = 3 "message_id",
        /// Address and port of the client.
        Peer = 4 "peer",
        /// The name the client gave.
        Client = 5 "client",
        /// Version of TLS.
        Tls = 6 "tls",
        /// The login of the client.
        Auth = 7 "auth",
        /// Octets.
        Size = 8 "size",
        /// Number of recipients.
        Recipients = 9 "recipients",
        /// The account that has it.
        Account = 10 "account",
        /// The mailbox that has it.
        Mailbox = 11 "mailbox",
        /// Its UID there.
        Uid = 12 "uid",
        /// Its number in the queue.
        Queue = 13 "queue",
        /// Where it goes next.
        Hop = 14 "hop",
        /// The server that was talked to.
        Server = 15 "server",
        /// Attempts so far.
        Attempts = 16 "attempts",
        /// What that server said.
        Reply = 17 "reply",
        /// The reason.
        Why = 18 "why",
        /// When it is tried again, in seconds since 1970.
        Due = 19 "due",
        /// Who did it.
        By = 20 "by",
        /// The alias, account or list of ours through which it came to this recipient.
        Via = 21 "via",
    }
}
