//! What the queue keeps in memory: when each next hop has work, and what is being worked on.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    Lease, QueueId, QueueUse,
    plan::Effects,
    row::{Envelope, Task, damaged},
};
use crate::{
    command::EngineError,
    kv::{
        Family, Read, SharedKv,
        keys::{self, KeyReader},
    },
};

/// Name of the allocator of message numbers.
const ALLOCATOR: &str = "queue";

/// Called when something becomes due earlier than anything known before. Must be quick.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// The queue of an engine.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: RwLock<Option<Wake>>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Changed under its lock only, which is taken after the locks of accounts.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The next message number.
    pub(super) next: u64,
    /// Messages in the queue.
    pub(super) messages: u64,
    /// Messages that are kept apart, and those that will be when they are durable.
    pub(super) quarantined: u64,
    pub(super) quarantining: u64,
    /// For each next hop when its first task that nobody works on is due. Some may be due later than that.
    hops: HashMap<Arc<str>, u64>,
    /// The same by time.
    order: BTreeSet<(u64, Arc<str>)>,
    /// Tasks that somebody works on.
    leased: HashSet<(QueueId, u16)>,
    /// Messages with a task that somebody works on: how many tasks are left and how many are leased.
    open: HashMap<QueueId, Open>,
    /// Messages that are being changed: nobody begins to work on them.
    edited: HashSet<QueueId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    left: usize,
    leased: usize,
}

/// A row that says when a task is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueRow<'a> {
    pub(crate) hop: &'a str,
    pub(crate) due_ms: u64,
    pub(crate) message: QueueId,
    pub(crate) task: u16,
}

impl<'a> DueRow<'a> {
    /// `None` when the key is malformed.
    pub(crate) fn decode(key: &'a [u8]) -> Option<Self> {
        let (hop, rest) = key.get(1..)?.split_at_checked(key.len().checked_sub(1 + 1 + 8 + 8 + 2)?)?;
        let mut reader = KeyReader::new(rest);
        (reader.u8()? == 0).then_some(())?;
        let (due_ms, message, task) = (reader.u64()?, reader.u64()?, reader.u16()?);
        reader.end()?;
        Some(Self { hop: std::str::from_utf8(hop).ok()?, due_ms, message: QueueId(message), task })
    }
}

