//! Annotations of mailboxes and of the server (RFC 5464): who may set and see them, how many there may be, their rows.
//!
//! ```text
//! Account  account4 09 mailbox4 path…           -> 01 value…     shared, in the account of the mailbox
//! Account  account4 0a mailbox4 reader4 path…   -> 01 value…     private; mailbox 0, reader = account: of the server
//! Sys      0c path…                             -> 01 value…     shared, of the server
//! ```
//! A path is what follows `/shared` or `/private` in the name of an entry. They are in memory with their account. What is
//! private is beside the mailbox too, so that it goes with the mailbox in the same batch.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rockdove_mail::{METADATA_VALUE_OCTETS_MAX, MetadataEntry, MetadataScope, Rights};

use super::plan::AccountPlan;
use crate::{
    command::{AccountId, EngineError, MailboxId, Outcome},
    engine::Engine,
    kv::{
        Family,
        keys::{self, KeyReader},
    },
    rights,
    store::account::AccountState,
};

/// Entries of a mailbox, or of the server, that are shared, and as many of each account that are private. RFC 5464 section
/// 4.1 asks for 10.
pub const ANNOTATIONS_MAX: usize = 100;
/// Octets of the names and values that are shared in an account, and as many of each account that are private there: they
/// are in memory with the account.
pub const ANNOTATION_OCTETS_MAX: usize = 1024 * 1024;

const VERSION: u8 = 1;
/// Where the annotations of the server are that only an account itself sees. No mailbox has this id.
const SERVER: MailboxId = MailboxId(0);

/// Values by path.
pub(crate) type Annotations = BTreeMap<String, Bytes>;
/// Annotations of an account, by mailbox and by who sees them; `None`: shared.
pub(crate) type AllAnnotations = Arc<BTreeMap<(MailboxId, Option<AccountId>), Arc<Annotations>>>;
/// An entry and its value.
pub type Annotation = (MetadataEntry, Bytes);
/// An entry and its new value; `None` removes it.
pub type AnnotationChange = (MetadataEntry, Option<Bytes>);

pub(crate) fn encode(value: &[u8]) -> Vec<u8> {
    [&[VERSION], value].concat()
}

pub(crate) fn decode(row: &[u8]) -> Option<Bytes> {
    let value = row.strip_prefix(&[VERSION])?;
    (value.len() <= METADATA_VALUE_OCTETS_MAX).then(|| Bytes::copy_from_slice(value))
}

/// The place and the path of a row of annotations, from what follows the kind in its key.
pub(crate) fn place(kind: u8, rest: &[u8]) -> Option<((MailboxId, Option<AccountId>), String)> {
    let mut reader = KeyReader::new(rest);
    let mailbox = MailboxId(reader.u32()?);
    let (whose, scope) = match kind {
        keys::ACCOUNT_SHARED => (None, MetadataScope::Shared),
        keys::ACCOUNT_PRIVATE => (Some(AccountId(reader.u32()?)), MetadataScope::Private),
        _ => return None,
    };
    Some(((mailbox, whose), path(scope, reader.rest())?))
}

/// The path in a key, if an entry with this path can have a value.
pub(crate) fn path(scope: MetadataScope, octets: &[u8]) -> Option<String> {
    let entry = MetadataEntry::parse(&MetadataEntry::of(scope, std::str::from_utf8(octets).ok()?)?.to_string())?;
    (entry.can_have_value() && entry.path().as_bytes() == octets).then(|| entry.path().to_owned())
}

/// The annotations after these changes.
pub(crate) fn changed(old: &Annotations, changes: &[&AnnotationChange]) -> Result<Annotations, EngineError> {
    let mut new = old.clone();
    for (entry, value) in changes {
        if !entry.can_have_value() {
            return Err(EngineError::Invalid(format!("{entry} cannot have a value")));
        }
        match value {
            Some(value) if value.len() > METADATA_VALUE_OCTETS_MAX => {
                let most = METADATA_VALUE_OCTETS_MAX;
                return Err(EngineError::Limit(format!("a value has at most {most} octets")));
            }
            Some(value) => {
                new.insert(entry.path().to_owned(), value.clone());
            }
            None => {
                new.remove(entry.path());
            }
        }
    }
    if new.len() > ANNOTATIONS_MAX {
        return Err(EngineError::Limit(format!("there are at most {ANNOTATIONS_MAX} annotations")));
    }
    Ok(new)
}

