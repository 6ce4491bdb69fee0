//! The conversation: what is said when, and what the server's replies mean for it.

use std::collections::VecDeque;

use bytes::Bytes;
use rockdove_mail::{AskId, Input, Session, Step, Tick};

use super::{
    ClientAnswer, ClientAsk, ClientConfig, ClientTls, RecipientResult, ServerReply, Stage, Transaction,
    TransactionResult,
    content::Stuffing,
    envelope::{Offers, is_sendable},
    login::{Exchange, Turn},
    reply::Replies,
};
use crate::BodyKind;

/// Octets of content asked for at once.
const CONTENT_OCTETS_AIM: usize = 64 * 1024;
/// Octets of replies that may wait to be looked at.
const RECEIVED_OCTETS_MAX: usize = 64 * 1024;

// RFC 5321 section 4.5.3.2: how long a client waits at least.
const GREETING_MS: u64 = 5 * 60_000;
const COMMAND_MS: u64 = 5 * 60_000;
const DATA_MS: u64 = 2 * 60_000;
const BLOCK_MS: u64 = 3 * 60_000;
const END_MS: u64 = 10 * 60_000;
/// For the good-bye nobody needs to wait.
const QUIT_MS: u64 = 5_000;

/// One conversation with a server.
pub struct ClientSession {
    config: ClientConfig,
    replies: Replies,
    out: Vec<u8>,
    step: Option<Step<ClientAsk>>,
    state: State,
    offers: Offers,
    /// The connection is encrypted.
    tls: bool,
    stopping: bool,
    next_ask: u64,
    now: Tick,
    deadline: Tick,
}

enum State {
    Greeting,
    /// EHLO or LHLO was said; `true`: HELO, after EHLO was refused.
    Hello(bool),
    StartTls,
    Handshake,
    Login(Exchange),
    /// The host is asked what comes next.
    Next,
    /// MAIL, RCPT and DATA have been said, or some of them.
    Envelope(Box<Mail>),
    /// The host is asked for content, or it is being sent.
    Content(Box<Mail>),
    /// All has been said.
    End(Box<Mail>),
    /// The host notes a result; then the conversation goes on, or ends.
    Noting(bool),
    Quit,
    Over,
}

/// A transaction under way.
struct Mail {
    transaction: Transaction,
    /// What is known of the recipients.
    results: Vec<Option<RecipientResult>>,
    /// Recipients that the server has accepted.
    accepted: Vec<usize>,
    /// Commands that are not said yet.
    to_say: VecDeque<Said>,
    /// Commands that are not answered yet.
    said: VecDeque<Said>,
    /// MAIL was refused: so are all recipients.
    refused: Option<ServerReply>,
    stuffing: Stuffing,
    /// The content goes out in chunks with their lengths (RFC 3030).
    chunked: bool,
    /// The last octets have been given.
    complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Mail,
    Recipient(usize),
    Data,
}

impl Mail {
    fn set_rest(&mut self, result: &RecipientResult) {
        for slot in self.results.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(result.clone());
        }
    }
}

impl ClientSession {
    /// A new conversation. `encrypted`: the connection began with TLS.
    pub fn new(config: ClientConfig, encrypted: bool, now: Tick) -> Self {
        Self {
            config,
            replies: Replies::default(),
            out: Vec::new(),
            step: None,
            state: State::Greeting,
            offers: Offers::default(),
            tls: encrypted,
            stopping: false,
            next_ask: 0,
            now,
            deadline: now.plus_ms(GREETING_MS),
        }
    }

    fn ask(&mut self, ask: ClientAsk) {
        let id = AskId(self.next_ask);
        self.next_ask = self.next_ask.wrapping_add(1);
        self.step = Some(Step::Ask(id, ask));
    }

    fn wait(&mut self, ms: u64) {
        self.deadline = self.now.plus_ms(ms);
    }

    fn say(&mut self, line: &str, ms: u64) {
        self.out.extend_from_slice(line.as_bytes());
        self.wait(ms);
    }

