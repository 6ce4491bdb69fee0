//! BINARY (RFC 3516): content without its transfer encoding, decoded piece by piece.

use std::ops::Range;

use bytes::Bytes;
use rockdove_mail::{Uid, mime::Encoding, text};

use super::{
    FetchCursor, FetchFailure,
    render::{Page, end_of_label, narrowed, section_part},
};
use crate::{grammar::write, limits::DECODED_OCTETS_AIM};

/// Decoded octets and where the encoded ones go on.
struct Piece {
    octets: Bytes,
    next: u64,
}

impl Page<'_> {
    /// BINARY from this place on. Tells where to go on when it is not done.
    pub(super) fn binary(
        &mut self,
        path: &[u32],
        partial: Option<(u64, u64)>,
        at: FetchCursor,
    ) -> Result<Option<FetchCursor>, FetchFailure> {
        let begun = at.is_inside_item();
        if !begun {
            self.written.text(b"BINARY[");
            section_part(&mut self.written.small, path);
            end_of_label(&mut self.written.small, partial);
            self.written.text(b" ");
        }
        let Some((range, encoding)) = self.source.content(at.uid, path)? else {
            self.written.text(b"NIL");
            return Ok(None);
        };
        let wanted = if begun {
            // The whole has been looked through when the literal was announced.
            narrowed(u64::MAX, partial)
        } else {
            let (_, wanted, has_nul) = self.look_through(at.uid, &range, encoding, partial)?;
            if wanted.is_empty() {
                self.written.text(b"\"\"");
                return Ok(None);
            }
            //= rfc3516#section-4.3
            //# If the domain of the decoded data is "8bit" and the data does
            //# not contain the NUL octet, the server SHOULD return the data in
            //# a <string> instead of a <literal8>;
            if has_nul {
                self.written.text(b"~");
            }
            write::literal_head(&mut self.written.small, wanted.end.saturating_sub(wanted.start));
            wanted
        };
        let (mut octet, mut encoded) = (at.octet, if begun { at.encoded } else { range.start });
        while encoded < range.end && octet < wanted.end {
            if octet > at.octet && self.is_full() {
                return Ok(Some(FetchCursor { octet, encoded, ..at }));
            }
            let piece = self.piece(at.uid, encoded..range.end, encoding)?;
            let slice = within(&piece.octets, octet, &wanted);
            self.written.slice(slice);
            octet = octet.saturating_add(piece.octets.len() as u64);
            encoded = piece.next;
        }
        Ok(None)
    }

    /// BINARY.SIZE.
    pub(super) fn binary_size(&mut self, uid: Uid, path: &[u32]) -> Result<(), FetchFailure> {
        let length = match self.source.content(uid, path)? {
            Some((range, encoding)) => self.look_through(uid, &range, encoding, None)?.0,
            None => 0,
        };
        self.written.text(b"BINARY.SIZE[");
        section_part(&mut self.written.small, path);
        self.written.text(b"] ");
        write::number(&mut self.written.small, length);
        Ok(())
    }

    /// Octets that a part has decoded, which of them are wanted, and whether there is a NUL among these.
    fn look_through(
        &mut self,
        uid: Uid,
        range: &Range<u64>,
        encoding: Encoding,
        partial: Option<(u64, u64)>,
    ) -> Result<(u64, Range<u64>, bool), FetchFailure> {
        let (mut length, mut has_nul, mut encoded) = (0u64, false, range.start);
        let wanted = narrowed(u64::MAX, partial);
        while encoded < range.end {
            let piece = self.piece(uid, encoded..range.end, encoding)?;
            has_nul |= memchr::memchr(0, &within(&piece.octets, length, &wanted)).is_some();
            length = length.saturating_add(piece.octets.len() as u64);
            encoded = piece.next;
        }
        Ok((length, narrowed(length, partial), has_nul))
    }

    /// The next octets. The same places are come to whatever page begins where.
    fn piece(&mut self, uid: Uid, left: Range<u64>, encoding: Encoding) -> Result<Piece, FetchFailure> {
        let end = left.end.min(left.start.saturating_add(DECODED_OCTETS_AIM));
        let read = self.source.read(uid, left.start..end)?;
        if read.len() as u64 != end.saturating_sub(left.start) {
            return Err(FetchFailure::Unreadable);
        }
        if encoding == Encoding::Identity {
            return Ok(Piece { octets: read, next: end });
        }
        let last = end == left.end;
        let (octets, taken) = text::decode_piece(&read, encoding, last).ok_or(FetchFailure::Unreadable)?;
        let over = text::is_end(read.get(..taken).unwrap_or_default(), encoding);
        let next = if over { left.end } else { left.start.saturating_add(taken as u64) };
        Ok(Piece { octets: octets.into_owned().into(), next })
    }
}

/// What is wanted of octets that begin at this place.
fn within(octets: &Bytes, first: u64, wanted: &Range<u64>) -> Bytes {
    let at = |place: u64| usize::try_from(place.saturating_sub(first)).unwrap_or(usize::MAX).min(octets.len());
    octets.slice(at(wanted.start)..at(wanted.end).max(at(wanted.start)))
}
