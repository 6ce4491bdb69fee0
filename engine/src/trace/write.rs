//! Events on their way to the store.

use std::{
    ops::ControlFlow,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    DAY_EVENTS_MAX, Event, WAITING_EVENTS_MAX, What,
    row::{day_of, day_of_number, encode, event_key, first_number, index_keys},
};
use crate::{
    command::EngineError,
    engine::Engine,
    kv::{
        Batch, Durability, Family, Read,
        keys::{self, KeyReader},
    },
};

/// Events written in one batch.
const EVENTS_PER_BATCH: usize = 1_000;

/// The trace of an engine.
#[derive(Debug)]
pub(crate) struct Trace {
    waiting: Mutex<Waiting>,
    /// The number of the last event. Held by whoever writes.
    last: Mutex<u64>,
    on: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Event>,
    lost: u64,
    /// The day of the last event, and how many it has had.
    day: (u32, u64),
}

impl Trace {
    pub(crate) fn load(read: &dyn Read) -> Result<Self, EngineError> {
        let last = Mutex::new(last_number(read)?);
        Ok(Self { waiting: Mutex::default(), last, on: AtomicBool::new(true) })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody else from writing.
    pub(crate) fn write_lock(&self) -> MutexGuard<'_, u64> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The highest number there is; 0 when there is none.
fn last_number(read: &dyn Read) -> Result<u64, EngineError> {
    let (mut end, mut last) = (keys::TRACE_END.to_vec(), None);
    // The last day may have nothing but rows that lead to events.
    while last.is_none() {
        let mut day = None;
        read.scan_back(Family::Trace, &[], &end, &mut |key, _| {
            day = KeyReader::new(key).u32();
            ControlFlow::Break(())
        })?;
        let Some(day) = day else { return Ok(0) };
        let (from, to) = (keys::trace_event(day, 0), keys::trace_index(day, 0, 0));
        read.scan_back(Family::Trace, &from, &to, &mut |key, _| {
            last = key.get(5..).and_then(|number| KeyReader::new(number).u64());
            ControlFlow::Break(())
        })?;
        end = from.to_vec();
    }
    Ok(last.unwrap_or(0))
}

impl Engine {
    /// Whether events are kept.
    pub fn set_traces(&self, on: bool) {
        self.tracer().on.store(on, Ordering::Relaxed);
    }

    /// Takes an event, to be written by [`Engine::write_trace`]. Quick.
    pub fn note(&self, event: Event) {
        let trace = self.tracer();
        if !trace.on.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = trace.waiting();
        let day = day_of(event.at_ms);
        let before = if waiting.day.0 == day { waiting.day.1 } else { 0 };
        // Strangers who are refused again and again leave the second half of a day to mail.
        let most = if event.what == What::Refused { DAY_EVENTS_MAX / 2 } else { DAY_EVENTS_MAX };
        if waiting.events.len() < WAITING_EVENTS_MAX && before < most {
            waiting.day = (day, before + 1);
            waiting.events.push(event);
        } else {
            waiting.lost += 1;
        }
    }

    /// Writes the events that wait, without a sync: they are durable with the next command that is. Answers how many
    /// were lost because too many waited, or because mail has no room.
    pub fn write_trace(&self) -> Result<u64, EngineError> {
        let trace = self.tracer();
        let mut last = trace.write_lock();
        let (events, mut lost) = {
            let mut waiting = trace.waiting();
            (std::mem::take(&mut waiting.events), std::mem::take(&mut waiting.lost))
        };
        if self.takes_in().is_err() {
            return Ok(lost + events.len() as u64);
        }
        let mut rest = &events[..];
        while !rest.is_empty() {
            let (some, behind) = rest.split_at(rest.len().min(EVENTS_PER_BATCH));
            let mut batch = Batch::default();
            let mut number = *last;
            for event in some {
                number = first_number(event.at_ms).max(number + 1);
                batch.put(Family::Trace, event_key(number), encode(event));
                for key in index_keys(number, event) {
                    batch.put(Family::Trace, key, Vec::new());
                }
            }
            if let Err(error) = self.kv().write(&batch, Durability::Ordered) {
                let mut waiting = trace.waiting();
                let newer = std::mem::replace(&mut waiting.events, rest.to_vec());
                let room = WAITING_EVENTS_MAX.saturating_sub(waiting.events.len());
                lost += newer.len().saturating_sub(room) as u64;
                waiting.events.extend(newer.into_iter().take(room));
                waiting.lost += lost;
                return Err(error.into());
            }
            *last = number;
            rest = behind;
        }
        Ok(lost)
    }

    /// Removes the events of all days before this one, in days since 1970.
    pub fn drop_traces(&self, day: u32) -> Result<(), EngineError> {
        let _writing = self.tracer().write_lock();
        let first = self.first_trace_day()?;
        if first.is_none_or(|first| first >= day) {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.delete_range(Family::Trace, keys::trace_event(0, 0), keys::trace_event(day, 0));
        Ok(self.kv().write(&batch, Durability::Ordered)?)
    }

    /// The first day with events.
    pub(super) fn first_trace_day(&self) -> Result<Option<u32>, EngineError> {
        let mut first = None;
        self.kv().scan(Family::Trace, &[], &keys::TRACE_END, &mut |key, _| {
            first = KeyReader::new(key).u32();
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// The last day with events.
    pub(super) fn last_trace_day(&self) -> u32 {
        day_of_number(*self.tracer().write_lock())
    }
}
