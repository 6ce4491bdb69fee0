//! The rows of the directory. Each value begins with a version byte; integers are little-endian.
//!
//! ```text
//! domain    01 created8 flag1 [len2 catch_all…]                 (the name is in the key)
//! account   01 created8 limits1 [bytes8] [messages8] [mailboxes4] len2 address… len2 argon2… len2 scram_salt… iterations4 stored_key32 server_key32
//! alias     01 len2 address… count4 (len2 target…)*             (the folded address is in the key)
//! group     01 len2 name… count4 account4*                      (the id is in the key)
//! forward   see forwarding.rs                                  (the account is in the key)
//! signing   see signing.rs                                     (domain and selector are in the key)
//! public    01 account4                                         (the name of the domain is in the key)
//! allocator 01 next8
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::names::address_key;
use crate::{
    command::{AccountId, Credential, GroupId, QuotaLimits},
    kv::{KvError, keys::KeyReader},
};

/// Version of every record here.
const VERSION: u8 = 1;

/// A local domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRecord {
    /// Normalised name: A-labels, lower case.
    pub name: String,
    /// When it was created, in seconds since 1970.
    pub created_unix_s: i64,
    /// A local address that receives what nobody else in the domain does.
    pub catch_all: Option<String>,
}

/// A mail account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its id.
    pub id: AccountId,
    /// Primary address and login; the case of the local part is kept for display.
    pub address: String,
    /// How it proves who it is.
    pub credential: Credential,
    /// Most octets its messages may take; `None` for no limit.
    pub quota_bytes: Option<u64>,
    /// Most messages in all its mailboxes; `None` for no limit.
    pub quota_messages: Option<u64>,
    /// Most mailboxes; `None` for no limit but the engine's.
    pub quota_mailboxes: Option<u32>,
    /// When it was created, in seconds since 1970.
    pub created_unix_s: i64,
}

/// An address that stands for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasRecord {
    /// The address; the case of the local part is kept for display.
    pub address: String,
    /// Addresses that receive its mail, here or elsewhere.
    pub targets: Vec<String>,
}

impl DomainRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        row.put_i64_le(self.created_unix_s);
        row.put_u8(u8::from(self.catch_all.is_some()));
        if let Some(catch_all) = &self.catch_all {
            put_text(&mut row, catch_all.as_bytes());
        }
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let mut rest = versioned(row)?;
            let created_unix_s = rest.try_get_i64_le().ok()?;
            let catch_all = if flag(&mut rest)? { Some(text(&mut rest)?) } else { None };
            let name = String::from_utf8(key.get(1..)?.to_vec()).ok()?;
            rest.is_empty().then_some(Self { name, created_unix_s, catch_all })
        };
        decoded().ok_or_else(|| damaged("a domain", key))
    }
}

impl AccountRecord {
    /// The most that it may have.
    pub fn limits(&self) -> QuotaLimits {
        QuotaLimits { bytes: self.quota_bytes, messages: self.quota_messages, mailboxes: self.quota_mailboxes }
    }

