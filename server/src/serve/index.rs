//! Keeping what searching reads near to the messages: a little at a time, off the path of deliveries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rockdove_engine::{AccountId, ChangeNotice, Engine};

use crate::runtime::clock;

/// Pause between two runs.
pub(super) const INDEX_EVERY: Duration = Duration::from_millis(500);
/// After so many milliseconds a run ends with the slice it is at, a fraction of a second at worst: deliveries get their
/// turn, and stopping the server waits for a run.
const RUN_MS: u64 = 2_000;
/// Runs after which the words of the few messages that are gone are removed too: half an hour of pauses.
const THOROUGH_EVERY: u32 = 3_600;

/// Accounts whose texts may be behind their messages.
pub(super) struct Indexer {
    engine: Arc<Engine>,
    due: Mutex<Due>,
}

#[derive(Default)]
struct Due {
    /// They have changed; the flag asks for thoroughness.
    accounts: BTreeMap<AccountId, bool>,
    /// Changed since the last thorough run.
    changed: BTreeSet<AccountId>,
    /// The account whose turn was last, so that a large one does not hold up the others.
    last: Option<AccountId>,
    runs: u32,
}

impl Due {
    fn add(&mut self, account: AccountId) {
        self.accounts.entry(account).or_default();
        self.changed.insert(account);
    }

    /// The next account, in turn.
    fn take(&mut self) -> Option<(AccountId, bool)> {
        let behind = self.last.and_then(|last| self.accounts.range(last..).find(|(account, _)| **account != last));
        let (account, thorough) = behind.or_else(|| self.accounts.first_key_value())?;
        let next = (*account, *thorough);
        self.accounts.remove(&next.0);
        self.last = Some(next.0);
        Some(next)
    }
}

impl Indexer {
    /// Begins with every account: what came in before the last stop may not be taken in yet.
    pub(super) fn new(engine: &Arc<Engine>) -> Arc<Self> {
        let mut due = Due::default();
        for account in engine.directory().accounts() {
            due.add(account.id);
        }
        let indexer = Arc::new(Self { engine: Arc::clone(engine), due: Mutex::new(due) });
        let told = Arc::clone(&indexer);
        engine.on_change(Box::new(move |notices| told.hear(notices)));
        indexer
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, notices: &[ChangeNotice]) {
        let mut due = self.due();
        // The server as a whole has no mail.
        for notice in notices.iter().filter(|notice| notice.account != AccountId::SERVER) {
            due.add(notice.account);
        }
    }

    /// Some slices of the accounts that are due.
    pub(super) fn run(&self) {
        self.count_run();
        // What texts take is better left to mail then, and searches are right without them.
        if self.engine.takes_in().is_err() {
            return;
        }
        let end = clock::now().plus_ms(RUN_MS);
        while !clock::now().reached(end) {
            let Some((account, thorough)) = self.due().take() else { return };
            match self.engine.catch_up(account, thorough) {
                Ok(caught) => {
                    metrics::counter!("rockdove_indexed_messages_total").increment(u64::from(caught.messages));
                    if caught.more {
                        *self.due().accounts.entry(account).or_default() |= thorough;
                    }
                }
                Err(error) => {
                    *self.due().accounts.entry(account).or_default() |= thorough;
                    return tracing::warn!(%error, account = account.0, "texts were not taken in; trying again soon");
                }
            }
        }
    }

    fn count_run(&self) {
        let mut due = self.due();
        due.runs += 1;
        if due.runs >= THOROUGH_EVERY {
            due.runs = 0;
            for account in std::mem::take(&mut due.changed) {
                due.accounts.insert(account, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_take_turns() {
        let mut due = Due::default();
        for id in [3, 1, 2, 1] {
            due.add(AccountId(id));
        }
        let mut turns = Vec::new();
        for _ in 0..3 {
            let (account, _) = due.take().expect("one is due");
            turns.push(account.0);
            due.add(account);
        }
        turns.extend(due.take().map(|(account, _)| account.0));
        assert_eq!(turns, [1, 2, 3, 1]);
    }
}
