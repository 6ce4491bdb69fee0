//! SEARCH (RFC 3501 section 6.4.4), with MODSEQ (RFC 7162 section 3.1.5).

use std::fmt::Write as _;

use rockdove_mail::{ModSeq, Uid, UidSet, search::SearchKey};

use super::{Doing, ImapSession, open::OpenMailbox, purpose::Purpose};
use crate::{
    ask::{Ask, ObjectId},
    command::SearchProgram,
    limits::{NUMBERS_PIECE_MAX, SEARCH_FUZZY_MAX, SEARCH_RECENT_MAX},
    numbers::{NoSuchNumber, Numbers},
};

/// The answer of SEARCH on its way.
pub(super) struct Finding {
    uids: UidSet,
    /// Messages below this one are written; `None`: all are.
    next: Option<Uid>,
    modseq: Option<ModSeq>,
}

/// Whether a search looks at mod-sequences.
pub(super) fn asks_modseq(program: &SearchProgram) -> bool {
    program.any(&|key| matches!(key, SearchProgram::ModSeq(_)))
}

/// Whether something is searched fuzzily.
pub(super) fn asks_fuzzily(program: &SearchProgram) -> bool {
    program.any(&|key| matches!(key, SearchProgram::Fuzzy(_)))
}

/// Why a search cannot be done.
pub(super) type Wrong = &'static str;

/// How many strings are to be matched fuzzily.
fn fuzzy_strings(program: &SearchProgram, fuzzy: bool) -> usize {
    match program {
        SearchProgram::And(all) => all.iter().map(|key| fuzzy_strings(key, fuzzy)).sum(),
        SearchProgram::Or(one, other) => fuzzy_strings(one, fuzzy).saturating_add(fuzzy_strings(other, fuzzy)),
        SearchProgram::Not(inner) => fuzzy_strings(inner, false),
        SearchProgram::Fuzzy(inner) => fuzzy_strings(inner, true),
        SearchProgram::Text(..) => usize::from(fuzzy),
        _ => 0,
    }
}

/// What the words of a search stand for in one mailbox.
pub(super) struct Meaning<'a> {
    /// Whose it is.
    pub(super) account: u32,
    pub(super) numbers: &'a Numbers,
    pub(super) recent: &'a UidSet,
    /// `$`.
    pub(super) saved: &'a UidSet,
    /// Sequence numbers beyond the last message are no mistake.
    pub(super) lenient: bool,
}

impl<'a> Meaning<'a> {
    pub(super) fn selected(open: &'a OpenMailbox, lenient: bool) -> Self {
        let OpenMailbox { account, numbers, recent, saved, .. } = open;
        Self { account: *account, numbers, recent, saved, lenient }
    }

    /// The condition, with UIDs in place of sequence numbers.
    pub(super) fn of(&self, program: &SearchProgram) -> Result<SearchKey, Wrong> {
        if fuzzy_strings(program, false) > SEARCH_FUZZY_MAX {
            return Err("too much of the search is fuzzy");
        }
        let mut recent_left = SEARCH_RECENT_MAX;
        key(self, program, false, &mut recent_left)
    }
}

/// The condition with UIDs in place of sequence numbers. The sets may hold UIDs that no message has: the search is within
/// those that there are.
fn key(open: &Meaning<'_>, program: &SearchProgram, fuzzy: bool, recent_left: &mut usize) -> Result<SearchKey, Wrong> {
    let mut inner = |program| key(open, program, fuzzy, recent_left);
    Ok(match program {
        SearchProgram::All => SearchKey::All,
        SearchProgram::And(all) => SearchKey::And(all.iter().map(inner).collect::<Result<_, _>>()?),
        SearchProgram::Or(one, other) => SearchKey::Or(Box::new(inner(one)?), Box::new(inner(other)?)),
        // What is looser by itself is stricter when it is denied.
        SearchProgram::Not(one) => SearchKey::Not(Box::new(key(open, one, false, recent_left)?)),
        SearchProgram::Fuzzy(one) => key(open, one, true, recent_left)?,
        SearchProgram::Sequence(set) | SearchProgram::Uid(set) if set.is_saved() => {
            *recent_left = recent_left.checked_sub(1).ok_or("the search asks too often for what was saved")?;
            SearchKey::Uids(open.saved.clone())
        }
        SearchProgram::Sequence(set) if open.lenient => SearchKey::Uids(set.spans_there(open.numbers)),
        SearchProgram::Sequence(set) => {
            SearchKey::Uids(set.spans(open.numbers).map_err(|NoSuchNumber| "there is no message of that number")?)
        }
        SearchProgram::Uid(set) => SearchKey::Uids(set.uid_set(open.numbers.uids().last())),
        SearchProgram::Recent => {
            *recent_left = recent_left.checked_sub(1).ok_or("the search asks too often for recent messages")?;
            SearchKey::Uids(open.recent.clone())
        }
        SearchProgram::Flag(flags) => SearchKey::Flag(*flags),
        SearchProgram::Keyword(keyword) => SearchKey::Keyword(keyword.clone()),
        SearchProgram::Before(field, day) => SearchKey::Before(*field, *day),
        SearchProgram::On(field, day) => SearchKey::On(*field, *day),
        SearchProgram::Since(field, day) => SearchKey::Since(*field, *day),
        SearchProgram::Older(seconds) => SearchKey::Older(*seconds),
        SearchProgram::Younger(seconds) => SearchKey::Younger(*seconds),
        SearchProgram::Larger(octets) => SearchKey::Larger(*octets),
        SearchProgram::Smaller(octets) => SearchKey::Smaller(*octets),
        SearchProgram::ModSeq(modseq) => SearchKey::ModSeq(*modseq),
        SearchProgram::EmailId(id) => match ObjectId::of_email(id).filter(|id| id.account == open.account) {
            Some(id) => SearchKey::Message(id.number),
            None => SearchKey::Uids(UidSet::new()),
        },
        //= rfc8474#section-5.2
        //# if the server doesn't support THREADID [...] a SEARCH
        //# for THREADID MUST NOT match any messages.
        SearchProgram::ThreadId => SearchKey::Uids(UidSet::new()),
        // A search is carried out when its filters have taken the place of their names.
        SearchProgram::Filter(_) => return Err("a filter is not known"),
        SearchProgram::Text(field, text) if fuzzy => SearchKey::Fuzzy(field.clone(), text.clone()),
        SearchProgram::Text(field, text) => SearchKey::Text(field.clone(), text.clone()),
    })
}

