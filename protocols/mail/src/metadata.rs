//! Names of annotations of mailboxes and servers (RFC 5464 section 3.2).

use std::{
    fmt,
    hash::{DefaultHasher, Hasher},
};

/// Octets of a value. RFC 5464 section 4.1 asks for 1,024; what is larger is a message.
pub const METADATA_VALUE_OCTETS_MAX: usize = 16 * 1024;
/// Octets of the name of an entry: filters and the trees of vendors are a few levels deep.
pub const METADATA_NAME_OCTETS_MAX: usize = 256;

/// What stands for a value where only changes of it matter: another value has another mark, but for an accident that one
/// in 2^64 has. The same value has another one when the program is built anew.
pub fn metadata_mark(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value);
    hasher.finish()
}

/// Who sees an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetadataScope {
    /// Whoever set it (`/private`).
    Private,
    /// Everybody who may read annotations there (`/shared`).
    Shared,
}

impl MetadataScope {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Private => "/private",
            Self::Shared => "/shared",
        }
    }
}

/// The name of an entry, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetadataEntry {
    scope: MetadataScope,
    /// What follows the scope: empty, or it begins with `/`.
    path: String,
}

impl MetadataEntry {
    //= rfc5464#section-3.2
    //# Each annotation is an entry that has a hierarchical name, with each
    //# component of the name separated by a slash ("/").  An entry name MUST
    //# NOT contain two consecutive "/" characters and MUST NOT end with a
    //# "/" character.
    //
    //= rfc5464#section-3.2
    //# Entry names MUST NOT contain asterisk ("*") or percent ("%")
    //# characters and MUST NOT contain non-ASCII characters or characters
    //# with octet values in the range 0x00 to 0x19.
    /// Reads a name that begins with `/private` or `/shared`; nothing need follow. `None`: it is none.
    pub fn parse(name: &str) -> Option<Self> {
        let is_character = |octet: u8| (0x20..0x7f).contains(&octet) && octet != b'*' && octet != b'%';
        if name.len() > METADATA_NAME_OCTETS_MAX || !name.bytes().all(is_character) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        let (scope, path) = [MetadataScope::Private, MetadataScope::Shared]
            .into_iter()
            .find_map(|scope| Some((scope, name.strip_prefix(scope.prefix())?)))?;
        Self::of(scope, path)
    }

    /// The entry of a scope with this path, which is empty or begins with `/`. `None`: there is none.
    pub fn of(scope: MetadataScope, path: &str) -> Option<Self> {
        let Some(components) = path.strip_prefix('/') else {
            return path.is_empty().then(|| Self { scope, path: String::new() });
        };
        let whole = components.split('/').all(|component| !component.is_empty());
        whole.then(|| Self { scope, path: path.to_owned() })
    }

    //= rfc5464#section-3.2
    //# Entry names can have any number of components starting at 2, unless
    //# they fall under the vendor namespaces (i.e., have a /shared/vendor/
    //# <vendor-token> or /private/vendor/<vendor-token> prefix as described
    //# below), in which case they have at least 4 components.
    /// Whether it can have a value; else it is only a level above those that can.
    pub fn can_have_value(&self) -> bool {
        let levels = self.path.matches('/').count();
        let vendor = self.path == "/vendor" || self.path.starts_with("/vendor/");
        if vendor { levels >= 3 } else { levels >= 1 }
    }

    /// Who sees it.
    pub const fn scope(&self) -> MetadataScope {
        self.scope
    }

    /// What follows the scope.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many levels this is below `above`: 0 for itself, `None` when it is elsewhere.
    pub fn levels_below(&self, above: &Self) -> Option<usize> {
        let rest = (self.scope == above.scope).then(|| self.path.strip_prefix(above.path.as_str()))??;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.matches('/').count())
    }
}

impl fmt::Display for MetadataEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scope.prefix(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, value) in [
            ("/shared/comment", true),
            ("/private/filters/values/a b", true),
            ("/shared/vendor/cmu/x", true),
            ("/shared/vendor/cmu", false),
            ("/shared/vendor", false),
            ("/shared/vendors", true),
            ("/private", false),
        ] {
            let entry = MetadataEntry::parse(name).expect(name);
            assert_eq!((entry.to_string(), entry.can_have_value()), (name.to_owned(), value));
            assert_eq!(MetadataEntry::of(entry.scope(), entry.path()), Some(entry));
        }
        assert_eq!(MetadataEntry::parse("/SHARED/Comment"), MetadataEntry::parse("/shared/comment"));
        let long = format!("/shared/{}", "a".repeat(METADATA_NAME_OCTETS_MAX));
        for name in
            ["", "/", "/sharedcomment", "comment", "/other/x", "/shared//x", "/shared/", "/shared/x/", "/shared/\u{e9}"]
                .into_iter()
                .chain(["/shared/*", "/shared/a%", "/shared/a\n", "/shared/a\u{7f}", &long])
        {
            assert_eq!(MetadataEntry::parse(name), None, "{name}");
        }
    }

    #[test]
    fn levels_are_counted_within_a_scope() {
        let entry = |name| MetadataEntry::parse(name).expect("a name");
        let below = |name, above| entry(name).levels_below(&entry(above));
        assert_eq!(below("/shared/a", "/shared/a"), Some(0));
        assert_eq!(below("/shared/a/b/c", "/shared/a"), Some(2));
        assert_eq!(below("/shared/a", "/shared"), Some(1));
        assert_eq!(below("/shared/ab", "/shared/a"), None);
        assert_eq!(below("/private/a/b", "/shared/a"), None);
    }
}
