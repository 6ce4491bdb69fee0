//! Reverse-path and forward-path (RFC 5321 section 4.1.2).

use crate::address::Address;

/// A path without its source route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// `<>`
    Null,
    /// `<Postmaster>`, the one recipient that needs no domain.
    Postmaster,
    /// An address.
    Address(Address),
}

/// Reads a path at the start of `text`; gives back what follows it.
///
/// A source route (`<@a,@b:user@c>`) is read and dropped: the mail is for `user@c` and goes there or nowhere.
//= rfc5321#section-4.1.1.3
//# Receiving systems MUST recognize
//# source route syntax but SHOULD strip off the source route
//# specification and utilize the domain name associated with the mailbox
//# as if the source route had not been provided.
pub(crate) fn read(text: &str) -> Option<(Path, &str)> {
    let inside = text.strip_prefix('<')?;
    let end = closing(inside)?;
    let (path, rest) = (inside.get(..end)?, inside.get(end.saturating_add(1)..)?);
    let path = match path.strip_prefix('@') {
        Some(route) => route.split_once(':').filter(|(route, _)| is_route(route))?.1,
        None => path,
    };
    if path.is_empty() {
        return (end == 0).then_some((Path::Null, rest));
    }
    if path.eq_ignore_ascii_case("postmaster") {
        return Some((Path::Postmaster, rest));
    }
    Some((Path::Address(Address::parse(path).ok()?), rest))
}

/// Where the `>` is that closes the path: not one inside a quoted string.
fn closing(inside: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, octet) in inside.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// `a,@b,@c`: what follows the first `@` of a source route.
fn is_route(route: &str) -> bool {
    route.split(',').enumerate().all(|(index, hop)| {
        let domain = if index == 0 { Some(hop) } else { hop.strip_prefix('@') };
        domain.is_some_and(|domain| {
            !domain.is_empty()
                && domain.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '[' | ']'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<(String, &str)> {
        match read(text)? {
            (Path::Null, rest) => Some((String::new(), rest)),
            (Path::Postmaster, rest) => Some(("postmaster".to_owned(), rest)),
            (Path::Address(address), rest) => Some((address.to_string(), rest)),
        }
    }

    #[test]
    fn paths() {
        for (text, expected) in [
            ("<>", Some(("", ""))),
            ("<> SIZE=1", Some(("", " SIZE=1"))),
            ("<a@b.example> X", Some(("a@b.example", " X"))),
            ("<@c.example,@d.example:a@b.example>", Some(("a@b.example", ""))),
            ("<@c.example:>", None),
            ("<@c.example,d:a@b.example>", None),
            ("<@:a@b.example>", None),
            ("<\"x>y\"@b.example>", Some(("\"x>y\"@b.example", ""))),
            ("<\"x\\\">\"@b.example>", Some(("\"x\\\">\"@b.example", ""))),
            ("<PostMaster>", Some(("postmaster", ""))),
            ("<a@[192.0.2.1]>", Some(("a@[192.0.2.1]", ""))),
            ("a@b.example", None),
            ("<a@b.example", None),
            ("<a>", None),
            ("", None),
        ] {
            let got = address(text);
            let got = got.as_ref().map(|(address, rest)| (address.as_str(), *rest));
            assert_eq!(got, expected, "{text}");
        }
    }
}
