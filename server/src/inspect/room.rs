//! Room for messages in memory.

use std::sync::Arc;

use rockdove_smtp::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What room is counted in.
const UNIT_BYTES: u64 = 1024;

/// The refusal of a message that cannot be looked at now.
pub(super) fn later(text: &str) -> Refusal {
    Refusal { code: 451, status: "4.3.2".to_owned(), text: text.to_owned() }
}

/// Octets that inspected messages may take together.
#[derive(Clone)]
pub(super) struct Room {
    units: Arc<Semaphore>,
    all: u32,
}

impl Room {
    pub(super) fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(all).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(permits)), all }
    }

    /// Waits for room for a message, in the order of the askers. One that is larger than all the room gets all of it.
    pub(super) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes / UNIT_BYTES + 1).unwrap_or(u32::MAX).min(self.all);
        Arc::clone(&self.units).acquire_many_owned(units).await.ok()
    }
}
