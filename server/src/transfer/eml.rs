//! A folder of `.eml` files.
//!
//! ```text
//! DEST/manifest.jsonl          {"rockdove_export":1}, a line for each message, {"messages":N}
//! DEST/mail/INBOX/0000000001.eml
//! ```
//! A file has the octets of its message and nothing else. The manifest says which mailbox, flags and internal date it
//! has. A folder without a manifest is a stranger's: its subfolders are mailboxes, lines that end in LF get CRLF.

use std::{
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::{
    InternalDate, Item, Source, SourceMailbox, Target, Total, TransferError, date_of_header,
    draft::{self, Draft},
    lines::Lines,
    listed,
    manifest::{self, Head, LINE_OCTETS_MAX, Line, Tail, VERSION},
    names::Folders,
    too_large, walk, with_crlf,
};

/// The manifest's name.
pub(super) const MANIFEST: &str = "manifest.jsonl";

/// Names the files of an export.
#[derive(Default)]
pub(super) struct Files {
    folders: Folders,
    messages: u64,
}

impl Files {
    /// The folder and name of the next message, and its line.
    pub(super) fn next(&mut self, item: &Item) -> Result<(String, String, Vec<u8>), TransferError> {
        let folder = format!("mail/{}", self.folders.nested(&item.mailbox).path);
        let name = format!("{:010}.eml", self.messages + 1);
        let path = format!("{folder}/{name}");
        let line = manifest::encode(&Line::of(item, path.clone()));
        let line = line.map_err(|why| TransferError::passed_over(path, why))?;
        self.messages += 1;
        Ok((folder, name, line))
    }

    /// Messages so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }
}

/// Writes a folder of `.eml` files.
pub struct EmlTarget {
    draft: Draft,
    files: Files,
    manifest: BufWriter<std::fs::File>,
}

impl EmlTarget {
    /// Begins an export to a folder that is not there yet.
    ///
    /// # Errors
    /// When it is there, or cannot be written.
    pub fn create(dest: &Path) -> Result<Self, TransferError> {
        let draft = Draft::folder(dest)?;
        let path = draft.path().join(MANIFEST);
        let manifest = draft::new_file(&path).map_err(TransferError::at(&path))?;
        let mut target = Self { draft, files: Files::default(), manifest: BufWriter::new(manifest) };
        target.line(&manifest::encode(&Head { rockdove_export: VERSION }).unwrap_or_default())?;
        Ok(target)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), TransferError> {
        self.manifest.write_all(line).map_err(TransferError::at(&self.draft.path().join(MANIFEST)))
    }
}

impl Target for EmlTarget {
    fn mailboxes(&mut self, all: &[SourceMailbox]) -> Result<(), TransferError> {
        listed::write(self.draft.path(), all)
    }

    fn put(&mut self, item: &Item) -> Result<(), TransferError> {
        let (folder, name, line) = self.files.next(item)?;
        self.line(&line)?;
        let folder = self.draft.path().join(folder);
        draft::make_folder(&folder).map_err(TransferError::at(&folder))?;
        let path = folder.join(name);
        draft::new_file(&path).and_then(|mut file| file.write_all(&item.octets)).map_err(TransferError::at(&path))
    }

    fn finish(mut self: Box<Self>) -> Result<(), TransferError> {
        self.line(&manifest::encode(&Tail { messages: self.files.messages() }).unwrap_or_default())?;
        self.manifest.flush().map_err(TransferError::at(self.draft.path()))?;
        self.draft.finish()
    }
}

/// Reads a folder of `.eml` files.
pub struct EmlSource {
    mailboxes: Vec<SourceMailbox>,
    folder: PathBuf,
    size_octets_max: usize,
    order: Order,
}

enum Order {
    Listed { manifest: Lines<BufReader<std::fs::File>>, number: u64, read: u64 },
    Found { waiting: Vec<(Vec<String>, walk::Entry)> },
    Ended,
}

impl EmlSource {
    /// Opens a folder. Messages of more than `size_octets_max` octets are passed over.
    ///
    /// # Errors
    /// When it cannot be read, or is an export of ours that is of another version.
    pub fn open(folder: &Path, size_octets_max: usize) -> Result<Self, TransferError> {
        let path = folder.join(MANIFEST);
        let order = if path.exists() {
            let file = walk::open(&path).map_err(TransferError::at(&path))?;
            let (mut manifest, mut line) = (Lines::new(BufReader::new(file)), Vec::new());
            manifest.next(&mut line, LINE_OCTETS_MAX).map_err(TransferError::at(&path))?;
            manifest::check(&manifest::decode(&line, path.display())?, path.display())?;
            Order::Listed { manifest, number: 1, read: 0 }
        } else {
            let mut waiting = Vec::new();
            wait(&mut waiting, &[], folder)?;
            Order::Found { waiting }
        };
        Ok(Self { mailboxes: listed::read(folder)?, folder: folder.to_owned(), size_octets_max, order })
    }

    fn listed(&mut self) -> Result<Option<Item>, TransferError> {
        let Order::Listed { manifest, number, read } = &mut self.order else { return Ok(None) };
        let (path, mut line) = (self.folder.join(MANIFEST), Vec::new());
        *number += 1;
        let place = format!("{} line {number}", path.display());
        if manifest.next(&mut line, LINE_OCTETS_MAX).map_err(TransferError::at(&path))? == 0 || !line.ends_with(b"\n") {
            return Err(TransferError::stopped(place, "the export is not whole: its manifest ends too early"));
        }
        if let Ok(tail) = serde_json::from_slice::<Tail>(&line) {
            let (told, found) = (tail.messages, *read);
            self.order = Order::Ended;
            return manifest::missing(&path, told, found).map_or(Ok(None), Err);
        }
        let line: Line = manifest::decode(&line, &place)?;
        *read += 1;
        let Some(path) = walk::within(&self.folder, &line.file) else {
            let why = format!("{:?} is not a file of this export", line.file);
            return Err(TransferError::passed_over(place, why));
        };
        let (_, octets) = walk::message(&path, self.size_octets_max)?;
        line.with(octets, path.display()).map(Some)
    }

    fn found(&mut self) -> Result<Option<Item>, TransferError> {
        let Order::Found { waiting } = &mut self.order else { return Ok(None) };
        while let Some((mailbox, entry)) = waiting.pop() {
            if entry.is_folder {
                let below: Vec<String> = mailbox.into_iter().chain([entry.name]).collect();
                wait(waiting, &below, &entry.path)?;
            } else if entry.path.extension().is_some_and(|end| end.eq_ignore_ascii_case("eml")) {
                return foreign(mailbox, &entry.path, self.size_octets_max).map(Some);
            }
        }
        Ok(None)
    }
}

/// Puts what is in a folder before what waits, so that files of one folder come together and by name.
fn wait(waiting: &mut Vec<(Vec<String>, walk::Entry)>, mailbox: &[String], folder: &Path) -> Result<(), TransferError> {
    let (folders, files): (Vec<_>, Vec<_>) = walk::entries(folder)?.into_iter().partition(|entry| entry.is_folder);
    let all = folders.into_iter().rev().chain(files.into_iter().rev());
    waiting.extend(all.map(|entry| (mailbox.to_vec(), entry)));
    Ok(())
}

fn foreign(mailbox: Vec<String>, path: &Path, size_octets_max: usize) -> Result<Item, TransferError> {
    let (file, octets) = walk::message(path, size_octets_max)?;
    let unix_s = walk::modified(&file);
    let internal_date = date_of_header(&octets).unwrap_or(InternalDate { unix_s, offset_minutes: 0 });
    let mailbox = if mailbox.is_empty() { vec!["INBOX".to_owned()] } else { mailbox };
    let octets = with_crlf(&octets);
    if octets.len() > size_octets_max {
        return Err(TransferError::passed_over(path.display(), too_large(octets.len() as u64, size_octets_max)));
    }
    Ok(Item { mailbox, flags: Vec::new(), internal_date, octets })
}

impl Source for EmlSource {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        let next = match &self.order {
            Order::Listed { .. } => self.listed(),
            Order::Found { .. } => self.found(),
            Order::Ended => Ok(None),
        };
        if matches!(next, Err(TransferError::Stopped { .. })) {
            self.order = Order::Ended;
        }
        next
    }

    fn total(&self) -> Option<Total> {
        None
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.clone()
    }
}
