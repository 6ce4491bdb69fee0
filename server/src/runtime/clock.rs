//! The only clock and the only source of randomness.

use std::{
    io,
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rockdove_mail::Tick;

static START: OnceLock<Instant> = OnceLock::new();

#[allow(clippy::disallowed_methods, reason = "this file is the clock")]
fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// The present moment.
#[allow(clippy::disallowed_methods, reason = "this file is the clock")]
pub fn now() -> Tick {
    let unix_s = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    Tick { monotonic_ms: monotonic_ms(), unix_s }
}

/// Milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "this file is the clock")]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the first use of this clock; never goes back.
pub fn monotonic_ms() -> u64 {
    u64::try_from(start().elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The timer moment of a [`Tick::monotonic_ms`].
pub(crate) fn instant_of(monotonic_ms: u64) -> tokio::time::Instant {
    // A deadline beyond a year is as good as none, and keeps the sum in range.
    const FAR_MS: u64 = 366 * 24 * 3_600_000;
    let ahead = monotonic_ms.saturating_sub(self::monotonic_ms()).min(FAR_MS);
    tokio::time::Instant::now() + std::time::Duration::from_millis(ahead)
}

/// Waits. For command lines that wait for a server, and for a start; nothing that serves may sleep.
pub fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
}

/// Fresh random bytes from the operating system, for sessions, salts and nonces.
///
/// # Errors
/// When the operating system has no randomness to give; nothing secret may be made then.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_does_not_go_back_and_seeds_differ() {
        let first = super::now();
        let second = super::now();
        assert!(second.monotonic_ms >= first.monotonic_ms);
        assert!(first.unix_s > 1_700_000_000);
        assert_ne!(super::seed().expect("seed"), super::seed().expect("seed"));
    }
}
