//! Groups of accounts, and whose mailboxes are public.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Directory,
    plan::{Planned, domain_name, missing_domain},
    record::{self, GroupRecord},
    shards::Shards,
};
use crate::{
    command::{AccountId, EngineError, GroupId, Outcome},
    kv::{Family, keys},
    rights::group_name,
};

/// Octets of the name of a group, as it is kept.
pub const GROUP_NAME_OCTETS_MAX: usize = 64;
/// Groups of a server; every change of one copies their list.
pub const GROUPS_MAX: usize = 10_000;
/// Members of a group; its row is rewritten by every change.
pub const GROUP_MEMBERS_MAX: usize = 10_000;
/// The group whose members may change quotas and the annotations of the server.
pub const ADMINISTRATORS: &str = "administrators";

/// Allocator of group ids in [`Family::Sys`].
pub(super) const GROUP_ALLOCATOR: &str = "group";

/// Everything that is known about groups and public accounts at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Circles {
    groups: Arc<BTreeMap<GroupId, Arc<GroupRecord>>>,
    by_name: Arc<BTreeMap<String, GroupId>>,
    /// The groups of an account, ascending.
    of: Shards<Arc<Vec<GroupId>>, AccountId>,
    /// Public accounts by domain.
    public: Arc<BTreeMap<String, AccountId>>,
    pub(super) next_group: u32,
}

impl Default for Circles {
    fn default() -> Self {
        Self {
            groups: Arc::default(),
            by_name: Arc::default(),
            of: Shards::default(),
            public: Arc::default(),
            next_group: 1,
        }
    }
}

impl Directory {
    /// The groups, by name.
    pub fn groups(&self) -> Vec<&GroupRecord> {
        self.circles.by_name.values().filter_map(|id| self.group(*id)).collect()
    }

    /// The group with this id.
    pub fn group(&self, id: GroupId) -> Option<&GroupRecord> {
        self.circles.groups.get(&id).map(|group| &**group)
    }

    /// The group of this name, in any case.
    pub fn group_by_name(&self, name: &str) -> Option<&GroupRecord> {
        self.circles.by_name.get(&group_name(name)?).and_then(|id| self.group(*id))
    }

    /// The groups that an account is a member of, ascending.
    pub fn groups_of(&self, account: AccountId) -> &[GroupId] {
        self.circles.of.get(&account).map_or(&[], |groups| groups.as_slice())
    }

    /// Whether an account is a member of [`ADMINISTRATORS`].
    pub fn is_administrator(&self, account: AccountId) -> bool {
        self.circles.by_name.get(ADMINISTRATORS).is_some_and(|group| self.groups_of(account).contains(group))
    }

    /// The public account of a domain (its normalised name).
    pub fn public_account(&self, domain: &str) -> Option<AccountId> {
        self.circles.public.get(domain).copied()
    }

    /// The public account of an account's domain.
    pub fn public_account_of(&self, account: AccountId) -> Option<AccountId> {
        let key = self.account(account)?.key();
        self.public_account(Self::domain_of(&key))
    }

    /// Adds, or replaces the one with the same id.
    pub(super) fn put_group(&mut self, record: GroupRecord) {
        self.remove_group(record.id);
        self.circles.next_group = self.circles.next_group.max(record.id.0.saturating_add(1));
        for member in &record.members {
            let mut groups = self.groups_of(*member).to_vec();
            if let Err(at) = groups.binary_search(&record.id) {
                groups.insert(at, record.id);
            }
            self.circles.of.insert(*member, Arc::new(groups));
        }
        Arc::make_mut(&mut self.circles.by_name).insert(record.name.clone(), record.id);
        Arc::make_mut(&mut self.circles.groups).insert(record.id, Arc::new(record));
    }

    fn remove_group(&mut self, id: GroupId) {
        let Some(old) = Arc::make_mut(&mut self.circles.groups).remove(&id) else { return };
        Arc::make_mut(&mut self.circles.by_name).remove(&old.name);
        for member in &old.members {
            let left: Vec<GroupId> = self.groups_of(*member).iter().copied().filter(|group| *group != id).collect();
            if left.is_empty() {
                self.circles.of.remove(member);
            } else {
                self.circles.of.insert(*member, Arc::new(left));
            }
        }
    }

