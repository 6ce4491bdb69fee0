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
    // Threads and SORT compare base subjects without regard to case (RFC 5256 section 3).
    let base = |value: String| text::fold(&header::base_subject(&value));
    let subject = first("subject").map(base).filter(|subject| !subject.is_empty());
    Digest {
        sent: sent.map(|(unix_s, offset_minutes)| InternalDate { unix_s, offset_minutes }),
        message_id: ids("message-id").first().copied().unwrap_or_default(),
        subject: subject.map(|subject| hash(&subject)).unwrap_or_default(),
        references,
    }
}

/// Hashes of the `<…>` in a value.
fn message_ids(value: &str) -> Vec<u64> {
    let inner = |piece: &str| piece.split_once('>').map(|(id, _)| hash(id.trim()));
    value.split('<').skip(1).filter_map(inner).collect()
}
