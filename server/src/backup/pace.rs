//! How fast a backup may be.

use std::{fmt, str::FromStr, time::Duration};

use crate::{config::Size, runtime::clock};

/// Octets for each second, as in `20 MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Octets; never 0.
    pub bytes_per_s: u64,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = text.trim().strip_suffix("/s").unwrap_or(text).trim().parse::<Size>();
        match size {
            Ok(Size { bytes: 0 }) | Err(_) => Err(format!("{text:?} is not a rate: write it as in \"20 MiB/s\"")),
            Ok(Size { bytes }) => Ok(Self { bytes_per_s: bytes }),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size { bytes: self.bytes_per_s })
    }
}

/// Holds a copy to its rate.
pub(super) struct Pace {
    rate: Option<Rate>,
    began_ms: u64,
    done_bytes: u64,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, began_ms: clock::monotonic_ms(), done_bytes: 0 }
    }

    /// So many octets were read; waits until they may have been.
    pub(super) fn went(&mut self, bytes: usize) {
        self.done_bytes = self.done_bytes.saturating_add(bytes as u64);
        let Some(rate) = self.rate else { return };
        let ahead_ms = ahead_ms(self.done_bytes, rate, clock::monotonic_ms().saturating_sub(self.began_ms));
        if ahead_ms > 0 {
            clock::pause(Duration::from_millis(ahead_ms));
        }
    }
}

/// How much too early `bytes` are after `elapsed_ms`.
fn ahead_ms(bytes: u64, rate: Rate, elapsed_ms: u64) -> u64 {
    let due_ms = u128::from(bytes) * 1_000 / u128::from(rate.bytes_per_s);
    u64::try_from(due_ms).unwrap_or(u64::MAX).saturating_sub(elapsed_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_sizes_for_each_second() {
        for (text, bytes_per_s) in [("20 MiB/s", 20 << 20), ("512KiB", 512 << 10), ("1 B/s", 1)] {
            assert_eq!(text.parse(), Ok(Rate { bytes_per_s }), "{text}");
        }
        for bad in ["", "0 B/s", "20", "20 MiB/min", "/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let rate = Rate { bytes_per_s: 1_000 };
        assert_eq!(
            (ahead_ms(2_000, rate, 500), ahead_ms(2_000, rate, 5_000), rate.to_string()),
            (1_500, 0, "1000 B/s".into())
        );
    }
}
