//! How much memory accounts take, and who leaves when it is too much.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::account::AccountSlot;
use crate::command::AccountId;

/// Weights of the accounts in memory. Whole accounts leave: a mailbox in halves would be read again and again.
#[derive(Debug)]
pub(crate) struct StateCache {
    weights: Mutex<Weights>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Weights {
    accounts: BTreeMap<AccountId, usize>,
    total: usize,
}

impl Weights {
    fn set(&mut self, account: AccountId, weight: usize) {
        let before = if weight == 0 { self.accounts.remove(&account) } else { self.accounts.insert(account, weight) };
        self.total = self.total.saturating_sub(before.unwrap_or_default()).saturating_add(weight);
    }
}

impl StateCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { weights: Mutex::default(), bytes_max }
    }

    /// Notes the weight of an account; `true` when there is now too much.
    pub(crate) fn weigh(&self, account: AccountId, weight: usize) -> bool {
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        weights.set(account, weight);
        weights.total > self.bytes_max
    }

    /// Lets accounts go, those first that were used longest ago, until an eighth is free. `keep` is in use.
    pub(crate) fn evict(&self, mut slots: Vec<Arc<AccountSlot>>, keep: AccountId) {
        slots.sort_by_key(|slot| slot.last_used());
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots {
            if weights.total <= self.bytes_max - self.bytes_max / 8 {
                break;
            }
            if slot.id != keep && weights.accounts.contains_key(&slot.id) && slot.evict() {
                weights.set(slot.id, 0);
            }
        }
    }
}
