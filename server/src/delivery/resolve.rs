//! Stage one: who gets a copy, and in which mailbox.

use std::collections::{BTreeMap, BTreeSet};

use rockdove_engine::{AccountId, Directory, Engine, Resolution, Target, directory as engine};
use rockdove_mail::MailboxName;
use rockdove_smtp::{Address, RecipientOutcome, Refusal};

use super::{
    Copy, Job,
    forward::Onward,
    leave::may_leave,
    srs::{self, Returned},
};

/// Local name of the recipient that needs no domain.
const POSTMASTER: &str = "postmaster";

/// Where mail for `address` goes. `<Postmaster>` without a domain arrives as `postmaster` at our own name, which need
/// not be a local domain.
pub fn recipient_targets(directory: &Directory, address: &Address, hostname: &str) -> Resolution {
    match directory.resolve_parts(&address.local, &address.domain) {
        Resolution::NotLocal
            if address.local.eq_ignore_ascii_case(POSTMASTER) && address.domain.eq_ignore_ascii_case(hostname) =>
        {
            directory.resolve_postmaster()
        }
        resolution => resolution,
    }
}

/// Whether mail for an address of ours goes on to another server, all of it or a copy.
pub fn passes_on(resolution: &Resolution) -> bool {
    match resolution {
        Resolution::Local(targets) => !targets.onward.is_empty() || !targets.lists.is_empty(),
        Resolution::UnknownRecipient => true,
        Resolution::NotLocal => false,
    }
}

/// Whether an account may send as `address`: mail for that address comes to it, directly or through aliases.
pub fn may_send_as(directory: &Directory, account: AccountId, address: &Address) -> bool {
    directory.has_address(account, &address.local, &address.domain)
}

pub(super) fn resolve(job: &mut Job, engine: &Engine) {
    let directory = engine.directory();
    let mut copies: BTreeMap<AccountId, Copy> = BTreeMap::new();
    let mut onward = Vec::new();
    for position in 0..job.outcomes.len() {
        if is_returning(job, engine, position, &mut onward) {
            continue;
        }
        let Some(recipient) = job.mail.envelope.recipients.get(position) else { continue };
        match recipient_targets(&directory, &recipient.address, &job.config.hostname) {
            Resolution::Local(targets) => {
                targets.accounts.into_iter().for_each(|target| add(&mut copies, target, position));
                onward.extend(targets.onward.into_iter().map(|onward| (onward, position)));
                job.lists.extend(targets.lists.into_iter().map(|list| (list, position)));
            }
            resolution if may_leave(&job.config, job.mail.envelope.client.role, &resolution, &recipient.address) => {
                job.leaving.push(position);
            }
            // Accepted at RCPT and gone since.
            Resolution::UnknownRecipient | Resolution::NotLocal => {
                job.fail(&[position], &RecipientOutcome::UnknownRecipient);
            }
        }
    }
    send_on(job, onward);
    job.copies = copies.into_values().collect();
    for copy in &mut job.copies {
        if let Some(mailbox) = copy.detail.as_deref().and_then(|detail| existing_mailbox(engine, copy.account, detail))
        {
            copy.mailbox = mailbox;
        }
    }
}

/// Whether a recipient is a sender of before whose mail was sent on: then it is dealt with.
fn is_returning(job: &mut Job, engine: &Engine, position: usize, onward: &mut Vec<(engine::Onward, usize)>) -> bool {
    let Some(recipient) = job.mail.envelope.recipients.get(position) else { return true };
    let by = recipient.address.to_string();
    match srs::returned(engine, &recipient.address, job.mail.received_unix_s) {
        Returned::Ordinary => return false,
        Returned::To(sender) if job.mail.envelope.reverse_path.is_none() => {
            onward.push((engine::Onward { address: sender.to_string(), by }, position));
        }
        Returned::To(_) => job.fail(&[position], &RecipientOutcome::Refused(only_bounces())),
        Returned::Nobody => job.fail(&[position], &RecipientOutcome::UnknownRecipient),
    }
    true
}

fn only_bounces() -> Refusal {
    Refusal { code: 550, status: "5.7.1".to_owned(), text: "this address takes bounces only".to_owned() }
}

/// Each address gets the message once, also when it is a recipient itself.
fn send_on(job: &mut Job, onward: Vec<(engine::Onward, usize)>) {
    let recipients = &job.mail.envelope.recipients;
    let leaving = job.leaving.iter().filter_map(|position| recipients.get(*position));
    let mut seen: BTreeSet<String> = leaving.map(|recipient| recipient.address.to_string()).collect();
    for (engine::Onward { address, by }, recipient) in onward {
        if seen.insert(address.clone()) {
            job.onward.push(Onward { address, by, recipient, by_list: false });
        }
    }
}

fn add(copies: &mut BTreeMap<AccountId, Copy>, target: Target, position: usize) {
    let copy = copies.entry(target.account).or_insert_with(|| Copy {
        account: target.account,
        address: target.address,
        detail: target.detail,
        recipients: Vec::new(),
        mailbox: MailboxName::inbox(),
        fields: String::new(),
        junk: false,
        trace_header: bytes::Bytes::new(),
        list: None,
    });
    copy.recipients.push(position);
}

/// The mailbox that a detail names, if the account has it: strangers do not create mailboxes.
fn existing_mailbox(engine: &Engine, account: AccountId, detail: &str) -> Option<MailboxName> {
    let name = MailboxName::new(detail).ok()?;
    engine.mailboxes(account).ok()?.by_name(&name).map(|mailbox| mailbox.name.clone())
}
