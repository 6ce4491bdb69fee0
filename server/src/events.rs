//! What happens to mail: one line in the log and one event in the trace for each, told here and nowhere else.
//!
//! * What: [`tell`]; every stage of a message's way says what it did with an [`Event`].
//! * In: an event with its facts.
//! * Out: the line, and the event in the engine's trace, which writes it in the background.
//! * Never: waits.
//! * Fails: not at all; a trace that has no room counts what it loses.

use std::str::FromStr;

use rockdove_engine::{
    Engine,
    trace::{Event, Fact, What},
};

use crate::runtime::clock;

/// An event of this moment. `id` is what the message is called.
pub fn event(what: What, id: &str) -> Event {
    Event::new(clock::unix_ms(), id, what)
}

/// Says it with the names of its facts as fields. One line of the log has all of them, so they are all named here.
macro_rules! line {
    ($level:expr, $event:expr) => {
        tracing::event!(
            $level,
            id = some(&$event.id),
            queue = number($event, Fact::Queue),
            from = text($event, Fact::From),
            to = text($event, Fact::To),
            via = text($event, Fact::Via),
            message_id = text($event, Fact::MessageId),
            size = number($event, Fact::Size),
            recipients = number($event, Fact::Recipients),
            peer = text($event, Fact::Peer),
            client = text($event, Fact::Client),
            tls = text($event, Fact::Tls),
            auth = text($event, Fact::Auth),
            account = text($event, Fact::Account),
            mailbox = text($event, Fact::Mailbox),
            uid = number($event, Fact::Uid),
            hop = text($event, Fact::Hop),
            server = text($event, Fact::Server),
            attempts = number($event, Fact::Attempts),
            reply = text($event, Fact::Reply),
            due = number($event, Fact::Due),
            by = text($event, Fact::By),
            why = text($event, Fact::Why),
            "{}",
            $event.what.name()
        )
    };
}

/// Tells of an event.
pub fn tell(engine: &Engine, event: Event) {
    line!(tracing::Level::INFO, &event);
    engine.note(event);
}

/// Tells of an event that an operator should look at.
pub fn warn(engine: &Engine, event: Event) {
    line!(tracing::Level::WARN, &event);
    engine.note(event);
}

fn some(text: &str) -> Option<tracing::field::DisplayValue<&str>> {
    (!text.is_empty()).then(|| tracing::field::display(text))
}

fn text(event: &Event, fact: Fact) -> Option<tracing::field::DisplayValue<&str>> {
    event.fact(fact).map(tracing::field::display)
}

fn number(event: &Event, fact: Fact) -> Option<u64> {
    event.fact(fact).and_then(|text| u64::from_str(text).ok())
}
