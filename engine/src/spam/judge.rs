//! How likely a message is unwanted: Robinson's combination of the probabilities of its tokens by Fisher's method.
//!
//! A token that is in `s` of `S` unwanted and in `h` of `H` wanted messages has `p = (s/S) / (s/S + h/H)`. Few messages say
//! little, so what counts is `f = (STRENGTH x + n p) / (STRENGTH + n)` with `n = s + h` and `x` what is believed beforehand:
//! one half; for an account, what the whole server says. If the tokens said nothing and were independent of each other,
//! `-2 Σ ln f` and `-2 Σ ln (1 - f)` would be distributed as chi-square with two degrees of freedom for each token; the
//! score is how much less likely the one is than the other. Measured beside others by `rockdove-benches --example spam`.

use super::counts::{Counts, counts, totals};
use crate::{
    command::{AccountId, EngineError},
    engine::Engine,
    kv::{Read, keys},
};

/// How many messages what is believed beforehand is worth.
const STRENGTH: f64 = 0.45;
/// The same where the whole server believes it: its word is worth more than none.
const SERVER_STRENGTH: f64 = 1.0;
/// No probability is nearer to 0 or 1 than this.
const EDGE: f64 = 1e-6;

/// What was found out about a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// From 0 (wanted) to 1 (unwanted).
    pub score: f64,
    /// Tokens of it that are known.
    pub known: usize,
}

/// What one token says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spoken {
    /// Its number.
    pub token: u64,
    /// Unwanted messages of the server that it was in.
    pub spam: u32,
    /// Wanted ones.
    pub ham: u32,
    /// How likely a message with it is unwanted.
    pub probability: f64,
}

fn is_enough(totals: Counts, least: u32) -> bool {
    totals.spam.min(totals.ham) >= least.max(1)
}

/// What a scope has learned of some tokens.
struct Lesson {
    totals: Counts,
    counts: Vec<(Counts, u32)>,
}

impl Lesson {
    /// `None` where fewer messages of either kind than `least` were learned.
    fn read(read: &dyn Read, scope: u32, tokens: &[u64], least: u32) -> Result<Option<Self>, EngineError> {
        let totals = totals(read, scope)?;
        if !is_enough(totals, least) {
            return Ok(None);
        }
        Ok(Some(Self { totals, counts: counts(read, scope, tokens)? }))
    }

    fn counts(&self, at: usize) -> Counts {
        self.counts.get(at).map(|(counts, _)| *counts).unwrap_or_default()
    }

    /// `before` improved by what is known here; `None` when that is nothing.
    fn probability(&self, at: usize, before: f64, strength: f64) -> Option<f64> {
        let counts = self.counts(at);
        if counts.is_none() {
            return None;
        }
        let share = |count: u32, all: u32| f64::from(count) / f64::from(all.max(1));
        let (spam, ham) = (share(counts.spam, self.totals.spam), share(counts.ham, self.totals.ham));
        let seen = f64::from(counts.spam) + f64::from(counts.ham);
        Some((strength * before + seen * spam / (spam + ham)) / (strength + seen))
    }
}

/// The lesson of the server and that of an account, as far as they have learned enough.
struct Lessons<'l> {
    server: Option<&'l Lesson>,
    own: Option<&'l Lesson>,
}

impl Lessons<'_> {
    /// What each of the tokens says that are known; `None` when neither has learned enough.
    fn speak(&self, tokens: &[u64]) -> Option<Vec<Spoken>> {
        let first = self.server.or(self.own)?;
        let spoken = tokens.iter().enumerate().filter_map(|(at, token)| {
            let of_server = self.server.and_then(|server| server.probability(at, 0.5, STRENGTH));
            let (before, strength) = of_server.map_or((0.5, STRENGTH), |before| (before, SERVER_STRENGTH));
            let of_own = self.own.and_then(|own| own.probability(at, before, strength));
            let Counts { spam, ham } = first.counts(at);
            Some(Spoken { token: *token, spam, ham, probability: of_own.or(of_server)? })
        });
        Some(spoken.collect())
    }

    fn judge(&self, tokens: &[u64]) -> Option<Judgement> {
        let probabilities: Vec<f64> = self.speak(tokens)?.iter().map(|spoken| spoken.probability).collect();
        Some(Judgement { score: combined(&probabilities), known: probabilities.len() })
    }
}

impl Engine {
    /// Whether the server or one of these accounts has learned enough to judge.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_learned(&self, accounts: &[AccountId], least: u32) -> Result<bool, EngineError> {
        let read = self.kv().snapshot();
        for scope in [keys::SPAM_SERVER].into_iter().chain(accounts.iter().map(|account| account.0)) {
            if is_enough(totals(&*read, scope)?, least) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How likely a message with these tokens (of [`super::tokens::numbers`]) is unwanted; for an account, by what it has
    /// learned itself too. `None` when fewer than `least` messages of either kind were learned. Reads the disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judge(
        &self,
        account: Option<AccountId>,
        tokens: &[u64],
        least: u32,
    ) -> Result<Option<Judgement>, EngineError> {
        self.with_lessons(account, tokens, least, |lessons| lessons.judge(tokens))
    }

