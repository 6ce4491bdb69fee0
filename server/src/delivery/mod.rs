//! Inbound delivery: what happens to a complete message between its last octet and its reply.
//!
//! * What: a straight line of stages, each a function of its own: [`resolve`] → [`list`] → [`spam`] → [`junk`] →
//!   [`quota`] → [`forward`] → [`trace`] → [`leave`] → [`place`].
//! * In: a [`Mail`] from an SMTP session, its staged content, what the inspection found, the engine.
//! * Out: one [`RecipientOutcome`] per recipient, after the copies and what leaves are durable, and the events of its way.
//! * Never: waits for the disk sync (the engine calls back), delivers half of a message that gets one reply for all, or
//!   accepts for an address that [`check_recipient`] would refuse.
//! * Fails: with `TryLater` when the engine cannot take it now; nothing is delivered then.

mod apart;
mod forward;
mod intake;
mod junk;
mod leave;
mod list;
mod log;
mod place;
mod quota;
mod resolve;
mod spam;
mod srs;
mod trace;

use std::sync::Arc;

use rockdove_engine::{AccountId, Engine, EngineError, Outbound, StagedMessage, Staging};
use rockdove_mail::MailboxName;
use rockdove_smtp::{Mail, RecipientOutcome, Refusal, Role};

use crate::{config::Config, inspect::Verdict};

pub use apart::{Origin, release};
pub use intake::Intake;
pub use leave::{from_the_server, may_leave};
pub use log::{
    Appender, Leaving, appended, not_staged, refused_append, refused_message, refused_recipient, refused_sender,
    reported,
};
pub use quota::{check_recipient, has_room, needs_quota};
pub use resolve::{may_send_as, passes_on, recipient_targets};
pub use srs::is_rewritten;

/// Told the outcomes, in the order of the recipients, once.
pub type Done = Box<dyn FnOnce(Vec<RecipientOutcome>) + Send>;

/// A message on its way through the stages.
pub struct Job {
    /// The message; its content is in `staged`.
    mail: Mail,
    /// What is in force.
    config: Arc<Config>,
    /// What will become of each recipient as far as it is known; `Delivered` until a stage finds otherwise.
    outcomes: Vec<RecipientOutcome>,
    /// What will be put where.
    copies: Vec<Copy>,
    /// Positions of the recipients that are not here: their mail leaves.
    leaving: Vec<usize>,
    /// Addresses elsewhere that aliases and accounts of ours send it on to, each once.
    onward: Vec<forward::Onward>,
    /// Lists that recipients lead to, with the positions of these.
    lists: Vec<(String, usize)>,
    /// Members of lists whose mailbox is full, and the positions of the recipients that led to them.
    full: Vec<(String, usize)>,
    /// What the inspection found.
    verdict: Verdict,
    /// It was kept apart, and is let go.
    release: Option<apart::Release>,
}

/// One account's copy. An account gets one, however many of the recipients lead to it.
struct Copy {
    account: AccountId,
    /// Primary address of the account.
    address: String,
    /// Mailbox asked for by `user+detail`.
    detail: Option<String>,
    /// Positions of the recipients that lead here; the first is named in the trace header.
    recipients: Vec<usize>,
    mailbox: MailboxName,
    /// Header fields of its own, each with its CRLF.
    fields: String,
    /// It belongs into Junk.
    junk: bool,
    trace_header: bytes::Bytes,
    /// The list that it comes from.
    list: Option<String>,
}

/// An envelope of what leaves.
struct Leaves {
    /// The address of ours that sends it on.
    via: Option<String>,
    outbound: Outbound,
}

impl Job {
    fn new(mail: Mail, config: Arc<Config>, verdict: Verdict) -> Self {
        let outcomes = vec![RecipientOutcome::Delivered; mail.envelope.recipients.len()];
        Self {
            mail,
            config,
            outcomes,
            copies: Vec::new(),
            leaving: Vec::new(),
            onward: Vec::new(),
            lists: Vec::new(),
            full: Vec::new(),
            verdict,
            release: None,
        }
    }

    /// Whether the client gets one reply for all recipients, so that all or none must be served.
    fn one_reply(&self) -> bool {
        self.mail.envelope.client.role != Role::Lmtp
    }

