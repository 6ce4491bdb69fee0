//! Searching: which messages of a mailbox match.
//!
//! * What: keeps the text of messages, folded and in columns, in compressed pages, and their sort keys beside it; lists
//!   its words; plans a search over columns of the mailbox, words, pages and, where these do not reach, the messages
//!   themselves; orders and threads what is found.
//! * In: search keys, mailbox views, message records and their bytes.
//! * Out: UIDs, threads, previews; rows of the family `Text`.
//! * Never: answers otherwise than reading every message would; delays a delivery; keeps anything that cannot be made
//!   again from the messages.
//! * Fails: as the store does. Rows that are damaged, missing as a whole, or of another version are passed over: the
//!   messages are read instead.

mod block;
mod catch_up;
pub(crate) mod check;
mod column;
mod fuzzy;
mod grades;
mod keys;
mod lookup;
mod page;
mod plan;
pub(crate) mod reach;
mod scan;
mod sheets;
mod sort;
mod thread;
mod words;

use rockdove_mail::{Uid, search::SearchKey};

use self::{
    lookup::Index,
    plan::{Places, Planner},
};
use crate::{
    command::EngineError,
    kv::Read,
    store::{MailboxView, segment::Row},
};

pub use catch_up::Caught;
pub(crate) use catch_up::forget;
pub(crate) use fuzzy::relevancy;
pub(crate) use scan::Messages;
pub(crate) use sheets::{SheetCache, Sheets};
pub(crate) use sort::sort;
pub(crate) use thread::thread;

/// Octets of folded text that are kept of a message; one with more is read when it is searched.
pub(crate) const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// The texts of an account, by its number; `None`: the messages are to be read.
pub(crate) type KeptTexts<'a> = Option<(&'a dyn Read, u32)>;

/// UIDs of the messages that match, ascending.
pub(crate) fn search(
    view: &MailboxView,
    key: &SearchKey,
    messages: &dyn Messages,
    texts: KeptTexts<'_>,
) -> Result<Vec<Uid>, EngineError> {
    Ok(find(view, key, messages, texts)?.iter().map(|row| row.uid).collect())
}

/// The entries of the messages that match, ascending by UID.
pub(crate) fn find(
    view: &MailboxView,
    key: &SearchKey,
    messages: &dyn Messages,
    texts: KeptTexts<'_>,
) -> Result<Vec<Row>, EngineError> {
    let key = scan::prepared(key);
    if asks_age(&key) {
        return Err(EngineError::Invalid("a search by age without the time".to_owned()));
    }
    let rows: Vec<Row> = view.segments().iter().flat_map(|segment| segment.rows()).collect();
    let index = match texts {
        Some((read, account)) if asks_text(&key) => Index::open(read, account)?,
        _ => None,
    };
    let planner = Planner { rows: &rows, keywords: view.keywords(), messages, index: index.as_ref() };
    let decided = planner.decide(&key, &Places::all(rows.len()))?;
    let mut found: Vec<Row> = decided.yes.iter().map(|at| rows[at]).collect();
    for at in decided.open.iter() {
        if planner.message(at).matches(&key)? {
            found.push(rows[at]);
        }
    }
    found.sort_unstable_by_key(|row| row.uid);
    Ok(found)
}

fn any(key: &SearchKey, is: &dyn Fn(&SearchKey) -> bool) -> bool {
    match key {
        SearchKey::And(keys) => keys.iter().any(|key| any(key, is)),
        SearchKey::Or(a, b) => any(a, is) || any(b, is),
        SearchKey::Not(key) => any(key, is),
        key => is(key),
    }
}

fn asks_text(key: &SearchKey) -> bool {
    any(key, &|key| matches!(key, SearchKey::Text(..) | SearchKey::Fuzzy(..)))
}

fn asks_age(key: &SearchKey) -> bool {
    any(key, &|key| matches!(key, SearchKey::Older(_) | SearchKey::Younger(_)))
}

/// The previews of messages (RFC 8970); `None`: it is not kept.
pub(crate) fn kept_previews(sheets: &Sheets<'_>, messages: &[u32]) -> Result<Vec<Option<String>>, EngineError> {
    let (entries, _) = sheets::kept(Some(sheets), keys::Sheet::Preview, messages)?;
    Ok((0..messages.len()).map(|at| keys::preview_in(entries.get(at))).collect())
}
