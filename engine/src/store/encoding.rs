//! How the octets of a part relate to those of a message: as they are, or decoded from base64.
//!
//! ```text
//! encoding1                                  00 as they are
//!           line_octets.. line_end1          01 base64 in lines of so many octets; 0: one line; line end: 0 CRLF, 1 LF
//! ```
//! Only base64 that a simple encoder would write again is decoded: lines of one length but for the last, one kind of line
//! end, canonical padding. A piece ends with the last quantum; a line end behind it, or a footer, is in the next piece.
//! What is taken is encoded again at once by what later reads it, and compared.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use memchr::memchr2;

use super::octets::{Take, put_varint};
use crate::command::EngineError;

const AS_IS: u8 = 0;
const BASE64: u8 = 1;
/// Characters that stand for three octets (RFC 4648 section 4).
const QUANTUM: u64 = 4;
/// Octets decoded and compared at once.
const PUSHED_AT_ONCE: usize = 16 * 1024;

/// How a part stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Octet by octet.
    AsIs,
    /// Encoded in base64.
    Base64(Lines),
}

/// How base64 is cut into lines. There is a line end between two lines, none behind the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Octets of a line, a multiple of four; 0 when all is one line.
    octets: u32,
    /// Line ends are LF, not CRLF.
    bare: bool,
}

impl Encoding {
    pub(crate) fn put(self, row: &mut Vec<u8>) {
        match self {
            Self::AsIs => row.push(AS_IS),
            Self::Base64(lines) => {
                row.push(BASE64);
                put_varint(row, u64::from(lines.octets));
                row.push(u8::from(lines.bare));
            }
        }
    }

    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        match take.u8()? {
            AS_IS => Some(Self::AsIs),
            BASE64 => {
                let octets: u32 = take.small()?;
                let bare = match take.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                octets.is_multiple_of(4).then_some(Self::Base64(Lines { octets, bare }))
            }
            _ => None,
        }
    }

    /// Octets in the message of so many in a part. `None` when there are too many to count.
    pub(crate) fn length(self, octets: u64) -> Option<u64> {
        match self {
            Self::AsIs => Some(octets),
            Self::Base64(lines) => lines.place(octets.div_ceil(3).checked_mul(QUANTUM)?),
        }
    }

    /// Octets `wanted` of the message's, from a part of which it has `octets`; `read` reads these.
    pub(crate) fn read(
        self,
        octets: u64,
        wanted: Range<u64>,
        read: impl FnOnce(Range<u64>) -> Result<Bytes, EngineError>,
    ) -> Result<Bytes, EngineError> {
        match self {
            Self::AsIs => read(wanted),
            Self::Base64(lines) => lines.read(octets, wanted, read),
        }
    }
}

