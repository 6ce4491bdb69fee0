//! Learning: from what users do with their mail, and from messages that an administrator shows; and taking it back.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{
    Class,
    counts::{Counts, Ledger, encode_learned, forget_scope, learned_as, totals},
    tokens,
};
use crate::{
    command::{AccountId, EngineError, MessageId},
    engine::Engine,
    kv::{
        Batch, Durability, Family,
        keys::{self, KeyReader},
    },
};

/// Messages that one call learns of those that wait.
const WAITING_AT_ONCE: usize = 64;
const SECONDS_OF_DAY: i64 = 86_400;

/// What was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Messages that were counted in.
    pub learned: u32,
    /// Messages that were taken out again.
    pub forgotten: u32,
    /// Messages about which nothing new was said.
    pub known: u32,
    /// There is more to do.
    pub more: bool,
}

/// A message that is in no mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnable {
    /// What it is known by.
    pub digest: [u8; 16],
    /// Its tokens.
    pub tokens: Vec<u64>,
}

impl Learnable {
    /// A message by its octets, lines ending in CRLF.
    pub fn of(message: &[u8]) -> Self {
        let (digest, _) = blake3::hash(message)
            .as_bytes()
            .split_first_chunk()
            .map_or(([0; 16], &[][..]), |(first, rest)| (*first, rest));
        Self { digest, tokens: tokens::numbers(message) }
    }
}

/// How much is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpamStatus {
    /// Unwanted messages learned.
    pub spam: u32,
    /// Wanted messages learned.
    pub ham: u32,
    /// Different tokens.
    pub tokens: u64,
    /// Messages of the whole server that wait to be learned.
    pub waiting: u64,
}

/// A message that somebody has said something of.
struct Waiting {
    account: u32,
    message: u32,
    row: Vec<u8>,
}

pub(super) fn day_of(now_unix_s: i64) -> u32 {
    u32::try_from(now_unix_s / SECONDS_OF_DAY).unwrap_or(0)
}

fn scope_of(account: Option<AccountId>) -> u32 {
    account.map_or(keys::SPAM_SERVER, |account| account.0)
}

