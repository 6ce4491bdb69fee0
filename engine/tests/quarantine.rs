//! Mail that is kept apart: it is durable, in nobody's mailbox, released once, and gone when it is decided about.
#![allow(clippy::cast_possible_truncation, reason = "the numbers here are small")]

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rockdove_engine::{
    AccountId, Command, Credential, Delivery, Engine, EngineError, EngineOptions, Finding, InternalDate, Outbound,
    OutboundRecipient, Outcome, QueueId, Repair, StagedMessage,
    kv::{Batch, Durability, Family, SharedKv, keys, memory::MemoryKv},
    queue::{Decided, Quarantined, Selection, Suspect},
};
use rockdove_mail::{Flags, MailboxName};

const NOW: i64 = 1_800_000_000;

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
    ada: AccountId,
}

impl House {
    fn new() -> Self {
        let mut house = Self::open(Arc::new(MemoryKv::recording()), AccountId(0));
        house.run(Command::CreateDomain { domain: "a.example".into() }).expect("a domain");
        let credential = Credential {
            argon2: "!".into(),
            scram_salt: vec![1],
            scram_iterations: 4096,
            scram_stored_key: [1; 32],
            scram_server_key: [2; 32],
        };
        let command = Command::CreateAccount { address: "ada@a.example".into(), credential, quota_bytes: None };
        let Outcome::Account(ada) = house.run(command).expect("an account") else { unreachable!("an account") };
        house.ada = ada;
        house
    }

    fn open(kv: Arc<MemoryKv>, ada: AccountId) -> Self {
        let engine = Engine::open(Arc::clone(&kv) as SharedKv, EngineOptions::default()).expect("opens");
        Self { kv, engine, ada }
    }

    fn run(&self, command: Command) -> Result<Outcome, EngineError> {
        self.engine.execute(NOW, command)
    }

    fn staged(&self, mail: &[u8]) -> Arc<StagedMessage> {
        let mut staging = self.engine.stage();
        staging.write(mail).expect("taken");
        staging.finish().expect("staged")
    }

    fn keep(&self, mail: &str, recipients: &[&str]) -> Result<QueueId, EngineError> {
        let command =
            Command::Quarantine { message: self.staged(mail.as_bytes()), suspect: Box::new(suspect(recipients)) };
        let Outcome::Quarantined(id) = self.run(command)? else { unreachable!("kept apart") };
        Ok(id)
    }

    fn content(&self, id: QueueId) -> Bytes {
        let record = self.engine.queue_record(id).expect("a record");
        self.engine.read(AccountId(0), &record, 0..u64::MAX).expect("read")
    }

    /// To the account, for these recipients.
    fn release(&self, id: QueueId, addresses: &[&str]) -> Result<(), EngineError> {
        let delivery = Delivery {
            account: self.ada,
            mailbox: MailboxName::inbox(),
            trace_header: Bytes::from_static(b"Return-Path: <>\r\n"),
            flags: Flags::default(),
            internal_date: InternalDate { unix_s: NOW, offset_minutes: 0 },
        };
        let message = self.staged(&self.content(id));
        let (decided, deliveries) = (decided(id, addresses), vec![delivery]);
        self.run(Command::Release { decided, message, deliveries, outbound: Vec::new() }).map(drop)
    }

    fn all(&self) -> Vec<Quarantined> {
        self.engine.quarantined_from(QueueId(0), usize::MAX).expect("listed").0
    }

    fn in_mailbox(&self) -> u64 {
        self.engine.quota(self.ada).expect("counted").messages
    }

    fn fsck(&self) {
        let summary = self.engine.fsck(false, &mut |finding| panic!("{finding}")).expect("looked");
        assert!(summary.is_clean());
    }
}

