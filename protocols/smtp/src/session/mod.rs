//! One SMTP, submission or LMTP conversation.
//!
//! * What: the order of commands, the limits, the replies; `commands` has the commands, `content` the message bytes,
//!   `auth` the SASL exchange.
//! * In: `Input`s; nothing else.
//! * Out: `Step`s; replies of a pipelined group leave together.
//! * Never: looks at a byte behind a command whose end it has not found; keeps anything across STARTTLS.
//! * Fails: not at all; see the crate.

mod auth;
mod commands;
mod content;

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use rockdove_mail::{AskId, Input, Peer, Session, Step, Tick, TlsFacts, sasl};

use crate::{
    Address, Answer, Ask, Client, Config, Greeting, Recipient, Refusal, Role, Tls, command,
    frame::{Frame, LineFramer},
    intake::Intake,
    limits,
    parameter::MailParameters,
    reply::{self, Reply},
};

/// Where the conversation stands.
#[derive(Debug)]
enum State {
    /// We greet when the deadline comes; the peer is to wait for it.
    Greet,
    /// A command comes next.
    Command,
    /// A response of a SASL exchange comes next.
    Auth(Box<auth::Attempt>),
    /// The empty response to the last SASL data comes next.
    AuthFinal(Box<auth::Proved>),
    /// Mail data comes next.
    Data,
    /// Octets of a chunk come next.
    Chunk(Chunk),
    /// The host's answer comes next.
    Wait(AskId, Waiting),
    /// The TLS handshake comes next.
    Handshake,
    /// Nothing comes any more.
    Done,
}

/// What the answer that is waited for is about.
#[derive(Debug)]
enum Waiting {
    Login(Box<auth::Attempt>),
    ScramKeys(Box<auth::Attempt>),
    ScramProved(Box<auth::Proved>),
    /// The greeting of the client, which was EHLO or HELO.
    Hello {
        extended: bool,
    },
    Sender(Box<Transaction>),
    Recipient(Box<Recipient>),
    /// Content of a message; then go on with this.
    Spool(Option<Chunk>),
    /// The end of a message for so many recipients.
    Deliver {
        recipients: usize,
        id: String,
    },
}

/// A BDAT chunk on its way.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    size: u64,
    remaining: u64,
    last: bool,
    /// The command was refused; the octets are thrown away, then this is said.
    refusal: Option<Reply>,
}

/// A mail transaction.
#[derive(Debug)]
struct Transaction {
    reverse_path: Option<Address>,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    id: String,
    intake: Option<Box<Intake>>,
    /// A chunk was refused: only RSET helps (RFC 3030 section 2).
    broken: bool,
}

/// The server's half of one conversation.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they combine freely")]
pub struct SmtpSession {
    config: Arc<Config>,
    peer: Peer,
    seed: [u8; 32],
    now: Tick,
    deadline: Tick,
    state: State,
    /// Received and not looked at yet.
    input: Bytes,
    framer: LineFramer,
    /// Replies not sent yet.
    out: Vec<u8>,
    /// They must go before anything else happens.
    flush: bool,
    asks: VecDeque<(AskId, Ask)>,
    asked: u64,
    start_tls: bool,
    close: bool,
    /// The peer made too many mistakes: nothing is said, and nothing read, before this moment.
    quiet_until: Option<Tick>,
    peer_closed: bool,
    shutting_down: bool,
    /// What the client told about itself; `None` before EHLO.
    client: Option<Arc<Client>>,
    login: Option<String>,
    transaction: Option<Box<Transaction>>,
    /// Mistakes and idle commands since the last delivered message.
    errors: u32,
    idle_commands: u32,
    auth_attempts: u32,
    auth_failures: u32,
    transactions: u32,
}

