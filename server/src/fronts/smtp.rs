//! The front of SMTP, submission and LMTP.
//!
//! What memory can answer is answered at once; a complete message is one job on the storage pool (staging, resolving,
//! planning), and its answer comes straight from the engine's commit.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rockdove_engine::{AccountId, Engine, Staging};
use rockdove_mail::{AskId, Peer, Tick, sasl};
use rockdove_smtp::{
    Abandoned, Address, Answer, Ask, ClearAuth, LoginAnswer, Mail, RecipientAnswer, RecipientOutcome, Role,
    SenderAnswer, SmtpSession, SpoolAnswer, Tls,
};

use super::{Front, Replier};
use crate::{
    config::{ClearText, Config},
    delivery,
    login::{self, LoginOutcome, LoginService},
    net::listeners::{ListenerConfig, Protocol, TlsMode},
    runtime::storage::StoragePool,
    services::Services,
};

/// Content handed over before its message was complete.
type Spooled = Arc<Mutex<Option<Staging>>>;

/// The host's half of one SMTP connection.
pub struct SmtpFront {
    services: Arc<Services>,
    hostname: Arc<str>,
    remote: Option<SocketAddr>,
    /// Name of the last login that was tried; the session asks about senders only after one was accepted.
    login: String,
    /// The message under way; `None` while none of it was handed over.
    spooled: Option<Spooled>,
}

/// Opens the session and the front of a connection.
pub fn open(
    services: &Arc<Services>,
    listener: &ListenerConfig,
    peer: Peer,
    seed: [u8; 32],
    now: Tick,
) -> (SmtpSession, SmtpFront) {
    let role = match listener.protocol {
        Protocol::Lmtp => Role::Lmtp,
        Protocol::Submission => Role::Submission,
        _ => Role::Mx,
    };
    let config = session_config(&services.config(), role, listener.tls);
    let hostname = Arc::from(config.hostname.as_str());
    let remote = peer.remote;
    let session = SmtpSession::new(Arc::new(config), peer, seed, now);
    let front = SmtpFront { services: Arc::clone(services), hostname, remote, login: String::new(), spooled: None };
    (session, front)
}

/// What the configuration in force says to a session.
fn session_config(config: &Config, role: Role, tls: TlsMode) -> rockdove_smtp::Config {
    rockdove_smtp::Config {
        size_bytes_max: config.limits.message_size.bytes,
        recipients_max: config.limits.recipients,
        tls: if tls == TlsMode::StartTls { Tls::Available } else { Tls::Unavailable },
        clear_auth: match config.login.clear_text {
            ClearText::Never => ClearAuth::Never,
            ClearText::Loopback => ClearAuth::Loopback,
            ClearText::Always => ClearAuth::Always,
        },
        command_ms: config.timeouts.smtp_command.ms,
        data_block_ms: config.timeouts.smtp_data_block.ms,
        data_total_ms: config.timeouts.smtp_data_total.ms,
        ..rockdove_smtp::Config::new(role, &config.hostname)
    }
}

impl Front<SmtpSession> for SmtpFront {
    fn ask(&mut self, id: AskId, ask: Ask, replier: &Replier<Answer>) {
        match ask {
            Ask::Login { login, password, authorize_as } => {
                self.check_password(id, login, password.as_str(), authorize_as.as_deref(), replier);
            }
            Ask::ScramKeys { login } => {
                let keys = self.login_service().scram(self.address(), &login);
                replier.reply(id, Answer::ScramKeys(scram_keys(keys)));
            }
            Ask::ScramProved { login, authorize_as } => {
                replier.reply(id, Answer::Login(self.scram_proved(login, authorize_as.as_deref())));
            }
            Ask::ScramFailed { login } => {
                self.login_service().failed(self.address(), &login);
                replier.reply(id, Answer::Noted);
            }
            Ask::Sender { address } => replier.reply(id, Answer::Sender(self.check_sender(&address))),
            Ask::Recipient { address, size_declared } => self.check_recipient(id, address, size_declared, replier),
            Ask::Spool(chunks) => self.spool(id, chunks, replier),
            Ask::Deliver(mail) => self.deliver(id, *mail, replier),
            Ask::Abandon(abandoned) => {
                self.abandon(&abandoned);
                replier.reply(id, Answer::Noted);
            }
        }
    }
}

impl SmtpFront {
    fn engine(&self) -> &Arc<Engine> {
        &self.services.engine
    }

    fn storage(&self) -> &StoragePool {
        &self.services.storage
    }

    fn login_service(&self) -> &LoginService {
        &self.services.login
    }

