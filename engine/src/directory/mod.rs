//! The directory: who lives here and where their mail goes.
//!
//! * What: local domains, accounts with their credentials and quotas, aliases, catch-all addresses, groups.
//! * In: directory commands, and the rows of [`Family::Sys`].
//! * Out: a [`Directory`] value that answers from memory; for a command, the rows to write and the next directory.
//! * Never: reads the store after start, changes anything in place, or gives an account id to a second account.
//! * Fails: with an [`EngineError`] that names the address or domain at fault; the directory is then as before.
//!
//! A `Directory` is a value: it is cloned in no time, and a change makes a new one that shares everything but the one
//! shard it touched ([`shards::Shards`]). So the committer plans against the newest, publishes it after the sync, and
//! every reader keeps the one it began with.

mod annotations;
mod circles;
mod forwarding;
mod names;
mod password;
mod plan;
mod record;
mod resolve;
mod shards;
mod signing;

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use bytes::Bytes;

pub use circles::{ADMINISTRATORS, GROUP_MEMBERS_MAX, GROUP_NAME_OCTETS_MAX, GROUPS_MAX};
pub use forwarding::{FORWARD_TARGETS_MAX, ForwardRecord};
pub use names::{DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, domain_key, fold_local};
pub use password::{
    ARGON2_LANES, ARGON2_MEMORY_KIB, ARGON2_OUTPUT_OCTETS, ARGON2_PASSES, PASSWORD_OCTETS_MAX, SCRAM_ITERATIONS,
    hash_password, verify_password,
};
pub use plan::{Planned, plan};
pub use record::{AccountRecord, AliasRecord, DomainRecord, GroupRecord};
pub use resolve::{Onward, Resolution, Target, Targets};
pub use signing::{SIGNING_KEYS_MAX, SigningAlgorithm, SigningKeyRecord};

use crate::{
    command::{AccountId, EngineError},
    kv::{Family, KvError, Read, keys},
};
use names::address_key;
use shards::Shards;

/// Targets an alias may name: RFC 5321 section 4.5.3.1.8 has every server take at least 100 recipients at once, and
/// a list of a few hundred people is ordinary. Larger lists nest.
pub const ALIAS_TARGETS_MAX: usize = 1_000;
/// Aliases that one address may pass through before it is taken for a mistake.
pub const ALIAS_DEPTH_MAX: usize = 10;
/// Accounts and addresses elsewhere that one address may end at, so that one message cannot become an unbounded batch.
pub const RESOLVED_TARGETS_MAX: usize = 10_000;

/// Allocator of account ids in [`Family::Sys`].
const ACCOUNT_ALLOCATOR: &str = "account";

/// A domain with what is counted about it in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Domain {
    record: Arc<DomainRecord>,
    accounts: u32,
    aliases: u32,
    /// The account with the lowest id.
    first_account: Option<AccountId>,
}

/// Everything that is known about domains, accounts and aliases at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Directory {
    /// By normalised name.
    domains: Shards<Domain>,
    /// By id.
    accounts: Shards<Arc<AccountRecord>, AccountId>,
    /// Account ids by folded address.
    logins: Shards<AccountId>,
    /// By folded address.
    aliases: Shards<Arc<AliasRecord>>,
    /// By account.
    forwards: Shards<Arc<ForwardRecord>, AccountId>,
    next_account: u32,
    circles: circles::Circles,
    /// Of the server, by what follows `/shared` in their names.
    annotations: Arc<BTreeMap<String, Bytes>>,
    signing_keys: signing::SigningKeys,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            domains: Shards::default(),
            accounts: Shards::default(),
            logins: Shards::default(),
            aliases: Shards::default(),
            forwards: Shards::default(),
            // 0 is never an account: its key range stays free for rows of the whole server.
            next_account: 1,
            circles: circles::Circles::default(),
            annotations: Arc::default(),
            signing_keys: signing::SigningKeys::default(),
        }
    }
}

