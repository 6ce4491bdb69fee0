//! How far the texts of an account reach, and which block has which messages.
//!
//! ```text
//! account4 00   01 texts1 next.. folded..*2
//! ```
//! `next` is the first message id that is not taken in. A segment is the pages of 256 neighbouring ids; the last one is
//! open. When it closes its words become a block of tier 0; sixteen blocks, aligned, become one of the next tier.
//! `folded` counts the blocks of tiers 1 and 2, from the first message on.

use crate::{
    command::EngineError,
    kv::{Family, Read, keys},
    store::octets::{Take, put_varint},
};

const VERSION: u8 = 1;
/// Version of the texts themselves: raise it when the same message gives other text or other words. What was made by
/// another version is not used, and made anew.
const TEXTS: u8 = 3;

/// Message ids of a block, by tier.
pub(super) const SPANS: [u32; 3] = [256, 4_096, 65_536];
/// Message ids of a segment.
pub(super) const SEGMENT: u32 = SPANS[0];

/// The row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Messages below this id are taken in.
    pub(crate) next: u32,
    pub(super) folded: [u32; 2],
}

impl Default for Reach {
    fn default() -> Self {
        Self { next: 1, folded: [0; 2] }
    }
}

/// Some messages that are searched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    /// `None`: the open segment, which has no block.
    pub(super) tier: Option<u8>,
    pub(super) number: u32,
    pub(super) span: u32,
}

impl Area {
    /// The first message id.
    pub(super) const fn start(self) -> u32 {
        self.number.saturating_mul(self.span)
    }
}

impl Reach {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION, TEXTS];
        for value in [self.next, self.folded[0], self.folded[1]] {
            put_varint(&mut row, u64::from(value));
        }
        row
    }

    /// `None` for what is damaged, impossible, or of another version.
    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        if take.u8()? != TEXTS {
            return None;
        }
        let reach = Self { next: take.small()?, folded: [take.small()?, take.small()?] };
        take.end()?;
        let ends = [
            reach.folded[1].checked_mul(SPANS[2])?,
            reach.folded[0].checked_mul(SPANS[1])?,
            reach.next / SEGMENT * SEGMENT,
        ];
        ends.is_sorted().then_some(reach)
    }

    pub(crate) fn load(read: &dyn Read, account: u32) -> Result<Option<Self>, EngineError> {
        Ok(read.get(Family::Text, &keys::text_reach(account))?.and_then(|row| Self::decode(&row)))
    }

    /// Where a message below `next` is.
    pub(super) fn area(&self, message: u32) -> Area {
        let area = |tier: u8| {
            let span = SPANS[usize::from(tier)];
            Area { tier: Some(tier), number: message / span, span }
        };
        if message / SPANS[2] < self.folded[1] {
            area(2)
        } else if message / SPANS[1] < self.folded[0] {
            area(1)
        } else if message / SEGMENT < self.next / SEGMENT {
            area(0)
        } else {
            Area { tier: None, ..area(0) }
        }
    }

    /// The blocks that are ready to be joined into one of this tier.
    pub(super) fn foldable(&self) -> Option<(u8, u32)> {
        let due = |tier: usize, ready: u32| (ready > self.folded[tier]).then_some(self.folded[tier]);
        due(0, self.next / SPANS[1])
            .map(|number| (1, number))
            .or_else(|| due(1, self.folded[0] / (SPANS[2] / SPANS[1])).map(|number| (2, number)))
    }
}
