//! The outbound queue: mail that leaves, until every recipient has been served or given up.
//!
//! * What: envelopes, their recipients grouped by next hop, when each group is due, who works on it.
//! * In: [`Outbound`], or a [`Suspect`] that is kept apart, in the batch that accepts a message; what came of an attempt; an administrator's wishes.
//! * Out: [`Lease`]s of what is due, the bytes of a message, lists.
//! * Never: tries again a recipient whose delivery was noted, keeps more in memory than one row for each next hop and each
//!   lease, or decides when to try again (that comes in as a value).
//! * Fails: with an `EngineError`; what was leased stays leased, and can be noted again.
//!
//! A *task* is what one transaction can do: recipients of one message with the same next hop, at most
//! [`TASK_RECIPIENTS_MAX`]. Its row has everything that changes; a row beside it says when it is due, in order of next hop
//! and time, so that what is due for a hop is found without passing over what is not. A lease is kept in memory alone: when
//! the process dies, everything that was not noted is due again.

mod edit;
mod memory;
mod plan;
mod quarantine;
mod row;
mod view;

use bytes::Bytes;

use crate::command::AccountId;

pub use edit::{Edit, Selection};
pub(crate) use memory::Queue;
pub(crate) use plan::QueuePlan;
pub use quarantine::{Decided, Quarantined, QuarantinedRecipient, Suspect};
pub use row::{Envelope, RecipientState, Task, TaskRecipient};
pub use view::{QueueUse, QueuedMessage};

/// Recipients of one task: what every server takes in one transaction (RFC 5321 section 4.5.3.1.8).
pub const TASK_RECIPIENTS_MAX: usize = 100;
/// Octets of a reply that are kept.
pub const REPLY_OCTETS_MAX: usize = 512;
/// Octets of a next hop.
pub const HOP_OCTETS_MAX: usize = 512;

/// A message in the queue; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// What the content may have in it, as its client declared (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Lines of US-ASCII.
    #[default]
    SevenBit,
    /// Lines of any octets.
    EightBit,
    /// Any octets.
    Binary,
}

/// A message that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// The reverse-path; empty for `<>`.
    pub reverse_path: String,
    /// The account that submitted it.
    pub owner: Option<AccountId>,
    /// ENVID (RFC 3461), as received.
    pub envelope_id: Option<String>,
    /// RET: `Some(true)` for FULL.
    pub full_return: Option<bool>,
    /// BODY.
    pub content: Content,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// It came from elsewhere and is passed on: we do not answer for it, so it is not signed.
    pub relayed: bool,
    /// What it is called in the log and the trace; may be empty.
    pub id: String,
    /// When it was accepted, in milliseconds since 1970.
    pub received_ms: u64,
    /// Not before this moment (RFC 4865), in milliseconds since 1970; 0 for at once.
    pub not_before_ms: u64,
    /// Header fields put before the message, CRLF ends.
    pub prefix: Bytes,
    /// Who receives.
    pub recipients: Vec<OutboundRecipient>,
}

/// One recipient of a message that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundRecipient {
    /// The forward-path.
    pub address: String,
    /// When reports are wanted.
    pub notify: NotifyWhen,
    /// ORCPT (RFC 3461), as received.
    pub original_recipient: Option<String>,
    /// Where it goes next: what it is grouped by. Without NUL, at most [`HOP_OCTETS_MAX`].
    pub next_hop: String,
}

/// NOTIFY (RFC 3461 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyWhen {
    /// SUCCESS.
    pub success: bool,
    /// FAILURE.
    pub failure: bool,
    /// DELAY.
    pub delay: bool,
}

impl Default for NotifyWhen {
    /// What is done without NOTIFY: failures and delays are told.
    fn default() -> Self {
        Self { success: false, failure: true, delay: true }
    }
}

/// Work that is due: one message, and those of its recipients that one transaction can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The message.
    pub message: QueueId,
    /// Which of its tasks.
    pub task: u16,
    /// The envelope.
    pub envelope: Envelope,
    /// What is known of the task. Those of its recipients that do not wait any more are not to be served.
    pub state: Task,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The message.
    pub message: QueueId,
    /// Which of its tasks.
    pub task: u16,
    /// For recipients, by their place in the task. One that is not named waits on.
    pub fates: Vec<(usize, Fate)>,
    /// When those that wait are due again, in milliseconds since 1970.
    pub due_ms: u64,
    /// The sender has been told of the delay.
    pub delay_told: bool,
}

/// What became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Taken over by the next hop; its reply.
    Delivered(String),
    /// Given up, and why.
    Failed(String),
    /// To be tried again, and why.
    Deferred(String),
}
