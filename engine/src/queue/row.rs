//! The rows of the queue. Each begins with a version byte.
//!
//! ```text
//! envelope  01 flags1 content+more1 reverse_path(..) [owner4] [envelope_id(..)] [id(..)] received8 not_before8
//! task      01 flags1 hop(..) due8 attempts.. count.. recipient*
//! recipient flags1 address(..) [original(..)] reply(..)
//! ```

use super::{Content, NotifyWhen, Outbound, REPLY_OCTETS_MAX};
use crate::{
    command::{AccountId, EngineError},
    store::octets::{Take, put_bytes, put_varint},
};

const VERSION: u8 = 1;

const OWNED: u8 = 1;
const NAMED: u8 = 2;
const RETURN_FULL: u8 = 4;
const RETURN_HEADERS: u8 = 8;
const SMTPUTF8: u8 = 16;
const REQUIRE_TLS: u8 = 32;

/// Flags beside the content, which takes the bits below.
const RELAYED: u8 = 0x10;
const WITH_ID: u8 = 0x20;
const CONTENT: u8 = 0x0f;

const HELD: u8 = 1;
const DELAY_TOLD: u8 = 2;

const SUCCESS: u8 = 1;
const FAILURE: u8 = 2;
const DELAY: u8 = 4;
const DELIVERED: u8 = 8;
const FAILED: u8 = 16;
const ORIGINAL: u8 = 32;

/// What all recipients of a message have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path; empty for `<>`.
    pub reverse_path: String,
    /// The account that submitted it.
    pub owner: Option<AccountId>,
    /// ENVID, as received.
    pub envelope_id: Option<String>,
    /// RET: `Some(true)` for FULL.
    pub full_return: Option<bool>,
    /// BODY.
    pub content: Content,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS.
    pub require_tls: bool,
    /// It came from elsewhere and is passed on.
    pub relayed: bool,
    /// What it is called in the log and the trace.
    pub id: String,
    /// When it was accepted, in milliseconds since 1970.
    pub received_ms: u64,
    /// Not before this moment, in milliseconds since 1970; 0 for at once.
    pub not_before_ms: u64,
}

/// The recipients of one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where they go.
    pub next_hop: String,
    /// When they are due, in milliseconds since 1970.
    pub due_ms: u64,
    /// On hold: not due at all.
    pub held: bool,
    /// The sender has been told of the delay.
    pub delay_told: bool,
    /// Attempts that failed for now.
    pub attempts: u32,
    /// The recipients.
    pub recipients: Vec<TaskRecipient>,
}

/// A recipient of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRecipient {
    /// The forward-path.
    pub address: String,
    /// When reports are wanted.
    pub notify: NotifyWhen,
    /// ORCPT, as received.
    pub original_recipient: Option<String>,
    /// How far it is.
    pub state: RecipientState,
    /// The last reply; empty before the first.
    pub reply: String,
}

/// How far a recipient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientState {
    /// To be served.
    Waiting,
    /// Served.
    Delivered,
    /// Given up.
    Failed,
}

pub(super) fn damaged(what: &str, message: u64) -> EngineError {
    EngineError::Corrupt(format!("{what} of message {message} in the queue"))
}

impl From<&Outbound> for Envelope {
    fn from(outbound: &Outbound) -> Self {
        Self {
            reverse_path: outbound.reverse_path.clone(),
            owner: outbound.owner,
            envelope_id: outbound.envelope_id.clone(),
            full_return: outbound.full_return,
            content: outbound.content,
            smtputf8: outbound.smtputf8,
            require_tls: outbound.require_tls,
            relayed: outbound.relayed,
            id: outbound.id.clone(),
            received_ms: outbound.received_ms,
            not_before_ms: outbound.not_before_ms,
        }
    }
}

