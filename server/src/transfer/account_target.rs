//! Messages into an account, through the administrator's door, beside what is there: run twice, nothing doubles.
//!
//! A message is there already when its mailbox has one of the same octets and the same moment; what the mailbox has once
//! stands for one message of the source. Only messages of equal size and moment are read to be compared.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
};

use rockdove_imap::client::{AppendMessage, Body, Code, Done, Fetched, ImapClient, Outcome, Untagged};
use rockdove_mail::{Keyword, SpecialUse, SystemFlags};

use super::{
    Item, Place, Places, SourceMailbox, TransferError,
    account_source::{mailboxes, same_name},
    door::Door,
};
use crate::{config::Config, failure::Failure};

/// Octets of messages that are stored together, by one sync; a larger message goes alone.
const BATCH_OCTETS_MAX: usize = 4 << 20;
/// Messages that are stored together.
const BATCH_MESSAGES_MAX: usize = 200;
/// What stands between the levels of a name here.
const DELIMITER: char = '/';
/// The last moment that a date of IMAP can tell: the end of the year 9999.
const UNIX_S_MAX: i64 = 253_402_300_799;

/// What an import is to do.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Address of the account.
    pub address: String,
    /// The mailbox that INBOX and what has no mailbox of its own goes to; all others go below it.
    pub into: Option<String>,
    /// Only count.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Messages that were stored.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// Messages that were there already.
    pub there: u64,
    /// Messages that were not stored, and why.
    pub refused: Vec<String>,
}

/// Stores messages in an account.
pub struct AccountTarget {
    door: Door,
    wish: Wish,
    size_octets_max: u64,
    uses: HashMap<SpecialUse, Vec<String>>,
    /// Names of the source that stand for others here.
    renamed: HashMap<Vec<String>, Vec<String>>,
    mailboxes: BTreeMap<Vec<String>, Mailbox>,
    /// How far the mailboxes here are, by their names here.
    places: Places,
    /// The names here of the mailboxes of the source that were met.
    met: BTreeMap<Vec<String>, Vec<String>>,
    selected: Option<Vec<String>>,
    batch: Vec<AppendMessage>,
    batch_octets: usize,
    batch_mailbox: Vec<String>,
    imported: Imported,
}

/// What is known of a mailbox here.
#[derive(Default)]
struct Mailbox {
    exists: bool,
    /// Why it cannot be made.
    refused: Option<String>,
    there: Option<There>,
}

/// What a mailbox had when the import came to it.
#[derive(Default)]
struct There {
    /// UIDs by size and moment, not yet read.
    unread: HashMap<(u64, i64), Vec<u32>>,
    /// How often each message is there that was read.
    read: HashMap<(i64, [u8; 32]), u32>,
}

impl AccountTarget {
    /// Opens the account of the running server.
    ///
    /// # Errors
    /// When no server runs or the account does not exist.
    pub fn open(config: &Config, wish: Wish) -> Result<Self, Failure> {
        let mut target = Self {
            door: Door::open(config, &wish.address)?,
            wish,
            size_octets_max: config.limits.message_size.bytes,
            uses: HashMap::new(),
            renamed: HashMap::new(),
            mailboxes: BTreeMap::new(),
            places: Places::new(),
            met: BTreeMap::new(),
            selected: None,
            batch: Vec::new(),
            batch_octets: 0,
            batch_mailbox: Vec::new(),
            imported: Imported::default(),
        };
        target.look()?;
        Ok(target)
    }

    /// What mailboxes there are, and where each will put its next message.
    fn look(&mut self) -> Result<(), TransferError> {
        for found in mailboxes(&mut self.door)? {
            let uses = found.listed.attributes.iter().filter_map(|attribute| SpecialUse::from_name(attribute));
            for special_use in uses {
                self.uses.entry(special_use).or_insert_with(|| found.levels.clone());
            }
            let tag = self.door.client().status(&found.name, "UIDVALIDITY UIDNEXT");
            let mut place = Place { uid_validity: 0, uid_next: 0 };
            self.door.ok(&found.levels.join("/"), tag, &mut |untagged| {
                if let Untagged::Status(_, items) = untagged {
                    for (item, number) in items {
                        let number = u32::try_from(number).unwrap_or(0);
                        match item.as_str() {
                            "UIDVALIDITY" => place.uid_validity = number,
                            "UIDNEXT" => place.uid_next = number,
                            _ => {}
                        }
                    }
                }
                Ok(())
            })?;
            self.places.insert(found.levels.clone(), place);
            self.mailboxes.insert(found.levels, Mailbox { exists: true, ..Mailbox::default() });
        }
        Ok(())
    }

