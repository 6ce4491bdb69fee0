//! Mailboxes: their list, their counters, and the one that is open.

use std::sync::{Arc, Mutex, PoisonError};

use rockdove_engine::{AccountId, EngineError, MailboxId, MailboxStatus, MailboxView, rights::SeenMailbox};
use rockdove_imap::{Answer, Changes, MailboxLine, Mailboxes, ObjectId, Refusal, Selected, Status};
use rockdove_mail::{AskId, Keyword, MailboxName, ModSeq, Rights, SystemFlags, Uid};

use super::{Conversation, ImapFront, NoAnswer, Reach};
use crate::{fronts::Replier, runtime::hub::Watch};

/// The mailbox that is open on a connection.
pub(super) struct Open {
    account: AccountId,
    mailbox: MailboxId,
    /// What the session sees; `None` while it only waits, and after a change until somebody looks again.
    view: Option<Arc<MailboxView>>,
    /// Messages below this were told to the session.
    uid_next: Uid,
    /// Keywords that were told to the session.
    keywords_told: usize,
}

/// Which mailbox is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) account: AccountId,
    pub(super) mailbox: MailboxId,
}

impl Place {
    /// MAILBOXID.
    pub(super) fn object_id(self) -> ObjectId {
        ObjectId { account: self.account.0, number: self.mailbox.0 }
    }
}

impl Conversation {
    pub(super) fn mailboxes(&self, reach: Reach) -> Result<Answer, NoAnswer> {
        let account = self.account()?;
        let list = self.list(account, reach)?;
        let engine = self.engine();
        let seen = match reach {
            Reach::Memory => engine.seen_mailboxes_cached(account).ok_or(NoAnswer::NotInMemory)?,
            Reach::Disk => engine.seen_mailboxes(account).map_err(|error| self.refused(&error))?,
        };
        let own = |info: &rockdove_engine::MailboxInfo| MailboxLine {
            name: info.name.clone(),
            mailbox_id: Place { account, mailbox: info.id }.object_id(),
            special_use: info.special_use,
            rights: engine.rights_cached(account, account, info.id).unwrap_or(Rights::ALL),
        };
        // What somebody else uses as their Trash is not one's own.
        let others = |seen: SeenMailbox| MailboxLine {
            name: seen.name,
            mailbox_id: Place { account: seen.owner, mailbox: seen.mailbox }.object_id(),
            special_use: None,
            rights: seen.rights,
        };
        let mut mailboxes: Vec<MailboxLine> = list.mailboxes().iter().map(own).collect();
        mailboxes.extend(seen.into_iter().map(others));
        mailboxes.sort_by(|a, b| a.name.cmp(&b.name));
        // What one has oneself comes first.
        mailboxes.dedup_by(|second, first| second.name == first.name);
        Ok(Answer::Mailboxes(Arc::new(Mailboxes { mailboxes, subscriptions: list.subscriptions().to_vec() })))
    }

    /// The mailbox of this name, for somebody who must have these rights.
    pub(super) fn named(&self, name: &MailboxName, wanted: Rights, reach: Reach) -> Result<(Place, Rights), NoAnswer> {
        let (engine, account) = (self.engine(), self.account()?);
        let opened = match reach {
            Reach::Memory => engine.open_named_cached(account, name, wanted).ok_or(NoAnswer::NotInMemory)?,
            Reach::Disk => engine.open_named(account, name, wanted),
        };
        let opened = opened.map_err(|error| self.refused(&error))?;
        Ok((Place { account: opened.account, mailbox: opened.mailbox }, opened.rights))
    }

    pub(super) fn status(&self, name: &MailboxName, deleted_bytes: bool, reach: Reach) -> Result<Answer, NoAnswer> {
        let (place, _) = self.named(name, Rights::READ, reach)?;
        let (engine, Place { account, mailbox }) = (self.engine(), place);
        let status = match reach {
            Reach::Memory => engine.status_cached(account, mailbox).ok_or(NoAnswer::NotInMemory)?,
            Reach::Disk => engine.status(account, mailbox).map_err(|error| self.refused(&error))?,
        };
        let recent_from = engine.recent_from(account, mailbox, status.uid_next);
        let recent = if recent_from >= status.uid_next {
            0
        } else {
            let (view, _) = self.snapshot(place, Refusal::NoSuchMailbox, reach)?;
            view.exists().saturating_sub(view.position(recent_from))
        };
        let mut status = told(place, &status, recent);
        if deleted_bytes && status.deleted > 0 {
            let (view, _) = self.snapshot(place, Refusal::NoSuchMailbox, reach)?;
            let deleted = SystemFlags::DELETED;
            let sizes = view
                .uids()
                .iter()
                .filter_map(|uid| view.entry(uid))
                .filter(|entry| entry.flags.system.contains(deleted))
                .map(|entry| entry.size_bytes)
                .sum();
            status.deleted_bytes = sizes;
        }
        Ok(Answer::Status(status))
    }

