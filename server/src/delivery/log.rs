//! The events of delivery: accepted, delivered, queued, refused. Each names the message and says why.

use rockdove_engine::{
    Delivered, Engine, EngineError, Outbound, OutboundRecipient, QueueId,
    trace::{Event, Fact, What},
};
use rockdove_mail::{MailboxName, Uid, UidValidity, header};
use rockdove_smtp::{Address, Client, Envelope, RecipientOutcome, Refusal};

use super::Job;
use crate::events::{event, tell, warn};

/// Whose mailbox a message is appended to, and where the client sits.
pub type Appender = (String, Option<std::net::IpAddr>);

/// What is told of a message that waits to leave: through whom, and for each recipient its address and where it goes next.
pub struct Leaving {
    via: Option<String>,
    recipients: Vec<(String, String)>,
}

impl Leaving {
    /// `via`: the address of ours that sends it on.
    pub fn of(via: Option<String>, outbound: &Outbound) -> Self {
        let recipient = |recipient: &OutboundRecipient| (recipient.address.clone(), recipient.next_hop.clone());
        Self { via, recipients: outbound.recipients.iter().map(recipient).collect() }
    }

    fn tell(&self, engine: &Engine, id: &str, queue: QueueId) {
        for (to, hop) in &self.recipients {
            let queued = event(What::Queued, id).with(Fact::To, to).with_some(Fact::Via, self.via.as_ref());
            tell(engine, queued.with(Fact::Queue, &queue.0).with(Fact::Hop, hop));
        }
    }
}

/// A report of ours about a message, called `id` and sent to `to`, is durable.
pub fn reported(
    engine: &Engine,
    (id, to, about): (&str, &str, &str),
    (accounts, places): (&[String], &[Delivered]),
    (leaving, queued): (&[Leaving], &[QueueId]),
) {
    let why = format!("a report about mail {about}");
    tell(engine, event(What::Accepted, id).with(Fact::From, "").with(Fact::Recipients, &1).with(Fact::Why, &why));
    for (account, place) in accounts.iter().zip(places) {
        let delivered = event(What::Delivered, id).with(Fact::To, to).with(Fact::Account, account);
        tell(engine, delivered.with(Fact::Mailbox, "INBOX").with(Fact::Uid, &place.uid));
    }
    leaving.iter().zip(queued).for_each(|(leaving, queue)| leaving.tell(engine, id, *queue));
}

/// The Message-ID of a header.
pub(super) fn message_id(block: &[u8]) -> Option<String> {
    let mut fields = header::iter(block);
    let value = fields.find(|field| field.is("message-id"))?.value;
    Some(String::from_utf8_lossy(value.trim_ascii()).into_owned())
}

fn sender(reverse_path: Option<&Address>) -> String {
    reverse_path.map(Address::to_string).unwrap_or_default()
}

fn peer(client: &Client) -> String {
    client.remote.map_or_else(|| "unix".to_owned(), |remote| remote.to_string())
}

/// An event of a message that came in.
fn of_message(what: What, envelope: &Envelope) -> Event {
    event(what, &envelope.id)
        .with(Fact::From, &sender(envelope.reverse_path.as_ref()))
        .with(Fact::Peer, &peer(&envelope.client))
}

/// All copies are durable.
pub(super) fn delivered(
    engine: &Engine,
    job: &Job,
    message_id: Option<String>,
    places: &[Delivered],
    (leaving, queued): (&[Leaving], &[QueueId]),
) {
    let envelope = &job.mail.envelope;
    let client = &envelope.client;
    let accepted = of_message(What::Accepted, envelope)
        .with(Fact::Size, &job.mail.size_bytes)
        .with(Fact::Recipients, &envelope.recipients.len())
        .with(Fact::Client, &client.name)
        .with_some(Fact::Tls, client.tls.as_ref().map(|tls| tls.version.as_str()))
        .with_some(Fact::Auth, client.login.as_deref())
        .with_some(Fact::MessageId, message_id);
    tell(engine, accepted);
    let mut told = vec![false; envelope.recipients.len()];
    for (copy, place) in job.copies.iter().zip(places) {
        // Each copy is told of once, and each recipient at least once.
        for (number, position) in copy.recipients.iter().enumerate() {
            let Some(recipient) = envelope.recipients.get(*position) else { continue };
            if number > 0 && told.get(*position) != Some(&false) {
                continue;
            }
            if let Some(told) = told.get_mut(*position) {
                *told = true;
            }
            let delivered = event(What::Delivered, &envelope.id)
                .with(Fact::To, &recipient.address)
                .with_some(Fact::Via, copy.list.as_ref())
                .with(Fact::Account, &copy.address)
                .with(Fact::Mailbox, &copy.mailbox)
                .with(Fact::Uid, &place.uid);
            tell(engine, delivered);
        }
    }
    leaving.iter().zip(queued).for_each(|(leaving, queue)| leaving.tell(engine, &envelope.id, *queue));
    for (account, position) in &job.full {
        let via = envelope.recipients.get(*position).map(|recipient| &recipient.address);
        let full = event(What::Refused, &envelope.id).with(Fact::To, account).with_some(Fact::Via, via);
        tell(engine, full.with(Fact::Why, "the mailbox of a member is full"));
    }
    refused(engine, job);
}

