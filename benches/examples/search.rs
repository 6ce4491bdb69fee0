//! What searching a large mailbox costs: with the texts, and by reading every message, in the same run.
//!
//! `cargo run --release -p rockdove-benches --example search -- FOLDER [messages]` fills a mailbox with the messages of
//! a folder, again and again, each time with a word of its own in the header. Prints medians in milliseconds.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads the clock and prints")]

use std::{
    env,
    error::Error,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rockdove_benches::corpus::Corpus;
use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Engine, EngineOptions, InternalDate, MailboxId, Outcome,
    kv::{
        Family, SharedKv, keys,
        rocks::{RocksKv, RocksOptions},
    },
};
use rockdove_mail::{
    Flags,
    search::{DateField, Day, SearchField, SearchKey, SortCriterion, SortKey, ThreadAlgorithm},
};

const NOW: i64 = 1_800_000_000;
const INBOX: MailboxId = MailboxId(1);
const MESSAGES_DEFAULT: u64 = 20_200;
const ROUNDS: usize = 21;
const ROUNDS_BY_READING: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let folder = arguments.first().ok_or("usage: search FOLDER [messages]")?;
    let count = arguments.get(1).map_or(Ok(MESSAGES_DEFAULT), |count| count.parse())?;
    let corpus = Corpus::read(Path::new(folder))?;
    let place = tempfile::tempdir_in(env::current_dir()?)?;
    let kv: SharedKv = Arc::new(RocksKv::open(place.path(), &RocksOptions::default())?);
    let engine = Engine::open(Arc::clone(&kv), EngineOptions::default())?;
    let account = account(&engine)?;
    let octets = fill(&engine, account, &corpus, count)?;
    let (took, slowest) = catch_up(&engine, account)?;
    println!("{count} messages of {} octets on average", octets / count);
    println!("taken in at {:.0} messages/s, slowest slice {slowest:.0?}", as_f64(count) / took.as_secs_f64());
    sizes(&kv, account, octets)?;
    order(&engine, account)?;
    for (name, key) in questions() {
        let (fast, found) = median(ROUNDS, || Ok(engine.search(account, INBOX, &key)?))?;
        let (slow, same) = median(ROUNDS_BY_READING, || Ok(engine.search_by_reading(account, INBOX, &key)?))?;
        assert_eq!(found, same, "{name}");
        let ratio = slow.as_secs_f64() / fast.as_secs_f64();
        println!(
            "{name}: {:.2} ms, by reading {:.0} ms, ratio {ratio:.0}, {} found",
            fast.as_secs_f64() * 1e3,
            slow.as_secs_f64() * 1e3,
            found.len()
        );
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// SORT and THREAD of the whole mailbox, with its sort keys in memory.
fn order(engine: &Engine, account: AccountId) -> Result<()> {
    let view = engine.mailbox(account, INBOX)?;
    let by = |key: SortKey, reverse: bool| vec![SortCriterion { key, reverse }];
    for (name, criteria) in [
        ("SORT (REVERSE DATE)", by(SortKey::Date, true)),
        ("SORT (SUBJECT)", by(SortKey::Subject, false)),
        ("SORT (DISPLAYFROM)", by(SortKey::DisplayFrom, false)),
        ("SORT (SIZE)", by(SortKey::Size, false)),
    ] {
        let sort = || Ok(engine.sort_view(account, &view, &SearchKey::All, &criteria)?);
        let (took, found) = median(ROUNDS, sort)?;
        println!("{name}: {:.2} ms, {} found", took.as_secs_f64() * 1e3, found.len());
    }
    for algorithm in [ThreadAlgorithm::References, ThreadAlgorithm::OrderedSubject] {
        let thread = || {
            let nodes = engine.thread_view(account, &view, &SearchKey::All, algorithm)?;
            Ok(nodes.iter().filter_map(|node| node.uid).collect::<Vec<_>>())
        };
        let (took, found) = median(ROUNDS, thread)?;
        println!("THREAD {algorithm:?}: {:.2} ms, {} found", took.as_secs_f64() * 1e3, found.len());
    }
    Ok(())
}

fn questions() -> Vec<(&'static str, SearchKey)> {
    let text = |field: SearchField, needle: &str| SearchKey::Text(field, needle.to_owned());
    vec![
        ("BODY linux", text(SearchField::Body, "linux")),
        ("TEXT \"free software\"", text(SearchField::Text, "free software")),
        ("BODY \"free software\"", text(SearchField::Body, "free software")),
        ("BODY ernelhack", text(SearchField::Body, "ernelhack")),
        ("SUBJECT linux", text(SearchField::Subject, "linux")),
        ("SINCE 1-Jan-2002", SearchKey::Since(DateField::Internal, Day { days_since_epoch: 11_688 })),
        ("BODY in", text(SearchField::Body, "in")),
        ("BODY \"see the attached\"", text(SearchField::Body, "see the attached")),
        ("TEXT nowheretobefound", text(SearchField::Text, "nowheretobefound")),
        ("HEADER List-Id linux", text(SearchField::Header("List-Id".to_owned()), "linux")),
        ("BODY \"--\"", text(SearchField::Body, "--")),
        (
            "OR FROM linux NOT BODY linux",
            SearchKey::Or(
                Box::new(text(SearchField::From, "linux")),
                Box::new(SearchKey::Not(Box::new(text(SearchField::Body, "linux")))),
            ),
        ),
    ]
}

fn account(engine: &Engine) -> Result<AccountId> {
    engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() })?;
    let credential = Credential {
        argon2: "!".into(),
        scram_salt: vec![1],
        scram_iterations: 4096,
        scram_stored_key: [1; 32],
        scram_server_key: [2; 32],
    };
    let command = Command::CreateAccount { address: "u@a.example".into(), credential, quota_bytes: None };
    match engine.execute(NOW, command)? {
        Outcome::Account(account) => Ok(account),
        other => Err(format!("{other:?}").into()),
    }
}

