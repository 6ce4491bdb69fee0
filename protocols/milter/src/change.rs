//! What a filter wants changed, and a header with the changes.

use std::ops::BitOr;

use rockdove_mail::header;

use crate::packet::text;

/// Wishes of a filter for one message.
pub const CHANGES_MAX: usize = 1_000;
/// Octets of these wishes together.
pub const CHANGES_OCTETS_MAX: usize = 1024 * 1024;

/// What filters may do (`SMFIF_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(pub u32);

impl Actions {
    /// Add header fields.
    pub const ADD_HEADERS: Self = Self(0x01);
    /// Add recipients.
    pub const ADD_RECIPIENTS: Self = Self(0x04);
    /// Take recipients away.
    pub const DELETE_RECIPIENTS: Self = Self(0x08);
    /// Change header fields, and take them away.
    pub const CHANGE_HEADERS: Self = Self(0x10);
    /// Have the message kept apart.
    pub const QUARANTINE: Self = Self(0x20);

    /// Whether all of these are among them.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A change of the message or its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A field is put behind the others.
    AddHeader {
        /// Its name.
        name: String,
        /// Its value, as [`header field`](Change) lines have it: CRLF before white space only.
        value: String,
    },
    /// A field is put before the one with this index among all, from 0.
    InsertHeader {
        /// The index.
        index: u32,
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A field gets another value, or goes.
    ChangeHeader {
        /// Which of this name, from 1.
        index: u32,
        /// The name.
        name: String,
        /// The new value; `None`: it goes.
        value: Option<String>,
    },
    /// One more recipient.
    AddRecipient(String),
    /// One less.
    DeleteRecipient(String),
}

impl Change {
    /// Reads a wish. `None` when it is malformed.
    pub(crate) fn parse(kind: u8, data: &[u8]) -> Option<Self> {
        match kind {
            b'h' => {
                let (name, value) = named(data)?;
                Some(Self::AddHeader { name, value })
            }
            b'i' => {
                let (index, (name, value)) = (number(data)?, named(data.get(4..)?)?);
                Some(Self::InsertHeader { index, name, value })
            }
            b'm' => {
                let (index, (name, value)) = (number(data)?, named(data.get(4..)?)?);
                // Sendmail takes 0 for the first, too.
                let index = index.max(1);
                Some(Self::ChangeHeader { index, name, value: Some(value).filter(|value| !value.is_empty()) })
            }
            b'+' => address(data).map(Self::AddRecipient),
            b'-' => address(data).map(Self::DeleteRecipient),
            _ => None,
        }
    }

    /// What must have been offered for it.
    pub(crate) fn needs(&self) -> Actions {
        match self {
            Self::AddHeader { .. } | Self::InsertHeader { .. } => Actions::ADD_HEADERS,
            Self::ChangeHeader { .. } => Actions::CHANGE_HEADERS,
            Self::AddRecipient(_) => Actions::ADD_RECIPIENTS,
            Self::DeleteRecipient(_) => Actions::DELETE_RECIPIENTS,
        }
    }
}

fn number(data: &[u8]) -> Option<u32> {
    data.first_chunk::<4>().map(|octets| u32::from_be_bytes(*octets))
}

fn named(data: &[u8]) -> Option<(String, String)> {
    let (name, rest) = text(data)?;
    let (value, rest) = text(rest)?;
    let good =
        !name.is_empty() && rest.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':');
    let name = good.then(|| String::from_utf8_lossy(name).into_owned())?;
    Some((name, folded(&String::from_utf8_lossy(value))))
}

/// A value as header lines have it: whatever ends a line, what follows is not the next field.
fn folded(value: &str) -> String {
    let mut lines = String::with_capacity(value.len());
    for (number, line) in value.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        if number > 0 && !line.trim().is_empty() {
            lines.push_str(if line.starts_with([' ', '\t']) { "\r\n" } else { "\r\n\t" });
        }
        if number == 0 || !line.trim().is_empty() {
            lines.extend(line.chars().filter(|c| *c == '\t' || !c.is_control()));
        }
    }
    lines
}

fn address(data: &[u8]) -> Option<String> {
    let (address, _) = text(data)?;
    let address = std::str::from_utf8(address).ok()?.trim();
    let address = address.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(address);
    let good = !address.is_empty() && !address.chars().any(|c| c.is_control() || c == '<' || c == '>');
    good.then(|| address.to_owned())
}

/// A field as it stands in a message.
fn line(name: &str, value: &str) -> Vec<u8> {
    let space = if value.starts_with([' ', '\t']) { "" } else { " " };
    format!("{name}:{space}{value}\r\n").into_bytes()
}

