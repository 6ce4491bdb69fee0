//! The file that a restart reads: what the gate remembers.
//!
//! ```text
//! "rockdove gate 1\n"
//! 01 key16 full8                    a bucket, and when it is full, in nanoseconds since 1970
//! 02 key16 first8 last8 passes4     a triple or a network of greylisting
//! …
//! hash32                            BLAKE3 of everything before
//! ```
//! Integers are big-endian. The file is no ground data: without it, clients wait once more and buckets are full.

use std::{fs, io, path::Path};

use super::{Key, Memory, grey::Seen};
use crate::data_dir::write_private;

const HEAD: &[u8] = b"rockdove gate 1\n";
const BUCKET: u8 = 1;
const SEEN: u8 = 2;
const HASH_OCTETS: usize = 32;
/// Octets of the file: all entries that there may be are 20 MiB.
const FILE_OCTETS_MAX: u64 = 64 << 20;

/// The file's octets.
pub(super) fn octets(memory: &Memory, now_s: u64) -> Vec<u8> {
    let mut out = HEAD.to_vec();
    for (key, full_ns) in memory.buckets.entries(now_s) {
        out.push(BUCKET);
        out.extend_from_slice(key);
        out.extend_from_slice(&full_ns.to_be_bytes());
    }
    for (key, seen) in memory.greylist.entries() {
        out.push(SEEN);
        out.extend_from_slice(key);
        out.extend_from_slice(&seen.first_s.to_be_bytes());
        out.extend_from_slice(&seen.last_s.to_be_bytes());
        out.extend_from_slice(&seen.passes.to_be_bytes());
    }
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

/// Writes the file. Others may not read it.
pub(super) fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    write_private(path, octets)
}

/// Remembers what is in the file, as far as it is one.
pub(super) fn read(path: &Path, memory: &mut Memory, now_s: u64) {
    let read = fs::metadata(path).and_then(|file| {
        let fits = file.len() <= FILE_OCTETS_MAX;
        if fits { fs::read(path) } else { Err(io::Error::other("it is too large")) }
    });
    match read {
        Ok(octets) if restore(&octets, memory, now_s).is_some() => {}
        Ok(_) => tracing::warn!(path = %path.display(), "damaged, or of another version: the gate begins anew"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "cannot be read: the gate begins anew"),
    }
}

fn restore(octets: &[u8], memory: &mut Memory, now_s: u64) -> Option<()> {
    let (content, hash) = octets.split_at_checked(octets.len().checked_sub(HASH_OCTETS)?)?;
    if blake3::hash(content).as_bytes() != hash {
        return None;
    }
    let mut rest = content.strip_prefix(HEAD)?;
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        let key: Key = take(&mut rest)?;
        match *kind {
            BUCKET => {
                let full_ns = u64::from_be_bytes(take(&mut rest)?);
                memory.buckets.restore(key, full_ns);
            }
            SEEN => {
                let (first_s, last_s) = (u64::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
                let passes = u32::from_be_bytes(take(&mut rest)?);
                // A clock that was wrong must not make something be remembered for ever.
                let seen = Seen { first_s: first_s.min(now_s), last_s: last_s.min(now_s), passes };
                memory.greylist.restore(key, seen);
            }
            _ => return None,
        }
    }
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::GreylistSettings,
        gate::{
            buckets::Buckets,
            grey::{Greeted, Greylist, Triple},
        },
    };

    fn empty() -> Memory {
        Memory { buckets: Buckets::default(), greylist: Greylist::default() }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut memory = empty();
        memory.buckets.restore([7; 16], 5_000_000_000);
        let (settings, triple) =
            (GreylistSettings::default(), Triple { network: "192.0.2.0", sender: "a", recipient: "b" });
        assert_eq!(memory.greylist.look(&settings, triple, 1), Greeted::Wait(300));
        let written = octets(&memory, 4);
        let mut again = empty();
        assert_eq!(restore(&written, &mut again, 4), Some(()));
        assert_eq!(octets(&again, 4), written);
        assert_eq!(again.buckets.entries(4).collect::<Vec<_>>(), [(&[7; 16], 5_000_000_000)]);
        assert_eq!(again.greylist.look(&settings, triple, 302), Greeted::Pass);
        for cut in 0..written.len() {
            assert_eq!(restore(&written[..cut], &mut empty(), 4), None, "{cut} octets");
        }
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 1;
            assert_eq!(restore(&damaged, &mut empty(), 4), None, "octet {at}");
        }
    }
}
