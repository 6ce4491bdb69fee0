//! The command line.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    corpus::{Corpus, GENERATED_BYTES_LEAST},
    failure::{LoadError, Result},
    load::{Append, Command, Deliver, Idle, LogInAndOut, Maildrop, Pace, Recipients, Verify, Wake},
    login::Logins,
    memory::Whose,
    pace::{Budget, Report},
    smtp::Transfer,
    target::{Target, TlsMode, Trust},
};

/// Operations of a run that does not say how many.
const COUNT_DEFAULT: u64 = 1_000;
/// Addresses of 127.0.0.0/8 that connections can be spread over.
const SOURCES_MAX: u32 = 1 << 16;

/// Loads and measures any SMTP, LMTP, IMAP or POP3 server.
///
/// A run ends after --count operations or --seconds, whichever comes first. Connections are opened before the clock
/// starts. The first refusal stops the run with the server's words. Lists of names are written `ada@x,user{1..100}@x`.
#[derive(Debug, Parser)]
#[command(name = "rockdove-load", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub load: Load,
}

/// The kinds of load.
#[derive(Debug, Subcommand)]
pub enum Load {
    /// Deliver messages by LMTP.
    Lmtp(DeliverArguments),
    /// Deliver messages by SMTP.
    Smtp(DeliverArguments),
    /// Append messages by IMAP.
    ImapAppend(AppendArguments),
    /// Repeat an IMAP FETCH.
    ImapFetch(FetchArguments),
    /// Repeat an IMAP SEARCH.
    ImapSearch(SearchArguments),
    /// Repeat any IMAP command.
    ImapCommand(CommandArguments),
    /// Connect, log in and log out by IMAP.
    ImapLogin(LoginArguments),
    /// Hold idle IMAP connections, measure the server's memory and how soon they are told of new mail.
    ImapIdle(IdleArguments),
    /// Log in, STAT and RETR by POP3.
    Pop3(Pop3Arguments),
    /// Deliver messages, read them back by IMAP and POP3, compare every octet; exit code 1 on a difference.
    Verify(VerifyArguments),
}

/// Where the server is.
#[derive(Debug, Args)]
pub struct TargetArguments {
    /// HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    server: String,
    #[command(flatten)]
    tls: TlsArguments,
}

/// How it is spoken to.
#[derive(Debug, Args)]
pub struct TlsArguments {
    /// When TLS begins.
    #[arg(long, value_enum, default_value_t)]
    tls: TlsMode,
    /// Believe any certificate.
    #[arg(long)]
    insecure: bool,
    /// Believe certificates issued by those in this PEM file.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Seconds the server may be silent.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
    /// Connect from this many addresses 127.0.x.y in turn, for servers that limit connections per address.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    sources: u32,
}

impl TlsArguments {
    fn target(&self, address: &str, tls: TlsMode) -> Result<Target> {
        let trust = match &self.ca {
            _ if self.insecure => Trust::Anyone,
            Some(file) => Trust::Issuers(file.clone()),
            None => Trust::Nobody,
        };
        let mut target = Target::new(address, tls, &trust, Duration::from_secs(self.patience))?;
        if self.sources > SOURCES_MAX {
            return Err(LoadError::Usage(format!("--sources is at most {SOURCES_MAX}")));
        }
        let source = |number: u32| {
            let [_, _, high, low] = (number + 1).to_be_bytes();
            IpAddr::from([127, 1, high, low])
        };
        target.sources = (0..self.sources).map(source).collect();
        Ok(target)
    }
}

impl TargetArguments {
    fn target(&self) -> Result<Target> {
        self.tls.target(&self.server, self.tls.tls)
    }
}

/// How much and how it is told.
#[derive(Debug, Args)]
pub struct PaceArguments {
    /// Operations; 1000 when missing, for `verify` with --corpus every message once.
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// Seconds after which no operation begins.
    #[arg(short = 's', long, default_value_t = 60)]
    seconds: u64,
    /// Connections that work at the same time.
    #[arg(short = 'c', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// No progress on standard error.
    #[arg(short, long)]
    quiet: bool,
}

