//! Why a command did not do what it was asked. Each kind has its exit code.

use std::{fmt, process::ExitCode};

use crate::config::Problems;

/// Why a command did not do what it was asked, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Refused, or it failed.
    Refused(String),
    /// Bad usage or configuration.
    Usage(String),
    /// It needs a running server, and there is none.
    NoServer(String),
    /// A check found something; everything has been said already.
    Found,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::NoServer(_) => 3,
            Self::Found => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Usage(why) | Self::NoServer(why) => f.write_str(why),
            Self::Found => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        failure.code().into()
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Usage(problems.to_string())
    }
}

/// Refuses with what was tried and why it failed.
pub fn refused(what: impl fmt::Display) -> Box<dyn FnOnce(std::io::Error) -> Failure> {
    let what = what.to_string();
    Box::new(move |error| Failure::Refused(format!("{what}: {error}")))
}
