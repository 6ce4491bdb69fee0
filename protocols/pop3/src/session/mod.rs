//! The conversation: which command may come when, what the host is asked, what the client is told.
//!
//! * What: the states of RFC 1939 as one value.
//! * In: the host's inputs.
//! * Out: steps for the host.
//! * Never: asks two things at once, or reads the next command before the last one is answered.
//! * Fails: see the crate.

mod authorize;
mod transact;

use std::collections::VecDeque;

use rockdove_mail::{AskId, Input, Peer, Session, Step, Tick, sasl::Exchange};

use crate::{
    ask::{Answer, Ask, Pop3Config},
    command::{self, Command},
    limits::{
        AUTHORIZATION_MS_MAX, COMMAND_OCTETS_MAX, ERRORS_MAX, INACTIVITY_MS_MAX, SASL_LINE_OCTETS_MAX, SEND_OCTETS_AIM,
    },
    lines::{Line, Lines},
    maildrop::OpenMaildrop,
    outbox::Outbox,
    stuffing::Stuffing,
};

/// One POP3 conversation.
pub struct Pop3Session {
    config: Pop3Config,
    /// TLS is on, from the start or since STLS.
    tls: bool,
    seed: [u8; 32],
    lines: Lines,
    out: Outbox,
    /// Steps other than sending, in order.
    steps: VecDeque<Step<Ask>>,
    doing: Doing,
    /// USER was the last command, with this name.
    user: Option<String>,
    /// Set from login on: the TRANSACTION state.
    maildrop: Option<Box<OpenMaildrop>>,
    next_ask: u64,
    errors: u32,
    login_failures: u32,
    deadline: Tick,
    /// The client has sent its last octet.
    peer_closed: bool,
    stopping: bool,
}

/// What the session is busy with.
enum Doing {
    /// Nothing: the next line is a command.
    Commands,
    /// The next line is for the SASL exchange.
    SaslLine(Box<SaslTurn>),
    /// The server's last word of a SASL exchange is sent; the client's empty line is awaited.
    SaslLast(AfterSasl),
    /// TLS is being negotiated.
    Handshake,
    /// The host has been asked.
    Waiting(AskId, Box<Purpose>),
    /// A list of sizes or unique ids is being sent; this is the next message number.
    Listing(List, u32),
    /// A message is being sent; its next page is to be asked for.
    Sending(Box<Sending>),
    /// Everything has been said; the connection is to be closed.
    Leaving,
    /// The close has been ordered.
    Left,
}

/// A SASL exchange that waits for the client.
struct SaslTurn {
    exchange: Exchange,
    /// Set once a SCRAM exchange has named it.
    login: Option<String>,
}

/// Who a SCRAM exchange is about, kept until the client has confirmed the end of it.
struct AfterSasl {
    login: String,
    authorize_as: Option<String>,
}

/// Why the host was asked.
enum Purpose {
    /// To have a login counted, and to know whether it is good.
    Login,
    /// For a SASL exchange that wants keys.
    ScramKeys(SaslTurn),
    /// To open the maildrop.
    Open,
    /// `STAT` after deletions.
    Stat,
    /// `LIST n`.
    Size(u32),
    /// A page of `LIST`: these numbers; and the number to go on from.
    Sizes(Vec<u32>, Option<u32>),
    /// A page of a message.
    Page(Box<Sending>),
    /// QUIT.
    Quit,
    /// The connection ends without QUIT.
    Abandon,
}

#[derive(Clone, Copy)]
enum List {
    Sizes,
    UniqueIds,
}

/// A message on its way.
struct Sending {
    uid: u32,
    offset: u64,
    stuffing: Stuffing,
    top: bool,
}

impl Pop3Session {
    /// A new conversation. `seed` feeds the nonces of SASL.
    pub fn new(config: Pop3Config, peer: &Peer, seed: [u8; 32], now: Tick) -> Self {
        let mut session = Self {
            tls: peer.tls.is_some(),
            seed,
            lines: Lines::default(),
            out: Outbox::default(),
            steps: VecDeque::new(),
            doing: Doing::Commands,
            user: None,
            maildrop: None,
            next_ask: 0,
            errors: 0,
            login_failures: 0,
            deadline: now.plus_ms(AUTHORIZATION_MS_MAX),
            peer_closed: false,
            stopping: false,
            config,
        };
        let greeting = format!("{} Rockdove POP3 ready", session.config.host_name);
        session.ok(&greeting);
        session
    }

