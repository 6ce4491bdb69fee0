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

/// Decodes the beginning of a body, up to a place where decoding can go on as if a body began there. `last`: nothing
/// follows. Gives the octets and how many of `piece` they came from: none only when `piece` is empty.
pub fn decode_piece(piece: &[u8], encoding: Encoding, last: bool) -> Option<(Cow<'_, [u8]>, usize)> {
    let taken = match encoding {
        _ if last => piece.len(),
        Encoding::Base64 => whole_groups(piece),
        Encoding::QuotedPrintable => whole_lines(piece),
        Encoding::Identity | Encoding::Unknown => piece.len(),
    };
    // What cannot be cut anywhere is cut at its end.
    let taken = if taken == 0 { piece.len() } else { taken };
    Some((decode(piece.get(..taken)?, encoding)?, taken))
}

/// Whether base64 ends here: nothing behind padding counts.
pub fn is_end(piece: &[u8], encoding: Encoding) -> bool {
    encoding == Encoding::Base64 && piece.contains(&b'=')
}

/// Octets up to the end of the last group of four letters; all when there is padding.
fn whole_groups(piece: &[u8]) -> usize {
    if piece.contains(&b'=') {
        return piece.len();
    }
    let is_letter = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    let surplus = piece.iter().filter(|octet| is_letter(octet)).count() % 4;
    match surplus.checked_sub(1) {
        None => piece.len(),
        Some(nth) => {
            let letters = piece.iter().enumerate().rev().filter(|(_, octet)| is_letter(octet));
            letters.map(|(at, _)| at).nth(nth).unwrap_or(piece.len())
        }
    }
}

/// Octets up to the end of the last line; where there is none, up to where no escape and no white space is cut.
fn whole_lines(piece: &[u8]) -> usize {
    if let Some(end) = piece.iter().rposition(|octet| *octet == b'\n') {
        return end.saturating_add(1);
    }
    let escape = piece.len().saturating_sub(2);
    let cut = piece.iter().rposition(|octet| *octet == b'=').filter(|at| *at >= escape).unwrap_or(piece.len());
    let solid = piece.get(..cut).unwrap_or_default();
    solid.iter().rposition(|octet| !matches!(octet, b' ' | b'\t' | b'\r' | b'=')).map_or(0, |at| at.saturating_add(1))
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

    /// Pieces of any size decode to what the whole does.
    #[test]
    fn pieces() {
        let base64 = b"VGhpcyBpcyBhIGxpbmUg\r\nb2YgdGV4dC4gVGhpcyBp\r\ncyBhbm90aGVyIG9uZS4=\r\n-- \r\nfooter\r\n";
        let quoted = b"soft=\r\n break=20\r\nC=C3=A9 line   \r\nlast= \r\n one =3D\r\n";
        for (body, encoding) in [(&base64[..], Encoding::Base64), (quoted, Encoding::QuotedPrintable)] {
            let whole = decode(body, encoding).expect("known").into_owned();
            for size in 24..=body.len() {
                let (mut at, mut octets) = (0, Vec::new());
                while at < body.len() {
                    let piece = &body[at..body.len().min(at + size)];
                    let last = at + piece.len() == body.len();
                    let (more, taken) = decode_piece(piece, encoding, last).expect("known");
                    octets.extend_from_slice(&more);
                    at += taken;
                    if is_end(&piece[..taken], encoding) {
                        break;
                    }
                }
                assert_eq!(String::from_utf8_lossy(&octets), String::from_utf8_lossy(&whole), "{size}");
            }
        }
        assert_eq!(decode_piece(b"x", Encoding::Unknown, true), None);
        assert_eq!(decode_piece(b"A!!!", Encoding::Base64, false).map(|(_, taken)| taken), Some(4));
        assert_eq!(decode_piece(b"    ", Encoding::QuotedPrintable, false).map(|(_, taken)| taken), Some(4));
    }

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
