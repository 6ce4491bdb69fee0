//! Taking a snapshot.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    checkpoint::{Frozen, never_changes},
    manifest::{CONFIGURATION, FileEntry, Manifest, name_of},
    pace::{Pace, Rate},
    repository::{Missing, Repository, is_draft, new_file},
};
use crate::{
    config::Config,
    failure::{Failure, refused},
    runtime::clock,
};

/// Octets copied at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Octets at the end of a file that go into its mark. A table has its properties there, with an id of the process that
/// wrote it; a blob file the checksums of its last messages.
const TAIL_BYTES: u64 = 64 * 1024;
/// Folders in a data folder that a snapshot leaves out, and files: the store comes from the checkpoint.
const LEFT_OUT: [&str; 5] = ["store", "checkpoints", "rockdove.lock", "restoring", CONFIGURATION];

/// What taking a snapshot did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its name.
    pub name: String,
    /// Its files and their octets.
    pub files: (u64, u64),
    /// Of these, what was not in the repository before.
    pub copied: (u64, u64),
}

/// Takes a snapshot of the data folder of `config`, which was read from `config_path`, into the repository at `path`.
///
/// # Errors
/// With what to do. What was copied until then need not be copied again.
pub fn create(path: &Path, config_path: &Path, config: &Config, rate: Option<Rate>) -> Result<Created, Failure> {
    check_apart(path, &config.data_dir)?;
    let repository = Repository::open_or(path, Missing::Make)?;
    let _held = repository.for_adding()?;
    let failed = || refused(format_args!("cannot write to the repository {}", path.display()));
    repository.tidy().map_err(failed())?;
    let known = known(&repository).map_err(failed())?;
    let frozen = Frozen::take(config)?;
    let taken_unix_s = clock::now().unix_s;
    let sources = sources(&frozen, config_path, config)?;
    let mut copy = Copy {
        progress: open_progress(&repository).map_err(failed())?,
        repository: &repository,
        known,
        pace: Pace::new(rate),
        copied: (0, 0),
    };
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        let what = format!("cannot copy {} into the repository", source.path.display());
        files.push(copy.take(source).map_err(refused(what))?);
    }
    let copied = copy.copied;
    drop(frozen);
    let name = free_name(&repository, taken_unix_s).map_err(failed())?;
    let manifest = Manifest::new(name, taken_unix_s, &config.hostname, files);
    repository.publish(&manifest).map_err(failed())?;
    fs::remove_file(repository.place("progress")).map_err(failed())?;
    let files = (manifest.files.len() as u64, manifest.size_bytes());
    Ok(Created { name: manifest.name, files, copied })
}

/// A repository among what it is to keep would keep itself, and go with it.
fn check_apart(repository: &Path, data_dir: &Path) -> Result<(), Failure> {
    let Ok(data_dir) = fs::canonicalize(data_dir) else { return Ok(()) };
    let found = repository
        .ancestors()
        .find_map(|folder| fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).ok());
    if found.is_some_and(|folder| folder.starts_with(&data_dir)) {
        let data_dir = data_dir.display();
        return Err(Failure::Usage(format!("the repository is in data_dir {data_dir}: keep it on another disk")));
    }
    Ok(())
}

/// Two snapshots may begin in one second.
fn free_name(repository: &Repository, taken_unix_s: i64) -> io::Result<String> {
    let (names, name) = (repository.names()?, name_of(taken_unix_s));
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let free = [name.clone()].into_iter().chain(numbered).find(|name| !names.contains(name));
    free.ok_or_else(|| io::Error::other("no name is free"))
}

/// A file to be copied.
struct Source {
    path: PathBuf,
    /// Where it lies in the data folder.
    entry: String,
}

/// Everything in the data folder, its store as it is in the checkpoint, and the configuration.
fn sources(frozen: &Frozen, config_path: &Path, config: &Config) -> Result<Vec<Source>, Failure> {
    let mut all = Vec::new();
    let read = list(&frozen.store(), "store/", &mut all).and_then(|()| list(&config.data_dir, "", &mut all));
    read.map_err(refused(format_args!("cannot read {}", config.data_dir.display())))?;
    all.push(Source { path: config_path.to_owned(), entry: CONFIGURATION.to_owned() });
    all.sort_by(|a, b| a.entry.cmp(&b.entry));
    Ok(all)
}