    /// How far the mailboxes here are that those of the source which were met go to.
    pub fn places(&self) -> Places {
        let place = |(source, here): (&Vec<String>, &Vec<String>)| Some((source.clone(), *self.places.get(here)?));
        self.met.iter().filter_map(place).collect()
    }

    /// How far the mailbox here is that one of a source goes to; `None` when it is not there yet.
    pub fn place(&self, mailbox: &SourceMailbox) -> Option<Place> {
        let here = self.of_same_use(mailbox).unwrap_or_else(|| self.name_of(&mailbox.levels));
        self.places.get(&here).copied()
    }

    /// The mailbox here that has the special use of one of a source.
    fn of_same_use(&self, mailbox: &SourceMailbox) -> Option<Vec<String>> {
        let special_use = mailbox.special_use.filter(|_| self.wish.into.is_none());
        special_use.and_then(|special_use| self.uses.get(&special_use).cloned())
    }

    /// What was done so far. What waits to be stored together with others is not in it.
    pub fn imported(&self) -> &Imported {
        &self.imported
    }

    /// The account, and the mailbox of it that everything goes below.
    pub fn goes_to(&self) -> (&str, Option<&str>) {
        (&self.wish.address, self.wish.into.as_deref())
    }

    /// Whether it only counts.
    pub fn is_dry_run(&self) -> bool {
        self.wish.dry_run
    }

    /// Makes the mailboxes of a source, empty ones too. One that has a special use goes into the one that has it
    /// here, unless the source has a mailbox of that name too.
    ///
    /// # Errors
    /// When the server is lost. A mailbox that cannot be made is told with its messages.
    pub fn prepare(&mut self, all: Vec<SourceMailbox>) -> Result<(), TransferError> {
        let names: HashSet<Vec<String>> = all.iter().map(|mailbox| self.name_of(&mailbox.levels)).collect();
        for mailbox in all.into_iter().filter(|mailbox| mailbox.selectable) {
            // Where the source has both, they stay apart.
            if let Some(here) = self.of_same_use(&mailbox).filter(|here| !names.contains(here)) {
                self.renamed.insert(mailbox.levels.clone(), here);
            }
            let name = self.name_of(&mailbox.levels);
            let special_use = mailbox.special_use.filter(|_| self.wish.into.is_none());
            self.make(&name, special_use, mailbox.subscribed)?;
            // It is always there, so it is never made.
            if mailbox.subscribed && name == ["INBOX"] && !self.wish.dry_run {
                let tag = self.door.client().subscribe(b"INBOX");
                self.door.ok("INBOX", tag, &mut |_| Ok(()))?;
            }
            self.met.insert(mailbox.levels, name);
        }
        Ok(())
    }

    /// The name here of a mailbox of the source.
    fn name_of(&self, levels: &[String]) -> Vec<String> {
        if let Some(here) = self.renamed.get(levels) {
            return here.clone();
        }
        let mut name: Vec<String> = Vec::new();
        // What a name here cannot have (RFC 9051 section 5.1) is shown as another character.
        let level = |level: &String| level.replace(|c: char| c.is_control() || [DELIMITER, '%', '*'].contains(&c), "_");
        let mut levels = levels.iter().map(level).filter(|level| !level.is_empty());
        if let Some(into) = &self.wish.into {
            name.extend(into.split(DELIMITER).map(str::to_owned));
            name.extend(levels.by_ref().next().filter(|first| !first.eq_ignore_ascii_case("INBOX")));
        }
        name.extend(levels);
        match name.first_mut() {
            None => name.push("INBOX".to_owned()),
            Some(first) if same_name("INBOX", first) => "INBOX".clone_into(first),
            Some(_) => {}
        }
        name
    }

