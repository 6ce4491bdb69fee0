//! The account of the test host, and its answers to what a session asks.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rockdove_imap::{
    Answer, Ask, Changes, LoginAnswer, MailboxLine, Mailboxes, QuotaFacts, Refusal, Selected, Status,
    command::AppendFacts, fetch::render_page,
};
use rockdove_mail::{
    FlagUpdate, Flags, MailboxName, MetadataEntry, MetadataScope, ModSeq, Rights, SpecialUse, SystemFlags, Uid, UidSet,
    metadata_mark,
    sasl::{self, ScramKeys},
    search::ThreadNode,
};

use super::mailbox::{Mailbox, flags_of};

/// Salt of every SCRAM login.
pub(crate) const SCRAM_SALT: &[u8] = b"salt";
/// The password of everybody.
pub(crate) const PASSWORD: &str = "open sesame";

#[derive(Default)]
pub(crate) struct Account {
    pub(crate) mailboxes: BTreeMap<MailboxName, (Mailbox, Option<SpecialUse>)>,
    pub(crate) subscriptions: Vec<MailboxName>,
    /// The one counter of mod-sequences.
    modseq: ModSeq,
    uid_validity: u32,
    /// Name, snapshot, and whether it was opened by EXAMINE.
    open: Option<(MailboxName, Mailbox)>,
    /// The session was told of messages below this one.
    told: Uid,
    /// The mailbox that is open was renamed or deleted under the session.
    append: Option<(MailboxName, u64, Vec<u8>)>,
    /// Messages of this APPEND that wait for the others.
    appended: Vec<(Vec<u8>, AppendFacts)>,
    pub(crate) quota_octets: Option<u64>,
    /// What the user may do, where that is not everything.
    pub(crate) rights: BTreeMap<MailboxName, Rights>,
    /// What others may do.
    acls: BTreeMap<MailboxName, BTreeMap<String, Rights>>,
    /// Annotations of mailboxes, and of the server.
    annotations: BTreeMap<Option<MailboxName>, BTreeMap<MetadataEntry, Bytes>>,
    /// What is worth telling in a transcript.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn name(text: &str) -> MailboxName {
    MailboxName::new(text).expect("a mailbox name")
}

impl Account {
    /// An account with the usual mailboxes and four messages in INBOX.
    pub(crate) fn usual() -> Self {
        let mut account = Self { modseq: 100, uid_validity: 76, ..Self::default() };
        for (mailbox, special_use) in [
            ("INBOX", None),
            ("Archive", None),
            ("Drafts", Some(SpecialUse::Drafts)),
            ("Lists/rust/dev", None),
            ("Sent", Some(SpecialUse::Sent)),
            ("Sent/2025", None),
            ("Trash", Some(SpecialUse::Trash)),
        ] {
            account.create(name(mailbox), special_use);
        }
        account.subscriptions = ["Gone/away", "INBOX", "Lists/rust/dev", "Sent"].map(name).to_vec();
        for (subject, flags, uid) in
            [("one", "\\Seen", 4), ("two", "", 5), ("three", "\\Flagged $Work", 9), ("four", "\\Deleted \\Seen", 10)]
        {
            account.mailbox("INBOX").uid_next = uid;
            account.deliver("INBOX", subject, flags);
        }
        account.mailbox("INBOX").unclaimed_from = 10;
        account
    }

    pub(crate) fn mailbox(&mut self, mailbox: &str) -> &mut Mailbox {
        &mut self.mailboxes.get_mut(&name(mailbox)).expect("a mailbox").0
    }

    pub(crate) fn create(&mut self, mailbox: MailboxName, special_use: Option<SpecialUse>) {
        self.uid_validity += 1;
        self.mailboxes.insert(mailbox, (Mailbox::new(self.uid_validity), special_use));
    }

    pub(crate) fn deliver(&mut self, mailbox: &str, subject: &str, flags: &str) {
        let text = format!("From: ann@example.com\r\nSubject: {subject}\r\n\r\nThis is {subject}.\r\n");
        self.modseq += 1;
        let modseq = self.modseq;
        self.mailbox(mailbox).add(text.into(), flags_of(flags), None, modseq);
    }

