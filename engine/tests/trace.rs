//! The trace against a list of everything that happened: found by whom it concerns, through crashes, damage and sweeping.

use std::{collections::BTreeMap, sync::Arc};

use rockdove_engine::{
    Command, Engine, EngineOptions,
    kv::{Batch, Durability, Family, Kv, Read, SharedKv, keys, memory::MemoryKv},
    trace::{Event, FACT_OCTETS_MAX, Fact, Sought, Traced, WAITING_EVENTS_MAX, What, day_of},
};

const START_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const ADDRESSES: [&str; 5] = ["ada@a.example", "Ben@a.example", "eve@far.example", "fay@far.example", ""];

fn open(kv: &Arc<MemoryKv>) -> Arc<Engine> {
    Engine::open(Arc::clone(kv) as SharedKv, EngineOptions::default()).expect("opens")
}

fn fsck(engine: &Engine) -> u64 {
    let summary = engine.fsck(false, &mut |finding| panic!("{finding}")).expect("looked");
    assert!(summary.is_clean());
    summary.events
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).expect("small")
    }

    fn event(&mut self, number: usize) -> Event {
        let address = ADDRESSES[self.below(ADDRESSES.len())];
        let id = if self.below(10) == 0 { String::new() } else { format!("m{}", self.below(60)) };
        let at_ms = START_MS + number as u64 * HOUR_MS;
        match self.below(4) {
            0 => Event::new(at_ms, &id, What::Accepted)
                .with(Fact::From, address)
                .with(Fact::Peer, &format!("192.0.2.{}:{}", self.below(3), 1000 + number))
                .with(Fact::MessageId, &format!("<{id}@x>")),
            1 => Event::new(at_ms, &id, What::Delivered).with(Fact::To, address).with(Fact::Uid, &number),
            2 => Event::new(at_ms, &id, What::Deferred).with(Fact::To, address).with(Fact::Reply, "451 later"),
            _ => Event::new(at_ms, &id, What::Refused).with(Fact::To, address).with_some(Fact::Why, Some("no")),
        }
    }
}

/// What the search should bring, by going through everything.
fn expected(all: &[Event], is_sought: &dyn Fn(&Event) -> bool, limit: usize) -> Vec<Traced> {
    let mut messages: BTreeMap<usize, Traced> = BTreeMap::new();
    for event in all.iter().rev().filter(|event| is_sought(event)) {
        let same = |other: &&Event| !event.id.is_empty() && other.id == event.id;
        let first = all.iter().position(|other| same(&other) || std::ptr::eq(other, event)).expect("itself");
        if messages.contains_key(&first) {
            continue;
        }
        if messages.len() == limit {
            break;
        }
        let events = all.iter().filter(|other| same(other) || std::ptr::eq(*other, event)).cloned().collect();
        messages.insert(first, Traced { id: event.id.clone(), events });
    }
    messages.into_values().collect()
}

fn compare(engine: &Engine, all: &[Event]) {
    let seek = |sought: Sought, limit: usize| engine.find_traces(&sought, limit).expect("found");
    let some = |text: &str| Some(text.to_owned());
    for limit in [1, 7, 1_000] {
        assert_eq!(seek(Sought::default(), limit), expected(all, &|_| true, limit));
        for address in ADDRESSES {
            let is = |event: &Event, fact| event.fact(fact) == Some(address);
            let to = Sought { to: some(&address.to_uppercase()), ..Sought::default() };
            assert_eq!(seek(to, limit), expected(all, &|event| is(event, Fact::To), limit), "to {address}");
            let from = Sought { from: some(address), ..Sought::default() };
            assert_eq!(seek(from, limit), expected(all, &|event| is(event, Fact::From), limit), "from {address}");
        }
        let ip = Sought { ip: some("192.0.2.1"), ..Sought::default() };
        let is_ip = |event: &Event| event.fact(Fact::Peer).is_some_and(|peer| peer.starts_with("192.0.2.1:"));
        assert_eq!(seek(ip, limit), expected(all, &is_ip, limit));
        let (from, to) = (START_MS + 30 * HOUR_MS, START_MS + 50 * HOUR_MS);
        let between = Sought { since_ms: Some(from), until_ms: Some(to), ..Sought::default() };
        let is_between = |event: &Event| (from..to).contains(&event.at_ms);
        assert_eq!(seek(between, limit), expected(all, &is_between, limit));
    }
    for number in [0, 17, 99] {
        let id = format!("m{number}");
        let sought = Sought { id: Some(id.clone()), ..Sought::default() };
        assert_eq!(seek(sought, 9), expected(all, &|event| event.id == id, 9), "{id}");
        let message_id = Sought { message_id: Some(format!("{id}@x")), ..Sought::default() };
        let is_it = |event: &Event| event.fact(Fact::MessageId) == Some(&format!("<{id}@x>"));
        assert_eq!(seek(message_id, 9), expected(all, &is_it, 9), "{id}");
    }
}

#[test]
fn what_happened_is_found_by_whom_it_concerns() {
    let kv = Arc::new(MemoryKv::new());
    let mut engine = open(&kv);
    let mut rng = Rng(7);
    let mut all: Vec<Event> = Vec::new();
    compare(&engine, &all);
    for number in 0..400 {
        let event = rng.event(number);
        engine.note(event.clone());
        all.push(event);
        if number % 130 == 129 {
            compare(&engine, &all);
            assert_eq!(fsck(&engine), all.len() as u64);
            engine = open(&kv);
        }
    }
    compare(&engine, &all);
    // Both must be true, of any events of one message.
    let both = Sought { from: Some("ada@a.example".into()), to: Some("eve@far.example".into()), ..Sought::default() };
    let found = engine.find_traces(&both, 1_000).expect("found");
    assert!(!found.is_empty());
    let has = |traced: &Traced, fact, text| traced.events.iter().any(|event| event.fact(fact) == Some(text));
    let good = |traced: &Traced| has(traced, Fact::From, "ada@a.example") && has(traced, Fact::To, "eve@far.example");
    assert!(found.iter().all(good));
    // Days go as a whole, and only they.
    let day = day_of(START_MS + 200 * HOUR_MS);
    engine.drop_traces(day).expect("dropped");
    all.retain(|event| day_of(event.at_ms) >= day);
    compare(&engine, &all);
    assert_eq!(fsck(&engine), all.len() as u64);
    engine.drop_traces(u32::MAX).expect("dropped");
    compare(&engine, &[]);
    compare(&open(&kv), &[]);
}

