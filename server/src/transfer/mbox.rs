//! mbox files (RFC 4155), quoted as `mboxrd` does.
//!
//! ```text
//! DEST/INBOX.mbox, DEST/Work.mbox, DEST/Work/2026.mbox
//!
//! From MAILER-DAEMON Thu Nov 26 10:00:00 2026
//! X-Rockdove-Message: {"rockdove_export":1,"size":74,"crlf":true,...}
//! Status: RO
//! X-Status: F
//! X-Keywords: $Forwarded
//! (the message; every line that begins with any number of `>` and `From ` has one `>` more)
//! (an empty line)
//! ```
//! The fields before the message are ours and go at an import; the first has what is needed to give the octets back.
//! `crlf`: every line of the message ends in CRLF; here they end in LF, as other programs expect. Otherwise the octets
//! stand as they are. `open`: the message does not end in LF; the one here is not its own.
//!
//! Files of others: their lines get CRLF, the status fields of mutt, Dovecot and Thunderbird become flags, `>From `
//! becomes `From `. A folder of files is read with its subfolders, Thunderbird's `.sbd` too.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use rockdove_mail::{Keyword, SystemFlags, date};
use serde::{Deserialize, Serialize};

use super::{
    InternalDate, Item, Source, SourceMailbox, Target, Total, TransferError, date_of_header,
    draft::{self, Draft},
    lines::Lines,
    listed,
    manifest::{self, Head, LINE_OCTETS_MAX, VERSION},
    names::{self, Folders},
    status::{self, Foreign},
    too_large, walk, with_crlf,
};

/// The field that has what only we need.
const FIELD: &[u8] = b"X-Rockdove-Message: ";

/// What goes with a message.
#[derive(Serialize, Deserialize)]
struct Note {
    rockdove_export: u32,
    size: u64,
    crlf: bool,
    open: bool,
    unix_s: i64,
    offset_minutes: i16,
    flags: Vec<String>,
    /// When the name of the file does not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<Vec<String>>,
}

/// Whether every CR and LF is one of a CRLF.
fn is_crlf(octets: &[u8]) -> bool {
    let mut last = 0;
    for octet in octets {
        if (*octet == b'\n') != (last == b'\r') {
            return false;
        }
        last = *octet;
    }
    last != b'\r'
}

/// Whether a line is one that mboxrd quotes, or its quoted form.
fn is_from(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|octet| **octet == b'>').count();
    line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
}

/// Writes a folder of mbox files.
pub struct MboxTarget {
    draft: Draft,
    folders: Folders,
    open: Option<(PathBuf, BufWriter<File>)>,
    messages: u64,
}

impl MboxTarget {
    /// Begins an export to a folder that is not there yet.
    ///
    /// # Errors
    /// When it is there, or cannot be written.
    pub fn create(dest: &Path) -> Result<Self, TransferError> {
        Ok(Self { draft: Draft::folder(dest)?, folders: Folders::default(), open: None, messages: 0 })
    }

    fn file(&mut self, path: PathBuf) -> Result<(&Path, &mut BufWriter<File>), TransferError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != path) {
            self.close()?;
            let folder = path.parent().unwrap_or(self.draft.path());
            draft::make_folder(folder).map_err(TransferError::at(folder))?;
            let file = OpenOptions::new().append(true).create(true).open(&path).map_err(TransferError::at(&path))?;
            self.open = Some((path, BufWriter::new(file)));
        }
        let open = self.open.as_mut().map(|(path, file)| (path.as_path(), file));
        open.ok_or_else(|| TransferError::stopped(self.draft.path().display(), "no file is open"))
    }

    fn close(&mut self) -> Result<(), TransferError> {
        let Some((path, mut file)) = self.open.take() else { return Ok(()) };
        file.flush().map_err(TransferError::at(&path))
    }
}

impl Target for MboxTarget {
    fn mailboxes(&mut self, all: &[SourceMailbox]) -> Result<(), TransferError> {
        listed::write(self.draft.path(), all)
    }