impl Lines {
    const fn end(self) -> &'static [u8] {
        if self.bare { b"\n" } else { b"\r\n" }
    }

    /// Line ends before the character with this number.
    fn ends_before(self, character: u64) -> u64 {
        character.checked_div(u64::from(self.octets)).unwrap_or(0)
    }

    /// Octets up to the last character when there are so many.
    fn place(self, characters: u64) -> Option<u64> {
        let ends = self.ends_before(characters.saturating_sub(1));
        characters.checked_add(ends.checked_mul(self.end().len() as u64)?)
    }

    /// Characters in so many octets.
    fn characters(self, octets: u64) -> u64 {
        let line = u64::from(self.octets);
        let stride = line + self.end().len() as u64;
        if line == 0 { octets } else { octets / stride * line + (octets % stride).min(line) }
    }

    /// Reads from whole quanta around what is wanted, so that no more is encoded than needed.
    fn read(
        self,
        octets: u64,
        wanted: Range<u64>,
        read: impl FnOnce(Range<u64>) -> Result<Bytes, EngineError>,
    ) -> Result<Bytes, EngineError> {
        let malformed = || EngineError::Corrupt("a piece of a message".to_owned());
        let quantum = |octets| self.characters(octets) / QUANTUM;
        // One more on both sides, for the line ends between them.
        let first = quantum(wanted.start).saturating_sub(1);
        let until = quantum(wanted.end).saturating_add(2);
        let decoded = read(first.saturating_mul(3)..until.saturating_mul(3).min(octets))?;
        let mut encoded = Vec::new();
        self.encode(first * QUANTUM, &decoded, &mut encoded);
        let start = first.checked_mul(QUANTUM).and_then(|characters| {
            // Where the line end before the first of them, if there is one, begins.
            self.place(characters)
        });
        let skip = start.and_then(|start| usize::try_from(wanted.start.checked_sub(start)?).ok());
        let length = usize::try_from(wanted.end - wanted.start).map_err(|_| malformed())?;
        let cut = skip.and_then(|skip| Some(skip..skip.checked_add(length)?)).ok_or_else(malformed)?;
        if cut.end > encoded.len() {
            return Err(malformed());
        }
        Ok(Bytes::from(encoded).slice(cut))
    }

    /// Appends the encoding of octets, the first of which makes the character with this number; line ends stand before
    /// the first character of each line but the very first.
    fn encode(self, mut character: u64, mut decoded: &[u8], out: &mut Vec<u8>) {
        while !decoded.is_empty() {
            let line = u64::from(self.octets);
            let column = character.checked_rem(line).unwrap_or(character);
            if column == 0 && character > 0 {
                out.extend_from_slice(self.end());
            }
            let room = if line == 0 { u64::MAX } else { line - column };
            let count = usize::try_from(room / QUANTUM).unwrap_or(usize::MAX).saturating_mul(3).min(decoded.len());
            let (some, rest) = decoded.split_at(count);
            let start = out.len();
            let length = some.len().div_ceil(3) * 4;
            out.resize(start + length, 0);
            // There is room for exactly this.
            let written = STANDARD.encode_slice(some, &mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
            character += length as u64;
            decoded = rest;
        }
    }
}

/// Decodes base64 while it streams in, as long as it is regular.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// How it is cut into lines; not known before the first line is at its end.
    lines: Option<Lines>,
    /// Characters taken; whole quanta.
    characters: u64,
    /// What came since: the beginning of a quantum, a line end before it.
    held: Vec<u8>,
}

/// What comes of octets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// They are taken, or held until more comes.
    Taken,
    /// The regular part is at its end; these octets are behind it.
    Over(Vec<u8>),
}

/// One step in a line.
enum Step {
    /// So many octets were taken.
    Took(usize),
    /// So many, and what follows is not regular any more.
    TookLast(usize),
    /// More must come first.
    Wait,
}

impl Decoder {
    /// The encoding of what was taken.
    pub(crate) fn encoding(&self) -> Encoding {
        Encoding::Base64(self.lines.unwrap_or_default())
    }

