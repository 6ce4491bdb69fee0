//! Mail that is kept apart: into the quarantine instead of the last stages, and later through them after all.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_engine::{
    AccountId, Command, Engine, EngineError, Outbound, Outcome, StagedMessage,
    queue::{Content, Decided, NotifyWhen, Quarantined, Suspect},
};
use rockdove_mail::TlsFacts;
use rockdove_smtp::{
    Address, BodyKind, Client, Envelope, HeaderFacts, Mail, Notify, Recipient, RecipientOutcome, ReturnContent, Role,
};
use serde::{Deserialize, Serialize};

use super::{Done, Job, forward, leave, log, place, quota, resolve, trace};
use crate::{config::Config, inspect::Verdict};

/// Octets read at once.
const READ_OCTETS: u64 = 256 * 1024;

/// How a message came, kept with it for its trace header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// What names it in the log.
    pub id: String,
    /// The client's name, as it gave it.
    pub helo: String,
    /// Its address and port.
    pub peer: Option<String>,
    /// It said EHLO.
    extended: bool,
    /// Version of TLS and cipher suite.
    tls: Option<(String, String)>,
    /// The login.
    pub login: Option<String>,
}

impl Origin {
    fn of(envelope: &Envelope) -> Self {
        let client = &envelope.client;
        Self {
            id: envelope.id.clone(),
            helo: client.name.clone(),
            peer: client.remote.map(|remote| remote.to_string()),
            extended: client.extended,
            tls: client.tls.as_ref().map(|tls| (tls.version.clone(), tls.cipher.clone())),
            login: client.login.clone(),
        }
    }

    /// What is kept with a message; nothing is known of what cannot be read.
    pub fn read(kept: &Quarantined) -> Self {
        serde_json::from_str(&kept.client).unwrap_or_default()
    }

    fn client(self, submitted: bool) -> Client {
        let tls = self.tls.map(|(version, cipher)| TlsFacts { version, cipher, server_name: None });
        Client {
            role: if submitted { Role::Submission } else { Role::Mx },
            name: self.helo,
            extended: self.extended,
            remote: self.peer.and_then(|peer| peer.parse().ok()),
            tls,
            login: self.login,
        }
    }
}

/// Keeps a message apart, for all recipients or, when one of them has gone, for none.
pub(super) fn keep(
    mut job: Job,
    engine: &Arc<Engine>,
    message: Arc<StagedMessage>,
    (owner, reason): (Option<AccountId>, String),
    done: Done,
) {
    resolve::resolve(&mut job, engine);
    job.drop_refused();
    if job.outcomes.iter().any(|outcome| *outcome != RecipientOutcome::Delivered) {
        log::refused(&job);
        return done(job.outcomes);
    }
    job.leaving = (0..job.outcomes.len()).collect();
    let recipients = job.leaving.len();
    let mut parts = leave::leave(&job, &job.config, owner).into_iter();
    let Some(mut outbound) = parts.next() else { return place::refuse(job, &unplaced(), done) };
    outbound.recipients.extend(parts.flat_map(|part| part.recipients));
    if outbound.recipients.len() != recipients {
        return place::refuse(job, &unplaced(), done);
    }
    outbound.prefix = Bytes::from(format!("{}{}", job.verdict.fields, trace::missing_fields(&job)));
    let client = serde_json::to_string(&Origin::of(&job.mail.envelope)).unwrap_or_default();
    let messages_max = job.config.scan.quarantine.messages_max;
    let suspect = Box::new(Suspect { outbound, reason: reason.clone(), client, messages_max });
    let now = job.mail.received_unix_s;
    let answered = move |result| match result {
        Ok(Outcome::Quarantined(id)) => {
            done(job.outcomes.clone());
            log::quarantined(&job, id, &reason);
        }
        Ok(_) => place::refuse(job, &unplaced(), done),
        Err(error) => place::refuse(job, &error, done),
    };
    engine.submit(now, Command::Quarantine { message, suspect }, Box::new(answered));
}

