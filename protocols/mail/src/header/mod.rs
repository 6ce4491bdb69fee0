//! Header blocks (RFC 5322 section 2.2): fields, unfolding, encoded words, base subjects.
//!
//! * What: walks the fields of a header block, takes a subset of them, and says what their values mean.
//! * In: the octets of a header block, as a stranger wrote them.
//! * Out: slices of the block, decoded text, and header blocks with fewer fields.
//! * Never: changes an octet of a field it hands on; needs more than one pass.
//! * Fails: not at all; what is no field is a [`Field`] without a name, and what cannot be decoded stays as it is.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic, clippy::expect_used)
)]

mod encoded_word;
mod subject;

use memchr::memchr;

pub use encoded_word::decode_words;
pub use subject::{BaseSubject, base_subject};

/// One field of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, in the case it was written in. Empty for a line that is no field (no colon, or no name before it).
    pub name: &'a [u8],
    /// What follows the colon, with its folding, without the last line end.
    pub value: &'a [u8],
    /// The whole field with its line ends.
    pub raw: &'a [u8],
}

impl Field<'_> {
    /// Whether this is the field of that name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Walks a header block.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// The fields of a header block, in order. Stops at the empty line or at the end. Lines may end with CRLF or LF.
pub fn iter(block: &[u8]) -> Fields<'_> {
    Fields { rest: block }
}

/// Octets of the first line with its line end.
fn line_length(text: &[u8]) -> usize {
    memchr(b'\n', text).map_or(text.len(), |at| at.saturating_add(1))
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let block = self.rest;
        let mut length = line_length(block);
        if without_line_end(block.get(..length)?).is_empty() {
            self.rest = &[];
            return None;
        }
        while let Some(next @ [b' ' | b'\t', ..]) = block.get(length..) {
            length = length.saturating_add(line_length(next));
        }
        let (raw, rest) = block.split_at_checked(length)?;
        self.rest = rest;
        let line = without_line_end(raw);
        Some(match memchr(b':', line).and_then(|at| line.split_at_checked(at)) {
            Some((name, value)) if is_name(name.trim_ascii_end()) => {
                Field { name: name.trim_ascii_end(), value: value.get(1..).unwrap_or_default(), raw }
            }
            _ => Field { name: &[], value: line, raw },
        })
    }
}

//= rfc5322#section-2.2
//# A field name MUST be composed of printable US-ASCII characters (i.e.,
//# characters that have values between 33 and 126, inclusive), except
//# colon.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// The value in one line: line ends before white space are dropped (RFC 5322 section 2.2.3), and so is white space
/// around the whole. A CR or LF that is no folding becomes a space.
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let mut line = Vec::with_capacity(value.len());
    let mut octets = value.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        let next = octets.peek().copied();
        match octet {
            b'\r' if next == Some(b'\n') => {}
            b'\n' if matches!(next, Some(b' ' | b'\t')) => {}
            b'\r' | b'\n' => line.push(b' '),
            _ => line.push(octet),
        }
    }
    line
}

/// The values of every field of this name, unfolded, with encoded words (RFC 2047) decoded and UTF-8 (RFC 6532) as it
/// is. Octets that are no UTF-8 become U+FFFD.
pub fn unfold_decoded(block: &[u8], name: &str) -> Vec<String> {
    iter(block).filter(|field| field.is(name)).map(|field| decode_words(&unfold(field.value))).collect()
}

/// The fields with one of these names (`HEADER.FIELDS`), or with none of them (`HEADER.FIELDS.NOT`), octet for octet
/// in their order, and the empty line (RFC 9051 section 6.4.5.1). Lines that are no field go with the rest.
pub fn fields(block: &[u8], names: &[&str], not: bool) -> Vec<u8> {
    let mut subset = Vec::new();
    let mut length: usize = 0;
    for field in iter(block) {
        length = length.saturating_add(field.raw.len());
        if names.iter().any(|name| field.is(name)) != not {
            subset.extend_from_slice(field.raw);
            if !field.raw.ends_with(b"\n") {
                subset.extend_from_slice(b"\r\n");
            }
        }
    }
    let end = block.get(length..).unwrap_or_default();
    let end = end.get(..line_length(end)).filter(|end| !end.is_empty()).unwrap_or(b"\r\n");
    subset.extend_from_slice(end);
    subset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        let names = |block: &str| -> Vec<(String, String)> {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            iter(block.as_bytes()).map(|field| (text(field.name), text(field.value))).collect()
        };
        for (block, expected) in [
            ("", &[][..]),
            ("\r\nA: b\r\n", &[]),
            ("A: b\r\n\r\nC: d\r\n", &[("A", " b")]),
            ("A: b\n\tc\nD :e\n\n", &[("A", " b\n\tc"), ("D", "e")]),
            ("From me@x Mon 10:00\r\nA:\r\n \r\nB: c", &[("", "From me@x Mon 10:00"), ("A", "\r\n "), ("B", " c")]),
            ("no colon\r\n: none\r\n A: b\r\nB:c\r\n\r\n", &[("", "no colon"), ("", ": none\r\n A: b"), ("B", "c")]),
            ("  folded from nothing\r\nA: b\r", &[("", "  folded from nothing"), ("A", " b")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(names(block), expected, "{block:?}");
            let raw: usize = iter(block.as_bytes()).map(|field| field.raw.len()).sum();
            assert!(raw <= block.len());
        }
    }

    #[test]
    fn unfolding() {
        for (value, expected) in [
            (" a\r\n b ", "a b"),
            ("a\n\tb", "a\tb"),
            ("\r\n a", "a"),
            ("a\rb", "a b"),
            ("a\r\n", "a"),
            ("a\r\r\n b", "a  b"),
        ] {
            assert_eq!(unfold(value.as_bytes()), expected.as_bytes(), "{value:?}");
        }
    }

    #[test]
    fn subsets() {
        let block = b"A: 1\r\nnonsense\r\nb: 2\r\n\tmore\r\na: 3\r\n\r\nbody";
        for (names, not, expected) in [
            (&["a"][..], false, "A: 1\r\na: 3\r\n\r\n"),
            (&["A", "B"], true, "nonsense\r\n\r\n"),
            (&["B"], false, "b: 2\r\n\tmore\r\n\r\n"),
            (&[], false, "\r\n"),
            (&["x"], true, "A: 1\r\nnonsense\r\nb: 2\r\n\tmore\r\na: 3\r\n\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&fields(block, names, not)), expected, "{names:?} {not}");
        }
        assert_eq!(fields(b"A: 1\n\n", &["a"], false), b"A: 1\n\n");
        assert_eq!(fields(b"A: 1", &["a"], false), b"A: 1\r\n\r\n");
        assert_eq!(fields(b"", &["a"], false), b"\r\n");
    }

    #[test]
    fn decoded() {
        let block = "Subject: =?utf-8?q?caf=C3=A9?=\r\n =?utf-8?q?_au_lait?=\r\nsubject: plain é\r\n\r\n".as_bytes();
        assert_eq!(unfold_decoded(block, "Subject"), ["café au lait", "plain é"]);
        assert!(unfold_decoded(block, "To").is_empty());
    }
}
