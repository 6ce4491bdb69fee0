//! Addresses (RFC 5321 section 4.1.2 `Mailbox`, with the UTF-8 of RFC 6531).

use std::{fmt, net::IpAddr};

/// Octets of a local part. RFC 5321 section 4.5.3.1.1 asks for 64; senders that code a recipient into their own address
/// (VERP, BATV) go beyond.
pub(crate) const LOCAL_OCTETS_MAX: usize = 256;

/// Octets of a domain (RFC 5321 section 4.5.3.1.2).
pub(crate) const DOMAIN_OCTETS_MAX: usize = 255;

/// An address. The local part is kept without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// What stands before the `@`, unquoted.
    pub local: String,
    /// What stands behind it: a domain, or an address literal in brackets. As it was written.
    pub domain: String,
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address of the form local-part@domain")
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Reads `local-part@domain`.
    ///
    /// # Errors
    /// When it is not the `Mailbox` of RFC 5321, or too long.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) =
            if let Some(quoted) = text.strip_prefix('"') { quoted_local(quoted)? } else { plain_local(text)? };
        let good = !local.is_empty() && local.len() <= LOCAL_OCTETS_MAX && is_domain(domain);
        if good { Ok(Self { local, domain: domain.to_owned() }) } else { Err(AddressError) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

fn plain_local(text: &str) -> Result<(String, &str), AddressError> {
    let (local, domain) = text.split_once('@').ok_or(AddressError)?;
    if is_dot_string(local) { Ok((local.to_owned(), domain)) } else { Err(AddressError) }
}

/// Reads a quoted string behind its first quote, and the `@` behind it.
fn quoted_local(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or(AddressError)? {
            '"' => break,
            '\\' => local.push(chars.next().filter(|c| matches!(c, ' '..='~')).ok_or(AddressError)?),
            c if c.is_control() => return Err(AddressError),
            c => local.push(c),
        }
    }
    Ok((local, chars.as_str().strip_prefix('@').ok_or(AddressError)?))
}

fn is_dot_string(local: &str) -> bool {
    let atext =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control());
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

fn is_domain(domain: &str) -> bool {
    if domain.len() > DOMAIN_OCTETS_MAX {
        return false;
    }
    if let Some(literal) = domain.strip_prefix('[') {
        return literal.strip_suffix(']').is_some_and(is_literal);
    }
    // Underscores are wrong in a host name and occur.
    let letter = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || (!c.is_ascii() && !c.is_control());
    domain
        .split('.')
        .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(letter))
}

fn is_literal(literal: &str) -> bool {
    if let Ok(address) = literal.parse() {
        return matches!(address, IpAddr::V4(_));
    }
    let Some((tag, content)) = literal.split_once(':') else {
        return false;
    };
    if tag.eq_ignore_ascii_case("IPv6") {
        return matches!(content.parse(), Ok(IpAddr::V6(_)));
    }
    let tag_good = !tag.is_empty() && tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    tag_good
        && !content.is_empty()
        && content.bytes().all(|octet| octet.is_ascii_graphic() && !b"[\\]".contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, local) in [
            ("a@b.example", "a"),
            ("a.b+c@b-c.example", "a.b+c"),
            ("\"a b\"@b.example", "a b"),
            ("\"a@c.example\"@b.example", "a@c.example"),
            ("\"a\\\"\\\\b\"@b.example", "a\"\\b"),
            ("dörte@straße.example", "dörte"),
            ("a@[192.0.2.1]", "a"),
            ("a@[IPv6:2001:db8::1]", "a"),
            ("a%b@c", "a%b"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.local, local);
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(Address::parse("\"plain\"@b.example").expect("quoted").to_string(), "plain@b.example");
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a..b@c",
            ".a@c",
            "a.@c",
            "a b@c",
            "a@b..c",
            "a@b.",
            "a@-b",
            "a@[1.2.3]",
            "a@[IPv6:1.2.3.4]",
            "a@[::1]",
            "\"a@c",
            "\"a\"b@c",
            "\"\"@c",
            "a@b c",
            "a@b\"",
            "\"a\"",
            "<a@b>",
            "a\u{0}@b",
        ] {
            assert_eq!(Address::parse(bad), Err(AddressError), "{bad}");
        }
    }
}
