//! Random commands, and an engine to give them to.

use std::sync::Arc;

use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Deleted, Delivery, Engine, EngineError, EngineOptions, InternalDate,
    MailboxId, MessageId, Outcome, StagedMessage, kv::SharedKv,
};
use rockdove_mail::{FlagUpdate, Flags, Keyword, MailboxName, SpecialUse, SystemFlags, UidSet};

use crate::agree::NOW;
use crate::deleted::{KEPT_BYTES, KEPT_S};
use crate::model::{Account, Act, Content, Mailbox, Model, No, Place};

/// A number is a history: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

pub(crate) fn name(text: &str) -> MailboxName {
    MailboxName::new(text).expect("a name")
}

/// A message of this many octets, its header included.
pub(crate) fn mail(number: u64, octets: usize) -> Vec<u8> {
    let mut mail = format!("From: a@b.example\r\nSubject: m{number}\r\n\r\n").into_bytes();
    let mut rng = Rng(number);
    while mail.len() < octets {
        mail.extend_from_slice(format!("{:x} ", rng.next() & 0xf_ffff).as_bytes());
    }
    mail.truncate(octets.max(30));
    mail
}

/// A message with an attachment: one of few, in lines of one length or another, and now and then broken.
pub(crate) fn attached(rng: &mut Rng, octets: usize) -> Vec<u8> {
    const SYMBOLS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut noise = Rng(rng.next() % 3);
    let symbols: Vec<u8> = (0..octets / 4 * 4).map(|_| *noise.pick(SYMBOLS)).collect();
    let (line, line_end) = (*rng.pick(&[76, 76, 64, 1_000, octets]), if rng.one_in(4) { "\n" } else { "\r\n" });
    let mut body = symbols.chunks(line).collect::<Vec<_>>().join(line_end.as_bytes());
    if rng.one_in(4) {
        let at = rng.below(body.len());
        body[at] = *rng.pick(b"=* \r\nA");
    }
    let number = rng.next() % 10;
    let start = format!(
        "Subject: a{number}\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee\r\n--b\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    );
    [start.as_bytes(), &body, b"\r\n--b--\r\n"].concat()
}

/// Makes up commands that fit what is there, and a few that do not.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    pub(crate) rng: Rng,
    /// The history may have messages that need parts of several chunks.
    pub(crate) large: bool,
    /// Messages put in at once, now and then.
    pub(crate) bulk: usize,
    pub(crate) accounts: u32,
}

const NAMES: [&str; 14] =
    ["INBOX", "Archive", "Trash", "Sent", "a", "a/b", "a/b/b", "a/c", "b", "b/c", "INBOX/kept", "x/y/z", "x/y", "ä/ö"];

impl Commands {
    pub(crate) fn new(seed: u64, bulk: usize, large: bool) -> Self {
        Self { rng: Rng(seed), large, bulk, accounts: 0 }
    }

    pub(crate) fn next(&mut self, model: &Model) -> Act {
        if model.accounts.len() < 2 || self.rng.one_in(100) {
            return self.directory(model);
        }
        let ids: Vec<AccountId> = model.accounts.keys().copied().collect();
        // The first account gets most of the work, so that it grows.
        let account = if self.rng.one_in(3) { *self.rng.pick(&ids) } else { ids[0] };
        let state = &model.accounts[&account];
        match self.rng.below(100) {
            0..3 => Act::Create { account, name: self.name(), special_use: self.special_use() },
            3..6 => Act::Delete { account, name: self.name() },
            6..8 => Act::Rename { account, from: self.name(), to: self.name() },
            8..11 => Act::Subscribe { account, name: self.name(), subscribed: !self.rng.one_in(3) },
            11..25 => self.deliver(&ids, account),
            25..45 => self.append(account, state),
            45..70 => self.store(account, state),
            70..78 => self.copy(account, state, false),
            78..86 => self.copy(account, state, true),
            86..90 => self.restore(account, state),
            90..93 => Act::Purge { account, everything: self.rng.one_in(8) },
            _ => self.expunge(account, state),
        }
    }

