//! Token buckets, each one number: when it will be full again.
//!
//! A bucket of `burst` units that gets `most` units in the time `every` is full when nothing was taken for long; taking
//! moves the moment when it will be full again by what the units cost in time. It is empty when that moment lies as far
//! ahead as all its units cost (the generic cell rate algorithm of ITU-T I.371).

use super::{Key, key};
use crate::{config::RateLimit, generations::Generations};

/// Buckets that are not full, twice this at most: some 50 octets each. What was not used for longest goes first.
const BUCKETS_MAX: usize = 131_072;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u128 = 1_000_000;

/// A limit that has been reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over<'a> {
    pub(super) limit: &'a RateLimit,
    /// After this many seconds there will be enough again.
    pub(super) wait_s: u64,
}

/// Something to take from a bucket.
#[derive(Clone, Debug)]
pub(super) struct Charge<'a> {
    pub(super) limit: &'a RateLimit,
    /// Whose bucket.
    pub(super) whose: String,
    /// How much; 0 to look whether anything is left.
    pub(super) units: u64,
}

impl Charge<'_> {
    fn key(&self) -> Key {
        key(&["bucket", &self.limit.name, &self.whose])
    }

    /// What units cost, in nanoseconds.
    fn cost_ns(&self, units: u64) -> u64 {
        let every_ns = u128::from(self.limit.every.ms) * NS_PER_MS;
        let cost = u128::from(units) * every_ns / u128::from(self.limit.most.max(1));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    /// The latest moment at which the bucket may be full: one that is empty, and once more what it holds in debt.
    fn latest_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_add(self.cost_ns(self.limit.burst).saturating_mul(2))
    }

    /// When the bucket will be full, if the charge is taken; else how long to wait, in seconds.
    fn apply(&self, full_ns: u64, now_ns: u64) -> Result<u64, u64> {
        // To look is to ask for the smallest amount.
        let after_ns = full_ns.max(now_ns).saturating_add(self.cost_ns(self.units).max(1));
        let over_ns = after_ns.saturating_sub(now_ns).saturating_sub(self.cost_ns(self.limit.burst));
        if over_ns == 0 { Ok(after_ns) } else { Err(over_ns.div_ceil(NS_PER_S)) }
    }
}

/// All buckets.
pub(super) struct Buckets(Generations<Key, u64>);

impl Default for Buckets {
    fn default() -> Self {
        Self(Generations::new(BUCKETS_MAX))
    }
}

impl Buckets {
    /// When a bucket will be full. A clock that was set back must not close one for longer than it may be closed.
    fn full_ns(&mut self, key: Key, charge: &Charge<'_>, now_ns: u64) -> u64 {
        let (full_ns, latest_ns) = (self.0.get(&key).unwrap_or(0), charge.latest_ns(now_ns));
        if full_ns > latest_ns {
            self.0.put(key, latest_ns);
        }
        full_ns.min(latest_ns)
    }

