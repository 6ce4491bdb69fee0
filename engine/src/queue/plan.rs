//! What a command changes in the queue, worked out under its lock.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Fate, HOP_OCTETS_MAX, Outbound, QueueId, Settled, TASK_RECIPIENTS_MAX,
    memory::{State, allocator_row, task_of, tasks_of},
    row::{Envelope, RecipientState, Task, TaskRecipient, damaged},
};
use crate::{
    command::{AccountId, EngineError, MessageId},
    kv::{Batch, Family, Read, keys},
    store::{
        StagedMessage,
        plan::candidate_since,
        record::{self, MessageRecord},
    },
};

/// What the queue's memory learns when the batch is durable.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Tasks that nobody works on any more.
    pub(super) settled: Vec<(QueueId, u16)>,
    /// Once for each task that is no more, of messages that are worked on.
    pub(super) finished: Vec<QueueId>,
    /// Messages that are being changed, and where their tasks were due before.
    pub(super) edited: Vec<QueueId>,
    pub(super) before: Vec<(String, u64)>,
    /// Next hops with work, and when.
    pub(super) due: Vec<(String, u64)>,
    /// Messages that are new, and that are gone.
    pub(super) added: u64,
    pub(super) removed: u64,
    /// The same of those that are kept apart.
    pub(super) quarantined: u64,
    pub(super) unquarantined: u64,
}

/// Plans the part of a command that is about the queue.
pub(crate) struct QueuePlan<'a> {
    pub(super) state: &'a mut State,
    pub(super) read: &'a dyn Read,
    pub(super) now_unix_s: i64,
    pub(crate) batch: Batch,
    pub(crate) effects: Effects,
}

impl<'a> QueuePlan<'a> {
    pub(crate) fn new(state: &'a mut State, read: &'a dyn Read, now_unix_s: i64) -> Self {
        Self { state, read, now_unix_s, batch: Batch::default(), effects: Effects::default() }
    }

    /// Takes in a message that leaves.
    pub(crate) fn enqueue(&mut self, outbound: &Outbound, staged: &StagedMessage) -> Result<QueueId, EngineError> {
        let mut tasks: Vec<Task> = Vec::new();
        let mut open: BTreeMap<&str, usize> = BTreeMap::new();
        for recipient in &outbound.recipients {
            let hop = recipient.next_hop.as_str();
            if hop.is_empty() || hop.len() > HOP_OCTETS_MAX || hop.contains('\0') {
                return Err(EngineError::Invalid(format!("{} has no next hop that can be kept", recipient.address)));
            }
            let place = open.get(hop).copied().filter(|at| tasks[*at].recipients.len() < TASK_RECIPIENTS_MAX);
            let place = place.unwrap_or_else(|| {
                tasks.push(Task {
                    next_hop: hop.to_owned(),
                    due_ms: outbound.received_ms.max(outbound.not_before_ms),
                    held: false,
                    delay_told: false,
                    attempts: 0,
                    recipients: Vec::new(),
                });
                tasks.len() - 1
            });
            open.insert(hop, place);
            tasks[place].recipients.push(TaskRecipient {
                address: recipient.address.clone(),
                notify: recipient.notify,
                original_recipient: recipient.original_recipient.clone(),
                state: RecipientState::Waiting,
                reply: String::new(),
            });
        }
        if tasks.is_empty() {
            return Err(EngineError::Invalid("a message that leaves needs recipients".to_owned()));
        }
        let id = self.number()?;
        self.batch.put(Family::Queue, keys::queue_envelope(id.0), Envelope::from(outbound).encode());
        if let Some(AccountId(owner)) = outbound.owner {
            self.batch.put(Family::Queue, keys::queue_sender(owner, id.0), Bytes::new());
        }
        self.put_record(id, &outbound.prefix, staged);
        for (number, task) in (0_u16..).zip(&tasks) {
            self.put_task(id, number, task);
        }
        self.effects.added += 1;
        Ok(id)
    }

    /// A number that nothing has had.
    pub(super) fn number(&mut self) -> Result<QueueId, EngineError> {
        let id = QueueId(self.state.next);
        if id.0 >= keys::QUEUE_NUMBERS {
            return Err(EngineError::Limit("there are no more numbers for the queue".to_owned()));
        }
        self.state.next += 1;
        let (key, row) = allocator_row(self.state.next);
        self.batch.put(Family::Sys, key, row);
        Ok(id)
    }

