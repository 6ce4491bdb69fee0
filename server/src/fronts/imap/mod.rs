//! The front of IMAP: the selected mailbox as a snapshot, pages of FETCH, commands for the engine.
//!
//! * What: the host's half of IMAP connections: [`mailbox`] opens, compares and watches, [`find`] searches, [`fetch`] shows
//!   messages, [`change`] changes them, [`append`] takes new ones in, [`access`] tells rights and quotas,
//!   [`metadata`] annotations.
//! * In: what an IMAP session asks.
//! * Out: answers out of snapshots and records, commands for the engine, one log line for each message taken in.
//! * Never: blocks a worker, keeps more than one page of a message or of an answer, or holds a snapshot while the client
//!   does nothing but wait (IDLE).
//! * Fails: with a [`Refusal`] that says whose fault it is; ours are logged.

mod access;
mod append;
mod change;
mod fetch;
mod find;
mod mailbox;
mod metadata;
mod notify;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rockdove_engine::{
    AccountId, Engine, EngineError, KEYWORDS_MAX, MailboxList,
    rights::{OTHER_USERS, PUBLIC},
};
use rockdove_imap::{Answer, Ask, ImapConfig, ImapSession, Refusal};
use rockdove_mail::{AskId, Peer, Tick, sasl::LoginAnswer};

use self::{
    append::{Append, Ends},
    fetch::PageOf,
    mailbox::Open,
    mailbox::Watching,
    notify::WatchingAll,
};
use super::{
    Front, Replier,
    locks::AccountLock,
    login::{Identity, takes_clear_passwords},
};
use crate::{
    net::{
        compress::CompressPermit,
        listeners::{ListenerConfig, TlsMode},
    },
    services::Services,
};

/// The host's half of one IMAP connection.
pub struct ImapFront {
    talk: Arc<Conversation>,
    watching: Option<Watching>,
    /// Everything that the user sees is watched.
    watching_all: Option<WatchingAll>,
    /// The connection is compressed.
    compressing: Option<CompressPermit>,
}

/// What the jobs of one connection have in common.
struct Conversation {
    who: Identity,
    /// The client is an administrator, who may be any account.
    administrator: bool,
    /// The administrator's account. Jobs hold the conversation, so it is free when the last has ended.
    administered: Mutex<Option<AccountLock>>,
    open: Mutex<Option<Open>>,
    append: Mutex<Option<Box<Append>>>,
    /// Messages that have come and are to be stored, in this order.
    ends: Mutex<Ends>,
}

/// Where an answer may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// From memory only: this is a worker.
    Memory,
    /// From the disk too: this is a storage thread.
    Disk,
}

/// Why there is no answer.
#[derive(Debug)]
enum NoAnswer {
    /// It needs [`Reach::Disk`].
    NotInMemory,
    /// It is refused.
    Refused(Refusal),
}

impl NoAnswer {
    fn into_answer(self) -> Answer {
        Answer::Refused(match self {
            Self::Refused(refusal) => refusal,
            Self::NotInMemory => Refusal::TryLater,
        })
    }
}

/// Opens the session and the front of a connection.
pub fn open(
    services: &Arc<Services>,
    listener: &ListenerConfig,
    peer: &Peer,
    seed: [u8; 32],
    now: Tick,
) -> (ImapSession, ImapFront) {
    let settings = services.config();
    let config = ImapConfig {
        host_name: settings.hostname.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        external: listener.administrator,
        starttls: listener.tls == TlsMode::StartTls,
        clear_login: takes_clear_passwords(settings.login.clear_text, peer),
        message_size_max: settings.limits.message_size.bytes,
        keywords_max: KEYWORDS_MAX,
        other_users: OTHER_USERS,
        public: PUBLIC,
        login_ms_max: settings.timeouts.imap_login.ms,
        autologout_ms: settings.timeouts.imap_autologout.ms,
    };
    let talk = Conversation::new(Identity::new(services, peer), listener.administrator);
    (
        ImapSession::new(config, peer, seed, now),
        ImapFront { talk: Arc::new(talk), watching: None, watching_all: None, compressing: None },
    )
}

