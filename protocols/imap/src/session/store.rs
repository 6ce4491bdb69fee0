//! STORE (RFC 3501 section 6.4.6) with UNCHANGEDSINCE (RFC 7162 section 3.1.3).

use rockdove_mail::{FlagUpdate, Flags, Keyword, ModSeq, UidSet};

use super::{
    Doing, ImapSession,
    fetch::Fetching,
    purpose::{After, Purpose},
};
use crate::{ask::Ask, fetch::FetchItem, grammar::write};

/// A STORE with its messages found.
pub(super) struct StoreCommand {
    pub(super) uids: UidSet,
    pub(super) update: FlagUpdate,
    pub(super) flags: Flags,
    pub(super) silent: bool,
    pub(super) unchanged_since: Option<ModSeq>,
}

impl ImapSession {
    pub(super) fn store(&mut self, command: StoreCommand) {
        if command.unchanged_since.is_some() {
            self.enable_condstore();
        }
        if self.refuse_read_only() {
            return;
        }
        if command.uids.is_empty() {
            return self.complete("OK done");
        }
        let command = Box::new(command);
        if command.silent {
            // The client will take its own picture of the flags for the truth, so it is told first what others have
            // changed: behind the mod-sequence of this change, theirs would not be seen any more.
            return self.sync(After::Store(command));
        }
        self.ask_store(command);
    }

    pub(super) fn ask_store(&mut self, command: Box<StoreCommand>) {
        let ask = Ask::Store {
            uids: command.uids.clone(),
            update: command.update,
            flags: command.flags.clone(),
            unchanged_since: command.unchanged_since,
        };
        self.ask(ask, Purpose::Store(command));
    }

    pub(super) fn stored(
        &mut self,
        command: &StoreCommand,
        uids: &UidSet,
        modified: &UidSet,
        modseq: ModSeq,
        keywords: Option<Vec<Keyword>>,
    ) {
        if let Some(keywords) = keywords {
            self.tell_keywords(&keywords);
        }
        if let Some(open) = self.open_mut()
            && modseq > 0
            // Without .SILENT the client is told the flags as they are now, whoever made them so.
            && (!command.silent || open.is_next(modseq))
        {
            open.own.push(modseq);
        }
        let text = self.store_text(command, uids, modified);
        //= rfc7162#section-3.1.3
        //# It is RECOMMENDED that the
        //# server avoids the need for the client to do that by sending an
        //# unsolicited FETCH response (see Examples 9 and 10).
        let told = uids.union(modified);
        let request = self.flags_request(!command.silent || !modified.is_empty());
        let is_empty = request.items.iter().all(|item| matches!(item, FetchItem::Uid));
        if is_empty || told.is_empty() {
            return self.complete(text);
        }
        self.doing = Doing::Fetching(Box::new(Fetching::new(told, request, After::Complete(text))));
    }

    /// The tagged response.
    fn store_text(&self, command: &StoreCommand, uids: &UidSet, modified: &UidSet) -> String {
        let gone = !self.uid_command && !command.uids.difference(uids).difference(modified).is_empty();
        if modified.is_empty() {
            let text = if gone { "NO [EXPUNGEISSUED] some of the messages have been expunged" } else { "OK done" };
            return text.to_owned();
        }
        let failed = match self.open() {
            Some(open) if !self.uid_command => open.numbers_of(modified),
            _ => modified.clone(),
        };
        let mut set = Vec::new();
        write::uid_set(&mut set, &failed);
        let set = String::from_utf8_lossy(&set);
        //= rfc7162#section-3.1.3
        //# [...] the MODIFIED response code MAY also
        //# be returned in the tagged NO response.
        if gone {
            return format!("NO [MODIFIED {set}] some of the messages have been expunged, some were changed by others");
        }
        format!("OK [MODIFIED {set}] messages that were changed by others are left alone")
    }
}
