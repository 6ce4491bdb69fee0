//! `[trace]`.

use serde::Deserialize;

use super::values::Span;

/// `[trace]`: what happened to each message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// For how long that is kept, in whole days; nothing for not at all.
    pub keep: Span,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { keep: Span::seconds(30 * 24 * 60 * 60) }
    }
}
