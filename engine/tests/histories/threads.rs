//! Many threads, one engine, one committer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rockdove_engine::{
    AccountId, ChangeNotice, Command, Delivery, EngineOptions, InternalDate, MailboxId, Outcome,
    kv::{Batch, Durability, Family, Kv, KvError, Read, SharedKv, Visit, memory::MemoryKv},
};
use rockdove_mail::{
    FlagUpdate, Flags, MailboxName, SystemFlags, UidSet,
    search::{SearchField, SearchKey},
};

use crate::{
    agree::NOW,
    history::{House, Rng, attached, keeping, mail},
    model::Act,
};

const THREADS: usize = 16;
const ROUNDS: usize = 40;

/// A disk that takes two milliseconds to sync, and counts.
#[derive(Debug, Default)]
struct SlowKv {
    inner: MemoryKv,
    syncs: AtomicUsize,
}

impl Read for SlowKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<bytes::Bytes>, KvError> {
        self.inner.get(family, key)
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<bytes::Bytes>>, KvError> {
        self.inner.multi_get(family, keys)
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        self.inner.scan(family, from, to, visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        self.inner.scan_back(family, from, to, visit)
    }
}

impl Kv for SlowKv {
    fn snapshot(&self) -> Box<dyn Read + '_> {
        self.inner.snapshot()
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        if durability == Durability::Synced {
            thread::sleep(Duration::from_millis(2));
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.write(batch, durability)
    }
}

fn accounts(house: &House, count: usize) -> Vec<AccountId> {
    house.engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
    let add = |number| Act::AddAccount { address: format!("u{number}@a.example"), quota: None };
    let id = |outcome| if let Outcome::Account(id) = outcome { id } else { panic!("{outcome:?}") };
    (0..count).map(|number| id(house.perform(NOW, &add(number)).expect("accepted"))).collect()
}

/// Submits and waits, as a session does: the committer answers.
fn ask(house: &House, command: Command) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    house.engine.submit(NOW, command, Box::new(move |answer| sender.send(answer).expect("somebody waits")));
    receiver.recv().expect("answered").expect("accepted")
}

/// Delivers to the thread's own account and to one that all share, then marks and moves what came to its own.
fn work(house: &House, own: AccountId, shared: AccountId, thread: usize) -> BTreeMap<u32, Vec<u8>> {
    let mut told = BTreeMap::new();
    for round in 0..ROUNDS {
        let content = mail((thread * ROUNDS + round) as u64, 200 + 97 * (round % 60));
        let to = |account| Delivery {
            account,
            mailbox: MailboxName::inbox(),
            trace_header: bytes::Bytes::new(),
            flags: Flags::default(),
            internal_date: InternalDate::default(),
        };
        let message = house.stage(&content).expect("staged");
        let outcome = ask(house, Command::Deliver { message, deliveries: vec![to(own), to(shared)] });
        let Outcome::Delivered(delivered) = outcome else { panic!("{outcome:?}") };
        assert!(told.insert(delivered[1].uid, content).is_none(), "no UID comes twice");
        let uids = UidSet::range(delivered[0].uid, delivered[0].uid);
        let (account, mailbox) = (own, delivered[0].mailbox);
        let flags = Flags::system(SystemFlags::SEEN);
        let update = FlagUpdate::Add;
        ask(house, Command::StoreFlags { account, mailbox, uids: uids.clone(), update, flags, unchanged_since: None });
        let outcome = ask(house, Command::Move { account, from: mailbox, uids, to: MailboxId(4) });
        assert!(matches!(outcome, Outcome::Copied { to, .. } if to == [round as u32 + 1]));
    }
    told
}

#[test]
fn many_threads_share_syncs_and_get_what_they_were_told() {
    let kv = Arc::new(SlowKv::default());
    let options = EngineOptions { segment_cache_bytes_max: 40_000, ..keeping() };
    let house = House::open(Arc::clone(&kv) as SharedKv, options);
    let ids = accounts(&house, THREADS + 1);
    let (shared, notices) = (ids[THREADS], Arc::new(Mutex::new(Vec::<ChangeNotice>::new())));
    let heard = Arc::clone(&notices);
    house.engine.on_change(Box::new(move |some| heard.lock().expect("whole").extend_from_slice(some)));
    let before = kv.syncs.load(Ordering::Relaxed);
    let stop = AtomicBool::new(false);
    let told = thread::scope(|scope| {
        let (house, stop, ids) = (&house, &stop, &ids);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                house.engine.commit_pending(Duration::from_millis(5));
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                house.check("beside traffic");
                house.engine.collect_parts(NOW * 2, 100).expect("collects");
                house.engine.rebuild(Some(shared)).expect("rebuilds");
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for account in ids {
                    house.engine.catch_up(*account, true).expect("a slice");
                }
                house.engine.search(shared, MailboxId(1), &subject("m1")).expect("searched");
            }
        });
        let workers: Vec<_> = ids[..THREADS]
            .iter()
            .enumerate()
            .map(|(number, own)| scope.spawn(move || work(house, *own, shared, number)))
            .collect();
        let told: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        told.into_iter().flat_map(|told| told.expect("no worker fails")).collect::<Vec<_>>()
    });
    let (syncs, commands) = (kv.syncs.load(Ordering::Relaxed) - before, 3 * THREADS * ROUNDS);
    assert!(syncs * 2 < commands, "{commands} commands took {syncs} syncs");
    let unique: BTreeSet<u32> = told.iter().map(|(uid, _)| *uid).collect();
    assert_eq!(unique, (1..=(THREADS * ROUNDS) as u32).collect());
    let view = house.engine.mailbox(shared, MailboxId(1)).expect("there");
    for (uid, content) in &told {
        let entry = view.entry(*uid).expect("there");
        let record = house.engine.record(shared, entry.message).expect("there");
        assert!(house.engine.read(shared, &record, 0..u64::MAX).expect("readable") == content[..], "UID {uid}");
    }
    assert_in_order(&notices.lock().expect("whole"), &ids);
    house.check("afterwards");
    house.catch_up(shared);
    for needle in ["m1", "m", "99", "nothing"] {
        let found = house.engine.search(shared, MailboxId(1), &subject(needle));
        assert_eq!(found, house.engine.search_by_reading(shared, MailboxId(1), &subject(needle)), "{needle}");
    }
    house.check("caught up");
}