    /// Nothing happens to a message that has gone.
    pub(crate) fn set_flags(&mut self, mailbox: &str, uid: Uid, flags: &str) {
        self.modseq += 1;
        let (modseq, flags) = (self.modseq, flags_of(flags));
        let mailbox = self.mailbox(mailbox);
        let Some(message) = mailbox.messages.get_mut(&uid) else { return };
        (message.facts.flags, message.facts.modseq) = (flags.clone(), modseq);
        mailbox.learn(&flags);
        mailbox.highest_modseq = modseq;
    }

    pub(crate) fn expunge(&mut self, mailbox: &str, uid: Uid) {
        self.modseq += 1;
        let modseq = self.modseq;
        self.mailbox(mailbox).expunge(uid, modseq);
    }

    /// Whether the open mailbox has changed after this.
    pub(crate) fn has_changed(&self, since: ModSeq) -> bool {
        let open = self.open.as_ref().and_then(|(name, _)| self.mailboxes.get(name));
        open.is_none_or(|(mailbox, _)| mailbox.highest_modseq > since)
    }

    /// The open mailbox as it is now.
    fn renew(&mut self) -> Result<(MailboxName, &mut Mailbox), Refusal> {
        let name = self.open.as_ref().ok_or(Refusal::MailboxGone)?.0.clone();
        let mailbox = self.mailboxes.get(&name).ok_or(Refusal::MailboxGone)?.0.clone();
        let (name, view) = self.open.insert((name, mailbox));
        Ok((name.clone(), view))
    }

    pub(crate) fn answer(&mut self, ask: Ask, octets_aim: usize) -> Answer {
        self.try_answer(ask, octets_aim).unwrap_or_else(Answer::Refused)
    }

    fn try_answer(&mut self, ask: Ask, octets_aim: usize) -> Result<Answer, Refusal> {
        Ok(match ask {
            ask
            @ (Ask::CheckPassword { .. } | Ask::ScramKeys { .. } | Ask::ScramDone { .. } | Ask::External { .. }) => {
                self.login(ask)
            }
            Ask::Select { mailbox, read_only } => self.select(&mailbox, read_only)?,
            Ask::Unselect => {
                self.open = None;
                Answer::Done
            }
            Ask::Sync { since, own, keywords_known, claim_recent } => {
                self.sync(since, &own, keywords_known, claim_recent)?
            }
            Ask::Vanished { since } => {
                let Some((_, view)) = &self.open else { return Err(Refusal::MailboxGone) };
                Answer::Vanished(view.vanished_since(since))
            }
            Ask::Fetch { uids, request, numbers, recent, changed_since, cursor } => {
                let Some((_, view)) = &mut self.open else { return Err(Refusal::MailboxGone) };
                match render_page(&uids, &request, &numbers, &recent, changed_since, cursor, octets_aim, view) {
                    Ok(page) => Answer::Page {
                        octets: page.octets,
                        next: page.next,
                        missing: page.missing,
                        unknown_cte: page.unknown_cte,
                    },
                    Err(_) => Answer::Broken,
                }
            }
            Ask::Store { uids, update, flags, unchanged_since } => {
                self.store(&uids, update, &flags, unchanged_since)?
            }
            ask @ (Ask::Search { .. }
            | Ask::SearchIn { .. }
            | Ask::Relevancy { .. }
            | Ask::Sort { .. }
            | Ask::Thread { .. }) => self.find(ask)?,
            Ask::Copy { uids, mailbox, remove } => self.copy(&uids, &mailbox, remove)?,
            Ask::Expunge { uids } => {
                self.modseq += 1;
                let modseq = self.modseq;
                let (name, view) = self.renew()?;
                let gone = view.with_flag(SystemFlags::DELETED);
                let gone = uids.map_or_else(|| gone.clone(), |uids| gone.intersection(&uids));
                let mailbox = self.mailbox(name.as_str());
                gone.iter().for_each(|uid| mailbox.expunge(uid, modseq));
                self.renew()?;
                Answer::Expunged(gone)
            }
            ask @ (Ask::AppendBegin { .. }
            | Ask::AppendNext { .. }
            | Ask::AppendOctets(_)
            | Ask::AppendEnd { .. }
            | Ask::AppendAbort) => self.append(ask)?,
            Ask::MayCompress => Answer::Done,
            Ask::Unauthenticate => {
                self.open = None;
                self.notes.push("unauthenticate".to_owned());
                Answer::Done
            }
            Ask::Watch { .. } | Ask::WatchAll | Ask::EndWatch => unreachable!("the host does that"),
            ask => self.mailbox_ask(ask)?,
        })
    }