    /// Makes a mailbox that is not there, subscribed, so that the user's client shows it.
    fn make(
        &mut self,
        name: &[String],
        special_use: Option<SpecialUse>,
        subscribed: bool,
    ) -> Result<(), TransferError> {
        let known = self.mailboxes.entry(name.to_vec()).or_default();
        if known.exists || known.refused.is_some() || self.wish.dry_run {
            return Ok(());
        }
        let wire = ImapClient::wire_name(name, Some(DELIMITER));
        let tag = self.door.client().create(&wire, special_use);
        let mut done = self.door.run(tag, &mut |_| Ok(()))?;
        if done.outcome != Outcome::Ok && special_use.is_some() {
            let tag = self.door.client().create(&wire, None);
            done = self.door.run(tag, &mut |_| Ok(()))?;
        }
        if done.outcome != Outcome::Ok {
            known.refused = Some(done.text);
            return Ok(());
        }
        known.exists = true;
        if let Some(special_use) = special_use {
            self.uses.entry(special_use).or_insert_with(|| name.to_vec());
        }
        if subscribed {
            let tag = self.door.client().subscribe(&wire);
            self.door.ok(&name.join("/"), tag, &mut |_| Ok(()))?;
        }
        Ok(())
    }

    /// Takes a message; it is stored when [`Self::flush`] has returned, at the latest.
    ///
    /// # Errors
    /// When the server is lost. What it refuses is in [`Self::imported`].
    pub fn put(&mut self, item: Item) -> Result<(), TransferError> {
        let name = self.name_of(&item.mailbox);
        if name != self.batch_mailbox
            || self.batch_octets.saturating_add(item.octets.len()) > BATCH_OCTETS_MAX
            || self.batch.len() >= BATCH_MESSAGES_MAX
        {
            self.flush()?;
        }
        self.batch_mailbox.clone_from(&name);
        if !self.met.contains_key(&item.mailbox) {
            self.met.insert(item.mailbox.clone(), name.clone());
        }
        let octets = item.octets.len() as u64;
        if octets == 0 {
            self.refuse(&name, &item, "it has no octets, and IMAP cannot store such a message");
            return Ok(());
        }
        if octets > self.size_octets_max {
            let most = self.size_octets_max;
            self.refuse(&name, &item, &format!("it has {octets} octets, and at most {most} are taken"));
            return Ok(());
        }
        self.make(&name, None, true)?;
        if let Some(why) = self.mailboxes.get(&name).and_then(|mailbox| mailbox.refused.clone()) {
            self.refuse(&name, &item, &why);
            return Ok(());
        }
        let unix_s = item.internal_date.unix_s.clamp(0, UNIX_S_MAX);
        if self.has(&name, &item.octets, unix_s)? {
            self.imported.there += 1;
            return Ok(());
        }
        if self.wish.dry_run {
            self.imported.messages += 1;
            self.imported.octets += octets;
            return Ok(());
        }
        self.batch_octets += item.octets.len();
        let internal_date = Some((unix_s, item.internal_date.offset_minutes));
        let flags = item.flags.into_iter().filter(|flag| can_be_kept(flag)).collect();
        self.batch.push(AppendMessage { flags, internal_date, octets: item.octets.into() });
        Ok(())
    }

    fn refuse(&mut self, name: &[String], item: &Item, why: &str) {
        let date = rockdove_mail::date::imap(item.internal_date.unix_s, item.internal_date.offset_minutes);
        let what = format!("{}: the message of {date} was not stored: {why}", name.join("/"));
        self.imported.refused.push(what);
    }

    /// Whether the mailbox had this message, and it does not stand for another of the source.
    fn has(&mut self, name: &[String], octets: &[u8], unix_s: i64) -> Result<bool, TransferError> {
        if !self.mailboxes.get(name).is_some_and(|mailbox| mailbox.exists) {
            return Ok(false);
        }
        if self.mailboxes.get(name).is_none_or(|mailbox| mailbox.there.is_none()) {
            let there = self.there(name)?;
            self.mailboxes.entry(name.to_vec()).or_default().there = Some(there);
        }
        let size = octets.len() as u64;
        let there = self.mailboxes.get_mut(name).and_then(|mailbox| mailbox.there.as_mut());
        let unread = there.and_then(|there| there.unread.remove(&(size, unix_s))).unwrap_or_default();
        for uids in unread.chunks(BATCH_MESSAGES_MAX) {
            self.read(name, uids, unix_s)?;
        }
        let key = (unix_s, *blake3::hash(octets).as_bytes());
        let there = self.mailboxes.get_mut(name).and_then(|mailbox| mailbox.there.as_mut());
        let Some(copies) = there.and_then(|there| there.read.get_mut(&key)).filter(|copies| **copies > 0) else {
            return Ok(false);
        };
        *copies -= 1;
        Ok(true)
    }

