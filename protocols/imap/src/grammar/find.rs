//! SORT, THREAD, and what RETURN asks for.

use rockdove_mail::search::{SortCriterion, SortKey, ThreadAlgorithm};

use super::{
    mailbox, search,
    words::{Words, Wrong},
};
use crate::{
    command::{Command, FindForm, FindRequest, MailboxArg, MultiSearch, PartialRange, ReturnOptions, SearchSource},
    limits::{SEARCH_SOURCES_MAX, SORT_CRITERIA_MAX},
};

/// Options of RETURN in one list; there are seven to be had.
const OPTIONS_MAX: usize = 16;

/// `"RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")" SP`, where it is there.
pub(super) fn return_options(words: &mut Words<'_>) -> Result<Option<ReturnOptions>, Wrong> {
    let mut ahead = *words;
    if ahead.keyword() != "RETURN" {
        return Ok(None);
    }
    ahead.space()?;
    let mut options = ReturnOptions::default();
    let asked = ahead.list(OPTIONS_MAX, |words| {
        match words.keyword().as_str() {
            "MIN" => options.min = true,
            "MAX" => options.max = true,
            "ALL" => options.all = true,
            "COUNT" => options.count = true,
            "SAVE" => options.save = true,
            "RELEVANCY" => options.relevancy = true,
            "PARTIAL" => {
                words.space()?;
                //= rfc9394#section-3.1
                //# A single command MUST NOT contain more than one PARTIAL or ALL search
                //# return option
                if options.partial.replace(partial_range(words)?).is_some() {
                    return Err("one PARTIAL is enough");
                }
            }
            _ => return Err("there is no such return option"),
        }
        Ok(())
    })?;
    if options.partial.is_some() && options.all {
        return Err("ALL and PARTIAL exclude each other");
    }
    //= rfc4731#section-3.1
    //# If the list of result options is empty, that requests the server
    //# to return an ESEARCH response instead of the SEARCH response. This is
    //# equivalent to "(ALL)".
    options.all |= asked.is_empty();
    ahead.space()?;
    *words = ahead;
    Ok(Some(options))
}

/// `partial-range = nz-number ":" nz-number / "-" nz-number ":" "-" nz-number` (RFC 9394)
pub(super) fn partial_range(words: &mut Words<'_>) -> Result<PartialRange, Wrong> {
    let from_end = words.eat(b'-');
    let first = words.nz_number()?;
    words.expect(b':', "a range is malformed")?;
    if words.eat(b'-') != from_end {
        return Err("a range has one direction");
    }
    Ok(PartialRange { first, last: words.nz_number()?, from_end })
}

/// `sort = "SORT" [search-return-opts] SP sort-criteria SP search-criteria`; `search-criteria = charset 1*(SP search-key)`
pub(super) fn sort(words: &mut Words<'_>, uid: bool) -> Result<Command, Wrong> {
    let returns = return_options(words)?;
    let criteria = words.list(SORT_CRITERIA_MAX, criterion)?;
    if criteria.is_empty() {
        return Err("a sort criterion is missing");
    }
    words.space()?;
    let form = match returns {
        Some(returns) => FindForm::ExtendedSort(criteria, returns),
        None => FindForm::Sort(criteria),
    };
    criteria_of_search(words, uid, form)
}

/// `sort-criterion = ["REVERSE" SP] sort-key`
fn criterion(words: &mut Words<'_>) -> Result<SortCriterion, Wrong> {
    let mut name = words.keyword();
    let reverse = name == "REVERSE";
    if reverse {
        words.space()?;
        name = words.keyword();
    }
    let key = match name.as_str() {
        "ARRIVAL" => SortKey::Arrival,
        "CC" => SortKey::Cc,
        "DATE" => SortKey::Date,
        "DISPLAYFROM" => SortKey::DisplayFrom,
        "DISPLAYTO" => SortKey::DisplayTo,
        "FROM" => SortKey::From,
        "RELEVANCY" => SortKey::Relevancy,
        "SIZE" => SortKey::Size,
        "SUBJECT" => SortKey::Subject,
        "TO" => SortKey::To,
        _ => return Err("there is no such sort criterion"),
    };
    Ok(SortCriterion { key, reverse })
}