    fn put(&mut self, item: &Item) -> Result<(), TransferError> {
        let folder = self.folders.nested(&item.mailbox);
        let (InternalDate { unix_s, offset_minutes }, octets) = (item.internal_date, &item.octets);
        let note = Note {
            rockdove_export: VERSION,
            size: octets.len() as u64,
            crlf: is_crlf(octets),
            open: octets.last().is_some_and(|last| *last != b'\n'),
            unix_s,
            offset_minutes,
            flags: item.flags.clone(),
            mailbox: (!folder.exact).then(|| item.mailbox.clone()),
        };
        let line = manifest::encode(&note).map_err(|why| TransferError::passed_over(&folder.path, why))?;
        let mut text = format!("From MAILER-DAEMON {}\n", status::from_date(unix_s)).into_bytes();
        text.extend_from_slice(FIELD);
        text.extend_from_slice(&line);
        text.extend_from_slice(&visible(&item.flags));
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            if is_from(line) {
                text.push(b'>');
            }
            match line.strip_suffix(b"\r\n").filter(|_| note.crlf) {
                Some(line) => text.extend_from_slice(&[line, b"\n"].concat()),
                None => text.extend_from_slice(line),
            }
        }
        text.extend_from_slice(if note.open { b"\n\n" } else { b"\n" });
        let path = self.draft.path().join(format!("{}.mbox", folder.path));
        let (path, file) = self.file(path)?;
        file.write_all(&text).map_err(TransferError::at(path))?;
        self.messages += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), TransferError> {
        self.close()?;
        manifest::seal(self.draft.path(), self.messages)?;
        self.draft.finish()
    }
}

/// The fields in which other programs look for flags.
fn visible(flags: &[String]) -> Vec<u8> {
    let has = |name: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(name));
    let mut fields = format!("Status: {}O\n", if has("\\Seen") { "R" } else { "" });
    let letters = status::X_STATUS.iter().filter(|(_, name)| has(name)).map(|(letter, _)| char::from(*letter));
    let letters: String = letters.collect();
    if !letters.is_empty() {
        fields.extend(["X-Status: ", &letters, "\n"]);
    }
    let keywords: Vec<&str> = flags.iter().map(String::as_str).filter(|flag| Keyword::new(flag).is_some()).collect();
    if !keywords.is_empty() {
        fields.extend(["X-Keywords: ", &keywords.join(" "), "\n"]);
    }
    fields.into_bytes()
}

/// Reads an mbox file, or a folder of them.
pub struct MboxSource {
    mailboxes: Vec<SourceMailbox>,
    size_octets_max: usize,
    /// Where the levels of a name begin, and how many messages are there if the folder is an export of ours.
    root: PathBuf,
    sealed: Option<u64>,
    told: Option<u64>,
    waiting: Vec<(Vec<String>, walk::Entry)>,
    reading: Option<Reading>,
    octets: u64,
    read: u64,
}

/// A file that is being read.
struct Reading {
    path: PathBuf,
    mailbox: Vec<String>,
    modified: i64,
    lines: Lines<BufReader<File>>,
    /// The line that a message began with, and where.
    from: Vec<u8>,
    at: u64,
    first: bool,
}

/// A message as it stands in the file.
struct Raw {
    from: Vec<u8>,
    at: u64,
    octets: Vec<u8>,
    /// Octets of it, also when there are too many to take.
    length: u64,
    last: bool,
}

impl MboxSource {
    /// Opens a file or a folder. Messages of more than `size_octets_max` octets are passed over.
    ///
    /// # Errors
    /// When it cannot be read, or is an export of ours that is of another version.
    pub fn open(path: &Path, size_octets_max: usize) -> Result<Self, TransferError> {
        let facts = std::fs::metadata(path).map_err(TransferError::at(path))?;
        let (root, sealed) = (path.to_owned(), if facts.is_dir() { manifest::sealed(path)? } else { None });
        let mut source = Self {
            mailboxes: if facts.is_dir() { listed::read(path)? } else { Vec::new() },
            size_octets_max,
            root,
            sealed,
            told: sealed,
            waiting: Vec::new(),
            reading: None,
            octets: facts.len(),
            read: 0,
        };
        if facts.is_dir() {
            source.octets = 0;
            source.wait(&[], path)?;
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            source.waiting.push((Vec::new(), walk::Entry { name, path: path.to_owned(), is_folder: false }));
        }
        Ok(source)
    }

    fn wait(&mut self, mailbox: &[String], folder: &Path) -> Result<(), TransferError> {
        for entry in walk::entries(folder)?.into_iter().rev() {
            self.waiting.push((mailbox.to_vec(), entry));
        }
        Ok(())
    }

    /// The level that a file or folder stands for; `None` for what is no mail.
    fn level(&self, entry: &walk::Entry) -> Option<String> {
        let name = entry.name.as_str();
        let ends: &[&str] = if entry.is_folder { &[".sbd"] } else { &[".mbox", ".mbx"] };
        let stem = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        if entry.path == self.root {
            return Some(if stem.is_empty() { name } else { stem }.to_owned());
        }
        if self.sealed.is_some() {
            let ours = if entry.is_folder { Some(name) } else { name.strip_suffix(".mbox") };
            return ours.map(names::unescape);
        }
        let index = [".msf", ".dat", ".json", ".html", ".lock", ".log"].iter().any(|end| name.ends_with(end));
        (!name.starts_with('.') && !stem.is_empty() && (entry.is_folder || !index)).then(|| stem.to_owned())
    }

