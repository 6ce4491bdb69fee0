//! Reading folders of strangers: no link is followed, nothing but folders and regular files is opened.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use super::{TransferError, too_large};

/// What lies in a folder.
pub(super) struct Entry {
    /// Its name; what is not UTF-8 in it is replaced.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
}

/// The folders and regular files in a folder, by name.
pub(super) fn entries(folder: &Path) -> Result<Vec<Entry>, TransferError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(TransferError::at(folder))? {
        let entry = entry.map_err(TransferError::at(folder))?;
        let kind = entry.file_type().map_err(TransferError::at(&entry.path()))?;
        if kind.is_dir() || kind.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            all.push(Entry { name, path: entry.path(), is_folder: kind.is_dir() });
        }
    }
    all.sort_unstable_by(|one, other| one.path.file_name().cmp(&other.path.file_name()));
    Ok(all)
}

/// Opens a regular file; a link, a pipe and a device are refused.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("this is not a regular file")) }
}

/// A whole message. What is wrong with it concerns it alone.
pub(super) fn message(path: &Path, size_octets_max: usize) -> Result<(File, Vec<u8>), TransferError> {
    let failed = |error: io::Error| TransferError::passed_over(path.display(), error);
    let mut file = open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > size_octets_max as u64 {
        return Err(TransferError::passed_over(path.display(), too_large(size, size_octets_max)));
    }
    let mut octets = Vec::new();
    (&mut file).take(size_octets_max as u64 + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() > size_octets_max {
        return Err(TransferError::passed_over(path.display(), too_large(octets.len() as u64, size_octets_max)));
    }
    Ok((file, octets))
}

/// A file that a list names, if that is one within the folder and no link leads there.
pub(super) fn within(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    let mut parts = Path::new(name).components().peekable();
    parts.peek()?;
    for part in parts {
        let Component::Normal(part) = part else { return None };
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_symlink()) {
            return None;
        }
    }
    Some(path)
}

/// When a file was changed last; seconds since 1970.
pub(super) fn modified(file: &File) -> i64 {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map_or(0, |facts| facts.mtime())
}
