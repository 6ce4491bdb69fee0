//! Every key of the store, byte by byte.
//!
//! All integers are big-endian and of fixed width, so byte order is number order. Keys of the per-account families
//! begin with the account id, so an account is one contiguous range in each of them.
//!
//! ## Sys
//! ```text
//! 00                      -> format version
//! 01 name…                -> allocator: next free value, u64
//! 02 name…                -> secret or setting made once at first start
//! 03 domain…              -> domain record
//! 04 account4             -> account record (the login is its address, indexed in memory)
//! 05 address…             -> alias record
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// Sys: the format version.
pub const SYS_VERSION: &[u8] = &[0x00];
/// Sys: first byte of allocator rows.
pub const SYS_ALLOCATOR: u8 = 0x01;
/// Sys: first byte of settings made once.
pub const SYS_SETTING: u8 = 0x02;
/// Sys: first byte of domain rows.
pub const SYS_DOMAIN: u8 = 0x03;
/// Sys: first byte of account rows.
pub const SYS_ACCOUNT: u8 = 0x04;
/// Sys: first byte of alias rows.
pub const SYS_ALIAS: u8 = 0x05;

/// Sys: the allocator called `name`.
pub fn allocator(name: &str) -> Bytes {
    KeyWriter::kind(SYS_ALLOCATOR).raw(name.as_bytes()).done()
}

/// Sys: the setting called `name`.
pub fn setting(name: &str) -> Bytes {
    KeyWriter::kind(SYS_SETTING).raw(name.as_bytes()).done()
}

/// Sys: a domain, by its normalised name.
pub fn domain(name: &str) -> Bytes {
    KeyWriter::kind(SYS_DOMAIN).raw(name.as_bytes()).done()
}

/// Sys: an account, by its id.
pub fn account(account: u32) -> Bytes {
    KeyWriter::kind(SYS_ACCOUNT).u32(account).done()
}

/// Sys: an alias, by its normalised address.
pub fn alias(address: &str) -> Bytes {
    KeyWriter::kind(SYS_ALIAS).raw(address.as_bytes()).done()
}

/// Writes a key field by field.
#[derive(Debug, Default)]
pub struct KeyWriter {
    bytes: BytesMut,
}

impl KeyWriter {
    /// A key that begins with a kind byte.
    pub fn kind(kind: u8) -> Self {
        Self::default().u8(kind)
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.bytes.put_u8(value);
        self
    }

    /// Appends two bytes, big-endian.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.bytes.put_u16(value);
        self
    }

    /// Appends four bytes, big-endian.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.bytes.put_u32(value);
        self
    }

    /// Appends eight bytes, big-endian.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.bytes.put_u64(value);
        self
    }

    /// Appends bytes as they are; only a key's last field may have a varying length.
    #[must_use]
    pub fn raw(mut self, value: &[u8]) -> Self {
        self.bytes.put_slice(value);
        self
    }

    /// The key.
    pub fn done(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Reads a key field by field; `None` when it is too short.
#[derive(Clone, Copy, Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Begins at the first byte.
    pub const fn new(key: &'a [u8]) -> Self {
        Self { rest: key }
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// What is left.
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// `Some` when nothing is left.
    pub const fn end(self) -> Option<()> {
        if self.rest.is_empty() { Some(()) } else { None }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }
}

/// The first key that does not begin with `prefix`: the end of a scan over all that do. Empty for a prefix of only
/// `ff` bytes, which no key here has.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_described() {
        assert_eq!(&allocator("part")[..], b"\x01part");
        assert_eq!(&setting("dedup")[..], b"\x02dedup");
        assert_eq!(&domain("a.example")[..], b"\x03a.example");
        assert_eq!(&account(0x0102_0304)[..], [4, 1, 2, 3, 4]);
        assert_eq!(&alias("a@b")[..], b"\x05a@b");
    }

    #[test]
    fn a_reader_takes_what_a_writer_put() {
        let key = KeyWriter::kind(9).u16(2).u32(3).u64(4).raw(b"xy").done();
        let mut reader = KeyReader::new(&key);
        assert_eq!((reader.u8(), reader.u16(), reader.u32(), reader.u64()), (Some(9), Some(2), Some(3), Some(4)));
        assert_eq!((reader.end(), reader.rest()), (None, &b"xy"[..]));
        assert_eq!(reader.u32(), None);
    }

    #[test]
    fn the_end_of_a_prefix_skips_full_bytes() {
        assert_eq!(&prefix_end(&[1, 2])[..], [1, 3]);
        assert_eq!(&prefix_end(&[1, 0xff, 0xff])[..], [2]);
        assert_eq!(&prefix_end(&[0xff])[..], [0_u8; 0]);
    }
}