impl PaceArguments {
    fn pace(&self) -> Pace {
        Pace {
            budget: Budget { count: self.count.unwrap_or(COUNT_DEFAULT), time: Duration::from_secs(self.seconds) },
            connections: usize::try_from(self.connections).unwrap_or(usize::MAX),
            quiet: self.quiet,
        }
    }
}

/// Which messages.
#[derive(Debug, Args)]
pub struct CorpusArguments {
    /// Octets of each made-up message.
    #[arg(long, default_value_t = 4_096)]
    size: usize,
    /// Chooses the words of made-up messages; another seed makes other messages.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Send the messages in the files below this folder instead.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
}

impl CorpusArguments {
    fn corpus(&self) -> Result<Corpus> {
        match &self.corpus {
            Some(folder) => Corpus::read(folder),
            None if self.size < GENERATED_BYTES_LEAST => {
                Err(LoadError::Usage(format!("--size is at least {GENERATED_BYTES_LEAST}")))
            }
            None => Ok(Corpus::Generated { octets: self.size, seed: self.seed }),
        }
    }
}

/// Who logs in.
#[derive(Debug, Args)]
pub struct LoginsArguments {
    /// Logins; connections take them in turn.
    #[arg(long, value_name = "NAMES")]
    user: String,
    /// The password of all of them.
    #[arg(long)]
    password: String,
}

impl LoginsArguments {
    fn logins(&self) -> Result<Logins> {
        Logins::new(&self.user, &self.password)
    }
}

/// `lmtp` and `smtp`.
#[derive(Debug, Args)]
pub struct DeliverArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    pace: PaceArguments,
    #[command(flatten)]
    corpus: CorpusArguments,
    /// Recipients; messages go to them in turn.
    #[arg(long, value_name = "NAMES")]
    to: String,
    /// Recipients of one message; 0 for all.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    recipients: usize,
    /// The reverse-path.
    #[arg(long, default_value = "load@load.example", value_name = "ADDRESS")]
    from: String,
    /// How messages are handed over.
    #[arg(long, value_enum, default_value_t)]
    transfer: Transfer,
    /// Messages after which a connection is replaced by a new one; 0 for never.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    per_connection: u64,
    /// Log in with AUTH PLAIN; connections take these in turn.
    #[arg(long, value_name = "NAMES", requires = "password")]
    user: Option<String>,
    /// The password of all of them.
    #[arg(long)]
    password: Option<String>,
}

/// `imap-append`.
#[derive(Debug, Args)]
pub struct AppendArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    pace: PaceArguments,
    #[command(flatten)]
    corpus: CorpusArguments,
    #[command(flatten)]
    logins: LoginsArguments,
    /// The mailbox.
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// APPENDs under way on a connection; above 1 with LITERAL+.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pipeline: usize,
    /// Send octets without waiting for the server's leave (LITERAL+).
    #[arg(long)]
    literal_plus: bool,
}

/// What runs of one IMAP command have in common.
#[derive(Debug, Args)]
pub struct MailboxArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    pace: PaceArguments,
    #[command(flatten)]
    logins: LoginsArguments,
    /// The mailbox to select first.
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
}

/// `imap-fetch`.
#[derive(Debug, Args)]
pub struct FetchArguments {
    #[command(flatten)]
    on: MailboxArguments,
    /// Sequence set and items; `{random}` stands for the number of some message.
    #[arg(default_value = "1:* (UID FLAGS)")]
    fetch: String,
}

/// `imap-search`.
#[derive(Debug, Args)]
pub struct SearchArguments {
    #[command(flatten)]
    on: MailboxArguments,
    /// What to search for, such as `BODY engine`.
    search: String,
}

/// `imap-command`.
#[derive(Debug, Args)]
pub struct CommandArguments {
    #[command(flatten)]
    on: MailboxArguments,
    /// Select no mailbox.
    #[arg(long)]
    unselected: bool,
    /// The command; `{random}` stands for the number of some message.
    command: String,
}

/// `imap-login`.
#[derive(Debug, Args)]
pub struct LoginArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    pace: PaceArguments,
    #[command(flatten)]
    logins: LoginsArguments,
}

