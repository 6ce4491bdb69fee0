//! The rows of the outbound queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use bytes::Bytes;

use super::fsck::{Finding, Repair};
use crate::{
    command::{EngineError, MessageId},
    kv::{
        Batch, Family, Read,
        keys::{self, KeyReader},
    },
    queue::{Envelope, Quarantined, QueueId, Task},
    store::record::MessageRecord,
};

/// Messages checked on one snapshot.
pub(super) const MESSAGES_PER_SNAPSHOT: usize = 1_024;

/// A run of messages that was gone through.
#[derive(Default)]
pub(super) struct QueueCheck {
    pub(super) messages: u64,
    pub(super) findings: Vec<Finding>,
    /// What repairs the findings that can be repaired.
    pub(super) repairs: Batch,
    /// Every record could be read.
    pub(super) all_known: bool,
    /// Where the next run begins; `None` behind the last message.
    pub(super) next: Option<u64>,
}

impl QueueCheck {
    /// Checks messages from a number on: each has its record, its tasks, and for each task a row that says when it is due.
    pub(super) fn run(read: &dyn Read, from: u64) -> Result<Self, EngineError> {
        let mut check = Self { all_known: true, ..Self::default() };
        let mut envelopes = Vec::new();
        read.scan(Family::Queue, &keys::queue_envelope(from), &[keys::QUEUE_ENVELOPE + 1], &mut |key, row| {
            let number = KeyReader::new(key.get(1..).unwrap_or_default()).u64();
            let Some(number) = number.filter(|_| key.len() == 9) else {
                check.found(key, "a malformed key", Repair::Impossible);
                return ControlFlow::Continue(());
            };
            if envelopes.len() == MESSAGES_PER_SNAPSHOT {
                check.next = Some(number);
                return ControlFlow::Break(());
            }
            envelopes.push((number, Envelope::decode(row)));
            ControlFlow::Continue(())
        })?;
        for (number, envelope) in envelopes {
            check.messages += 1;
            match envelope {
                Some(envelope) => check.message(read, number, &envelope)?,
                None => check.found(&keys::queue_envelope(number), "the envelope cannot be read", Repair::Impossible),
            }
        }
        Ok(check)
    }

    /// Checks messages that are kept apart, from a number on: each has its record.
    pub(super) fn quarantine(read: &dyn Read, from: u64) -> Result<Self, EngineError> {
        let mut check = Self { all_known: true, ..Self::default() };
        let mut numbers = Vec::new();
        read.scan(Family::Queue, &keys::quarantine(from), &[keys::QUEUE_QUARANTINE + 1], &mut |key, row| {
            let number = KeyReader::new(key.get(1..).unwrap_or_default()).u64();
            let Some(number) = number.filter(|_| key.len() == 9) else {
                check.found(key, "a malformed key", Repair::Impossible);
                return ControlFlow::Continue(());
            };
            if numbers.len() == MESSAGES_PER_SNAPSHOT {
                check.next = Some(number);
                return ControlFlow::Break(());
            }
            if Quarantined::decode(QueueId(number), row).is_none_or(|message| message.recipients.is_empty()) {
                check.found(key, "the row cannot be read", Repair::Impossible);
            }
            numbers.push(number);
            ControlFlow::Continue(())
        })?;
        for number in numbers {
            check.messages += 1;
            check.record(read, number)?;
        }
        Ok(check)
    }