    fn ok(&mut self, text: &str) {
        self.out.line(&format!("+OK {text}"));
    }

    fn err(&mut self, text: &str) {
        self.out.line(&format!("-ERR {text}"));
    }

    /// A refusal that is the client's fault and is counted.
    fn wrong(&mut self, text: &str) {
        self.errors = self.errors.saturating_add(1);
        self.err(text);
        if self.errors >= ERRORS_MAX {
            self.err("too many errors");
            self.leave();
        }
    }

    fn ask(&mut self, ask: Ask, purpose: Purpose) {
        let id = AskId(self.next_ask);
        self.next_ask = self.next_ask.wrapping_add(1);
        self.steps.push_back(Step::Ask(id, ask));
        self.doing = Doing::Waiting(id, Box::new(purpose));
    }

    /// Ends the conversation without QUIT: nothing is removed, but what was read is marked so.
    //= rfc1939#section-6
    //# If a session terminates for some reason other than a client-issued
    //# QUIT command, the POP3 session does NOT enter the UPDATE state and
    //# MUST not remove any messages from the maildrop.
    fn leave(&mut self) {
        let seen = self.maildrop.take().map(|open| open.seen(&rockdove_mail::UidSet::new())).unwrap_or_default();
        if seen.is_empty() {
            self.doing = Doing::Leaving;
        } else {
            self.ask(Ask::Update { delete: rockdove_mail::UidSet::new(), seen }, Purpose::Abandon);
        }
    }

    fn is_waiting_for_client(&self) -> bool {
        matches!(self.doing, Doing::Commands | Doing::SaslLine(_) | Doing::SaslLast(_))
    }

    /// Does one small piece of work; `false` when there is none until the next input.
    fn advance(&mut self) -> bool {
        match std::mem::replace(&mut self.doing, Doing::Commands) {
            Doing::Leaving => {
                self.steps.push_back(Step::Close);
                self.doing = Doing::Left;
            }
            Doing::Listing(list, from) => self.list_page(list, from),
            Doing::Sending(sending) => self.ask_page(sending),
            doing @ (Doing::Left | Doing::Handshake | Doing::Waiting(..)) => {
                self.doing = doing;
                return false;
            }
            doing => {
                self.doing = doing;
                return self.take_line();
            }
        }
        true
    }

    fn take_line(&mut self) -> bool {
        if self.stopping {
            // RFC 3206 section 4: SYS/TEMP is a problem that is likely to pass.
            self.err("[SYS/TEMP] the server is stopping, come back later");
            self.leave();
            return true;
        }
        let octets_max = match self.doing {
            Doing::Commands => COMMAND_OCTETS_MAX,
            _ => SASL_LINE_OCTETS_MAX,
        };
        match self.lines.next(octets_max) {
            None if self.peer_closed => self.leave(),
            None => return false,
            Some(line) => self.line(&line),
        }
        true
    }

    fn line(&mut self, line: &Line) {
        match std::mem::replace(&mut self.doing, Doing::Commands) {
            Doing::SaslLine(turn) => self.sasl_line(*turn, line),
            Doing::SaslLast(after) => self.sasl_last(after, line),
            _ => match line {
                Line::TooLong => self.wrong("the line is too long"),
                Line::Whole(line) => match command::parse(line) {
                    Ok(command) => self.command(command),
                    Err(wrong) => {
                        self.user = None;
                        self.wrong(wrong.text());
                    }
                },
            },
        }
    }

    fn command(&mut self, command: Command) {
        let user = self.user.take();
        match (command, self.maildrop.is_some()) {
            (Command::Capa, _) => self.capa(),
            (Command::Quit, false) => {
                self.ok("bye");
                self.doing = Doing::Leaving;
            }
            (Command::User(name), false) => self.user(name),
            (Command::Pass(password), false) => self.pass(user, &password),
            (Command::Auth(mechanism), false) => self.auth(mechanism),
            (Command::Stls, false) => self.stls(),
            (Command::User(_) | Command::Pass(_) | Command::Auth(_) | Command::Stls, true) => {
                self.wrong("you are logged in already");
            }
            (_, false) => self.wrong("log in first"),
            (command, true) => self.transact(&command),
        }
    }

