//! Searching: which messages of a mailbox match.
//!
//! * What: keeps the text of messages, folded and in columns, in compressed pages; lists its words; plans a search over
//!   columns of the mailbox, words, pages and, where these do not reach, the messages themselves.
//! * In: search keys, mailbox views, message records and their bytes.
//! * Out: UIDs; rows of the family `Text`.
//! * Never: answers otherwise than reading every message would; delays a delivery; keeps anything that cannot be made
//!   again from the messages.
//! * Fails: as the store does. Rows that are damaged, missing as a whole, or of another version are passed over: the
//!   messages are read instead.

mod block;
mod catch_up;
pub(crate) mod check;
mod column;
mod lookup;
mod page;
mod plan;
pub(crate) mod reach;
mod scan;
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
pub(crate) use scan::Messages;

/// Octets of folded text that are kept of a message; one with more is read when it is searched.
pub(crate) const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// UIDs of the messages that match, ascending.
pub(crate) fn search(
    view: &MailboxView,
    key: &SearchKey,
    messages: &dyn Messages,
    texts: Option<(&dyn Read, u32)>,
) -> Result<Vec<Uid>, EngineError> {
    let key = scan::prepared(key);
    let rows: Vec<Row> = view.segments().iter().flat_map(|segment| segment.rows()).collect();
    let index = match texts {
        Some((read, account)) if asks_text(&key) => Index::open(read, account)?,
        _ => None,
    };
    let planner = Planner { rows: &rows, keywords: view.keywords(), messages, index: index.as_ref() };
    let decided = planner.decide(&key, &Places::all(rows.len()))?;
    let mut found: Vec<Uid> = decided.yes.iter().map(|at| rows[at].uid).collect();
    for at in decided.open.iter() {
        if planner.message(at).matches(&key)? {
            found.push(rows[at].uid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn asks_text(key: &SearchKey) -> bool {
    match key {
        SearchKey::And(keys) => keys.iter().any(asks_text),
        SearchKey::Or(a, b) => asks_text(a) || asks_text(b),
        SearchKey::Not(key) => asks_text(key),
        SearchKey::Text(..) => true,
        _ => false,
    }
}
