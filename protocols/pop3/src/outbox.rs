//! What is to be sent next: small texts joined, pages of messages passed on as they are.

use bytes::Bytes;

/// Octets that wait to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: Vec<Bytes>,
    text: Vec<u8>,
    octets: usize,
}

impl Outbox {
    /// Adds a short text.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        self.octets = self.octets.saturating_add(text.len());
    }

    /// Adds a line and its CRLF.
    pub(crate) fn line(&mut self, line: &str) {
        self.text(line.as_bytes());
        self.text(b"\r\n");
    }

    /// Adds a slice of a page without copying it.
    pub(crate) fn piece(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.close_text();
        self.octets = self.octets.saturating_add(piece.len());
        self.pieces.push(piece);
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.pieces.push(std::mem::take(&mut self.text).into());
        }
    }

    /// Octets that wait.
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// Everything that waits.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.close_text();
        self.octets = 0;
        std::mem::take(&mut self.pieces)
    }
}
