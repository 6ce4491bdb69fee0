//! The names under which mailboxes of other accounts are seen (RFC 2342), and the identifiers of RFC 4314.

use rockdove_mail::{HIERARCHY_DELIMITER, MailboxName};

use super::Subject;
use crate::{
    command::{AccountId, EngineError},
    directory::{Directory, fold_local},
};

/// First level of the names of other users' mailboxes: `Other Users/ben@example.org/INBOX`.
pub const OTHER_USERS: &str = "Other Users";
/// First level of the names of public mailboxes: those of the public account of one's domain.
pub const PUBLIC: &str = "Public";

/// What identifiers of groups begin with.
const GROUP_PREFIX: &str = "group:";
/// RFC 4314 section 2: everybody.
const ANYONE: &str = "anyone";
/// Stands for the owner of a mailbox, as in other servers.
const OWNER: &str = "owner";

/// Whose mailbox a name means, and its name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The account that owns it.
    pub owner: AccountId,
    /// Its name in that account.
    pub name: MailboxName,
}

/// An identifier of RFC 4314 as it is written: `ada@example.org`, `group:staff`, `anyone`, `owner`, each of them with
/// a `-` before it for what is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectName {
    /// The subject.
    pub subject: Subject,
    /// Whether the rights are denied.
    pub denied: bool,
}

impl Named {
    /// What `name` means to `actor`, were it not one of its own mailboxes. `None`: one of its own, there or not.
    /// `Some(None)`: nobody's.
    pub fn elsewhere(directory: &Directory, actor: AccountId, name: &MailboxName) -> Option<Option<Self>> {
        let (first, rest) = name.as_str().split_once(HIERARCHY_DELIMITER).unwrap_or((name.as_str(), ""));
        let named = |owner: AccountId, rest: &str| Some(Self { owner, name: MailboxName::new(rest).ok()? });
        match first {
            OTHER_USERS => Some((|| {
                let (user, rest) = rest.split_once(HIERARCHY_DELIMITER)?;
                let owner = directory.account_by_login(&unescaped(user)?)?;
                named(owner.id, rest)
            })()),
            PUBLIC => Some(directory.public_account_of(actor).and_then(|owner| named(owner, rest))),
            _ => None,
        }
    }

    /// The name under which `reader` sees a mailbox of another account. `None` when it would be too long.
    pub fn seen_by(
        directory: &Directory,
        reader: AccountId,
        owner: AccountId,
        name: &MailboxName,
    ) -> Option<MailboxName> {
        if directory.public_account_of(reader) == Some(owner) {
            return MailboxName::new(&format!("{PUBLIC}{HIERARCHY_DELIMITER}{name}")).ok();
        }
        let address = escaped(&directory.account(owner)?.address);
        MailboxName::new(&format!("{OTHER_USERS}{HIERARCHY_DELIMITER}{address}{HIERARCHY_DELIMITER}{name}")).ok()
    }
}

impl SubjectName {
    /// Reads an identifier. The address of `owner` means the owner.
    ///
    //= rfc4314#section-2
    //# Identifiers are UTF-8 [UTF-8] strings, with the following restrictions:
    pub fn parse(directory: &Directory, owner: AccountId, text: &str) -> Result<Self, EngineError> {
        let (denied, name) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let unknown = || EngineError::Invalid(format!("nobody here is called {name:?}"));
        let subject = if name.eq_ignore_ascii_case(ANYONE) {
            Subject::Anyone
        } else if name.eq_ignore_ascii_case(OWNER) {
            Subject::Owner
        } else if let Some(group) = name.strip_prefix(GROUP_PREFIX) {
            Subject::Group(directory.group_by_name(group).ok_or_else(unknown)?.id)
        } else {
            match directory.account_by_login(name).ok_or_else(unknown)?.id {
                account if account == owner => Subject::Owner,
                account => Subject::Account(account),
            }
        };
        Ok(Self { subject, denied })
    }

    /// The identifier; `None` when nobody has it any more.
    pub fn write(self, directory: &Directory, owner: AccountId) -> Option<String> {
        let name = match self.subject {
            Subject::Owner => directory.account(owner)?.address.clone(),
            Subject::Anyone => ANYONE.to_owned(),
            Subject::Account(account) => directory.account(account)?.address.clone(),
            Subject::Group(group) => format!("{GROUP_PREFIX}{}", directory.group(group)?.name),
        };
        Some(if self.denied { format!("-{name}") } else { name })
    }
}

/// An address as one level of a mailbox name: what cannot be in one becomes `:` and two hexadecimal digits. No address
/// has a `:`.
fn escaped(address: &str) -> String {
    let mut level = String::with_capacity(address.len());
    for c in address.chars() {
        match c {
            HIERARCHY_DELIMITER => level.push_str(":2f"),
            '%' => level.push_str(":25"),
            '*' => level.push_str(":2a"),
            c => level.push(c),
        }
    }
    level
}

fn unescaped(level: &str) -> Option<String> {
    let mut parts = level.split(':');
    let mut address = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        address.push(match code {
            "2f" => HIERARCHY_DELIMITER,
            "25" => '%',
            "2a" => '*',
            _ => return None,
        });
        address.push_str(rest);
    }
    Some(address)
}

/// The name of a group as it is kept: lower case and composed. `None` when it is none.
pub(crate) fn group_name(name: &str) -> Option<String> {
    let name = fold_local(name);
    let fits = !name.is_empty() && name.len() <= crate::directory::GROUP_NAME_OCTETS_MAX;
    let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    (fits && plain).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_levels_and_come_back() {
        for (address, level) in [
            ("ada@example.org", "ada@example.org"),
            ("a/b%c*d@example.org", "a:2fb:25c:2ad@example.org"),
            ("\u{e9}va@example.org", "\u{e9}va@example.org"),
        ] {
            assert_eq!(escaped(address), level);
            assert_eq!(unescaped(level).as_deref(), Some(address));
        }
        for wrong in ["a:", "a:2", "a:2e", "a:\u{e9}"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_groups_are_short_words() {
        assert_eq!(group_name("Staff").as_deref(), Some("staff"));
        assert_eq!(group_name("B\u{fc}ro-2").as_deref(), Some("b\u{fc}ro-2"));
        for wrong in ["", "a b", "a@b", "-\n", "a:b"] {
            assert_eq!(group_name(wrong), None, "{wrong:?}");
        }
        assert_eq!(group_name(&"a".repeat(65)), None);
    }
}