impl Front<ImapSession> for ImapFront {
    fn ask(&mut self, id: AskId, ask: Ask, replier: &Replier<Answer>) {
        let who = &self.talk.who;
        match ask {
            Ask::CheckPassword { login, password, authorize_as } => {
                let answers = replier.clone();
                let done = move |answer| answers.reply(id, Answer::Login(answer));
                who.check_password(&login, &password, authorize_as, done);
            }
            Ask::ScramKeys { login } => replier.reply(id, Answer::Scram(who.scram_keys(&login))),
            Ask::ScramDone { login, authorize_as, proven } => {
                replier.reply(id, Answer::Login(who.scram_done(&login, authorize_as.as_deref(), proven)));
            }
            Ask::External { authorize_as } => {
                replier.reply(id, Answer::Login(self.talk.external(&authorize_as)));
            }
            Ask::MayCompress => {
                self.compressing = CompressPermit::take();
                replier.reply(
                    id,
                    match self.compressing {
                        Some(_) => Answer::Done,
                        None => Answer::Refused(Refusal::Limit("too many connections are compressed".to_owned())),
                    },
                );
            }
            Ask::Unauthenticate => {
                self.end_watch();
                self.watching_all = None;
                self.talk = Arc::new(Conversation::new(self.talk.who.forgotten(), self.talk.administrator));
                replier.reply(id, Answer::Done);
            }
            Ask::AppendBegin { mailbox, size_bytes, replaces } => {
                self.answer(id, replier, move |talk, reach| talk.append_begin(&mailbox, size_bytes, replaces, reach));
            }
            Ask::AppendOctets(chunks) => self.append_octets(id, replier, chunks),
            Ask::AppendNext { flags, date, size_bytes } => self.append_next(id, replier, flags, date, size_bytes),
            Ask::AppendEnd { flags, date, replaces } => self.append_end(id, replier, (flags, date), replaces),
            Ask::AppendAbort => self.append_abort(id, replier),
            ask => self.ask_mailbox(id, ask, replier),
        }
    }
}

impl ImapFront {
    /// Questions about mailboxes and what is in them.
    fn ask_mailbox(&mut self, id: AskId, ask: Ask, replier: &Replier<Answer>) {
        match ask {
            Ask::Mailboxes => self.answer(id, replier, Conversation::mailboxes),
            Ask::Status { mailbox, deleted_bytes } => {
                self.answer(id, replier, move |talk, reach| talk.status(&mailbox, deleted_bytes, reach));
            }
            Ask::Acl { mailbox } => self.later(id, replier, move |talk| talk.acl(&mailbox)),
            Ask::ListRights { mailbox, identifier } => {
                self.later(id, replier, move |talk| talk.list_rights(&mailbox, &identifier));
            }
            Ask::MyRights { mailbox } => self.answer(id, replier, move |talk, reach| talk.my_rights(&mailbox, reach)),
            Ask::Quota { root } => self.later(id, replier, move |talk| talk.quota(&root)),
            Ask::QuotaRoot { mailbox } => self.later(id, replier, move |talk| talk.quota_root(&mailbox)),
            Ask::Metadata { mailbox } => {
                self.answer(id, replier, move |talk, reach| talk.metadata(mailbox.as_ref(), reach));
            }
            Ask::MetadataMarks { places } => {
                self.answer(id, replier, move |talk, reach| talk.metadata_marks(&places, reach));
            }
            Ask::Select { mailbox, read_only } => {
                self.end_watch();
                self.answer(id, replier, move |talk, reach| talk.select(&mailbox, read_only, reach));
            }
            Ask::Unselect => {
                self.end_watch();
                self.talk.close();
                replier.reply(id, Answer::Done);
            }
            Ask::Sync { since, own, keywords_known, claim_recent } => {
                self.answer(id, replier, move |talk, reach| {
                    talk.sync(since, &own, keywords_known, claim_recent, reach)
                });
            }
            Ask::Vanished { since } => self.answer(id, replier, move |talk, reach| talk.vanished(since, reach)),
            Ask::Watch { since } => self.watch(id, since, replier),
            Ask::WatchAll => self.watch_all(id, replier),
            Ask::Statuses { mailboxes } => {
                self.answer(id, replier, move |talk, reach| talk.statuses(&mailboxes, reach));
            }
            Ask::EndWatch => {
                self.end_watch();
                self.end_watch_all();
                replier.reply(id, Answer::Done);
            }
            Ask::Fetch { uids, request, numbers, recent, changed_since, cursor } => {
                let page = PageOf { uids, request, numbers, recent, changed_since, cursor };
                self.answer(id, replier, move |talk, reach| talk.fetch(&page, reach));
            }
            Ask::Search { key, within } => self.later(id, replier, move |talk| talk.find(key, within)),
            Ask::SearchIn { mailbox, key, within } => {
                self.later(id, replier, move |talk| talk.find_in(&mailbox, key, within));
            }
            Ask::Relevancy { mailbox, key, uids } => {
                self.later(id, replier, move |talk| talk.relevancy(mailbox.as_ref(), &key, &uids));
            }
            Ask::Sort { key, within, criteria } => {
                self.later(id, replier, move |talk| talk.sort(key, within, &criteria));
            }
            Ask::Thread { key, within, algorithm } => {
                self.later(id, replier, move |talk| talk.thread(key, within, algorithm));
            }
            ask => self.ask_change(id, ask, replier),
        }
    }

