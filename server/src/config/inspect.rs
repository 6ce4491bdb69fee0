//! `[inspect]`.

use serde::Deserialize;

use super::values::{Size, Span};

/// `[inspect]`: what messages are looked at with before they are delivered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InspectSettings {
    /// Messages in memory for it, all together.
    pub memory: Size,
    /// For everything that is found out about one message; after it the sender is told to try again.
    pub timeout: Span,
}

impl Default for InspectSettings {
    fn default() -> Self {
        Self { memory: Size::mib(256), timeout: Span::seconds(2 * 60) }
    }
}
