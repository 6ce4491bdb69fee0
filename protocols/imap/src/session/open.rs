//! The selected mailbox as its client knows it.

use std::sync::Arc;

use rockdove_mail::{MailboxName, ModSeq, Rights, Uid, UidSet, UidValidity};

use crate::{
    ask::Selected,
    command::SequenceSet,
    limits::NOTIFY_OWN_MAX,
    numbers::{NoSuchNumber, Numbers},
};

/// Rights to change what is in a mailbox.
const CHANGING: Rights =
    Rights::INSERT.union(Rights::EXPUNGE).union(Rights::SEEN).union(Rights::WRITE).union(Rights::DELETE_MESSAGES);

/// The selected mailbox. What is in here is what the client has been told, not what is true at the moment.
pub(super) struct OpenMailbox {
    pub(super) name: MailboxName,
    /// Whose it is.
    pub(super) account: u32,
    pub(super) uid_validity: UidValidity,
    /// EXAMINE, or no right to change anything.
    pub(super) read_only: bool,
    /// What the user may do here.
    pub(super) rights: Rights,
    /// Sequence numbers as the client counts them.
    pub(super) numbers: Arc<Numbers>,
    /// Messages that are `\Recent` for this session.
    pub(super) recent: Arc<UidSet>,
    /// Messages that are gone, but still have a number because the client has not been told.
    pub(super) vanished: UidSet,
    /// While there are some: every removal up to here has been told.
    pub(super) told_modseq: ModSeq,
    /// Every change up to here has been told, or is kept in `vanished`.
    pub(super) known_modseq: ModSeq,
    /// HIGHESTMODSEQ as the client may know it.
    pub(super) highest_modseq: ModSeq,
    /// Changes after `known_modseq` that this session made and the client knows of.
    pub(super) own: Vec<ModSeq>,
    /// Messages that this session has stored here, of which the client has not been told yet; kept with NOTIFY only.
    pub(super) own_arrived: UidSet,
    pub(super) keywords_known: usize,
    /// `$`: the saved result of a search (RFC 5182).
    pub(super) saved: UidSet,
}

impl OpenMailbox {
    pub(super) fn new(name: MailboxName, read_only: bool, selected: Selected) -> Self {
        let recent = selected.uids.intersection(&UidSet::range(selected.recent_from.max(1), Uid::MAX));
        Self {
            name,
            account: selected.mailbox_id.account,
            uid_validity: selected.uid_validity,
            //= rfc4314#section-5.2
            //# The server MUST include a READ-ONLY response code in the tagged OK
            //# response to a SELECT command if none of the following rights is
            read_only: read_only || !selected.rights.intersects(CHANGING),
            rights: selected.rights,
            numbers: Arc::new(Numbers::new(selected.uids)),
            recent: Arc::new(recent),
            vanished: UidSet::new(),
            told_modseq: selected.known_modseq,
            known_modseq: selected.known_modseq,
            highest_modseq: selected.highest_modseq,
            own: Vec::new(),
            own_arrived: UidSet::new(),
            keywords_known: selected.keywords.len(),
            //= rfc5182#section-2.1
            //# Upon successful completion of a SELECT or an EXAMINE command (after
            //# the tagged OK response), the current search result variable is reset
            //# to the empty sequence.
            saved: UidSet::new(),
        }
    }

    /// The messages that a command names. `Err`: it names a sequence number that there is not.
    pub(super) fn messages(&self, uid: bool, set: &SequenceSet) -> Result<UidSet, NoSuchNumber> {
        if set.is_saved() {
            return Ok(self.saved.intersection(self.numbers.uids()));
        }
        if uid {
            //= rfc3501#section-6.4.8
            //# A non-existent unique identifier is ignored without any error
            //# message generated.
            let known = self.numbers.uids();
            return Ok(set.uid_set(known.last()).intersection(known));
        }
        set.uids(&self.numbers)
    }

    /// Sequence numbers of messages, as a set.
    pub(super) fn numbers_of(&self, uids: &UidSet) -> UidSet {
        uids.iter().filter_map(|uid| self.numbers.number(uid)).collect()
    }

    /// Keeps the newest of the session's own changes only.
    pub(super) fn forget_old_own(&mut self) {
        if self.own.len() > NOTIFY_OWN_MAX {
            self.own.drain(..self.own.len().saturating_sub(NOTIFY_OWN_MAX));
        }
    }

    /// Whether a change of this session came right after what is known, so that nobody else's lies between.
    pub(super) fn is_next(&self, modseq: ModSeq) -> bool {
        self.own.last().unwrap_or(&self.known_modseq).checked_add(1) == Some(modseq)
    }
}
