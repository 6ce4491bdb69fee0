//! Stage one: who gets a copy, and in which mailbox.

use std::collections::{BTreeMap, BTreeSet};

use rockdove_engine::{AccountId, Directory, Engine, Resolution, Target, directory as engine};
use rockdove_mail::MailboxName;
use rockdove_smtp::{Address, RecipientOutcome};

use super::{Copy, Job, forward::Onward, leave::may_leave};

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
        Resolution::Local(targets) => !targets.onward.is_empty(),
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
        let Some(recipient) = job.mail.envelope.recipients.get(position) else { continue };
        match recipient_targets(&directory, &recipient.address, &job.config.hostname) {
            Resolution::Local(targets) => {
                targets.accounts.into_iter().for_each(|target| add(&mut copies, target, position));
                onward.extend(targets.onward.into_iter().map(|onward| (onward, position)));
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

/// Each address gets the message once, also when it is a recipient itself.
fn send_on(job: &mut Job, onward: Vec<(engine::Onward, usize)>) {
    let recipients = &job.mail.envelope.recipients;
    let leaving = job.leaving.iter().filter_map(|position| recipients.get(*position));
    let mut seen: BTreeSet<String> = leaving.map(|recipient| recipient.address.to_string()).collect();
    for (engine::Onward { address, by }, recipient) in onward {
        if seen.insert(address.clone()) {
            job.onward.push(Onward { address, by, recipient });
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
    });
    copy.recipients.push(position);
}

/// The mailbox that a detail names, if the account has it: strangers do not create mailboxes.
fn existing_mailbox(engine: &Engine, account: AccountId, detail: &str) -> Option<MailboxName> {
    let name = MailboxName::new(detail).ok()?;
    engine.mailboxes(account).ok()?.by_name(&name).map(|mailbox| mailbox.name.clone())
}
