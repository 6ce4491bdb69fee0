//! The command about what happened to mail: `rockdove trace`.

use std::path::Path;

use clap::Args;

use crate::{
    admin::{Request, TraceFilter},
    cli::{ListFormat, Since, simply},
    failure::Failure,
    show::Show,
};

/// The newest messages of which all that is given is true, in the order in which they came.
#[derive(Debug, Args)]
pub(crate) struct TraceAction {
    /// With this id in the log and in replies.
    #[arg(long)]
    id: Option<String>,
    /// From this sender; "" for bounces.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// To this recipient.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// With this Message-ID.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// From a client at, or sent to a server at this address.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Since: a time ago, as in "2 h", or seconds since 1970.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Until: a time ago, as in "2 h", or seconds since 1970.
    #[arg(long, value_name = "TIME")]
    until: Option<Since>,
    /// At most so many messages.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    format: ListFormat,
}

impl TraceAction {
    /// Does what was typed.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let Self { id, from, to, message_id, ip, since, until, limit, format } = self;
        let (since_unix_s, until_unix_s) = (since.map(Since::unix_s), until.map(Since::unix_s));
        let filter = TraceFilter { id, from, to, message_id, ip, since_unix_s, until_unix_s, limit };
        simply(path, Request::Trace { filter }, Show::list(format.json))
    }
}
