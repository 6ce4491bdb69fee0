//! SPF (RFC 7208): whether a host may use a domain in HELO and MAIL FROM.
//!
//! * What: reads a record ([`parse`]), expands its macros ([`expand`]), and evaluates it.
//! * In: an address, the name given with HELO, a sender, answers of the DNS.
//! * Out: one [`SpfResult`], and the explanation of a domain that refuses.
//! * Never: asks more than the RFC allows, whatever a record says.
//! * Fails: not at all; what cannot be found out is [`SpfResult::TempError`], what is wrong [`SpfResult::PermError`].
//!
//! Why not `mail-auth`, which checks signatures for us: 0.13 does not count void lookups (section 4.6.4), takes the first of
//! several records where section 4.5 demands an error, and asks for AAAA where section 5.7 allows A only.

mod evaluate;
mod expand;
mod parse;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr};

use crate::dns::Records;

/// Terms of a record and those it includes that may ask the DNS (section 4.6.4).
const LOOKUPS_MAX: usize = 10;
/// Questions that may lead to nothing (section 4.6.4).
const VOID_LOOKUPS_MAX: usize = 2;
/// Exchangers of one `mx`, and names of an address, that are looked at (section 4.6.4).
const NAMES_MAX: usize = 10;

/// What was found out (section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpfResult {
    /// The domain says nothing.
    None,
    /// The domain does not want to say.
    Neutral,
    /// It may.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// It could not be found out now.
    TempError,
    /// What the domain says cannot be understood.
    PermError,
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// What was found out about one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    /// The domain that was asked about, as it was given.
    pub domain: String,
    /// The result.
    pub result: SpfResult,
    /// What a domain that refuses has to say, in printable US-ASCII. Its author is a stranger.
    pub explanation: Option<String>,
}

/// Who wants to send.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// What it said with HELO or EHLO.
    pub helo: &'a str,
    /// Our name.
    pub receiver: &'a str,
    /// Now, in seconds since 1970-01-01 00:00 UTC.
    pub unix_s: i64,
}

/// Checks the HELO identity (section 2.3).
pub async fn check_helo<R: Records>(records: &R, client: Client<'_>) -> Spf {
    check(records, client, "postmaster", client.helo).await
}

/// Checks the MAIL FROM identity (section 2.4).
pub async fn check_mail<R: Records>(records: &R, client: Client<'_>, local: &str, domain: &str) -> Spf {
    let local = if local.is_empty() { "postmaster" } else { local };
    check(records, client, local, domain).await
}

async fn check<R: Records>(records: &R, client: Client<'_>, local: &str, domain: &str) -> Spf {
    let (result, explanation) = evaluate::Check::new(records, client, local, domain).check_host().await;
    Spf { domain: domain.to_owned(), result, explanation }
}
