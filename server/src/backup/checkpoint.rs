//! A moment of the store, held beside it while it is copied.
//!
//! ```text
//! DATA_DIR/checkpoints/NAME/
//!   store/   the store: tables and blob files are further names of its own, the log is a copy
//!   hold     locked by whoever copies; without a lock the folder is left over and goes
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rockdove_engine::kv::rocks::RocksKv;

use super::repository::make_folder;
use crate::{
    admin::{Reach, Reply, Request},
    config::Config,
    data_dir::DataDir,
    failure::{Failure, refused},
    runtime::{clock, process},
};

/// Files of a store that say nothing about its content.
const PASSING: [&str; 2] = ["LOCK", "LOG"];

/// The folder of all checkpoints.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("checkpoints")
}

/// A name that no other checkpoint has.
fn fresh_name() -> io::Result<String> {
    Ok(blake3::hash(&clock::seed()?).to_hex()[..16].to_owned())
}

/// Checkpoints of a server, seen from the server.
#[derive(Debug)]
pub struct Checkpoints {
    data_dir: PathBuf,
    /// Nobody held them at the last look. What is young may not be held yet.
    unheld: Mutex<BTreeSet<String>>,
}

impl Checkpoints {
    /// Of the server that has this data folder. What is left over from its last life goes now.
    pub fn new(data_dir: &DataDir) -> Self {
        let data_dir = data_dir.path().to_owned();
        let checkpoints = Self { unheld: Mutex::new(names(&data_dir).into_iter().collect()), data_dir };
        checkpoints.sweep();
        checkpoints
    }

    /// Makes one; its name. It stays for a minute or two, and as long as somebody holds it.
    ///
    /// # Errors
    /// When the store refuses: the disk is full or fails.
    pub fn make(&self, kv: &RocksKv) -> Result<String, String> {
        let failed = |error: io::Error| format!("cannot make a checkpoint: {error}");
        let name = fresh_name().map_err(failed)?;
        let path = folder(&self.data_dir).join(&name);
        make_folder(&path).map_err(failed)?;
        // Held by us until it is there, however long that takes.
        let held = new_hold(&path).and_then(|hold| hold.try_lock().map(|()| hold).map_err(Into::into));
        let made = held.map_err(failed).and_then(|hold| {
            kv.checkpoint(&path.join("store")).map_err(|error| error.to_string())?;
            Ok(hold)
        });
        match made {
            Ok(hold) => drop(hold),
            Err(why) => {
                remove(&path);
                return Err(why);
            }
        }
        tracing::info!(checkpoint = name, "a backup begins");
        Ok(name)
    }

    /// Removes those that nobody has held at two looks in a row.
    pub fn sweep(&self) {
        let mut unheld = self.unheld.lock().unwrap_or_else(PoisonError::into_inner);
        let mut still = BTreeSet::new();
        for name in names(&self.data_dir) {
            let path = folder(&self.data_dir).join(&name);
            let Holder::Nobody { .. } = holder(&path) else { continue };
            if unheld.contains(&name) {
                tracing::info!(checkpoint = name, "a backup did not end well; its checkpoint is removed");
                remove(&path);
            } else {
                still.insert(name);
            }
        }
        *unheld = still;
    }
}

fn names(data_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder(data_dir)) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn new_hold(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path.join("hold"))
}

/// Who has a checkpoint.
enum Holder {
    /// Another process, or it cannot be told.
    Another,
    /// Nobody: it has its lock file, locked by us now, or was never finished and has none.
    Nobody { _hold: Option<File> },
}

fn holder(path: &Path) -> Holder {
    match open_hold(path) {
        Ok(hold) if hold.try_lock().is_ok() => Holder::Nobody { _hold: Some(hold) },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Holder::Nobody { _hold: None },
        _ => Holder::Another,
    }
}

fn open_hold(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path.join("hold"))
}

/// Says why when it does not go; the next look tries again.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(%error, path = %path.display(), "a checkpoint cannot be removed and keeps disk space");
    }
}

/// A checkpoint in our hands. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Frozen {
    path: PathBuf,
    _hold: File,
}

impl Frozen {
    /// Has the running server make one, or makes one of the store at rest.
    pub(super) fn take(config: &Config) -> Result<Self, Failure> {
        let data_dir = &config.data_dir;
        match Reach::find(config)? {
            Reach::Server(mut link) => {
                let mut name = None;
                link.ask(Request::Checkpoint, &mut |reply| {
                    if let Reply::Checkpoint(made) = reply {
                        name = Some(made);
                    }
                    Ok(())
                })?;
                let name = name.filter(|name| name.bytes().all(|octet| octet.is_ascii_alphanumeric()));
                let name = name.ok_or_else(|| Failure::Refused("the server named no checkpoint".to_owned()))?;
                Self::hold(folder(data_dir).join(name))
            }
            Reach::Ours(ours) => {
                for name in names(data_dir) {
                    let path = folder(data_dir).join(name);
                    if let Holder::Nobody { .. } = holder(&path) {
                        remove(&path);
                    }
                }
                at_rest(&ours).map_err(refused(format_args!("cannot make a checkpoint in {}", data_dir.display())))
            }
        }
    }

    fn hold(path: PathBuf) -> Result<Self, Failure> {
        let gone = |error: io::Error| refused("the checkpoint went away; run this again")(error);
        let hold = open_hold(&path).map_err(gone)?;
        hold.try_lock().map_err(|error| gone(error.into()))?;
        Ok(Self { path, _hold: hold })
    }

    /// The store in it.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// A checkpoint of a store that nobody has open: what never changes gets a second name, the rest is copied.
fn at_rest(data_dir: &DataDir) -> io::Result<Frozen> {
    let store = data_dir.store();
    if !store.join("CURRENT").is_file() {
        return Err(io::Error::other("there is no store yet"));
    }
    let path = folder(data_dir.path()).join(fresh_name()?);
    let copy = path.join("store");
    make_folder(&copy)?;
    let hold = new_hold(&path)?;
    hold.try_lock()?;
    let frozen = Frozen { path, _hold: hold };
    for entry in fs::read_dir(&store)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_file() || PASSING.iter().any(|passing| name.starts_with(passing)) {
            continue;
        }
        if never_changes(&name) {
            fs::hard_link(entry.path(), copy.join(&name))?;
        } else {
            fs::copy(entry.path(), copy.join(&name))?;
        }
    }
    give_to_owner(data_dir.path(), &frozen.path)?;
    Ok(frozen)
}

/// Whether a file of the store is written once and then only read or removed.
pub(super) fn never_changes(name: &str) -> bool {
    let end = Path::new(name).extension();
    end.is_some_and(|end| end == "sst" || end == "blob")
}

/// When we are root: what we leave behind by being killed must be in the power of the owner of the data folder.
fn give_to_owner(data_dir: &Path, made: &Path) -> io::Result<()> {
    if !process::is_root() {
        return Ok(());
    }
    let facts = fs::metadata(data_dir)?;
    for path in [&folder(data_dir), made, &made.join("store"), &made.join("hold")] {
        chown(path, Some(facts.uid()), Some(facts.gid()))?;
    }
    Ok(())
}
