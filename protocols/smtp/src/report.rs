//! Delivery status notifications (RFC 3464 in the frame of RFC 6522): what a sender is told about mail that did not arrive,
//! waits, or went where nothing more will be heard of it.

use std::fmt::Write as _;

use rockdove_mail::date::date_time;

use crate::client::ServerReply;

/// What happened to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Given up.
    Failed,
    /// Still tried.
    Delayed,
    /// Handed to a server that sends no reports.
    Relayed,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
        }
    }
}

/// One recipient of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRecipient {
    /// What happened.
    pub action: Action,
    /// The forward-path.
    pub address: String,
    /// ORCPT, as received.
    pub original_recipient: Option<String>,
    /// What the next server said, or we in its place.
    pub reply: ServerReply,
    /// The next server, when one was reached.
    pub server: Option<String>,
    /// Until when it will be tried, in seconds since 1970.
    pub retry_until_unix_s: Option<i64>,
}

/// A report to the sender of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Our name.
    pub hostname: String,
    /// Names the report, and with it nothing else: letters, digits, `.` and `-`.
    pub id: String,
    /// The reverse-path of the message; never empty.
    pub to: String,
    /// ENVID of the message, as received.
    pub envelope_id: Option<String>,
    /// When the message was accepted, in seconds since 1970.
    pub arrival_unix_s: i64,
    /// The present, in seconds since 1970.
    pub now_unix_s: i64,
    /// The recipients it is about; at least one.
    pub recipients: Vec<ReportRecipient>,
    /// The whole message comes back, not its header alone.
    pub whole: bool,
}

impl Report {
    /// Everything before the message, or its header, that comes back.
    pub fn head(&self) -> String {
        let action = self.recipients.iter().map(|recipient| recipient.action).min().unwrap_or(Action::Failed);
        let subject = match action {
            Action::Failed => "Your message could not be delivered",
            Action::Delayed => "Your message is delayed",
            Action::Relayed => "Your message was passed on",
        };
        let (hostname, boundary) = (&self.hostname, self.boundary());
        let text = self.text();
        let status = self.status();
        let eight_bit = if text.is_ascii() { "7bit" } else { "8bit" };
        let global = if status.is_ascii() { "message/delivery-status" } else { "message/global-delivery-status" };
        let status_bits = if status.is_ascii() { "7bit" } else { "8bit" };
        let returned = match (self.whole, status.is_ascii()) {
            (true, true) => "message/rfc822",
            (false, true) => "text/rfc822-headers",
            // RFC 6533 section 3.
            (true, false) => "message/global",
            (false, false) => "message/global-headers",
        };
        let described = if self.whole { "Your message" } else { "Header of your message" };
        let (to, id, date) = (one_line(&self.to), &self.id, date_time(self.now_unix_s));
        format!(
            "From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n\
             To: <{to}>\r\n\
             Subject: {subject}\r\n\
             Date: {date}\r\n\
             Message-ID: <{id}@{hostname}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\
             \r\n\
             This is a report in MIME format.\r\n\
             \r\n--{boundary}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: {eight_bit}\r\n\
             Content-Description: What happened\r\n\
             \r\n{text}\
             \r\n--{boundary}\r\n\
             Content-Type: {global}\r\n\
             Content-Transfer-Encoding: {status_bits}\r\n\
             Content-Description: The same for programs\r\n\
             \r\n{status}\
             \r\n--{boundary}\r\n\
             Content-Type: {returned}\r\n\
             Content-Transfer-Encoding: 8bit\r\n\
             Content-Description: {described}\r\n\
             \r\n"
        )
    }

    /// Everything behind it.
    pub fn tail(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary())
    }

    fn boundary(&self) -> String {
        format!("=_report_{}", self.id)
    }

    /// What a person reads.
    fn text(&self) -> String {
        let mut text = format!("This is the mail server {}.\r\n", self.hostname);
        for action in [Action::Failed, Action::Delayed, Action::Relayed] {
            let recipients: Vec<&ReportRecipient> =
                self.recipients.iter().filter(|recipient| recipient.action == action).collect();
            if recipients.is_empty() {
                continue;
            }
            text.push_str(match action {
                Action::Failed => {
                    "\r\nYour message could not be delivered to the addresses below, and nobody will try again.\r\n\
                     Check the address, or ask the person in another way; then send the message once more.\r\n"
                }
                Action::Delayed => {
                    "\r\nYour message could not be delivered to the addresses below yet. You need not do anything:\r\n\
                     it will be tried again and again, and you will be told if it has to be given up.\r\n"
                }
                Action::Relayed => {
                    "\r\nYour message was passed on for the addresses below, to a server that sends no reports.\r\n\
                     You will not hear more about it.\r\n"
                }
            });
            for recipient in recipients {
                let server = recipient.server.as_ref().map(|server| format!(" ({server})")).unwrap_or_default();
                // Writing to a string cannot fail.
                let written = write!(text, "\r\n  <{}>{server}\r\n", one_line(&recipient.address));
                debug_assert!(written.is_ok());
                for line in wrapped(&recipient.reply.to_string()) {
                    text.push_str("    ");
                    text.push_str(&line);
                    text.push_str("\r\n");
                }
            }
        }
        text
    }

    /// `delivery-status-content = per-message-fields 1*( CRLF per-recipient-fields )`
    fn status(&self) -> String {
        let mut fields = vec![format!("Reporting-MTA: dns; {}", self.hostname)];
        fields
            .extend(self.envelope_id.as_ref().map(|id| format!("Original-Envelope-Id: {}", one_line(&from_xtext(id)))));
        fields.push(format!("Arrival-Date: {}", date_time(self.arrival_unix_s)));
        for recipient in &self.recipients {
            fields.push(String::new());
            if let Some((kind, address)) = recipient.original_recipient.as_deref().and_then(|text| text.split_once(';'))
            {
                fields.push(format!("Original-Recipient: {}; {}", one_line(kind), one_line(&from_xtext(address))));
            }
            let kind = if recipient.address.is_ascii() { "rfc822" } else { "utf-8" };
            fields.push(format!("Final-Recipient: {kind}; {}", one_line(&recipient.address)));
            fields.push(format!("Action: {}", recipient.action.name()));
            fields.push(format!("Status: {}", status_of(recipient)));
            fields.extend(recipient.server.as_ref().map(|server| format!("Remote-MTA: dns; {}", one_line(server))));
            fields.push(format!("Diagnostic-Code: smtp; {}", one_line(&recipient.reply.to_string())));
            fields.push(format!("Last-Attempt-Date: {}", date_time(self.now_unix_s)));
            fields.extend(recipient.retry_until_unix_s.map(|until| format!("Will-Retry-Until: {}", date_time(until))));
        }
        fields.join("\r\n") + "\r\n"
    }
}

