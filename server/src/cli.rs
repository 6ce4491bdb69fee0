//! The command line: what can be typed, and what is printed.

use std::{
    fs,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::{
    admin::{
        DomainFacts, IMPORT_BATCH_MAX, Link, NewAccount, Reply, Request, Secret, UndeleteFilter, password_problem,
    },
    backup::command::{BackupAction, RestoreAction},
    config::{self, Config, Size, Span},
    demo,
    failure::{Failure, refused},
    lists::ListAction,
    publish::{self, DkimAction},
    quarantine::QuarantineAction,
    queue::QueueAction,
    reports,
    runtime::clock,
    serve,
    sharing::{AclAction, GroupAction},
    show::Show,
    spam::SpamAction,
    trace::TraceAction,
    transfer::command::{ExportAction, ImportAction},
};

/// Octets of a line of an import file: an address, a colon and a password.
const IMPORT_LINE_OCTETS_MAX: u64 = 4_096;

/// Rockdove, a mail server.
#[derive(Debug, Parser)]
#[command(name = "rockdove", version, about = "A mail server: SMTP, submission, LMTP, IMAP and POP3 on one store.")]
pub struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "FILE", default_value = config::PATH_DEFAULT)]
    config: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum GateAction {
    /// Give back at once what limits have taken from somebody.
    Refill {
        /// The address of a client or its network, the address of an account, or a domain.
        who: String,
    },
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve in the foreground until SIGTERM or SIGINT; SIGHUP reads the configuration and the certificate again.
    Serve,
    /// Read the configuration and say what is wrong in it.
    Check,
    /// Ask the running server how it is.
    Status {
        /// Print JSON.
        #[arg(long, conflicts_with = "metrics")]
        json: bool,
        /// Print its figures in the text form of Prometheus.
        #[arg(long)]
        metrics: bool,
    },
    /// Local domains.
    #[command(subcommand)]
    Domain(DomainAction),
    /// Accounts.
    #[command(subcommand)]
    Account(AccountAction),
    /// Addresses that stand for others.
    #[command(subcommand)]
    Alias(AliasAction),
    /// Distribution lists.
    #[command(subcommand)]
    List(ListAction),
    /// Groups of accounts, which can be granted rights together.
    #[command(subcommand)]
    Group(GroupAction),
    /// What others may do with a mailbox.
    #[command(subcommand)]
    Acl(AclAction),
    /// Deleted mail: what can be had again, and getting it back.
    #[command(subcommand)]
    Undelete(UndeleteAction),
    /// Mail that waits to leave.
    #[command(subcommand)]
    Queue(QueueAction),
    /// What keeps strangers and users in bounds.
    #[command(subcommand)]
    Gate(GateAction),
    /// Telling unwanted mail from wanted: teaching it, and what it knows.
    #[command(subcommand)]
    Spam(SpamAction),
    /// Mail that is kept apart: what a scanner or a filter has found.
    #[command(subcommand)]
    Quarantine(QuarantineAction),
    /// Tell what happened to mail.
    Trace(TraceAction),
    /// Compare everything that is derived with what it is derived from, and parts with their hashes.
    Fsck {
        /// Write what can be repaired.
        #[arg(long)]
        repair: bool,
    },
    /// Write everything that is derived anew.
    Rebuild,
    /// Backups: snapshots in a repository.
    #[command(subcommand)]
    Backup(BackupAction),
    /// Bring back what a backup has.
    Restore(RestoreAction),
    /// Write the mail of an account to files.
    Export(ExportAction),
    /// Bring mail from files into an account. What is there already stays as it is, so it may be run again.
    Import(ImportAction),
    /// Tell what is stored, in all and for each domain and account, and what deduplication and compression save.
    Stats(ListFormat),
    /// Try Rockdove: make a small server in a folder, with three accounts, and serve it.
    Demo {
        /// The folder; made when it is missing, found again when it is there.
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum DomainAction {
    /// Add a domain.
    Add {
        /// Its name.
        name: String,
    },
    /// Remove a domain without accounts and aliases.
    Remove {
        /// Its name.
        name: String,
    },
    /// List all domains.
    List(ListFormat),
    /// Show or change who receives mail for unknown addresses.
    CatchAll {
        /// The domain.
        name: String,
        /// The local address that receives it from now on.
        #[arg(conflicts_with = "none")]
        address: Option<String>,
        /// Nobody: such mail is refused from now on.
        #[arg(long)]
        none: bool,
    },
    /// Keys that the mail of a domain is signed with (DKIM).
    #[command(subcommand)]
    Dkim(DkimAction),
    /// Print every DNS record that a domain is to publish.
    Dns(publish::DnsArgs),
    /// Show the DMARC reports that others have sent to an account of a running server.
    Reports {
        /// Address of the account that gets them.
        address: String,
        /// Look into this mailbox only; any number of times.
        #[arg(long)]
        mailbox: Vec<String>,
        /// Only reports about this domain.
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Show or change whose mailboxes the accounts of a domain see as public.
    Public {
        /// The domain.
        name: String,
        /// Address of the account that has them from now on.
        #[arg(conflicts_with = "none")]
        address: Option<String>,
        /// No mailbox is public from now on.
        #[arg(long)]
        none: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AccountAction {
    /// Add an account.
    Add {
        /// Its address, which is also the login.
        address: String,
        /// What its mail may take, as in "5 GiB"; no limit when missing.
        #[arg(long, value_name = "SIZE")]
        quota: Option<Quota>,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Add many accounts from a file of lines `address:password`.
    Import {
        /// The file; - for standard input.
        file: PathBuf,
    },
    /// Remove an account and all its mail.
    Remove {
        /// Its address.
        address: String,
    },
    /// List all accounts.
    List(ListFormat),
    /// Show an account and what it uses.
    Show {
        /// Its address.
        address: String,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Change a password.
    Password {
        /// Address of the account.
        address: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Show or change where the mail of an account is sent on to.
    Forward {
        /// Address of the account.
        address: String,
        /// An address, here or elsewhere, that gets its mail from now on; may be given several times.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "none")]
        to: Vec<String>,
        /// The account gets its mail too.
        #[arg(long, requires = "to")]
        keep: bool,
        /// Nobody else gets it any more.
        #[arg(long)]
        none: bool,
    },
    /// Change a quota.
    Quota {
        /// Address of the account.
        address: String,
        /// What its mail may take, as in "5 GiB", or none.
        size: Quota,
    },
}

#[derive(Debug, Subcommand)]
enum AliasAction {
    /// Make an alias, or replace its targets.
    Add {
        /// The address.
        alias: String,
        /// Addresses, here or elsewhere, that receive its mail.
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Remove an alias.
    Remove {
        /// The address.
        alias: String,
    },
    /// List all aliases.
    List(ListFormat),
}

#[derive(Debug, Subcommand)]
enum UndeleteAction {
    /// List what can be had again: deleted mailboxes, then messages with the ids that restore wants.
    List {
        /// Address of the account.
        address: String,
        /// Only from mailboxes of this name.
        #[arg(long, value_name = "NAME")]
        mailbox: Option<String>,
        /// Only what was deleted since: a time ago, as in "2 h", or seconds since 1970.
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        /// Only messages with this in their subject.
        #[arg(long, value_name = "TEXT")]
        subject: Option<String>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Bring mail back to where it was, with its flags and dates.
    #[command(group = ArgGroup::new("what").required(true))]
    Restore {
        /// Address of the account.
        address: String,
        /// These messages, by the ids of the list.
        #[arg(long, value_name = "ID", num_args = 1.., group = "what")]
        message: Vec<u32>,
        /// The deleted mailboxes of this name, and what was expunged from them or from the one that has the name now.
        #[arg(long, value_name = "NAME", group = "what")]
        mailbox: Option<String>,
        /// Everything deleted since: a time ago, as in "2 h", or seconds since 1970.
        #[arg(long, value_name = "TIME", group = "what")]
        since: Option<Since>,
        /// Bring all of it to this mailbox, made when it is missing.
        #[arg(long, value_name = "MAILBOX")]
        to: Option<String>,
    },
    /// Remove deleted mail for good, now.
    Purge {
        /// Address of the account.
        address: String,
    },
}

/// A moment: a time ago, or seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(Span),
    At(i64),
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::At).or_else(|_| text.parse().map(Self::Ago))
    }
}

impl Since {
    pub(crate) fn unix_s(self) -> i64 {
        match self {
            Self::At(unix_s) => unix_s,
            Self::Ago(span) => {
                let ago_s = i64::try_from(span.ms.div_ceil(1_000)).unwrap_or(i64::MAX);
                clock::now().unix_s.saturating_sub(ago_s)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ListFormat {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, Args)]
struct PasswordSource {
    /// Read the password from the first line of standard input instead of asking for it.
    #[arg(long)]
    password_stdin: bool,
}

/// A size, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota(Option<u64>);

impl std::str::FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse::<Size>().map(|size| Self(Some(size.bytes))) }
    }
}

impl Cli {
    /// Does what was typed.
    ///
    /// # Errors
    /// With what to print on standard error, and the exit code.
    pub fn run(self) -> Result<(), Failure> {
        let path = self.config;
        match self.action {
            Action::Demo { dir } => demo::run(&dir),
            Action::Serve => serve::serve(&path, config::read(&path)?),
            Action::Check => {
                config::read(&path)?;
                print("ok\n")
            }
            Action::Status { json, metrics } => {
                let request = if metrics { Request::Metrics } else { Request::Status };
                let mut link = Link::server(&config::read(&path)?)?;
                ask(&mut link, request, Show::new(json))
            }
            Action::Domain(action) => domain(action, &path),
            Action::Account(action) => account(action, &path),
            Action::Alias(action) => alias(action, &path),
            Action::List(action) => action.run(&path),
            Action::Group(action) => action.run(&path),
            Action::Acl(action) => action.run(&path),
            Action::Undelete(action) => undelete(action, &path),
            Action::Queue(action) => action.run(&path),
            Action::Gate(GateAction::Refill { who }) => {
                let mut link = Link::server(&config::read(&path)?)?;
                ask(&mut link, Request::GateRefill { who }, Show::new(false))
            }
            Action::Spam(action) => action.run(&path),
            Action::Quarantine(action) => action.run(&path),
            Action::Trace(action) => action.run(&path),
            Action::Fsck { repair } => fsck(&path, repair),
            Action::Backup(action) => action.run(&path),
            Action::Restore(action) => action.run(&path),
            Action::Export(action) => action.run(&path),
            Action::Import(action) => action.run(&path),
            Action::Stats(format) => simply(&path, Request::Stats, Show::list(format.json)),
            Action::Rebuild => simply(&path, Request::Rebuild, Show::new(false)),
        }
    }
}

/// Prints findings as they come; a damaged store may have many.
fn fsck(path: &Path, repair: bool) -> Result<(), Failure> {
    let mut clean = true;
    let mut printed = Ok(());
    let mut link = Link::open(&config::read(path)?)?;
    link.ask(Request::Fsck { repair }, &mut |reply| {
        if let Reply::Checked(facts) = &reply {
            clean = facts.findings == facts.repaired;
        }
        let mut show = Show::new(false);
        show.take(reply);
        printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| print(&show.finish()));
        Ok(())
    })?;
    printed?;
    if clean { Ok(()) } else { Err(Failure::Found) }
}

/// Asks and prints; `--json` wants one value, text wants lines.
fn ask(link: &mut Link, request: Request, mut show: Show) -> Result<(), Failure> {
    let mut not_added = false;
    let last = link.ask(request, &mut |reply| {
        not_added |= matches!(reply, Reply::NotAdded { .. });
        show.take(reply);
        Ok(())
    })?;
    show.take(last);
    print(&show.finish())?;
    if not_added { Err(Failure::Refused(show.complaints())) } else { Ok(()) }
}

pub(crate) fn simply(path: &Path, request: Request, show: Show) -> Result<(), Failure> {
    let config = config::read(path)?;
    ask(&mut Link::open(&config)?, request, show)
}

fn domain(action: DomainAction, path: &Path) -> Result<(), Failure> {
    let text = Show::new(false);
    match action {
        DomainAction::Add { name } => simply(path, Request::DomainAdd { name }, text),
        DomainAction::Remove { name } => simply(path, Request::DomainRemove { name }, text),
        DomainAction::List(format) => simply(path, Request::DomainList, Show::list(format.json)),
        DomainAction::Dkim(action) => action.run(path),
        DomainAction::Dns(args) => publish::dns(path, &args),
        DomainAction::Reports { address, mailbox, domain, format } => {
            reports::show(path, &address, &mailbox, domain.as_deref(), format.json)
        }
        DomainAction::CatchAll { name, address: None, none: false } => show_of(path, &name, |domain| domain.catch_all),
        DomainAction::Public { name, address: None, none: false } => show_of(path, &name, |domain| domain.public),
        DomainAction::Public { name, address, none: _ } => simply(path, Request::DomainPublic { name, address }, text),
        DomainAction::CatchAll { name, address, none: _ } => {
            simply(path, Request::DomainCatchAll { name, address }, text)
        }
    }
}

/// Prints an address that a domain has, or `none`.
fn show_of(path: &Path, name: &str, of: impl Fn(DomainFacts) -> Option<String>) -> Result<(), Failure> {
    let wanted = rockdove_engine::directory::domain_key(name);
    let mut found = None;
    Link::open(&config::read(path)?)?.ask(Request::DomainList, &mut |reply| {
        if let Reply::Domain(domain) = reply
            && Some(&domain.name) == wanted.as_ref()
        {
            found = Some(of(domain));
        }
        Ok(())
    })?;
    match found {
        Some(target) => print(&format!("{}\n", target.as_deref().unwrap_or("none"))),
        None => {
            Err(Failure::Refused(format!("domain {name} does not exist; `rockdove domain list` shows what there is")))
        }
    }
}

fn account(action: AccountAction, path: &Path) -> Result<(), Failure> {
    let text = Show::new(false);
    match action {
        AccountAction::Add { address, quota, password } => {
            let config = config::read(path)?;
            let password = password.read(&address)?;
            let quota_bytes = quota.and_then(|quota| quota.0);
            let accounts = vec![NewAccount { address, password, quota_bytes }];
            ask(&mut Link::open(&config)?, Request::AccountAdd { accounts }, text)
        }
        AccountAction::Import { file } => import(&config::read(path)?, &file),
        AccountAction::Remove { address } => simply(path, Request::AccountRemove { address }, text),
        AccountAction::List(format) => simply(path, Request::AccountList, Show::list(format.json)),
        AccountAction::Show { address, format } => {
            simply(path, Request::AccountShow { address }, Show::new(format.json))
        }
        AccountAction::Password { address, password } => {
            let config = config::read(path)?;
            let password = password.read(&address)?;
            ask(&mut Link::open(&config)?, Request::AccountPassword { address, password }, text)
        }
        AccountAction::Forward { address, to, keep: _, none: false } if to.is_empty() => {
            simply(path, Request::AccountShow { address }, text)
        }
        AccountAction::Forward { address, to: targets, keep, none: _ } => {
            simply(path, Request::AccountForward { address, targets, keep }, text)
        }
        AccountAction::Quota { address, size } => {
            simply(path, Request::AccountQuota { address, quota_bytes: size.0 }, text)
        }
    }
}

fn alias(action: AliasAction, path: &Path) -> Result<(), Failure> {
    let text = Show::new(false);
    match action {
        AliasAction::Add { alias, targets } => simply(path, Request::AliasAdd { alias, targets }, text),
        AliasAction::Remove { alias } => simply(path, Request::AliasRemove { alias }, text),
        AliasAction::List(format) => simply(path, Request::AliasList, Show::list(format.json)),
    }
}

fn undelete(action: UndeleteAction, path: &Path) -> Result<(), Failure> {
    let text = Show::new(false);
    match action {
        UndeleteAction::List { address, mailbox, since, subject, format } => {
            let filter = UndeleteFilter { mailbox, since_unix_s: since.map(Since::unix_s), subject };
            simply(path, Request::UndeleteList { address, filter }, Show::list(format.json))
        }
        UndeleteAction::Restore { address, message: messages, mailbox, since, to } => {
            let filter = UndeleteFilter { mailbox, since_unix_s: since.map(Since::unix_s), subject: None };
            simply(path, Request::UndeleteRestore { address, messages, filter, to }, text)
        }
        UndeleteAction::Purge { address } => simply(path, Request::UndeletePurge { address }, text),
    }
}

impl PasswordSource {
    fn read(self, address: &str) -> Result<Secret, Failure> {
        let password = if self.password_stdin {
            let mut line = String::new();
            let most = u64::try_from(rockdove_engine::directory::PASSWORD_OCTETS_MAX).unwrap_or(u64::MAX) + 3;
            let read = BufReader::new(io::stdin().lock().take(most)).read_line(&mut line);
            read.map_err(refused("cannot read the password from standard input"))?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        } else if io::stdin().is_terminal() {
            let ask = |prompt: String| rpassword::prompt_password(prompt).map_err(refused("cannot read the password"));
            let password = ask(format!("Password of {address}: "))?;
            if ask("Again: ".to_owned())? != password {
                return Err(Failure::Refused("the two passwords differ; nothing was changed".to_owned()));
            }
            password
        } else {
            return Err(Failure::Usage("there is no terminal to ask at: use --password-stdin".to_owned()));
        };
        match password_problem(&password) {
            None => Ok(Secret(password)),
            Some(problem) => Err(Failure::Refused(format!("{problem}; nothing was changed"))),
        }
    }
}

/// Reads the whole file for mistakes first; then adds the accounts in batches. Those that are refused are named.
fn import(config: &Config, file: &Path) -> Result<(), Failure> {
    let accounts = read_import(file)?;
    let mut link = Link::open(config)?;
    let (mut added, mut complaints) = (accounts.len(), Vec::new());
    for batch in accounts.chunks(IMPORT_BATCH_MAX) {
        let request = Request::AccountAdd { accounts: batch.to_vec() };
        link.ask(request, &mut |reply| {
            if let Reply::NotAdded { address, why } = reply {
                added -= 1;
                complaints.push(format!("{address}: {why}"));
            }
            Ok(())
        })?;
    }
    print(&format!("{added} accounts added\n"))?;
    if complaints.is_empty() { Ok(()) } else { Err(Failure::Refused(complaints.join("\n"))) }
}

fn read_import(file: &Path) -> Result<Vec<NewAccount>, Failure> {
    let name = file.display();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(file).map_err(refused(&name))?)
    };
    let mut reader = BufReader::new(source);
    let mut accounts = Vec::new();
    for number in 1_usize.. {
        let mut line = String::new();
        let count = reader.by_ref().take(IMPORT_LINE_OCTETS_MAX).read_line(&mut line).map_err(refused(&name))?;
        if count == 0 {
            break;
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            continue;
        }
        let wrong = |what: &str| Failure::Usage(format!("{name}:{number}: {what}; nothing was added"));
        let (address, password) = line.split_once(':').ok_or_else(|| wrong("expected address:password"))?;
        if let Some(problem) = password_problem(password) {
            return Err(wrong(&problem));
        }
        let (address, password) = (address.to_owned(), Secret(password.to_owned()));
        accounts.push(NewAccount { address, password, quota_bytes: None });
    }
    Ok(accounts)
}

/// Prints to standard output. A reader that has gone is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(refused("cannot print")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn quotas_are_sizes_or_none() {
        assert_eq!("none".parse::<Quota>(), Ok(Quota(None)));
        assert_eq!("2 KiB".parse::<Quota>(), Ok(Quota(Some(2048))));
        assert!("2".parse::<Quota>().is_err());
    }
}