fn subject(needle: &str) -> SearchKey {
    SearchKey::Text(SearchField::Subject, needle.to_owned())
}

/// For each account the mod-sequences rise, and the last one is the account's.
fn assert_in_order(notices: &[ChangeNotice], ids: &[AccountId]) {
    for id in ids {
        let heard: Vec<u64> =
            notices.iter().filter(|notice| notice.account == *id).map(|notice| notice.modseq).collect();
        assert!(heard.is_sorted_by(|a, b| a < b), "account {}: {heard:?}", id.0);
        let expected = if *id == ids[THREADS] { THREADS * ROUNDS } else { 3 * ROUNDS };
        assert_eq!(heard.last().copied(), Some(1 + expected as u64), "account {}", id.0);
    }
}

#[test]
fn threads_commit_for_each_other_when_nobody_else_does() {
    let kv = Arc::new(SlowKv::default());
    let house = House::open(Arc::clone(&kv) as SharedKv, keeping());
    let ids = accounts(&house, 2);
    let before = kv.syncs.load(Ordering::Relaxed);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (house, account) = (&house, ids[number % 2]);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let name = MailboxName::new(&format!("{number}/{round}")).expect("a name");
                    let create = Act::Create { account, name: name.clone(), special_use: None };
                    house.perform(NOW, &create).expect("accepted");
                    assert!(
                        house.engine.mailboxes(account).expect("there").by_name(&name).is_some(),
                        "shown when told"
                    );
                }
            });
        }
    });
    let (syncs, commands) = (kv.syncs.load(Ordering::Relaxed) - before, THREADS * ROUNDS);
    assert!(syncs * 2 < commands, "{commands} commands took {syncs} syncs");
    house.check("afterwards");
}

/// Brings equal attachments and expunges them again, so that parts are found, needed and let go of all the time.
fn come_and_go(house: &House, own: AccountId, thread: usize) {
    let mut rng = Rng(thread as u64);
    for _ in 0..40 {
        let octets = if rng.one_in(3) { 400_000 } else { 8_000 };
        let content = attached(&mut rng, octets);
        let message = house.stage(&content).expect("staged");
        if rng.one_in(5) {
            continue;
        }
        let delivery = Delivery {
            account: own,
            mailbox: MailboxName::inbox(),
            trace_header: bytes::Bytes::new(),
            flags: Flags::default(),
            internal_date: InternalDate::default(),
        };
        let outcome = house.engine.execute(NOW, Command::Deliver { message, deliveries: vec![delivery] });
        let Ok(Outcome::Delivered(delivered)) = outcome else { panic!("{outcome:?}") };
        let record = house.engine.record(own, delivered[0].message).expect("record");
        assert!(house.engine.read(own, &record, 0..u64::MAX).expect("readable") == content);
        if rng.one_in(2) {
            let (account, mailbox) = (own, delivered[0].mailbox);
            let expunge = Command::Expunge { account, mailbox, uids: None, deleted_only: false };
            house.engine.execute(NOW, expunge).expect("accepted");
        }
    }
}

#[test]
fn equal_attachments_come_and_go_while_parts_are_collected() {
    let house = House::open(Arc::new(MemoryKv::new()) as SharedKv, EngineOptions::default());
    let ids = accounts(&house, 4);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (house, stop) = (&house, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                house.engine.collect_parts(NOW * 2, 100).expect("collects");
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                house.check("beside collection");
            }
        });
        let workers: Vec<_> =
            ids.iter().enumerate().map(|(number, own)| scope.spawn(move || come_and_go(house, *own, number))).collect();
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        for worker in ended {
            worker.expect("no worker fails");
        }
    });
    for account in ids {
        let expunge = Command::Expunge { account, mailbox: MailboxId(1), uids: None, deleted_only: false };
        house.engine.execute(NOW, expunge).expect("accepted");
    }
    house.check("at the end");
    house.engine.collect_parts(NOW * 2, usize::MAX).expect("collects");
    house.check("when all is gone");
    assert_eq!(house.engine.stats().expect("adds up").waiting_bytes, 0);
}
