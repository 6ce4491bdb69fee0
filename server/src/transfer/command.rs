//! The command lines `export` and `import`.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use super::{
    Source, SourceMailbox, Target, TransferError,
    account_source::{AccountSource, same_name},
    account_target::{AccountTarget, Imported, Wish},
    archive::{ArchiveSource, ArchiveTarget},
    eml::{EmlSource, EmlTarget},
    maildir::{MaildirSource, MaildirTarget},
    mbox::{MboxSource, MboxTarget},
    progress::Progress,
    pull::Remote,
};
use crate::{
    cli::print,
    config,
    failure::{Failure, refused},
};

/// Messages between two moments at which the source is told how far everything is durable.
const SETTLE_EVERY: u64 = 200;
/// How many complaints are repeated in the report.
const COMPLAINTS_SHOWN: usize = 20;
/// How a file of zstd begins (RFC 8878 section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A folder of mbox files.
    Mbox,
    /// A Maildir++ folder.
    Maildir,
    /// A folder of .eml files with a list of flags and dates.
    Eml,
    /// An archive of such a folder.
    #[value(name = "tar.zst")]
    Archive,
}

/// `rockdove export`.
#[derive(Debug, Args)]
pub(crate) struct ExportAction {
    /// Address of the account.
    account: String,
    /// What to write: a folder, or a file for tar.zst. It must not be there yet.
    dest: PathBuf,
    /// The format; when missing, told by the end of the name: .mbox, .maildir, .eml or .tar.zst.
    #[arg(long)]
    format: Option<Format>,
    /// Only this mailbox; may be given more than once.
    #[arg(long, value_name = "NAME")]
    mailbox: Vec<String>,
}

/// `rockdove import`.
#[derive(Debug, Args)]
pub(crate) struct ImportAction {
    /// Address of the account, which must be there.
    account: String,
    /// What to read: a folder or a file.
    #[arg(required_unless_present = "imap")]
    source: Option<PathBuf>,
    #[command(flatten)]
    from: Remote,
    /// The format; when missing, told by what is there.
    #[arg(long, conflicts_with = "imap")]
    format: Option<Format>,
    /// Only this mailbox of the source; may be given more than once.
    #[arg(long, value_name = "NAME")]
    mailbox: Vec<String>,
    /// Put INBOX, or the one mailbox of an mbox file, into this mailbox, and all others below it.
    #[arg(long, value_name = "NAME")]
    into: Option<String>,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// The format that the name of a new export tells.
fn format_of_name(dest: &Path) -> Result<Format, Failure> {
    let name = dest.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let ends =
        [(".tar.zst", Format::Archive), ("mbox", Format::Mbox), ("maildir", Format::Maildir), ("eml", Format::Eml)];
    let found = ends.iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| *format);
    found.ok_or_else(|| Failure::Usage(format!("the name {name} tells no format: use --format")))
}

/// The format of what is there.
fn format_of(path: &Path) -> Result<Format, Failure> {
    let failed = || refused(path.display());
    if !fs::metadata(path).map_err(failed())?.is_dir() {
        let mut begin = Vec::new();
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut begin)).map_err(failed())?;
        return Ok(if begin == ZSTD_MAGIC { Format::Archive } else { Format::Mbox });
    }
    if path.join("cur").is_dir() {
        return Ok(Format::Maildir);
    }
    let mut eml = path.join("manifest.jsonl").is_file();
    for entry in fs::read_dir(path).map_err(failed())? {
        let entry = entry.map_err(failed())?.path();
        if entry.join("cur").is_dir() {
            return Ok(Format::Maildir);
        }
        eml |= entry.extension().is_some_and(|end| end.eq_ignore_ascii_case("eml"));
    }
    Ok(if eml { Format::Eml } else { Format::Mbox })
}

fn create(format: Format, dest: &Path) -> Result<Box<dyn Target>, TransferError> {
    Ok(match format {
        Format::Mbox => Box::new(MboxTarget::create(dest)?),
        Format::Maildir => Box::new(MaildirTarget::create(dest)?),
        Format::Eml => Box::new(EmlTarget::create(dest)?),
        Format::Archive => Box::new(ArchiveTarget::create(dest)?),
    })
}

fn open(format: Format, path: &Path, size_octets_max: usize) -> Result<Box<dyn Source>, TransferError> {
    Ok(match format {
        Format::Mbox => Box::new(MboxSource::open(path, size_octets_max)?),
        Format::Maildir => Box::new(MaildirSource::open(path, size_octets_max)?),
        Format::Eml => Box::new(EmlSource::open(path, size_octets_max)?),
        Format::Archive => Box::new(ArchiveSource::open(path, size_octets_max)?),
    })
}

impl ExportAction {
    /// Does it.
    ///
    /// # Errors
    /// When it cannot, or when a message could not be exported.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let config = config::read(path)?;
        let format = self.format.map_or_else(|| format_of_name(&self.dest), Ok)?;
        let mut source = AccountSource::open(&config, &self.account, &self.mailbox)?;
        let mut target = create(format, &self.dest)?;
        target.mailboxes(&source.mailboxes())?;
        let mut progress = Progress::new(source.total());
        let (mut messages, mut complaints) = (0_u64, Vec::new());
        loop {
            let put = match source.next() {
                Ok(Some(item)) => target.put(&item),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match put {
                Ok(()) => messages += 1,
                Err(error @ TransferError::PassedOver { .. }) => complaints.push(error.to_string()),
                Err(error) => {
                    progress.end();
                    return Err(error.into());
                }
            }
            progress.step();
        }
        progress.end();
        target.finish()?;
        print(&format!("{messages} messages exported to {}\n", self.dest.display()))?;
        complain("not exported", &complaints)
    }
}

