//! A report on its way to the sender: its content, and where it goes.

use std::sync::Arc;

use rockdove_engine::{
    AccountId, Delivery, EngineError, Lease, Outbound, StagedMessage, Staging,
    queue::{QueueId, TaskRecipient},
};
use rockdove_smtp::{
    client::ServerReply,
    report::{Action, Report, ReportRecipient},
};

use super::settle::now_ms;
use crate::{delivery, runtime::clock, services::Services};

/// Octets up to which a message comes back whole, when its sender asks for that or says nothing.
const RETURNED_OCTETS_MAX: u64 = 256 * 1024;
/// Octets of a header that comes back.
const RETURNED_HEADER_OCTETS_MAX: u64 = 128 * 1024;
/// Octets read at once.
const READ_OCTETS: u64 = 64 * 1024;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was given up.
    Failed,
    /// It waits.
    Delayed,
    /// It went where nothing more will be heard of it.
    Relayed,
}

/// Of whom it is told.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    pub(super) kind: Kind,
    pub(super) recipient: TaskRecipient,
    pub(super) reply: ServerReply,
    /// It was given up because it had waited too long.
    pub(super) expired: bool,
}

/// A message that is to be placed here, or to leave.
pub(super) struct Posted {
    pub(super) message: Arc<StagedMessage>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) outbound: Vec<Outbound>,
}

/// A report to the sender of a lease. `None` when there is nobody to tell: a report is never answered by a report
/// (RFC 3461 section 6.2). May block.
pub(super) fn post(
    services: &Arc<Services>,
    lease: &Lease,
    server: &str,
    reported: &[Reported],
) -> Result<Option<Posted>, EngineError> {
    if lease.envelope.reverse_path.is_empty() {
        return Ok(None);
    }
    let config = services.config();
    let expires_ms = lease.envelope.received_ms.saturating_add(config.outbound.expire.ms);
    let record = services.engine.queue_record(lease.message)?;
    // RFC 8689 section 5: of mail that requires TLS only the header comes back.
    let require_tls = lease.envelope.require_tls;
    let whole = lease.envelope.full_return.unwrap_or(true) && record.size_bytes <= RETURNED_OCTETS_MAX && !require_tls;
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(0);
    let report = Report {
        hostname: config.hostname.clone(),
        id: format!("report.{}.{}.{}", lease.message.0, lease.task, now_ms()),
        to: lease.envelope.reverse_path.clone(),
        envelope_id: lease.envelope.envelope_id.clone(),
        arrival_unix_s: seconds(lease.envelope.received_ms),
        now_unix_s: clock::now().unix_s,
        recipients: reported.iter().map(|one| recipient(one, server, seconds(expires_ms))).collect(),
        whole,
    };
    let end = if whole { record.size_bytes } else { record.header.end.min(RETURNED_HEADER_OCTETS_MAX) };
    let mut staging = services.engine.stage();
    staging.write(report.head().as_bytes())?;
    returned(services, &mut staging, lease.message, end)?;
    staging.write(report.tail().as_bytes())?;
    let message = staging.finish()?;
    let place = delivery::from_the_server(services, &report.to, now_ms());
    Ok(place.map(|(deliveries, mut outbound)| {
        for outbound in &mut outbound {
            outbound.require_tls = require_tls;
        }
        Posted { message, deliveries, outbound }
    }))
}

fn returned(services: &Services, staging: &mut Staging, message: QueueId, end: u64) -> Result<(), EngineError> {
    let record = services.engine.queue_record(message)?;
    let mut at = 0;
    while at < end {
        let next = at.saturating_add(READ_OCTETS).min(end);
        staging.write(&services.engine.read(AccountId(0), &record, at..next)?)?;
        at = next;
    }
    Ok(())
}

fn recipient(reported: &Reported, server: &str, expires_unix_s: i64) -> ReportRecipient {
    let mut reply = reported.reply.clone();
    if reported.expired && !reply.is_permanent() {
        reply.text = format!("given up after trying for too long; the last reply was: {}", reply.text);
    }
    ReportRecipient {
        action: match reported.kind {
            Kind::Failed => Action::Failed,
            Kind::Delayed => Action::Delayed,
            Kind::Relayed => Action::Relayed,
        },
        address: reported.recipient.address.clone(),
        original_recipient: reported.recipient.original_recipient.clone(),
        reply,
        server: Some(server.to_owned()).filter(|server| !server.is_empty()),
        retry_until_unix_s: (reported.kind == Kind::Delayed).then_some(expires_unix_s),
    }
}
