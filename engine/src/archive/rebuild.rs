//! Writing derived rows anew.

use bytes::Bytes;

use super::{
    account::AccountCheck,
    fsck::{HASHES_PER_SNAPSHOT, all_accounts},
    parts::{PartCheck, next_part, remove_stray_hashes},
};
use crate::{
    command::{AccountId, EngineError},
    engine::Engine,
    kv::{Batch, Durability, Family, Read, keys},
};

/// What was rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildSummary {
    /// Accounts.
    pub accounts: u64,
    /// Parts.
    pub parts: u64,
    /// Rows written or removed.
    pub rows: u64,
}

impl Engine {
    /// Writes every derived row of an account, or of the whole store, from the ground: state and counters, counts of
    /// entries, references to parts (texts go, and are made again in the background), and for the whole store the missing
    /// heads of parts, what their hashes lead to, and the marks of those that nobody needs. One batch for each account and
    /// part; other work goes on meanwhile.
    pub fn rebuild(&self, account: Option<AccountId>) -> Result<RebuildSummary, EngineError> {
        let mut summary = RebuildSummary::default();
        let accounts = match account {
            Some(account) => [account].into(),
            None => all_accounts(self)?,
        };
        let mut all_known = account.is_none();
        for account in accounts {
            let _texts = self.texts_lock();
            let (batch, known) = self.quiet(account, || {
                let check = AccountCheck::run(&**self.kv() as &dyn Read, account, true)?;
                let batch = check.rebuilt();
                self.kv().write(&batch, Durability::Synced)?;
                Ok((batch, check.all_known))
            })?;
            all_known &= known;
            summary.accounts += 1;
            summary.rows += batch.changes.len() as u64;
        }
        let mut cursor = 0;
        while let Some(part) = next_part(&**self.kv() as &dyn Read, cursor)? {
            let look = || {
                let check = PartCheck::run(&*self.kv().snapshot(), self.parts().hasher(), part, all_known)?;
                let batch = rebuilt(&check, account);
                if !batch.changes.is_empty() {
                    self.kv().write(&batch, Durability::Synced)?;
                }
                Ok::<_, EngineError>(batch)
            };
            let batch = self.exclusive(|| self.parts().standstill(look))?;
            summary.parts += u64::from(!batch.changes.is_empty());
            summary.rows += batch.changes.len() as u64;
            let Some(next) = part.checked_add(1) else { break };
            cursor = next;
        }
        let mut next = account.is_none().then(|| Bytes::from_static(&[keys::REFERENCE_HASH]));
        while let Some(from) = next {
            let (strays, more) = remove_stray_hashes(self, &from, HASHES_PER_SNAPSHOT)?;
            summary.rows += strays.len() as u64;
            next = more;
        }
        Ok(summary)
    }
}

/// The derived rows of a part; with `only`, no more than the references of that account.
fn rebuilt(check: &PartCheck, only: Option<AccountId>) -> Batch {
    let Some(only) = only else { return check.repairs.clone() };
    let mut batch = Batch::default();
    for (_, key) in check.strays.iter().filter(|(account, _)| *account == only) {
        batch.delete(Family::Reference, key.clone());
    }
    let removed = batch.changes.len();
    if removed > 0 && removed == check.strays.len() && check.needed == 0 && !check.is_candidate {
        batch.put(Family::Reference, keys::part_candidate(check.part), 0_i64.to_le_bytes().to_vec());
    }
    batch
}
