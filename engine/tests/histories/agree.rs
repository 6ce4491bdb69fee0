//! Random histories give the same on the store in memory, on RocksDB and in the model.

use std::{ops::ControlFlow, sync::Arc};

use rockdove_engine::{
    Command, EngineOptions,
    kv::{
        Family, SharedKv, keys,
        memory::MemoryKv,
        rocks::{RocksKv, RocksOptions},
    },
};

use crate::{
    compare::{compare, compare_account},
    history::{Commands, House, keeping, reason},
    model::{Act, Model, No},
};

pub(crate) const NOW: i64 = 1_800_000_000;

/// Runs a history and compares every outcome, the touched accounts often, and everything now and then.
fn run(kv: SharedKv, options: EngineOptions, seed: u64, count: usize, bulk: usize) -> Vec<No> {
    let mut house = House::open(kv, options);
    house.engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
    let mut commands = Commands::new(seed, bulk, true);
    let mut rng = commands.rng.clone();
    let mut model = Model::default();
    let (mut segments, mut refused) = (0, Vec::new());
    for number in 0..count {
        let now = NOW + number as i64 / 7;
        let act = commands.next(&model);
        let when = format!("seed {seed}, command {number}, {}", told(&act));
        let expected = model.apply(now, &act);
        let outcome = house.perform(now, &act);
        match (&outcome, &expected) {
            (Ok(outcome), Ok(expected)) => assert_eq!(outcome, expected, "{when}"),
            (Err(error), Err(no)) => {
                assert_eq!(reason(error), Some(*no), "{when}: {error}");
                refused.push(*no);
            }
            _ => panic!("{when}: {outcome:?}, should be {expected:?}"),
        }
        let uids = model.accounts.values().flat_map(|account| &account.mailboxes).map(|mailbox| mailbox.uid_next);
        segments = segments.max(uids.max().unwrap_or(0) / 1_024 + 1);
        if rng.one_in(150) {
            house.reopen();
        }
        if rng.one_in(40) {
            house.engine.collect_parts(now, 100).expect("collects");
            house.engine.sweep_removed(now).expect("a slice");
        }
        if rng.one_in(20) {
            let accounts: Vec<_> = model.accounts.keys().copied().collect();
            house.engine.catch_up(*rng.pick(&accounts), rng.one_in(2)).expect("a slice");
        }
        for account in act.accounts() {
            if rng.one_in(6) && model.accounts.contains_key(&account) {
                compare_account(&house.engine, &model, account, &mut rng, &when);
            }
        }
        if rng.one_in(100) {
            compare(&house.engine, &model, &mut rng, &when);
            house.check(&when);
        }
    }
    compare(&house.engine, &model, &mut rng, "at the end");
    house.check("at the end");
    house.reopen();
    compare(&house.engine, &model, &mut rng, "opened again");
    let folded = folded(&house.kv);
    if bulk > 100 {
        assert!(segments >= 3, "seed {seed} fills {segments} segments");
    } else {
        assert!(folded > 0, "seed {seed} folds no segment");
    }
    refused
}

/// Base rows, which come from folding.
fn folded(kv: &SharedKv) -> usize {
    let mut count = 0;
    let visit = &mut |key: &[u8], _: &[u8]| {
        count += usize::from(key.get(12) == Some(&keys::SEGMENT_BASE));
        ControlFlow::Continue(())
    };
    kv.scan(Family::Segment, &[], &[0xff; 32], visit).expect("can be read");
    count
}

fn told(act: &Act) -> String {
    let text = format!("{act:?}");
    text.chars().take(300).collect()
}

/// So little memory that accounts leave all the time.
fn tight() -> EngineOptions {
    EngineOptions { segment_cache_bytes_max: 3_000, chunk_cache_bytes_max: 200_000, ..keeping() }
}

#[test]
fn memory_agrees_with_the_model() {
    let mut refused = Vec::new();
    for seed in [1, 2, 4, 5] {
        refused.extend(run(Arc::new(MemoryKv::new()), keeping(), seed, 1_200, 800));
    }
    for reason in [No::NotFound, No::Exists, No::Invalid, No::OverQuota, No::Limit] {
        assert!(refused.contains(&reason), "nothing was refused as {reason:?}");
    }
}

#[test]
fn accounts_that_leave_memory_agree_with_the_model() {
    for seed in 11..=13 {
        run(Arc::new(MemoryKv::new()), tight(), seed, 1_200, 800);
    }
}

#[test]
fn segments_that_are_folded_again_and_again_agree_with_the_model() {
    for (seed, options) in [(31, tight()), (32, keeping())] {
        run(Arc::new(MemoryKv::new()), options, seed, 4_000, 8);
    }
}

#[test]
fn rocksdb_agrees_with_the_model() {
    for (seed, options) in [(21, tight()), (23, keeping())] {
        let folder = tempfile::tempdir().expect("a folder");
        let kv = RocksKv::open(folder.path(), &RocksOptions::default()).expect("opens");
        run(Arc::new(kv), options, seed, 1_000, 800);
    }
}
