//! Mailboxes of an account: their list, and what STATUS and GETQUOTA tell.

use std::sync::Arc;

use rockdove_mail::{MailboxName, ModSeq, SpecialUse, Uid, UidValidity};

use crate::command::MailboxId;

/// A mailbox in a [`MailboxList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its id, which survives renaming.
    pub id: MailboxId,
    /// Its name.
    pub name: MailboxName,
    /// What it is for (RFC 6154).
    pub special_use: Option<SpecialUse>,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
}

/// The mailboxes and subscriptions of an account at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxList {
    /// Sorted by name.
    pub(crate) mailboxes: Vec<MailboxInfo>,
    /// Sorted.
    pub(crate) subscriptions: Vec<MailboxName>,
}

impl MailboxList {
    /// The mailboxes, sorted by name.
    pub fn mailboxes(&self) -> &[MailboxInfo] {
        &self.mailboxes
    }

    /// The subscribed names, sorted; they need not exist (RFC 9051 section 6.3.7).
    pub fn subscriptions(&self) -> &[MailboxName] {
        &self.subscriptions
    }

    /// The mailbox of this name.
    pub fn by_name(&self, name: &MailboxName) -> Option<&MailboxInfo> {
        let at = self.mailboxes.binary_search_by(|mailbox| mailbox.name.cmp(name)).ok()?;
        self.mailboxes.get(at)
    }

    /// The mailbox with this id.
    pub fn by_id(&self, id: MailboxId) -> Option<&MailboxInfo> {
        self.mailboxes.iter().find(|mailbox| mailbox.id == id)
    }

    /// Whether the name is subscribed.
    pub fn is_subscribed(&self, name: &MailboxName) -> bool {
        self.subscriptions.binary_search(name).is_ok()
    }

    /// Whether a mailbox exists below `name`.
    pub fn has_children(&self, name: &MailboxName) -> bool {
        self.mailboxes.iter().any(|mailbox| mailbox.name.is_below(name))
    }
}

/// What STATUS and SELECT tell about a mailbox (RFC 9051 section 6.3.11), from stored counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxStatus {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// MESSAGES.
    pub exists: u32,
    /// UNSEEN: messages without `\Seen`.
    pub unseen: u32,
    /// DELETED: messages with `\Deleted`.
    pub deleted: u32,
    /// SIZE, in octets.
    pub size_bytes: u64,
}

/// How much of its quota an account uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaUsage {
    /// Octets of all entries; a copy counts again, as users see it in every mailbox.
    pub used_bytes: u64,
    /// Entries in all mailboxes.
    pub messages: u64,
    /// Most octets; `None` for no limit.
    pub limit_bytes: Option<u64>,
}

/// Shared list, as readers hold it.
pub type SharedMailboxList = Arc<MailboxList>;
