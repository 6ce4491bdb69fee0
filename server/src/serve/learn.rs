//! Learning of spam what users have said of their mail: off the path of deliveries, a little at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rockdove_engine::{Engine, EngineError};

use crate::{runtime::clock, services::Services};

/// Pause between two runs.
pub(super) const LEARN_EVERY: Duration = Duration::from_secs(1);
/// Runs after which it is looked whether too much was learned: six hours of pauses.
const AGE_EVERY: u32 = 6 * 3_600;
/// Calls of one run; stopping the server waits for a run.
const CALLS_PER_RUN: usize = 16;

/// Learns when something has changed.
pub(super) struct Learner {
    services: Arc<Services>,
    changed: Arc<AtomicBool>,
    runs: AtomicU32,
}

impl Learner {
    /// Begins with what was said before the last stop.
    pub(super) fn new(services: &Arc<Services>) -> Self {
        let changed = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&changed);
        services.engine.on_change(Box::new(move |_| told.store(true, Ordering::Release)));
        Self { services: Arc::clone(services), changed, runs: AtomicU32::new(0) }
    }

    /// Some of what waits.
    pub(super) fn run(&self) {
        let engine = &self.services.engine;
        if self.changed.swap(false, Ordering::AcqRel) {
            match self.learn(engine) {
                Ok(more) => drop(self.changed.fetch_or(more, Ordering::AcqRel)),
                Err(error) => {
                    self.changed.store(true, Ordering::Release);
                    tracing::warn!(%error, "nothing was learned of spam; trying again soon");
                }
            }
        }
        if self.runs.fetch_add(1, Ordering::Relaxed).is_multiple_of(AGE_EVERY)
            && let Err(error) = age(engine)
        {
            tracing::warn!(%error, "what was learned of spam was not aged; trying again later");
        }
    }

    /// Whether there is more to learn.
    fn learn(&self, engine: &Engine) -> Result<bool, EngineError> {
        for _ in 0..CALLS_PER_RUN {
            let more = if self.services.config().spam.enabled {
                let learned = engine.learn_waiting(clock::now().unix_s)?;
                metrics::counter!("rockdove_spam_learned_total").increment(u64::from(learned.learned));
                learned.more
            } else {
                engine.drop_waiting()?
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn age(engine: &Engine) -> Result<(), EngineError> {
    let mut scope = Some(0);
    while let Some(from) = scope {
        scope = engine.age_spam(clock::now().unix_s, from)?;
    }
    Ok(())
}
