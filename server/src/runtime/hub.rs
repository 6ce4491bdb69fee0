//! Wakes the connections that watch an account or a mailbox when something in it has changed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rockdove_engine::command::{AccountId, ChangeNotice, MailboxId};

/// Locks of the register; enough that workers opening mailboxes do not wait for each other.
const SHARDS: usize = 64;

type Wake = dyn Fn(&ChangeNotice) + Send + Sync;

struct Watcher {
    number: u64,
    mailbox: Option<MailboxId>,
    wake: Arc<Wake>,
}

type Shard = Mutex<HashMap<AccountId, Vec<Watcher>>>;

/// The register of watchers. Clones are handles to the same register. Fed from `Engine::on_change` by [`Hub::publish`].
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Vec<Shard>,
    next: AtomicU64,
}

impl Shared {
    fn shard(&self, account: AccountId) -> MutexGuard<'_, HashMap<AccountId, Vec<Watcher>>> {
        let index = usize::try_from(account.0).unwrap_or(0) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// An empty register.
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shared: Arc::new(Shared { shards, next: AtomicU64::new(0) }) }
    }

    /// Calls `wake` after every durable change of the account, or only of one mailbox. `wake` runs on the committer's
    /// thread: it must be quick and must not call the engine; it may run once more while the [`Watch`] is being dropped.
    pub fn watch(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        wake: Box<dyn Fn(&ChangeNotice) + Send + Sync>,
    ) -> Watch {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let watcher = Watcher { number, mailbox, wake: Arc::from(wake) };
        self.shared.shard(account).entry(account).or_default().push(watcher);
        Watch { shared: Arc::clone(&self.shared), account, number }
    }

    /// Tells every watcher concerned. Called after each commit, in commit order.
    pub fn publish(&self, notices: &[ChangeNotice]) {
        for notice in notices {
            // Called outside the lock: a wake-up may end in someone's drop of a `Watch`.
            let concerned: Vec<Arc<Wake>> = match self.shared.shard(notice.account).get(&notice.account) {
                Some(watchers) => watchers
                    .iter()
                    .filter(|watcher| watcher.mailbox.is_none_or(|mailbox| notice.mailboxes.contains(&mailbox)))
                    .map(|watcher| Arc::clone(&watcher.wake))
                    .collect(),
                None => continue,
            };
            for wake in concerned {
                wake(notice);
            }
        }
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        let count = |shard: &Shard| -> usize {
            shard.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
        };
        self.shared.shards.iter().map(count).sum::<usize>()
    }
}

/// A place in the register; dropping it ends the calls.
pub struct Watch {
    shared: Arc<Shared>,
    account: AccountId,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut shard = self.shared.shard(self.account);
        if let Some(watchers) = shard.get_mut(&self.account) {
            watchers.retain(|watcher| watcher.number != self.number);
            if watchers.is_empty() {
                shard.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rockdove_mail::ModSeq;

    use super::*;

    fn counting() -> (Arc<AtomicU64>, Box<Wake>) {
        let count = Arc::new(AtomicU64::new(0));
        let inside = Arc::clone(&count);
        (
            count,
            Box::new(move |_| {
                inside.fetch_add(1, Ordering::Relaxed);
            }),
        )
    }

    #[test]
    fn wakes_whom_it_concerns_until_the_watch_is_dropped() {
        let hub = Hub::new();
        let (one, wake) = counting();
        let watch_one = hub.watch(AccountId(1), Some(MailboxId(5)), wake);
        let (all, wake) = counting();
        let _watch_all = hub.watch(AccountId(1), None, wake);
        let (other, wake) = counting();
        let _watch_other = hub.watch(AccountId(65), None, wake);
        let notice = |mailbox| ChangeNotice {
            account: AccountId(1),
            mailboxes: vec![MailboxId(mailbox)],
            modseq: ModSeq::default(),
        };
        hub.publish(&[notice(5), notice(6)]);
        drop(watch_one);
        hub.publish(&[notice(5)]);
        let counts = [&one, &all, &other].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 3, 0]);
        assert_eq!(hub.watchers(), 2);
    }
}
