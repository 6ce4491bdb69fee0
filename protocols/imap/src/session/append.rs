//! APPEND (RFC 3501 section 6.3.11) of one or more messages (RFC 3502): each passes through as it comes in, none is held
//! as a whole.

use bytes::Bytes;
use rockdove_mail::{MailboxName, Uid, UidSet, UidValidity};

use super::{
    Doing, ImapSession, State,
    purpose::{After, Purpose, Synchronising},
};
use crate::{
    ask::Ask,
    command::{AppendHead, Command, SequenceSet},
    grammar::{Frame, parse_append, parse_append_next, write},
    limits::{
        APPEND_HELD_EACH_MAX, APPEND_HELD_OCTETS_MAX, APPEND_MESSAGES_MAX, APPEND_OCTETS_AIM, REFUSED_OCTETS_MAX,
    },
    numbers::NoSuchNumber,
};

/// A message that is coming in.
pub(super) struct Append {
    head: AppendHead,
    /// Octets to come.
    left: u64,
    /// Octets that have come and are not handed over yet.
    pieces: Vec<Bytes>,
    held: u64,
    /// It may have NULs (RFC 3516).
    binary: bool,
    /// It is in the UTF8 extension (RFC 6855): a parenthesis follows it.
    utf8: bool,
    /// This message goes when the new one is there.
    replaces: Option<Uid>,
    /// Octets of the messages of this APPEND that have been handed over.
    octets: u64,
    /// Messages of this APPEND with this one, and octets of those before that wait in memory.
    messages: usize,
    waiting: u64,
}

/// What comes after a message was given up.
pub(super) enum GivenUp {
    /// The rest of it is thrown away, then this is said.
    Refuse(String),
    /// This is said: nothing more of it will come.
    Say(String),
    /// This is said, and the connection ends: there is no getting past it.
    Endless(String),
    /// The connection ends.
    Leave,
    /// The connection ends with this word.
    Bye(&'static str),
}

impl ImapSession {
    /// The command has come up to the literal.
    pub(super) fn append(&mut self, head: &[u8], octets: u64, synchronising: Synchronising, binary: bool) {
        // Nothing is kept of an APPEND that is refused; but one without synchronisation may be too large to wait for its
        // end.
        let endless = !synchronising && self.is_endless(octets);
        self.numbers_stay = false;
        self.uid_command = false;
        match self.check_append(head, octets, binary) {
            Ok((head, mailbox, replaces)) => {
                let utf8 = head.utf8;
                let append = Box::new(Append {
                    head,
                    left: octets,
                    pieces: Vec::new(),
                    held: 0,
                    binary,
                    utf8,
                    replaces,
                    octets: 0,
                    messages: 1,
                    waiting: held_of(octets),
                });
                let ask = Ask::AppendBegin { mailbox, size_bytes: octets, replaces: replaces.is_some() };
                self.ask(ask, Purpose::AppendBegin(append, synchronising));
            }
            Err(text) if endless => {
                self.answer_refused(text);
                self.bye("the message is too large to get past it");
            }
            Err(text) => self.refuse_append(synchronising, text),
        }
    }

    fn check_append(
        &mut self,
        head: &[u8],
        octets: u64,
        binary: bool,
    ) -> Result<(AppendHead, MailboxName, Option<Uid>), String> {
        let parsed = parse_append(head, self.names()).map_err(|wrong| {
            self.tag = wrong.tag.unwrap_or_default();
            format!("BAD {}", wrong.text)
        })?;
        self.tag = parsed.tag;
        let Command::Append(head) = parsed.command else { return Err("BAD not now".to_owned()) };
        if matches!(self.state, State::NotAuthenticated(_)) {
            return Err("BAD log in first".to_owned());
        }
        check_utf8(head.utf8, binary)?;
        let mailbox = head.mailbox.clone().map_err(|why| format!("NO [CANNOT] {why}"))?;
        self.check_size(octets)?;
        let replaces = match &head.replaces {
            Some((set, uid)) => Some(self.replaced(set, *uid)?),
            None => None,
        };
        Ok((head, mailbox, replaces))
    }

    /// The message that REPLACE is about.
    fn replaced(&mut self, set: &SequenceSet, uid: bool) -> Result<Uid, String> {
        //= rfc8508#section-3.5
        //# Unlike the APPEND command, which is valid in the authenticated state,
        //# the REPLACE and UID REPLACE commands MUST only be valid in the
        //# selected state.
        let Some(open) = self.open() else { return Err("BAD select a mailbox first".to_owned()) };
        if open.read_only {
            return Err("NO [READ-ONLY] the mailbox is open for reading only".to_owned());
        }
        let found = open.messages(uid, set).map_err(|NoSuchNumber| "BAD there is no message of that number")?;
        self.uid_command = uid;
        found.last().ok_or_else(|| "NO [CANNOT] there is no message to be replaced".to_owned())
    }

