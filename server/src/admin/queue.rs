//! Mail that waits to leave: what there is, and what is to be done with it.

use std::io;

use rockdove_engine::{
    AccountId, Command, Engine, EngineError, QueueId,
    queue::{Edit, QueueTotals, QueuedMessage, RecipientState, Selection, Task},
    trace::{Fact, What},
};
use rockdove_mail::header;

use super::{
    execute::{Emit, Host},
    request::{
        QueueEdit, QueueFilter, QueueHopFacts, QueueStatus, QueuedFacts, QueuedRecipientFacts, QueuedTaskFacts, Reply,
        Request,
    },
};
use crate::{
    events::{event, tell},
    runtime::clock,
};

/// Messages read from the store at once.
const PAGE: usize = 500;
/// Octets of a header that are looked through for its subject.
const HEADER_OCTETS_MAX: u64 = 64 * 1024;

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    match request {
        Request::QueueList { filter } => list(host, &filter, emit),
        Request::QueueShow { message } => match host.engine.queued(QueueId(message)) {
            Ok(found) => {
                emit(Reply::Queued(facts(host, &found)))?;
                Ok(Ok(String::new()))
            }
            Err(error) => Ok(Err(error.to_string())),
        },
        Request::QueueHops => match host.engine.queue_by_hop() {
            Ok(hops) => {
                for (next_hop, tasks) in hops {
                    emit(Reply::QueueHop(QueueHopFacts { next_hop, tasks }))?;
                }
                Ok(Ok(String::new()))
            }
            Err(error) => Ok(Err(error.to_string())),
        },
        Request::QueueEdit { messages, filter, edit } => Ok(change(host, &messages, filter.as_ref(), &edit)),
        _ => Ok(Err("not a request about the queue".to_owned())),
    }
}

fn selection(host: &Host, filter: &QueueFilter) -> Result<Selection, String> {
    let directory = host.engine.directory();
    let account = |address: &String| -> Result<AccountId, String> {
        let found = directory.account_by_login(address).map(|account| account.id);
        found.ok_or_else(|| format!("account {address} does not exist; `rockdove account list` shows what there is"))
    };
    Ok(Selection {
        owner: filter.owner.as_ref().map(account).transpose()?,
        recipient: filter.recipient.clone(),
        sender: filter.sender.clone(),
        next_hop: filter.next_hop.clone(),
        held: filter.held,
    })
}

/// Calls `visit` for every message that is selected, as long as it wants more.
fn each(
    host: &Host,
    selection: &Selection,
    visit: &mut dyn FnMut(QueuedMessage) -> io::Result<()>,
) -> io::Result<Result<(), String>> {
    let mut from = Some(QueueId(0));
    while let Some(start) = from {
        let (page, next) = match host.engine.queued_from(start, PAGE, selection) {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.to_string())),
        };
        page.into_iter().try_for_each(&mut *visit)?;
        from = next;
    }
    Ok(Ok(()))
}

fn list(host: &Host, filter: &QueueFilter, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let selection = match selection(host, filter) {
        Ok(selection) => selection,
        Err(why) => return Ok(Err(why)),
    };
    let mut count = 0_u64;
    let done = each(host, &selection, &mut |message| {
        count += 1;
        emit(Reply::Queued(facts(host, &message)))
    })?;
    Ok(done.map(|()| if count == 0 { "nothing waits".to_owned() } else { format!("{count} messages wait") }))
}

fn facts(host: &Host, message: &QueuedMessage) -> QueuedFacts {
    let owner = message
        .envelope
        .owner
        .and_then(|owner| host.engine.directory().account(owner).map(|account| account.address.clone()));
    QueuedFacts {
        message: message.id.0,
        sender: message.envelope.reverse_path.clone(),
        owner,
        size_bytes: message.size_bytes,
        received_unix_s: seconds(message.envelope.received_ms),
        subject: subject(host, message.id),
        tasks: message.tasks.iter().map(|(_, task)| task_facts(task)).collect(),
    }
}

