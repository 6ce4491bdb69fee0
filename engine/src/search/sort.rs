//! SORT (RFC 5256 section 3, RFC 5957).

use std::cmp::Ordering;

use rockdove_mail::{
    Uid,
    search::{SortCriterion, SortKey},
};

use super::{
    keys::{Name, Sheet, entries_of, links_in, name_in},
    scan::Messages,
    sheets::{Entries, Sheets, entries},
};
use crate::{command::EngineError, store::segment::Row};

/// One criterion's values, one for each row.
enum Values<'e> {
    Numbers(Vec<i64>),
    Texts(Vec<&'e [u8]>),
}

impl Values<'_> {
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Self::Numbers(numbers) => numbers[a].cmp(&numbers[b]),
            Self::Texts(texts) => texts[a].cmp(texts[b]),
        }
    }
}

const fn name(key: SortKey) -> Option<Name> {
    Some(match key {
        SortKey::Arrival | SortKey::Date | SortKey::Relevancy | SortKey::Size => return None,
        SortKey::Cc => Name::Cc,
        SortKey::DisplayFrom => Name::DisplayFrom,
        SortKey::DisplayTo => Name::DisplayTo,
        SortKey::From => Name::From,
        SortKey::Subject => Name::Subject,
        SortKey::To => Name::To,
    })
}

/// Entries of a sheet from records; empty for messages that are gone, so that they come first and nobody sees them.
pub(super) fn made(messages: &dyn Messages, sheet: Sheet, wanted: &[u32]) -> Result<Vec<Vec<u8>>, EngineError> {
    let entry = |message: &u32| {
        let record = messages.record(*message)?;
        let entry = record.map(|record| entries_of(&record)).unwrap_or_default();
        let [links, names] = entry;
        Ok(if sheet == Sheet::Links { links } else { names })
    };
    wanted.iter().map(entry).collect()
}

/// When each message was sent, in seconds since 1970; without a date in its header the internal date.
pub(super) fn dates(rows: &[Row], links: &Entries) -> Vec<i64> {
    let date =
        |(at, row): (usize, &Row)| links_in(links.get(at)).and_then(|links| links.sent).unwrap_or(row.date.unix_s);
    rows.iter().enumerate().map(date).collect()
}

/// The UIDs of these rows (ascending by UID), ordered. `relevancy` has a score for each row, when it is a criterion.
pub(crate) fn sort(
    rows: &[Row],
    criteria: &[SortCriterion],
    relevancy: &[u8],
    messages: &dyn Messages,
    sheets: Option<&Sheets<'_>>,
) -> Result<Vec<Uid>, EngineError> {
    let ids: Vec<u32> = rows.iter().map(|row| row.message).collect();
    let sheet = |sheet: Sheet, wanted: bool| {
        let make = |wanted: &[u32]| made(messages, sheet, wanted);
        entries(sheets, sheet, if wanted { &ids } else { &[] }, &make)
    };
    let names = sheet(Sheet::Names, criteria.iter().any(|criterion| name(criterion.key).is_some()))?;
    let links = sheet(Sheet::Links, criteria.iter().any(|criterion| criterion.key == SortKey::Date))?;
    let values = |criterion: &SortCriterion| match (criterion.key, name(criterion.key)) {
        (_, Some(name)) => {
            Values::Texts((0..rows.len()).map(|at| name_in(names.get(at), name).unwrap_or_default()).collect())
        }
        (SortKey::Date, _) => Values::Numbers(dates(rows, &links)),
        //= rfc6203#section-6
        //# The message with the highest score is returned first.
        (SortKey::Relevancy, _) => {
            let score = |at: usize| relevancy.get(at).copied().unwrap_or_default();
            Values::Numbers((0..rows.len()).map(|at| -i64::from(score(at))).collect())
        }
        (SortKey::Size, _) => Values::Numbers(rows.iter().map(|row| i64::from(row.size)).collect()),
        _ => Values::Numbers(rows.iter().map(|row| row.date.unix_s).collect()),
    };
    let by: Vec<(Values<'_>, bool)> = criteria.iter().map(|criterion| (values(criterion), criterion.reverse)).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let compare = |a: &usize, b: &usize| {
        let one = |(values, reverse): &(Values<'_>, bool)| {
            let order = values.compare(*a, *b);
            if *reverse { order.reverse() } else { order }
        };
        by.iter().map(one).find(|order| *order != Ordering::Equal).unwrap_or_else(|| a.cmp(b))
    };
    order.sort_unstable_by(compare);
    Ok(order.into_iter().map(|at| rows[at].uid).collect())
}
