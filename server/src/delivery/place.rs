//! Stage eight: one command for all copies, and the answer when they are durable.

use std::sync::Arc;

use rockdove_engine::{Command, Delivery, Engine, EngineError, InternalDate, Outcome, StagedMessage};
use rockdove_mail::Flags;
use rockdove_smtp::RecipientOutcome;

use super::{Copy, Done, Job, Leaves, log};

pub(super) fn place(job: Job, engine: &Arc<Engine>, message: Arc<StagedMessage>, leaves: Vec<Leaves>, done: Done) {
    if job.copies.is_empty() && leaves.is_empty() {
        log::refused(engine, &job);
        return done(job.outcomes);
    }
    let now = job.release.as_ref().map_or(job.mail.received_unix_s, |release| release.now_unix_s);
    let deliveries = job.copies.iter().map(|copy| delivery(copy, now)).collect();
    let leaving: Vec<log::Leaving> =
        leaves.iter().map(|leaves| log::Leaving::of(leaves.via.clone(), &leaves.outbound)).collect();
    let message_id = log::message_id(message.header());
    let outbound = leaves.into_iter().map(|leaves| leaves.outbound).collect();
    let telling = Arc::clone(engine);
    let command = match &job.release {
        None => Command::Dispatch { message: Some(message), deliveries, outbound, settled: Vec::new() },
        Some(release) => Command::Release { decided: release.decided.clone(), message, deliveries, outbound },
    };
    engine.submit(
        now,
        command,
        Box::new(move |result| match result {
            Ok(Outcome::Dispatched { delivered: places, queued }) => {
                // The answer first: whoever waits for it need not wait for the log.
                done(job.outcomes.clone());
                log::delivered(&telling, &job, message_id, &places, (&leaving, &queued));
            }
            Ok(_) => refuse(&telling, job, &EngineError::Unavailable("an answer to another question".to_owned()), done),
            Err(error) => refuse(&telling, job, &error, done),
        }),
    );
}

/// Nothing was committed. There was room and there were recipients a moment ago, so this is for the client to try again;
/// the next attempt finds out about each recipient.
pub(super) fn refuse(engine: &Engine, mut job: Job, error: &EngineError, done: Done) {
    let outcome = match error {
        EngineError::OverQuota if job.outcomes.len() == 1 => RecipientOutcome::OverQuota,
        _ => RecipientOutcome::TryLater,
    };
    let waiting: Vec<usize> = (0..job.outcomes.len()).collect();
    job.fail(&waiting, &outcome);
    done(job.outcomes.clone());
    log::failed(engine, &job, error);
}

fn delivery(copy: &Copy, unix_s: i64) -> Delivery {
    Delivery {
        account: copy.account,
        mailbox: copy.mailbox.clone(),
        trace_header: copy.trace_header.clone(),
        flags: Flags::default(),
        internal_date: InternalDate { unix_s, offset_minutes: 0 },
    }
}
