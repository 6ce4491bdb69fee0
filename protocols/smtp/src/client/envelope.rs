//! What the server offers, and the commands of a transaction.

use super::{ServerReply, Transaction, TransactionRecipient};
use crate::{BodyKind, Notify, ReturnContent};

/// What EHLO answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a service extension of its own")]
pub(super) struct Offers {
    pub(super) pipelining: bool,
    pub(super) start_tls: bool,
    pub(super) eight_bit: bool,
    pub(super) binary: bool,
    pub(super) chunking: bool,
    pub(super) smtputf8: bool,
    pub(super) reports: bool,
    pub(super) require_tls: bool,
    /// SIZE was offered, with a limit unless it is zero.
    pub(super) size: Option<u64>,
    /// Mechanisms of AUTH, in capitals.
    pub(super) mechanisms: Vec<String>,
}

impl Offers {
    /// `lines`: what the reply to EHLO said, the first line is a greeting.
    pub(super) fn of(lines: &[String]) -> Self {
        let mut offers = Self::default();
        for line in lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default() {
                "PIPELINING" => offers.pipelining = true,
                "STARTTLS" => offers.start_tls = true,
                "8BITMIME" => offers.eight_bit = true,
                "BINARYMIME" => offers.binary = true,
                "CHUNKING" => offers.chunking = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "DSN" => offers.reports = true,
                "REQUIRETLS" => offers.require_tls = true,
                "SIZE" => offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "AUTH" => offers.mechanisms.extend(words.map(str::to_owned)),
                // As servers of the last century wrote it.
                word => offers.mechanisms.extend(word.strip_prefix("AUTH=").map(str::to_owned)),
            }
        }
        offers
    }

    /// Why this server cannot be given the message at all.
    pub(super) fn cannot_take(&self, transaction: &Transaction, tls: bool) -> Option<ServerReply> {
        // RFC 6531 section 3.5: it is not sent to a server that does not offer the extension.
        if transaction.smtputf8 && !self.smtputf8 {
            return Some(ServerReply::new(
                550,
                "5.6.7",
                "the next server does not offer SMTPUTF8, which the message needs",
            ));
        }
        if self.size.is_some_and(|most| most > 0 && transaction.size_bytes > most) {
            return Some(ServerReply::new(552, "5.3.4", "the message is larger than the next server takes"));
        }
        if transaction.body == BodyKind::BinaryMime && !(self.binary && self.chunking) {
            return Some(ServerReply::new(
                550,
                "5.6.3",
                "the next server does not offer BINARYMIME, which the message needs",
            ));
        }
        // RFC 8689 section 4.2.1: nor this; but a report is better sent without than lost (section 5).
        let needs = transaction.require_tls && !transaction.reverse_path.is_empty();
        if needs && !(tls && self.require_tls) {
            return Some(ServerReply::new(
                550,
                "5.7.30",
                "the next server does not offer REQUIRETLS, which the sender asks for",
            ));
        }
        None
    }

    /// The MAIL command.
    ///
    /// Content with 8-bit octets goes to a server without 8BITMIME as it is: to change it would break its signatures, and
    /// servers that mind are hardly left.
    pub(super) fn mail(&self, transaction: &Transaction) -> String {
        let mut words = vec![format!("MAIL FROM:<{}>", transaction.reverse_path)];
        if self.size.is_some() {
            words.push(format!("SIZE={}", transaction.size_bytes));
        }
        match transaction.body {
            BodyKind::EightBitMime if self.eight_bit => words.push("BODY=8BITMIME".to_owned()),
            BodyKind::BinaryMime => words.push("BODY=BINARYMIME".to_owned()),
            BodyKind::SevenBit | BodyKind::EightBitMime => {}
        }
        if transaction.smtputf8 {
            words.push("SMTPUTF8".to_owned());
        }
        if transaction.require_tls && self.require_tls {
            words.push("REQUIRETLS".to_owned());
        }
        if self.reports {
            match transaction.return_content {
                Some(ReturnContent::Full) => words.push("RET=FULL".to_owned()),
                Some(ReturnContent::Headers) => words.push("RET=HDRS".to_owned()),
                None => {}
            }
            if let Some(id) = transaction.envelope_id.as_ref().filter(|id| is_one_word(id)) {
                words.push(format!("ENVID={id}"));
            }
        }
        words.join(" ") + "\r\n"
    }

    /// The RCPT command.
    pub(super) fn recipient(&self, recipient: &TransactionRecipient) -> String {
        let mut words = vec![format!("RCPT TO:<{}>", recipient.address)];
        if self.reports {
            if let Some(notify) = recipient.notify {
                words.push(format!("NOTIFY={}", notify_words(notify)));
            }
            if let Some(original) = recipient.original_recipient.as_ref().filter(|original| is_one_word(original)) {
                words.push(format!("ORCPT={original}"));
            }
        }
        words.join(" ") + "\r\n"
    }
}

fn notify_words(notify: Notify) -> String {
    match notify {
        Notify::Never => "NEVER".to_owned(),
        Notify::On { success, failure, delay } => {
            let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            let words: Vec<&str> = words.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).collect();
            if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
        }
    }
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Whether an address can stand between `<` and `>` without saying anything else.
pub(super) fn is_sendable(address: &str) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for c in address.chars() {
        if c.is_control() {
            return false;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' | '>' | ' ' if !quoted => return false,
            _ => {}
        }
    }
    !quoted && !escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_read() {
        let lines =
            ["mail.example hello", "PIPELINING", "size 1000", "AUTH PLAIN login", "AUTH=CRAM-MD5", "8BitMime", "X-Odd"];
        let offers = Offers::of(&lines.map(str::to_owned));
        assert!(offers.pipelining && offers.eight_bit && !offers.start_tls);
        assert_eq!(offers.size, Some(1000));
        assert_eq!(offers.mechanisms, ["PLAIN", "LOGIN", "CRAM-MD5"]);
        // The greeting is no offer.
        assert_eq!(Offers::of(&["STARTTLS".to_owned()]), Offers::default());
    }

    #[test]
    fn addresses_cannot_say_anything_else() {
        for good in ["", "a@b", "\"a b\"@c", "\"<>\"@c", "\"\\\"\"@c", "ü@ö"] {
            assert!(is_sendable(good), "{good}");
        }
        for bad in ["a>@b", "a b@c", "a@b\r\nDATA", "\"a@b", "a@b> SIZE=1", "\"a\\\"@b"] {
            assert!(!is_sendable(bad), "{bad}");
        }
    }
}
