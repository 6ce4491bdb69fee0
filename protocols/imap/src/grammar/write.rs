//! What responses are made of.

use rockdove_mail::{Flags, SystemFlags, UidSet, date};

use super::{
    utf7,
    words::{Names, is_atom_char},
};
use crate::limits::QUOTED_OCTETS_MAX;

/// A mailbox name: an atom where it is one, quoted elsewhere.
pub fn mailbox_name(out: &mut Vec<u8>, name: &str, names: Names) {
    match names {
        Names::ModifiedUtf7 => {
            let mut encoded = Vec::with_capacity(name.len());
            utf7::encode(&mut encoded, name);
            astring(out, &encoded);
        }
        Names::Utf8 if name.is_ascii() => astring(out, name.as_bytes()),
        // It is short, and has no control characters.
        Names::Utf8 => quoted(out, name.as_bytes()),
    }
}

/// `astring`: an atom where it is one, else a string.
pub fn astring(out: &mut Vec<u8>, text: &[u8]) {
    if !text.is_empty() && text.iter().all(|octet| is_atom_char(*octet)) && !text.eq_ignore_ascii_case(b"NIL") {
        out.extend_from_slice(text);
    } else {
        quoted_or_literal(out, text);
    }
}

/// `string`: quoted where that can be done, a literal elsewhere. A literal cannot hold NUL; it becomes a space.
pub fn quoted_or_literal(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= QUOTED_OCTETS_MAX
        && text.iter().all(|octet| matches!(octet, 0x01..=0x7e) && !b"\r\n".contains(octet))
    {
        return quoted(out, text);
    }
    literal_head(out, text.len() as u64);
    out.extend(text.iter().map(|octet| if *octet == 0 { b' ' } else { *octet }));
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for octet in text {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
}

/// `nstring = string / nil`
pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => quoted_or_literal(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `value = nstring / literal8` (RFC 5464)
pub fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(octets) if octets.contains(&0) => {
            out.push(b'~');
            literal_head(out, octets.len() as u64);
            out.extend_from_slice(octets);
        }
        value => nstring(out, value),
    }
}

/// What announces a literal, with its CRLF.
pub fn literal_head(out: &mut Vec<u8>, octets: u64) {
    out.push(b'{');
    number(out, octets);
    out.extend_from_slice(b"}\r\n");
}

/// Flags and keywords in parentheses: system flags, `\Recent`, keywords.
pub fn flag_list(out: &mut Vec<u8>, flags: &Flags, recent: bool) {
    let system = SystemFlags::NAMES.iter().filter(|(flag, _)| flags.system.contains(*flag)).map(|(_, name)| *name);
    let recent = recent.then_some("\\Recent");
    let keywords = flags.keywords.iter().map(rockdove_mail::Keyword::as_str);
    out.push(b'(');
    separated(out, b' ', system.chain(recent).chain(keywords), |out, name| out.extend_from_slice(name.as_bytes()));
    out.push(b')');
}

/// `uid-set`: `1:3,5`. The empty set has no text.
pub fn uid_set(out: &mut Vec<u8>, uids: &UidSet) {
    separated(out, b',', uids.ranges(), |out, (first, last)| {
        number(out, u64::from(*first));
        if last > first {
            out.push(b':');
            number(out, u64::from(*last));
        }
    });
}

/// Numbers with spaces between them: `1 2 3`.
pub fn numbers(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    separated(out, b' ', numbers, |out, one| number(out, u64::from(one)));
}

/// `number` in decimal.
pub fn number(out: &mut Vec<u8>, number: u64) {
    let (mut digits, mut rest) = ([0u8; 20], number);
    let mut used = 0usize;
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or_default());
        rest /= 10;
        used = used.saturating_add(1);
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(used)..).unwrap_or_default());
}

/// `date-time` with its quotes, from seconds since 1970 and a zone east of UTC in minutes.
pub fn date_time(out: &mut Vec<u8>, (unix_s, offset_minutes): (i64, i16)) {
    out.extend_from_slice(date::imap(unix_s, offset_minutes).as_bytes());
}

fn separated<T>(
    out: &mut Vec<u8>,
    separator: u8,
    elements: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    let mut first = true;
    for element in elements {
        if !std::mem::take(&mut first) {
            out.push(separator);
        }
        write(out, element);
    }
}
