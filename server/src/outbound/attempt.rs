//! What one connection works on: a lease, and how far its content has been read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rockdove_engine::{
    AccountId, Engine, EngineError, Lease, MessageRecord,
    queue::{Content, NotifyWhen},
};
use rockdove_smtp::{
    BodyKind, Notify, ReturnContent,
    client::{ServerReply, Stage, Transaction, TransactionRecipient},
};

use crate::trust::dkim;

/// Signatures of mail that one of our users has sent, or we ourselves.
fn signatures(engine: &Engine, lease: &Lease, record: &MessageRecord) -> Bytes {
    let envelope = &lease.envelope;
    if envelope.relayed || (envelope.owner.is_none() && !envelope.reverse_path.is_empty()) {
        return Bytes::new();
    }
    dkim::signatures(engine, envelope.owner, record).map_or_else(
        |error| {
            tracing::warn!(message = lease.message.0, %error, "mail leaves without a signature");
            Bytes::new()
        },
        Bytes::from,
    )
}

/// What is known of a connection beside its session; shared with the jobs it waits for.
#[derive(Clone, Default)]
pub(super) struct Attempt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    work: Option<Work>,
    /// The connection has ended: what a job begins now is nobody's.
    over: bool,
    /// The server was ready for mail.
    ready: bool,
    unusable: Option<(Stage, ServerReply)>,
}

/// A message on its way.
pub(super) struct Work {
    pub(super) lease: Lease,
    record: Arc<MessageRecord>,
    /// Signatures, sent first.
    signatures: Bytes,
    /// Octets that have been read.
    read: u64,
    /// Places of the recipients in the transaction, in their task.
    pub(super) places: Vec<usize>,
}

impl Attempt {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server is ready for mail.
    pub(super) fn is_ready(&self) {
        self.lock().ready = true;
    }

    pub(super) fn was_ready(&self) -> bool {
        self.lock().ready
    }

    pub(super) fn set_unusable(&self, stage: Stage, reply: ServerReply) {
        self.lock().unusable = Some((stage, reply));
    }

    pub(super) fn unusable(&self) -> Option<(Stage, ServerReply)> {
        self.lock().unusable.clone()
    }

    /// Begins to work on a lease. May read the disk.
    pub(super) fn begin(&self, engine: &Engine, lease: Lease) -> Result<Transaction, EngineError> {
        let record = Arc::new(engine.queue_record(lease.message)?);
        let envelope = &lease.envelope;
        let signatures = signatures(engine, &lease, &record);
        let waiting = || lease.state.waiting().map(|(_, recipient)| recipient);
        let recipient =
            |recipient: &rockdove_engine::queue::TaskRecipient| TransactionRecipient {
                address: recipient.address.clone(),
                notify: Some(recipient.notify)
                    .filter(|notify| *notify != NotifyWhen::default())
                    .map(|notify| Notify::On { success: notify.success, failure: notify.failure, delay: notify.delay }),
                original_recipient: recipient.original_recipient.clone(),
            };
        let transaction = Transaction {
            reverse_path: envelope.reverse_path.clone(),
            recipients: waiting().map(recipient).collect(),
            size_bytes: record.size_bytes.saturating_add(signatures.len() as u64),
            body: match envelope.content {
                Content::SevenBit => BodyKind::SevenBit,
                Content::EightBit => BodyKind::EightBitMime,
                Content::Binary => BodyKind::BinaryMime,
            },
            smtputf8: envelope.smtputf8,
            require_tls: envelope.require_tls,
            envelope_id: envelope.envelope_id.clone(),
            return_content: envelope
                .full_return
                .map(|full| if full { ReturnContent::Full } else { ReturnContent::Headers }),
        };
        let places = lease.state.waiting().map(|(place, _)| place).collect();
        let mut state = self.lock();
        if state.over {
            engine.return_lease(&lease);
        } else {
            state.work = Some(Work { lease, record, signatures, read: 0, places });
        }
        Ok(transaction)
    }

    /// The next octets, and whether they are the last. May read the disk.
    pub(super) fn content(&self, engine: &Engine, octets: usize) -> Result<(Bytes, bool), EngineError> {
        let (record, from) = match &mut self.lock().work {
            Some(work) if !work.signatures.is_empty() => return Ok((std::mem::take(&mut work.signatures), false)),
            Some(work) => (Arc::clone(&work.record), work.read),
            None => return Err(EngineError::NotFound("a message that is being sent".to_owned())),
        };
        let to = from.saturating_add(octets as u64).min(record.size_bytes);
        // Mail in the queue is nobody's: its parts are found by its record.
        let content = engine.read(AccountId(0), &record, from..to)?;
        if content.len() as u64 != to - from {
            return Err(EngineError::Corrupt("a message in the queue ends too early".to_owned()));
        }
        if let Some(work) = &mut self.lock().work {
            work.read = to;
        }
        Ok((content, to == record.size_bytes))
    }

    /// What is worked on: its result is known.
    pub(super) fn take(&self) -> Option<Work> {
        self.lock().work.take()
    }

    /// What is worked on when the connection has ended: its result will never be known.
    pub(super) fn end(&self) -> Option<Work> {
        let mut state = self.lock();
        state.over = true;
        state.work.take()
    }
}