/// `thread = "THREAD" SP thread-alg SP search-criteria`
pub(super) fn thread(words: &mut Words<'_>, uid: bool) -> Result<Command, Wrong> {
    let algorithm = match words.keyword().as_str() {
        "ORDEREDSUBJECT" => ThreadAlgorithm::OrderedSubject,
        "REFERENCES" => ThreadAlgorithm::References,
        _ => return Err("there is no such threading algorithm"),
    };
    words.space()?;
    criteria_of_search(words, uid, FindForm::Thread(algorithm))
}

/// `search-criteria = charset 1*(SP search-key)`
fn criteria_of_search(words: &mut Words<'_>, uid: bool, form: FindForm) -> Result<Command, Wrong> {
    let charset = words.text()?.to_ascii_uppercase();
    words.space()?;
    let key = search::keys(words, Some(&charset))?;
    Ok(Command::Find(FindRequest { uid, charset: Some(charset), key, form }))
}

/// `esearch = "ESEARCH" [SP esearch-source-opts] [SP search-return-opts] SP search-program` (RFC 7377)
pub(super) fn esearch(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let sources = sources(words)?;
    //= rfc7377#section-2.1
    //# Presence of a source option in the absence of a result option implies
    //# the "ALL" result option
    let returns = return_options(words)?.unwrap_or(ReturnOptions { all: true, ..ReturnOptions::default() });
    let (charset, key) = search::program(words)?;
    Ok(Command::MultiSearch(MultiSearch { sources, returns, charset, key }))
}

/// `esearch-source-opts = "IN" SP "(" source-mbox [SP "(" scope-options ")"] ")"`; `source-mbox = filter-mailboxes *(SP
/// filter-mailboxes)`. There are no scope options yet.
fn sources(words: &mut Words<'_>) -> Result<Vec<SearchSource>, Wrong> {
    let mut ahead = *words;
    if ahead.keyword() != "IN" {
        return Ok(Vec::new());
    }
    ahead.space()?;
    let sources = ahead.list(SEARCH_SOURCES_MAX, source)?;
    if sources.is_empty() {
        return Err("a mailbox specifier is missing");
    }
    ahead.space()?;
    *words = ahead;
    Ok(sources)
}

/// `filter-mailboxes = "selected" / "inboxes" / "personal" / "subscribed" / (("subtree" / "subtree-one" / "mailboxes") SP
/// one-or-more-mailbox)` (RFC 5465, RFC 7377)
pub(super) fn source(words: &mut Words<'_>) -> Result<SearchSource, Wrong> {
    Ok(match words.keyword().as_str() {
        "SELECTED" => SearchSource::Selected,
        "INBOXES" => SearchSource::Inboxes,
        "PERSONAL" => SearchSource::Personal,
        "SUBSCRIBED" => SearchSource::Subscribed,
        "SUBTREE" => SearchSource::Subtree(mailboxes(words)?),
        "SUBTREE-ONE" => SearchSource::SubtreeOne(mailboxes(words)?),
        "MAILBOXES" => SearchSource::Mailboxes(mailboxes(words)?),
        _ => return Err("there is no such mailbox specifier"),
    })
}

/// `one-or-more-mailbox = mailbox / many-mailboxes`; `many-mailboxes = "(" mailbox *(SP mailbox) ")"` (RFC 5465)
fn mailboxes(words: &mut Words<'_>) -> Result<Vec<MailboxArg>, Wrong> {
    words.space()?;
    if words.peek() != Some(b'(') {
        return Ok(vec![mailbox::mailbox(words)?]);
    }
    let names = words.list(SEARCH_SOURCES_MAX, mailbox::mailbox)?;
    if names.is_empty() { Err("a mailbox is missing") } else { Ok(names) }
}
