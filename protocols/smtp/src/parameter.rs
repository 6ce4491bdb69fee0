//! Parameters of MAIL and RCPT (RFC 5321 section 4.1.1.11 and the extensions).

use crate::{
    ask::{BodyKind, Notify, ReturnContent},
    limits::{ENVID_OCTETS_MAX, ORCPT_OCTETS_MAX},
    reply::{BAD_ARGUMENT, Reply, UNKNOWN_PARAMETER},
};

/// What MAIL may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailParameters {
    /// SIZE (RFC 1870).
    pub(crate) size: Option<u64>,
    /// BODY (RFC 6152, RFC 3030).
    pub(crate) body: Option<BodyKind>,
    /// SMTPUTF8 (RFC 6531).
    pub(crate) smtputf8: bool,
    /// RET (RFC 3461).
    pub(crate) return_content: Option<ReturnContent>,
    /// ENVID (RFC 3461), as received.
    pub(crate) envelope_id: Option<Box<str>>,
    /// REQUIRETLS (RFC 8689).
    pub(crate) require_tls: bool,
    /// AUTH= (RFC 4954) was given. Its value is checked and not used: nobody is trusted to vouch for a sender.
    auth: bool,
}

/// What RCPT may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RcptParameters {
    /// NOTIFY (RFC 3461).
    pub(crate) notify: Option<Notify>,
    /// ORCPT (RFC 3461), as received.
    pub(crate) original_recipient: Option<Box<str>>,
}

/// `KEYWORD` or `KEYWORD=value`, separated by spaces.
fn words(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(' ').filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), Reply> {
    match value {
        Some(value) if slot.is_none() => {
            *slot = Some(value);
            Ok(())
        }
        _ => Err(BAD_ARGUMENT),
    }
}

fn once(flag: &mut bool, good: bool) -> Result<(), Reply> {
    if *flag || !good {
        return Err(BAD_ARGUMENT);
    }
    *flag = true;
    Ok(())
}

impl MailParameters {
    /// Reads what follows the path of MAIL.
    pub(crate) fn read(text: &str) -> Result<Self, Reply> {
        let mut read = Self::default();
        for (keyword, value) in words(text) {
            match keyword.to_ascii_uppercase().as_str() {
                "SIZE" => set(&mut read.size, value.and_then(size))?,
                "BODY" => set(&mut read.body, value.and_then(body))?,
                "SMTPUTF8" => once(&mut read.smtputf8, value.is_none())?,
                "REQUIRETLS" => once(&mut read.require_tls, value.is_none())?,
                "RET" => set(&mut read.return_content, value.and_then(return_content))?,
                "ENVID" => set(&mut read.envelope_id, value.filter(|id| envelope_id(id)).map(Into::into))?,
                "AUTH" => once(&mut read.auth, value.is_some_and(|value| !value.is_empty() && is_xtext(value)))?,
                _ => return Err(UNKNOWN_PARAMETER),
            }
        }
        Ok(read)
    }
}

impl RcptParameters {
    /// Reads what follows the path of RCPT.
    pub(crate) fn read(text: &str) -> Result<Self, Reply> {
        let mut read = Self::default();
        for (keyword, value) in words(text) {
            match keyword.to_ascii_uppercase().as_str() {
                "NOTIFY" => set(&mut read.notify, value.and_then(notify))?,
                "ORCPT" => {
                    set(&mut read.original_recipient, value.filter(|to| original_recipient(to)).map(Into::into))?;
                }
                _ => return Err(UNKNOWN_PARAMETER),
            }
        }
        Ok(read)
    }
}

/// `1*20DIGIT`; a number too large for us is the largest we know.
pub(crate) fn size(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 20 && value.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

fn body(value: &str) -> Option<BodyKind> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Some(BodyKind::SevenBit),
        "8BITMIME" => Some(BodyKind::EightBitMime),
        "BINARYMIME" => Some(BodyKind::BinaryMime),
        _ => None,
    }
}

