//! Delta rows: what one command changed in one segment. The mod-sequence is in the key.
//!
//! ```text
//! 01 op*                        ops in order, to the end of the row
//! op: 01 entry                  append
//!     02 clear set uids         flags := (flags & !clear) | set
//!     03 uids                   expunge
//! uids: count.. (skip.. more..)*   ranges: distance from the end of the one before, length minus one
//! flags: system1 keywords..
//! ```

use rockdove_mail::{Uid, UidSet};

use super::{
    FlagBits, Row, SEGMENT_UIDS,
    base::{put_flags, put_row, take_flags, take_row},
};
use crate::store::octets::{Take, put_varint};

const VERSION: u8 = 1;
const APPEND: u8 = 1;
const FLAGS: u8 = 2;
const EXPUNGE: u8 = 3;

/// A change to one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Adds an entry; its mod-sequence is that of the change.
    Append(Row),
    /// Changes flags.
    Flags {
        /// Of these messages.
        uids: UidSet,
        /// Flags taken away first.
        clear: FlagBits,
        /// Flags put then.
        set: FlagBits,
    },
    /// Removes entries.
    Expunge {
        /// These.
        uids: UidSet,
    },
}

/// The row of these changes, all in segment `number`.
pub(crate) fn encode(number: u32, ops: &[Op]) -> Vec<u8> {
    let mut row = vec![VERSION];
    for op in ops {
        match op {
            Op::Append(entry) => {
                row.push(APPEND);
                put_row(&mut row, entry);
            }
            Op::Flags { uids, clear, set } => {
                row.push(FLAGS);
                put_flags(&mut row, *clear);
                put_flags(&mut row, *set);
                put_uids(&mut row, number, uids);
            }
            Op::Expunge { uids } => {
                row.push(EXPUNGE);
                put_uids(&mut row, number, uids);
            }
        }
    }
    row
}

/// The changes in a row. `None` when the row is damaged or of an unknown version.
pub(crate) fn decode(number: u32, row: &[u8]) -> Option<Vec<Op>> {
    let mut take = Take::versioned(row, VERSION)?;
    let mut ops = Vec::new();
    while take.end().is_none() {
        ops.push(match take.u8()? {
            APPEND => Op::Append(take_row(&mut take, number)?),
            FLAGS => {
                let (clear, set) = (take_flags(&mut take)?, take_flags(&mut take)?);
                Op::Flags { uids: take_uids(&mut take, number)?, clear, set }
            }
            EXPUNGE => Op::Expunge { uids: take_uids(&mut take, number)? },
            _ => return None,
        });
    }
    Some(ops)
}

fn put_uids(row: &mut Vec<u8>, number: u32, uids: &UidSet) {
    put_varint(row, uids.ranges().len() as u64);
    let mut before = number.saturating_mul(SEGMENT_UIDS);
    for &(first, last) in uids.ranges() {
        put_varint(row, u64::from(first.saturating_sub(before)));
        put_varint(row, u64::from(last - first));
        before = last;
    }
}

fn take_uids(take: &mut Take<'_>, number: u32) -> Option<UidSet> {
    let count: usize = take.small().filter(|count| *count <= SEGMENT_UIDS as usize)?;
    let start = number.checked_mul(SEGMENT_UIDS)?;
    let mut before: Uid = start;
    let mut uids = UidSet::new();
    for _ in 0..count {
        let first = before.checked_add(take.small()?)?;
        let last = first.checked_add(take.small()?)?;
        if last - start >= SEGMENT_UIDS {
            return None;
        }
        uids.insert_range(first, last);
        before = last;
    }
    Some(uids)
}