    /// A fresh snapshot, and the account's mod-sequence that goes with it. `missing` is the refusal when the mailbox has
    /// gone.
    pub(super) fn snapshot(
        &self,
        place: Place,
        missing: Refusal,
        reach: Reach,
    ) -> Result<(Arc<MailboxView>, ModSeq), NoAnswer> {
        let (engine, Place { account, mailbox }) = (self.engine(), place);
        let reader = self.account()?;
        if reader != account {
            // Rights come and go while a mailbox is open.
            let rights = match reach {
                Reach::Memory => engine.rights_cached(reader, account, mailbox).ok_or(NoAnswer::NotInMemory)?,
                Reach::Disk => engine.rights(reader, account, mailbox).unwrap_or_default(),
            };
            if !rights.contains(Rights::READ) {
                return Err(NoAnswer::Refused(missing));
            }
        }
        match reach {
            Reach::Memory => engine.snapshot_cached(account, mailbox).ok_or(NoAnswer::NotInMemory),
            Reach::Disk => {
                engine.snapshot(account, mailbox).map_err(|error| NoAnswer::Refused(self.refusal(&error, missing)))
            }
        }
    }

    pub(super) fn close(&self) {
        *self.opened() = None;
    }

    pub(super) fn select(&self, name: &MailboxName, read_only: bool, reach: Reach) -> Result<Answer, NoAnswer> {
        self.close();
        let (place, rights) = self.named(name, Rights::READ, reach)?;
        let (view, known_modseq) = self.snapshot(place, Refusal::NoSuchMailbox, reach)?;
        let selected = Selected {
            uids: view.uids(),
            uid_validity: view.uid_validity(),
            uid_next: view.uid_next(),
            highest_modseq: view.highest_modseq(),
            known_modseq,
            keywords: view.keywords().to_vec(),
            first_unseen: view.first_unseen(),
            recent_from: self.recent_from(place, view.uid_next(), !read_only),
            mailbox_id: place.object_id(),
            rights,
        };
        *self.opened() = Some(Open {
            account: place.account,
            mailbox: place.mailbox,
            uid_next: view.uid_next(),
            keywords_told: view.keywords().len(),
            view: Some(view),
        });
        Ok(Answer::Selected(Box::new(selected)))
    }

    //= rfc3501#section-2.3.2
    //# Message is "recently" arrived in this mailbox.  This session
    //# is the first session to have been notified about this
    //# message
    fn recent_from(&self, place: Place, uid_next: Uid, claim: bool) -> Uid {
        if claim {
            self.engine().claim_recent(place.account, place.mailbox, uid_next)
        } else {
            self.engine().recent_from(place.account, place.mailbox, uid_next)
        }
    }

    /// Which mailbox is open.
    pub(super) fn place(&self) -> Result<Place, NoAnswer> {
        let open = self.opened();
        let place = open.as_ref().map(|open| Place { account: open.account, mailbox: open.mailbox });
        place.ok_or(NoAnswer::Refused(Refusal::MailboxGone))
    }

    /// What the session sees of the open mailbox.
    pub(super) fn view(&self, reach: Reach) -> Result<(AccountId, Arc<MailboxView>), NoAnswer> {
        let place = self.place()?;
        if let Some(view) = self.opened().as_ref().and_then(|open| open.view.clone()) {
            return Ok((place.account, view));
        }
        let (view, _) = self.snapshot(place, Refusal::MailboxGone, reach)?;
        if let Some(open) = self.opened().as_mut() {
            open.view = Some(Arc::clone(&view));
        }
        Ok((place.account, view))
    }

    /// Takes what memory has of the open mailbox as the new view, after a change. Gives the keywords when there are
    /// more than the session was told of.
    pub(super) fn renew(&self) -> Option<Vec<Keyword>> {
        let place = self.place().ok()?;
        let view = self.engine().mailbox_cached(place.account, place.mailbox);
        let mut open = self.opened();
        let open = open.as_mut()?;
        let keywords = view.as_ref().and_then(|view| open.new_keywords(view));
        open.view = view;
        keywords
    }

