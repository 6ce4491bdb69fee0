//! Values with units, as the file writes them: `"50 MiB"`, `"30 s"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::Deserialize;

/// An amount of octets: a number and `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size {
    /// Octets.
    pub bytes: u64,
}

/// A length of time: a number and `ms`, `s`, `min`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span {
    /// Milliseconds.
    pub ms: u64,
}

const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
const SPAN_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number and one of `units`, with or without a space between.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn shown(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount >= *factor && amount.is_multiple_of(*factor);
    let (name, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{} {name}", amount / factor)
}

impl Size {
    /// This many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self { bytes: mib << 20 }
    }
}

impl Span {
    /// This many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self { ms: seconds * 1_000 }
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = measure(text, &SIZE_UNITS);
        bytes.map(|bytes| Self { bytes }).ok_or_else(|| {
            format!("{text:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB, as in \"50 MiB\"")
        })
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ms = measure(text, &SPAN_UNITS);
        ms.map(|ms| Self { ms }).ok_or_else(|| {
            format!("{text:?} is not a time: write a whole number and ms, s, min, h or d, as in \"30 s\"")
        })
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.bytes, &SIZE_UNITS))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.ms, &SPAN_UNITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_and_shown() {
        for (text, bytes, shown) in
            [("50 MiB", 50 << 20, "50 MiB"), ("1024KiB", 1 << 20, "1 MiB"), ("0 B", 0, "0 B"), ("7 B", 7, "7 B")]
        {
            let size: Size = text.parse().expect("size");
            assert_eq!((size.bytes, size.to_string().as_str()), (bytes, shown));
        }
        for (text, ms, shown) in [("30 s", 30_000, "30 s"), ("90min", 5_400_000, "90 min"), ("2 d", 172_800_000, "2 d")]
        {
            let span: Span = text.parse().expect("span");
            assert_eq!((span.ms, span.to_string().as_str()), (ms, shown));
        }
        for bad in ["", "50", "MiB", "50 MB", "-1 B", "1.5 GiB", "99999999999 TiB", "30 s s"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
