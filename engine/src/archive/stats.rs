//! What is stored, for whom, and what storing it well saves.
//!
//! Two runs over rows, in pages: the records of each account, then the references to parts in the order of the parts. So
//! what is in memory grows with the accounts, not with their mail. Other work goes on meanwhile, and the figures of an
//! account that changes may be those of before or after.

use std::{collections::BTreeMap, ops::ControlFlow};

use bytes::Bytes;

use crate::{
    command::{AccountId, EngineError, MessageId},
    engine::Engine,
    kv::{
        Family,
        keys::{self, KeyReader},
    },
    store::{parts::PartHead, record::MessageRecord},
};

/// Rows read on one iterator, which keeps old files from going.
const ROWS_AT_ONCE: usize = 16 * 1024;

/// Takes the key and the value of a row.
type RowVisit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), EngineError>;

/// What somebody's mail takes. Octets are as the engine writes them: the store packs records further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// Messages; one that is in several mailboxes of an account counts once.
    pub messages: u64,
    /// Octets of these messages as clients see them.
    pub message_bytes: u64,
    /// Octets of their records, with what is kept there of the messages.
    pub record_bytes: u64,
    /// Parts that they refer to, each once.
    pub parts: u64,
    /// Octets stored of these parts.
    pub part_bytes: u64,
    /// Octets that would be stored more if each message had its own parts.
    pub repeated_bytes: u64,
}

impl StorageUse {
    /// Octets stored.
    pub const fn stored_bytes(&self) -> u64 {
        self.record_bytes.saturating_add(self.part_bytes)
    }

    /// Octets that decoding and compressing parts saves, less what records hold beside the octets of messages.
    pub fn packing_saved_bytes(&self) -> i64 {
        let plain = i128::from(self.message_bytes);
        let packed = i128::from(self.stored_bytes()) + i128::from(self.repeated_bytes);
        i64::try_from(plain - packed).unwrap_or(i64::MAX)
    }

    fn add_part(&mut self, stored: u64, uses: u64) {
        self.parts += 1;
        self.part_bytes = self.part_bytes.saturating_add(stored);
        self.repeated_bytes = self.repeated_bytes.saturating_add(stored.saturating_mul(uses.saturating_sub(1)));
    }

    fn add_records(&mut self, other: &Self) {
        self.messages += other.messages;
        self.message_bytes = self.message_bytes.saturating_add(other.message_bytes);
        self.record_bytes = self.record_bytes.saturating_add(other.record_bytes);
    }
}

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The whole store; a part counts once.
    pub whole: StorageUse,
    /// Each domain; a part counts once for each that refers to it.
    pub domains: BTreeMap<String, StorageUse>,
    /// Each account, with its address; a part counts once for each that refers to it.
    pub accounts: BTreeMap<AccountId, (String, StorageUse)>,
    /// Octets stored of parts that no message refers to: coming in, or waiting to be collected.
    pub waiting_bytes: u64,
}

/// The accounts that refer to a part, and how often.
#[derive(Debug, Default)]
struct Uses {
    part: Option<u64>,
    by_account: BTreeMap<u32, u64>,
}

impl Engine {
    /// Adds up what is stored. Reads every record and every reference, so it takes a while on a large store.
    pub fn stats(&self) -> Result<Stats, EngineError> {
        let mut stats = Stats::default();
        for account in self.directory().accounts() {
            stats.accounts.insert(account.id, (account.address.clone(), StorageUse::default()));
        }
        for (account, (_, used)) in &mut stats.accounts {
            let prefix = keys::account_prefix(account.0);
            self.pages(Family::Message, &prefix, &mut |key, row| {
                count_record(key, row, used);
                Ok(())
            })?;
        }
        let Stats { whole, domains, accounts, .. } = &mut stats;
        for (address, used) in accounts.values() {
            domains.entry(domain_of(address).to_owned()).or_default().add_records(used);
            whole.add_records(used);
        }
        let mut uses = Uses::default();
        self.pages(Family::Reference, &[keys::REFERENCE_USE], &mut |key, _| {
            let mut reader = KeyReader::new(key.get(1..).unwrap_or_default());
            let (Some(part), Some(account)) = (reader.u64(), reader.u32()) else { return Ok(()) };
            if uses.part != Some(part) {
                self.count_part(&std::mem::take(&mut uses), &mut stats)?;
                uses.part = Some(part);
            }
            *uses.by_account.entry(account).or_default() += 1;
            Ok(())
        })?;
        self.count_part(&uses, &mut stats)?;
        let mut all = 0_u64;
        self.pages(Family::Reference, &[keys::REFERENCE_HEAD], &mut |_, row| {
            all = all.saturating_add(PartHead::decode(row).map_or(0, |head| head.stored));
            Ok(())
        })?;
        stats.waiting_bytes = all.saturating_sub(stats.whole.part_bytes);
        Ok(stats)
    }

    /// Adds a part to all who refer to it.
    fn count_part(&self, uses: &Uses, stats: &mut Stats) -> Result<(), EngineError> {
        let Some(part) = uses.part else { return Ok(()) };
        let head = self.kv().get(Family::Reference, &keys::part_head(part))?;
        let Some(head) = head.and_then(|row| PartHead::decode(&row)) else { return Ok(()) };
        stats.whole.add_part(head.stored, uses.by_account.values().sum());
        let mut by_domain: BTreeMap<&str, u64> = BTreeMap::new();
        for (account, count) in &uses.by_account {
            if let Some((_, used)) = stats.accounts.get_mut(&AccountId(*account)) {
                used.add_part(head.stored, *count);
            }
        }
        for (account, count) in &uses.by_account {
            if let Some((address, _)) = stats.accounts.get(&AccountId(*account)) {
                *by_domain.entry(domain_of(address)).or_default() += count;
            }
        }
        for (domain, count) in by_domain {
            if let Some(used) = stats.domains.get_mut(domain) {
                used.add_part(head.stored, count);
            }
        }
        Ok(())
    }

    /// Visits the rows with a prefix, in pages.
    fn pages(&self, family: Family, prefix: &[u8], visit: RowVisit<'_>) -> Result<(), EngineError> {
        let (mut next, end) = (Some(Bytes::copy_from_slice(prefix)), keys::prefix_end(prefix));
        while let Some(from) = next.take() {
            let (mut rows, mut visited) = (0, Ok(()));
            self.kv().scan(family, &from, &end, &mut |key, row| {
                if rows == ROWS_AT_ONCE {
                    next = Some(Bytes::copy_from_slice(key));
                    return ControlFlow::Break(());
                }
                rows += 1;
                visited = visit(key, row);
                if visited.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            visited?;
        }
        Ok(())
    }
}

/// The domain of an address.
fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}

/// Adds a row of messages. A record that cannot be read is `fsck`'s to tell.
fn count_record(key: &[u8], row: &[u8], used: &mut StorageUse) {
    used.record_bytes = used.record_bytes.saturating_add((key.len() + row.len()) as u64);
    if key.get(8) == Some(&keys::MESSAGE_RECORD)
        && let Some(record) = MessageRecord::decode(MessageId(0), &Bytes::copy_from_slice(row))
    {
        used.messages += 1;
        used.message_bytes = used.message_bytes.saturating_add(record.size_bytes);
    }
}