#[test]
fn a_clock_that_goes_back_mixes_nothing_up() {
    let kv = Arc::new(MemoryKv::new());
    let engine = open(&kv);
    engine.note(Event::new(START_MS, "a", What::Accepted));
    engine.write_trace().expect("written");
    engine.note(Event::new(START_MS - 48 * HOUR_MS, "a", What::Delivered).with(Fact::To, "x@y"));
    let found = engine.find_traces(&Sought { to: Some("x@y".into()), ..Sought::default() }, 9).expect("found");
    assert_eq!(found[0].events.iter().map(|event| event.what).collect::<Vec<_>>(), [What::Accepted, What::Delivered]);
    fsck(&engine);
}

#[test]
fn memory_and_texts_have_limits() {
    let engine = open(&Arc::new(MemoryKv::new()));
    for _ in 0..WAITING_EVENTS_MAX + 5 {
        engine.note(Event::new(START_MS, "", What::Refused));
    }
    assert_eq!(engine.write_trace(), Ok(5), "so many are lost");
    assert_eq!(engine.write_trace(), Ok(0), "and told of once");
    engine.note(Event::new(START_MS, "long", What::Refused).with(Fact::Why, &"x".repeat(100_000)));
    let found = engine.find_traces(&Sought { id: Some("long".into()), ..Sought::default() }, 9).expect("found");
    assert_eq!(found[0].events[0].fact(Fact::Why).map(str::len), Some(FACT_OCTETS_MAX));
    engine.set_traces(false);
    engine.note(Event::new(START_MS, "off", What::Accepted));
    assert_eq!(engine.find_traces(&Sought { id: Some("off".into()), ..Sought::default() }, 9), Ok(Vec::new()));
    engine.set_traces(true);
    engine.set_takes_in(false);
    engine.note(Event::new(START_MS, "full", What::Accepted));
    assert_eq!(engine.write_trace(), Ok(1), "the room is for mail");
}

#[test]
fn a_crash_takes_no_more_than_what_was_not_synced() {
    let kv = Arc::new(MemoryKv::recording());
    let engine = open(&kv);
    for number in 0..20_u64 {
        engine.note(Event::new(START_MS + number, &format!("m{number}"), What::Accepted).with(Fact::From, "a@b"));
        engine.write_trace().expect("written");
        if number % 5 == 4 {
            let command = Command::CreateDomain { domain: format!("d{number}.example") };
            engine.execute(1_800_000_000, command).expect("made");
        }
    }
    for writes in 0..=kv.writes() {
        let image = Arc::new(kv.crash_image(writes, writes as u64));
        let engine = open(&image);
        let domains = engine.directory().domains().len();
        let found = engine.find_traces(&Sought { from: Some("a@b".into()), ..Sought::default() }, 99).expect("found");
        assert!(found.len() >= domains * 5, "what lay before a synced write is there");
        let ids: Vec<String> = found.iter().map(|traced| traced.id.clone()).collect();
        assert_eq!(ids, (0..found.len()).map(|number| format!("m{number}")).collect::<Vec<_>>(), "and no gap");
        engine.note(Event::new(START_MS, "after", What::Accepted));
        engine.write_trace().expect("written");
        assert_eq!(fsck(&engine), found.len() as u64 + 1);
    }
}

#[test]
fn damage_is_found_and_what_leads_to_events_is_made_anew() {
    let kv = Arc::new(MemoryKv::new());
    let engine = open(&kv);
    for number in 0..50 {
        engine.note(Rng(number + 1).event(1));
    }
    engine.write_trace().expect("written");
    let rows: Vec<_> = kv.dump().into_iter().filter(|(family, ..)| *family == Family::Trace).collect();
    let index = rows.iter().find(|(_, key, _)| key[4] == keys::TRACE_INDEX).expect("one").1.clone();
    let mut batch = Batch::default();
    batch.delete(Family::Trace, index.clone());
    batch.put(Family::Trace, keys::trace_index(day_of(START_MS), 7, 7), Vec::new());
    kv.write(&batch, Durability::Synced).expect("written");
    let mut told = Vec::new();
    let summary = engine.fsck(true, &mut |finding| told.push(finding.to_string())).expect("looked");
    assert_eq!((summary.findings, summary.repaired), (2, 2), "{told:?}");
    assert!(kv.get(Family::Trace, &index).expect("read").is_some());
    assert_eq!(fsck(&engine), 50);
    let event = rows.iter().find(|(_, key, _)| key[4] == keys::TRACE_EVENT).expect("one");
    let mut batch = Batch::default();
    batch.put(Family::Trace, event.1.clone(), event.2[..event.2.len() - 1].to_vec());
    batch.put(Family::Trace, vec![1, 2], Vec::new());
    kv.write(&batch, Durability::Synced).expect("written");
    let mut told = Vec::new();
    engine.fsck(true, &mut |finding| told.push(finding.what)).expect("looked");
    assert_eq!(told, ["nobody knows this row", "the event cannot be read"]);
}