/// The header block of a message with the changes, up to its empty line. What is not changed stays octet for octet.
pub fn rewrite(block: &[u8], changes: &[Change]) -> Vec<u8> {
    // `None`: a field that went. It counts on, because a filter counts the fields that it was told.
    let mut fields: Vec<(Vec<u8>, Option<Vec<u8>>)> =
        header::iter(block).map(|field| (field.name.to_vec(), Some(field.raw.to_vec()))).collect();
    for change in changes {
        match change {
            Change::AddHeader { name, value } => {
                fields.push((name.clone().into_bytes(), Some(line(name, value))));
            }
            Change::InsertHeader { index, name, value } => {
                let at = usize::try_from(*index).unwrap_or(usize::MAX).min(fields.len());
                fields.insert(at, (name.clone().into_bytes(), Some(line(name, value))));
            }
            Change::ChangeHeader { index, name, value } => {
                let nth = usize::try_from(*index).unwrap_or(usize::MAX).saturating_sub(1);
                let of_name = |(known, _): &&mut (Vec<u8>, _)| known.eq_ignore_ascii_case(name.as_bytes());
                match (fields.iter_mut().filter(of_name).nth(nth), value) {
                    (Some((_, raw)), value) => *raw = value.as_ref().map(|value| line(name, value)),
                    // Sendmail adds a field that is not there.
                    (None, Some(value)) => fields.push((name.clone().into_bytes(), Some(line(name, value)))),
                    (None, None) => {}
                }
            }
            Change::AddRecipient(_) | Change::DeleteRecipient(_) => {}
        }
    }
    let mut header = Vec::with_capacity(block.len());
    for raw in fields.into_iter().filter_map(|(_, raw)| raw) {
        header.extend_from_slice(&raw);
        if !raw.ends_with(b"\n") {
            header.extend_from_slice(b"\r\n");
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes() {
        let add = |name: &str, value: &str| Change::AddHeader { name: name.to_owned(), value: value.to_owned() };
        for (kind, data, expected) in [
            (b'h', &b"X-A\0b\0"[..], Some(add("X-A", "b"))),
            (b'h', b"X-A\0one\ntwo\r\n three\n\0", Some(add("X-A", "one\r\n\ttwo\r\n three"))),
            (b'h', b"X-A\0\0", Some(add("X-A", ""))),
            (b'h', b"X A\0b\0", None),
            (b'h', b"X-A:\0b\0", None),
            (b'h', b"\0b\0", None),
            (b'h', b"X-A\0b", None),
            (b'i', b"\0\0\0\x01X\0y\0", Some(Change::InsertHeader { index: 1, name: "X".into(), value: "y".into() })),
            (b'm', b"\0\0\0\x02X\0\0", Some(Change::ChangeHeader { index: 2, name: "X".into(), value: None })),
            (b'm', b"\0\0", None),
            (b'+', b"<a@b.example>\0", Some(Change::AddRecipient("a@b.example".into()))),
            (b'-', b"a@b.example\0", Some(Change::DeleteRecipient("a@b.example".into()))),
            (b'+', b"a\r\nb\0", None),
            (b'+', b"<>\0", None),
            (b'b', b"a new body", None),
        ] {
            assert_eq!(Change::parse(kind, data), expected, "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn headers_are_rewritten() {
        let block = b"A: 1\r\nB: 2\r\n\tmore\r\na: 3\r\n";
        let change = |index, name: &str, value: Option<&str>| Change::ChangeHeader {
            index,
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        for (changes, expected) in [
            (vec![], "A: 1\r\nB: 2\r\n\tmore\r\na: 3\r\n"),
            (vec![change(2, "A", Some("new"))], "A: 1\r\nB: 2\r\n\tmore\r\nA: new\r\n"),
            (vec![change(1, "A", None), change(2, "A", None)], "B: 2\r\n\tmore\r\n"),
            (vec![change(1, "C", Some("x")), change(1, "D", None)], "A: 1\r\nB: 2\r\n\tmore\r\na: 3\r\nC: x\r\n"),
            (
                vec![Change::InsertHeader { index: 1, name: "I".into(), value: " kept".into() }],
                "A: 1\r\nI: kept\r\nB: 2\r\n\tmore\r\na: 3\r\n",
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&rewrite(block, &changes)), expected, "{changes:?}");
        }
        let unfinished = Change::AddHeader { name: "X".into(), value: "y".into() };
        assert_eq!(rewrite(b"A: 1", &[unfinished]), b"A: 1\r\nX: y\r\n");
    }
}
