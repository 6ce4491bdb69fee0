//! What NOTIFY needs: a watch on all that a user sees, and counters of many mailboxes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rockdove_engine::AccountId;
use rockdove_imap::{Answer, Refusal};
use rockdove_mail::{AskId, MailboxName, Rights};

use super::{Conversation, ImapFront, NoAnswer, Reach, mailbox::told};
use crate::{fronts::Replier, runtime::hub::Watch};

/// A watch on the user's account and those that let the user see something.
pub(super) struct WatchingAll {
    news: Arc<News>,
    watches: BTreeMap<AccountId, Watch>,
}

/// Whether something has happened that the session has not been told of, and who waits for it.
struct News(Mutex<Waiting>);

struct Waiting {
    happened: bool,
    waiter: Option<(AskId, Replier<Answer>)>,
}

impl News {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happened(&self) {
        let mut waiting = self.waiting();
        waiting.happened = true;
        waiting.tell();
    }
}

impl Waiting {
    fn tell(&mut self) {
        if self.happened
            && let Some((id, replier)) = self.waiter.take()
        {
            self.happened = false;
            replier.reply(id, Answer::Changed);
        }
    }
}

impl WatchingAll {
    fn new() -> Self {
        // The session looks once when everything that comes is noticed.
        let news = Arc::new(News(Mutex::new(Waiting { happened: true, waiter: None })));
        Self { news, watches: BTreeMap::new() }
    }
}

impl ImapFront {
    pub(super) fn watch_all(&mut self, id: AskId, replier: &Replier<Answer>) {
        self.end_watch();
        let Ok(account) = self.talk.account() else { return replier.reply(id, Answer::Refused(Refusal::TryLater)) };
        self.talk.rest();
        let services = self.talk.who.services();
        let mut accounts = services.engine.owners_for(account);
        // What everybody sees of the server is among what the user sees.
        accounts.extend([account, AccountId::SERVER]);
        accounts.extend(self.talk.place().ok().map(|place| place.account));
        let watching = self.watching_all.get_or_insert_with(WatchingAll::new);
        watching.watches.retain(|account, _| accounts.contains(account));
        for account in accounts {
            watching.watches.entry(account).or_insert_with(|| {
                let news = Arc::clone(&watching.news);
                // What happened there before now may have been missed.
                news.waiting().happened = true;
                services.hub.watch(account, None, Box::new(move |_: &_| news.happened()))
            });
        }
        let mut waiting = watching.news.waiting();
        waiting.waiter = Some((id, replier.clone()));
        waiting.tell();
    }

    /// Answers who waits; what happens from now on is remembered.
    pub(super) fn end_watch_all(&mut self) {
        if let Some(watching) = &self.watching_all
            && let Some((id, replier)) = watching.news.waiting().waiter.take()
        {
            replier.reply(id, Answer::Done);
        }
    }
}

impl Conversation {
    /// Counters of these mailboxes, but for RECENT, which would need their messages.
    pub(super) fn statuses(&self, names: &[MailboxName], reach: Reach) -> Result<Answer, NoAnswer> {
        let mut statuses = Vec::with_capacity(names.len());
        for name in names {
            let place = match self.named(name, Rights::READ, reach) {
                Ok((place, _)) => place,
                Err(NoAnswer::NotInMemory) => return Err(NoAnswer::NotInMemory),
                Err(NoAnswer::Refused(Refusal::NoSuchMailbox | Refusal::NoPermission)) => {
                    statuses.push(None);
                    continue;
                }
                Err(refused) => return Err(refused),
            };
            let status = match reach {
                Reach::Memory => {
                    Some(self.engine().status_cached(place.account, place.mailbox).ok_or(NoAnswer::NotInMemory)?)
                }
                // It went a moment ago.
                Reach::Disk => self.engine().status(place.account, place.mailbox).ok(),
            };
            statuses.push(status.map(|status| told(place, &status, 0)));
        }
        Ok(Answer::Statuses(statuses))
    }
}
