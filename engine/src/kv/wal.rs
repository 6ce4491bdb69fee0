//! The logs in a checkpoint: where what was written into them ends.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

/// Octets of a KiB.
const KIB: usize = 1024;
/// Block of a log: no record of it crosses the end of one.
const LOG_BLOCK_BYTES: usize = 32 * KIB;
/// Checksum, length, kind and log number, before each record of a log that is written over.
const LOG_HEADER_BYTES: usize = 4 + 2 + 1 + 4;

/// Cuts off what the logs in a checkpoint have from their earlier lives. RocksDB copies such a log whole, and stops
/// reading at the first record of another log; a backup would copy up to a write buffer of old mail each time.
pub(super) fn cut_logs(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(number) = log_number(&path) else { continue };
        let log = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        if let Some(end) = end_of_log(&log, number)? {
            log.set_len(end)?;
            log.sync_all()?;
        }
    }
    Ok(())
}

/// The number of a log, of which its records have the low 32 bits.
pub(super) fn log_number(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.strip_suffix(".log")?.parse::<u64>().ok()?;
    u32::try_from(number & u64::from(u32::MAX)).ok()
}

/// Where the first record of another log begins. `None` when there is none before the end or anything that is not such a
/// record; RocksDB may judge that.
pub(super) fn end_of_log(mut log: impl io::Read, number: u32) -> io::Result<Option<u64>> {
    let mut block_start = 0_u64;
    loop {
        let mut block = Vec::with_capacity(LOG_BLOCK_BYTES);
        log.by_ref().take(LOG_BLOCK_BYTES as u64).read_to_end(&mut block)?;
        let mut at = 0;
        while let Some(header) = block.get(at..at + LOG_HEADER_BYTES) {
            // Kinds that carry a log number: full, first, middle, last, sizes of timestamps, the log before.
            if !matches!(header[6], 5..=8 | 11 | 131) {
                return Ok(None);
            }
            if header[7..] != number.to_le_bytes() {
                return Ok(Some(block_start + at as u64));
            }
            at += LOG_HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
        }
        if block.len() < LOG_BLOCK_BYTES || at > LOG_BLOCK_BYTES {
            return Ok(None);
        }
        block_start += LOG_BLOCK_BYTES as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_where_the_records_of_another_begin() {
        let record = |number: u32, kind: u8, length: u16| {
            let mut octets = vec![9; 4];
            octets.extend(length.to_le_bytes());
            octets.push(kind);
            octets.extend(number.to_le_bytes());
            octets.resize(11 + usize::from(length), 1);
            octets
        };
        let log = |records: &[Vec<u8>]| end_of_log(&records.concat()[..], 7).expect("read");
        assert_eq!(log(&[]), None);
        assert_eq!(log(&[record(7, 5, 20), record(7, 5, 3)]), None, "all its own");
        assert_eq!(log(&[record(7, 5, 20), record(6, 5, 3)]), Some(31));
        assert_eq!(log(&[record(6, 8, 3)]), Some(0));
        // A block is filled up to its end with fewer octets than a record needs.
        let full = u16::try_from(LOG_BLOCK_BYTES - 11 - 5).expect("small");
        assert_eq!(log(&[record(7, 6, full), vec![0; 5], record(7, 8, 4), record(3, 5, 1)]), Some(32 * 1024 + 15));
        // What is no record of ours is for RocksDB to judge.
        assert_eq!(log(&[record(7, 5, 20), record(6, 1, 3)]), None);
        assert_eq!(log(&[record(7, 5, 20), vec![0; 100]]), None);
        assert_eq!(log(&[record(7, 5, u16::MAX)]), None);
    }
}
