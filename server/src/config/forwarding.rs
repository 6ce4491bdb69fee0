//! `[forwarding]`.

use serde::Deserialize;

/// `[forwarding]`: mail that aliases and accounts send on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForwardingSettings {
    /// The sender becomes an address of ours that leads back to it.
    pub srs: bool,
}

impl Default for ForwardingSettings {
    fn default() -> Self {
        Self { srs: true }
    }
}
