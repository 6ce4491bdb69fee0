//! The maildrop of a session: message numbers, and what is to happen to the messages at the end.

use rockdove_mail::{Uid, UidSet};

use crate::ask::Maildrop;

/// A maildrop in the TRANSACTION state. Memory grows with the gaps between UIDs, not with the messages.
#[derive(Debug)]
pub(crate) struct OpenMaildrop {
    drop: Maildrop,
    /// For each range of `drop.uids`, how many messages come before it.
    before: Vec<u32>,
    count: u32,
    /// Messages marked as deleted.
    pub(crate) deleted: UidSet,
    /// Messages that were sent whole.
    pub(crate) retrieved: UidSet,
}

impl OpenMaildrop {
    pub(crate) fn new(drop: Maildrop) -> Self {
        let mut count = 0_u32;
        let mut before = Vec::with_capacity(drop.uids.ranges().len());
        for &(first, last) in drop.uids.ranges() {
            before.push(count);
            count = count.saturating_add(last.saturating_sub(first)).saturating_add(1);
        }
        Self { drop, before, count, deleted: UidSet::new(), retrieved: UidSet::new() }
    }

    /// Messages, deleted ones included: the highest message number.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Messages not marked as deleted.
    pub(crate) fn remaining(&self) -> u64 {
        u64::from(self.count).saturating_sub(self.deleted.len())
    }

    /// Octets of all messages, deleted ones included.
    pub(crate) fn octets(&self) -> u64 {
        self.drop.octets
    }

    /// The message of this number, marked as deleted or not.
    fn uid_at(&self, number: u32) -> Option<Uid> {
        let position = number.checked_sub(1).filter(|position| *position < self.count)?;
        let range = self.before.partition_point(|before| *before <= position).checked_sub(1)?;
        let (first, _) = self.drop.uids.ranges().get(range)?;
        first.checked_add(position.checked_sub(*self.before.get(range)?)?)
    }

    /// The message of this number, when it is there and not marked as deleted.
    pub(crate) fn uid(&self, number: u32) -> Result<Uid, &'static str> {
        match self.uid_at(number) {
            None => Err("no such message"),
            Some(uid) if self.deleted.contains(uid) => Err("the message is marked as deleted"),
            Some(uid) => Ok(uid),
        }
    }

    /// Up to `most` messages from this number on that are not marked as deleted, with their numbers; and the number to go
    /// on from, when there are more.
    pub(crate) fn page(&self, from: u32, most: u32) -> (Vec<(u32, Uid)>, Option<u32>) {
        let mut page = Vec::new();
        for number in from..=self.count {
            if page.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
                return (page, Some(number));
            }
            if let Ok(uid) = self.uid(number) {
                page.push((number, uid));
            }
        }
        (page, None)
    }

    /// The unique id of a message: at most 21 digits and a dot, the same in every session.
    //= rfc1939#section-7
    //# The unique-id of a message is an arbitrary server-determined
    //# string, consisting of one to 70 characters in the range 0x21
    //# to 0x7E, which uniquely identifies a message within a
    //# maildrop and which persists across sessions.
    pub(crate) fn unique_id(&self, uid: Uid) -> String {
        format!("{}.{uid}", self.drop.uid_validity)
    }

    /// Messages to be flagged as seen, when `delete` goes.
    pub(crate) fn seen(&self, delete: &UidSet) -> UidSet {
        self.retrieved.difference(delete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_uids() {
        let uids: UidSet = [3, 4, 5, 9, 20, 21].into_iter().collect();
        let mut open = OpenMaildrop::new(Maildrop { uid_validity: 7, uids, octets: 60 });
        let all: Vec<_> = (0..8).map(|number| open.uid(number).ok()).collect();
        assert_eq!(all, [None, Some(3), Some(4), Some(5), Some(9), Some(20), Some(21), None]);
        open.deleted.insert(9);
        assert!(open.uid(4).is_err());
        assert_eq!(open.page(3, 2), (vec![(3, 5), (5, 20)], Some(6)));
        assert_eq!(open.page(6, 2), (vec![(6, 21)], None));
        assert_eq!(open.remaining(), 5);
        assert_eq!(open.unique_id(20), "7.20");
    }
}
