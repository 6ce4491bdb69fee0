//! The TRANSACTION and UPDATE states.

use bytes::Bytes;
use rockdove_mail::UidSet;

use super::{Doing, List, Pop3Session, Purpose, Sending};
use crate::{
    ask::Ask,
    command::Command,
    limits::{PAGE_OCTETS_MAX, SIZES_PAGE_MESSAGES_MAX, TOP_PAGE_OCTETS_MAX},
    stuffing::Stuffing,
};

impl Pop3Session {
    /// Carries out a command of the TRANSACTION state.
    pub(super) fn transact(&mut self, command: &Command) {
        match *command {
            Command::Stat => self.stat(),
            Command::List(None) => self.list(List::Sizes),
            Command::Uidl(None) => self.list(List::UniqueIds),
            Command::List(Some(number)) => self.size(number),
            Command::Uidl(Some(number)) => self.unique_id(number),
            Command::Retr(number) => self.send(number, Stuffing::whole(), false),
            Command::Top(number, lines) => self.send(number, Stuffing::top(lines), true),
            Command::Dele(number) => self.dele(number),
            Command::Noop => self.ok("nothing done"),
            Command::Rset => self.rset(),
            Command::Quit => self.quit(),
            // The caller has dealt with the others.
            _ => self.wrong("not now"),
        }
    }

    /// The message of this number; otherwise the client is told.
    fn message(&mut self, number: u32) -> Option<u32> {
        match self.maildrop.as_ref().map(|open| open.uid(number)) {
            Some(Ok(uid)) => Some(uid),
            Some(Err(why)) => {
                // Not counted as an error: clients probe for message numbers.
                self.err(why);
                None
            }
            None => None,
        }
    }

    fn stat(&mut self) {
        let Some(open) = &self.maildrop else { return };
        if open.deleted.is_empty() {
            let text = format!("{} {}", open.remaining(), open.octets());
            return self.ok(&text);
        }
        let uids = open.deleted.clone();
        self.ask(Ask::Octets { uids }, Purpose::Stat);
    }

    pub(super) fn stat_answer(&mut self, deleted: u64) {
        let Some(open) = &self.maildrop else { return };
        //= rfc1939#section-5
        //# Note that messages marked as deleted are not counted in
        //# either total.
        let text = format!("{} {}", open.remaining(), open.octets().saturating_sub(deleted));
        self.ok(&text);
    }

    fn size(&mut self, number: u32) {
        if let Some(uid) = self.message(number) {
            self.ask(Ask::Sizes { uids: UidSet::range(uid, uid) }, Purpose::Size(number));
        }
    }

    pub(super) fn size_answer(&mut self, number: u32, sizes: &[u64]) {
        match sizes {
            [size] => self.ok(&format!("{number} {size}")),
            _ => self.err("[SYS/TEMP] the size is not known at the moment"),
        }
    }

    fn unique_id(&mut self, number: u32) {
        if let Some(uid) = self.message(number)
            && let Some(open) = &self.maildrop
        {
            let text = format!("{number} {}", open.unique_id(uid));
            self.ok(&text);
        }
    }

    fn list(&mut self, list: List) {
        let Some(open) = &self.maildrop else { return };
        let text = format!("{} messages", open.remaining());
        self.ok(&text);
        self.doing = Doing::Listing(list, 1);
    }

    /// One page of a list: unique ids are known here, sizes are asked for.
    pub(super) fn list_page(&mut self, list: List, from: u32) {
        let Some(open) = &self.maildrop else { return };
        let (page, next) = open.page(from, SIZES_PAGE_MESSAGES_MAX);
        match list {
            List::Sizes if !page.is_empty() => {
                let uids = page.iter().map(|(_, uid)| *uid).collect();
                let numbers = page.iter().map(|(number, _)| *number).collect();
                self.ask(Ask::Sizes { uids }, Purpose::Sizes(numbers, next));
            }
            List::UniqueIds => {
                let lines: Vec<_> =
                    page.iter().map(|(number, uid)| format!("{number} {}", open.unique_id(*uid))).collect();
                self.list_lines(&lines, list, next);
            }
            List::Sizes => self.list_lines(&[], list, next),
        }
    }

    pub(super) fn sizes_answer(&mut self, numbers: &[u32], next: Option<u32>, sizes: &[u64]) {
        if numbers.len() != sizes.len() {
            return self.leave();
        }
        let lines: Vec<_> = numbers.iter().zip(sizes).map(|(number, size)| format!("{number} {size}")).collect();
        self.list_lines(&lines, List::Sizes, next);
    }

    fn list_lines(&mut self, lines: &[String], list: List, next: Option<u32>) {
        for line in lines {
            self.out.line(line);
        }
        if let Some(number) = next {
            self.doing = Doing::Listing(list, number);
        } else {
            self.out.line(".");
        }
    }

    fn send(&mut self, number: u32, stuffing: Stuffing, top: bool) {
        if let Some(uid) = self.message(number) {
            self.doing = Doing::Sending(Box::new(Sending { uid, offset: 0, stuffing, top }));
        }
    }

    /// Asks for the next page. The one before has been sent by now, so only one is ever held.
    pub(super) fn ask_page(&mut self, sending: Box<Sending>) {
        let octets_max = if sending.top { TOP_PAGE_OCTETS_MAX } else { PAGE_OCTETS_MAX };
        self.ask(Ask::Read { uid: sending.uid, offset: sending.offset, octets_max }, Purpose::Page(sending));
    }

    pub(super) fn page_answer(&mut self, mut sending: Box<Sending>, size_bytes: u64, page: &Bytes) {
        if sending.offset == 0 {
            let text =
                if sending.top { "top of the message follows".to_owned() } else { format!("{size_bytes} octets") };
            self.ok(&text);
        }
        sending.offset = sending.offset.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
        let enough = sending.stuffing.page(page, &mut self.out);
        if enough || sending.offset >= size_bytes {
            sending.stuffing.finish(&mut self.out);
            if !sending.top
                && let Some(open) = &mut self.maildrop
            {
                open.retrieved.insert(sending.uid);
            }
        } else if page.is_empty() {
            // The message is shorter than it was said to be. An end here would make the client believe it has it all.
            self.leave();
        } else {
            self.doing = Doing::Sending(sending);
        }
    }

    fn dele(&mut self, number: u32) {
        if let Some(uid) = self.message(number)
            && let Some(open) = &mut self.maildrop
        {
            open.deleted.insert(uid);
            self.ok(&format!("message {number} deleted"));
        }
    }

    fn rset(&mut self) {
        let Some(open) = &mut self.maildrop else { return };
        open.deleted = UidSet::new();
        let text = format!("{} messages ({} octets)", open.count(), open.octets());
        self.ok(&text);
    }

    fn quit(&mut self) {
        let Some(open) = self.maildrop.take() else { return };
        let seen = open.seen(&open.deleted);
        self.ask(Ask::Update { delete: open.deleted, seen }, Purpose::Quit);
    }

    //= rfc1939#section-6
    //# Whether the removal was successful or not, the server
    //# then releases any exclusive-access lock on the maildrop
    //# and closes the TCP connection.
    pub(super) fn quit_answer(&mut self, done: bool) {
        if done {
            self.ok("bye");
        } else {
            self.err("[SYS/TEMP] the deleted messages were not removed");
        }
        self.doing = Doing::Leaving;
    }
}
