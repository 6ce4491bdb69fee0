//! Finding events again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use bytes::Bytes;

use super::{
    Event, Fact, TRACE_EVENTS_MAX, TRACES_FOUND_MAX,
    row::{Term, day_of, decode, event_key, first_number},
};
use crate::{
    command::EngineError,
    engine::Engine,
    kv::{
        Family, Read,
        keys::{self, KeyReader},
    },
};

/// Which messages are sought: all that is given must be true of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Its id in the log.
    pub id: Option<String>,
    /// Its reverse-path.
    pub from: Option<String>,
    /// One of its recipients.
    pub to: Option<String>,
    /// The Message-ID of its header, with or without its brackets.
    pub message_id: Option<String>,
    /// The IP address of the client.
    pub ip: Option<String>,
    /// Something happened to it at this moment or later, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Something happened to it before this moment, in milliseconds since 1970.
    pub until_ms: Option<u64>,
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its id; empty when it had none.
    pub id: String,
    /// In the order in which it happened.
    pub events: Vec<Event>,
}

impl Sought {
    /// What must be true, what names the fewest messages first.
    fn terms(&self) -> Vec<Term> {
        let of = |fact, text: &Option<String>| text.as_deref().and_then(|text| Term::of(fact, text));
        let id = self.id.as_deref().map(Term::id);
        let facts = [
            of(Fact::MessageId, &self.message_id),
            of(Fact::To, &self.to),
            of(Fact::From, &self.from),
            of(Fact::Peer, &self.ip),
        ];
        id.into_iter().chain(facts.into_iter().flatten()).collect()
    }
}

/// The days and numbers that are looked through.
struct Range {
    days: (u32, u32),
    numbers: (u64, u64),
}

impl Engine {
    /// The newest messages that are sought, at most `limit` and [`TRACES_FOUND_MAX`], in the order in which they came.
    /// What still waits to be written is written first.
    pub fn find_traces(&self, sought: &Sought, limit: usize) -> Result<Vec<Traced>, EngineError> {
        self.write_trace()?;
        let Some(first) = self.first_trace_day()? else { return Ok(Vec::new()) };
        let (since, until) = (sought.since_ms.unwrap_or(0), sought.until_ms.unwrap_or(u64::MAX));
        let all = (first, self.last_trace_day());
        let range = Range {
            days: (first.max(day_of(since)), all.1.min(day_of(until))),
            numbers: (first_number(since), first_number(until)),
        };
        let read = self.kv().snapshot();
        let (terms, limit) = (sought.terms(), limit.min(TRACES_FOUND_MAX));
        let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let mut take = |number: u64, event: Event| {
            let mut events = vec![(number, event)];
            let (_, event) = &events[0];
            if !event.id.is_empty() {
                if !seen.insert(event.id.clone()) {
                    return Ok(ControlFlow::Continue(()));
                }
                events = of_term(&*read, &Term::id(&event.id), all)?;
            }
            let is_true = |term: &Term| events.iter().any(|(_, event)| term.is_of(event));
            if terms.iter().all(is_true)
                && let Some((first, event)) = events.first()
            {
                let id = event.id.clone();
                found.insert(*first, Traced { id, events: events.into_iter().map(|(_, event)| event).collect() });
            }
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        newest(&*read, terms.first(), &range, &mut take)?;
        Ok(found.into_values().collect())
    }
}

/// Takes the number of an event and the event.
type Take<'a> = &'a mut dyn FnMut(u64, Event) -> Result<ControlFlow<()>, EngineError>;

/// Visits the events of a range, or those of a term, the newest first.
fn newest(read: &dyn Read, term: Option<&Term>, range: &Range, take: Take<'_>) -> Result<(), EngineError> {
    let (from, until) = range.numbers;
    for day in (range.days.0..=range.days.1).rev() {
        let mut failed = Ok(());
        let mut stopped = false;
        let mut visit = |number: u64, row: Option<Bytes>| {
            let Some(event) = row.as_deref().and_then(decode) else { return ControlFlow::Continue(()) };
            if term.is_some_and(|term| !term.is_of(&event)) {
                return ControlFlow::Continue(());
            }
            let taken = take(number, event);
            stopped = !matches!(taken, Ok(ControlFlow::Continue(())));
            failed = taken.map(drop);
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut broken = Ok(());
        if let Some(term) = term {
            let hash = term.hash();
            let (first, end) = (keys::trace_index(day, hash, from), keys::trace_index(day, hash, until));
            read.scan_back(Family::Trace, &first, &end, &mut |key, _| {
                let Some(number) = key.get(13..).and_then(|key| KeyReader::new(key).u64()) else {
                    return ControlFlow::Continue(());
                };
                match read.get(Family::Trace, &event_key(number)) {
                    Ok(row) => visit(number, row),
                    Err(error) => {
                        broken = Err(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
        } else {
            let (first, end) = (keys::trace_event(day, from), keys::trace_event(day, until));
            read.scan_back(Family::Trace, &first, &end, &mut |key, row| match key
                .get(5..)
                .and_then(|key| KeyReader::new(key).u64())
            {
                Some(number) => visit(number, Some(Bytes::copy_from_slice(row))),
                None => ControlFlow::Continue(()),
            })?;
        }
        broken?;
        failed?;
        if stopped {
            break;
        }
    }
    Ok(())
}

/// The events of a term, the oldest first.
fn of_term(read: &dyn Read, term: &Term, (first, last): (u32, u32)) -> Result<Vec<(u64, Event)>, EngineError> {
    let mut numbers = Vec::new();
    let hash = term.hash();
    for day in first..=last {
        let (from, to) = (keys::trace_index(day, hash, 0), keys::trace_index(day, hash, u64::MAX));
        read.scan(Family::Trace, &from, &to, &mut |key, _| {
            numbers.extend(key.get(13..).and_then(|key| KeyReader::new(key).u64()));
            if numbers.len() < TRACE_EVENTS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    let mut events = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(1_000) {
        let rows: Vec<Bytes> = some.iter().map(|number| event_key(*number)).collect();
        let rows: Vec<&[u8]> = rows.iter().map(|key| &key[..]).collect();
        let found = read.multi_get(Family::Trace, &rows)?;
        events.extend(some.iter().copied().zip(found).filter_map(|(number, row)| Some((number, decode(&row?)?))));
    }
    events.retain(|(_, event)| term.is_of(event));
    Ok(events)
}
