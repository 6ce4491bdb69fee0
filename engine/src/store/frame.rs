//! Frames: how a run of bytes is stored.
//!
//! ```text
//! codec1 raw_len4 checksum8 bytes…         codec: 0 as it is, 1 zstd; checksum: XXH3 (64 bits) of the raw bytes
//! ```
//! The checksum is there to notice damage, at the speed of memory. What decides whether contents are equal is the keyed
//! BLAKE3 of a part.

use std::cell::RefCell;

use bytes::Bytes;
use twox_hash::XxHash3_64;
use zstd::bulk::{Compressor, Decompressor};

/// Level 1: mail compresses nearly as well as at 3, at twice the speed.
const ZSTD_LEVEL: i32 = 1;
/// Below this many octets compressing is not tried: a frame header would eat what it saves.
const COMPRESS_BYTES_MIN: usize = 512;
const HEADER_BYTES: usize = 13;
const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Longest content of one frame: a chunk.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    // A context is a megabyte of tables; making one for each message would cost more than compressing it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(ZSTD_LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

fn checksum(raw: &[u8]) -> [u8; 8] {
    XxHash3_64::oneshot(raw).to_le_bytes()
}

/// The frame of `raw`, which has at most [`FRAME_BYTES_MAX`] octets, compressed when that pays.
pub(crate) fn encode(raw: &[u8]) -> Vec<u8> {
    let packed = if raw.len() < COMPRESS_BYTES_MIN { None } else { compress(raw) };
    let (codec, bytes) = packed.as_deref().map_or((RAW, raw), |packed| (ZSTD, packed));
    framed(codec, raw, bytes)
}

/// The frame of `raw` as it is, for what lies among its like in a row: the store compresses these together, which saves
/// more, and reading one needs no unpacking.
pub(crate) fn encode_plain(raw: &[u8]) -> Vec<u8> {
    framed(RAW, raw, raw)
}

/// Octets of the content that a frame says to have.
pub(crate) fn raw_length(frame: &[u8]) -> u64 {
    let length = frame.get(1..).and_then(<[u8]>::first_chunk::<4>);
    length.map_or(0, |length| u64::from(u32::from_le_bytes(*length)))
}

fn framed(codec: u8, raw: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + bytes.len());
    frame.push(codec);
    frame.extend_from_slice(&u32::try_from(raw.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&checksum(raw));
    frame.extend_from_slice(bytes);
    frame
}

/// `None` when it does not save at least an eighth.
fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    let packed = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(raw).ok())?;
    (packed.len() < raw.len() - raw.len() / 8).then_some(packed)
}

/// The bytes of a frame; `None` when they are not what was stored.
pub(crate) fn decode(frame: &Bytes) -> Option<Bytes> {
    let (&codec, rest) = frame.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (sum, stored) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= FRAME_BYTES_MAX)?;
    let raw = match codec {
        RAW => frame.slice_ref(stored),
        ZSTD => {
            DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(stored, len).ok())?.into()
        }
        _ => return None,
    };
    (raw.len() == len && checksum(&raw) == *sum).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_notice_damage() {
        let noise = blake3::hash(b"x").as_bytes().to_vec();
        for raw in
            [Vec::new(), b"short".to_vec(), b"compressible ".repeat(500), noise.clone(), vec![7; FRAME_BYTES_MAX]]
        {
            let frame = Bytes::from(encode(&raw));
            assert_eq!(decode(&frame), Some(raw.clone().into()));
            for at in (0..frame.len()).step_by(1 + frame.len() / 64) {
                let mut damaged = frame.to_vec();
                damaged[at] ^= 0x40;
                assert!(decode(&damaged.into()).is_none_or(|found| found == raw), "octet {at}");
            }
            assert_eq!(decode(&frame.slice(..frame.len().min(12))), None);
        }
    }
}