    /// Opens the next file; false when there is none.
    fn advance(&mut self) -> Result<bool, TransferError> {
        while let Some((mut mailbox, entry)) = self.waiting.pop() {
            let Some(level) = self.level(&entry) else { continue };
            mailbox.push(level);
            if entry.is_folder {
                self.wait(&mailbox, &entry.path)?;
                continue;
            }
            let failed = |error| TransferError::passed_over(entry.path.display(), error);
            let file = walk::open(&entry.path).map_err(failed)?;
            let modified = walk::modified(&file);
            let mut lines = Lines::new(BufReader::with_capacity(64 << 10, file));
            let (mut from, mut at) = (Vec::new(), 0);
            loop {
                let length = lines.next(&mut from, LINE_OCTETS_MAX).map_err(failed)?;
                if length == 0 || !from.trim_ascii().is_empty() {
                    break;
                }
                at = lines.offset();
            }
            if from.is_empty() {
                continue;
            }
            if !is_separator(&from) {
                let why = "this is no mbox file: it does not begin with a line `From `";
                return Err(TransferError::passed_over(entry.path.display(), why));
            }
            self.reading = Some(Reading { path: entry.path, mailbox, modified, lines, from, at, first: true });
            return Ok(true);
        }
        Ok(false)
    }
}

/// `From `, a sender, and a time of the day in some form. Thunderbird writes `From ` alone, too.
fn is_separator(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"From ") else { return false };
    let rest = rest.trim_ascii();
    let time = |word: &[u8]| word.contains(&b':') && word.iter().all(|octet| octet.is_ascii_digit() || *octet == b':');
    rest.is_empty() || rest.split(|octet| *octet == b' ').any(time)
}

impl Reading {
    /// Reads up to the next separator.
    fn raw(&mut self, octets_max: usize) -> std::io::Result<Raw> {
        let (mut octets, mut line, mut length, mut blank) = (Vec::new(), Vec::new(), 0_u64, false);
        let mut raw =
            Raw { from: std::mem::take(&mut self.from), at: self.at, octets: Vec::new(), length: 0, last: true };
        loop {
            let at = self.lines.offset();
            let whole = self.lines.next(&mut line, octets_max)?;
            if whole == 0 {
                break;
            }
            if (blank || length == 0) && is_separator(&line) {
                (raw.last, self.from, self.at) = (false, std::mem::take(&mut line), at);
                break;
            }
            blank = line == b"\n" || line == b"\r\n";
            length += whole;
            let kept = if line.starts_with(b">") && is_from(&line) { line.get(1..).unwrap_or_default() } else { &line };
            if length <= octets_max as u64 {
                octets.extend_from_slice(kept);
            } else {
                octets = Vec::new();
            }
        }
        raw.length = length;
        raw.octets = octets;
        Ok(raw)
    }
}

