//! DKIM signatures (RFC 6376) and ARC chains (RFC 8617) of mail that comes in.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use mail_auth::{
    ArcOutput, AuthenticatedMessage, DkimOutput, DkimResult as Outcome, DnsError, Error, MessageAuthenticator,
    common::{crypto::Algorithm, headers::Header},
    dkim::{DkimError, Signature},
};

use super::results::Method;

/// Signatures of one message that are checked; of the others it is only said that they are not.
const SIGNATURES_MAX: usize = 8;
/// Sets of one ARC chain (section 4.2.1).
const SETS_MAX: usize = 50;
/// Octets of a signature that name it in results (RFC 6008).
const PREFIX_CHARACTERS: usize = 8;

/// What was found out about one signature, or one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// The result.
    pub result: Method,
    /// Why it is no pass, in our words.
    pub reason: Option<&'static str>,
    /// `d=`
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// `a=`
    pub algorithm: &'static str,
    /// The start of `b=`
    pub prefix: String,
}

/// The signatures of a message, in their order.
pub(super) async fn check_dkim(
    authenticator: &MessageAuthenticator,
    message: &AuthenticatedMessage<'_>,
) -> Vec<Signed> {
    let mut left = AuthenticatedMessage { dkim_headers: Vec::new(), errors: Vec::new(), ..message.clone() };
    let mut found: Vec<Signed> = unreadable(message);
    for header in &message.dkim_headers {
        if left.dkim_headers.len() >= SIGNATURES_MAX {
            found.push(signed(Some(&header.header), Method::Neutral, Some("not checked: too many signatures")));
        } else if let Some(reason) = unacceptable(&header.header) {
            found.push(signed(Some(&header.header), Method::Policy, Some(reason)));
        } else {
            left.dkim_headers.push(copy(header));
        }
    }
    let outputs = authenticator.verify_dkim(&left).await;
    found.splice(0..0, outputs.iter().map(of_output));
    found
}

fn copy<'x>(header: &Header<'x, Signature>) -> Header<'x, Signature> {
    Header::new(header.name, header.value, header.header.clone())
}

/// The signatures of a message while nothing is known about them.
pub(super) fn unknown(message: &AuthenticatedMessage<'_>) -> Vec<Signed> {
    let headers = message.dkim_headers.iter().take(SIGNATURES_MAX);
    headers.map(|header| signed(Some(&header.header), Method::TempError, None)).collect()
}

/// Signatures that cannot be read.
fn unreadable(message: &AuthenticatedMessage<'_>) -> Vec<Signed> {
    let of = |header: &Header<'_, Error>| match &header.header {
        Error::Dkim(DkimError::SignatureLength) => {
            Some(signed(None, Method::Policy, Some("signs only a part of the body")))
        }
        _ if is_dkim(header.name) => Some(signed(None, Method::Neutral, Some("cannot be read"))),
        _ => None,
    };
    message.errors.iter().filter_map(of).take(SIGNATURES_MAX).collect()
}

fn is_dkim(name: &[u8]) -> bool {
    name.trim_ascii().eq_ignore_ascii_case(b"DKIM-Signature")
}

/// Why a signature says nothing even when it holds.
fn unacceptable(signature: &Signature) -> Option<&'static str> {
    if signature.a == Algorithm::RsaSha1 {
        //= rfc8301#section-3.1
        //# rsa-sha1 MUST NOT be used for signing or verifying.
        return Some("rsa-sha1 is not safe");
    }
    //= rfc6376#section-5.4
    //# The From header field MUST be signed (that is, included in the "h="
    //# tag of the resulting DKIM-Signature header field).
    let signs_from = signature.h.iter().any(|name| name.trim().eq_ignore_ascii_case("From"));
    (!signs_from).then_some("does not sign From")
}

fn of_output(output: &DkimOutput<'_>) -> Signed {
    let (result, reason) = reading(output.result());
    signed(output.signature(), result, reason)
}

fn signed(signature: Option<&Signature>, result: Method, reason: Option<&'static str>) -> Signed {
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let mut prefix = signature.map(|signature| BASE64.encode(&signature.b)).unwrap_or_default();
    prefix.truncate(PREFIX_CHARACTERS);
    Signed {
        result,
        reason,
        domain: text(signature.map(|signature| &signature.d)).to_ascii_lowercase(),
        selector: text(signature.map(|signature| &signature.s)),
        algorithm: signature.map_or("", |signature| algorithm(signature.a)),
        prefix,
    }
}

fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RsaSha1 => "rsa-sha1",
        Algorithm::RsaSha256 => "rsa-sha256",
        Algorithm::Ed25519Sha256 => "ed25519-sha256",
    }
}

/// What the library says, in the words of RFC 8601.
fn reading(outcome: &Outcome) -> (Method, Option<&'static str>) {
    match outcome {
        Outcome::Pass => (Method::Pass, None),
        Outcome::None => (Method::None, None),
        Outcome::TempError(_) => (Method::TempError, Some("the key cannot be had now")),
        Outcome::Neutral(error) | Outcome::Fail(error) | Outcome::PermError(error) => trouble(error),
    }
}

