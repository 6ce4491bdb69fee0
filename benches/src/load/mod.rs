//! The runs: one file for each kind of load.
//!
//! * What: opens connections, then lets them work through a budget together and measures every operation.
//! * In: a job, which says where, who, what and how much.
//! * Out: a report.
//! * Never: goes on after a refusal it was not told to expect: a figure with failures in it is no figure.
//! * Fails: with the server's words when it refuses something, and when it is silent for longer than we are patient.

mod append;
mod command;
mod deliver;
mod idle;
mod logins;
mod maildrop;
mod verify;

pub use append::Append;
pub use command::Command;
pub use deliver::{Deliver, Recipients};
pub use idle::{Idle, Wake};
pub use logins::LogInAndOut;
pub use maildrop::Maildrop;
pub use verify::Verify;

use crate::pace::Budget;

/// What every run is told.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When it ends.
    pub budget: Budget,
    /// Connections that work at the same time.
    pub connections: usize,
    /// No progress on standard error.
    pub quiet: bool,
}
