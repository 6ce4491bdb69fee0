//! SEARCH.

use std::borrow::Cow;

use rockdove_mail::{
    Keyword, SystemFlags,
    date::parse_imap_date,
    search::{DateField, Day, SearchField},
};

use super::{
    find,
    words::{Names, Words, Wrong, utf8},
};
use crate::{
    command::{Command, FindForm, FindRequest, SearchProgram},
    limits::{SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX},
};

/// How strings are to be read, and how many keys there may still be.
struct Reading {
    /// The charset is UTF-8 or a part of it.
    unicode: bool,
    keys_left: usize,
}

/// `search = "SEARCH" [search-return-opts] SP search-program` (RFC 4466); `search-return-opts = SP "RETURN" SP "("
/// [search-return-opt *(SP search-return-opt)] ")"`
pub(super) fn search(words: &mut Words<'_>, uid: bool) -> Result<Command, Wrong> {
    let returns = find::return_options(words)?;
    let (charset, key) = program(words)?;
    Ok(match returns {
        Some(returns) => Command::Find(FindRequest { uid, charset, key, form: FindForm::Extended(returns) }),
        None => Command::Search { uid, charset, key },
    })
}

/// `search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)`; `charset = atom / quoted`
pub(super) fn program(words: &mut Words<'_>) -> Result<(Option<String>, SearchProgram), Wrong> {
    let mut charset = None;
    let mut ahead = *words;
    if ahead.keyword() == "CHARSET" && ahead.spaces() {
        charset = Some(ahead.text()?.to_ascii_uppercase());
        ahead.space()?;
        *words = ahead;
    }
    let key = keys(words, charset.as_deref())?;
    Ok((charset, key))
}

/// The search that a filter stands for: `search-criteria`, in UTF-8 (RFC 5466 section 3.2). `None`: it is no search.
pub fn parse_filter(value: &[u8]) -> Option<SearchProgram> {
    let mut words = Words::new(value, Names::Utf8);
    let program = keys(&mut words, Some("UTF-8")).ok()?;
    words.end().ok().map(|()| program)
}

/// `search-key *(SP search-key)`
pub(super) fn keys(words: &mut Words<'_>, charset: Option<&str>) -> Result<SearchProgram, Wrong> {
    let unicode = charset.is_none_or(|charset| matches!(charset, "UTF-8" | "UTF8" | "US-ASCII" | "ASCII"));
    let mut reading = Reading { unicode, keys_left: SEARCH_KEYS_MAX };
    let mut keys = vec![reading.key(words, 0)?];
    while words.spaces() && !words.rest().is_empty() {
        keys.push(reading.key(words, 0)?);
    }
    Ok(all_of(keys))
}

fn all_of(mut keys: Vec<SearchProgram>) -> SearchProgram {
    match (keys.pop(), keys.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            keys.extend(last);
            SearchProgram::And(keys)
        }
    }
}

fn not(key: SearchProgram) -> SearchProgram {
    SearchProgram::Not(Box::new(key))
}

impl Reading {
    /// `search-key = "ALL" / ... / sequence-set / "(" search-key *(SP search-key) ")"`
    fn key(&mut self, words: &mut Words<'_>, depth: usize) -> Result<SearchProgram, Wrong> {
        self.keys_left = self.keys_left.checked_sub(1).ok_or("the search has too many keys")?;
        let deeper = depth.saturating_add(1);
        if deeper > SEARCH_DEPTH_MAX {
            return Err("the search is too deep");
        }
        match words.peek() {
            Some(b'(') => {
                let keys = words.list(SEARCH_KEYS_MAX, |words| self.key(words, deeper))?;
                if keys.is_empty() { Err("a search key is missing") } else { Ok(all_of(keys)) }
            }
            Some(b'0'..=b'9' | b'*' | b'$') => words.sequence_set().map(SearchProgram::Sequence),
            _ => match words.keyword().as_str() {
                "NOT" => {
                    words.space()?;
                    self.key(words, deeper).map(not)
                }
                // search-key =/ "FUZZY" SP search-key (RFC 6203)
                "FUZZY" => {
                    words.space()?;
                    Ok(SearchProgram::Fuzzy(Box::new(self.key(words, deeper)?)))
                }
                "OR" => {
                    words.space()?;
                    let left = self.key(words, deeper)?;
                    words.space()?;
                    Ok(SearchProgram::Or(Box::new(left), Box::new(self.key(words, deeper)?)))
                }
                name => match flag_key(name) {
                    Some(key) => Ok(key),
                    None => self.with_argument(name, words),
                },
            },
        }
    }

