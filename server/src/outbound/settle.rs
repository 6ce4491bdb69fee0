//! What came of an attempt becomes durable, together with what the sender is told about it.

use std::sync::Arc;

use rockdove_engine::{
    Command, EngineError, Lease, Settled,
    queue::{Fate, TaskRecipient},
};
use rockdove_smtp::client::{RecipientResult, ServerReply, Stage, TransactionResult};

use super::{
    attempt::Work,
    report::{self, Kind, Reported},
    schedule,
};
use crate::{runtime::clock, services::Services};

/// What came of an attempt, for each recipient that was served: its place in the task, and what happened.
#[derive(Clone, Debug)]
pub(super) struct Came {
    recipients: Vec<(usize, Happened)>,
    /// Whom we talked to; empty when nobody was reached.
    server: String,
    /// That server sends reports itself.
    reports: bool,
}

#[derive(Clone, Debug)]
enum Happened {
    Delivered(ServerReply),
    Refused(ServerReply),
}

impl Came {
    /// What a transaction has brought.
    pub(super) fn of(work: &Work, result: &TransactionResult, server: &str) -> Self {
        let happened = |result: &RecipientResult| match result {
            RecipientResult::Delivered(reply) => Happened::Delivered(reply.clone()),
            RecipientResult::Refused(reply) => Happened::Refused(reply.clone()),
            RecipientResult::Lost(stage) => Happened::Refused(lost(*stage)),
        };
        let recipients = work.places.iter().copied().zip(result.recipients.iter().map(happened)).collect();
        Self { recipients, server: server.to_owned(), reports: result.reports }
    }

    /// Nobody was served, because of this.
    pub(super) fn nothing(lease: &Lease, reply: &ServerReply, server: &str) -> Self {
        let recipients = lease.state.waiting().map(|(place, _)| (place, Happened::Refused(reply.clone()))).collect();
        Self { recipients, server: server.to_owned(), reports: false }
    }
}

/// The connection ended before there was an answer.
pub(super) fn lost(stage: Stage) -> ServerReply {
    let text = match stage {
        Stage::End => "the connection was lost before the server confirmed the message; it may have it",
        Stage::Content => "the connection was lost while the message was being sent",
        _ => "the connection was lost",
    };
    ServerReply::new(421, "4.4.2", text)
}

/// Works out what is to be noted of a lease and told to its sender. `repeatable`: called again when it could not be noted.
pub(super) fn command(services: &Arc<Services>, lease: &Lease, came: &Came) -> Result<Command, EngineError> {
    let config = services.config();
    let now_ms = now_ms();
    let seed = u64::from(lease.task).wrapping_add(lease.message.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let attempts = lease.state.attempts.saturating_add(1);
    let times = (lease.envelope.received_ms.max(lease.envelope.not_before_ms), now_ms);
    let next = schedule::next(&config.outbound, times, attempts, lease.state.delay_told, seed);
    let (mut fates, mut reported) = (Vec::new(), Vec::new());
    for (place, happened) in &came.recipients {
        let Some(recipient) = lease.state.recipients.get(*place) else { continue };
        let (fate, report) = fate(recipient, happened, &next, came.reports);
        tell(lease, recipient, &fate, &came.server, attempts);
        if let Some(kind) = report {
            let (Happened::Delivered(reply) | Happened::Refused(reply)) = happened;
            reported.push(Reported {
                kind,
                recipient: recipient.clone(),
                reply: reply.clone(),
                expired: next.due_ms.is_none(),
            });
        }
        fates.push((*place, fate));
    }
    let settled = Settled {
        message: lease.message,
        task: lease.task,
        fates,
        due_ms: next.due_ms.unwrap_or(now_ms),
        delay_told: next.warn,
    };
    let report = if reported.is_empty() { None } else { report::post(services, lease, &came.server, &reported)? };
    let (message, deliveries, outbound) = match report {
        Some(posted) => (Some(posted.message), posted.deliveries, posted.outbound),
        None => (None, Vec::new(), Vec::new()),
    };
    Ok(Command::Dispatch { message, deliveries, outbound, settled: vec![settled] })
}

/// What becomes of a recipient, and what its sender is told.
fn fate(
    recipient: &TaskRecipient,
    happened: &Happened,
    next: &schedule::Next,
    server_reports: bool,
) -> (Fate, Option<Kind>) {
    let notify = recipient.notify;
    match happened {
        Happened::Delivered(reply) => {
            // RFC 3461 section 5.2.2: where the next server knows nothing of reports, we tell that it went there.
            let tells = notify.success && !server_reports;
            (Fate::Delivered(reply.to_string()), tells.then_some(Kind::Relayed))
        }
        Happened::Refused(reply) if reply.is_permanent() || next.due_ms.is_none() => {
            (Fate::Failed(reply.to_string()), notify.failure.then_some(Kind::Failed))
        }
        Happened::Refused(reply) => {
            (Fate::Deferred(reply.to_string()), (next.warn && notify.delay).then_some(Kind::Delayed))
        }
    }
}

fn tell(lease: &Lease, recipient: &TaskRecipient, fate: &Fate, server: &str, attempts: u32) {
    let (queue, to, from) = (lease.message.0, &recipient.address, &lease.envelope.reverse_path);
    let (what, reply) = match fate {
        Fate::Delivered(reply) => ("sent", reply),
        Fate::Failed(reply) => ("bounced", reply),
        Fate::Deferred(reply) => ("deferred", reply),
    };
    metrics::counter!("rockdove_outbound_recipients_total", "how" => what).increment(1);
    tracing::info!(queue, %from, %to, hop = %lease.state.next_hop, server, attempts, %reply, "{what}");
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(clock::now().unix_s).unwrap_or(0).saturating_mul(1000)
}