fn return_content(value: &str) -> Option<ReturnContent> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(ReturnContent::Full),
        "HDRS" => Some(ReturnContent::Headers),
        _ => None,
    }
}

//= rfc3461#section-4.1
//# Multiple notify-list-elements, separated by commas, MAY appear in
//# a NOTIFY parameter; however, the NEVER keyword MUST appear by
//# itself.
fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for element in value.split(',') {
        match element.to_ascii_uppercase().as_str() {
            "SUCCESS" => success = true,
            "FAILURE" => failure = true,
            "DELAY" => delay = true,
            _ => return None,
        }
    }
    Some(Notify::On { success, failure, delay })
}

fn envelope_id(value: &str) -> bool {
    (1..=ENVID_OCTETS_MAX).contains(&value.len()) && is_xtext(value)
}

/// `addr-type ";" xtext`, or the `utf-8` forms of RFC 6533, which may hold non-ASCII letters.
fn original_recipient(value: &str) -> bool {
    value.len() <= ORCPT_OCTETS_MAX
        && value.split_once(';').is_some_and(|(kind, address)| {
            let kind_good =
                !kind.is_empty() && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
            let utf8 = kind.eq_ignore_ascii_case("utf-8");
            kind_good && !address.is_empty() && if utf8 { !address.contains('=') } else { is_xtext(address) }
        })
}

/// xtext of RFC 3461 section 4: `+` begins two upper case hexadecimal digits.
fn is_xtext(value: &str) -> bool {
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        let good = match octet {
            b'+' => {
                let mut digit = || octets.next().is_some_and(|octet| matches!(octet, b'0'..=b'9' | b'A'..=b'F'));
                digit() && digit()
            }
            b'=' => false,
            _ => octet.is_ascii_graphic(),
        };
        if !good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_parameters() {
        let read = MailParameters::read(" SIZE=1000 body=8bitmime SMTPUTF8 RET=HDRS ENVID=QQ314159 RequireTLS AUTH=<>");
        assert_eq!(
            read,
            Ok(MailParameters {
                size: Some(1000),
                body: Some(BodyKind::EightBitMime),
                smtputf8: true,
                return_content: Some(ReturnContent::Headers),
                envelope_id: Some("QQ314159".into()),
                require_tls: true,
                auth: true,
            })
        );
        for bad in [
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=1 SIZE=1",
            "BODY=9BIT",
            "SMTPUTF8=1",
            "REQUIRETLS=1",
            "REQUIRETLS REQUIRETLS",
            "RET=ALL",
            "ENVID=a+b",
            "ENVID=",
            "AUTH=",
            "SIZE=123456789012345678901",
        ] {
            assert_eq!(MailParameters::read(bad), Err(BAD_ARGUMENT), "{bad}");
        }
        assert_eq!(MailParameters::read("NOTIFY=NEVER"), Err(UNKNOWN_PARAMETER));
        assert_eq!(MailParameters::read("SIZE=99999999999999999999").map(|read| read.size), Ok(Some(u64::MAX)));
    }

    #[test]
    fn rcpt_parameters() {
        let read = RcptParameters::read("NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@example.com");
        let notify = Notify::On { success: true, failure: false, delay: true };
        let original_recipient = Some("rfc822;Bob+2Bx@example.com".into());
        assert_eq!(read, Ok(RcptParameters { notify: Some(notify), original_recipient }));
        for bad in
            ["NOTIFY=NEVER,SUCCESS", "NOTIFY=", "NOTIFY=X", "ORCPT=a@b", "ORCPT=rfc822;", "ORCPT=;a", "ORCPT=r;a+2b"]
        {
            assert_eq!(RcptParameters::read(bad), Err(BAD_ARGUMENT), "{bad}");
        }
        assert_eq!(RcptParameters::read("SIZE=1"), Err(UNKNOWN_PARAMETER));
    }
}
