//! The trace: events are written in groups, off the path of mail, and go when they are old.

use std::{sync::Arc, time::Duration};

use rockdove_engine::trace::day_of;

use crate::{runtime::clock, services::Services};

/// Pause between two groups; a crash of the machine takes what came in it.
pub(super) const WRITE_EVERY: Duration = Duration::from_millis(500);
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Writes what waits and removes what is too old.
pub(super) fn run(services: &Arc<Services>, swept: &mut u32) {
    let (engine, keep) = (&services.engine, services.config().trace.keep);
    engine.set_traces(keep.ms > 0);
    match engine.write_trace() {
        Ok(0) => {}
        Ok(lost) => {
            metrics::counter!("rockdove_trace_lost_total").increment(lost);
            tracing::warn!(lost, "the trace has no room for so many events");
        }
        Err(error) => tracing::warn!(%error, "events wait to be written into the trace"),
    }
    let first = day_of(clock::unix_ms().saturating_sub(keep.ms.div_ceil(DAY_MS).saturating_mul(DAY_MS)));
    if first != *swept {
        match engine.drop_traces(first) {
            Ok(()) => *swept = first,
            Err(error) => tracing::warn!(%error, "old events were not removed; trying again soon"),
        }
    }
}