    fn check_size(&self, octets: u64) -> Result<(), String> {
        if octets > self.config.message_size_max {
            return Err("NO [TOOBIG] the message is too large".to_owned());
        }
        //= rfc3502#section-6.3.11
        //# A zero-length message literal argument is an error, and MUST
        //# return a NO.  This can be used to cancel the append.
        if octets == 0 {
            return Err("NO [CANNOT] the message is empty".to_owned());
        }
        Ok(())
    }

    /// Whether so much of a refused message is not worth reading.
    fn is_endless(&self, octets: u64) -> bool {
        octets > self.config.message_size_max.max(REFUSED_OCTETS_MAX)
    }

    /// Refuses a message of which nothing has come.
    pub(super) fn refuse_append(&mut self, synchronising: Synchronising, text: String) {
        if synchronising {
            self.frames.refuse_append();
            return self.answer_refused(text);
        }
        self.doing = Doing::Refusing(text);
    }

    /// The tagged response of a message that was refused.
    fn answer_refused(&mut self, text: String) {
        match text.strip_prefix("BAD ") {
            Some(text) => self.bad(text),
            None => self.complete(text),
        }
    }

    /// Gets past the octets of a message that is refused.
    pub(super) fn refuse_on(&mut self, text: String) -> bool {
        if self.is_over(false) {
            return true;
        }
        match self.frames.next() {
            Some(Frame::TooLong { fatal: true, .. }) => self.bye("the command is too long to get past it"),
            Some(Frame::AppendNext { synchronising: true, .. }) => {
                self.frames.refuse_append();
                self.answer_refused(text);
            }
            Some(Frame::AppendNext { octets, .. }) if self.is_endless(octets) => {
                self.append_given_up(GivenUp::Endless(text));
            }
            Some(Frame::AppendNext { .. }) => self.doing = Doing::Refusing(text),
            Some(_) => self.answer_refused(text),
            None => {
                let over = self.is_over(true);
                if !over {
                    self.doing = Doing::Refusing(text);
                }
                return over;
            }
        }
        true
    }

    pub(super) fn append_begun(&mut self, append: Box<Append>, synchronising: Synchronising) {
        if synchronising {
            self.out.line("+ go ahead");
        }
        self.doing = Doing::Appending(append);
    }

    /// Takes what has come of the message, and hands it over when it is enough.
    pub(super) fn append_on(&mut self, mut append: Box<Append>) -> bool {
        if self.stopping && append.left > 0 {
            self.abort_append(GivenUp::Bye(super::STOPPING));
            return true;
        }
        while append.left > 0 && append.held < APPEND_OCTETS_AIM {
            let taken = self.frames.take_octets(append.left.min(APPEND_OCTETS_AIM.saturating_sub(append.held)));
            if taken.is_empty() {
                if self.peer_closed {
                    self.abort_append(GivenUp::Leave);
                    return true;
                }
                self.doing = Doing::Appending(append);
                return false;
            }
            for piece in taken {
                if let Err(text) = append.check(&piece) {
                    self.abort_append(GivenUp::Refuse(text.to_owned()));
                    return true;
                }
                append.take(piece);
            }
        }
        if append.held > 0 {
            append.held = 0;
            let octets = std::mem::take(&mut append.pieces);
            self.ask(Ask::AppendOctets(octets), Purpose::AppendOctets(append));
            return true;
        }
        self.append_end(append)
    }

    /// Every octet has been handed over; the rest of the line is still to come.
    fn append_end(&mut self, append: Box<Append>) -> bool {
        let closing: &[u8] = if append.utf8 { b")" } else { b"" };
        match self.frames.next() {
            Some(Frame::AppendTail(tail)) if tail == closing => {
                let Append { head: AppendHead { flags, date, .. }, replaces, .. } = *append;
                let ask = Ask::AppendEnd { flags, date, replaces };
                if replaces.is_some() {
                    self.ask(ask, Purpose::Replace);
                } else {
                    let id = self.ask_only(ask);
                    self.append_under_way(id, append.octets);
                }
            }
            Some(Frame::AppendNext { octets, synchronising, .. }) if append.replaces.is_some() => {
                self.refuse_next(octets, synchronising, "BAD one message replaces another".to_owned());
            }
            Some(Frame::AppendNext { head, octets, synchronising, binary }) => match head.strip_prefix(closing) {
                Some(head) => self.append_next(append, head, octets, synchronising, binary),
                None => self.refuse_next(octets, synchronising, "BAD a parenthesis is missing".to_owned()),
            },
            Some(_) => self.abort_append(GivenUp::Say("BAD nothing may follow the message".to_owned())),
            None if self.stopping => self.abort_append(GivenUp::Bye(super::STOPPING)),
            None if self.peer_closed => self.abort_append(GivenUp::Leave),
            None => {
                self.doing = Doing::Appending(append);
                return false;
            }
        }
        true
    }

