//! Room on the disk: what comes in is refused before the store meets the end of it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::gauge;

use crate::{config::Size, runtime::process, services::Services};

/// Pause between two looks. At a gigabyte each second, the default of `free_space_min` is not used up between two.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after the free space of the store's disk.
pub(super) struct Room {
    store: PathBuf,
    services: Arc<Services>,
    nearly_full: AtomicBool,
}

impl Room {
    /// Looks for the first time, so that a server that starts on a full disk takes nothing in.
    pub(super) fn new(store: PathBuf, services: &Arc<Services>) -> Self {
        let room = Self { store, services: Arc::clone(services), nearly_full: AtomicBool::new(false) };
        room.look();
        room
    }

    /// Compares what is free with `store.free_space_min`. When the kernel does not say, everything stays as it was: the
    /// store itself refuses what does not fit.
    pub(super) fn look(&self) {
        let least_bytes = self.services.config().store.free_space_min.bytes;
        let free_bytes = match process::free_bytes(&self.store) {
            Ok(free_bytes) => free_bytes,
            Err(error) => return tracing::warn!(%error, "the free space of the disk is not known"),
        };
        let nearly_full = free_bytes < least_bytes;
        // Exact up to 2^53, which is 8 PiB.
        #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
        gauge!("rockdove_store_free_bytes").set(free_bytes as f64);
        gauge!("rockdove_store_nearly_full").set(f64::from(u8::from(nearly_full)));
        if self.nearly_full.swap(nearly_full, Ordering::Relaxed) == nearly_full {
            return;
        }
        self.services.engine.set_takes_in(!nearly_full);
        let (free, least) = (Size { bytes: free_bytes & !0xf_ffff }, Size { bytes: least_bytes });
        if nearly_full {
            tracing::error!(%free, %least, "the disk is nearly full: mail is refused for now, make room");
        } else {
            tracing::info!(%free, %least, "there is room again: mail is taken");
        }
    }
}
