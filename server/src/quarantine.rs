//! The commands about mail that is kept apart: `rockdove quarantine`.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::{
    admin::{QuarantineRequest, QuarantineWish, Request},
    cli::{ListFormat, simply},
    failure::Failure,
    show::Show,
};

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// List what is kept apart, the oldest first.
    List {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Show one message: who sent it and to whom, why it is kept apart, its header.
    Show {
        /// Its number.
        message: u64,
        #[command(flatten)]
        whose: Whose,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Deliver messages to their recipients after all.
    Release(Which),
    /// Delete messages. Nobody is told.
    Delete(Which),
}

#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Only what is for this account, and for it only.
    #[arg(long, value_name = "ADDRESS")]
    account: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Their numbers.
    #[arg(required_unless_present = "all")]
    messages: Vec<u64>,
    /// All that are kept apart.
    #[arg(long, conflicts_with = "messages")]
    all: bool,
    #[command(flatten)]
    whose: Whose,
}

impl QuarantineAction {
    /// Does what was typed.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let ask = |wish, account, show| simply(path, Request::Quarantine(QuarantineRequest { wish, account }), show);
        match self {
            Self::List { whose, format } => ask(QuarantineWish::List, whose.account, Show::list(format.json)),
            Self::Show { message, whose, json } => {
                ask(QuarantineWish::Show { message }, whose.account, Show::new(json))
            }
            Self::Release(Which { messages, all, whose }) => {
                ask(QuarantineWish::Release { messages, all }, whose.account, Show::new(false))
            }
            Self::Delete(Which { messages, all, whose }) => {
                ask(QuarantineWish::Delete { messages, all }, whose.account, Show::new(false))
            }
        }
    }
}