    /// The record of a message, and that its parts are needed.
    pub(super) fn put_record(&mut self, id: QueueId, prefix: &Bytes, staged: &StagedMessage) {
        self.batch.put(Family::Queue, keys::queue_record(id.0), record::encode(prefix, staged.shared()));
        for part in staged.parts() {
            self.batch.put(Family::Reference, keys::queue_reference(part, id.0), Bytes::new());
        }
    }

    /// Takes away what [`QueuePlan::put_record`] wrote.
    pub(super) fn remove_record(&mut self, message: QueueId) -> Result<(), EngineError> {
        for part in record_of(self.read, message)?.parts() {
            self.batch.delete(Family::Reference, keys::queue_reference(part, message.0));
            self.batch.put(Family::Reference, keys::part_candidate(part), candidate_since(self.now_unix_s));
        }
        self.batch.delete(Family::Queue, keys::queue_record(message.0));
        Ok(())
    }

    /// Writes a task that is due then, or on hold.
    pub(super) fn put_task(&mut self, message: QueueId, number: u16, task: &Task) {
        self.batch.put(Family::Queue, keys::queue_task(message.0, number), task.encode());
        if !task.held {
            let due = keys::queue_due(&task.next_hop, task.due_ms, message.0, number);
            self.batch.put(Family::Queue, due, Bytes::new());
            self.effects.due.push((task.next_hop.clone(), task.due_ms));
        }
    }

    /// Takes away that a task is due.
    pub(super) fn not_due(&mut self, message: QueueId, number: u16, task: &Task) {
        self.batch.delete(Family::Queue, keys::queue_due(&task.next_hop, task.due_ms, message.0, number));
    }

    /// Notes what came of an attempt.
    pub(crate) fn settle(&mut self, settled: &Settled) -> Result<(), EngineError> {
        let (message, number) = (settled.message, settled.task);
        if !self.state.is_leased(message, number) {
            return Err(EngineError::NotFound(format!("task {number} of message {} is nobody's", message.0)));
        }
        let mut task = task_of(self.read, message, number)?;
        self.not_due(message, number, &task);
        for (place, fate) in &settled.fates {
            let Some(recipient) = task.recipients.get_mut(*place) else { continue };
            let (state, reply) = match fate {
                Fate::Delivered(reply) => (RecipientState::Delivered, reply),
                Fate::Failed(reply) => (RecipientState::Failed, reply),
                Fate::Deferred(reply) => (RecipientState::Waiting, reply),
            };
            recipient.state = state;
            recipient.note(reply);
        }
        if task.waiting().next().is_some() {
            task.due_ms = settled.due_ms;
            task.attempts = task.attempts.saturating_add(1);
            task.delay_told |= settled.delay_told;
            self.put_task(message, number, &task);
        } else {
            self.finish(message, number)?;
        }
        self.effects.settled.push((message, number));
        Ok(())
    }

    /// A task is done; with the last one the message goes.
    pub(super) fn finish(&mut self, message: QueueId, number: u16) -> Result<(), EngineError> {
        self.batch.delete(Family::Queue, keys::queue_task(message.0, number));
        let left = match self.state.left(message) {
            Some(left) => {
                *left = left.saturating_sub(1);
                self.effects.finished.push(message);
                *left
            }
            None => tasks_of(self.read, message)?.len().saturating_sub(1),
        };
        if left == 0 { self.remove(message) } else { Ok(()) }
    }

    /// Takes away everything but the tasks.
    pub(super) fn remove(&mut self, message: QueueId) -> Result<(), EngineError> {
        let row = self.read.get(Family::Queue, &keys::queue_envelope(message.0))?;
        let envelope = row.as_deref().and_then(Envelope::decode);
        if let Some(owner) = envelope.and_then(|envelope| envelope.owner) {
            self.batch.delete(Family::Queue, keys::queue_sender(owner.0, message.0));
        }
        self.remove_record(message)?;
        self.batch.delete(Family::Queue, keys::queue_envelope(message.0));
        self.effects.removed += 1;
        Ok(())
    }
}

/// The record of a message in the queue.
pub(super) fn record_of(read: &dyn Read, message: QueueId) -> Result<MessageRecord, EngineError> {
    let row = read.get(Family::Queue, &keys::queue_record(message.0))?;
    let row = row.ok_or_else(|| EngineError::NotFound(format!("message {} is not in the queue", message.0)))?;
    let [.., a, b, c, d] = message.0.to_be_bytes();
    let id = MessageId(u32::from_be_bytes([a, b, c, d]));
    MessageRecord::decode(id, &row).ok_or_else(|| damaged("the record", message.0))
}