fn suspect(recipients: &[&str]) -> Suspect {
    let recipient =
        |address: &&str| OutboundRecipient { address: (*address).to_owned(), ..OutboundRecipient::default() };
    let outbound = Outbound {
        reverse_path: "eve@far.example".into(),
        received_ms: 1_000,
        prefix: Bytes::from_static(b"Received: here\r\n"),
        recipients: recipients.iter().map(recipient).collect(),
        ..Outbound::default()
    };
    Suspect { outbound, reason: "infected".into(), client: "192.0.2.7".into(), messages_max: 3 }
}

fn decided(message: QueueId, addresses: &[&str]) -> Decided {
    Decided { message, addresses: addresses.iter().map(|address| (*address).to_owned()).collect() }
}

#[test]
fn a_message_is_kept_apart_until_everybody_has_decided() {
    let house = House::new();
    let body = format!("Subject: odd\r\n\r\n{}", "a line of text\r\n".repeat(1_000));
    let id = house.keep(&body, &["ada@a.example", "ben@a.example", "cleo@far.example"]).expect("kept");
    house.fsck();
    assert_eq!(house.in_mailbox(), 0);
    assert!(house.engine.queued_from(QueueId(0), 9, &Selection::default()).expect("listed").0.is_empty());
    assert!(house.engine.lease(u64::MAX, 9, &mut |_| 9).expect("leased").is_empty());
    assert_eq!(house.content(id), format!("Received: here\r\n{body}"));
    let shown = house.engine.quarantined(id).expect("there");
    assert_eq!((shown.reason.as_str(), shown.client.as_str()), ("infected", "192.0.2.7"));
    assert_eq!(shown.envelope.reverse_path, "eve@far.example");
    assert_eq!(house.engine.collect_parts(NOW + 1_000_000, 100).expect("looked"), 0);
    // One gets it; who has decided cannot decide again.
    house.release(id, &["ada@a.example"]).expect("released");
    assert_eq!(house.in_mailbox(), 1);
    assert!(matches!(house.release(id, &["ada@a.example"]), Err(EngineError::NotFound(_))));
    assert_eq!(house.in_mailbox(), 1);
    let left: Vec<String> = house.all()[0].recipients.iter().map(|recipient| recipient.address.clone()).collect();
    assert_eq!(left, ["ben@a.example", "cleo@far.example"]);
    house.fsck();
    house.run(Command::Discard(decided(id, &["ben@a.example"]))).expect("discarded");
    house.run(Command::Discard(decided(id, &[]))).expect("discarded");
    assert!(matches!(house.run(Command::Discard(decided(id, &[]))), Err(EngineError::NotFound(_))));
    assert!(house.all().is_empty() && house.engine.queue_record(id).is_err());
    assert_eq!(house.engine.queue_use().quarantined, 0);
    house.fsck();
    assert_eq!(house.engine.collect_parts(NOW + 1_000_000, 100).expect("looked"), 0, "the account has it");
    house.fsck();
}

#[test]
fn what_is_discarded_leaves_nothing() {
    let house = House::new();
    let id = house.keep(&format!("A: b\r\n\r\n{}", "x\r\n".repeat(9_000)), &["ada@a.example"]).expect("kept");
    house.run(Command::Discard(decided(id, &[]))).expect("discarded");
    assert_eq!(house.engine.collect_parts(NOW + 1_000_000, 100).expect("collected"), 1);
    house.fsck();
}

#[test]
fn there_is_a_limit() {
    let house = House::new();
    for _ in 0..3 {
        house.keep("A: b\r\n\r\n", &["ada@a.example"]).expect("kept");
    }
    assert!(matches!(house.keep("A: b\r\n\r\n", &["ada@a.example"]), Err(EngineError::Limit(_))));
    assert!(matches!(house.keep("A: b\r\n\r\n", &[]), Err(EngineError::Limit(_) | EngineError::Invalid(_))));
    let again = House::open(Arc::clone(&house.kv), house.ada);
    assert_eq!(again.engine.queue_use().quarantined, 3);
    let first = again.all()[0].id;
    again.run(Command::Discard(decided(first, &[]))).expect("discarded");
    let id = again.keep("A: b\r\n\r\n", &["ada@a.example"]).expect("kept");
    assert!(again.all().iter().all(|message| message.id <= id), "numbers rise");
    // Pages.
    let (page, next) = again.engine.quarantined_from(QueueId(0), 2).expect("listed");
    assert_eq!((page.len(), next), (2, Some(id)));
    again.fsck();
}