    /// SEARCH, SORT and THREAD.
    fn find(&self, ask: Ask) -> Result<Answer, Refusal> {
        Ok(match ask {
            Ask::Search { key, within } => {
                let Some((_, view)) = &self.open else { return Err(Refusal::MailboxGone) };
                let uids: UidSet = within.iter().filter(|uid| view.matches(*uid, &key)).collect();
                let highest_modseq = uids.iter().map(|uid| view.messages[&uid].facts.modseq).max().unwrap_or(0);
                Answer::Found { uids, highest_modseq }
            }
            Ask::Sort { key, within, criteria } => {
                let Some((_, view)) = &self.open else { return Err(Refusal::MailboxGone) };
                let mut uids: Vec<u32> = within.iter().filter(|uid| view.matches(*uid, &key)).collect();
                let highest_modseq = uids.iter().map(|uid| view.messages[uid].facts.modseq).max().unwrap_or(0);
                for criterion in criteria.iter().rev() {
                    uids.sort_by(|a, b| view.compared(*criterion, *a, *b));
                }
                Answer::Sorted { uids, highest_modseq }
            }
            Ask::Thread { key, within, .. } => {
                let Some((_, view)) = &self.open else { return Err(Refusal::MailboxGone) };
                let uids: Vec<u32> = within.iter().filter(|uid| view.matches(*uid, &key)).collect();
                Answer::Threads(threads(&uids))
            }
            ask @ (Ask::SearchIn { .. } | Ask::Relevancy { .. }) => self.find_in(ask)?,
            _ => unreachable!("these find nothing"),
        })
    }

    /// Searches of any mailbox, and scores.
    fn find_in(&self, ask: Ask) -> Result<Answer, Refusal> {
        Ok(match ask {
            Ask::SearchIn { mailbox, key, within } => {
                if !self.rights_on(&mailbox).contains(Rights::READ) {
                    return Err(Refusal::NoPermission);
                }
                let (mailbox, _) = self.mailboxes.get(&mailbox).ok_or(Refusal::NoSuchMailbox)?;
                let within = within.unwrap_or_else(|| mailbox.uids()).intersection(&mailbox.uids());
                let uids: UidSet = within.iter().filter(|uid| mailbox.matches(*uid, &key)).collect();
                let highest_modseq = uids.iter().map(|uid| mailbox.messages[&uid].facts.modseq).max().unwrap_or(0);
                Answer::FoundIn {
                    mailbox_id: mailbox.object_id(),
                    uid_validity: mailbox.uid_validity,
                    recent_from: mailbox.unclaimed_from,
                    uids,
                    highest_modseq,
                }
            }
            // The later, the better.
            Ask::Relevancy { mailbox, key: _, uids } => {
                let known = |name: &MailboxName| self.mailboxes.get(name).map(|(mailbox, _)| mailbox.uids());
                let there = match (&mailbox, &self.open) {
                    (Some(mailbox), _) => known(mailbox).ok_or(Refusal::NoSuchMailbox)?,
                    (None, Some((_, view))) => view.uids(),
                    (None, None) => return Err(Refusal::MailboxGone),
                };
                let score = |uid: Uid| (uid, u8::try_from(uid * 9 % 100 + 1).expect("small"));
                Answer::Relevancy(uids.intersection(&there).iter().map(score).collect())
            }
            _ => unreachable!("these are about one mailbox"),
        })
    }