    pub(super) fn sync(
        &self,
        since: ModSeq,
        own: &[ModSeq],
        keywords_known: usize,
        claim_recent: bool,
        reach: Reach,
    ) -> Result<Answer, NoAnswer> {
        let place = self.place()?;
        let (view, modseq) = self.snapshot(place, Refusal::MailboxGone, reach)?;
        let mut opened = self.opened();
        let open = opened.as_mut().ok_or(NoAnswer::Refused(Refusal::MailboxGone))?;
        open.keywords_told = keywords_known;
        let mut changes = Changes {
            highest_modseq: view.highest_modseq(),
            known_modseq: modseq.max(since),
            uid_next: view.uid_next(),
            keywords: open.new_keywords(&view),
            recent_from: view.uid_next(),
            ..Changes::default()
        };
        let known = open.uid_next;
        if view.uid_next() > known {
            changes.arrived = view.uids_from(known);
            changes.recent_from = self.recent_from(place, view.uid_next(), claim_recent).max(known);
        }
        if view.highest_modseq() > since {
            changes.vanished = view.vanished_since(since);
            let others = view.changed_since(since).filter(|entry| entry.uid < known && !own.contains(&entry.modseq));
            changes.changed = others.map(|entry| entry.uid).collect();
        }
        open.uid_next = view.uid_next();
        open.view = Some(view);
        Ok(Answer::Changes(Box::new(changes)))
    }

    pub(super) fn vanished(&self, since: ModSeq, reach: Reach) -> Result<Answer, NoAnswer> {
        let (_, view) = self.view(reach)?;
        Ok(Answer::Vanished(view.vanished_since(since)))
    }

    /// Lets the view go while the session only waits: entries of mailboxes that nobody reads need not stay in memory.
    pub(super) fn rest(&self) {
        if let Some(open) = self.opened().as_mut() {
            open.view = None;
        }
    }
}

impl Open {
    fn new_keywords(&mut self, view: &MailboxView) -> Option<Vec<Keyword>> {
        let keywords = view.keywords();
        let more = keywords.len() > self.keywords_told;
        self.keywords_told = keywords.len();
        more.then(|| keywords.to_vec())
    }
}

pub(super) fn told(place: Place, status: &MailboxStatus, recent: u32) -> Status {
    Status {
        messages: status.exists,
        recent,
        uid_next: status.uid_next,
        uid_validity: status.uid_validity,
        unseen: status.unseen,
        deleted: status.deleted,
        size_bytes: status.size_bytes,
        highest_modseq: status.highest_modseq,
        mailbox_id: place.object_id(),
        deleted_bytes: 0,
    }
}

/// A watch that is open, or was answered and not yet put away.
pub(super) struct Watching {
    waiter: Arc<Waiter>,
    _watch: Watch,
}

/// Answers a watch once, whoever finds out first that there is something to tell.
struct Waiter(Mutex<Option<(AskId, Replier<Answer>)>>);

impl Waiter {
    fn tell(&self) {
        // Answered under the lock: who comes second may rely on the answer being on its way.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, replier)) = waiting.take() {
            replier.reply(id, Answer::Changed);
        }
    }
}

impl ImapFront {
    pub(super) fn watch(&mut self, id: AskId, since: ModSeq, replier: &Replier<Answer>) {
        self.end_watch();
        self.watching_all = None;
        let Ok(place) = self.talk.place() else { return replier.reply(id, Answer::Changed) };
        self.talk.rest();
        let waiter = Arc::new(Waiter(Mutex::new(Some((id, replier.clone())))));
        let woken = Arc::clone(&waiter);
        let services = self.talk.who.services();
        let watch = services.hub.watch(place.account, Some(place.mailbox), Box::new(move |_: &_| woken.tell()));
        self.watching = Some(Watching { waiter: Arc::clone(&waiter), _watch: watch });
        // Only now that nothing can be missed: has it changed already?
        match services.engine.status_cached(place.account, place.mailbox) {
            Some(status) if status.highest_modseq > since => waiter.tell(),
            Some(_) => {}
            None => self.look_on_disk(place, since, &waiter),
        }
    }

    fn look_on_disk(&self, place: Place, since: ModSeq, waiter: &Arc<Waiter>) {
        let (engine, asking) = (Arc::clone(self.talk.engine()), Arc::clone(waiter));
        let busy = self.talk.who.services().storage.run(move || {
            let status: Result<MailboxStatus, EngineError> = engine.status(place.account, place.mailbox);
            if status.is_err() || status.is_ok_and(|status| status.highest_modseq > since) {
                asking.tell();
            }
        });
        if busy.is_err() {
            waiter.tell();
        }
    }

    /// Answers the open watch, if there is one.
    pub(super) fn end_watch(&mut self) {
        if let Some(watching) = self.watching.take() {
            watching.waiter.tell();
        }
    }
}
