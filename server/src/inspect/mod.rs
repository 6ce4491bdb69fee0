//! Inspection: what is found out about a complete message before it is delivered.
//!
//! * What: a list of named [`stages`], run one after the other on a thread of their own, each of which may wait for other
//!   machines.
//! * In: an [`Arrival`]: the envelope, and the message in memory.
//! * Out: a [`Verdict`]: header fields, Junk, or a refusal. `delivery` acts on it.
//! * Never: changes a message unless a milter does that the operator has put there, changes a mailbox, holds up a worker or a storage thread, or has more than `[inspect] memory` of messages in
//!   memory.
//! * Fails: with a temporary refusal; the sender has the message still.

mod clamd;
mod http;
mod milter;
mod room;
mod rspamd;
mod scanner;
mod stages;
mod thread;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use rockdove_engine::AccountId;
use rockdove_smtp::{Client, Envelope, Refusal, Role};

use crate::config::Config;

pub use thread::{Arrivals, Door, Waiting, door, start};

/// Who gives us a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Another server.
    Incoming,
    /// One of our users.
    Submission,
}

/// A complete message that is to be inspected.
pub struct Arrival {
    /// Its envelope.
    pub envelope: Envelope,
    /// The message as it came in, without our trace header.
    pub octets: Bytes,
    /// When its end was received, in seconds since 1970-01-01 00:00 UTC.
    pub received_unix_s: i64,
    /// What is in force.
    pub config: Arc<Config>,
    /// The account that submits it.
    pub owner: Option<AccountId>,
}

impl Arrival {
    /// Who gives it to us.
    pub fn direction(&self) -> Direction {
        direction(&self.envelope.client)
    }

    /// The address of the client, where it has one.
    pub fn address(&self) -> Option<IpAddr> {
        self.envelope.client.remote.map(|remote| remote.ip().to_canonical())
    }
}

/// Who gives us what this client sends.
pub fn direction(client: &Client) -> Direction {
    if client.role == Role::Submission { Direction::Submission } else { Direction::Incoming }
}

/// What was found. Stages add to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Header fields to put before the message, each with its CRLF.
    pub fields: String,
    /// Header fields to put before it where it is passed on to another server, in front of `fields`.
    pub seal: String,
    /// The message belongs into Junk.
    pub junk: bool,
    /// The message is taken, and kept apart, and why. The first reason counts.
    pub quarantine: Option<String>,
    /// The message as a filter of the operator has changed it, in the place of the one that came.
    pub octets: Option<Bytes>,
    /// The message is not taken. The stages after the one that says so are not asked.
    pub refusal: Option<Refusal>,
}

impl Verdict {
    /// Adds a header field behind the others.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.fields.extend([name, ": ", value, "\r\n"]);
    }
}

/// Whether anything looks at what this client sends. LMTP is a hand-over inside of one house: what comes that way has been
/// looked at.
pub fn wanted(config: &Config, client: &Client) -> bool {
    client.role != Role::Lmtp && stages::STAGES.iter().any(|stage| (stage.wants)(config, client))
}
