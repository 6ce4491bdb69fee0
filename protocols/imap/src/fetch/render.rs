//! Writes FETCH responses.

use std::ops::Range;

use bytes::Bytes;
use rockdove_mail::{Flags, ModSeq, Uid, UidSet};

use super::{FetchRequest, SectionText};
use crate::numbers::Numbers;

/// Where the next page begins; the default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchCursor {
    /// Messages with a lower UID are done.
    pub(crate) uid: Uid,
    /// Items of this message that are done.
    pub(crate) item: usize,
    /// Octets of this item's literal that are out.
    pub(crate) octet: u64,
}

/// What is known of a message without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageFacts {
    /// Flags and keywords, without `\Recent`.
    pub flags: Flags,
    /// MODSEQ.
    pub modseq: ModSeq,
    /// INTERNALDATE: seconds since 1970 and zone east of UTC in minutes.
    pub internal_date: (i64, i16),
    /// RFC822.SIZE, in octets.
    pub size_bytes: u64,
}

/// Why a message cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailure {
    /// It has been removed meanwhile.
    Gone,
    /// It cannot be read.
    Unreadable,
}

/// Messages as the host holds them. Offsets count octets of the whole message.
pub trait MessageSource {
    /// Facts of a message of the view.
    fn facts(&mut self, uid: Uid) -> Option<MessageFacts>;
    /// Ready ENVELOPE.
    fn envelope(&mut self, uid: Uid) -> Result<Bytes, FetchFailure>;
    /// Ready BODY.
    fn body(&mut self, uid: Uid) -> Result<Bytes, FetchFailure>;
    /// Ready BODYSTRUCTURE.
    fn body_structure(&mut self, uid: Uid) -> Result<Bytes, FetchFailure>;
    /// Where a part's octets are; for `HeaderFields` and `HeaderFieldsNot` the header they are chosen from. `None` when
    /// the message has no such part.
    fn section(&mut self, uid: Uid, path: &[u32], text: &SectionText) -> Result<Option<Range<u64>>, FetchFailure>;
    /// Octets of a message; all that was asked for.
    fn read(&mut self, uid: Uid, range: Range<u64>) -> Result<Bytes, FetchFailure>;
}

/// A page of FETCH responses.
#[derive(Debug, Default)]
pub struct Rendered {
    /// Octets for the client.
    pub octets: Vec<Bytes>,
    /// Where to go on; `None` when all is written.
    pub next: Option<FetchCursor>,
    /// Messages that were gone and passed over.
    pub missing: u32,
}
