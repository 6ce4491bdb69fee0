//! Accounts that one session at a time may use.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rockdove_engine::AccountId;

/// A register of accounts in use. Clones are handles to the same register.
#[derive(Clone, Default)]
pub struct AccountLocks(Arc<Mutex<HashSet<AccountId>>>);

impl AccountLocks {
    fn register(&self) -> MutexGuard<'_, HashSet<AccountId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks an account until the lock is dropped; `None` when another session has it.
    pub(super) fn lock(&self, account: AccountId) -> Option<AccountLock> {
        self.register().insert(account).then(|| AccountLock { locks: self.clone(), account })
    }
}

/// An account in use.
pub(super) struct AccountLock {
    locks: AccountLocks,
    account: AccountId,
}

impl Drop for AccountLock {
    fn drop(&mut self) {
        self.locks.register().remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_locked_once_until_the_lock_is_dropped() {
        let locks = AccountLocks::default();
        let first = locks.lock(AccountId(1)).expect("free");
        assert!(locks.lock(AccountId(1)).is_none());
        assert!(locks.lock(AccountId(2)).is_some());
        drop(first);
        assert!(locks.lock(AccountId(1)).is_some());
    }
}
