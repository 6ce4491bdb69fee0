//! Mail that leaves: from the queue to other servers.
//!
//! * What: a loop that takes what is due, finds the way, holds the connections and notes what became of each recipient.
//! * In: leases of the engine's queue, `[outbound]`, `[[route]]` and `[dns]` of the configuration.
//! * Out: mail at other servers, reports to senders, one log line per event.
//! * Never: calls a recipient served before that is durable, connects to this machine unless a route says so, or holds up
//!   a worker: it has a thread of its own, and what waits for the disk runs on the storage pool.
//! * Fails: what cannot be sent now waits in the queue; what cannot be sent at all comes back to its sender.

mod attempt;
mod callforward;
mod connect;
mod front;
mod report;
mod route;
mod runner;
mod schedule;
mod settle;

pub use callforward::{Callforward, Would};
pub use route::{Way, next_hop, takes_unknown};
pub use runner::start;
