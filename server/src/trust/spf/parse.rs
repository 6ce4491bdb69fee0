//! A record, as text and understood (sections 4.5, 4.6, 5, 6, 7.1 and 12).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::SpfResult;

/// A record that is well-formed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub directives: Vec<Directive>,
    pub redirect: Option<Text>,
    pub explanation: Option<Text>,
}

/// A mechanism, and what it means when it matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub result: SpfResult,
    pub mechanism: Mechanism,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(Text),
    /// An empty text is the domain itself, here and below.
    A(Text, Lengths),
    Mx(Text, Lengths),
    Ptr(Text),
    Ip4(Ipv4Addr, u32),
    Ip6(Ipv6Addr, u32),
    Exists(Text),
}

/// How many bits of an address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    pub four: u32,
    pub six: u32,
}

/// A macro-string.
pub(super) type Text = Vec<Piece>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Macro(Macro),
}

/// `%{…}`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Macro {
    /// In lower case.
    pub letter: u8,
    /// It was in upper case: what comes of it is URL-escaped.
    pub escaped: bool,
    /// Parts that are kept, from the right.
    pub keep: Option<usize>,
    pub reversed: bool,
    /// What parts are told by; a full stop when empty.
    pub delimiters: String,
}

/// Whether a TXT record is for SPF, and what comes after its version.
pub(super) fn after_version(record: &[u8]) -> Option<&[u8]> {
    let (version, rest) = record.split_at_checked(6)?;
    (version.eq_ignore_ascii_case(b"v=spf1") && rest.first().is_none_or(|octet| *octet == b' ')).then_some(rest)
}

/// The terms of a record; `None` when one of them is no term: then there is no result but an error (section 4.6).
pub(super) fn record(terms: &[u8]) -> Option<Record> {
    let terms = std::str::from_utf8(terms).ok().filter(|terms| terms.is_ascii())?;
    let mut record = Record::default();
    for term in terms.split(' ').filter(|term| !term.is_empty()) {
        match modifier(term) {
            Some((name, value)) if name.eq_ignore_ascii_case("redirect") => {
                put(&mut record.redirect, domain_spec(value)?)?;
            }
            Some((name, value)) if name.eq_ignore_ascii_case("exp") => {
                put(&mut record.explanation, domain_spec(value)?)?;
            }
            // Unknown ones are ignored when they are well-formed.
            Some((_, value)) => drop(macro_string(value, false)?),
            None => record.directives.push(directive(term)?),
        }
    }
    Some(record)
}

/// Both known modifiers appear once at most (section 6).
fn put(slot: &mut Option<Text>, value: Text) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let first = name.bytes().next().is_some_and(|octet| octet.is_ascii_alphabetic());
    let rest = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    (first && rest).then_some((name, value))
}

fn directive(term: &str) -> Option<Directive> {
    let (result, term) = match term.as_bytes().first()? {
        b'+' => (SpfResult::Pass, &term[1..]),
        b'-' => (SpfResult::Fail, &term[1..]),
        b'~' => (SpfResult::SoftFail, &term[1..]),
        b'?' => (SpfResult::Neutral, &term[1..]),
        _ => (SpfResult::Pass, term),
    };
    let (name, rest) = term.split_at(term.find([':', '/']).unwrap_or(term.len()));
    let mechanism = match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Mechanism::All,
        "include" => Mechanism::Include(domain_spec(rest.strip_prefix(':')?)?),
        "exists" => Mechanism::Exists(domain_spec(rest.strip_prefix(':')?)?),
        "ptr" => Mechanism::Ptr(optional_domain(rest)?),
        "a" => hosts(rest).map(|(domain, lengths)| Mechanism::A(domain, lengths))?,
        "mx" => hosts(rest).map(|(domain, lengths)| Mechanism::Mx(domain, lengths))?,
        "ip4" => {
            let (address, length) = address(rest.strip_prefix(':')?, 32)?;
            Mechanism::Ip4(address.parse().ok()?, length)
        }
        "ip6" => {
            let (address, length) = address(rest.strip_prefix(':')?, 128)?;
            Mechanism::Ip6(address.parse().ok()?, length)
        }
        _ => return None,
    };
    Some(Directive { result, mechanism })
}