    fn login(&mut self, ask: Ask) -> Answer {
        let verdict = |good: bool| Answer::Login(if good { LoginAnswer::Accepted } else { LoginAnswer::Refused });
        match ask {
            Ask::CheckPassword { login, .. } if login == "down" => Answer::Login(LoginAnswer::TryLater),
            Ask::CheckPassword { login, password, .. } => verdict(login == "ann" && password.as_str() == PASSWORD),
            Ask::ScramKeys { .. } => {
                let (stored_key, server_key) = sasl::scram_keys(PASSWORD, SCRAM_SALT, 4096);
                Answer::Scram(ScramKeys { salt: SCRAM_SALT.to_vec(), iterations: 4096, stored_key, server_key })
            }
            Ask::ScramDone { login, proven, .. } => {
                self.notes.push(format!("scram {login} {proven}"));
                verdict(proven)
            }
            Ask::External { authorize_as } => {
                self.notes.push(format!("external {authorize_as}"));
                verdict(authorize_as == "ann")
            }
            _ => unreachable!("a login"),
        }
    }

    fn mailbox_ask(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Mailboxes => {
                let line =
                    |(name, (mailbox, special_use)): (&MailboxName, &(Mailbox, Option<SpecialUse>))| MailboxLine {
                        name: name.clone(),
                        mailbox_id: mailbox.object_id(),
                        special_use: *special_use,
                        rights: self.rights_on(name),
                    };
                return Ok(Answer::Mailboxes(Arc::new(Mailboxes {
                    mailboxes: self.mailboxes.iter().map(line).collect(),
                    subscriptions: self.subscriptions.clone(),
                })));
            }
            Ask::Status { mailbox, .. } => {
                let (mailbox, _) = self.mailboxes.get(&mailbox).ok_or(Refusal::NoSuchMailbox)?;
                return Ok(Answer::Status(status(mailbox)));
            }
            Ask::Statuses { mailboxes } => {
                let read = |name: &MailboxName| {
                    let (mailbox, _) = self.mailboxes.get(name)?;
                    self.rights_on(name).contains(Rights::READ).then(|| status(mailbox))
                };
                return Ok(Answer::Statuses(mailboxes.iter().map(read).collect()));
            }
            Ask::Create { mailbox, .. } if self.mailboxes.contains_key(&mailbox) => return Err(Refusal::Exists),
            Ask::Create { mailbox, .. } if mailbox.as_str() == "Forbidden" => {
                return Err(Refusal::Cannot("not this one".to_owned()));
            }
            Ask::Create { mailbox, special_use } => {
                self.create(mailbox.clone(), special_use);
                return Ok(Answer::Created(self.mailboxes[&mailbox].0.object_id()));
            }
            Ask::Delete { mailbox } if mailbox.is_inbox() => {
                return Err(Refusal::Cannot("INBOX stays".to_owned()));
            }
            Ask::Delete { mailbox } => {
                self.mailboxes.remove(&mailbox).ok_or(Refusal::NoSuchMailbox)?;
            }
            ask @ (Ask::SetRights { .. }
            | Ask::Acl { .. }
            | Ask::ListRights { .. }
            | Ask::MyRights { .. }
            | Ask::Quota { .. }
            | Ask::QuotaRoot { .. }
            | Ask::SetQuota { .. }) => return self.access_ask(ask),
            ask @ (Ask::Metadata { .. } | Ask::SetMetadata { .. }) => return self.metadata_ask(ask),
            Ask::MetadataMarks { places } => {
                let marks = |place: Option<MailboxName>| match self.metadata_ask(Ask::Metadata { mailbox: place }) {
                    Ok(Answer::Metadata(there)) => {
                        there.into_iter().map(|(entry, value)| (entry, metadata_mark(&value))).collect()
                    }
                    _ => Vec::new(),
                };
                return Ok(Answer::MetadataMarks(places.into_iter().map(marks).collect()));
            }
            Ask::Rename { from, to } => self.rename(&from, to)?,
            Ask::Subscribe { mailbox, subscribed } => {
                self.subscriptions.retain(|known| *known != mailbox);
                if subscribed {
                    self.subscriptions.push(mailbox);
                    self.subscriptions.sort();
                }
            }
            other => unreachable!("{other:?} is answered elsewhere"),
        }
        Ok(Answer::Done)
    }

    pub(crate) fn rename(&mut self, from: &MailboxName, to: MailboxName) -> Result<(), Refusal> {
        if self.mailboxes.contains_key(&to) {
            return Err(Refusal::Exists);
        }
        let below = self.mailboxes.keys().filter(|known| known.is_below(from));
        let renamed = |old: &MailboxName| {
            let new = MailboxName::new(&format!("{to}{}", &old.as_str()[from.as_str().len()..]));
            new.map(|new| (old.clone(), new)).map_err(|why| Refusal::Cannot(why.to_string()))
        };
        let below: Vec<_> = below.map(renamed).collect::<Result<_, _>>()?;
        let moved = self.mailboxes.remove(from).ok_or(Refusal::NoSuchMailbox)?;
        for (old, new) in below {
            let mailbox = self.mailboxes.remove(&old).expect("there");
            self.mailboxes.insert(new, mailbox);
        }
        if from.is_inbox() {
            self.create(from.clone(), None);
        }
        for (place, annotations) in std::mem::take(&mut self.annotations) {
            let moved = place.as_ref().and_then(|old| old.as_str().strip_prefix(from.as_str()));
            let place = match moved {
                Some(tail) if tail.is_empty() || tail.starts_with('/') => Some(name(&format!("{to}{tail}"))),
                _ => place,
            };
            self.annotations.insert(place, annotations);
        }
        if let Some((open, _)) = &mut self.open
            && open == from
            && !from.is_inbox()
        {
            *open = to.clone();
        }
        self.mailboxes.insert(to, moved);
        Ok(())
    }

    fn select(&mut self, mailbox: &MailboxName, read_only: bool) -> Result<Answer, Refusal> {
        self.open = None;
        let known_modseq = self.modseq;
        let (real, _) = self.mailboxes.get_mut(mailbox).ok_or(Refusal::NoSuchMailbox)?;
        let recent_from = real.unclaimed_from;
        if !read_only {
            real.unclaimed_from = real.uid_next;
        }
        self.told = real.uid_next;
        self.open = Some((mailbox.clone(), real.clone()));
        let unseen = real.messages.iter().find(|(_, message)| !message.facts.flags.system.contains(SystemFlags::SEEN));
        Ok(Answer::Selected(Box::new(Selected {
            uids: real.uids(),
            uid_validity: real.uid_validity,
            uid_next: real.uid_next,
            highest_modseq: real.highest_modseq,
            known_modseq,
            keywords: real.keywords.clone(),
            first_unseen: unseen.map(|(uid, _)| *uid),
            recent_from,
            mailbox_id: real.object_id(),
            rights: self.rights.get(mailbox).copied().unwrap_or(Rights::ALL),
        })))
    }

    fn rights_on(&self, mailbox: &MailboxName) -> Rights {
        self.rights.get(mailbox).copied().unwrap_or(Rights::ALL)
    }

    /// Rights and quotas. Ann is the owner, and an administrator; everybody is somebody.
    fn access_ask(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        let known = |mailbox: &MailboxName, need: Rights| match self.rights_on(mailbox) {
            rights if !self.mailboxes.contains_key(mailbox) || rights.is_empty() => Err(Refusal::NoSuchMailbox),
            rights if !rights.contains(need) => Err(Refusal::NoPermission),
            rights => Ok(rights),
        };
        Ok(match ask {
            Ask::SetRights { mailbox, identifier, update, rights } => {
                known(&mailbox, Rights::ADMINISTER)?;
                let acl = self.acls.entry(mailbox).or_default();
                let after = acl.get(&identifier).copied().unwrap_or_default().updated(update, rights);
                acl.insert(identifier, after);
                acl.retain(|_, rights| !rights.is_empty());
                Answer::Done
            }
            Ask::Acl { mailbox } => {
                known(&mailbox, Rights::ADMINISTER)?;
                let others = self.acls.get(&mailbox).into_iter().flatten().map(|(who, rights)| (who.clone(), *rights));
                Answer::Acl(std::iter::once(("ann".to_owned(), Rights::ALL)).chain(others).collect())
            }
            Ask::ListRights { mailbox, identifier } => {
                known(&mailbox, Rights::ADMINISTER)?;
                let owner = Rights::LOOKUP | Rights::ADMINISTER;
                Answer::Rights(if identifier == "ann" { owner } else { Rights::NONE })
            }
            Ask::MyRights { mailbox } => Answer::Rights(known(&mailbox, Rights::NONE)?),
            Ask::QuotaRoot { mailbox } => {
                known(&mailbox, Rights::READ)?;
                Answer::Quota(self.quota())
            }
            Ask::Quota { root } if root == "ann" => Answer::Quota(self.quota()),
            Ask::SetQuota { root, limits } if root == "ann" => {
                self.quota_octets = limits.iter().find(|(name, _)| name == "STORAGE").map(|(_, limit)| limit * 1024);
                Answer::Done
            }
            _ => return Err(Refusal::NoSuchQuotaRoot),
        })
    }

    /// Another client, or an administrator, annotates; no value removes.
    pub(crate) fn annotate(&mut self, mailbox: Option<MailboxName>, entry: &str, value: &str) {
        let entry = MetadataEntry::parse(entry).expect("an entry");
        let there = self.annotations.entry(mailbox).or_default();
        if value.is_empty() {
            there.remove(&entry);
        } else {
            there.insert(entry, Bytes::copy_from_slice(value.as_bytes()));
        }
    }

    /// Annotations: at most three in one place; those of the server that are shared are not ann's to change.
    fn metadata_ask(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        let (Ask::Metadata { mailbox } | Ask::SetMetadata { mailbox, .. }) = &ask else { unreachable!("{ask:?}") };
        if let Some(mailbox) = mailbox {
            match self.rights_on(mailbox) {
                rights if !self.mailboxes.contains_key(mailbox) || rights.is_empty() => {
                    return Err(Refusal::NoSuchMailbox);
                }
                Rights::LOOKUP => return Err(Refusal::NoPermission),
                _ => {}
            }
        }
        let there = self.annotations.entry(mailbox.clone()).or_default();
        let Ask::SetMetadata { entries, mailbox } = ask else {
            return Ok(Answer::Metadata(there.clone().into_iter().collect()));
        };
        let mut new = there.clone();
        for (entry, value) in entries {
            if mailbox.is_none() && entry.scope() == MetadataScope::Shared {
                return Err(Refusal::NoPermission);
            }
            match value {
                Some(value) => new.insert(entry, value),
                None => new.remove(&entry),
            };
        }
        if new.len() > 3 {
            return Err(Refusal::TooManyAnnotations);
        }
        *there = new;
        Ok(Answer::Done)
    }

    fn quota(&self) -> QuotaFacts {
        let messages = self.mailboxes.values().flat_map(|(mailbox, _)| mailbox.messages.values());
        let used: u64 = messages.map(|message| message.facts.size_bytes).sum();
        let storage = self.quota_octets.map(|limit| ("STORAGE", used.div_ceil(1024), limit / 1024));
        QuotaFacts { root: "ann".to_owned(), resources: storage.into_iter().collect() }
    }

    fn sync(
        &mut self,
        since: ModSeq,
        own: &[ModSeq],
        keywords_known: usize,
        claim_recent: bool,
    ) -> Result<Answer, Refusal> {
        let known_modseq = self.modseq;
        let told = self.told;
        let (name, _) = self.renew()?;
        let real = self.mailbox(name.as_str());
        let recent_from = real.unclaimed_from;
        if claim_recent {
            real.unclaimed_from = real.uid_next;
        }
        let newer = |(_, message): &(&Uid, &super::mailbox::Message)| message.facts.modseq > since;
        let arrived = real.uids().intersection(&UidSet::range(told.max(1), Uid::MAX));
        let changed = real
            .messages
            .iter()
            .filter(newer)
            .filter(|(uid, message)| **uid < told && !own.contains(&message.facts.modseq));
        let changed: UidSet = changed.map(|(uid, _)| *uid).collect();
        let now_told = real.uid_next;
        let changes = Answer::Changes(Box::new(Changes {
            vanished: real.vanished_since(since),
            changed,
            arrived,
            highest_modseq: real.highest_modseq,
            known_modseq,
            uid_next: real.uid_next,
            keywords: (real.keywords.len() > keywords_known).then(|| real.keywords.clone()),
            recent_from,
        }));
        self.told = now_told;
        Ok(changes)
    }

    fn store(
        &mut self,
        uids: &UidSet,
        update: FlagUpdate,
        flags: &Flags,
        unchanged_since: Option<ModSeq>,
    ) -> Result<Answer, Refusal> {
        let modseq = self.modseq + 1;
        let (name, _) = self.renew()?;
        let real = self.mailbox(name.as_str());
        let (mut passed, mut changed, mut modified) = (UidSet::new(), UidSet::new(), UidSet::new());
        for (uid, message) in real.messages.iter_mut().filter(|(uid, _)| uids.contains(**uid)) {
            if unchanged_since.is_some_and(|since| message.facts.modseq > since) {
                modified.insert(*uid);
                continue;
            }
            passed.insert(*uid);
            let mut after = message.facts.flags.clone();
            after.apply(update, flags);
            if after != message.facts.flags {
                (message.facts.flags, message.facts.modseq) = (after, modseq);
                changed.insert(*uid);
            }
        }
        let keywords = real.keywords.len();
        real.learn(flags);
        let keywords = (real.keywords.len() > keywords).then(|| real.keywords.clone());
        if !changed.is_empty() {
            real.highest_modseq = modseq;
            self.modseq = modseq;
        }
        self.renew()?;
        let modseq = if changed.is_empty() { 0 } else { modseq };
        Ok(Answer::Stored { uids: passed, changed, modified, modseq, keywords })
    }

    fn copy(&mut self, uids: &UidSet, target: &MailboxName, remove: bool) -> Result<Answer, Refusal> {
        let source = self.open.as_ref().ok_or(Refusal::MailboxGone)?.0.clone();
        let source_messages = self.mailboxes.get(&source).ok_or(Refusal::MailboxGone)?.0.messages.clone();
        self.modseq += 1;
        let modseq = self.modseq;
        let (mailbox, _) = self.mailboxes.get_mut(target).ok_or(Refusal::NoSuchMailbox)?;
        let (mut from, mut to) = (UidSet::new(), UidSet::new());
        for (uid, message) in source_messages.iter().filter(|(uid, _)| uids.contains(**uid)) {
            from.insert(*uid);
            let facts = &message.facts;
            let uid = mailbox.add(message.text.clone(), facts.flags.clone(), Some(facts.internal_date), modseq);
            mailbox.messages.get_mut(&uid).expect("there").facts.email_id = facts.email_id;
            to.insert(uid);
        }
        let uid_validity = mailbox.uid_validity;
        if remove {
            let mailbox = self.mailbox(source.as_str());
            from.iter().for_each(|uid| mailbox.expunge(uid, modseq));
        }
        Ok(Answer::Copied { uid_validity, from, to })
    }

    fn append(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::AppendBegin { mailbox, size_bytes, replaces } => {
                assert!(self.append.is_none(), "one message at a time");
                if !self.mailboxes.contains_key(&mailbox) {
                    return Err(Refusal::NoSuchMailbox);
                }
                if !replaces && self.quota_octets.is_some_and(|quota| size_bytes > quota) {
                    return Err(Refusal::OverQuota);
                }
                self.append = Some((mailbox, size_bytes, Vec::new()));
                Ok(Answer::Done)
            }
            Ask::AppendNext { flags, date, size_bytes } => {
                let (mailbox, announced, text) = self.append.take().expect("a message");
                assert_eq!(text.len() as u64, announced, "the octets announced");
                self.appended.push((text, (flags, date)));
                let together: u64 = self.appended.iter().map(|(text, ..)| text.len() as u64).sum();
                self.append = Some((mailbox, size_bytes, Vec::new()));
                match self.quota_octets {
                    Some(quota) if together + size_bytes > quota => Err(Refusal::OverQuota),
                    _ => Ok(Answer::Done),
                }
            }
            Ask::AppendOctets(pieces) => {
                let (_, _, text) = self.append.as_mut().expect("a message");
                text.extend(pieces.concat());
                if text.windows(4).any(|window| window == b"FAIL") {
                    return Err(Refusal::TryLater);
                }
                Ok(Answer::Done)
            }
            Ask::AppendEnd { flags, date, replaces } => {
                let (mailbox, size_bytes, text) = self.append.take().expect("a message");
                assert_eq!(text.len() as u64, size_bytes, "the octets announced");
                let mut messages = std::mem::take(&mut self.appended);
                messages.push((text, (flags, date)));
                if !self.mailboxes.contains_key(&mailbox) {
                    return Err(Refusal::NoSuchMailbox);
                }
                if let Some(uid) = replaces {
                    let (open, _) = self.open.as_ref().expect("a mailbox is open");
                    let open = open.as_str().to_owned();
                    if !self.mailbox(&open).messages.contains_key(&uid) {
                        return Err(Refusal::Cannot("the message to be replaced is gone".to_owned()));
                    }
                    self.expunge(&open, uid);
                }
                self.modseq += 1;
                let modseq = self.modseq;
                let mut uids = UidSet::new();
                for (text, (flags, date)) in messages {
                    self.notes.push(format!("append {mailbox} {}", String::from_utf8_lossy(&text).escape_debug()));
                    uids.insert(self.mailbox(mailbox.as_str()).add(Bytes::from(text), flags, date, modseq));
                }
                Ok(Answer::Appended { uid_validity: self.mailbox(mailbox.as_str()).uid_validity, uids })
            }
            _ => {
                self.notes.push("append aborted".to_owned());
                self.append = None;
                self.appended.clear();
                Ok(Answer::Done)
            }
        }
    }
}

