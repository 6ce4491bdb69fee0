//! The first names of a ready ENVELOPE: what SORT compares (RFC 5256 section 3, RFC 5957).
#![allow(clippy::option_option, reason = "NIL is a value; the outer None is no value at all")]

/// What an ENVELOPE says of an address; `None` for `NIL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvelopeAddress {
    /// `addr-name`, encoded words as they are.
    pub name: Option<Vec<u8>>,
    /// `addr-mailbox`.
    pub mailbox: Option<Vec<u8>>,
    /// `addr-host`.
    pub host: Option<Vec<u8>>,
}

/// The subject and the first addresses of an ENVELOPE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvelopeNames {
    /// `env-subject`, encoded words as they are.
    pub subject: Option<Vec<u8>>,
    /// The first of `env-from`.
    pub from: Option<EnvelopeAddress>,
    /// The first of `env-to`.
    pub to: Option<EnvelopeAddress>,
    /// The first of `env-cc`.
    pub cc: Option<EnvelopeAddress>,
}

impl EnvelopeNames {
    /// Reads what [`super::envelope`] has written; `None` for anything else.
    pub fn read(envelope: &[u8]) -> Option<Self> {
        let mut rest = envelope.strip_prefix(b"(")?;
        let words = &mut rest;
        nstring(words)?;
        let next = |words: &mut &[u8]| -> Option<Option<EnvelopeAddress>> {
            expect(words, b' ')?;
            first_address(words)
        };
        expect(words, b' ')?;
        let subject = nstring(words)?;
        let from = next(words)?;
        next(words)?;
        next(words)?;
        let to = next(words)?;
        Some(Self { subject, from, to, cc: next(words)? })
    }
}

fn expect(words: &mut &[u8], octet: u8) -> Option<()> {
    let (first, rest) = words.split_first()?;
    (*first == octet).then(|| *words = rest)
}

/// The first address of a list, which is read to its end.
fn first_address(words: &mut &[u8]) -> Option<Option<EnvelopeAddress>> {
    if let Some(rest) = words.strip_prefix(b"NIL") {
        *words = rest;
        return Some(None);
    }
    expect(words, b'(')?;
    let mut first = None;
    while expect(words, b'(').is_some() {
        let name = nstring(words)?;
        expect(words, b' ')?;
        nstring(words)?;
        expect(words, b' ')?;
        let mailbox = nstring(words)?;
        expect(words, b' ')?;
        let host = nstring(words)?;
        expect(words, b')')?;
        first = first.or(Some(EnvelopeAddress { name, mailbox, host }));
    }
    expect(words, b')')?;
    Some(first)
}

fn nstring(words: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    if let Some(rest) = words.strip_prefix(b"NIL") {
        *words = rest;
        return Some(None);
    }
    if let Some(rest) = words.strip_prefix(b"{") {
        let end = memchr::memmem::find(rest, b"}\r\n")?;
        let length: usize = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        let (text, rest) = rest.get(end.checked_add(3)?..)?.split_at_checked(length)?;
        *words = rest;
        return Some(Some(text.to_vec()));
    }
    expect(words, b'"')?;
    let mut text = Vec::new();
    loop {
        let (octet, rest) = words.split_first()?;
        *words = rest;
        match octet {
            b'"' => return Some(Some(text)),
            b'\\' => {
                let (octet, rest) = words.split_first()?;
                *words = rest;
                text.push(*octet);
            }
            _ => text.push(*octet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let block = "Date: d\r\nSubject: a \"q\" \\ caf\u{e9}\r\nFrom: =?utf-8?q?F?= <f@x>, g@y\r\nTo: team: a@b;\r\nCc: (c) k@l\r\n\r\n";
        let names = EnvelopeNames::read(&super::super::envelope(block.as_bytes())).expect("an envelope");
        assert_eq!(names.subject.as_deref(), Some("a \"q\" \\ caf\u{e9}".as_bytes()));
        let from = names.from.expect("an address");
        assert_eq!(
            (from.name.as_deref(), from.mailbox.as_deref(), from.host.as_deref()),
            (Some(&b"=?utf-8?q?F?="[..]), Some(&b"f"[..]), Some(&b"x"[..]))
        );
        let to = names.to.expect("a group");
        assert_eq!((to.mailbox.as_deref(), to.host), (Some(&b"team"[..]), None));
        assert_eq!(names.cc.expect("an address").mailbox.as_deref(), Some(&b"k"[..]));
        assert_eq!(EnvelopeNames::read(&super::super::envelope(b"\r\n")), Some(EnvelopeNames::default()));
        for broken in ["", "(", "(NIL \"a", "(NIL {9}\r\na NIL", "(NIL NIL ((NIL NIL NIL NIL) "] {
            assert_eq!(EnvelopeNames::read(broken.as_bytes()), None, "{broken}");
        }
    }
}
