//! Tells the client what has changed in the selected mailbox.

use std::sync::Arc;

use rockdove_mail::{Keyword, Uid, UidSet};

use super::{
    Doing, ImapSession,
    fetch::Fetching,
    purpose::{After, Purpose},
};
use crate::{
    ask::{Ask, Changes},
    fetch::{FetchItem, FetchRequest},
    limits::NUMBERS_PIECE_MAX,
    numbers::Numbers,
};

/// Changes that are being told.
pub(super) struct Telling {
    changes: Changes,
    /// Messages whose EXPUNGE responses are to be written, from the end on: so the numbers of those that follow are
    /// right, though the others have gone.
    gone: UidSet,
    /// The responses of messages above this one are written; `None`: all are.
    next: Option<Uid>,
    after: After,
}

impl ImapSession {
    /// Tells what has changed, if a mailbox is selected; then goes on.
    pub(super) fn sync(&mut self, after: After) {
        let Some(open) = self.open_mut() else { return self.go_on(after) };
        let ask = Ask::Sync {
            since: open.known_modseq,
            own: std::mem::take(&mut open.own),
            keywords_known: open.keywords_known,
            claim_recent: !open.read_only,
        };
        self.ask(ask, Purpose::Sync(after));
    }

    /// The changes have come.
    pub(super) fn changes(&mut self, changes: Changes, after: After) {
        let numbers_stay = self.numbers_stay;
        let Some(open) = self.open_mut() else { return self.go_on(after) };
        if open.vanished.is_empty() {
            open.told_modseq = open.known_modseq;
        }
        open.known_modseq = changes.known_modseq;
        open.highest_modseq = changes.highest_modseq;
        if !changes.vanished.is_empty() {
            open.vanished = open.vanished.union(&changes.vanished.intersection(open.numbers.uids()));
        }
        let gone = if numbers_stay { UidSet::new() } else { std::mem::take(&mut open.vanished) };
        self.doing = Doing::Telling(Box::new(Telling { changes, gone, next: Some(Uid::MAX), after }));
    }

    /// Writes a piece of the EXPUNGE responses, and after the last one the other news.
    pub(super) fn tell(&mut self, mut telling: Box<Telling>) {
        let Some(numbers) = self.open().map(|open| Arc::clone(&open.numbers)) else { return };
        if self.qresync {
            let first = if telling.next == Some(Uid::MAX) { 0 } else { telling.next.unwrap_or_default() };
            telling.next = self.write_vanished("VANISHED ", &telling.gone, first);
            return self.told_some(telling, &numbers);
        }
        let first = telling.next.take().unwrap_or_default();
        for (written, uid) in backwards(&telling.gone, first).enumerate() {
            if written >= NUMBERS_PIECE_MAX {
                telling.next = Some(uid);
                break;
            }
            if let Some(number) = numbers.number(uid) {
                self.untagged(&format!("{number} EXPUNGE"));
            }
        }
        self.told_some(telling, &numbers);
    }

    fn told_some(&mut self, telling: Box<Telling>, numbers: &Numbers) {
        if telling.next.is_some() {
            self.doing = Doing::Telling(telling);
            return;
        }
        let rest = numbers.uids().difference(&telling.gone);
        self.tell_rest(*telling, rest);
    }

    fn renumber(&mut self, uids: UidSet) {
        if let Some(open) = self.open_mut()
            && uids != *open.numbers.uids()
        {
            open.numbers = Arc::new(Numbers::new(uids));
        }
    }

