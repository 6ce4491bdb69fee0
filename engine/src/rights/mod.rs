//! Who may do what with a mailbox (RFC 4314).
//!
//! * What: lists of rights by mailbox, what they add up to for an account, and the names under which mailboxes of other
//!   accounts are seen.
//! * In: rows of rights, the groups of the directory, who acts.
//! * Out: rights, refusals, the mailboxes that an account can see.
//! * Never: tells somebody without the right `l` whether a mailbox exists.
//! * Fails: with `NotFound` for what cannot be seen, with `NoPermission` for what can be seen and may not be done.
//!
//! The list of a mailbox has one row for each *subject*: its owner, everybody, an account or a group, by numbers that are
//! never given out again. What an account may do is all that is granted to any subject it is one of, without all that is
//! denied to any. The owner may do everything unless a row says otherwise, and can always see and administer.

mod actor;
mod names;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use rockdove_mail::{Rights, RightsUpdate};

pub(crate) use actor::{ANY, Actor, need};
pub(crate) use names::group_name;
pub use names::{Named, OTHER_USERS, PUBLIC, SubjectName};
pub(crate) use read::Grants;
pub use read::{Opened, SeenMailbox};

use crate::command::{AccountId, GroupId};

/// Subjects that the list of one mailbox may name; larger circles are groups. RFC 4314 names no minimum.
pub const SUBJECTS_MAX: usize = 500;

const VERSION: u8 = 1;

/// Somebody whom a list of rights names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The owner of the mailbox, whoever that is.
    Owner,
    /// Everybody who can log in.
    Anyone,
    /// An account.
    Account(AccountId),
    /// The members of a group.
    Group(GroupId),
}

impl Subject {
    /// Kind and number, as they are in the key.
    pub(crate) const fn key(self) -> (u8, u32) {
        match self {
            Self::Owner => (0, 0),
            Self::Anyone => (1, 0),
            Self::Account(account) => (2, account.0),
            Self::Group(group) => (3, group.0),
        }
    }

    pub(crate) const fn from_key(kind: u8, id: u32) -> Option<Self> {
        match (kind, id) {
            (0, 0) => Some(Self::Owner),
            (1, 0) => Some(Self::Anyone),
            (2, id) => Some(Self::Account(AccountId(id))),
            (3, id) => Some(Self::Group(GroupId(id))),
            _ => None,
        }
    }
}

/// What a subject is granted and denied.
///
/// ```text
/// 01 granted2 denied2      little-endian bits
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it may do.
    pub granted: Rights,
    /// What it may not do, whatever else it is granted (identifiers with `-`).
    pub denied: Rights,
}

impl Entry {
    pub(crate) fn encode(self) -> Vec<u8> {
        let [granted, denied] = [self.granted.bits().to_le_bytes(), self.denied.bits().to_le_bytes()];
        [&[VERSION][..], &granted, &denied].concat()
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let [VERSION, g0, g1, d0, d1] = row else { return None };
        let (granted, denied) = (u16::from_le_bytes([*g0, *g1]), u16::from_le_bytes([*d0, *d1]));
        let entry = Self { granted: Rights::from_bits(granted)?, denied: Rights::from_bits(denied)? };
        (!entry.is_empty()).then_some(entry)
    }

    const fn is_empty(self) -> bool {
        self.granted.is_empty() && self.denied.is_empty()
    }

    pub(crate) fn updated(self, denied: bool, update: RightsUpdate, rights: Rights) -> Self {
        if denied {
            Self { denied: self.denied.updated(update, rights), ..self }
        } else {
            Self { granted: self.granted.updated(update, rights), ..self }
        }
    }
}

/// The list of rights of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    entries: BTreeMap<Subject, Entry>,
}

/// What the owner may do whatever the list says, so that a mailbox never gets out of reach.
pub const OWNER_ALWAYS: Rights = Rights::LOOKUP.union(Rights::ADMINISTER);

