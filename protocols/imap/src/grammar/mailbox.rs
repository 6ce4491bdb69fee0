//! Commands on mailboxes.

use std::borrow::Cow;

use rockdove_mail::{Flags, MailboxName, MailboxNameError, SpecialUse, date::parse_imap};

use super::{
    metadata::entries,
    utf7,
    words::{Names, Words, Wrong},
};
use crate::{
    command::{AppendFacts, AppendHead, Command, ListRequest, MailboxArg, Resync, SequenceSet, StatusItem},
    limits::LIST_PATTERNS_MAX,
};

/// Lists that have few sensible elements: options, STATUS items, uses.
const OPTIONS_MAX: usize = 64;

/// `mailbox = "INBOX" / astring`
pub(super) fn mailbox(words: &mut Words<'_>) -> Result<MailboxArg, Wrong> {
    let octets = words.astring()?;
    let name = decoded(&octets, words.names()).ok_or(MailboxNameError::ForbiddenCharacter);
    Ok(name.and_then(|name| MailboxName::new(&name)))
}

/// A mailbox, or `None` for the empty string, which is the server (RFC 5464 section 4.1).
pub(super) fn mailbox_or_server(words: &mut Words<'_>) -> Result<Option<MailboxArg>, Wrong> {
    let mut ahead = *words;
    if ahead.astring()?.is_empty() {
        *words = ahead;
        return Ok(None);
    }
    mailbox(words).map(Some)
}

/// A name or pattern as UTF-8; `None`: it is not text.
fn decoded(octets: &[u8], names: Names) -> Option<Cow<'_, str>> {
    match names {
        Names::ModifiedUtf7 => utf7::decode(octets),
        Names::Utf8 => std::str::from_utf8(octets).ok().map(Cow::Borrowed),
    }
}

/// `select = "SELECT" SP mailbox [select-params]`; `select-params = SP "(" select-param *(SP select-param) ")"`
/// (RFC 4466); `select-param =/ "CONDSTORE" / "QRESYNC" SP "(" ... ")"` (RFC 7162)
pub(super) fn select(words: &mut Words<'_>, read_only: bool) -> Result<Command, Wrong> {
    let mailbox = mailbox(words)?;
    let (mut condstore, mut resync) = (false, None);
    if another(words) {
        words.list(OPTIONS_MAX, |words| match words.keyword().as_str() {
            "CONDSTORE" => {
                condstore = true;
                Ok(())
            }
            "QRESYNC" => {
                words.space()?;
                resync = Some(Box::new(quick_resync(words)?));
                Ok(())
            }
            _ => Err("there is no such parameter"),
        })?;
    }
    Ok(Command::Select { mailbox, read_only, condstore, resync })
}

/// `"(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"`;
/// `seq-match-data = "(" known-sequence-set SP known-uid-set ")"` (RFC 7162 section 7)
fn quick_resync(words: &mut Words<'_>) -> Result<Resync, Wrong> {
    words.expect(b'(', "a parenthesis is missing")?;
    words.spaces();
    let uid_validity = words.nz_number()?;
    words.space()?;
    let (modseq, mut known, mut matching) = (words.number64()?, None, None);
    if words.spaces() && words.peek().is_some_and(|next| next.is_ascii_digit()) {
        known = Some(known_set(words)?);
        words.spaces();
    }
    if words.eat(b'(') {
        words.spaces();
        let numbers = known_set(words)?;
        words.space()?;
        matching = Some((numbers, known_set(words)?));
        words.spaces();
        words.expect(b')', "a parenthesis is missing")?;
        words.spaces();
    }
    words.expect(b')', "a parenthesis is missing")?;
    Ok(Resync { uid_validity, modseq, known, matching })
}

/// `known-uids = sequence-set ;; sequence of UIDs; "*" is not allowed`
fn known_set(words: &mut Words<'_>) -> Result<SequenceSet, Wrong> {
    let set = words.sequence_set()?;
    let open_ended = set.ranges.iter().any(|(first, last)| first.is_none() || last.is_none());
    if open_ended { Err("what is known has no *") } else { Ok(set) }
}

