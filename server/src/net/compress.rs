//! DEFLATE on a connection (RFC 4978), between the session and TLS.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Connections that may be compressed at the same time: each takes up to [`COMPRESS_OCTETS_EACH`] for its two windows and
/// hash chains, which together is 768 MiB at the most.
pub const COMPRESSED_MAX: usize = 2_048;
/// What the state of one connection takes.
pub const COMPRESS_OCTETS_EACH: usize = 384 * 1024;
/// Octets that are decompressed at a time: a little input can stand for a thousand times as much, and must not become
/// memory before the session wants it.
const INFLATED_OCTETS_MAX: usize = 16 * 1024;
/// How hard to try: the responses of IMAP shrink well at the lowest level, and workers have other things to do.
const LEVEL: u32 = 1;

static COMPRESSED: AtomicUsize = AtomicUsize::new(0);

/// Leave to compress one connection; given back when it is dropped.
#[derive(Debug)]
pub struct CompressPermit(());

impl CompressPermit {
    /// `None`: [`COMPRESSED_MAX`] connections are compressed already.
    pub fn take() -> Option<Self> {
        let taken = COMPRESSED
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < COMPRESSED_MAX).then_some(count + 1));
        taken.is_ok().then_some(Self(()))
    }
}

impl Drop for CompressPermit {
    fn drop(&mut self) {
        COMPRESSED.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The state of one connection. Bytes go in and come out; it knows no socket.
pub(super) struct Deflate {
    compress: Compress,
    decompress: Decompress,
    /// Received and not decompressed yet.
    received: Bytes,
    /// There may be output that had no room.
    full: bool,
    ended: bool,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self {
            compress: Compress::new(Compression::new(LEVEL), false),
            decompress: Decompress::new(false),
            received: Bytes::new(),
            full: false,
            ended: false,
        }
    }

    /// Compresses octets so that the peer can read all of them at once.
    pub(super) fn deflate(&mut self, pieces: &[Bytes]) -> io::Result<Vec<Bytes>> {
        let mut out = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let flush = if number + 1 == pieces.len() { FlushCompress::Sync } else { FlushCompress::None };
            let mut left = &piece[..];
            loop {
                out.reserve(left.len() / 2 + 64);
                let (before, room) = (self.compress.total_in(), out.capacity() - out.len());
                self.compress.compress_vec(left, &mut out, flush).map_err(io::Error::other)?;
                let taken = usize::try_from(self.compress.total_in() - before).unwrap_or(left.len());
                left = left.get(taken..).unwrap_or_default();
                let was_full = out.len() == out.capacity() && room > 0;
                if left.is_empty() && !was_full {
                    break;
                }
            }
        }
        Ok(vec![out.into()])
    }

    /// Takes what was received; the former has been decompressed.
    pub(super) fn feed(&mut self, received: Bytes) {
        self.received = received;
    }

    /// The next octets for the session; `None`: more must be received first.
    ///
    /// # Errors
    /// When what was received is not DEFLATE.
    pub(super) fn inflate(&mut self) -> io::Result<Option<Bytes>> {
        while !self.ended && (self.full || !self.received.is_empty()) {
            let mut out = BytesMut::zeroed(INFLATED_OCTETS_MAX);
            let (input, output) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self.decompress.decompress(&self.received, &mut out, FlushDecompress::None);
            let status = status.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(0);
            let taken = count(self.decompress.total_in(), input);
            let made = count(self.decompress.total_out(), output);
            self.received.advance(taken.min(self.received.len()));
            self.full = made == INFLATED_OCTETS_MAX;
            self.ended = status == Status::StreamEnd;
            if made > 0 {
                out.truncate(made);
                return Ok(Some(out.freeze()));
            }
            if taken == 0 && !self.ended {
                self.full = false;
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The peer has ended its side.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the other side reads of it.
    fn read(reader: &mut Deflate, sent: &[Bytes], piece: usize) -> (Vec<u8>, usize) {
        let (mut octets, mut largest) = (Vec::new(), 0);
        for part in sent.concat().chunks(piece) {
            reader.feed(Bytes::copy_from_slice(part));
            while let Some(more) = reader.inflate().expect("DEFLATE") {
                largest = largest.max(more.len());
                octets.extend_from_slice(&more);
            }
        }
        (octets, largest)
    }

    #[test]
    fn what_is_sent_can_be_read_at_once_however_it_is_cut() {
        for piece in [1, 7, 100_000] {
            let (mut writer, mut reader) = (Deflate::new(), Deflate::new());
            let noise: Vec<u8> = (0..70_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
            for said in [b"* OK done\r\n".to_vec(), noise, vec![b'x'; 300_000], b"a OK\r\n".to_vec()] {
                let pieces: Vec<Bytes> = said.chunks(50_000).map(Bytes::copy_from_slice).collect();
                let sent = writer.deflate(&pieces).expect("compressed");
                let (heard, largest) = read(&mut reader, &sent, piece);
                assert!(heard == said && largest <= INFLATED_OCTETS_MAX, "{piece}: {} of {}", heard.len(), said.len());
            }
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut reader = Deflate::new();
        reader.feed(Bytes::from_static(b"\xff\xff\xff\xff"));
        assert_eq!(reader.inflate().expect_err("no DEFLATE").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn permits_come_back() {
        let some: Vec<CompressPermit> = (0..10).filter_map(|_| CompressPermit::take()).collect();
        assert_eq!((some.len(), COMPRESSED.load(Ordering::Acquire)), (10, 10));
        drop(some);
        assert_eq!(COMPRESSED.load(Ordering::Acquire), 0);
    }
}
