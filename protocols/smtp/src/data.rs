//! Mail data: where it ends, which dots are not its own, and whether its lines are lines.

use bytes::{Buf, Bytes};
use memchr::{memchr, memchr2};

/// A line end that is none, seen in mail data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// LF without a CR before it.
    BareLf,
    /// CR without a LF after it.
    BareCr,
}

/// Where in a line the decoder stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Behind a CRLF, or at the very beginning.
    #[default]
    Start,
    /// Inside a line.
    Inside,
    /// Behind a CR.
    Cr,
    /// Behind a dot that began a line; the dot was dropped.
    Dot,
    /// Behind such a dot and a CR, which is held back: it may be the end.
    DotCr,
}

/// Decodes what follows DATA: removes stuffed dots and finds the end, without copying.
///
//= rfc5321#section-4.1.1.4
//# In particular, the sequence "<LF>.<LF>" (bare line
//# feeds, without carriage returns) MUST NOT be treated as equivalent to
//# <CRLF>.<CRLF> as the end of mail data indication.
#[derive(Debug, Default)]
pub(crate) struct DotDecoder {
    place: Place,
    stray: Option<Stray>,
}

impl DotDecoder {
    /// The first line end that was none.
    pub(crate) fn stray(&self) -> Option<Stray> {
        self.stray
    }

    /// Takes content from `input` up to the end of mail data and hands it to `sink` in slices. True when the end was
    /// reached; `input` then begins behind it.
    pub(crate) fn decode(&mut self, input: &mut Bytes, mut sink: impl FnMut(Bytes)) -> bool {
        // Octets of `input` that were looked at and belong to the content.
        let mut taken = 0_usize;
        while let Some(&octet) = input.get(taken) {
            match self.place {
                Place::Start if octet == b'.' => {
                    emit(input, &mut taken, &mut sink);
                    input.advance(1);
                    self.place = Place::Dot;
                }
                Place::Inside => self.inside(input, &mut taken),
                Place::Cr => {
                    if octet == b'\n' {
                        self.place = Place::Start;
                        taken = taken.saturating_add(1);
                    } else {
                        self.bare_cr();
                    }
                }
                Place::Dot if octet == b'\r' => {
                    input.advance(1);
                    self.place = Place::DotCr;
                }
                Place::Start | Place::Dot => self.place = Place::Inside,
                Place::DotCr if octet == b'\n' => {
                    input.advance(1);
                    return true;
                }
                Place::DotCr => {
                    // The CR that was held back belongs to the content after all.
                    sink(Bytes::from_static(b"\r"));
                    self.bare_cr();
                }
            }
        }
        emit(input, &mut taken, &mut sink);
        false
    }

    /// Goes to the next CR or LF of the line.
    fn inside(&mut self, input: &Bytes, taken: &mut usize) {
        let rest = input.get(*taken..).unwrap_or_default();
        let Some(at) = memchr2(b'\r', b'\n', rest) else {
            *taken = input.len();
            return;
        };
        if rest.get(at) == Some(&b'\r') {
            self.place = Place::Cr;
        } else {
            self.stray.get_or_insert(Stray::BareLf);
        }
        *taken = taken.saturating_add(at).saturating_add(1);
    }

    fn bare_cr(&mut self) {
        self.stray.get_or_insert(Stray::BareCr);
        self.place = Place::Inside;
    }
}

fn emit(input: &mut Bytes, taken: &mut usize, sink: &mut impl FnMut(Bytes)) {
    if *taken > 0 {
        sink(input.split_to(*taken));
        *taken = 0;
    }
}

/// Watches counted content (BDAT) for line ends that are none.
#[derive(Debug, Default)]
pub(crate) struct LineEnds {
    after_cr: bool,
    stray: Option<Stray>,
}

