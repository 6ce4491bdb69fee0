//! The Authentication-Results field (RFC 8601).

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
};

use super::{
    dmarc::{Dmarc, Policy},
    signatures::{Chain, Signed},
    spf::Spf,
};

/// Characters of one value; a longer one is cut.
const VALUE_CHARACTERS_MAX: usize = 320;

/// A result of section 2.7 that more than one method has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// There is nothing to check.
    None,
    /// It holds.
    Pass,
    /// It does not hold.
    Fail,
    /// It holds or not: it is none that we accept.
    Policy,
    /// It cannot be worked with.
    Neutral,
    /// It could not be checked now.
    TempError,
    /// It can never be checked.
    PermError,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// Results as they are written, one a line.
pub(super) struct Results {
    text: String,
}

impl Results {
    /// Nothing but our name.
    pub(super) fn new(authserv_id: &str) -> Self {
        Self { text: value(authserv_id) }
    }

    fn add(&mut self, result: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        write!(self.text, ";\r\n\t{result}").unwrap_or_default();
    }

    /// The name of the client's address.
    pub(super) fn iprev(&mut self, result: Method, address: IpAddr) {
        self.add(format_args!("iprev={result} policy.iprev={}", value(&address.to_string())));
    }

    /// SPF of the name said with HELO.
    pub(super) fn spf_helo(&mut self, spf: &Spf) {
        self.add(format_args!("spf={} smtp.helo={}", spf.result, value(&spf.domain)));
    }

    /// SPF of the sender.
    pub(super) fn spf_mail(&mut self, spf: &Spf, sender: &str) {
        self.add(format_args!("spf={} smtp.mailfrom={}", spf.result, value(sender)));
    }

    /// The signatures.
    pub(super) fn dkim(&mut self, signatures: &[Signed]) {
        if signatures.is_empty() {
            self.add(format_args!("dkim=none"));
        }
        for signed in signatures {
            let mut line = format!("dkim={}", signed.result);
            if let Some(reason) = signed.reason {
                write!(line, " reason=\"{reason}\"").unwrap_or_default();
            }
            for (property, text) in
                [("d", &*signed.domain), ("s", &*signed.selector), ("a", signed.algorithm), ("b", &*signed.prefix)]
            {
                if !text.is_empty() {
                    write!(line, " header.{property}={}", value(text)).unwrap_or_default();
                }
            }
            self.add(format_args!("{line}"));
        }
    }

    /// The ARC chain (RFC 8617 section 10.1).
    pub(super) fn arc(&mut self, chain: &Chain, address: IpAddr) {
        let reason = chain.reason.map(|reason| format!(" reason=\"{reason}\"")).unwrap_or_default();
        let address = value(&address.to_string());
        self.add(format_args!("arc={}{reason} smtp.remote-ip={address}", chain.result));
    }

    /// DMARC of one author. `applied`: what was done about it, when that is something else than the domain wants.
    pub(super) fn dmarc(&mut self, dmarc: &Dmarc, applied: Option<&str>) {
        let reason = applied.map(|reason| format!(" reason=\"{reason}\"")).unwrap_or_default();
        let policy = match (&dmarc.published, dmarc.policy) {
            (Some(_), Policy::None) => " policy.dmarc=none",
            (Some(_), Policy::Quarantine) => " policy.dmarc=quarantine",
            (Some(_), Policy::Reject) => " policy.dmarc=reject",
            (None, _) => "",
        };
        self.add(format_args!("dmarc={}{reason} header.from={}{policy}", dmarc.result, value(&dmarc.domain)));
    }

    /// What is written behind the name of a field, without its line end.
    pub(super) fn body(&self) -> &str {
        &self.text
    }

    /// The field, with its line end.
    pub(super) fn field(&self) -> String {
        let none = if self.text.contains(';') { "" } else { "; none" };
        format!("Authentication-Results: {}{none}\r\n", self.text)
    }
}

/// A value of section 2.2: a token or an address as it is, anything else as a quoted string of printable US-ASCII.
fn value(text: &str) -> String {
    let text: String =
        text.chars().take(VALUE_CHARACTERS_MAX).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&octet))
    };
    let (local, domain) = text.rsplit_once('@').unwrap_or((&text, "x"));
    if is_token(local) && is_token(domain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_say_more_than_one_thing() {
        for (text, expected) in [
            ("mail.example", "mail.example"),
            ("a@b.example", "a@b.example"),
            ("2001:db8::1", "\"2001:db8::1\""),
            ("a b", "\"a b\""),
            ("x; dmarc=pass", "\"x; dmarc=pass\""),
            ("x\r\nFrom: y", "\"x??From: y\""),
            ("\"a\\b\"@c", "\"\\\"a\\\\b\\\"@c\""),
            ("m\u{fc}ller@b.example", "\"m?ller@b.example\""),
            ("", "\"\""),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }
}
