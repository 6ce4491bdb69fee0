//! The engine on RocksDB: durable delivery from many threads, and what sessions ask most.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Delivery, Engine, EngineOptions, InternalDate, MailboxId, Outcome,
    StagedMessage,
    kv::{
        SharedKv,
        rocks::{RocksKv, RocksOptions},
    },
};
use rockdove_mail::{FlagUpdate, Flags, MailboxName, SystemFlags, UidSet};
use tempfile::TempDir;

const NOW: i64 = 1_800_000_000;
/// INBOX is the first mailbox of every account.
const INBOX: MailboxId = MailboxId(1);
/// SMTP sessions that deliver at the same time.
const SESSIONS: usize = 20;
/// Messages of each in one round.
const MESSAGES: usize = 25;
const MESSAGE_BYTES: usize = 4 * 1024;
const ACCOUNTS: u64 = 100;

struct House {
    engine: Arc<Engine>,
    kv: SharedKv,
    accounts: Vec<AccountId>,
    _folder: TempDir,
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").finish_non_exhaustive()
    }
}

fn house(accounts: u64) -> House {
    // Beside the build, which is on a disk; the folder for temporary files often is not.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let kv: SharedKv = Arc::new(RocksKv::open(folder.path(), &RocksOptions::default()).expect("opens"));
    let engine = Engine::open(Arc::clone(&kv), EngineOptions::default()).expect("opens");
    engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
    let account = |number| {
        let (address, credential) = (format!("u{number}@a.example"), credential());
        match engine.execute(NOW, Command::CreateAccount { address, credential, quota_bytes: None }) {
            Ok(Outcome::Account(id)) => id,
            other => panic!("{other:?}"),
        }
    };
    let accounts = (0..accounts).map(account).collect();
    House { engine, kv, accounts, _folder: folder }
}

fn credential() -> Credential {
    Credential {
        argon2: "!".into(),
        scram_salt: vec![1],
        scram_iterations: 4096,
        scram_stored_key: [1; 32],
        scram_server_key: [2; 32],
    }
}

/// A message that no other is like, of words that compress as mail does.
fn mail(number: u64) -> Vec<u8> {
    let mut mail = format!(
        "From: Anna <anna@b.example>\r\nTo: u@a.example\r\nSubject: report {number}\r\nMessage-ID: <{number}@b.example>\r\n\
         Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n\r\n"
    );
    let mut state = number;
    while mail.len() < MESSAGE_BYTES {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        mail += ["meeting ", "budget ", "please ", "tomorrow\r\n"][(state >> 60) as usize % 4];
        write!(mail, "{:x} ", state >> 48).expect("written to memory");
    }
    mail.truncate(MESSAGE_BYTES);
    mail.into_bytes()
}

fn staged(engine: &Engine, number: u64) -> Arc<StagedMessage> {
    let mut staging = engine.stage();
    staging.write(&mail(number)).expect("taken");
    staging.finish().expect("staged")
}

fn delivery(account: AccountId) -> Delivery {
    Delivery {
        account,
        mailbox: MailboxName::inbox(),
        trace_header: "Return-Path: <anna@b.example>\r\nDelivered-To: u@a.example\r\n".into(),
        flags: Flags::default(),
        internal_date: InternalDate { unix_s: NOW, offset_minutes: 0 },
    }
}

/// Every session waits for its answer before it sends the next message.
fn deliver(house: &House, numbers: &AtomicU64) {
    for _ in 0..MESSAGES {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let message = staged(&house.engine, number);
        let account = house.accounts[usize::try_from(number % ACCOUNTS).unwrap_or_default()];
        let deliveries = vec![delivery(account)];
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = Box::new(move |answer| drop(sender.send(answer)));
        house.engine.submit(NOW, Command::Deliver { message, deliveries }, done);
        receiver.recv().expect("answered").expect("accepted");
    }
}

fn delivering(criterion: &mut Criterion) {
    let house = house(ACCOUNTS);
    let (numbers, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                house.engine.commit_pending(Duration::from_millis(5));
            }
        });
        let mut group = criterion.benchmark_group("deliver");
        group.throughput(Throughput::Elements((SESSIONS * MESSAGES) as u64)).sample_size(20);
        group.bench_function("4 KiB, durable, 20 sessions", |bencher| {
            bencher.iter(|| {
                thread::scope(|sessions| {
                    for _ in 0..SESSIONS {
                        sessions.spawn(|| deliver(&house, &numbers));
                    }
                });
            });
        });
        group.finish();
        stop.store(true, Ordering::Relaxed);
    });
}

/// An INBOX with this many messages.
fn full_house(messages: usize) -> House {
    let house = house(1);
    let message = staged(&house.engine, 1);
    let internal_date = InternalDate { unix_s: NOW, offset_minutes: 0 };
    let one = AppendMessage { message, flags: Flags::default(), internal_date };
    for _ in 0..messages / 1_000 {
        let messages = vec![one.clone(); 1_000];
        let append = Command::Append { account: house.accounts[0], mailbox: INBOX, messages };
        house.engine.execute(NOW, append).expect("accepted");
    }
    house
}

fn large_mailbox(criterion: &mut Criterion) {
    let house = full_house(100_000);
    let account = house.accounts[0];
    let mut group = criterion.benchmark_group("100,000 messages");
    group.sample_size(20);
    group.bench_function("SELECT, cold", |bencher| {
        bencher.iter(|| {
            let engine = Engine::open(Arc::clone(&house.kv), EngineOptions::default()).expect("opens");
            engine.mailbox(account, INBOX).expect("there")
        });
    });
    let view = house.engine.mailbox(account, INBOX).expect("there");
    let all = UidSet::range(1, u32::MAX);
    group.bench_function("FETCH 1:* FLAGS", |bencher| {
        bencher.iter(|| view.entries(&all).map(|entry| entry.modseq).max());
    });
    let mut update = FlagUpdate::Add;
    let mut store = |uids: &UidSet| {
        update = if update == FlagUpdate::Add { FlagUpdate::Remove } else { FlagUpdate::Add };
        let (uids, flags) = (uids.clone(), Flags::system(SystemFlags::FLAGGED));
        let command = Command::StoreFlags { account, mailbox: INBOX, uids, update, flags, unchanged_since: None };
        house.engine.execute(NOW, command).expect("accepted")
    };
    let one = UidSet::range(70_000, 70_000);
    group.bench_function("STORE one flag, durable", |bencher| bencher.iter(|| store(&one)));
    group.bench_function("STORE 1:* +FLAGS, durable", |bencher| bencher.iter(|| store(&all)));
    group.bench_function("fsck", |bencher| {
        bencher.iter(|| house.engine.fsck(false, &mut |finding| panic!("{finding}")));
    });
    group.finish();
}

criterion_group!(benches, delivering, large_mailbox);
criterion_main!(benches);
