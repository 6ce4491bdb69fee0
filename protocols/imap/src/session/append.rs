//! APPEND (RFC 3501 section 6.3.11): the message passes through as it comes in, it is never held as a whole.

use bytes::Bytes;
use rockdove_mail::MailboxName;

use super::{
    Doing, ImapSession, State,
    purpose::{Purpose, Synchronising},
};
use crate::{
    ask::Ask,
    command::{AppendHead, Command},
    grammar::{Frame, parse_append},
    limits::{APPEND_OCTETS_AIM, REFUSED_OCTETS_MAX},
};

/// A message that is coming in.
pub(super) struct Append {
    head: AppendHead,
    /// Octets to come.
    left: u64,
    /// Octets that have come and are not handed over yet.
    pieces: Vec<Bytes>,
    held: u64,
}

/// What comes after a message was given up.
pub(super) enum GivenUp {
    /// The rest of it is thrown away, then this is said.
    Refuse(String),
    /// This is said: the whole of it has been read.
    Bad(&'static str),
    /// The connection ends.
    Leave,
    /// The connection ends with this word.
    Bye(&'static str),
}

impl ImapSession {
    /// The command has come up to the literal.
    pub(super) fn append(&mut self, head: &[u8], octets: u64, synchronising: Synchronising) {
        // Nothing is kept of an APPEND that is refused; but one without synchronisation may be too large to wait for its
        // end.
        let endless = !synchronising && octets > self.config.message_size_max.max(REFUSED_OCTETS_MAX);
        self.numbers_stay = false;
        self.uid_command = false;
        match self.check_append(head, octets) {
            Ok((head, mailbox)) => {
                let append = Box::new(Append { head, left: octets, pieces: Vec::new(), held: 0 });
                let ask = Ask::AppendBegin { mailbox, size_bytes: octets };
                self.ask(ask, Purpose::AppendBegin(append, synchronising));
            }
            Err(text) if endless => {
                self.answer_refused(text);
                self.bye("the message is too large to get past it");
            }
            Err(text) => self.refuse_append(synchronising, text),
        }
    }

    fn check_append(&mut self, head: &[u8], octets: u64) -> Result<(AppendHead, MailboxName), String> {
        let parsed = parse_append(head).map_err(|wrong| {
            self.tag = wrong.tag.unwrap_or_default();
            format!("BAD {}", wrong.text)
        })?;
        self.tag = parsed.tag;
        let Command::Append(head) = parsed.command else { return Err("BAD not now".to_owned()) };
        if matches!(self.state, State::NotAuthenticated(_)) {
            return Err("BAD log in first".to_owned());
        }
        let mailbox = head.mailbox.clone().map_err(|why| format!("NO [CANNOT] {why}"))?;
        if octets > self.config.message_size_max {
            return Err("NO [TOOBIG] the message is too large".to_owned());
        }
        if octets == 0 {
            return Err("NO [CANNOT] the message is empty".to_owned());
        }
        Ok((head, mailbox))
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
                //= rfc3501#section-4.3
                //# A literal is a sequence of zero or more octets (including CR and LF),
                // but none of them is NUL: `CHAR8 = %x01-ff`.
                if memchr::memchr(0, &piece).is_some() {
                    self.abort_append(GivenUp::Refuse("BAD a message must not contain NUL".to_owned()));
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
        match self.frames.next() {
            Some(Frame::AppendTail(tail)) if tail.is_empty() => {
                let AppendHead { flags, date, .. } = append.head;
                self.ask(Ask::AppendEnd { flags, date }, Purpose::AppendEnd);
            }
            Some(_) => self.abort_append(GivenUp::Bad("nothing may follow the message")),
            None if self.stopping => self.abort_append(GivenUp::Bye(super::STOPPING)),
            None if self.peer_closed => self.abort_append(GivenUp::Leave),
            None => {
                self.doing = Doing::Appending(append);
                return false;
            }
        }
        true
    }

    /// The message is given up by us or by the client.
    pub(super) fn abort_append(&mut self, given_up: GivenUp) {
        self.ask(Ask::AppendAbort, Purpose::AppendAbort(given_up));
    }

    pub(super) fn append_given_up(&mut self, given_up: GivenUp) {
        match given_up {
            GivenUp::Refuse(text) => self.doing = Doing::Refusing(text),
            GivenUp::Bad(text) => self.bad(text),
            GivenUp::Leave => self.doing = Doing::Leaving,
            GivenUp::Bye(text) => self.bye(text),
        }
    }
}

impl Append {
    fn take(&mut self, piece: Bytes) {
        let octets = piece.len() as u64;
        self.left = self.left.saturating_sub(octets);
        self.held = self.held.saturating_add(octets);
        self.pieces.push(piece);
    }
}
