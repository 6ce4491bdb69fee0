//! Mail data on its way out: lines end with CRLF, and a dot at the beginning of a line is doubled (RFC 5321 section 4.5.2).

/// Writes mail data piece by piece.
#[derive(Debug)]
pub(super) struct Stuffing {
    /// The last octet written was the end of a line, or nothing was.
    at_line_start: bool,
    /// The last octet read was a CR, which is not written yet.
    carriage_return: bool,
}

impl Stuffing {
    pub(super) fn new() -> Self {
        Self { at_line_start: true, carriage_return: false }
    }

    /// Appends what is to be sent for these octets. A bare CR or LF, which a server might take for the end of a line and
    /// another not, becomes one.
    pub(super) fn write(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len());
        for octet in octets {
            let after_return = std::mem::replace(&mut self.carriage_return, *octet == b'\r');
            if *octet == b'\n' {
                self.end_line(out);
                continue;
            }
            if after_return {
                self.end_line(out);
            }
            if *octet == b'\r' {
                continue;
            }
            if self.at_line_start && *octet == b'.' {
                out.push(b'.');
            }
            out.push(*octet);
            self.at_line_start = false;
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.at_line_start = true;
    }

    /// Appends the end of mail data.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.carriage_return) || !self.at_line_start {
            self.end_line(out);
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_end_looks_like_the_end() {
        let cases: [(&str, &str); 9] = [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r", "a\r\n.\r\n"),
            ("a\r\r\n", "a\r\n\r\n.\r\n"),
        ];
        for (content, expected) in cases {
            for cut in 0..=content.len() {
                let (mut stuffing, mut out) = (Stuffing::new(), Vec::new());
                stuffing.write(&content.as_bytes()[..cut], &mut out);
                stuffing.write(&content.as_bytes()[cut..], &mut out);
                stuffing.finish(&mut out);
                assert_eq!(String::from_utf8(out).expect("text"), expected, "{content:?} cut at {cut}");
            }
        }
    }
}