impl LineEnds {
    /// Looks at the next piece.
    pub(crate) fn watch(&mut self, mut piece: &[u8]) {
        if self.stray.is_some() {
            return;
        }
        if self.after_cr && !piece.is_empty() && piece.first() != Some(&b'\n') {
            self.stray = Some(Stray::BareCr);
            return;
        }
        if self.after_cr && !piece.is_empty() {
            piece = piece.get(1..).unwrap_or_default();
            self.after_cr = false;
        }
        while let Some(at) = memchr2(b'\r', b'\n', piece) {
            if piece.get(at) == Some(&b'\n') {
                self.stray = Some(Stray::BareLf);
                return;
            }
            match piece.get(at.saturating_add(1)) {
                Some(b'\n') => piece = piece.get(at.saturating_add(2)..).unwrap_or_default(),
                Some(_) => {
                    self.stray = Some(Stray::BareCr);
                    return;
                }
                None => {
                    self.after_cr = true;
                    return;
                }
            }
        }
    }

    /// The first line end that was none, now that the content is complete.
    pub(crate) fn finish(&self) -> Option<Stray> {
        self.stray.or(self.after_cr.then_some(Stray::BareCr))
    }
}

/// Whether a command line holds a CR (its CRLF is gone already) or another control character.
pub(crate) fn has_control(line: &[u8]) -> bool {
    memchr(b'\r', line).is_some() || line.iter().any(|&octet| octet < 0x20 || octet == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], step: usize) -> (Vec<u8>, Option<Stray>, Option<Vec<u8>>) {
        let mut decoder = DotDecoder::default();
        let mut content = Vec::new();
        let mut pieces = input.chunks(step);
        while let Some(piece) = pieces.next() {
            let mut piece = Bytes::copy_from_slice(piece);
            if decoder.decode(&mut piece, |slice| content.extend_from_slice(&slice)) {
                let mut rest = piece.to_vec();
                pieces.for_each(|piece| rest.extend_from_slice(piece));
                return (content, decoder.stray(), Some(rest));
            }
            assert!(piece.is_empty());
        }
        (content, decoder.stray(), None)
    }

    fn check(input: &str, content: &str, stray: Option<Stray>, rest: Option<&str>) {
        for step in 1..=input.len() {
            let (got, got_stray, got_rest) = decode(input.as_bytes(), step);
            assert_eq!(String::from_utf8_lossy(&got), content, "{input:?} in steps of {step}");
            assert_eq!(got_stray, stray, "{input:?} in steps of {step}");
            assert_eq!(got_rest.as_deref(), rest.map(str::as_bytes), "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn only_the_true_end_ends() {
        check(".\r\n", "", None, Some(""));
        check("a\r\n.\r\nQUIT\r\n", "a\r\n", None, Some("QUIT\r\n"));
        check("..\r\n...x\r\n.y\r\n.\r\n", ".\r\n..x\r\ny\r\n", None, Some(""));
        check("a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", Some(Stray::BareLf), Some(""));
        check("a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", Some(Stray::BareLf), Some(""));
        check("a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", Some(Stray::BareLf), Some(""));
        check("a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", Some(Stray::BareCr), Some(""));
        check("a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", Some(Stray::BareCr), Some(""));
        check("a\r\n.\r\r\n.\r\n", "a\r\n\r\r\n", Some(Stray::BareCr), Some(""));
        check("a\r\r\n.\r\n", "a\r\r\n", Some(Stray::BareCr), Some(""));
        check("a\r\n.", "a\r\n", None, None);
        check("a\0b\r\n.\r\n", "a\0b\r\n", None, Some(""));
    }

    #[test]
    fn counted_content_is_watched() {
        for (content, stray) in [
            ("a\r\nb\r\n", None),
            ("no end", None),
            ("a\nb", Some(Stray::BareLf)),
            ("a\rb", Some(Stray::BareCr)),
            ("a\r", Some(Stray::BareCr)),
            ("\n", Some(Stray::BareLf)),
            ("a\r\n\n", Some(Stray::BareLf)),
            ("a\r\r\n", Some(Stray::BareCr)),
        ] {
            for step in 1..=content.len() {
                let mut ends = LineEnds::default();
                content.as_bytes().chunks(step).for_each(|piece| ends.watch(piece));
                assert_eq!(ends.finish(), stray, "{content:?} in steps of {step}");
            }
        }
    }
}
