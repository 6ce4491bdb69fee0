//! Replies: how a code, an enhanced status code and a text become lines.

use std::fmt::Write as _;

use crate::Refusal;

/// A reply that is known where it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Reply code.
    pub(crate) code: u16,
    /// Enhanced status code (RFC 2034); empty where none belongs: greeting, EHLO, 334 and 354.
    pub(crate) status: &'static str,
    /// What a person reads.
    pub(crate) text: &'static str,
}

impl Reply {
    pub(crate) const fn new(code: u16, status: &'static str, text: &'static str) -> Self {
        Self { code, status, text }
    }

    /// Writes the reply as one line.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        line(out, self.code, self.status, format_args!("{}", self.text));
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.code, self.status, self.text)
    }
}

/// Writes a reply of one line.
pub(crate) fn line(out: &mut Vec<u8>, code: u16, status: &str, text: std::fmt::Arguments<'_>) {
    let mut written = String::with_capacity(64);
    // Writing to a string cannot fail.
    let done = if status.is_empty() {
        write!(written, "{code} {text}\r\n")
    } else {
        write!(written, "{code} {status} {text}\r\n")
    };
    debug_assert!(done.is_ok());
    out.extend_from_slice(written.as_bytes());
}

/// Octets of a text that the host decides on: with code and status the line keeps below the 512 of RFC 5321 section
/// 4.5.3.1.5.
const TEXT_OCTETS_MAX: usize = 400;

/// Writes what the host says. A code that refuses nothing is taken for "not now".
pub(crate) fn refuse(out: &mut Vec<u8>, refusal: &Refusal) {
    let code = if (400..600).contains(&refusal.code) { refusal.code } else { 451 };
    let printable = |text: &str, most: usize| -> String {
        text.chars().filter(|character| matches!(character, ' '..='~')).take(most).collect()
    };
    let class = if code < 500 { "4." } else { "5." };
    let status = printable(&refusal.status, 12);
    let status = if status.starts_with(class) { status } else { format!("{class}7.1") };
    line(out, code, &status, format_args!("{}", printable(&refusal.text, TEXT_OCTETS_MAX)));
}

