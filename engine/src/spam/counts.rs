//! The rows: messages and tokens counted, in memory while they change.
//!
//! ```text
//! totals   01 tokens1 spam.. ham..     `tokens1`: the version of the tokens
//! token    spam.. ham.. day..          `day`: when it was learned last, in days since 1970
//! message  01 tokens1 class1           also of a digest
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Class, tokens};
use crate::{
    command::EngineError,
    kv::{Batch, Family, Read, keys},
    store::octets::{Take, put_varint},
};

const VERSION: u8 = 1;

/// In how many unwanted and wanted messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) spam: u32,
    pub(crate) ham: u32,
}

impl Counts {
    fn of(&mut self, class: Class) -> &mut u32 {
        match class {
            Class::Spam => &mut self.spam,
            Class::Ham => &mut self.ham,
        }
    }

    pub(crate) const fn is_none(self) -> bool {
        self.spam == 0 && self.ham == 0
    }
}

/// The row of totals. `None` for one of another version.
pub(crate) fn decode_totals(row: &[u8]) -> Option<Counts> {
    let mut take = Take::versioned(row, VERSION)?;
    if take.u8()? != tokens::VERSION {
        return None;
    }
    let totals = Counts { spam: take.small()?, ham: take.small()? };
    take.end().map(|()| totals)
}

fn encode_totals(totals: Counts) -> Vec<u8> {
    let mut row = vec![VERSION, tokens::VERSION];
    put_varint(&mut row, u64::from(totals.spam));
    put_varint(&mut row, u64::from(totals.ham));
    row
}

/// The row of a token, with its day.
pub(crate) fn decode_token(row: &[u8]) -> Option<(Counts, u32)> {
    let mut take = Take::new(row);
    let (counts, day) = (Counts { spam: take.small()?, ham: take.small()? }, take.small()?);
    take.end().filter(|()| !counts.is_none()).map(|()| (counts, day))
}

fn encode_token(counts: Counts, day: u32) -> Vec<u8> {
    let mut row = Vec::with_capacity(6);
    for value in [counts.spam, counts.ham, day] {
        put_varint(&mut row, u64::from(value));
    }
    row
}

/// As what a message was learned, and by which version of the tokens.
pub(crate) fn decode_learned(row: &[u8]) -> Option<(u8, Class)> {
    let mut take = Take::versioned(row, VERSION)?;
    let learned = (take.u8()?, Class::of_number(take.u8()?)?);
    take.end().map(|()| learned)
}

/// As what a message was learned, unless another version has, whose counts are thrown away.
pub(crate) fn learned_as(read: &dyn Read, key: &[u8]) -> Result<Option<Class>, EngineError> {
    let row = read.get(Family::Spam, key)?;
    let learned = row.and_then(|row| decode_learned(&row));
    Ok(learned.filter(|(version, _)| *version == tokens::VERSION).map(|(_, class)| class))
}

pub(crate) fn encode_learned(class: Class) -> Vec<u8> {
    vec![VERSION, tokens::VERSION, class.number()]
}

/// The totals of a scope. What another version has learned counts as nothing.
pub(crate) fn totals(read: &dyn Read, scope: u32) -> Result<Counts, EngineError> {
    let row = read.get(Family::Spam, &keys::spam_totals(scope))?;
    Ok(row.and_then(|row| decode_totals(&row)).unwrap_or_default())
}

/// The counts of these tokens, in their order.
pub(crate) fn counts(read: &dyn Read, scope: u32, tokens: &[u64]) -> Result<Vec<(Counts, u32)>, EngineError> {
    let keys: Vec<Bytes> = tokens.iter().map(|token| keys::spam_token(scope, *token)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let rows = read.multi_get(Family::Spam, &keys)?;
    Ok(rows.into_iter().map(|row| row.and_then(|row| decode_token(&row)).unwrap_or_default()).collect())
}

/// Removes all that was learned in a scope.
pub(crate) fn forget_scope(batch: &mut Batch, scope: u32) {
    for kind in [keys::SPAM_TOTALS, keys::SPAM_TOKEN, keys::SPAM_MESSAGE, keys::SPAM_DIGEST] {
        let prefix = keys::spam_kind(scope, kind);
        let end = keys::prefix_end(&prefix);
        batch.delete_range(Family::Spam, prefix, end);
    }
}

/// What is learned of several messages before it is written.
pub(crate) struct Ledger<'r> {
    read: &'r dyn Read,
    day: u32,
    scopes: BTreeMap<u32, Scope>,
}

struct Scope {
    totals: Counts,
    /// What is there was learned by another version.
    stale: bool,
    tokens: BTreeMap<u64, (Counts, u32)>,
}

impl<'r> Ledger<'r> {
    /// `day`: the present one, in days since 1970.
    pub(crate) fn new(read: &'r dyn Read, day: u32) -> Self {
        Self { read, day, scopes: BTreeMap::new() }
    }

    /// Whether what is learned in the scope now begins anew, because another version has learned what is there.
    pub(crate) fn is_stale(&mut self, scope: u32) -> Result<bool, EngineError> {
        Ok(self.scope(scope)?.stale)
    }

    fn scope(&mut self, scope: u32) -> Result<&mut Scope, EngineError> {
        let loaded = if let Some(loaded) = self.scopes.remove(&scope) {
            loaded
        } else {
            let row = self.read.get(Family::Spam, &keys::spam_totals(scope))?;
            let totals = row.as_deref().map(decode_totals);
            let stale = matches!(totals, Some(None));
            Scope { totals: totals.flatten().unwrap_or_default(), stale, tokens: BTreeMap::new() }
        };
        Ok(self.scopes.entry(scope).or_insert(loaded))
    }

    /// Counts a message in, or takes it out again.
    pub(crate) fn count(&mut self, scope: u32, tokens: &[u64], class: Class, learned: bool) -> Result<(), EngineError> {
        let (read, day) = (self.read, self.day);
        let scope_rows = self.scope(scope)?;
        let unknown: Vec<u64> = tokens.iter().copied().filter(|token| !scope_rows.tokens.contains_key(token)).collect();
        let found = if scope_rows.stale {
            vec![<(Counts, u32)>::default(); unknown.len()]
        } else {
            counts(read, scope, &unknown)?
        };
        scope_rows.tokens.extend(unknown.into_iter().zip(found));
        let step = |count: &mut u32| *count = if learned { count.saturating_add(1) } else { count.saturating_sub(1) };
        step(scope_rows.totals.of(class));
        for token in tokens {
            if let Some((counts, last)) = scope_rows.tokens.get_mut(token) {
                step(counts.of(class));
                if learned {
                    *last = day;
                }
            }
        }
        Ok(())
    }

    /// The rows that say it.
    pub(crate) fn write(self, batch: &mut Batch) {
        for (scope, rows) in self.scopes {
            if rows.stale {
                forget_scope(batch, scope);
            }
            let key = keys::spam_totals(scope);
            if rows.totals.is_none() {
                batch.delete(Family::Spam, key);
            } else {
                batch.put(Family::Spam, key, encode_totals(rows.totals));
            }
            for (token, (counts, day)) in rows.tokens {
                let key = keys::spam_token(scope, token);
                if counts.is_none() {
                    batch.delete(Family::Spam, key);
                } else {
                    batch.put(Family::Spam, key, encode_token(counts, day));
                }
            }
        }
    }
}
