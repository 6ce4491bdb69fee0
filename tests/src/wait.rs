//! Waiting for another process.

use std::{
    thread,
    time::{Duration, Instant},
};

/// The longest wait: a virus scanner takes its time to start.
const MOST: Duration = Duration::from_mins(3);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until it is so. Panics with `what` when it never is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Waits until there is an answer. Panics with `what` when there never is.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + MOST;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(PAUSE);
    }
}
