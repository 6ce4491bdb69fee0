//! COPY and MOVE between accounts: the message gets a record of its own there, its parts are shared.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_mail::{Flags, Rights, Uid, UidSet};

use super::{
    commands::{MOVE_FROM, picked},
    commit::Plan,
    plan::{AccountPlan, Unknown},
    record::MessageRecord,
    segment::{FlagBits, Row, view::flags_of},
};
use crate::{
    command::{AccountId, EngineError, MailboxId, MessageId, Outcome, QuotaLimits},
    engine::{By, Done, Engine},
};

/// Messages that go to another account at once: their records are all in memory until they are written.
const ACROSS_MAX: usize = 10_000;

/// A message on its way to another account.
struct Carried {
    row: Row,
    flags: Flags,
    record: Bytes,
    parts: Vec<u64>,
}

impl Engine {
    /// Plans a copy to another account. Both are locked, in ascending order.
    pub(crate) fn copy_across(
        &self,
        by: &By,
        (account, from, uids): (AccountId, MailboxId, &UidSet),
        (to_account, to): (AccountId, MailboxId),
        remove: bool,
        done: &mut Option<Done>,
    ) -> Result<(), EngineError> {
        if account == to_account {
            return Err(EngineError::Invalid("the mailboxes are of one account".to_owned()));
        }
        let limits = self.limits_of(to_account);
        self.on_two(by, account, to_account, done, |source, target| {
            let carried = source.carry(from, uids, remove)?;
            let gone: Vec<Uid> = carried.iter().map(|carried| carried.row.uid).collect();
            let outcome = target.receive(to, &carried, limits, gone)?;
            if remove && !carried.is_empty() {
                let rows: Vec<Row> = carried.iter().map(|carried| carried.row).collect();
                source.drop_messages(&rows)?;
                source.expunge(from, &rows)?;
            }
            Ok(outcome)
        })
    }

    /// Plans what concerns two accounts: one commit for both. They are locked in ascending order.
    pub(super) fn on_two(
        &self,
        by: &By,
        account: AccountId,
        to_account: AccountId,
        done: &mut Option<Done>,
        work: impl FnOnce(&mut AccountPlan<'_>, &mut AccountPlan<'_>) -> Result<Outcome, EngineError>,
    ) -> Result<(), EngineError> {
        let mut slots = [self.slot(account), self.slot(to_account)];
        slots.sort_by_key(|slot| slot.id);
        let [mut first, mut second] = [slots[0].lock(), slots[1].lock()];
        let mut plans = [
            AccountPlan::begin(self.kv(), by.now_unix_s, &slots[0], &mut first)?,
            AccountPlan::begin(self.kv(), by.now_unix_s, &slots[1], &mut second)?,
        ];
        for plan in &mut plans {
            plan.actor.clone_from(&by.actor);
        }
        let [one, other] = &mut plans;
        let (source, target) = if slots[0].id == account { (one, other) } else { (other, one) };
        let outcome = work(source, target)?;
        plans.iter_mut().try_for_each(AccountPlan::prepare)?;
        let mut joined = Plan::default();
        for mut plan in plans {
            joined.staged.append(&mut plan.take_staged());
            let (mut batch, touch) = plan.conclude();
            joined.batch.changes.append(&mut batch.changes);
            joined.touches.push(touch);
        }
        self.push(joined, outcome, done);
        Ok(())
    }
}

impl AccountPlan<'_> {
    /// Takes up messages for another account.
    fn carry(&self, from: MailboxId, uids: &UidSet, remove: bool) -> Result<Vec<Carried>, EngineError> {
        self.need(from, if remove { MOVE_FROM } else { Rights::READ })?;
        let rows = picked(&self.segments(from)?, uids);
        if rows.len() > ACROSS_MAX {
            return Err(EngineError::Limit(format!("at most {ACROSS_MAX} messages go to another account at once")));
        }
        let keywords = Arc::clone(&self.state.mailbox(from)?.fixed.keywords);
        let messages: Vec<u32> = rows.iter().map(|row| row.message).collect();
        let records = self.record_rows(&messages)?;
        let carry = |(row, record): (Row, Option<Bytes>)| {
            // What is only planned has no row yet; no client has been told of it.
            let late = || EngineError::Unavailable(format!("message {} is being written", row.message));
            let record = record.ok_or_else(late)?;
            let damaged = || EngineError::Corrupt(format!("message {} of account {}", row.message, self.slot.id.0));
            let parts = MessageRecord::decode(MessageId(row.message), &record).ok_or_else(damaged)?.parts();
            Ok(Carried { row, flags: flags_of(row.flags, &keywords), record, parts })
        };
        rows.into_iter().zip(records).map(carry).collect()
    }

    /// Puts messages of another account into a mailbox.
    fn receive(
        &mut self,
        to: MailboxId,
        carried: &[Carried],
        limits: QuotaLimits,
        from: Vec<Uid>,
    ) -> Result<Outcome, EngineError> {
        let rights = self.need(to, Rights::INSERT)?;
        self.check_quota(carried.iter().map(|carried| u64::from(carried.row.size)).sum(), carried.len(), limits)?;
        let uid_validity = self.state.mailbox(to)?.fixed.uid_validity;
        let mut uids = Vec::with_capacity(carried.len());
        for Carried { row, flags, record, parts } in carried {
            let flags: FlagBits = self.flag_bits(to, &rights.of_flags(flags), Unknown::AddWhatFits)?;
            let id = self.add_record(record.to_vec(), parts.clone())?;
            uids.push(self.append(to, &Self::new_row(id, u64::from(row.size), row.date, flags))?);
            self.judge_new(to, id)?;
        }
        Ok(Outcome::Copied { uid_validity, from, to: uids })
    }
}
