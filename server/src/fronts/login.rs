//! Who is at the other end of a connection: logins, as all protocols have them.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rockdove_engine::AccountId;
use rockdove_mail::{
    Peer,
    sasl::{LoginAnswer, Password, ScramKeys},
};

use super::locks::AccountLock;
use crate::{config::ClearText, login::LoginOutcome, services::Services};

/// Checks the logins of one connection and remembers whose it is. Clones are handles to the same connection.
#[derive(Clone)]
pub(super) struct Identity(Arc<Known>);

struct Known {
    services: Arc<Services>,
    remote: Option<IpAddr>,
    account: Mutex<Option<AccountId>>,
}

impl Identity {
    /// A connection that nobody has logged in on.
    pub(super) fn new(services: &Arc<Services>, peer: &Peer) -> Self {
        let remote = peer.remote.map(|remote| remote.ip());
        Self(Arc::new(Known { services: Arc::clone(services), remote, account: Mutex::default() }))
    }

    /// The same client, as if it had not logged in. What still runs for this one keeps its account.
    pub(super) fn forgotten(&self) -> Self {
        let Known { services, remote, .. } = &*self.0;
        Self(Arc::new(Known { services: Arc::clone(services), remote: *remote, account: Mutex::default() }))
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.0.services
    }

    fn known(&self) -> MutexGuard<'_, Option<AccountId>> {
        self.0.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account that the last login opened.
    pub(super) fn account(&self) -> Option<AccountId> {
        *self.known()
    }

    /// Primary address of the account; empty when nobody has logged in.
    pub(super) fn address(&self) -> String {
        let directory = self.0.services.engine.directory();
        let account = self.account().and_then(|account| directory.account(account));
        account.map(|account| account.address.clone()).unwrap_or_default()
    }

    /// Where the client is, for log lines.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.0.remote
    }

    /// Whether the login may act as the identity it asked for: itself, and nobody else.
    fn may_act_as(&self, account: AccountId, authorize_as: Option<&str>) -> bool {
        authorize_as.is_none_or(|other| self.0.services.login.account(other) == Some(account))
    }

    /// Checks a password and calls `done` once, at once or from a thread of the login service.
    pub(super) fn check_password(
        &self,
        login: &str,
        password: &Password,
        authorize_as: Option<String>,
        done: impl FnOnce(LoginAnswer) + Send + 'static,
    ) {
        let this = self.clone();
        let checked = Box::new(move |outcome| {
            let (account, answer) = match outcome {
                LoginOutcome::Ok(account) if this.may_act_as(account, authorize_as.as_deref()) => {
                    (Some(account), LoginAnswer::Accepted)
                }
                LoginOutcome::Ok(_) | LoginOutcome::Refused => (None, LoginAnswer::Refused),
                LoginOutcome::TryLater => (None, LoginAnswer::TryLater),
            };
            *this.known() = account;
            done(answer);
        });
        self.0.services.login.check(self.0.remote, login, password.as_str(), checked);
    }

    /// A login without a password: an administrator, whom the operating system has told, becomes an account. One at a
    /// time: the lock is to be kept until nothing more can happen that this session wanted.
    pub(super) fn external(&self, administrator: bool, authorize_as: &str) -> Result<AccountLock, LoginAnswer> {
        *self.known() = None;
        let Some(account) = self.0.services.login.account(authorize_as).filter(|_| administrator) else {
            tracing::warn!(account = authorize_as, administrator, "a login without a password was refused");
            return Err(LoginAnswer::Refused);
        };
        let lock = self.0.services.administered.lock(account).ok_or(LoginAnswer::TryLater)?;
        *self.known() = Some(account);
        tracing::info!(account = %self.address(), "an administrator opened an account");
        Ok(lock)
    }

    /// The keys for a SCRAM exchange of this login.
    pub(super) fn scram_keys(&self, login: &str) -> ScramKeys {
        self.0.services.login.scram(self.0.remote, login)
    }

    /// The end of a SCRAM exchange.
    pub(super) fn scram_done(&self, login: &str, authorize_as: Option<&str>, proven: bool) -> LoginAnswer {
        let service = &self.0.services.login;
        let account = service.account(login).filter(|account| proven && self.may_act_as(*account, authorize_as));
        *self.known() = account;
        if account.is_some() {
            service.succeeded(self.0.remote, login);
            LoginAnswer::Accepted
        } else {
            service.failed(self.0.remote, login);
            LoginAnswer::Refused
        }
    }
}

/// Whether passwords are taken from this client without TLS.
pub(super) fn takes_clear_passwords(setting: ClearText, peer: &Peer) -> bool {
    match setting {
        ClearText::Never => false,
        ClearText::Loopback => peer.is_loopback(),
        ClearText::Always => true,
    }
}