    pub(super) fn set_public(&mut self, domain: &str, account: Option<AccountId>) {
        let public = Arc::make_mut(&mut self.circles.public);
        match account {
            Some(account) => public.insert(domain.to_owned(), account),
            None => public.remove(domain),
        };
    }
}

impl Planned {
    pub(super) fn create_group(&mut self, name: &str) -> Result<(), EngineError> {
        let invalid = || EngineError::Invalid(format!("{name:?} is not a name for a group: letters, digits, - _ ."));
        let name = group_name(name).ok_or_else(invalid)?;
        if self.next.group_by_name(&name).is_some() {
            return Err(EngineError::Exists(format!("group {name}")));
        }
        if self.next.circles.groups.len() >= GROUPS_MAX {
            return Err(EngineError::Limit(format!("a server has at most {GROUPS_MAX} groups")));
        }
        let id = GroupId(self.next.circles.next_group);
        let next = id.0.checked_add(1).ok_or_else(|| EngineError::Limit("no group ids are left".to_owned()))?;
        self.batch.put(Family::Sys, keys::allocator(GROUP_ALLOCATOR), record::encode_allocator(next));
        self.put_group(GroupRecord { id, name, members: Vec::new() });
        self.outcome = Outcome::Group(id);
        Ok(())
    }

    pub(super) fn remove_group(&mut self, name: &str) -> Result<(), EngineError> {
        let id = self.group(name)?.id;
        self.batch.delete(Family::Sys, keys::group(id.0));
        self.next.remove_group(id);
        Ok(())
    }

    pub(super) fn set_member(&mut self, name: &str, address: &str, member: bool) -> Result<(), EngineError> {
        let account = self.account(address)?.id;
        let mut group = self.group(name)?.clone();
        match (group.members.binary_search(&account), member) {
            (Err(_), true) if group.members.len() >= GROUP_MEMBERS_MAX => {
                return Err(EngineError::Limit(format!("a group has at most {GROUP_MEMBERS_MAX} members")));
            }
            (Err(at), true) => group.members.insert(at, account),
            (Ok(at), false) => {
                group.members.remove(at);
            }
            (Ok(_), true) => return Err(EngineError::Exists(format!("member {address} of group {}", group.name))),
            (Err(_), false) => return Err(EngineError::NotFound(format!("member {address} of group {}", group.name))),
        }
        self.put_group(group);
        Ok(())
    }

    pub(super) fn set_public(&mut self, domain: &str, address: Option<&str>) -> Result<(), EngineError> {
        let name = domain_name(domain)?;
        if self.next.domain(&name).is_none() {
            return Err(missing_domain(&name));
        }
        let account = address.map(|address| self.account(address).map(|account| account.id)).transpose()?;
        self.put_public(&name, account);
        Ok(())
    }

    pub(super) fn put_public(&mut self, domain: &str, account: Option<AccountId>) {
        if self.next.public_account(domain) == account {
            return;
        }
        match account {
            Some(account) => {
                self.batch.put(Family::Sys, keys::public_account(domain), record::encode_public(account));
            }
            None => self.batch.delete(Family::Sys, keys::public_account(domain)),
        }
        self.next.set_public(domain, account);
    }

    /// Takes an account that goes out of every group, and its mailboxes out of the public.
    pub(super) fn leave_circles(&mut self, account: AccountId) {
        for id in self.next.groups_of(account).to_vec() {
            if let Some(mut group) = self.next.group(id).cloned() {
                group.members.retain(|member| *member != account);
                self.put_group(group);
            }
        }
        let public = self.next.circles.public.iter().filter(|(_, public)| **public == account);
        let domains: Vec<String> = public.map(|(domain, _)| domain.clone()).collect();
        for domain in domains {
            self.put_public(&domain, None);
        }
    }

    fn put_group(&mut self, record: GroupRecord) {
        self.batch.put(Family::Sys, keys::group(record.id.0), record.encode());
        self.next.put_group(record);
    }

    fn group(&self, name: &str) -> Result<&GroupRecord, EngineError> {
        self.next.group_by_name(name).ok_or_else(|| EngineError::NotFound(format!("group {name}")))
    }
}
