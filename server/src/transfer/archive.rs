//! A `tar.zst` archive: what [`eml`](super::eml) writes, in one compressed file.
//!
//! Unpacked with `tar --zstd -xf` it is such a folder. So that it can be read in one go, the line of the manifest stands
//! before each message too, as the PAX record `ROCKDOVE.message`. An archive that others packed has no such records: it
//! is refused; unpack it and import the folder.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header, PaxExtensions};

use super::{
    Item, Source, SourceMailbox, Target, Total, TransferError,
    draft::Draft,
    eml::{Files, MANIFEST},
    lines::Lines,
    listed::{self, LIST, LIST_OCTETS_MAX},
    manifest::{self, Head, LINE_OCTETS_MAX, Line, Tail, VERSION},
    too_large, walk,
};

/// The PAX record with the line of the manifest.
const RECORD: &str = "ROCKDOVE.message";
/// Levels of zstd go from 1, fast, to 19, small.
const LEVEL: i32 = 6;

type Compressor = zstd::Encoder<'static, BufWriter<File>>;

/// Writes an archive.
pub struct ArchiveTarget {
    draft: Draft,
    files: Files,
    builder: Builder<Compressor>,
    /// The manifest, on disk without a name until it is known to the end.
    manifest: BufWriter<File>,
    manifest_octets: u64,
}

impl ArchiveTarget {
    /// Begins an export to a file that is not there yet.
    ///
    /// # Errors
    /// When it is there, or cannot be written.
    pub fn create(dest: &Path) -> Result<Self, TransferError> {
        let (draft, file) = Draft::file(dest)?;
        let failed = || TransferError::at(draft.path());
        let mut compressor = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(failed())?;
        compressor.include_checksum(true).map_err(failed())?;
        let beside = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let manifest = tempfile::tempfile_in(beside).map_err(TransferError::at(beside))?;
        let (builder, manifest) = (Builder::new(compressor), BufWriter::new(manifest));
        let mut target = Self { draft, files: Files::default(), builder, manifest, manifest_octets: 0 };
        target.line(&manifest::encode(&Head { rockdove_export: VERSION }).unwrap_or_default())?;
        Ok(target)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), TransferError> {
        self.manifest_octets += line.len() as u64;
        self.manifest.write_all(line).map_err(TransferError::at(self.draft.path()))
    }
}

/// The header of a file.
fn header(path: &str, size: u64, unix_s: i64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    // A path that does not fit stands in the PAX record before.
    let short: String = path.chars().rev().take(24).collect::<Vec<_>>().into_iter().rev().collect();
    if header.set_path(path).is_err() && header.set_path(short).is_err() {
        drop(header.set_path("message.eml"));
    }
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(unix_s).unwrap_or(0).min(0o777_7777_7777));
    header.set_cksum();
    header
}

impl Target for ArchiveTarget {
    fn mailboxes(&mut self, all: &[SourceMailbox]) -> Result<(), TransferError> {
        let list = listed::encode(all)?;
        let header = header(LIST, list.len() as u64, 0);
        self.builder.append(&header, list.as_slice()).map_err(TransferError::at(self.draft.path()))
    }

    fn put(&mut self, item: &Item) -> Result<(), TransferError> {
        let (folder, name, line) = self.files.next(item)?;
        let path = format!("{folder}/{name}");
        self.line(&line)?;
        let records = [("path", path.as_bytes()), (RECORD, line.trim_ascii_end())];
        let header = header(&path, item.octets.len() as u64, item.internal_date.unix_s);
        let written = self.builder.append_pax_extensions(records);
        let written = written.and_then(|()| self.builder.append(&header, item.octets.as_slice()));
        written.map_err(TransferError::at(self.draft.path()))
    }

    fn finish(mut self: Box<Self>) -> Result<(), TransferError> {
        let tail = manifest::encode(&Tail { messages: self.files.messages() }).unwrap_or_default();
        self.line(&tail)?;
        let Self { draft, builder, manifest, manifest_octets, .. } = *self;
        complete(builder, manifest, manifest_octets).map_err(TransferError::at(draft.path()))?;
        draft.finish()
    }
}

/// Puts the manifest behind the messages.
fn complete(mut builder: Builder<Compressor>, manifest: BufWriter<File>, octets: u64) -> io::Result<()> {
    let mut manifest = manifest.into_inner()?;
    manifest.rewind()?;
    builder.append(&header(MANIFEST, octets, 0), manifest.take(octets))?;
    builder.into_inner()?.finish()?.into_inner()?.sync_all()
}

/// Reads an archive.
pub struct ArchiveSource {
    mailboxes: Vec<SourceMailbox>,
    path: PathBuf,
    size_octets_max: usize,
    reader: zstd::Decoder<'static, BufReader<File>>,
    /// The first header, when it is not that of the list of mailboxes.
    first: Option<Result<(Header, u64), TransferError>>,
    /// Octets of the archive that were read, uncompressed.
    offset: u64,
    read: u64,
    ended: bool,
}

/// Octets of a block; everything in an archive begins at one.
const BLOCK: u64 = 512;

