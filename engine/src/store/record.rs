//! Message records: what FETCH needs without the body.

use std::ops::Range;

use bytes::Bytes;

use crate::command::{InternalDate, MessageId};

/// What is known of a message without its body. Immutable; offsets are those of the message as the client sees it,
/// trace header included.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// Its id in the account (EMAILID).
    pub id: MessageId,
    /// RFC822.SIZE in octets.
    pub size_bytes: u64,
    /// The header block with its empty line.
    pub header: Range<u64>,
    /// Ready IMAP ENVELOPE.
    pub envelope: Bytes,
    /// Ready IMAP BODY.
    pub body: Bytes,
    /// Ready IMAP BODYSTRUCTURE.
    pub body_structure: Bytes,
    /// The `Date:` header, where it can be read.
    pub sent: Option<InternalDate>,
}
