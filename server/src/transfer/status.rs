//! What other programs write into mbox files beside messages.

use rockdove_mail::{Keyword, date::date_time};

/// Letters of `X-Status`.
pub(super) const X_STATUS: [(u8, &str); 4] =
    [(b'A', "\\Answered"), (b'F', "\\Flagged"), (b'D', "\\Deleted"), (b'T', "\\Draft")];
/// Bits of `X-Mozilla-Status`.
const MOZILLA: [(u32, &str); 4] = [(1, "\\Seen"), (2, "\\Answered"), (4, "\\Flagged"), (0x1000, "$Forwarded")];
/// The bit of a message that was removed and is still in the file.
const MOZILLA_EXPUNGED: u32 = 8;

/// What the header of a message says about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) flags: Vec<String>,
    /// It is no message, or one that was removed.
    pub(super) is_gone: bool,
    /// The message without these fields.
    pub(super) octets: Vec<u8>,
}

impl Foreign {
    /// Takes the fields out of a message; `first` when it is the first in its file.
    pub(super) fn of(octets: &[u8], first: bool) -> Self {
        let mut found = Self { octets: Vec::with_capacity(octets.len()), ..Self::default() };
        let (mut rest, mut dropping, mut is_imap) = (octets, false, false);
        while let Some(line) = rest.split_inclusive(|octet| *octet == b'\n').next() {
            if line.trim_ascii().is_empty() {
                break;
            }
            rest = rest.get(line.len()..).unwrap_or_default();
            let continues = line.starts_with(b" ") || line.starts_with(b"\t");
            if !continues {
                dropping = found.field(line);
                is_imap |= line.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"X-IMAP"));
                let internal = line.windows(20).any(|words| words == b"FOLDER INTERNAL DATA");
                found.is_gone |= first && is_imap && internal;
            }
            if !dropping {
                found.octets.extend_from_slice(line);
            }
        }
        found.octets.extend_from_slice(rest);
        found
    }

    /// Whether the field is one that goes.
    fn field(&mut self, line: &[u8]) -> bool {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { return false };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match name.to_ascii_lowercase().as_slice() {
            b"status" if value.contains(&b'R') => self.flag("\\Seen"),
            b"x-status" => {
                X_STATUS.iter().filter(|(letter, _)| value.contains(letter)).for_each(|(_, flag)| self.flag(flag));
            }
            b"x-keywords" | b"x-mozilla-keys" => self.keywords(value),
            b"x-mozilla-status" => self.mozilla(value),
            b"status" | b"x-uid" | b"x-imap" | b"x-imapbase" | b"content-length" | b"x-mozilla-status2" => {}
            _ => return false,
        }
        true
    }

    fn flag(&mut self, name: &str) {
        if !self.flags.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            self.flags.push(name.to_owned());
        }
    }

    fn keywords(&mut self, value: &[u8]) {
        let words = value.split(u8::is_ascii_whitespace).filter_map(|word| std::str::from_utf8(word).ok());
        words.filter(|word| Keyword::new(word).is_some()).for_each(|word| self.flag(word));
    }

    fn mozilla(&mut self, value: &[u8]) {
        let bits = std::str::from_utf8(value).ok().and_then(|value| u32::from_str_radix(value, 16).ok()).unwrap_or(0);
        self.is_gone |= bits & MOZILLA_EXPUNGED != 0;
        MOZILLA.iter().filter(|(bit, _)| bits & bit != 0).for_each(|(_, flag)| self.flag(flag));
    }
}

/// The date of a separator, in UTC: `Thu Nov 26 10:00:00 2026`.
pub(super) fn from_date(unix_s: i64) -> String {
    let text = date_time(unix_s);
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [week_day, day, month, year, time, ..] => format!("{week_day} {month} {day:>2} {time} {year}"),
        _ => text,
    }
}
