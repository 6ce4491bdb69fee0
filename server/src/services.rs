//! What every connection's front may use.

use std::sync::{Arc, PoisonError, RwLock};

use rockdove_engine::Engine;

use crate::{
    config::Config,
    fronts::locks::AccountLocks,
    gate::Gate,
    inspect::Door,
    login::LoginService,
    runtime::{hub::Hub, storage::StoragePool},
};

/// The services of a running server, shared by all fronts as `Arc<Services>`.
pub struct Services {
    /// Mail.
    pub engine: Arc<Engine>,
    /// Threads that may wait for the disk.
    pub storage: StoragePool,
    /// Passwords.
    pub login: LoginService,
    /// Wake-ups for those who watch a mailbox.
    pub hub: Hub,
    /// POP3 maildrops in use.
    pub maildrops: AccountLocks,
    /// Who may talk to us, and how fast.
    pub gate: Gate,
    /// Accounts that an administrator's session is in.
    pub administered: AccountLocks,
    /// Where complete messages are looked at before they are delivered.
    pub inspection: Door,
    config: RwLock<Arc<Config>>,
}

impl Services {
    /// Puts the services together.
    pub fn new(
        engine: Arc<Engine>,
        storage: StoragePool,
        login: LoginService,
        hub: Hub,
        inspection: Door,
        config: Arc<Config>,
    ) -> Self {
        Self {
            engine,
            storage,
            login,
            hub,
            maildrops: AccountLocks::default(),
            gate: Gate::default(),
            administered: AccountLocks::default(),
            inspection,
            config: RwLock::new(config),
        }
    }

    /// The configuration in force. A connection asks once, when it begins, and keeps what it got.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another configuration in force for connections to come.
    pub fn change_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}
