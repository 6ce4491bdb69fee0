//! The network: listeners, TLS, PROXY headers, limits, and the one loop that drives a session.
//!
//! * What: turns accepted sockets into driven sessions.
//! * In: listener settings, wires of the runtime, sessions and fronts.
//! * Out: bytes on the wire, inputs for sessions, counters.
//! * Never: knows what a protocol's bytes mean, beyond the line that refuses a connection.
//! * Fails: a broken handshake, header or peer ends that connection, with a counter and a log line.

pub mod compress;
pub mod drive;
pub mod https;
pub mod limits;
pub mod link;
pub mod listeners;
pub mod peer;
pub mod proxy;
pub mod serve;
pub mod tls;