fn status(mailbox: &Mailbox) -> Status {
    let count = |number: u64| u32::try_from(number).expect("small");
    let messages = count(mailbox.messages.len() as u64);
    Status {
        messages,
        recent: count(mailbox.messages.range(mailbox.unclaimed_from..).count() as u64),
        uid_next: mailbox.uid_next,
        uid_validity: mailbox.uid_validity,
        unseen: messages - count(mailbox.with_flag(SystemFlags::SEEN).len()),
        deleted: count(mailbox.with_flag(SystemFlags::DELETED).len()),
        size_bytes: mailbox.messages.values().map(|message| message.facts.size_bytes).sum(),
        highest_modseq: mailbox.highest_modseq,
        mailbox_id: mailbox.object_id(),
        deleted_bytes: mailbox
            .with_flag(SystemFlags::DELETED)
            .iter()
            .map(|uid| mailbox.messages[&uid].facts.size_bytes)
            .sum(),
    }
}

/// Threads of one shape: the first four messages are `(a b (c)(d))`, the others hang under nobody.
fn threads(uids: &[u32]) -> Vec<ThreadNode> {
    let node = |uid: Option<u32>, depth, only_child| ThreadNode { uid, depth, only_child };
    let shape = [(0, false), (1, true), (2, uids.len() < 4), (2, false)];
    let mut nodes: Vec<ThreadNode> =
        uids.iter().zip(shape).map(|(uid, (depth, only_child))| node(Some(*uid), depth, only_child)).collect();
    match uids.get(4..) {
        None | Some([]) => {}
        Some([only]) => nodes.push(node(Some(*only), 0, false)),
        Some(several) => {
            nodes.push(node(None, 0, false));
            nodes.extend(several.iter().map(|uid| node(Some(*uid), 1, false)));
        }
    }
    nodes
}
