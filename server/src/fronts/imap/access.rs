//! Rights (RFC 4314) and quotas (RFC 9208). The quota root of a mailbox is its owner, by the address.

use rockdove_engine::{
    AccountId, Command, EngineError, QuotaLimits,
    rights::{OWNER_ALWAYS, Subject},
};
use rockdove_imap::{Answer, QuotaFacts, Refusal};
use rockdove_mail::{MailboxName, Rights};

use super::{Conversation, NoAnswer, Reach};

/// RFC 9208 section 5.1: STORAGE is counted in units of 1,024 octets.
const STORAGE_UNIT: u64 = 1024;

impl Conversation {
    pub(super) fn acl(&self, name: &MailboxName) -> Result<Answer, NoAnswer> {
        let (place, _) = self.named(name, Rights::ADMINISTER, Reach::Disk)?;
        self.engine().acl(place.account, place.mailbox).map(Answer::Acl).map_err(|error| self.refused(&error))
    }

    pub(super) fn list_rights(&self, name: &MailboxName, identifier: &str) -> Result<Answer, NoAnswer> {
        let (place, _) = self.named(name, Rights::ADMINISTER, Reach::Disk)?;
        let who = self.engine().subject(place.account, identifier).map_err(|error| self.refused(&error))?;
        let always = if who.subject == Subject::Owner && !who.denied { OWNER_ALWAYS } else { Rights::NONE };
        Ok(Answer::Rights(always))
    }

    pub(super) fn my_rights(&self, name: &MailboxName, reach: Reach) -> Result<Answer, NoAnswer> {
        self.named(name, Rights::NONE, reach).map(|(_, rights)| Answer::Rights(rights))
    }

    pub(super) fn quota_root(&self, name: &MailboxName) -> Result<Answer, NoAnswer> {
        let (place, _) = self.named(name, Rights::READ, Reach::Disk)?;
        self.quota_of(place.account)
    }

    pub(super) fn quota(&self, root: &str) -> Result<Answer, NoAnswer> {
        self.quota_of(self.root(root)?)
    }

    /// The account of a quota root. Those of others are told to administrators only.
    fn root(&self, root: &str) -> Result<AccountId, NoAnswer> {
        let (directory, user) = (self.engine().directory(), self.account()?);
        let owner = directory.account_by_login(root).map(|account| account.id);
        let may = owner == Some(user) || directory.is_administrator(user);
        owner.filter(|_| may).ok_or(NoAnswer::Refused(Refusal::NoSuchQuotaRoot))
    }

    fn quota_of(&self, account: AccountId) -> Result<Answer, NoAnswer> {
        let engine = self.engine();
        let (directory, refused) = (engine.directory(), |error: EngineError| self.refused(&error));
        let record = directory.account(account).ok_or(NoAnswer::Refused(Refusal::NoSuchQuotaRoot))?;
        let used = engine.quota(account).map_err(refused)?;
        let mailboxes = engine.mailboxes(account).map_err(refused)?.mailboxes().len();
        let limits = record.limits();
        let resources = [
            ("STORAGE", used.used_bytes.div_ceil(STORAGE_UNIT), limits.bytes.map(|bytes| bytes / STORAGE_UNIT)),
            ("MESSAGE", used.messages, limits.messages),
            ("MAILBOX", mailboxes as u64, limits.mailboxes.map(u64::from)),
        ];
        let limited = resources.into_iter().filter_map(|(name, usage, limit)| Some((name, usage, limit?)));
        Ok(Answer::Quota(QuotaFacts { root: record.address.clone(), resources: limited.collect() }))
    }
}

impl Conversation {
    pub(super) fn limiting(&self, root: &str, limits: &[(String, u64)]) -> Result<Command, NoAnswer> {
        if !self.engine().directory().is_administrator(self.account()?) {
            return Err(NoAnswer::Refused(Refusal::NoPermission));
        }
        Ok(Command::SetQuotaLimits { account: self.root(root)?, limits: limits_of(limits)? })
    }
}

fn limits_of(list: &[(String, u64)]) -> Result<QuotaLimits, NoAnswer> {
    let mut limits = QuotaLimits::default();
    for (resource, limit) in list {
        match resource.as_str() {
            "STORAGE" => limits.bytes = Some(limit.saturating_mul(STORAGE_UNIT)),
            "MESSAGE" => limits.messages = Some(*limit),
            "MAILBOX" => limits.mailboxes = Some(u32::try_from(*limit).unwrap_or(u32::MAX)),
            _ => return Err(NoAnswer::Refused(Refusal::Cannot("there is no limit for this resource".to_owned()))),
        }
    }
    Ok(limits)
}