/// `imap-idle`.
#[derive(Debug, Args)]
pub struct IdleArguments {
    #[command(flatten)]
    on: MailboxArguments,
    /// New connections a second; 0 for as many as go.
    #[arg(long, default_value_t = 0, value_name = "PER_SECOND")]
    ramp: u32,
    /// Seconds between the last connection and the measuring of memory.
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    settle: u64,
    /// Seconds to hold all connections after that.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    hold: u64,
    /// Measure the memory of this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Measure the memory of this process and all below it.
    #[arg(long, conflicts_with = "pid")]
    pid_tree: Option<u32>,
    /// At the end deliver a message to all by this LMTP server.
    #[arg(long, value_name = "ADDRESS")]
    wake_lmtp: Option<String>,
    /// At the end deliver a message to all by this SMTP server.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "wake_lmtp")]
    wake_smtp: Option<String>,
    /// Recipients of that message; the logins when missing.
    #[arg(long, value_name = "NAMES")]
    to: Option<String>,
    /// Seconds until all must have been told.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wake_within: u64,
}

/// `pop3`.
#[derive(Debug, Args)]
pub struct Pop3Arguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    pace: PaceArguments,
    #[command(flatten)]
    logins: LoginsArguments,
    /// Messages retrieved in a session at most.
    #[arg(long, default_value_t = u32::MAX, value_name = "COUNT", hide_default_value = true)]
    retrieve: u32,
    /// RETRs under way on a connection.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pipeline: u32,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    pace: PaceArguments,
    #[command(flatten)]
    corpus: CorpusArguments,
    #[command(flatten)]
    logins: LoginsArguments,
    /// The server speaks LMTP.
    #[arg(long)]
    lmtp: bool,
    /// Read back by IMAP from here.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "pop3")]
    imap: Option<String>,
    /// TLS of the servers read from.
    #[arg(long, value_enum, default_value_t)]
    read_tls: TlsMode,
    /// Read back by POP3 from here.
    #[arg(long, value_name = "ADDRESS")]
    pop3: Option<String>,
    /// Recipients, in the order of the logins; the logins when missing.
    #[arg(long, value_name = "NAMES")]
    to: Option<String>,
    /// Recipients of one message; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    recipients: usize,
    /// How messages are handed over.
    #[arg(long, value_enum, default_value_t)]
    transfer: Transfer,
    /// Messages that the server may refuse.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    refusals: u64,
}

impl Load {
    /// Whether the report is wanted as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Lmtp(DeliverArguments { pace, .. })
            | Self::Smtp(DeliverArguments { pace, .. })
            | Self::ImapAppend(AppendArguments { pace, .. })
            | Self::ImapFetch(FetchArguments { on: MailboxArguments { pace, .. }, .. })
            | Self::ImapSearch(SearchArguments { on: MailboxArguments { pace, .. }, .. })
            | Self::ImapCommand(CommandArguments { on: MailboxArguments { pace, .. }, .. })
            | Self::ImapLogin(LoginArguments { pace, .. })
            | Self::ImapIdle(IdleArguments { on: MailboxArguments { pace, .. }, .. })
            | Self::Pop3(Pop3Arguments { pace, .. })
            | Self::Verify(VerifyArguments { pace, .. }) => pace.json,
        }
    }

    /// Does it. Needs a `LocalSet` around it.
    ///
    /// # Errors
    /// As the runs do, and when the arguments do not fit together.
    pub async fn run(&self) -> Result<Report> {
        match self {
            Self::Lmtp(arguments) => arguments.run("lmtp", true).await,
            Self::Smtp(arguments) => arguments.run("smtp", false).await,
            Self::ImapAppend(arguments) => arguments.run().await,
            Self::ImapFetch(FetchArguments { on, fetch }) => on.run("imap-fetch", format!("FETCH {fetch}"), true).await,
            Self::ImapSearch(SearchArguments { on, search }) => {
                on.run("imap-search", format!("SEARCH {search}"), true).await
            }
            Self::ImapCommand(CommandArguments { on, unselected, command }) => {
                on.run("imap-command", command.clone(), !unselected).await
            }
            Self::ImapLogin(LoginArguments { target, pace, logins }) => {
                LogInAndOut { target: target.target()?, logins: logins.logins()? }.run("imap-login", pace.pace()).await
            }
            Self::ImapIdle(arguments) => arguments.run().await,
            Self::Pop3(arguments) => arguments.run().await,
            Self::Verify(arguments) => arguments.run().await,
        }
    }
}

