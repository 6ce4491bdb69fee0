//! The outbound queue against a model: random commands, leases and crashes; nothing is lost, nothing noted is sent again.
#![allow(clippy::cast_possible_truncation, reason = "the numbers here are small")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rockdove_engine::{
    Command, Engine, EngineError, EngineOptions, Lease, Outbound, OutboundRecipient, Outcome, QueueId, Settled,
    StagedMessage,
    kv::{SharedKv, memory::MemoryKv},
    queue::{Edit, Fate, RecipientState, Selection},
};

const NOW: i64 = 1_800_000_000;
const HOPS: [&str; 4] = ["a.example", "aa.example", "b.example", "b"];

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
}

impl House {
    fn new() -> Self {
        Self::open(Arc::new(MemoryKv::recording()))
    }

    fn open(kv: Arc<MemoryKv>) -> Self {
        let engine = Engine::open(Arc::clone(&kv) as SharedKv, EngineOptions::default()).expect("opens");
        Self { kv, engine }
    }

    fn staged(&self, mail: &str) -> Arc<StagedMessage> {
        let mut staging = self.engine.stage();
        staging.write(mail.as_bytes()).expect("taken");
        staging.finish().expect("staged")
    }

    fn send(&self, mail: &str, outbound: Outbound) -> QueueId {
        let command = Command::Dispatch {
            message: Some(self.staged(mail)),
            deliveries: Vec::new(),
            outbound: vec![outbound],
            settled: Vec::new(),
        };
        let outcome = self.engine.execute(NOW, command).expect("accepted");
        let Outcome::Dispatched { queued, .. } = outcome else { unreachable!("dispatched") };
        queued[0]
    }

    fn settle(&self, lease: &Lease, fates: Vec<(usize, Fate)>, due_ms: u64) {
        let settled = Settled { message: lease.message, task: lease.task, fates, due_ms, delay_told: false };
        let command =
            Command::Dispatch { message: None, deliveries: Vec::new(), outbound: Vec::new(), settled: vec![settled] };
        self.engine.execute(NOW, command).expect("noted");
    }

    fn edit(&self, message: QueueId, edit: Edit) -> Result<Outcome, EngineError> {
        self.engine.execute(NOW, Command::EditQueue { message, edit, owner: None })
    }

    fn lease(&self, now_ms: u64) -> Vec<Lease> {
        self.engine.lease(now_ms, usize::MAX, &mut |_| usize::MAX).expect("leased")
    }

    fn fsck(&self) {
        let summary = self.engine.fsck(false, &mut |finding| panic!("{finding}")).expect("looked");
        assert!(summary.is_clean());
    }
}

fn outbound(received_ms: u64, recipients: &[(&str, &str)]) -> Outbound {
    let recipient = |(address, hop): &(&str, &str)| OutboundRecipient {
        address: (*address).to_owned(),
        next_hop: (*hop).to_owned(),
        ..OutboundRecipient::default()
    };
    Outbound {
        reverse_path: "ada@rockdove.test".into(),
        id: format!("m{received_ms}"),
        relayed: received_ms.is_multiple_of(2),
        received_ms,
        prefix: Bytes::from_static(b"Received: here\r\n"),
        recipients: recipients.iter().map(recipient).collect(),
        ..Outbound::default()
    }
}

#[test]
fn a_message_leaves_by_each_hop_once() {
    let house = House::new();
    let body = format!("Subject: hello\r\n\r\n{}", "a line of text\r\n".repeat(1_000));
    let id = house.send(&body, outbound(1_000, &[("x@a", "a.example"), ("y@b", "b.example"), ("z@a", "a.example")]));
    assert!(house.lease(999).is_empty(), "nothing is due yet");
    let leases = house.lease(1_000);
    assert_eq!(leases.len(), 2);
    let addresses = |lease: &Lease| lease.state.waiting().map(|(_, to)| to.address.clone()).collect::<Vec<_>>();
    assert_eq!(leases.iter().map(addresses).collect::<Vec<_>>(), [vec!["x@a", "z@a"], vec!["y@b"]]);
    assert!(house.lease(5_000).is_empty(), "what somebody works on is nobody else's");
    let record = house.engine.queue_record(id).expect("there");
    let read = house.engine.read(rockdove_engine::AccountId(0), &record, 0..u64::MAX).expect("read");
    assert_eq!(read, format!("Received: here\r\n{body}"));
    house.fsck();
    // One of the two is served, the other waits.
    let fates = vec![(0, Fate::Delivered("250 ok".into())), (1, Fate::Deferred("451 later".into()))];
    house.settle(&leases[0], fates, 9_000);
    house.settle(&leases[1], vec![(0, Fate::Failed("550 no".into()))], 0);
    let left = house.engine.queued(id).expect("it waits");
    assert_eq!(left.tasks.len(), 1);
    assert_eq!(
        left.tasks[0].1.recipients.iter().map(|to| to.state).collect::<Vec<_>>(),
        [RecipientState::Delivered, RecipientState::Waiting]
    );
    assert_eq!(left.tasks[0].1.recipients[1].reply, "451 later");
    assert!(house.lease(8_999).is_empty());
    let again = house.lease(9_000);
    assert_eq!(addresses(&again[0]), ["z@a"]);
    assert_eq!(again[0].state.attempts, 1);
    house.settle(&again[0], vec![(1, Fate::Delivered("250 ok".into()))], 0);
    assert!(house.engine.queued(id).is_err());
    assert_eq!(house.engine.queue_use().messages, 0);
    house.fsck();
    // Its part is nobody's now.
    assert_eq!(house.engine.collect_parts(NOW + 1_000_000, 100).expect("collected"), 1);
    house.fsck();
}

