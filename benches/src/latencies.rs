//! How long operations took: a histogram whose steps are at most 1.6 % wide, so that percentiles cost the same small
//! memory for a thousand and for a billion operations.

use std::time::Duration;

use serde::Serialize;

/// Steps per doubling, as a power of two.
const STEP_BITS: u32 = 6;
/// Steps per doubling.
const STEPS: u64 = 1 << STEP_BITS;

/// Counts of durations, in steps.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    longest_ns: u64,
}

/// What is reported of the durations, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the operations took no longer.
    pub p50: f64,
    /// Nine of ten took no longer.
    pub p90: f64,
    /// Ninety-nine of a hundred took no longer.
    pub p99: f64,
    /// The longest, exactly.
    pub max: f64,
}

impl Latencies {
    /// Counts one operation.
    pub fn add(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let step = step(ns);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.total += 1;
        self.longest_ns = self.longest_ns.max(ns);
    }

    /// The least duration that `share` (0 to 1) of the operations did not exceed, at most 1.6 % too long; zero when
    /// there was no operation.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank of fewer than 2^52 operations"
    )]
    pub fn at(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(index).min(self.longest_ns));
            }
        }
        Duration::ZERO
    }

    /// The usual percentiles.
    pub fn percentiles(&self) -> Percentiles {
        let us = |took: Duration| (took.as_secs_f64() * 1e7).round() / 10.0;
        Percentiles {
            p50: us(self.at(0.5)),
            p90: us(self.at(0.9)),
            p99: us(self.at(0.99)),
            max: us(Duration::from_nanos(self.longest_ns)),
        }
    }
}

/// The step of a duration: exact below 64 ns, then 64 steps for each doubling.
fn step(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = u64::from(shift) * STEPS + (ns >> shift);
    usize::try_from(step).unwrap_or(usize::MAX)
}

/// The longest duration of a step.
fn upper(step: usize) -> u64 {
    let step = step as u64;
    let shift = (step / STEPS).saturating_sub(1);
    let first = step - shift * STEPS;
    ((first + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_step_and_steps_are_narrow() {
        let mut samples: Vec<u64> = (0..2_000).collect();
        samples.extend((0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) - 1, (1 << bit) + (1 << bit) / 3]));
        samples.push(u64::MAX);
        for ns in samples {
            let upper = upper(step(ns));
            assert!(upper >= ns && upper - ns <= ns / 64, "{ns} in the step up to {upper}");
            assert!(ns == 0 || step(ns - 1) <= step(ns), "{ns}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut latencies = Latencies::default();
        for us in (1..=1_000).rev() {
            latencies.add(Duration::from_micros(us));
        }
        for (share, us) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let at = latencies.at(share).as_secs_f64() * 1e6;
            assert!(at >= us && at <= us * 1.016, "{share}: {at}");
        }
        assert!((latencies.percentiles().max - 1_000.0).abs() < f64::EPSILON);
    }

    #[test]
    fn no_operation_has_no_duration() {
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }
}
