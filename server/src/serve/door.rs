//! The threads of the gate: one that asks names, one that writes down what is remembered.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    gate,
    runtime::{background::Periodic, side::Side},
    services::Services,
};

/// Pause between two writings; a crash forgets what came since.
const KEEP_EVERY: Duration = Duration::from_mins(1);

/// Both of them.
pub(super) struct GateThreads {
    asking: Side,
    keeping: Periodic,
    services: Arc<Services>,
    path: PathBuf,
}

impl GateThreads {
    /// Reads what was remembered before, and starts them.
    pub(super) fn start(services: &Arc<Services>, path: PathBuf) -> io::Result<Self> {
        services.gate.recall(&path);
        let (keeper, to) = (Arc::clone(services), path.clone());
        Ok(Self {
            asking: gate::start(services)?,
            keeping: Periodic::start("gate memory", KEEP_EVERY, move || keeper.gate.keep(&to))?,
            services: Arc::clone(services),
            path,
        })
    }

    /// Ends them; what is remembered is written once more.
    pub(super) fn stop(self, grace: Duration) {
        self.asking.stop(grace);
        self.keeping.stop();
        self.services.gate.keep(&self.path);
    }
}