impl Acl {
    /// Who is named, in order.
    pub fn entries(&self) -> impl Iterator<Item = (Subject, Entry)> + '_ {
        self.entries.iter().map(|(subject, entry)| (*subject, *entry))
    }

    pub(crate) fn get(&self, subject: Subject) -> Entry {
        self.entries.get(&subject).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, subject: Subject, entry: Entry) {
        if entry.is_empty() {
            self.entries.remove(&subject);
        } else {
            self.entries.insert(subject, entry);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the owner is granted: everything, unless the list says otherwise.
    pub fn of_owner(&self) -> Entry {
        self.entries.get(&Subject::Owner).copied().unwrap_or(Entry { granted: Rights::ALL, denied: Rights::NONE })
    }
}

/// What an account may do with a mailbox of `owner` that has this list.
pub(crate) fn rights(acl: Option<&Acl>, owner: AccountId, actor: AccountId, groups: &[GroupId]) -> Rights {
    let Some(acl) = acl else { return if owner == actor { Rights::ALL } else { Rights::NONE } };
    let mut sum = Entry::default();
    let mut add = |entry: Entry| {
        sum.granted = sum.granted | entry.granted;
        sum.denied = sum.denied | entry.denied;
    };
    add(acl.get(Subject::Anyone));
    add(acl.get(Subject::Account(actor)));
    for group in groups {
        add(acl.get(Subject::Group(*group)));
    }
    if owner != actor {
        return sum.granted.without(sum.denied);
    }
    add(acl.of_owner());
    sum.granted.without(sum.denied) | OWNER_ALWAYS
}

/// Everybody whom the lists of an account name, but for its owner.
pub(crate) fn subjects<'a>(acls: impl Iterator<Item = &'a Acl>) -> BTreeSet<Subject> {
    acls.flat_map(|acl| acl.entries.keys().copied()).filter(|subject| *subject != Subject::Owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Rights {
        Rights::parse(text).expect("rights")
    }

    fn acl(entries: &[(Subject, &str, &str)]) -> Acl {
        let mut acl = Acl::default();
        for (subject, granted, denied) in entries {
            acl.set(*subject, Entry { granted: parse(granted), denied: parse(denied) });
        }
        acl
    }

    #[test]
    fn rights_add_up_and_what_is_denied_is_taken_away_last() {
        let (owner, ben, cas) = (AccountId(1), AccountId(2), AccountId(3));
        let staff = [GroupId(9)];
        let list = acl(&[
            (Subject::Anyone, "l", ""),
            (Subject::Account(ben), "rs", "w"),
            (Subject::Group(GroupId(9)), "wi", "s"),
        ]);
        for (actor, groups, expected) in [
            (owner, &[][..], "lrswipkxtea"),
            (ben, &[], "lrs"),
            (ben, &staff, "lri"),
            (cas, &[], "l"),
            (cas, &staff, "lwi"),
        ] {
            assert_eq!(rights(Some(&list), owner, actor, groups), parse(expected), "{actor:?} {groups:?}");
        }
        assert_eq!(rights(None, owner, owner, &[]), Rights::ALL);
        assert_eq!(rights(None, owner, ben, &staff), Rights::NONE);
    }

    #[test]
    fn an_owner_can_give_up_rights_but_not_the_mailbox() {
        let owner = AccountId(1);
        let list = acl(&[(Subject::Owner, "r", "a")]);
        assert_eq!(rights(Some(&list), owner, owner, &[]), parse("lra"));
        let denied = acl(&[(Subject::Anyone, "lrsa", "lrswipkxtea")]);
        assert_eq!(rights(Some(&denied), owner, owner, &[]), parse("la"));
        assert_eq!(rights(Some(&denied), owner, AccountId(2), &[]), Rights::NONE);
    }

    #[test]
    fn rows_come_back_and_damage_is_seen() {
        let entry = Entry { granted: parse("lrs"), denied: parse("a") };
        let row = entry.encode();
        assert_eq!(Entry::decode(&row), Some(entry));
        for length in 0..row.len() {
            assert_eq!(Entry::decode(&row[..length]), None);
        }
        assert_eq!(Entry::decode(&Entry::default().encode()), None, "a row that says nothing");
        assert_eq!(Entry::decode(&[1, 0xff, 0xff, 0, 0]), None);
        for subject in
            [Subject::Owner, Subject::Anyone, Subject::Account(AccountId(7)), Subject::Group(GroupId(u32::MAX))]
        {
            let (kind, id) = subject.key();
            assert_eq!(Subject::from_key(kind, id), Some(subject));
        }
        assert_eq!((Subject::from_key(0, 1), Subject::from_key(4, 0)), (None, None));
    }
}
