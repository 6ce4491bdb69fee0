//! The rows of the trace. All of a day lie together, so that a day goes at once.
//!
//! ```text
//! event  01 at8 id(..) what1 count.. (fact1 text(..))*
//! ```
//! An event has a number that grows: milliseconds and a counter, so that the number says the day.

use bytes::Bytes;

use super::{Event, FACT_OCTETS_MAX, Fact, What};
use crate::{
    kv::keys,
    store::octets::{Take, put_bytes, put_varint},
};

const VERSION: u8 = 1;
/// Bits of a number below its milliseconds.
const COUNTER_BITS: u32 = 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// The first number of a millisecond.
pub(super) const fn first_number(at_ms: u64) -> u64 {
    let most = u64::MAX >> COUNTER_BITS;
    (if at_ms > most { most } else { at_ms }) << COUNTER_BITS
}

/// The day of a moment, in days since 1970.
pub fn day_of(at_ms: u64) -> u32 {
    u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// The day that an event lies in.
pub(crate) fn day_of_number(number: u64) -> u32 {
    day_of(number >> COUNTER_BITS)
}

pub(super) fn event_key(number: u64) -> Bytes {
    keys::trace_event(day_of_number(number), number)
}

/// What an event can be found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    kind: u8,
    text: String,
}

impl Term {
    pub(super) fn id(id: &str) -> Self {
        Self { kind: 0, text: id.to_owned() }
    }

    /// `None` for facts that nothing is found by.
    pub(super) fn of(fact: Fact, text: &str) -> Option<Self> {
        let text = cut(text);
        let text = match fact {
            Fact::From | Fact::To => text.to_lowercase(),
            Fact::MessageId => text.trim().trim_start_matches('<').trim_end_matches('>').to_owned(),
            Fact::Peer => address_of(text),
            _ => return None,
        };
        Some(Self { kind: fact.number(), text })
    }

    pub(super) fn hash(&self) -> u64 {
        let hash = blake3::Hasher::new().update(&[self.kind]).update(self.text.as_bytes()).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_be_bytes(first)
    }

    pub(super) fn is_of(&self, event: &Event) -> bool {
        terms(event).any(|term| term == *self)
    }
}

/// The address of a client, without its port.
fn address_of(peer: &str) -> String {
    let socket = peer.parse::<std::net::SocketAddr>().map(|socket| socket.ip());
    let address = socket.or_else(|_| peer.parse::<std::net::IpAddr>());
    address.map_or_else(|_| peer.to_owned(), |address| address.to_canonical().to_string())
}

fn terms(event: &Event) -> impl Iterator<Item = Term> + '_ {
    let id = (!event.id.is_empty()).then(|| Term::id(&event.id));
    id.into_iter().chain(event.facts.iter().filter_map(|(fact, text)| Term::of(*fact, text)))
}

/// The keys by which an event is found, each once.
pub(crate) fn index_keys(number: u64, event: &Event) -> Vec<Bytes> {
    let mut hashes: Vec<u64> = terms(event).map(|term| term.hash()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.into_iter().map(|hash| keys::trace_index(day_of_number(number), hash, number)).collect()
}

/// What is kept of a text.
fn cut(text: &str) -> &str {
    let end = (0..=FACT_OCTETS_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

pub(super) fn encode(event: &Event) -> Vec<u8> {
    let mut row = vec![VERSION];
    row.extend_from_slice(&event.at_ms.to_le_bytes());
    put_bytes(&mut row, cut(&event.id).as_bytes());
    row.push(event.what.number());
    put_varint(&mut row, event.facts.len() as u64);
    for (fact, text) in &event.facts {
        row.push(fact.number());
        put_bytes(&mut row, cut(text).as_bytes());
    }
    row
}

pub(crate) fn decode(row: &[u8]) -> Option<Event> {
    let mut take = Take::versioned(row, VERSION)?;
    let (at_ms, id, what) = (take.u64()?, take.text()?.to_owned(), What::of_number(take.u8()?)?);
    let count: usize = take.small().filter(|count| *count <= row.len())?;
    let facts = (0..count).map(|_| Some((Fact::of_number(take.u8()?)?, take.text()?.to_owned())));
    let facts = facts.collect::<Option<_>>()?;
    take.end()?;
    Some(Event { at_ms, id, what, facts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_cut_to_what_is_kept() {
        let event = Event {
            at_ms: 1_700_000_000_123,
            id: "abc".to_owned(),
            what: What::Deferred,
            facts: vec![(Fact::To, "Eve@far.example".to_owned()), (Fact::Reply, "\u{fc}".repeat(FACT_OCTETS_MAX))],
        };
        let row = encode(&event);
        let back = decode(&row).expect("an event");
        assert_eq!((back.at_ms, &*back.id, back.what), (event.at_ms, "abc", What::Deferred));
        assert_eq!(back.fact(Fact::Reply), Some(&*"\u{fc}".repeat(FACT_OCTETS_MAX / 2)));
        for length in 0..row.len() {
            assert_eq!(decode(&row[..length]), None);
        }
        assert_eq!(index_keys(first_number(1), &event).len(), 2);
        assert_eq!(index_keys(first_number(1), &event), index_keys(first_number(1), &back));
    }

    #[test]
    fn terms_are_found_however_they_are_written() {
        let same = |fact, a: &str, b: &str| assert_eq!(Term::of(fact, a), Term::of(fact, b));
        same(Fact::To, "Eve@Far.example", "eve@far.EXAMPLE");
        same(Fact::MessageId, " <a@b>", "a@b");
        same(Fact::Peer, "[::ffff:192.0.2.1]:25", "192.0.2.1");
        assert_ne!(Term::of(Fact::To, "a@b"), Term::of(Fact::From, "a@b"));
        assert_eq!(Term::of(Fact::Why, "x"), None);
    }
}
