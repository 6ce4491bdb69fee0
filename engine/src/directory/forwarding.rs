//! Accounts that send their mail on.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    Directory, Planned, Resolution,
    record::{damaged, flag, put_text, text, versioned},
};
use crate::{
    command::{AccountId, EngineError},
    kv::{
        Family, KvError,
        keys::{self, KeyReader},
    },
};

const VERSION: u8 = 1;
/// Addresses that one account may send its mail on to: what people need; who wants more makes an alias.
pub const FORWARD_TARGETS_MAX: usize = 100;

/// Where the mail of an account is sent on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRecord {
    /// Whose.
    pub account: AccountId,
    /// Addresses, here or elsewhere.
    pub targets: Vec<String>,
    /// The account gets a copy too.
    pub keep: bool,
}

impl ForwardRecord {
    fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        row.put_u8(u8::from(self.keep));
        row.put_u32_le(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        self.targets.iter().for_each(|target| put_text(&mut row, target.as_bytes()));
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let mut reader = KeyReader::new(key.get(1..)?);
            let account = AccountId(reader.u32()?);
            reader.end()?;
            let mut rest = versioned(row)?;
            let keep = flag(&mut rest)?;
            let count = rest.try_get_u32_le().ok()?;
            let targets = (0..count).map(|_| text(&mut rest)).collect::<Option<Vec<_>>>()?;
            rest.is_empty().then_some(Self { account, targets, keep })
        };
        decoded().ok_or_else(|| damaged("forwarding", key))
    }
}

impl Directory {
    /// Where an account sends its mail on to.
    pub fn forward(&self, account: AccountId) -> Option<&ForwardRecord> {
        self.forwards.get(&account).map(|forward| &**forward)
    }

    pub(super) fn put_forward(&mut self, record: ForwardRecord) {
        self.forwards.insert(record.account, Arc::new(record));
    }
}

impl Planned {
    pub(super) fn set_forward(&mut self, address: &str, targets: &[String], keep: bool) -> Result<(), EngineError> {
        let (account, address) = self.account(address).map(|account| (account.id, account.address.clone()))?;
        if targets.len() > FORWARD_TARGETS_MAX {
            return Err(EngineError::Limit(format!("mail is sent on to at most {FORWARD_TARGETS_MAX} addresses")));
        }
        if targets.is_empty() {
            self.remove_forward(account);
            return Ok(());
        }
        let targets = targets.iter().map(|target| self.target(target)).collect::<Result<Vec<_>, _>>()?;
        let record = ForwardRecord { account, targets, keep };
        self.batch.put(Family::Sys, keys::forward(account.0), record.encode());
        self.next.put_forward(record);
        let (local, domain) = address.rsplit_once('@').unwrap_or_default();
        if matches!(self.next.resolve_parts(local, domain), Resolution::Local(_)) {
            return Ok(());
        }
        Err(EngineError::Invalid(format!("mail of {address} would go to nobody, or through too many addresses")))
    }

    pub(super) fn remove_forward(&mut self, account: AccountId) {
        if self.next.forwards.remove(&account).is_some() {
            self.batch.delete(Family::Sys, keys::forward(account.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_comes_back_as_it_went() {
        let targets = vec!["a@here.example".to_owned(), "b@far.example".to_owned()];
        let record = ForwardRecord { account: AccountId(9), targets, keep: true };
        let (key, row) = (keys::forward(9), record.encode());
        assert_eq!(ForwardRecord::decode(&key, &row), Ok(record));
        for cut in 0..row.len() {
            assert!(ForwardRecord::decode(&key, &row[..cut]).is_err());
        }
    }
}