    pub(super) fn replaced_by(&mut self, uid_validity: UidValidity, uids: &UidSet) {
        self.note_own(uid_validity, uids);
        let mut set = Vec::new();
        write::uid_set(&mut set, uids);
        let set = String::from_utf8_lossy(&set);
        //= rfc8508#section-4.3
        //# Servers implementing REPLACE and UIDPLUS are also advised to send the APPENDUID response
        //# code in an untagged OK before sending the EXPUNGE or replaced
        //# responses.
        self.untagged(&format!("OK [APPENDUID {uid_validity} {set}] the replacement is stored"));
        self.sync(After::Removed);
    }

    /// One message has come, another follows (RFC 3502).
    fn append_next(
        &mut self,
        mut append: Box<Append>,
        head: &[u8],
        octets: u64,
        synchronising: Synchronising,
        binary: bool,
    ) {
        append.messages = append.messages.saturating_add(1);
        append.waiting = append.waiting.saturating_add(held_of(octets));
        let parsed = parse_append_next(head).map_err(|wrong| format!("BAD {wrong}")).and_then(|parsed| {
            self.check_size(octets)?;
            check_utf8(parsed.1, binary)?;
            if append.messages > APPEND_MESSAGES_MAX || append.waiting > APPEND_HELD_OCTETS_MAX {
                return Err("NO [LIMIT] there are too many messages in one APPEND".to_owned());
            }
            Ok(parsed)
        });
        let ((flags, date), utf8) = match parsed {
            Ok(next) => next,
            Err(text) => return self.refuse_next(octets, synchronising, text),
        };
        let ask = Ask::AppendNext {
            flags: std::mem::replace(&mut append.head.flags, flags),
            date: std::mem::replace(&mut append.head.date, date),
            size_bytes: octets,
        };
        (append.left, append.binary, append.utf8) = (octets, binary, utf8);
        self.ask(ask, Purpose::AppendNext(append, synchronising));
    }

    /// Gives up all messages, because the one that is announced is refused.
    ///
    //= rfc3502#section-6.3.11
    //# If the append is unsuccessful for any reason (including being
    //# cancelled), the mailbox MUST be restored to its state before the
    //# APPEND attempt; no partial appending is permitted.
    pub(super) fn refuse_next(&mut self, octets: u64, synchronising: Synchronising, text: String) {
        let given_up = if synchronising {
            self.frames.refuse_append();
            GivenUp::Say(text)
        } else if self.is_endless(octets) {
            GivenUp::Endless(text)
        } else {
            GivenUp::Refuse(text)
        };
        self.abort_append(given_up);
    }

    /// The message is given up by us or by the client.
    pub(super) fn abort_append(&mut self, given_up: GivenUp) {
        self.ask(Ask::AppendAbort, Purpose::AppendAbort(given_up));
    }

    pub(super) fn append_given_up(&mut self, given_up: GivenUp) {
        match given_up {
            GivenUp::Refuse(text) => self.doing = Doing::Refusing(text),
            GivenUp::Say(text) => self.answer_refused(text),
            GivenUp::Endless(text) => {
                self.answer_refused(text);
                self.bye("the message is too large to get past it");
            }
            GivenUp::Leave => self.doing = Doing::Leaving,
            GivenUp::Bye(text) => self.bye(text),
        }
    }
}

/// `utf8-literal = "UTF8" SP "(" literal8 ")"` (RFC 6855 section 4)
fn check_utf8(utf8: bool, binary: bool) -> Result<(), String> {
    if utf8 && !binary { Err("BAD UTF8 wants a literal8".to_owned()) } else { Ok(()) }
}

/// Octets that a message may take in memory while it waits for others.
fn held_of(octets: u64) -> u64 {
    octets.min(APPEND_HELD_EACH_MAX)
}

impl Append {
    /// Octets to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// What speaks against the next octets.
    ///
    /// Not 8-bit characters in header fields, though RFC 6855 section 4 wants them refused unless the client has enabled
    /// UTF8=ACCEPT: old mail has them in many charsets, has always been taken, and clients that move it know nothing of
    /// ENABLE. To refuse them would be to lose mail.
    fn check(&self, piece: &[u8]) -> Result<(), &'static str> {
        //= rfc3501#section-4.3
        //# A literal is a sequence of zero or more octets (including CR and LF),
        // but none of them is NUL: `CHAR8 = %x01-ff`.
        let nul = if self.binary { None } else { memchr::memchr(0, piece) };
        if nul.is_some() { Err("BAD a message must not contain NUL") } else { Ok(()) }
    }

    fn take(&mut self, piece: Bytes) {
        let octets = piece.len() as u64;
        self.left = self.left.saturating_sub(octets);
        self.octets = self.octets.saturating_add(octets);
        self.held = self.held.saturating_add(octets);
        self.pieces.push(piece);
    }
}