    /// Notes what was found out about recipients, unless it is worse already.
    fn fail(&mut self, recipients: &[usize], outcome: &RecipientOutcome) {
        for recipient in recipients {
            if let Some(slot) = self.outcomes.get_mut(*recipient)
                && *slot == RecipientOutcome::Delivered
            {
                *slot = outcome.clone();
            }
        }
    }

    /// Drops the copies that nobody will be told of: all of them when there is one reply and it is a bad one, otherwise
    /// those whose recipients are refused. A recipient is never served in part: the client will send again to all of it.
    fn drop_refused(&mut self) {
        let refused = |outcomes: &[RecipientOutcome], recipient: &usize| {
            outcomes.get(*recipient).is_none_or(|outcome| *outcome != RecipientOutcome::Delivered)
        };
        if self.one_reply() && self.outcomes.iter().any(|outcome| *outcome != RecipientOutcome::Delivered) {
            self.copies.clear();
            self.leaving.clear();
            self.onward.clear();
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        for copy in &mut self.copies {
            copy.recipients.retain(|recipient| !refused(&outcomes, recipient));
        }
        self.copies.retain(|copy| !copy.recipients.is_empty());
        self.leaving.retain(|recipient| !refused(&outcomes, recipient));
        self.onward.retain(|onward| !refused(&outcomes, &onward.recipient));
        self.outcomes = outcomes;
    }
}

/// Writes pieces of a message into its staging area. May block.
pub fn spool(staging: &mut Staging, chunks: &[bytes::Bytes]) -> Result<(), EngineError> {
    chunks.iter().try_for_each(|chunk| staging.write(chunk))
}

/// A complete message on its way into the store.
pub struct Arrived {
    /// Its envelope; the chunks are in `message`.
    pub mail: Mail,
    /// Its content.
    pub message: Arc<StagedMessage>,
    /// What is in force.
    pub config: Arc<Config>,
    /// The account that submits it.
    pub owner: Option<AccountId>,
    /// What the inspection found.
    pub verdict: Verdict,
}

/// Delivers a message. May block on reading the store, but not on its sync: `done` is called from the committing thread,
/// or at once when nothing is to be committed.
pub fn deliver(engine: &Arc<Engine>, arrived: Arrived, done: Done) {
    let arrived = match as_filtered(engine, arrived) {
        Ok(arrived) => arrived,
        Err(recipients) => return done(vec![RecipientOutcome::TryLater; recipients]),
    };
    let Arrived { mail, message, config, owner, verdict } = arrived;
    let mut job = Job::new(mail, config, verdict);
    if let Some(refusal) = job.verdict.refusal.take() {
        return refuse(job, engine, refusal, done);
    }
    if let Some(reason) = job.verdict.quarantine.take() {
        return apart::keep(job, engine, message, (owner, reason), done);
    }
    resolve::resolve(&mut job, engine);
    list::expand(&mut job, engine, message.header());
    if let Some(refusal) = spam::judge(&mut job, engine, &message) {
        return refuse(job, engine, refusal, done);
    }
    junk::sort(&mut job, engine);
    quota::check(&mut job, engine, message.size_bytes());
    forward::check_loops(&mut job, message.header());
    trace::trace(&mut job, engine);
    let mut leaves = leave::leave(&job, &job.config, owner);
    leaves.append(&mut forward::forward(&job, engine, owner));
    place::place(job, engine, message, leaves, done);
}

/// A message that a filter of the operator has changed takes the place of the one that came. When it cannot be taken: how
/// many recipients are to be told.
fn as_filtered(engine: &Engine, mut arrived: Arrived) -> Result<Arrived, usize> {
    let Some(octets) = arrived.verdict.octets.take() else { return Ok(arrived) };
    let mut staging = engine.stage();
    match staging.write(&octets).and_then(|()| staging.finish()) {
        Ok(message) => {
            arrived.mail.size_bytes = message.size_bytes();
            arrived.message = message;
            Ok(arrived)
        }
        Err(error) => {
            not_staged(engine, &arrived.mail.envelope, &error);
            Err(arrived.mail.envelope.recipients.len())
        }
    }
}

fn refuse(mut job: Job, engine: &Engine, refusal: Refusal, done: Done) {
    log::refused_by_policy(engine, &job, &refusal);
    job.outcomes.fill(RecipientOutcome::Refused(refusal));
    done(job.outcomes);
}
