//! UIDs, mod-sequences and sets of UIDs.

/// Unique identifier of a message in a mailbox (RFC 9051 section 2.3.1.1); never zero.
pub type Uid = u32;

/// Mod-sequence (RFC 7162 section 3.1): one rising counter per account here, at most 63 bits.
pub type ModSeq = u64;

/// UIDVALIDITY of a mailbox (RFC 9051 section 2.3.1.1).
pub type UidValidity = u32;

/// A set of UIDs as sorted, disjoint, non-adjacent inclusive ranges. Memory grows with the number of gaps only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet {
    ranges: Vec<(Uid, Uid)>,
}

impl UidSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// A set of one inclusive range; the ends may come in either order.
    pub fn range(first: Uid, last: Uid) -> Self {
        Self { ranges: vec![(first.min(last), first.max(last))] }
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[(Uid, Uid)] {
        &self.ranges
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of UIDs.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Smallest UID.
    pub fn first(&self) -> Option<Uid> {
        self.ranges.first().map(|range| range.0)
    }

    /// Largest UID.
    pub fn last(&self) -> Option<Uid> {
        self.ranges.last().map(|range| range.1)
    }

    /// Whether `uid` is in the set.
    pub fn contains(&self, uid: Uid) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= uid);
        after > 0 && self.ranges[after - 1].1 >= uid
    }

    /// Adds one UID.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid, uid);
    }

    /// Adds an inclusive range; the ends may come in either order.
    pub fn insert_range(&mut self, first: Uid, last: Uid) {
        let (first, last) = (first.min(last), first.max(last));
        let from = self.ranges.partition_point(|range| u64::from(range.1) + 1 < u64::from(first));
        let to = self.ranges.partition_point(|range| u64::from(range.0) <= u64::from(last) + 1);
        if from == to {
            self.ranges.insert(from, (first, last));
            return;
        }
        let merged = (first.min(self.ranges[from].0), last.max(self.ranges[to - 1].1));
        self.ranges.splice(from..to, [merged]);
    }

    /// Removes one UID.
    pub fn remove(&mut self, uid: Uid) {
        let after = self.ranges.partition_point(|range| range.0 <= uid);
        let Some(index) = after.checked_sub(1) else { return };
        let (first, last) = self.ranges[index];
        if last < uid {
            return;
        }
        let left = (first < uid).then(|| (first, uid - 1));
        let right = (uid < last).then(|| (uid + 1, last));
        self.ranges.splice(index..=index, left.into_iter().chain(right));
    }

    /// UIDs in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Uid> + '_ {
        self.ranges.iter().flat_map(|&(first, last)| first..=last)
    }

    /// UIDs in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right, mut ranges) = (0, 0, Vec::new());
        while let (Some(a), Some(b)) = (self.ranges.get(left), other.ranges.get(right)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                ranges.push((first, last));
            }
            if a.1 <= b.1 {
                left += 1;
            } else {
                right += 1;
            }
        }
        Self { ranges }
    }

    /// UIDs in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        let mut ranges: Vec<(Uid, Uid)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(open) if u64::from(first) <= u64::from(open.1) + 1 => open.1 = open.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// UIDs here that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let (mut ranges, mut skip) = (Vec::new(), 0);
        for &(first, last) in &self.ranges {
            let mut next = u64::from(first);
            while other.ranges.get(skip).is_some_and(|hole| hole.1 < first) {
                skip += 1;
            }
            for hole in other.ranges[skip..].iter().take_while(|hole| hole.0 <= last) {
                if u64::from(hole.0) > next {
                    ranges.push((clamp(next), hole.0 - 1));
                }
                next = next.max(u64::from(hole.1) + 1);
            }
            if next <= u64::from(last) {
                ranges.push((clamp(next), last));
            }
        }
        Self { ranges }
    }
}

fn clamp(wide: u64) -> Uid {
    Uid::try_from(wide).unwrap_or(Uid::MAX)
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut set = Self::new();
        for uid in uids {
            match set.ranges.last_mut() {
                Some(open) if open.1.checked_add(1) == Some(uid) => open.1 = uid,
                Some(open) if open.1 >= uid => set.insert(uid),
                _ => set.ranges.push((uid, uid)),
            }
        }
        set
    }
}
