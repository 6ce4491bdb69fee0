//! Where mail for an address goes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ALIAS_DEPTH_MAX, AccountRecord, Directory, Domain, RESOLVED_TARGETS_MAX, domain_key, fold_local, names::key_of,
};
use crate::command::AccountId;

/// What RFC 5321 section 4.5.1 has every server accept mail for.
const POSTMASTER: &str = "postmaster";
/// Between a user and a detail of theirs (RFC 5233).
const DETAIL_SEPARATOR: char = '+';

/// The answer to "who gets mail for this address?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The domain is ours, and mail for the address goes there. Never empty.
    Local(Targets),
    /// The domain is ours and nobody in it takes this address.
    UnknownRecipient,
    /// The domain is not ours.
    NotLocal,
}

/// Where mail for an address goes: each place once, in the order in which aliases and forwarding name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Accounts that get it.
    pub accounts: Vec<Target>,
    /// Addresses elsewhere that it is sent on to.
    pub onward: Vec<Onward>,
}

/// An account that gets the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The account.
    pub account: AccountId,
    /// Its primary address.
    pub address: String,
    /// What stood after the `+` of the address on the way here, as it was written.
    pub detail: Option<String>,
}

/// An address elsewhere that the mail is sent on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    /// The address.
    pub address: String,
    /// The alias or account of ours that sends it there.
    pub by: String,
}

impl Targets {
    /// Whether nobody gets the mail.
    pub const fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.onward.is_empty()
    }

    const fn len(&self) -> usize {
        self.accounts.len() + self.onward.len()
    }
}

/// What is known while following aliases.
struct Walk<'a> {
    directory: &'a Directory,
    /// Addresses on the way and behind us: each is looked at once, so a loop ends.
    seen: BTreeSet<String>,
    targets: Targets,
    accounts: BTreeSet<AccountId>,
    elsewhere: BTreeSet<String>,
    /// Accounts whose forwarding was followed; `true` while we are behind it.
    forwarded: BTreeMap<AccountId, bool>,
    /// Accounts send mail on.
    forwards: bool,
    /// A limit was met: the answer would be incomplete.
    broken: bool,
}

impl Directory {
    /// Who gets mail for an address, given in two pieces. In this order: the account or alias of exactly this name; those of the name before
    /// a `+`; for `postmaster` see below; the catch-all address of the domain.
    ///
    /// An alias whose every target has gone, or that leads through more than [`ALIAS_DEPTH_MAX`] aliases or to more
    /// than [`RESOLVED_TARGETS_MAX`] addresses, is an unknown recipient: refused in whole, so that the sender knows.
    ///
    /// An account that sends its mail on gets a copy only if it keeps one, or if its forwarding leads back to it.
    ///
    //= rfc5321#section-4.5.1
    //# Any system that includes an SMTP server supporting mail relaying or
    //# delivery MUST support the reserved mailbox "postmaster" as a case-
    //# insensitive local name.
    /// Unless `postmaster` is an account or alias, its mail goes to the catch-all address, else to the oldest account of
    /// the domain, else to the oldest account of the server.
    pub fn resolve_parts(&self, local: &str, domain: &str) -> Resolution {
        self.resolve_by(Walk::new(self, true), local, domain)
    }

    /// Whether an account has an address: mail for it comes to the account, directly or through aliases, before anybody
    /// sends it on.
    pub fn has_address(&self, account: AccountId, local: &str, domain: &str) -> bool {
        match self.resolve_by(Walk::new(self, false), local, domain) {
            Resolution::Local(targets) => targets.accounts.iter().any(|target| target.account == account),
            Resolution::UnknownRecipient | Resolution::NotLocal => false,
        }
    }

    fn resolve_by(&self, mut walk: Walk<'_>, local: &str, domain: &str) -> Resolution {
        let Some(name) = domain_key(domain) else { return Resolution::NotLocal };
        let Some(domain) = self.domains.get(&*name) else { return Resolution::NotLocal };
        let found = walk.follow(local, &name, None, 0)
            || walk.follow_catch_all(domain)
            || (fold_local(local) == POSTMASTER && walk.add_postmaster(domain));
        if found && !walk.broken && !walk.targets.is_empty() {
            Resolution::Local(walk.targets)
        } else {
            Resolution::UnknownRecipient
        }
    }

    /// Who gets mail for `<Postmaster>` without a domain (RFC 5321 section 4.1.1.3): the postmaster of the domain with
    /// the oldest account.
    pub fn resolve_postmaster(&self) -> Resolution {
        let oldest = self.domains.values().filter(|domain| domain.first_account.is_some());
        let Some(domain) = oldest.min_by_key(|domain| domain.first_account) else {
            return Resolution::UnknownRecipient;
        };
        self.resolve_parts(POSTMASTER, &domain.record.name)
    }

