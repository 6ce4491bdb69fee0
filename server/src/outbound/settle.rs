//! What came of an attempt becomes durable, together with what the sender is told about it.

use std::{net::SocketAddr, sync::Arc};

use rockdove_engine::{
    Command, Engine, EngineError, Lease, Outcome, Settled,
    queue::{Fate, TaskRecipient},
    trace::{Event, Fact, What},
};
use rockdove_smtp::client::{RecipientResult, ServerReply, Stage, TransactionResult};

use super::{
    attempt::Work,
    connect::Target,
    report::{self, Kind, PostedReport, Reported},
    schedule,
};
use crate::{
    events::{event, tell},
    runtime::clock,
    services::Services,
};

/// What came of an attempt, for each recipient that was served: its place in the task, and what happened.
#[derive(Clone, Debug)]
pub(super) struct Came {
    recipients: Vec<(usize, Happened)>,
    /// Whom we talked to; empty when nobody was reached.
    server: String,
    /// Its address.
    peer: Option<SocketAddr>,
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
    pub(super) fn of(work: &Work, result: &TransactionResult, target: &Target) -> Self {
        let happened = |result: &RecipientResult| match result {
            RecipientResult::Delivered(reply) => Happened::Delivered(reply.clone()),
            RecipientResult::Refused(reply) => Happened::Refused(reply.clone()),
            RecipientResult::Lost(stage) => Happened::Refused(lost(*stage)),
        };
        let recipients = work.places.iter().copied().zip(result.recipients.iter().map(happened)).collect();
        let (server, peer) = (target.name.clone(), Some(target.address));
        Self { recipients, server, peer, reports: result.reports }
    }

    /// Nobody was served, because of this.
    pub(super) fn nothing(lease: &Lease, reply: &ServerReply, server: &str) -> Self {
        let recipients = lease.state.waiting().map(|(place, _)| (place, Happened::Refused(reply.clone()))).collect();
        Self { recipients, server: server.to_owned(), peer: None, reports: false }
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

/// What is told when it is durable.
pub(super) struct Told {
    events: Vec<Event>,
    report: Option<PostedReport>,
}

impl Told {
    pub(super) fn tell(self, engine: &Engine, outcome: &Outcome) {
        for event in self.events {
            metrics::counter!("rockdove_outbound_recipients_total", "how" => event.what.name()).increment(1);
            tell(engine, event);
        }
        if let (Some(report), Outcome::Dispatched { delivered, queued }) = (&self.report, outcome) {
            report.tell(engine, delivered, queued);
        }
    }
}

/// Works out what is to be noted of a lease and told to its sender; once more when it could not be noted.
pub(super) fn command(services: &Arc<Services>, lease: &Lease, came: &Came) -> Result<(Command, Told), EngineError> {
    let config = services.config();
    let now_ms = now_ms();
    let seed = u64::from(lease.task).wrapping_add(lease.message.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let attempts = lease.state.attempts.saturating_add(1);
    let times = (lease.envelope.received_ms.max(lease.envelope.not_before_ms), now_ms);
    let next = schedule::next(&config.outbound, times, attempts, lease.state.delay_told, seed);
    let (mut fates, mut reported, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for (place, happened) in &came.recipients {
        let Some(recipient) = lease.state.recipients.get(*place) else { continue };
        let (fate, report) = fate(recipient, happened, &next, came.reports);
        events.push(event_of(lease, recipient, &fate, came, (attempts, next.due_ms)));
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
    let (message, deliveries, outbound, report) = match report {
        Some(posted) => (Some(posted.message), posted.deliveries, posted.outbound, Some(posted.report)),
        None => (None, Vec::new(), Vec::new(), None),
    };
    let command = Command::Dispatch { message, deliveries, outbound, settled: vec![settled] };
    Ok((command, Told { events, report }))
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

fn event_of(
    lease: &Lease,
    recipient: &TaskRecipient,
    fate: &Fate,
    came: &Came,
    (attempts, due_ms): (u32, Option<u64>),
) -> Event {
    let (what, reply, due_ms) = match fate {
        Fate::Delivered(reply) => (What::Sent, reply, None),
        Fate::Failed(reply) => (What::Bounced, reply, None),
        Fate::Deferred(reply) => (What::Deferred, reply, due_ms),
    };
    event(what, &lease.envelope.id)
        .with(Fact::Queue, &lease.message.0)
        .with(Fact::From, &lease.envelope.reverse_path)
        .with(Fact::To, &recipient.address)
        .with(Fact::Hop, &lease.state.next_hop)
        .with_some(Fact::Server, Some(&came.server).filter(|server| !server.is_empty()))
        .with_some(Fact::Peer, came.peer)
        .with(Fact::Attempts, &attempts)
        .with_some(Fact::Due, due_ms.map(|due_ms| due_ms / 1000))
        .with(Fact::Reply, reply)
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(clock::now().unix_s).unwrap_or(0).saturating_mul(1000)
}
