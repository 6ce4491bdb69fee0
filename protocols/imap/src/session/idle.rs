//! IDLE (RFC 2177).

use rockdove_mail::AskId;

use super::{
    Doing, ImapSession,
    purpose::{After, Purpose},
};
use crate::ask::{Answer, Ask, Refusal};

impl ImapSession {
    pub(super) fn idle(&mut self) {
        self.out.line("+ idling");
        self.idling = true;
        self.doing = Doing::Idling(None);
    }

    /// Waits for news and for DONE.
    pub(super) fn idle_on(&mut self, watch: Option<AskId>) -> bool {
        if self.is_over(false) {
            return true;
        }
        match self.take_line() {
            //= rfc2177#section-3
            //# The IDLE command is terminated by the receipt of a "DONE"
            //# continuation from the client;
            Some(line) => self.end_idle(watch, line.is_ok_and(|line| line.eq_ignore_ascii_case(b"DONE"))),
            None if self.is_over(true) => {}
            None => {
                let watching = match (watch, self.watch_ask(true)) {
                    (None, Some(ask)) => Some(self.ask_only(ask)),
                    _ => None,
                };
                self.doing = Doing::Idling(watch.or(watching));
                return watching.is_some();
            }
        }
        true
    }

    pub(super) fn watch_answered(&mut self, answer: &Answer) {
        match answer {
            //= rfc5465#section-4
            //# while processing any IDLE command, the server MUST send exactly the
            //# same events as instructed by the client using the NOTIFY command.
            Answer::Changed if self.notify.is_some() => self.look(After::Idle),
            Answer::Changed => self.sync(After::Idle),
            Answer::Refused(Refusal::MailboxGone) => self.mailbox_gone(Purpose::EndWatch),
            _ => self.idle_refused(),
        }
    }

    /// The host cannot watch, or cannot tell the news. The client may come again.
    pub(super) fn idle_refused(&mut self) {
        self.idling = false;
        self.tagged("NO [UNAVAILABLE] the mailbox cannot be watched at the moment");
    }

    /// The client has said something: DONE, or what may not be said here.
    fn end_idle(&mut self, watch: Option<AskId>, done: bool) {
        if !done {
            self.idling = false;
            self.bad("DONE was expected");
        }
        if matches!(self.doing, Doing::Leaving) {
            return;
        }
        match watch {
            Some(_) => self.ask(Ask::EndWatch, Purpose::EndWatch),
            None => self.idle_done(),
        }
    }

    pub(super) fn idle_done(&mut self) {
        if std::mem::take(&mut self.idling) {
            self.complete("OK done");
        }
    }
}
