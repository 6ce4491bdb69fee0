//! Stage four: is there room.
//!
//! The engine keeps the quota for good when it commits; looking before gives each recipient an answer of its own.

use std::collections::BTreeSet;

use rockdove_engine::{AccountId, Directory, Engine, EngineError, Resolution, Target};
use rockdove_smtp::{Address, RecipientAnswer, RecipientOutcome, Role};

use super::{
    Job,
    leave::may_leave,
    resolve::recipient_targets,
    srs::{self, Returned},
};
use crate::{config::Config, runtime::clock};

/// Whether any of these accounts has a quota, so that looking for room is worth reading the store.
pub fn needs_quota(directory: &Directory, targets: &[Target]) -> bool {
    targets.iter().any(|target| directory.account(target.account).is_some_and(|account| account.quota_bytes.is_some()))
}

/// Whether `octets` more fit into the account. May block.
pub fn has_room(engine: &Engine, account: AccountId, octets: u64) -> Result<bool, EngineError> {
    let quota = engine.quota(account)?;
    Ok(quota.limit_bytes.is_none_or(|limit| quota.used_bytes.saturating_add(octets) <= limit))
}

/// Whether mail of `octets` for `address` is taken: the answer to RCPT. Answers from memory alone, or with `None` when
/// the store must be read and `may_block` is false.
pub fn check_recipient(
    engine: &Engine,
    config: &Config,
    role: Role,
    address: &Address,
    octets: u64,
    may_block: bool,
) -> Option<RecipientAnswer> {
    match srs::returned(engine, address, clock::now().unix_s) {
        Returned::Ordinary => {}
        Returned::To(_) => return Some(RecipientAnswer::Accepted),
        Returned::Nobody => return Some(RecipientAnswer::UnknownRecipient),
    }
    let directory = engine.directory();
    let targets = match recipient_targets(&directory, address, &config.hostname) {
        Resolution::Local(targets) => targets.accounts,
        resolution if may_leave(config, role, &resolution, address) => return Some(RecipientAnswer::Accepted),
        Resolution::UnknownRecipient => return Some(RecipientAnswer::UnknownRecipient),
        Resolution::NotLocal => return Some(RecipientAnswer::NotLocal),
    };
    if !needs_quota(&directory, &targets) {
        return Some(RecipientAnswer::Accepted);
    }
    if !may_block {
        return None;
    }
    for target in &targets {
        // An empty message has no business in a full mailbox either.
        match has_room(engine, target.account, octets.max(1)) {
            Ok(true) => {}
            Ok(false) => return Some(RecipientAnswer::OverQuota),
            Err(_) => return Some(RecipientAnswer::TryLater),
        }
    }
    Some(RecipientAnswer::Accepted)
}

pub(super) fn check(job: &mut Job, engine: &Engine, size_bytes: u64) {
    let directory = engine.directory();
    let (mut found, mut full) = (Vec::new(), BTreeSet::new());
    for copy in &job.copies {
        if directory.account(copy.account).is_none_or(|account| account.quota_bytes.is_none()) {
            continue;
        }
        match has_room(engine, copy.account, size_bytes) {
            Ok(true) => {}
            // One full mailbox does not keep a list from the others.
            Ok(false) if copy.list.is_some() => {
                full.insert(copy.account);
            }
            Ok(false) => found.push((copy.recipients.clone(), RecipientOutcome::OverQuota)),
            Err(_) => found.push((copy.recipients.clone(), RecipientOutcome::TryLater)),
        }
    }
    leave_out(job, &full);
    for (recipients, outcome) in found {
        job.fail(&recipients, &outcome);
    }
    job.drop_refused();
}

/// Members of lists who have no room get no copy; a list where nobody has is full itself.
fn leave_out(job: &mut Job, full: &BTreeSet<AccountId>) {
    if full.is_empty() {
        return;
    }
    let copies = std::mem::take(&mut job.copies);
    let (without, kept): (Vec<_>, Vec<_>) = copies.into_iter().partition(|copy| full.contains(&copy.account));
    job.copies = kept;
    for copy in without {
        job.full.extend(copy.recipients.first().map(|position| (copy.address.clone(), *position)));
        let is_served = |position: &usize| {
            job.copies.iter().any(|copy| copy.recipients.contains(position))
                || job.onward.iter().any(|onward| onward.recipient == *position)
        };
        let alone: Vec<usize> = copy.recipients.iter().copied().filter(|position| !is_served(position)).collect();
        job.fail(&alone, &RecipientOutcome::OverQuota);
    }
}
