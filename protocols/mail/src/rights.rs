//! What somebody may do with a mailbox (RFC 4314).

use std::{fmt, ops};

use crate::flags::{Flags, SystemFlags};

/// A set of rights.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rights(u16);

/// How a list of rights changes what is there (RFC 4314 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightsUpdate {
    /// These instead of those that are there.
    Replace,
    /// `+`: these as well.
    Add,
    /// `-`: these no longer.
    Remove,
}

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// `l`: the mailbox is visible to LIST.
    pub const LOOKUP: Self = Self(1);
    /// `r`: SELECT it, STATUS, FETCH, SEARCH, COPY from it.
    pub const READ: Self = Self(1 << 1);
    /// `s`: set and clear `\Seen`.
    pub const SEEN: Self = Self(1 << 2);
    /// `w`: set and clear flags other than `\Seen` and `\Deleted`.
    pub const WRITE: Self = Self(1 << 3);
    /// `i`: APPEND, COPY into it.
    pub const INSERT: Self = Self(1 << 4);
    /// `p`: send mail to its submission address.
    pub const POST: Self = Self(1 << 5);
    /// `k`: CREATE mailboxes below it.
    pub const CREATE: Self = Self(1 << 6);
    /// `x`: DELETE and RENAME it.
    pub const DELETE_MAILBOX: Self = Self(1 << 7);
    /// `t`: set and clear `\Deleted`.
    pub const DELETE_MESSAGES: Self = Self(1 << 8);
    /// `e`: EXPUNGE.
    pub const EXPUNGE: Self = Self(1 << 9);
    /// `a`: see and change who may do what.
    pub const ADMINISTER: Self = Self(1 << 10);
    /// Any of these beside `l`, and annotations may be set and seen (RFC 5464 section 3.3).
    pub const ANNOTATIONS: Self = Self(Self::READ.0 | Self::SEEN.0 | Self::WRITE.0 | Self::INSERT.0 | Self::POST.0);
    /// Every right.
    pub const ALL: Self = Self((1 << 11) - 1);

    /// Each right and its letter, in the order in which they are written.
    pub const LETTERS: [(Self, char); 11] = [
        (Self::LOOKUP, 'l'),
        (Self::READ, 'r'),
        (Self::SEEN, 's'),
        (Self::WRITE, 'w'),
        (Self::INSERT, 'i'),
        (Self::POST, 'p'),
        (Self::CREATE, 'k'),
        (Self::DELETE_MAILBOX, 'x'),
        (Self::DELETE_MESSAGES, 't'),
        (Self::EXPUNGE, 'e'),
        (Self::ADMINISTER, 'a'),
    ];

    //= rfc4314#section-2.1.1
    //# let's define the "create" right as union of the "k"
    //# and "x" rights, and the "delete" right as union of the "e" and "t"
    //# rights.
    /// The rights of RFC 2086 that stand for several.
    const UNIONS: [(Self, char); 2] =
        [(Self(Self::CREATE.0 | Self::DELETE_MAILBOX.0), 'c'), (Self(Self::EXPUNGE.0 | Self::DELETE_MESSAGES.0), 'd')];

    /// The rights of these letters; `None` when one of them is no right.
    pub fn parse(text: &str) -> Option<Self> {
        let right = |letter: char| {
            let known = Self::LETTERS.iter().chain(&Self::UNIONS);
            known.clone().find(|(_, known)| *known == letter).map(|(right, _)| *right)
        };
        text.chars().try_fold(Self::NONE, |rights, letter| Some(rights | right(letter)?))
    }

    /// The set as it is stored.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set that is stored as these bits; `None` when one of them is unknown.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether every one of `others` is here.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether one of `others` is here.
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// What is left without `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The letters of exactly these rights.
    pub fn letters(self) -> String {
        Self::LETTERS.iter().filter(|(right, _)| self.contains(*right)).map(|(_, letter)| letter).collect()
    }

    //= rfc4314#section-4
    //# "t" right - when the user modifies \Deleted flag
    //# "s" right - when the user modifies \Seen flag
    //# "w" right - for all other message flags.
    /// The system flags that these rights let one change. Keywords need `w`.
    pub fn system_flags(self) -> SystemFlags {
        let mut flags = SystemFlags::NONE;
        if self.contains(Self::WRITE) {
            flags = SystemFlags::ALL.without(SystemFlags::SEEN.union(SystemFlags::DELETED));
        }
        if self.contains(Self::SEEN) {
            flags = flags.union(SystemFlags::SEEN);
        }
        if self.contains(Self::DELETE_MESSAGES) {
            flags = flags.union(SystemFlags::DELETED);
        }
        flags
    }

    /// Those of `flags` that these rights let one change.
    #[must_use]
    pub fn of_flags(self, flags: &Flags) -> Flags {
        let refused = SystemFlags::ALL.without(self.system_flags());
        let keywords = if self.contains(Self::WRITE) { flags.keywords.clone() } else { Vec::new() };
        Flags { system: flags.system.without(refused), keywords }
    }

    /// The set after a change.
    #[must_use]
    pub fn updated(self, update: RightsUpdate, rights: Self) -> Self {
        match update {
            RightsUpdate::Replace => rights,
            RightsUpdate::Add => self | rights,
            RightsUpdate::Remove => self.without(rights),
        }
    }
}

