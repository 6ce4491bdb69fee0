//! Whether the texts of an account can be what catching up has written.

use std::{collections::BTreeSet, ops::ControlFlow};

use super::{
    block::Words,
    column::Column,
    keys::{Sheet, is_whole},
    page::Stored,
    reach::{Reach, SEGMENT},
};
use crate::{
    command::{AccountId, EngineError},
    kv::{
        Family, Read,
        keys::{self, KeyReader},
    },
};

/// What is wrong with the rows of an account, so that a search might miss something. `next_message`: beyond every
/// message of the account. `speaking`: messages that have some text. Does not read messages again.
pub(crate) fn problem(
    read: &dyn Read,
    account: AccountId,
    next_message: u32,
    speaking: &BTreeSet<u32>,
) -> Result<Option<String>, EngineError> {
    // Without that row, or with one of another version, nobody uses the others.
    let Some(reach) = Reach::load(read, account.0)? else { return Ok(None) };
    if reach.next > next_message {
        let what = format!("texts reach to message {}, the account to {next_message}", reach.next);
        return Ok(Some(what));
    }
    let (mut known, mut in_sheets) = (BTreeSet::new(), [BTreeSet::new(), BTreeSet::new()]);
    let mut wrong = None;
    let prefix = keys::account_prefix(account.0);
    read.scan(Family::Text, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
        match messages_of(key.get(prefix.len()..).unwrap_or_default(), row, reach) {
            Ok((None, messages)) => known.extend(messages),
            Ok((Some(Sheet::Links), messages)) => in_sheets[0].extend(messages),
            Ok((Some(Sheet::Names), messages)) => in_sheets[1].extend(messages),
            Ok((Some(Sheet::Preview), _)) => {}
            Err(what) => wrong = Some(what.to_owned()),
        }
        if wrong.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if wrong.is_none() {
        let missing = |known: &BTreeSet<u32>| speaking.range(..reach.next).find(|message| !known.contains(message));
        wrong = missing(&known).map(|message| format!("the text of message {message} is not there"));
        let keys = in_sheets.iter().find_map(missing);
        wrong = wrong.or_else(|| keys.map(|message| format!("the sort keys of message {message} are not there")));
    }
    Ok(wrong)
}

/// The messages whose text, or whose entry in a sheet, a row has or stands for.
fn messages_of(key: &[u8], row: &[u8], reach: Reach) -> Result<(Option<Sheet>, Vec<u32>), &'static str> {
    let mut reader = KeyReader::new(key);
    let unknown = "nobody knows this row of texts";
    match reader.u8().ok_or(unknown)? {
        keys::TEXT_LEFT_OUT => Ok((None, vec![reader.u32().ok_or(unknown)?])),
        keys::TEXT_PAGE => {
            let (column, first) = (reader.u8().ok_or(unknown)?, reader.u32().ok_or(unknown)?);
            let sheet = Sheet::ALL.into_iter().find(|sheet| sheet.number() == column);
            if sheet.is_none() && usize::from(column) >= Column::ALL.len() {
                return Err(unknown);
            }
            let page = Stored::decode(row).ok_or("a page of texts cannot be read")?;
            let text = page.text().ok_or("a page of texts is damaged")?;
            if sheet.is_some_and(|sheet| page.texts(text).any(|(_, entry)| !is_whole(sheet, entry))) {
                return Err("a page of sort keys cannot be read");
            }
            let messages: Vec<u32> = page.messages.iter().map(|(message, _)| *message).collect();
            let fits = messages.first() == Some(&first)
                && messages.last().is_some_and(|last| last / SEGMENT == first / SEGMENT && *last < reach.next);
            if fits { Ok((sheet, messages)) } else { Err("a page of texts is not where it should be") }
        }
        keys::TEXT_WORDS => match Words::decode(row) {
            Some(_) => Ok((None, Vec::new())),
            None => Err("a list of words cannot be read"),
        },
        keys::TEXT_REACH | keys::TEXT_GONE | keys::TEXT_POSTINGS => Ok((None, Vec::new())),
        _ => Err(unknown),
    }
}
