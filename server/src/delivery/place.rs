//! Stage six: one command for all copies, and the answer when they are durable.

use std::sync::Arc;

use rockdove_engine::{Command, Delivery, Engine, EngineError, InternalDate, Outbound, Outcome, StagedMessage};
use rockdove_mail::Flags;
use rockdove_smtp::RecipientOutcome;

use super::{Copy, Done, Job, log};

pub(super) fn place(job: Job, engine: &Arc<Engine>, message: Arc<StagedMessage>, outbound: Vec<Outbound>, done: Done) {
    if job.copies.is_empty() && outbound.is_empty() {
        log::refused(&job);
        return done(job.outcomes);
    }
    let now = job.release.as_ref().map_or(job.mail.received_unix_s, |release| release.now_unix_s);
    let deliveries = job.copies.iter().map(|copy| delivery(copy, now)).collect();
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
                log::delivered(&job, &places, &queued);
            }
            Ok(_) => refuse(job, &EngineError::Unavailable("an answer to another question".to_owned()), done),
            Err(error) => refuse(job, &error, done),
        }),
    );
}

/// Nothing was committed. There was room and there were recipients a moment ago, so this is for the client to try again;
/// the next attempt finds out about each recipient.
pub(super) fn refuse(mut job: Job, error: &EngineError, done: Done) {
    let outcome = match error {
        EngineError::OverQuota if job.outcomes.len() == 1 => RecipientOutcome::OverQuota,
        _ => RecipientOutcome::TryLater,
    };
    let waiting: Vec<usize> = (0..job.outcomes.len()).collect();
    job.fail(&waiting, &outcome);
    done(job.outcomes.clone());
    log::failed(&job, error);
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
