//! The server: moves bytes between sockets, protocol sessions and the engine.
//!
//! * What: the runtime, the network, the fronts that connect sessions to the engine; their assembly, and administration.
//! * In: a configuration and a data directory.
//! * Out: mail service on the configured listeners.
//! * Never: decides about mail (the engine does) or parses a protocol (the sessions do).
//! * Fails: refuses to start on a bad configuration; afterwards only single connections fail.

pub mod admin;
pub mod backup;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod delivery;
pub mod demo;
pub mod dns;
pub mod events;
pub mod failure;
pub mod fronts;
pub mod gate;
pub mod generations;
pub mod inspect;
mod lists;
pub mod login;
pub mod net;
pub mod outbound;
mod publish;
mod published;
mod quarantine;
mod queue;
mod reports;
pub mod runtime;
pub mod serve;
pub mod services;
mod sharing;
pub mod show;
mod spam;
mod trace;
pub mod transfer;
pub mod trust;
