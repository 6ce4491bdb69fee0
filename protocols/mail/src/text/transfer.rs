//! Content-Transfer-Encodings (RFC 2045 section 6), read forgivingly.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use mail_parser::decoders::base64::base64_decode;

use crate::mime::Encoding;

const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where quoted-printable is used; its rules differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a body: soft line breaks, and white space at line ends is dropped.
    Body,
    /// In an encoded word (RFC 2047 section 4.2): `_` is a space.
    Word,
}

/// The octets that a body stands for. `None` for an encoding we do not know.
pub fn decode(body: &[u8], encoding: Encoding) -> Option<Cow<'_, [u8]>> {
    match encoding {
        Encoding::Identity => Some(body.into()),
        Encoding::Base64 => Some(base64(body).into()),
        Encoding::QuotedPrintable => Some(quoted_printable(body, Place::Body).into()),
        Encoding::Unknown => None,
    }
}

/// Base64; octets that do not belong there are skipped (RFC 2045 section 6.8), and padding ends it.
fn base64(body: &[u8]) -> Vec<u8> {
    if let Some(octets) = base64_decode(body) {
        return octets;
    }
    let letters = body.iter().copied().take_while(|octet| *octet != b'=');
    let mut letters: Vec<u8> =
        letters.filter(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/')).collect();
    if letters.len() % 4 == 1 {
        letters.pop();
    }
    FORGIVING.decode(&letters).unwrap_or_default()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Quoted-printable; what is no escape stays as it is.
pub(crate) fn quoted_printable(text: &[u8], place: Place) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    // Octets up to here were written for their own sake: white space behind them at a line end is not.
    let mut solid = 0;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        match octet {
            b'_' if place == Place::Word => octets.push(b' '),
            b'=' => {
                if let [high, low, further @ ..] = behind
                    && let (Some(high), Some(low)) = (hex(*high), hex(*low))
                {
                    octets.push(high << 4 | low);
                    solid = octets.len();
                    rest = further;
                } else if let Some(further) = soft_line_break(behind).filter(|_| place == Place::Body) {
                    solid = octets.len();
                    rest = further;
                } else {
                    octets.push(octet);
                }
            }
            b'\n' if place == Place::Body => {
                let cr = octets.ends_with(b"\r");
                octets.truncate(octets.len().saturating_sub(usize::from(cr)));
                while octets.len() > solid && matches!(octets.last(), Some(b' ' | b'\t')) {
                    octets.pop();
                }
                octets.extend_from_slice(if cr { b"\r\n" } else { b"\n" });
                solid = octets.len();
            }
            _ => octets.push(octet),
        }
    }
    octets
}

/// What follows a soft line break, of which `text` begins behind the `=`.
fn soft_line_break(text: &[u8]) -> Option<&[u8]> {
    let text = text.get(text.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count()..)?;
    if text.is_empty() {
        return Some(text);
    }
    text.strip_prefix(b"\r").unwrap_or(text).strip_prefix(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        use Encoding::{Base64, Identity, QuotedPrintable};
        for (encoding, body, octets) in [
            (Identity, &b"a=3D"[..], &b"a=3D"[..]),
            (QuotedPrintable, b"a=3Db =C3=a9", b"a=b \xc3\xa9"),
            (QuotedPrintable, b"soft=\r\n break= \t\n.", b"soft break."),
            (QuotedPrintable, b"end \t\r\nx =20 \n=", b"end\r\nx  \n"),
            (QuotedPrintable, b"=zz = 3D =3", b"=zz = 3D =3"),
            (QuotedPrintable, b"a_b", b"a_b"),
            (QuotedPrintable, b"=0D=0A \r\n", b"\r\n\r\n"),
            (Base64, b"aGVs\r\nbG8=\r\n", b"hello"),
            (Base64, b"aGVs*bG8!", b"hello"),
            (Base64, b"aGVsbG8", b"hello"),
            (Base64, b"aGVsb", b"hel"),
            (Base64, b"aGVsbG8=\r\n-- \r\nsent from a list", b"hello"),
            (Base64, b"", b""),
            (Base64, b"!!!", b""),
        ] {
            let text = String::from_utf8_lossy(body).into_owned();
            assert_eq!(decode(body, encoding).as_deref(), Some(octets), "{text:?}");
        }
        assert_eq!(decode(b"x", Encoding::Unknown), None);
    }
}
