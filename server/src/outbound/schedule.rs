//! When to try again, and when to give up: plain arithmetic.

use crate::config::OutboundSettings;

/// Shares of a pause by which it is spread either way, so that what failed together is not tried together.
const SPREAD: u64 = 8;

/// What is to be done with a recipient that could not be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// When it is tried again, in milliseconds since 1970; `None`: it is given up.
    pub(super) due_ms: Option<u64>,
    /// The sender is to be told that it waits.
    pub(super) warn: bool,
}

/// After `attempts` attempts that failed, this one included. `seed` spreads the pause.
pub(super) fn next(
    settings: &OutboundSettings,
    (received_ms, now_ms): (u64, u64),
    attempts: u32,
    told: bool,
    seed: u64,
) -> Next {
    let waited_ms = now_ms.saturating_sub(received_ms);
    if waited_ms >= settings.expire.ms {
        return Next { due_ms: None, warn: false };
    }
    let doubled = settings.retry_first.ms.checked_shl(attempts.saturating_sub(1).min(40)).unwrap_or(u64::MAX);
    let pause_ms = doubled.clamp(1_000, settings.retry_most.ms.max(1_000));
    let spread = (pause_ms / SPREAD).max(1);
    let pause_ms = pause_ms.saturating_sub(spread / 2).saturating_add(seed % spread);
    // The last attempt is made when the time is over, not long before.
    let due_ms = now_ms.saturating_add(pause_ms).min(received_ms.saturating_add(settings.expire.ms));
    Next { due_ms: Some(due_ms), warn: !told && waited_ms >= settings.warn_after.ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_message_is_given_up() {
        let settings = OutboundSettings::default();
        let (mut now, mut attempts, mut told, mut pauses) = (0, 0, false, Vec::new());
        loop {
            attempts += 1;
            let next = next(&settings, (0, now), attempts, told, u64::from(attempts) * 7_919);
            told |= next.warn;
            let Some(due) = next.due_ms else { break };
            assert!(due > now);
            pauses.push((due - now) / 60_000);
            now = due;
        }
        assert_eq!(now, settings.expire.ms, "tried a last time when the time is over");
        assert!(told);
        assert!((4..=6).contains(&pauses[0]) && (8..=12).contains(&pauses[1]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 4 * 60 + 30), "{pauses:?}");
        assert!((30..60).contains(&pauses.len()), "{}", pauses.len());
    }
}