    /// Ends it and answers the octets that came and were not taken.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Takes octets and appends what they decode to.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Pushed {
        for (number, some) in bytes.chunks(PUSHED_AT_ONCE).enumerate() {
            if let Pushed::Over(mut behind) = self.push_some(some, out) {
                behind.extend_from_slice(bytes.get((number + 1) * PUSHED_AT_ONCE..).unwrap_or_default());
                return Pushed::Over(behind);
            }
        }
        Pushed::Taken
    }

    fn push_some(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Pushed {
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let (before, lines, decoded) = (self.characters, self.lines, out.len());
        let mut taken = 0;
        let mut over = loop {
            match self.step(&input[taken..], out) {
                Step::Took(octets) => taken += octets,
                Step::TookLast(octets) => {
                    taken += octets;
                    break true;
                }
                Step::Wait => break false,
            }
        };
        // What is read later is what came, or it is not taken.
        let mut again = Vec::with_capacity(taken);
        self.lines.unwrap_or_default().encode(before, &out[decoded..], &mut again);
        if again != input[..taken] {
            out.truncate(decoded);
            (self.characters, self.lines, taken, over) = (before, lines, 0, true);
        }
        input.drain(..taken);
        if over {
            return Pushed::Over(input);
        }
        self.held = input;
        Pushed::Taken
    }

    /// Takes what there is of one line, and the line end before it.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        let line = self.lines.map_or(0, |lines| u64::from(lines.octets));
        let column = self.characters.checked_rem(line).unwrap_or(self.characters);
        let end = if line > 0 && column == 0 { self.lines.unwrap_or_default().end() } else { b"" };
        let Some(rest) = input.strip_prefix(end) else {
            return if end.starts_with(input) { Step::Wait } else { Step::TookLast(0) };
        };
        let room = if line == 0 { rest.len() } else { usize::try_from(line - column).unwrap_or(usize::MAX) };
        let rest = &rest[..rest.len().min(room)];
        let line_end = memchr2(b'\r', b'\n', rest);
        let text = &rest[..line_end.unwrap_or(rest.len())];
        let quanta = &text[..text.len() / 4 * 4];
        let (taken, whole) = decode(quanta, out);
        self.characters += taken as u64;
        let took = if taken > 0 { end.len() + taken } else { 0 };
        match line_end {
            _ if !whole => Step::TookLast(took),
            // A line that is shorter than the others is the last, unless it is the first.
            Some(_) if line > 0 || text.len() != quanta.len() => Step::TookLast(took),
            Some(at) if taken == 0 => self.first_line_end(&rest[at..]),
            None if taken == 0 => Step::Wait,
            _ => Step::Took(took),
        }
    }

    fn first_line_end(&mut self, input: &[u8]) -> Step {
        let bare = input.starts_with(b"\n");
        if !bare && !input.starts_with(b"\r\n") {
            return if input == b"\r" { Step::Wait } else { Step::TookLast(0) };
        }
        match u32::try_from(self.characters) {
            Ok(octets) if octets > 0 => {
                self.lines = Some(Lines { octets, bare });
                Step::Took(0)
            }
            _ => Step::TookLast(0),
        }
    }
}