/// `create = "CREATE" SP mailbox [create-params]`; `create-param =/ "USE" SP "(" [use-attr *(SP use-attr)] ")"` (RFC 6154)
pub(super) fn create(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let mailbox = mailbox(words)?;
    let mut special_use = Vec::new();
    if another(words) {
        words.list(1, |words| {
            if words.keyword() != "USE" {
                return Err("there is no such parameter");
            }
            words.space()?;
            special_use = words.list(OPTIONS_MAX, use_attribute)?;
            Ok(())
        })?;
    }
    Ok(Command::Create { mailbox, special_use })
}

/// `use-attr = "\All" / "\Archive" / "\Drafts" / "\Flagged" / "\Junk" / "\Sent" / "\Trash" / use-attr-ext`
fn use_attribute(words: &mut Words<'_>) -> Result<Result<SpecialUse, String>, Wrong> {
    words.expect(b'\\', "a use begins with a backslash")?;
    let name = format!("\\{}", words.atom()?);
    Ok(SpecialUse::from_name(&name).ok_or(name))
}

/// `rename = "RENAME" SP mailbox SP mailbox`
pub(super) fn rename(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let from = mailbox(words)?;
    words.space()?;
    Ok(Command::Rename { from, to: mailbox(words)? })
}

/// `lsub = "LSUB" SP mailbox SP list-mailbox`
pub(super) fn lsub(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let reference = pattern(words)?;
    words.space()?;
    Ok(Command::Lsub { reference, pattern: pattern(words)? })
}

/// `list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]` (RFC 5258)
pub(super) fn list(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let mut request = ListRequest::default();
    if words.peek() == Some(b'(') {
        request.extended = true;
        words.list(OPTIONS_MAX, |words| selection(words, &mut request))?;
        // RFC 5819 section 4 has an example without a space.
        words.spaces();
    }
    request.reference = pattern(words)?;
    words.space()?;
    // mbox-or-pat = list-mailbox / "(" list-mailbox *(SP list-mailbox) ")"
    if words.peek() == Some(b'(') {
        request.extended = true;
        request.patterns = words.list(LIST_PATTERNS_MAX, pattern)?;
        if request.patterns.is_empty() {
            return Err("a pattern is missing");
        }
    } else {
        request.patterns = vec![pattern(words)?];
    }
    words.spaces();
    if words.eat_text("RETURN") {
        request.extended = true;
        words.space()?;
        words.list(OPTIONS_MAX, |words| returned(words, &mut request))?;
    }
    //= rfc5258#section-3.1
    //# The RECURSIVEMATCH option MUST NOT occur as the only selection
    //# option (or only with REMOTE), as it only makes sense when other
    //# selection options are also used.
    if request.recursive_match && !request.select_subscribed && !request.select_special_use {
        return Err("RECURSIVEMATCH needs another selection");
    }
    Ok(Command::List(request))
}

/// `list-select-opt = "SUBSCRIBED" / "REMOTE" / "RECURSIVEMATCH" / "SPECIAL-USE"`
fn selection(words: &mut Words<'_>, request: &mut ListRequest) -> Result<(), Wrong> {
    match words.keyword().as_str() {
        "SUBSCRIBED" => request.select_subscribed = true,
        "SPECIAL-USE" => request.select_special_use = true,
        "RECURSIVEMATCH" => request.recursive_match = true,
        // There are no remote mailboxes to show.
        "REMOTE" => {}
        _ => return Err("there is no such selection option"),
    }
    Ok(())
}

/// `return-option = "SUBSCRIBED" / "CHILDREN" / "SPECIAL-USE" / "MYRIGHTS" / "STATUS" SP status-list / "METADATA" SP
/// entries` (RFC 5258, 6154, 8440, 5819, 9590)
fn returned(words: &mut Words<'_>, request: &mut ListRequest) -> Result<(), Wrong> {
    match words.keyword().as_str() {
        "SUBSCRIBED" => request.return_subscribed = true,
        "CHILDREN" => request.return_children = true,
        "SPECIAL-USE" => request.return_special_use = true,
        "MYRIGHTS" => request.return_my_rights = true,
        "STATUS" => {
            words.space()?;
            request.return_status = Some(status_items(words)?);
        }
        "METADATA" => {
            words.space()?;
            request.return_metadata = Some(entries(words)?);
        }
        _ => return Err("there is no such return option"),
    }
    Ok(())
}

