//! Looking at the queue.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{
    Edit, Lease, QueueId, Selection,
    memory::{DueRow, tasks_of},
    plan::record_of,
    row::{Envelope, Task},
};
use crate::{
    command::EngineError,
    engine::Engine,
    kv::{
        Family,
        keys::{self, KeyReader},
    },
    store::MessageRecord,
};

/// Messages looked at for one page of a list, whatever it shows of them.
const LOOKED_AT_MAX: usize = 10_000;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its number.
    pub id: QueueId,
    /// The envelope.
    pub envelope: Envelope,
    /// Octets.
    pub size_bytes: u64,
    /// What is left to do, by number.
    pub tasks: Vec<(u16, Task)>,
}

/// How much waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueUse {
    /// Messages.
    pub messages: u64,
    /// Messages that are kept apart.
    pub quarantined: u64,
    /// Next hops with something that is due some time, and when first (milliseconds since 1970). What somebody works on
    /// is not in it.
    pub next_hops: u64,
    /// When the first is due.
    pub next_due_ms: Option<u64>,
}

impl Engine {
    /// Takes what is due at `now_ms`, at most `max` tasks; `wanted` says how many more of a next hop may be taken. Give
    /// each to [`Engine::return_lease`], or settle it with a command.
    pub fn lease(
        &self,
        now_ms: u64,
        max: usize,
        wanted: &mut dyn FnMut(&str) -> usize,
    ) -> Result<Vec<Lease>, EngineError> {
        self.queue().lease(self.kv(), now_ms, max, wanted)
    }

    /// Nobody works on it any more, and nothing came of it: it is due as before.
    pub fn return_lease(&self, lease: &Lease) {
        self.queue().lock().give_back(lease);
    }

    /// Calls `wake` whenever something becomes due before everything known. It must be quick.
    pub fn on_queue(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.queue().on_wake(wake);
    }

    /// How much waits.
    pub fn queue_use(&self) -> QueueUse {
        self.queue().lock().usage()
    }

    /// The record of a message that waits; [`Engine::read`] gives its bytes.
    pub fn queue_record(&self, message: QueueId) -> Result<MessageRecord, EngineError> {
        record_of(&**self.kv(), message)
    }

    /// One message that waits.
    pub fn queued(&self, message: QueueId) -> Result<QueuedMessage, EngineError> {
        let read = self.kv().snapshot();
        let row = read.get(Family::Queue, &keys::queue_envelope(message.0))?;
        let row = row.ok_or_else(|| EngineError::NotFound(format!("message {} is not in the queue", message.0)))?;
        let envelope = Envelope::decode(&row).ok_or_else(|| super::row::damaged("the envelope", message.0))?;
        let size_bytes = record_of(&*read, message)?.size_bytes;
        Ok(QueuedMessage { id: message, envelope, size_bytes, tasks: tasks_of(&*read, message)? })
    }

    /// Messages that wait, from a number on, in their order; where the next page begins, if there may be more.
    pub fn queued_from(
        &self,
        from: QueueId,
        limit: usize,
        selection: &Selection,
    ) -> Result<(Vec<QueuedMessage>, Option<QueueId>), EngineError> {
        let read = self.kv().snapshot();
        let end = [keys::QUEUE_ENVELOPE + 1];
        let mut rows = Vec::new();
        read.scan(Family::Queue, &keys::queue_envelope(from.0), &end, &mut |key, row| {
            let id = KeyReader::new(key.get(1..).unwrap_or_default()).u64();
            rows.extend(id.map(|id| (QueueId(id), bytes::Bytes::copy_from_slice(row))));
            if rows.len() < LOOKED_AT_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let all = rows.len() < LOOKED_AT_MAX;
        let mut next = if all { None } else { rows.last().map(|(id, _)| QueueId(id.0 + 1)) };
        let mut shown = Vec::new();
        for (id, row) in rows {
            if shown.len() >= limit {
                next = Some(id);
                break;
            }
            let envelope = Envelope::decode(&row).ok_or_else(|| super::row::damaged("the envelope", id.0))?;
            let tasks = tasks_of(&*read, id)?;
            if selection.shows(&envelope, &tasks) {
                let size_bytes = record_of(&*read, id)?.size_bytes;
                shown.push(QueuedMessage { id, envelope, size_bytes, tasks });
            }
        }
        Ok((shown, next))
    }

    /// Tasks for each next hop, by what is due some time; those on hold are not counted. Reads all of them.
    pub fn queue_by_hop(&self) -> Result<BTreeMap<String, u64>, EngineError> {
        let mut counts = BTreeMap::new();
        let read = self.kv().snapshot();
        read.scan(Family::Queue, &[keys::QUEUE_DUE], &[keys::QUEUE_DUE + 1], &mut |key, _| {
            if let Some(due) = DueRow::decode(key) {
                if let Some(count) = counts.get_mut(due.hop) {
                    *count += 1;
                } else {
                    counts.insert(due.hop.to_owned(), 1);
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(counts)
    }
}

impl Edit {
    /// Whether the sender of a message may do it too.
    pub fn is_for_senders(&self) -> bool {
        matches!(self, Self::Cancel)
    }
}
