//! ESEARCH in several mailboxes (RFC 7377), one after another.

use std::collections::{BTreeSet, VecDeque};

use rockdove_mail::{HIERARCHY_DELIMITER, MailboxName, ModSeq, Rights, Uid, UidSet, UidValidity, search::SearchKey};

use super::{
    ImapSession,
    find::{Found, NOT_FUZZY, saved},
    purpose::Purpose,
    search::{Meaning, Wrong, asks_fuzzily, asks_modseq},
};
use crate::{
    ask::{Answer, Ask, Mailboxes, ObjectId, Refusal},
    command::{MailboxArg, MultiSearch, ReturnOptions, SearchProgram, SearchSource},
    grammar::write,
    numbers::Numbers,
};

/// A search that goes from mailbox to mailbox. What was found in one is told before the next is searched.
pub(super) struct Searching {
    sources: Vec<SearchSource>,
    returns: ReturnOptions,
    key: SearchProgram,
    /// Mailboxes that are still to be searched; the first is being searched.
    places: VecDeque<Place>,
}

/// Where to search.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In the selected mailbox as its client knows it.
    Selected,
    /// In the mailbox of this name.
    Named(MailboxName),
}

/// The mailbox that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    id: ObjectId,
    uid_validity: UidValidity,
}

impl Searching {
    pub(super) fn saves(&self) -> bool {
        self.returns.save
    }

    pub(super) fn done_with_first(&mut self) {
        self.places.pop_front();
    }

    /// Whether the mod-sequence to be told is that of the first or last message found (RFC 4731 section 3.2).
    fn asks_ends_modseq(&self) -> bool {
        asks_modseq(&self.key) && self.returns.asks_ends_only()
    }

    /// How relevant is what was found in the first of the mailboxes that are left?
    pub(super) fn ask_relevancy(&self, uids: &[Uid]) -> Ask {
        let mailbox = match self.places.front() {
            Some(Place::Named(mailbox)) => Some(mailbox.clone()),
            _ => None,
        };
        // What is fuzzy means the same in every mailbox, and the rest has nothing to do with it.
        let (numbers, none) = (Numbers::default(), UidSet::new());
        let meaning = Meaning { account: 0, numbers: &numbers, recent: &none, saved: &none, lenient: true };
        let key = meaning.of(&self.key).unwrap_or(SearchKey::All);
        Ask::Relevancy { mailbox, key, uids: uids.iter().copied().collect() }
    }

    fn is_for_selected_only(&self) -> bool {
        self.sources.iter().all(|source| *source == SearchSource::Selected)
    }
}

/// Whether one has to know which messages a mailbox has, to know what the search means there.
fn depends_on_mailbox(program: &SearchProgram) -> bool {
    program.any(&|key| {
        matches!(
            key,
            SearchProgram::Sequence(_) | SearchProgram::Uid(_) | SearchProgram::Recent | SearchProgram::EmailId(_)
        )
    })
}

fn asks_saved(program: &SearchProgram) -> bool {
    program.any(&|key| matches!(key, SearchProgram::Sequence(set) | SearchProgram::Uid(set) if set.is_saved()))
}

/// Whether a name is one of these, or at most so many levels below one.
pub(super) fn is_below(tops: &BTreeSet<&MailboxName>, levels: usize, name: &MailboxName) -> bool {
    let mut above = name.as_str();
    for _ in 0..=levels {
        if tops.iter().any(|top| top.as_str() == above) {
            return true;
        }
        let Some((parent, _)) = above.rsplit_once(HIERARCHY_DELIMITER) else { return false };
        above = parent;
    }
    false
}

/// How names are told apart.
struct Namespaces<'a> {
    mailboxes: &'a Mailboxes,
    others: [&'a str; 2],
}

