//! What a session asks its host, and what the host answers.

use bytes::Bytes;
use rockdove_mail::{
    Uid, UidSet, UidValidity,
    sasl::{Password, ScramKeys},
};

pub use rockdove_mail::sasl::LoginAnswer;

/// What the host tells a session about itself at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3Config {
    /// Name of this server in the greeting.
    pub host_name: String,
    /// Whether STLS is offered (there is a certificate, and TLS is not on already).
    pub starttls: bool,
    /// Whether passwords are taken on this connection without TLS.
    pub clear_login: bool,
}

/// A question to the host.
#[derive(Debug)]
pub enum Ask {
    /// Is this the password? Answered by [`Answer::Login`]; when it is accepted, the host remembers whose connection
    /// this is.
    CheckPassword {
        /// Login name as the client gave it.
        login: String,
        /// The password.
        password: Password,
        /// SASL authorization identity, where it was given.
        authorize_as: Option<String>,
    },
    /// The SCRAM keys of this login; made-up but stable ones for a login that does not exist. Answered by
    /// [`Answer::Scram`].
    ScramKeys {
        /// Login name as the client gave it.
        login: String,
    },
    /// A SCRAM exchange is over. Answered by [`Answer::Login`], as a password check is.
    ScramDone {
        /// Login name as the client gave it; empty when the exchange broke before it was known.
        login: String,
        /// SASL authorization identity, where it was given.
        authorize_as: Option<String>,
        /// Whether the client proved that it knows the password.
        proven: bool,
    },
    /// Lock the maildrop of the login and show what is in it. Answered by [`Answer::Opened`].
    Open,
    /// The sizes of these messages, in order. Answered by [`Answer::Sizes`].
    Sizes {
        /// Messages of the maildrop, at most [`crate::limits::SIZES_PAGE_MESSAGES_MAX`].
        uids: UidSet,
    },
    /// The size of these messages together. Answered by [`Answer::Octets`].
    Octets {
        /// Messages of the maildrop.
        uids: UidSet,
    },
    /// A page of a message. Answered by [`Answer::Page`].
    Read {
        /// A message of the maildrop.
        uid: Uid,
        /// First octet.
        offset: u64,
        /// Octets wanted; fewer may come, but none only at the end.
        octets_max: u64,
    },
    /// Remove messages and mark others as seen, then unlock the maildrop, whatever comes of it. Answered by
    /// [`Answer::Updated`].
    Update {
        /// Messages to remove, all or none.
        delete: UidSet,
        /// Messages to flag `\Seen`.
        seen: UidSet,
    },
}

/// Why a maildrop cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another POP3 session has it.
    InUse,
    /// It cannot be read at the moment.
    TryLater,
}

/// What is in a maildrop when the session begins. Message numbers follow from the order of the UIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maildrop {
    /// UIDVALIDITY of INBOX, the first half of each unique id.
    pub uid_validity: UidValidity,
    /// The messages.
    pub uids: UidSet,
    /// Their sizes together.
    pub octets: u64,
}

/// An answer of the host.
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::CheckPassword`] and [`Ask::ScramDone`].
    Login(LoginAnswer),
    /// To [`Ask::ScramKeys`].
    Scram(ScramKeys),
    /// To [`Ask::Open`].
    Opened(Result<Maildrop, OpenError>),
    /// To [`Ask::Sizes`]: one size for each message, in order.
    Sizes(Vec<u64>),
    /// To [`Ask::Octets`].
    Octets(u64),
    /// To [`Ask::Read`].
    Page {
        /// Size of the whole message.
        size_bytes: u64,
        /// Its octets from the asked offset.
        bytes: Bytes,
    },
    /// To [`Ask::Update`]: whether it is all done and durable.
    Updated(bool),
    /// To any question but [`Ask::Update`]: the message has been removed by another client.
    Gone,
    /// To any question: it cannot be answered at the moment.
    TryLater,
}
