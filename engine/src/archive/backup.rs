//! What a store needs that comes back from a backup.

use std::ops::ControlFlow;

use super::fsck::all_accounts;
use crate::{
    command::{AccountId, EngineError},
    engine::Engine,
    kv::{Batch, Durability, Family, Read, keys},
    store::{account::Totals, mailbox::Fixed},
};

/// Message ids that may have been given out after the snapshot, and are passed over.
const MESSAGES_SKIPPED: u32 = 1 << 20;
/// Mailbox ids.
const MAILBOXES_SKIPPED: u32 = 1 << 12;
/// Mod-sequences.
const MODSEQS_SKIPPED: u64 = 1 << 32;

impl Engine {
    /// Makes sure that clients do not take new things for those that they saw between the backup and its return: every
    /// mailbox has a new UIDVALIDITY (RFC 9051 section 2.3.1.1), and ids of messages and mailboxes (RFC 8474) and
    /// mod-sequences jump ahead. One synced batch for each account; done twice it jumps twice and harms nothing.
    /// The number of mailboxes.
    ///
    /// # Errors
    /// `Corrupt` when an account cannot be read; `Limit` when its numbers are used up.
    pub fn renew(&self, now_unix_s: i64) -> Result<u64, EngineError> {
        let mut mailboxes = 0;
        for account in all_accounts(self)? {
            let renewed = self.quiet(account, || {
                let batch = renewed(&**self.kv() as &dyn Read, account, now_unix_s)?;
                self.kv().write(&batch, Durability::Synced)?;
                Ok(batch)
            })?;
            mailboxes += (renewed.changes.len() as u64).saturating_sub(1);
        }
        Ok(mailboxes)
    }
}

/// The account's row first, then one for each mailbox.
fn renewed(store: &dyn Read, account: AccountId, now_unix_s: i64) -> Result<Batch, EngineError> {
    let damaged = || EngineError::Corrupt(format!("account {}", account.0));
    let used_up = || EngineError::Limit(format!("account {} has no numbers left", account.0));
    let row = store.get(Family::Account, &keys::account_state(account.0))?.ok_or_else(damaged)?;
    let mut totals = Totals::decode(&row).ok_or_else(damaged)?;
    totals.next_message = totals.next_message.checked_add(MESSAGES_SKIPPED).ok_or_else(used_up)?;
    totals.next_mailbox = totals.next_mailbox.checked_add(MAILBOXES_SKIPPED).ok_or_else(used_up)?;
    totals.highest_modseq =
        totals.highest_modseq.checked_add(MODSEQS_SKIPPED).filter(|most| *most < 1 << 63).ok_or_else(used_up)?;
    let least = u32::try_from(now_unix_s.max(0)).unwrap_or(0);
    totals.last_uid_validity = totals.last_uid_validity.max(least);
    let (mut rows, mut outcome) = (Vec::new(), Ok(()));
    let (from, to) = (keys::mailbox(account.0, 0), keys::mailbox(account.0, u32::MAX));
    store.scan(Family::Account, &from, &keys::prefix_end(&to), &mut |key, row| {
        let Some(mut fixed) = Fixed::decode(row) else {
            outcome = Err(damaged());
            return ControlFlow::Break(());
        };
        // Each its own: what was renamed must not meet its own name with the same number.
        let Some(next) = totals.last_uid_validity.checked_add(1) else {
            outcome = Err(used_up());
            return ControlFlow::Break(());
        };
        (totals.last_uid_validity, fixed.uid_validity) = (next, next);
        rows.push((key.to_vec(), fixed.encode()));
        ControlFlow::Continue(())
    })?;
    outcome?;
    let mut batch = Batch::default();
    batch.put(Family::Account, keys::account_state(account.0), totals.encode());
    for (key, row) in rows {
        batch.put(Family::Account, key, row);
    }
    Ok(batch)
}
