//! The mail of one account from a snapshot into a server, beside what is there.

use std::sync::Arc;

use rockdove_engine::{AccountId, Engine, EngineError, Entry, MailboxId, MailboxInfo, MailboxList, MailboxView};
use rockdove_mail::{Flags, SystemFlags, Uid};

use super::{manifest::Manifest, repository::Repository, view::View};
use crate::{
    config::Config,
    failure::Failure,
    transfer::{
        Item, Source, SourceMailbox, Total, TransferError,
        account_source::same_name,
        account_target::{AccountTarget, Wish as ImportWish},
        command::{Outcome, import},
    },
};

/// What is to be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Address of the account, in the snapshot and in the server.
    pub address: String,
    /// Only this mailbox; all of them when missing.
    pub mailbox: Option<String>,
    /// Below this mailbox; each into the one of its own name when missing.
    pub into: Option<String>,
    /// Only count.
    pub dry_run: bool,
}

/// Brings messages back with their flags and dates: an import whose source is the snapshot, so it may be run again.
///
/// # Errors
/// When the snapshot has no such account or mailbox, no server runs, or the account is not there.
pub fn restore_account(
    repository: &Repository,
    snapshot: Option<&str>,
    config: &Config,
    wish: &Wish,
) -> Result<(Manifest, Outcome), Failure> {
    let _held = repository.for_reading()?;
    let manifest = repository.chosen(snapshot)?;
    let view = View::open(repository, &manifest)?;
    let directory = view.engine.directory();
    let missing = |what: String| Failure::Refused(format!("{what} is not in snapshot {}", manifest.name));
    let account = directory.account_by_login(&wish.address).map(|account| account.id);
    let account = account.ok_or_else(|| missing(format!("account {}", wish.address)))?;
    let list = view.engine.mailboxes(account).map_err(|error| Failure::Refused(unreadable(&error)))?;
    let wanted = |info: &&MailboxInfo| wish.mailbox.as_ref().is_none_or(|name| same_name(info.name.as_str(), name));
    let mailboxes: Vec<&MailboxInfo> = list.mailboxes().iter().filter(wanted).collect();
    if let (Some(name), true) = (&wish.mailbox, mailboxes.is_empty()) {
        return Err(missing(format!("mailbox {name} of {}", wish.address)));
    }
    let mailboxes = mailboxes.into_iter().map(|info| Mailbox::of(info, &list, wish.into.as_deref())).collect();
    let mut source = Snapshot { engine: &view.engine, account, mailboxes, next: 0, reading: None };
    let import_wish = ImportWish { address: wish.address.clone(), into: None, dry_run: wish.dry_run };
    let outcome = import(&mut source, &mut AccountTarget::open(config, import_wish)?, &[]);
    Ok((manifest, outcome))
}

fn unreadable(error: &EngineError) -> String {
    format!("the snapshot cannot be read: {error}")
}

/// The account as it was.
struct Snapshot<'a> {
    engine: &'a Engine,
    account: AccountId,
    mailboxes: Vec<Mailbox>,
    /// Which mailbox comes next.
    next: usize,
    reading: Option<Reading>,
}

struct Mailbox {
    id: MailboxId,
    /// Where it comes back.
    here: SourceMailbox,
}

struct Reading {
    levels: Vec<String>,
    view: Arc<MailboxView>,
    uids: std::vec::IntoIter<Uid>,
}

impl Mailbox {
    /// A mailbox goes into the one of its own name, whatever that is for by now.
    fn of(info: &MailboxInfo, list: &MailboxList, into: Option<&str>) -> Self {
        let name = info.name.as_str();
        let levels = into.into_iter().chain([name]).flat_map(|name| name.split('/')).map(str::to_owned).collect();
        // One that is made is subscribed to, so that the user's client shows it; INBOX is there.
        let subscribed = name != "INBOX" || list.is_subscribed(&info.name);
        Self { id: info.id, here: SourceMailbox { levels, special_use: None, subscribed, selectable: true } }
    }
}

impl Snapshot<'_> {
    /// Opens the next mailbox; false when there is none.
    fn advance(&mut self) -> Result<bool, TransferError> {
        let Some(mailbox) = self.mailboxes.get(self.next) else { return Ok(false) };
        self.next += 1;
        let levels = mailbox.here.levels.clone();
        let view = self.engine.mailbox(self.account, mailbox.id);
        let view = view.map_err(|error| TransferError::stopped(levels.join("/"), unreadable(&error)))?;
        let uids = view.uids().iter().collect::<Vec<_>>().into_iter();
        self.reading = Some(Reading { levels, view, uids });
        Ok(true)
    }

    fn message(&self, reading: &Reading, entry: &Entry) -> Result<Item, TransferError> {
        let read = || {
            let record = self.engine.record(self.account, entry.message)?;
            self.engine.read(self.account, &record, 0..record.size_bytes)
        };
        let octets = read().map_err(|error| {
            TransferError::passed_over(format!("{}, UID {}", reading.levels.join("/"), entry.uid), unreadable(&error))
        })?;
        Ok(Item {
            mailbox: reading.levels.clone(),
            flags: names_of(&entry.flags),
            internal_date: entry.internal_date,
            octets: octets.to_vec(),
        })
    }
}

impl Source for Snapshot<'_> {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        loop {
            let reading = self.reading.as_mut();
            let entry = reading.and_then(|reading| reading.uids.next().and_then(|uid| reading.view.entry(uid)));
            if let (Some(entry), Some(reading)) = (entry, &self.reading) {
                return self.message(reading, &entry).map(Some);
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn total(&self) -> Option<Total> {
        None
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.iter().map(|mailbox| mailbox.here.clone()).collect()
    }
}

fn names_of(flags: &Flags) -> Vec<String> {
    let system = SystemFlags::NAMES.iter().filter(|(flag, _)| flags.system.contains(*flag));
    let system = system.map(|(_, name)| (*name).to_owned());
    system.chain(flags.keywords.iter().map(|keyword| keyword.as_str().to_owned())).collect()
}