impl Engine {
    /// Learns some of the messages that users have said something of, for their account and for the server. Call it until
    /// there is no more to do. What is learned may be lost when the machine dies, and is learned again then, because the
    /// note of it comes back with it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn learn_waiting(&self, now_unix_s: i64) -> Result<Learned, EngineError> {
        let _one = self.learning_lock();
        let waiting = self.waiting(WAITING_AT_ONCE)?;
        let mut learned = Learned { more: waiting.len() == WAITING_AT_ONCE, ..Learned::default() };
        for waiting in &waiting {
            self.learn_one(now_unix_s, waiting, &mut learned)?;
        }
        Ok(learned)
    }

    /// Drops what waits to be learned, some of it at once; answers whether there is more.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn drop_waiting(&self) -> Result<bool, EngineError> {
        let _one = self.learning_lock();
        let waiting = self.waiting(WAITING_AT_ONCE)?;
        let mut batch = Batch::default();
        for waiting in &waiting {
            batch.delete(Family::Spam, keys::spam_waiting(waiting.account, waiting.message));
        }
        if !waiting.is_empty() {
            self.kv().write(&batch, Durability::Ordered)?;
        }
        Ok(waiting.len() == WAITING_AT_ONCE)
    }

    fn waiting(&self, most: usize) -> Result<Vec<Waiting>, EngineError> {
        let prefix = keys::spam_kind(keys::SPAM_SERVER, keys::SPAM_WAITING);
        let mut found = Vec::new();
        self.kv_read().scan(Family::Spam, &prefix, &keys::prefix_end(&prefix), &mut |key, row| {
            let mut reader = KeyReader::new(key.get(prefix.len()..).unwrap_or_default());
            if let (Some(account), Some(message)) = (reader.u32(), reader.u32()) {
                found.push(Waiting { account, message, row: row.to_vec() });
            }
            if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    fn learn_one(&self, now_unix_s: i64, waiting: &Waiting, learned: &mut Learned) -> Result<(), EngineError> {
        let account = AccountId(waiting.account);
        let mut batch = Batch::default();
        let tokens = match self.tokens_of(account, MessageId(waiting.message)) {
            Ok(tokens) => Some(tokens),
            // Gone, or damaged, which others will tell.
            Err(EngineError::NotFound(_) | EngineError::Corrupt(_)) => None,
            Err(error) => return Err(error),
        };
        let class = waiting.row.first().and_then(|number| Class::of_number(*number));
        if let (Some(tokens), Some(class)) = (tokens, class) {
            let mut ledger = Ledger::new(self.kv_read(), day_of(now_unix_s));
            let key = keys::spam_message(account.0, waiting.message);
            let stale = ledger.is_stale(account.0)?;
            let before = if stale { None } else { learned_as(self.kv_read(), &key)? };
            if before == Some(class) {
                learned.known += 1;
            } else {
                for scope in [account.0, keys::SPAM_SERVER] {
                    if let Some(before) = before {
                        ledger.count(scope, &tokens, before, false)?;
                    }
                    ledger.count(scope, &tokens, class, true)?;
                }
                learned.forgotten += u32::from(before.is_some());
                learned.learned += 1;
                ledger.write(&mut batch);
                batch.put(Family::Spam, key, encode_learned(class));
            }
        }
        self.write_learned(waiting, batch)
    }

    /// Writes what was learned together with the end of the note, unless another note has taken its place or the account
    /// is gone.
    fn write_learned(&self, waiting: &Waiting, batch: Batch) -> Result<(), EngineError> {
        let key = keys::spam_waiting(waiting.account, waiting.message);
        self.exclusive(|| {
            let there = self.directory().account(AccountId(waiting.account)).is_some();
            let mut batch = if there { batch } else { Batch::default() };
            let note = self.kv_read().get(Family::Spam, &key)?;
            if note.is_some_and(|note| note[..] == waiting.row[..]) {
                batch.delete(Family::Spam, key);
            }
            Ok(self.kv().write(&batch, Durability::Ordered)?)
        })
    }

    fn tokens_of(&self, account: AccountId, message: MessageId) -> Result<Vec<u64>, EngineError> {
        let record = self.record(account, message)?;
        // Without what we have put before it: when it arrived it had none of that.
        let start = record.trace.len() as u64;
        let end = record.size_bytes.min(start.saturating_add(tokens::OCTETS_MAX as u64));
        Ok(tokens::numbers(&self.read(account, &record, start..end)?))
    }

    /// Learns messages that are in no mailbox, for an account or for the whole server; each once. All or none.
    ///
    /// # Errors
    /// When the store cannot be read or written, or there is no such account.
    pub fn learn(
        &self,
        now_unix_s: i64,
        account: Option<AccountId>,
        class: Class,
        messages: &[Learnable],
    ) -> Result<Learned, EngineError> {
        self.say(now_unix_s, account, Some(class), messages)
    }

    /// Takes back what was learned of these messages by [`Engine::learn`].
    ///
    /// # Errors
    /// As there.
    pub fn forget(
        &self,
        now_unix_s: i64,
        account: Option<AccountId>,
        messages: &[Learnable],
    ) -> Result<Learned, EngineError> {
        self.say(now_unix_s, account, None, messages)
    }

    fn say(
        &self,
        now_unix_s: i64,
        account: Option<AccountId>,
        class: Option<Class>,
        messages: &[Learnable],
    ) -> Result<Learned, EngineError> {
        let _one = self.learning_lock();
        let scope = scope_of(account);
        let mut ledger = Ledger::new(self.kv_read(), day_of(now_unix_s));
        let (mut said, mut learned) = (BTreeMap::new(), Learned::default());
        let stale = ledger.is_stale(scope)?;
        for message in messages {
            let before = match said.get(&message.digest) {
                Some(before) => *before,
                None if stale => None,
                None => learned_as(self.kv_read(), &keys::spam_digest(scope, &message.digest))?,
            };
            if before == class {
                learned.known += 1;
                continue;
            }
            if let Some(before) = before {
                ledger.count(scope, &message.tokens, before, false)?;
                learned.forgotten += 1;
            }
            if let Some(class) = class {
                ledger.count(scope, &message.tokens, class, true)?;
                learned.learned += 1;
            }
            said.insert(message.digest, class);
        }
        let mut batch = Batch::default();
        ledger.write(&mut batch);
        for (digest, class) in said {
            let key = keys::spam_digest(scope, &digest);
            match class {
                Some(class) => batch.put(Family::Spam, key, encode_learned(class)),
                None => batch.delete(Family::Spam, key),
            }
        }
        self.write_scope(account, &batch)?;
        Ok(learned)
    }

    /// Forgets everything that was learned for an account or for the whole server.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_all(&self, account: Option<AccountId>) -> Result<(), EngineError> {
        let _one = self.learning_lock();
        let mut batch = Batch::default();
        forget_scope(&mut batch, scope_of(account));
        self.write_scope(account, &batch)
    }

    /// Durable when it returns: an administrator was told that it is done.
    pub(super) fn write_scope(&self, account: Option<AccountId>, batch: &Batch) -> Result<(), EngineError> {
        self.exclusive(|| {
            if let Some(account) = account.filter(|account| self.directory().account(*account).is_none()) {
                return Err(EngineError::NotFound(format!("account {}", account.0)));
            }
            Ok(self.kv().write(batch, Durability::Synced)?)
        })
    }

    /// How much was learned for an account or for the whole server. Goes through all of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn spam_status(&self, account: Option<AccountId>) -> Result<SpamStatus, EngineError> {
        let read = self.kv().snapshot();
        let Counts { spam, ham } = totals(&*read, scope_of(account))?;
        let mut counted = [0, 0];
        let kinds = [
            keys::spam_kind(scope_of(account), keys::SPAM_TOKEN),
            keys::spam_kind(keys::SPAM_SERVER, keys::SPAM_WAITING),
        ];
        for (count, prefix) in counted.iter_mut().zip(kinds) {
            read.scan(Family::Spam, &prefix, &keys::prefix_end(&prefix), &mut |_, _| {
                *count += 1;
                ControlFlow::Continue(())
            })?;
        }
        let [tokens, waiting] = counted;
        Ok(SpamStatus { spam, ham, tokens, waiting })
    }
}
