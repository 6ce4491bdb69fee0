//! What upkeep does in slices: removing for good what is kept no longer, and the rows of accounts that were removed.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{plan::candidate_since, record::MessageRecord, undelete::UndeleteLimits};
use crate::{
    command::{AccountId, Command, EngineError, MessageId, Outcome},
    engine::Engine,
    kv::{
        Batch, Durability, Family, Read,
        keys::{self, KeyReader},
    },
    store::account::{Totals, decode_hidden},
    store::kept::{KeptKey, seconds},
};

/// Accounts looked at by one slice.
const ACCOUNTS_AT_ONCE: usize = 256;
/// Message rows of a removed account that one slice removes.
const ROWS_AT_ONCE: usize = 1_024;

impl Engine {
    pub(crate) fn undelete_limits(&self, now_unix_s: i64) -> UndeleteLimits {
        let kept_s = i64::try_from(self.options().undelete_s).unwrap_or(i64::MAX);
        let due_unix_s = if kept_s == 0 { i64::MAX } else { now_unix_s.saturating_sub(kept_s) };
        UndeleteLimits { due_unix_s, bytes_max: self.options().undelete_bytes_max }
    }

    /// Removes for good what was expunged or deleted and is past its time, or more than is kept: of some accounts, from
    /// this one on. Answers the account to go on with; `None` when all were looked at.
    ///
    /// # Errors
    /// When the store cannot be read or written. What was removed until then stays removed.
    pub fn purge_some(&self, now_unix_s: i64, from: AccountId) -> Result<Option<AccountId>, EngineError> {
        let mut account = from;
        for _ in 0..ACCOUNTS_AT_ONCE {
            let Some(found) = self.keeping_account(account)? else { return Ok(None) };
            if self.has_due(now_unix_s, found)? {
                match self.execute(now_unix_s, Command::Purge { account: found, everything: false }) {
                    Ok(Outcome::Purged { more: true, .. }) => return Ok(Some(found)),
                    // It was removed; what is left of it goes another way.
                    Ok(_) | Err(EngineError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(next) = found.0.checked_add(1) else { return Ok(None) };
            account = AccountId(next);
        }
        Ok(Some(account))
    }

    /// The first account from this one on of which anything is kept.
    fn keeping_account(&self, from: AccountId) -> Result<Option<AccountId>, EngineError> {
        let mut found = None;
        self.kv_read().scan(Family::Change, &keys::account_prefix(from.0), &[0xff; 32], &mut |key, _| {
            found = KeyReader::new(key).u32().map(AccountId);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Whether something of an account is past its time, or more is kept than may be. Does not bring it into memory.
    fn has_due(&self, now_unix_s: i64, account: AccountId) -> Result<bool, EngineError> {
        let limits = self.undelete_limits(now_unix_s);
        let prefix = keys::account_prefix(account.0);
        let mut due = false;
        let mut kept = false;
        self.kv_read().scan(
            Family::Change,
            &prefix,
            &keys::change_kind(account.0, keys::CHANGE_HIDDEN),
            &mut |key, _| {
                kept = KeptKey::decode(key).is_some_and(|key| seconds(key.when) <= limits.due_unix_s);
                ControlFlow::Break(())
            },
        )?;
        let hidden = keys::change_kind(account.0, keys::CHANGE_HIDDEN);
        self.kv_read().scan(Family::Change, &hidden, &keys::prefix_end(&hidden), &mut |_, row| {
            due = decode_hidden(row).is_some_and(|(when, _)| seconds(when) <= limits.due_unix_s);
            if due { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let state = self.kv_read().get(Family::Account, &keys::account_state(account.0))?;
        let totals = state.and_then(|row| Totals::decode(&row)).unwrap_or_default();
        Ok(due || kept || totals.kept_bytes > limits.bytes_max)
    }

    /// Removes some rows of accounts that were removed, and answers whether there are more. What was removed may come back
    /// when the machine dies, to be removed again; the accounts do not.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn sweep_removed(&self, now_unix_s: i64) -> Result<bool, EngineError> {
        // In this order, as everywhere. No text is written meanwhile, and no part collected.
        let _texts = self.texts_lock();
        let _upkeep = self.upkeep_lock();
        let prefix = [keys::SYS_LEAVING];
        let directory = self.directory();
        let mut leaving = None;
        self.kv_read().scan(Family::Sys, &prefix, &keys::prefix_end(&prefix), &mut |key, _| {
            // One that the directory knows is damage, for a check to tell.
            leaving = KeyReader::new(&key[1..]).u32().filter(|id| directory.account(AccountId(*id)).is_none());
            if leaving.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let Some(account) = leaving else { return Ok(false) };
        let batch = leave(self.kv_read(), account, now_unix_s)?;
        self.kv().write(&batch, Durability::Ordered)?;
        Ok(true)
    }
}

/// The removal of some rows: messages with their references first, then the rest.
fn leave(read: &dyn Read, account: u32, now_unix_s: i64) -> Result<Batch, EngineError> {
    let mut batch = Batch::default();
    let prefix = keys::account_prefix(account);
    let mut rows = 0;
    read.scan(Family::Message, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
        if rows == ROWS_AT_ONCE {
            return ControlFlow::Break(());
        }
        rows += 1;
        let mut reader = KeyReader::new(key.get(4..).unwrap_or_default());
        if let (Some(message), Some(keys::MESSAGE_RECORD)) = (reader.u32(), reader.u8())
            && let Some(record) = MessageRecord::decode(MessageId(message), &Bytes::copy_from_slice(row))
        {
            for part in record.parts() {
                batch.delete(Family::Reference, keys::part_reference(part, account, message));
                batch.put(Family::Reference, keys::part_candidate(part), candidate_since(now_unix_s));
            }
        }
        batch.delete(Family::Message, Bytes::copy_from_slice(key));
        ControlFlow::Continue(())
    })?;
    if rows == 0 {
        let end = keys::prefix_end(&prefix);
        for family in [Family::Account, Family::Segment, Family::Message, Family::Change, Family::Text] {
            batch.delete_range(family, prefix.clone(), end.clone());
        }
        crate::spam::forget_account(&mut batch, account);
        batch.delete(Family::Sys, keys::leaving(account));
    }
    Ok(batch)
}
