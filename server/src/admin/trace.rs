//! What happened to mail.

use std::{collections::BTreeMap, io};

use rockdove_engine::trace::{Event, Sought, Traced};

use super::{
    execute::{Emit, Host},
    request::{EventFacts, Reply, TraceFacts, TraceFilter},
};

/// Tells of the messages that are sought, the oldest first.
pub(super) fn trace(host: &Host, filter: TraceFilter, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let ms = |unix_s: i64| u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000);
    let TraceFilter { id, from, to, message_id, ip, since_unix_s, until_unix_s, limit } = filter;
    let (since_ms, until_ms) = (since_unix_s.map(ms), until_unix_s.map(ms));
    let found = match host.engine.find_traces(&Sought { id, from, to, message_id, ip, since_ms, until_ms }, limit) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let more = found.len() == limit;
    let none = found.is_empty();
    found.into_iter().try_for_each(|traced| emit(Reply::Traced(facts(traced))))?;
    Ok(Ok(match (none, more) {
        (true, _) => "nothing is known of such mail".to_owned(),
        (_, true) => format!("the newest {limit}; there may be more (--limit)"),
        _ => String::new(),
    }))
}

fn facts(traced: Traced) -> TraceFacts {
    let event = |event: Event| EventFacts {
        at_unix_ms: event.at_ms,
        what: event.what.name().to_owned(),
        facts: event.facts.into_iter().map(|(fact, text)| (fact.name().to_owned(), text)).collect::<BTreeMap<_, _>>(),
    };
    TraceFacts { id: traced.id, events: traced.events.into_iter().map(event).collect() }
}
