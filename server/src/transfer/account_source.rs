//! The messages of an account, through the administrator's door.

use std::collections::VecDeque;

use rockdove_engine::rights::{OTHER_USERS, PUBLIC};
use rockdove_imap::client::{Body, Fetched, Listed, Untagged, levels};
use rockdove_mail::SpecialUse;

use super::{InternalDate, Item, Source, SourceMailbox, Total, TransferError, door::Door};
use crate::{config::Config, failure::Failure};

/// Octets of messages that are asked for at once; a larger message comes alone.
const BATCH_OCTETS_MAX: u64 = 4 << 20;
/// Messages that are asked for at once.
const BATCH_MESSAGES_MAX: usize = 200;

/// A mailbox of an account.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) levels: Vec<String>,
    /// As it is written to the server.
    pub(super) name: Vec<u8>,
    pub(super) listed: Listed,
}

impl Found {
    fn described(&self) -> SourceMailbox {
        let special_use = self.listed.attributes.iter().find_map(|attribute| SpecialUse::from_name(attribute));
        let subscribed = self.listed.has("\\Subscribed");
        SourceMailbox { levels: self.levels.clone(), special_use, subscribed, selectable: true }
    }
}

/// The mailboxes of the account itself that can hold messages; not those that others share with it.
pub(super) fn mailboxes(door: &mut Door) -> Result<Vec<Found>, TransferError> {
    let returned = rockdove_imap::client::ListReturn { subscribed: true, special_use: true };
    let tag = door.client().list("*", returned);
    let mut found = Vec::new();
    door.ok("the list of mailboxes", tag, &mut |untagged| {
        if let Untagged::List(listed) = untagged {
            let levels = levels(&listed.name, listed.delimiter);
            let shared = levels.first().is_some_and(|first| first == OTHER_USERS || first == PUBLIC);
            if !shared && !listed.has("\\NonExistent") && !listed.has("\\Noselect") {
                found.push(Found { levels, name: listed.name.clone(), listed });
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads an account.
pub struct AccountSource {
    mailboxes: Vec<SourceMailbox>,
    door: Door,
    waiting: VecDeque<Found>,
    reading: Option<Reading>,
    ready: VecDeque<Result<Item, TransferError>>,
    total: Total,
}

struct Reading {
    mailbox: Vec<String>,
    /// UID and octets of what is still to be asked for.
    messages: VecDeque<(u32, u64)>,
}

impl AccountSource {
    /// Opens an account of the running server; with `only`, these mailboxes, by their names in UTF-8 with `/`.
    ///
    /// # Errors
    /// When no server runs, the account does not exist, or one of `only` does not.
    pub fn open(config: &Config, address: &str, only: &[String]) -> Result<Self, Failure> {
        let mut door = Door::open(config, address)?;
        let all = mailboxes(&mut door)?;
        let is = |found: &Found, name: &String| same_name(&found.levels.join("/"), name);
        if let Some(missing) = only.iter().find(|name| !all.iter().any(|found| is(found, name))) {
            return Err(Failure::Refused(format!("account {address} has no mailbox {missing}")));
        }
        let wanted = |found: &Found| only.is_empty() || only.iter().any(|name| is(found, name));
        let waiting: VecDeque<Found> = all.into_iter().filter(wanted).collect();
        let (mut messages, mut octets) = (0, 0);
        for found in &waiting {
            let tag = door.client().status(&found.name, "MESSAGES SIZE");
            let told = door.ok(&found.levels.join("/"), tag, &mut |untagged| {
                if let Untagged::Status(_, items) = untagged {
                    for (item, number) in items {
                        match item.as_str() {
                            "MESSAGES" => messages += number,
                            "SIZE" => octets += number,
                            _ => {}
                        }
                    }
                }
                Ok(())
            });
            told?;
        }
        let mailboxes = waiting.iter().map(Found::described).collect();
        let total = Total { messages: Some(messages), octets: Some(octets) };
        Ok(Self { mailboxes, door, waiting, reading: None, ready: VecDeque::new(), total })
    }

    /// Opens the next mailbox; false when there is none.
    fn advance(&mut self) -> Result<bool, TransferError> {
        let Some(found) = self.waiting.pop_front() else { return Ok(false) };
        let name = found.levels.join("/");
        let tag = self.door.client().open(&found.name, true);
        self.door.ok(&name, tag, &mut |_| Ok(()))?;
        let mut messages = VecDeque::new();
        let tag = self.door.client().uid_fetch("1:*", "UID RFC822.SIZE");
        self.door.ok(&name, tag, &mut |untagged| {
            if let Untagged::Fetch(Fetched { uid: Some(uid), size: Some(size), .. }) = untagged {
                messages.push_back((uid, size));
            }
            Ok(())
        })?;
        self.reading = Some(Reading { mailbox: found.levels, messages });
        Ok(true)
    }

    /// Asks for the next messages of the mailbox.
    fn fetch(&mut self) -> Result<(), TransferError> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let (mut set, mut octets, mut count) = (String::new(), 0_u64, 0);
        while let Some((uid, size)) = reading.messages.front().copied() {
            octets = octets.saturating_add(size);
            if count > 0 && (octets > BATCH_OCTETS_MAX || count == BATCH_MESSAGES_MAX) {
                break;
            }
            reading.messages.pop_front();
            set.push_str(if count == 0 { "" } else { "," });
            set.push_str(&uid.to_string());
            count += 1;
        }
        let (mailbox, ready) = (&reading.mailbox, &mut self.ready);
        let name = mailbox.join("/");
        let tag = self.door.client().uid_fetch(&set, "UID FLAGS INTERNALDATE BODY.PEEK[]");
        self.door.ok(&name, tag, &mut |untagged| {
            if let Untagged::Fetch(fetched) = untagged
                && let Some(item) = item(mailbox, fetched)
            {
                ready.push_back(item);
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// INBOX has any case (RFC 9051 section 5.1).
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    one == other || (one == "INBOX" && other.eq_ignore_ascii_case(one))
}

/// `None` for news of a message that nobody asked for.
fn item(mailbox: &[String], fetched: Fetched) -> Option<Result<Item, TransferError>> {
    let body = fetched.body?;
    let place = format!("{}, UID {}", mailbox.join("/"), fetched.uid.unwrap_or(0));
    Some(match (body, fetched.internal_date) {
        (Body::Octets(octets), Some((unix_s, offset_minutes))) => {
            let flags = fetched.flags.unwrap_or_default();
            let flags = flags.into_iter().filter(|flag| !flag.eq_ignore_ascii_case("\\Recent")).collect();
            let internal_date = InternalDate { unix_s, offset_minutes };
            Ok(Item { mailbox: mailbox.to_vec(), flags, internal_date, octets })
        }
        (Body::TooLarge(size), _) => Err(TransferError::passed_over(place, format!("{size} octets are too many"))),
        _ => Err(TransferError::passed_over(place, "the server cannot read it; `rockdove fsck` tells more")),
    })
}

impl Source for AccountSource {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item.map(Some);
            }
            if self.reading.as_ref().is_some_and(|reading| !reading.messages.is_empty()) {
                self.fetch()?;
            } else if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn total(&self) -> Option<Total> {
        Some(self.total)
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.clone()
    }
}