    /// Answers from memory when that is possible, else from the storage pool.
    fn answer(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        find: impl Fn(&Conversation, Reach) -> Result<Answer, NoAnswer> + Send + 'static,
    ) {
        match find(&self.talk, Reach::Memory) {
            Ok(answer) => replier.reply(id, answer),
            Err(NoAnswer::NotInMemory) => self.later(id, replier, move |talk| find(talk, Reach::Disk)),
            Err(refused) => replier.reply(id, refused.into_answer()),
        }
    }

    /// Answers from the storage pool.
    fn later(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        find: impl FnOnce(&Conversation) -> Result<Answer, NoAnswer> + Send + 'static,
    ) {
        self.job(id, replier, move |talk, answers| {
            // Nobody waits for what a client that has gone wanted to see.
            if !answers.is_closed() {
                answers.reply(id, find(talk).unwrap_or_else(NoAnswer::into_answer));
            }
        });
    }

    /// Runs a job that will answer on the storage pool.
    fn job(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        job: impl FnOnce(&Arc<Conversation>, Replier<Answer>) + Send + 'static,
    ) {
        let (talk, answers) = (Arc::clone(&self.talk), replier.clone());
        if self.talk.who.services().storage.run(move || job(&talk, answers)).is_err() {
            replier.reply(id, Answer::Refused(Refusal::TryLater));
        }
    }
}

impl Conversation {
    fn new(who: Identity, administrator: bool) -> Self {
        Self {
            who,
            administrator,
            administered: Mutex::default(),
            open: Mutex::default(),
            append: Mutex::default(),
            ends: Mutex::default(),
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.who.services().engine
    }

    fn account(&self) -> Result<AccountId, NoAnswer> {
        self.who.account().ok_or(NoAnswer::Refused(Refusal::TryLater))
    }

    /// A login by what the operating system tells.
    fn external(&self, authorize_as: &str) -> LoginAnswer {
        let mut administered = self.administered.lock().unwrap_or_else(PoisonError::into_inner);
        *administered = None;
        match self.who.external(self.administrator, authorize_as) {
            Ok(lock) => {
                *administered = Some(lock);
                LoginAnswer::Accepted
            }
            Err(answer) => answer,
        }
    }

    fn opened(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mailboxes and subscriptions of the account.
    fn list(&self, account: AccountId, reach: Reach) -> Result<Arc<MailboxList>, NoAnswer> {
        match reach {
            Reach::Memory => self.engine().mailboxes_cached(account).ok_or(NoAnswer::NotInMemory),
            Reach::Disk => self.engine().mailboxes(account).map_err(|error| self.refused(&error)),
        }
    }

    fn refused(&self, error: &EngineError) -> NoAnswer {
        NoAnswer::Refused(self.refusal(error, Refusal::NoSuchMailbox))
    }

    /// What the client is told of an error of the engine; `missing` when something was not there.
    fn refusal(&self, error: &EngineError, missing: Refusal) -> Refusal {
        match error {
            EngineError::NotFound(_) => missing,
            EngineError::Exists(_) => Refusal::Exists,
            EngineError::Invalid(why) => Refusal::Cannot(why.clone()),
            EngineError::NoPermission(_) => Refusal::NoPermission,
            EngineError::OverQuota => Refusal::OverQuota,
            EngineError::Limit(why) => Refusal::Limit(why.clone()),
            EngineError::Unavailable(_) => {
                tracing::warn!(account = %self.who.address(), %error, "an IMAP client was told to try again later");
                Refusal::TryLater
            }
            EngineError::Corrupt(_) => {
                tracing::error!(account = %self.who.address(), %error, "an IMAP client met damaged data");
                Refusal::Corrupt
            }
        }
    }
}
