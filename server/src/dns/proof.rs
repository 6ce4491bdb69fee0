//! DNSSEC: whether answers are vouched for, and TLSA records (RFC 6698), which mean something only when they are.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use hickory_resolver::{
    TokioResolver,
    net::{DnsError, NetError},
    proto::{
        dnssec::{Proof, TrustAnchors},
        rr::{RData, RecordType, rdata::tlsa::TLSA},
    },
};

use super::{Dns, DnsFailure, absolute, is_nothing};
use crate::{config::Dnssec, net::peer::Tlsa, runtime::clock::monotonic_ms};

/// TLSA records of a server that are looked at; more than a rollover of two keys with two algorithms needs.
const TLSA_MAX: usize = 16;
/// How long name servers that know nothing of DNSSEC are believed to stay so.
const PROBE_AGAIN_MS: u64 = 10 * 60 * 1000;

/// What was found, and whether DNSSEC vouches for all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was found.
    pub found: T,
    /// It is signed, from the root on.
    pub secure: bool,
}

/// The resolver that validates, and whether it can.
pub(super) struct Validation {
    mode: Dnssec,
    resolver: TokioResolver,
    /// Until when the name servers are not asked for signatures again.
    without_until_ms: Mutex<Option<u64>>,
    /// They have once given a good one.
    proved: Mutex<bool>,
}

impl Validation {
    pub(super) fn new(mode: Dnssec, resolver: TokioResolver) -> Self {
        Self { mode, resolver, without_until_ms: Mutex::new(None), proved: Mutex::new(false) }
    }

    /// The resolver, where it is of use.
    async fn get(&self) -> Option<&TokioResolver> {
        match self.mode {
            Dnssec::Never => None,
            Dnssec::Always => Some(&self.resolver),
            Dnssec::Auto => self.works().await.then_some(&self.resolver),
        }
    }

    /// Whether the name servers pass on the signatures of the root. Those that do once are held to it from then on:
    /// otherwise whoever sits between us could switch it off.
    async fn works(&self) -> bool {
        if *self.proved.lock().unwrap_or_else(PoisonError::into_inner) {
            return true;
        }
        let until = *self.without_until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| monotonic_ms() < until) {
            return false;
        }
        let keys = self.resolver.lookup(".", RecordType::DNSKEY).await;
        let works = keys.is_ok_and(|keys| keys.answers().iter().any(|record| record.proof.is_secure()));
        if works {
            *self.proved.lock().unwrap_or_else(PoisonError::into_inner) = true;
        } else {
            let until = monotonic_ms().saturating_add(PROBE_AGAIN_MS);
            *self.without_until_ms.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
            tracing::warn!("the name servers do not give DNSSEC signatures: DANE is not used ([dns] servers)");
        }
        works
    }
}

/// Keys that are trusted beside nothing else: the root's own ones when there is no file.
pub(super) fn anchors(file: Option<&Path>) -> io::Result<Arc<TrustAnchors>> {
    let Some(path) = file else { return Ok(Arc::new(TrustAnchors::default())) };
    let named = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    let anchors: TrustAnchors = text.parse().map_err(|error| named(format!("no DNSKEY records: {error}")))?;
    if anchors.is_empty() { Err(named("there is no key in it".to_owned())) } else { Ok(Arc::new(anchors)) }
}

impl Dns {
    /// Records of a name, those that its aliases lead to included.
    ///
    /// # Errors
    /// When there are none, they cannot be had, or DNSSEC says that they are forged.
    pub(super) async fn look_up(&self, name: &str, kind: RecordType) -> Result<Answer<Vec<RData>>, DnsFailure> {
        let (resolver, validates) = match self.validation.get().await {
            Some(validating) => (validating, true),
            None => (&self.resolver, false),
        };
        let lookup = match resolver.lookup(absolute(name), kind).await {
            Ok(lookup) => lookup,
            Err(error) if is_nothing(&error) || is_unsigned_nothing(&error) => return Err(DnsFailure::Nothing),
            Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. })) => return Err(DnsFailure::Bogus),
            Err(error) => return Err(DnsFailure::Later(error.to_string())),
        };
        let records = lookup.answers();
        if records.iter().any(|record| record.proof == Proof::Bogus) && validates {
            return Err(DnsFailure::Bogus);
        }
        let relevant = |record: &&hickory_resolver::proto::rr::Record| {
            record.record_type() == kind || record.record_type() == RecordType::CNAME
        };
        let secure = validates && records.iter().filter(relevant).all(|record| record.proof.is_secure());
        let found: Vec<RData> =
            records.iter().filter(|record| record.record_type() == kind).map(|record| record.data.clone()).collect();
        if found.is_empty() { Err(DnsFailure::Nothing) } else { Ok(Answer { found, secure }) }
    }

    /// TLSA records of the mail server of a name, when DNSSEC vouches for them (RFC 7672 section 2.2). `None`: there are
    /// none, or nobody vouches for them, which is the same. Those that SMTP has no use for are left out, so that nothing
    /// may be left: the server is then to encrypt and need not prove who it is (section 2.2).
    ///
    /// # Errors
    /// When it cannot be found out: mail must wait then.
    pub async fn tlsa(&self, host: &str, port: u16) -> Result<Option<Vec<Tlsa>>, DnsFailure> {
        if host.starts_with('[') || self.validation.get().await.is_none() {
            return Ok(None);
        }
        match self.look_up(&format!("_{port}._tcp.{host}"), RecordType::TLSA).await {
            Ok(Answer { found, secure: true }) => Ok(Some(found.iter().filter_map(usable).take(TLSA_MAX).collect())),
            Ok(_) | Err(DnsFailure::Nothing | DnsFailure::NoMail) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Texts of a name, the strings of each joined.
    ///
    /// # Errors
    /// When there are none, or they cannot be had.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, DnsFailure> {
        let answer = self.look_up(name, RecordType::TXT).await?;
        let joined = |data: &RData| match data {
            RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => None,
        };
        Ok(answer.found.iter().filter_map(joined).collect())
    }

    /// Records of a name as a zone file shows them, and whether DNSSEC vouches for them. `kind`: `MX`, `TXT` and so on.
    ///
    /// # Errors
    /// When there are none, or they cannot be had.
    pub async fn shown(&self, name: &str, kind: &str) -> Result<Answer<Vec<String>>, DnsFailure> {
        let kind: RecordType = kind.parse().map_err(|_| DnsFailure::Nothing)?;
        let answer = self.look_up(name, kind).await?;
        let shown = |data: &RData| match data {
            RData::TXT(text) => format!("\"{}\"", String::from_utf8_lossy(&text.txt_data.concat())),
            other => other.to_string(),
        };
        Ok(Answer { found: answer.found.iter().map(shown).collect(), secure: answer.secure })
    }
}

/// There is no such record, and its zone is proved to have no signatures.
fn is_unsigned_nothing(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, .. }))
}

/// A record as the handshake needs it. PKIX-TA and PKIX-EE are of no use for SMTP (RFC 7672 section 3.1.3).
fn usable(data: &RData) -> Option<Tlsa> {
    let RData::TLSA(TLSA { cert_usage, selector, matching, cert_data, .. }) = data else { return None };
    Tlsa::new(u8::from(*cert_usage), u8::from(*selector), u8::from(*matching), cert_data)
}