impl Namespaces<'_> {
    //= rfc7377#section-2.2
    //# any mailboxes
    //# that are not explicitly named (accessed through "personal" or
    //# "subtree", for example) are required to have the "l" right.
    fn readable(&self) -> impl Iterator<Item = &MailboxName> {
        let needed = Rights::READ.union(Rights::LOOKUP);
        self.mailboxes.mailboxes.iter().filter(move |line| line.rights.contains(needed)).map(|line| &line.name)
    }

    fn is_personal(&self, name: &MailboxName) -> bool {
        let first = name.as_str().split(HIERARCHY_DELIMITER).next().unwrap_or_default();
        !self.others.contains(&first)
    }

    /// The mailboxes of a source, but for the selected one, which has no name.
    fn places(&self, source: &SearchSource) -> Vec<MailboxName> {
        // What cannot be the name of a mailbox is treated as what is not there.
        let named = |names: &[MailboxArg]| -> BTreeSet<MailboxName> {
            names.iter().filter_map(|name| name.as_ref().ok()).cloned().collect()
        };
        let below = |names: &[MailboxArg], levels: usize| {
            let tops = named(names);
            let tops = tops.iter().collect();
            self.readable().filter(|name| is_below(&tops, levels, name)).cloned().collect()
        };
        match source {
            SearchSource::Selected => Vec::new(),
            //= rfc5465#section-6.3
            //# If the IMAP server cannot easily compute this set, it MUST treat
            //# "inboxes" as equivalent to "personal".
            SearchSource::Inboxes | SearchSource::Personal => {
                self.readable().filter(|name| self.is_personal(name)).cloned().collect()
            }
            SearchSource::Subscribed => {
                let subscribed: BTreeSet<&MailboxName> = self.mailboxes.subscriptions.iter().collect();
                self.readable().filter(|name| subscribed.contains(name)).cloned().collect()
            }
            SearchSource::Subtree(names) => below(names, usize::MAX),
            SearchSource::SubtreeOne(names) => below(names, 1),
            SearchSource::Mailboxes(names) => named(names).into_iter().collect(),
        }
    }
}

impl ImapSession {
    pub(super) fn multi_search(&mut self, search: MultiSearch) {
        let MultiSearch { sources, returns, charset, key } = search;
        let mut searching = Box::new(Searching { sources, returns, key, places: VecDeque::new() });
        let only_selected = searching.is_for_selected_only();
        let is_open = self.open().is_some();
        //= rfc7377#section-2.2
        //# If the source options include (or default to) "selected", the IMAP
        //# session MUST be in "selected" state.
        if !is_open && (only_selected || searching.sources.contains(&SearchSource::Selected)) {
            return self.bad("select a mailbox first");
        }
        //= rfc7377#section-2.2
        //# If any source
        //# option other than "selected" is specified, the ESEARCH command MUST
        //# return a "BAD" result.
        if !only_selected && returns.save {
            return self.bad("only what is found in the selected mailbox can be saved");
        }
        if !only_selected && asks_saved(&searching.key) {
            return self.bad("what was saved is about the selected mailbox");
        }
        if returns.relevancy && !asks_fuzzily(&searching.key) {
            return self.bad(NOT_FUZZY);
        }
        if !self.is_charset_known(charset.as_deref()) {
            return self.forget_saved(returns.save);
        }
        if asks_modseq(&searching.key) {
            self.enable_condstore();
        }
        if only_selected {
            searching.places.push_back(Place::Selected);
            return self.search_next(searching);
        }
        self.ask(Ask::Mailboxes, Purpose::Sources(searching));
    }

    /// The mailboxes of the sources, each once.
    fn sources(&self, searching: &Searching, mailboxes: &Mailboxes) -> VecDeque<Place> {
        let namespaces = Namespaces { mailboxes, others: [self.config.other_users, self.config.public] };
        let selected = self.open().map(|open| &open.name);
        let (mut places, mut seen) = (VecDeque::new(), BTreeSet::new());
        for source in &searching.sources {
            let named = namespaces
                .places(source)
                .into_iter()
                .map(|name| if Some(&name) == selected { Place::Selected } else { Place::Named(name) });
            let own = (*source == SearchSource::Selected).then_some(Place::Selected);
            places.extend(own.into_iter().chain(named).filter(|place| seen.insert(place.clone())));
        }
        places
    }

