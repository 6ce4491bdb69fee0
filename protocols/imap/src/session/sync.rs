//! Tells the client what has changed in the selected mailbox.

use std::sync::Arc;

use rockdove_mail::{Uid, UidSet};

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
    /// Messages whose EXPUNGE responses are to be written.
    gone: UidSet,
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
        open.known_modseq = changes.known_modseq;
        open.highest_modseq = changes.highest_modseq;
        if !changes.vanished.is_empty() {
            open.vanished = open.vanished.union(&changes.vanished.intersection(open.numbers.uids()));
        }
        // EXPUNGE responses are written from the end on: so the numbers of those that follow are still right.
        let gone = if numbers_stay { UidSet::new() } else { std::mem::take(&mut open.vanished) };
        let rest = open.numbers.uids().difference(&gone);
        let telling = Telling { changes, gone, after };
        if telling.gone.is_empty() {
            return self.tell_rest(telling, rest);
        }
        self.doing = Doing::Telling(Box::new(telling));
    }

    /// Writes a piece of the EXPUNGE responses, and after the last one the other news.
    pub(super) fn tell(&mut self, mut telling: Box<Telling>) {
        let Some(numbers) = self.open().map(|open| Arc::clone(&open.numbers)) else { return };
        let piece: Vec<Uid> = telling.gone.iter().rev().take(NUMBERS_PIECE_MAX).collect();
        for number in piece.iter().filter_map(|uid| numbers.number(*uid)) {
            self.untagged(&format!("{number} EXPUNGE"));
        }
        let told = UidSet::range(piece.last().copied().unwrap_or_default(), Uid::MAX);
        let rest = numbers.uids().difference(&telling.gone.intersection(&told));
        telling.gone = telling.gone.difference(&told);
        if telling.gone.is_empty() {
            return self.tell_rest(*telling, rest);
        }
        self.renumber(rest);
        self.doing = Doing::Telling(telling);
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
        let Some(open) = self.open_mut() else { return self.go_on(after) };
        let arrived = changes.arrived.difference(&known);
        let recent_before = open.recent.len();
        let newly_recent = arrived.intersection(&UidSet::range(changes.recent_from.max(1), Uid::MAX));
        let recent = open.recent.intersection(&known).union(&newly_recent);
        if recent != *open.recent {
            open.recent = Arc::new(recent);
        }
        let recent = open.recent.len();
        let changed = changes.changed.intersection(&known).difference(&open.vanished);
        if arrived.is_empty() {
            self.renumber(known);
        } else {
            self.renumber(known.union(&arrived));
            let exists = self.open().map_or(0, |open| open.numbers.exists());
            self.untagged(&format!("{exists} EXISTS"));
        }
        if !arrived.is_empty() || recent != recent_before {
            self.untagged(&format!("{recent} RECENT"));
        }
        if let Some(keywords) = changes.keywords {
            self.tell_keywords(&keywords);
        }
        if changed.is_empty() {
            return self.go_on(after);
        }
        let request = self.flags_request(true);
        self.doing = Doing::Fetching(Box::new(Fetching::new(changed, request, after)));
    }

    /// There are keywords that the client does not know.
    pub(super) fn tell_keywords(&mut self, keywords: &[rockdove_mail::Keyword]) {
        let Some(open) = self.open_mut() else { return };
        open.keywords_known = keywords.len();
        let read_only = open.read_only;
        self.write_flags(keywords, read_only, |_| {});
    }

    /// What is told of messages that have changed.
    pub(super) fn flags_request(&self, flags: bool) -> FetchRequest {
        let mut items = Vec::new();
        //= rfc3501#section-6.4.8
        //# However, server implementations MUST implicitly include
        //# the UID message data item as part of any FETCH response
        //# caused by a UID command, regardless of whether a UID was
        //# specified as a message data item to the FETCH.
        if self.uid_command {
            items.push(FetchItem::Uid);
        }
        if flags {
            items.push(FetchItem::Flags);
        }
        if self.condstore {
            items.push(FetchItem::ModSeq);
        }
        FetchRequest { items }
    }
}
