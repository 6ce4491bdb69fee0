//! COPY and MOVE (RFC 6851), with the UIDs of the copies (RFC 4315).

use rockdove_mail::{UidSet, UidValidity};

use super::{
    ImapSession,
    purpose::{After, Purpose},
};
use crate::{
    ask::Ask,
    command::{MailboxArg, SequenceSet},
    grammar::write,
};

impl ImapSession {
    pub(super) fn copy(&mut self, remove: bool, set: &SequenceSet, mailbox: MailboxArg) {
        let Some(uids) = self.messages(set) else { return };
        if remove && self.refuse_read_only() {
            return;
        }
        let Some(mailbox) = self.mailbox(mailbox) else { return };
        if uids.is_empty() {
            return self.complete("OK there was nothing to do");
        }
        self.ask(Ask::Copy { uids, mailbox, remove }, Purpose::Copy(remove));
    }

    pub(super) fn copied(&mut self, remove: bool, uid_validity: UidValidity, from: &UidSet, to: &UidSet) {
        if from.is_empty() {
            return self.complete(if self.uid_command {
                "OK there was nothing to do"
            } else {
                "NO [EXPUNGEISSUED] the messages have been expunged"
            });
        }
        self.note_own(uid_validity, to);
        let mut code = format!("OK [COPYUID {uid_validity} ").into_bytes();
        write::uid_set(&mut code, from);
        code.push(b' ');
        write::uid_set(&mut code, to);
        let code = String::from_utf8_lossy(&code).into_owned();
        if remove {
            //= rfc6851#section-4.3
            //# Servers implementing UIDPLUS are also advised to send the COPYUID response code in an untagged OK
            //# before sending EXPUNGE or moved responses.
            self.untagged(&format!("{code}] moved"));
            return self.sync(After::Removed);
        }
        self.complete(format!("{code}] copied"));
    }
}