/// Delivers a message that is kept apart to these of its recipients, in one batch with that it is kept for them no longer.
/// If one of them cannot be served, none is. `done` is told in the order of `addresses`. May block.
///
/// # Errors
/// When the message cannot be read.
pub fn release(
    engine: &Arc<Engine>,
    config: &Arc<Config>,
    kept: &Quarantined,
    addresses: Vec<String>,
    now_unix_s: i64,
    done: Done,
) -> Result<(), EngineError> {
    let message = staged_again(engine, kept)?;
    let mail = mail(kept, &addresses, message.size_bytes())?;
    let mut job = Job::new(mail, Arc::clone(config), Verdict::default());
    job.release = Some(Release { decided: Decided { message: kept.id, addresses }, now_unix_s });
    resolve::resolve(&mut job, engine);
    quota::check(&mut job, engine, message.size_bytes());
    forward::check_loops(&mut job, message.header());
    trace::trace(&mut job);
    let mut outbound = leave::leave(&job, &job.config, kept.envelope.owner);
    outbound.append(&mut forward::forward(&job, &job.config, kept.envelope.owner));
    for outbound in &mut outbound {
        as_it_came(outbound, kept);
    }
    place::place(job, engine, message, outbound, done);
    Ok(())
}

/// A message that is let go, and when.
pub(super) struct Release {
    pub(super) decided: Decided,
    pub(super) now_unix_s: i64,
}

/// What the client said about the whole message, and a job without its session cannot know.
fn as_it_came(outbound: &mut Outbound, kept: &Quarantined) {
    let envelope = &kept.envelope;
    outbound.envelope_id.clone_from(&envelope.envelope_id);
    outbound.full_return = envelope.full_return;
    outbound.content = envelope.content;
    outbound.smtputf8 = envelope.smtputf8;
    outbound.require_tls = envelope.require_tls;
    outbound.received_ms = envelope.received_ms;
    outbound.not_before_ms = envelope.not_before_ms;
}

/// The content with the fields that were put before it.
fn staged_again(engine: &Engine, kept: &Quarantined) -> Result<Arc<StagedMessage>, EngineError> {
    let record = engine.queue_record(kept.id)?;
    let (mut staging, mut at) = (engine.stage(), 0);
    while at < record.size_bytes {
        let next = at.saturating_add(READ_OCTETS).min(record.size_bytes);
        staging.write(&engine.read(AccountId(0), &record, at..next)?)?;
        at = next;
    }
    staging.finish()
}

fn mail(kept: &Quarantined, addresses: &[String], size_bytes: u64) -> Result<Mail, EngineError> {
    let envelope = &kept.envelope;
    let parsed = |address: &str| {
        Address::parse(address).map_err(|_| EngineError::Corrupt(format!("the address {address} in the quarantine")))
    };
    let chosen = |address: &String| kept.recipients.iter().find(|recipient| recipient.address == *address);
    let mut recipients = Vec::with_capacity(addresses.len());
    for address in addresses {
        let missing = || EngineError::NotFound(format!("recipient {address} of message {}", kept.id.0));
        let recipient = chosen(address).ok_or_else(missing)?;
        recipients.push(Recipient {
            address: parsed(address)?,
            notify: notify(recipient.notify),
            original_recipient: recipient.original_recipient.as_deref().map(Into::into),
        });
    }
    let reverse_path = Some(&envelope.reverse_path).filter(|path| !path.is_empty());
    let origin = Origin::read(kept);
    Ok(Mail {
        envelope: Envelope {
            id: origin.id.clone(),
            reverse_path: reverse_path.map(|path| parsed(path)).transpose()?,
            recipients,
            body: match envelope.content {
                Content::SevenBit => BodyKind::SevenBit,
                Content::EightBit => BodyKind::EightBitMime,
                Content::Binary => BodyKind::BinaryMime,
            },
            smtputf8: envelope.smtputf8,
            return_content: envelope
                .full_return
                .map(|full| if full { ReturnContent::Full } else { ReturnContent::Headers }),
            envelope_id: envelope.envelope_id.as_deref().map(Into::into),
            client: Arc::new(origin.client(envelope.owner.is_some())),
        },
        chunks: Vec::new(),
        size_bytes,
        // What was missing has been put before it.
        header: HeaderFacts { received: 0, date: true, message_id: true },
        received_unix_s: i64::try_from(envelope.received_ms / 1000).unwrap_or(0),
    })
}

fn notify(when: NotifyWhen) -> Option<Notify> {
    let NotifyWhen { success, failure, delay } = when;
    match (when == NotifyWhen::default(), success || failure || delay) {
        (true, _) => None,
        (false, true) => Some(Notify::On { success, failure, delay }),
        (false, false) => Some(Notify::Never),
    }
}

fn unplaced() -> EngineError {
    EngineError::Unavailable("the message cannot be kept apart".to_owned())
}
