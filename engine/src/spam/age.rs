//! Keeping what was learned within bounds: tokens that were learned seldom and long ago go first.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{
    counts::{Counts, decode_token},
    learn::day_of,
};
use crate::{
    command::EngineError,
    engine::Engine,
    kv::{
        Batch, Durability, Family,
        keys::{self, KeyReader},
    },
};

/// Tokens of the whole server that are kept: what some ten thousand different messages teach. About 20 octets each.
pub const TOKENS_KEPT_MAX: usize = 2_000_000;
/// Tokens of an account that are kept.
pub const TOKENS_KEPT_OF_ACCOUNT_MAX: usize = 100_000;
/// Rows that are removed in one write, while nothing is learned.
const ROWS_AT_ONCE: usize = 4_096;
/// Age counts up to this.
const AGE_MAX: usize = 4_096;

/// How easily a token is missed: its age in days by how often it was seen.
fn staleness((counts, day): (Counts, u32), today: u32) -> usize {
    let seen = counts.spam.saturating_add(counts.ham).max(1);
    usize::try_from(today.saturating_sub(day).saturating_add(1) / seen.min(64)).map_or(AGE_MAX, |age| age.min(AGE_MAX))
}

impl Engine {
    /// Removes tokens of one scope, from this one on, where there are too many: down to nine tenths. Answers the scope to
    /// go on with; `None` behind the last.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn age_spam(&self, now_unix_s: i64, from: u32) -> Result<Option<u32>, EngineError> {
        self.age_spam_to(now_unix_s, from, TOKENS_KEPT_MAX, TOKENS_KEPT_OF_ACCOUNT_MAX)
    }

    /// [`Engine::age_spam`] with other bounds.
    ///
    /// # Errors
    /// As there.
    pub fn age_spam_to(
        &self,
        now_unix_s: i64,
        from: u32,
        most_of_server: usize,
        most_of_account: usize,
    ) -> Result<Option<u32>, EngineError> {
        let mut scope = None;
        self.kv_read().scan(Family::Spam, &keys::account_prefix(from), &[0xff; 32], &mut |key, _| {
            scope = KeyReader::new(key).u32();
            ControlFlow::Break(())
        })?;
        let Some(scope) = scope else { return Ok(None) };
        let most = if scope == keys::SPAM_SERVER { most_of_server } else { most_of_account };
        let today = day_of(now_unix_s);
        let prefix = keys::spam_kind(scope, keys::SPAM_TOKEN);
        let (mut ages, mut all) = (vec![0_usize; AGE_MAX + 1], 0_usize);
        self.kv_read().scan(Family::Spam, &prefix, &keys::prefix_end(&prefix), &mut |_, row| {
            all += 1;
            ages[decode_token(row).map_or(AGE_MAX, |token| staleness(token, today))] += 1;
            ControlFlow::Continue(())
        })?;
        if all > most {
            self.remove_tokens(scope, today, &ages, all - most / 10 * 9)?;
        }
        Ok(scope.checked_add(1))
    }

    /// Removes `surplus` tokens, the stalest first.
    fn remove_tokens(&self, scope: u32, today: u32, ages: &[usize], surplus: usize) -> Result<(), EngineError> {
        let mut left = surplus;
        let limit = ages.iter().enumerate().rev().find(|(_, count)| {
            let enough = **count >= left;
            left = left.saturating_sub(**count);
            enough
        });
        let limit = limit.map_or(0, |(age, _)| age);
        let (mut at_limit, prefix) = (left_at(ages, limit, surplus), keys::spam_kind(scope, keys::SPAM_TOKEN));
        let (end, mut from) = (keys::prefix_end(&prefix), Some(prefix));
        while let Some(start) = from.take() {
            let _one = self.learning_lock();
            let (mut batch, mut looked) = (Batch::default(), 0);
            self.kv_read().scan(Family::Spam, &start, &end, &mut |key, row| {
                if looked == ROWS_AT_ONCE {
                    from = Some(Bytes::copy_from_slice(key));
                    return ControlFlow::Break(());
                }
                looked += 1;
                let age = decode_token(row).map_or(AGE_MAX, |token| staleness(token, today));
                if age > limit || (age == limit && at_limit > 0) {
                    at_limit -= usize::from(age == limit);
                    batch.delete(Family::Spam, Bytes::copy_from_slice(key));
                }
                ControlFlow::Continue(())
            })?;
            self.kv().write(&batch, Durability::Ordered)?;
        }
        Ok(())
    }
}

/// How many of this age go, when all that are staler do.
fn left_at(ages: &[usize], limit: usize, surplus: usize) -> usize {
    let staler: usize = ages.iter().skip(limit + 1).sum();
    surplus.saturating_sub(staler)
}
