//! Keys that mail of a domain is signed with (RFC 6376).

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Directory, Planned, names::domain_key};
use crate::{
    command::EngineError,
    kv::{Family, KvError, keys},
};

const VERSION: u8 = 1;
const ACTIVE: u8 = 1;
/// Keys of one domain: an old and a new one for each algorithm, and some to spare.
pub const SIGNING_KEYS_MAX: usize = 16;
/// Octets of a selector.
const SELECTOR_OCTETS_MAX: usize = 63;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// rsa-sha256; the key is PKCS#1 DER.
    RsaSha256,
    /// ed25519-sha256 (RFC 8463); the key is PKCS#8 DER.
    Ed25519,
}

/// A key of a domain. It is not shown by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// Normalised name of the domain.
    pub domain: String,
    /// The selector: where its public half is published.
    pub selector: String,
    /// How it signs.
    pub algorithm: SigningAlgorithm,
    /// Mail is signed with it; one that is not waits to be published, or is still looked up by others.
    pub active: bool,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: i64,
    /// The private half, DER.
    pub private: Vec<u8>,
    /// What is published: the value of `p=` before Base64.
    pub public: Vec<u8>,
}

impl fmt::Debug for SigningKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, selector, algorithm, active, .. } = self;
        write!(f, "SigningKeyRecord({selector} of {domain}, {algorithm:?}, active: {active})")
    }
}

/// The keys, by domain and selector.
pub(super) type SigningKeys = Arc<BTreeMap<(String, String), Arc<SigningKeyRecord>>>;

impl SigningKeyRecord {
    fn key(&self) -> (String, String) {
        (self.domain.clone(), self.selector.clone())
    }

    fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        row.put_i64_le(self.created_unix_s);
        row.put_u8(if self.active { ACTIVE } else { 0 });
        row.put_u8(match self.algorithm {
            SigningAlgorithm::RsaSha256 => 0,
            SigningAlgorithm::Ed25519 => 1,
        });
        for half in [&self.private, &self.public] {
            row.put_u32_le(u32::try_from(half.len()).unwrap_or(u32::MAX));
            row.put_slice(half);
        }
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let (domain, selector) = std::str::from_utf8(key.get(1..)?).ok()?.split_once('\0')?;
            let mut rest = row;
            (rest.try_get_u8().ok()? == VERSION).then_some(())?;
            let created_unix_s = rest.try_get_i64_le().ok()?;
            let active = rest.try_get_u8().ok()? & ACTIVE != 0;
            let algorithm = match rest.try_get_u8().ok()? {
                0 => SigningAlgorithm::RsaSha256,
                1 => SigningAlgorithm::Ed25519,
                _ => return None,
            };
            let mut half = || {
                let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
                let (half, after) = rest.split_at_checked(length)?;
                rest = after;
                Some(half.to_vec())
            };
            let (private, public) = (half()?, half()?);
            let (domain, selector) = (domain.to_owned(), selector.to_owned());
            rest.is_empty().then_some(Self { domain, selector, algorithm, active, created_unix_s, private, public })
        };
        decoded().ok_or_else(|| KvError::Corrupt("a signing key in the directory cannot be read".to_owned()))
    }
}

impl Directory {
    /// All keys of a domain, by selector.
    pub fn signing_keys(&self, domain: &str) -> Vec<Arc<SigningKeyRecord>> {
        let Some(name) = domain_key(domain) else { return Vec::new() };
        let from = (name.clone(), String::new());
        let mine = self.signing_keys.range(from..).take_while(|((domain, _), _)| *domain == name);
        mine.map(|(_, record)| Arc::clone(record)).collect()
    }

    pub(super) fn put_signing_key(&mut self, record: SigningKeyRecord) {
        Arc::make_mut(&mut self.signing_keys).insert(record.key(), Arc::new(record));
    }

    fn remove_signing_key(&mut self, domain: &str, selector: &str) -> bool {
        let key = (domain.to_owned(), selector.to_owned());
        Arc::make_mut(&mut self.signing_keys).remove(&key).is_some()
    }
}

impl Planned {
    pub(super) fn set_signing_key(&mut self, record: &SigningKeyRecord) -> Result<(), EngineError> {
        let name = domain_key(&record.domain).unwrap_or_default();
        if self.next.domains.get(&*name).is_none() {
            return Err(EngineError::NotFound(format!("domain {}", record.domain)));
        }
        let selector = record.selector.to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        };
        if selector.len() > SELECTOR_OCTETS_MAX || !selector.split('.').all(is_label) {
            return Err(EngineError::Invalid(format!("{:?} is no selector: letters, digits and -", record.selector)));
        }
        let known = self.next.signing_keys(&name);
        if known.len() >= SIGNING_KEYS_MAX && known.iter().all(|known| known.selector != selector) {
            return Err(EngineError::Limit(format!("a domain has at most {SIGNING_KEYS_MAX} signing keys")));
        }
        let record = SigningKeyRecord { domain: name, selector, ..record.clone() };
        self.batch.put(Family::Sys, keys::signing_key(&record.domain, &record.selector), record.encode());
        self.next.put_signing_key(record);
        Ok(())
    }

    pub(super) fn remove_signing_key(&mut self, domain: &str, selector: &str) -> Result<(), EngineError> {
        let (name, selector) = (domain_key(domain).unwrap_or_default(), selector.to_ascii_lowercase());
        if !self.next.remove_signing_key(&name, &selector) {
            return Err(EngineError::NotFound(format!("signing key {selector} of domain {domain}")));
        }
        self.batch.delete(Family::Sys, keys::signing_key(&name, &selector));
        Ok(())
    }

    /// The keys go with their domain.
    pub(super) fn remove_signing_keys(&mut self, name: &str) {
        for record in self.next.signing_keys(name) {
            self.batch.delete(Family::Sys, keys::signing_key(name, &record.selector));
            self.next.remove_signing_key(name, &record.selector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_and_is_not_shown() {
        let record = SigningKeyRecord {
            domain: "a.example".into(),
            selector: "s1".into(),
            algorithm: SigningAlgorithm::Ed25519,
            active: true,
            created_unix_s: 5,
            private: vec![0xaa; 40],
            public: vec![1, 2, 3],
        };
        let key = keys::signing_key("a.example", "s1");
        assert_eq!(SigningKeyRecord::decode(&key, &record.encode()), Ok(record.clone()));
        for cut in 0..record.encode().len() {
            assert!(SigningKeyRecord::decode(&key, &record.encode()[..cut]).is_err());
        }
        assert!(!format!("{record:?}").contains("170"));
    }
}
