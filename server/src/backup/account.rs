//! The mail of one account from a snapshot into a server, beside what is there.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rockdove_engine::{AccountId, Engine, EngineError, Entry, MailboxInfo, MessageRecord};

use super::{manifest::Manifest, repository::Repository, view::View};
use crate::{
    admin::{Link, MessagePlace, Reply, Request, digest, names_of, pieces},
    config::Config,
    failure::{Failure, refused},
    runtime::clock,
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

/// What was done, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Messages that came back.
    pub messages: u64,
    /// Messages that were there still.
    pub there: u64,
}

/// Brings messages back with their flags and dates, through the running server. What a mailbox has
/// already (the same octets of the same moment, as often as the snapshot has them) stays as it is, so it may be run again.
///
/// # Errors
/// When the snapshot has no such account or mailbox, no server runs, or it refuses. What came back until then is there.
pub fn restore_account(
    repository: &Repository,
    snapshot: Option<&str>,
    config: &Config,
    wish: &Wish,
) -> Result<(Manifest, Brought), Failure> {
    let _held = repository.for_reading()?;
    let manifest = repository.chosen(snapshot)?;
    let view = View::open(repository, &manifest)?;
    let directory = view.engine.directory();
    let missing = |what: String| Failure::Refused(format!("{what} is not in snapshot {}", manifest.name));
    let account = directory.account_by_login(&wish.address).map(|account| account.id);
    let account = account.ok_or_else(|| missing(format!("account {}", wish.address)))?;
    let list = view.engine.mailboxes(account).map_err(|error| damaged(&error))?;
    let wanted = |info: &&MailboxInfo| wish.mailbox.as_ref().is_none_or(|name| same_name(info.name.as_str(), name));
    let mailboxes: Vec<&MailboxInfo> = list.mailboxes().iter().filter(wanted).collect();
    if let (Some(name), true) = (&wish.mailbox, mailboxes.is_empty()) {
        return Err(missing(format!("mailbox {name} of {}", wish.address)));
    }
    let link = Link::server(config)?;
    let mut back = Back { engine: &view.engine, account, wish, link, brought: Brought::default() };
    for mailbox in mailboxes {
        back.mailbox(mailbox)?;
    }
    Ok((manifest, back.brought))
}

/// INBOX has any case (RFC 9051 section 5.1).
fn same_name(one: &str, other: &str) -> bool {
    one == other || (one == "INBOX" && other.eq_ignore_ascii_case(one))
}

fn damaged(error: &EngineError) -> Failure {
    Failure::Refused(format!("the snapshot cannot be read: {error}"))
}

struct Back<'a> {
    engine: &'a Engine,
    account: AccountId,
    wish: &'a Wish,
    link: Link,
    brought: Brought,
}

/// An error of the engine on the snapshot, or a refusal of the server.
enum Stopped {
    Snapshot(EngineError),
    Server(Failure),
}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Self {
        Self::Snapshot(error)
    }
}

impl Back<'_> {
    fn mailbox(&mut self, info: &MailboxInfo) -> Result<(), Failure> {
        let name = info.name.as_str();
        let target = self.wish.into.as_ref().map_or_else(|| name.to_owned(), |into| format!("{into}/{name}"));
        let mut there = self.there(&target)?;
        let view = self.engine.mailbox(self.account, info.id).map_err(|error| damaged(&error))?;
        let uids = view.uids();
        for entry in view.entries(&uids) {
            let record = self.engine.record(self.account, entry.message).map_err(|error| damaged(&error))?;
            let blake3 = digest(self.engine, self.account, &record).map_err(|error| damaged(&error))?;
            match there.get_mut(&(blake3, entry.internal_date.unix_s)) {
                Some(copies) if *copies > 0 => {
                    *copies -= 1;
                    self.brought.there += 1;
                }
                _ => {
                    self.message(&entry, &record, &target)?;
                    self.brought.messages += 1;
                }
            }
        }
        Ok(())
    }

    /// What a mailbox of the server has, and how often.
    fn there(&mut self, mailbox: &str) -> Result<BTreeMap<(String, i64), u32>, Failure> {
        let mut there = BTreeMap::new();
        let request = Request::MailboxDigests { address: self.wish.address.clone(), mailbox: mailbox.to_owned() };
        self.link.ask(request, &mut |reply| {
            if let Reply::Digest { blake3, unix_s } = reply {
                *there.entry((blake3, unix_s)).or_default() += 1;
            }
            Ok(())
        })?;
        Ok(there)
    }

    fn message(&mut self, entry: &Entry, record: &MessageRecord, mailbox: &str) -> Result<(), Failure> {
        if self.wish.dry_run {
            return Ok(());
        }
        let seed = clock::seed().map_err(refused("no randomness"))?;
        let number = seed.first_chunk().map_or(0, |octets| u64::from_be_bytes(*octets));
        let (mut first, link) = (true, &mut self.link);
        let sent = pieces(self.engine, self.account, record, &mut |piece| {
            let request = Request::MessageOctets { number, first, octets: STANDARD.encode(piece) };
            first = false;
            link.ask(request, &mut |_| Ok(())).map(drop).map_err(Stopped::Server)
        });
        sent.map_err(|stopped| match stopped {
            Stopped::Snapshot(error) => damaged(&error),
            Stopped::Server(failure) => failure,
        })?;
        let place = MessagePlace {
            address: self.wish.address.clone(),
            mailbox: mailbox.to_owned(),
            flags: names_of(&entry.flags),
            unix_s: entry.internal_date.unix_s,
            offset_minutes: entry.internal_date.offset_minutes,
        };
        self.link.ask(Request::MessagePlace { number, place }, &mut |_| Ok(())).map(drop)
    }
}
