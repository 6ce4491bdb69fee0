//! What real messages take on disk.
//!
//! `cargo run -p rockdove-benches --example size -- FOLDER [messages]` delivers the messages of a folder to 20 accounts,
//! again and again when more are wanted, and prints octets: of the rows of each family, of the folder once all is
//! flushed, and once all is compacted.
#![allow(clippy::print_stdout, reason = "a measurement prints")]

use std::{env, error::Error, fs, ops::ControlFlow, path::Path, sync::Arc};

use rockdove_benches::corpus::Corpus;
use rockdove_engine::{
    AccountId, Command, Credential, Delivery, Engine, EngineOptions, InternalDate, Outcome,
    kv::{
        Family, SharedKv,
        rocks::{RocksKv, RocksOptions},
    },
};
use rockdove_mail::{Flags, MailboxName};

const NOW: i64 = 1_800_000_000;
const ACCOUNTS: u64 = 20;
/// Every message once.
const MESSAGES_DEFAULT: u64 = 4_650;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let folder = arguments.first().ok_or("usage: size FOLDER [messages]")?;
    let count = arguments.get(1).map_or(Ok(MESSAGES_DEFAULT), |count| count.parse())?;
    let corpus = Corpus::read(Path::new(folder))?;
    let place = tempfile::tempdir_in(env::current_dir()?)?;
    let rocks = Arc::new(RocksKv::open(place.path(), &RocksOptions::default())?);
    let kv: SharedKv = Arc::clone(&rocks) as SharedKv;
    let engine = Engine::open(Arc::clone(&kv), EngineOptions::default())?;
    let octets = fill(&engine, &corpus, count)?;
    println!("{count} messages of {octets} octets");
    for family in Family::ALL {
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        kv.scan(family, &[], &[0xff; 32], &mut |key, row| {
            rows += 1;
            bytes += (key.len() + row.len()) as u64;
            ControlFlow::Continue(())
        })?;
        println!("{:>10}: {rows:>8} rows {bytes:>12} octets", family.name());
    }
    drop(engine);
    rocks.compact()?;
    let figures = rocks.figures();
    println!("compacted: {} of tables, {} of blobs", figures.table_bytes, figures.blob_bytes);
    println!("on disk, without the log: {} octets", figures.table_bytes + figures.blob_bytes);
    println!("folder: {} octets", folder_bytes(place.path())?);
    Ok(())
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let sizes = fs::read_dir(folder)?.map(|entry| Ok::<u64, std::io::Error>(entry?.metadata()?.len()));
    Ok(sizes.sum::<std::io::Result<u64>>()?)
}

fn accounts(engine: &Engine) -> Result<Vec<AccountId>> {
    engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() })?;
    let account = |number| {
        let credential = Credential {
            argon2: "!".into(),
            scram_salt: vec![1],
            scram_iterations: 4096,
            scram_stored_key: [1; 32],
            scram_server_key: [2; 32],
        };
        let address = format!("u{number}@a.example");
        match engine.execute(NOW, Command::CreateAccount { address, credential, quota_bytes: None })? {
            Outcome::Account(account) => Ok(account),
            other => Err(format!("{other:?}").into()),
        }
    };
    (0..ACCOUNTS).map(account).collect()
}

/// Delivers the messages, and answers their octets.
fn fill(engine: &Engine, corpus: &Corpus, count: u64) -> Result<u64> {
    let accounts = accounts(engine)?;
    let mut octets = 0;
    for number in 0..count {
        let message = corpus.message(number);
        let trace = format!("Received: from peer by here id {number:016x}; Fri, 15 Jan 2027 08:00:00 +0000\r\n");
        octets += (trace.len() + message.len()) as u64;
        let mut staging = engine.stage();
        staging.write(&message)?;
        let account = accounts.get(usize::try_from(number % ACCOUNTS)?).copied().ok_or("an account")?;
        let delivery = Delivery {
            account,
            mailbox: MailboxName::inbox(),
            trace_header: trace.into_bytes().into(),
            flags: Flags::default(),
            internal_date: InternalDate { unix_s: NOW, offset_minutes: 0 },
        };
        engine.execute(NOW, Command::Deliver { message: staging.finish()?, deliveries: vec![delivery] })?;
    }
    Ok(octets)
}
