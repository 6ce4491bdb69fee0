//! What is being written, until it is whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::TransferError;

/// A file or folder beside the place it will have. It is locked, and removed when it is dropped before it is finished.
/// What a killed export left behind is removed by the next one.
pub(super) struct Draft {
    place: PathBuf,
    path: PathBuf,
    lock: File,
    finished: bool,
}

impl Draft {
    /// A folder.
    pub(super) fn folder(place: &Path) -> Result<Self, TransferError> {
        let path = free(place)?;
        make_folder(&path).map_err(TransferError::at(&path))?;
        let lock = File::open(&path).map_err(TransferError::at(&path))?;
        Self::locked(place, path, lock)
    }

    /// A file.
    pub(super) fn file(place: &Path) -> Result<(Self, File), TransferError> {
        let path = free(place)?;
        let file = new_file(&path).map_err(TransferError::at(&path))?;
        let lock = file.try_clone().map_err(TransferError::at(&path))?;
        Ok((Self::locked(place, path, lock)?, file))
    }

    fn locked(place: &Path, path: PathBuf, lock: File) -> Result<Self, TransferError> {
        lock.try_lock().map_err(|_| in_use(&path))?;
        Ok(Self { place: place.to_owned(), path, lock, finished: false })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs everything in it and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), TransferError> {
        sync_all(&self.path)?;
        refuse_existing(&self.place)?;
        fs::rename(&self.path, &self.place).map_err(TransferError::at(&self.place))?;
        self.finished = true;
        let around = around(&self.place);
        File::open(around).and_then(|folder| folder.sync_all()).map_err(TransferError::at(around))?;
        self.lock.unlock().map_err(TransferError::at(&self.place))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // If it cannot be removed now, the next export to this place says why.
            drop(remove(&self.path));
        }
    }
}

fn around(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn in_use(path: &Path) -> TransferError {
    TransferError::stopped(path.display(), "another export is writing to this place")
}

fn refuse_existing(place: &Path) -> Result<(), TransferError> {
    match fs::symlink_metadata(place) {
        Ok(_) => Err(TransferError::stopped(place.display(), "it exists already; name another place, or remove it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(TransferError::at(place)(error)),
    }
}

/// The name of a draft, once nothing has it.
fn free(place: &Path) -> Result<PathBuf, TransferError> {
    refuse_existing(place)?;
    let name =
        place.file_name().ok_or_else(|| TransferError::stopped(place.display(), "this is no name for an export"))?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(".rockdove-export");
    let path = around(place).join(draft);
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
        Err(error) => return Err(TransferError::at(&path)(error)),
        Ok(old) => {
            old.try_lock().map_err(|_| in_use(&path))?;
            remove(&path).map_err(TransferError::at(&path))?;
        }
    }
    Ok(path)
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Makes a folder, and those above it, for its owner alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A file that is not there yet, for its owner alone.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Syncs everything below.
fn sync_all(path: &Path) -> Result<(), TransferError> {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let file = File::open(&path).map_err(TransferError::at(&path))?;
        if file.metadata().map_err(TransferError::at(&path))?.is_dir() {
            for entry in fs::read_dir(&path).map_err(TransferError::at(&path))? {
                let entry = entry.map_err(TransferError::at(&path))?.path();
                if entry.is_dir() {
                    waiting.push(entry);
                } else {
                    File::open(&entry).and_then(|file| file.sync_all()).map_err(TransferError::at(&entry))?;
                }
            }
        }
        file.sync_all().map_err(TransferError::at(&path))?;
    }
    Ok(())
}