    fn directory(&mut self, model: &Model) -> Act {
        let addresses: Vec<String> = model.accounts.values().map(|account| account.address.clone()).collect();
        if addresses.len() < 2 || self.rng.one_in(4) {
            self.accounts += 1;
            let quota = self.rng.one_in(3).then_some(1_000_000);
            return Act::AddAccount { address: format!("u{}@a.example", self.accounts), quota };
        }
        let address = self.rng.pick(&addresses).clone();
        if addresses.len() > 2 && self.rng.one_in(4) {
            Act::RemoveAccount { address: addresses[addresses.len() - 1].clone() }
        } else {
            let used = model.accounts.values().find(|account| account.address == address).map_or(0, Account::used);
            let quota = self.rng.one_in(2).then(|| used + self.rng.below(100_000) as u64);
            Act::SetQuota { address, quota }
        }
    }

    fn name(&mut self) -> MailboxName {
        name(NAMES[self.rng.below(NAMES.len())])
    }

    fn special_use(&mut self) -> Option<SpecialUse> {
        self.rng.one_in(4).then_some(SpecialUse::Archive)
    }

    fn mailbox<'a>(&mut self, state: &'a Account) -> &'a Mailbox {
        if self.rng.one_in(2) { &state.mailboxes[0] } else { self.rng.pick(&state.mailboxes) }
    }

    fn mailbox_id(&mut self, state: &Account) -> MailboxId {
        if self.rng.one_in(50) { MailboxId(9_999) } else { self.mailbox(state).id }
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::system(SystemFlags::from_bits(self.rng.next() as u8 & self.rng.next() as u8));
        for _ in 0..self.rng.below(3) {
            let number = if self.rng.one_in(2) { self.rng.below(80) } else { self.rng.below(5) };
            let spelled = if self.rng.one_in(2) { format!("$k{number}") } else { format!("$K{number}") };
            flags.keywords.push(Keyword::new(&spelled).expect("an atom"));
        }
        flags
    }

    fn date(&mut self) -> InternalDate {
        InternalDate {
            unix_s: self.rng.below(2_000_000_000) as i64 - 1_000,
            offset_minutes: 15 * (self.rng.below(96) as i16 - 48),
        }
    }

    fn content(&mut self) -> Content {
        if self.rng.one_in(4) {
            let octets = if self.large && self.rng.one_in(4) { 400_000 } else { 8_000 };
            return Arc::new(attached(&mut self.rng, octets));
        }
        let octets = match self.rng.below(if self.large { 60 } else { 50 }) {
            0..30 => 60,
            30..40 => 2_000,
            40..50 => 5_000,
            50..57 => 70_000,
            _ => 300_000,
        };
        Arc::new(mail(self.rng.next() % 10, octets))
    }

    fn deliver(&mut self, ids: &[AccountId], account: AccountId) -> Act {
        let content = self.content();
        let mut to = Vec::new();
        for number in 0..self.rng.below(4) {
            let account = if number == 0 { account } else { *self.rng.pick(ids) };
            let mailbox = if self.rng.one_in(5) { self.name() } else { MailboxName::inbox() };
            let trace = format!("Delivered-To: {number}\r\n").into_bytes();
            to.push(Place { account, mailbox, trace, flags: self.flags(), date: self.date() });
        }
        Act::Deliver { content, to }
    }

    fn append(&mut self, account: AccountId, state: &Account) -> Act {
        let mailbox = self.mailbox_id(state);
        let room = state.entries() < 4_000;
        let count = if room && self.rng.one_in(6) { self.rng.below(self.bulk) } else { self.rng.below(4) };
        let content = self.content();
        let content = if count > 4 { Arc::new(mail(self.rng.next() % 10, 60)) } else { content };
        // Few kinds of flags, or all keywords there can be would come in at once.
        let flags = [self.flags(), self.flags(), self.flags()];
        let messages = (0..count).map(|_| (Arc::clone(&content), self.rng.pick(&flags).clone(), self.date())).collect();
        Act::Append { account, mailbox, messages }
    }

    fn uids(&mut self, mailbox: &Mailbox) -> UidSet {
        let mut uids = UidSet::new();
        let end = mailbox.uid_next as usize + 5;
        for _ in 0..=self.rng.below(3) {
            // Mostly what came last, as people do.
            let newest = if self.rng.one_in(2) { end.min(200) } else { end };
            let first = (end - self.rng.below(newest)) as u32;
            let more = if self.rng.one_in(8) { self.rng.below(2_000) } else { self.rng.below(4) };
            uids.insert_range(first, first + more as u32);
        }
        if self.rng.one_in(30) { UidSet::range(1, u32::MAX) } else { uids }
    }

    fn store(&mut self, account: AccountId, state: &Account) -> Act {
        let mailbox = self.mailbox(state);
        let update = *self.rng.pick(&[FlagUpdate::Add, FlagUpdate::Add, FlagUpdate::Remove, FlagUpdate::Replace]);
        let unchanged_since = self.rng.one_in(3).then(|| self.rng.below(state.modseq as usize + 2) as u64);
        let (uids, flags) = (self.uids(mailbox), self.flags());
        Act::Store { account, mailbox: mailbox.id, uids, update, flags, unchanged_since }
    }

    fn copy(&mut self, account: AccountId, state: &Account, moves: bool) -> Act {
        let from = self.mailbox(state);
        let (uids, from, to) = (self.uids(from), from.id, self.mailbox_id(state));
        if moves || state.entries() > 6_000 {
            Act::Move { account, from, uids, to }
        } else {
            Act::Copy { account, from, uids, to }
        }
    }

    fn expunge(&mut self, account: AccountId, state: &Account) -> Act {
        let mailbox = self.mailbox(state);
        let uids = (!self.rng.one_in(8)).then(|| self.uids(mailbox));
        let deleted_only = uids.is_none() || self.rng.one_in(2);
        Act::Expunge { account, mailbox: mailbox.id, uids, deleted_only }
    }
}