    /// Keys that are followed by an argument.
    fn with_argument(&self, name: &str, words: &mut Words<'_>) -> Result<SearchProgram, Wrong> {
        let date_key =
            |key: fn(DateField, _) -> SearchProgram, field, words: &mut Words<'_>| Ok(key(field, date(words)?));
        words.spaces();
        match name {
            "UID" => words.sequence_set().map(SearchProgram::Uid),
            "KEYWORD" => keyword(words),
            "UNKEYWORD" => keyword(words).map(not),
            "BEFORE" => date_key(SearchProgram::Before, DateField::Internal, words),
            "ON" => date_key(SearchProgram::On, DateField::Internal, words),
            "SINCE" => date_key(SearchProgram::Since, DateField::Internal, words),
            "SAVEDBEFORE" => date_key(SearchProgram::Before, DateField::Saved, words),
            "SAVEDON" => date_key(SearchProgram::On, DateField::Saved, words),
            "SAVEDSINCE" => date_key(SearchProgram::Since, DateField::Saved, words),
            "SENTBEFORE" => date_key(SearchProgram::Before, DateField::Sent, words),
            "SENTON" => date_key(SearchProgram::On, DateField::Sent, words),
            "SENTSINCE" => date_key(SearchProgram::Since, DateField::Sent, words),
            "LARGER" => words.number64().map(SearchProgram::Larger),
            "SMALLER" => words.number64().map(SearchProgram::Smaller),
            "OLDER" => words.nz_number().map(SearchProgram::Older),
            "YOUNGER" => words.nz_number().map(SearchProgram::Younger),
            "MODSEQ" => mod_sequence(words),
            "EMAILID" => object_id(words).map(SearchProgram::EmailId),
            // search-key =/ "FILTER" SP filter-name; filter-name = 1*<any ATOM-CHAR except "/"> (RFC 5466)
            "FILTER" => match words.atom()? {
                name if name.contains('/') => Err("the name of a filter has no /"),
                name => Ok(SearchProgram::Filter(name)),
            },
            "THREADID" => object_id(words).map(|_| SearchProgram::ThreadId),
            "FROM" => self.text(SearchField::From, words),
            "TO" => self.text(SearchField::To, words),
            "CC" => self.text(SearchField::Cc, words),
            "BCC" => self.text(SearchField::Bcc, words),
            "SUBJECT" => self.text(SearchField::Subject, words),
            "BODY" => self.text(SearchField::Body, words),
            "TEXT" => self.text(SearchField::Text, words),
            "HEADER" => {
                let field = words.text()?;
                words.space()?;
                self.text(SearchField::Header(field), words)
            }
            "" => Err("a search key is missing"),
            _ => Err("there is no such search key"),
        }
    }

    fn text(&self, field: SearchField, words: &mut Words<'_>) -> Result<SearchProgram, Wrong> {
        let octets: Cow<'_, [u8]> = words.astring()?;
        // In another charset the search is refused with a list of charsets, which must not fail here.
        let text = if self.unicode { utf8(octets)? } else { String::from_utf8_lossy(&octets).into_owned() };
        Ok(SearchProgram::Text(field, text))
    }
}

/// Keys that stand alone.
fn flag_key(name: &str) -> Option<SearchProgram> {
    let flag = SearchProgram::Flag;
    Some(match name {
        // SAVEDATESUPPORTED: every mailbox here has save dates (RFC 8514 section 4.3).
        "ALL" | "SAVEDATESUPPORTED" => SearchProgram::All,
        "ANSWERED" => flag(SystemFlags::ANSWERED),
        "DELETED" => flag(SystemFlags::DELETED),
        "DRAFT" => flag(SystemFlags::DRAFT),
        "FLAGGED" => flag(SystemFlags::FLAGGED),
        "SEEN" => flag(SystemFlags::SEEN),
        "UNANSWERED" => not(flag(SystemFlags::ANSWERED)),
        "UNDELETED" => not(flag(SystemFlags::DELETED)),
        "UNDRAFT" => not(flag(SystemFlags::DRAFT)),
        "UNFLAGGED" => not(flag(SystemFlags::FLAGGED)),
        "UNSEEN" => not(flag(SystemFlags::SEEN)),
        "RECENT" => SearchProgram::Recent,
        "OLD" => not(SearchProgram::Recent),
        "NEW" => SearchProgram::And(vec![SearchProgram::Recent, not(flag(SystemFlags::SEEN))]),
        _ => return None,
    })
}

/// `date = date-text / DQUOTE date-text DQUOTE`; `date-text = date-day "-" date-month "-" date-year`
fn date(words: &mut Words<'_>) -> Result<Day, Wrong> {
    let civil = parse_imap_date(&words.astring()?).ok_or("a date is malformed")?;
    Ok(Day { days_since_epoch: civil.days_since_epoch() })
}

/// `"KEYWORD" SP flag-keyword`
fn keyword(words: &mut Words<'_>) -> Result<SearchProgram, Wrong> {
    Keyword::new(&words.text()?).map(SearchProgram::Keyword).ok_or("a keyword is not acceptable")
}

/// `objectid = 1*255(ALPHA / DIGIT / "_" / "-")` (RFC 8474 section 7)
fn object_id(words: &mut Words<'_>) -> Result<String, Wrong> {
    let id = words.text()?;
    let known = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-');
    if (1..=255).contains(&id.len()) && id.bytes().all(known) {
        Ok(id)
    } else {
        Err("an object identifier is malformed")
    }
}

/// `search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer` (RFC 7162 section 3.1.5)
///
/// Flags have no mod-sequences of their own here, so the entry makes no difference, as the RFC allows.
fn mod_sequence(words: &mut Words<'_>) -> Result<SearchProgram, Wrong> {
    if words.peek() == Some(b'"') {
        words.string()?;
        words.space()?;
        if !matches!(words.keyword().as_str(), "PRIV" | "SHARED" | "ALL") {
            return Err("an entry is private, shared or all");
        }
        words.space()?;
    }
    words.number64().map(SearchProgram::ModSeq)
}
