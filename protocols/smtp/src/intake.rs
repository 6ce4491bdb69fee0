//! Message content on its way from the peer to the host.

use bytes::{Bytes, BytesMut};
use rockdove_mail::Tick;

use crate::{
    data::{DotDecoder, LineEnds},
    header::HeaderWatch,
    limits::SLICE_OCTETS_MIN,
    reply::{self, Reply},
};

/// Content that waits to be handed to the host, in slices of what was received.
#[derive(Debug, Default)]
struct Pieces {
    chunks: Vec<Bytes>,
    /// Short pieces, copied together: see [`SLICE_OCTETS_MIN`].
    tail: BytesMut,
    octets: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.octets = self.octets.saturating_add(piece.len());
        if piece.len() < SLICE_OCTETS_MIN {
            self.tail.extend_from_slice(&piece);
        } else {
            self.settle();
            self.chunks.push(piece);
        }
    }

    fn settle(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.split().freeze());
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.settle();
        self.octets = 0;
        self.tail = BytesMut::new();
        std::mem::take(&mut self.chunks)
    }
}

/// The content of one message.
#[derive(Debug)]
pub(crate) struct Content {
    pieces: Pieces,
    header: HeaderWatch,
    /// Octets taken or thrown away.
    size: u64,
    size_max: u64,
    /// Some of it was handed to the host already.
    pub(crate) spooled: bool,
    /// Why the message will be refused; its content is then thrown away.
    pub(crate) refusal: Option<Reply>,
    /// When its first octet could have come.
    pub(crate) started: Tick,
}

impl Content {
    fn new(size_max: u64, started: Tick) -> Self {
        Self {
            pieces: Pieces::default(),
            header: HeaderWatch::default(),
            size: 0,
            size_max,
            spooled: false,
            refusal: None,
            started,
        }
    }

    /// Takes the next piece, or throws it away when the message is refused already.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.announce(piece.len() as u64);
        if self.refusal.is_none() {
            self.header.watch(&piece);
            self.pieces.push(piece);
        }
    }

    /// Counts octets that are here or announced.
    fn announce(&mut self, octets: u64) {
        self.size = self.size.saturating_add(octets);
        if self.size > self.size_max {
            self.refuse(reply::TOO_BIG);
        }
    }

    /// Refuses the message for a first reason; what was kept of it is forgotten.
    pub(crate) fn refuse(&mut self, why: Reply) {
        self.refusal.get_or_insert(why);
        self.pieces = Pieces::default();
    }

    /// Whether a chunk of `octets` would make the message too large.
    pub(crate) fn fits(&self, octets: u64) -> bool {
        self.size.saturating_add(octets) <= self.size_max
    }

    /// Octets of the message so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Octets that wait to be handed over.
    pub(crate) fn waiting(&self) -> usize {
        self.pieces.octets
    }

    /// What waits to be handed over.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.pieces.take()
    }

    /// What the header was seen to hold.
    pub(crate) fn header(&self) -> crate::HeaderFacts {
        self.header.facts()
    }
}

/// A message under way.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Its framing, when it comes by DATA.
    pub(crate) dots: DotDecoder,
    /// Its line ends, when it comes by BDAT and is no BINARYMIME.
    pub(crate) ends: Option<LineEnds>,
    /// Its content.
    pub(crate) content: Content,
}

impl Intake {
    /// A message that may have `size_max` octets and begins now. `watch_lines`: it comes by BDAT and must have lines.
    pub(crate) fn new(size_max: u64, started: Tick, watch_lines: bool) -> Self {
        Self {
            dots: DotDecoder::default(),
            ends: watch_lines.then(LineEnds::default),
            content: Content::new(size_max, started),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pieces_are_joined_and_long_ones_kept() {
        let mut pieces = Pieces::default();
        for octet in b"abc" {
            pieces.push(Bytes::copy_from_slice(&[*octet]));
        }
        let long = Bytes::from(vec![b'x'; SLICE_OCTETS_MIN]);
        pieces.push(long.clone());
        pieces.push(Bytes::from_static(b"d"));
        assert_eq!(pieces.octets, SLICE_OCTETS_MIN + 4);
        let chunks = pieces.take();
        assert_eq!(chunks, [Bytes::from_static(b"abc"), long.clone(), Bytes::from_static(b"d")]);
        assert_eq!(chunks[1].as_ptr(), long.as_ptr(), "not copied");
        assert_eq!(pieces.octets, 0);
    }
}
