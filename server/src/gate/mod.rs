//! The gate: who may talk to us, and how fast.
//!
//! * What: what is asked of a client before the content of a message is taken: rates, lists of clients, names, sender
//!   domains, greylisting. A [`Visitor`] is one connection's part of it.
//! * In: addresses, names and envelopes as they come; `[gate]`, `[greylist]`, `[[limit]]` and `[[dnsbl]]`.
//! * Out: a [`Refusal`] or nothing, counted in figures and told in one log line.
//! * Never: holds up a worker (names are looked up on a thread of its own), keeps more than a named number of buckets and
//!   triples, or refuses because something could not be found out in time, but for the domain of a sender, which is
//!   refused for now.
//! * Fails: by letting pass. What it remembers is written to a file every minute; a crash forgets the last minute, so that
//!   somebody may have to try once more, or may send a minute's mail more.

mod ask;
mod buckets;
mod grey;
mod kept;
mod lists;
mod names;
mod place;
mod visitor;

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rockdove_smtp::Refusal;

pub use ask::start;
pub use visitor::Visitor;

use self::{ask::Door, buckets::Buckets, grey::Greylist};
use crate::runtime::clock;

/// What something is remembered by: a hash, so that all are of one size and no file tells who wrote to whom.
type Key = [u8; 16];

/// The key of some words. No two lists of words have the same one.
fn key(words: &[&str]) -> Key {
    let mut hash = blake3::Hasher::new();
    for word in words {
        hash.update(&(word.len() as u64).to_be_bytes());
        hash.update(word.as_bytes());
    }
    hash.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

/// What all connections share.
pub struct Gate {
    memory: Mutex<Memory>,
    door: Door,
}

/// What is remembered of clients.
struct Memory {
    buckets: Buckets,
    greylist: Greylist,
}

impl Default for Gate {
    fn default() -> Self {
        let memory = Memory { buckets: Buckets::default(), greylist: Greylist::default() };
        Self { memory: Mutex::new(memory), door: Door::default() }
    }
}

impl Gate {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was written to a file. One that is missing, damaged or of another version is as good as an empty one.
    pub fn recall(&self, path: &Path) {
        kept::read(path, &mut self.memory(), now_s());
    }

    /// Writes what is remembered to a file, whole or not at all.
    pub fn keep(&self, path: &Path) {
        let octets = kept::octets(&self.memory(), now_s());
        if let Err(error) = kept::write(path, &octets) {
            tracing::warn!(%error, path = %path.display(), "what the gate remembers was not written; trying again soon");
        }
    }
}

fn now_s() -> u64 {
    u64::try_from(clock::now().unix_s).unwrap_or(0)
}

fn refusal(code: u16, status: &str, text: String) -> Refusal {
    Refusal { code, status: status.to_owned(), text }
}

/// Counts a refusal.
fn count(why: &'static str) {
    metrics::counter!("rockdove_gate_refused_total", "why" => why).increment(1);
}
