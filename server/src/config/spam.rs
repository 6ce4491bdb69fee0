//! `[spam]`.

use std::fmt;

use serde::Deserialize;

/// How sure the filter is that a message is unwanted, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "f64")]
pub struct Score {
    ten_thousandths: u16,
}

impl Score {
    const UNITS: f64 = 10_000.0;

    /// The nearest score; what is outside becomes 0 or 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10,000")]
    pub fn new(score: f64) -> Self {
        Self { ten_thousandths: (score.clamp(0.0, 1.0) * Self::UNITS).round() as u16 }
    }
}

impl TryFrom<f64> for Score {
    type Error = String;

    fn try_from(score: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&score) {
            Ok(Self::new(score))
        } else {
            Err(format!("{score} is no score: write a number from 0.0 to 1.0"))
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", f64::from(self.ten_thousandths) / Self::UNITS)
    }
}

/// `[spam]`: mail from other servers is told apart by what was learned of unwanted and wanted mail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpamSettings {
    /// Whether it is, and whether anything is learned from what users do.
    pub enabled: bool,
    /// What has a higher score goes into the mailbox for junk.
    pub junk_above: Score,
    /// What has a higher score for every recipient is not taken; none is higher than 1.
    pub reject_above: Score,
    /// Unwanted messages, and as many wanted ones, that must have been learned before anything is said.
    pub learned_least: u32,
}

impl Default for SpamSettings {
    fn default() -> Self {
        Self { enabled: true, junk_above: Score::new(0.8), reject_above: Score::new(1.0), learned_least: 200 }
    }
}
