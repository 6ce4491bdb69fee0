//! EXPUNGE and UID EXPUNGE (RFC 4315).

use rockdove_mail::UidSet;

use super::{
    ImapSession,
    purpose::{After, Purpose},
};
use crate::{ask::Ask, command::SequenceSet};

impl ImapSession {
    /// Removes messages with `\Deleted`; of these only, or all.
    pub(super) fn expunge(&mut self, set: Option<&SequenceSet>) {
        let uids = match set.map(|set| self.messages(set)) {
            Some(None) => return,
            Some(Some(uids)) => Some(uids),
            None => None,
        };
        if self.refuse_read_only() {
            return;
        }
        if uids.as_ref().is_some_and(UidSet::is_empty) {
            return self.complete("OK there was nothing to do");
        }
        self.ask(Ask::Expunge { uids }, Purpose::Expunge);
    }

    pub(super) fn expunged(&mut self, uids: &UidSet) {
        if let Some(open) = self.open_mut() {
            // A message that came and went between two commands has never been there for the client.
            open.vanished = open.vanished.union(&uids.intersection(open.numbers.uids()));
        }
        if uids.is_empty() {
            return self.complete("OK done");
        }
        self.sync(After::Removed);
    }
}
