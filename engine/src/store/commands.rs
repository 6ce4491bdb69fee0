//! What each command changes in an account.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rockdove_mail::{FlagUpdate, Flags, MailboxName, ModSeq, Rights, SpecialUse, SystemFlags, Uid, UidSet};

use super::{
    plan::{AccountPlan, Unknown},
    segment::{FlagBits, Row, Segment, view::flags_of},
};
use crate::command::{
    AppendMessage, Delivered, Delivery, EngineError, FlagRow, MailboxId, Outcome, QuotaLimits, Stored,
};
use crate::store::StagedMessage;

/// The mailboxes of a new account, all subscribed.
const FIRST_MAILBOXES: [(&str, Option<SpecialUse>); 6] = [
    ("INBOX", None),
    ("Drafts", Some(SpecialUse::Drafts)),
    ("Sent", Some(SpecialUse::Sent)),
    ("Trash", Some(SpecialUse::Trash)),
    ("Junk", Some(SpecialUse::Junk)),
    ("Archive", Some(SpecialUse::Archive)),
];
/// Subscriptions of an account.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 10_000;
/// What MOVE needs of the mailbox that messages leave: as COPY, STORE of `\Deleted` and EXPUNGE (RFC 6851 section 4.4).
pub(crate) const MOVE_FROM: Rights = Rights::READ.union(Rights::DELETE_MESSAGES).union(Rights::EXPUNGE);

