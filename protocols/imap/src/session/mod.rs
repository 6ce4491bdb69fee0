//! The conversation: which command may come when, what the host is asked, what the client is told.
//!
//! * What: the states of RFC 3501 section 3 as one value, and a file for each family of commands.
//! * In: the host's inputs.
//! * Out: steps for the host.
//! * Never: carries out two commands at once or asks two things at once (but for the watch of IDLE, and for APPENDs that
//!   wait for the disk), or gives a message
//!   another number while a client may still use the old one.
//! * Fails: see the crate.

mod access;
mod annotated;
mod append;
mod commands;
mod copy;
mod expunge;
mod fetch;
mod filters;
mod find;
mod idle;
mod language;
mod list;
mod login;
mod mailboxes;
mod metadata;
mod multisearch;
mod notify;
mod open;
mod outbox;
mod purpose;
mod refusal;
mod resync;
mod sasl_turn;
mod search;
mod select;
mod store;
mod sync;
mod tree;
mod under_way;

use bytes::Bytes;
use rockdove_mail::{AskId, Input, Peer, Session, Step, Tick};

use self::{
    append::Append, fetch::Fetching, find::Listing, notify::Notify, open::OpenMailbox, outbox::Outbox,
    purpose::Purpose, resync::Vanishing, sasl_turn::SaslTurn, search::Finding, sync::Telling, under_way::UnderWay,
};
use crate::{
    ask::{Answer, Ask, ImapConfig},
    grammar::{Frame, Frames, LineTooLong, Names, parse},
    limits::{ERRORS_MAX, LINE_OCTETS_MAX, RECEIVED_OCTETS_MAX, SEND_OCTETS_AIM},
};

/// What is said when the server stops.
const STOPPING: &str = "the server is stopping, come back soon";

/// One IMAP conversation.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, none of which is a state")]
pub struct ImapSession {
    config: ImapConfig,
    /// What is kept for the next login, while there is one.
    stranger: Option<Box<Stranger>>,
    frames: Frames,
    out: Outbox,
    /// The step besides sending that comes next. There is never more than one.
    step: Option<Box<Step<Ask>>>,
    doing: Doing,
    /// APPENDs that are not answered yet, while the next one comes.
    under_way: Option<Box<UnderWay>>,
    state: State,
    /// Tag of the command in progress.
    tag: String,
    /// TLS is on, from the start or since STARTTLS.
    tls: bool,
    /// The client has given a CONDSTORE enabling command (RFC 7162 section 3.1).
    condstore: bool,
    /// The client has enabled QRESYNC (RFC 7162 section 3.2.3).
    qresync: bool,
    /// The client has enabled UTF8=ACCEPT (RFC 6855).
    utf8: bool,
    /// The client has enabled `IMAP4rev2` (RFC 9051).
    rev2: bool,
    /// DEFLATE is active (RFC 4978).
    compressed: bool,
    /// The command in progress is a UID command.
    uid_command: bool,
    /// While the command in progress is carried out, no message may get another number.
    numbers_stay: bool,
    /// IDLE is in progress.
    idling: bool,
    /// What the client wants to be told, once it has said so (RFC 5465).
    notify: Option<Box<Notify>>,
    /// News are told while no command is in progress.
    listening: bool,
    /// The client has sent its last octet.
    peer_closed: bool,
    stopping: bool,
    /// Wrong commands; forgotten with the first good one after login.
    errors: u32,
    next_ask: u64,
    deadline: Tick,
}

/// The states of RFC 3501 section 3; logout is [`Doing::Leaving`].
enum State {
    NotAuthenticated(Box<Stranger>),
    Authenticated,
    Selected(Box<OpenMailbox>),
}

/// What is kept of a client that has not logged in.
struct Stranger {
    seed: [u8; 32],
    login_failures: u32,
}