    pub(super) fn pass_over(&mut self, mut searching: Box<Searching>) {
        searching.done_with_first();
        self.search_next(searching);
    }

    /// Searches the first of the mailboxes that are left.
    pub(super) fn search_next(&mut self, searching: Box<Searching>) {
        let Some(place) = searching.places.front() else { return self.complete("OK done") };
        let asked = match place {
            Place::Selected => self.open().map(|open| {
                let key = Meaning::selected(open, true).of(&searching.key)?;
                Ok((Ask::Search { key, within: open.numbers.uids().clone() }, true))
            }),
            Place::Named(mailbox) if depends_on_mailbox(&searching.key) => {
                Some(Ok((Ask::SearchIn { mailbox: mailbox.clone(), key: SearchKey::All, within: None }, true)))
            }
            Place::Named(mailbox) => {
                let none = UidSet::new();
                let meaning =
                    Meaning { account: 0, numbers: &Numbers::default(), recent: &none, saved: &none, lenient: true };
                let mailbox = mailbox.clone();
                Some(meaning.of(&searching.key).map(|key| (Ask::SearchIn { mailbox, key, within: None }, false)))
            }
        };
        let is_selected = *place == Place::Selected;
        match asked {
            None => self.pass_over(searching),
            Some(Err(wrong)) => self.bad(wrong),
            Some(Ok((ask, _))) if is_selected => self.ask(ask, Purpose::SearchSelected(searching)),
            Some(Ok((ask, true))) => self.ask(ask, Purpose::SearchLook(searching)),
            Some(Ok((ask, false))) => self.ask(ask, Purpose::SearchNamed(searching, None)),
        }
    }

