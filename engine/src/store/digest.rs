//! What is kept of a header for finding and ordering: sent date and hashes of the names in a thread.

use rockdove_mail::{date, header, text};

use super::record::{Digest, REFERENCES_MAX};
use crate::command::InternalDate;

/// The first eight octets of BLAKE3; never 0, which means "none".
fn hash(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}

/// Reads a header block.
pub(crate) fn digest(block: &[u8]) -> Digest {
    let first = |name: &str| header::unfold_decoded(block, name).into_iter().next();
    let sent = first("date").and_then(|value| date::parse_rfc5322(value.as_bytes()));
    let ids = |name: &str| first(name).map(|value| message_ids(&value)).unwrap_or_default();
    let mut references = ids("references");
    if references.is_empty() {
        //= rfc5256#section-3
        //# If there is no
        //# References header line, then use the first (if any) valid Message ID found in the In-Reply-To header line
        references = ids("in-reply-to").into_iter().take(1).collect();
    }
    // The nearest ancestors come last.
    let from = references.len().saturating_sub(REFERENCES_MAX);
    references.drain(..from);
    // Threads compare base subjects without regard to case (RFC 5256 section 3).
    let base = |value: String| text::casemap(&header::base_subject(&value).text);
    let subject = first("subject").map(base);
    Digest {
        sent: sent.map(|(unix_s, offset_minutes)| InternalDate { unix_s, offset_minutes }),
        message_id: ids("message-id").first().copied().unwrap_or_default(),
        subject: subject.map(|subject| subject_hash(&subject)).unwrap_or_default(),
        references,
    }
}

/// Hashes of the `<…>` in a value.
fn message_ids(value: &str) -> Vec<u64> {
    let inner = |piece: &str| piece.split_once('>').map(|(id, _)| unquoted(id.trim()));
    let ids = value.split('<').skip(1).filter_map(inner);
    ids.filter(|id| !id.is_empty()).map(|id| hash(&id)).collect()
}

/// The id without its quoting.
///
//= rfc5256#section-3
//# Implementations of the
//# REFERENCES threading algorithm MUST normalize any msg-id in
//# order to avoid false non-matches due to differences in
//# quoting.
fn unquoted(id: &str) -> String {
    let mut plain = String::with_capacity(id.len());
    let mut letters = id.chars();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            '\\' if quoted => plain.extend(letters.next()),
            _ => plain.push(letter),
        }
    }
    plain
}

/// The hash by which subjects of threads are compared; 0 for the empty one.
pub(crate) fn subject_hash(folded: &str) -> u64 {
    if folded.is_empty() { 0 } else { hash(folded) }
}
