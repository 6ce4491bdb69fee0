//! The server: moves bytes between sockets, protocol sessions and the engine.
//!
//! * What: the runtime, the network, the fronts that connect sessions to the engine.
//! * In: a configuration and a data directory.
//! * Out: mail service on the configured listeners.
//! * Never: decides about mail (the engine does) or parses a protocol (the sessions do).
//! * Fails: refuses to start on a bad configuration; afterwards only single connections fail.

pub mod config;
pub mod delivery;
pub mod fronts;
pub mod login;
pub mod net;
pub mod runtime;
pub mod services;