/// Writes a reply of several lines without enhanced status codes.
pub(crate) fn lines<'a>(out: &mut Vec<u8>, code: u16, texts: impl IntoIterator<Item = &'a str>) {
    let mut texts = texts.into_iter().peekable();
    while let Some(text) = texts.next() {
        out.extend_from_slice(code.to_string().as_bytes());
        out.push(if texts.peek().is_some() { b'-' } else { b' ' });
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

pub(crate) const OK: Reply = Reply::new(250, "2.0.0", "ok");
pub(crate) const SENDER_OK: Reply = Reply::new(250, "2.1.0", "sender ok");
pub(crate) const RECIPIENT_OK: Reply = Reply::new(250, "2.1.5", "recipient ok");
pub(crate) const GO_AHEAD: Reply = Reply::new(354, "", "end data with <CR><LF>.<CR><LF>");
pub(crate) const BYE: Reply = Reply::new(221, "2.0.0", "bye");
pub(crate) const START_TLS: Reply = Reply::new(220, "2.0.0", "ready to start TLS");
pub(crate) const LOGGED_IN: Reply = Reply::new(235, "2.7.0", "authentication succeeded");
pub(crate) const NOT_SAYING: Reply = Reply::new(252, "2.1.5", "not verified; send the mail and see");
pub(crate) const HELP: Reply =
    Reply::new(214, "2.0.0", "EHLO HELO LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP STARTTLS AUTH; see RFC 5321");

pub(crate) const UNKNOWN_COMMAND: Reply = Reply::new(500, "5.5.1", "command not recognized");
pub(crate) const NOT_THIS_ROLE: Reply = Reply::new(500, "5.5.1", "this port speaks LMTP: use LHLO");
pub(crate) const NOT_LMTP: Reply = Reply::new(500, "5.5.1", "this port does not speak LMTP: use EHLO");
pub(crate) const NOT_IMPLEMENTED: Reply = Reply::new(502, "5.5.1", "command not implemented");
pub(crate) const LINE_TOO_LONG: Reply = Reply::new(500, "5.5.2", "line too long");
pub(crate) const AUTH_TOO_LONG: Reply = Reply::new(500, "5.5.6", "authentication exchange line is too long");
pub(crate) const BARE_LF: Reply =
    Reply::new(500, "5.5.2", "bare LF: lines end with CRLF; this one is ignored up to its CRLF");
pub(crate) const BARE_CR: Reply = Reply::new(500, "5.5.2", "bare CR or control character in a command");
pub(crate) const NOT_UTF8: Reply = Reply::new(500, "5.5.2", "command is not valid UTF-8");
pub(crate) const BAD_ARGUMENT: Reply = Reply::new(501, "5.5.4", "syntax error in parameters");
pub(crate) const NO_ARGUMENT: Reply = Reply::new(501, "5.5.4", "this command takes no parameters");
pub(crate) const BAD_NAME: Reply = Reply::new(501, "5.5.4", "not a domain or address literal");
pub(crate) const BAD_SENDER: Reply = Reply::new(501, "5.1.7", "bad sender address; the form is MAIL FROM:<address>");
pub(crate) const BAD_RECIPIENT: Reply =
    Reply::new(501, "5.1.3", "bad recipient address; the form is RCPT TO:<address>");
pub(crate) const BAD_CHUNK: Reply = Reply::new(501, "5.5.4", "no chunk size, cannot go on; closing connection");
pub(crate) const UNKNOWN_PARAMETER: Reply = Reply::new(555, "5.5.4", "parameter not recognized");
pub(crate) const SENDER_NEEDS_UTF8: Reply = Reply::new(553, "5.6.7", "non-ASCII address needs the SMTPUTF8 parameter");
pub(crate) const SAY_HELLO: Reply = Reply::new(503, "5.5.1", "say EHLO first");
pub(crate) const SAY_LHLO: Reply = Reply::new(503, "5.5.1", "say LHLO first");
pub(crate) const NESTED_MAIL: Reply = Reply::new(503, "5.5.1", "a mail transaction is under way");
pub(crate) const NEED_MAIL: Reply = Reply::new(503, "5.5.1", "need MAIL first");
pub(crate) const NEED_RCPT: Reply = Reply::new(554, "5.5.1", "no valid recipients");
pub(crate) const NEED_RCPT_LMTP: Reply = Reply::new(503, "5.5.1", "no valid recipients");
pub(crate) const NO_DATA_AFTER_BDAT: Reply =
    Reply::new(503, "5.5.1", "no DATA or RCPT after BDAT; send BDAT LAST or RSET");
pub(crate) const NO_DATA_FOR_BINARY: Reply = Reply::new(503, "5.5.1", "BODY=BINARYMIME needs BDAT");
pub(crate) const BROKEN: Reply = Reply::new(503, "5.5.1", "an earlier chunk was refused; send RSET");

pub(crate) const TLS_FIRST: Reply = Reply::new(530, "5.7.0", "must issue a STARTTLS command first");
pub(crate) const NO_TLS: Reply = Reply::new(502, "5.5.1", "TLS is not available here");
pub(crate) const TLS_ALREADY: Reply = Reply::new(503, "5.5.1", "TLS is in use already");
pub(crate) const TLS_PIPELINED: Reply =
    Reply::new(503, "5.5.1", "nothing may follow STARTTLS before its reply; closing connection");

pub(crate) const LOGIN_FIRST: Reply = Reply::new(530, "5.7.0", "authentication required");
pub(crate) const NO_AUTH: Reply = Reply::new(502, "5.5.1", "AUTH is not available here");
pub(crate) const AUTH_NEEDS_TLS: Reply =
    Reply::new(538, "5.7.11", "encryption required for authentication; use STARTTLS");
pub(crate) const AUTH_ALREADY: Reply = Reply::new(503, "5.5.1", "authenticated already");
pub(crate) const AUTH_IN_MAIL: Reply = Reply::new(503, "5.5.1", "no AUTH during a mail transaction");
pub(crate) const BAD_MECHANISM: Reply = Reply::new(504, "5.5.4", "authentication mechanism not recognized");
pub(crate) const BAD_BASE64: Reply = Reply::new(501, "5.5.2", "cannot decode this line");
pub(crate) const AUTH_CANCELLED: Reply = Reply::new(501, "5.7.0", "authentication cancelled");
pub(crate) const AUTH_REFUSED: Reply = Reply::new(535, "5.7.8", "authentication credentials invalid");
pub(crate) const AUTH_LATER: Reply = Reply::new(454, "4.7.0", "temporary authentication failure");

pub(crate) const TOO_BIG: Reply = Reply::new(552, "5.3.4", "message exceeds the maximum size");
pub(crate) const TOO_MANY_RECIPIENTS: Reply = Reply::new(452, "4.5.3", "too many recipients");
pub(crate) const NOT_YOUR_ADDRESS: Reply = Reply::new(553, "5.7.1", "this account may not send as this address");
pub(crate) const SENDER_LATER: Reply = Reply::new(451, "4.3.0", "cannot check the sender now, try again later");
pub(crate) const NO_SUCH_USER: Reply = Reply::new(550, "5.1.1", "no such recipient here");
pub(crate) const RELAY_DENIED: Reply = Reply::new(554, "5.7.1", "relay access denied");
pub(crate) const NO_OTHER_DOMAINS: Reply =
    Reply::new(554, "5.7.1", "delivery to other domains is not enabled on this server");
pub(crate) const OVER_QUOTA: Reply = Reply::new(452, "4.2.2", "the mailbox is full");
pub(crate) const RECIPIENT_LATER: Reply = Reply::new(451, "4.3.0", "cannot check the recipient now, try again later");

pub(crate) const DATA_BARE_LF: Reply = Reply::new(550, "5.6.11", "bare LF in the message; lines end with CRLF");
pub(crate) const DATA_BARE_CR: Reply = Reply::new(550, "5.6.11", "bare CR in the message; lines end with CRLF");
pub(crate) const LOOP: Reply =
    Reply::new(554, "5.4.6", "too many Received fields, the message is going round in a loop");
pub(crate) const STORE_LATER: Reply = Reply::new(452, "4.3.1", "cannot store the message now, try again later");

pub(crate) const TOO_MANY_ERRORS: Reply = Reply::new(421, "4.7.0", "too many errors, closing connection");
pub(crate) const TOO_MANY_IDLE: Reply =
    Reply::new(421, "4.7.0", "too many commands that move no mail, closing connection");
pub(crate) const TOO_MANY_MESSAGES: Reply =
    Reply::new(421, "4.7.0", "enough messages for one connection, please connect again");
pub(crate) const SPOKE_FIRST: Reply = Reply::new(421, "4.7.0", "you spoke before the greeting, closing connection");
pub(crate) const NOT_MAIL: Reply = Reply::new(421, "4.7.0", "this is a mail server, closing connection");
pub(crate) const TIMED_OUT: Reply = Reply::new(421, "4.4.2", "waited too long, closing connection");
pub(crate) const SHUTTING_DOWN: Reply = Reply::new(421, "4.3.2", "server is shutting down, try again later");
pub(crate) const OUT_OF_STEP: Reply = Reply::new(421, "4.3.0", "internal trouble, closing connection");