    fn answered(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Login, Answer::Login(verdict)) => self.login_verdict(verdict),
            (Purpose::ScramKeys(turn), Answer::Scram(keys)) => self.sasl_keys(turn, keys),
            (Purpose::Open, Answer::Opened(opened)) => self.opened(opened),
            (Purpose::Stat, Answer::Octets(octets)) => self.stat_answer(octets),
            (Purpose::Size(number), Answer::Sizes(sizes)) => self.size_answer(number, &sizes),
            (Purpose::Sizes(numbers, next), Answer::Sizes(sizes)) => self.sizes_answer(&numbers, next, &sizes),
            (Purpose::Page(sending), Answer::Page { size_bytes, bytes }) => {
                self.page_answer(sending, size_bytes, &bytes);
            }
            (Purpose::Quit, answer) => self.quit_answer(matches!(answer, Answer::Updated(true))),
            (Purpose::Abandon, _) => self.doing = Doing::Leaving,
            // In the middle of a multi-line response nothing can be said any more.
            (Purpose::Sizes(..), _) => self.leave(),
            (Purpose::Page(sending), _) if sending.offset > 0 => self.leave(),
            (Purpose::Page(_) | Purpose::Size(_) | Purpose::Stat, Answer::Gone) => {
                self.err("another client has removed the message");
            }
            _ => self.err("[SYS/TEMP] not possible at the moment, try again later"),
        }
    }

    fn tls_ready(&mut self) {
        // Whoever can write into the clear part of a connection must not put words into the client's mouth: nothing that
        // came before the handshake is looked at after it.
        self.lines.clear();
        self.user = None;
        self.tls = true;
        self.doing = Doing::Commands;
    }
}

impl Session for Pop3Session {
    type Ask = Ask;
    type Answer = Answer;

    fn handle(&mut self, now: Tick, input: Input<Answer>) {
        match input {
            // What comes before the handshake is done came in clear.
            Input::Received(_) if matches!(self.doing, Doing::Handshake) => {}
            Input::Received(bytes) => self.lines.push(bytes),
            Input::PeerClosed => self.peer_closed = true,
            Input::Flushed => {}
            Input::TlsReady(_) => self.tls_ready(),
            Input::Answered(id, answer) => match std::mem::replace(&mut self.doing, Doing::Commands) {
                Doing::Waiting(asked, purpose) if asked == id => self.answered(*purpose, answer),
                doing => self.doing = doing,
            },
            Input::DeadlinePassed => {
                //= rfc1939#section-3
                //# When the timer expires, the session does NOT enter the UPDATE
                //# state--the server should close the TCP connection without
                //# removing any messages or sending any response to the client.
                if self.deadline().is_some_and(|deadline| now.reached(deadline)) {
                    self.leave();
                }
                return;
            }
            Input::ShuttingDown => self.stopping = true,
        }
        if self.maildrop.is_some() {
            self.deadline = now.plus_ms(INACTIVITY_MS_MAX);
        }
    }

    fn poll(&mut self) -> Step<Ask> {
        loop {
            if self.out.octets() >= SEND_OCTETS_AIM {
                return Step::Send(self.out.take());
            }
            match self.steps.pop_front() {
                // The last words, and the reply to STLS, come before what they announce.
                Some(step @ (Step::Close | Step::StartTls)) if self.out.octets() > 0 => {
                    self.steps.push_front(step);
                    return Step::Send(self.out.take());
                }
                Some(step) => return step,
                None => {}
            }
            if !self.advance() {
                if self.out.octets() > 0 {
                    return Step::Send(self.out.take());
                }
                return Step::Idle { receive: self.is_waiting_for_client() && self.lines.is_drained() };
            }
        }
    }

    fn deadline(&self) -> Option<Tick> {
        // While the host works, the client is not the one who is silent.
        (self.is_waiting_for_client() || matches!(self.doing, Doing::Handshake)).then_some(self.deadline)
    }
}
