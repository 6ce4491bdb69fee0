//! Packets: four octets of length, one that says what it is, and data.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Octets of a packet from a filter; `libmilter` sends 64 KiB of a body, and a field value at most.
pub const PACKET_OCTETS_MAX: usize = 128 * 1024;

/// A packet that no filter sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLength;

/// What comes in from a filter.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    received: BytesMut,
}

impl Packets {
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.received.extend_from_slice(octets);
    }

    /// The next whole packet: what it is, and its data.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, Bytes)>, BadLength> {
        let Some((length, rest)) = self.received.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length == 0 || length > PACKET_OCTETS_MAX {
            return Err(BadLength);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.received.advance(4);
        let mut packet = self.received.split_to(length).freeze();
        Ok(Some((packet.get_u8(), packet)))
    }
}

/// Writes a packet of these pieces. What does not fit into a length is cut; nothing that long is ever given.
pub(crate) fn put(out: &mut BytesMut, kind: u8, pieces: &[&[u8]]) {
    let length = pieces.iter().fold(1_usize, |length, piece| length.saturating_add(piece.len()));
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_u8(kind);
    for piece in pieces {
        out.put_slice(piece);
    }
}

/// The text before the next NUL, and what is behind that.
pub(crate) fn text(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, rest) = data.split_at_checked(memchr::memchr(0, data)?)?;
    Some((text, rest.get(1..)?))
}

/// What a peer or a message said, as a text that ends with NUL can have it.
pub(crate) fn clean(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|octet| *octet != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let mut out = BytesMut::new();
        put(&mut out, b'c', &[]);
        put(&mut out, b'h', &[b"A\0", b"b\0"]);
        for cut in 0..out.len() {
            let mut packets = Packets::default();
            let mut all = Vec::new();
            for piece in [&out[..cut], &out[cut..]] {
                packets.push(piece);
                while let Some(packet) = packets.next().expect("good") {
                    all.push(packet);
                }
            }
            assert_eq!(all, [(b'c', Bytes::new()), (b'h', Bytes::from_static(b"A\0b\0"))]);
        }
    }

    #[test]
    fn lengths_are_bounded() {
        for bad in [[0, 0, 0, 0], [0xff, 0xff, 0xff, 0xff], [0, 2, 0, 1]] {
            let mut packets = Packets::default();
            packets.push(&bad);
            assert_eq!(packets.next(), Err(BadLength));
        }
    }
}