impl ArchiveSource {
    /// Opens an archive. Messages of more than `size_octets_max` octets are passed over.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path, size_octets_max: usize) -> Result<Self, TransferError> {
        let file = walk::open(path).map_err(TransferError::at(path))?;
        let reader = zstd::Decoder::new(file).map_err(TransferError::at(path))?;
        let (path, mailboxes) = (path.to_owned(), Vec::new());
        let mut source =
            Self { mailboxes, path, size_octets_max, reader, first: None, offset: 0, read: 0, ended: false };
        source.list()?;
        Ok(source)
    }

    /// Reads the list of mailboxes, which is the first thing. What else comes first is for [`Source::next`].
    fn list(&mut self) -> Result<(), TransferError> {
        match self.header() {
            Ok((header, size)) if size <= LIST_OCTETS_MAX && header.path_bytes().as_ref() == LIST.as_bytes() => {
                let place = self.place();
                self.mailboxes = listed::decode(&self.content(size)?, &place)?;
            }
            other => self.first = Some(other),
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("{} at {} (unpacked)", self.path.display(), self.offset)
    }

    fn damaged(&self, why: impl std::fmt::Display) -> TransferError {
        TransferError::stopped(self.place(), format!("the archive is damaged or not whole: {why}"))
    }

    fn take(&mut self, octets: &mut [u8]) -> Result<(), TransferError> {
        self.reader.read_exact(octets).map_err(|error| self.damaged(error))?;
        self.offset += octets.len() as u64;
        Ok(())
    }

    /// The header of the next entry.
    fn header(&mut self) -> Result<(Header, u64), TransferError> {
        if let Some(first) = self.first.take() {
            return first;
        }
        let mut header = Header::new_old();
        self.take(header.as_mut_bytes())?;
        let octets = header.as_bytes();
        if octets.iter().all(|octet| *octet == 0) {
            return Err(self.damaged("it ends before its manifest"));
        }
        let sum = |octets: &[u8]| octets.iter().copied().map(u32::from).sum::<u32>();
        let expected = sum(&octets[..148]) + 8 * u32::from(b' ') + sum(&octets[156..]);
        if header.cksum().ok() != Some(expected) {
            return Err(self.damaged("this is no tar header"));
        }
        let size = header.entry_size().map_err(|error| self.damaged(error))?;
        Ok((header, size))
    }

    /// The content of an entry.
    fn content(&mut self, size: u64) -> Result<Vec<u8>, TransferError> {
        let mut octets = vec![0; usize::try_from(size).map_err(|error| self.damaged(error))?];
        self.take(&mut octets)?;
        self.skip(size.next_multiple_of(BLOCK) - size)?;
        Ok(octets)
    }

    fn skip(&mut self, octets: u64) -> Result<(), TransferError> {
        let skipped = io::copy(&mut (&mut self.reader).take(octets), &mut io::sink());
        let skipped = skipped.map_err(|error| self.damaged(error))?;
        self.offset += skipped;
        if skipped == octets { Ok(()) } else { Err(self.damaged("it is cut")) }
    }

    fn entry(&mut self) -> Result<Option<Item>, TransferError> {
        let (header, size) = self.header()?;
        if header.entry_type() == EntryType::Regular && header.path_bytes().as_ref() == MANIFEST.as_bytes() {
            return self.manifest(size);
        }
        if header.entry_type() != EntryType::XHeader || size > 2 * LINE_OCTETS_MAX as u64 {
            return Err(self.foreign());
        }
        let records = self.content(size)?;
        let mut record = PaxExtensions::new(&records).flatten().filter(|record| record.key() == Ok(RECORD));
        let line = record.next().ok_or_else(|| self.foreign())?;
        let line: Line = manifest::decode(line.value_bytes(), self.place())?;
        let (header, size) = self.header()?;
        if header.entry_type() != EntryType::Regular {
            return Err(self.foreign());
        }
        let place = format!("{} in {}", line.file, self.path.display());
        self.read += 1;
        if size > self.size_octets_max as u64 {
            self.skip(size.checked_next_multiple_of(BLOCK).unwrap_or(size))?;
            return Err(TransferError::passed_over(place, too_large(size, self.size_octets_max)));
        }
        let octets = self.content(size)?;
        line.with(octets, place).map(Some)
    }

    fn foreign(&self) -> TransferError {
        let why = "this was not packed by `rockdove export`; unpack it and import the folder";
        TransferError::stopped(self.place(), why)
    }

    /// The manifest is the last thing; its last line says how many messages there are.
    fn manifest(&mut self, size: u64) -> Result<Option<Item>, TransferError> {
        self.ended = true;
        let (mut lines, mut line, mut last) =
            (Lines::new(BufReader::new((&mut self.reader).take(size))), vec![], vec![]);
        while lines.next(&mut line, LINE_OCTETS_MAX).map_err(TransferError::at(&self.path))? > 0 {
            std::mem::swap(&mut line, &mut last);
        }
        let tail: Tail = manifest::decode(&last, self.place())?;
        // The checksum of the archive is behind its last octet.
        io::copy(&mut (&mut self.reader).take(MANIFEST_TAIL), &mut io::sink()).map_err(|error| self.damaged(error))?;
        manifest::missing(&self.path, tail.messages, self.read).map_or(Ok(None), Err)
    }
}

/// Octets that are read behind the manifest: what fills a block, and the two empty blocks that end an archive.
const MANIFEST_TAIL: u64 = 64 << 10;

impl Source for ArchiveSource {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        if self.ended {
            return Ok(None);
        }
        let next = self.entry();
        self.ended |= matches!(next, Err(TransferError::Stopped { .. }));
        next
    }

    fn total(&self) -> Option<Total> {
        None
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.clone()
    }
}
