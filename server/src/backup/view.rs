//! A snapshot read where it lies: a store made of links into the repository.

use std::{
    fs::{self},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use rockdove_engine::{
    Engine, EngineOptions,
    kv::rocks::{RocksKv, RocksOptions},
};

use super::{
    manifest::Manifest,
    repository::{Repository, make_folder},
};
use crate::{
    failure::{Failure, refused},
    runtime::clock,
};

/// The store of a snapshot, open for reading. Nothing can be changed through it, and nothing of it stays.
pub struct View {
    /// The engine on it; every command is refused.
    pub engine: Arc<Engine>,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot be removed; the next backup does");
        }
    }
}

impl View {
    /// Opens the store of a snapshot. The caller has the right to read the repository as long as this lives.
    ///
    /// # Errors
    /// When an object is missing, or the store cannot be opened.
    pub(super) fn open(repository: &Repository, manifest: &Manifest) -> Result<Self, Failure> {
        let failed = || refused("cannot make a view of the snapshot");
        let name = blake3::hash(&clock::seed().map_err(failed())?).to_hex()[..16].to_owned();
        let folder = Folder(repository.place("views").join(name));
        link_all(repository, manifest, &folder.0).map_err(failed())?;
        let engine = open_engine(&folder.0, RocksKv::open_for_reading)?;
        Ok(Self { engine, _folder: folder })
    }
}

fn link_all(repository: &Repository, manifest: &Manifest, folder: &Path) -> io::Result<()> {
    make_folder(folder)?;
    for file in &manifest.files {
        let Some(name) = file.path.strip_prefix("store/") else { continue };
        if !repository.has(&file.object, file.size_bytes) {
            return Err(io::Error::other(format!("{} (object {}) is missing", file.path, file.object)));
        }
        let place = folder.join(name);
        make_folder(place.parent().unwrap_or(folder))?;
        symlink(fs::canonicalize(repository.object(&file.object))?, place)?;
    }
    Ok(())
}

/// The engine on a store that has been written before.
pub(super) fn open_engine<E: ToString>(
    store: &Path,
    open: impl FnOnce(&Path, &RocksOptions) -> Result<RocksKv, E>,
) -> Result<Arc<Engine>, Failure> {
    let kv = open(store, &RocksOptions::default()).map_err(|error| Failure::Refused(error.to_string()))?;
    let opened = Engine::open(Arc::new(kv), EngineOptions::default());
    opened.map_err(|error| Failure::Refused(format!("cannot open the store of the snapshot: {error}")))
}
