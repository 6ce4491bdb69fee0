//! Maildir++ folders.
//!
//! ```text
//! DEST/cur/0000000001.rockdove,S=74:2,FS     the inbox
//! DEST/.Work.2026/cur/...                    other mailboxes; names in modified UTF-7
//! DEST/.Work.2026/dovecot-keywords           which letter is which keyword
//! DEST/.Work.2026/rockdove-maildir.jsonl     {"rockdove_export":1}, and a line for each message
//! ```
//! A file has the octets of its message, is changed last at its internal date, and has its flags in its name. What that
//! cannot say (zones, more than 26 keywords, odd names) is in the list. Flags that another program changed in the name of
//! a file are taken from there; a file that is not in the list is a stranger's, and its lines get CRLF.
//!
//! Maildirs of Dovecot, Courier and mutt are read: folders with a leading dot, and folders in folders.

use std::{
    collections::BTreeMap,
    fs::{File, FileTimes, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rockdove_imap::grammar::utf7;
use rockdove_mail::Keyword;

use super::{
    InternalDate, Item, Source, SourceMailbox, Target, Total, TransferError,
    draft::{self, Draft},
    lines::Lines,
    listed,
    manifest::{self, Head, LINE_OCTETS_MAX, Line, VERSION},
    names::{self, Folders},
    too_large, walk, with_crlf,
};

/// The list of a folder.
const LIST: &str = "rockdove-maildir.jsonl";
/// Dovecot's list of keywords, a number and a name in a line.
const KEYWORDS: &str = "dovecot-keywords";
/// Keywords that have a letter, `a` to `z`.
const LETTERS: usize = 26;
/// Octets of `dovecot-keywords` that are read.
const KEYWORDS_OCTETS_MAX: u64 = 64 << 10;
/// Letters of flags, in the order in which they stand in a name.
const FLAGS: [(char, &str); 6] = [
    ('D', "\\Draft"),
    ('F', "\\Flagged"),
    ('P', "$Forwarded"),
    ('R', "\\Answered"),
    ('S', "\\Seen"),
    ('T', "\\Deleted"),
];

/// The letters of flags, and of keywords that have one.
fn letters(flags: &[String], keywords: &[String]) -> String {
    let has = |name: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(name));
    let system = FLAGS.iter().filter(|(_, name)| has(name)).map(|(letter, _)| *letter);
    system
        .chain(('a'..='z').zip(keywords).filter(|(_, name)| !name.is_empty() && has(name)).map(|(letter, _)| letter))
        .collect()
}

/// The flags of letters.
fn flags(letters: &str, keywords: &[String]) -> Vec<String> {
    let named = FLAGS.iter().copied().chain(('a'..='z').zip(keywords.iter().map(String::as_str)));
    named
        .filter(|(letter, name)| letters.contains(*letter) && !name.is_empty())
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// A keyword that can have a letter.
fn is_lettered(flag: &str) -> bool {
    Keyword::new(flag).is_some() && !FLAGS.iter().any(|(_, name)| name.eq_ignore_ascii_case(flag))
}

/// Writes a Maildir++.
pub struct MaildirTarget {
    draft: Draft,
    folders: Folders,
    /// Keywords with a letter, by folder.
    keywords: BTreeMap<PathBuf, Vec<String>>,
    open: Option<(PathBuf, BufWriter<File>)>,
    messages: u64,
}

impl MaildirTarget {
    /// Begins an export to a folder that is not there yet.
    ///
    /// # Errors
    /// When it is there, or cannot be written.
    pub fn create(dest: &Path) -> Result<Self, TransferError> {
        let draft = Draft::folder(dest)?;
        let (folders, keywords) = (Folders::default(), BTreeMap::new());
        let target = Self { draft, folders, keywords, open: None, messages: 0 };
        target.make(target.draft.path())?;
        Ok(target)
    }

    /// Makes a folder that is a Maildir.
    fn make(&self, folder: &Path) -> Result<(), TransferError> {
        for part in ["cur", "new", "tmp"] {
            draft::make_folder(&folder.join(part)).map_err(TransferError::at(folder))?;
        }
        if folder != self.draft.path() {
            let mark = folder.join("maildirfolder");
            draft::new_file(&mark).map_err(TransferError::at(&mark))?;
        }
        Ok(())
    }

    fn folder(&mut self, mailbox: &[String]) -> PathBuf {
        if mailbox == ["INBOX"] {
            return self.draft.path().to_owned();
        }
        let levels: Vec<String> = mailbox.iter().map(|level| names::escape(level).replace('.', "%2E")).collect();
        let mut wish = Vec::new();
        utf7::encode(&mut wish, &levels.join("."));
        let wish = if levels.iter().any(String::is_empty) {
            String::new()
        } else {
            String::from_utf8(wish).unwrap_or_default()
        };
        self.draft.path().join(format!(".{}", self.folders.flat(mailbox, &wish).path))
    }

    /// Adds a line to the list of a folder.
    fn list(&mut self, folder: &Path, line: &[u8]) -> Result<(), TransferError> {
        let path = folder.join(LIST);
        if self.open.as_ref().is_none_or(|(open, _)| *open != path) {
            self.close()?;
            let is_new = !path.exists();
            if is_new && folder != self.draft.path() {
                self.make(folder)?;
            }
            let file = OpenOptions::new().append(true).create(true).open(&path).map_err(TransferError::at(&path))?;
            let mut file = BufWriter::new(file);
            if is_new {
                let head = manifest::encode(&Head { rockdove_export: VERSION }).unwrap_or_default();
                file.write_all(&head).map_err(TransferError::at(&path))?;
            }
            self.open = Some((path.clone(), file));
        }
        self.open.as_mut().map_or(Ok(()), |(_, file)| file.write_all(line)).map_err(TransferError::at(&path))
    }

    fn close(&mut self) -> Result<(), TransferError> {
        let Some((path, mut file)) = self.open.take() else { return Ok(()) };
        file.flush().map_err(TransferError::at(&path))
    }
}

impl Target for MaildirTarget {
    fn mailboxes(&mut self, all: &[SourceMailbox]) -> Result<(), TransferError> {
        listed::write(self.draft.path(), all)
    }

    fn put(&mut self, item: &Item) -> Result<(), TransferError> {
        let folder = self.folder(&item.mailbox);
        let base = format!("{:010}.rockdove,S={}", self.messages + 1, item.octets.len());
        let line = manifest::encode(&Line::of(item, base.clone()));
        let line = line.map_err(|why| TransferError::passed_over(folder.display(), why))?;
        self.list(&folder, &line)?;
        let keywords = self.keywords.entry(folder.clone()).or_default();
        for flag in item.flags.iter().filter(|flag| is_lettered(flag)) {
            if keywords.len() < LETTERS && !keywords.iter().any(|known| known.eq_ignore_ascii_case(flag)) {
                keywords.push(flag.clone());
            }
        }
        let path = folder.join("cur").join(format!("{base}:2,{}", letters(&item.flags, keywords)));
        let mut file = draft::new_file(&path).map_err(TransferError::at(&path))?;
        file.write_all(&item.octets).map_err(TransferError::at(&path))?;
        let since = Duration::from_secs(u64::try_from(item.internal_date.unix_s).unwrap_or(0));
        if let Some(moment) = SystemTime::UNIX_EPOCH.checked_add(since) {
            // A file system that cannot write this date goes without; the list has it.
            drop(file.set_times(FileTimes::new().set_modified(moment)));
        }
        self.messages += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), TransferError> {
        self.close()?;
        for (folder, keywords) in self.keywords.iter().filter(|(_, keywords)| !keywords.is_empty()) {
            let mut lines = String::new();
            for (at, name) in keywords.iter().enumerate() {
                lines.extend([at.to_string().as_str(), " ", name, "\n"]);
            }
            let path = folder.join(KEYWORDS);
            let written = draft::new_file(&path).and_then(|mut file| file.write_all(lines.as_bytes()));
            written.map_err(TransferError::at(&path))?;
        }
        manifest::seal(self.draft.path(), self.messages)?;
        self.draft.finish()
    }
}

/// Reads a Maildir, a Maildir++, or a folder of Maildirs.
pub struct MaildirSource {
    mailboxes: Vec<SourceMailbox>,
    size_octets_max: usize,
    root: PathBuf,
    sealed: Option<u64>,
    told: Option<u64>,
    read: u64,
    waiting: Vec<(Vec<String>, PathBuf)>,
    reading: Option<Reading>,
}

/// A folder that is being read.
struct Reading {
    mailbox: Vec<String>,
    keywords: Vec<String>,
    list: Option<(PathBuf, Lines<BufReader<File>>)>,
    /// The line that was read last.
    line: Option<Line>,
    /// Files that come, the next one last; whether they are in `new`.
    files: Vec<(bool, walk::Entry)>,
}

impl MaildirSource {
    /// Opens a folder. Messages of more than `size_octets_max` octets are passed over.
    ///
    /// # Errors
    /// When it cannot be read, or is an export of ours that is of another version.
    pub fn open(folder: &Path, size_octets_max: usize) -> Result<Self, TransferError> {
        let sealed = manifest::sealed(folder)?;
        let (root, waiting) = (folder.to_owned(), vec![(Vec::new(), folder.to_owned())]);
        Ok(Self {
            mailboxes: listed::read(folder)?,
            size_octets_max,
            root,
            sealed,
            told: sealed,
            read: 0,
            waiting,
            reading: None,
        })
    }

    /// Opens the next folder; false when there is none.
    fn advance(&mut self) -> Result<bool, TransferError> {
        let Some((mailbox, folder)) = self.waiting.pop() else { return Ok(false) };
        let all = walk::entries(&folder)?;
        let has = |name: &str| all.iter().any(|entry| entry.name == name && entry.is_folder);
        if has("cur") {
            let mailbox = if mailbox.is_empty() { vec!["INBOX".to_owned()] } else { mailbox.clone() };
            self.reading = Some(Reading::open(mailbox, &folder)?);
        }
        for entry in all.into_iter().filter(|entry| entry.is_folder).rev() {
            let name = utf7::decode(entry.name.as_bytes()).unwrap_or_default();
            let levels: Vec<String> = match name.strip_prefix('.') {
                Some(flat) => flat.split('.').map(|level| self.level(level)).collect(),
                None if ["cur", "new", "tmp"].contains(&&*name) => continue,
                None => vec![self.level(&name)],
            };
            let is_maildir = entry.path.join("cur").is_dir();
            if (is_maildir || !name.starts_with('.')) && !levels.iter().any(String::is_empty) {
                self.waiting.push((mailbox.iter().cloned().chain(levels).collect(), entry.path));
            }
        }
        Ok(true)
    }

    /// A level of a name. Dovecot writes a dot in it as `\2e`.
    fn level(&self, level: &str) -> String {
        if self.sealed.is_none() {
            return level.replace("\\2e", ".").replace("\\2f", "_");
        }
        // Of a name that was cut to nothing the list knows more.
        Some(names::unescape(level)).filter(|level| !level.is_empty()).unwrap_or_else(|| level.to_owned())
    }
}

/// The keywords of a folder by their letters.
fn keywords(folder: &Path) -> Vec<String> {
    let mut all = vec![String::new(); LETTERS];
    let Ok(file) = walk::open(&folder.join(KEYWORDS)) else { return all };
    for line in BufReader::new(file.take(KEYWORDS_OCTETS_MAX)).lines().map_while(Result::ok) {
        let Some((number, name)) = line.split_once(' ') else { continue };
        let place = number.parse().ok().and_then(|at: usize| all.get_mut(at));
        if let Some(place) = place.filter(|_| Keyword::new(name).is_some()) {
            name.clone_into(place);
        }
    }
    all
}

impl Reading {
    /// Opens a folder.
    fn open(mailbox: Vec<String>, folder: &Path) -> Result<Self, TransferError> {
        let mut files = Vec::new();
        for (is_new, part) in [(true, "new"), (false, "cur")] {
            let part = folder.join(part);
            // Whatever is no folder is no part of a Maildir, and a link leads elsewhere.
            if std::fs::symlink_metadata(&part).is_ok_and(|facts| facts.is_dir()) {
                let found = walk::entries(&part)?.into_iter().rev().filter(|entry| !entry.is_folder);
                files.extend(found.filter(|entry| !entry.name.starts_with('.')).map(|entry| (is_new, entry)));
            }
        }
        let path = folder.join(LIST);
        let list = if path.exists() {
            let file = walk::open(&path).map_err(TransferError::at(&path))?;
            let (mut lines, mut line) = (Lines::new(BufReader::new(file)), Vec::new());
            lines.next(&mut line, LINE_OCTETS_MAX).map_err(TransferError::at(&path))?;
            manifest::check(&manifest::decode(&line, path.display())?, path.display())?;
            Some((path, lines))
        } else {
            None
        };
        Ok(Self { mailbox, keywords: keywords(folder), list, line: None, files })
    }

    /// The line of a file in the list, which has the files in their order.
    fn line(&mut self, base: &str) -> Result<Option<Line>, TransferError> {
        while self.line.as_ref().is_none_or(|line| line.file.as_str() < base) {
            let Some((path, lines)) = &mut self.list else { break };
            let mut line = Vec::new();
            if lines.next(&mut line, LINE_OCTETS_MAX).map_err(TransferError::at(path))? == 0 {
                self.list = None;
                break;
            }
            self.line = Some(manifest::decode(&line, format!("{} before octet {}", path.display(), lines.offset()))?);
        }
        Ok(self.line.take_if(|line| line.file == base))
    }

    fn message(&mut self, is_new: bool, entry: &walk::Entry, size_octets_max: usize) -> Result<Item, TransferError> {
        let (base, letters) = entry.name.split_once(":2,").unwrap_or((&entry.name, ""));
        let line = self.line(base)?;
        let (file, octets) = walk::message(&entry.path, size_octets_max)?;
        let letters = if is_new { "" } else { letters };
        let named = flags(letters, &self.keywords);
        if let Some(line) = line {
            let mut item = line.with(octets, entry.path.display())?;
            let named_by_letter: Vec<&str> =
                FLAGS.iter().map(|(_, name)| *name).chain(self.keywords.iter().map(String::as_str)).collect();
            let lettered = |flag: &String| named_by_letter.iter().any(|name| name.eq_ignore_ascii_case(flag));
            if self::letters(&item.flags, &self.keywords) != self::letters(&named, &self.keywords) {
                item.flags.retain(|flag| !lettered(flag));
                item.flags.extend(named);
            }
            return Ok(item);
        }
        let internal_date = InternalDate { unix_s: walk::modified(&file), offset_minutes: 0 };
        let octets = with_crlf(&octets);
        if octets.len() > size_octets_max {
            return Err(TransferError::passed_over(
                entry.path.display(),
                too_large(octets.len() as u64, size_octets_max),
            ));
        }
        Ok(Item { mailbox: self.mailbox.clone(), flags: named, internal_date, octets })
    }
}

impl Source for MaildirSource {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        loop {
            if let Some(reading) = &mut self.reading {
                if let Some((is_new, entry)) = reading.files.pop() {
                    self.read += 1;
                    return reading.message(is_new, &entry, self.size_octets_max).map(Some);
                }
                self.reading = None;
            }
            if !self.advance()? {
                let missing = self.told.take().and_then(|told| manifest::missing(&self.root, told, self.read));
                return missing.map_or(Ok(None), Err);
            }
        }
    }

    fn total(&self) -> Option<Total> {
        self.sealed.map(|messages| Total { messages: Some(messages), octets: None })
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.clone()
    }
}
