//! Group commit: many planned changes, one write, one sync.
//!
//! Plans are queued under the locks of their accounts, so the queue has every account's changes in order. Whoever
//! commits takes a group from its front, writes it as one batch, publishes what it changed, tells the listeners, and
//! then answers. Meanwhile other threads plan and queue the next group.
//!
//! When a write fails, nothing of its group is shown: every account it touched forgets what was planned beyond the
//! published state, and every queued plan that stood on it fails too, when its turn comes (its epoch is old).

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    account::{AccountSlot, AccountState},
    directory::DirectorySlot,
    ingest::StagedMessage,
};
use crate::{
    command::{AccountId, ChangeNotice, EngineError, Outcome},
    directory::Directory,
    engine::Done,
    kv::{Batch, Durability, KvError, SharedKv},
};

/// What a plan does to one account.
#[derive(Debug)]
pub(crate) struct Touch {
    pub(crate) slot: Arc<AccountSlot>,
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    /// The account afterwards; `None` when it is removed.
    pub(crate) after: Option<Arc<AccountState>>,
    pub(crate) notice: Option<ChangeNotice>,
}

/// A plan that is ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) batch: Batch,
    pub(crate) touches: Vec<Touch>,
    /// The directory afterwards, and the epoch it was planned in.
    pub(crate) directory: Option<(u64, Directory)>,
    /// What is told beside what the accounts tell.
    pub(crate) notice: Option<ChangeNotice>,
    /// Messages whose parts this plan refers to: held until it is durable, so that nobody collects them.
    pub(crate) staged: Vec<Arc<StagedMessage>>,
}

struct Waiting {
    plan: Plan,
    bytes: usize,
    outcome: Outcome,
    done: Done,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Somebody is writing a group.
    writing: bool,
}

/// The queue of planned changes and the right to write.
pub(crate) struct Committer {
    kv: SharedKv,
    queue: Mutex<Queue>,
    /// Something was queued, or the writer is done.
    work: Condvar,
    /// A group was answered.
    answered: Condvar,
    group_bytes_max: usize,
    group_commands_max: usize,
    queue_commands_max: usize,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("waiting", &self.queue().waiting.len()).finish_non_exhaustive()
    }
}

/// What a committed group has for others.
#[derive(Default)]
pub(crate) struct Committed {
    answers: Vec<(Done, Result<Outcome, EngineError>)>,
    /// In order of the commits.
    pub(crate) notices: Vec<ChangeNotice>,
    /// Accounts whose state has changed.
    pub(crate) slots: Vec<Arc<AccountSlot>>,
}

