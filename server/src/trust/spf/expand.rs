//! What macros stand for (section 7).

use std::{fmt::Write as _, net::IpAddr};

use super::{
    Client,
    parse::{Macro, Piece},
};

/// Octets of a domain that came of macros; labels on the left are dropped until it fits (section 7.3).
const DOMAIN_OCTETS_MAX: usize = 253;

/// What the letters stand for.
pub(super) struct Values<'a> {
    pub client: Client<'a>,
    /// The sender's local part.
    pub local: &'a str,
    /// The sender's domain.
    pub sender_domain: &'a str,
    /// The domain whose record it is.
    pub domain: &'a str,
    /// A name of the client that leads back to it.
    pub validated: &'a str,
}

/// A text with its macros replaced.
pub(super) fn expand(text: &[Piece], values: &Values<'_>) -> String {
    let mut out = String::new();
    for piece in text {
        match piece {
            Piece::Literal(literal) => out.push_str(literal),
            Piece::Macro(what) => out.push_str(&value(what, values)),
        }
    }
    out
}

/// The same, as a domain.
pub(super) fn expand_domain(text: &[Piece], values: &Values<'_>) -> String {
    let expanded = expand(text, values);
    let mut domain = expanded.strip_suffix('.').unwrap_or(&expanded);
    while domain.len() > DOMAIN_OCTETS_MAX
        && let Some((_, shorter)) = domain.split_once('.')
    {
        domain = shorter;
    }
    domain.to_owned()
}

fn value(what: &Macro, values: &Values<'_>) -> String {
    let client = values.client;
    let whole = match what.letter {
        b's' => format!("{}@{}", values.local, values.sender_domain),
        b'l' => values.local.to_owned(),
        b'o' => values.sender_domain.to_owned(),
        b'd' => values.domain.to_owned(),
        b'i' => dotted(client.ip),
        b'p' => values.validated.to_owned(),
        b'h' => client.helo.to_owned(),
        b'c' => client.ip.to_string(),
        b'r' => client.receiver.to_owned(),
        b't' => client.unix_s.to_string(),
        _ => if client.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
    };
    let is_delimiter = |c: char| if what.delimiters.is_empty() { c == '.' } else { what.delimiters.contains(c) };
    let mut parts: Vec<&str> = whole.split(is_delimiter).collect();
    if what.reversed {
        parts.reverse();
    }
    let kept = what.keep.unwrap_or(parts.len()).min(parts.len());
    let joined = parts[parts.len() - kept..].join(".");
    if what.escaped { escaped(&joined) } else { joined }
}

/// An address as labels: octets of version 4, nibbles of version 6.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => {
            let nibbles = six.octets().map(|octet| format!("{:x}.{:x}", octet >> 4, octet & 15));
            nibbles.join(".")
        }
    }
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            write!(out, "%{octet:02X}").unwrap_or_default();
        }
    }
    out
}