/// The message that a note stands before, if it is as it was written; else what is left of it.
fn restore(note: &Note, text: &[u8]) -> Result<Vec<u8>, u64> {
    let closed = if note.open { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    let octets = if note.crlf { with_crlf(closed) } else { closed.to_vec() };
    if octets.len() as u64 == note.size { Ok(octets) } else { Err(octets.len() as u64) }
}

/// A message without the empty line that is behind it.
fn without_separator(octets: &[u8]) -> &[u8] {
    let text = octets.strip_suffix(b"\n").unwrap_or(octets);
    if text.is_empty() || text.ends_with(b"\n") {
        return text;
    }
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.is_empty() || text.ends_with(b"\n") { text } else { octets }
}

/// The same of another program's message, which may have no body: then the empty line is the end of its header.
fn foreign_text(octets: &[u8]) -> &[u8] {
    let text = without_separator(octets);
    let has_end = text.split_inclusive(|octet| *octet == b'\n').any(|line| line == b"\n" || line == b"\r\n");
    if has_end { text } else { octets }
}

/// When the message came, by its separator.
fn date_of_separator(line: &[u8]) -> Option<InternalDate> {
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let time = words.iter().position(|word| word.contains(&b':') && word.first().is_some_and(u8::is_ascii_digit))?;
    let (unix_s, offset_minutes) = date::parse_rfc5322(&words.get(time.saturating_sub(3)..)?.join(&b' '))?;
    Some(InternalDate { unix_s, offset_minutes })
}

impl Reading {
    /// One of ours.
    fn ours(&self, line: &[u8], rest: &[u8], raw: &Raw) -> Result<Item, TransferError> {
        let place = format!("{} at octet {}", self.path.display(), raw.at);
        let note: Note = serde_json::from_slice(line).map_err(|error| {
            TransferError::passed_over(&place, format!("its X-Rockdove-Message is damaged: {error}"))
        })?;
        manifest::check(&Head { rockdove_export: note.rockdove_export }, &place)?;
        let seen = visible(&note.flags);
        // The empty line behind it may be what a cut took.
        let whole = [without_separator(rest), rest].into_iter().map(|text| text.strip_prefix(seen.as_slice()));
        let restored: Vec<_> = whole.flatten().map(|text| restore(&note, text)).collect();
        let length = restored.iter().find_map(|one| one.as_ref().err().copied());
        let (flags, octets) = match restored.into_iter().flatten().next() {
            Some(octets) => (note.flags, octets),
            None if raw.last && length.is_none_or(|length| length < note.size) => {
                let why = format!("it is cut: the message has {} octets", note.size);
                return Err(TransferError::passed_over(place, why));
            }
            None => edited(&note, without_separator(rest)),
        };
        let internal_date = InternalDate { unix_s: note.unix_s, offset_minutes: note.offset_minutes };
        Ok(Item { mailbox: note.mailbox.unwrap_or_else(|| self.mailbox.clone()), flags, internal_date, octets })
    }

    /// One of another program's; `None` for what is no message.
    fn foreign(&self, raw: &Raw) -> Option<Item> {
        let Foreign { flags, is_gone, octets } = Foreign::of(foreign_text(&raw.octets), self.first);
        let internal_date = date_of_separator(&raw.from).or_else(|| date_of_header(&octets));
        let internal_date = internal_date.unwrap_or(InternalDate { unix_s: self.modified, offset_minutes: 0 });
        let item = Item { mailbox: self.mailbox.clone(), flags, internal_date, octets: with_crlf(&octets) };
        (!is_gone).then_some(item)
    }
}

/// One of ours that another program wrote anew: its flags are what that program says, but for those it cannot know.
fn edited(note: &Note, text: &[u8]) -> (Vec<String>, Vec<u8>) {
    let Foreign { mut flags, octets, .. } = Foreign::of(text, false);
    let shown = |flag: &str| SystemFlags::from_name(flag).is_some() || Keyword::new(flag).is_some();
    flags.extend(note.flags.iter().filter(|flag| !shown(flag)).cloned());
    let octets = if note.open { octets.strip_suffix(b"\n").unwrap_or(&octets) } else { &octets };
    (flags, if note.crlf { with_crlf(octets) } else { octets.to_vec() })
}

impl MboxSource {
    /// The next message of the file that is being read; `None` for what is no message.
    fn message(&mut self) -> Result<Option<Item>, TransferError> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let octets_max = self.size_octets_max.saturating_add(NOTES_OCTETS_MAX);
        let raw = match reading.raw(octets_max) {
            Ok(raw) => raw,
            Err(error) => {
                let failed = TransferError::passed_over(reading.path.display(), error);
                self.reading = None;
                return Err(failed);
            }
        };
        self.read += 1;
        let place = format!("{} at octet {}", reading.path.display(), raw.at);
        let item = if raw.length > octets_max as u64 {
            Err(TransferError::passed_over(&place, too_large(raw.length, self.size_octets_max)))
        } else if let Some(noted) = raw.octets.strip_prefix(FIELD) {
            let end = noted.iter().position(|octet| *octet == b'\n').map_or(noted.len(), |at| at + 1);
            let (line, rest) = noted.split_at(end);
            reading.ours(line, rest, &raw).map(Some)
        } else {
            Ok(reading.foreign(&raw))
        };
        reading.first = false;
        if raw.last {
            self.reading = None;
        }
        match item? {
            Some(item) if item.octets.len() > self.size_octets_max => {
                Err(TransferError::passed_over(place, too_large(item.octets.len() as u64, self.size_octets_max)))
            }
            item => Ok(item),
        }
    }
}

/// Octets beside a message that may stand before it: the note, and the flags for other programs.
const NOTES_OCTETS_MAX: usize = 3 * LINE_OCTETS_MAX;

impl Source for MboxSource {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        loop {
            if self.reading.is_none() && !self.advance()? {
                let missing = self.told.take().and_then(|told| manifest::missing(&self.root, told, self.read));
                return missing.map_or(Ok(None), Err);
            }
            if let Some(item) = self.message()? {
                return Ok(Some(item));
            }
        }
    }

    fn total(&self) -> Option<Total> {
        Some(Total { messages: self.sealed, octets: (self.octets > 0).then_some(self.octets) })
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.clone()
    }
}
