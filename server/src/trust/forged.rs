//! Authentication-Results that say to be ours and are not (RFC 8601 section 5).
//!
//! Such a field is given another name of the same length while the message is staged. This is the one place where octets
//! of a message are changed: sizes stay what they were, and whoever looks for what was there still finds it.

use bytes::Bytes;
use memchr::memchr;

/// What is looked for.
const NAME: &[u8; 22] = b"Authentication-Results";
/// What it becomes.
const RENAMED: &[u8; 22] = b"Untrusted-Auth-Results";
/// Octets of a field in which it has to say whose it is; a longer way to it is taken for a trick.
const FIELD_OCTETS_MAX: usize = 512;
/// Lines in which it has to say it.
const FIELD_LINES_MAX: usize = 8;

/// Where in a message we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of a line of the header.
    LineStart,
    /// After the CR of a line that has nothing else so far.
    Blank,
    /// In a name that may be the one.
    Name,
    /// In such a field, in so many lines of it.
    Field(usize),
    /// At the start of the line after it.
    FieldLineStart(usize),
    /// In any other line.
    Line,
    /// Behind the header.
    Body,
}

/// Renames the fields of one message, which comes in pieces of any size.
pub struct Forged {
    ours: Vec<String>,
    at: At,
    /// What is not passed on yet: the start of a line, or of a field.
    held: Vec<u8>,
}

impl Forged {
    /// `ours`: the names that nobody else may use.
    pub fn new(ours: Vec<String>) -> Self {
        Self { ours, at: At::LineStart, held: Vec::new() }
    }

    /// What is passed on of the next piece.
    pub fn pass(&mut self, piece: &Bytes) -> Vec<Bytes> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < piece.len() && self.at != At::Body {
            at += self.step(&piece[at..], &mut out);
        }
        let mut passed = Vec::new();
        if !out.is_empty() {
            passed.push(Bytes::from(out));
        }
        if at < piece.len() {
            passed.push(piece.slice(at..));
        }
        passed
    }

    /// What is left at the end of a message.
    pub fn finish(&mut self) -> Bytes {
        let mut out = Vec::new();
        if matches!(self.at, At::Field(_)) {
            self.decide(&mut out, true);
        }
        out.append(&mut self.held);
        Bytes::from(out)
    }

    /// Takes octets and says how many.
    fn step(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(&octet) = piece.first() else { return 0 };
        match self.at {
            At::Line => {
                let end = memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
                out.extend_from_slice(&piece[..end]);
                if piece[end - 1] == b'\n' {
                    self.at = At::LineStart;
                }
                return end;
            }
            At::LineStart => self.at = if octet == b'\r' { At::Blank } else { At::Name },
            At::FieldLineStart(lines) if matches!(octet, b' ' | b'\t') => self.at = At::Field(lines + 1),
            At::FieldLineStart(_) => {
                self.decide(out, true);
                self.at = At::LineStart;
                return 0;
            }
            At::Blank | At::Name | At::Field(_) | At::Body => {}
        }
        self.held.push(octet);
        match self.at {
            At::Blank if self.held == b"\r\n" => self.release(At::Body, out),
            At::Blank if self.held.len() > 1 => self.release(At::Line, out),
            At::Name => self.read_name(out),
            At::Field(lines) if octet == b'\n' => {
                self.at = At::FieldLineStart(lines);
                self.decide(out, lines >= FIELD_LINES_MAX);
            }
            At::Field(_) if self.held.len() >= FIELD_OCTETS_MAX => self.decide(out, true),
            _ => {}
        }
        1
    }

    fn release(&mut self, at: At, out: &mut Vec<u8>) {
        let ends_line = self.held.ends_with(b"\n");
        out.append(&mut self.held);
        self.at = if at == At::Line && ends_line { At::LineStart } else { at };
    }

    fn read_name(&mut self, out: &mut Vec<u8>) {
        let (name, rest) = self.held.split_at(self.held.len().min(NAME.len()));
        let fits = name.eq_ignore_ascii_case(&NAME[..name.len()]) && rest.len() < FIELD_OCTETS_MAX - NAME.len();
        match rest.split_last() {
            Some((b':', spaces)) if fits && is_space(spaces) => self.at = At::Field(1),
            _ if fits && is_space(rest) => {}
            _ => self.release(At::Line, out),
        }
    }

    /// Passes the field on when it is known whose it is, or `now`; a field that has not said it by then is renamed, unless
    /// it has nothing in it.
    fn decide(&mut self, out: &mut Vec<u8>, now: bool) {
        let colon = memchr(b':', &self.held).map_or(self.held.len(), |at| at + 1);
        let value = &self.held[colon..];
        let ours = match authserv_id(value) {
            Some(id) => {
                let id = id.strip_suffix('.').unwrap_or(&id);
                self.ours.iter().any(|ours| ours.eq_ignore_ascii_case(id))
            }
            None if now => !value.trim_ascii().is_empty(),
            None => return,
        };
        if ours {
            self.held[..NAME.len()].copy_from_slice(RENAMED);
            metrics::counter!("rockdove_forged_results_total").increment(1);
        }
        self.release(At::Line, out);
    }
}