    fn address(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.ip())
    }

    fn account(&self, login: &str) -> Option<AccountId> {
        self.engine().directory().account_by_login(login).map(|account| account.id)
    }

    /// Whether a login may act as the identity it asked for: itself, and nobody else.
    fn may_act_as(&self, login: &str, authorize_as: Option<&str>) -> bool {
        authorize_as.is_none_or(|other| {
            let account = self.account(login);
            account.is_some() && self.account(other) == account
        })
    }

    fn check_password(
        &mut self,
        id: AskId,
        login: String,
        password: &str,
        authorize_as: Option<&str>,
        replier: &Replier<Answer>,
    ) {
        let may_act = self.may_act_as(&login, authorize_as);
        let replier = replier.clone();
        let done = Box::new(move |outcome: LoginOutcome| {
            let answer = match outcome {
                LoginOutcome::Ok(_) if may_act => LoginAnswer::Accepted,
                LoginOutcome::Ok(_) | LoginOutcome::Refused => LoginAnswer::Refused,
                LoginOutcome::TryLater => LoginAnswer::TryLater,
            };
            replier.reply(id, Answer::Login(answer));
        });
        self.login_service().check(self.address(), &login, password, done);
        self.login = login;
    }

    fn scram_proved(&mut self, login: String, authorize_as: Option<&str>) -> LoginAnswer {
        if self.account(&login).is_none() || !self.may_act_as(&login, authorize_as) {
            self.login_service().failed(self.address(), &login);
            return LoginAnswer::Refused;
        }
        self.login_service().succeeded(self.address(), &login);
        self.login = login;
        LoginAnswer::Accepted
    }

    fn check_sender(&self, address: &Address) -> SenderAnswer {
        let directory = self.engine().directory();
        let account = directory.account_by_login(&self.login).map(|account| account.id);
        if account.is_some_and(|account| delivery::may_send_as(&directory, account, address)) {
            return SenderAnswer::Accepted;
        }
        delivery::refused_sender(address, &self.login, self.remote);
        SenderAnswer::NotYours
    }

    fn check_recipient(&self, id: AskId, address: Address, size: Option<u64>, replier: &Replier<Answer>) {
        let octets = size.unwrap_or(0);
        let answer = delivery::check_recipient(self.engine(), &self.hostname, &address, octets, false);
        if let Some(answer) = answer {
            return tell_recipient(id, &address, answer, self.remote, replier);
        }
        let (engine, hostname, remote) = (Arc::clone(self.engine()), Arc::clone(&self.hostname), self.remote);
        let later = replier.clone();
        let busy = self.storage().run(move || {
            let answer = delivery::check_recipient(&engine, &hostname, &address, octets, true);
            tell_recipient(id, &address, answer.unwrap_or(RecipientAnswer::TryLater), remote, &later);
        });
        if busy.is_err() {
            replier.reply(id, Answer::Recipient(RecipientAnswer::TryLater));
        }
    }

    fn spool(&mut self, id: AskId, chunks: Vec<Bytes>, replier: &Replier<Answer>) {
        let engine = &self.services.engine;
        let spooled = self.spooled.get_or_insert_with(|| Arc::new(Mutex::new(Some(engine.stage()))));
        let (spooled, later) = (Arc::clone(spooled), replier.clone());
        let busy = self.services.storage.run(move || {
            let answer = spool(&spooled, &chunks);
            later.reply(id, Answer::Spooled(answer));
        });
        if busy.is_err() {
            self.spooled = None;
            replier.reply(id, Answer::Spooled(SpoolAnswer::TryLater));
        }
    }

    fn deliver(&mut self, id: AskId, mail: Mail, replier: &Replier<Answer>) {
        let recipients = mail.envelope.recipients.len();
        let (engine, hostname) = (Arc::clone(self.engine()), Arc::clone(&self.hostname));
        let (spooled, later) = (self.spooled.take(), replier.clone());
        let busy = self.storage().run(move || {
            let staging = spooled.map_or_else(|| Some(engine.stage()), |spooled| take(&spooled));
            let done = move |outcomes| later.reply(id, Answer::Delivered(outcomes));
            match staging {
                Some(staging) => delivery::deliver(&engine, hostname, mail, staging, Box::new(done)),
                None => done(vec![RecipientOutcome::TryLater; recipients]),
            }
        });
        if busy.is_err() {
            replier.reply(id, Answer::Delivered(vec![RecipientOutcome::TryLater; recipients]));
        }
    }

    fn abandon(&mut self, abandoned: &Abandoned) {
        if let Some(why) = &abandoned.refusal {
            delivery::refused_message(&abandoned.envelope, why);
        }
        let Some(spooled) = self.spooled.take() else { return };
        // What was spooled may be on disk; it is let go where blocking is allowed, or here when nobody has time.
        if self.storage().run(move || drop(spooled)).is_err() {
            tracing::debug!("the storage pool is busy; a message was abandoned by its connection");
        }
    }
}

fn scram_keys(keys: login::ScramKeys) -> sasl::ScramKeys {
    sasl::ScramKeys {
        salt: keys.salt,
        iterations: keys.iterations,
        stored_key: keys.stored_key,
        server_key: keys.server_key,
    }
}

fn tell_recipient(
    id: AskId,
    address: &Address,
    answer: RecipientAnswer,
    remote: Option<SocketAddr>,
    replier: &Replier<Answer>,
) {
    replier.reply(id, Answer::Recipient(answer));
    let why = match answer {
        RecipientAnswer::Accepted => return,
        RecipientAnswer::UnknownRecipient => "no such recipient",
        RecipientAnswer::NotLocal => "not a local domain",
        RecipientAnswer::OverQuota => "the mailbox is full",
        RecipientAnswer::TryLater => "cannot check now",
    };
    delivery::refused_recipient(address, remote, why);
}

fn take(spooled: &Spooled) -> Option<Staging> {
    spooled.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Writes content; what fails once stays failed.
fn spool(spooled: &Spooled, chunks: &[Bytes]) -> SpoolAnswer {
    let Some(mut staging) = take(spooled) else {
        return SpoolAnswer::TryLater;
    };
    if let Err(error) = delivery::spool(&mut staging, chunks) {
        tracing::warn!(why = %error, "cannot take message content");
        return SpoolAnswer::TryLater;
    }
    *spooled.lock().unwrap_or_else(PoisonError::into_inner) = Some(staging);
    SpoolAnswer::Taken
}
