//! Mailbox names and special uses.

use std::fmt;

/// The character between the levels of a mailbox name.
pub const HIERARCHY_DELIMITER: char = '/';

/// Longest mailbox name, in octets of UTF-8. RFC 9051 names no minimum; RFC 5530 LIMIT answers a longer one.
pub const MAILBOX_NAME_OCTETS_MAX: usize = 1000;

/// Deepest hierarchy.
pub const MAILBOX_LEVELS_MAX: usize = 32;

/// A valid mailbox name: UTF-8, levels joined by [`HIERARCHY_DELIMITER`], no empty level, no control character,
/// `INBOX` in any case as the first level spelled `INBOX`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName(String);

impl MailboxName {
    /// The name that every account has.
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// Checks and normalises a name. One trailing delimiter is dropped (RFC 9051 section 6.3.4).
    pub fn new(name: &str) -> Result<Self, MailboxNameError> {
        let name = name.strip_suffix(HIERARCHY_DELIMITER).unwrap_or(name);
        if name.len() > MAILBOX_NAME_OCTETS_MAX || name.split(HIERARCHY_DELIMITER).count() > MAILBOX_LEVELS_MAX {
            return Err(MailboxNameError::TooLong);
        }
        if name.split(HIERARCHY_DELIMITER).any(str::is_empty) {
            return Err(MailboxNameError::EmptyLevel);
        }
        // RFC 5198 leaves no room for control characters; % and * would make LIST patterns of the name
        if name.chars().any(|c| c.is_control() || matches!(c, '%' | '*' | '\u{2028}' | '\u{2029}')) {
            return Err(MailboxNameError::ForbiddenCharacter);
        }
        let first_level = name.split(HIERARCHY_DELIMITER).next().unwrap_or_default();
        if first_level.eq_ignore_ascii_case("INBOX") {
            return Ok(Self(format!("INBOX{}", &name[first_level.len()..])));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its characters are composed (Unicode Normalization Form C), as Net-Unicode wants new names to be
    /// (RFC 5198 section 2).
    pub fn is_composed(&self) -> bool {
        unicode_normalization::is_nfc(&self.0)
    }

    /// Whether this is INBOX itself.
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The name one level up, if there is one.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once(HIERARCHY_DELIMITER).map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Whether `self` lies below `ancestor`.
    pub fn is_below(&self, ancestor: &Self) -> bool {
        self.0.strip_prefix(ancestor.as_str()).is_some_and(|rest| rest.starts_with(HIERARCHY_DELIMITER))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a mailbox name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxNameError {
    /// An empty name or an empty level (`a//b`, `/a`).
    EmptyLevel,
    /// Longer than [`MAILBOX_NAME_OCTETS_MAX`] or deeper than [`MAILBOX_LEVELS_MAX`].
    TooLong,
    /// A control character, `%` or `*`.
    ForbiddenCharacter,
}

impl fmt::Display for MailboxNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyLevel => "a mailbox name and its levels must not be empty",
            Self::TooLong => "the mailbox name is too long or too deep",
            Self::ForbiddenCharacter => "a mailbox name must not contain control characters, % or *",
        })
    }
}

impl std::error::Error for MailboxNameError {}

/// What a mailbox is for (RFC 6154 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpecialUse {
    /// `\All`: all messages.
    All,
    /// `\Archive`: archived messages.
    Archive,
    /// `\Drafts`: messages being written.
    Drafts,
    /// `\Flagged`: all flagged messages.
    Flagged,
    /// `\Junk`: spam.
    Junk,
    /// `\Sent`: copies of sent messages.
    Sent,
    /// `\Trash`: messages to be deleted.
    Trash,
}

impl SpecialUse {
    /// Each use with its attribute name; the position is the stored code.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::All, "\\All"),
        (Self::Archive, "\\Archive"),
        (Self::Drafts, "\\Drafts"),
        (Self::Flagged, "\\Flagged"),
        (Self::Junk, "\\Junk"),
        (Self::Sent, "\\Sent"),
        (Self::Trash, "\\Trash"),
    ];

    /// The attribute, such as `\Sent`.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }

    /// The use of this attribute name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(known, _)| *known)
    }
}