impl Committer {
    pub(crate) fn new(kv: SharedKv, options: &crate::engine::EngineOptions) -> Self {
        Self {
            kv,
            queue: Mutex::default(),
            work: Condvar::new(),
            answered: Condvar::new(),
            group_bytes_max: options.group_bytes_max,
            group_commands_max: options.group_commands_max.max(1),
            queue_commands_max: options.queue_commands_max.max(1),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses new work when too much waits.
    pub(crate) fn admit(&self) -> Result<(), EngineError> {
        if self.queue().waiting.len() < self.queue_commands_max {
            return Ok(());
        }
        Err(EngineError::Unavailable("too many changes wait to be written".to_owned()))
    }

    /// Queues a plan. Call it under the locks of the accounts it touches.
    pub(crate) fn push(&self, plan: Plan, outcome: Outcome, done: Done) {
        let parts: usize = plan.staged.iter().map(|staged| staged.part_bytes()).sum();
        let bytes = plan.batch.size_bytes() + parts;
        self.queue().waiting.push_back(Waiting { plan, bytes, outcome, done });
        self.work.notify_one();
    }

    /// Writes the next group, waiting up to `timeout` for one. `None` when nothing came.
    pub(crate) fn commit(&self, timeout: Duration, directory: &DirectorySlot) -> Option<Committed> {
        let idle = |queue: &mut Queue| queue.writing || queue.waiting.is_empty();
        let (mut queue, _) =
            self.work.wait_timeout_while(self.queue(), timeout, idle).unwrap_or_else(PoisonError::into_inner);
        if idle(&mut queue) {
            return None;
        }
        queue.writing = true;
        let group = self.take_group(&mut queue);
        drop(queue);
        Some(self.write_group(group, directory))
    }

    /// The group that [`Committer::commit`] returned is published: others may write, and the answers go out.
    pub(crate) fn conclude(&self, committed: Committed) {
        self.release();
        for (done, answer) in committed.answers {
            done(answer);
        }
        self.answered.notify_all();
    }

    fn release(&self) {
        self.queue().writing = false;
        self.work.notify_one();
    }

    /// Waits until a group was answered or it is this thread's turn to write. A short while at most, because an answer
    /// may have come between looking and waiting.
    pub(crate) fn wait(&self) {
        let queue = self.queue();
        if queue.writing || queue.waiting.is_empty() {
            drop(self.answered.wait_timeout(queue, Duration::from_millis(1)));
        }
    }

    /// Runs `work` while nobody writes a group.
    pub(crate) fn exclusive<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut queue = self.queue();
        while queue.writing {
            let (again, _) =
                self.work.wait_timeout(queue, Duration::from_millis(5)).unwrap_or_else(PoisonError::into_inner);
            queue = again;
        }
        queue.writing = true;
        drop(queue);
        let result = work();
        self.release();
        result
    }

    fn take_group(&self, queue: &mut Queue) -> Vec<Waiting> {
        let (mut count, mut bytes) = (0, 0);
        for waiting in &queue.waiting {
            bytes += waiting.bytes;
            if count > 0 && (bytes > self.group_bytes_max || count >= self.group_commands_max) {
                break;
            }
            count += 1;
        }
        queue.waiting.drain(..count).collect()
    }

    fn write_group(&self, group: Vec<Waiting>, directory: &DirectorySlot) -> Committed {
        let mut committed = Committed { answers: Vec::with_capacity(group.len()), ..Committed::default() };
        let mut batch = Batch::default();
        let mut written = BTreeSet::new();
        let (mut standing, mut fallen) = (Vec::with_capacity(group.len()), Fallen::default());
        for mut waiting in group {
            if fallen.takes_along(&waiting.plan, directory) {
                fallen.plans.push(waiting);
            } else {
                for staged in &waiting.plan.staged {
                    staged.put_parts(&mut batch, &mut written);
                }
                batch.changes.append(&mut waiting.plan.batch.changes);
                standing.push(waiting);
            }
        }
        let written: Result<(), KvError> =
            if batch.changes.is_empty() { Ok(()) } else { self.kv.write(&batch, Durability::Synced) };
        match written {
            Ok(()) => standing.into_iter().for_each(|waiting| committed.publish(waiting, directory)),
            Err(error) => committed.refuse(standing, &error.to_string(), directory),
        }
        // After the others are published, for what is forgotten goes back to what is published.
        committed.refuse(fallen.plans, "an earlier change could not be written", directory);
        committed
    }
}

/// Plans of a group that cannot be written, because they stand on one that failed.
#[derive(Default)]
struct Fallen {
    plans: Vec<Waiting>,
    accounts: BTreeSet<AccountId>,
    directory: bool,
}

impl Fallen {
    fn takes_along(&mut self, plan: &Plan, directory: &DirectorySlot) -> bool {
        let falls = plan
            .touches
            .iter()
            .any(|touch| touch.epoch != touch.slot.epoch() || self.accounts.contains(&touch.slot.id))
            || plan.directory.as_ref().is_some_and(|(epoch, _)| self.directory || *epoch != directory.epoch());
        if falls {
            self.accounts.extend(plan.touches.iter().map(|touch| touch.slot.id));
            self.directory |= plan.directory.is_some();
        }
        falls
    }
}

impl Committed {
    fn refuse(&mut self, plans: Vec<Waiting>, why: &str, directory: &DirectorySlot) {
        for waiting in &plans {
            forget(&waiting.plan, directory);
        }
        let refused = || Err(EngineError::Unavailable(why.to_owned()));
        self.answers.extend(plans.into_iter().map(|waiting| (waiting.done, refused())));
    }

    fn publish(&mut self, waiting: Waiting, directory: &DirectorySlot) {
        for staged in &waiting.plan.staged {
            staged.set_in_store();
        }
        if let Some((_, next)) = waiting.plan.directory {
            directory.publish(next);
        }
        self.notices.extend(waiting.plan.notice);
        for touch in waiting.plan.touches {
            touch.slot.publish(touch.sequence, touch.after);
            self.notices.extend(touch.notice);
            if self.slots.last().is_none_or(|last| !Arc::ptr_eq(last, &touch.slot)) {
                self.slots.push(touch.slot);
            }
        }
        self.answers.push((waiting.done, Ok(waiting.outcome)));
    }
}

/// Drops what was planned for the accounts of a plan that failed, unless that was done since.
fn forget(plan: &Plan, directory: &DirectorySlot) {
    for touch in plan.touches.iter().filter(|touch| touch.epoch == touch.slot.epoch()) {
        touch.slot.forget_plans();
    }
    if plan.directory.as_ref().is_some_and(|(epoch, _)| *epoch == directory.epoch()) {
        directory.forget_plans();
    }
}
