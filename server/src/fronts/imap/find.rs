//! SEARCH, SORT and THREAD: one call of the engine each, on the view that the session sees.

use rockdove_engine::{AccountId, Engine, EngineError, MailboxView};
use rockdove_imap::{Answer, Refusal};
use rockdove_mail::{
    MailboxName, Rights, UidSet,
    search::{SearchKey, SortCriterion, ThreadAlgorithm},
};

use super::{Conversation, NoAnswer, Reach};
use crate::runtime::clock;

impl Conversation {
    /// Asks the engine about the messages that the session knows.
    fn asked<T>(
        &self,
        key: SearchKey,
        within: UidSet,
        ask: impl FnOnce(&Engine, AccountId, &MailboxView, &SearchKey) -> Result<T, EngineError>,
    ) -> Result<T, NoAnswer> {
        let (account, view) = self.view(Reach::Disk)?;
        let key = SearchKey::And(vec![SearchKey::Uids(within), key.at(clock::now().unix_s)]);
        let found = ask(self.engine(), account, &view, &key);
        found.map_err(|error| NoAnswer::Refused(self.refusal(&error, Refusal::MailboxGone)))
    }

    pub(super) fn find(&self, key: SearchKey, within: UidSet) -> Result<Answer, NoAnswer> {
        self.asked(key, within, |engine, account, view, key| {
            let uids = engine.search_view(account, view, key)?.into_iter().collect();
            Ok(Answer::Found { highest_modseq: view.highest_modseq_of(&uids), uids })
        })
    }

    /// Searches any mailbox that the user may read, as it is now.
    pub(super) fn find_in(
        &self,
        name: &MailboxName,
        key: SearchKey,
        within: Option<UidSet>,
    ) -> Result<Answer, NoAnswer> {
        let (place, _) = self.named(name, Rights::READ, Reach::Disk)?;
        let (view, _) = self.snapshot(place, Refusal::NoSuchMailbox, Reach::Disk)?;
        let keys = within.map(SearchKey::Uids).into_iter().chain([key.at(clock::now().unix_s)]).collect();
        let found = self.engine().search_view(place.account, &view, &SearchKey::And(keys));
        let uids: UidSet = found.map_err(|error| self.refused(&error))?.into_iter().collect();
        Ok(Answer::FoundIn {
            mailbox_id: place.object_id(),
            uid_validity: view.uid_validity(),
            recent_from: self.engine().recent_from(place.account, place.mailbox, view.uid_next()),
            highest_modseq: view.highest_modseq_of(&uids),
            uids,
        })
    }

    pub(super) fn relevancy(
        &self,
        mailbox: Option<&MailboxName>,
        key: &SearchKey,
        uids: &UidSet,
    ) -> Result<Answer, NoAnswer> {
        let (account, view) = match mailbox {
            None => self.view(Reach::Disk)?,
            Some(name) => {
                let (place, _) = self.named(name, Rights::READ, Reach::Disk)?;
                (place.account, self.snapshot(place, Refusal::NoSuchMailbox, Reach::Disk)?.0)
            }
        };
        let missing = if mailbox.is_some() { Refusal::NoSuchMailbox } else { Refusal::MailboxGone };
        let scores = self.engine().relevancy_view(account, &view, key, uids);
        scores.map(Answer::Relevancy).map_err(|error| NoAnswer::Refused(self.refusal(&error, missing)))
    }

    pub(super) fn sort(&self, key: SearchKey, within: UidSet, criteria: &[SortCriterion]) -> Result<Answer, NoAnswer> {
        self.asked(key, within, |engine, account, view, key| {
            let uids = engine.sort_view(account, view, key, criteria)?;
            let highest_modseq = view.highest_modseq_of(&sorted(&uids));
            Ok(Answer::Sorted { uids, highest_modseq })
        })
    }

    pub(super) fn thread(
        &self,
        key: SearchKey,
        within: UidSet,
        algorithm: ThreadAlgorithm,
    ) -> Result<Answer, NoAnswer> {
        self.asked(key, within, |engine, account, view, key| {
            engine.thread_view(account, view, key, algorithm).map(Answer::Threads)
        })
    }
}

/// A set of UIDs that come in any order: added in ascending order they are quickly one.
fn sorted(uids: &[u32]) -> UidSet {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    uids.into_iter().collect()
}
