//! Charsets to Unicode.

use std::borrow::Cow;

use mail_parser::decoders::charsets::map::charset_decoder;

/// Decodes text in a charset. UTF-8, and every charset we do not know, is taken for UTF-8; what cannot be decoded
/// becomes U+FFFD.
pub(crate) fn decode<'a>(charset: &[u8], octets: &'a [u8]) -> Cow<'a, str> {
    // Most text is ASCII, and all charsets agree on it where none of these octets begins something else.
    let plain = octets.is_ascii() && !octets.iter().any(|octet| matches!(octet, 0x1b | b'~' | b'+' | 0));
    match charset_decoder(charset).filter(|_| !plain) {
        Some(_) if is_ascii(charset) && std::str::from_utf8(octets).is_ok() => String::from_utf8_lossy(octets),
        Some(decoder) => Cow::Owned(decoder(octets)),
        None => String::from_utf8_lossy(octets),
    }
}

/// Names for "nothing but ASCII", under which UTF-8 is sent all the same.
fn is_ascii(charset: &[u8]) -> bool {
    charset.eq_ignore_ascii_case(b"us-ascii") || charset.eq_ignore_ascii_case(b"ascii")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets() {
        for (charset, octets, text) in [
            ("utf-8", &b"caf\xc3\xa9"[..], "café"),
            ("UTF-8", b"\xff", "\u{fffd}"),
            ("iso-8859-1", b"caf\xe9", "café"),
            ("us-ascii", b"caf\xc3\xa9", "café"),
            ("us-ascii", b"caf\xe9", "café"),
            ("", b"caf\xc3\xa9", "café"),
            ("no-such", b"caf\xc3\xa9", "café"),
            ("windows-1251", b"\xcf\xf0\xe8", "При"),
            ("shift_jis", b"\x83e", "テ"),
            ("gb2312", b"\xc4\xe3", "你"),
            ("euc-kr", b"\xb0\xa1", "가"),
            ("iso-2022-jp", b"\x1b$B%F\x1b(B", "テ"),
            ("utf-16le", b"a\0", "a"),
            ("utf-7", b"+AOk-", "é"),
            ("utf-7", b"", ""),
        ] {
            assert_eq!(decode(charset.as_bytes(), octets), text, "{charset}");
        }
    }
}
