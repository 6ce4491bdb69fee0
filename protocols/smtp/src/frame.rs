//! Command lines: found by CRLF alone, before anybody looks at what they say.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::limits::{AUTH_LINE_OCTETS_MAX, LINE_DISCARD_OCTETS_MAX};

/// What the framer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A line without its CRLF.
    Line(Bytes),
    /// A LF without a CR before it. Said once per line; everything up to the next CRLF is then thrown away.
    BareLf,
    /// A line with its CRLF was longer than [`AUTH_LINE_OCTETS_MAX`]; it was thrown away.
    TooLong,
    /// More than [`LINE_DISCARD_OCTETS_MAX`] octets without a CRLF.
    Endless,
    /// All input is used up.
    More,
}

/// Cuts a stream into lines.
///
//= rfc5321#section-2.3.8
//# Conforming implementations MUST
//# NOT recognize or generate any other character or character sequence
//# as a line terminator.
#[derive(Debug, Default)]
pub(crate) struct LineFramer {
    /// A line whose end has not come yet; empty while a line is being thrown away.
    partial: BytesMut,
    /// Octets of this line so far.
    seen: usize,
    /// Whether the last octet was CR.
    after_cr: bool,
    /// This line held a bare LF, which was answered: the rest of it is thrown away.
    tainted: bool,
}

impl LineFramer {
    /// Takes octets from `input` up to and with the next line end.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Frame {
        loop {
            let Some(at) = memchr(b'\n', input) else {
                let rest = input.split_to(input.len());
                return self.keep(&rest);
            };
            let piece = input.split_to(at);
            input.advance(1);
            let after_cr = piece.last().map_or(self.after_cr, |&last| last == b'\r');
            if !after_cr {
                if !self.tainted {
                    self.restart();
                    self.tainted = true;
                    return Frame::BareLf;
                }
                // Part of a line that was answered already.
                self.after_cr = false;
                continue;
            }
            if self.tainted {
                self.restart();
                continue;
            }
            return self.line(piece);
        }
    }

    fn line(&mut self, piece: Bytes) -> Frame {
        let whole = self.seen.saturating_add(piece.len()).saturating_add(1);
        let mut line = if self.partial.is_empty() {
            piece
        } else {
            self.partial.extend_from_slice(&piece);
            self.partial.split().freeze()
        };
        self.restart();
        if whole > AUTH_LINE_OCTETS_MAX {
            return Frame::TooLong;
        }
        line.truncate(line.len().saturating_sub(1));
        Frame::Line(line)
    }

    fn keep(&mut self, rest: &Bytes) -> Frame {
        if let Some(&last) = rest.last() {
            self.after_cr = last == b'\r';
        }
        self.seen = self.seen.saturating_add(rest.len());
        if self.seen > LINE_DISCARD_OCTETS_MAX {
            return Frame::Endless;
        }
        if self.tainted || self.seen > AUTH_LINE_OCTETS_MAX {
            self.partial = BytesMut::new();
        } else {
            self.partial.extend_from_slice(rest);
        }
        Frame::More
    }

    fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(input: &[u8], step: usize) -> Vec<Frame> {
        let mut framer = LineFramer::default();
        let mut found = Vec::new();
        for piece in input.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                match framer.next(&mut piece) {
                    Frame::More => break,
                    frame => found.push(frame),
                }
            }
        }
        found
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let input = b"NOOP\r\nA\nB\nC\r\nD\rE\r\n\r\n\nX\r\r\nQUIT\r\n";
        let expected = vec![
            Frame::Line(Bytes::from_static(b"NOOP")),
            Frame::BareLf,
            Frame::Line(Bytes::from_static(b"D\rE")),
            Frame::Line(Bytes::new()),
            Frame::BareLf,
            Frame::Line(Bytes::from_static(b"QUIT")),
        ];
        for step in 1..=input.len() {
            assert_eq!(frames(input, step), expected, "in steps of {step}");
        }
    }

    #[test]
    fn long_lines_are_thrown_away() {
        let mut input = vec![b'x'; AUTH_LINE_OCTETS_MAX - 2];
        input.extend_from_slice(b"\r\n");
        input.extend_from_slice(&vec![b'y'; AUTH_LINE_OCTETS_MAX - 1]);
        input.extend_from_slice(b"\r\nNOOP\r\n");
        for step in [1, 7, 1000, input.len()] {
            let found = frames(&input, step);
            assert_eq!(found.len(), 3);
            assert!(matches!(&found[0], Frame::Line(line) if line.len() == AUTH_LINE_OCTETS_MAX - 2));
            assert_eq!(found[1..], [Frame::TooLong, Frame::Line(Bytes::from_static(b"NOOP"))]);
        }
        let mut framer = LineFramer::default();
        let mut endless = Bytes::from(vec![b'z'; LINE_DISCARD_OCTETS_MAX + 1]);
        assert_eq!(framer.next(&mut endless), Frame::Endless);
    }
}