fn octets(annotations: &Annotations) -> usize {
    annotations.iter().map(|(path, value)| path.len() + value.len()).sum()
}

/// Octets of memory, roughly.
pub(crate) fn weight(all: &AllAnnotations) -> usize {
    all.values().map(|annotations| 64 + 64 * annotations.len() + octets(annotations)).sum()
}

/// These annotations with their names.
pub(crate) fn named(scope: MetadataScope, annotations: Option<&Annotations>) -> impl Iterator<Item = Annotation> {
    let named = move |(path, value): (&String, &Bytes)| Some((MetadataEntry::of(scope, path)?, value.clone()));
    annotations.into_iter().flatten().filter_map(named)
}

/// Refuses to show or change annotations of a mailbox to somebody with these rights.
fn need(have: Rights, what: &str) -> Result<(), EngineError> {
    rights::need(have, Rights::LOOKUP, &what)?;
    if have.intersects(Rights::ANNOTATIONS) {
        return Ok(());
    }
    Err(EngineError::NoPermission(format!("annotations of {what} need one of the rights r, s, w, i and p")))
}

impl AccountPlan<'_> {
    //= rfc5464#section-4.3
    //# When any one annotation fails to be set, resulting in a tagged NO
    //# response from the server, then the server MUST NOT change the values
    //# for other annotations specified in the SETMETADATA command.
    /// Sets annotations of a mailbox; those that are private are the giver's, or the owner's.
    pub(crate) fn annotate(
        &mut self,
        mailbox: MailboxId,
        changes: &[AnnotationChange],
    ) -> Result<Outcome, EngineError> {
        need(self.rights(mailbox), &format!("mailbox {}", mailbox.0))?;
        self.state.mailbox(mailbox)?;
        let reader = self.actor.as_ref().map_or(self.slot.id, |actor| actor.account);
        for scope in [MetadataScope::Shared, MetadataScope::Private] {
            let reader = (scope == MetadataScope::Private).then_some(reader);
            let changes: Vec<_> = changes.iter().filter(|(entry, _)| entry.scope() == scope).collect();
            self.set_annotations((mailbox, reader), &changes)?;
        }
        Ok(Outcome::Done)
    }

    /// Sets annotations of the server that only this account sees.
    pub(crate) fn annotate_server(&mut self, changes: &[&AnnotationChange]) -> Result<(), EngineError> {
        self.set_annotations((SERVER, Some(self.slot.id)), changes)
    }

    fn set_annotations(
        &mut self,
        place: (MailboxId, Option<AccountId>),
        changes: &[&AnnotationChange],
    ) -> Result<(), EngineError> {
        let new = changed(self.state.annotations_at(place), changes)?;
        self.annotated |= !changes.is_empty();
        for (entry, _) in changes {
            let key = self.annotation_key(place, entry.path());
            match new.get(entry.path()) {
                Some(value) => self.batch.put(Family::Account, key, encode(value)),
                None => self.batch.delete(Family::Account, key),
            }
        }
        self.put_annotations(place, new);
        let all = self.state.annotations.iter().filter(|((_, reader), _)| *reader == place.1);
        if all.map(|(_, annotations)| octets(annotations)).sum::<usize>() > ANNOTATION_OCTETS_MAX {
            let most = ANNOTATION_OCTETS_MAX;
            return Err(EngineError::Limit(format!("annotations have at most {most} octets in an account")));
        }
        Ok(())
    }

    fn put_annotations(&mut self, place: (MailboxId, Option<AccountId>), new: Annotations) {
        let all = Arc::make_mut(&mut self.state.annotations);
        if new.is_empty() {
            all.remove(&place);
        } else {
            all.insert(place, Arc::new(new));
        }
    }

    fn annotation_key(&self, (mailbox, reader): (MailboxId, Option<AccountId>), path: &str) -> Bytes {
        match reader {
            None => keys::shared_annotation(self.account(), mailbox.0, path),
            Some(reader) => keys::private_annotation(self.account(), mailbox.0, reader.0, path),
        }
    }

    //= rfc5464#section-4.1
    //# This applies to a rename of the
    //# INBOX, with the additional behavior that the annotations are copied
    //# from the original INBOX to the renamed mailbox
    pub(super) fn copy_annotations(&mut self, from: MailboxId, to: MailboxId) {
        let all = Arc::clone(&self.state.annotations);
        for ((_, reader), annotations) in all.iter().filter(|((mailbox, _), _)| *mailbox == from) {
            for (path, value) in annotations.iter() {
                let key = self.annotation_key((to, *reader), path);
                self.batch.put(Family::Account, key, encode(value));
            }
            self.put_annotations((to, *reader), Annotations::clone(annotations));
        }
    }

    //= rfc5464#section-4.1
    //# Servers SHOULD delete annotations for a mailbox when the mailbox is
    //# deleted
    pub(super) fn drop_annotations(&mut self, mailbox: MailboxId) {
        if !self.state.annotations.keys().any(|(annotated, _)| *annotated == mailbox) {
            return;
        }
        Arc::make_mut(&mut self.state.annotations).retain(|(annotated, _), _| *annotated != mailbox);
        for kind in [keys::ACCOUNT_SHARED, keys::ACCOUNT_PRIVATE] {
            let prefix = keys::annotations(self.account(), kind, mailbox.0);
            let end = keys::prefix_end(&prefix);
            self.batch.delete_range(Family::Account, prefix, end);
        }
    }
}

