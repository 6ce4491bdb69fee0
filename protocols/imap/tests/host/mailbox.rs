//! Mailboxes of the test host: small, but honest about UIDs, mod-sequences and what another client sees.

use std::{cmp::Ordering, collections::BTreeMap, ops::Range};

use bytes::Bytes;
use rockdove_imap::{
    ObjectId,
    fetch::{FetchFailure, MessageFacts, MessageSource, SectionText},
    grammar::write,
};
use rockdove_mail::{
    Flags, Keyword, ModSeq, SystemFlags, Uid, UidSet, UidValidity,
    mime::Encoding,
    search::{DateField, Day, SearchField, SearchKey, SortCriterion, SortKey},
};

/// 2026-11-25 08:00:00 UTC, the internal date of the first message; each one after it is a day younger.
pub(crate) const FIRST_DATE_S: i64 = 1_795_593_600;

const DAY_S: i64 = 86_400;

#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) facts: MessageFacts,
    pub(crate) text: Bytes,
}

#[derive(Clone, Default)]
pub(crate) struct Mailbox {
    pub(crate) messages: BTreeMap<Uid, Message>,
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: Uid,
    pub(crate) highest_modseq: ModSeq,
    pub(crate) keywords: Vec<Keyword>,
    /// Messages from here on have been claimed as recent by nobody.
    pub(crate) unclaimed_from: Uid,
    /// Who was expunged, and when.
    pub(crate) tombstones: Vec<(Uid, ModSeq)>,
    /// Who was expunged up to here has been forgotten.
    pub(crate) vanished_floor: ModSeq,
    /// Messages that cannot be read.
    pub(crate) unreadable: Vec<Uid>,
}

pub(crate) fn flags_of(text: &str) -> Flags {
    let mut flags = Flags::default();
    for name in text.split([' ', '(', ')']).filter(|name| !name.is_empty()) {
        match SystemFlags::from_name(name) {
            Some(flag) => flags.system = flags.system.union(flag),
            None => flags.keywords.push(Keyword::new(name).expect("a keyword")),
        }
    }
    flags
}

impl Mailbox {
    pub(crate) fn new(uid_validity: UidValidity) -> Self {
        Self { uid_validity, uid_next: 1, unclaimed_from: 1, ..Self::default() }
    }

    /// UIDVALIDITY is never used twice here.
    pub(crate) fn object_id(&self) -> ObjectId {
        ObjectId { account: 1, number: self.uid_validity }
    }

    pub(crate) fn uids(&self) -> UidSet {
        self.messages.keys().copied().collect()
    }

    pub(crate) fn add(&mut self, text: Bytes, flags: Flags, date: Option<(i64, i16)>, modseq: ModSeq) -> Uid {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.learn(&flags);
        let internal_date = date.unwrap_or((FIRST_DATE_S + i64::from(uid) * DAY_S, 0));
        let email_id = ObjectId { account: 1, number: self.uid_validity * 1_000 + uid };
        let save_date_unix_s = FIRST_DATE_S + 2 * i64::from(uid) * DAY_S;
        let size_bytes = text.len() as u64;
        let facts = MessageFacts { flags, modseq, internal_date, size_bytes, email_id, save_date_unix_s };
        self.messages.insert(uid, Message { facts, text });
        self.highest_modseq = modseq;
        uid
    }

    pub(crate) fn learn(&mut self, flags: &Flags) {
        for keyword in &flags.keywords {
            if !self.keywords.contains(keyword) {
                self.keywords.push(keyword.clone());
            }
        }
    }

    pub(crate) fn expunge(&mut self, uid: Uid, modseq: ModSeq) {
        if self.messages.remove(&uid).is_some() {
            self.tombstones.push((uid, modseq));
            self.highest_modseq = modseq;
        }
    }

    pub(crate) fn vanished_since(&self, since: ModSeq) -> UidSet {
        if since < self.vanished_floor {
            return (1..self.uid_next).filter(|uid| !self.messages.contains_key(uid)).collect();
        }
        self.tombstones.iter().filter(|(_, modseq)| *modseq > since).map(|(uid, _)| *uid).collect()
    }

    pub(crate) fn with_flag(&self, flag: SystemFlags) -> UidSet {
        let with = self.messages.iter().filter(|(_, message)| message.facts.flags.system.contains(flag));
        with.map(|(uid, _)| *uid).collect()
    }

    fn header_end(&self, uid: Uid) -> Result<usize, FetchFailure> {
        let text = &self.messages.get(&uid).ok_or(FetchFailure::Gone)?.text;
        let end = text.windows(4).position(|window| window == b"\r\n\r\n");
        Ok(end.map_or(text.len(), |at| at + 4))
    }

