//! Fields of rows: little-endian integers, varints and counted bytes. Reading never trusts a length.

use bytes::Bytes;

/// Appends a varint (LEB128).
pub(crate) fn put_varint(row: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        row.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    row.push(value.to_le_bytes()[0]);
}

/// Appends a signed difference as a zigzag varint, so that small steps either way stay small.
pub(crate) fn put_step(row: &mut Vec<u8>, from: u64, to: u64) {
    let step = to.wrapping_sub(from).cast_signed();
    put_varint(row, ((step << 1) ^ (step >> 63)).cast_unsigned());
}

/// Appends a varint length and the bytes.
pub(crate) fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(row, bytes.len() as u64);
    row.extend_from_slice(bytes);
}

/// Reads a row from its front; `None` as soon as something does not fit.
#[derive(Clone, Debug)]
pub(crate) struct Take<'a> {
    row: &'a [u8],
    at: usize,
}

impl<'a> Take<'a> {
    pub(crate) const fn new(row: &'a [u8]) -> Self {
        Self { row, at: 0 }
    }

    /// A row whose first byte is this version.
    pub(crate) fn versioned(row: &'a [u8], version: u8) -> Option<Self> {
        let mut take = Self::new(row);
        (take.u8()? == version).then_some(take)
    }

    pub(crate) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let slice = self.row.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(slice)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A varint that must fit.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.varint()?).ok()
    }

    pub(crate) fn step(&mut self, from: u64) -> Option<u64> {
        let zigzag = self.varint()?;
        Some(from.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()))
    }

    /// Counted bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.small()?;
        self.slice(len)
    }

    /// Counted bytes as a slice of `whole`, which this reader reads.
    pub(crate) fn bytes_of(&mut self, whole: &Bytes) -> Option<Bytes> {
        self.bytes().map(|slice| whole.slice_ref(slice))
    }

    /// Counted UTF-8.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.row.get(self.at..).unwrap_or_default()
    }

    /// `Some` when nothing is left.
    pub(crate) fn end(&self) -> Option<()> {
        (self.at == self.row.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            let mut row = Vec::new();
            put_varint(&mut row, value);
            put_step(&mut row, 1000, value);
            put_step(&mut row, value, 5);
            let mut take = Take::new(&row);
            assert_eq!((take.varint(), take.step(1000), take.step(value)), (Some(value), Some(value), Some(5)));
            assert_eq!(take.end(), Some(()));
        }
        assert_eq!(Take::new(&[0x80]).varint(), None);
        assert_eq!(Take::new(&[0xff; 11]).varint(), None);
        assert_eq!(Take::new(&[200, 1, 2]).bytes(), None);
    }
}
