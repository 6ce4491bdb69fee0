//! What a message from another server is judged by: its tokens. What they say differs from recipient to recipient, and is
//! found out where the recipients are known (`delivery`).

use rockdove_engine::spam::tokens;
use rockdove_smtp::{Client, Role};

use super::{Arrival, Verdict, stages::Work};
use crate::{config::Config, inspect::stages::Tools};

/// Mail of our own users is theirs to answer for.
pub(super) fn wants(config: &Config, client: &Client) -> bool {
    config.spam.enabled && client.role == Role::Mx
}

/// Takes a fraction of a millisecond for most messages, and waits for nothing.
pub(super) fn run<'a>(_: &'a Tools, arrival: &'a Arrival, verdict: &'a mut Verdict) -> Work<'a> {
    Box::pin(async move { verdict.tokens = tokens::numbers(verdict.octets.as_ref().unwrap_or(&arrival.octets)) })
}
