//! What the store is rid of in the background: what is kept no longer, and what is left of accounts that were removed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rockdove_engine::{
    AccountId, Command, Engine, EngineError, QueueId,
    queue::{Decided, Quarantined},
};

use crate::{runtime::clock, services::Services};

/// Slices of one run; stopping the server waits for a run no longer than for a slice.
const SLICES_PER_RUN: usize = 1_000;
/// Messages of the quarantine looked at together.
const QUARANTINED_AT_ONCE: usize = 100;

/// Removes for good what is past its time, and rows of removed accounts, slice by slice, until there is no more, the run is
/// long, or the server stops.
pub(super) fn run(services: &Services, stopping: &Arc<AtomicBool>) {
    if let Err(error) = slices(&services.engine, stopping) {
        tracing::warn!(%error, "deleted mail was not removed for good; trying again soon");
    }
    let keep_ms = services.config().scan.quarantine.keep.ms;
    if let Err(error) = quarantine(&services.engine, keep_ms, stopping) {
        tracing::warn!(%error, "what was kept apart for long enough was not removed; trying again soon");
    }
}

/// Removes what was kept apart for long enough. What came first has the lowest number.
fn quarantine(engine: &Engine, keep_ms: u64, stopping: &Arc<AtomicBool>) -> Result<(), EngineError> {
    let now = clock::now().unix_s;
    let end_ms = u64::try_from(now).unwrap_or(0).saturating_mul(1000).saturating_sub(keep_ms);
    for _ in 0..SLICES_PER_RUN {
        let page = engine.quarantined_from(QueueId(0), QUARANTINED_AT_ONCE)?.0;
        let is_over = |message: &Quarantined| message.envelope.received_ms <= end_ms;
        let over: Vec<QueueId> = page.iter().filter(|message| is_over(message)).map(|message| message.id).collect();
        if over.is_empty() || stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        for message in over {
            match engine.execute(now, Command::Discard(Decided { message, addresses: Vec::new() })) {
                // Somebody else has decided, or is about to.
                Ok(_) | Err(EngineError::NotFound(_) | EngineError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            tracing::info!(quarantine = message.0, "deleted from the quarantine: its time is over");
        }
    }
    Ok(())
}

fn slices(engine: &Engine, stopping: &Arc<AtomicBool>) -> Result<(), EngineError> {
    let on = |_: &usize| !stopping.load(Ordering::Acquire);
    for _ in (0..SLICES_PER_RUN).take_while(on) {
        if !engine.sweep_removed(clock::now().unix_s)? {
            break;
        }
    }
    let mut from = AccountId(0);
    for _ in (0..SLICES_PER_RUN).take_while(on) {
        match engine.purge_some(clock::now().unix_s, from)? {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(())
}
