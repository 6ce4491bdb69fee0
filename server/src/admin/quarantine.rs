//! Mail that is kept apart: what there is, and who gets it after all.

use std::{io, sync::mpsc, time::Duration};

use rockdove_engine::{
    AccountId, Command, EngineError, QueueId, Resolution,
    queue::{Decided, Quarantined},
};
use rockdove_mail::header;
use rockdove_smtp::{Address, RecipientOutcome};
use serde::{Deserialize, Serialize};

use super::{
    execute::{Emit, Host},
    request::Reply,
};
use crate::{delivery, runtime::clock};

/// Messages read from the store at once.
const PAGE: usize = 200;
/// Octets of a header that are shown.
const HEADER_OCTETS_MAX: u64 = 64 * 1024;
/// Pause between two looks whether a message that is let go is durable.
const LOOK: Duration = Duration::from_millis(5);

/// What is wanted of mail that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRequest {
    /// What.
    pub wish: QuarantineWish,
    /// Primary address of the account whose it is; everybody's when missing.
    pub account: Option<String>,
}

/// What can be wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantineWish {
    /// To see what there is.
    List,
    /// To see one message.
    Show {
        /// Its number.
        message: u64,
    },
    /// To have messages delivered.
    Release {
        /// Their numbers.
        messages: Vec<u64>,
        /// All there are, instead.
        all: bool,
    },
    /// To have messages deleted.
    Delete {
        /// Their numbers.
        messages: Vec<u64>,
        /// All there are, instead.
        all: bool,
    },
}

/// A message that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedFacts {
    /// Its number.
    pub message: u64,
    /// Its sender; empty for a report.
    pub sender: String,
    /// Recipients that it is kept for.
    pub recipients: Vec<String>,
    /// Why.
    pub reason: String,
    /// The address of the client.
    pub peer: Option<String>,
    /// The name it gave.
    pub helo: String,
    /// Its login.
    pub login: Option<String>,
    /// What names the message in the log.
    pub id: String,
    /// Octets.
    pub size_bytes: u64,
    /// When it came, in seconds since 1970.
    pub received_unix_s: i64,
    /// When it is deleted, in seconds since 1970.
    pub expires_unix_s: i64,
    /// Its subject.
    pub subject: String,
    /// Its header, when one message is shown.
    pub header: Option<String>,
}

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, wanted: &QuarantineRequest, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let account = match wanted.account.as_ref().map(|address| account_of(host, address)).transpose() {
        Ok(account) => account,
        Err(why) => return Ok(Err(why)),
    };
    match &wanted.wish {
        QuarantineWish::List => list(host, account, emit),
        QuarantineWish::Show { message } => show(host, account, *message, emit),
        QuarantineWish::Release { messages, all } => Ok(each(host, account, messages, *all, "released", release)),
        QuarantineWish::Delete { messages, all } => Ok(each(host, account, messages, *all, "deleted", delete)),
    }
}

fn account_of(host: &Host, address: &str) -> Result<AccountId, String> {
    let directory = host.engine.directory();
    let found = directory.account_by_login(address).map(|account| account.id);
    found.ok_or_else(|| format!("account {address} does not exist; `rockdove account list` shows what there is"))
}

/// The recipients of a message that lead to an account, or all; repeats are left out.
fn recipients(host: &Host, message: &Quarantined, account: Option<AccountId>) -> Vec<String> {
    let (directory, config) = (host.engine.directory(), (host.config)());
    let leads_there = |address: &str| {
        let Some(account) = account else { return true };
        let Ok(address) = Address::parse(address) else { return false };
        match delivery::recipient_targets(&directory, &address, &config.hostname) {
            Resolution::Local(targets) => targets.accounts.iter().any(|target| target.account == account),
            Resolution::UnknownRecipient | Resolution::NotLocal => false,
        }
    };
    let mut chosen: Vec<String> = Vec::new();
    for recipient in &message.recipients {
        if leads_there(&recipient.address) && !chosen.contains(&recipient.address) {
            chosen.push(recipient.address.clone());
        }
    }
    chosen
}