fn trouble(error: &Error) -> (Method, Option<&'static str>) {
    let (result, reason) = match error {
        Error::Dkim(DkimError::FailedBodyHashMatch) => (Method::Fail, "the body was changed"),
        Error::Dkim(DkimError::SignatureExpired) => (Method::Fail, "the signature has expired"),
        Error::Dkim(DkimError::FailedAuidMatch) => (Method::PermError, "the identity is not of the domain"),
        Error::Dkim(DkimError::RevokedPublicKey) => (Method::Fail, "the key is revoked"),
        Error::Crypto(_) => (Method::Fail, "the signature does not fit"),
        Error::Dns(DnsError::RecordNotFound(_)) => (Method::PermError, "there is no key"),
        Error::Dns(DnsError::Resolver(_)) => (Method::TempError, "the key cannot be had now"),
        Error::Arc(_) => (Method::Fail, "the chain is broken"),
        _ => (Method::PermError, "the signature or its key cannot be read"),
    };
    (result, Some(reason))
}

/// What was found out about an ARC chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The result.
    pub result: Method,
    /// Why it is no pass.
    pub reason: Option<&'static str>,
    /// The domains that have sealed, the first one first, and whether DMARC passed when they had the message.
    pub sealers: Vec<(String, bool)>,
}

impl Chain {
    pub(super) const fn unknown(result: Method) -> Self {
        Self { result, reason: None, sealers: Vec::new() }
    }

    /// The oldest of the trusted sealers that only trusted ones come after, when DMARC passed at it: everybody after it
    /// says that the chain held, and what somebody before it says is worth nothing.
    pub(super) fn witness(&self, trusted: &[String]) -> Option<&str> {
        if self.result != Method::Pass {
            return None;
        }
        let is_trusted = |domain: &String| trusted.iter().any(|trusted| trusted.eq_ignore_ascii_case(domain));
        let (domain, passed) = self.sealers.iter().rev().take_while(|(domain, _)| is_trusted(domain)).last()?;
        passed.then_some(domain)
    }
}

/// The ARC chain of a message, and what the library makes of it, for one more seal.
pub(super) async fn check_arc<'x>(
    authenticator: &MessageAuthenticator,
    message: &'x AuthenticatedMessage<'x>,
) -> (Chain, ArcOutput<'x>) {
    let sets = message.as_headers.len().max(message.ams_headers.len());
    let broken = |reason: &'static str| {
        let output = ArcOutput::default().with_result(Outcome::Fail(Error::NotAligned));
        (Chain { result: Method::Fail, reason: Some(reason), sealers: Vec::new() }, output)
    };
    if sets > SETS_MAX {
        return broken("the chain is too long");
    }
    if message.ams_headers.iter().any(|header| header.header.a == Algorithm::RsaSha1) {
        return broken("rsa-sha1 is not safe");
    }
    let output = authenticator.verify_arc(message).await;
    let (result, reason) = reading(output.result());
    let sealer = |set: &mail_auth::arc::Set<'_>| {
        (set.seal.header.d.to_ascii_lowercase(), says_dmarc_passed(&String::from_utf8_lossy(set.results.value)))
    };
    let sealers = output.sets().iter().map(sealer).collect();
    (Chain { result, reason, sealers }, output)
}

/// Whether results (RFC 8601 section 2.2) have `dmarc=pass` among them; comments and quoted strings say nothing.
fn says_dmarc_passed(results: &str) -> bool {
    let plain = without_comments(results);
    plain.split(';').any(|part| {
        let Some((method, rest)) = part.split_once('=') else { return false };
        let method = method.split('/').next().unwrap_or_default().trim();
        let result = rest.split_whitespace().next().unwrap_or_default();
        method.eq_ignore_ascii_case("dmarc") && result.eq_ignore_ascii_case("pass")
    })
}

fn without_comments(text: &str) -> String {
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0_usize, false, false);
    for c in text.chars() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ if quoted || depth > 0 => {}
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sealers_say_is_read() {
        for (text, passed) in [
            (" i=1; mx.example; dmarc=pass header.from=a.example", true),
            (" i=1; mx.example;\r\n\tspf=fail;\r\n\tDMARC/1 = PASS (p=reject)", true),
            (" i=1; mx.example; dmarc=fail", false),
            (" i=1; mx.example; spf=pass (; dmarc=pass;)", false),
            (" i=1; mx.example; spf=pass reason=\"; dmarc=pass;\"", false),
            (" i=1; mx.example; spf=pass smtp.mailfrom=dmarc=pass", false),
            ("", false),
        ] {
            assert_eq!(says_dmarc_passed(text), passed, "{text}");
        }
    }

    #[test]
    fn only_trusted_sealers_are_witnesses() {
        let chain = |sealers: &[(&str, bool)]| Chain {
            result: Method::Pass,
            reason: None,
            sealers: sealers.iter().map(|(domain, passed)| ((*domain).to_owned(), *passed)).collect(),
        };
        let trusted = ["a.example".to_owned(), "b.example".to_owned()];
        for (sealers, expected) in [
            (&[("a.example", true)][..], Some("a.example")),
            (&[("a.example", false)][..], None),
            (&[("a.example", true), ("b.example", false)][..], Some("a.example")),
            (&[("x.example", true), ("b.example", false)][..], None),
            (&[("a.example", true), ("x.example", true)][..], None),
            (&[][..], None),
        ] {
            assert_eq!(chain(sealers).witness(&trusted), expected);
        }
        let broken = Chain { result: Method::Fail, ..chain(&[("a.example", true)]) };
        assert_eq!(broken.witness(&trusted), None);
    }
}