    /// Its address as it is compared.
    pub(super) fn key(&self) -> String {
        address_key(&self.address).unwrap_or_default()
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        row.put_i64_le(self.created_unix_s);
        let limits = self.limits();
        let present = [limits.bytes.is_some(), limits.messages.is_some(), limits.mailboxes.is_some()];
        row.put_u8((0_u8..).zip(present).map(|(place, is_there)| u8::from(is_there) << place).sum());
        [limits.bytes, limits.messages].into_iter().flatten().for_each(|limit| row.put_u64_le(limit));
        limits.mailboxes.into_iter().for_each(|limit| row.put_u32_le(limit));
        put_text(&mut row, self.address.as_bytes());
        put_text(&mut row, self.credential.argon2.as_bytes());
        put_text(&mut row, &self.credential.scram_salt);
        row.put_u32_le(self.credential.scram_iterations);
        row.put_slice(&self.credential.scram_stored_key);
        row.put_slice(&self.credential.scram_server_key);
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let mut reader = KeyReader::new(key.get(1..)?);
            let id = AccountId(reader.u32()?);
            reader.end()?;
            let mut rest = versioned(row)?;
            let created_unix_s = rest.try_get_i64_le().ok()?;
            let present = rest.try_get_u8().ok().filter(|present| *present < 8)?;
            let quota_bytes = if present & 1 != 0 { Some(rest.try_get_u64_le().ok()?) } else { None };
            let quota_messages = if present & 2 != 0 { Some(rest.try_get_u64_le().ok()?) } else { None };
            let quota_mailboxes = if present & 4 != 0 { Some(rest.try_get_u32_le().ok()?) } else { None };
            let address = text(&mut rest)?;
            address_key(&address)?;
            let mut credential = Credential {
                argon2: text(&mut rest)?,
                scram_salt: octets(&mut rest)?,
                scram_iterations: rest.try_get_u32_le().ok()?,
                scram_stored_key: [0; 32],
                scram_server_key: [0; 32],
            };
            rest.try_copy_to_slice(&mut credential.scram_stored_key).ok()?;
            rest.try_copy_to_slice(&mut credential.scram_server_key).ok()?;
            let record = Self { id, address, credential, quota_bytes, quota_messages, quota_mailboxes, created_unix_s };
            rest.is_empty().then_some(record)
        };
        decoded().ok_or_else(|| damaged("an account", key))
    }
}

impl AliasRecord {
    /// Its address as it is compared.
    pub(super) fn key(&self) -> String {
        address_key(&self.address).unwrap_or_default()
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        put_text(&mut row, self.address.as_bytes());
        row.put_u32_le(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        for target in &self.targets {
            put_text(&mut row, target.as_bytes());
        }
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let mut rest = versioned(row)?;
            let address = text(&mut rest)?;
            let count = rest.try_get_u32_le().ok()?;
            let targets = (0..count).map(|_| text(&mut rest)).collect::<Option<Vec<_>>>()?;
            let same = address_key(&address)?.as_bytes() == key.get(1..)?;
            (same && rest.is_empty()).then_some(Self { address, targets })
        };
        decoded().ok_or_else(|| damaged("an alias", key))
    }
}

/// Accounts that are granted rights together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its id.
    pub id: GroupId,
    /// Its name: lower case, composed.
    pub name: String,
    /// The accounts, ascending.
    pub members: Vec<AccountId>,
}

impl GroupRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        put_text(&mut row, self.name.as_bytes());
        row.put_u32_le(u32::try_from(self.members.len()).unwrap_or(u32::MAX));
        self.members.iter().for_each(|member| row.put_u32_le(member.0));
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let mut reader = KeyReader::new(key.get(1..)?);
            let id = GroupId(reader.u32()?);
            reader.end()?;
            let mut rest = versioned(row)?;
            let name = text(&mut rest)?;
            let count = rest.try_get_u32_le().ok()?;
            let members = (0..count).map(|_| rest.try_get_u32_le().ok().map(AccountId)).collect::<Option<Vec<_>>>()?;
            (rest.is_empty() && members.is_sorted()).then_some(Self { id, name, members })
        };
        decoded().ok_or_else(|| damaged("a group", key))
    }
}

/// The row of the public account of a domain.
pub(super) fn encode_public(account: AccountId) -> Bytes {
    let mut row = BytesMut::new();
    row.put_u8(VERSION);
    row.put_u32_le(account.0);
    row.freeze()
}

/// The domain and its public account.
pub(super) fn decode_public(key: &[u8], row: &[u8]) -> Result<(String, AccountId), KvError> {
    let decoded = || {
        let name = String::from_utf8(key.get(1..)?.to_vec()).ok()?;
        let mut rest = versioned(row)?;
        let account = AccountId(rest.try_get_u32_le().ok()?);
        rest.is_empty().then_some((name, account))
    };
    decoded().ok_or_else(|| damaged("the public account of a domain", key))
}

/// The row of an allocator of account or group ids.
pub(super) fn encode_allocator(next: u32) -> Bytes {
    let mut row = BytesMut::new();
    row.put_u8(VERSION);
    row.put_u64_le(u64::from(next));
    row.freeze()
}