fn is_space(octets: &[u8]) -> bool {
    octets.iter().all(|octet| matches!(octet, b' ' | b'\t'))
}

/// The name at the start of results, behind comments and spaces; `None` while it is not complete.
fn authserv_id(value: &[u8]) -> Option<String> {
    let mut at = 0;
    let mut depth = 0_usize;
    loop {
        match value.get(at)? {
            b'\\' if depth > 0 => at += 1,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => break,
        }
        at += 1;
    }
    let rest = &value[at..];
    let (id, _) = match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split_at(memchr(b'"', quoted)?),
        None => rest.split_at(rest.iter().position(|octet| b" \t\r\n;(".contains(octet))?),
    };
    Some(id.iter().filter(|octet| **octet != b'\\').map(|octet| char::from(*octet)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut into pieces of `size` octets.
    fn passed(message: &str, size: usize) -> String {
        let mut forged = Forged::new(vec!["mail.a.example".to_owned(), "a.example".to_owned()]);
        let mut out = Vec::new();
        for piece in message.as_bytes().chunks(size) {
            out.extend(forged.pass(&Bytes::copy_from_slice(piece)).concat());
        }
        out.extend_from_slice(&forged.finish());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn what_says_to_be_ours_is_renamed() {
        let long = format!("Authentication-Results: ({}) b.example; none", "x".repeat(600));
        let folded = format!("Authentication-Results:{} b.example; none", "\r\n ".repeat(20));
        for (field, renamed) in [
            ("Authentication-Results: mail.a.example; dmarc=pass", true),
            ("authentication-RESULTS : A.EXAMPLE. 1; none", true),
            ("Authentication-Results:\r\n\t(a \\) comment)\r\n \"mail.a.example\"; none", true),
            ("Authentication-Results: mail.a.example", true),
            ("Authentication-Results: mail.a.example.b.example; none", false),
            ("Authentication-Results: b.example; x=mail.a.example", false),
            ("Authentication-Results:", false),
            ("Authentication-Results", false),
            ("Authentication-Results-X: mail.a.example; none", false),
            ("X-Authentication-Results: mail.a.example; none", false),
            ("Subject: x\r\n Authentication-Results: mail.a.example; none", false),
            ("Subject: x\nAuthentication-Results: mail.a.example; none", true),
            (&long, true),
            (&folded, true),
        ] {
            for (before, after) in [
                ("", "\r\n\r\nAuthentication-Results: mail.a.example\r\n"),
                ("From: x\r\n", "\r\nTo: y\r\n\r\n"),
                ("From: x\r\n", "\r\n"),
                ("From: x\r\n", ""),
            ] {
                let message = format!("{before}{field}{after}");
                let lower = field.to_lowercase();
                let start = before.len() + lower.find("authentication-results").expect("there");
                let mut expected = message.clone();
                if renamed {
                    expected.replace_range(start..start + NAME.len(), "Untrusted-Auth-Results");
                }
                for size in [1, 2, 3, 7, 10_000] {
                    assert_eq!(passed(&message, size), expected, "{size} {message}");
                }
            }
        }
    }
}