    pub(super) fn multi_search_answered(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Sources(mut searching), Answer::Mailboxes(mailboxes)) => {
                searching.places = self.sources(&searching, &mailboxes);
                self.search_next(searching);
            }
            (Purpose::SearchSelected(searching), Answer::Found { uids, highest_modseq }) => {
                self.found_in_selected(searching, &uids, highest_modseq);
            }
            (Purpose::SelectedEnds(searching, uids), Answer::Found { highest_modseq, .. }) => {
                self.tell_selected(searching, &uids, highest_modseq);
            }
            (Purpose::SearchLook(searching), Answer::FoundIn { mailbox_id, uid_validity, recent_from, uids, .. }) => {
                self.looked(searching, Seen { id: mailbox_id, uid_validity }, recent_from, uids);
            }
            (
                Purpose::SearchNamed(searching, before),
                Answer::FoundIn { mailbox_id, uid_validity, uids, highest_modseq, .. },
            ) => {
                let seen = Seen { id: mailbox_id, uid_validity };
                if uids.is_empty() || before.is_some_and(|before| before != seen) {
                    return self.pass_over(searching);
                }
                let uids: Vec<Uid> = uids.iter().collect();
                if searching.asks_ends_modseq()
                    && let Some(Place::Named(mailbox)) = searching.places.front()
                {
                    let within = Some(saved(&searching.returns, &uids));
                    let ask = Ask::SearchIn { mailbox: mailbox.clone(), key: SearchKey::All, within };
                    return self.ask(ask, Purpose::NamedEnds(searching, seen, uids));
                }
                self.tell_named(searching, seen, &uids, highest_modseq);
            }
            (
                Purpose::NamedEnds(searching, before, uids),
                Answer::FoundIn { mailbox_id, uid_validity, highest_modseq, .. },
            ) => {
                if before != (Seen { id: mailbox_id, uid_validity }) {
                    return self.pass_over(searching);
                }
                self.tell_named(searching, before, &uids, highest_modseq);
            }
            (_, _) => self.complete(Refusal::TryLater.text(false)),
        }
    }

    /// Now it is known which messages the mailbox has.
    fn looked(&mut self, searching: Box<Searching>, seen: Seen, recent_from: Uid, uids: UidSet) {
        let Some(Place::Named(mailbox)) = searching.places.front() else { return self.search_next(searching) };
        let mailbox = mailbox.clone();
        let recent = uids.intersection(&UidSet::range(recent_from.max(1), Uid::MAX));
        let (numbers, none) = (Numbers::new(uids), UidSet::new());
        let meaning =
            Meaning { account: seen.id.account, numbers: &numbers, recent: &recent, saved: &none, lenient: true };
        let key: Result<SearchKey, Wrong> = meaning.of(&searching.key);
        match key {
            Ok(key) => {
                let within = Some(numbers.uids().clone());
                self.ask(Ask::SearchIn { mailbox, key, within }, Purpose::SearchNamed(searching, Some(seen)));
            }
            Err(wrong) => self.bad(wrong),
        }
    }

    fn found_in_selected(&mut self, searching: Box<Searching>, uids: &UidSet, modseq: ModSeq) {
        let Some(open) = self.open_mut() else { return self.pass_over(searching) };
        let uids: Vec<Uid> = uids.intersection(open.numbers.uids()).iter().collect();
        if searching.returns.save {
            open.saved = saved(&searching.returns, &uids);
        }
        if !uids.is_empty() && searching.asks_ends_modseq() {
            let within = saved(&searching.returns, &uids);
            let purpose = Purpose::SelectedEnds(searching, uids);
            return self.ask(Ask::Search { key: SearchKey::All, within }, purpose);
        }
        self.tell_selected(searching, &uids, modseq);
    }

    fn tell_selected(&mut self, searching: Box<Searching>, uids: &[Uid], modseq: ModSeq) {
        let open = self.open().map(|open| (open.name.clone(), open.uid_validity));
        let only_saves = searching.returns.only_saves();
        match open {
            Some((name, uid_validity)) if !uids.is_empty() && !only_saves => {
                self.tell_found(searching, (&name, uid_validity), uids, modseq);
            }
            _ => self.pass_over(searching),
        }
    }

    fn tell_named(&mut self, searching: Box<Searching>, seen: Seen, uids: &[Uid], modseq: ModSeq) {
        let Some(Place::Named(name)) = searching.places.front() else { return self.search_next(searching) };
        let name = name.clone();
        self.tell_found(searching, (&name, seen.uid_validity), uids, modseq);
    }

    fn tell_found(
        &mut self,
        searching: Box<Searching>,
        (name, uid_validity): (&MailboxName, UidValidity),
        uids: &[Uid],
        modseq: ModSeq,
    ) {
        let modseq = Some(modseq).filter(|modseq| *modseq > 0 && asks_modseq(&searching.key));
        let returns = searching.returns;
        let place = Some((searching, name.clone(), uid_validity));
        self.tell_result(Found { returns, uids: uids.to_vec(), modseq, key: None, place });
    }

    //= rfc7377#section-2.1
    //# Each ESEARCH response MUST contain the MAILBOX, TAG, and UIDVALIDITY
    //# correlators.
    /// `search-correlator = SP "(" one-correlator *(SP one-correlator) ")"`
    pub(super) fn write_correlator(&mut self, place: Option<(&MailboxName, UidValidity)>) {
        self.out.text.extend_from_slice(format!("* ESEARCH (TAG \"{}\"", self.tag).as_bytes());
        if let Some((name, uid_validity)) = place {
            self.out.text.extend_from_slice(b" MAILBOX ");
            let names = self.names();
            write::mailbox_name(&mut self.out.text, name.as_str(), names);
            self.out.text.extend_from_slice(format!(" UIDVALIDITY {uid_validity}").as_bytes());
        }
        self.out.text.push(b')');
        if self.uid_command {
            self.out.text.extend_from_slice(b" UID");
        }
    }
}
