//! What every store must do, asked of both: the model in memory and RocksDB.

use std::{ops::ControlFlow, path::Path};

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_engine::kv::{
    Batch, Change, Durability, Family, Kv, Read,
    memory::MemoryKv,
    rocks::{RocksKv, RocksOptions},
};

type Row = (Bytes, Bytes);

fn rocks(path: &Path) -> RocksKv {
    RocksKv::open(path, &RocksOptions::default()).expect("an empty folder can be opened")
}

/// Runs a check on each implementation.
fn on_both(check: impl Fn(&dyn Kv)) {
    check(&MemoryKv::new());
    let folder = tempfile::tempdir().expect("a folder");
    check(&rocks(folder.path()));
}

fn write(store: &dyn Kv, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    fill(&mut batch);
    store.write(&batch, Durability::Synced).expect("written");
}

fn rows(view: &dyn Read, family: Family, from: &[u8], to: &[u8]) -> Vec<Row> {
    let mut found = Vec::new();
    view.scan(family, from, to, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })
    .expect("scanned");
    found
}

fn rows_back(view: &dyn Read, family: Family, from: &[u8], to: &[u8]) -> Vec<Row> {
    let mut found = Vec::new();
    view.scan_back(family, from, to, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })
    .expect("scanned");
    found
}

fn keys(rows: &[Row]) -> Vec<&[u8]> {
    rows.iter().map(|(key, _)| &key[..]).collect()
}

#[test]
fn what_was_put_is_found_where_it_was_put() {
    on_both(|store| {
        write(store, |batch| {
            batch.put(Family::Sys, "k", "sys");
            batch.put(Family::Part, "k", vec![7; 100_000]);
            batch.put(Family::Message, "", "the empty key");
            batch.put(Family::Message, "empty", "");
        });
        assert_eq!(store.get(Family::Sys, b"k"), Ok(Some("sys".into())));
        assert_eq!(store.get(Family::Part, b"k"), Ok(Some(vec![7; 100_000].into())));
        assert_eq!(store.get(Family::Message, b""), Ok(Some("the empty key".into())));
        assert_eq!(store.get(Family::Message, b"empty"), Ok(Some(Bytes::new())));
        assert_eq!(store.get(Family::Account, b"k"), Ok(None));
        let asked: [&[u8]; 4] = [b"x", b"empty", b"", b"empty"];
        let expected = vec![None, Some(Bytes::new()), Some("the empty key".into()), Some(Bytes::new())];
        assert_eq!(store.multi_get(Family::Message, &asked), Ok(expected.clone()));
        assert_eq!(store.snapshot().multi_get(Family::Message, &asked), Ok(expected));
        assert_eq!(store.multi_get(Family::Message, &[]), Ok(vec![]));
    });
}

#[test]
fn in_a_batch_the_later_change_wins() {
    on_both(|store| {
        write(store, |batch| batch.put(Family::Sys, "b", "old"));
        write(store, |batch| {
            batch.put(Family::Sys, "a", "1");
            batch.put(Family::Sys, "b", "1");
            batch.delete_range(Family::Sys, "a", "c");
            batch.put(Family::Sys, "b", "2");
            batch.put(Family::Sys, "c", "1");
            batch.delete(Family::Sys, "c");
            batch.delete(Family::Sys, "missing");
        });
        assert_eq!(rows(store, Family::Sys, b"", b"z"), [("b".into(), "2".into())]);
    });
}

#[test]
fn scans_keep_to_their_range_and_stop_when_told() {
    on_both(|store| {
        write(store, |batch| {
            for key in ["a", "ab", "b", "c", "d"] {
                batch.put(Family::Segment, key, key);
            }
            batch.put(Family::Segment, vec![0xff, 0xff], "last");
        });
        assert_eq!(keys(&rows(store, Family::Segment, b"ab", b"d")), [&b"ab"[..], b"b", b"c"]);
        assert_eq!(keys(&rows_back(store, Family::Segment, b"ab", b"d")), [&b"c"[..], b"b", b"ab"]);
        assert_eq!(keys(&rows(store, Family::Segment, b"aa", b"cc")), [&b"ab"[..], b"b", b"c"]);
        assert_eq!(rows(store, Family::Segment, b"", &[0xff; 3]).len(), 6);
        assert!(rows(store, Family::Segment, b"d", b"a").is_empty(), "a range that ends before it begins is empty");
        assert!(rows_back(store, Family::Segment, b"d", b"d").is_empty());
        let mut seen = 0;
        let stop = &mut |_: &[u8], _: &[u8]| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.scan(Family::Segment, b"", b"z", stop).expect("scanned");
        assert_eq!(seen, 2);
    });
}

#[test]
fn a_range_delete_takes_its_range_and_no_more() {
    on_both(|store| {
        write(store, |batch| {
            for key in ["a", "b", "bb", "c"] {
                batch.put(Family::Message, key, "1");
                batch.put(Family::Account, key, "1");
            }
        });
        write(store, |batch| {
            batch.delete_range(Family::Message, "b", "c");
            batch.delete_range(Family::Account, "c", "a");
            batch.delete_range(Family::Account, "a", "a");
        });
        assert_eq!(keys(&rows(store, Family::Message, b"", b"z")), [&b"a"[..], b"c"]);
        assert_eq!(rows(store, Family::Account, b"", b"z").len(), 4, "an empty range deletes nothing");
    });
}

