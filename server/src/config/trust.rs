//! `[trust]`.

use serde::Deserialize;

use super::values::Span;
use crate::net::listeners::Network;

/// How much one way to check mail counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// It is not made.
    Off,
    /// What it finds is written down.
    #[default]
    Mark,
    /// And mail is refused for it.
    Enforce,
}

/// What becomes of mail whose checks could not be made for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTemporaryError {
    /// It is delivered, marked.
    #[default]
    Deliver,
    /// Its sender is told to try again.
    Defer,
}

/// `[trust]`: whether mail from other servers is what it says it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustSettings {
    /// Our name in Authentication-Results; `hostname` when missing.
    pub authserv_id: Option<String>,
    /// Whether the name of an address leads back to it.
    pub iprev: Check,
    /// SPF (RFC 7208).
    pub spf: Check,
    /// DKIM (RFC 6376).
    pub dkim: Check,
    /// DMARC (RFC 9989).
    pub dmarc: Check,
    /// ARC (RFC 8617).
    pub arc: Check,
    /// Domains whose word is believed about mail that they have passed on, when their ARC seals hold.
    pub trusted_sealers: Vec<String>,
    /// What becomes of mail whose checks could not be made for now.
    pub on_temporary_error: OnTemporaryError,
    /// For all checks of one message.
    pub time_limit: Span,
    /// Clients whose mail is not checked, and whose Authentication-Results are left alone.
    pub exempt: Vec<Network>,
}

impl Default for TrustSettings {
    fn default() -> Self {
        let exempt = ["127.0.0.0/8", "::1"].iter().filter_map(|network| network.parse().ok()).collect();
        Self {
            authserv_id: None,
            iprev: Check::Mark,
            spf: Check::Mark,
            dkim: Check::Mark,
            dmarc: Check::Enforce,
            arc: Check::Mark,
            trusted_sealers: Vec::new(),
            on_temporary_error: OnTemporaryError::Deliver,
            time_limit: Span::seconds(20),
            exempt,
        }
    }
}