impl Commands {
    fn restore(&mut self, account: AccountId, state: &Account) -> Act {
        let which = match self.rng.below(4) {
            0 => Deleted::Mailbox(self.name()),
            1 => Deleted::Since(NOW + self.rng.below(120) as i64 - 10),
            _ => {
                let there = state.deleted_messages();
                let pick = |rng: &mut Rng| if there.is_empty() { MessageId(77) } else { rng.pick(&there).message };
                Deleted::Messages((0..=self.rng.below(5)).map(|_| pick(&mut self.rng)).collect())
            }
        };
        let to = self.rng.one_in(3).then(|| self.name());
        Act::Restore { account, which, to }
    }
}

/// Options of an engine that keeps what is expunged, as the model does.
pub(crate) fn keeping() -> EngineOptions {
    EngineOptions { undelete_s: KEPT_S, undelete_bytes_max: KEPT_BYTES, ..EngineOptions::default() }
}

/// An engine on a store.
pub(crate) struct House {
    pub(crate) kv: SharedKv,
    pub(crate) engine: Arc<Engine>,
    options: EngineOptions,
}

impl House {
    pub(crate) fn open(kv: SharedKv, options: EngineOptions) -> Self {
        let engine = Engine::open(Arc::clone(&kv), options.clone()).expect("opens");
        Self { kv, engine, options }
    }

    /// Opens the same store anew, as after a restart.
    pub(crate) fn reopen(&mut self) {
        self.engine = Engine::open(Arc::clone(&self.kv), self.options.clone()).expect("opens again");
    }

    pub(crate) fn perform(&self, now: i64, act: &Act) -> Result<Outcome, EngineError> {
        let (mut messages, mut mailboxes) = (0, 0);
        loop {
            match self.engine.execute(now, self.command(act)?)? {
                Outcome::Restored { messages: some, mailboxes: several, more } => {
                    (messages, mailboxes) = (messages + some, mailboxes + several);
                    if !more {
                        return Ok(Outcome::Restored { messages, mailboxes, more });
                    }
                }
                Outcome::Purged { messages: some, more } => {
                    messages += some;
                    if !more {
                        return Ok(Outcome::Purged { messages, more });
                    }
                }
                outcome => return Ok(outcome),
            }
        }
    }

    /// Removes every row of the accounts that were removed.
    pub(crate) fn sweep(&self) {
        while self.engine.sweep_removed(NOW).expect("a slice") {}
    }

