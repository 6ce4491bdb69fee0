//! Who logs in.

use crate::{
    failure::{LoadError, Result},
    names,
};

/// A login and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The login.
    pub user: String,
    /// The password.
    pub password: String,
}

/// The logins that connections take in turn.
#[derive(Clone, Debug)]
pub struct Logins(Vec<Login>);

impl Logins {
    /// Expands `users` as [`names::expand`] does; all have the same password.
    ///
    /// # Errors
    /// As [`names::expand`].
    pub fn new(users: &str, password: &str) -> Result<Self> {
        let login = |user| Login { user, password: password.to_owned() };
        let logins: Vec<Login> = names::expand(users)?.into_iter().map(login).collect();
        if logins.is_empty() {
            return Err(LoadError::Usage("nobody to log in".into()));
        }
        Ok(Self(logins))
    }

    /// The login of a connection.
    pub fn of(&self, connection: usize) -> &Login {
        &self.0[connection % self.0.len()]
    }

    /// All of them.
    pub fn all(&self) -> &[Login] {
        &self.0
    }
}