    /// What each of the tokens says that are known, as [`Engine::judge`] takes it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn speak(
        &self,
        account: Option<AccountId>,
        tokens: &[u64],
        least: u32,
    ) -> Result<Option<Vec<Spoken>>, EngineError> {
        self.with_lessons(account, tokens, least, |lessons| lessons.speak(tokens))
    }

    fn with_lessons<T>(
        &self,
        account: Option<AccountId>,
        tokens: &[u64],
        least: u32,
        ask: impl FnOnce(&Lessons<'_>) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        let read = self.kv().snapshot();
        let server = Lesson::read(&*read, keys::SPAM_SERVER, tokens, least)?;
        let own = match account {
            Some(account) => Lesson::read(&*read, account.0, tokens, least)?,
            None => None,
        };
        Ok(ask(&Lessons { server: server.as_ref(), own: own.as_ref() }))
    }

    /// [`Engine::judge`] for several accounts, in their order. Those that have not learned enough themselves cost one read
    /// each.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judge_each(
        &self,
        accounts: &[AccountId],
        tokens: &[u64],
        least: u32,
    ) -> Result<Vec<Option<Judgement>>, EngineError> {
        let read = self.kv().snapshot();
        let server = Lesson::read(&*read, keys::SPAM_SERVER, tokens, least)?;
        let of_server = Lessons { server: server.as_ref(), own: None }.judge(tokens);
        let judge = |account: &AccountId| {
            let own = Lesson::read(&*read, account.0, tokens, least)?;
            let judged = own.map(|own| Lessons { server: server.as_ref(), own: Some(&own) }.judge(tokens));
            Ok(judged.unwrap_or(of_server))
        };
        accounts.iter().map(judge).collect()
    }
}

/// Fisher's method both ways, from 0 to 1; one half where nothing is known.
pub(crate) fn combined(probabilities: &[f64]) -> f64 {
    if probabilities.is_empty() {
        return 0.5;
    }
    let statistic =
        |of: fn(f64) -> f64| -2.0 * probabilities.iter().map(|p| of(p.clamp(EDGE, 1.0 - EDGE)).ln()).sum::<f64>();
    let tokens = probabilities.len();
    let unwanted = 1.0 - chi_square_above(statistic(|p| 1.0 - p), tokens);
    let wanted = 1.0 - chi_square_above(statistic(|p| p), tokens);
    f64::midpoint(unwanted - wanted, 1.0).clamp(0.0, 1.0)
}

/// How likely a chi-square variable with `2 * pairs` degrees of freedom is above `x`: `exp(-m) Σ m^i / i!` for `i` below
/// `pairs`, with `m = x / 2`. In logarithms, because the terms of a long message are beyond what a float holds.
fn chi_square_above(x: f64, pairs: usize) -> f64 {
    let m = x / 2.0;
    if m <= 0.0 {
        return 1.0;
    }
    let mut term = -m;
    let mut sum = term;
    for i in (1..pairs).map(|i| f64::from(u32::try_from(i).unwrap_or(u32::MAX))) {
        term += (m / i).ln();
        let (high, low) = if sum > term { (sum, term) } else { (term, sum) };
        sum = high + (low - high).exp().ln_1p();
    }
    sum.exp().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chi_square_is_that_of_the_tables() {
        for (x, pairs, above) in
            [(0.0, 1, 1.0), (5.991, 1, 0.05), (18.307, 5, 0.05), (124.342, 50, 0.05), (135.807, 50, 0.01)]
        {
            assert!((chi_square_above(x, pairs) - above).abs() < 1e-4, "{x} {pairs}");
        }
        assert!(chi_square_above(1e6, 2_000) < 1e-9);
        assert!(chi_square_above(1.0, 2_000) > 1.0 - 1e-9);
    }

    #[test]
    fn tokens_agree_or_cancel_out() {
        assert!((combined(&[]) - 0.5).abs() < 1e-9);
        assert!((combined(&[0.5; 100]) - 0.5).abs() < 1e-9);
        assert!((combined(&[0.9, 0.1, 0.9, 0.1]) - 0.5).abs() < 1e-9);
        assert!(combined(&[0.9; 20]) > 0.999);
        assert!(combined(&[0.1; 20]) < 0.001);
        assert!(combined(&[1.0; 2_000]) <= 1.0 && combined(&[0.0; 2_000]) >= 0.0);
    }
}
