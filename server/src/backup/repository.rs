//! The folder that keeps backups: objects, manifests, locks. Everything in it belongs to its owner alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::manifest::{Manifest, is_object};
use crate::failure::{Failure, refused};

/// What the file `format` says.
const FORMAT: &str = "rockdove backup 1\n";
/// Octets of a manifest; a store of a million files has fewer.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// A repository.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

/// A lock on a repository, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _files: Vec<File>,
}

/// Whether a repository may be made where none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

impl Repository {
    /// Opens a repository.
    ///
    /// # Errors
    /// When there is none, or it is of another version.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_or(path, Missing::Refuse)
    }

    pub(super) fn open_or(path: &Path, missing: Missing) -> Result<Self, Failure> {
        let shown = path.display();
        let repository = Self { path: path.to_owned() };
        match fs::read_to_string(path.join("format")) {
            Ok(format) if format == FORMAT => Ok(repository),
            Ok(_) => Err(Failure::Refused(format!("the repository {shown} was made by a newer version of Rockdove"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Make => {
                repository.make().map_err(refused(format_args!("cannot make the repository {shown}")))?;
                Ok(repository)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::Refused(format!("{shown} is not a repository; `rockdove backup create` makes one")))
            }
            Err(error) => Err(refused(format_args!("cannot use the repository {shown}"))(error)),
        }
    }

    /// Makes an empty one; the file `format` comes last. A folder with anything else in it is left alone.
    fn make(&self) -> io::Result<()> {
        make_folder(&self.path)?;
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let ours = ["objects", "snapshots", "damaged", "drafts", "views", "format.draft", "lost+found"];
            if !ours.iter().any(|known| name == **known) {
                return Err(io::Error::other(format!(
                    "there is {} in it already; name a folder that is empty or does not exist",
                    name.to_string_lossy()
                )));
            }
        }
        for folder in ["objects", "snapshots", "damaged", "drafts", "views"] {
            make_folder(&self.path.join(folder))?;
        }
        crate::data_dir::write_private(&self.path.join("format"), FORMAT.as_bytes())
    }

    /// A place in the repository.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The right to add. One at a time; others may read.
    pub(super) fn for_adding(&self) -> Result<Held, Failure> {
        let writing = self.lock("writing")?;
        self.take(&writing, writing.try_lock())?;
        Ok(Held { _files: vec![writing] })
    }

    /// The right to read, beside others who do and one who adds.
    pub(super) fn for_reading(&self) -> Result<Held, Failure> {
        let reading = self.lock("reading")?;
        self.take(&reading, reading.try_lock_shared())?;
        Ok(Held { _files: vec![reading] })
    }

    /// The right to remove, alone.
    pub(super) fn for_removing(&self) -> Result<Held, Failure> {
        let (writing, reading) = (self.lock("writing")?, self.lock("reading")?);
        self.take(&writing, writing.try_lock())?;
        self.take(&reading, reading.try_lock())?;
        Ok(Held { _files: vec![writing, reading] })
    }

    fn lock(&self, name: &str) -> Result<File, Failure> {
        let path = self.place(name);
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        // A repository on a medium that cannot be written is still good to read from.
        let lock = lock.or_else(|_| File::open(&path));
        lock.map_err(refused(format_args!("cannot use {}", path.display())))
    }

    fn take(&self, _lock: &File, taken: Result<(), TryLockError>) -> Result<(), Failure> {
        let shown = self.path.display();
        match taken {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(Failure::Refused(format!(
                "another command is using the repository {shown}; wait for it to end, or stop it"
            ))),
            Err(TryLockError::Error(error)) => Err(refused(format_args!("cannot lock the repository {shown}"))(error)),
        }
    }

    /// Removes what commands that were killed left behind. Call it with the right to add.
    pub(super) fn tidy(&self) -> io::Result<()> {
        empty(&self.place("drafts"))?;
        let reading = OpenOptions::new().read(true).write(true).open(self.place("reading"));
        // Nobody reads: then nobody's view is in use.
        if reading.is_ok_and(|reading| reading.try_lock().is_ok()) {
            empty(&self.place("views"))?;
        }
        Ok(())
    }

    /// Names of all snapshots, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.place("snapshots"))? {
            if let Ok(name) = entry?.file_name().into_string()
                && !is_draft(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When there is none of this name, or it is damaged: in words.
    pub fn manifest(&self, name: &str) -> Result<Manifest, String> {
        let path = self.place("snapshots").join(name);
        if name.contains('/') || !path.is_file() {
            return Err(format!("there is no snapshot {name}; `rockdove backup list` shows what there is"));
        }
        let failed = |error: io::Error| format!("cannot read snapshot {name}: {error}");
        if fs::metadata(&path).map_err(failed)?.len() > MANIFEST_BYTES_MAX {
            return Err(format!("snapshot {name} is damaged: it has more than {MANIFEST_BYTES_MAX} octets"));
        }
        Manifest::decode(name, &fs::read(&path).map_err(failed)?)
    }

    /// The manifest of this name, or the newest.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn chosen(&self, name: Option<&str>) -> Result<Manifest, Failure> {
        let name = if let Some(name) = name {
            name.to_owned()
        } else {
            let names = self.names().map_err(refused("cannot read the repository"))?;
            names.last().cloned().ok_or_else(|| Failure::Refused("the repository has no snapshot".to_owned()))?
        };
        self.manifest(&name).map_err(Failure::Refused)
    }

    /// Where an object lies.
    pub(super) fn object(&self, object: &str) -> PathBuf {
        let folder = object.get(..2).unwrap_or_default();
        self.path.join("objects").join(folder).join(object)
    }

    /// Whether an object of this size is there.
    pub(super) fn has(&self, object: &str, size_bytes: u64) -> bool {
        fs::symlink_metadata(self.object(object)).is_ok_and(|facts| facts.is_file() && facts.len() == size_bytes)
    }

    /// Puts a finished, synced draft in its place as an object.
    pub(super) fn adopt(&self, draft: &Path, object: &str) -> io::Result<()> {
        let place = self.object(object);
        let folder = place.parent().unwrap_or(&self.path);
        if !folder.is_dir() {
            make_folder(folder)?;
            sync_folder(&self.place("objects"))?;
        }
        fs::rename(draft, &place)?;
        sync_folder(folder)
    }

    /// Every object that is there.
    pub(super) fn objects(&self) -> io::Result<Vec<String>> {
        let mut all = Vec::new();
        for folder in fs::read_dir(self.place("objects"))? {
            let folder = folder?.path();
            if folder.is_dir() {
                for entry in fs::read_dir(folder)? {
                    all.extend(entry?.file_name().into_string().ok().filter(|name| is_object(name)));
                }
            }
        }
        Ok(all)
    }

    /// Takes an object that is not what its name says out of the way, so that the next snapshot writes it again.
    pub(super) fn set_aside(&self, object: &str) -> io::Result<()> {
        let place = self.object(object);
        fs::rename(&place, self.place("damaged").join(object))?;
        sync_folder(place.parent().unwrap_or(&self.path))
    }

    /// Writes a manifest; the snapshot is there when this returns.
    pub(super) fn publish(&self, manifest: &Manifest) -> io::Result<()> {
        let draft = self.place("drafts").join("manifest");
        write_synced(&draft, &manifest.encode()?)?;
        fs::rename(&draft, self.place("snapshots").join(&manifest.name))?;
        sync_folder(&self.place("snapshots"))
    }
}

/// Whether a file is one that was never finished.
pub(super) fn is_draft(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "draft")
}

/// Makes a folder, and those above it, for its owner alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the names in a folder last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A new file for its owner alone, in place of whatever was there.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write_synced(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = new_file(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

/// Removes everything in a folder.
pub(super) fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}
