//! The commands about distribution lists: `rockdove list`.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::{
    admin::Request,
    cli::{ListFormat, simply},
    failure::Failure,
    show::Show,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ListAction {
    /// Add a list.
    Add {
        /// Its address.
        list: String,
        /// Who answers for it and gets its bounces.
        #[arg(long, value_name = "ADDRESS")]
        owner: String,
        #[command(flatten)]
        rules: Rules,
    },
    /// Change a list.
    Set {
        /// Its address.
        list: String,
        /// Who answers for it and gets its bounces from now on.
        #[arg(long, value_name = "ADDRESS")]
        owner: Option<String>,
        #[command(flatten)]
        rules: Rules,
    },
    /// Remove a list.
    Remove {
        /// Its address.
        list: String,
    },
    /// Show a list and its members.
    Show {
        /// Its address.
        list: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List all lists.
    List(ListFormat),
    /// Members of a list.
    #[command(subcommand)]
    Member(MemberAction),
}

#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Who may post: anyone, members or owner.
    #[arg(long, value_name = "WHO")]
    posting: Option<String>,
    /// Somebody who may post whatever that says; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    allow: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberAction {
    /// Add members.
    Add(Members),
    /// Take members out.
    Remove(Members),
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Address of the list.
    list: String,
    /// Addresses of members, here or elsewhere.
    #[arg(required = true)]
    members: Vec<String>,
}

impl ListAction {
    /// Does what was typed.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let text = Show::new(false);
        match self {
            Self::Add { list, owner, rules } => simply(path, rules.request(list, Some(owner), true), text),
            Self::Set { list, owner, rules } => simply(path, rules.request(list, owner, false), text),
            Self::Remove { list } => simply(path, Request::ListRemove { list }, text),
            Self::Show { list, json } => simply(path, Request::ListShow { list: Some(list) }, Show::new(json)),
            Self::List(format) => simply(path, Request::ListShow { list: None }, Show::list(format.json)),
            Self::Member(action) => {
                let (Members { list, members }, member) = match action {
                    MemberAction::Add(members) => (members, true),
                    MemberAction::Remove(members) => (members, false),
                };
                simply(path, Request::ListMembers { list, members, member }, text)
            }
        }
    }
}

impl Rules {
    fn request(self, list: String, owner: Option<String>, is_new: bool) -> Request {
        let posters = (!self.allow.is_empty()).then_some(self.allow);
        Request::ListSet { list, owner, posting: self.posting, posters, is_new }
    }
}
