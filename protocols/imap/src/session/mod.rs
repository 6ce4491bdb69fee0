//! The conversation.

/// One connection.
#[derive(Debug)]
pub struct ImapSession;
