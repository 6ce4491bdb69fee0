//! SEARCH RETURN (RFC 4731, RFC 9394), its saved result (RFC 5182), SORT and THREAD (RFC 5256, RFC 5267).

use rockdove_mail::{
    MailboxName, ModSeq, Uid, UidSet, UidValidity,
    search::{SearchKey, SortKey, ThreadNode},
};

use super::{Doing, ImapSession, multisearch::Searching, purpose::Purpose, search::asks_fuzzily};
use crate::{
    ask::Ask,
    command::{FindForm, FindRequest, PartialRange, ReturnOptions},
    limits::NUMBERS_PIECE_MAX,
};

/// What is to be answered when the host has found.
pub(super) struct Wanted {
    /// `None`: a plain SORT.
    returns: Option<ReturnOptions>,
    /// MODSEQ was among the keys.
    modseq_asked: bool,
    /// What RELEVANCY is about, where it is asked for.
    fuzzy: Option<Box<SearchKey>>,
}

/// What was found and is to be told by an ESEARCH response.
pub(super) struct Found {
    pub(super) returns: ReturnOptions,
    /// In order; not empty where relevancy is to be told.
    pub(super) uids: Vec<Uid>,
    pub(super) modseq: Option<ModSeq>,
    /// By what, in the selected mailbox, when relevancy is asked for.
    pub(super) key: Option<Box<SearchKey>>,
    /// ESEARCH of several mailboxes: what is still to be searched, the first being this one, and which this one is.
    pub(super) place: Option<(Box<Searching>, MailboxName, UidValidity)>,
}

/// RFC 6203 section 4.
pub(super) const NOT_FUZZY: &str = "RELEVANCY is of a FUZZY search";

impl Wanted {
    /// The result is to be saved.
    pub(super) fn saves(&self) -> bool {
        self.returns.is_some_and(|returns| returns.save)
    }
}

/// A long line on its way: numbers or threads.
pub(super) struct Listing {
    what: Listed,
    /// How much of it is written.
    at: usize,
    /// What ends the line.
    tail: String,
    /// Scores that follow.
    scores: Vec<u8>,
    /// Mailboxes that are still to be searched; `None`: the command ends with the line.
    next: Option<Box<Searching>>,
}

enum Listed {
    /// Ranges with something between them.
    Numbers(Vec<(u32, u32)>, char),
    /// Scores of what was listed before.
    Scores(Vec<u8>),
    /// Threads, and the depths at which parentheses are open.
    Threads(Vec<ThreadNode>, Vec<u32>),
}

impl ReturnOptions {
    /// MIN, MAX or both, and nothing else but SAVE.
    pub(super) const fn asks_ends_only(&self) -> bool {
        (self.min || self.max) && !self.all && !self.count && !self.relevancy && self.partial.is_none()
    }

    /// SAVE and nothing else: then nothing is told.
    pub(super) const fn only_saves(&self) -> bool {
        self.save && !(self.min || self.max || self.all || self.count || self.relevancy) && self.partial.is_none()
    }
}

impl PartialRange {
    /// The results in this range.
    fn of<'u>(&self, uids: &'u [Uid]) -> &'u [Uid] {
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX).min(uids.len());
        let (low, high) = (self.first.min(self.last), self.first.max(self.last));
        let (before, until) = (place(low.saturating_sub(1)), place(high));
        let (from, to) = if self.from_end {
            (uids.len().saturating_sub(until), uids.len().saturating_sub(before))
        } else {
            (before, until)
        };
        uids.get(from..to).unwrap_or_default()
    }

    /// The messages in this range of a set.
    pub(super) fn of_set(&self, uids: &UidSet) -> UidSet {
        let all: Vec<Uid> = uids.iter().collect();
        self.of(&all).iter().copied().collect()
    }

    fn text(&self) -> String {
        let sign = if self.from_end { "-" } else { "" };
        format!("{sign}{}:{sign}{}", self.first, self.last)
    }
}

