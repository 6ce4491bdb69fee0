//! Modified UTF-7, in which mailbox names travel (RFC 3501 section 5.1.3).

use std::borrow::Cow;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// The name as UTF-8. What is not modified UTF-7 stands for itself if it is UTF-8; `None` if it is neither.
pub fn decode(octets: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(octets).ok()?;
    if !text.contains('&') || !text.is_ascii() {
        return Some(Cow::Borrowed(text));
    }
    Some(strictly(text).map_or(Cow::Borrowed(text), Cow::Owned))
}

fn strictly(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, shifted)) = rest.split_once('&') {
        name.push_str(plain);
        let (coded, after) = shifted.split_once('-')?;
        if coded.is_empty() {
            name.push('&');
        } else {
            name.push_str(&decode_shifted(coded.as_bytes())?);
        }
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

/// UTF-16BE in base64 without padding.
fn decode_shifted(coded: &[u8]) -> Option<String> {
    let (mut units, mut bits, mut count) = (Vec::with_capacity(coded.len() / 2), 0u32, 0u32);
    for octet in coded {
        let value = u32::try_from(ALPHABET.iter().position(|known| known == octet)?).ok()?;
        bits = (bits << 6 | value) & 0x3f_ffff;
        count = count.checked_add(6)?;
        if count >= 16 {
            count = count.checked_sub(16)?;
            units.push(u16::try_from(bits >> count & 0xffff).ok()?);
        }
    }
    // Less than a whole octet of padding, all zero.
    if count >= 6 || bits & 1u32.checked_shl(count)?.checked_sub(1)? != 0 {
        return None;
    }
    let text = String::from_utf16(&units).ok()?;
    //= rfc3501#section-5.1.3
    //# Modified BASE64 MUST NOT be used to represent any printing US-ASCII
    //# character which can represent itself.
    (!text.bytes().any(|octet| matches!(octet, 0x20..=0x7e))).then_some(text)
}

/// Appends a name in modified UTF-7: printable US-ASCII only.
pub fn encode(out: &mut Vec<u8>, name: &str) {
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let direct = is_direct(first);
        let (run, after) = rest.split_at(rest.find(|c| is_direct(c) != direct).unwrap_or(rest.len()));
        if direct {
            for octet in run.bytes() {
                out.push(octet);
                if octet == b'&' {
                    out.push(b'-');
                }
            }
        } else {
            encode_shifted(out, run);
        }
        rest = after;
    }
}

fn is_direct(c: char) -> bool {
    matches!(c, ' '..='~')
}

fn encode_shifted(out: &mut Vec<u8>, run: &str) {
    out.push(b'&');
    let (mut bits, mut count) = (0u32, 0u32);
    let digit = |bits: u32| usize::try_from(bits & 63).ok().and_then(|at| ALPHABET.get(at)).copied().unwrap_or(b'A');
    for unit in run.encode_utf16() {
        bits = (bits << 16 | u32::from(unit)) & 0x3f_ffff;
        count = count.saturating_add(16);
        while count >= 6 {
            count = count.saturating_sub(6);
            out.push(digit(bits >> count));
        }
    }
    if count > 0 {
        out.push(digit(bits << 6u32.saturating_sub(count)));
    }
    out.push(b'-');
}