/// What the session is busy with.
enum Doing {
    /// Nothing: a command may come.
    Commands,
    /// The next line is for the SASL exchange.
    Sasl(Box<SaslTurn>),
    /// TLS is being negotiated.
    Handshake,
    /// The host has been asked.
    Waiting(AskId, Box<Purpose>),
    /// The next page of FETCH responses is to be asked for.
    Fetching(Box<Fetching>),
    /// The answer of SEARCH is being written.
    Finding(Box<Finding>),
    /// Who has gone is being told, before a FETCH.
    Vanishing(Box<Vanishing>),
    /// A line of SORT, THREAD or ESEARCH is being written.
    Listing(Box<Listing>),
    /// Changes of the mailbox are being told.
    Telling(Box<Telling>),
    /// IDLE; `Some`: the host watches.
    Idling(Option<AskId>),
    /// No command is in progress, and the host watches (NOTIFY).
    Listening(AskId),
    /// The octets of a message are coming in.
    Appending(Box<Append>),
    /// The octets of a message that is refused are coming in; then this is said.
    Refusing(String),
    /// Everything has been said; the connection is to be closed.
    Leaving,
    /// The close has been ordered.
    Left,
}

impl ImapSession {
    /// A new conversation. `seed` feeds the nonces of SASL.
    pub fn new(config: ImapConfig, peer: &Peer, seed: [u8; 32], now: Tick) -> Self {
        let mut session = Self {
            deadline: now.plus_ms(config.login_ms_max),
            config,
            stranger: None,
            frames: Frames::default(),
            out: Outbox::default(),
            step: None,
            doing: Doing::Commands,
            under_way: None,
            state: State::NotAuthenticated(Box::new(Stranger { seed, login_failures: 0 })),
            tag: String::new(),
            tls: peer.tls.is_some(),
            condstore: false,
            qresync: false,
            utf8: false,
            rev2: false,
            compressed: false,
            uid_command: false,
            numbers_stay: false,
            idling: false,
            notify: None,
            listening: false,
            peer_closed: false,
            stopping: false,
            errors: 0,
            next_ask: 0,
        };
        let greeting =
            format!("OK [CAPABILITY {}] {} Rockdove ready", session.capabilities(), session.config.host_name);
        session.untagged(&greeting);
        session
    }

    fn untagged(&mut self, text: &str) {
        self.out.text.extend_from_slice(b"* ");
        self.out.line(text);
    }

    /// Ends the command in progress.
    fn tagged(&mut self, text: &str) {
        let tag = std::mem::take(&mut self.tag);
        self.out.text.extend_from_slice(tag.as_bytes());
        self.out.text.push(b' ');
        self.out.line(text);
        if !matches!(self.state, State::NotAuthenticated(_)) && text.starts_with("OK") {
            self.errors = 0;
        }
    }

    /// Ends the command in progress as a wrong one, which is counted. Untagged, when its tag is not known.
    fn bad(&mut self, text: &str) {
        let text = format!("BAD {text}");
        if self.tag.is_empty() {
            self.untagged(&text);
        } else {
            self.tagged(&text);
        }
        self.errors = self.errors.saturating_add(1);
        if self.errors >= ERRORS_MAX {
            self.bye("too many errors");
        }
    }

    /// The last words.
    fn bye(&mut self, text: &str) {
        self.untagged(&format!("BYE {text}"));
        self.doing = Doing::Leaving;
    }

    fn ask(&mut self, ask: Ask, purpose: Purpose) {
        let id = self.ask_only(ask);
        self.doing = Doing::Waiting(id, Box::new(purpose));
    }

    fn ask_only(&mut self, ask: Ask) -> AskId {
        let id = AskId(self.next_ask);
        self.next_ask = self.next_ask.wrapping_add(1);
        self.step = Some(Box::new(Step::Ask(id, ask)));
        id
    }

    fn open(&self) -> Option<&OpenMailbox> {
        if let State::Selected(open) = &self.state { Some(open) } else { None }
    }

