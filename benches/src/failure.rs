//! What stops a run.

use std::{fmt, io};

/// Why a run stopped. Every one of them is shown to the user and ends the program with exit code 1.
#[derive(Debug)]
pub enum LoadError {
    /// The network, a file or a clock; with what was being done.
    Io(String, io::Error),
    /// The server said no, in its own words.
    Refused {
        /// The command, without secrets.
        asked: String,
        /// The reply.
        said: String,
    },
    /// The server said something that the protocol does not know.
    Broken(String),
    /// The arguments do not fit together.
    Usage(String),
}

impl LoadError {
    /// For `map_err`: an error of the operating system while doing `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io(what, error)
    }

    /// The server refused `asked` with `said`.
    pub fn refused(asked: impl Into<String>, said: &[u8]) -> Self {
        let said = String::from_utf8_lossy(said).trim_end().to_owned();
        Self::Refused { asked: asked.into(), said }
    }

    /// The server's octets make no sense here.
    pub fn broken(what: &str, said: &[u8]) -> Self {
        let shown = said.get(..said.len().min(200)).unwrap_or_default();
        Self::Broken(format!("{what}: {:?}", String::from_utf8_lossy(shown)))
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Refused { asked, said } => write!(f, "the server refused {asked}: {said}"),
            Self::Broken(what) => write!(f, "not understood: {what}"),
            Self::Usage(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for LoadError {}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, LoadError>;
