//! Mail that leaves: from the queue to other servers.
//!
//! * What: a loop that takes what is due, finds the way and how it is to be protected (DANE, MTA-STS), holds the connections,
//!   notes what became of each recipient, and tells other domains how well they were protected.
//! * In: leases of the engine's queue, `[outbound]`, `[[route]]` and `[dns]` of the configuration.
//! * Out: mail at other servers, reports to senders, one log line per event.
//! * Never: sends in clear, or to whoever answers, what its destination or its sender wants protected, calls a recipient
//!   served before that is durable, connects to this machine unless a route says so, or holds up a worker: it has a thread
//!   of its own, and what waits for the disk runs on the storage pool.
//! * Fails: what cannot be sent now waits in the queue; what cannot be sent at all comes back to its sender.

mod attempt;
mod callforward;
mod connect;
mod front;
mod report;
mod results;
mod route;
mod runner;
mod schedule;
mod settle;
mod sts;
mod tls_report;
mod visit;

pub use callforward::{Callforward, Would};
pub use route::{Way, next_hop, takes_unknown};
pub use runner::start;
