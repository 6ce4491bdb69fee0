//! What the store is rid of in the background: what is kept no longer, and what is left of accounts that were removed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rockdove_engine::{AccountId, Engine, EngineError};

use crate::runtime::clock;

/// Slices of one run; stopping the server waits for a run no longer than for a slice.
const SLICES_PER_RUN: usize = 1_000;

/// Removes for good what is past its time, and rows of removed accounts, slice by slice, until there is no more, the run is
/// long, or the server stops.
pub(super) fn run(engine: &Engine, stopping: &Arc<AtomicBool>) {
    if let Err(error) = slices(engine, stopping) {
        tracing::warn!(%error, "deleted mail was not removed for good; trying again soon");
    }
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
