//! Distribution lists: addresses of ours whose mail goes to many, under the name of the list.
//!
//! ```text
//! list    01 posting1 len2 address… len2 owner… count4 (len2 poster…)*   (the folded address is in the key)
//! member  01 len2 address…                                              (list, NUL and folded member are in the key)
//! ```

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    Directory, Planned, RESOLVED_TARGETS_MAX, Targets,
    names::{address_key, domain_key},
    record::{damaged, put_text, text, versioned},
    resolve::Walk,
};
use crate::{
    command::EngineError,
    kv::{Family, KvError, keys},
};

const VERSION: u8 = 1;
/// Members of one list.
pub const LIST_MEMBERS_MAX: usize = RESOLVED_TARGETS_MAX;
/// Addresses that may post beside those whom the rule of a list allows it.
pub const LIST_POSTERS_MAX: usize = 1_000;
/// What follows the local part of a list in the addresses of its owner (RFC 2142 section 6, and where bounces go).
const OWNER_SUFFIXES: [&str; 3] = ["bounces", "owner", "request"];

/// Who may post to a list, beside its owner and those who are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posting {
    /// Everybody.
    Anyone,
    /// Its members.
    Members,
    /// Nobody.
    Owner,
}

/// A distribution list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRecord {
    /// Its address; the case of the local part is kept for display.
    pub address: String,
    /// Who answers for it and gets its bounces, here or elsewhere.
    pub owner: String,
    /// Who may post.
    pub posting: Posting,
    /// And these.
    pub posters: Vec<String>,
}

/// A list with its members: what is compared, and what is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    record: Arc<ListRecord>,
    members: Arc<BTreeMap<String, String>>,
}

impl ListRecord {
    /// Where bounces of what the list sends come to.
    pub fn bounce_address(&self) -> String {
        let (local, domain) = self.address.rsplit_once('@').unwrap_or_default();
        format!("{local}-bounces@{domain}")
    }

    fn key(&self) -> String {
        address_key(&self.address).unwrap_or_default()
    }

    fn encode(&self) -> Bytes {
        let mut row = BytesMut::new();
        row.put_u8(VERSION);
        row.put_u8(match self.posting {
            Posting::Anyone => 0,
            Posting::Members => 1,
            Posting::Owner => 2,
        });
        put_text(&mut row, self.address.as_bytes());
        put_text(&mut row, self.owner.as_bytes());
        row.put_u32_le(u32::try_from(self.posters.len()).unwrap_or(u32::MAX));
        for poster in &self.posters {
            put_text(&mut row, poster.as_bytes());
        }
        row.freeze()
    }

    pub(super) fn decode(key: &[u8], row: &[u8]) -> Result<Self, KvError> {
        let decoded = || {
            let mut rest = versioned(row)?;
            let posting = match rest.try_get_u8().ok()? {
                0 => Posting::Anyone,
                1 => Posting::Members,
                2 => Posting::Owner,
                _ => return None,
            };
            let (address, owner) = (text(&mut rest)?, text(&mut rest)?);
            let count = rest.try_get_u32_le().ok()?;
            let posters = (0..count).map(|_| text(&mut rest)).collect::<Option<Vec<_>>>()?;
            let same = address_key(&address)?.as_bytes() == key.get(1..)?;
            (same && rest.is_empty()).then_some(Self { address, owner, posting, posters })
        };
        decoded().ok_or_else(|| damaged("a list", key))
    }
}

fn encode_member(address: &str) -> Bytes {
    let mut row = BytesMut::new();
    row.put_u8(VERSION);
    put_text(&mut row, address.as_bytes());
    row.freeze()
}

/// As members are compared.
fn folded(address: &str) -> String {
    address.to_lowercase()
}

impl Directory {
    /// The lists, by address, with the number of their members.
    pub fn lists(&self) -> Vec<(&ListRecord, usize)> {
        let mut found: Vec<_> = self.lists.values().map(|list| (&*list.record, list.members.len())).collect();
        found.sort_by(|a, b| a.0.address.cmp(&b.0.address));
        found
    }

    /// A list, by its address.
    pub fn list(&self, address: &str) -> Option<&ListRecord> {
        self.lists.get(address_key(address)?.as_str()).map(|list| &*list.record)
    }

    /// The members of a list, in order.
    pub fn list_members(&self, address: &str) -> impl Iterator<Item = &str> {
        let list = address_key(address).and_then(|key| self.lists.get(key.as_str()));
        list.into_iter().flat_map(|list| list.members.values().map(String::as_str))
    }

    /// Whether an address, in any case, is a member of a list.
    pub fn is_list_member(&self, list: &str, address: &str) -> bool {
        let list = address_key(list).and_then(|key| self.lists.get(key.as_str()));
        list.is_some_and(|list| list.members.contains_key(&folded(address)))
    }

    /// Where mail to the members of a list goes. Lists among them are passed over.
    pub fn list_targets(&self, address: &str) -> Targets {
        let mut walk = Walk::new(self, true);
        for member in self.list_members(address) {
            walk.follow_target(member, address, None, 1);
        }
        walk.into_targets()
    }