impl AccountState {
    fn annotations_at(&self, place: (MailboxId, Option<AccountId>)) -> &Annotations {
        static NONE: Annotations = Annotations::new();
        self.annotations.get(&place).map_or(&NONE, |annotations| annotations)
    }

    /// What `reader` sees of a mailbox.
    fn seen_by(&self, reader: AccountId, mailbox: MailboxId) -> Vec<Annotation> {
        let private = named(MetadataScope::Private, Some(self.annotations_at((mailbox, Some(reader)))));
        private.chain(named(MetadataScope::Shared, Some(self.annotations_at((mailbox, None))))).collect()
    }
}

impl Engine {
    /// The annotations of a mailbox that `reader` sees, by name. Reads the disk when the account is not in memory.
    ///
    /// # Errors
    /// `NotFound` when it does not see the mailbox, `NoPermission` when it may not see its annotations (RFC 5464 section
    /// 3.3).
    pub fn annotations(
        &self,
        reader: AccountId,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Result<Vec<Annotation>, EngineError> {
        self.account(account)?;
        self.annotations_cached(reader, account, mailbox)
            .unwrap_or_else(|| Err(EngineError::NotFound(format!("mailbox {}", mailbox.0))))
    }

    /// [`Engine::annotations`], if that needs no disk.
    pub fn annotations_cached(
        &self,
        reader: AccountId,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Option<Result<Vec<Annotation>, EngineError>> {
        let state = self.slot(account).published_cached()?;
        let have = self.rights_cached(reader, account, mailbox).unwrap_or_default();
        Some(need(have, &format!("mailbox {}", mailbox.0)).map(|()| state.seen_by(reader, mailbox)))
    }

    //= rfc5464#section-3.2.1.1
    //# Indicates a method for contacting the server administrator.  The
    //# value MUST be a URI (e.g., a mailto: or tel: URL).
    /// The annotations of the server that an account sees, by name, with the postmaster of its domain as `/shared/admin`.
    /// Reads the disk when the account is not in memory.
    pub fn server_annotations(&self, reader: AccountId) -> Result<Vec<Annotation>, EngineError> {
        let private = self.account(reader)?.seen_by(reader, SERVER);
        let directory = self.directory();
        let address = directory.account(reader).map(|account| account.address.clone()).unwrap_or_default();
        let domain = address.rsplit_once('@').map(|(_, domain)| domain);
        let admin = domain.and_then(|domain| {
            Some((MetadataEntry::of(MetadataScope::Shared, "/admin")?, format!("mailto:postmaster@{domain}").into()))
        });
        let shared = named(MetadataScope::Shared, Some(directory.annotations()));
        let mut all: Vec<Annotation> = private.into_iter().chain(admin).chain(shared).collect();
        all.sort();
        Ok(all)
    }
}
