//! FETCH, and the pages of FETCH responses whatever they are for.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_mail::{FlagUpdate, Flags, ModSeq, Rights, SystemFlags, UidSet, search::SearchKey};

use super::{
    Doing, ImapSession,
    purpose::{After, Purpose},
};
use crate::{
    ask::Ask,
    command::{PartialRange, SequenceSet},
    fetch::{FetchCursor, FetchItem, FetchNews, FetchRequest},
};

/// FETCH responses on their way.
pub(super) struct Fetching {
    uids: Arc<UidSet>,
    request: Arc<FetchRequest>,
    pub(super) changed_since: Option<ModSeq>,
    cursor: FetchCursor,
    /// Some messages were gone.
    missing: bool,
    /// Some could not be decoded.
    unknown_cte: bool,
    pub(super) after: After,
}

impl Fetching {
    pub(super) fn new(uids: UidSet, request: FetchRequest, after: After) -> Self {
        Self {
            uids: Arc::new(uids),
            request: Arc::new(request),
            changed_since: None,
            cursor: FetchCursor::default(),
            missing: false,
            unknown_cte: false,
            after,
        }
    }

    /// Whether the client has half a response.
    pub(super) fn is_inside_message(&self) -> bool {
        self.cursor.is_inside_message()
    }

    /// What was left out of a page.
    pub(super) fn note(&mut self, missing: bool, unknown_cte: bool) {
        self.missing |= missing;
        self.unknown_cte |= unknown_cte;
    }
}

impl ImapSession {
    /// The messages that a command names; otherwise the client is told.
    pub(super) fn messages(&mut self, set: &SequenceSet) -> Option<UidSet> {
        let found = self.open()?.messages(self.uid_command, set);
        if found.is_err() {
            self.bad("there is no message of that number");
        }
        found.ok()
    }

    pub(super) fn fetch(
        &mut self,
        set: &SequenceSet,
        mut request: FetchRequest,
        (changed_since, vanished): (Option<ModSeq>, bool),
        partial: Option<PartialRange>,
    ) {
        if vanished && !self.qresync {
            return self.bad("enable QRESYNC first");
        }
        let Some(mut uids) = self.messages(set) else { return };
        if let Some(range) = partial {
            uids = range.of_set(&uids);
        }
        if changed_since.is_some() || request.items.contains(&FetchItem::ModSeq) {
            self.enable_condstore();
        }
        if self.condstore && request.items.contains(&FetchItem::Flags) && !request.items.contains(&FetchItem::ModSeq) {
            request.items.push(FetchItem::ModSeq);
        }
        let mut fetching = Box::new(Fetching::new(uids, request, After::Fetched));
        fetching.changed_since = changed_since;
        match self.open() {
            Some(open) if vanished => {
                let within = set.uid_set(open.numbers.uids().last());
                self.ask_vanished(within, fetching);
            }
            _ => self.begin_fetch(fetching),
        }
    }

    pub(super) fn begin_fetch(&mut self, fetching: Box<Fetching>) {
        if fetching.uids.is_empty() {
            return self.go_on(fetching.after);
        }
        let may = self.open().is_some_and(|open| !open.read_only && open.rights.contains(Rights::SEEN));
        let sets_seen = fetching.request.sets_seen() && may;
        match fetching.changed_since {
            // Marking a message as seen changes it; what has changed before must be known first.
            Some(modseq) if sets_seen => {
                let key = SearchKey::ModSeq(modseq.saturating_add(1));
                let within = UidSet::clone(&fetching.uids);
                self.ask(Ask::Search { key, within }, Purpose::FetchChanged(fetching));
            }
            None if sets_seen => self.ask_seen(fetching),
            _ => self.doing = Doing::Fetching(fetching),
        }
    }

    pub(super) fn fetch_changed(&mut self, mut fetching: Box<Fetching>, uids: UidSet) {
        if uids.is_empty() {
            return self.complete("OK done");
        }
        fetching.changed_since = None;
        fetching.uids = Arc::new(uids);
        self.ask_seen(fetching);
    }

    fn ask_seen(&mut self, fetching: Box<Fetching>) {
        let ask = Ask::Store {
            uids: UidSet::clone(&fetching.uids),
            update: FlagUpdate::Add,
            flags: Flags::system(SystemFlags::SEEN),
            unchanged_since: None,
        };
        self.ask(ask, Purpose::FetchSeen(fetching));
    }

    //= rfc3501#section-6.4.5
    //# The \Seen flag is implicitly set; if this causes the flags to
    //# change, they SHOULD be included as part of the FETCH responses.
    pub(super) fn fetch_seen(&mut self, mut fetching: Box<Fetching>, changed: &UidSet, modseq: ModSeq) {
        if !changed.is_empty() {
            if let Some(open) = self.open_mut() {
                open.own.push(modseq);
            }
            let mut items = self.flags_request(true).items;
            items.retain(|item| !fetching.request.items.contains(item));
            let news = FetchNews { uids: changed.clone(), items };
            Arc::make_mut(&mut fetching.request).news = Some(news);
        }
        self.doing = Doing::Fetching(fetching);
    }

    /// Asks for the next page. The one before has been sent by now, so only one is ever held.
    pub(super) fn ask_page(&mut self, fetching: Box<Fetching>) {
        let Some(open) = self.open() else { return };
        let ask = Ask::Fetch {
            uids: Arc::clone(&fetching.uids),
            request: Arc::clone(&fetching.request),
            numbers: Arc::clone(&open.numbers),
            recent: Arc::clone(&open.recent),
            changed_since: fetching.changed_since,
            cursor: fetching.cursor,
        };
        self.ask(ask, Purpose::Page(fetching));
    }

    pub(super) fn page(&mut self, mut fetching: Box<Fetching>, octets: Vec<Bytes>, next: Option<FetchCursor>) {
        for piece in octets {
            self.out.piece(piece);
        }
        if let Some(cursor) = next {
            fetching.cursor = cursor;
            self.doing = Doing::Fetching(fetching);
            return;
        }
        match fetching.after {
            // Whether they are gone or cannot be read is known when the changes are.
            After::Fetched if fetching.unknown_cte => self.go_on(After::UnknownCte),
            After::Fetched if fetching.missing => self.sync(After::Missing(fetching.uids)),
            after => self.go_on(after),
        }
    }

    /// The end of a FETCH that could not show all of its messages; the changes are told.
    pub(super) fn fetch_missing(&mut self, uids: &UidSet) {
        let Some(open) = self.open() else { return };
        let gone = !uids.intersection(&open.vanished).is_empty() || !uids.difference(open.numbers.uids()).is_empty();
        self.tagged_after_news(match (gone, self.uid_command) {
            (true, false) => "NO [EXPUNGEISSUED] some of the messages have been expunged",
            // A UID that is not there is no error.
            (true, true) => "OK done",
            (false, _) => "NO [CORRUPTION] some of the messages cannot be read",
        });
    }
}
