//! SORT, THREAD, and what RETURN asks for.

use rockdove_mail::search::{SortCriterion, SortKey, ThreadAlgorithm};

use super::{
    search,
    words::{Words, Wrong},
};
use crate::{
    command::{Command, FindForm, FindRequest, PartialRange, ReturnOptions},
    limits::SORT_CRITERIA_MAX,
};

/// Options of RETURN in one list; there are six to be had.
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
