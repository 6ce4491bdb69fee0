//! Stage two: is there room.
//!
//! The engine keeps the quota for good when it commits; looking before gives each recipient an answer of its own.

use rockdove_engine::{AccountId, Directory, Engine, EngineError, Resolution, Target};
use rockdove_smtp::{Address, RecipientAnswer, RecipientOutcome, Role};

use super::{Job, leave::may_leave, resolve::recipient_targets};
use crate::config::Config;

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
    let mut found = Vec::new();
    for copy in &job.copies {
        if directory.account(copy.account).is_none_or(|account| account.quota_bytes.is_none()) {
            continue;
        }
        match has_room(engine, copy.account, size_bytes) {
            Ok(true) => {}
            Ok(false) => found.push((copy.recipients.clone(), RecipientOutcome::OverQuota)),
            Err(_) => found.push((copy.recipients.clone(), RecipientOutcome::TryLater)),
        }
    }
    for (recipients, outcome) in found {
        job.fail(&recipients, &outcome);
    }
    job.drop_refused();
}