#[test]
fn a_snapshot_does_not_see_what_comes_after_it() {
    on_both(|store| {
        write(store, |batch| {
            batch.put(Family::Segment, "a", "1");
            batch.put(Family::Segment, "b", "1");
        });
        let view = store.snapshot();
        write(store, |batch| {
            batch.put(Family::Segment, "a", "2");
            batch.delete_range(Family::Segment, "b", "c");
            batch.put(Family::Segment, "c", "2");
        });
        let before: Vec<Row> = vec![("a".into(), "1".into()), ("b".into(), "1".into())];
        assert_eq!(rows(&*view, Family::Segment, b"", b"z"), before);
        assert_eq!(view.get(Family::Segment, b"c"), Ok(None));
        assert_eq!(view.get(Family::Segment, b"a"), Ok(Some("1".into())));
        assert_eq!(keys(&rows_back(store, Family::Segment, b"", b"z")), [&b"c"[..], b"a"]);
    });
}

#[test]
fn a_visitor_may_use_the_store() {
    on_both(|store| {
        write(store, |batch| {
            batch.put(Family::Sys, "a", "1");
            batch.put(Family::Sys, "b", "1");
        });
        let mut seen = 0;
        store
            .scan(Family::Sys, b"", b"z", &mut |key, _| {
                seen += 1;
                write(store, |batch| batch.put(Family::Sys, [key, b"+"].concat(), "new"));
                assert!(store.get(Family::Sys, key).expect("read").is_some());
                ControlFlow::Continue(())
            })
            .expect("scanned");
        assert_eq!(seen, 2, "a scan shows the moment it began");
    });
}

#[test]
fn rocks_finds_everything_again_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = rocks(folder.path());
    let mut batch = Batch::default();
    for family in Family::ALL {
        batch.put(family, "k", family.name());
    }
    store.write(&batch, Durability::Ordered).expect("written");
    write(&store, |batch| batch.put(Family::Part, "large", vec![1; 50_000]));
    drop(store);
    let store = rocks(folder.path());
    for family in Family::ALL {
        assert_eq!(store.get(family, b"k"), Ok(Some(family.name().into())));
    }
    assert_eq!(store.get(Family::Part, b"large"), Ok(Some(vec![1; 50_000].into())));
}

/// A short key over few letters, so that random changes meet each other.
fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(0xff_u8)], 0..4).prop_map(Bytes::from)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Sys), Just(Family::Part), Just(Family::Segment)]
}

fn value() -> impl Strategy<Value = Bytes> {
    // Around the size at which part values move to blob files.
    (any::<u8>(), prop_oneof![0..4_usize, 2040..2056_usize]).prop_map(|(byte, length)| vec![byte; length].into())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (family(), key(), value()).prop_map(|(family, key, value)| Change::Put(family, key, value)),
        2 => (family(), key()).prop_map(|(family, key)| Change::Delete(family, key)),
        1 => (family(), key(), key()).prop_map(|(family, from, to)| Change::DeleteRange(family, from, to)),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Change>, bool),
    Scan(Family, Bytes, Bytes),
    Get(Family, Vec<Bytes>),
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec(change(), 0..8), any::<bool>()).prop_map(|(changes, sync)| Step::Write(changes, sync)),
        4 => (family(), key(), key()).prop_map(|(family, from, to)| Step::Scan(family, from, to)),
        4 => (family(), prop::collection::vec(key(), 0..5)).prop_map(|(family, keys)| Step::Get(family, keys)),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn same(model: &dyn Read, store: &dyn Read, step: &Step) {
    match step {
        Step::Scan(family, from, to) => {
            assert_eq!(rows(model, *family, from, to), rows(store, *family, from, to));
            assert_eq!(rows_back(model, *family, from, to), rows_back(store, *family, from, to));
        }
        Step::Get(family, keys) => {
            let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            assert_eq!(model.multi_get(*family, &asked), store.multi_get(*family, &asked));
            for key in asked {
                assert_eq!(model.get(*family, key), store.get(*family, key));
            }
        }
        Step::Write(..) | Step::Compact | Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Both stores answer a random history alike, now and from a snapshot taken on the way.
    #[test]
    fn random_histories_agree(before in prop::collection::vec(step(), 0..25), after in prop::collection::vec(step(), 0..25)) {
        let folder = tempfile::tempdir().expect("a folder");
        let model = MemoryKv::new();
        let mut store = rocks(folder.path());
        for step in &before {
            match step {
                Step::Write(changes, sync) => {
                    let batch = Batch { changes: changes.clone() };
                    let durability = if *sync { Durability::Synced } else { Durability::Ordered };
                    prop_assert_eq!(model.write(&batch, durability), store.write(&batch, durability));
                }
                Step::Compact => store.compact().expect("compacts"),
                Step::Reopen => {
                    drop(store);
                    store = rocks(folder.path());
                }
                Step::Scan(..) | Step::Get(..) => same(&model, &store, step),
            }
        }
        let (old_model, old_store) = (model.snapshot(), store.snapshot());
        for step in &after {
            match step {
                Step::Write(changes, _) => {
                    let batch = Batch { changes: changes.clone() };
                    prop_assert_eq!(model.write(&batch, Durability::Ordered), store.write(&batch, Durability::Ordered));
                }
                Step::Compact => store.compact().expect("compacts"),
                Step::Scan(..) | Step::Get(..) => {
                    same(&model, &store, step);
                    same(&*old_model, &*old_store, step);
                }
                Step::Reopen => {}
            }
        }
        for family in [Family::Sys, Family::Part, Family::Segment] {
            let all = Step::Scan(family, Bytes::new(), vec![0xff; 5].into());
            same(&model, &store, &all);
            same(&*old_model, &*old_store, &all);
        }
    }
}
