//! Commands on messages, but SEARCH.

use rockdove_mail::FlagUpdate;

use super::{
    fetch, find, mailbox,
    words::{Words, Wrong},
};
use crate::{
    command::Command,
    fetch::{FetchItem, FetchRequest},
};

/// Modifiers in one list; there is one to be had.
const MODIFIERS_MAX: usize = 8;

/// `fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
/// [fetch-modifiers]`; `fetch-modifier =/ "CHANGEDSINCE" SP mod-sequence-value / "VANISHED"` (RFC 7162)
/// `/ "PARTIAL" SP partial-range` (RFC 9394)
pub(super) fn fetch(words: &mut Words<'_>, uid: bool) -> Result<Command, Wrong> {
    let set = words.sequence_set()?;
    words.space()?;
    let mut items = fetch::items(words)?;
    let (mut changed_since, mut vanished, mut partial) = (None, false, None);
    words.spaces();
    if words.peek() == Some(b'(') {
        words.list(MODIFIERS_MAX, |words| {
            let name = words.keyword();
            match name.as_str() {
                "CHANGEDSINCE" => {
                    words.space()?;
                    changed_since = Some(words.number64()?);
                }
                "VANISHED" => vanished = true,
                "PARTIAL" if uid => {
                    words.space()?;
                    partial = Some(find::partial_range(words)?);
                }
                _ => return Err("there is no such modifier"),
            }
            Ok(())
        })?;
    }
    //= rfc7162#section-3.2.6
    //# If the
    //# VANISHED UID FETCH modifier is used without the CHANGEDSINCE UID FETCH modifier, the
    //# server MUST respond with a tagged BAD response.
    if vanished && (!uid || changed_since.is_none()) {
        return Err("VANISHED is for UID FETCH with CHANGEDSINCE");
    }
    //= rfc3501#section-6.4.8
    //# server implementations MUST implicitly include
    //# the UID message data item as part of any FETCH response caused by
    //# a UID command
    if uid && !items.contains(&FetchItem::Uid) {
        items.insert(0, FetchItem::Uid);
    }
    //= rfc7162#section-3.1.4.1
    //# When the CHANGEDSINCE FETCH modifier is specified, it implicitly adds
    //# the MODSEQ FETCH message data item
    if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
        items.push(FetchItem::ModSeq);
    }
    let request = FetchRequest { items, news: None };
    Ok(Command::Fetch { uid, set, request, changed_since, vanished, partial })
}

/// `store = "STORE" SP sequence-set [SP "(" "UNCHANGEDSINCE" SP mod-sequence-valzer ")"] SP store-att-flags`;
/// `store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))`
pub(super) fn store(words: &mut Words<'_>, uid: bool) -> Result<Command, Wrong> {
    let set = words.sequence_set()?;
    words.space()?;
    let mut unchanged_since = None;
    if words.peek() == Some(b'(') {
        words.list(MODIFIERS_MAX, |words| {
            if words.keyword() != "UNCHANGEDSINCE" {
                return Err("there is no such modifier");
            }
            words.space()?;
            unchanged_since = Some(words.number64()?);
            Ok(())
        })?;
        words.space()?;
    }
    let update = match words.peek() {
        Some(b'+') => FlagUpdate::Add,
        Some(b'-') => FlagUpdate::Remove,
        _ => FlagUpdate::Replace,
    };
    let name = words.keyword();
    let silent = match name.strip_prefix(['+', '-']).unwrap_or(&name) {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return Err("only FLAGS can be stored"),
    };
    words.space()?;
    Ok(Command::Store { uid, set, update, flags: words.flags()?, silent, unchanged_since })
}

/// `copy = "COPY" SP sequence-set SP mailbox`; `move = "MOVE" SP sequence-set SP mailbox` (RFC 6851)
pub(super) fn copy(words: &mut Words<'_>, uid: bool, remove: bool) -> Result<Command, Wrong> {
    let set = words.sequence_set()?;
    words.space()?;
    Ok(Command::Copy { uid, remove, set, mailbox: mailbox::mailbox(words)? })
}