impl AccountPlan<'_> {
    pub(crate) fn set_up(&mut self) -> Result<(), EngineError> {
        for (name, special_use) in FIRST_MAILBOXES {
            let name = MailboxName::new(name).map_err(|error| EngineError::Invalid(error.to_string()))?;
            self.create_mailbox(&name, special_use)?;
            self.subscribe(&name, true);
        }
        Ok(())
    }

    pub(crate) fn create(
        &mut self,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
        limits: QuotaLimits,
    ) -> Result<Outcome, EngineError> {
        self.need_create(name)?;
        self.check_mailboxes(limits)?;
        self.create_mailbox(name, special_use).map(Outcome::Mailbox)
    }

    /// `keeps`: it can be had again for a while.
    pub(crate) fn delete(&mut self, name: &MailboxName, keeps: bool) -> Result<Outcome, EngineError> {
        //= rfc9051#section-6.3.5
        //# It is an error to attempt to delete INBOX or a mailbox
        //# name that does not exist.
        if name.is_inbox() {
            return Err(EngineError::Invalid("INBOX cannot be deleted".to_owned()));
        }
        let id = self.need_named(name, Rights::DELETE_MAILBOX)?;
        // What was expunged before needs the mailbox, also when nothing is kept any more.
        let needed = keeps || self.state.totals.kept_messages > 0;
        if needed && self.state.mailbox(id)?.counters.uid_next > 1 {
            self.hide_mailbox(id)?;
        } else {
            self.remove_mailbox(id)?;
        }
        Ok(Outcome::Done)
    }

    fn named(&self, name: &MailboxName) -> Result<MailboxId, EngineError> {
        self.find(name).ok_or_else(|| EngineError::NotFound(format!("mailbox {name}")))
    }

    pub(crate) fn rename_mailbox(&mut self, from: &MailboxName, to: &MailboxName) -> Result<Outcome, EngineError> {
        let named = self.find(from);
        if named.is_some() {
            self.need_named(from, Rights::DELETE_MAILBOX)?;
        }
        if from.is_inbox() {
            self.need_create(to)?;
            return self.rename_inbox(to);
        }
        if to.is_below(from) {
            return Err(EngineError::Invalid(format!("{from} cannot be moved below itself")));
        }
        let moving: Vec<(MailboxId, MailboxName)> = self
            .state
            .mailboxes
            .iter()
            .filter(|mailbox| mailbox.fixed.name == *from || mailbox.fixed.name.is_below(from))
            .map(|mailbox| (mailbox.id, mailbox.fixed.name.clone()))
            .collect();
        if moving.is_empty() {
            return Err(EngineError::NotFound(format!("mailbox {from}")));
        }
        if named.is_none() {
            moving.iter().try_for_each(|(_, name)| self.need_named(name, Rights::DELETE_MAILBOX).map(drop))?;
        }
        self.need_create(to)?;
        //= rfc9051#section-6.3.6
        //# If the server's hierarchy separator character appears in the new
        //# mailbox name, the server SHOULD create any superior hierarchical
        //# names that are needed for the RENAME command to complete
        //# successfully.
        if let Some(parent) = to.parent()
            && self.find(&parent).is_none()
        {
            self.create_mailbox(&parent, None)?;
        }
        let ids: BTreeSet<MailboxId> = moving.iter().map(|(id, _)| *id).collect();
        let mut renamed = Vec::with_capacity(moving.len());
        for (id, name) in moving {
            let rest = name.as_str().strip_prefix(from.as_str()).unwrap_or_default();
            let name =
                MailboxName::new(&format!("{to}{rest}")).map_err(|error| EngineError::Limit(error.to_string()))?;
            // A name that one of those moving has now is free afterwards.
            if self.find(&name).is_some_and(|other| !ids.contains(&other)) {
                return Err(EngineError::Exists(format!("mailbox {name}")));
            }
            renamed.push((id, name));
        }
        for (id, name) in renamed {
            self.rename(id, name)?;
        }
        Ok(Outcome::Done)
    }

    //= rfc9051#section-6.3.6
    //# Renaming INBOX is permitted and does not result in a tagged BAD
    //# response, and it has special behavior: It moves all messages in INBOX
    //# to a new mailbox with the given name, leaving INBOX empty.
    fn rename_inbox(&mut self, to: &MailboxName) -> Result<Outcome, EngineError> {
        let inbox = self.named(&MailboxName::inbox())?;
        let target = self.create_mailbox(to, None)?;
        let rows = self.rows(inbox)?;
        self.copy_rows(inbox, target, &rows)?;
        self.copy_annotations(inbox, target);
        self.expunge(inbox, &rows)?;
        Ok(Outcome::Done)
    }

    pub(crate) fn set_subscribed(&mut self, name: &MailboxName, subscribed: bool) -> Result<Outcome, EngineError> {
        if self.state.list.is_subscribed(name) == subscribed {
            return Ok(Outcome::Done);
        }
        if subscribed && self.state.list.subscriptions().len() >= SUBSCRIPTIONS_MAX {
            return Err(EngineError::Limit(format!("an account has at most {SUBSCRIPTIONS_MAX} subscriptions")));
        }
        self.subscribe(name, subscribed);
        Ok(Outcome::Done)
    }

    /// Refuses what would take the account over its quota.
    pub(crate) fn check_quota(&self, bytes: u64, messages: usize, limits: QuotaLimits) -> Result<(), EngineError> {
        let totals = &self.state.totals;
        let over = |used: u64, more: u64, most: Option<u64>| most.is_some_and(|most| used.saturating_add(more) > most);
        if over(totals.used_bytes, bytes, limits.bytes) || over(totals.messages, messages as u64, limits.messages) {
            return Err(EngineError::OverQuota);
        }
        Ok(())
    }

    pub(crate) fn deliver(
        &mut self,
        message: &StagedMessage,
        delivery: &Delivery,
        limits: QuotaLimits,
    ) -> Result<Delivered, EngineError> {
        let size = message.size_bytes().saturating_add(delivery.trace_header.len() as u64);
        self.check_quota(size, 1, limits)?;
        let mailbox = match self.find(&delivery.mailbox) {
            Some(mailbox) => mailbox,
            None => self.create_mailbox(&delivery.mailbox, None)?,
        };
        let flags = self.flag_bits(mailbox, &delivery.flags, Unknown::AddWhatFits)?;
        let id = self.add_message(message, &delivery.trace_header)?;
        let uid = self.append(mailbox, &Self::new_row(id, size, delivery.internal_date, flags))?;
        Ok(Delivered { mailbox, uid, message: id })
    }

    pub(crate) fn append_all(
        &mut self,
        mailbox: MailboxId,
        messages: &[AppendMessage],
        limits: QuotaLimits,
    ) -> Result<Outcome, EngineError> {
        let rights = self.need(mailbox, Rights::INSERT)?;
        let more = messages.iter().map(|message| message.message.size_bytes()).sum();
        self.check_quota(more, messages.len(), limits)?;
        let uid_validity = self.state.mailbox(mailbox)?.fixed.uid_validity;
        let mut uids = Vec::with_capacity(messages.len());
        for message in messages {
            let flags = self.flag_bits(mailbox, &rights.of_flags(&message.flags), Unknown::AddWhatFits)?;
            self.add_parts(&message.message);
            let id = self.add_message(&message.message, &[])?;
            let row = Self::new_row(id, message.message.size_bytes(), message.internal_date, flags);
            uids.push(self.append(mailbox, &row)?);
            self.judge_new(mailbox, id)?;
        }
        Ok(Outcome::Appended { uid_validity, uids })
    }

    pub(crate) fn store_flags(
        &mut self,
        mailbox: MailboxId,
        uids: &UidSet,
        (update, flags): (FlagUpdate, &Flags),
        unchanged_since: Option<ModSeq>,
    ) -> Result<Outcome, EngineError> {
        let rights = self.need(mailbox, Rights::READ)?;
        let allowed = rights.of_flags(flags);
        // Replacing changes all flags, so whoever may change none is refused even when none is named.
        let none = |flags: &Flags| flags.system.is_empty() && flags.keywords.is_empty();
        let nothing = rights.system_flags().is_empty() || (none(&allowed) && !none(flags));
        if nothing {
            self.need(mailbox, Rights::SEEN.union(Rights::WRITE).union(Rights::DELETE_MESSAGES))?;
        }
        let flags = &allowed;
        let unknown = if update == FlagUpdate::Remove { Unknown::LeaveOut } else { Unknown::Add };
        let bits = self.flag_bits(mailbox, flags, unknown)?;
        let none = FlagBits::default();
        let (clear, set) = match update {
            FlagUpdate::Replace => (FlagBits::open_to(rights), bits),
            FlagUpdate::Add => (none, bits),
            FlagUpdate::Remove => (bits, none),
        };
        let keywords = Arc::clone(&self.state.mailbox(mailbox)?.fixed.keywords);
        let mut stored = Stored::default();
        for segment in self.segments(mailbox)?.iter() {
            let mut changing: Vec<Row> = Vec::new();
            let mut later: Vec<usize> = Vec::new();
            for index in segment.indexes(uids) {
                let row = segment.row(index);
                if unchanged_since.is_some_and(|limit| row.modseq > limit) {
                    stored.modified.insert(row.uid);
                    continue;
                }
                let new = row.flags.changed(clear, set);
                if new != row.flags {
                    changing.push(row);
                    later.push(stored.rows.len());
                }
                stored.rows.push(FlagRow { uid: row.uid, flags: flags_of(new, &keywords), modseq: row.modseq });
            }
            if !changing.is_empty() {
                self.set_flags(mailbox, segment.number, &changing, clear, set)?;
                stored.modseq = self.modseq();
                for at in later {
                    stored.rows[at].modseq = stored.modseq;
                }
            }
        }
        Ok(Outcome::Stored(stored))
    }

    pub(crate) fn copy(
        &mut self,
        from: MailboxId,
        uids: &UidSet,
        to: MailboxId,
        limits: QuotaLimits,
    ) -> Result<Outcome, EngineError> {
        self.need(from, Rights::READ)?;
        self.need(to, Rights::INSERT)?;
        let rows = picked(&self.segments(from)?, uids);
        self.check_quota(rows.iter().map(|row| u64::from(row.size)).sum(), rows.len(), limits)?;
        self.add_copies(&rows)?;
        self.copied(from, to, &rows)
    }

    pub(crate) fn move_to(&mut self, from: MailboxId, uids: &UidSet, to: MailboxId) -> Result<Outcome, EngineError> {
        self.need(from, MOVE_FROM)?;
        self.need(to, Rights::INSERT)?;
        let rows = picked(&self.segments(from)?, uids);
        let outcome = self.copied(from, to, &rows)?;
        if !rows.is_empty() {
            self.expunge(from, &rows)?;
        }
        Ok(outcome)
    }

    fn copied(&mut self, from: MailboxId, to: MailboxId, rows: &[Row]) -> Result<Outcome, EngineError> {
        let uid_validity = self.state.mailbox(to)?.fixed.uid_validity;
        self.judge_copied(from, to, rows)?;
        let to = self.copy_rows(from, to, rows)?;
        Ok(Outcome::Copied { uid_validity, from: rows.iter().map(|row| row.uid).collect(), to })
    }

    //= rfc9051#section-6.4.7
    //# The flags and
    //# internal date of the message(s) SHOULD be preserved in the copy.
    fn copy_rows(&mut self, from: MailboxId, to: MailboxId, rows: &[Row]) -> Result<Vec<Uid>, EngineError> {
        let rights = self.rights(to);
        let keywords = Arc::clone(&self.state.mailbox(from)?.fixed.keywords);
        // The same flags come again and again, and each mailbox numbers keywords its own way.
        let mut known: BTreeMap<u64, u64> = BTreeMap::from([(0, 0)]);
        let mut uids = Vec::with_capacity(rows.len());
        for row in rows {
            let there = if let Some(there) = known.get(&row.flags.keywords) {
                *there
            } else {
                let flags = rights.of_flags(&flags_of(row.flags, &keywords));
                let bits = self.flag_bits(to, &flags, Unknown::AddWhatFits)?.keywords;
                known.insert(row.flags.keywords, bits);
                bits
            };
            let system = row.flags.system & rights.system_flags().bits();
            let flags = FlagBits { keywords: there, system };
            uids.push(self.append(to, &Row { flags, ..*row })?);
        }
        Ok(uids)
    }

    pub(crate) fn expunge_some(
        &mut self,
        mailbox: MailboxId,
        uids: Option<&UidSet>,
        deleted_only: bool,
        keeps: bool,
    ) -> Result<Outcome, EngineError> {
        self.need(mailbox, Rights::EXPUNGE)?;
        let segments = self.segments(mailbox)?;
        let rows = match uids {
            Some(uids) => picked(&segments, uids),
            None => segments.iter().flat_map(|segment| segment.rows()).collect(),
        };
        let goes = |row: &Row| !deleted_only || row.flags.has(SystemFlags::DELETED);
        let rows: Vec<Row> = rows.into_iter().filter(goes).collect();
        if rows.is_empty() {
            return Ok(Outcome::Expunged { uids: UidSet::new(), modseq: 0 });
        }
        if keeps {
            self.keep(mailbox, &rows);
        } else {
            self.drop_messages(&rows)?;
        }
        self.expunge(mailbox, &rows)?;
        Ok(Outcome::Expunged { uids: rows.iter().map(|row| row.uid).collect(), modseq: self.modseq() })
    }
}

pub(super) fn picked(segments: &[Arc<Segment>], uids: &UidSet) -> Vec<Row> {
    segments.iter().flat_map(|segment| segment.indexes(uids).map(|index| segment.row(index))).collect()
}
