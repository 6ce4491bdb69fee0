//! The front of SMTP, submission and LMTP.
//!
//! What memory can answer is answered at once; a complete message is one job on the storage pool (staging, resolving,
//! planning), and its answer comes straight from the engine's commit.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rockdove_engine::{AccountId, Engine};
use rockdove_mail::{AskId, Peer, Tick};
use rockdove_smtp::{
    Abandoned, Address, Answer, Ask, ClearAuth, Mail, RecipientAnswer, RecipientOutcome, Refusal, Role, SenderAnswer,
    SmtpSession, SpoolAnswer, Tls,
};

use super::{Front, Replier, login::Identity};
use crate::{
    config::{ClearText, Config},
    delivery::{self, Arrived, Intake},
    gate::Visitor,
    inspect::{self, Verdict, Waiting},
    net::listeners::{ListenerConfig, Protocol, TlsMode},
    runtime::storage::StoragePool,
    services::Services,
};

/// Content handed over before its message was complete.
type Spooled = Arc<Mutex<Option<Intake>>>;

/// The host's half of one SMTP connection.
pub struct SmtpFront {
    who: Identity,
    visitor: Visitor,
    config: Arc<Config>,
    role: Role,
    remote: Option<SocketAddr>,
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
    let in_force = services.config();
    let config = session_config(&in_force, role, listener.tls);
    let visitor = Visitor::new(services, &in_force, listener.protocol, &peer);
    let config = rockdove_smtp::Config { greeting: visitor.greeting(), tarpit: visitor.tarpit(), ..config };
    let (who, remote) = (Identity::new(services, &peer), peer.remote);
    let session = SmtpSession::new(Arc::new(config), peer, seed, now);
    let front = SmtpFront { who, visitor, config: in_force, role, remote, spooled: None };
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
                let later = replier.clone();
                let done = move |answer| later.reply(id, Answer::Login(answer));
                self.who.check_password(&login, &password, authorize_as, done);
            }
            Ask::ScramKeys { login } => {
                replier.reply(id, Answer::ScramKeys(self.who.scram_keys(&login)));
            }
            Ask::ScramProved { login, authorize_as } => {
                replier.reply(id, Answer::Login(self.who.scram_done(&login, authorize_as.as_deref(), true)));
            }
            Ask::ScramFailed { login } => {
                self.who.scram_done(&login, None, false);
                replier.reply(id, Answer::Noted);
            }
            Ask::Hello { name } => replier.reply(id, Answer::Hello(self.visitor.hello(&name))),
            Ask::Sender { address } => self.check_sender(id, address.as_ref(), replier),
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
        &self.who.services().engine
    }

    fn storage(&self) -> &StoragePool {
        &self.who.services().storage
    }

    fn intake(&self) -> Intake {
        Intake::new(self.engine(), &self.config, self.role, self.remote)
    }

    fn check_sender(&self, id: AskId, address: Option<&Address>, replier: &Replier<Answer>) {
        let (directory, account) = (self.engine().directory(), self.who.account());
        let may_send = |address| account.is_some_and(|account| delivery::may_send_as(&directory, account, address));
        // The null reverse-path is how a client reports on mail it received (RFC 8098); it names nobody.
        if let Some(address) = address.filter(|address| self.role == Role::Submission && !may_send(address)) {
            delivery::refused_sender(address, &self.who.address(), self.remote);
            return replier.reply(id, Answer::Sender(SenderAnswer::NotYours));
        }
        let later = replier.clone();
        let done = move |refusal: Option<Refusal>| {
            later.reply(id, Answer::Sender(refusal.map_or(SenderAnswer::Accepted, SenderAnswer::Refused)));
        };
        self.visitor.sender(address, account, Box::new(done));
    }

    fn check_recipient(&self, id: AskId, address: Address, size: Option<u64>, replier: &Replier<Answer>) {
        let octets = size.unwrap_or(0);
        let answer = delivery::check_recipient(self.engine(), &self.config, self.role, &address, octets, false);
        let asked = Asked { id, address, replier: replier.clone(), remote: self.remote, account: self.who.account() };
        if let Some(answer) = answer {
            return asked.pass_gate(&self.visitor, answer);
        }
        let (engine, config, role) = (Arc::clone(self.engine()), Arc::clone(&self.config), self.role);
        let visitor = self.visitor.clone();
        let busy = self.storage().run(move || {
            let answer = delivery::check_recipient(&engine, &config, role, &asked.address, octets, true);
            asked.pass_gate(&visitor, answer.unwrap_or(RecipientAnswer::TryLater));
        });
        if busy.is_err() {
            replier.reply(id, Answer::Recipient(RecipientAnswer::TryLater));
        }
    }

    fn spool(&mut self, id: AskId, chunks: Vec<Bytes>, replier: &Replier<Answer>) {
        let spooled = match &self.spooled {
            Some(spooled) => Arc::clone(spooled),
            None => Arc::new(Mutex::new(Some(self.intake()))),
        };
        self.spooled = Some(Arc::clone(&spooled));
        let later = replier.clone();
        let busy = self.who.services().storage.run(move || {
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
        self.visitor.content(mail.size_bytes, self.who.account());
        let (services, config, owner) = (Arc::clone(self.who.services()), Arc::clone(&self.config), self.who.account());
        let (spooled, later) = (self.spooled.take(), replier.clone());
        let fresh = spooled.is_none().then(|| self.intake());
        let busy = self.storage().run(move || {
            let intake = fresh.or_else(|| spooled.as_ref().and_then(take));
            let done = Box::new(move |outcomes| later.reply(id, Answer::Delivered(outcomes)));
            match intake {
                Some(intake) => deliver(&services, config, owner, mail, intake, done),
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

/// A recipient that is asked about.
struct Asked {
    id: AskId,
    address: Address,
    replier: Replier<Answer>,
    remote: Option<SocketAddr>,
    account: Option<AccountId>,
}

impl Asked {
    /// What the directory answers is the answer, unless the gate has something against a recipient that is here.
    fn pass_gate(self, visitor: &Visitor, answer: RecipientAnswer) {
        match answer {
            RecipientAnswer::Accepted => {
                let (address, account) = (self.address.clone(), self.account);
                let done = move |refusal: Option<Refusal>| {
                    self.tell(refusal.map_or(RecipientAnswer::Accepted, RecipientAnswer::Refused));
                };
                return visitor.recipient(&address, account, Box::new(done));
            }
            RecipientAnswer::UnknownRecipient | RecipientAnswer::NotLocal => visitor.recipient_refused(),
            _ => {}
        }
        self.tell(answer);
    }

    fn tell(self, answer: RecipientAnswer) {
        let why = match &answer {
            RecipientAnswer::Accepted => None,
            RecipientAnswer::UnknownRecipient => Some("no such recipient"),
            RecipientAnswer::NotLocal => Some("not a local domain"),
            RecipientAnswer::OverQuota => Some("the mailbox is full"),
            RecipientAnswer::TryLater => Some("cannot check now"),
            RecipientAnswer::Refused(refusal) => Some(refusal.text.as_str()),
        };
        if let Some(why) = why {
            delivery::refused_recipient(&self.address, self.remote, why);
        }
        self.replier.reply(self.id, Answer::Recipient(answer));
    }
}

/// Ends the staging and delivers, by way of the inspection where there is one.
fn deliver(
    services: &Services,
    config: Arc<Config>,
    owner: Option<AccountId>,
    mut mail: Mail,
    intake: Intake,
    done: delivery::Done,
) {
    let message = match intake.finish(&std::mem::take(&mut mail.chunks)) {
        Ok(message) => message,
        Err(error) => {
            delivery::not_staged(&mail.envelope, &error);
            return done(vec![RecipientOutcome::TryLater; mail.envelope.recipients.len()]);
        }
    };
    let inspected = inspect::wanted(&config, &mail.envelope.client);
    let arrived = Arrived { mail, message, config, owner, verdict: Verdict::default() };
    if inspected {
        services.inspection.enter(Waiting { arrived, done });
    } else {
        delivery::deliver(&services.engine, arrived, done);
    }
}

fn take(spooled: &Spooled) -> Option<Intake> {
    spooled.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Writes content; what fails once stays failed.
fn spool(spooled: &Spooled, chunks: &[Bytes]) -> SpoolAnswer {
    let Some(mut intake) = take(spooled) else {
        return SpoolAnswer::TryLater;
    };
    if let Err(error) = intake.write(chunks) {
        tracing::warn!(why = %error, "cannot take message content");
        return SpoolAnswer::TryLater;
    }
    *spooled.lock().unwrap_or_else(PoisonError::into_inner) = Some(intake);
    SpoolAnswer::Taken
}
