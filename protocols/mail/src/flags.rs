//! Message flags and keywords (RFC 9051 section 2.3.2).

use std::sync::Arc;

/// The five system flags that are stored, as a bit set. `\Recent` belongs to sessions and is not stored here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SystemFlags(u8);

impl SystemFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// `\Seen`: the message has been read.
    pub const SEEN: Self = Self(1);
    /// `\Answered`: the message has been answered.
    pub const ANSWERED: Self = Self(2);
    /// `\Flagged`: urgent or special attention.
    pub const FLAGGED: Self = Self(4);
    /// `\Deleted`: marked for removal by EXPUNGE.
    pub const DELETED: Self = Self(8);
    /// `\Draft`: not completed.
    pub const DRAFT: Self = Self(16);
    /// Every system flag.
    pub const ALL: Self = Self(31);
    /// Each flag with its name, in the order in which they are listed to clients.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    /// The bits, for storage.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From stored bits; unknown bits are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the flags of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The flag of this name (`\Seen`, any case), if it is a stored system flag.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(flag, _)| *flag)
    }
}

/// A keyword: an atom without a leading backslash, such as `$Forwarded`. Compared without regard to ASCII case.
#[derive(Clone, Debug)]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// Longest keyword accepted, in octets. RFC 9051 names no minimum; clients use a few dozen.
    pub const OCTETS_MAX: usize = 255;

    /// Checks that `name` is an IMAP atom of acceptable length and not a system flag.
    pub fn new(name: &str) -> Option<Self> {
        let atom = |byte: u8| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte);
        let valid = !name.is_empty() && name.len() <= Self::OCTETS_MAX && name.bytes().all(atom);
        valid.then(|| Self(name.into()))
    }

    /// The keyword as it was first written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

/// The flags of one message, or a list of flags in a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// System flags.
    pub system: SystemFlags,
    /// Keywords, each once.
    pub keywords: Vec<Keyword>,
}

impl Flags {
    /// Only system flags.
    pub const fn system(system: SystemFlags) -> Self {
        Self { system, keywords: Vec::new() }
    }

    /// Whether every flag and keyword of `other` is set here.
    pub fn contains(&self, other: &Self) -> bool {
        self.system.contains(other.system) && other.keywords.iter().all(|keyword| self.keywords.contains(keyword))
    }

    /// Applies a change as STORE defines it.
    pub fn apply(&mut self, update: FlagUpdate, change: &Self) {
        match update {
            FlagUpdate::Replace => *self = change.clone(),
            FlagUpdate::Add => {
                self.system = self.system.union(change.system);
                for keyword in &change.keywords {
                    if !self.keywords.contains(keyword) {
                        self.keywords.push(keyword.clone());
                    }
                }
            }
            FlagUpdate::Remove => {
                self.system = self.system.without(change.system);
                self.keywords.retain(|keyword| !change.keywords.contains(keyword));
            }
        }
    }
}

/// How STORE changes flags (RFC 9051 section 6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagUpdate {
    /// `FLAGS`: replace.
    Replace,
    /// `+FLAGS`: add.
    Add,
    /// `-FLAGS`: remove.
    Remove,
}
