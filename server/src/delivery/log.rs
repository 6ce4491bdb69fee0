//! One log line per message event: accepted, delivered, refused. Each names the message and says why.

use rockdove_engine::{Delivered, EngineError, QueueId};
use rockdove_mail::{MailboxName, Uid, UidValidity};
use rockdove_smtp::{Address, Client, Envelope, RecipientOutcome, Refusal};
use tracing::{info, warn};

use super::Job;

/// Whose mailbox a message is appended to, and where the client sits.
pub type Appender = (String, Option<std::net::IpAddr>);

fn sender(reverse_path: Option<&Address>) -> String {
    reverse_path.map(Address::to_string).unwrap_or_default()
}

fn peer(client: &Client) -> String {
    client.remote.map_or_else(|| "unix".to_owned(), |remote| remote.to_string())
}

/// All copies are durable.
pub(super) fn delivered(job: &Job, places: &[Delivered], queued: &[QueueId]) {
    let envelope = &job.mail.envelope;
    let client = &envelope.client;
    info!(
        id = %envelope.id,
        from = %sender(envelope.reverse_path.as_ref()),
        size = job.mail.size_bytes,
        recipients = envelope.recipients.len(),
        peer = %peer(client),
        client = %client.name,
        tls = client.tls.as_ref().map(|tls| tls.version.as_str()),
        auth = client.login.as_deref(),
        "accepted"
    );
    for (copy, place) in job.copies.iter().zip(places) {
        let recipient = copy.recipients.first().and_then(|recipient| envelope.recipients.get(*recipient));
        info!(
            id = %envelope.id,
            to = %recipient.map(|recipient| recipient.address.to_string()).unwrap_or_default(),
            account = %copy.address,
            mailbox = %copy.mailbox,
            uid = place.uid,
            "delivered"
        );
    }
    for queue in queued {
        info!(id = %envelope.id, queue = queue.0, recipients = job.leaving.len(), "queued");
    }
    refused(job);
}

/// The message is kept apart.
pub(super) fn quarantined(job: &Job, id: QueueId, why: &str) {
    let envelope = &job.mail.envelope;
    info!(
        id = %envelope.id,
        from = %sender(envelope.reverse_path.as_ref()),
        size = job.mail.size_bytes,
        recipients = envelope.recipients.len(),
        peer = %peer(&envelope.client),
        quarantine = id.0,
        why,
        "quarantined"
    );
}

/// Recipients that a stage refused.
pub(super) fn refused(job: &Job) {
    let envelope = &job.mail.envelope;
    for (recipient, outcome) in envelope.recipients.iter().zip(&job.outcomes) {
        let why = match outcome {
            RecipientOutcome::Delivered => continue,
            RecipientOutcome::UnknownRecipient => "the recipient has gone",
            RecipientOutcome::OverQuota => "the mailbox is full",
            RecipientOutcome::TryLater => "try again later",
            RecipientOutcome::Refused(refusal) => &refusal.text,
        };
        info!(
            id = %envelope.id,
            from = %sender(envelope.reverse_path.as_ref()),
            to = %recipient.address,
            peer = %peer(&envelope.client),
            why,
            "refused"
        );
    }
}

/// The engine could not take the message.
pub(super) fn failed(job: &Job, error: &EngineError) {
    not_staged(&job.mail.envelope, error);
}

/// The engine could not take the content of a message.
pub fn not_staged(envelope: &Envelope, error: &EngineError) {
    warn!(
        id = %envelope.id,
        from = %sender(envelope.reverse_path.as_ref()),
        peer = %peer(&envelope.client),
        why = %error,
        "refused"
    );
}

/// The inspection refused the message.
pub(super) fn refused_by_policy(job: &Job, refusal: &Refusal) {
    let why = format!("{} {} {}", refusal.code, refusal.status, refusal.text);
    refused_message(&job.mail.envelope, &why);
}

/// A message that the session refused for what is in it.
pub fn refused_message(envelope: &Envelope, why: &str) {
    info!(
        id = %envelope.id,
        from = %sender(envelope.reverse_path.as_ref()),
        recipients = envelope.recipients.len(),
        peer = %peer(&envelope.client),
        why,
        "refused"
    );
}

/// A recipient that RCPT refused.
pub fn refused_recipient(to: &Address, peer: Option<std::net::SocketAddr>, why: &str) {
    info!(to = %to, peer = peer.map(tracing::field::display), why, "refused");
}

/// A sender that MAIL refused.
pub fn refused_sender(from: &Address, login: &str, peer: Option<std::net::SocketAddr>) {
    info!(from = %from, auth = login, peer = peer.map(tracing::field::display), why = "not an address of this account", "refused");
}

/// A message that a client has put into a mailbox itself. `by` is whose it is, and where the client sits.
pub fn appended(by: &Appender, mailbox: &MailboxName, place: (UidValidity, Uid), size: u64) {
    let ((account, peer), (uid_validity, uid)) = (by, place);
    info!(
        id = %format_args!("{uid_validity}.{uid}"),
        %account,
        %mailbox,
        uid,
        size,
        peer = peer.map(tracing::field::display),
        "appended"
    );
}

/// A message that a client could not put into a mailbox.
pub fn refused_append(by: &Appender, mailbox: &MailboxName, size: u64, why: &EngineError) {
    let (account, peer) = by;
    info!(%account, %mailbox, size, peer = peer.map(tracing::field::display), %why, "refused");
}
