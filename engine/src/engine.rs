//! The front door of the engine.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use rockdove_mail::{Uid, search::SearchKey};

use crate::{
    command::{AccountId, ChangeNotice, Command, EngineError, MailboxId, MessageId, Outcome},
    kv::SharedKv,
    store::{MailboxList, MailboxStatus, MailboxView, MessageRecord, QuotaUsage, Staging},
};

/// Called once with the answer to a command, on the thread that committed it.
pub type Done = Box<dyn FnOnce(Result<Outcome, EngineError>) + Send>;

/// Limits of the engine, and the secret of its content hashes.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Key of content hashes, so that nobody outside can tell which content is stored. Used on first start only; the
    /// stored one counts afterwards.
    pub dedup_key: [u8; 32],
    /// Message bodies below this many octets stay in the message record.
    pub part_inline_max: usize,
    /// Octets joined into one write, unless a single command has more.
    pub group_bytes_max: usize,
    /// Commands joined into one write.
    pub group_commands_max: usize,
    /// Commands that may wait to be committed; more are refused as `Unavailable`.
    pub queue_commands_max: usize,
    /// Octets of mailbox segments kept in memory.
    pub segment_cache_bytes_max: usize,
    /// Octets of decompressed part chunks kept in memory.
    pub chunk_cache_bytes_max: usize,
    /// Octets of one message.
    pub message_size_max: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            dedup_key: [0; 32],
            part_inline_max: 4 * 1024,
            group_bytes_max: 4 * 1024 * 1024,
            group_commands_max: 512,
            queue_commands_max: 8_192,
            segment_cache_bytes_max: 256 * 1024 * 1024,
            chunk_cache_bytes_max: 16 * 1024 * 1024,
            message_size_max: 64 * 1024 * 1024,
        }
    }
}

/// The engine. Shared by all threads as `Arc<Engine>`.
pub struct Engine {
    _kv: SharedKv,
    options: EngineOptions,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

fn not_ready<T>() -> Result<T, EngineError> {
    Err(EngineError::Unavailable("not ready".to_owned()))
}

impl Engine {
    /// Opens the engine on a store.
    pub fn open(kv: SharedKv, options: EngineOptions) -> Result<Arc<Self>, EngineError> {
        Ok(Arc::new(Self { _kv: kv, options }))
    }

    /// The limits it was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Plans on the calling thread; `done` is called from the committing thread after the sync, or at once when the
    /// command is refused. May read the disk.
    pub fn submit(&self, _now_unix_s: i64, _command: Command, done: Done) {
        done(not_ready());
    }

    /// [`Engine::submit`], then takes part in committing until answered; works with and without a committer thread.
    pub fn execute(&self, _now_unix_s: i64, _command: Command) -> Result<Outcome, EngineError> {
        not_ready()
    }

    /// Body of the committer thread's loop: waits up to `timeout` for work, then writes one group with one sync,
    /// publishes and answers. `false` when nothing came.
    pub fn commit_pending(&self, _timeout: Duration) -> bool {
        false
    }

    /// Names, ids, special uses and subscriptions. Reads the disk when the account is not in memory.
    pub fn mailboxes(&self, _account: AccountId) -> Result<Arc<MailboxList>, EngineError> {
        not_ready()
    }

    /// A snapshot of a mailbox. Reads the disk when it is not in memory.
    pub fn mailbox(&self, _account: AccountId, _mailbox: MailboxId) -> Result<Arc<MailboxView>, EngineError> {
        not_ready()
    }

    /// A snapshot of a mailbox, if that needs no disk.
    pub fn mailbox_cached(&self, _account: AccountId, _mailbox: MailboxId) -> Option<Arc<MailboxView>> {
        None
    }

    /// Counters of a mailbox; never loads its entries.
    pub fn status(&self, _account: AccountId, _mailbox: MailboxId) -> Result<MailboxStatus, EngineError> {
        not_ready()
    }

    /// Claims the messages that no session has been told of (`\Recent`, RFC 3501 section 2.3.2): the first UID that is
    /// recent for the caller; everything below `uid_next` is claimed. Kept in memory only.
    pub fn claim_recent(&self, _account: AccountId, _mailbox: MailboxId, uid_next: Uid) -> Uid {
        uid_next
    }

    /// How much an account uses and may use.
    pub fn quota(&self, _account: AccountId) -> Result<QuotaUsage, EngineError> {
        not_ready()
    }

    /// Begins to take in a message.
    pub fn stage(&self) -> Staging {
        Staging::default()
    }

    /// The record of a message.
    pub fn record(&self, _account: AccountId, _message: MessageId) -> Result<Arc<MessageRecord>, EngineError> {
        not_ready()
    }

    /// The records of several messages, in the order asked. `NotFound` when one is gone.
    pub fn records(
        &self,
        _account: AccountId,
        _messages: &[MessageId],
    ) -> Result<Vec<Arc<MessageRecord>>, EngineError> {
        not_ready()
    }

    /// Bytes of a message as the client sees it, cut to its end. Ask in pages: the answer is held in memory.
    pub fn read(&self, _account: AccountId, _record: &MessageRecord, _range: Range<u64>) -> Result<Bytes, EngineError> {
        not_ready()
    }

    /// UIDs of the messages that match, ascending.
    pub fn search(&self, _account: AccountId, _mailbox: MailboxId, _key: &SearchKey) -> Result<Vec<Uid>, EngineError> {
        not_ready()
    }

    /// Adds a listener that is told of every commit after it is durable and published, in order for each account. It
    /// must be quick: it holds up the committer.
    pub fn on_change(&self, _listener: Box<dyn Fn(&[ChangeNotice]) + Send + Sync>) {}
}
