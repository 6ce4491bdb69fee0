//! The content of a message while it comes in.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rockdove_engine::{Engine, EngineError, StagedMessage, Staging};
use rockdove_smtp::Role;

use crate::{
    config::Config,
    trust::{self, Forged},
};

/// Octets on their way into a staging area.
pub struct Intake {
    staging: Staging,
    /// What keeps strangers from writing results in our name.
    forged: Option<Forged>,
}

impl Intake {
    /// Nothing yet, of a client.
    pub fn new(engine: &Engine, config: &Config, role: Role, remote: Option<SocketAddr>) -> Self {
        let forged = trust::may_forge(config, role, remote).then(|| Forged::new(trust::our_names(config)));
        Self { staging: engine.stage(), forged }
    }

    /// Takes the next pieces. May block.
    ///
    /// # Errors
    /// When the engine cannot take them.
    pub fn write(&mut self, chunks: &[Bytes]) -> Result<(), EngineError> {
        for chunk in chunks {
            match &mut self.forged {
                Some(forged) => forged.pass(chunk).iter().try_for_each(|passed| self.staging.write(passed))?,
                None => self.staging.write(chunk)?,
            }
        }
        Ok(())
    }

    /// Takes the last pieces and ends the message. May block.
    ///
    /// # Errors
    /// When the engine cannot take it.
    pub fn finish(mut self, chunks: &[Bytes]) -> Result<Arc<StagedMessage>, EngineError> {
        self.write(chunks)?;
        if let Some(mut forged) = self.forged.take() {
            self.staging.write(&forged.finish())?;
        }
        self.staging.finish()
    }
}
