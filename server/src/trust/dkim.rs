//! DKIM (RFC 6376, RFC 8463): keys, and signatures over mail that leaves.

use std::io;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use mail_auth::{
    AuthenticatedMessage,
    common::{
        crypto::{Ed25519Key, RsaKey, Sha256, SigningKey},
        headers::HeaderWriter as _,
    },
    dkim::{DkimSigner, Done, generate::DkimKeyPair},
};
use rockdove_engine::{
    AccountId, Engine, EngineError, MessageRecord,
    directory::{SigningAlgorithm, SigningKeyRecord},
};
use rockdove_smtp::Address;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer};

use crate::delivery::may_send_as;

/// Bits of a new RSA key: what RFC 8301 asks for, and what fits into one DNS answer.
const RSA_BITS: usize = 2_048;
/// Octets of a message read at once.
const READ_OCTETS: u64 = 64 * 1024;
/// Octets of a header that are looked through for its author.
const HEADER_OCTETS_MAX: u64 = 128 * 1024;
/// What is signed. Fields that are not there are signed as absent, so that nobody adds them: above all no second From.
const SIGNED: [&str; 19] = [
    "From",
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "Sender",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
    "Auto-Submitted",
];

/// Makes a key: its private half as DER, and what is published.
///
/// # Errors
/// When the machine has no randomness.
pub fn generate(algorithm: SigningAlgorithm) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let pair = match algorithm {
        SigningAlgorithm::RsaSha256 => DkimKeyPair::generate_rsa(RSA_BITS),
        SigningAlgorithm::Ed25519 => DkimKeyPair::generate_ed25519(),
    };
    let pair = pair.map_err(|error| io::Error::other(error.to_string()))?;
    let private = pair.private_key().to_vec();
    // RSA keys are published as SubjectPublicKeyInfo, as everybody does; RFC 6376 section 3.6.1 allows the bare key too.
    let public = match algorithm {
        SigningAlgorithm::RsaSha256 => subject_public_key_info(pair.public_key()),
        SigningAlgorithm::Ed25519 => pair.public_key().to_vec(),
    };
    Ok((private, public))
}

/// `SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { key } }`
fn subject_public_key_info(key: &[u8]) -> Vec<u8> {
    const RSA: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = tagged(0x03, &[&[0][..], key].concat());
    tagged(0x30, &[&RSA[..], &bits].concat())
}

/// DER: a tag, a length and the content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).map_or(&length[length.len()..], |at| &length[at..]);
    match significant {
        [] => out.push(0),
        [only] if *only < 0x80 => out.push(*only),
        bytes => {
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0));
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// What is published at `selector._domainkey.domain`.
pub fn record(key: &SigningKeyRecord) -> String {
    let kind = match key.algorithm {
        SigningAlgorithm::RsaSha256 => "rsa",
        SigningAlgorithm::Ed25519 => "ed25519",
    };
    format!("v=DKIM1; k={kind}; p={}", BASE64.encode(&key.public))
}

/// The signatures of a message in the queue, as header fields to be put before it. Empty when its author's domain has no
/// active key, or when `owner` has no right to an address that it calls its author: whoever may send for one domain must
/// not speak in the name of another. Reads the whole message, once for each key.
///
/// # Errors
/// When it cannot be read or signed.
pub fn signatures(engine: &Engine, owner: Option<AccountId>, record: &MessageRecord) -> Result<String, EngineError> {
    let start = engine.read(AccountId(0), record, 0..record.header.end.min(HEADER_OCTETS_MAX))?;
    let authors = authors(&start);
    let Some(first) = authors.first() else { return Ok(String::new()) };
    let directory = engine.directory();
    let is_own = |author: &Address| owner.is_none_or(|owner| may_send_as(&directory, owner, author));
    if !authors.iter().all(is_own) {
        tracing::warn!(author = %first, "not signed: the account that sent it has no right to this address");
        return Ok(String::new());
    }
    let keys = directory.signing_keys(&first.domain);
    let mut fields = String::new();
    for key in keys.iter().filter(|key| key.active) {
        fields.push_str(&signature(engine, record, key)?);
    }
    Ok(fields)
}

/// Who the header says has written it. Empty when one of them has no address that can be read.
fn authors(start: &[u8]) -> Vec<Address> {
    let Some(message) = AuthenticatedMessage::parse(start) else { return Vec::new() };
    let authors: Result<Vec<Address>, _> = message.from.iter().map(|author| Address::parse(author)).collect();
    authors.unwrap_or_default()
}

fn signature(engine: &Engine, record: &MessageRecord, key: &SigningKeyRecord) -> Result<String, EngineError> {
    let broken = |why: String| EngineError::Corrupt(format!("signing key {} of {}: {why}", key.selector, key.domain));
    match key.algorithm {
        SigningAlgorithm::RsaSha256 => {
            let der = PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(key.private.as_slice()));
            let private = RsaKey::<Sha256>::from_key_der(der).map_err(|error| broken(error.to_string()))?;
            sign(engine, record, &signer(private, key))
        }
        SigningAlgorithm::Ed25519 => {
            let private = Ed25519Key::from_pkcs8_der(&key.private).map_err(|error| broken(error.to_string()))?;
            sign(engine, record, &signer(private, key))
        }
    }
}

fn signer<T: SigningKey>(private: T, key: &SigningKeyRecord) -> DkimSigner<T, Done> {
    DkimSigner::from_key(private).domain(&key.domain).selector(&key.selector).headers(SIGNED)
}

fn sign<T: SigningKey<Hasher = Sha256>>(
    engine: &Engine,
    record: &MessageRecord,
    signer: &DkimSigner<T, Done>,
) -> Result<String, EngineError> {
    let mut stream = signer.sign_streaming();
    let mut at = 0;
    while at < record.size_bytes {
        let next = at.saturating_add(READ_OCTETS).min(record.size_bytes);
        stream.write(&engine.read(AccountId(0), record, at..next)?);
        at = next;
    }
    let signed =
        stream.finish().map_err(|error| EngineError::Invalid(format!("the message cannot be signed: {error}")))?;
    Ok(signed.to_header())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_der() {
        assert_eq!(tagged(4, &[]), [4, 0]);
        assert_eq!(tagged(4, &[7; 127])[..3], [4, 127, 7]);
        assert_eq!(tagged(4, &[7; 128])[..4], [4, 0x81, 128, 7]);
        assert_eq!(tagged(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
    }

    #[test]
    fn authors_are_found() {
        for (from, expected) in [
            ("From: ada@a.example", vec!["ada@a.example"]),
            ("From: \"A <x@y> B\" <ada@a.example>", vec!["ada@a.example"]),
            ("From: ada@a.example (Ada <x@y>)", vec!["ada@a.example"]),
            ("From: Ada\r\n <ada@a.example>, ben@b.example", vec!["ada@a.example", "ben@b.example"]),
            ("From: ada@a.example\r\nFrom: ben@b.example", vec!["ada@a.example", "ben@b.example"]),
            ("From: nobody", vec![]),
        ] {
            let header = format!("Subject: x\r\n{from}\r\n\r\n");
            let found: Vec<String> = authors(header.as_bytes()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{from}");
        }
    }
}
