//! What a session asks its host, and what the host answers. Plain data.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rockdove_mail::{TlsFacts, sasl};

pub use rockdove_mail::sasl::LoginAnswer;

use crate::{Address, HeaderFacts, Role};

/// A question to the host. Each is answered once.
#[derive(Debug)]
pub enum Ask {
    /// Is this the password? Answer: [`Answer::Login`].
    Login {
        /// Authentication identity.
        login: String,
        /// The password; wiped when dropped.
        password: sasl::Password,
        /// Authorization identity, when the client gave one.
        authorize_as: Option<String>,
    },
    /// The SCRAM keys of this login, or stable fakes for an unknown one. Answer: [`Answer::ScramKeys`].
    ScramKeys {
        /// Authentication identity.
        login: String,
    },
    /// The client proved with SCRAM that it knows the password. Answer: [`Answer::Login`].
    ScramProved {
        /// Authentication identity.
        login: String,
        /// Authorization identity, when the client gave one.
        authorize_as: Option<String>,
    },
    /// The client could not prove it; only for the host's count of failures. Answer: [`Answer::Noted`].
    ScramFailed {
        /// Authentication identity.
        login: String,
    },
    /// May this client go on, by the name that it gives itself? Only on MX. Answer: [`Answer::Hello`].
    Hello {
        /// What it said behind EHLO or HELO.
        name: String,
    },
    /// May mail begin, and may the logged-in account send as this address? Not on LMTP. Answer: [`Answer::Sender`].
    Sender {
        /// The reverse-path; `None` for `<>`, which names nobody.
        address: Option<Address>,
    },
    /// Does mail for this address belong here? Answer: [`Answer::Recipient`].
    Recipient {
        /// The forward-path without its source route.
        address: Address,
        /// Octets the client announced with SIZE.
        size_declared: Option<u64>,
    },
    /// More content of the message under way. The pieces follow those of earlier asks. Answer: [`Answer::Spooled`].
    Spool(Vec<Bytes>),
    /// The message is complete: make it durable. Answer: [`Answer::Delivered`].
    Deliver(Box<Mail>),
    /// The message under way is given up: forget what was spooled. Answer: [`Answer::Noted`].
    Abandon(Box<Abandoned>),
}

/// The host's answer.
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Login`] and [`Ask::ScramProved`].
    Login(LoginAnswer),
    /// To [`Ask::ScramKeys`].
    ScramKeys(sasl::ScramKeys),
    /// To [`Ask::Hello`]: why not.
    Hello(Option<Refusal>),
    /// To [`Ask::Sender`].
    Sender(SenderAnswer),
    /// To [`Ask::Recipient`].
    Recipient(RecipientAnswer),
    /// To [`Ask::Spool`].
    Spooled(SpoolAnswer),
    /// To [`Ask::Deliver`]: one outcome per recipient, in their order. On MX and submission either all of them are
    /// [`RecipientOutcome::Delivered`] or nothing was delivered, because there is one reply for all.
    Delivered(Vec<RecipientOutcome>),
    /// To the asks that only tell.
    Noted,
}

/// Whether mail may begin, and an account may send as an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderAnswer {
    /// It may.
    Accepted,
    /// The address belongs to somebody else.
    NotYours,
    /// Could not find out; try later.
    TryLater,
    /// Not wanted, or not now. Code 421 ends the connection.
    Refused(Refusal),
}

/// Whether mail for an address belongs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientAnswer {
    /// It does.
    Accepted,
    /// The domain is ours, the recipient does not exist.
    UnknownRecipient,
    /// The domain is not ours.
    NotLocal,
    /// The account has no room.
    OverQuota,
    /// Could not find out; try later.
    TryLater,
    /// Not wanted, or not now. Code 421 ends the connection.
    Refused(Refusal),
}

/// Whether message content was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolAnswer {
    /// Taken.
    Taken,
    /// The server cannot take it now; the rest of the message is thrown away.
    TryLater,
}

/// A reply that the host decides on: what a check or a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Reply code, 4yz or 5yz.
    pub code: u16,
    /// Enhanced status code (RFC 3463), of the same class.
    pub status: String,
    /// What a person reads; characters that do not belong into a reply are left out, and it is cut to 400 octets.
    pub text: String,
}

/// What became of one recipient's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// On disk.
    Delivered,
    /// The recipient went away between RCPT and the end of the message.
    UnknownRecipient,
    /// The account has no room.
    OverQuota,
    /// Try later.
    TryLater,
    /// Not wanted, or not now.
    Refused(Refusal),
}

/// The BODY parameter (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// Lines of US-ASCII; the default.
    #[default]
    SevenBit,
    /// Lines of any octets.
    EightBitMime,
    /// Any octets at all; only with BDAT.
    BinaryMime,
}

/// The RET parameter (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnContent {
    /// A failure report carries the whole message.
    Full,
    /// A failure report carries the header.
    Headers,
}

/// The NOTIFY parameter (RFC 3461 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// NEVER.
    Never,
    /// A report in these cases.
    On {
        /// SUCCESS.
        success: bool,
        /// FAILURE.
        failure: bool,
        /// DELAY.
        delay: bool,
    },
}

/// One accepted recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path without its source route.
    pub address: Address,
    /// NOTIFY, when given.
    pub notify: Option<Notify>,
    /// ORCPT (`type;xtext`, as received), when given.
    pub original_recipient: Option<Box<str>>,
}

/// Who is at the other end and how they came in: what a trace header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Which conversation.
    pub role: Role,
    /// Name given with EHLO, HELO or LHLO.
    pub name: String,
    /// Whether it said EHLO (or LHLO) rather than HELO.
    pub extended: bool,
    /// Its address; `None` on a unix socket.
    pub remote: Option<SocketAddr>,
    /// TLS, where it is in use.
    pub tls: Option<TlsFacts>,
    /// Login of the authenticated account.
    pub login: Option<String>,
}

/// The SMTP envelope of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Names the message in replies, trace header and log.
    pub id: String,
    /// The reverse-path; `None` for `<>`.
    pub reverse_path: Option<Address>,
    /// Accepted recipients, in the order of their RCPT commands, repeats included.
    pub recipients: Vec<Recipient>,
    /// BODY.
    pub body: BodyKind,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET, when given.
    pub return_content: Option<ReturnContent>,
    /// ENVID (xtext, as received), when given.
    pub envelope_id: Option<Box<str>>,
    /// Who sends.
    pub client: Arc<Client>,
}

/// A complete message.
#[derive(Debug)]
pub struct Mail {
    /// Its envelope.
    pub envelope: Envelope,
    /// What was not handed over by [`Ask::Spool`] yet; small messages come whole.
    pub chunks: Vec<Bytes>,
    /// Octets of the whole message, with dots unstuffed.
    pub size_bytes: u64,
    /// What its header was seen to hold.
    pub header: HeaderFacts,
    /// When its end was received, in seconds since 1970-01-01 00:00 UTC.
    pub received_unix_s: i64,
}

/// A message that will not be delivered.
#[derive(Debug)]
pub struct Abandoned {
    /// Its envelope.
    pub envelope: Envelope,
    /// The reply that refused it; `None` when the client itself gave up (RSET, EHLO, a lost connection).
    pub refusal: Option<String>,
}