impl Envelope {
    pub(super) fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.owner.is_some(), OWNED)
            | flag(self.envelope_id.is_some(), NAMED)
            | flag(self.full_return == Some(true), RETURN_FULL)
            | flag(self.full_return == Some(false), RETURN_HEADERS)
            | flag(self.smtputf8, SMTPUTF8)
            | flag(self.require_tls, REQUIRE_TLS);
        let more = flag(self.relayed, RELAYED) | flag(!self.id.is_empty(), WITH_ID);
        let content = match self.content {
            Content::SevenBit => 0,
            Content::EightBit => 1,
            Content::Binary => 2,
        };
        let mut row = vec![VERSION, flags, content | more];
        put_bytes(&mut row, self.reverse_path.as_bytes());
        self.owner.into_iter().for_each(|owner| row.extend_from_slice(&owner.0.to_le_bytes()));
        self.envelope_id.iter().for_each(|id| put_bytes(&mut row, id.as_bytes()));
        if !self.id.is_empty() {
            put_bytes(&mut row, self.id.as_bytes());
        }
        row.extend_from_slice(&self.received_ms.to_le_bytes());
        row.extend_from_slice(&self.not_before_ms.to_le_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let (flags, more) = (take.u8()?, take.u8()?);
        let content = match more & CONTENT {
            0 => Content::SevenBit,
            1 => Content::EightBit,
            2 => Content::Binary,
            _ => return None,
        };
        let reverse_path = take.text()?.to_owned();
        let owner = if flags & OWNED != 0 { Some(AccountId(take.u32()?)) } else { None };
        let envelope_id = if flags & NAMED != 0 { Some(take.text()?.to_owned()) } else { None };
        let id = if more & WITH_ID != 0 { take.text()?.to_owned() } else { String::new() };
        let full_return = match (flags & RETURN_FULL != 0, flags & RETURN_HEADERS != 0) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        };
        let (received_ms, not_before_ms) = (take.u64()?, take.u64()?);
        take.end()?;
        Some(Self {
            reverse_path,
            owner,
            envelope_id,
            full_return,
            content,
            smtputf8: flags & SMTPUTF8 != 0,
            require_tls: flags & REQUIRE_TLS != 0,
            relayed: more & RELAYED != 0,
            id,
            received_ms,
            not_before_ms,
        })
    }
}

impl Task {
    /// Recipients that are to be served, with their places.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, &TaskRecipient)> {
        let waits = |(_, recipient): &(usize, &TaskRecipient)| recipient.state == RecipientState::Waiting;
        self.recipients.iter().enumerate().filter(waits)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = if self.held { HELD } else { 0 } | if self.delay_told { DELAY_TOLD } else { 0 };
        let mut row = vec![VERSION, flags];
        put_bytes(&mut row, self.next_hop.as_bytes());
        row.extend_from_slice(&self.due_ms.to_le_bytes());
        put_varint(&mut row, u64::from(self.attempts));
        put_varint(&mut row, self.recipients.len() as u64);
        self.recipients.iter().for_each(|recipient| recipient.put(&mut row));
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut take = Take::versioned(row, VERSION)?;
        let flags = take.u8()?;
        let next_hop = take.text()?.to_owned();
        let (due_ms, attempts) = (take.u64()?, take.small()?);
        let count: usize = take.small().filter(|count| *count <= row.len())?;
        let recipients = (0..count).map(|_| TaskRecipient::take(&mut take)).collect::<Option<_>>()?;
        take.end()?;
        let (held, delay_told) = (flags & HELD != 0, flags & DELAY_TOLD != 0);
        Some(Self { next_hop, due_ms, held, delay_told, attempts, recipients })
    }
}

impl TaskRecipient {
    /// Notes the last reply, cut to what is kept.
    pub(super) fn note(&mut self, reply: &str) {
        let end = (0..=REPLY_OCTETS_MAX.min(reply.len())).rev().find(|at| reply.is_char_boundary(*at)).unwrap_or(0);
        reply[..end].clone_into(&mut self.reply);
    }

    pub(super) fn put(&self, row: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.notify.success, SUCCESS)
            | flag(self.notify.failure, FAILURE)
            | flag(self.notify.delay, DELAY)
            | flag(self.state == RecipientState::Delivered, DELIVERED)
            | flag(self.state == RecipientState::Failed, FAILED)
            | flag(self.original_recipient.is_some(), ORIGINAL);
        row.push(flags);
        put_bytes(row, self.address.as_bytes());
        self.original_recipient.iter().for_each(|original| put_bytes(row, original.as_bytes()));
        put_bytes(row, self.reply.as_bytes());
    }

    pub(super) fn take(take: &mut Take<'_>) -> Option<Self> {
        let flags = take.u8()?;
        let address = take.text()?.to_owned();
        let original_recipient = if flags & ORIGINAL != 0 { Some(take.text()?.to_owned()) } else { None };
        let state = match (flags & DELIVERED != 0, flags & FAILED != 0) {
            (false, false) => RecipientState::Waiting,
            (true, false) => RecipientState::Delivered,
            (false, true) => RecipientState::Failed,
            (true, true) => return None,
        };
        let notify =
            NotifyWhen { success: flags & SUCCESS != 0, failure: flags & FAILURE != 0, delay: flags & DELAY != 0 };
        Some(Self { address, notify, original_recipient, state, reply: take.text()?.to_owned() })
    }
}
