//! Strings of IMAP (RFC 9051 section 4.3).

/// Octets of the longest quoted string that is written; longer ones become literals, because clients keep quoted strings
/// in fixed buffers. RFC 9051 names no limit.
const QUOTED_OCTETS_MAX: usize = 1000;

/// Writes a string: quoted where that is possible, else as a literal. NUL, which neither can hold, becomes U+FFFD.
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    if text.contains(&0) {
        let clean: Vec<u8> = text
            .iter()
            .flat_map(|octet| if *octet == 0 { "\u{fffd}".as_bytes() } else { std::slice::from_ref(octet) })
            .copied()
            .collect();
        return put_string(out, &clean);
    }
    let quotable = |octet: &u8| octet.is_ascii() && !matches!(octet, b'\r' | b'\n');
    if text.len() <= QUOTED_OCTETS_MAX && text.iter().all(quotable) {
        out.push(b'"');
        for octet in text {
            if matches!(octet, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*octet);
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(format!("{{{}}}\r\n", text.len()).as_bytes());
        out.extend_from_slice(text);
    }
}

/// Writes a string or `NIL`.
pub(super) fn put_nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.extend_from_slice(b"NIL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        for (text, expected) in [
            (&b"a b"[..], &b"\"a b\""[..]),
            (b"", b"\"\""),
            (b"a\"b\\c", b"\"a\\\"b\\\\c\""),
            (b"a\r\nb", b"{4}\r\na\r\nb"),
            (b"\xe9", b"{1}\r\n\xe9"),
            (b"a\0", b"{4}\r\na\xef\xbf\xbd"),
        ] {
            let mut out = Vec::new();
            put_nstring(&mut out, Some(text));
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        put_string(&mut out, &[b'a'; 1001]);
        assert!(out.starts_with(b"{1001}\r\naaa") && out.len() == 1009);
        out.clear();
        put_nstring(&mut out, None);
        assert_eq!(out, b"NIL");
    }
}