    fn select(&mut self, name: &[String]) -> Result<(), TransferError> {
        if self.selected.as_deref() != Some(name) {
            let tag = self.door.client().open(&ImapClient::wire_name(name, Some(DELIMITER)), true);
            self.door.ok(&name.join("/"), tag, &mut |_| Ok(()))?;
            self.selected = Some(name.to_vec());
        }
        Ok(())
    }

    /// Sizes and moments of what a mailbox has.
    fn there(&mut self, name: &[String]) -> Result<There, TransferError> {
        self.select(name)?;
        let mut there = There::default();
        let tag = self.door.client().uid_fetch("1:*", "UID RFC822.SIZE INTERNALDATE");
        self.door.ok(&name.join("/"), tag, &mut |untagged| {
            if let Untagged::Fetch(Fetched { uid: Some(uid), size: Some(size), internal_date: Some(date), .. }) =
                untagged
            {
                there.unread.entry((size, date.0)).or_default().push(uid);
            }
            Ok(())
        })?;
        Ok(there)
    }

    /// Reads messages that may be what comes. One that cannot be read is none of them.
    fn read(&mut self, name: &[String], uids: &[u32], unix_s: i64) -> Result<(), TransferError> {
        self.select(name)?;
        let set = uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut found = Vec::new();
        let tag = self.door.client().uid_fetch(&set, "UID BODY.PEEK[]");
        self.door.ok(&name.join("/"), tag, &mut |untagged| {
            if let Untagged::Fetch(Fetched { body: Some(Body::Octets(octets)), .. }) = untagged {
                found.push(*blake3::hash(&octets).as_bytes());
            }
            Ok(())
        })?;
        if let Some(there) = self.mailboxes.get_mut(name).and_then(|mailbox| mailbox.there.as_mut()) {
            for hash in found {
                *there.read.entry((unix_s, hash)).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Stores what waits; durable when this returns.
    ///
    /// # Errors
    /// When the server is lost. What it refuses is in [`Self::imported`].
    pub fn flush(&mut self) -> Result<(), TransferError> {
        let batch = mem::take(&mut self.batch);
        self.batch_octets = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let name = self.batch_mailbox.clone();
        if self.append(&name, &batch)?.outcome == Outcome::Ok {
            return Ok(());
        }
        // All or none: one by one, it shows which of them is refused.
        for message in batch {
            let message = [message];
            let done = self.append(&name, &message)?;
            if done.outcome != Outcome::Ok {
                let date = message.iter().find_map(|message| message.internal_date).unwrap_or_default();
                let date = rockdove_mail::date::imap(date.0, date.1);
                let (name, why) = (name.join("/"), done.text);
                self.imported.refused.push(format!("{name}: the message of {date} was not stored: {why}"));
            }
        }
        Ok(())
    }

    fn append(&mut self, name: &[String], messages: &[AppendMessage]) -> Result<Done, TransferError> {
        let tag = self.door.client().append(&ImapClient::wire_name(name, Some(DELIMITER)), messages);
        let done = self.door.run(tag, &mut |_| Ok(()))?;
        if done.outcome == Outcome::Ok {
            self.imported.messages += messages.len() as u64;
            self.imported.octets += messages.iter().map(|message| message.octets.len() as u64).sum::<u64>();
            if let Some(place) = done.code.as_ref().and_then(behind) {
                self.places.insert(name.to_vec(), place);
            }
        }
        Ok(done)
    }
}

/// Whether the server has a place for this flag; others are for the source alone, such as `\Recent`.
fn can_be_kept(flag: &str) -> bool {
    SystemFlags::from_name(flag).is_some() || Keyword::new(flag).is_some()
}

/// The place behind what APPENDUID (RFC 4315 section 3) tells.
fn behind(code: &Code) -> Option<Place> {
    let (uid_validity, uids) = code.argument.split_once(' ').filter(|_| code.name == "APPENDUID")?;
    let last: u32 = uids.rsplit([',', ':']).next()?.parse().ok()?;
    Some(Place { uid_validity: uid_validity.parse().ok()?, uid_next: last.checked_add(1)? })
}