impl Queue {
    /// Reads what is there: the messages are counted, and each next hop is looked at once.
    pub(crate) fn load(read: &dyn Read) -> Result<Self, EngineError> {
        let mut state = State { next: 1, ..State::default() };
        let stored = read.get(Family::Sys, &keys::allocator(ALLOCATOR))?;
        if let Some(row) = stored {
            let next = row.get(1..9).and_then(|octets| octets.try_into().ok()).map(u64::from_le_bytes);
            state.next = next.ok_or_else(|| EngineError::Corrupt("the allocator of the queue".to_owned()))?;
        }
        let (from, to) = ([keys::QUEUE_ENVELOPE], [keys::QUEUE_ENVELOPE + 1]);
        read.scan(Family::Queue, &from, &to, &mut |key, _| {
            state.messages += 1;
            let number = KeyReader::new(key.get(1..).unwrap_or_default()).u64();
            state.next = state.next.max(number.map_or(0, |number| number.saturating_add(1)));
            ControlFlow::Continue(())
        })?;
        read.scan(Family::Queue, &[keys::QUEUE_QUARANTINE], &[keys::QUEUE_QUARANTINE + 1], &mut |key, _| {
            state.quarantined += 1;
            let number = KeyReader::new(key.get(1..).unwrap_or_default()).u64();
            state.next = state.next.max(number.map_or(0, |number| number.saturating_add(1)));
            ControlFlow::Continue(())
        })?;
        // From the first row of one hop to the first row behind all of its rows.
        let mut from = bytes::Bytes::from_static(&[keys::QUEUE_DUE]);
        while let Some(key) = first_key(read, &from, &[keys::QUEUE_DUE + 1])? {
            let due = DueRow::decode(&key);
            let due = due.ok_or_else(|| EngineError::Corrupt("a row of the queue has a malformed key".to_owned()))?;
            state.is_due(due.hop, due.due_ms);
            from = keys::prefix_end(&keys::queue_hop(due.hop));
        }
        Ok(Self { state: Mutex::new(state), wake: RwLock::default() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn on_wake(&self, wake: Wake) {
        *self.wake.write().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// What was planned is durable, or was not written.
    pub(crate) fn committed(&self, effects: &Effects, written: bool) {
        let woken = self.lock().apply(effects, written);
        if woken && let Some(wake) = &*self.wake.read().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }

    /// What is due at `now_ms` and nobody works on. `wanted` says how many tasks of a next hop may be taken.
    pub(crate) fn lease(
        &self,
        kv: &SharedKv,
        now_ms: u64,
        max: usize,
        wanted: &mut dyn FnMut(&str) -> usize,
    ) -> Result<Vec<Lease>, EngineError> {
        let mut state = self.lock();
        let due: Vec<Arc<str>> = state.due(now_ms).collect();
        let mut leases = Vec::new();
        for hop in due {
            let room = max.saturating_sub(leases.len());
            if room == 0 {
                break;
            }
            let count = wanted(&hop).min(room);
            if count > 0 {
                state.lease_hop(&**kv, &hop, now_ms, count, &mut leases)?;
            }
        }
        Ok(leases)
    }
}

fn first_key(read: &dyn Read, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
    let mut found = None;
    read.scan(Family::Queue, from, to, &mut |key, _| {
        found = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(found)
}

impl State {
    /// Next hops with work, the longest waiting first.
    fn due(&self, now_ms: u64) -> impl Iterator<Item = Arc<str>> + '_ {
        self.order.iter().take_while(move |(due_ms, _)| *due_ms <= now_ms).map(|(_, hop)| Arc::clone(hop))
    }

    /// When the first task is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.order.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether somebody works on a task.
    pub(super) fn is_leased(&self, message: QueueId, task: u16) -> bool {
        self.leased.contains(&(message, task))
    }

    /// Whether nobody works on a message or changes it.
    pub(super) fn may_edit(&self, message: QueueId) -> bool {
        !self.open.contains_key(&message) && !self.edited.contains(&message)
    }

    /// It is being changed until the change is durable.
    pub(super) fn edits(&mut self, message: QueueId) {
        self.edited.insert(message);
    }

    pub(super) fn usage(&self) -> QueueUse {
        QueueUse {
            messages: self.messages,
            quarantined: self.quarantined,
            next_hops: self.hops.len() as u64,
            next_due_ms: self.next_due(),
        }
    }

    /// Tasks that are left of a message that is worked on.
    pub(super) fn left(&mut self, message: QueueId) -> Option<&mut usize> {
        self.open.get_mut(&message).map(|open| &mut open.left)
    }

    /// A task of a hop is due then. Whether that is the first of all.
    fn is_due(&mut self, hop: &str, due_ms: u64) -> bool {
        let first = self.next_due();
        if let Some((hop, known)) = self.hops.get_key_value(hop).map(|(hop, known)| (Arc::clone(hop), *known)) {
            if due_ms >= known {
                return false;
            }
            self.order.remove(&(known, Arc::clone(&hop)));
            self.order.insert((due_ms, Arc::clone(&hop)));
            self.hops.insert(hop, due_ms);
        } else {
            let hop: Arc<str> = Arc::from(hop);
            self.order.insert((due_ms, Arc::clone(&hop)));
            self.hops.insert(hop, due_ms);
        }
        first.is_none_or(|first| due_ms < first)
    }

    /// Nothing that nobody works on is due for a hop before this moment; `None`: nothing at all.
    fn is_not_due_before(&mut self, hop: &Arc<str>, due_ms: Option<u64>) {
        if let Some(known) = self.hops.remove(hop) {
            self.order.remove(&(known, Arc::clone(hop)));
        }
        if let Some(due_ms) = due_ms {
            self.is_due(hop, due_ms);
        }
    }

    fn lease_hop(
        &mut self,
        read: &dyn Read,
        hop: &Arc<str>,
        now_ms: u64,
        count: usize,
        leases: &mut Vec<Lease>,
    ) -> Result<(), EngineError> {
        let known = self.hops.get(hop).copied().unwrap_or_default();
        let (from, to) = (keys::queue_due(hop, known, 0, 0), keys::prefix_end(&keys::queue_hop(hop)));
        let (mut found, mut then) = (Vec::new(), None);
        read.scan(Family::Queue, &from, &to, &mut |key, _| {
            let Some(due) = DueRow::decode(key) else { return ControlFlow::Continue(()) };
            if self.is_leased(due.message, due.task) || self.edited.contains(&due.message) {
                return ControlFlow::Continue(());
            }
            if found.len() == count || due.due_ms > now_ms {
                then = Some(due.due_ms);
                return ControlFlow::Break(());
            }
            found.push((due.message, due.task));
            ControlFlow::Continue(())
        })?;
        for (message, task) in found {
            match self.lease_task(read, message, task) {
                Ok(lease) => leases.push(lease),
                // It holds nothing else up; `fsck` tells of it.
                Err(EngineError::Corrupt(_)) => {
                    self.leased.insert((message, task));
                }
                Err(error) => return Err(error),
            }
        }
        self.is_not_due_before(hop, then);
        Ok(())
    }

    fn lease_task(&mut self, read: &dyn Read, message: QueueId, task: u16) -> Result<Lease, EngineError> {
        let state = task_of(read, message, task)?;
        let row = read.get(Family::Queue, &keys::queue_envelope(message.0))?;
        let envelope = row.as_deref().and_then(Envelope::decode).ok_or_else(|| damaged("the envelope", message.0))?;
        if let Some(open) = self.open.get_mut(&message) {
            open.leased += 1;
        } else {
            self.open.insert(message, Open { left: tasks_of(read, message)?.len(), leased: 1 });
        }
        self.leased.insert((message, task));
        Ok(Lease { message, task, envelope, state })
    }

    /// Nobody works on a task any more, and nothing came of it.
    pub(crate) fn give_back(&mut self, lease: &Lease) {
        self.free(lease.message, lease.task);
        self.is_due(&lease.state.next_hop, lease.state.due_ms);
    }

    fn free(&mut self, message: QueueId, task: u16) {
        if !self.leased.remove(&(message, task)) {
            return;
        }
        if let Some(open) = self.open.get_mut(&message) {
            open.leased -= 1;
            if open.leased == 0 {
                self.open.remove(&message);
            }
        }
    }

    /// Whether somebody is to be woken.
    fn apply(&mut self, effects: &Effects, written: bool) -> bool {
        for message in &effects.edited {
            self.edited.remove(message);
        }
        self.quarantining = self.quarantining.saturating_sub(effects.quarantined);
        if !written {
            for (hop, due_ms) in &effects.before {
                self.is_due(hop, *due_ms);
            }
            for message in &effects.finished {
                if let Some(left) = self.left(*message) {
                    *left += 1;
                }
            }
            return false;
        }
        for (message, task) in &effects.settled {
            self.free(*message, *task);
        }
        self.messages = self.messages.saturating_add(effects.added).saturating_sub(effects.removed);
        let kept = self.quarantined.saturating_add(effects.quarantined);
        self.quarantined = kept.saturating_sub(effects.unquarantined);
        let mut woken = false;
        for (hop, due_ms) in &effects.due {
            woken |= self.is_due(hop, *due_ms);
        }
        woken
    }
}

/// A task.
pub(super) fn task_of(read: &dyn Read, message: QueueId, task: u16) -> Result<Task, EngineError> {
    let row = read.get(Family::Queue, &keys::queue_task(message.0, task))?;
    row.as_deref().and_then(Task::decode).ok_or_else(|| damaged("a task", message.0))
}

/// All tasks of a message.
pub(super) fn tasks_of(read: &dyn Read, message: QueueId) -> Result<Vec<(u16, Task)>, EngineError> {
    let prefix = keys::queue_tasks(message.0);
    let (mut tasks, mut broken) = (Vec::new(), false);
    read.scan(Family::Queue, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
        let number = key.get(prefix.len()..).and_then(|key| KeyReader::new(key).u16());
        match number.zip(Task::decode(row)) {
            Some(task) => tasks.push(task),
            None => broken = true,
        }
        ControlFlow::Continue(())
    })?;
    if broken { Err(damaged("a task", message.0)) } else { Ok(tasks) }
}

/// The row of the allocator.
pub(super) fn allocator_row(next: u64) -> (bytes::Bytes, Vec<u8>) {
    let mut row = vec![1];
    row.extend_from_slice(&next.to_le_bytes());
    (keys::allocator(ALLOCATOR), row)
}
