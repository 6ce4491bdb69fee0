//! The client's half of SMTP and LMTP: mail that leaves.
//!
//! * What: one sans-IO [`ClientSession`]: greeting, EHLO, STARTTLS, AUTH, then one transaction after the other.
//! * In: bytes from the server, and the host's answers: a [`Transaction`], its content, or that there is no more.
//! * Out: commands, and [`ClientAsk`]s: what comes next, more content, what became of each recipient.
//! * Never: sends a bare CR or LF in mail data, says a password in clear over a connection that others can read, believes
//!   anything that was said before TLS, or calls a message delivered before the server has.
//! * Fails: not at all; a bad server is left, and the host is told at which [`Stage`].

mod content;
mod envelope;
mod login;
mod reply;
mod session;

use bytes::Bytes;

pub use reply::ServerReply;
pub use session::ClientSession;

use crate::{BodyKind, Notify, ReturnContent};

/// How the conversation is to be led.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Our name, for EHLO.
    pub name: String,
    /// LMTP (RFC 2033) instead of SMTP.
    pub lmtp: bool,
    /// TLS.
    pub tls: ClientTls,
    /// How to log in, where the server is a relay of ours.
    pub login: Option<ClientLogin>,
}

/// Whether STARTTLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// Not at all: the connection is encrypted already, or nobody else can read it.
    Never,
    /// When the server offers it.
    Opportunistic,
    /// Nothing is sent without it.
    Required,
}

/// A login at a relay.
#[derive(Clone)]
pub struct ClientLogin {
    /// The login.
    pub login: String,
    /// Its password.
    pub password: String,
    /// The password may be sent: the connection is encrypted and the server has proved its name, or it is this machine.
    pub plain: bool,
    /// A fresh random nonce for SCRAM: printable US-ASCII without commas.
    pub nonce: String,
}

impl std::fmt::Debug for ClientLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientLogin").field("login", &self.login).finish_non_exhaustive()
    }
}

/// One message to some recipients.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// The reverse-path; empty for `<>`.
    pub reverse_path: String,
    /// Who receives. At least one.
    pub recipients: Vec<TransactionRecipient>,
    /// Octets of the content.
    pub size_bytes: u64,
    /// What may be in it.
    pub body: BodyKind,
    /// An address, or the header, needs SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// ENVID (RFC 3461), as received.
    pub envelope_id: Option<String>,
    /// RET.
    pub return_content: Option<ReturnContent>,
    /// Nothing is sent: the server is only asked whether it would take the recipients. One that it would take is
    /// [`RecipientResult::Delivered`] then.
    pub ask_only: bool,
}

/// One recipient of a transaction.
#[derive(Clone, Debug, Default)]
pub struct TransactionRecipient {
    /// The forward-path.
    pub address: String,
    /// NOTIFY, when given.
    pub notify: Option<Notify>,
    /// ORCPT, as received.
    pub original_recipient: Option<String>,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientResult {
    /// The server has taken it over.
    Delivered(ServerReply),
    /// The server has refused it, or it cannot be sent to this server. Whether for good, the code says.
    Refused(ServerReply),
    /// The connection was lost, or the server did not answer in time. Behind the end of the content the server may have
    /// taken it all the same.
    Lost(Stage),
}

/// How far a conversation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO, LHLO or HELO.
    Hello,
    /// STARTTLS and the handshake.
    Tls,
    /// AUTH.
    Login,
    /// MAIL, RCPT and DATA.
    Envelope,
    /// The content was being sent.
    Content,
    /// All was sent; the reply to it was awaited.
    End,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult {
    /// In the order of the recipients.
    pub recipients: Vec<RecipientResult>,
    /// The server sends delivery status notifications itself (RFC 3461).
    pub reports: bool,
}

/// A question to the host. Each is answered once.
#[derive(Debug)]
pub enum ClientAsk {
    /// The next transaction? Answer: [`ClientAnswer::Transaction`] or [`ClientAnswer::Quit`].
    Next,
    /// More of the content, about so many octets? Answer: [`ClientAnswer::Content`] or [`ClientAnswer::NoContent`].
    Content(usize),
    /// What came of the transaction; when it is answered with [`ClientAnswer::Noted`] it is durable.
    Result(Box<TransactionResult>),
    /// The server cannot be used now, and why. Answer: [`ClientAnswer::Noted`]; the connection is closed then.
    Unusable(Stage, Box<ServerReply>),
}

/// The host's answer.
#[derive(Debug)]
pub enum ClientAnswer {
    /// The next transaction.
    Transaction(Box<Transaction>),
    /// There is none: say good-bye.
    Quit,
    /// The next octets of the content, and whether they are the last.
    Content(Bytes, bool),
    /// The content cannot be read now.
    NoContent,
    /// Told.
    Noted,
}