/// `list-mailbox = 1*list-char / string`
fn pattern(words: &mut Words<'_>) -> Result<String, Wrong> {
    let octets = words.astring()?;
    decoded(&octets, words.names()).map(Cow::into_owned).ok_or("a mailbox name is neither modified UTF-7 nor UTF-8")
}

/// `status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"`
pub(super) fn status(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let mailbox = mailbox(words)?;
    words.space()?;
    Ok(Command::Status { mailbox, items: status_items(words)? })
}

fn status_items(words: &mut Words<'_>) -> Result<Vec<StatusItem>, Wrong> {
    let mut items = Vec::new();
    words.list(OPTIONS_MAX, |words| {
        let item = match words.keyword().as_str() {
            "MESSAGES" => StatusItem::Messages,
            "RECENT" => StatusItem::Recent,
            "UIDNEXT" => StatusItem::UidNext,
            "UIDVALIDITY" => StatusItem::UidValidity,
            "UNSEEN" => StatusItem::Unseen,
            "DELETED" => StatusItem::Deleted,
            "SIZE" => StatusItem::Size,
            "HIGHESTMODSEQ" => StatusItem::HighestModSeq,
            "MAILBOXID" => StatusItem::MailboxId,
            "APPENDLIMIT" => StatusItem::AppendLimit,
            "DELETED-STORAGE" => StatusItem::DeletedStorage,
            _ => return Err("there is no such status item"),
        };
        if !items.contains(&item) {
            items.push(item);
        }
        Ok(())
    })?;
    if items.is_empty() { Err("a status item is missing") } else { Ok(items) }
}

/// `append = "APPEND" SP mailbox 1*append-message` (RFC 3502), up to the first literal;
/// `replace = "REPLACE" SP seq-number SP mailbox append-message` (RFC 8508)
pub(super) fn append(words: &mut Words<'_>, replaces: Option<(SequenceSet, bool)>) -> Result<Command, Wrong> {
    words.space()?;
    let mailbox = mailbox(words)?;
    let (flags, date) = append_message(words)?;
    let utf8 = utf8_extension(words)?;
    Ok(Command::Append(AppendHead { mailbox, flags, date, utf8, replaces }))
}

/// `append-data =/ "UTF8" SP "(" literal8 ")"` (RFC 6855 section 4), up to the literal
pub(super) fn utf8_extension(words: &mut Words<'_>) -> Result<bool, Wrong> {
    if !words.eat_text("UTF8") {
        return Ok(false);
    }
    words.space()?;
    words.expect(b'(', "a parenthesis is missing")?;
    words.spaces();
    Ok(true)
}

/// `append-message = [SP flag-list] [SP date-time] SP literal`, up to the literal
pub(super) fn append_message(words: &mut Words<'_>) -> Result<AppendFacts, Wrong> {
    words.space()?;
    let flags = if words.peek() == Some(b'(') {
        let flags = words.flags()?;
        words.space()?;
        flags
    } else {
        Flags::default()
    };
    let date = if words.peek() == Some(b'"') {
        let date = date_time(words)?;
        words.space()?;
        Some(date)
    } else {
        None
    };
    Ok((flags, date))
}

/// `date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE`
fn date_time(words: &mut Words<'_>) -> Result<(i64, i16), Wrong> {
    let text = words.string()?;
    parse_imap(&[b"\"", &text[..], b"\""].concat()).ok_or("a date is malformed")
}

/// Whether another argument follows, which begins with a parenthesis.
fn another(words: &mut Words<'_>) -> bool {
    words.spaces() && words.peek() == Some(b'(')
}