    /// Checks that no row is left of a message or a task that is not there.
    pub(super) fn strays(read: &dyn Read) -> Result<Self, EngineError> {
        let mut check = Self { all_known: true, ..Self::default() };
        let mut known: BTreeMap<u64, BTreeMap<u16, Bytes>> = BTreeMap::new();
        let mut orphans: Vec<Bytes> = Vec::new();
        let mut numbers = BTreeSet::new();
        read.scan(Family::Queue, &[keys::QUEUE_ENVELOPE], &[keys::QUEUE_ENVELOPE + 1], &mut |key, _| {
            numbers.extend(KeyReader::new(key.get(1..).unwrap_or_default()).u64());
            ControlFlow::Continue(())
        })?;
        let mut apart = BTreeSet::new();
        read.scan(Family::Queue, &[keys::QUEUE_QUARANTINE], &[keys::QUEUE_QUARANTINE + 1], &mut |key, _| {
            apart.extend(KeyReader::new(key.get(1..).unwrap_or_default()).u64());
            ControlFlow::Continue(())
        })?;
        read.scan(Family::Queue, &[keys::QUEUE_TASK], &[keys::QUEUE_TASK + 1], &mut |key, row| {
            let mut reader = KeyReader::new(key.get(1..).unwrap_or_default());
            match (reader.u64().filter(|number| numbers.contains(number)), reader.u16(), Task::decode(row)) {
                (Some(number), Some(task), Some(row)) if !row.held => {
                    let due = keys::queue_due(&row.next_hop, row.due_ms, number, task);
                    known.entry(number).or_default().insert(task, due);
                }
                (Some(_), ..) => {}
                (None, ..) => orphans.push(Bytes::copy_from_slice(key)),
            }
            ControlFlow::Continue(())
        })?;
        let mut strays: Vec<Bytes> = Vec::new();
        read.scan(Family::Queue, &[keys::QUEUE_DUE], &[keys::QUEUE_DUE + 1], &mut |key, _| {
            let end = key.len().saturating_sub(10);
            let mut reader = KeyReader::new(key.get(end..).unwrap_or_default());
            let task = reader.u64().zip(reader.u16());
            let due = task.and_then(|(number, task)| known.get(&number)?.get(&task));
            if due.is_none_or(|due| due[..] != *key) {
                strays.push(Bytes::copy_from_slice(key));
            }
            ControlFlow::Continue(())
        })?;
        for (kind, at) in [(keys::QUEUE_SENDER, 5), (keys::QUEUE_RECORD, 1)] {
            read.scan(Family::Queue, &[kind], &[kind + 1], &mut |key, _| {
                let number = KeyReader::new(key.get(at..).unwrap_or_default()).u64();
                let kept_apart = |number| kind == keys::QUEUE_RECORD && apart.contains(&number);
                if number.is_none_or(|number| !numbers.contains(&number) && !kept_apart(number)) {
                    orphans.push(Bytes::copy_from_slice(key));
                }
                ControlFlow::Continue(())
            })?;
        }
        for key in strays {
            check.found(&key, "nothing is due then", Repair::Possible);
            check.repairs.delete(Family::Queue, key);
        }
        for key in orphans {
            check.found(&key, "its message has no envelope", Repair::Impossible);
        }
        Ok(check)
    }

    fn found(&mut self, key: &[u8], what: &str, repair: Repair) {
        let (key, what) = (Bytes::copy_from_slice(key), what.to_owned());
        self.findings.push(Finding { account: None, mailbox: None, family: Family::Queue, key, what, repair });
    }

    /// A row that follows from others and is not there.
    fn missing(&mut self, family: Family, key: Bytes, what: &str) {
        self.found(&key, what, Repair::Possible);
        self.repairs.put(family, key, Bytes::new());
    }

    fn message(&mut self, read: &dyn Read, number: u64, envelope: &Envelope) -> Result<(), EngineError> {
        if let Some(owner) = envelope.owner {
            let key = keys::queue_sender(owner.0, number);
            if read.get(Family::Queue, &key)?.is_none() {
                self.missing(Family::Queue, key, "the message is not with its sender's");
            }
        }
        self.record(read, number)?;
        let prefix = keys::queue_tasks(number);
        let mut tasks = Vec::new();
        read.scan(Family::Queue, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            tasks.push((Bytes::copy_from_slice(key), Task::decode(row)));
            ControlFlow::Continue(())
        })?;
        if tasks.is_empty() {
            self.found(&keys::queue_envelope(number), "nothing is left to do for the message", Repair::Impossible);
        }
        for (key, task) in tasks {
            let place = key.get(prefix.len()..).and_then(|key| KeyReader::new(key).u16());
            let Some((place, task)) = place.zip(task) else {
                self.found(&key, "the task cannot be read", Repair::Impossible);
                continue;
            };
            let due = keys::queue_due(&task.next_hop, task.due_ms, number, place);
            if !task.held && read.get(Family::Queue, &due)?.is_none() {
                self.missing(Family::Queue, due, "it is not said when the task is due");
            }
        }
        Ok(())
    }

    fn record(&mut self, read: &dyn Read, number: u64) -> Result<(), EngineError> {
        let key = keys::queue_record(number);
        let row = read.get(Family::Queue, &key)?;
        let record = row.and_then(|row| MessageRecord::decode(MessageId(0), &row));
        let Some(record) = record.filter(|record| record.kept.octets().is_some()) else {
            self.all_known = false;
            self.found(&key, "the record of the message cannot be read", Repair::Impossible);
            return Ok(());
        };
        for part in record.parts() {
            let key = keys::queue_reference(part, number);
            if read.get(Family::Reference, &key)?.is_none() {
                self.missing(Family::Reference, key, "a part that the queue needs is not marked as needed");
            }
        }
        Ok(())
    }
}
