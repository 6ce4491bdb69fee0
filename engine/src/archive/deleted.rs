//! What was deleted and can be had again: whether its rows can be what was written.

use super::account::AccountCheck;
use crate::{
    command::{AccountId, EngineError},
    kv::{Family, Read, keys},
    store::{
        account::decode_hidden,
        kept::{self, KeptKey},
    },
};

/// Whether the account was removed and some of its rows may be there still.
pub(super) fn is_leaving(read: &dyn Read, account: AccountId) -> Result<bool, EngineError> {
    Ok(read.get(Family::Sys, &keys::leaving(account.0))?.is_some())
}

impl AccountCheck {
    /// A mailbox that is there, seen or hidden.
    pub(super) fn knows(&self, mailbox: u32) -> bool {
        self.fixed.contains_key(&mailbox) || self.hidden.contains_key(&mailbox)
    }

    /// Reads which mailboxes were deleted.
    pub(super) fn read_hidden(&mut self, read: &dyn Read) -> Result<(), EngineError> {
        self.each(read, Family::Change, |check, key, row| {
            let number = key.get(5..).and_then(|id| <[u8; 4]>::try_from(id).ok()).map(u32::from_be_bytes);
            match (key.get(4).copied(), number) {
                (Some(keys::CHANGE_HIDDEN), Some(mailbox)) => {
                    let fixed = decode_hidden(row).map(|(_, fixed)| fixed);
                    if fixed.is_none() {
                        check.lost(Family::Change, key, Some(mailbox), "the row of a deleted mailbox cannot be read");
                    }
                    if check.fixed.contains_key(&mailbox) {
                        check.lost(Family::Change, key, Some(mailbox), "the mailbox is there and deleted");
                    } else {
                        check.hidden.insert(mailbox, fixed);
                    }
                }
                (Some(keys::CHANGE_KEPT), _) if KeptKey::decode(key).is_some() => {}
                _ => check.lost(Family::Change, key, None, "nobody knows this row"),
            }
        })
    }

    /// Reads what was expunged.
    pub(super) fn read_kept(&mut self, read: &dyn Read) -> Result<(), EngineError> {
        self.each(read, Family::Change, |check, key, row| {
            let Some(place) = KeptKey::decode(key) else { return };
            let Some(rows) = kept::decode(place.segment, row) else {
                check.blind = true;
                return check.lost(Family::Change, key, Some(place.mailbox), "expunged entries cannot be read");
            };
            let (bytes, messages, highest) = check.kept;
            let octets: u64 = rows.iter().map(|row| u64::from(row.size)).sum();
            check.kept = (bytes + octets, messages + rows.len() as u64, highest.max(place.modseq));
            check.place(Family::Change, key, place.mailbox, &rows);
            if !check.knows(place.mailbox) {
                check.lost(Family::Change, key, Some(place.mailbox), "expunged entries of a mailbox that is not there");
            }
        })
    }
}
