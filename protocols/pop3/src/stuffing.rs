//! From the octets of a message to the octets of a multi-line response (RFC 1939 section 3), page by page.

use bytes::Bytes;
use memchr::{memchr, memmem};

use crate::{limits::STUFFED_SLICES_MAX, outbox::Outbox};

/// Where a message stands in its line, across pages.
///
/// A line begins after every LF, also one without CR: many clients read up to LF, and for them a dot alone after a bare
/// LF would end the message early and turn the rest of it into answers. A client that counts only CRLF sees one dot more
/// in such a message, which is the smaller harm, and none in a message with proper line endings.
#[derive(Debug)]
pub(crate) struct Stuffing {
    /// The last two octets that were sent; a CRLF before the first.
    last: [u8; 2],
    /// For TOP: what is left to be sent.
    top: Option<Top>,
}

/// How much of a message TOP still wants.
#[derive(Debug)]
struct Top {
    in_header: bool,
    /// Nothing but CR has come since the last LF.
    blank: bool,
    lines_left: u64,
}

impl Stuffing {
    /// For a whole message.
    pub(crate) const fn whole() -> Self {
        Self { last: *b"\r\n", top: None }
    }

    /// For the header of a message, the empty line after it, and `lines` lines of its body.
    pub(crate) const fn top(lines: u64) -> Self {
        Self { last: *b"\r\n", top: Some(Top { in_header: true, blank: true, lines_left: lines }) }
    }

    /// Writes the next page, stuffed. `true` when TOP has enough.
    pub(crate) fn page(&mut self, page: &Bytes, out: &mut Outbox) -> bool {
        let (wanted, enough) = match &mut self.top {
            None => (page.clone(), false),
            Some(top) => {
                let (octets, enough) = top.cut(page);
                (page.slice(..octets), enough)
            }
        };
        if !wanted.is_empty() {
            self.write(&wanted, out);
        }
        enough
    }

    fn write(&mut self, page: &Bytes, out: &mut Outbox) {
        //= rfc1939#section-3
        //# If any line of the multi-line response
        //# begins with the termination octet, the line is "byte-stuffed" by
        //# pre-pending the termination octet to that line of the response.
        let first = (self.last[1] == b'\n' && page.first() == Some(&b'.')).then_some(0);
        let later = memmem::find_iter(page, b"\n.").map(|at| at.saturating_add(1));
        let mut sent = 0;
        for (index, dot) in first.into_iter().chain(later).enumerate() {
            let before = page.slice(sent..dot);
            if index < STUFFED_SLICES_MAX {
                out.piece(before);
            } else {
                out.text(&before);
            }
            out.text(b".");
            sent = dot;
        }
        out.piece(page.slice(sent..));
        self.last = match page.as_ref() {
            [.., a, b] => [*a, *b],
            [b] => [self.last[1], *b],
            [] => self.last,
        };
    }

    /// Ends the response. A message that does not end with CRLF gets one, or its last line would swallow the dot.
    pub(crate) fn finish(&self, out: &mut Outbox) {
        if self.last != *b"\r\n" {
            out.text(b"\r\n");
        }
        out.text(b".\r\n");
    }
}

impl Top {
    /// How many octets of the page are wanted, and whether that is all.
    fn cut(&mut self, page: &[u8]) -> (usize, bool) {
        let mut at = 0_usize;
        while self.in_header || self.lines_left > 0 {
            let rest = page.get(at..).unwrap_or_default();
            let Some(end) = memchr(b'\n', rest) else {
                self.blank &= rest.iter().all(|byte| *byte == b'\r');
                return (page.len(), false);
            };
            let empty = self.blank && rest.iter().take(end).all(|byte| *byte == b'\r');
            at = at.saturating_add(end).saturating_add(1);
            self.blank = true;
            if self.in_header {
                self.in_header = !empty;
            } else {
                self.lines_left = self.lines_left.saturating_sub(1);
            }
        }
        (at, true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn send(mut stuffing: Stuffing, message: &[u8], step: usize) -> Vec<u8> {
        let mut out = Outbox::default();
        for page in message.chunks(step) {
            if stuffing.page(&Bytes::copy_from_slice(page), &mut out) {
                break;
            }
        }
        stuffing.finish(&mut out);
        out.take().concat()
    }

    /// What a client reads: lines up to CRLF, the dot removed.
    fn receive(sent: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        let mut rest = sent;
        loop {
            let end = memmem::find(rest, b"\r\n").expect("the response ends") + 2;
            let line = &rest[..end];
            rest = &rest[end..];
            if line == b".\r\n" {
                assert!(rest.is_empty(), "nothing comes after the end");
                return message;
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
    }

    #[test]
    fn known_answers() {
        for (message, want) in [
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\n", "a\n\r\n.\r\n"),
            ("a\r", "a\r\r\n.\r\n"),
            ("a\n.\nb\r\n", "a\n..\nb\r\n.\r\n"),
        ] {
            for step in 1..=message.len().max(1) {
                let got = send(Stuffing::whole(), message.as_bytes(), step);
                assert_eq!(String::from_utf8_lossy(&got), want, "{message:?} in pages of {step}");
            }
        }
    }

    #[test]
    fn top_counts_lines_of_the_body() {
        let message = "A: b\r\n\r\n.1\r\n2\r\n3";
        for (lines, want) in [
            (0, "A: b\r\n\r\n.\r\n"),
            (1, "A: b\r\n\r\n..1\r\n.\r\n"),
            (2, "A: b\r\n\r\n..1\r\n2\r\n.\r\n"),
            (9, "A: b\r\n\r\n..1\r\n2\r\n3\r\n.\r\n"),
        ] {
            for step in 1..=message.len() {
                let got = send(Stuffing::top(lines), message.as_bytes(), step);
                assert_eq!(String::from_utf8_lossy(&got), want, "{lines} lines in pages of {step}");
            }
        }
        assert_eq!(send(Stuffing::top(0), b"A: b\n\nx\n", 3), b"A: b\n\n\r\n.\r\n");
        assert_eq!(send(Stuffing::top(5), b"A: b", 3), b"A: b\r\n.\r\n");
    }

    #[test]
    fn many_dots_are_copied_not_sliced() {
        let message = Bytes::from(".\r\n".repeat(1000));
        let mut out = Outbox::default();
        Stuffing::whole().page(&message, &mut out);
        assert!(out.take().len() < 3 * STUFFED_SLICES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_received_is_what_was_stored(lines in prop::collection::vec("[.a\\r]{0,4}", 0..200), step in 1_usize..40) {
            let message = lines.join("\r\n") + "\r\n";
            let sent = send(Stuffing::whole(), message.as_bytes(), step);
            prop_assert_eq!(String::from_utf8(receive(&sent)).expect("text"), message);
        }

        #[test]
        fn nothing_ends_early_for_a_client_that_reads_up_to_lf(message in prop::collection::vec(prop::sample::select(&b".\r\na"[..]), 0..60), step in 1_usize..9) {
            let sent = send(Stuffing::whole(), &message, step);
            let ends = sent.split_inclusive(|byte| *byte == b'\n').filter(|line| matches!(*line, b".\r\n" | b".\n")).count();
            prop_assert_eq!(ends, 1);
            prop_assert!(sent.ends_with(b".\r\n"));
        }
    }
}
