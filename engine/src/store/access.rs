//! Rights in a plan: what the actor may do, and changes of lists of rights.

use std::sync::Arc;

use rockdove_mail::{MailboxName, Rights, RightsUpdate};

use super::plan::AccountPlan;
use crate::{
    command::{EngineError, MailboxId, Outcome, QuotaLimits},
    directory::Directory,
    kv::{Family, keys},
    rights::{self, Acl, OWNER_ALWAYS, SUBJECTS_MAX, Subject, SubjectName},
};

impl AccountPlan<'_> {
    /// What whoever gives the command may do with a mailbox.
    pub(crate) fn rights(&self, mailbox: MailboxId) -> Rights {
        let acl = self.state.acls.get(&mailbox).map(|acl| &**acl);
        self.actor.as_ref().map_or(Rights::ALL, |actor| actor.rights(acl, self.slot.id))
    }

    /// Refuses the command unless its giver has these rights; who cannot see the mailbox is told that it is not there.
    pub(crate) fn need(&self, mailbox: MailboxId, need: Rights) -> Result<Rights, EngineError> {
        let have = self.rights(mailbox);
        rights::need(have, need, &format!("mailbox {}", mailbox.0))?;
        Ok(have)
    }

    /// [`AccountPlan::need`] for a mailbox that is known by its name.
    pub(crate) fn need_named(&self, name: &MailboxName, need: Rights) -> Result<MailboxId, EngineError> {
        let missing = || EngineError::NotFound(format!("mailbox {name}"));
        let mailbox = self.find(name).ok_or_else(missing)?;
        rights::need(self.rights(mailbox), need, &format!("mailbox {name}"))?;
        Ok(mailbox)
    }

    //= rfc4314#section-4
    //# CREATE - "k" right on a nearest existing parent mailbox.
    /// Refuses a new mailbox unless the actor may create it. Whether there is one already is told to those who see it.
    pub(crate) fn need_create(&self, name: &MailboxName) -> Result<(), EngineError> {
        let is_owner = self.actor.as_ref().is_none_or(|actor| actor.account == self.slot.id);
        let mut above = std::iter::successors(name.parent(), MailboxName::parent);
        let nearest = above.find_map(|parent| self.find(&parent));
        let may = nearest.map_or(is_owner, |parent| self.rights(parent).contains(Rights::CREATE));
        let existing = self.find(name).filter(|mailbox| self.rights(*mailbox).contains(Rights::LOOKUP));
        match existing {
            Some(_) => Err(EngineError::Exists(format!("mailbox {name}"))),
            None if may => Ok(()),
            None => Err(EngineError::NoPermission(format!("mailbox {name} cannot be created"))),
        }
    }

    /// Refuses more mailboxes than the account may have.
    pub(crate) fn check_mailboxes(&self, limits: QuotaLimits) -> Result<(), EngineError> {
        let have = u32::try_from(self.state.mailboxes.len()).unwrap_or(u32::MAX);
        if limits.mailboxes.is_some_and(|most| have >= most) { Err(EngineError::OverQuota) } else { Ok(()) }
    }

    pub(crate) fn set_rights(
        &mut self,
        directory: &Directory,
        mailbox: MailboxId,
        identifier: &str,
        (update, rights): (RightsUpdate, Rights),
    ) -> Result<Outcome, EngineError> {
        self.need(mailbox, Rights::ADMINISTER)?;
        self.state.mailbox(mailbox)?;
        let SubjectName { subject, denied } = SubjectName::parse(directory, self.slot.id, identifier)?;
        let mut acl = self.state.acls.get(&mailbox).map(|acl| Acl::clone(acl)).unwrap_or_default();
        let base = if subject == Subject::Owner { acl.of_owner() } else { acl.get(subject) };
        let mut new = base.updated(denied, update, rights);
        if subject == Subject::Owner {
            new.granted = new.granted | OWNER_ALWAYS;
            // Everything is what no row says.
            if new.granted == Rights::ALL && new.denied.is_empty() {
                new = rights::Entry::default();
            }
        }
        // Rows of those that are gone make room.
        let owner = self.slot.id;
        let gone =
            |subject: &Subject| SubjectName { subject: *subject, denied: false }.write(directory, owner).is_none();
        let gone: Vec<Subject> = acl.entries().map(|(subject, _)| subject).filter(gone).collect();
        for subject in gone {
            acl.set(subject, rights::Entry::default());
            self.batch.delete(Family::Account, self.rights_key(mailbox, subject));
        }
        acl.set(subject, new);
        if acl.len() > SUBJECTS_MAX {
            return Err(EngineError::Limit(format!("a list of rights has at most {SUBJECTS_MAX} identifiers")));
        }
        self.write_entry(mailbox, subject, &acl);
        self.put_acl(mailbox, acl);
        self.modseq();
        self.changed.insert(mailbox);
        Ok(Outcome::Done)
    }

    fn rights_key(&self, mailbox: MailboxId, subject: Subject) -> bytes::Bytes {
        let (kind, id) = subject.key();
        keys::rights(self.account(), mailbox.0, kind, id)
    }

    fn write_entry(&mut self, mailbox: MailboxId, subject: Subject, acl: &Acl) {
        let key = self.rights_key(mailbox, subject);
        match acl.entries().find(|(known, _)| *known == subject) {
            Some((_, entry)) => self.batch.put(Family::Account, key, entry.encode()),
            None => self.batch.delete(Family::Account, key),
        }
    }

    fn put_acl(&mut self, mailbox: MailboxId, acl: Acl) {
        let acls = Arc::make_mut(&mut self.state.acls);
        if acl.is_empty() {
            acls.remove(&mailbox);
        } else {
            acls.insert(mailbox, Arc::new(acl));
        }
    }

    //= rfc4314#section-4
    //# When a
    //# new mailbox is created, it SHOULD inherit the ACL from the parent
    //# mailbox (if one exists) in the defined hierarchy.
    pub(super) fn inherit_rights(&mut self, parent: MailboxId, mailbox: MailboxId) {
        let Some(acl) = self.state.acls.get(&parent).map(|acl| Acl::clone(acl)) else { return };
        for (subject, _) in acl.entries() {
            self.write_entry(mailbox, subject, &acl);
        }
        self.put_acl(mailbox, acl);
    }

    //= rfc4314#section-4
    //# The DELETE command MUST delete the ACL associated with the deleted
    //# mailbox.
    pub(super) fn drop_rights(&mut self, mailbox: MailboxId) {
        if self.state.acls.contains_key(&mailbox) {
            Arc::make_mut(&mut self.state.acls).remove(&mailbox);
            let prefix = keys::rights_of_mailbox(self.account(), mailbox.0);
            let end = keys::prefix_end(&prefix);
            self.batch.delete_range(Family::Account, prefix, end);
        }
    }
}
