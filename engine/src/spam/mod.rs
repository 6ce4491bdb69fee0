//! Telling unwanted mail from wanted, by what was learned of both.
//!
//! * What: tokens of a message; in how many unwanted and wanted messages each was, for the whole server and for each
//!   account; how likely a message is unwanted by that; learning from what users do, and taking it back.
//! * In: octets of messages, and what people say of them.
//! * Out: a score from 0 (wanted) to 1 (unwanted); rows of the family `Spam`.
//! * Never: learns a message twice, learns from its own verdicts, delays a delivery or a command, or keeps words of a
//!   message (only hashes and numbers).
//! * Fails: as the store does. What was learned by another version, or cannot be read, counts as nothing.

mod age;
pub(crate) mod check;
mod counts;
mod judge;
mod learn;
pub mod tokens;

use crate::kv::{Batch, Family, keys};

pub use age::{TOKENS_KEPT_MAX, TOKENS_KEPT_OF_ACCOUNT_MAX};
pub use judge::{Judgement, Spoken};
pub use learn::{Learnable, Learned, SpamStatus};

/// What somebody says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Unwanted.
    Spam,
    /// Wanted.
    Ham,
}

impl Class {
    /// The number in rows; never changed.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Spam => 1,
            Self::Ham => 2,
        }
    }

    pub(crate) const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Spam),
            2 => Some(Self::Ham),
            _ => None,
        }
    }

    /// What a keyword says (RFC 9051 section 2.3.2; without `$` as Thunderbird writes them).
    pub(crate) fn of_keyword(keyword: &str) -> Option<Self> {
        let is = |names: [&str; 2]| names.iter().any(|name| keyword.eq_ignore_ascii_case(name));
        if is(["$Junk", "Junk"]) {
            Some(Self::Spam)
        } else if is(["$NotJunk", "NonJunk"]) {
            Some(Self::Ham)
        } else {
            None
        }
    }
}

/// Removes what an account has taught itself, and what of it waits.
pub(crate) fn forget_account(batch: &mut Batch, account: u32) {
    for prefix in [keys::account_prefix(account), keys::spam_waiting_of(account)] {
        let end = keys::prefix_end(&prefix);
        batch.delete_range(Family::Spam, prefix, end);
    }
}