    /// The list whose owner has this address: `sales-owner@` and the like.
    pub(super) fn list_of_owner(&self, key: &str) -> Option<&ListRecord> {
        let (local, domain) = key.rsplit_once('@')?;
        let (base, suffix) = local.rsplit_once('-')?;
        OWNER_SUFFIXES.contains(&suffix).then(|| self.list(&format!("{base}@{domain}")))?
    }

    pub(super) fn load_member(&mut self, key: &[u8], row: &[u8]) -> Result<(), KvError> {
        let decoded = || {
            let (list, member) = std::str::from_utf8(key.get(1..)?).ok()?.split_once('\0')?;
            let mut rest = versioned(row)?;
            let address = text(&mut rest)?;
            (rest.is_empty() && folded(&address) == member).then(|| (list.to_owned(), address))
        };
        let (list, address) = decoded().ok_or_else(|| damaged("a member of a list", key))?;
        let Some(mut found) = self.lists.get(list.as_str()).cloned() else {
            return Err(damaged("the list of a member", key));
        };
        drop(self.lists.remove(list.as_str()));
        Arc::make_mut(&mut found.members).insert(folded(&address), address);
        self.lists.insert(list, found);
        Ok(())
    }

    /// Adds or replaces; members stay.
    pub(super) fn put_list(&mut self, record: ListRecord) {
        let key = record.key();
        let members = self.lists.get(key.as_str()).map(|list| Arc::clone(&list.members)).unwrap_or_default();
        if self.lists.insert(key.clone(), List { record: Arc::new(record), members }).is_none() {
            self.change_domain(Self::domain_of(&key), |domain| domain.aliases += 1);
        }
    }

    fn drop_list(&mut self, key: &str) {
        if self.lists.remove(key).is_some() {
            self.change_domain(Self::domain_of(key), |domain| domain.aliases = domain.aliases.saturating_sub(1));
        }
    }
}

impl Planned {
    /// Makes a list (`is_new`) or changes it.
    pub(super) fn set_list(&mut self, list: &ListRecord, is_new: bool) -> Result<(), EngineError> {
        let address = if is_new {
            self.free_address(&list.address)?.shown
        } else {
            self.known_list(&list.address)?.address.clone()
        };
        if list.posters.len() > LIST_POSTERS_MAX {
            return Err(EngineError::Limit(format!("a list names at most {LIST_POSTERS_MAX} posters")));
        }
        let owner = self.target(&list.owner)?;
        if self.next.list(&owner).is_some() || address_key(&owner) == address_key(&address) {
            return Err(EngineError::Invalid(format!("{owner} is a list and cannot own one")));
        }
        let posters = list.posters.iter().map(|poster| super::plan::parsed(poster).map(|name| name.shown));
        let record = ListRecord { address, owner, posting: list.posting, posters: posters.collect::<Result<_, _>>()? };
        self.batch.put(Family::Sys, keys::list(&record.key()), record.encode());
        self.next.put_list(record);
        Ok(())
    }

    pub(super) fn remove_list(&mut self, address: &str) -> Result<(), EngineError> {
        let key = self.known_list(address)?.key();
        for member in self.next.list_members(address) {
            self.batch.delete(Family::Sys, keys::list_member(&key, &folded(member)));
        }
        self.batch.delete(Family::Sys, keys::list(&key));
        self.next.drop_list(&key);
        Ok(())
    }

    /// Adds members to a list, or takes them out.
    pub(super) fn set_list_members(&mut self, list: &str, members: &[String], add: bool) -> Result<(), EngineError> {
        let key = self.known_list(list)?.key();
        let Some(mut found) = self.next.lists.get(key.as_str()).cloned() else { return Ok(()) };
        let known = Arc::make_mut(&mut found.members);
        for member in members {
            if add {
                let address = self.target(member)?;
                if self.next.list(&address).is_some() {
                    return Err(EngineError::Invalid(format!("{address} is a list and cannot be a member of one")));
                }
                self.batch.put(Family::Sys, keys::list_member(&key, &folded(&address)), encode_member(&address));
                known.insert(folded(&address), address);
            } else {
                let shown = super::plan::parsed(member).map_or_else(|_| member.clone(), |name| name.shown);
                if known.remove(&folded(&shown)).is_none() {
                    return Err(EngineError::NotFound(format!("member {member} of {list}")));
                }
                self.batch.delete(Family::Sys, keys::list_member(&key, &folded(&shown)));
            }
        }
        if known.len() > LIST_MEMBERS_MAX {
            return Err(EngineError::Limit(format!("a list has at most {LIST_MEMBERS_MAX} members")));
        }
        self.next.lists.insert(key, found);
        Ok(())
    }

    fn known_list(&self, address: &str) -> Result<&ListRecord, EngineError> {
        self.next.list(address).ok_or_else(|| EngineError::NotFound(format!("list {address}")))
    }
}

/// The name of a list in `List-Id` (RFC 2919): its address with a dot.
pub fn list_id(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or_default();
    format!("{local}.{}", domain_key(domain).unwrap_or_default())
}
