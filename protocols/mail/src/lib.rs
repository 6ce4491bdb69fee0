//! Words and formats that every mail protocol shares.
//!
//! * What: flags, UIDs, mailbox names, addresses, dates, header and MIME access, SASL exchanges, search conditions, and
//!   the [`Session`] kit with its transcript runner.
//! * In: bytes and plain values.
//! * Out: plain values and bytes.
//! * Never: reads a socket, a file, a clock or a random source; knows of the store or of a protocol's grammar.
//! * Fails: with a small error value that names what is wrong; it does not panic on any input.
#![forbid(unsafe_code)]

pub mod date;
mod flags;
pub mod header;
mod mailbox;
mod metadata;
pub mod mime;
mod rights;
pub mod sasl;
pub mod sasl_client;
pub mod search;
mod session;
pub mod text;
mod uid;

pub use flags::{FlagUpdate, Flags, Keyword, SystemFlags};
pub use mailbox::{
    HIERARCHY_DELIMITER, MAILBOX_LEVELS_MAX, MAILBOX_NAME_OCTETS_MAX, MailboxName, MailboxNameError, SpecialUse,
};
pub use metadata::{METADATA_NAME_OCTETS_MAX, METADATA_VALUE_OCTETS_MAX, MetadataEntry, MetadataScope, metadata_mark};
pub use rights::{Rights, RightsUpdate};
pub use session::{AskId, Input, Peer, Session, Step, Tick, TlsFacts};
pub use uid::{ModSeq, Uid, UidSet, UidValidity};