/// A set of UIDs that come in any order: added in ascending order they are quickly one.
fn in_any_order(uids: &[Uid]) -> UidSet {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    uids.into_iter().collect()
}

/// What is saved of a result (RFC 5182 section 2.4, RFC 9394 section 3.2).
pub(super) fn saved(returns: &ReturnOptions, uids: &[Uid]) -> UidSet {
    if returns.all || returns.count || !(returns.min || returns.max || returns.partial.is_some()) {
        return uids.iter().copied().collect();
    }
    let partial = returns.partial.map(|range| range.of(uids)).unwrap_or_default();
    let first = uids.first().filter(|_| returns.min);
    let last = uids.last().filter(|_| returns.max);
    partial.iter().chain(first).chain(last).copied().collect()
}

impl ImapSession {
    pub(super) fn find(&mut self, request: FindRequest) {
        let returns = match &request.form {
            FindForm::Extended(returns) | FindForm::ExtendedSort(_, returns) => Some(*returns),
            _ => None,
        };
        if matches!(request.form, FindForm::Extended(_)) && self.refuse_charset(request.charset.as_deref()) {
            return;
        }
        if !self.is_charset_known(request.charset.as_deref()) {
            return self.forget_saved(returns.is_some_and(|returns| returns.save));
        }
        let by_relevancy = match &request.form {
            FindForm::Sort(criteria) | FindForm::ExtendedSort(criteria, _) => {
                criteria.iter().any(|criterion| criterion.key == SortKey::Relevancy)
            }
            _ => false,
        };
        let relevancy = returns.is_some_and(|returns| returns.relevancy);
        if (by_relevancy || relevancy) && !asks_fuzzily(&request.key) {
            return self.bad(NOT_FUZZY);
        }
        let Some((key, within, modseq_asked)) = self.search_key(&request.key) else { return };
        let wanted = Wanted { returns, modseq_asked, fuzzy: relevancy.then(|| Box::new(key.clone())) };
        match request.form {
            FindForm::Extended(_) => self.ask(Ask::Search { key, within }, Purpose::Find(wanted)),
            FindForm::Sort(criteria) | FindForm::ExtendedSort(criteria, _) => {
                self.ask(Ask::Sort { key, within, criteria }, Purpose::Find(wanted));
            }
            FindForm::Thread(algorithm) => self.ask(Ask::Thread { key, within, algorithm }, Purpose::Thread),
        }
    }

    //= rfc5182#section-2.1
    //# A SEARCH command with the SAVE result option that caused the server
    //# to return the NO tagged response sets the value of the search result
    //# variable to the empty sequence.
    pub(super) fn forget_saved(&mut self, saves: bool) {
        if let Some(open) = self.open_mut().filter(|_| saves) {
            open.saved = UidSet::new();
        }
    }

    /// The host has found these, in this order.
    pub(super) fn found_in_order(&mut self, wanted: Wanted, mut uids: Vec<Uid>, modseq: ModSeq) {
        let Some(open) = self.open_mut() else { return };
        uids.retain(|uid| open.numbers.uids().contains(*uid));
        if let Some(returns) = wanted.returns.filter(|returns| returns.save) {
            open.saved = saved(&returns, &uids);
        }
        let modseq = Some(modseq).filter(|modseq| wanted.modseq_asked && *modseq > 0 && !uids.is_empty());
        match wanted.returns {
            None => {
                self.out.text.extend_from_slice(b"* SORT");
                if !uids.is_empty() {
                    self.out.text.push(b' ');
                }
                let tail = modseq.map(|modseq| format!(" (MODSEQ {modseq})")).unwrap_or_default();
                self.list_numbers(&uids, ' ', (tail, Vec::new()), None);
            }
            //= rfc4731#section-3.2
            //# If the SEARCH/UID SEARCH command contained a single MIN or MAX result
            //# option, the MODSEQ result option contains the mod-sequence for the
            //# found message.
            Some(returns) if modseq.is_some() && returns.asks_ends_only() => {
                let within = saved(&returns, &uids);
                self.ask(Ask::Search { key: SearchKey::All, within }, Purpose::FindEnds(wanted, uids));
            }
            Some(returns) => self.extended(returns, uids, modseq, wanted.fuzzy),
        }
    }

