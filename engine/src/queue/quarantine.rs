//! Mail that is kept apart: taken in, durable, and in nobody's mailbox until somebody lets it go.
//!
//! A message has its number, record and parts as mail that leaves has them, and one row of its own with the envelope, the
//! reason and the recipients that are still to be decided about. Numbers rise, so the row with the lowest one came first.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    NotifyWhen, Outbound, QueueId, REPLY_OCTETS_MAX, RecipientState,
    plan::QueuePlan,
    row::{Envelope, TaskRecipient, damaged},
};
use crate::{
    command::EngineError,
    engine::Engine,
    kv::{
        Family, Read,
        keys::{self, KeyReader},
    },
    store::{
        StagedMessage,
        octets::{Take, put_bytes, put_varint},
    },
};

const VERSION: u8 = 1;
/// Recipients of one message; more than any transaction has.
const RECIPIENTS_MAX: usize = 100_000;

/// A message that is to be kept apart.
#[derive(Clone, Debug, Default)]
pub struct Suspect {
    /// Its envelope. Next hops mean nothing here.
    pub outbound: Outbound,
    /// Why.
    pub reason: String,
    /// Who gave it to us, for people.
    pub client: String,
    /// Messages that are kept apart at most; this one is refused when there are as many.
    pub messages_max: u64,
}

/// A message that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its number.
    pub id: QueueId,
    /// The envelope.
    pub envelope: Envelope,
    /// Why.
    pub reason: String,
    /// Who gave it to us.
    pub client: String,
    /// Who would receive it.
    pub recipients: Vec<QuarantinedRecipient>,
}

/// A recipient of such a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRecipient {
    /// The forward-path.
    pub address: String,
    /// When reports are wanted.
    pub notify: NotifyWhen,
    /// ORCPT, as received.
    pub original_recipient: Option<String>,
}

/// Whose decision about a message is made: these addresses, or everybody's when there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The message.
    pub message: QueueId,
    /// The addresses, as in [`QuarantinedRecipient::address`]; all of them must still be there.
    pub addresses: Vec<String>,
}

/// A text of others, cut to what is kept.
fn cut(text: &str) -> &str {
    let end = (0..=REPLY_OCTETS_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

impl Quarantined {
    fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        put_bytes(&mut row, &self.envelope.encode());
        put_bytes(&mut row, self.reason.as_bytes());
        put_bytes(&mut row, self.client.as_bytes());
        put_varint(&mut row, self.recipients.len() as u64);
        for recipient in &self.recipients {
            let QuarantinedRecipient { address, notify, original_recipient } = recipient.clone();
            let (state, reply) = (RecipientState::Waiting, String::new());
            TaskRecipient { address, notify, original_recipient, state, reply }.put(&mut row);
        }
        row
    }

    pub(crate) fn decode(id: QueueId, row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let envelope = Envelope::decode(take.bytes()?)?;
        let (reason, client) = (take.text()?.to_owned(), take.text()?.to_owned());
        let count: usize = take.small().filter(|count| *count <= row.len())?;
        let recipient = |take: &mut Take<'_>| {
            let TaskRecipient { address, notify, original_recipient, .. } = TaskRecipient::take(take)?;
            Some(QuarantinedRecipient { address, notify, original_recipient })
        };
        let recipients = (0..count).map(|_| recipient(&mut take)).collect::<Option<_>>()?;
        take.end()?;
        Some(Self { id, envelope, reason, client, recipients })
    }
}

fn row_of(read: &dyn Read, message: QueueId) -> Result<Quarantined, EngineError> {
    let row = read.get(Family::Queue, &keys::quarantine(message.0))?;
    let row = row.ok_or_else(|| EngineError::NotFound(format!("message {} in the quarantine", message.0)))?;
    Quarantined::decode(message, &row).ok_or_else(|| damaged("the row in the quarantine", message.0))
}

