//! Fuzz targets: functions that take bytes, drive our own code with them, and panic when a promise is broken.
//!
//! * What: one function per target. The binaries in `fuzz_targets/` and the test that replays the corpora call them.
//! * In: bytes. The first eight steer the host and the cuts, the rest is what the stranger sends.
//! * Out: nothing, when all is well.
//! * Never: has I/O, a clock or chance of its own: the same bytes do the same.
//! * Fails: panics when a promise of the code under test is broken. That is what it is for.

mod converse;
mod engine;
mod imap;
mod milter;
mod mime;
mod pop3;
mod smtp;
mod smtp_client;
mod spam;

pub use engine::{mailbox, parts};
pub use imap::imap_session;
pub use milter::milter;
pub use mime::mime;
pub use pop3::pop3_session;
pub use smtp::smtp_session;
pub use smtp_client::smtp_client;
pub use spam::spam_tokens;

/// A target and the folder of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("imap_session", imap_session),
    ("mailbox", mailbox),
    ("milter", milter),
    ("mime", mime),
    ("parts", parts),
    ("pop3_session", pop3_session),
    ("smtp_client", smtp_client),
    ("smtp_session", smtp_session),
    ("spam_tokens", spam_tokens),
];
