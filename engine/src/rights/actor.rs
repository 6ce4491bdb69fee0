//! Who gives a command, and what that allows.

use std::fmt;

use rockdove_mail::Rights;

use super::{Acl, rights};
use crate::{
    command::{AccountId, EngineError, GroupId},
    directory::Directory,
};

/// An account that gives a command.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) account: AccountId,
    groups: Vec<GroupId>,
    /// One of those who may change quotas and the annotations of the server.
    pub(crate) is_administrator: bool,
}

/// Any of these, and the mailbox is no secret (RFC 4314 section 3.5).
pub(crate) const ANY: Rights = Rights::ALL
    .without(Rights::SEEN)
    .without(Rights::WRITE)
    .without(Rights::POST)
    .without(Rights::DELETE_MESSAGES)
    .without(Rights::EXPUNGE);

impl Actor {
    pub(crate) fn new(directory: &Directory, account: AccountId) -> Self {
        let groups = directory.groups_of(account).to_vec();
        Self { account, groups, is_administrator: directory.is_administrator(account) }
    }

    /// What it may do with a mailbox of `owner`.
    pub(crate) fn rights(&self, acl: Option<&Acl>, owner: AccountId) -> Rights {
        rights(acl, owner, self.account, &self.groups)
    }
}

/// Refuses what these rights do not allow. Who cannot see the mailbox is told that it is not there.
pub(crate) fn need(have: Rights, need: Rights, what: &dyn fmt::Display) -> Result<(), EngineError> {
    if have.contains(need) {
        Ok(())
    } else if have.contains(Rights::LOOKUP) {
        Err(EngineError::NoPermission(format!("this needs the right {} for {what}", need.letters())))
    } else {
        Err(EngineError::NotFound(what.to_string()))
    }
}