impl DeliverArguments {
    async fn run(&self, name: &str, lmtp: bool) -> Result<Report> {
        let logins = match (&self.user, &self.password) {
            (Some(user), Some(password)) => Some(Logins::new(user, password)?),
            _ => None,
        };
        let job = Deliver {
            target: self.target.target()?,
            lmtp,
            logins,
            corpus: self.corpus.corpus()?,
            reverse_path: self.from.clone(),
            recipients: Recipients::new(&self.to, self.recipients)?,
            transfer: self.transfer,
            messages_per_connection: self.per_connection,
        };
        job.run(name, self.pace.pace()).await
    }
}

impl AppendArguments {
    async fn run(&self) -> Result<Report> {
        let job = Append {
            target: self.target.target()?,
            logins: self.logins.logins()?,
            mailbox: self.mailbox.clone(),
            corpus: self.corpus.corpus()?,
            depth: self.pipeline,
            literal_plus: self.literal_plus,
        };
        job.run("imap-append", self.pace.pace()).await
    }
}

impl MailboxArguments {
    async fn run(&self, name: &str, command: String, select: bool) -> Result<Report> {
        let job = Command {
            target: self.target.target()?,
            logins: self.logins.logins()?,
            mailbox: select.then(|| self.mailbox.clone()),
            command,
        };
        job.run(name, self.pace.pace()).await
    }
}

impl IdleArguments {
    async fn run(&self) -> Result<Report> {
        let whose = self.pid.map(Whose::Process).or(self.pid_tree.map(Whose::Tree));
        let job = Idle {
            target: self.on.target.target()?,
            logins: self.on.logins.logins()?,
            mailbox: self.on.mailbox.clone(),
            ramp_per_s: self.ramp,
            settle: Duration::from_secs(self.settle),
            hold: Duration::from_secs(self.hold),
            whose,
            wake: self.wake()?,
        };
        let mut pace = self.on.pace.pace();
        // Every connection is one operation.
        pace.budget.count = u64::from(self.on.pace.connections);
        job.run("imap-idle", pace).await
    }

    fn wake(&self) -> Result<Option<Wake>> {
        let lmtp = self.wake_lmtp.is_some();
        let Some(address) = self.wake_lmtp.as_ref().or(self.wake_smtp.as_ref()) else { return Ok(None) };
        Ok(Some(Wake {
            target: self.on.target.tls.target(address, TlsMode::None)?,
            lmtp,
            recipients: Recipients::new(self.to.as_ref().unwrap_or(&self.on.logins.user), 0)?,
            within: Duration::from_secs(self.wake_within),
        }))
    }
}

impl Pop3Arguments {
    async fn run(&self) -> Result<Report> {
        let job = Maildrop {
            target: self.target.target()?,
            logins: self.logins.logins()?,
            retrieve_max: self.retrieve,
            depth: self.pipeline,
        };
        job.run("pop3", self.pace.pace()).await
    }
}

impl VerifyArguments {
    async fn run(&self) -> Result<Report> {
        let tls = &self.target.tls;
        let reading =
            |address: &Option<String>| address.as_ref().map(|address| tls.target(address, self.read_tls)).transpose();
        let job = Verify {
            target: self.target.target()?,
            lmtp: self.lmtp,
            imap: reading(&self.imap)?,
            pop3: reading(&self.pop3)?,
            logins: self.logins.logins()?,
            recipients: Recipients::new(self.to.as_ref().unwrap_or(&self.logins.user), self.recipients)?,
            corpus: self.corpus.corpus()?,
            transfer: self.transfer,
            refusals_max: self.refusals,
        };
        let mut pace = self.pace.pace();
        if let Corpus::Real(messages) = &job.corpus {
            // Once each: a message sent twice proves no more.
            let all = messages.len() as u64;
            pace.budget.count = self.pace.count.unwrap_or(all).min(all);
        }
        job.run("verify", pace).await
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
