//! Mail that leaves: recipients that are not here become envelopes of the queue.

use bytes::Bytes;
use rockdove_engine::{
    AccountId, Delivery, InternalDate, Outbound, OutboundRecipient, Resolution,
    directory::domain_key,
    queue::{Content, NotifyWhen},
};
use rockdove_mail::{Flags, MailboxName};
use rockdove_smtp::{Address, BodyKind, Notify, Recipient, ReturnContent, Role, received};

use super::{Job, resolve::recipient_targets, trace::missing_fields};
use crate::{config::Config, outbound, services::Services};

/// Whether mail for an address that has no mailbox here is sent on: that of our own users, and that of a domain which
/// another system shares.
pub fn may_leave(config: &Config, role: Role, resolution: &Resolution, address: &Address) -> bool {
    let Some(domain) = mail_domain(address) else { return false };
    match resolution {
        Resolution::NotLocal => role == Role::Submission,
        Resolution::UnknownRecipient => outbound::takes_unknown(config, &domain),
        Resolution::Local(_) => false,
    }
}

/// The domain as it is looked up: A-labels in lower case, or a literal in brackets.
pub(super) fn mail_domain(address: &Address) -> Option<String> {
    if address.domain.starts_with('[') { Some(address.domain.clone()) } else { domain_key(&address.domain) }
}

/// What leaves of a job. `owner`: the account whose submission it is.
pub(super) fn leave(job: &Job, config: &Config, owner: Option<AccountId>) -> Vec<Outbound> {
    let envelope = &job.mail.envelope;
    let recipients: Vec<OutboundRecipient> = job
        .leaving
        .iter()
        .filter_map(|position| outbound_recipient(config, envelope.recipients.get(*position)?))
        .collect();
    if recipients.is_empty() {
        return Vec::new();
    }
    let (hostname, unix_s) = (&job.config.hostname, job.mail.received_unix_s);
    let only = (recipients.len() == 1).then(|| recipients[0].address.clone());
    let trace = received(envelope, hostname, only.as_deref(), unix_s);
    let prefix = Bytes::from(format!("{trace}{}{}{}", job.verdict.seal, job.verdict.fields, missing_fields(job)));
    vec![Outbound { recipients, ..envelope_of(job, owner, prefix) }]
}

/// The envelope of a message that leaves, without recipients.
pub(super) fn envelope_of(job: &Job, owner: Option<AccountId>, prefix: Bytes) -> Outbound {
    let envelope = &job.mail.envelope;
    Outbound {
        reverse_path: envelope.reverse_path.as_ref().map(Address::to_string).unwrap_or_default(),
        owner,
        envelope_id: envelope.envelope_id.as_deref().map(str::to_owned),
        full_return: envelope.return_content.map(|content| content == ReturnContent::Full),
        content: match envelope.body {
            BodyKind::SevenBit => Content::SevenBit,
            BodyKind::EightBitMime => Content::EightBit,
            BodyKind::BinaryMime => Content::Binary,
        },
        smtputf8: envelope.smtputf8,
        require_tls: false,
        relayed: envelope.client.role != Role::Submission,
        id: envelope.id.clone(),
        received_ms: u64::try_from(job.mail.received_unix_s).unwrap_or(0).saturating_mul(1000),
        not_before_ms: 0,
        prefix,
        recipients: Vec::new(),
    }
}

pub(super) fn notify_when(notify: Option<Notify>) -> NotifyWhen {
    match notify {
        None => NotifyWhen::default(),
        Some(Notify::Never) => NotifyWhen { success: false, failure: false, delay: false },
        Some(Notify::On { success, failure, delay }) => NotifyWhen { success, failure, delay },
    }
}

fn outbound_recipient(config: &Config, recipient: &Recipient) -> Option<OutboundRecipient> {
    Some(OutboundRecipient {
        address: recipient.address.to_string(),
        notify: notify_when(recipient.notify),
        original_recipient: recipient.original_recipient.as_deref().map(str::to_owned),
        next_hop: outbound::next_hop(config, &mail_domain(&recipient.address)?),
    })
}

/// A message of the server's own to an address: into its mailboxes here, or on its way. `None` when it leads nowhere.
pub fn from_the_server(services: &Services, to: &str, now_ms: u64) -> Option<(Vec<Delivery>, Vec<Outbound>)> {
    let config = services.config();
    let address = Address::parse(to).ok()?;
    let unix_s = i64::try_from(now_ms / 1000).unwrap_or(0);
    let directory = services.engine.directory();
    let resolution = recipient_targets(&directory, &address, &config.hostname);
    if let Resolution::Local(targets) = resolution {
        let delivery = |account: AccountId| Delivery {
            account,
            mailbox: MailboxName::inbox(),
            trace_header: Bytes::from(format!("Return-Path: <>\r\nDelivered-To: {to}\r\n")),
            flags: Flags::default(),
            internal_date: InternalDate { unix_s, offset_minutes: 0 },
        };
        let onward = targets.onward.iter().filter_map(|onward| report_to(&config, &onward.address, now_ms));
        let prefix = Bytes::from(format!("Delivered-To: {to}\r\n"));
        let onward = onward.map(|outbound| Outbound { prefix: prefix.clone(), ..outbound }).collect();
        return Some((targets.accounts.iter().map(|target| delivery(target.account)).collect(), onward));
    }
    // As if one of our own had sent it: it may go anywhere, but not to somebody who is not here.
    if !may_leave(&config, Role::Submission, &resolution, &address) {
        return None;
    }
    Some((Vec::new(), vec![report_to(&config, to, now_ms)?]))
}

/// The envelope of a message of the server's own to an address elsewhere.
fn report_to(config: &Config, to: &str, now_ms: u64) -> Option<Outbound> {
    let domain = mail_domain(&Address::parse(to).ok()?)?;
    let recipient = OutboundRecipient {
        address: to.to_owned(),
        notify: NotifyWhen { success: false, failure: false, delay: false },
        original_recipient: None,
        next_hop: outbound::next_hop(config, &domain),
    };
    Some(Outbound {
        received_ms: now_ms,
        content: Content::EightBit,
        smtputf8: !to.is_ascii(),
        recipients: vec![recipient],
        ..Outbound::default()
    })
}
