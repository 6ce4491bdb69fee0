//! Sequence numbers: which message of the session has which number.

use rockdove_mail::{Uid, UidSet};

use crate::command::SequenceSet;

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

/// A set names a sequence number that no message has.
///
//= rfc9051#section-9
//# ; The server should respond with a tagged BAD
//# ; response to a command that uses a message
//# ; sequence number greater than the number of
//# ; messages in the selected mailbox.  This
//# ; includes "*" if the selected mailbox is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchNumber;

impl SequenceSet {
    /// Whether it is `$` (RFC 5182).
    pub fn is_saved(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The messages that these sequence numbers mean.
    pub fn uids(&self, numbers: &Numbers) -> Result<UidSet, NoSuchNumber> {
        Ok(self.spans(numbers)?.intersection(numbers.uids()))
    }

    /// All UIDs from the first message of a range to its last, also those that no message has: no more ranges than were
    /// written, whatever gaps there are between messages.
    pub fn spans(&self, numbers: &Numbers) -> Result<UidSet, NoSuchNumber> {
        let exists = numbers.exists();
        let uid = |number: Option<u32>| numbers.uid(number.unwrap_or(exists)).ok_or(NoSuchNumber);
        let ranges = self.ranges.iter().map(|(first, last)| Ok((uid(*first)?, uid(*last)?)));
        Ok(united(ranges.collect::<Result<_, _>>()?))
    }

    /// The same as [`spans`](Self::spans), where numbers beyond the last message are no mistake: a range ends with it.
    pub fn spans_there(&self, numbers: &Numbers) -> UidSet {
        let exists = numbers.exists();
        let ranges = self.ranges.iter().filter_map(|(first, last)| {
            let (first, last) = (first.unwrap_or(exists), last.unwrap_or(exists));
            Some((numbers.uid(first.min(last))?, numbers.uid(first.max(last).min(exists))?))
        });
        united(ranges.collect())
    }

    /// These UIDs, whether there are such messages or not. `*` is the largest in use; where none is, a range with `*` is
    /// empty.
    pub fn uid_set(&self, largest: Option<Uid>) -> UidSet {
        let end = |number: Option<u32>| number.or(largest);
        united(self.ranges.iter().filter_map(|(first, last)| Some((end(*first)?, end(*last)?))).collect())
    }
}

/// Ascending, each range is added at the end: tens of thousands of them are no work.
fn united(mut ranges: Vec<(Uid, Uid)>) -> UidSet {
    for (first, last) in &mut ranges {
        (*first, *last) = ((*first).min(*last), (*first).max(*last));
    }
    ranges.sort_unstable();
    let mut uids = UidSet::new();
    for (first, last) in ranges {
        uids.insert_range(first, last);
    }
    uids
}