fn task_facts(task: &Task) -> QueuedTaskFacts {
    let state = |state: RecipientState| match state {
        RecipientState::Waiting => "waiting",
        RecipientState::Delivered => "sent",
        RecipientState::Failed => "failed",
    };
    let recipient = |recipient: &rockdove_engine::queue::TaskRecipient| QueuedRecipientFacts {
        address: recipient.address.clone(),
        state: state(recipient.state).to_owned(),
        reply: recipient.reply.clone(),
    };
    QueuedTaskFacts {
        next_hop: task.next_hop.clone(),
        due_unix_s: seconds(task.due_ms),
        held: task.held,
        attempts: task.attempts,
        recipients: task.recipients.iter().map(recipient).collect(),
    }
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

/// Empty when the message has none, or has left meanwhile.
fn subject(host: &Host, message: QueueId) -> String {
    let read = || {
        let record = host.engine.queue_record(message)?;
        host.engine.read(AccountId(0), &record, 0..record.header.end.min(HEADER_OCTETS_MAX))
    };
    let subjects = read().map(|block| header::unfold_decoded(&block, "subject")).unwrap_or_default();
    subjects.into_iter().next().unwrap_or_default()
}

fn change(host: &Host, messages: &[u64], filter: Option<&QueueFilter>, edit: &QueueEdit) -> Result<String, String> {
    let now_ms = u64::try_from(clock::now().unix_s).unwrap_or(0).saturating_mul(1000);
    let (edit, what) = match edit {
        QueueEdit::Hold => (Edit::Hold, "on hold".to_owned()),
        QueueEdit::Release => (Edit::Release(now_ms), "released".to_owned()),
        QueueEdit::Retry => (Edit::Retry(now_ms), "tried now".to_owned()),
        QueueEdit::Cancel => (Edit::Cancel, "cancelled".to_owned()),
        QueueEdit::Reroute { next_hop } => (Edit::Reroute(next_hop.clone(), now_ms), format!("sent to {next_hop}")),
    };
    let mut ids: Vec<QueueId> = messages.iter().copied().map(QueueId).collect();
    if let Some(filter) = filter {
        let selection = selection(host, filter)?;
        let found = each(host, &selection, &mut |message| {
            ids.push(message.id);
            Ok(())
        });
        found.map_err(|error| error.to_string())??;
    }
    let (mut done, mut busy) = (0_u64, 0_u64);
    for id in &ids {
        let before = host.engine.queued(*id).ok();
        match host.run(Command::EditQueue { message: *id, edit: edit.clone(), owner: None }) {
            Ok(_) => {
                done += 1;
                told(host, before.as_ref(), &edit);
            }
            Err(EngineError::Unavailable(_)) => busy += 1,
            // It has left, which is what it was for.
            Err(EngineError::NotFound(_)) if filter.is_some() => {}
            Err(error) => return Err(format!("{error}; {done} messages {what}")),
        }
    }
    if busy > 0 {
        return Err(format!("{done} messages {what}; {busy} are being sent right now and stay as they are"));
    }
    Ok(format!("{done} messages {what}"))
}

/// How much waits. Zeros when it cannot be read: a status must come then too.
pub(super) fn status(engine: &Engine) -> QueueStatus {
    let now_ms = clock::unix_ms();
    let totals = engine.queue_totals(now_ms).unwrap_or_else(|error| {
        tracing::error!(%error, "the queue cannot be counted");
        QueueTotals::default()
    });
    QueueStatus {
        messages: totals.messages,
        recipients: totals.recipients,
        due: totals.due,
        held: totals.held,
        oldest_s: totals.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms) / 1000),
    }
}

/// Tells of an intervention.
fn told(host: &Host, message: Option<&QueuedMessage>, edit: &Edit) {
    let Some(message) = message else { return };
    let what = match edit {
        Edit::Hold => What::Held,
        Edit::Release(_) => What::Released,
        Edit::Retry(_) => What::Retried,
        Edit::Reroute(..) => What::Rerouted,
        Edit::Cancel => What::Cancelled,
    };
    let hop = if let Edit::Reroute(hop, _) = edit { Some(hop) } else { None };
    let event = event(what, &message.envelope.id).with(Fact::Queue, &message.id.0);
    let event = event.with(Fact::From, &message.envelope.reverse_path).with_some(Fact::Hop, hop);
    tell(&host.engine, event.with(Fact::By, "administrator"));
}
