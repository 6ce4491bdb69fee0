//! The configuration: one TOML file, typed, checked before anything starts.
//!
//! * What: the settings of a server, their defaults, and how the file is read.
//! * In: the text of the file.
//! * Out: a [`Config`], or every [`Problem`] found, each with file, line, column and what to do.
//! * Never: reads an environment variable, or accepts a key it does not know.
//! * Fails: with a list of problems; the server does not start then, and a reload keeps what was in force.

mod forwarding;
mod gate;
mod inspect;
mod model;
mod read;
mod scan;
mod spam;
mod trace;
mod trust;
mod values;

pub use forwarding::ForwardingSettings;
pub use gate::{Counted, DnsList, GateSettings, GreylistSettings, Per, RateLimit};
pub use inspect::InspectSettings;
pub use model::{
    ClearText, Config, DnsSettings, Dnssec, LimitSettings, LogFormat, LogLevel, LogSettings, LoginSettings,
    OutboundSettings, Route, RouteTls, RuntimeSettings, StoreSettings, TimeoutSettings, TlsFiles, not_live,
};
pub use read::{FILE_BYTES_MAX, Problem, Problems, parse, read};
pub use scan::{
    ClamdSettings, MilterSettings, OnFailure, OnFound, QuarantineSettings, RspamdSettings, ScanSettings, Scanner,
    ScannerAddress, Whose,
};
pub use spam::{Score, SpamSettings};
pub use trace::TraceSettings;
pub use trust::{Check, OnTemporaryError, TrustSettings};
pub use values::{Size, Span};

pub use crate::net::listeners::{ListenAddress, ListenerConfig, Protocol, TlsMode};

/// Where the file is looked for when the command line names none.
pub const PATH_DEFAULT: &str = "/etc/rockdove/rockdove.toml";