impl ImportAction {
    /// Does it.
    ///
    /// # Errors
    /// When it cannot, or when a message could not be imported.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let config = config::read(path)?;
        let wish = Wish { address: self.account, into: self.into, dry_run: self.dry_run };
        if self.from.is_wanted() {
            let mut target = AccountTarget::open(&config, wish)?;
            // A dry run notes nothing, for it settles nothing.
            let mut source = self.from.open(&config, &target, &self.mailbox)?;
            return report(&import(&mut source, &mut target, &[]), self.dry_run);
        }
        let from = self.source.unwrap_or_default();
        let size_octets_max = usize::try_from(config.limits.message_size.bytes).unwrap_or(usize::MAX);
        let format = self.format.map_or_else(|| format_of(&from), Ok)?;
        let mut source = open(format, &from, size_octets_max)?;
        // The one mailbox of a file has the name of the file, which gives way to the name that was asked for.
        let one = format == Format::Mbox && from.is_file();
        let mut into_one = IntoOne { source: &mut *source, one: one && wish.into.is_some() };
        let mut target = AccountTarget::open(&config, wish)?;
        let outcome = import(&mut into_one, &mut target, &self.mailbox);
        report(&outcome, self.dry_run)
    }
}

/// A source all of whose messages are those of one mailbox, the inbox, if so wished.
struct IntoOne<'a> {
    source: &'a mut dyn Source,
    one: bool,
}

impl Source for IntoOne<'_> {
    fn next(&mut self) -> Result<Option<super::Item>, TransferError> {
        let mut item = self.source.next()?;
        if let Some(item) = item.as_mut().filter(|_| self.one) {
            item.mailbox = vec!["INBOX".to_owned()];
        }
        Ok(item)
    }

    fn total(&self) -> Option<super::Total> {
        self.source.total()
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        if self.one { Vec::new() } else { self.source.mailboxes() }
    }
}

/// How an import ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub imported: Imported,
    /// Messages that the source could not give, and why.
    pub passed_over: Vec<String>,
    /// Why it ended before the end of the source. What is told as imported is there; run it again to go on.
    pub stopped: Option<TransferError>,
}

/// Carries what a source has into an account, with the display of progress; with `only`, from these mailboxes, by their
/// names in UTF-8 with `/`.
pub fn import(source: &mut dyn Source, target: &mut AccountTarget, only: &[String]) -> Outcome {
    let mut progress = Progress::new(source.total());
    let mut passed_over = Vec::new();
    let carried = carry(source, target, only, &mut progress, &mut passed_over);
    // What came before the source broke off is kept.
    let stopped = match (carried, target.flush()) {
        (Err(error), _) | (Ok(()), Err(error)) => Some(error),
        (Ok(()), Ok(())) => None,
    };
    progress.end();
    Outcome { imported: target.imported().clone(), passed_over, stopped }
}

fn carry(
    source: &mut dyn Source,
    target: &mut AccountTarget,
    only: &[String],
    progress: &mut Progress,
    passed_over: &mut Vec<String>,
) -> Result<(), TransferError> {
    let is_wanted = |levels: &[String]| {
        let name = levels.join("/");
        only.is_empty() || only.iter().any(|wanted| same_name(&name, wanted))
    };
    let mailboxes = source.mailboxes();
    target.prepare(mailboxes.into_iter().filter(|mailbox| is_wanted(&mailbox.levels)).collect())?;
    let mut given = 0_u64;
    loop {
        let item = match source.next() {
            Ok(item) => item,
            Err(error @ TransferError::PassedOver { .. }) => {
                progress.tell(&error.to_string());
                passed_over.push(error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let ended = item.is_none();
        if let Some(item) = item {
            given += 1;
            progress.step();
            if is_wanted(&item.mailbox) {
                target.put(item)?;
            }
        }
        if ended || given.is_multiple_of(SETTLE_EVERY) {
            target.flush()?;
            // What was refused is to be given again, so nothing behind it is noted.
            if target.imported().refused.is_empty() && !target.is_dry_run() {
                source.settled(given, &target.places())?;
            }
        }
        if ended {
            return Ok(());
        }
    }
}

/// Prints what an import did.
///
/// # Errors
/// When not everything was imported.
pub(crate) fn report(outcome: &Outcome, dry_run: bool) -> Result<(), Failure> {
    let Imported { messages, octets, there, .. } = &outcome.imported;
    let verb = if dry_run { "would be imported" } else { "imported" };
    print(&format!("{messages} messages ({octets} octets) {verb}, {there} were there already\n"))?;
    complain_about(outcome)
}

/// Tells what was not imported.
///
/// # Errors
/// When anything was not.
pub(crate) fn complain_about(outcome: &Outcome) -> Result<(), Failure> {
    let mut complaints: Vec<String> = outcome.imported.refused.iter().chain(&outcome.passed_over).cloned().collect();
    if let Some(error) = &outcome.stopped {
        complaints.insert(0, format!("{error}; run it again to go on"));
    }
    complain("not imported", &complaints)
}

fn complain(what: &str, complaints: &[String]) -> Result<(), Failure> {
    if complaints.is_empty() {
        return Ok(());
    }
    let mut text: Vec<String> = complaints.iter().take(COMPLAINTS_SHOWN).cloned().collect();
    if let Some(more) = complaints.len().checked_sub(COMPLAINTS_SHOWN).filter(|more| *more > 0) {
        text.push(format!("and {more} more"));
    }
    Err(Failure::Refused(format!("{what}: {}\n{}", complaints.len(), text.join("\n"))))
}
