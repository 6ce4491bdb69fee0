//! What was expunged or deleted and can be had again: its rows, and what is told of it.
//!
//! ```text
//! Change  account4 00 when8 modseq8 mailbox4 segment4   -> 01 (01 entry)*      as a delta row that appends
//! Change  account4 01 mailbox4                          -> 01 when.. fixed     a deleted mailbox; see `account`
//! ```
//! An expunge writes one row for each segment it touches, and no row of a message: a kept entry counts among the entries
//! of its message as before. A deleted mailbox keeps its segments and counters. Keywords are bits of the mailbox, which is
//! there, seen or hidden, as long as something of it is kept.

use std::{ops::ControlFlow, sync::Arc};

use rockdove_mail::{Flags, Keyword, MailboxName, ModSeq, Uid};

use super::{
    account::AccountState,
    mailbox::MailboxState,
    segment::{Op, Row, delta, view::flags_of},
};
use crate::{
    command::{AccountId, EngineError, InternalDate, MailboxId, MessageId},
    engine::Engine,
    kv::{
        Family,
        keys::{self, KeyReader},
    },
};

/// A message that was expunged, or that is in a deleted mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedMessage {
    /// The message, which may be in other mailboxes still.
    pub message: MessageId,
    /// Where it was.
    pub mailbox: MailboxId,
    /// Name of that mailbox now, or when it was deleted. `None` when it is not known.
    pub mailbox_name: Option<MailboxName>,
    /// Its UID there.
    pub uid: Uid,
    /// When it was expunged, or its mailbox deleted, in seconds since 1970.
    pub deleted_unix_s: i64,
    /// Its flags then.
    pub flags: Flags,
    /// INTERNALDATE.
    pub internal_date: InternalDate,
    /// RFC822.SIZE in octets.
    pub size_bytes: u64,
}

/// A mailbox that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedMailbox {
    /// Which.
    pub mailbox: MailboxId,
    /// Its name then.
    pub name: MailboxName,
    /// When, in seconds since 1970.
    pub deleted_unix_s: i64,
    /// Messages in it.
    pub messages: u32,
    /// Octets of these.
    pub size_bytes: u64,
}

/// How much of an account can be had again. Does not count in its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedUse {
    /// Octets of all entries.
    pub bytes: u64,
    /// Entries.
    pub messages: u64,
}

/// The place of a row of expunged entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptKey {
    pub(crate) when: u64,
    pub(crate) modseq: ModSeq,
    pub(crate) mailbox: u32,
    pub(crate) segment: u32,
}

impl KeptKey {
    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let mut reader = KeyReader::new(key);
        let (_, kind) = (reader.u32()?, reader.u8()?);
        let (when, modseq) = (reader.u64()?, reader.u64()?);
        let place = Self { when, modseq, mailbox: reader.u32()?, segment: reader.u32()? };
        reader.end()?;
        (kind == keys::CHANGE_KEPT).then_some(place)
    }
}

/// A row of entries, all of one segment.
pub(crate) fn encode(segment: u32, rows: &[Row]) -> Vec<u8> {
    let ops: Vec<Op> = rows.iter().map(|row| Op::Append(*row)).collect();
    delta::encode(segment, &ops)
}

/// The entries in a row, at least one.
pub(crate) fn decode(segment: u32, row: &[u8]) -> Option<Vec<Row>> {
    let entry = |op| if let Op::Append(row) = op { Some(row) } else { None };
    let rows: Vec<Row> = delta::decode(segment, row)?.into_iter().map(entry).collect::<Option<_>>()?;
    (!rows.is_empty()).then_some(rows)
}

pub(crate) fn seconds(when: u64) -> i64 {
    i64::try_from(when).unwrap_or(i64::MAX)
}

impl AccountState {
    /// The mailbox of this id, seen or hidden.
    pub(crate) fn origin(&self, id: u32) -> Option<&Arc<MailboxState>> {
        let hidden = || self.hidden.iter().find(|hidden| hidden.mailbox.id.0 == id).map(|hidden| &hidden.mailbox);
        self.mailbox(MailboxId(id)).ok().or_else(hidden)
    }
}

fn told(when: u64, mailbox: u32, origin: Option<&Arc<MailboxState>>, row: &Row) -> DeletedMessage {
    let keywords: &[Keyword] = origin.map_or(&[], |origin| &origin.fixed.keywords);
    DeletedMessage {
        message: MessageId(row.message),
        mailbox: MailboxId(mailbox),
        mailbox_name: origin.map(|origin| origin.fixed.name.clone()),
        uid: row.uid,
        deleted_unix_s: seconds(when),
        flags: flags_of(row.flags, keywords),
        internal_date: row.date,
        size_bytes: u64::from(row.size),
    }
}

impl Engine {
    /// How much of an account can be had again.
    pub fn deleted_use(&self, account: AccountId) -> Result<DeletedUse, EngineError> {
        let totals = self.account(account)?.totals;
        Ok(DeletedUse { bytes: totals.kept_bytes, messages: totals.kept_messages })
    }

    /// The mailboxes that were deleted and can be had again, by id.
    pub fn deleted_mailboxes(&self, account: AccountId) -> Result<Vec<DeletedMailbox>, EngineError> {
        let state = self.account(account)?;
        let facts = state.hidden.iter().map(|hidden| DeletedMailbox {
            mailbox: hidden.mailbox.id,
            name: hidden.mailbox.fixed.name.clone(),
            deleted_unix_s: seconds(hidden.when),
            messages: hidden.mailbox.counters.exists,
            size_bytes: hidden.mailbox.counters.size_bytes,
        });
        Ok(facts.collect())
    }

    /// Visits the messages that can be had again: those expunged, oldest first, then those in deleted mailboxes. `visit`
    /// must be quick: rows are read meanwhile.
    pub fn deleted_messages(
        &self,
        account: AccountId,
        visit: &mut dyn FnMut(DeletedMessage) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let state = self.account(account)?;
        let prefix = keys::change_kind(account.0, keys::CHANGE_KEPT);
        let (mut damaged, mut flow) = (false, ControlFlow::Continue(()));
        self.kv().scan(Family::Change, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            let entries = KeptKey::decode(key).and_then(|key| Some((key, decode(key.segment, row)?)));
            let Some((key, rows)) = entries else {
                damaged = true;
                return ControlFlow::Break(());
            };
            let origin = state.origin(key.mailbox);
            flow = rows.iter().try_for_each(|row| visit(told(key.when, key.mailbox, origin, row)));
            flow
        })?;
        if damaged {
            return Err(EngineError::Corrupt(format!("expunged messages of account {}", account.0)));
        }
        if flow.is_break() {
            return Ok(());
        }
        for hidden in &state.hidden {
            let segments = hidden.mailbox.all(self.kv_read())?;
            let mut rows = segments.iter().flat_map(|segment| segment.rows());
            let told = |row| told(hidden.when, hidden.mailbox.id.0, Some(&hidden.mailbox), &row);
            if rows.try_for_each(|row| visit(told(row))).is_break() {
                break;
            }
        }
        Ok(())
    }
}