/// Decodes quanta up to the first that is none or is padded; answers how many octets were taken, and whether more may
/// follow.
fn decode(quanta: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
    let start = out.len();
    if STANDARD.decode_vec(quanta, out).is_ok() {
        return (quanta.len(), !quanta.ends_with(b"="));
    }
    out.truncate(start);
    let mut taken = 0;
    for quantum in quanta.chunks(4) {
        let before = out.len();
        if STANDARD.decode_vec(quantum, out).is_err() {
            out.truncate(before);
            return (taken, false);
        }
        taken += quantum.len();
        if quantum.ends_with(b"=") {
            return (taken, false);
        }
    }
    (taken, true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a body is stored as: the octets, how they stand in it, and what is behind them.
    fn decoded(body: &[u8], cut: usize) -> (Vec<u8>, Encoding, Vec<u8>) {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for (number, some) in body.chunks(cut.max(1)).enumerate() {
            if let Pushed::Over(mut behind) = decoder.push(some, &mut out) {
                behind.extend_from_slice(body.get((number + 1) * cut.max(1)..).unwrap_or_default());
                return (out, decoder.encoding(), behind);
            }
            assert!(decoder.held.len() < 6, "{:?}", decoder.held);
        }
        let behind = decoder.finish();
        (out, decoder.encoding(), behind)
    }

    fn read(part: &[u8], encoding: Encoding, wanted: Range<u64>) -> Bytes {
        let from_part = |range: Range<u64>| {
            let place = |at| usize::try_from(at).expect("small");
            let (start, end) = (place(range.start), place(range.end));
            assert!(end <= part.len(), "{range:?} of {} octets", part.len());
            assert!(end - start.min(end) <= place(wanted.end - wanted.start) + 12, "{range:?} for {wanted:?}");
            Ok(Bytes::copy_from_slice(&part[start.min(end)..end]))
        };
        encoding.read(part.len() as u64, wanted.clone(), from_part).expect("readable")
    }

    /// Checks that a body comes back, whole and in every range, however it is cut; answers the octets decoded.
    fn comes_back(body: &[u8]) -> Vec<u8> {
        let whole = decoded(body, body.len());
        for cut in [1, 2, 3, 5, 77, 1000] {
            assert_eq!(decoded(body, cut), whole, "in cuts of {cut}");
        }
        let (part, encoding, behind) = whole;
        let length = encoding.length(part.len() as u64).expect("countable");
        assert_eq!(length, (body.len() - behind.len()) as u64);
        assert_eq!(&body[body.len() - behind.len()..], behind);
        for start in 0..=length {
            for end in (start..=length.min(start + 9)).chain([length]) {
                let range = usize::try_from(start).expect("small")..usize::try_from(end).expect("small");
                assert_eq!(read(&part, encoding, start..end), body[range], "{start}..{end}");
            }
        }
        let mut row = Vec::new();
        encoding.put(&mut row);
        assert_eq!(Encoding::take(&mut Take::new(&row)), Some(encoding));
        part
    }

    fn encoded(octets: &[u8], line: usize, end: &str) -> Vec<u8> {
        let text = STANDARD.encode(octets).into_bytes();
        let lines: Vec<&[u8]> = text.chunks(line).collect();
        lines.join(end.as_bytes())
    }

    #[test]
    fn what_a_simple_encoder_writes_is_decoded() {
        let octets: Vec<u8> = (0..=255).cycle().take(200).collect();
        for end in ["\r\n", "\n"] {
            for (line, count) in [(76, 200), (76, 171), (76, 114), (76, 57), (4, 20), (60, 3), (64, 1), (1_000, 200)] {
                let body = encoded(&octets[..count], line, end);
                assert_eq!(comes_back(&body), octets[..count], "{count} octets in lines of {line}");
                for more in ["\r\n", "\n", "\r\n\r\n", "=", "====", "\r\n-- \r\na list\r\n", "A", "\r", " "] {
                    let mut body = body.clone();
                    body.extend_from_slice(more.as_bytes());
                    assert_eq!(comes_back(&body), octets[..count], "{count} octets in lines of {line}, {more:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_regular_is_left_as_it_is() {
        for (body, taken) in [
            ("", 0),
            ("\r\nQUJD", 0),
            ("QUJ\r\nDQUJD", 0),
            ("QUJDQUJD\r\nQUJD\r\nQUJD", 9),
            ("QUJDQUJD\r\nQUJDQUJD\nQUJDQUJD", 12),
            ("QUJDQUJD\r\nQUJDQUJDQUJD", 12),
            ("QUJDQUJD\r\n QUJDQUJ", 6),
            ("QUJDQR==QUJD", 3),
            ("QQ==QUJD", 1),
            ("QUJD-_-_", 3),
            ("QUJDQUJD\r\n\r\nQUJDQUJD", 6),
        ] {
            assert_eq!(comes_back(body.as_bytes()).len(), taken, "{body:?}");
        }
        for row in [&[1, 3, 0][..], &[1, 4, 2], &[2], &[], &[1], &[1, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]] {
            assert_eq!(Encoding::take(&mut Take::new(row)), None, "{row:?}");
        }
        assert_eq!(Encoding::Base64(Lines::default()).length(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn any_body_comes_back(
            octets in proptest::collection::vec(any::<u8>(), 0..200),
            line in 1_usize..90,
            bare: bool,
            broken in proptest::option::of((0_usize..300, prop_oneof![Just(b"\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..3)])),
        ) {
            let mut body = encoded(&octets, line, if bare { "\n" } else { "\r\n" });
            if let Some((at, with)) = broken {
                let at = at.min(body.len());
                body.splice(at..(at + with.len()).min(body.len()), with);
            }
            comes_back(&body);
        }

        #[test]
        fn any_octets_come_back(body in proptest::collection::vec(prop_oneof![Just(b'A'), Just(b'\r'), Just(b'\n'), Just(b'='), any::<u8>()], 0..60)) {
            comes_back(&body);
        }
    }
}
