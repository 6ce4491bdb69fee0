//! The stages in their order, and the run through them.

use std::{future::Future, pin::Pin, sync::Arc};

use rockdove_smtp::Client;
use tokio::time::timeout;

use super::{Arrival, Verdict, clamd, milter, room::later, rspamd, scanner::Turns};
use crate::{
    config::Config,
    services::Services,
    trust::{self, Checker},
};

/// What stages work with.
pub(super) struct Tools {
    /// For checks of senders.
    pub(super) checker: Checker,
    /// For what is known of recipients and their domains, and for work that takes long.
    pub(super) services: Arc<Services>,
    /// Connections to scanners.
    pub(super) turns: Turns,
}

/// A stage at work.
pub(super) type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One way to look at a message.
pub(super) struct Stage {
    /// What it is called in metrics and logs.
    pub(super) name: &'static str,
    /// Whether it looks at what this client sends.
    pub(super) wants: fn(&Config, &Client) -> bool,
    /// Looks at a message and adds what it finds to the verdict. It keeps a time limit of its own.
    pub(super) run: for<'a> fn(&'a Tools, &'a Arrival, &'a mut Verdict) -> Work<'a>,
}

/// All of them, in their order.
pub(super) const STAGES: [Stage; 4] = [
    Stage {
        name: "trust",
        wants: trust::wanted,
        run: |tools, arrival, verdict| Box::pin(trust::inspect(&tools.checker, &tools.services, arrival, verdict)),
    },
    Stage { name: "clamd", wants: clamd::wants, run: clamd::run },
    Stage { name: "rspamd", wants: rspamd::wants, run: rspamd::run },
    Stage { name: "milter", wants: milter::wants, run: milter::run },
];

/// Runs the stages until one refuses the message, or the time is over.
pub(super) async fn run(tools: &Tools, arrival: &Arrival) -> Verdict {
    let mut verdict = Verdict::default();
    let limit = arrival.config.inspect.timeout.duration();
    if timeout(limit, run_all(tools, arrival, &mut verdict)).await.is_err() {
        metrics::counter!("rockdove_inspect_timeouts_total").increment(1);
        tracing::warn!(id = %arrival.envelope.id, ?limit, "a message was not inspected in time ([inspect] timeout)");
        verdict.refusal = Some(later("the message cannot be inspected now, try again later"));
    }
    if verdict.octets.is_some() {
        // It is about the message that came in, not about what a filter has made of it.
        verdict.seal.clear();
    }
    verdict
}

async fn run_all(tools: &Tools, arrival: &Arrival, verdict: &mut Verdict) {
    for stage in &STAGES {
        if verdict.refusal.is_some() {
            return;
        }
        if (stage.wants)(&arrival.config, &arrival.envelope.client) {
            (stage.run)(tools, arrival, verdict).await;
            metrics::counter!("rockdove_inspected_total", "stage" => stage.name).increment(1);
        }
    }
}
