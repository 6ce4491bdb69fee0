//! Lines of a file, the long ones too, in bounded memory.

use std::io::{self, BufRead};

/// A file, line by line.
pub(super) struct Lines<R> {
    reader: R,
    /// Octets read.
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next line with its end, of which `line` gets no more than `octets_max`. Octets of the whole line; 0 at
    /// the end of the file.
    pub(super) fn next(&mut self, line: &mut Vec<u8>, octets_max: usize) -> io::Result<u64> {
        line.clear();
        let mut length = 0_u64;
        loop {
            let piece = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                piece => piece?,
            };
            let end = memchr::memchr(b'\n', piece);
            let piece = piece.get(..end.map_or(piece.len(), |at| at + 1)).unwrap_or(piece);
            line.extend_from_slice(piece.get(..octets_max.saturating_sub(line.len())).unwrap_or(piece));
            let taken = piece.len();
            self.reader.consume(taken);
            length += taken as u64;
            if end.is_some() || taken == 0 {
                self.offset += length;
                return Ok(length);
            }
        }
    }
}
