//! The front of POP3: a maildrop is the account's INBOX as it is at login.
//!
//! The snapshot shares its segments with every other reader of the mailbox; sizes come from it, pages of messages from
//! the storage pool. What other clients remove meanwhile is answered as gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rockdove_engine::{
    command::{AccountId, Command, EngineError, MailboxId},
    store::{MailboxView, MessageRecord},
};
use rockdove_mail::{AskId, FlagUpdate, Flags, MailboxName, Peer, SystemFlags, Tick, Uid, UidSet};
use rockdove_pop3::{Answer, Ask, Maildrop, OpenError, Pop3Config, Pop3Session};

use super::{
    Front, Replier,
    locks::AccountLock,
    login::{Identity, takes_clear_passwords},
};
use crate::{
    net::listeners::{ListenerConfig, TlsMode},
    runtime::clock,
    services::Services,
};

/// A maildrop in use.
struct OpenDrop {
    _lock: AccountLock,
    mailbox: MailboxId,
    view: Arc<MailboxView>,
    /// The message being read.
    record: Option<(Uid, Arc<MessageRecord>)>,
}

/// What the jobs of one connection share.
struct Conversation {
    who: Identity,
    open: Mutex<Option<OpenDrop>>,
}

/// The host's half of one POP3 connection.
pub struct Pop3Front {
    shared: Arc<Conversation>,
}

/// Opens the session and the front of a connection.
pub fn open(
    services: &Arc<Services>,
    listener: &ListenerConfig,
    peer: &Peer,
    seed: [u8; 32],
    now: Tick,
) -> (Pop3Session, Pop3Front) {
    let settings = services.config();
    let config = Pop3Config {
        host_name: settings.hostname.clone(),
        starttls: listener.tls == TlsMode::StartTls,
        clear_login: takes_clear_passwords(settings.login.clear_text, peer),
    };
    let shared = Conversation { who: Identity::new(services, peer), open: Mutex::default() };
    (Pop3Session::new(config, peer, seed, now), Pop3Front { shared: Arc::new(shared) })
}

impl Front<Pop3Session> for Pop3Front {
    fn ask(&mut self, id: AskId, ask: Ask, replier: &Replier<Answer>) {
        let shared = &self.shared;
        match ask {
            Ask::CheckPassword { login, password, authorize_as } => {
                let answers = replier.clone();
                let done = move |answer| answers.reply(id, Answer::Login(answer));
                shared.who.check_password(&login, &password, authorize_as, done);
            }
            Ask::ScramKeys { login } => {
                replier.reply(id, Answer::Scram(shared.who.scram_keys(&login)));
            }
            Ask::ScramDone { login, authorize_as, proven } => {
                replier.reply(id, Answer::Login(shared.who.scram_done(&login, authorize_as.as_deref(), proven)));
            }
            Ask::Sizes { uids } => replier.reply(id, shared.sizes(&uids)),
            Ask::Octets { uids } => replier.reply(id, shared.octets(&uids)),
            Ask::Open => self.later(id, replier, |shared| Answer::Opened(shared.open())),
            Ask::Read { uid, offset, octets_max } => {
                self.later(id, replier, move |shared| shared.read(uid, offset, octets_max));
            }
            Ask::Update { delete, seen } => self.update(id, replier, delete, seen),
        }
    }
}

impl Pop3Front {
    /// Answers from the storage pool.
    fn later(&self, id: AskId, replier: &Replier<Answer>, job: impl FnOnce(&Conversation) -> Answer + Send + 'static) {
        let (shared, answers) = (Arc::clone(&self.shared), replier.clone());
        let queued = self.shared.services().storage.run(move || {
            answers.reply(id, job(&shared));
        });
        if queued.is_err() {
            replier.reply(id, Answer::TryLater);
        }
    }

    fn update(&self, id: AskId, replier: &Replier<Answer>, delete: UidSet, seen: UidSet) {
        let (shared, answers) = (Arc::clone(&self.shared), replier.clone());
        let queued = self.shared.services().storage.run(move || update(&shared, id, answers, &delete, &seen));
        if queued.is_err() {
            drop(self.shared.take_open());
            replier.reply(id, Answer::TryLater);
        }
    }
}