    fn hello(&mut self, old: bool) {
        let word = if old {
            "HELO"
        } else if self.config.lmtp {
            "LHLO"
        } else {
            "EHLO"
        };
        let line = format!("{word} {}\r\n", self.config.name);
        self.say(&line, COMMAND_MS);
        self.state = State::Hello(old);
    }

    fn unusable(&mut self, stage: Stage, reply: ServerReply) {
        self.state = State::Noting(false);
        self.ask(ClientAsk::Unusable(stage, Box::new(reply)));
    }

    /// A reply has come.
    fn reply(&mut self, reply: ServerReply, lines: &[String]) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting if reply.code == 220 => self.hello(false),
            State::Greeting => self.unusable(Stage::Greeting, reply),
            State::Hello(old) => self.greeted(old, reply, lines),
            State::StartTls if reply.code == 220 => {
                // What came behind the reply came in clear (RFC 3207 section 4.2).
                self.replies.clear();
                self.state = State::Handshake;
                self.step = Some(Step::StartTls);
            }
            State::StartTls if self.config.tls == ClientTls::Required => self.unusable(Stage::Tls, reply),
            State::StartTls => self.log_in(),
            State::Login(mut exchange) => match exchange.reply(reply) {
                Turn::Say(line) => {
                    self.say(&line, COMMAND_MS);
                    self.state = State::Login(exchange);
                }
                Turn::Done => self.next(),
                Turn::Failed(reply) => self.unusable(Stage::Login, reply),
            },
            State::Envelope(mail) => self.envelope_reply(mail, reply),
            // Before the content has ended there is only one thing to say: no more of it.
            State::Content(mut mail) => {
                let is_chunk = mail.chunked && reply.is_positive();
                if is_chunk {
                    self.state = State::Content(mail);
                    self.ask_content();
                } else {
                    mail.set_rest(&RecipientResult::Refused(temporary_unless_permanent(reply)));
                    self.note(mail, false);
                }
            }
            State::End(mail) => self.end_reply(mail, reply),
            State::Quit => self.close(),
            // Nobody asked: 421 before it hangs up.
            state @ (State::Next | State::Noting(_) | State::Handshake | State::Over) => self.state = state,
        }
    }

    fn greeted(&mut self, old: bool, reply: ServerReply, lines: &[String]) {
        if !reply.is_positive() {
            return if old || self.config.lmtp || !reply.is_permanent() {
                self.unusable(Stage::Hello, reply);
            } else {
                self.hello(true);
            };
        }
        self.offers = if old { Offers::default() } else { Offers::of(lines) };
        if self.tls || self.config.tls == ClientTls::Never {
            return self.log_in();
        }
        if self.offers.start_tls {
            self.say("STARTTLS\r\n", COMMAND_MS);
            self.state = State::StartTls;
        } else if self.config.tls == ClientTls::Required {
            let reply = ServerReply::new(454, "4.7.4", "the server does not offer STARTTLS, which is required");
            self.unusable(Stage::Tls, reply);
        } else {
            self.log_in();
        }
    }

    fn log_in(&mut self) {
        let Some(login) = &self.config.login else { return self.next() };
        if let Some((exchange, line)) = Exchange::begin(login, &self.offers.mechanisms) {
            self.say(&line, COMMAND_MS);
            self.state = State::Login(exchange);
        } else {
            let reply = ServerReply::new(454, "4.7.0", "the server offers no way to log in that may be used here");
            self.unusable(Stage::Login, reply);
        }
    }

    fn next(&mut self) {
        if self.stopping {
            return self.quit();
        }
        self.state = State::Next;
        self.ask(ClientAsk::Next);
    }

    fn quit(&mut self) {
        self.say("QUIT\r\n", QUIT_MS);
        self.state = State::Quit;
    }

    fn close(&mut self) {
        self.state = State::Over;
        self.step = Some(Step::Close);
    }

    fn begin(&mut self, transaction: Transaction) {
        let count = transaction.recipients.len();
        let mut mail = Box::new(Mail {
            results: vec![None; count],
            accepted: Vec::new(),
            to_say: VecDeque::from([Said::Mail]),
            said: VecDeque::new(),
            refused: None,
            stuffing: Stuffing::new(),
            chunked: transaction.body == BodyKind::BinaryMime,
            complete: false,
            transaction,
        });
        let unfit = self.offers.cannot_take(&mail.transaction, self.tls);
        let unfit = unfit.or_else(|| {
            let sendable = is_sendable(&mail.transaction.reverse_path);
            (!sendable).then(|| ServerReply::new(553, "5.1.7", "the sender's address cannot be sent"))
        });
        if let Some(reply) = unfit {
            mail.set_rest(&RecipientResult::Refused(reply));
            return self.note(mail, true);
        }
        for (place, recipient) in mail.transaction.recipients.iter().enumerate() {
            if is_sendable(&recipient.address) && !recipient.address.is_empty() {
                mail.to_say.push_back(Said::Recipient(place));
            } else if let Some(slot) = mail.results.get_mut(place) {
                let reply = ServerReply::new(553, "5.1.3", "the recipient's address cannot be sent");
                *slot = Some(RecipientResult::Refused(reply));
            }
        }
        if mail.to_say.len() == 1 {
            return self.note(mail, true);
        }
        if !mail.chunked && !mail.transaction.ask_only {
            mail.to_say.push_back(Said::Data);
        }
        self.say_on(mail);
    }

    /// Says what may be said now: everything with PIPELINING (RFC 2920), otherwise one command.
    fn say_on(&mut self, mut mail: Box<Mail>) {
        while let Some(said) = mail.to_say.pop_front() {
            let line = match said {
                Said::Mail => self.offers.mail(&mail.transaction),
                Said::Recipient(place) => {
                    mail.transaction.recipients.get(place).map(|to| self.offers.recipient(to)).unwrap_or_default()
                }
                Said::Data => "DATA\r\n".to_owned(),
            };
            self.say(&line, if said == Said::Data { DATA_MS } else { COMMAND_MS });
            mail.said.push_back(said);
            if !self.offers.pipelining {
                break;
            }
        }
        self.state = State::Envelope(mail);
    }

    fn envelope_reply(&mut self, mut mail: Box<Mail>, reply: ServerReply) {
        if reply.code == 421 {
            mail.set_rest(&RecipientResult::Refused(reply));
            return self.note(mail, false);
        }
        match mail.said.pop_front() {
            Some(Said::Mail) if !reply.is_positive() => mail.refused = Some(reply),
            Some(Said::Recipient(place)) if mail.refused.is_none() => {
                if reply.is_positive() {
                    mail.accepted.push(place);
                } else if let Some(slot) = mail.results.get_mut(place) {
                    *slot = Some(RecipientResult::Refused(reply));
                }
            }
            Some(Said::Data) => return self.data_reply(mail, reply),
            _ => {}
        }
        self.wait(COMMAND_MS);
        let nothing_left = mail.said.is_empty() && (mail.to_say.is_empty() || mail.to_say.front() == Some(&Said::Data));
        let hopeless = nothing_left && mail.accepted.is_empty() || !self.offers.pipelining && mail.refused.is_some();
        let asked = mail.transaction.ask_only && nothing_left;
        if (hopeless || asked) && mail.said.is_empty() {
            if let Some(reply) = mail.refused.take() {
                mail.set_rest(&RecipientResult::Refused(reply));
            }
            self.reset(mail);
        } else if mail.chunked && nothing_left {
            self.state = State::Content(mail);
            self.ask_content();
        } else if mail.said.is_empty() {
            self.say_on(mail);
        } else {
            self.state = State::Envelope(mail);
        }
    }

    /// Every result is known, but the transaction may still be open on the other side: the next one would not be taken.
    fn reset(&mut self, mut mail: Box<Mail>) {
        self.say("RSET\r\n", COMMAND_MS);
        mail.accepted.clear();
        mail.complete = true;
        self.state = State::End(mail);
    }

    fn data_reply(&mut self, mut mail: Box<Mail>, reply: ServerReply) {
        if let Some(refused) = mail.refused.take() {
            mail.set_rest(&RecipientResult::Refused(refused));
        }
        if reply.code != 354 {
            mail.set_rest(&RecipientResult::Refused(temporary_unless_permanent(reply)));
            return self.reset(mail);
        }
        if mail.accepted.is_empty() {
            //= rfc2920#section-3.1
            //# Client SMTP implementations that employ pipelining MUST check ALL
            //# statuses associated with each command in a group.
            // The server waits for mail data although nobody receives it: it gets none.
            self.say(".\r\n", END_MS);
            mail.complete = true;
            self.state = State::End(mail);
            return;
        }
        self.state = State::Content(mail);
        self.ask_content();
    }

    fn ask_content(&mut self) {
        self.wait(BLOCK_MS);
        self.ask(ClientAsk::Content(CONTENT_OCTETS_AIM));
    }

    fn content(&mut self, mut mail: Box<Mail>, octets: &Bytes, last: bool) {
        mail.complete = last;
        if mail.chunked {
            let end = if last { " LAST" } else { "" };
            self.out.extend_from_slice(format!("BDAT {}{end}\r\n", octets.len()).as_bytes());
            self.out.extend_from_slice(octets);
        } else {
            mail.stuffing.write(octets, &mut self.out);
            if last {
                mail.stuffing.finish(&mut self.out);
            }
        }
        if last {
            self.wait(END_MS);
            self.state = State::End(mail);
        } else {
            self.wait(BLOCK_MS);
            self.state = State::Content(mail);
            if self.out.is_empty() && !mail_waits(&self.state) {
                self.ask_content();
            }
        }
    }

    fn end_reply(&mut self, mut mail: Box<Mail>, reply: ServerReply) {
        let reply = temporary_unless_permanent_or_ok(reply);
        let result = if reply.is_positive() {
            RecipientResult::Delivered(reply.clone())
        } else {
            RecipientResult::Refused(reply.clone())
        };
        if self.config.lmtp && reply.code != 421 && !mail.accepted.is_empty() {
            // One reply for each recipient that was accepted, in their order (RFC 2033 section 4.2).
            let place = mail.accepted.remove(0);
            if let Some(slot) = mail.results.get_mut(place) {
                *slot = Some(result);
            }
            if !mail.accepted.is_empty() {
                self.state = State::End(mail);
                return;
            }
        } else {
            mail.set_rest(&result);
        }
        self.note(mail, reply.code != 421);
    }

    /// Tells the host what came of the transaction.
    fn note(&mut self, mail: Box<Mail>, go_on: bool) {
        let lost = || RecipientResult::Lost(Stage::Envelope);
        let recipients = mail.results.into_iter().map(|result| result.unwrap_or_else(lost)).collect();
        self.state = State::Noting(go_on);
        self.ask(ClientAsk::Result(Box::new(TransactionResult { recipients, reports: self.offers.reports })));
    }

    /// The server has gone, or does not answer.
    fn lost(&mut self, why: &str) {
        let reply = || ServerReply::new(421, "4.4.2", why);
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting => self.unusable(Stage::Greeting, reply()),
            State::Hello(_) => self.unusable(Stage::Hello, reply()),
            State::StartTls | State::Handshake => self.unusable(Stage::Tls, reply()),
            State::Login(_) => self.unusable(Stage::Login, reply()),
            State::Envelope(mail) => self.lose(mail, Stage::Envelope),
            State::Content(mail) => self.lose(mail, Stage::Content),
            State::End(mail) => self.lose(mail, Stage::End),
            // An answer is on its way; then it ends.
            State::Noting(_) => self.state = State::Noting(false),
            State::Next | State::Quit | State::Over => self.close(),
        }
    }

    fn lose(&mut self, mut mail: Box<Mail>, stage: Stage) {
        if let Some(refused) = mail.refused.take() {
            mail.set_rest(&RecipientResult::Refused(refused));
        }
        mail.set_rest(&RecipientResult::Lost(stage));
        self.note(mail, false);
    }

    fn answered(&mut self, answer: ClientAnswer) {
        match (std::mem::replace(&mut self.state, State::Over), answer) {
            (State::Next, ClientAnswer::Transaction(transaction)) => self.begin(*transaction),
            (State::Next, _) => self.quit(),
            (State::Content(mail), ClientAnswer::Content(octets, last)) => self.content(mail, &octets, last),
            // The end of the content must not be said: the server would take what it has for the whole.
            (State::Content(mail), _) => self.lose(mail, Stage::Content),
            (State::Noting(true), _) => self.next(),
            (State::Noting(false) | State::Over, _) => self.close(),
            (state, _) => self.state = state,
        }
    }

    fn look_at_replies(&mut self) {
        while self.step.is_none() && !matches!(self.state, State::Over | State::Handshake | State::Noting(_)) {
            match self.replies.next() {
                Ok(Some((reply, lines))) => self.reply(reply, &lines),
                Ok(None) => return,
                Err(_) => {
                    self.replies.clear();
                    return self.lost("the server does not speak SMTP");
                }
            }
        }
    }
}

