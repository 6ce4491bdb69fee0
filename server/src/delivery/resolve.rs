//! Stage one: who gets a copy, and in which mailbox.

use std::collections::BTreeMap;

use rockdove_engine::{AccountId, Directory, Engine, Resolution, Target};
use rockdove_mail::MailboxName;
use rockdove_smtp::{Address, RecipientOutcome};

use super::{Copy, Job, leave::may_leave};

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

/// Whether an account may send as `address`: mail for that address comes to it, directly or through aliases.
pub fn may_send_as(directory: &Directory, account: AccountId, address: &Address) -> bool {
    match directory.resolve_parts(&address.local, &address.domain) {
        Resolution::Local(targets) => targets.iter().any(|target| target.account == account),
        Resolution::UnknownRecipient | Resolution::NotLocal => false,
    }
}

pub(super) fn resolve(job: &mut Job, engine: &Engine) {
    let directory = engine.directory();
    let mut copies: BTreeMap<AccountId, Copy> = BTreeMap::new();
    for position in 0..job.outcomes.len() {
        let Some(recipient) = job.mail.envelope.recipients.get(position) else { continue };
        match recipient_targets(&directory, &recipient.address, &job.config.hostname) {
            Resolution::Local(targets) => targets.into_iter().for_each(|target| add(&mut copies, target, position)),
            resolution if may_leave(&job.config, job.mail.envelope.client.role, &resolution, &recipient.address) => {
                job.leaving.push(position);
            }
            // Accepted at RCPT and gone since.
            Resolution::UnknownRecipient | Resolution::NotLocal => {
                job.fail(&[position], &RecipientOutcome::UnknownRecipient);
            }
        }
    }
    job.copies = copies.into_values().collect();
    for copy in &mut job.copies {
        if let Some(mailbox) = copy.detail.as_deref().and_then(|detail| existing_mailbox(engine, copy.account, detail))
        {
            copy.mailbox = mailbox;
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
