//! Streaming a message in.

use std::sync::Arc;

use crate::command::EngineError;

/// A message that is coming in. Dropping it abandons it.
#[derive(Debug, Default)]
pub struct Staging {
    size_bytes: u64,
}

impl Staging {
    /// Takes the next bytes. May write to the store, so call it where blocking is allowed once a message is larger than
    /// [`Staging::MEMORY_BYTES_MAX`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Octets taken so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Ends the message. It can then be delivered any number of times.
    pub fn finish(self) -> Result<Arc<StagedMessage>, EngineError> {
        Err(EngineError::Unavailable("not ready".to_owned()))
    }
}

/// A whole message, ready to be delivered or appended.
#[derive(Debug)]
pub struct StagedMessage {
    size_bytes: u64,
}

impl StagedMessage {
    /// Octets, without any trace header.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}
