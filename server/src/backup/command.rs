//! The command lines `backup` and `restore`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Keep, Rate, Repository, Wish, create, prune, restore, restore_account, verify};
use crate::{
    cli::print,
    config::{self, Size},
    failure::{Failure, refused},
    transfer::command::complain_about,
};

/// `rockdove backup`.
#[derive(Debug, Subcommand)]
pub enum BackupAction {
    /// Take a snapshot of the server, running or not, into a repository.
    Create {
        /// The folder of the repository; made when it is missing.
        repository: PathBuf,
        /// Read no faster than this, as in "20 MiB/s".
        #[arg(long, value_name = "SIZE/s")]
        rate: Option<Rate>,
    },
    /// List the snapshots of a repository, oldest first.
    List {
        /// The folder of the repository.
        repository: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare every object with the hash that is its name.
    Verify {
        /// The folder of the repository.
        repository: PathBuf,
        /// Only what this snapshot needs.
        #[arg(long, value_name = "NAME")]
        snapshot: Option<String>,
        /// Open the store of each snapshot too, and check it as fsck does.
        #[arg(long)]
        deep: bool,
        /// Read no faster than this, as in "20 MiB/s".
        #[arg(long, value_name = "SIZE/s")]
        rate: Option<Rate>,
    },
    /// Remove the snapshots that no rule keeps, and what only they need.
    Prune {
        /// The folder of the repository.
        repository: PathBuf,
        /// What stays.
        #[command(flatten)]
        keep: KeepRules,
        /// Only tell what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What stays.
#[derive(Clone, Copy, Debug, Args)]
pub struct KeepRules {
    /// So many of the newest.
    #[arg(long = "keep-last", value_name = "N", default_value_t = 0)]
    last: usize,
    /// The newest of each of so many days.
    #[arg(long = "keep-daily", value_name = "N", default_value_t = 0)]
    daily: usize,
    /// The newest of each of so many weeks.
    #[arg(long = "keep-weekly", value_name = "N", default_value_t = 0)]
    weekly: usize,
    /// The newest of each of so many months.
    #[arg(long = "keep-monthly", value_name = "N", default_value_t = 0)]
    monthly: usize,
}

/// `rockdove restore`.
#[derive(Debug, Args)]
pub struct RestoreAction {
    /// The folder of the repository.
    repository: PathBuf,
    /// The snapshot; the newest when missing.
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Restore everything into this data folder, which must be empty or missing.
    #[arg(long, value_name = "DATA_DIR", required_unless_present = "account")]
    to: Option<PathBuf>,
    /// Keep every UIDVALIDITY: only when no client has seen mail that came after the snapshot, as in a move.
    #[arg(long, requires = "to")]
    same_uids: bool,
    /// Bring the mail of this account back into the server that the configuration names; what is there stays, and is not
    /// doubled.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "to")]
    account: Option<String>,
    /// Only this mailbox.
    #[arg(long, value_name = "NAME", requires = "account")]
    mailbox: Option<String>,
    /// Put it below this mailbox, as in "Restored".
    #[arg(long, value_name = "NAME", requires = "account")]
    into: Option<String>,
    /// Only count what would come back.
    #[arg(long, requires = "account")]
    dry_run: bool,
}

impl BackupAction {
    /// Does it; the configuration is at `config_path`.
    ///
    /// # Errors
    /// With what to do.
    pub fn run(self, config_path: &Path) -> Result<(), Failure> {
        match self {
            Self::Create { repository, rate } => {
                let config = config::read(config_path)?;
                let created = create(&repository, config_path, &config, rate)?;
                let ((files, bytes), (new, new_bytes)) = (created.files, created.copied);
                print(&format!(
                    "snapshot {}: {files} files, {}; {new} new ones, {}\n",
                    created.name,
                    shown(bytes),
                    shown(new_bytes)
                ))
            }
            Self::List { repository, json } => list(&repository, json),
            Self::Verify { repository, snapshot, deep, rate } => {
                run_verify(&repository, snapshot.as_deref(), deep, rate)
            }
            Self::Prune { repository, keep, dry_run } => run_prune(&repository, keep, dry_run),
        }
    }
}

fn list(repository: &Path, as_json: bool) -> Result<(), Failure> {
    let repository = Repository::open(repository)?;
    let (mut values, mut text, mut damaged) = (Vec::new(), String::new(), Vec::new());
    for name in repository.names().map_err(refused("cannot read the repository"))? {
        match repository.manifest(&name) {
            Ok(manifest) => {
                let (files, bytes) = (manifest.files.len(), manifest.size_bytes());
                let line = format!("{name}  {}  {files} files, {}\n", manifest.hostname, shown(bytes));
                text.push_str(&line);
                values.push(json!({
                    "name": name, "taken_unix_s": manifest.taken_unix_s, "hostname": manifest.hostname,
                    "version": manifest.version, "files": files, "bytes": bytes,
                }));
            }
            Err(why) => damaged.push(why),
        }
    }
    print(&if as_json { format!("{:#}\n", serde_json::Value::Array(values)) } else { text })?;
    if damaged.is_empty() { Ok(()) } else { Err(Failure::Refused(damaged.join("\n"))) }
}

fn run_verify(repository: &Path, snapshot: Option<&str>, deep: bool, rate: Option<Rate>) -> Result<(), Failure> {
    let repository = Repository::open(repository)?;
    let mut printed = Ok(());
    let verified = verify(&repository, snapshot, deep, rate, &mut |problem| {
        printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| print(&format!("{problem}\n")));
    })?;
    printed?;
    let (objects, bytes) = verified.objects;
    print(&format!(
        "verified: {} snapshots, {objects} objects, {}\n{} problems\n",
        verified.snapshots,
        shown(bytes),
        verified.problems
    ))?;
    if verified.problems == 0 { Ok(()) } else { Err(Failure::Found) }
}

fn run_prune(repository: &Path, rules: KeepRules, dry_run: bool) -> Result<(), Failure> {
    let KeepRules { last, daily, weekly, monthly } = rules;
    let pruned = prune(&Repository::open(repository)?, Keep { last, daily, weekly, monthly }, dry_run)?;
    let mut text = String::new();
    for name in &pruned.removed {
        text.push_str(name);
        text.push_str(if dry_run { " would be removed\n" } else { " removed\n" });
    }
    let (objects, bytes) = pruned.objects;
    let line = format!("{} snapshots stay, {objects} objects went, {}\n", pruned.kept.len(), shown(bytes));
    text.push_str(&line);
    print(&text)
}

impl RestoreAction {
    /// Does it.
    ///
    /// # Errors
    /// With what to do.
    pub fn run(self, config_path: &Path) -> Result<(), Failure> {
        let repository = Repository::open(&self.repository)?;
        let snapshot = self.snapshot.as_deref();
        match (self.to, self.account) {
            (Some(to), _) => whole(&repository, snapshot, &to, self.same_uids),
            (None, Some(address)) => {
                let Self { mailbox, into, dry_run, .. } = self;
                let wish = Wish { address, mailbox, into, dry_run };
                one_account(&repository, self.snapshot.as_deref(), config_path, &wish)
            }
            (None, None) => Err(Failure::Usage("say what to restore: --to or --account".to_owned())),
        }
    }
}

fn one_account(
    repository: &Repository,
    snapshot: Option<&str>,
    config_path: &Path,
    wish: &Wish,
) -> Result<(), Failure> {
    let (manifest, outcome) = restore_account(repository, snapshot, &config::read(config_path)?, wish)?;
    let (messages, there) = (outcome.imported.messages, outcome.imported.there);
    let would = if wish.dry_run { "would come" } else { "came" };
    print(&format!("{messages} messages {would} back from snapshot {}, {there} were there\n", manifest.name))?;
    complain_about(&outcome)
}

fn whole(repository: &Repository, snapshot: Option<&str>, to: &Path, same_uids: bool) -> Result<(), Failure> {
    let mut printed = Ok(());
    let (manifest, summary) = restore(repository, snapshot, to, same_uids, &mut |finding| {
        printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| print(&format!("{finding}\n")));
    })?;
    printed?;
    print(&format!(
        "restored snapshot {} of {} into {}: {} accounts, {} messages, {} problems\n",
        manifest.name,
        manifest.hostname,
        to.display(),
        summary.accounts,
        summary.messages,
        summary.findings
    ))?;
    if summary.findings == 0 { Ok(()) } else { Err(Failure::Found) }
}

/// Octets for people.
fn shown(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..=0xf_ffff => (1 << 10, "KiB"),
        0x10_0000..=0x3fff_ffff => (1 << 20, "MiB"),
        _ => (1_u64 << 30, "GiB"),
    };
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    if bytes < 1 << 10 { Size { bytes }.to_string() } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}