    /// Everything but EXPUNGE; `known` are the messages that were there before and still are.
    fn tell_rest(&mut self, telling: Telling, known: UidSet) {
        let Telling { changes, after, .. } = telling;
        let rev2 = self.rev2;
        let Some(open) = self.open_mut() else { return self.go_on(after) };
        let arrived = changes.arrived.difference(&known);
        let recent_before = open.recent.len();
        let newly_recent = if rev2 {
            UidSet::new()
        } else {
            arrived.intersection(&UidSet::range(changes.recent_from.max(1), Uid::MAX))
        };
        let recent = open.recent.intersection(&known).union(&newly_recent);
        if recent != *open.recent {
            open.recent = Arc::new(recent);
        }
        let recent = open.recent.len();
        let changed = changes.changed.intersection(&known).difference(&open.vanished);
        let fresh = arrived.difference(&std::mem::take(&mut open.own_arrived));
        if arrived.is_empty() {
            self.renumber(known);
        } else {
            self.renumber(known.union(&arrived));
            let exists = self.open().map_or(0, |open| open.numbers.exists());
            self.untagged(&format!("{exists} EXISTS"));
        }
        if !rev2 && (!arrived.is_empty() || recent != recent_before) {
            self.untagged(&format!("{recent} RECENT"));
        }
        if let Some(keywords) = changes.keywords {
            self.tell_keywords(&keywords);
        }
        let changed = if self.tells_flags() { changed } else { UidSet::new() };
        //= rfc5465#section-5.2
        //# If the new/appended message is in the selected mailbox, the server
        //# notifies the client by sending an unsolicited EXISTS response,
        //# followed by an unsolicited FETCH response containing the information
        //# requested by the client.
        match self.news_request().filter(|_| !fresh.is_empty()) {
            Some(request) => {
                let after = After::Flags(changed, Box::new(after));
                self.doing = Doing::Fetching(Box::new(Fetching::new(fresh, request, after)));
            }
            None => self.tell_changed(changed, after),
        }
    }

    /// Tells the flags of these messages, if there are any.
    pub(super) fn tell_changed(&mut self, changed: UidSet, after: After) {
        if changed.is_empty() {
            return self.go_on(after);
        }
        let request = self.flags_request(true);
        self.doing = Doing::Fetching(Box::new(Fetching::new(changed, request, after)));
    }

    /// There are keywords that the client does not know.
    pub(super) fn tell_keywords(&mut self, keywords: &[Keyword]) {
        if let Some(open) = self.open_mut() {
            open.keywords_known = keywords.len();
        }
        self.write_flags(keywords);
        self.write_permanent_flags(keywords);
    }

    /// What is told of messages that have changed.
    pub(super) fn flags_request(&self, flags: bool) -> FetchRequest {
        let mut items = Vec::new();
        //= rfc3501#section-6.4.8
        //# However, server implementations MUST implicitly include
        //# the UID message data item as part of any FETCH response
        //# caused by a UID command, regardless of whether a UID was
        //# specified as a message data item to the FETCH.
        //= rfc7162#section-3.2.4
        //# Once a CONDSTORE enabling command is issued by the client, the server
        //# MUST automatically include both UID and mod-sequence data in all
        //# subsequent untagged FETCH responses
        //= rfc9051#section-7.5.2
        //# If the server chooses to send unsolicited FETCH responses, they MUST
        //# include UID FETCH item.
        //= rfc5465#section-5.1
        //# the server MUST notify the client by sending an unsolicited
        //# FETCH response, which MUST include UID and FLAGS/ANNOTATION FETCH
        //# data items.
        if self.uid_command || self.condstore || self.rev2 || self.notify.is_some() {
            items.push(FetchItem::Uid);
        }
        if flags {
            items.push(FetchItem::Flags);
        }
        if self.condstore {
            items.push(FetchItem::ModSeq);
        }
        FetchRequest { items, news: None }
    }
}

/// The messages of a set from `first` on backwards.
fn backwards(uids: &UidSet, first: Uid) -> impl Iterator<Item = Uid> + '_ {
    let reached = uids.ranges().partition_point(|range| range.0 <= first);
    let ranges = uids.ranges().get(..reached).unwrap_or_default();
    ranges.iter().rev().flat_map(move |range| (range.0..=range.1.min(first)).rev())
}
