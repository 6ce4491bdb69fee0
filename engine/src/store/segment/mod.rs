//! Entries of a mailbox in columns.

mod view;

pub use view::{Entry, MailboxView};