impl SmtpSession {
    /// A conversation that begins now. `seed` must be unpredictable and used once: SCRAM nonces and message ids come
    /// from it.
    pub fn new(config: Arc<Config>, peer: Peer, seed: [u8; 32], now: Tick) -> Self {
        let deadline = now.plus_ms(config.command_ms);
        let mut session = Self {
            config,
            peer,
            seed,
            now,
            deadline,
            state: State::Command,
            input: Bytes::new(),
            framer: LineFramer::default(),
            out: Vec::new(),
            flush: true,
            asks: VecDeque::new(),
            asked: 0,
            start_tls: false,
            close: false,
            quiet_until: None,
            peer_closed: false,
            shutting_down: false,
            client: None,
            login: None,
            transaction: None,
            errors: 0,
            idle_commands: 0,
            auth_attempts: 0,
            auth_failures: 0,
            transactions: 0,
        };
        let config = Arc::clone(&session.config);
        match &config.greeting {
            Greeting::Welcome => session.greet(),
            Greeting::After(wait_ms) => {
                session.state = State::Greet;
                session.deadline = now.plus_ms(*wait_ms);
            }
            Greeting::Refused(refusal) => {
                //= rfc5321#section-3.1
                //# A server taking this approach MUST still
                //# wait for the client to send a QUIT
                // That is about 554; 421 lets a server close at once.
                reply::refuse(&mut session.out, &Refusal { code: 421, ..refusal.clone() });
                session.leave();
            }
        }
        session
    }

    fn greet(&mut self) {
        let protocol = if self.config.role == Role::Lmtp { "LMTP" } else { "ESMTP" };
        reply::line(&mut self.out, 220, "", format_args!("{} {protocol} Rockdove", self.config.hostname));
        self.flush = true;
        self.state = State::Command;
        self.arm();
    }

    /// Goes one step on with what was received. False when nothing more can be done without input.
    fn advance(&mut self) -> bool {
        let moved = match self.state {
            State::Command | State::Auth(_) | State::AuthFinal(_) => self.advance_line(),
            State::Data => self.advance_data(),
            State::Chunk(chunk) => self.advance_chunk(chunk),
            State::Greet | State::Wait(..) | State::Handshake | State::Done => return false,
        };
        if moved {
            self.arm();
        }
        moved
    }

    fn advance_line(&mut self) -> bool {
        if self.input.is_empty() {
            return false;
        }
        let in_exchange = !matches!(self.state, State::Command);
        match self.framer.next(&mut self.input) {
            Frame::More => return false,
            Frame::Line(line) if in_exchange => self.exchange_line(&line),
            Frame::Line(line) => self.command_line(&line),
            Frame::BareLf => {
                self.end_exchange();
                self.refuse(reply::BARE_LF);
                self.flush = true;
            }
            Frame::TooLong => {
                self.end_exchange();
                self.refuse(if in_exchange { reply::AUTH_TOO_LONG } else { reply::LINE_TOO_LONG });
                self.flush = true;
            }
            Frame::Endless => self.part(reply::LINE_TOO_LONG),
        }
        true
    }

    fn command_line(&mut self, line: &[u8]) {
        match command::read(line) {
            Ok(command) => self.command(command),
            Err(command::Refusal::Reply(reply)) => {
                self.flush = true;
                self.refuse(reply);
            }
            Err(command::Refusal::Close(reply)) => self.part(reply),
        }
    }

    /// Sets the deadline for what comes next.
    fn arm(&mut self) {
        let intake = self.transaction.as_ref().and_then(|transaction| transaction.intake.as_ref());
        self.deadline = match (&self.state, intake) {
            (State::Data | State::Chunk(_), intake) => {
                let block = self.now.plus_ms(self.config.data_block_ms);
                let total = intake.map(|intake| intake.content.started.plus_ms(self.config.data_total_ms));
                total.map_or(block, |total| total.min(block))
            }
            (State::Wait(..), _) => self.now.plus_ms(limits::ANSWER_MS),
            _ => self.now.plus_ms(self.config.command_ms),
        };
    }

    fn say(&mut self, reply: Reply) {
        reply.write(&mut self.out);
    }

