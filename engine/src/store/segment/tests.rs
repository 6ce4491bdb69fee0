//! Segments against a plain model: any history, folded anywhere, gives the same entries.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    rows: BTreeMap<Uid, Row>,
    gone: BTreeMap<Uid, ModSeq>,
}

impl Model {
    fn apply(&mut self, modseq: ModSeq, op: &Op) {
        match op {
            Op::Append(row) => {
                self.rows.entry(row.uid).or_insert(Row { modseq, ..*row });
            }
            Op::Flags { uids, clear, set } => {
                for row in self.rows.values_mut().filter(|row| uids.contains(row.uid)) {
                    row.flags = row.flags.changed(*clear, *set);
                    row.modseq = modseq;
                }
            }
            Op::Expunge { uids } => {
                let hit: Vec<Uid> = self.rows.keys().copied().filter(|uid| uids.contains(*uid)).collect();
                for uid in hit {
                    self.rows.remove(&uid);
                    self.gone.insert(uid, modseq);
                }
            }
        }
    }
}

const NUMBER: u32 = 3;
const FIRST: Uid = NUMBER * SEGMENT_UIDS;

fn flags() -> impl Strategy<Value = FlagBits> {
    (0_u8..32, prop_oneof![Just(0), any::<u64>(), 0_u64..4])
        .prop_map(|(system, keywords)| FlagBits { system, keywords })
}

fn uids() -> impl Strategy<Value = UidSet> {
    proptest::collection::vec((0..SEGMENT_UIDS, 0_u32..300), 0..6).prop_map(|ranges| {
        let mut set = UidSet::new();
        for (first, more) in ranges {
            set.insert_range(FIRST + first, FIRST + (first + more).min(SEGMENT_UIDS - 1));
        }
        set
    })
}

fn op() -> impl Strategy<Value = Op> {
    let entry = (any::<u32>(), any::<u32>(), any::<u32>(), any::<i64>(), any::<i16>(), any::<u32>(), flags());
    let append = entry.prop_map(|(message, thread, size, unix_s, offset_minutes, save_date, flags)| {
        let date = InternalDate { unix_s, offset_minutes };
        Op::Append(Row { uid: 0, message, thread, size, date, save_date, modseq: 0, flags })
    });
    prop_oneof![
        6 => append,
        2 => (uids(), flags(), flags()).prop_map(|(uids, clear, set)| Op::Flags { uids, clear, set }),
        1 => uids().prop_map(|uids| Op::Expunge { uids }),
    ]
}

/// Gives appended entries rising UIDs, a step apart.
fn history() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec((op(), 1_u32..4), 0..120).prop_map(|ops| {
        let mut next = FIRST;
        let number = |(op, step): (Op, u32)| match op {
            Op::Append(row) => {
                next += step;
                (next < FIRST + SEGMENT_UIDS).then_some(Op::Append(Row { uid: next, ..row }))
            }
            other => Some(other),
        };
        ops.into_iter().filter_map(number).collect()
    })
}

proptest! {
    #[test]
    fn any_history_folded_anywhere_equals_the_model(ops in history(), folds in any::<u64>(), mut modseq in 1_u64..1 << 62) {
        let mut model = Model::default();
        let mut segment = Segment::empty(NUMBER);
        for (at, op) in ops.iter().enumerate() {
            modseq += 1 + folds % 7;
            let row = delta::encode(NUMBER, std::slice::from_ref(op));
            let stored = delta::decode(NUMBER, &row).expect("own row");
            prop_assert_eq!(std::slice::from_ref(op), &stored[..]);
            model.apply(modseq, op);
            segment.apply(modseq, &stored[0]);
            if folds & (1 << (at % 64)) != 0 {
                segment = Segment::decode(NUMBER, &segment.encode()).expect("own row");
            }
        }
        let segment = Segment::decode(NUMBER, &segment.encode()).expect("own row");
        prop_assert_eq!(segment.rows().collect::<Vec<_>>(), model.rows.values().copied().collect::<Vec<_>>());
        prop_assert_eq!(segment.gone_since(0).collect::<Vec<_>>(), model.gone.keys().copied().collect::<Vec<_>>());
        for uid in FIRST..FIRST + 40 {
            prop_assert_eq!(segment.index(uid).map(|at| segment.row(at)), model.rows.get(&uid).copied());
            prop_assert_eq!(segment.below(uid), model.rows.range(..uid).count());
        }
    }

    #[test]
    fn damaged_rows_never_panic(ops in history(), at in any::<usize>(), with in any::<u8>(), cut in any::<usize>()) {
        let mut segment = Segment::empty(NUMBER);
        for (modseq, op) in ops.iter().enumerate() {
            segment.apply(modseq as u64, op);
        }
        for row in [segment.encode(), delta::encode(NUMBER, &ops)] {
            let mut damaged = row.clone();
            damaged.truncate(cut % (row.len() + 1));
            let shorter = (Segment::decode(NUMBER, &damaged), delta::decode(NUMBER, &damaged));
            drop(shorter);
            let mut damaged = row;
            let at = at % damaged.len();
            damaged[at] = with;
            if let Some(segment) = Segment::decode(NUMBER, &damaged) {
                prop_assert_eq!(segment.rows().count(), segment.len());
            }
            drop(delta::decode(NUMBER, &damaged));
        }
    }
}