    pub(crate) fn stage(&self, content: &[u8]) -> Result<Arc<StagedMessage>, EngineError> {
        let mut staging = self.engine.stage();
        for bytes in content.chunks(100_000) {
            staging.write(bytes)?;
        }
        staging.finish()
    }

    /// The command of an act, its messages staged.
    pub(crate) fn command(&self, act: &Act) -> Result<Command, EngineError> {
        Ok(match act.clone() {
            Act::AddAccount { address, quota } => {
                Command::CreateAccount { address, credential: credential(), quota_bytes: quota }
            }
            Act::RemoveAccount { address } => Command::RemoveAccount { address },
            Act::SetQuota { address, quota } => Command::SetQuota { address, quota_bytes: quota },
            Act::Create { account, name, special_use } => Command::CreateMailbox { account, name, special_use },
            Act::Delete { account, name } => Command::DeleteMailbox { account, name },
            Act::Rename { account, from, to } => Command::RenameMailbox { account, from, to },
            Act::Subscribe { account, name, subscribed } => Command::Subscribe { account, name, subscribed },
            Act::Deliver { content, to } => self.deliver(&content, to)?,
            Act::Append { account, mailbox, messages } => {
                let mut staged: Vec<(Content, Arc<StagedMessage>)> = Vec::new();
                let mut appends = Vec::new();
                for (content, flags, internal_date) in messages {
                    let known = staged.iter().find(|(known, _)| Arc::ptr_eq(known, &content));
                    let message = match known {
                        Some((_, message)) => Arc::clone(message),
                        None => self.stage(&content)?,
                    };
                    staged.push((content, Arc::clone(&message)));
                    appends.push(AppendMessage { message, flags, internal_date });
                }
                Command::Append { account, mailbox, messages: appends }
            }
            Act::Store { account, mailbox, uids, update, flags, unchanged_since } => {
                Command::StoreFlags { account, mailbox, uids, update, flags, unchanged_since }
            }
            Act::Copy { account, from, uids, to } => Command::Copy { account, from, uids, to },
            Act::Move { account, from, uids, to } => Command::Move { account, from, uids, to },
            Act::Expunge { account, mailbox, uids, deleted_only } => {
                Command::Expunge { account, mailbox, uids, deleted_only }
            }
            Act::Restore { account, which, to } => Command::Restore { account, which, to },
            Act::Purge { account, everything } => Command::Purge { account, everything },
        })
    }

    fn deliver(&self, content: &[u8], to: Vec<Place>) -> Result<Command, EngineError> {
        let delivery = |place: Place| Delivery {
            account: place.account,
            mailbox: place.mailbox,
            trace_header: place.trace.into(),
            flags: place.flags,
            internal_date: place.date,
        };
        Ok(Command::Deliver { message: self.stage(content)?, deliveries: to.into_iter().map(delivery).collect() })
    }

    /// Takes in all texts of an account.
    pub(crate) fn catch_up(&self, account: AccountId) {
        while self.engine.catch_up(account, true).expect("a slice").more {}
    }

    /// Fails the test unless a check finds nothing.
    pub(crate) fn check(&self, when: &str) {
        let mut findings = Vec::new();
        let summary = self.engine.fsck(false, &mut |finding| findings.push(finding.to_string())).expect("can be read");
        assert!(findings.is_empty(), "{when}: {findings:#?}");
        assert!(summary.is_clean(), "{when}");
    }
}

fn credential() -> Credential {
    Credential {
        argon2: "!".into(),
        scram_salt: vec![1],
        scram_iterations: 4096,
        scram_stored_key: [1; 32],
        scram_server_key: [2; 32],
    }
}

/// The model's word for an error.
pub(crate) fn reason(error: &EngineError) -> Option<No> {
    match error {
        EngineError::NotFound(_) => Some(No::NotFound),
        EngineError::Exists(_) => Some(No::Exists),
        EngineError::Invalid(_) => Some(No::Invalid),
        EngineError::OverQuota => Some(No::OverQuota),
        EngineError::Limit(_) => Some(No::Limit),
        EngineError::NoPermission(_) => Some(No::Permission),
        EngineError::Unavailable(_) | EngineError::Corrupt(_) => None,
    }
}