/// Flags, then removes; both are planned in that order and usually share one sync. The removal is one command: all or
/// nothing. Answers when the last of them is durable.
fn update(shared: &Arc<Conversation>, id: AskId, answers: Replier<Answer>, delete: &UidSet, seen: &UidSet) {
    let Some((account, mailbox)) = shared.whose() else { return answers.reply(id, Answer::Updated(false)) };
    let now_unix_s = clock::now().unix_s;
    let flags = Flags::system(SystemFlags::SEEN);
    let flag = Command::StoreFlags {
        account,
        mailbox,
        uids: seen.clone(),
        update: FlagUpdate::Add,
        flags,
        unchanged_since: None,
    };
    let remove = Command::Expunge { account, mailbox, uids: Some(delete.clone()), deleted_only: false };
    let ending = Arc::clone(shared);
    let done = Box::new(move |result: Result<_, EngineError>| {
        if let Err(error) = &result {
            tracing::warn!(account = account.0, %error, "a POP3 session could not update its maildrop");
        }
        // Unlocked before the client hears of it, or it could come back and find the maildrop in use.
        drop(ending.take_open());
        answers.reply(id, Answer::Updated(result.is_ok()));
    });
    let engine = &shared.services().engine;
    if delete.is_empty() {
        if seen.is_empty() {
            return done(Ok(rockdove_engine::command::Outcome::Done));
        }
        return engine.submit(now_unix_s, flag, done);
    }
    if !seen.is_empty() {
        // Reading marks are a courtesy: when only they fail, what was promised has still been done.
        let noted = move |result: Result<_, EngineError>| {
            if let Err(error) = result {
                tracing::warn!(account = account.0, %error, "messages read over POP3 were not marked as seen");
            }
        };
        engine.submit(now_unix_s, flag, Box::new(noted));
    }
    engine.submit(now_unix_s, remove, done);
}

impl Conversation {
    fn services(&self) -> &Services {
        self.who.services()
    }

    fn opened(&self) -> MutexGuard<'_, Option<OpenDrop>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_open(&self) -> Option<OpenDrop> {
        self.opened().take()
    }

    fn whose(&self) -> Option<(AccountId, MailboxId)> {
        let account = self.who.account()?;
        self.opened().as_ref().map(|open| (account, open.mailbox))
    }

    fn open(&self) -> Result<Maildrop, OpenError> {
        let account = self.who.account().ok_or(OpenError::TryLater)?;
        let lock = self.services().maildrops.lock(account).ok_or(OpenError::InUse)?;
        let (mailbox, view) = self.inbox(account).map_err(|error| {
            tracing::warn!(account = account.0, %error, "the maildrop cannot be opened");
            OpenError::TryLater
        })?;
        let maildrop =
            Maildrop { uid_validity: view.uid_validity(), uids: view.uids(), octets: view.status().size_bytes };
        *self.opened() = Some(OpenDrop { _lock: lock, mailbox, view, record: None });
        Ok(maildrop)
    }

    fn inbox(&self, account: AccountId) -> Result<(MailboxId, Arc<MailboxView>), EngineError> {
        let engine = &self.services().engine;
        let list = engine.mailboxes(account)?;
        let inbox = list.by_name(&MailboxName::inbox()).ok_or_else(|| EngineError::NotFound("INBOX".to_owned()))?;
        Ok((inbox.id, engine.mailbox(account, inbox.id)?))
    }

    fn sizes(&self, uids: &UidSet) -> Answer {
        let open = self.opened();
        let Some(open) = open.as_ref() else { return Answer::TryLater };
        Answer::Sizes(open.view.entries(uids).map(|entry| entry.size_bytes).collect())
    }

    fn octets(&self, uids: &UidSet) -> Answer {
        let open = self.opened();
        let Some(open) = open.as_ref() else { return Answer::TryLater };
        Answer::Octets(open.view.entries(uids).map(|entry| entry.size_bytes).sum())
    }

    fn read(&self, uid: Uid, offset: u64, octets_max: u64) -> Answer {
        let page = self.record(uid).and_then(|(account, record)| {
            let range = offset..offset.saturating_add(octets_max).min(record.size_bytes);
            let bytes = self.services().engine.read(account, &record, range)?;
            Ok(Answer::Page { size_bytes: record.size_bytes, bytes })
        });
        page.unwrap_or_else(|error| match error {
            EngineError::NotFound(_) => Answer::Gone,
            error => {
                tracing::warn!(uid, %error, "a message cannot be read for POP3");
                Answer::TryLater
            }
        })
    }

    fn record(&self, uid: Uid) -> Result<(AccountId, Arc<MessageRecord>), EngineError> {
        let missing = || EngineError::NotFound("the message".to_owned());
        let account = self.who.account().ok_or_else(missing)?;
        let message = {
            let open = self.opened();
            let open = open.as_ref().ok_or_else(missing)?;
            if let Some((known, record)) = &open.record
                && *known == uid
            {
                return Ok((account, Arc::clone(record)));
            }
            open.view.entry(uid).ok_or_else(missing)?.message
        };
        let record = self.services().engine.record(account, message)?;
        if let Some(open) = self.opened().as_mut() {
            open.record = Some((uid, Arc::clone(&record)));
        }
        Ok((account, record))
    }
}
