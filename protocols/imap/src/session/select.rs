//! SELECT, EXAMINE, CLOSE, UNSELECT.

use std::sync::Arc;

use rockdove_mail::{Flags, Keyword, MailboxName, ModSeq, Rights, SystemFlags, Uid};

use super::{ImapSession, State, open::OpenMailbox, purpose::Purpose, tree};
use crate::{
    ask::{Ask, Mailboxes, Selected},
    command::{ListRequest, MailboxArg, Resync},
    grammar::write,
};

/// HIGHESTMODSEQ on the wire: `mod-sequence-value = 1*DIGIT`, a positive number (RFC 7162 section 7), even where nothing
/// has ever been.
pub(super) fn highest(modseq: ModSeq) -> ModSeq {
    modseq.max(1)
}

impl ImapSession {
    pub(super) fn select(
        &mut self,
        mailbox: MailboxArg,
        read_only: bool,
        condstore: bool,
        resync: Option<Box<Resync>>,
    ) {
        //= rfc7162#section-3.2.5
        //# A server MUST respond with a tagged BAD response if the Quick
        //# Resynchronization parameter to the SELECT/EXAMINE command is
        //# specified and the client hasn't issued "ENABLE QRESYNC" in the
        //# current connection,
        if resync.is_some() && !self.qresync {
            return self.bad("enable QRESYNC first");
        }
        // The mailbox that is open now is not the one this is about.
        self.condstore |= condstore;
        match mailbox {
            Ok(mailbox) => {
                let ask = Ask::Select { mailbox: mailbox.clone(), read_only };
                self.ask(ask, Purpose::Select(mailbox, read_only, resync));
            }
            //= rfc3501#section-6.3.1
            //# Consequently, if a mailbox is selected and a SELECT command that
            //# fails is attempted, no mailbox is selected.
            Err(why) => {
                let text = format!("NO [CANNOT] {why}");
                self.leave(text);
            }
        }
    }

    /// Lets the open mailbox go, if there is one, then says this.
    pub(super) fn leave(&mut self, text: String) {
        if self.open().is_none() {
            return self.tagged(&text);
        }
        self.closed();
        self.ask(Ask::Unselect, Purpose::Unselect(text));
    }

    /// The mailbox that was open is not any more.
    pub(super) fn closed(&mut self) {
        if self.open().is_some() {
            self.state = State::Authenticated;
            //= rfc7162#section-3.2.11
            //# CLOSED response code serves as a boundary between responses for the
            //# previously opened mailbox (which was closed) and the newly selected
            //# mailbox;
            self.untagged("OK [CLOSED] the mailbox that was selected is closed");
        }
    }

    pub(super) fn selected(
        &mut self,
        mailbox: MailboxName,
        read_only: bool,
        selected: Selected,
        resync: Option<Box<Resync>>,
    ) {
        self.closed();
        let (uid_validity, uid_next) = (selected.uid_validity, selected.uid_next);
        let (keywords, first_unseen) = (selected.keywords.clone(), selected.first_unseen);
        let mailbox_id = selected.mailbox_id;
        let mut open = OpenMailbox::new(mailbox, read_only, selected);
        if self.rev2 {
            open.recent = Arc::default();
        }
        let unseen = first_unseen.and_then(|uid| open.numbers.number(uid));
        let (exists, recent, modseq) = (open.numbers.exists(), open.recent.len(), open.highest_modseq);
        self.state = State::Selected(Box::new(open));
        self.write_flags(&keywords);
        self.untagged(&format!("{exists} EXISTS"));
        if !self.rev2 {
            self.untagged(&format!("{recent} RECENT"));
        }
        if let Some(number) = unseen.filter(|_| !self.rev2) {
            self.untagged(&format!("OK [UNSEEN {number}] the first message that has not been seen"));
        }
        self.write_permanent_flags(&keywords);
        self.untagged(&format!("OK [UIDVALIDITY {uid_validity}] UIDs are valid"));
        self.untagged(&format!("OK [UIDNEXT {uid_next}] the next UID"));
        self.untagged(&format!("OK [HIGHESTMODSEQ {}] mod-sequences are kept", highest(modseq)));
        self.untagged(&format!("OK [MAILBOXID ({})] the mailbox keeps this", mailbox_id.mailbox()));
        let text = if self.is_read_only() { "OK [READ-ONLY] examined" } else { "OK [READ-WRITE] selected" };
        //= rfc7162#section-3.2.5
        //# If the provided UIDVALIDITY doesn't match the UIDVALIDITY
        //# for the mailbox being opened, then the server MUST ignore the
        //# remaining parameters
        let resync = resync.filter(|resync| resync.uid_validity == uid_validity);
        if self.rev2 {
            return self.ask(Ask::Mailboxes, Purpose::SelectedLine(text, resync, uid_next));
        }
        self.end_select(text, resync.as_deref(), uid_next);
    }