/// Whether the next chunk waits for the reply to the last one.
fn mail_waits(state: &State) -> bool {
    matches!(state, State::Content(mail) if mail.chunked)
}

/// A reply that says neither yes nor no for good is a "not now".
fn temporary_unless_permanent(reply: ServerReply) -> ServerReply {
    if reply.is_permanent() || (400..500).contains(&reply.code) {
        return reply;
    }
    let text = format!("the server's reply makes no sense here: {reply}");
    ServerReply::new(451, "4.5.0", &text)
}

fn temporary_unless_permanent_or_ok(reply: ServerReply) -> ServerReply {
    if reply.is_positive() { reply } else { temporary_unless_permanent(reply) }
}

impl Session for ClientSession {
    type Ask = ClientAsk;
    type Answer = ClientAnswer;

    fn handle(&mut self, now: Tick, input: Input<ClientAnswer>) {
        self.now = now;
        match input {
            // What comes before the handshake is done came in clear.
            Input::Received(_) if matches!(self.state, State::Handshake) => {}
            Input::Received(octets) => self.replies.push(&octets),
            Input::PeerClosed => {
                self.look_at_replies();
                self.lost("the server has closed the connection");
            }
            Input::Flushed => {
                if matches!(&self.state, State::Content(mail) if !mail.chunked) && self.step.is_none() {
                    self.ask_content();
                }
            }
            Input::TlsReady(_) => {
                self.tls = true;
                self.replies.clear();
                self.hello(false);
            }
            Input::Answered(_, answer) => self.answered(answer),
            Input::DeadlinePassed => {
                if now.reached(self.deadline) {
                    self.lost("the server does not answer in time");
                }
            }
            Input::ShuttingDown => self.stopping = true,
        }
    }

    fn poll(&mut self) -> Step<ClientAsk> {
        loop {
            if !self.out.is_empty() {
                return Step::Send(vec![std::mem::take(&mut self.out).into()]);
            }
            if let Some(step) = self.step.take() {
                return step;
            }
            self.look_at_replies();
            if self.out.is_empty() && self.step.is_none() {
                let waits = matches!(self.state, State::Noting(_) | State::Over);
                return Step::Idle { receive: !waits && self.replies.octets() < RECEIVED_OCTETS_MAX };
            }
        }
    }

    fn deadline(&self) -> Option<Tick> {
        // While the host is asked, the server is not the one who is silent.
        (!matches!(self.state, State::Next | State::Noting(_) | State::Over)).then_some(self.deadline)
    }
}
