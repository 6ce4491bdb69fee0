//! What an account can see: mailboxes of others, and its rights.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{Arc, PoisonError, RwLock},
};

use rockdove_mail::{MailboxName, Rights, SpecialUse};

use super::{ANY, Acl, Actor, Named, Subject, SubjectName, need, subjects};
use crate::{
    command::{AccountId, EngineError, MailboxId},
    directory::Directory,
    engine::Engine,
    kv::{Family, Read, keys},
    store::account::{AccountSlot, AccountState, rights_key},
};

/// A mailbox that an account found by a name, and may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whose it is.
    pub account: AccountId,
    /// Which.
    pub mailbox: MailboxId,
    /// What the account that asked may do with it.
    pub rights: Rights,
}

/// A mailbox of another account that an account sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenMailbox {
    /// Whose it is.
    pub owner: AccountId,
    /// Which of the owner's it is.
    pub mailbox: MailboxId,
    /// The name under which it is seen.
    pub name: MailboxName,
    /// What its owner uses it for; no use of the reader's.
    pub special_use: Option<SpecialUse>,
    /// What the reader may do with it; `l` at least.
    pub rights: Rights,
}

/// Which accounts name whom in their lists of rights. Worked out when the engine opens, and after every commit.
#[derive(Debug, Default)]
pub(crate) struct Grants(RwLock<Granted>);

#[derive(Debug, Default)]
struct Granted {
    owners: BTreeMap<Subject, BTreeSet<AccountId>>,
    /// What was counted of an owner.
    named: BTreeMap<AccountId, BTreeSet<Subject>>,
}

impl Grants {
    /// Looks at the rows of rights of every account.
    pub(crate) fn load(store: &dyn Read, directory: &Directory) -> Result<Self, EngineError> {
        let mut granted = Granted::default();
        for account in directory.accounts() {
            let prefix = keys::rights_of_account(account.id.0);
            let mut named = BTreeSet::new();
            store.scan(Family::Account, &prefix, &keys::prefix_end(&prefix), &mut |key, _| {
                // A row that cannot be read is told of when the account is.
                let subject = key.get(prefix.len()..).and_then(rights_key).map(|(_, subject)| subject);
                named.extend(subject.filter(|subject| *subject != Subject::Owner));
                ControlFlow::Continue(())
            })?;
            granted.set(account.id, named);
        }
        Ok(Self(RwLock::new(granted)))
    }

    /// Takes notice of what was published.
    pub(crate) fn follow(&self, slot: &AccountSlot) {
        let state = slot.published_cached();
        let named = state.map(|state| subjects(state.acls.values().map(|acl| &**acl))).unwrap_or_default();
        let read = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let same = read.named.get(&slot.id).map_or(named.is_empty(), |known| *known == named);
        drop(read);
        if !same {
            self.0.write().unwrap_or_else(PoisonError::into_inner).set(slot.id, named);
        }
    }

    /// The accounts that name one of these, ascending.
    fn owners(&self, subjects: impl Iterator<Item = Subject>) -> BTreeSet<AccountId> {
        let granted = self.0.read().unwrap_or_else(PoisonError::into_inner);
        subjects.filter_map(|subject| granted.owners.get(&subject)).flatten().copied().collect()
    }
}

impl Granted {
    fn set(&mut self, owner: AccountId, named: BTreeSet<Subject>) {
        for subject in self.named.remove(&owner).unwrap_or_default() {
            if let Some(owners) = self.owners.get_mut(&subject) {
                owners.remove(&owner);
            }
        }
        for subject in &named {
            self.owners.entry(*subject).or_default().insert(owner);
        }
        if !named.is_empty() {
            self.named.insert(owner, named);
        }
    }
}

impl Engine {
    /// Whose mailbox a name means to `actor`, whether it is there or not. `None`: nobody's. What `actor` has under that
    /// name itself comes first. Reads the disk when the account is not in memory.
    pub fn owner_of(&self, actor: AccountId, name: &MailboxName) -> Result<Option<Named>, EngineError> {
        let own = self.mailboxes(actor)?.by_name(name).is_some();
        Ok(self.meant(actor, name, own))
    }

    fn meant(&self, actor: AccountId, name: &MailboxName, own: bool) -> Option<Named> {
        let mine = || Some(Named { owner: actor, name: name.clone() });
        if own { mine() } else { Named::elsewhere(&self.directory(), actor, name).unwrap_or_else(mine) }
    }

    /// The mailbox of this name, for `actor`, which must have the rights `wanted`. `NotFound` for what it cannot see.
    /// Reads the disk when an account is not in memory.
    pub fn open_named(&self, actor: AccountId, name: &MailboxName, wanted: Rights) -> Result<Opened, EngineError> {
        let missing = || EngineError::NotFound(format!("mailbox {name}"));
        let named = self.owner_of(actor, name)?.ok_or_else(missing)?;
        let state = self.account(named.owner).map_err(|error| hidden(error, name))?;
        self.opened(actor, name, &named, &state, wanted)
    }

    /// [`Engine::open_named`], if that needs no disk.
    pub fn open_named_cached(
        &self,
        actor: AccountId,
        name: &MailboxName,
        wanted: Rights,
    ) -> Option<Result<Opened, EngineError>> {
        let own = self.mailboxes_cached(actor)?.by_name(name).is_some();
        let Some(named) = self.meant(actor, name, own) else {
            return Some(Err(EngineError::NotFound(format!("mailbox {name}"))));
        };
        let state = self.slot(named.owner).published_cached()?;
        Some(self.opened(actor, name, &named, &state, wanted))
    }

