//! The message that a filter is asked about.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::Actions;

/// A message with its envelope, and who gave it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Our name (macro `j`).
    pub hostname: String,
    /// The listener it came through (macro `{daemon_name}`).
    pub daemon_name: String,
    /// The client; `None` when it came through a unix socket.
    pub peer: Option<SocketAddr>,
    /// The name that a reverse lookup of the client gave, where it was looked up.
    pub peer_name: Option<String>,
    /// What it said with EHLO.
    pub helo: String,
    /// Version of TLS and cipher suite, where TLS is in use.
    pub tls: Option<(String, String)>,
    /// The login, where there was one (macro `{auth_authen}`).
    pub login: Option<String>,
    /// What names the message in the log (macro `i`).
    pub id: String,
    /// The reverse-path without brackets; empty for `<>`.
    pub reverse_path: String,
    /// Parameters of MAIL, as in `SIZE=100`.
    pub parameters: Vec<String>,
    /// Who receives.
    pub recipients: Vec<Recipient>,
    /// The message.
    pub octets: Bytes,
    /// What the filter may do.
    pub actions: Actions,
}

/// One recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path without brackets.
    pub address: String,
    /// Parameters of RCPT.
    pub parameters: Vec<String>,
}
