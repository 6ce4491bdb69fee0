//! What has been pulled already: which messages of which mailbox of another server are safe here.
//!
//! A message is noted when the target has it on disk. A note counts as long as the source's mailbox has the same
//! UIDVALIDITY, and the target's mailbox is the one it was: the same UIDVALIDITY, and a UIDNEXT that did not go back. An
//! account that was made anew or restored from a backup so gets everything again; what it has is not doubled.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rockdove_mail::{Uid, UidSet};
use serde::{Deserialize, Serialize};

use super::{Place, Places, TransferError};

/// The layout of the file.
const VERSION: u32 = 1;

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    version: u32,
    source: String,
    mailboxes: BTreeMap<String, Mailbox>,
}

#[derive(Default, Serialize, Deserialize)]
struct Mailbox {
    uid_validity: u32,
    target_uid_validity: u32,
    target_uid_next: u32,
    done: Vec<(Uid, Uid)>,
}

/// The notes about one source.
pub(super) struct Noted {
    path: PathBuf,
    kept: Kept,
}

/// A mailbox's name on the wire as text: each octet is a character, so that no two names become one.
fn key(wire_name: &[u8]) -> String {
    wire_name.iter().copied().map(char::from).collect()
}

impl Noted {
    /// Reads the notes about `source`. A file that is not there, not whole or about another source holds none: what it
    /// could have told is found out again.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn read(path: &Path, source: &str) -> Result<Self, TransferError> {
        let octets = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(TransferError::at(path))?,
        };
        let kept: Option<Kept> = serde_json::from_slice(&octets).ok();
        let kept = kept.filter(|kept| kept.version == VERSION && kept.source == source);
        let empty = || Kept { version: VERSION, source: source.to_owned(), ..Kept::default() };
        Ok(Self { path: path.to_owned(), kept: kept.unwrap_or_else(empty) })
    }

    /// The messages of a mailbox that need not be fetched. Notes that do not count any more are dropped.
    pub(super) fn done(&mut self, wire_name: &[u8], uid_validity: u32, target: Option<Place>) -> UidSet {
        let key = key(wire_name);
        let counts = |noted: &Mailbox| {
            // A server that tells no UIDVALIDITY promises nothing about its UIDs.
            uid_validity != 0
                && noted.uid_validity == uid_validity
                && target.is_some_and(|target| {
                    target.uid_validity == noted.target_uid_validity && target.uid_next >= noted.target_uid_next
                })
        };
        let mut done = UidSet::new();
        match self.kept.mailboxes.get(&key) {
            Some(noted) if counts(noted) => {
                noted.done.iter().for_each(|(first, last)| done.insert_range(*first, *last));
            }
            _ => {
                self.kept.mailboxes.remove(&key);
            }
        }
        done
    }

    /// Notes messages that the target has on disk.
    pub(super) fn add(&mut self, wire_name: &[u8], uid_validity: u32, uids: &UidSet, target: Place) {
        let noted = self.kept.mailboxes.entry(key(wire_name)).or_default();
        let same = noted.uid_validity == uid_validity && noted.target_uid_validity == target.uid_validity;
        let mut done = UidSet::new();
        if same {
            noted.done.iter().for_each(|(first, last)| done.insert_range(*first, *last));
        }
        let done = done.union(uids).ranges().to_vec();
        let target_uid_next = if same { noted.target_uid_next.max(target.uid_next) } else { target.uid_next };
        *noted = Mailbox { uid_validity, target_uid_validity: target.uid_validity, target_uid_next, done };
    }

    /// Writes the notes, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self) -> Result<(), TransferError> {
        let octets =
            serde_json::to_vec(&self.kept).map_err(|error| TransferError::stopped(self.path.display(), error))?;
        let new = self.path.with_extension("new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&octets)?;
            file.sync_all()
        });
        written.map_err(TransferError::at(&new))?;
        fs::rename(&new, &self.path).map_err(TransferError::at(&self.path))
    }
}

/// What the target says of a mailbox.
pub(super) fn place_of(places: &Places, levels: &[String]) -> Option<Place> {
    places.get(levels).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Place = Place { uid_validity: 7, uid_next: 10 };

    #[test]
    fn notes_count_only_for_the_mailboxes_they_are_about() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.json");
        let mut noted = Noted::read(&path, "ann@a:993").expect("notes");
        let uids = UidSet::range(3, 5);
        noted.add(b"caf\xe9", 1, &uids, TARGET);
        noted.add(b"caf\xe9", 1, &UidSet::range(9, 9), TARGET);
        noted.write().expect("written");
        let read = |source: &str| Noted::read(&path, source).expect("notes");
        let all = [3, 4, 5, 9].into_iter().collect::<UidSet>();
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 1, Some(TARGET)), all);
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 1, Some(Place { uid_next: 11, ..TARGET })), all);
        let nothing = UidSet::new();
        assert_eq!(read("ann@b:993").done(b"caf\xe9", 1, Some(TARGET)), nothing, "another source");
        assert_eq!(read("ann@a:993").done(b"caf\xe8", 1, Some(TARGET)), nothing, "another mailbox");
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 2, Some(TARGET)), nothing, "another UIDVALIDITY");
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 1, None), nothing, "the target has gone");
        let mut unnamed = read("ann@a:993");
        unnamed.add(b"x", 0, &uids, TARGET);
        assert_eq!(unnamed.done(b"x", 0, Some(TARGET)), nothing, "no UIDVALIDITY");
        let older = Place { uid_next: 9, ..TARGET };
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 1, Some(older)), nothing, "the target is from a backup");
        let other = Place { uid_validity: 8, ..TARGET };
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 1, Some(other)), nothing, "the target was made anew");
        fs::write(&path, b"{\"version\":1,").expect("written");
        assert_eq!(read("ann@a:993").done(b"caf\xe9", 1, Some(TARGET)), nothing, "half a file");
    }
}
