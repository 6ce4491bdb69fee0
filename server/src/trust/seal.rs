//! ARC sets (RFC 8617) on mail that is passed on: what we found out, for those who cannot find it out any more.

use std::sync::Arc;

use mail_auth::{
    ArcOutput, AuthenticatedMessage, AuthenticationResults, DkimResult,
    arc::ArcSealer,
    common::{
        crypto::{RsaKey, Sha256},
        headers::HeaderWriter as _,
    },
};
use rockdove_engine::directory::{SigningAlgorithm, SigningKeyRecord};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer};

/// Octets of the results in a seal, which are one line; RFC 5322 section 2.1.1 allows 998 with the name.
const RESULTS_OCTETS_MAX: usize = 900;
/// Sets of a chain that one more is added to (RFC 8617 section 4.2.1).
const SETS_MAX: usize = 49;
/// What is sealed: what a signature of ours would cover, and the signatures that are there.
const SEALED: [&str; 14] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "DKIM-Signature",
];

/// One more set for a message, as header fields. `None` without a key for RSA, which is the only algorithm that others
/// know in seals, and for a chain that is broken or could not be checked: nothing can be said about it that helps.
pub(super) fn seal(
    keys: &[Arc<SigningKeyRecord>],
    message: &AuthenticatedMessage<'_>,
    chain: &ArcOutput<'_>,
    results: &str,
) -> Option<String> {
    let key = keys.iter().find(|key| key.active && key.algorithm == SigningAlgorithm::RsaSha256)?;
    if !matches!(chain.result(), DkimResult::Pass | DkimResult::None) || chain.sets().len() > SETS_MAX {
        return None;
    }
    let der = PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(key.private.as_slice()));
    let private = RsaKey::<Sha256>::from_key_der(der).ok()?;
    let sealer = ArcSealer::from_key(private).domain(&key.domain).selector(&key.selector).headers(SEALED);
    let line = one_line(results);
    let results = AuthenticationResults::new(&line);
    match sealer.seal(message, &results, chain) {
        Ok(set) => Some(set.to_header()),
        Err(error) => {
            tracing::warn!(domain = %key.domain, %error, "a message that is passed on cannot be sealed");
            None
        }
    }
}

/// Results as one line, without runs of spaces; what has no room is left out, and DMARC is not.
fn one_line(results: &str) -> String {
    let plain = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts = results.split(";\r\n\t").map(plain);
    let mut line = parts.next().unwrap_or_default();
    let mut parts: Vec<String> = parts.collect();
    parts.sort_by_key(|part| !part.starts_with("dmarc="));
    for part in parts {
        if line.len() + part.len() + 2 <= RESULTS_OCTETS_MAX {
            line.push_str("; ");
            line.push_str(&part);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_fit_into_a_line() {
        assert_eq!(
            one_line("a.example;\r\n\tspf=pass;\r\n\tdmarc=pass  x=\"a  b\""),
            "a.example; dmarc=pass x=\"a b\"; spf=pass"
        );
        let many = format!("a.example{};\r\n\tdmarc=fail", ";\r\n\tdkim=pass header.d=x.example".repeat(60));
        let line = one_line(&many);
        assert!(line.starts_with("a.example; dmarc=fail; dkim=pass") && line.len() <= RESULTS_OCTETS_MAX, "{line}");
    }
}
