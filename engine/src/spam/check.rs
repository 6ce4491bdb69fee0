//! What fsck looks at: every row decodes, and no token is in more messages than were learned.

use std::ops::ControlFlow;

use super::{
    Class,
    counts::{Counts, decode_learned, decode_token, decode_totals},
};
use crate::{
    command::{AccountId, EngineError},
    kv::{
        Family, Read,
        keys::{self, KeyReader},
    },
};

/// Told the key of a row, the account, and what is wrong.
type Found<'a> = &'a mut dyn FnMut(&[u8], Option<AccountId>, &str);

/// Looks at every row; and tells `found`. `known`: whether there is such an account.
pub(crate) fn check(read: &dyn Read, known: &dyn Fn(AccountId) -> bool, found: Found<'_>) -> Result<(), EngineError> {
    let mut scope = None;
    // What another version has learned is thrown away when something is learned; until then its totals tell nothing.
    let mut totals: Option<Counts> = None;
    read.scan(Family::Spam, &[], &[0xff; 32], &mut |key, row| {
        let mut reader = KeyReader::new(key);
        let (Some(id), Some(kind)) = (reader.u32(), reader.u8()) else {
            found(key, None, "a malformed key");
            return ControlFlow::Continue(());
        };
        let account = (id != keys::SPAM_SERVER).then_some(AccountId(id));
        if scope != Some(id) {
            (scope, totals) = (Some(id), Some(Counts::default()));
            if account.is_some_and(|account| !known(account)) {
                found(key, account, "something was learned for an account that is not there");
            }
        }
        let wrong = match (kind, reader.rest().len()) {
            (keys::SPAM_TOTALS, 0) => {
                totals = decode_totals(row);
                (row.len() < 4).then_some("the numbers of messages learned cannot be read")
            }
            (keys::SPAM_TOKEN, 8) => match (decode_token(row), totals) {
                (None, _) => Some("the counts of a token cannot be read"),
                (Some((counts, _)), Some(totals)) if counts.spam > totals.spam || counts.ham > totals.ham => {
                    Some("a token is in more messages than were learned")
                }
                _ => None,
            },
            (keys::SPAM_MESSAGE, 4) if account.is_some() => unreadable(row),
            (keys::SPAM_DIGEST, 16) => unreadable(row),
            (keys::SPAM_WAITING, 8) if account.is_none() => {
                let class = row.first().and_then(|number| Class::of_number(*number));
                (row.len() != 1 || class.is_none()).then_some("the note of a message cannot be read")
            }
            _ => Some("nobody knows this row"),
        };
        if let Some(wrong) = wrong {
            found(key, account, wrong);
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}

fn unreadable(row: &[u8]) -> Option<&'static str> {
    decode_learned(row).is_none().then_some("it cannot be read as what a message was learned")
}
