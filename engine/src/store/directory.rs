//! The directory's place in memory: the newest planned one, and the one that readers see.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use crate::directory::Directory;

/// Like an account's slot, for the directory.
#[derive(Debug)]
pub(crate) struct DirectorySlot {
    planned: Mutex<Directory>,
    published: RwLock<Arc<Directory>>,
    epoch: AtomicU64,
}

impl DirectorySlot {
    pub(crate) fn new(directory: Directory) -> Self {
        Self {
            planned: Mutex::new(directory.clone()),
            published: RwLock::new(Arc::new(directory)),
            epoch: AtomicU64::new(0),
        }
    }

    /// Takes the lock under which changes are planned. Taken before the locks of accounts.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Directory> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn published(&self) -> Arc<Directory> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, next: Directory) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Drops what is planned and not published, because its write failed.
    pub(crate) fn forget_plans(&self) {
        let mut planned = self.lock();
        *planned = Directory::clone(&self.published());
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