    fn open_mut(&mut self) -> Option<&mut OpenMailbox> {
        if let State::Selected(open) = &mut self.state { Some(open) } else { None }
    }

    /// How mailbox names travel.
    fn names(&self) -> Names {
        if self.utf8 || self.rev2 { Names::Utf8 } else { Names::ModifiedUtf7 }
    }

    /// From now on FETCH responses tell mod-sequences.
    //= rfc7162#section-3.1
    //# A first CONDSTORE enabling command executed in
    //# the session with a mailbox selected MUST cause the server to return
    //# HIGHESTMODSEQ (Section 3.1.2.1) for the mailbox (if any is selected),
    fn enable_condstore(&mut self) {
        if std::mem::replace(&mut self.condstore, true) {
            return;
        }
        if let Some(modseq) = self.open().map(|open| select::highest(open.highest_modseq)) {
            self.untagged(&format!("OK [HIGHESTMODSEQ {modseq}] mod-sequences are told from now on"));
        }
    }

    /// Whether it is the client's turn.
    fn is_waiting_for_client(&self) -> bool {
        matches!(
            self.doing,
            Doing::Commands
                | Doing::Sasl(_)
                | Doing::Idling(_)
                | Doing::Listening(_)
                | Doing::Appending(_)
                | Doing::Refusing(_)
        )
    }

    /// Does one small piece of work; `false` when there is none until the next input.
    fn advance(&mut self) -> bool {
        match std::mem::replace(&mut self.doing, Doing::Commands) {
            Doing::Commands => return self.take_frame(),
            Doing::Sasl(turn) => return self.take_sasl_line(turn),
            Doing::Fetching(fetching) => self.ask_page(fetching),
            Doing::Finding(finding) => self.write_found(finding),
            Doing::Vanishing(vanishing) => self.tell_vanished(vanishing),
            Doing::Listing(listing) => self.write_listing(listing),
            Doing::Telling(telling) => self.tell(telling),
            Doing::Idling(watch) => return self.idle_on(watch),
            Doing::Listening(watch) => return self.listen_on(watch),
            Doing::Appending(append) => return self.append_on(append),
            Doing::Refusing(text) => return self.refuse_on(text),
            Doing::Leaving if self.appends_wait() => {
                self.doing = Doing::Leaving;
                return false;
            }
            Doing::Leaving => {
                self.step = Some(Box::new(Step::Close));
                self.doing = Doing::Left;
            }
            doing @ (Doing::Left | Doing::Handshake | Doing::Waiting(..)) => {
                self.doing = doing;
                return false;
            }
        }
        true
    }

    /// Whether the conversation ends here, because the server stops or (when nothing more can come) the client has gone.
    fn is_over(&mut self, nothing_came: bool) -> bool {
        if self.appends_wait() && matches!(self.doing, Doing::Commands) {
            // What was taken in is answered first.
            return false;
        }
        if self.stopping {
            self.bye(STOPPING);
        } else if nothing_came && self.peer_closed {
            self.doing = Doing::Leaving;
        } else {
            return false;
        }
        true
    }