    fn opened(
        &self,
        actor: AccountId,
        name: &MailboxName,
        named: &Named,
        state: &AccountState,
        wanted: Rights,
    ) -> Result<Opened, EngineError> {
        let what = format!("mailbox {name}");
        let found = state.list.by_name(&named.name).ok_or_else(|| EngineError::NotFound(what.clone()))?;
        let rights = self.rights_in(actor, named.owner, state, found.id);
        need(rights, wanted, &what)?;
        if !rights.intersects(ANY) {
            return Err(EngineError::NotFound(what));
        }
        Ok(Opened { account: named.owner, mailbox: found.id, rights })
    }

    fn rights_in(&self, actor: AccountId, owner: AccountId, state: &AccountState, mailbox: MailboxId) -> Rights {
        let acl = state.acls.get(&mailbox).map(|acl| &**acl);
        if acl.is_none() && actor == owner {
            return Rights::ALL;
        }
        Actor::new(&self.directory(), actor).rights(acl, owner)
    }

    /// What `actor` may do with a mailbox; nothing when it is not there. Reads the disk when the account is not in
    /// memory.
    pub fn rights(&self, actor: AccountId, account: AccountId, mailbox: MailboxId) -> Result<Rights, EngineError> {
        let state = self.account(account)?;
        let is_there = state.mailbox(mailbox).is_ok();
        Ok(if is_there { self.rights_in(actor, account, &state, mailbox) } else { Rights::NONE })
    }

    /// [`Engine::rights`], if that needs no disk.
    pub fn rights_cached(&self, actor: AccountId, account: AccountId, mailbox: MailboxId) -> Option<Rights> {
        let state = self.slot(account).published_cached()?;
        state.mailbox(mailbox).ok()?;
        Some(self.rights_in(actor, account, &state, mailbox))
    }

    /// The list of rights of a mailbox as RFC 4314 section 3.6 shows it: identifiers and rights, the owner first.
    pub fn acl(&self, account: AccountId, mailbox: MailboxId) -> Result<Vec<(String, Rights)>, EngineError> {
        let state = self.account(account)?;
        state.mailbox(mailbox)?;
        let directory = self.directory();
        let empty = Acl::default();
        let acl = state.acls.get(&mailbox).map_or(&empty, |acl| acl);
        let others = acl.entries().filter(|(subject, _)| *subject != Subject::Owner);
        let mut lines = Vec::new();
        for (subject, entry) in std::iter::once((Subject::Owner, acl.of_owner())).chain(others) {
            for (denied, rights) in [(false, entry.granted), (true, entry.denied)] {
                let name = SubjectName { subject, denied }.write(&directory, account);
                lines.extend(name.filter(|_| !rights.is_empty()).map(|name| (name, rights)));
            }
        }
        Ok(lines)
    }

    /// Who an identifier means on a mailbox of this account (RFC 4314 section 3.7).
    pub fn subject(&self, account: AccountId, identifier: &str) -> Result<SubjectName, EngineError> {
        SubjectName::parse(&self.directory(), account, identifier)
    }

    /// The mailboxes of others that `reader` sees, by name. Reads the disk when an account is not in memory.
    pub fn seen_mailboxes(&self, reader: AccountId) -> Result<Vec<SeenMailbox>, EngineError> {
        let mut seen = Vec::new();
        for owner in self.owners_for(reader) {
            match self.account(owner) {
                Ok(state) => self.add_seen(reader, owner, &state, &mut seen),
                // It was removed meanwhile.
                Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }

    /// [`Engine::seen_mailboxes`], if that needs no disk.
    pub fn seen_mailboxes_cached(&self, reader: AccountId) -> Option<Vec<SeenMailbox>> {
        let mut seen = Vec::new();
        for owner in self.owners_for(reader) {
            self.add_seen(reader, owner, &*self.slot(owner).published_cached()?, &mut seen);
        }
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Some(seen)
    }

    /// The accounts that have granted something to this one.
    pub fn owners_for(&self, reader: AccountId) -> BTreeSet<AccountId> {
        let directory = self.directory();
        let groups = directory.groups_of(reader).iter().map(|group| Subject::Group(*group));
        let mut owners = self.grants().owners([Subject::Anyone, Subject::Account(reader)].into_iter().chain(groups));
        owners.remove(&reader);
        owners
    }

    fn add_seen(&self, reader: AccountId, owner: AccountId, state: &AccountState, seen: &mut Vec<SeenMailbox>) {
        let directory: Arc<Directory> = self.directory();
        let actor = Actor::new(&directory, reader);
        for (mailbox, acl) in state.acls.iter() {
            let rights = actor.rights(Some(acl), owner);
            let Some(info) = state.list.by_id(*mailbox).filter(|_| rights.contains(Rights::LOOKUP)) else { continue };
            if let Some(name) = Named::seen_by(&directory, reader, owner, &info.name) {
                seen.push(SeenMailbox { owner, mailbox: *mailbox, name, special_use: info.special_use, rights });
            }
        }
    }
}

/// An account that has gone is like a mailbox that is not there.
fn hidden(error: EngineError, name: &MailboxName) -> EngineError {
    if let EngineError::NotFound(_) = error { EngineError::NotFound(format!("mailbox {name}")) } else { error }
}
