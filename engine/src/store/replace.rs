//! REPLACE (RFC 8508): one message comes, another goes, in one commit.

use rockdove_mail::{Uid, UidSet};

use super::{commands::MOVE_FROM, plan::AccountPlan};
use crate::{
    command::{AccountId, AppendMessage, EngineError, MailboxId, Outcome},
    engine::{By, Done, Engine},
};

impl Engine {
    /// Plans a replacement; the mailboxes may be of two accounts.
    pub(crate) fn replace(
        &self,
        by: &By,
        (account, mailbox): (AccountId, MailboxId),
        message: &AppendMessage,
        (from_account, from, uid): (AccountId, MailboxId, Uid),
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        let limits = self.limits_of(account);
        let keeps = self.options().undelete_s > 0;
        let messages = std::slice::from_ref(message);
        if account == from_account {
            return self.on_account(by, account, done, |plan| {
                //= rfc8508#section-3.4
                //# In the cited sequence, the quota implications of APPEND are evaluated
                //# within the context of the pending EXPUNGE so that only the net quota
                //# consumption is considered.
                plan.remove_replaced(from, uid, keeps)?;
                plan.append_all(mailbox, messages, limits)
            });
        }
        self.on_two(by, from_account, account, done, |source, target| {
            source.remove_replaced(from, uid, keeps)?;
            target.append_all(mailbox, messages, limits)
        })
    }
}

impl AccountPlan<'_> {
    //= rfc8508#section-4.1
    //# The Access Control List (ACL) rights [RFC4314] required for UID
    //# REPLACE are the union of the ACL rights required for UID STORE and
    //# UID EXPUNGE in the current mailbox, and APPEND in the target mailbox.
    fn remove_replaced(&mut self, from: MailboxId, uid: Uid, keeps: bool) -> Result<(), EngineError> {
        self.need(from, MOVE_FROM)?;
        match self.expunge_some(from, Some(&UidSet::range(uid, uid)), false, keeps)? {
            Outcome::Expunged { uids, .. } if !uids.is_empty() => Ok(()),
            _ => Err(EngineError::Invalid("the message to be replaced is gone".to_owned())),
        }
    }
}