impl ops::BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({})", self.letters())
    }
}

impl fmt::Display for Rights {
    //= rfc4314#section-2.1.1
    //# When any of the "delete" member rights is set in a list of rights,
    //# the server MUST also include the "d" right when returning the list in
    //# a MYRIGHTS or ACL response.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = Self::LETTERS.iter().filter(|(right, _)| self.contains(*right));
        let unions = Self::UNIONS.iter().filter(|(rights, _)| self.intersects(*rights));
        letters.chain(unions).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_back_with_those_that_they_imply() {
        for (given, written) in [
            ("", Some("")),
            ("lr", Some("lr")),
            ("rl", Some("lr")),
            ("lrswida", Some("lrswitead")),
            ("lrswikda", Some("lrswikteacd")),
            ("c", Some("kxc")),
            ("lrswipkxtea", Some("lrswipkxteacd")),
            ("lrz", None),
            ("L", None),
            ("l r", None),
        ] {
            assert_eq!(Rights::parse(given).map(|rights| rights.to_string()).as_deref(), written, "{given}");
        }
        for bits in 0..=Rights::ALL.bits() {
            let rights = Rights::from_bits(bits).expect("rights");
            // `c` and `d` stand for all of their members as soon as one is there (RFC 4314 section 2.1.1).
            let own: String = rights.to_string().chars().filter(|letter| !"cd".contains(*letter)).collect();
            assert_eq!(Rights::parse(&own), Some(rights));
        }
        assert_eq!(Rights::from_bits(1 << 11), None);
    }

    #[test]
    fn rights_open_flags() {
        for (rights, flags) in [
            ("lr", SystemFlags::NONE),
            ("s", SystemFlags::SEEN),
            ("t", SystemFlags::DELETED),
            ("w", SystemFlags::ANSWERED.union(SystemFlags::FLAGGED).union(SystemFlags::DRAFT)),
            ("wst", SystemFlags::ALL),
        ] {
            let rights = Rights::parse(rights).expect("rights");
            assert_eq!(rights.system_flags(), flags, "{rights}");
            let all = Flags { system: SystemFlags::ALL, keywords: Vec::new() };
            assert_eq!(rights.of_flags(&all).system, flags);
        }
    }

    #[test]
    fn updates_add_remove_and_replace() {
        let parse = |text| Rights::parse(text).expect("rights");
        let rights = parse("lrs");
        assert_eq!(rights.updated(RightsUpdate::Add, parse("st")), parse("lrst"));
        assert_eq!(rights.updated(RightsUpdate::Remove, parse("st")), parse("lr"));
        assert_eq!(rights.updated(RightsUpdate::Replace, parse("st")), parse("st"));
    }
}
