//! Planning a search: sets of rows, the cheapest keys first, texts last.

use rockdove_mail::{
    Keyword,
    search::{DateField, SearchKey},
};

use super::{
    lookup::Index,
    scan::{Message, Messages},
};
use crate::{command::EngineError, store::segment::Row};

/// Rows by their place, as bits.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<u64>);

impl Places {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    pub(super) fn all(count: usize) -> Self {
        let mut places = Self::none(count);
        (0..count).for_each(|at| places.insert(at));
        places
    }

    fn insert(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn joined(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| join(*a, *b)).collect())
    }

    fn or(&self, other: &Self) -> Self {
        self.joined(other, |a, b| a | b)
    }

    fn and(&self, other: &Self) -> Self {
        self.joined(other, |a, b| a & b)
    }

    fn without(&self, other: &Self) -> Self {
        self.joined(other, |a, b| a & !b)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(number, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(number * 64 + bit)
            })
        })
    }
}

/// Which rows match, and about which only the message itself can tell.
pub(super) struct Decided {
    pub(super) yes: Places,
    pub(super) open: Places,
}

/// What a key costs, roughly; in the order in which keys are asked.
fn cost(key: &SearchKey) -> u8 {
    match key {
        SearchKey::Text(field, _) | SearchKey::Fuzzy(field, _) => match field {
            rockdove_mail::search::SearchField::Text => 5,
            rockdove_mail::search::SearchField::Body => 4,
            rockdove_mail::search::SearchField::Header(_) => 3,
            _ => 2,
        },
        // A record for each message.
        SearchKey::Before(DateField::Sent, _)
        | SearchKey::On(DateField::Sent, _)
        | SearchKey::Since(DateField::Sent, _) => 6,
        SearchKey::And(keys) => keys.iter().map(cost).max().unwrap_or_default(),
        SearchKey::Or(a, b) => cost(a).max(cost(b)),
        SearchKey::Not(key) => cost(key),
        _ => 0,
    }
}

pub(super) struct Planner<'a> {
    pub(super) rows: &'a [Row],
    pub(super) keywords: &'a [Keyword],
    pub(super) messages: &'a dyn Messages,
    pub(super) index: Option<&'a Index<'a>>,
}

impl Planner<'_> {
    fn none(&self) -> Places {
        Places::none(self.rows.len())
    }

    /// Decides a key, whose needles are folded, for the rows `among`.
    pub(super) fn decide(&self, key: &SearchKey, among: &Places) -> Result<Decided, EngineError> {
        if among.is_empty() {
            return Ok(Decided { yes: self.none(), open: self.none() });
        }
        match key {
            SearchKey::And(keys) => self.decide_all(keys, among),
            SearchKey::Or(a, b) => {
                let (first, second) = if cost(a) <= cost(b) { (a, b) } else { (b, a) };
                let first = self.decide(first, among)?;
                let second = self.decide(second, &among.without(&first.yes))?;
                let yes = first.yes.or(&second.yes);
                let open = first.open.or(&second.open).without(&yes);
                Ok(Decided { yes, open })
            }
            SearchKey::Not(key) => {
                let Decided { yes, open } = self.decide(key, among)?;
                Ok(Decided { yes: among.without(&yes).without(&open), open })
            }
            SearchKey::Text(field, needle) | SearchKey::Fuzzy(field, needle) => match self.index {
                None => Ok(Decided { yes: self.none(), open: among.clone() }),
                Some(index) => {
                    let mut wanted: Vec<u32> = among.iter().map(|at| self.rows[at].message).collect();
                    wanted.sort_unstable();
                    wanted.dedup();
                    let verdicts = if matches!(key, SearchKey::Fuzzy(..)) {
                        index.ask_fuzzily(field, needle, &wanted)?
                    } else {
                        index.ask(field, needle, &wanted)?
                    };
                    let of = |messages: &[u32]| {
                        let mut places = self.none();
                        let has = |at: &usize| messages.binary_search(&self.rows[*at].message).is_ok();
                        among.iter().filter(has).for_each(|at| places.insert(at));
                        places
                    };
                    Ok(Decided { yes: of(&verdicts.yes), open: of(&verdicts.open) })
                }
            },
            _ => {
                let mut yes = self.none();
                for at in among.iter() {
                    if self.message(at).matches(key)? {
                        yes.insert(at);
                    }
                }
                Ok(Decided { yes, open: self.none() })
            }
        }
    }

    fn decide_all(&self, keys: &[SearchKey], among: &Places) -> Result<Decided, EngineError> {
        let mut order: Vec<&SearchKey> = keys.iter().collect();
        order.sort_by_key(|key| cost(key));
        let (mut left, mut open) = (among.clone(), self.none());
        for key in order {
            let decided = self.decide(key, &left)?;
            left = decided.yes.or(&decided.open);
            open = open.or(&decided.open).and(&left);
        }
        Ok(Decided { yes: left.without(&open), open })
    }

    pub(super) fn message(&self, at: usize) -> Message<'_> {
        Message::new(self.rows[at], self.keywords, self.messages)
    }
}