    /// The number that a message is told by.
    fn told_number(&self, uid: Uid) -> Option<u32> {
        if self.uid_command { Some(uid) } else { self.open()?.numbers.number(uid) }
    }

    fn list_numbers(
        &mut self,
        uids: &[Uid],
        between: char,
        (tail, scores): (String, Vec<u8>),
        next: Option<Box<Searching>>,
    ) {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in uids.iter().filter_map(|uid| self.told_number(*uid)) {
            match ranges.last_mut() {
                // A set is read from its smaller end to its larger one, so a range keeps the order.
                Some((_, last)) if between == ',' && last.checked_add(1) == Some(number) => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        self.doing =
            Doing::Listing(Box::new(Listing { what: Listed::Numbers(ranges, between), at: 0, tail, scores, next }));
    }

    /// The ESEARCH response (RFC 4731 section 3.1).
    pub(super) fn extended(
        &mut self,
        returns: ReturnOptions,
        uids: Vec<Uid>,
        modseq: Option<ModSeq>,
        key: Option<Box<SearchKey>>,
    ) {
        if returns.only_saves() {
            return self.complete("OK done");
        }
        self.tell_result(Found { returns, uids, modseq, key, place: None });
    }

    /// The mod-sequence of the ends of what was found has come.
    pub(super) fn ends_found(&mut self, wanted: Wanted, uids: Vec<Uid>, modseq: ModSeq) {
        if let Some(returns) = wanted.returns {
            self.extended(returns, uids, Some(modseq).filter(|modseq| *modseq > 0), wanted.fuzzy);
        }
    }

    /// Tells what was found, once it is known how relevant it is.
    pub(super) fn tell_result(&mut self, mut found: Found) {
        if !found.returns.relevancy || found.uids.is_empty() {
            return self.result(found, &[]);
        }
        match (found.place.take(), found.key.take()) {
            (Some((searching, name, uid_validity)), _) => {
                let asked = searching.ask_relevancy(&found.uids);
                found.place = Some((searching, name, uid_validity));
                self.ask(asked, Purpose::Relevancy(Box::new(found)));
            }
            (None, Some(key)) => {
                let uids = in_any_order(&found.uids);
                self.ask(Ask::Relevancy { mailbox: None, key: *key, uids }, Purpose::Relevancy(Box::new(found)));
            }
            (None, None) => self.result(found, &[]),
        }
    }

    /// Writes the response up to the end of its line; then comes the next mailbox or the end of the command. `scores`
    /// ascend by UID.
    pub(super) fn result(&mut self, found: Found, scores: &[(Uid, u8)]) {
        let Found { returns, uids, modseq, place, .. } = found;
        self.write_correlator(place.as_ref().map(|(_, name, uid_validity)| (name, *uid_validity)));
        let next = place.map(|(mut searching, ..)| {
            searching.done_with_first();
            searching
        });
        let uids = &uids[..];
        let mut items = vec![String::new()];
        let ends = [("MIN", uids.first().filter(|_| returns.min)), ("MAX", uids.last().filter(|_| returns.max))];
        for (name, uid) in ends {
            let number = uid.and_then(|uid| self.told_number(*uid));
            items.extend(number.map(|number| format!("{name} {number}")));
        }
        if returns.count {
            items.push(format!("COUNT {}", uids.len()));
        }
        let mut tail = modseq.map(|modseq| format!(" MODSEQ {modseq}")).unwrap_or_default();
        let mut listed: &[Uid] = &[];
        if let Some(range) = returns.partial {
            listed = range.of(uids);
            items.push(format!("PARTIAL ({} {}", range.text(), if listed.is_empty() { "NIL" } else { "" }));
            tail.insert(0, ')');
        } else if returns.all && !uids.is_empty() {
            items.push("ALL ".to_owned());
            listed = uids;
        }
        self.out.text.extend_from_slice(items.join(" ").as_bytes());
        let scored = if returns.partial.is_some() { listed } else { uids };
        let score = |uid: &Uid| {
            let place = scores.binary_search_by_key(uid, |(uid, _)| *uid).ok();
            place.and_then(|place| scores.get(place)).map_or(1, |(_, score)| *score)
        };
        let scores = if scores.is_empty() { Vec::new() } else { scored.iter().map(score).collect() };
        self.list_numbers(listed, ',', (tail, scores), next);
    }

    pub(super) fn threads(&mut self, nodes: Vec<ThreadNode>) {
        self.out.text.extend_from_slice(b"* THREAD");
        if !nodes.is_empty() {
            self.out.text.push(b' ');
        }
        let what = Listed::Threads(nodes, Vec::new());
        self.doing =
            Doing::Listing(Box::new(Listing { what, at: 0, tail: String::new(), scores: Vec::new(), next: None }));
    }

    /// Writes a piece of the line: it can be longer than what is sent at a time.
    pub(super) fn write_listing(&mut self, mut listing: Box<Listing>) {
        let mut text = String::new();
        let until = listing.at.saturating_add(NUMBERS_PIECE_MAX);
        let count = match &mut listing.what {
            Listed::Numbers(ranges, between) => {
                for (at, (first, last)) in ranges.iter().enumerate().take(until).skip(listing.at) {
                    if at > 0 {
                        text.push(*between);
                    }
                    text.push_str(&first.to_string());
                    if first != last {
                        text.push(':');
                        text.push_str(&last.to_string());
                    }
                }
                ranges.len()
            }
            Listed::Scores(scores) => {
                for (at, score) in scores.iter().enumerate().take(until).skip(listing.at) {
                    text.push_str(if at > 0 { " " } else { "" });
                    text.push_str(&score.to_string());
                }
                scores.len()
            }
            Listed::Threads(nodes, open) => {
                for at in listing.at..until.min(nodes.len()) {
                    self.write_node(&mut text, nodes, at, open);
                }
                nodes.len()
            }
        };
        listing.at = until;
        if until >= count {
            if let Listed::Threads(_, open) = &listing.what {
                text.push_str(&")".repeat(open.len()));
            }
            text.push_str(&listing.tail);
            if !listing.scores.is_empty() {
                text.push_str(" RELEVANCY (");
                self.out.text.extend_from_slice(text.as_bytes());
                let what = Listed::Scores(std::mem::take(&mut listing.scores));
                *listing = Listing { what, at: 0, tail: ")".to_owned(), ..*listing };
                self.doing = Doing::Listing(listing);
                return;
            }
            self.out.line(&text);
            return match listing.next {
                Some(searching) => self.search_next(searching),
                None => self.complete("OK done"),
            };
        }
        self.out.text.extend_from_slice(text.as_bytes());
        self.doing = Doing::Listing(listing);
    }

    /// `thread-list = "(" (thread-members / thread-nested) ")"`; `thread-members = nz-number *(SP nz-number) [SP
    /// thread-nested]`; `thread-nested = 2*thread-list`
    fn write_node(&self, text: &mut String, nodes: &[ThreadNode], at: usize, open: &mut Vec<u32>) {
        let Some(node) = nodes.get(at) else { return };
        while open.last().is_some_and(|depth| *depth >= node.depth) {
            open.pop();
            text.push(')');
        }
        let parent = at.checked_sub(1).and_then(|before| nodes.get(before)).filter(|before| before.depth < node.depth);
        if parent.is_some_and(|parent| parent.uid.is_some()) {
            text.push(' ');
        }
        if node.depth == 0 || !node.only_child {
            text.push('(');
            open.push(node.depth);
        }
        if let Some(number) = node.uid.and_then(|uid| self.told_number(uid)) {
            text.push_str(&number.to_string());
        }
    }
}