    /// Whether an address is taken by an account or alias, or leads to one by its `+`.
    pub(super) fn is_taken(&self, local: &str, domain: &str) -> bool {
        let named = |local: &str| {
            key_of(local, domain)
                .is_some_and(|key| self.logins.get(&*key).is_some() || self.aliases.get(&*key).is_some())
        };
        named(local) || split_detail(local).is_some_and(|(base, _)| named(base))
    }

    /// How many get mail behind the targets of an alias, as they would be resolved; `None` when a limit or a loop back
    /// to `key` is met.
    pub(super) fn expand(&self, key: &str, targets: &[String]) -> Option<usize> {
        let mut walk = Walk::new(self, true);
        for target in targets {
            walk.follow_target(target, key, None, 1);
        }
        (!walk.broken && !walk.seen.contains(key)).then_some(walk.targets.len())
    }
}

impl<'a> Walk<'a> {
    fn new(directory: &'a Directory, forwards: bool) -> Self {
        Self {
            directory,
            seen: BTreeSet::new(),
            targets: Targets::default(),
            accounts: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            forwarded: BTreeMap::new(),
            forwards,
            broken: false,
        }
    }

    /// Follows where an alias or account of ours leads: to another of us, or away.
    fn follow_target(&mut self, target: &str, by: &str, detail: Option<&str>, depth: usize) {
        let Some((local, domain)) = target.rsplit_once('@') else { return };
        if self.directory.domains.get(domain).is_some() {
            self.follow(local, domain, detail, depth);
        } else if self.has_room() && self.elsewhere.insert(target.to_owned()) {
            self.targets.onward.push(Onward { address: target.to_owned(), by: by.to_owned() });
        }
    }

    /// Whether one more may be added.
    fn has_room(&mut self) -> bool {
        self.broken |= self.targets.len() >= RESOLVED_TARGETS_MAX;
        !self.broken
    }

    /// Adds the accounts behind an address; `false` when nobody has that name.
    fn follow(&mut self, local: &str, domain: &str, detail: Option<&str>, depth: usize) -> bool {
        if self.follow_name(local, domain, detail, depth) {
            return true;
        }
        // A detail met earlier on the way is the one that the sender wrote; it stays.
        split_detail(local).is_some_and(|(base, own)| self.follow_name(base, domain, detail.or(Some(own)), depth))
    }

    fn follow_name(&mut self, local: &str, domain: &str, detail: Option<&str>, depth: usize) -> bool {
        let Some(key) = key_of(local, domain) else { return false };
        if let Some(id) = self.directory.logins.get(&*key) {
            self.add(*id, detail, depth);
            return true;
        }
        let directory = self.directory;
        let Some(alias) = directory.aliases.get(&*key) else { return false };
        if depth >= ALIAS_DEPTH_MAX {
            self.broken = true;
        } else if self.seen.insert(key) {
            alias.targets.iter().for_each(|target| self.follow_target(target, &alias.address, detail, depth + 1));
        }
        true
    }

    /// The catch-all address may be an alias, but not again somebody unknown.
    fn follow_catch_all(&mut self, domain: &Domain) -> bool {
        let Some((local, name)) = domain.record.catch_all.as_deref().and_then(|address| address.rsplit_once('@'))
        else {
            return false;
        };
        self.follow(local, name, None, 0)
    }

    fn add_postmaster(&mut self, domain: &Domain) -> bool {
        let anywhere = || self.directory.domains.values().filter_map(|domain| domain.first_account).min();
        let first = domain.first_account.or_else(anywhere);
        first.inspect(|id| self.add(*id, None, 0)).is_some()
    }

    /// Adds an account, or where it sends its mail on to.
    fn add(&mut self, id: AccountId, detail: Option<&str>, depth: usize) {
        let directory = self.directory;
        let Some(account) = directory.account(id) else { return };
        let Some(forward) = directory.forward(id).filter(|_| self.forwards) else { return self.put(account, detail) };
        match self.forwarded.get(&id) {
            // It leads back: there is nowhere else to leave the mail.
            Some(true) => self.put(account, detail),
            Some(false) => {}
            None if depth >= ALIAS_DEPTH_MAX => self.broken = true,
            None => {
                if forward.keep {
                    self.put(account, detail);
                }
                self.forwarded.insert(id, true);
                forward.targets.iter().for_each(|target| self.follow_target(target, &account.address, None, depth + 1));
                self.forwarded.insert(id, false);
            }
        }
    }

    fn put(&mut self, account: &AccountRecord, detail: Option<&str>) {
        if !self.accounts.contains(&account.id) && self.has_room() {
            self.accounts.insert(account.id);
            let (address, detail) = (account.address.clone(), detail.map(str::to_owned));
            self.targets.accounts.push(Target { account: account.id, address, detail });
        }
    }
}

/// `user+detail` in two; `None` when either is missing.
fn split_detail(local: &str) -> Option<(&str, &str)> {
    local.split_once(DETAIL_SEPARATOR).filter(|(base, detail)| !base.is_empty() && !detail.is_empty())
}