#[test]
fn hops_are_taken_as_far_as_they_are_wanted() {
    let house = House::new();
    for number in 0..10 {
        house.send("A: b\r\n\r\n", outbound(number, &[("x@a", "a.example"), ("y@b", "b.example")]));
    }
    let mut asked = Vec::new();
    let leases = house.engine.lease(100, 100, &mut |hop| {
        asked.push(hop.to_owned());
        if hop == "a.example" { 3 } else { 0 }
    });
    assert_eq!(leases.expect("leased").len(), 3);
    assert_eq!(asked, ["a.example", "b.example"]);
    assert_eq!(house.lease(100).len(), 17);
}

#[test]
fn somebody_is_woken_when_something_is_due_earlier() {
    let house = House::new();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    house.engine.on_queue(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    for (due, expected) in [(500, 1), (600, 1), (400, 2)] {
        house.send("A: b\r\n\r\n", outbound(due, &[("x@a", "a.example")]));
        assert_eq!(woken.load(Ordering::Relaxed), expected);
        assert_eq!(house.engine.queue_use().next_due_ms, Some(if due < 500 { due } else { 500 }));
    }
}

#[test]
fn what_is_worked_on_is_not_changed() {
    let house = House::new();
    let id = house.send("A: b\r\n\r\n", outbound(0, &[("x@a", "a.example")]));
    let lease = house.lease(0).remove(0);
    assert!(matches!(house.edit(id, Edit::Cancel), Err(EngineError::Unavailable(_))));
    house.engine.return_lease(&lease);
    house.edit(id, Edit::Cancel).expect("cancelled");
    assert!(house.lease(u64::MAX).is_empty());
    assert!(matches!(house.edit(id, Edit::Hold), Err(EngineError::NotFound(_))));
    house.fsck();
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

/// A task as the model knows it: what waits, when, and whether it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    hop: String,
    due: u64,
    held: bool,
    waiting: BTreeSet<String>,
}

type Tasks = BTreeMap<(QueueId, u16), Model>;

fn expected_due(
    tasks: &Tasks,
    leased: &BTreeSet<(QueueId, u16)>,
    now: u64,
) -> BTreeMap<(QueueId, u16), BTreeSet<String>> {
    let is_due = |(key, task): &(&(QueueId, u16), &Model)| !task.held && task.due <= now && !leased.contains(key);
    tasks.iter().filter(is_due).map(|(key, task)| (*key, task.waiting.clone())).collect()
}

fn found(leases: &[Lease]) -> BTreeMap<(QueueId, u16), BTreeSet<String>> {
    let waiting = |lease: &Lease| lease.state.waiting().map(|(_, to)| to.address.clone()).collect();
    leases.iter().map(|lease| ((lease.message, lease.task), waiting(lease))).collect()
}

struct Run {
    house: House,
    dice: Dice,
    tasks: Tasks,
    /// As it was before the last write.
    before: Tasks,
    leases: Vec<Lease>,
    now: u64,
}

impl Run {
    fn leased(&self) -> BTreeSet<(QueueId, u16)> {
        self.leases.iter().map(|lease| (lease.message, lease.task)).collect()
    }

    fn step(&mut self) {
        self.now += self.dice.roll(50);
        match self.dice.roll(10) {
            0..=2 => self.send(),
            3..=4 => self.take(),
            5..=7 => self.settle(),
            8 => self.edit(),
            _ => self.crash(),
        }
    }

    fn send(&mut self) {
        let recipients: Vec<(String, &str)> = (0..=self.dice.roll(250))
            .map(|number| (format!("r{number}@x"), HOPS[self.dice.roll(4) as usize]))
            .collect();
        let pairs: Vec<(&str, &str)> = recipients.iter().map(|(address, hop)| (address.as_str(), *hop)).collect();
        let due = self.now + self.dice.roll(100);
        self.before = self.tasks.clone();
        let text = format!("Subject: {}\r\n\r\n{}", self.now, "x\r\n".repeat(self.dice.roll(3) as usize * 2_000));
        let id = self.house.send(&text, outbound(due, &pairs));
        let mut all = BTreeSet::new();
        for (number, task) in self.house.engine.queued(id).expect("there").tasks {
            let waiting: BTreeSet<String> = task.waiting().map(|(_, to)| to.address.clone()).collect();
            assert!(waiting.len() <= 100);
            for address in &waiting {
                assert!(pairs.contains(&(address.as_str(), task.next_hop.as_str())));
                assert!(all.insert(address.clone()), "each recipient once");
            }
            self.tasks.insert((id, number), Model { hop: task.next_hop, due, held: false, waiting });
        }
        assert_eq!(all.len(), pairs.len());
    }

    fn take(&mut self) {
        let expected = expected_due(&self.tasks, &self.leased(), self.now);
        let leases = self.house.lease(self.now);
        assert_eq!(found(&leases), expected);
        self.leases.extend(leases);
    }

    fn settle(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(self.dice.roll(self.leases.len() as u64) as usize);
        if self.dice.roll(5) == 0 {
            return self.house.engine.return_lease(&lease);
        }
        self.before = self.tasks.clone();
        let due = self.now + self.dice.roll(200);
        let key = (lease.message, lease.task);
        let task = self.tasks.get_mut(&key).expect("known");
        let mut fates = Vec::new();
        for (place, to) in lease.state.waiting() {
            let fate = match self.dice.roll(4) {
                0 => Fate::Deferred("451".into()),
                1 => Fate::Failed("550".into()),
                _ => Fate::Delivered("250".into()),
            };
            if !matches!(fate, Fate::Deferred(_)) {
                task.waiting.remove(&to.address);
            }
            fates.push((place, fate));
        }
        task.due = due;
        if task.waiting.is_empty() {
            self.tasks.remove(&key);
        }
        self.house.settle(&lease, fates, due);
    }

    fn edit(&mut self) {
        let ids: BTreeSet<QueueId> = self.tasks.keys().map(|(id, _)| *id).collect();
        let Some(id) = ids.iter().nth(self.dice.roll(ids.len().max(1) as u64) as usize).copied() else { return };
        let (now, kind) = (self.now, self.dice.roll(5));
        let edit = match kind {
            0 => Edit::Hold,
            1 => Edit::Release(now),
            2 => Edit::Retry(now),
            3 => Edit::Reroute("other.example".into(), now),
            _ => Edit::Cancel,
        };
        let before = self.tasks.clone();
        match self.house.edit(id, edit) {
            Ok(_) => self.before = before,
            Err(EngineError::Unavailable(_)) => {
                return assert!(self.leases.iter().any(|lease| lease.message == id), "it is worked on");
            }
            Err(error) => panic!("{error}"),
        }
        let mine = |(message, _): &(QueueId, u16)| *message == id;
        for (_, task) in self.tasks.iter_mut().filter(|(key, _)| mine(key)) {
            match kind {
                0 => task.held = true,
                1 => {
                    task.due = if task.held { now } else { task.due };
                    task.held = false;
                }
                2 => task.due = now,
                3 => (task.hop, task.due) = ("other.example".into(), now),
                _ => {}
            }
        }
        if kind == 4 {
            self.tasks.retain(|key, _| !mine(key));
        }
    }

    /// The machine dies, perhaps without the last write; nobody works on anything then.
    fn crash(&mut self) {
        let writes = self.house.kv.writes();
        let lost = self.dice.roll(3) == 0 && writes > 0;
        let image = self.house.kv.crash_image(writes - usize::from(lost), self.dice.roll(1 << 30));
        let there = House::open(Arc::new(image));
        let expected = if lost { self.before.clone() } else { self.tasks.clone() };
        let ids: BTreeSet<QueueId> = expected.keys().map(|(id, _)| *id).collect();
        let (shown, _) = there.engine.queued_from(QueueId(0), usize::MAX, &Selection::default()).expect("listed");
        assert_eq!(shown.iter().map(|message| message.id).collect::<BTreeSet<_>>(), ids);
        assert_eq!(there.engine.queue_use().messages, ids.len() as u64);
        assert_eq!(found(&there.lease(u64::MAX)), expected_due(&expected, &BTreeSet::new(), u64::MAX));
        there.fsck();
        if !lost {
            self.leases.clear();
            self.house = House::open(Arc::clone(&self.house.kv));
        }
    }
}

#[test]
fn random_runs_equal_the_model() {
    for seed in 1..=40 {
        let mut run = Run {
            house: House::new(),
            dice: Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15)),
            tasks: Tasks::new(),
            before: Tasks::new(),
            leases: Vec::new(),
            now: 1_000,
        };
        for _ in 0..120 {
            run.step();
        }
        run.take();
        run.house.fsck();
    }
}
