//! Sequence numbers: which message of the session has which number.

use rockdove_mail::{Uid, UidSet};

/// The messages that a session has told its client of, in order; a sequence number is a position here. Ranges only, so
/// a mailbox without gaps costs the same with ten messages or a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    uids: UidSet,
    /// Messages before each range.
    before: Vec<u32>,
}

impl Numbers {
    /// Numbers these messages from one.
    pub fn new(uids: UidSet) -> Self {
        let mut sum = 0u32;
        let before = uids.ranges().iter().map(|(first, last)| {
            let here = sum;
            sum = sum.saturating_add(last.saturating_sub(*first).saturating_add(1));
            here
        });
        Self { before: before.collect(), uids }
    }

    /// The messages.
    pub fn uids(&self) -> &UidSet {
        &self.uids
    }

    /// How many there are.
    pub fn exists(&self) -> u32 {
        u32::try_from(self.uids.len()).unwrap_or(u32::MAX)
    }

    /// The sequence number of a message.
    pub fn number(&self, uid: Uid) -> Option<u32> {
        let at = self.uids.ranges().partition_point(|range| range.1 < uid);
        let (first, _) = self.uids.ranges().get(at).filter(|range| range.0 <= uid)?;
        self.before.get(at)?.checked_add(uid.checked_sub(*first)?)?.checked_add(1)
    }

    /// The message with this sequence number.
    pub fn uid(&self, number: u32) -> Option<Uid> {
        let position = number.checked_sub(1)?;
        let at = self.before.partition_point(|before| *before <= position).checked_sub(1)?;
        let (first, last) = self.uids.ranges().get(at)?;
        let uid = first.checked_add(position.checked_sub(*self.before.get(at)?)?)?;
        (uid <= *last).then_some(uid)
    }
}