#[test]
fn damage_is_found() {
    let house = House::new();
    let mail = format!("A: b\r\n\r\n{}", "x\r\n".repeat(9_000));
    let id = house.keep(&mail, &["ada@a.example"]).expect("kept");
    let references: Vec<_> = house
        .kv
        .dump()
        .into_iter()
        .filter(|(family, key, _)| *family == Family::Reference && key[0] == keys::REFERENCE_USE)
        .collect();
    assert_eq!(references.len(), 1);
    let mut batch = Batch::default();
    batch.delete(Family::Reference, references[0].1.clone());
    let kv: SharedKv = Arc::clone(&house.kv) as SharedKv;
    kv.write(&batch, Durability::Synced).expect("written");
    let mut found: Vec<Finding> = Vec::new();
    let summary = house.engine.fsck(true, &mut |finding| found.push(finding)).expect("looked");
    assert!(!found.is_empty() && found.iter().all(|finding| finding.repair == Repair::Done), "{found:?}");
    assert_eq!((summary.quarantined, summary.is_clean()), (1, true));
    house.fsck();
    let mut batch = Batch::default();
    batch.delete(Family::Queue, keys::quarantine(id.0));
    kv.write(&batch, Durability::Synced).expect("written");
    let summary = house.engine.fsck(false, &mut |_| {}).expect("looked");
    assert!(!summary.is_clean(), "a record without its row");
}

/// A generator of numbers that can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Who has not decided, by message; and how many have it in their mailboxes.
type Model = (BTreeMap<QueueId, Vec<String>>, u64);

fn seen(house: &House) -> Model {
    let recipients = |message: Quarantined| message.recipients.into_iter().map(|recipient| recipient.address).collect();
    let kept = house.all().into_iter().map(|message| (message.id, recipients(message))).collect();
    (kept, house.in_mailbox())
}

#[test]
fn a_crash_loses_nothing_and_releases_nothing_twice() {
    for seed in 1..=20 {
        let house = House::new();
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut model: Model = Model::default();
        for round in 0..30 {
            let before = model.clone();
            let kept: Vec<QueueId> = model.0.keys().copied().collect();
            let chosen = kept.get(dice.roll(kept.len().max(1) as u64) as usize).copied();
            match (dice.roll(3), chosen) {
                (1, Some(id)) => {
                    let address = model.0[&id][0].clone();
                    house.release(id, &[&address]).expect("released");
                    model.1 += 1;
                    model.0.get_mut(&id).expect("known").remove(0);
                }
                (2, Some(id)) => {
                    house.run(Command::Discard(decided(id, &[]))).expect("discarded");
                    model.0.remove(&id);
                }
                _ if model.0.len() < 3 => {
                    let size = dice.roll(3) as usize * 2_000;
                    let mail = format!("Subject: {round}\r\n\r\n{}", "x\r\n".repeat(size));
                    let id = house.keep(&mail, &["ada@a.example", "ben@a.example"]).expect("kept");
                    model.0.insert(id, vec!["ada@a.example".to_owned(), "ben@a.example".to_owned()]);
                }
                _ => continue,
            }
            model.0.retain(|_, recipients| !recipients.is_empty());
            assert_eq!(seen(&house), model, "seed {seed}, round {round}");
            let writes = house.kv.writes();
            for (lost, expected) in [(0, &model), (1, &before)] {
                let image = house.kv.crash_image(writes - lost, dice.roll(1 << 30));
                let there = House::open(Arc::new(image), house.ada);
                assert_eq!(seen(&there), *expected, "seed {seed}, round {round}, {lost} writes lost");
                there.fsck();
            }
        }
        house.fsck();
    }
}