impl QueuePlan<'_> {
    /// Takes in a message that is kept apart.
    pub(crate) fn quarantine(
        &mut self,
        suspect: &Suspect,
        staged: &Arc<StagedMessage>,
    ) -> Result<QueueId, EngineError> {
        if self.state.quarantined.saturating_add(self.state.quarantining) >= suspect.messages_max {
            return Err(EngineError::Limit("the quarantine is full".to_owned()));
        }
        let recipients = &suspect.outbound.recipients;
        if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX {
            return Err(EngineError::Invalid("a message that is kept apart needs recipients".to_owned()));
        }
        let id = self.number()?;
        let recipient = |recipient: &super::OutboundRecipient| QuarantinedRecipient {
            address: recipient.address.clone(),
            notify: recipient.notify,
            original_recipient: recipient.original_recipient.clone(),
        };
        let row = Quarantined {
            id,
            envelope: Envelope::from(&suspect.outbound),
            reason: cut(&suspect.reason).to_owned(),
            client: cut(&suspect.client).to_owned(),
            recipients: recipients.iter().map(recipient).collect(),
        };
        self.batch.put(Family::Queue, keys::quarantine(id.0), row.encode());
        self.put_record(id, &suspect.outbound.prefix, staged);
        self.state.quarantining += 1;
        self.effects.quarantined += 1;
        Ok(id)
    }

    /// Something is decided for recipients of a message that is kept apart; with the last of them it goes from here.
    /// `Unavailable` while another decision about it is being written.
    pub(crate) fn decide(&mut self, decided: &Decided) -> Result<(), EngineError> {
        let message = decided.message;
        let mut row = row_of(self.read, message)?;
        if !self.state.may_edit(message) {
            return Err(EngineError::Unavailable(format!("message {} is being decided about", message.0)));
        }
        let there = |address: &String| row.recipients.iter().any(|recipient| recipient.address == *address);
        if let Some(missing) = decided.addresses.iter().find(|address| !there(address)) {
            return Err(EngineError::NotFound(format!("recipient {missing} of message {}", message.0)));
        }
        row.recipients
            .retain(|recipient| !decided.addresses.is_empty() && !decided.addresses.contains(&recipient.address));
        if row.recipients.is_empty() {
            self.batch.delete(Family::Queue, keys::quarantine(message.0));
            self.remove_record(message)?;
            self.effects.unquarantined += 1;
        } else {
            self.batch.put(Family::Queue, keys::quarantine(message.0), row.encode());
        }
        self.state.edits(message);
        self.effects.edited.push(message);
        Ok(())
    }
}

impl Engine {
    /// A message that is kept apart; [`Engine::queue_record`] gives its record.
    pub fn quarantined(&self, message: QueueId) -> Result<Quarantined, EngineError> {
        row_of(&**self.kv(), message)
    }

    /// Messages that are kept apart, at most `limit`, from a number on; where the next page begins, if there may be more.
    pub fn quarantined_from(
        &self,
        from: QueueId,
        limit: usize,
    ) -> Result<(Vec<Quarantined>, Option<QueueId>), EngineError> {
        let (mut page, mut next, mut broken) = (Vec::new(), None, None);
        let end = [keys::QUEUE_QUARANTINE + 1];
        self.kv().snapshot().scan(Family::Queue, &keys::quarantine(from.0), &end, &mut |key, row| {
            let Some(id) = KeyReader::new(key.get(1..).unwrap_or_default()).u64() else {
                return ControlFlow::Continue(());
            };
            if page.len() >= limit {
                next = Some(QueueId(id));
                return ControlFlow::Break(());
            }
            match Quarantined::decode(QueueId(id), row) {
                Some(message) => page.push(message),
                None => broken = Some(id),
            }
            ControlFlow::Continue(())
        })?;
        match broken {
            Some(id) => Err(damaged("the row in the quarantine", id)),
            None => Ok((page, next)),
        }
    }
}
