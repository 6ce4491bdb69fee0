//! The messages that are sent: made up, or real ones from a folder.

use std::{borrow::Cow, fs, io, path::Path};

use crate::failure::{LoadError, Result};

/// Octets of the smallest message that can be made up: its header and one line.
pub const GENERATED_BYTES_LEAST: usize = 512;

/// A message as it is stored, lines ended by CRLF.
pub type Message = Vec<u8>;

/// Where messages come from.
#[derive(Clone, Debug)]
pub enum Corpus {
    /// Text of this many octets; no two messages of a seed are equal, so no server can store one for another.
    Generated {
        /// Octets of each.
        octets: usize,
        /// Chooses the words.
        seed: u64,
    },
    /// These, again and again.
    Real(Vec<(String, Message)>),
}

impl Corpus {
    /// Reads every file below `folder`, in the order of their names. Line ends become CRLF, an mbox `From ` line in
    /// front goes away.
    ///
    /// # Errors
    /// When a file cannot be read, or there is none.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut messages = Vec::new();
        walk(folder, &mut messages).map_err(LoadError::io(folder.display().to_string()))?;
        if messages.is_empty() {
            return Err(LoadError::Usage(format!("{}: there is no message", folder.display())));
        }
        Ok(Self::Real(messages))
    }

    /// The message of this number, counted from 0.
    pub fn message(&self, number: u64) -> Cow<'_, [u8]> {
        match self {
            Self::Generated { octets, seed } => Cow::Owned(generate(*octets, *seed, number)),
            Self::Real(messages) => {
                let index = usize::try_from(number % messages.len().max(1) as u64).unwrap_or_default();
                Cow::Borrowed(messages.get(index).map(|(_, message)| message.as_slice()).unwrap_or_default())
            }
        }
    }
}

fn walk(folder: &Path, messages: &mut Vec<(String, Message)>) -> io::Result<()> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, messages)?;
        } else {
            messages.push((path.display().to_string(), canonical(&fs::read(&path)?)));
        }
    }
    Ok(())
}

/// A message as it travels: without an mbox `From ` line, every line ended by CRLF. A CR that is not before an LF stays.
pub fn canonical(raw: &[u8]) -> Message {
    let mut rest = raw;
    if raw.starts_with(b"From ") {
        let end = raw.iter().position(|&octet| octet == b'\n').map_or(raw.len(), |at| at + 1);
        rest = raw.get(end..).unwrap_or_default();
    }
    let mut message = Vec::with_capacity(rest.len() + rest.len() / 32);
    for line in rest.split_inclusive(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        message.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// Makes up a message of exactly `octets` (at least [`GENERATED_BYTES_LEAST`]) octets, the same for the same numbers.
pub fn generate(octets: usize, seed: u64, number: u64) -> Message {
    let mut message = Vec::with_capacity(octets);
    let header = format!(
        "From: Ada Lovelace <ada@load.example>\r\nTo: Charles Babbage <charles@load.example>\r\n\
         Subject: Notes on the engine, number {number}\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n\
         Message-ID: <{seed:x}.{number}@load.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    );
    message.extend_from_slice(header.as_bytes());
    let mut state = mix(seed ^ mix(number));
    let mut column = 0;
    while message.len() + 14 < octets {
        state = mix(state);
        // Three syllables a word: 13,824 words, about as compressible as prose.
        for byte in [0, 2, 4] {
            let syllable = SYLLABLES[usize::from(state.to_le_bytes()[byte]) % SYLLABLES.len()];
            message.extend_from_slice(syllable.as_bytes());
            column += syllable.len();
        }
        if column > 66 {
            message.extend_from_slice(b"\r\n");
            column = 0;
        } else {
            message.push(b' ');
            column += 1;
        }
    }
    message.resize(octets.max(message.len() + 2) - 2, b'x');
    message.extend_from_slice(b"\r\n");
    message
}

const SYLLABLES: [&str; 24] = [
    "ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "za", "an", "en", "in",
    "on", "un", "st", "er", "th",
];

/// One step of splitmix64: a number that looks like chance and is always the same.
pub fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_messages_have_their_size_and_differ() {
        for octets in [GENERATED_BYTES_LEAST, 513, 4_096, 100_001] {
            let message = generate(octets, 1, 2);
            assert_eq!(message.len(), octets);
            assert!(message.ends_with(b"\r\n") && message.is_ascii());
            assert_eq!(message, generate(octets, 1, 2));
            assert_ne!(message, generate(octets, 1, 3));
            let lines: Vec<&[u8]> = message.split(|&octet| octet == b'\n').collect();
            assert!(lines.iter().all(|line| line.len() <= 100 && !line.starts_with(b".")), "{octets}");
        }
    }

    #[test]
    fn files_become_messages() {
        for (raw, want) in [
            (&b"From ada Thu\nA: b\n\nc\n"[..], &b"A: b\r\n\r\nc\r\n"[..]),
            (b"From: ada\r\n\r\nc", b"From: ada\r\n\r\nc\r\n"),
            (b"A: b\n\r\nc\rd\r\n", b"A: b\r\n\r\nc\rd\r\n"),
            (b"From ada", b""),
            (b"", b""),
        ] {
            assert_eq!(canonical(raw), want, "{:?}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn a_folder_is_read_in_order() {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("b")).expect("folder");
        fs::write(folder.path().join("b/1"), "B: 1\n\n").expect("file");
        fs::write(folder.path().join("a"), "A: 1\n\n").expect("file");
        let corpus = Corpus::read(folder.path()).expect("corpus");
        assert_eq!(&*corpus.message(0), b"A: 1\r\n\r\n");
        assert_eq!(&*corpus.message(3), b"B: 1\r\n\r\n");
        assert!(Corpus::read(&folder.path().join("none")).is_err());
    }
}
