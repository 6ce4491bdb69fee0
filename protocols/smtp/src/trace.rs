//! The trace header (RFC 5321 section 4.4).

use std::net::IpAddr;

use rockdove_mail::date::date_time;

use crate::{Envelope, Role};

/// The `Received` field of one recipient's copy, with its CRLF.
///
/// `hostname` is our name, `recipient` the forward-path this copy came for (`None` when there are several, who need not
/// know of each other), `unix_s` when the message was complete.
pub fn received(envelope: &Envelope, hostname: &str, recipient: Option<&str>, unix_s: i64) -> String {
    let client = &envelope.client;
    let address = client.remote.map_or_else(String::new, |remote| match remote.ip().to_canonical() {
        IpAddr::V4(address) => format!(" ([{address}])"),
        IpAddr::V6(address) => format!(" ([IPv6:{address}])"),
    });
    let tls = client.tls.as_ref().map_or_else(String::new, |tls| format!(" ({} {})", tls.version, tls.cipher));
    let recipient = recipient.map(|recipient| format!("\r\n\tfor <{recipient}>")).unwrap_or_default();
    format!(
        "Received: from {}{address}\r\n\tby {hostname} with {}{tls}\r\n\tid {}{recipient}; {}\r\n",
        client.name,
        protocol(envelope),
        envelope.id,
        date_time(unix_s),
    )
}

/// The keyword after `with` (RFC 3848, RFC 6531 section 4.3).
fn protocol(envelope: &Envelope) -> &'static str {
    let client = &envelope.client;
    let lmtp = client.role == Role::Lmtp;
    if !lmtp && !client.extended {
        return "SMTP";
    }
    match (lmtp, envelope.smtputf8, client.tls.is_some(), client.login.is_some()) {
        (false, false, false, false) => "ESMTP",
        (false, false, false, true) => "ESMTPA",
        (false, false, true, false) => "ESMTPS",
        (false, false, true, true) => "ESMTPSA",
        (false, true, false, false) => "UTF8SMTP",
        (false, true, false, true) => "UTF8SMTPA",
        (false, true, true, false) => "UTF8SMTPS",
        (false, true, true, true) => "UTF8SMTPSA",
        (true, false, false, false) => "LMTP",
        (true, false, false, true) => "LMTPA",
        (true, false, true, false) => "LMTPS",
        (true, false, true, true) => "LMTPSA",
        (true, true, false, false) => "UTF8LMTP",
        (true, true, false, true) => "UTF8LMTPA",
        (true, true, true, false) => "UTF8LMTPS",
        (true, true, true, true) => "UTF8LMTPSA",
    }
}