    /// Says no, and counts it.
    fn refuse(&mut self, reply: Reply) {
        self.say(reply);
        self.count_error();
    }

    fn count_error(&mut self) {
        self.errors = self.errors.saturating_add(1);
        if self.errors > self.config.errors_max && !self.close {
            self.part(reply::TOO_MANY_ERRORS);
        }
        let wait_ms = self.config.tarpit.wait_ms(self.errors);
        if wait_ms > 0 {
            self.quiet_until = Some(self.now.plus_ms(wait_ms));
        }
    }

    /// Says no in the words of the host. What is for good counts as a mistake; 421 is the end.
    fn refuse_as_told(&mut self, refusal: &Refusal) {
        reply::refuse(&mut self.out, refusal);
        match refusal.code {
            421 => self.leave(),
            500.. => self.count_error(),
            _ => {}
        }
    }

    /// Whether the peer has to wait before it hears more. Nobody waits for a good-bye.
    fn is_quiet(&self) -> bool {
        self.quiet_until.is_some() && !self.close
    }

    /// Says a last word and closes.
    fn part(&mut self, reply: Reply) {
        self.say(reply);
        self.leave();
    }

    /// Closes.
    fn leave(&mut self) {
        self.give_up(None);
        self.transaction = None;
        self.state = State::Done;
        self.input = Bytes::new();
        self.close = true;
    }

    /// Asks the host; does not wait for the answer.
    fn tell(&mut self, ask: Ask) -> AskId {
        let id = AskId(self.asked);
        self.asked = self.asked.saturating_add(1);
        self.asks.push_back((id, ask));
        id
    }

    /// Asks the host and waits.
    fn ask(&mut self, ask: Ask, waiting: Waiting) {
        // Replies of a group may wait for quick answers (RFC 2920 section 3.2), not for slow ones.
        self.flush |= !matches!(waiting, Waiting::Sender(_) | Waiting::Recipient(_));
        let id = self.tell(ask);
        self.state = State::Wait(id, waiting);
    }

    fn answered(&mut self, id: AskId, answer: Answer) {
        if !matches!(&self.state, State::Wait(expected, _) if *expected == id) {
            return;
        }
        let State::Wait(_, waiting) = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        match (waiting, answer) {
            (Waiting::Login(attempt), Answer::Login(answer)) => self.password_checked(&attempt, answer),
            (Waiting::ScramKeys(attempt), Answer::ScramKeys(keys)) => self.scram_keys(attempt, keys),
            (Waiting::ScramProved(proved), Answer::Login(answer)) => self.logged_in(&proved.login, answer),
            (Waiting::Hello { extended }, Answer::Hello(refusal)) => self.hello_checked(extended, refusal.as_ref()),
            (Waiting::Sender(transaction), Answer::Sender(answer)) => self.sender_checked(transaction, answer),
            (Waiting::Recipient(recipient), Answer::Recipient(answer)) => self.recipient_checked(*recipient, answer),
            (Waiting::Spool(chunk), Answer::Spooled(answer)) => self.spooled(chunk, answer),
            (Waiting::Deliver { recipients, id }, Answer::Delivered(outcomes)) => {
                self.delivered(recipients, &id, &outcomes);
            }
            _ => self.part(reply::OUT_OF_STEP),
        }
        self.arm();
        if self.shutting_down && !matches!(self.state, State::Wait(..) | State::Done) {
            self.part(reply::SHUTTING_DOWN);
        }
    }

