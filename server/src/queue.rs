//! The commands about mail that waits to leave: `rockdove queue`.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::{
    admin::{QueueEdit, QueueFilter, Request},
    cli::{ListFormat, simply},
    failure::Failure,
    show::Show,
};

#[derive(Debug, Subcommand)]
pub(crate) enum QueueAction {
    /// List what waits.
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Show one message: its recipients, the last replies, and when it is tried again.
    Show {
        /// Its number.
        message: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Count what waits for each next hop.
    Hops(ListFormat),
    /// Keep messages from being sent until they are released.
    Hold(Which),
    /// Let messages go that are on hold.
    Release(Which),
    /// Try messages now.
    Retry(Which),
    /// Send messages another way: to the exchangers of a domain, or @ and the name of a route.
    Reroute {
        /// A domain, or @ and the name of a [[route]].
        way: String,
        #[command(flatten)]
        which: Which,
    },
    /// Tell other domains now, not once a day, how well connections to them were protected (TLS-RPT).
    TlsReports,
    /// Take messages out of the queue. Nobody is told.
    Cancel(Which),
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Of this account.
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<String>,
    /// With this sender.
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// With a recipient that has this in its address.
    #[arg(long, value_name = "TEXT")]
    recipient: Option<String>,
    /// With this next hop.
    #[arg(long, value_name = "DOMAIN")]
    next_hop: Option<String>,
    /// On hold.
    #[arg(long)]
    held: bool,
}

impl Filter {
    fn into_filter(self) -> QueueFilter {
        let Self { owner, sender, recipient, next_hop, held } = self;
        QueueFilter { owner, sender, recipient, next_hop, held: held.then_some(true) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Numbers of messages.
    messages: Vec<u64>,
    /// All that wait.
    #[arg(long, conflicts_with = "messages")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

impl QueueAction {
    /// Does what was typed.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        match self {
            Self::List { filter, format } => {
                simply(path, Request::QueueList { filter: filter.into_filter() }, Show::list(format.json))
            }
            Self::Show { message, json } => simply(path, Request::QueueShow { message }, Show::new(json)),
            Self::Hops(format) => simply(path, Request::QueueHops, Show::list(format.json)),
            Self::Hold(which) => which.edit(path, QueueEdit::Hold),
            Self::Release(which) => which.edit(path, QueueEdit::Release),
            Self::Retry(which) => which.edit(path, QueueEdit::Retry),
            Self::Reroute { way, which } => which.edit(path, QueueEdit::Reroute { next_hop: way }),
            Self::TlsReports => simply(path, Request::TlsReports, Show::new(false)),
            Self::Cancel(which) => which.edit(path, QueueEdit::Cancel),
        }
    }
}

impl Which {
    fn edit(self, path: &Path, edit: QueueEdit) -> Result<(), Failure> {
        let Self { messages, all, filter } = self;
        let filter = filter.into_filter();
        let filtered = filter != QueueFilter::default();
        if !messages.is_empty() && filtered {
            return Err(Failure::Usage("name messages, or say which; not both".to_owned()));
        }
        if messages.is_empty() && !filtered && !all {
            return Err(Failure::Usage(
                "name messages, say which (--sender, --next-hop and so on), or --all".to_owned(),
            ));
        }
        let filter = messages.is_empty().then_some(filter);
        simply(path, Request::QueueEdit { messages, filter, edit }, Show::new(false))
    }
}