    /// Takes all charges or none.
    pub(super) fn take<'a>(&mut self, charges: &[Charge<'a>], now_s: u64) -> Result<(), Over<'a>> {
        let now_ns = now_s.saturating_mul(NS_PER_S);
        let mut taken = Vec::with_capacity(charges.len());
        for charge in charges {
            let key = charge.key();
            match charge.apply(self.full_ns(key, charge, now_ns), now_ns) {
                Ok(full_ns) if charge.units > 0 => taken.push((key, full_ns)),
                Ok(_) => {}
                Err(wait_s) => return Err(Over { limit: charge.limit, wait_s }),
            }
        }
        for (key, full_ns) in taken {
            self.0.put(key, full_ns);
        }
        Ok(())
    }

    /// Takes what has been used already, though it may be more than there is.
    pub(super) fn overdraw(&mut self, charges: &[Charge<'_>], now_s: u64) {
        let now_ns = now_s.saturating_mul(NS_PER_S);
        for charge in charges {
            let key = charge.key();
            let full_ns = self.full_ns(key, charge, now_ns).max(now_ns);
            self.0.put(key, full_ns.saturating_add(charge.cost_ns(charge.units)).min(charge.latest_ns(now_ns)));
        }
    }

    /// The buckets that are not full, for the file.
    pub(super) fn entries(&self, now_s: u64) -> impl Iterator<Item = (&Key, u64)> {
        let now_ns = now_s.saturating_mul(NS_PER_S);
        self.0.entries().map(|(key, full_ns)| (key, *full_ns)).filter(move |(_, full_ns)| *full_ns > now_ns)
    }

    /// A bucket from the file.
    pub(super) fn restore(&mut self, key: Key, full_ns: u64) {
        self.0.put(key, full_ns);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Counted, Per, Span},
        net::listeners::Protocol,
    };

    fn limit(most: u64, every_s: u64, burst: u64) -> RateLimit {
        RateLimit {
            name: "test".to_owned(),
            protocol: Protocol::Smtp,
            per: Per::Address,
            counted: Counted::Messages,
            most,
            every: Span::seconds(every_s),
            burst,
        }
    }

    fn one<'a>(limit: &'a RateLimit, whose: &str, units: u64) -> Charge<'a> {
        Charge { limit, whose: whose.to_owned(), units }
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let limit = limit(6, 60, 3);
        let mut buckets = Buckets::default();
        for _ in 0..3 {
            assert_eq!(buckets.take(&[one(&limit, "a", 1)], 1_000), Ok(()));
        }
        assert_eq!(buckets.take(&[one(&limit, "a", 1)], 1_000), Err(Over { limit: &limit, wait_s: 10 }));
        assert!(buckets.take(&[one(&limit, "a", 0)], 1_000).is_err(), "nothing is left");
        assert_eq!(buckets.take(&[one(&limit, "b", 1)], 1_000), Ok(()), "others have their own");
        assert!(buckets.take(&[one(&limit, "a", 1)], 1_009).is_err());
        assert_eq!(buckets.take(&[one(&limit, "a", 0)], 1_010), Ok(()));
        assert_eq!(buckets.take(&[one(&limit, "a", 1)], 1_010), Ok(()), "looking has cost nothing");
        assert_eq!(buckets.take(&[one(&limit, "a", 3)], 1_040), Ok(()));
        assert!(buckets.take(&[one(&limit, "a", 4)], 9_000).is_err(), "more than it holds");
        assert_eq!(buckets.entries(9_000).count(), 0, "full ones are not worth keeping");
    }

    #[test]
    fn all_charges_or_none() {
        let (small, large) = (limit(1, 60, 1), RateLimit { name: "large".to_owned(), ..limit(10, 60, 10) });
        let mut buckets = Buckets::default();
        let both = |units| [one(&large, "a", units), one(&small, "a", 1)];
        assert_eq!(buckets.take(&both(5), 0), Ok(()));
        assert_eq!(buckets.take(&both(5), 0), Err(Over { limit: &small, wait_s: 60 }));
        assert_eq!(buckets.take(&[one(&large, "a", 5)], 0), Ok(()), "the refused attempt took nothing");
    }

    #[test]
    fn what_was_used_is_paid_for() {
        let limit = limit(100, 100, 100);
        let mut buckets = Buckets::default();
        buckets.overdraw(&[one(&limit, "a", 1_000_000)], 50);
        assert!(buckets.take(&[one(&limit, "a", 0)], 50 + 100).is_err());
        assert_eq!(buckets.take(&[one(&limit, "a", 0)], 50 + 101), Ok(()), "a debt has its limit");
    }

    #[test]
    fn a_clock_set_back_closes_nothing_for_ever() {
        let limit = limit(10, 10, 10);
        let mut buckets = Buckets::default();
        assert_eq!(buckets.take(&[one(&limit, "a", 10)], 1_000_000), Ok(()));
        assert!(buckets.take(&[one(&limit, "a", 1)], 500).is_err());
        assert_eq!(buckets.take(&[one(&limit, "a", 1)], 500 + 21), Ok(()));
    }

    proptest! {
        /// In no time span does a bucket give more than its burst and what has flowed in.
        #[test]
        fn never_more_than_burst_and_rate(
            most in 1_u64..50,
            every in 1_u64..100,
            burst in 1_u64..50,
            steps in proptest::collection::vec((0_u64..20, 0_u64..8), 1..200),
        ) {
            let limit = limit(most, every, burst);
            let mut buckets = Buckets::default();
            let (mut now, mut taken) = (1_000_u64, Vec::new());
            for (pause, units) in steps {
                now += pause;
                if buckets.take(&[one(&limit, "a", units)], now).is_ok() {
                    taken.push((now, units));
                } else {
                    prop_assert!(!taken.is_empty() || units > burst, "a full bucket refuses");
                }
            }
            for (from, (begin, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, units) in &taken[from..] {
                    sum += units;
                    // One unit of slack for what the division leaves over.
                    prop_assert!(sum * every <= burst * every + (end - begin) * most + every);
                }
            }
        }
    }
}
