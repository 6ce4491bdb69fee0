//! Names that clients give: themselves, and the domains of senders.

use std::net::IpAddr;

/// What is wrong with a name in EHLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadName {
    /// It is ours.
    Ours,
    /// It is neither a full host name nor an address in brackets.
    NotFull,
}

/// Looks at a name. `hostname` and `local` are ours.
pub(super) fn check(name: &str, hostname: &str, local: Option<IpAddr>, strict: bool, own: bool) -> Option<BadName> {
    let literal = literal(name);
    let plain = name.trim_end_matches('.');
    let ours = match literal {
        Some(address) => local.is_some_and(|local| local.to_canonical() == address),
        // Without its brackets an address is wrong, and ours all the same.
        None => {
            plain.eq_ignore_ascii_case(hostname) || local.is_some_and(|local| name.parse() == Ok(local.to_canonical()))
        }
    };
    if own && ours {
        return Some(BadName::Ours);
    }
    (strict && literal.is_none() && !is_full(plain)).then_some(BadName::NotFull)
}

/// The address of a literal (RFC 5321 section 4.1.3).
fn literal(name: &str) -> Option<IpAddr> {
    let inside = name.strip_prefix('[')?.strip_suffix(']')?;
    let tag = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    match tag {
        Some(_) => inside.get(5..)?.parse().ok().map(IpAddr::V6),
        None => inside.parse().ok().map(IpAddr::V4),
    }
    .map(|address: IpAddr| address.to_canonical())
}

/// Whether a name has the form of one that stands in the DNS: labels, and a top level that is no number.
fn is_full(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = name.rsplit('.').next().unwrap_or_default();
    name.contains('.') && name.split('.').all(label) && !top.chars().all(|c| c.is_ascii_digit())
}

/// Whether a domain, in lower case, is one of `patterns`: itself, or `.example.org` for all below one.
pub(super) fn is_one_of(domain: &str, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| {
        let pattern = pattern.to_lowercase();
        domain == pattern || (pattern.starts_with('.') && domain.ends_with(&pattern))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_ehlo() {
        let ours = "192.0.2.25".parse().ok();
        for (name, strict, lenient) in [
            ("mail.far.example", None, None),
            ("mail.far.example.", None, None),
            ("[198.51.100.1]", None, None),
            ("[IPv6:2001:db8::1]", None, None),
            ("localhost", Some(BadName::NotFull), None),
            ("198.51.100.1", Some(BadName::NotFull), None),
            ("[198.51.100]", Some(BadName::NotFull), None),
            ("[::1]", Some(BadName::NotFull), None),
            ("a..example", Some(BadName::NotFull), None),
            ("-a.example", Some(BadName::NotFull), None),
            ("MX.here.example", Some(BadName::Ours), Some(BadName::Ours)),
            ("mx.here.example.", Some(BadName::Ours), Some(BadName::Ours)),
            ("[192.0.2.25]", Some(BadName::Ours), Some(BadName::Ours)),
            ("[IPv6:::ffff:192.0.2.25]", Some(BadName::Ours), Some(BadName::Ours)),
            ("192.0.2.25", Some(BadName::Ours), Some(BadName::Ours)),
            ("other.here.example", None, None),
        ] {
            assert_eq!(check(name, "mx.here.example", ours, true, true), strict, "{name}");
            assert_eq!(check(name, "mx.here.example", ours, false, true), lenient, "{name}");
            assert_eq!(check(name, "mx.here.example", ours, false, false), None, "{name}");
        }
    }

    #[test]
    fn patterns_of_domains() {
        let patterns = ["far.example".to_owned(), ".Deep.example".to_owned()];
        for (domain, is) in [
            ("far.example", true),
            ("a.far.example", false),
            ("deep.example", false),
            ("a.deep.example", true),
            ("notdeep.example", false),
            ("", false),
        ] {
            assert_eq!(is_one_of(domain, &patterns), is, "{domain}");
        }
    }
}