/// Regular files only, in folders only: sockets have no content, and links may lead anywhere.
fn list(folder: &Path, prefix: &str, all: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if prefix.is_empty() && LEFT_OUT.contains(&&*name) || is_draft(&name) {
            continue;
        }
        let (kind, path, entry) = (entry.file_type()?, entry.path(), format!("{prefix}{name}"));
        if kind.is_dir() {
            list(&path, &format!("{entry}/"), all)?;
        } else if kind.is_file() {
            all.push(Source { path, entry });
        }
    }
    Ok(())
}

/// A line of the file `progress`.
#[derive(Serialize, Deserialize)]
struct Progress {
    mark: String,
    object: String,
}

fn open_progress(repository: &Repository) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(repository.place("progress"))
}

/// Marks of what the repository has, from its snapshots and from one that was not finished. A snapshot that cannot be
/// read only makes us copy more.
fn known(repository: &Repository) -> io::Result<BTreeMap<String, String>> {
    let mut known = BTreeMap::new();
    for name in repository.names()? {
        let files = repository.manifest(&name).map(|manifest| manifest.files).unwrap_or_default();
        known.extend(files.into_iter().filter_map(|file| Some((file.mark?, file.object))));
    }
    match File::open(repository.place("progress")) {
        Ok(progress) => {
            // The last line may be cut.
            let lines = BufReader::new(progress).lines().map_while(Result::ok);
            known.extend(lines.filter_map(|line| {
                let progress: Progress = serde_json::from_str(&line).ok()?;
                Some((progress.mark, progress.object))
            }));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(known)
}

struct Copy<'a> {
    repository: &'a Repository,
    known: BTreeMap<String, String>,
    progress: File,
    pace: Pace,
    copied: (u64, u64),
}

impl Copy<'_> {
    fn take(&mut self, source: Source) -> io::Result<FileEntry> {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&source.path)?;
        let never_changes = source.entry.starts_with("store/") && never_changes(&source.entry);
        let mark = if never_changes { Some(mark(&mut file, &source.entry)?) } else { None };
        if let Some((mark, object)) = mark.as_ref().and_then(|mark| self.known.get_key_value(mark)) {
            let size_bytes = file.metadata()?.len();
            if self.repository.has(object, size_bytes) {
                let (mark, object) = (Some(mark.clone()), object.clone());
                return Ok(FileEntry { path: source.entry, size_bytes, object, mark });
            }
        }
        let (object, size_bytes) = self.copy(&mut file)?;
        if let Some(mark) = &mark {
            let mut line = serde_json::to_vec(&Progress { mark: mark.clone(), object: object.clone() })?;
            line.push(b'\n');
            self.progress.write_all(&line)?;
        }
        Ok(FileEntry { path: source.entry, size_bytes, object, mark })
    }

    /// Copies a file to the object that its content names.
    fn copy(&mut self, file: &mut File) -> io::Result<(String, u64)> {
        let draft = self.repository.place("drafts").join("object");
        let mut output = new_file(&draft)?;
        let (hash, size_bytes) = copy_hashed(file, &mut output, &mut |bytes| self.pace.went(bytes))?;
        let object = hash.to_hex().to_string();
        if self.repository.has(&object, size_bytes) {
            fs::remove_file(&draft)?;
            return Ok((object, size_bytes));
        }
        output.sync_all()?;
        self.repository.adopt(&draft, &object)?;
        self.copied = (self.copied.0 + 1, self.copied.1 + size_bytes);
        Ok((object, size_bytes))
    }
}

/// Copies to the end; the BLAKE3 of what was copied, and its octets.
pub(super) fn copy_hashed(
    input: &mut impl Read,
    output: &mut impl Write,
    went: &mut dyn FnMut(usize),
) -> io::Result<(blake3::Hash, u64)> {
    let (mut hasher, mut size_bytes, mut chunk) = (blake3::Hasher::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) => return Ok((hasher.finalize(), size_bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&chunk[..count]);
        output.write_all(&chunk[..count])?;
        size_bytes += count as u64;
        went(count);
    }
}

/// Tells a file that never changes from every other: by its name, its size, the moment it was written last and its end.
/// The name alone would not do: a store that was restored goes on with the same numbers as the one that was lost.
fn mark(file: &mut File, entry: &str) -> io::Result<String> {
    let facts = file.metadata()?;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(facts.len().saturating_sub(TAIL_BYTES)))?;
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{entry} {} {} {} ", facts.len(), facts.mtime(), facts.mtime_nsec()).as_bytes());
    hasher.update(&tail);
    Ok(hasher.finalize().to_hex().to_string())
}