/// The status (RFC 3463): that of the reply where it fits what happened.
fn status_of(recipient: &ReportRecipient) -> String {
    let class = match recipient.action {
        Action::Failed => "5",
        Action::Delayed => "4",
        Action::Relayed => "2",
    };
    let detail = recipient.reply.status.as_deref().and_then(|status| status.split_once('.')).map(|(_, detail)| detail);
    format!("{class}.{}", detail.unwrap_or("0.0"))
}

/// A text that cannot end the line it stands in.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Lines of a comfortable length.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len().saturating_add(word.len()) < 72 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(one_line(word)),
        }
    }
    lines
}

/// `xtext = *( xchar / hexchar )`, `hexchar = "+" 2(HEXDIG)` (RFC 3461 section 4). What is none stays as it is.
fn from_xtext(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'+').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(octet) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            octets.push(octet);
            rest = after.get(2..).unwrap_or_default();
        } else {
            octets.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(recipients: Vec<ReportRecipient>) -> Report {
        Report {
            hostname: "mail.example.org".into(),
            id: "r1.2".into(),
            to: "ada@example.org".into(),
            envelope_id: Some("a+2Bb".into()),
            arrival_unix_s: 1_800_000_000,
            now_unix_s: 1_800_000_060,
            recipients,
            whole: false,
        }
    }

    fn recipient(action: Action, address: &str, reply: ServerReply) -> ReportRecipient {
        let server = Some("mx.example.com".to_owned());
        ReportRecipient {
            action,
            address: address.into(),
            original_recipient: None,
            reply,
            server,
            retry_until_unix_s: None,
        }
    }

    #[test]
    fn a_report_has_what_programs_look_for() {
        let reply = ServerReply::new(550, "5.1.1", "no such user");
        let mut one = recipient(Action::Failed, "bob@example.com", reply);
        one.original_recipient = Some("rfc822;bob+2Bx@example.com".into());
        let head = report(vec![one]).head();
        for wanted in [
            "Auto-Submitted: auto-replied\r\n",
            "report-type=delivery-status",
            "Original-Envelope-Id: a+b\r\n",
            "\r\n\r\nOriginal-Recipient: rfc822; bob+x@example.com\r\nFinal-Recipient: rfc822; bob@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Remote-MTA: dns; mx.example.com\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "Content-Type: message/delivery-status\r\n",
            "Content-Type: text/rfc822-headers\r\n",
        ] {
            assert!(head.contains(wanted), "{wanted:?} is not in\n{head}");
        }
        assert!(head.lines().all(|line| line.len() < 998));
    }

    #[test]
    fn nothing_a_server_says_adds_a_field() {
        let reply = ServerReply { code: 550, status: None, text: "no\r\nAction: delivered".into() };
        let head = report(vec![recipient(Action::Failed, "b\r\nX: y@example.com", reply)]).head();
        assert!(!head.contains("\nAction: delivered") && !head.contains("\nX: y"));
    }

    #[test]
    fn unicode_goes_into_the_global_form() {
        let reply = ServerReply::new(451, "4.0.0", "später");
        let head = report(vec![recipient(Action::Delayed, "ü@ö.example", reply)]).head();
        assert!(
            head.contains("message/global-delivery-status") && head.contains("Final-Recipient: utf-8; ü@ö.example")
        );
        assert!(head.contains("Subject: Your message is delayed"));
    }

    #[test]
    fn the_status_is_of_the_class_of_what_happened() {
        let status = |action, status: &str| status_of(&recipient(action, "a@b", ServerReply::new(421, status, "")));
        assert_eq!(status(Action::Failed, "4.4.2"), "5.4.2");
        assert_eq!(status(Action::Delayed, "4.4.2"), "4.4.2");
        assert_eq!(status(Action::Relayed, "2.1.5"), "2.1.5");
    }
}