fn list(host: &Host, account: Option<AccountId>, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let (mut from, mut count) = (Some(QueueId(0)), 0_u64);
    while let Some(start) = from {
        let (page, next) = match host.engine.quarantined_from(start, PAGE) {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for message in page {
            let recipients = recipients(host, &message, account);
            if !recipients.is_empty() {
                count += 1;
                emit(Reply::Quarantined(facts(host, &message, recipients, false)))?;
            }
        }
        from = next;
    }
    Ok(Ok(if count == 0 { "nothing is kept apart".to_owned() } else { format!("{count} messages are kept apart") }))
}

fn show(host: &Host, account: Option<AccountId>, message: u64, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let found = match host.engine.quarantined(QueueId(message)) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let recipients = recipients(host, &found, account);
    if recipients.is_empty() {
        return Ok(Err(EngineError::NotFound(format!("message {message} in the quarantine")).to_string()));
    }
    emit(Reply::Quarantined(facts(host, &found, recipients, true)))?;
    Ok(Ok(String::new()))
}

fn facts(host: &Host, message: &Quarantined, recipients: Vec<String>, whole: bool) -> QuarantinedFacts {
    let read = || {
        let record = host.engine.queue_record(message.id)?;
        let end = record.header.end.min(HEADER_OCTETS_MAX);
        Ok::<_, EngineError>((record.size_bytes, host.engine.read(AccountId(0), &record, 0..end)?))
    };
    // Somebody may have decided about it meanwhile.
    let (size_bytes, block) = read().unwrap_or_default();
    let origin = delivery::Origin::read(message);
    let received_unix_s = i64::try_from(message.envelope.received_ms / 1000).unwrap_or(i64::MAX);
    let keep_s = i64::try_from((host.config)().scan.quarantine.keep.ms / 1000).unwrap_or(i64::MAX);
    QuarantinedFacts {
        message: message.id.0,
        sender: message.envelope.reverse_path.clone(),
        recipients,
        reason: message.reason.clone(),
        peer: origin.peer,
        helo: origin.helo,
        login: origin.login,
        id: origin.id,
        size_bytes,
        received_unix_s,
        expires_unix_s: received_unix_s.saturating_add(keep_s),
        subject: header::unfold_decoded(&block, "subject").into_iter().next().unwrap_or_default(),
        header: whole.then(|| String::from_utf8_lossy(&block).into_owned()),
    }
}

/// Does something for these recipients of a message. Says what could not be done for some of them.
type Deed = fn(&Host, &Quarantined, Vec<String>) -> Result<Vec<String>, EngineError>;

/// Does something with messages. What cannot be done with one does not keep the others from it.
fn each(
    host: &Host,
    account: Option<AccountId>,
    messages: &[u64],
    all: bool,
    what: &str,
    deed: Deed,
) -> Result<String, String> {
    let mut ids: Vec<QueueId> = messages.iter().copied().map(QueueId).collect();
    if all {
        let mut from = Some(QueueId(0));
        while let Some(start) = from {
            let (page, next) = host.engine.quarantined_from(start, PAGE).map_err(|error| error.to_string())?;
            let whose = page.iter().filter(|message| !recipients(host, message, account).is_empty());
            ids.extend(whose.map(|message| message.id));
            from = next;
        }
    }
    let (mut done, mut failed) = (0_u64, Vec::new());
    for id in ids {
        let decided = host.engine.quarantined(id).and_then(|message| {
            let recipients = recipients(host, &message, account);
            if recipients.is_empty() {
                return Err(EngineError::NotFound(format!("message {} in the quarantine", id.0)));
            }
            deed(host, &message, recipients)
        });
        match decided {
            Ok(left) if left.is_empty() => done += 1,
            Ok(left) => failed.extend(left.into_iter().map(|why| format!("message {}: {why}", id.0))),
            Err(error) => failed.push(error.to_string()),
        }
    }
    let line = format!("{done} messages {what}");
    if failed.is_empty() { Ok(line) } else { Err(format!("{}; {line}", failed.join("; "))) }
}

fn delete(host: &Host, message: &Quarantined, addresses: Vec<String>) -> Result<Vec<String>, EngineError> {
    host.run(Command::Discard(Decided { message: message.id, addresses }))?;
    tracing::info!(quarantine = message.id.0, "deleted from the quarantine");
    Ok(Vec::new())
}

/// Delivers to all of them; where that is not possible, to those that can be served.
fn release(host: &Host, message: &Quarantined, addresses: Vec<String>) -> Result<Vec<String>, EngineError> {
    let (mut wanted, mut failed) = (addresses, Vec::new());
    while !wanted.is_empty() {
        let outcomes = release_at_once(host, message, wanted.clone())?;
        let bad = outcomes.iter().any(|outcome| *outcome != RecipientOutcome::Delivered);
        if !bad {
            tracing::info!(quarantine = message.id.0, recipients = wanted.len(), "released from the quarantine");
            break;
        }
        let mut served = Vec::new();
        for (address, outcome) in wanted.into_iter().zip(outcomes) {
            match outcome {
                RecipientOutcome::Delivered => served.push(address),
                RecipientOutcome::UnknownRecipient => failed.push(format!("{address} has gone")),
                RecipientOutcome::OverQuota => failed.push(format!("the mailbox of {address} is full")),
                RecipientOutcome::TryLater => failed.push(format!("{address} cannot be served now, try again later")),
                RecipientOutcome::Refused(refusal) => failed.push(format!("{address}: {}", refusal.text)),
            }
        }
        wanted = served;
    }
    Ok(failed)
}

fn release_at_once(
    host: &Host,
    message: &Quarantined,
    addresses: Vec<String>,
) -> Result<Vec<RecipientOutcome>, EngineError> {
    let (tell, told) = mpsc::channel();
    let done = move |outcomes| drop(tell.send(outcomes));
    let now = clock::now().unix_s;
    delivery::release(&host.engine, &(host.config)(), message, addresses, now, Box::new(done))?;
    loop {
        match told.try_recv() {
            Ok(outcomes) => return Ok(outcomes),
            Err(mpsc::TryRecvError::Empty) => drop(host.engine.commit_pending(LOOK)),
            Err(mpsc::TryRecvError::Disconnected) => {
                return Err(EngineError::Unavailable("the server is stopping".to_owned()));
            }
        }
    }
}