/// Appends the messages, and answers their octets.
fn fill(engine: &Engine, account: AccountId, corpus: &Corpus, count: u64) -> Result<u64> {
    let (mut octets, mut batch) = (0, Vec::new());
    for number in 0..count {
        let message = corpus.message(number);
        let own = format!("X-Number: copy{number}x\r\n");
        octets += (own.len() + message.len()) as u64;
        let mut staging = engine.stage();
        staging.write(own.as_bytes())?;
        staging.write(&message)?;
        let internal_date = InternalDate { unix_s: 1_000_000_000 + i64::try_from(number)? * 3_600, offset_minutes: 0 };
        batch.push(AppendMessage { message: staging.finish()?, flags: Flags::default(), internal_date });
        if batch.len() == 100 || number + 1 == count {
            let messages = std::mem::take(&mut batch);
            engine.execute(NOW, Command::Append { account, mailbox: INBOX, messages })?;
        }
    }
    Ok(octets)
}

fn catch_up(engine: &Engine, account: AccountId) -> Result<(Duration, Duration)> {
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    loop {
        let slice = Instant::now();
        let more = engine.catch_up(account, false)?.more;
        slowest = slowest.max(slice.elapsed());
        if !more {
            return Ok((start.elapsed(), slowest));
        }
    }
}

/// Octets of texts, and of pages, words and postings, before the store compresses the latter two.
fn sizes(kv: &SharedKv, account: AccountId, octets: u64) -> Result<()> {
    let sum = |kind: u8, of: &dyn Fn(&[u8], &[u8]) -> u64| -> Result<u64> {
        let prefix = keys::text_kind(account.0, kind);
        let mut sum = 0;
        kv.scan(Family::Text, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            sum += of(key, row);
            ControlFlow::Continue(())
        })?;
        Ok(sum)
    };
    let text = sum(keys::TEXT_PAGE, &|_, row| text_octets(row))?;
    println!("texts: {text} octets, {:.1} % of the mail", 100.0 * as_f64(text) / as_f64(octets));
    for (name, kind) in [("pages", keys::TEXT_PAGE), ("words", keys::TEXT_WORDS), ("postings", keys::TEXT_POSTINGS)] {
        let size = sum(kind, &|key, row| (key.len() + row.len()) as u64)?;
        println!("{name}: {size} octets, {:.1} % of the texts", 100.0 * as_f64(size) / as_f64(text));
    }
    Ok(())
}

/// Octets of text in a page, by its list of messages: a version, their number, then a step and a length for each.
fn text_octets(row: &[u8]) -> u64 {
    let mut octets = row.iter().skip(1);
    let mut varint = || {
        let mut value = 0;
        for (place, octet) in octets.by_ref().enumerate() {
            value |= u64::from(octet & 0x7f) << (7 * place);
            if octet & 0x80 == 0 {
                break;
            }
        }
        value
    };
    let count = varint();
    (0..count).map(|_| (varint(), varint()).1).sum()
}

fn median<T>(rounds: usize, mut work: impl FnMut() -> Result<T>) -> Result<(Duration, T)> {
    let mut last = work()?;
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        last = work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok((times[rounds / 2], last))
}
