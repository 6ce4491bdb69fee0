//! Reading message records: one, several, and those of a run of messages in one go.

use std::{ops::ControlFlow, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{Engine, missing};
use crate::{
    command::{AccountId, EngineError, MessageId},
    kv::{Family, keys},
    store::record::{MessageRecord, ready_texts},
};

/// Messages from which on a run of them is read as one range: an iterator costs as much as a few reads.
const RUN_MIN: usize = 8;
/// A range with more rows than this for each wanted one is not read as a whole.
const RUN_SPREAD: u32 = 2;

/// Is shown a row: its place among those that were asked for, its message, its octets.
type VisitRow<'a> = &'a mut dyn FnMut(usize, MessageId, &[u8]) -> Result<(), EngineError>;

/// What IMAP shows of a message without its header and body, ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyTexts {
    /// ENVELOPE.
    pub envelope: Bytes,
    /// BODY.
    pub body: Bytes,
    /// BODYSTRUCTURE.
    pub body_structure: Bytes,
}

impl Engine {
    /// The record of a message.
    pub fn record(&self, account: AccountId, message: MessageId) -> Result<Arc<MessageRecord>, EngineError> {
        let mut records = self.records(account, &[message])?;
        records.pop().ok_or_else(|| missing(message))
    }

    /// The records of several messages, in the order asked. `NotFound` when one is gone.
    pub fn records(&self, account: AccountId, messages: &[MessageId]) -> Result<Vec<Arc<MessageRecord>>, EngineError> {
        let found = messages.iter().zip(self.records_found(account, messages)?);
        found.map(|(message, record)| record.ok_or_else(|| missing(*message))).collect()
    }

    /// The records of several messages, in the order asked; `None` for those that are gone.
    pub fn records_found(
        &self,
        account: AccountId,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Arc<MessageRecord>>>, EngineError> {
        let mut found = vec![None; messages.len()];
        self.rows(account, messages, &mut |place, message, row| {
            let row = Bytes::copy_from_slice(row);
            let record = MessageRecord::decode(message, &row).ok_or_else(|| damaged(account, message))?;
            found[place] = Some(Arc::new(record));
            Ok(())
        })?;
        Ok(found)
    }

    /// What IMAP shows of several messages without their headers and bodies, in the order asked; `None` for those that
    /// are gone.
    pub fn ready_texts(
        &self,
        account: AccountId,
        messages: &[MessageId],
    ) -> Result<Vec<Option<ReadyTexts>>, EngineError> {
        let mut octets = BytesMut::new();
        let mut places = vec![None; messages.len()];
        self.rows(account, messages, &mut |place, message, row| {
            let texts = ready_texts(row).ok_or_else(|| damaged(account, message))?;
            let cut = |text: &[u8]| {
                let start = octets.len();
                octets.extend_from_slice(text);
                start..octets.len()
            };
            places[place] = Some(texts.map(cut));
            Ok(())
        })?;
        let octets = octets.freeze();
        let ready = |cuts: [std::ops::Range<usize>; 3]| {
            let [envelope, body, body_structure] = cuts.map(|cut| octets.slice(cut));
            ReadyTexts { envelope, body, body_structure }
        };
        Ok(places.into_iter().map(|cuts| cuts.map(ready)).collect())
    }

    /// Shows the rows of these messages with their places in `messages`, in any order; those of missing ones not.
    fn rows(&self, account: AccountId, messages: &[MessageId], visit: VisitRow<'_>) -> Result<(), EngineError> {
        let Some((first, last)) = run(messages) else {
            let keys: Vec<Bytes> = messages.iter().map(|message| keys::message_record(account.0, message.0)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let found = self.kv.multi_get(Family::Message, &keys)?;
            let mut rows = messages.iter().zip(found).enumerate();
            return rows.try_for_each(|(place, (message, row))| row.map_or(Ok(()), |row| visit(place, *message, &row)));
        };
        let (from, to) = (keys::message_record(account.0, first), keys::message_extra(account.0, last));
        let mut wanted = messages.iter().enumerate().peekable();
        let mut visited = Ok(());
        self.kv.scan(Family::Message, &from, &to, &mut |key, row| {
            let Some(found) = keys::message_of_record(key) else { return ControlFlow::Continue(()) };
            while wanted.next_if(|(_, message)| message.0 < found).is_some() {}
            if let Some((place, message)) = wanted.next_if(|(_, message)| message.0 == found) {
                visited = visit(place, *message, row);
            }
            if visited.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        visited
    }
}

/// The first and the last message, where they are in ascending order and not far apart.
fn run(messages: &[MessageId]) -> Option<(u32, u32)> {
    let (first, last) = (messages.first()?.0, messages.last()?.0);
    let few = u32::try_from(messages.len()).unwrap_or(u32::MAX).saturating_mul(RUN_SPREAD);
    let close = messages.len() >= RUN_MIN && last.checked_sub(first)? < few;
    (close && messages.is_sorted_by(|one, next| one < next)).then_some((first, last))
}

fn damaged(account: AccountId, message: MessageId) -> EngineError {
    EngineError::Corrupt(format!("message {} of account {}", message.0, account.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_close_together_are_a_run() {
        let of = |ids: &[u32]| run(&ids.iter().copied().map(MessageId).collect::<Vec<_>>());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1, 2, 3]), None);
        assert_eq!(of(&[1, 2, 3, 5, 6, 7, 9, 16]), Some((1, 16)));
        assert_eq!(of(&[1, 2, 3, 5, 6, 7, 9, 17]), None);
        assert_eq!(of(&[1, 2, 3, 3, 6, 7, 9, 10]), None);
        assert_eq!(of(&[10, 2, 3, 4, 6, 7, 9, 11]), None);
    }
}