    /// Begins anew behind the handshake.
    //= rfc3207#section-4.2
    //# The server MUST discard any knowledge
    //# obtained from the client, such as the argument to the EHLO command,
    //# which was not obtained from the TLS negotiation itself.
    fn tls_ready(&mut self, facts: TlsFacts) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        self.peer.tls = Some(facts);
        self.input = Bytes::new();
        self.framer = LineFramer::default();
        self.client = None;
        self.login = None;
        self.transaction = None;
        self.state = State::Command;
        self.arm();
    }

    fn receive(&mut self, bytes: Bytes) {
        if matches!(self.state, State::Greet) {
            return self.part(reply::SPOKE_FIRST);
        }
        if matches!(self.state, State::Handshake | State::Done) {
            return;
        }
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            // The host read although it was asked not to; nothing is lost.
            let mut joined = BytesMut::with_capacity(self.input.len().saturating_add(bytes.len()));
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&bytes);
            self.input = joined.freeze();
        }
    }

    fn deadline_passed(&mut self) {
        if self.quiet_until.take().is_some() {
            return self.arm();
        }
        match self.state {
            State::Greet => self.greet(),
            State::Wait(..) => self.part(reply::OUT_OF_STEP),
            _ => self.part(reply::TIMED_OUT),
        }
    }

    /// Whether STARTTLS may still be said.
    fn tls_offered(&self) -> bool {
        self.config.tls != Tls::Unavailable && self.peer.tls.is_none()
    }

    fn reply_now(&self) -> bool {
        !self.out.is_empty()
            && (self.flush || self.start_tls || self.close || self.out.len() >= limits::REPLY_OCTETS_PENDING)
    }

    fn send(&mut self) -> Step<Ask> {
        self.flush = false;
        Step::Send(vec![Bytes::from(std::mem::take(&mut self.out))])
    }
}

impl Session for SmtpSession {
    type Ask = Ask;
    type Answer = Answer;

    fn handle(&mut self, now: Tick, input: Input<Answer>) {
        self.now = now;
        match input {
            Input::Received(bytes) => self.receive(bytes),
            Input::PeerClosed => self.peer_closed = true,
            Input::Flushed => {}
            Input::TlsReady(facts) => self.tls_ready(facts),
            Input::Answered(id, answer) => self.answered(id, answer),
            Input::DeadlinePassed => {
                if self.deadline().is_some_and(|deadline| now.reached(deadline)) {
                    self.deadline_passed();
                }
            }
            Input::ShuttingDown => {
                self.shutting_down = true;
                if !matches!(self.state, State::Wait(..) | State::Done) {
                    self.part(reply::SHUTTING_DOWN);
                }
            }
        }
    }

    fn poll(&mut self) -> Step<Ask> {
        loop {
            if self.reply_now() && !self.is_quiet() {
                return self.send();
            }
            if let Some((id, ask)) = self.asks.pop_front() {
                return Step::Ask(id, ask);
            }
            if self.is_quiet() {
                return Step::Idle { receive: false };
            }
            if std::mem::take(&mut self.start_tls) {
                return Step::StartTls;
            }
            if self.close {
                return Step::Close;
            }
            if self.advance() {
                continue;
            }
            let waiting = matches!(self.state, State::Wait(..));
            if !waiting && !self.out.is_empty() {
                return self.send();
            }
            if waiting || !self.peer_closed {
                return Step::Idle { receive: !waiting };
            }
            self.leave();
        }
    }

    fn deadline(&self) -> Option<Tick> {
        (!matches!(self.state, State::Done)).then_some(self.quiet_until.unwrap_or(self.deadline))
    }
}

/// What a SCRAM nonce is made from: different for every attempt of a session.
fn nonce_seed(seed: &[u8; 32], attempt: u32) -> [u8; 24] {
    let mut nonce = [0; 24];
    for (to, from) in nonce.iter_mut().zip(seed) {
        *to = *from;
    }
    for (to, from) in nonce.iter_mut().zip(attempt.to_be_bytes()) {
        *to ^= from;
    }
    nonce
}

/// The SASL mechanisms, as EHLO lists them.
const MECHANISMS: [(&str, sasl::Mechanism); 3] = [
    ("SCRAM-SHA-256", sasl::Mechanism::ScramSha256),
    ("PLAIN", sasl::Mechanism::Plain),
    ("LOGIN", sasl::Mechanism::Login),
];