impl Directory {
    /// Reads the directory from its rows.
    pub fn load(store: &dyn Read) -> Result<Self, EngineError> {
        let mut directory = Self::default();
        let mut damage = None;
        let to = [keys::SYS_FORWARD + 1];
        store.scan(Family::Sys, &[keys::SYS_DOMAIN], &to, &mut |key, value| match directory.load_row(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                damage = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = damage {
            return Err(error.into());
        }
        if let Some(row) = store.get(Family::Sys, &keys::allocator(ACCOUNT_ALLOCATOR))? {
            directory.next_account = record::decode_allocator(&row)?;
        }
        if let Some(row) = store.get(Family::Sys, &keys::allocator(circles::GROUP_ALLOCATOR))? {
            directory.circles.next_group = record::decode_allocator(&row)?;
        }
        Ok(directory)
    }

    /// Domain rows sort before account rows and these before alias rows, so the domain of a row is there already.
    fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), KvError> {
        match key.first() {
            Some(&keys::SYS_DOMAIN) => self.put_domain(DomainRecord::decode(key, value)?),
            Some(&keys::SYS_ACCOUNT) => self.put_account(AccountRecord::decode(key, value)?),
            Some(&keys::SYS_ALIAS) => self.put_alias(AliasRecord::decode(key, value)?),
            Some(&keys::SYS_GROUP) => self.put_group(GroupRecord::decode(key, value)?),
            Some(&keys::SYS_PUBLIC) => {
                let (domain, account) = record::decode_public(key, value)?;
                self.set_public(&domain, Some(account));
            }
            Some(&keys::SYS_ANNOTATION) => self.load_annotation(key, value)?,
            Some(&keys::SYS_SIGNING) => self.put_signing_key(SigningKeyRecord::decode(key, value)?),
            Some(&keys::SYS_FORWARD) => self.put_forward(ForwardRecord::decode(key, value)?),
            // Accounts that were removed are nobody any more; whoever sweeps their rows reads these.
            Some(&keys::SYS_LEAVING) => {}
            _ => return Err(KvError::Corrupt("an unknown row in the directory".to_owned())),
        }
        Ok(())
    }

    /// The local domains, by name.
    pub fn domains(&self) -> Vec<&DomainRecord> {
        let mut found: Vec<_> = self.domains.values().map(|domain| &*domain.record).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The accounts, by address.
    pub fn accounts(&self) -> Vec<&AccountRecord> {
        let mut found: Vec<_> = self.accounts.values().map(|account| &**account).collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }

    /// The aliases, by address.
    pub fn aliases(&self) -> Vec<&AliasRecord> {
        let mut found: Vec<_> = self.aliases.values().map(|alias| &**alias).collect();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        found
    }

    /// Number of accounts.
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    /// The account that logs in with this name: its primary address, in any case.
    pub fn account_by_login(&self, login: &str) -> Option<&AccountRecord> {
        let id = self.logins.get(address_key(login)?.as_str())?;
        self.account(*id)
    }

    /// The account with this id.
    pub fn account(&self, id: AccountId) -> Option<&AccountRecord> {
        self.accounts.get(&id).map(|account| &**account)
    }

    /// Whether mail to this domain (any case, A-labels or U-labels) is ours.
    pub fn is_local_domain(&self, domain: &str) -> bool {
        self.domain(domain).is_some()
    }

    fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(domain_key(name)?.as_str())
    }

    /// The domain part of a folded address.
    fn domain_of(key: &str) -> &str {
        key.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    fn change_domain(&mut self, name: &str, change: impl FnOnce(&mut Domain)) {
        if let Some(mut domain) = self.domains.get(name).cloned() {
            change(&mut domain);
            self.domains.insert(name.to_owned(), domain);
        }
    }

    /// Adds or replaces; counts stay.
    fn put_domain(&mut self, record: DomainRecord) {
        let name = record.name.clone();
        let record = Arc::new(record);
        let counts = self.domains.get(&*name).map(|domain| (domain.accounts, domain.aliases, domain.first_account));
        let (accounts, aliases, first_account) = counts.unwrap_or_default();
        self.domains.insert(name, Domain { record, accounts, aliases, first_account });
    }

    fn remove_domain(&mut self, name: &str) {
        self.domains.remove(name);
    }

    /// Adds, or replaces the one with the same id; the address of an account never changes.
    fn put_account(&mut self, record: AccountRecord) {
        let id = record.id;
        let key = record.key();
        self.next_account = self.next_account.max(id.0.saturating_add(1));
        if self.logins.insert(key.clone(), id).is_none() {
            self.change_domain(Self::domain_of(&key), |domain| {
                domain.accounts += 1;
                domain.first_account = Some(domain.first_account.map_or(id, |first| first.min(id)));
            });
        }
        self.accounts.insert(id, Arc::new(record));
    }

    fn remove_account(&mut self, id: AccountId) {
        let Some(account) = self.accounts.remove(&id) else { return };
        let key = account.key();
        self.logins.remove(&*key);
        let name = Self::domain_of(&key);
        let was_first = self.domains.get(name).is_some_and(|domain| domain.first_account == Some(id));
        // Looked for among all accounts, which is slow, but happens only when a domain loses its oldest account.
        let next_first = was_first.then(|| {
            self.accounts.values().filter(|other| Self::domain_of(&other.key()) == name).map(|other| other.id).min()
        });
        self.change_domain(name, |domain| {
            domain.accounts = domain.accounts.saturating_sub(1);
            if let Some(first) = next_first {
                domain.first_account = first;
            }
        });
    }

    fn put_alias(&mut self, record: AliasRecord) {
        let key = record.key();
        if self.aliases.insert(key.clone(), Arc::new(record)).is_none() {
            self.change_domain(Self::domain_of(&key), |domain| domain.aliases += 1);
        }
    }

    fn remove_alias(&mut self, key: &str) {
        if self.aliases.remove(key).is_some() {
            self.change_domain(Self::domain_of(key), |domain| domain.aliases = domain.aliases.saturating_sub(1));
        }
    }
}
