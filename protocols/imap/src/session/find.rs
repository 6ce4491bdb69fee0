//! SEARCH RETURN (RFC 4731, RFC 9394), its saved result (RFC 5182), SORT and THREAD (RFC 5256, RFC 5267).

use rockdove_mail::{
    ModSeq, Uid, UidSet,
    search::{SearchKey, ThreadNode},
};

use super::{Doing, ImapSession, purpose::Purpose};
use crate::{
    ask::Ask,
    command::{FindForm, FindRequest, PartialRange, ReturnOptions},
    limits::NUMBERS_PIECE_MAX,
};

/// What is to be answered when the host has found.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// `None`: a plain SORT.
    returns: Option<ReturnOptions>,
    /// MODSEQ was among the keys.
    modseq_asked: bool,
}

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
}

enum Listed {
    /// Ranges with something between them.
    Numbers(Vec<(u32, u32)>, char),
    /// Threads, and the depths at which parentheses are open.
    Threads(Vec<ThreadNode>, Vec<u32>),
}

impl ReturnOptions {
    /// MIN, MAX or both, and nothing else but SAVE.
    const fn asks_ends_only(&self) -> bool {
        (self.min || self.max) && !self.all && !self.count && self.partial.is_none()
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

/// What is saved of a result (RFC 5182 section 2.4, RFC 9394 section 3.2).
fn saved(returns: &ReturnOptions, uids: &[Uid]) -> UidSet {
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
        let Some((key, within, modseq_asked)) = self.search_key(&request.key) else { return };
        let wanted = Wanted { returns, modseq_asked };
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
                self.list_numbers(&uids, ' ', tail);
            }
            //= rfc4731#section-3.2
            //# If the SEARCH/UID SEARCH command contained a single MIN or MAX result
            //# option, the MODSEQ result option contains the mod-sequence for the
            //# found message.
            Some(returns) if modseq.is_some() && returns.asks_ends_only() => {
                let within = saved(&returns, &uids);
                self.ask(Ask::Search { key: SearchKey::All, within }, Purpose::FindEnds(returns, uids));
            }
            Some(returns) => self.extended(&returns, &uids, modseq),
        }
    }

    /// The number that a message is told by.
    fn told_number(&self, uid: Uid) -> Option<u32> {
        if self.uid_command { Some(uid) } else { self.open()?.numbers.number(uid) }
    }

    fn list_numbers(&mut self, uids: &[Uid], between: char, tail: String) {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in uids.iter().filter_map(|uid| self.told_number(*uid)) {
            match ranges.last_mut() {
                // A set is read from its smaller end to its larger one, so a range keeps the order.
                Some((_, last)) if between == ',' && last.checked_add(1) == Some(number) => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        self.doing = Doing::Listing(Box::new(Listing { what: Listed::Numbers(ranges, between), at: 0, tail }));
    }

    /// The ESEARCH response (RFC 4731 section 3.1).
    pub(super) fn extended(&mut self, returns: &ReturnOptions, uids: &[Uid], modseq: Option<ModSeq>) {
        let only_saves = returns.save && !(returns.min || returns.max || returns.all || returns.count);
        if only_saves && returns.partial.is_none() {
            return self.complete("OK done");
        }
        let mut items = vec![format!("* ESEARCH (TAG \"{}\")", self.tag)];
        if self.uid_command {
            items.push("UID".to_owned());
        }
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
        self.list_numbers(listed, ',', tail);
    }

    pub(super) fn threads(&mut self, nodes: Vec<ThreadNode>) {
        self.out.text.extend_from_slice(b"* THREAD");
        if !nodes.is_empty() {
            self.out.text.push(b' ');
        }
        let what = Listed::Threads(nodes, Vec::new());
        self.doing = Doing::Listing(Box::new(Listing { what, at: 0, tail: String::new() }));
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
            self.out.line(&text);
            return self.complete("OK done");
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