/// The next free account or group id.
pub(super) fn decode_allocator(row: &[u8]) -> Result<u32, KvError> {
    let decoded = || {
        let mut rest = versioned(row)?;
        let next = rest.try_get_u64_le().ok()?;
        rest.is_empty().then_some(u32::try_from(next).ok()?)
    };
    decoded().ok_or_else(|| KvError::Corrupt("an allocator of the directory cannot be read".to_owned()))
}

pub(super) fn damaged(what: &str, key: &[u8]) -> KvError {
    let name = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
    KvError::Corrupt(format!("{what} in the directory cannot be read: {name:?}"))
}

pub(super) fn versioned(row: &[u8]) -> Option<&[u8]> {
    row.strip_prefix(&[VERSION])
}

pub(super) fn put_text(row: &mut BytesMut, text: &[u8]) {
    // Everything put here is checked to be shorter before.
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    row.put_u16_le(len);
    row.put_slice(&text[..usize::from(len)]);
}

pub(super) fn flag(rest: &mut &[u8]) -> Option<bool> {
    match rest.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn octets(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::from(rest.try_get_u16_le().ok()?);
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head.to_vec())
}

pub(super) fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(octets(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::keys;

    fn account() -> AccountRecord {
        AccountRecord {
            id: AccountId(7),
            address: "Anna@example.org".to_owned(),
            credential: Credential {
                argon2: "$argon2id$".to_owned(),
                scram_salt: vec![1, 2, 3],
                scram_iterations: 4_096,
                scram_stored_key: [4; 32],
                scram_server_key: [5; 32],
            },
            quota_bytes: Some(1 << 40),
            quota_messages: Some(1 << 33),
            quota_mailboxes: Some(500),
            created_unix_s: -5,
        }
    }

    #[test]
    fn records_come_back_as_they_went() {
        let domain =
            DomainRecord { name: "a.example".into(), created_unix_s: 9, catch_all: Some("x@a.example".into()) };
        assert_eq!(DomainRecord::decode(&keys::domain("a.example"), &domain.encode()), Ok(domain));
        let unlimited = AccountRecord { quota_bytes: None, quota_messages: None, quota_mailboxes: None, ..account() };
        let messages = AccountRecord { quota_messages: Some(7), ..unlimited.clone() };
        for record in [account(), unlimited, messages] {
            assert_eq!(AccountRecord::decode(&keys::account(7), &record.encode()), Ok(record));
        }
        let alias =
            AliasRecord { address: "All@a.example".into(), targets: vec!["b@a.example".into(), "c@a.example".into()] };
        assert_eq!(AliasRecord::decode(&keys::alias("all@a.example"), &alias.encode()), Ok(alias));
        let group = GroupRecord { id: GroupId(3), name: "staff".into(), members: vec![AccountId(1), AccountId(9)] };
        assert_eq!(GroupRecord::decode(&keys::group(3), &group.encode()), Ok(group));
        let public = ("a.example".to_owned(), AccountId(7));
        assert_eq!(decode_public(&keys::public_account("a.example"), &encode_public(AccountId(7))), Ok(public));
        assert_eq!(decode_allocator(&encode_allocator(u32::MAX)), Ok(u32::MAX));
    }

    #[test]
    fn damage_is_named_and_never_panics() {
        let row = account().encode();
        for length in 0..row.len() {
            assert!(AccountRecord::decode(&keys::account(7), &row[..length]).is_err());
        }
        assert!(AccountRecord::decode(&keys::account(7), &[&row[..], b"x"].concat()).is_err());
        assert!(AccountRecord::decode(&[], &row).is_err());
        let mut other_version = row.to_vec();
        other_version[0] = 2;
        assert!(AccountRecord::decode(&keys::account(7), &other_version).is_err());
        let alias = AliasRecord { address: "all@a.example".into(), targets: vec![] };
        let error = AliasRecord::decode(&keys::alias("other@a.example"), &alias.encode());
        assert_eq!(
            error,
            Err(KvError::Corrupt("an alias in the directory cannot be read: \"other@a.example\"".into()))
        );
    }
}