    fn header_line(&self, uid: Uid, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.messages.get(&uid)?.text[..self.header_end(uid).ok()?]).into_owned();
        let line = |line: &str| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        text.lines().find_map(line)
    }

    /// Sizes are compared; all other criteria by subject.
    pub(crate) fn compared(&self, criterion: SortCriterion, a: Uid, b: Uid) -> Ordering {
        let size = |uid: Uid| self.messages.get(&uid).map(|message| message.facts.size_bytes);
        let order = match criterion.key {
            SortKey::Size => size(a).cmp(&size(b)),
            SortKey::Relevancy => b.cmp(&a),
            _ => self.header_line(a, "Subject").cmp(&self.header_line(b, "Subject")),
        };
        if criterion.reverse { order.reverse() } else { order }
    }

    pub(crate) fn matches(&self, uid: Uid, key: &SearchKey) -> bool {
        let Some(Message { facts, text }) = self.messages.get(&uid) else { return false };
        let day = |field: &DateField| match field {
            DateField::Internal => facts.internal_date.0.div_euclid(DAY_S),
            DateField::Sent => FIRST_DATE_S / DAY_S,
            DateField::Saved => facts.save_date_unix_s.div_euclid(DAY_S),
        };
        let days = |day: &Day| i64::from(day.days_since_epoch);
        let contains = |text: &str, needle: &str| text.to_lowercase().contains(&needle.to_lowercase());
        match key {
            SearchKey::All => true,
            SearchKey::And(all) => all.iter().all(|key| self.matches(uid, key)),
            SearchKey::Or(one, other) => self.matches(uid, one) || self.matches(uid, other),
            SearchKey::Not(inner) => !self.matches(uid, inner),
            SearchKey::Uids(uids) => uids.contains(uid),
            SearchKey::Flag(flags) => facts.flags.system.contains(*flags),
            SearchKey::Keyword(keyword) => facts.flags.keywords.contains(keyword),
            SearchKey::Before(field, other) => day(field) < days(other),
            SearchKey::On(field, other) => day(field) == days(other),
            SearchKey::Since(field, other) => day(field) >= days(other),
            SearchKey::Larger(octets) => facts.size_bytes > *octets,
            SearchKey::Smaller(octets) => facts.size_bytes < *octets,
            // The clock of this host stands at its first date.
            SearchKey::Older(seconds) => facts.internal_date.0 <= FIRST_DATE_S - i64::from(*seconds),
            SearchKey::Younger(seconds) => facts.internal_date.0 >= FIRST_DATE_S - i64::from(*seconds),
            SearchKey::ArrivedBy(unix_s) => facts.internal_date.0 <= *unix_s,
            SearchKey::ModSeq(modseq) => facts.modseq >= *modseq,
            SearchKey::Message(number) => facts.email_id.number == *number,
            SearchKey::Fuzzy(field, needle) => {
                let has = |word: &str| self.matches(uid, &SearchKey::Text(field.clone(), word.to_owned()));
                needle.split(' ').all(has)
            }
            SearchKey::Text(field, needle) => {
                let header = |name: &str| self.header_line(uid, name).is_some_and(|value| contains(&value, needle));
                match field {
                    SearchField::From => header("From"),
                    SearchField::To => header("To"),
                    SearchField::Cc => header("Cc"),
                    SearchField::Bcc => header("Bcc"),
                    SearchField::Subject => header("Subject"),
                    SearchField::Header(name) => header(name),
                    SearchField::Body => {
                        contains(&String::from_utf8_lossy(&text[self.header_end(uid).expect("there")..]), needle)
                    }
                    SearchField::Text => contains(&String::from_utf8_lossy(text), needle),
                }
            }
        }
    }
}

impl MessageSource for Mailbox {
    fn facts(&mut self, uid: Uid) -> Option<MessageFacts> {
        self.messages.get(&uid).map(|message| message.facts.clone())
    }

    fn envelope(&mut self, uid: Uid) -> Result<Bytes, FetchFailure> {
        if self.unreadable.contains(&uid) {
            return Err(FetchFailure::Unreadable);
        }
        let subject = self.header_line(uid, "Subject").ok_or(FetchFailure::Unreadable)?;
        let mut envelope = b"(NIL ".to_vec();
        write::quoted_or_literal(&mut envelope, subject.as_bytes());
        envelope.extend_from_slice(b" NIL NIL NIL NIL NIL NIL NIL NIL)");
        Ok(envelope.into())
    }

    fn body(&mut self, uid: Uid) -> Result<Bytes, FetchFailure> {
        let size = self.messages.get(&uid).ok_or(FetchFailure::Gone)?.text.len() - self.header_end(uid)?;
        Ok(format!("(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" {size} 1)").into())
    }

    fn body_structure(&mut self, uid: Uid) -> Result<Bytes, FetchFailure> {
        let mut body = self.body(uid)?.to_vec();
        body.pop();
        body.extend_from_slice(b" NIL NIL NIL NIL)");
        Ok(body.into())
    }

    fn preview(&mut self, uid: Uid, lazy: bool) -> Result<Option<String>, FetchFailure> {
        let text = &self.messages.get(&uid).ok_or(FetchFailure::Gone)?.text;
        let body = String::from_utf8_lossy(&text[self.header_end(uid)?..]).trim().chars().take(20).collect();
        // Messages with even UIDs have been looked at before.
        Ok((!lazy || uid.is_multiple_of(2)).then_some(body))
    }

    fn section(&mut self, uid: Uid, path: &[u32], text: &SectionText) -> Result<Option<Range<u64>>, FetchFailure> {
        let header = self.header_end(uid)? as u64;
        let all = self.messages.get(&uid).ok_or(FetchFailure::Gone)?.text.len() as u64;
        Ok(match (path, text) {
            ([], SectionText::All) => Some(0..all),
            ([], SectionText::Text) | ([1], SectionText::All) => Some(header..all),
            ([], SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_))
            | ([1], SectionText::Mime) => Some(0..header),
            _ => None,
        })
    }

    fn content(&mut self, uid: Uid, path: &[u32]) -> Result<Option<(Range<u64>, Encoding)>, FetchFailure> {
        let encoding = self.header_line(uid, "Content-Transfer-Encoding").unwrap_or_default();
        let encoding = if path.is_empty() { Encoding::Identity } else { Encoding::from_name(encoding.as_bytes()) };
        Ok(self.section(uid, path, &SectionText::All)?.map(|range| (range, encoding)))
    }

    fn read(&mut self, uid: Uid, range: Range<u64>) -> Result<Bytes, FetchFailure> {
        let message = self.messages.get(&uid).ok_or(FetchFailure::Gone)?;
        let place = |octet: u64| usize::try_from(octet).expect("small");
        Ok(message.text.slice(place(range.start)..place(range.end)))
    }
}
