//! What users say of messages by what they do with them: a note for each that waits to be learned (`crate::spam`).
//!
//! Into the mailbox for junk, or marked `$Junk`: unwanted. Out of it, marked `$NotJunk` (RFC 9051 section 2.3.2), or
//! answered: wanted. Into the trash says nothing. What the server itself puts into Junk is nobody's word.

use rockdove_mail::{SpecialUse, SystemFlags};

use super::{
    plan::AccountPlan,
    segment::{FlagBits, Row},
};
use crate::{
    command::{EngineError, MailboxId, MessageId},
    kv::{Family, keys},
    spam::Class,
};

impl AccountPlan<'_> {
    fn judge(&mut self, message: u32, class: Class) {
        self.batch.put(Family::Spam, keys::spam_waiting(self.account(), message), vec![class.number()]);
    }

    fn used_as(&self, mailbox: MailboxId, special_use: SpecialUse) -> Result<bool, EngineError> {
        Ok(self.state.mailbox(mailbox)?.fixed.special_use == Some(special_use))
    }

    /// A message that a user has brought into a mailbox.
    pub(super) fn judge_new(&mut self, mailbox: MailboxId, message: MessageId) -> Result<(), EngineError> {
        if self.used_as(mailbox, SpecialUse::Junk)? {
            self.judge(message.0, Class::Spam);
        }
        Ok(())
    }

    /// Messages that a user copies or moves.
    pub(super) fn judge_copied(&mut self, from: MailboxId, to: MailboxId, rows: &[Row]) -> Result<(), EngineError> {
        let class = match (self.used_as(from, SpecialUse::Junk)?, self.used_as(to, SpecialUse::Junk)?) {
            (false, true) => Class::Spam,
            (true, false) if !self.used_as(to, SpecialUse::Trash)? => Class::Ham,
            _ => return Ok(()),
        };
        for row in rows {
            self.judge(row.message, class);
        }
        Ok(())
    }

    /// Messages that get these flags, beside those they have.
    pub(super) fn judge_flags(&mut self, mailbox: MailboxId, rows: &[Row], set: FlagBits) -> Result<(), EngineError> {
        let mut said = [(0, Class::Spam), (0, Class::Ham)];
        if set.keywords != 0 {
            for (place, keyword) in self.state.mailbox(mailbox)?.fixed.keywords.iter().enumerate() {
                let bit = set.keywords & (1 << place);
                match Class::of_keyword(keyword.as_str()) {
                    Some(Class::Spam) => said[0].0 |= bit,
                    Some(Class::Ham) => said[1].0 |= bit,
                    None => {}
                }
            }
        }
        for row in rows {
            for (bits, class) in said {
                if bits & !row.flags.keywords != 0 {
                    self.judge(row.message, class);
                }
            }
            if set.has(SystemFlags::ANSWERED) && !row.flags.has(SystemFlags::ANSWERED) {
                self.judge(row.message, Class::Ham);
            }
        }
        Ok(())
    }
}