    fn take_frame(&mut self) -> bool {
        if self.is_over(false) {
            return true;
        }
        let Some(frame) = self.next_frame() else { return self.is_over(true) || self.listen() };
        self.listening = false;
        self.take(frame);
        true
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Command(command) => match parse(&command, self.names()) {
                Ok(tagged) => {
                    self.tag = tagged.tag;
                    self.command(tagged.command);
                }
                Err(wrong) => {
                    self.tag = wrong.tag.unwrap_or_default();
                    self.bad(&wrong.text);
                }
            },
            Frame::Continue => self.out.line("+ go ahead"),
            Frame::Append { head, octets, synchronising, binary } => {
                self.append(&head, octets, synchronising, binary);
            }
            Frame::AppendNext { .. } | Frame::AppendTail(_) => {}
            Frame::TooLong { tag, fatal } => {
                self.tag = tag.unwrap_or_default();
                self.bad("[TOOBIG] the command is too long");
                if fatal {
                    self.bye("the command is too long to get past it");
                }
            }
        }
    }

    /// A line outside the command grammar. `Some(Err)`: it was too long.
    fn take_line(&mut self) -> Option<Result<Bytes, LineTooLong>> {
        self.frames.next_line(LINE_OCTETS_MAX)
    }

    fn tls_ready(&mut self) {
        // Whoever can write into the clear part of a connection must not put words into the client's mouth: nothing that
        // came before the handshake is looked at after it.
        self.frames.clear();
        self.tls = true;
        self.doing = Doing::Commands;
    }

    fn answer(&mut self, id: AskId, answer: Answer) {
        if self.append_answered(id, &answer) {
            return;
        }
        match std::mem::replace(&mut self.doing, Doing::Commands) {
            Doing::Waiting(asked, purpose) if asked == id => self.answered(*purpose, answer),
            Doing::Idling(Some(watch)) if watch == id => self.watch_answered(&answer),
            Doing::Listening(watch) if watch == id => self.listening_answered(&answer),
            doing => {
                self.note_changed(&answer);
                self.doing = doing;
            }
        }
    }
}

impl Session for ImapSession {
    type Ask = Ask;
    type Answer = Answer;

    fn handle(&mut self, now: Tick, input: Input<Answer>) {
        // Mail that arrives during IDLE or with NOTIFY is no sign of life of the client.
        let alive = !(self.idling || self.listening) || matches!(input, Input::Received(_));
        let was_stranger = matches!(self.state, State::NotAuthenticated(_));
        match input {
            // What comes before the handshake is done came in clear.
            Input::Received(_) if matches!(self.doing, Doing::Handshake) => {}
            Input::Received(bytes) => self.frames.push(bytes),
            Input::PeerClosed => self.peer_closed = true,
            Input::Flushed => {}
            Input::TlsReady(_) => self.tls_ready(),
            Input::Answered(id, answer) => self.answer(id, answer),
            Input::DeadlinePassed => {
                if self.deadline().is_some_and(|deadline| now.reached(deadline)) {
                    if matches!(self.doing, Doing::Handshake) {
                        self.doing = Doing::Leaving;
                    } else {
                        self.time_out();
                    }
                }
                return;
            }
            Input::ShuttingDown => self.stopping = true,
        }
        if !matches!(self.state, State::NotAuthenticated(_)) {
            if alive {
                self.deadline = now.plus_ms(self.config.autologout_ms);
            }
        } else if !was_stranger {
            self.deadline = now.plus_ms(self.config.login_ms_max);
        }
    }

    fn poll(&mut self) -> Step<Ask> {
        loop {
            if self.out.octets() >= SEND_OCTETS_AIM {
                return Step::Send(self.out.take());
            }
            match self.step.take().map(|step| *step) {
                // The last words, and the answers to STARTTLS and COMPRESS, come before what they announce.
                Some(step @ (Step::Close | Step::StartTls | Step::Compress)) if self.out.octets() > 0 => {
                    self.step = Some(Box::new(step));
                    return Step::Send(self.out.take());
                }
                Some(step) => return step,
                None => {}
            }
            if !self.advance() {
                if self.out.octets() > 0 {
                    return Step::Send(self.out.take());
                }
                let receive = self.is_waiting_for_client() && self.frames.buffered_octets() < RECEIVED_OCTETS_MAX;
                return Step::Idle { receive };
            }
        }
    }

    fn deadline(&self) -> Option<Tick> {
        // While the host works, the client is not the one who is silent.
        if self.appends_wait() && matches!(self.doing, Doing::Commands) {
            return None;
        }
        (self.is_waiting_for_client() || matches!(self.doing, Doing::Handshake)).then_some(self.deadline)
    }
}
