//! Framing: from received chunks to lines under a limit.

use bytes::{Buf, Bytes};

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its ending.
    Whole(Bytes),
    /// A line that was longer than allowed; it has been skipped to its end.
    TooLong,
}

/// Cuts what is received into lines. A line ends with LF; a CR before it belongs to the ending.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Received and not looked at yet.
    chunk: Bytes,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// The line that is coming in is too long already.
    skipping: bool,
}

impl Lines {
    /// Takes received octets.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            self.chunk = [&self.chunk[..], &bytes[..]].concat().into();
        }
    }

    /// Whether everything received has been looked at.
    pub(crate) fn is_drained(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next line of at most `octets_max` with its ending, when it has come whole.
    pub(crate) fn next(&mut self, octets_max: usize) -> Option<Line> {
        let Some(end) = memchr::memchr(b'\n', &self.chunk) else {
            let rest = std::mem::take(&mut self.chunk);
            if self.partial.len().saturating_add(rest.len()) >= octets_max {
                self.skipping = true;
                self.partial = Vec::new();
            }
            if !self.skipping {
                self.partial.extend_from_slice(&rest);
            }
            return None;
        };
        let mut line = self.chunk.split_to(end);
        self.chunk.advance(1);
        let partial = std::mem::take(&mut self.partial);
        let octets = partial.len().saturating_add(line.len()).saturating_add(1);
        if std::mem::take(&mut self.skipping) || octets > octets_max {
            return Some(Line::TooLong);
        }
        if !partial.is_empty() {
            line = [&partial[..], &line[..]].concat().into();
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len().saturating_sub(1));
        }
        Some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<Line> {
        std::iter::from_fn(|| lines.next(10)).collect()
    }

    #[test]
    fn the_cut_does_not_matter() {
        let input = b"NOOP\r\n12345678\r\n123456789\r\nSTAT\n\r\nlast";
        let want = vec![
            Line::Whole("NOOP".into()),
            Line::Whole("12345678".into()),
            Line::TooLong,
            Line::Whole("STAT".into()),
            Line::Whole("".into()),
        ];
        for step in 1..input.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for chunk in input.chunks(step) {
                lines.push(Bytes::copy_from_slice(chunk));
                got.extend(all(&mut lines));
            }
            assert_eq!(got, want, "in chunks of {step}");
        }
    }
}