/// The message is kept apart.
pub(super) fn quarantined(engine: &Engine, job: &Job, id: QueueId, why: &str) {
    let envelope = &job.mail.envelope;
    for recipient in &envelope.recipients {
        let kept = of_message(What::Quarantined, envelope).with(Fact::To, &recipient.address);
        tell(engine, kept.with(Fact::Queue, &id.0).with(Fact::Size, &job.mail.size_bytes).with(Fact::Why, why));
    }
}

/// Recipients that a stage refused.
pub(super) fn refused(engine: &Engine, job: &Job) {
    let envelope = &job.mail.envelope;
    for (recipient, outcome) in envelope.recipients.iter().zip(&job.outcomes) {
        let why = match outcome {
            RecipientOutcome::Delivered => continue,
            RecipientOutcome::UnknownRecipient => "the recipient has gone",
            RecipientOutcome::OverQuota => "the mailbox is full",
            RecipientOutcome::TryLater => "try again later",
            RecipientOutcome::Refused(refusal) => &refusal.text,
        };
        tell(engine, of_message(What::Refused, envelope).with(Fact::To, &recipient.address).with(Fact::Why, why));
    }
}

/// The engine could not take the message.
pub(super) fn failed(engine: &Engine, job: &Job, error: &EngineError) {
    not_staged(engine, &job.mail.envelope, error);
}

/// The engine could not take the content of a message.
pub fn not_staged(engine: &Engine, envelope: &Envelope, error: &EngineError) {
    warn(engine, of_message(What::Refused, envelope).with(Fact::Why, error));
}

/// The inspection refused the message.
pub(super) fn refused_by_policy(engine: &Engine, job: &Job, refusal: &Refusal) {
    let why = format!("{} {} {}", refusal.code, refusal.status, refusal.text);
    refused_message(engine, &job.mail.envelope, &why);
}

/// A message that the session refused for what is in it: told of each recipient.
pub fn refused_message(engine: &Engine, envelope: &Envelope, why: &str) {
    for recipient in &envelope.recipients {
        tell(engine, of_message(What::Refused, envelope).with(Fact::To, &recipient.address).with(Fact::Why, why));
    }
}

/// A recipient that RCPT refused.
pub fn refused_recipient(engine: &Engine, to: &Address, peer: Option<std::net::SocketAddr>, why: &str) {
    tell(engine, event(What::Refused, "").with(Fact::To, to).with_some(Fact::Peer, peer).with(Fact::Why, why));
}

/// A sender that MAIL refused.
pub fn refused_sender(engine: &Engine, from: &Address, login: &str, peer: Option<std::net::SocketAddr>) {
    let refused = event(What::Refused, "").with(Fact::From, from).with(Fact::Auth, login).with_some(Fact::Peer, peer);
    tell(engine, refused.with(Fact::Why, "not an address of this account"));
}

/// A message that a client has put into a mailbox itself. `by` is whose it is, and where the client sits.
pub fn appended(engine: &Engine, by: &Appender, mailbox: &MailboxName, place: (UidValidity, Uid), size: u64) {
    let ((account, peer), (uid_validity, uid)) = (by, place);
    let appended = event(What::Appended, &format!("{account}:{uid_validity}.{uid}"))
        .with(Fact::Account, account)
        .with(Fact::Mailbox, mailbox)
        .with(Fact::Uid, &uid)
        .with(Fact::Size, &size)
        .with_some(Fact::Peer, *peer);
    tell(engine, appended);
}

/// A message that a client could not put into a mailbox.
pub fn refused_append(engine: &Engine, by: &Appender, mailbox: &MailboxName, size: u64, why: &EngineError) {
    let (account, peer) = by;
    let refused = event(What::Refused, "")
        .with(Fact::Account, account)
        .with(Fact::Mailbox, mailbox)
        .with(Fact::Size, &size)
        .with_some(Fact::Peer, *peer)
        .with(Fact::Why, why);
    tell(engine, refused);
}