fn optional_domain(rest: &str) -> Option<Text> {
    if rest.is_empty() {
        return Some(Text::new());
    }
    domain_spec(rest.strip_prefix(':')?)
}

/// `[ ":" domain-spec ] [ "/" length ] [ "//" length ]`. A domain-spec may have a slash in it: lengths are at the end.
fn hosts(rest: &str) -> Option<(Text, Lengths)> {
    let mut lengths = Lengths { four: 32, six: 128 };
    let mut rest = rest;
    if let Some((before, digits)) = rest.rsplit_once("//").filter(|(_, digits)| is_number(digits)) {
        lengths.six = length(digits, 128)?;
        rest = before;
    }
    if let Some((before, digits)) = rest.rsplit_once('/').filter(|(_, digits)| is_number(digits)) {
        lengths.four = length(digits, 32)?;
        rest = before;
    }
    optional_domain(rest).map(|domain| (domain, lengths))
}

fn address(text: &str, length_max: u32) -> Option<(&str, u32)> {
    match text.split_once('/') {
        Some((address, digits)) => Some((address, length(digits, length_max)?)),
        None => Some((text, length_max)),
    }
}

fn is_number(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
}

/// A number without leading zeros.
fn length(digits: &str, most: u32) -> Option<u32> {
    let plain = is_number(digits) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|length| plain && *length <= most)
}

/// `macro-string domain-end`
fn domain_spec(text: &str) -> Option<Text> {
    let pieces = macro_string(text, false)?;
    match pieces.last()? {
        Piece::Macro(_) => Some(pieces),
        Piece::Literal(literal) => {
            // `%%`, `%_` and `%-` are macros too.
            if text.ends_with("%%") || text.ends_with("%_") || text.ends_with("%-") {
                return Some(pieces);
            }
            let literal = literal.strip_suffix('.').unwrap_or(literal);
            let (_, top) = literal.rsplit_once('.')?;
            let inner = top.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
            let ends = !top.starts_with('-') && !top.ends_with('-');
            let named = top.bytes().any(|octet| !octet.is_ascii_digit());
            (inner && ends && named).then_some(pieces)
        }
    }
}

/// `explaining`: the text is an explanation, which has spaces, and letters of its own.
pub(super) fn macro_string(text: &str, explaining: bool) -> Option<Text> {
    let mut pieces: Text = Vec::new();
    let literal = |pieces: &mut Text, text: &str| match pieces.last_mut() {
        Some(Piece::Literal(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => pieces.push(Piece::Literal(text.to_owned())),
    };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal(&mut pieces, plain(before, explaining)?);
        let (sign, after) = after.split_at_checked(1)?;
        rest = after;
        match sign {
            "%" => literal(&mut pieces, "%"),
            "_" => literal(&mut pieces, " "),
            "-" => literal(&mut pieces, "%20"),
            "{" => {
                let (inside, after) = after.split_once('}')?;
                pieces.push(Piece::Macro(expansion(inside, explaining)?));
                rest = after;
            }
            _ => return None,
        }
    }
    literal(&mut pieces, plain(rest, explaining)?);
    Some(pieces)
}

fn plain(text: &str, explaining: bool) -> Option<&str> {
    let fits = |octet: u8| octet.is_ascii_graphic() || (explaining && octet == b' ');
    text.bytes().all(fits).then_some(text)
}

/// `macro-letter transformers *delimiter`
fn expansion(inside: &str, explaining: bool) -> Option<Macro> {
    let (letter, rest) = inside.split_at_checked(1)?;
    let letter = letter.bytes().next()?;
    let lower = letter.to_ascii_lowercase();
    if !(b"slodiphv".contains(&lower) || (explaining && b"crt".contains(&lower))) {
        return None;
    }
    let (digits, rest) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
    let keep = match digits {
        "" => None,
        _ => Some(digits.parse().unwrap_or(usize::MAX)).filter(|keep| *keep > 0).map(Some)?,
    };
    let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let delimiters = delimiters.bytes().all(|octet| b".-+,/_=".contains(&octet)).then(|| delimiters.to_owned())?;
    Some(Macro { letter: lower, escaped: letter != lower, keep, reversed, delimiters })
}
