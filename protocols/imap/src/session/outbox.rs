//! What is to be sent next: small texts joined, pages of messages passed on as they are.

use bytes::Bytes;

/// Octets that wait to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: Vec<Bytes>,
    /// The text behind the pieces, which grows.
    pub(super) text: Vec<u8>,
    piece_octets: usize,
}

impl Outbox {
    /// Adds a line and its CRLF.
    pub(super) fn line(&mut self, line: &str) {
        self.text.extend_from_slice(line.as_bytes());
        self.end_line();
    }

    /// Ends a line that was written into `text`.
    pub(super) fn end_line(&mut self) {
        self.text.extend_from_slice(b"\r\n");
    }

    /// Adds octets without copying them.
    pub(super) fn piece(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.close_text();
        self.piece_octets = self.piece_octets.saturating_add(piece.len());
        self.pieces.push(piece);
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.piece_octets = self.piece_octets.saturating_add(self.text.len());
            self.pieces.push(std::mem::take(&mut self.text).into());
        }
    }

    /// Octets that wait.
    pub(super) fn octets(&self) -> usize {
        self.piece_octets.saturating_add(self.text.len())
    }

    /// Everything that waits; nothing is left allocated.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.close_text();
        self.piece_octets = 0;
        std::mem::take(&mut self.pieces)
    }
}
