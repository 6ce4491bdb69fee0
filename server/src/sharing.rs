//! The commands about shared mailboxes: `rockdove group` and `rockdove acl`.

use std::path::Path;

use clap::Subcommand;

use crate::{
    admin::Request,
    cli::{ListFormat, simply},
    failure::Failure,
    show::Show,
};

#[derive(Debug, Subcommand)]
pub(crate) enum GroupAction {
    /// Add a group.
    Add {
        /// Its name: letters, digits, - _ and full stops. Members of "administrators" may change quotas over IMAP.
        name: String,
    },
    /// Remove a group. What it was granted is granted to nobody.
    Remove {
        /// Its name.
        name: String,
    },
    /// List all groups and their members.
    List(ListFormat),
    /// Members of a group.
    #[command(subcommand)]
    Member(MemberAction),
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberAction {
    /// Add an account to a group.
    Add {
        /// Name of the group.
        group: String,
        /// Address of the account.
        address: String,
    },
    /// Take an account out of a group.
    Remove {
        /// Name of the group.
        group: String,
        /// Address of the account.
        address: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AclAction {
    /// Change what somebody may do with a mailbox.
    Set {
        /// Address of the owner.
        owner: String,
        /// Name of the mailbox, as its owner sees it.
        mailbox: String,
        /// An address, group:NAME, anyone, or owner; with - before it to deny instead of grant.
        #[arg(allow_hyphen_values = true)]
        identifier: String,
        /// Letters: l list, r read, s seen, w other flags, i insert, p post, k create below, x delete and rename, t mark
        /// as deleted, e expunge, a administer. With + or - before them they are added or removed.
        #[arg(allow_hyphen_values = true)]
        rights: String,
    },
    /// Take somebody out of the list of a mailbox.
    Remove {
        /// Address of the owner.
        owner: String,
        /// Name of the mailbox.
        mailbox: String,
        /// As for set.
        #[arg(allow_hyphen_values = true)]
        identifier: String,
    },
    /// Show who may do what with a mailbox.
    List {
        /// Address of the owner.
        owner: String,
        /// Name of the mailbox.
        mailbox: String,
        #[command(flatten)]
        format: ListFormat,
    },
}

impl GroupAction {
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let text = Show::new(false);
        let member = |group, address, member| Request::GroupMember { group, address, member };
        match self {
            Self::Add { name } => simply(path, Request::GroupAdd { group: name }, text),
            Self::Remove { name } => simply(path, Request::GroupRemove { group: name }, text),
            Self::List(format) => simply(path, Request::GroupList, Show::list(format.json)),
            Self::Member(MemberAction::Add { group, address }) => simply(path, member(group, address, true), text),
            Self::Member(MemberAction::Remove { group, address }) => simply(path, member(group, address, false), text),
        }
    }
}

impl AclAction {
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let text = Show::new(false);
        match self {
            Self::Set { owner, mailbox, identifier, rights } => {
                simply(path, Request::AclSet { owner, mailbox, identifier, rights }, text)
            }
            Self::Remove { owner, mailbox, identifier } => {
                simply(path, Request::AclSet { owner, mailbox, identifier, rights: String::new() }, text)
            }
            Self::List { owner, mailbox, format } => {
                simply(path, Request::AclList { owner, mailbox }, Show::list(format.json))
            }
        }
    }
}