    //= rfc9051#section-6.3.2
    //# The server MUST return a LIST response with the mailbox name.  The
    //# list of mailbox attributes MUST be accurate.
    pub(super) fn selected_line(
        &mut self,
        mailboxes: &Mailboxes,
        text: &'static str,
        resync: Option<&Resync>,
        uid_next: Uid,
    ) {
        if let Some(name) = self.open().map(|open| open.name.as_str().to_owned()) {
            let request = ListRequest { extended: true, return_subscribed: true, ..ListRequest::default() };
            // No name has a wildcard in it.
            for line in tree::list(mailboxes, &request, &[name]) {
                self.write_list_line("LIST", &line, &request);
            }
        }
        self.end_select(text, resync, uid_next);
    }

    fn end_select(&mut self, text: &'static str, resync: Option<&Resync>, uid_next: Uid) {
        match resync {
            Some(resync) => self.resynchronise(resync, uid_next, text),
            None => self.tagged(text),
        }
    }

    /// FLAGS: everything that can be seen on a message here.
    pub(super) fn write_flags(&mut self, keywords: &[Keyword]) {
        let flags = Flags { system: SystemFlags::ALL, keywords: keywords.to_vec() };
        self.out.text.extend_from_slice(b"* FLAGS ");
        write::flag_list(&mut self.out.text, &flags, false);
        self.out.end_line();
    }

    /// PERMANENTFLAGS: what can be stored; `\*` for any keyword.
    pub(super) fn write_permanent_flags(&mut self, keywords: &[Keyword]) {
        if self.is_read_only() {
            return self.untagged("OK [PERMANENTFLAGS ()] the mailbox is read-only");
        }
        let rights = self.open().map_or(Rights::ALL, |open| open.rights);
        let flags = rights.of_flags(&Flags { system: SystemFlags::ALL, keywords: keywords.to_vec() });
        self.out.text.extend_from_slice(b"* OK [PERMANENTFLAGS ");
        write::flag_list(&mut self.out.text, &flags, false);
        if !rights.contains(Rights::WRITE) {
            return self.out.line("] these flags are kept");
        }
        // `\*` says that new keywords can be made (RFC 9051 section 7.1): not when there is no room for one.
        if keywords.len() >= self.config.keywords_max {
            return self.out.line("] these flags are kept, and no other keywords");
        }
        // The list goes on: its closing parenthesis is taken back.
        self.out.text.pop();
        self.out.line(" \\*)] flags and keywords are kept");
    }

    pub(super) fn close(&mut self) {
        //= rfc3501#section-6.4.2
        //# No messages are removed, and no error is given, if the mailbox is
        //# selected by an EXAMINE command or is otherwise selected read-only.
        if self.is_read_only() {
            return self.unselect("OK closed");
        }
        self.ask(Ask::Expunge { uids: None }, Purpose::Close);
    }

    pub(super) fn unselect(&mut self, text: &str) {
        self.state = State::Authenticated;
        self.ask(Ask::Unselect, Purpose::Unselect(text.to_owned()));
    }

    /// Whether the open mailbox was opened by EXAMINE, or the user may change nothing in it.
    pub(super) fn is_read_only(&self) -> bool {
        self.open().is_some_and(|open| open.read_only)
    }

    /// Refuses what EXAMINE does not allow.
    pub(super) fn refuse_read_only(&mut self) -> bool {
        let refused = self.is_read_only();
        if refused {
            self.complete("NO [READ-ONLY] the mailbox is open for reading only");
        }
        refused
    }
}
