//! The folder that keeps everything: its lock, its secrets, the places of what is in it.
//!
//! ```text
//! rockdove.lock     held by the one process that uses the folder; its process id
//! store/            mail and directory
//! checkpoints/      moments of the store that a backup is copying
//! control.sock      administration of the running server
//! imports/          what has been pulled from other servers
//! imap.sock         the administrator's door to every account
//! lmtp.sock         local delivery, unless the configuration says otherwise
//! login.key         secret behind the salts of logins that do not exist
//! tls/              the self-signed certificate, when no other is configured
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use crate::{
    config::Config,
    failure::{Failure, refused},
    net::tls::{TlsSwitch, self_signed},
    runtime::{clock, process},
};

/// A data folder in our hands, until this is dropped.
pub struct DataDir {
    path: PathBuf,
    /// The lock goes with the descriptor.
    _lock: File,
}

/// The result of [`DataDir::claim`].
pub enum Claim {
    /// It is ours.
    Ours(DataDir),
    /// Another process has it.
    Taken {
        /// That process, if it could be read.
        process: Option<u32>,
    },
}

/// The control socket in a data folder.
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// The administrator's door in a data folder: IMAP to every account.
pub fn administrators_door(data_dir: &Path) -> PathBuf {
    data_dir.join("imap.sock")
}

impl DataDir {
    /// Creates the folder when it is missing and takes its lock. When we are root and the configuration names a user,
    /// what is created belongs to that user.
    ///
    /// # Errors
    /// When the folder cannot be made or used.
    pub fn claim(config: &Config) -> Result<Claim, Failure> {
        let path = &config.data_dir;
        let failed = || refused(format_args!("cannot use data_dir {}", path.display()));
        let owner = match &config.user {
            Some(user) if process::is_root() => {
                let ids = process::ids_of(user, config.group.as_deref());
                Some(ids.map_err(refused("the user and group of the configuration"))?)
            }
            _ => None,
        };
        if !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed())?;
            give_to(path, owner).map_err(failed())?;
        }
        let mut lock = open_lock(&path.join("rockdove.lock"), owner).map_err(failed())?;
        match lock.try_lock() {
            Ok(()) => {
                lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed())?;
                Ok(Claim::Ours(Self { path: path.clone(), _lock: lock }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Only for the message; the holder may be writing it right now.
                let known = lock.rewind().and_then(|()| lock.read_to_string(&mut text)).is_ok();
                Ok(Claim::Taken { process: text.trim().parse().ok().filter(|_| known) })
            }
            Err(TryLockError::Error(error)) => Err(failed()(error)),
        }
    }

    /// [`DataDir::claim`], and a refusal when another process has it.
    ///
    /// # Errors
    /// When it is taken or cannot be used.
    pub fn claim_or_refuse(config: &Config) -> Result<Self, Failure> {
        match Self::claim(config)? {
            Claim::Ours(data_dir) => Ok(data_dir),
            Claim::Taken { process } => {
                let who = process.map(|process| format!(" (process {process})")).unwrap_or_default();
                let path = config.data_dir.display();
                Err(Failure::Refused(format!("data_dir {path} is in use by another Rockdove{who}; stop it first")))
            }
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the store.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// The folder of the store, made when it is missing. Only its owner can look inside, wherever the data folder is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_store(&self) -> io::Result<PathBuf> {
        let store = self.store();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&store)?;
        Ok(store)
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }

    /// The administrator's door.
    pub fn administrators_door(&self) -> PathBuf {
        administrators_door(&self.path)
    }

    /// What the gate remembers.
    pub fn gate_memory(&self) -> PathBuf {
        self.path.join("gate.memory")
    }

    /// The secret of login salts; made on the first start.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn login_key(&self) -> io::Result<[u8; 32]> {
        let path = self.path.join("login.key");
        match fs::read(&path) {
            Ok(key) => key.try_into().map_err(|_| {
                io::Error::other(format!("{} should have 32 octets; restore it or remove it", path.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = clock::seed()?;
                write_private(&path, &key)?;
                Ok(key)
            }
            Err(error) => Err(error),
        }
    }

    /// The self-signed certificate; made on the first start.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn self_signed(&self, hostname: &str) -> io::Result<TlsSwitch> {
        let folder = self.path.join("tls");
        let (chain, key) = (folder.join("self-signed.pem"), folder.join("self-signed.key"));
        if !chain.exists() || !key.exists() {
            let (chain_pem, key_pem) = self_signed(vec![hostname.to_owned(), "localhost".to_owned()])?;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            write_private(&key, key_pem.as_bytes())?;
            write_private(&chain, chain_pem.as_bytes())?;
        }
        TlsSwitch::from_files(&chain, &key)
    }
}

/// Opens the lock, which belongs to `owner` when it is made now. The folder may belong to a user whom we must not trust
/// when we are root, so no link is followed, nor anything written that has another name.
fn open_lock(path: &Path, owner: Option<(u32, u32)>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match options.clone().create_new(true).open(path) {
        Ok(lock) => {
            if let Some((uid, gid)) = owner {
                fchown(&lock, Some(uid), Some(gid))?;
            }
            return Ok(lock);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let lock = options.open(path)?;
    let found = lock.metadata()?;
    if found.is_file() && found.nlink() == 1 {
        return Ok(lock);
    }
    Err(io::Error::other(format!("{} is not a file of its own; remove it", path.display())))
}

fn give_to(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// When the file system refuses.
pub fn write_private(path: &Path, octets: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
