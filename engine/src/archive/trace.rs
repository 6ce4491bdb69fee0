//! The rows of the trace: every event can be found, and whatever leads to an event leads to one that is there.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::fsck::{Finding, KEYS_END, Repair};
use crate::{
    command::EngineError,
    kv::{
        Batch, Family, Read,
        keys::{self, KeyReader},
    },
    trace::{decode_event, index_keys},
};

/// Rows looked at on one snapshot.
const ROWS_PER_SNAPSHOT: usize = 4_096;

/// What a look at some rows has brought.
#[derive(Debug, Default)]
pub(super) struct TraceCheck {
    pub(super) events: u64,
    pub(super) findings: Vec<Finding>,
    /// What repairs the findings that can be repaired.
    pub(super) repairs: Batch,
    /// Where the next look begins; `None` behind the last row.
    pub(super) next: Option<Bytes>,
}

/// A row.
enum Found {
    Event(u32, u64),
    /// It leads to an event of its day.
    Index(u32, u64),
}

impl TraceCheck {
    pub(super) fn run(read: &dyn Read, from: &[u8]) -> Result<Self, EngineError> {
        let (mut check, mut rows) = (Self::default(), Vec::new());
        read.scan(Family::Trace, from, &KEYS_END, &mut |key, row| {
            let key = Bytes::copy_from_slice(key);
            if rows.len() == ROWS_PER_SNAPSHOT {
                check.next = Some(key);
                return ControlFlow::Break(());
            }
            rows.push((key, Bytes::copy_from_slice(row)));
            ControlFlow::Continue(())
        })?;
        for (key, row) in rows {
            match of_key(&key) {
                Some(Found::Event(day, number)) => check.event(read, &key, &row, (day, number))?,
                Some(Found::Index(day, number)) => check.index(read, &key, (day, number))?,
                None => check.found(&key, "nobody knows this row", Repair::Impossible),
            }
        }
        Ok(check)
    }

    fn found(&mut self, key: &[u8], what: &str, repair: Repair) {
        let (key, what) = (Bytes::copy_from_slice(key), what.to_owned());
        self.findings.push(Finding { account: None, mailbox: None, family: Family::Trace, key, what, repair });
    }

    fn event(&mut self, read: &dyn Read, key: &[u8], row: &[u8], (day, number): (u32, u64)) -> Result<(), EngineError> {
        self.events += 1;
        let Some(event) = decode_event(row) else {
            self.found(key, "the event cannot be read", Repair::Impossible);
            return Ok(());
        };
        let leading = index_keys(number, &event);
        let rows: Vec<&[u8]> = leading.iter().map(|key| &key[..]).collect();
        let there = read.multi_get(Family::Trace, &rows)?;
        for (leads, _) in leading.iter().zip(there).filter(|(_, row)| row.is_none()) {
            self.repairs.put(Family::Trace, leads.clone(), Vec::new());
            self.found(leads, "an event cannot be found by what it says", Repair::Possible);
        }
        if keys::trace_event(crate::trace::day_of_number(number), number)[..] != *key {
            self.found(key, &format!("the event does not belong to day {day}"), Repair::Impossible);
        }
        Ok(())
    }

    fn index(&mut self, read: &dyn Read, key: &Bytes, (day, number): (u32, u64)) -> Result<(), EngineError> {
        let event = read.get(Family::Trace, &keys::trace_event(day, number))?;
        // One that cannot be read is told of by itself.
        let leads =
            event.is_some_and(|row| decode_event(&row).is_none_or(|event| index_keys(number, &event).contains(key)));
        if !leads {
            self.repairs.delete(Family::Trace, key.clone());
            self.found(key, "it leads to no such event", Repair::Possible);
        }
        Ok(())
    }
}

fn of_key(key: &[u8]) -> Option<Found> {
    let mut reader = KeyReader::new(key);
    let (day, kind) = (reader.u32()?, reader.u8()?);
    let found = match kind {
        keys::TRACE_EVENT => Found::Event(day, reader.u64()?),
        keys::TRACE_INDEX => {
            reader.u64()?;
            Found::Index(day, reader.u64()?)
        }
        _ => return None,
    };
    reader.end().map(|()| found)
}