impl ImapSession {
    //= rfc6855#section-3
    //# Once an IMAP client has enabled UTF-8 support with the "ENABLE
    //# UTF8=ACCEPT" command, it MUST NOT issue a "SEARCH" command that
    //# contains a charset specification.  If an IMAP server receives such a
    //# "SEARCH" command in that situation, it SHOULD reject the command with
    //# a "BAD" response
    pub(super) fn refuse_charset(&mut self, charset: Option<&str>) -> bool {
        let refused = self.utf8 && charset.is_some();
        if refused {
            self.bad("UTF-8 is accepted: SEARCH has no charset");
        }
        refused
    }

    /// Whether a search may be asked; otherwise the client is told.
    pub(super) fn is_charset_known(&mut self, charset: Option<&str>) -> bool {
        //= rfc3501#section-6.4.4
        //# If the server does not support the specified [CHARSET], it MUST
        //# return a tagged NO response (not a BAD).
        if charset.is_some_and(|charset| !matches!(charset, "US-ASCII" | "UTF-8")) {
            self.complete("NO [BADCHARSET (US-ASCII UTF-8)] the charset is not known");
            return false;
        }
        true
    }

    /// What to look for, and in which messages, and whether mod-sequences are to be told; otherwise the client is told
    /// what is wrong.
    pub(super) fn search_key(&mut self, program: &SearchProgram) -> Option<(SearchKey, UidSet, bool)> {
        let modseq_asked = asks_modseq(program);
        let open = self.open()?;
        let key = match Meaning::selected(open, false).of(program) {
            Ok(key) => key,
            Err(wrong) => {
                self.bad(wrong);
                return None;
            }
        };
        let within = open.numbers.uids().clone();
        if modseq_asked {
            self.enable_condstore();
        }
        Some((key, within, modseq_asked))
    }

    pub(super) fn search(&mut self, charset: Option<&str>, program: &SearchProgram) {
        if self.refuse_charset(charset) || !self.is_charset_known(charset) {
            return;
        }
        let Some((key, within, modseq_asked)) = self.search_key(program) else { return };
        self.ask(Ask::Search { key, within }, Purpose::Search(modseq_asked));
    }

    pub(super) fn found(&mut self, uids: &UidSet, modseq: Option<ModSeq>) {
        let Some(open) = self.open() else { return };
        let uids = uids.intersection(open.numbers.uids());
        self.out.text.extend_from_slice(b"* SEARCH");
        // RFC 7162 section 3.1.5: an empty answer has no mod-sequence.
        let modseq = modseq.filter(|modseq| *modseq > 0 && !uids.is_empty());
        self.doing = Doing::Finding(Box::new(Finding { uids, next: Some(0), modseq }));
    }

    /// Writes a piece of the line: it can be longer than what is sent at a time.
    pub(super) fn write_found(&mut self, mut finding: Box<Finding>) {
        let mut text = String::new();
        let Some(open) = self.open() else { return };
        let first = finding.next.take().unwrap_or(Uid::MAX);
        for (written, uid) in forwards(&finding.uids, first).enumerate() {
            if written >= NUMBERS_PIECE_MAX {
                finding.next = Some(uid);
                break;
            }
            let number = if self.uid_command { Some(uid) } else { open.numbers.number(uid) };
            if let Some(number) = number
                && write!(text, " {number}").is_err()
            {
                return;
            }
        }
        self.out.text.extend_from_slice(text.as_bytes());
        if finding.next.is_some() {
            self.doing = Doing::Finding(finding);
            return;
        }
        let modseq = finding.modseq.map(|modseq| format!(" (MODSEQ {modseq})"));
        self.out.line(&modseq.unwrap_or_default());
        self.complete("OK done");
    }
}

/// The messages of a set from `first` on.
fn forwards(uids: &UidSet, first: Uid) -> impl Iterator<Item = Uid> + '_ {
    let reached = uids.ranges().partition_point(|range| range.1 < first);
    let ranges = uids.ranges().get(reached..).unwrap_or_default();
    ranges.iter().flat_map(move |range| range.0.max(first)..=range.1)
}
