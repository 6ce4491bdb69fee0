//! What a session must know of the header of the message that streams by.

use memchr::memchr;

/// Octets of a field name that are looked at; the names we look for are shorter.
const NAME_OCTETS_MAX: usize = 16;
/// Octets kept of the value of `TLS-Required`: one more than it can have.
const VALUE_OCTETS_MAX: usize = 3;

/// What the header was seen to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// `Received` fields.
    pub received: u32,
    /// There is a `Date` field.
    pub date: bool,
    /// There is a `Message-ID` field.
    pub message_id: bool,
    /// There is one `TLS-Required` field, and it says `No` (RFC 8689 section 3).
    pub tls_optional: bool,
}

/// Where in the header the watcher stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a field name.
    #[default]
    Name,
    /// Behind what is interesting of a line.
    Rest,
    /// In the body.
    Body,
}

/// Reads field names while message content streams by.
#[derive(Debug, Default)]
pub(crate) struct HeaderWatch {
    place: Place,
    name: [u8; NAME_OCTETS_MAX],
    length: usize,
    facts: HeaderFacts,
    /// `TLS-Required` fields, and what the first says, without white space.
    tls_required: u32,
    value: Vec<u8>,
    /// The line is part of that value.
    in_value: bool,
}

impl HeaderWatch {
    /// What was seen so far.
    pub(crate) fn facts(&self) -> HeaderFacts {
        //= rfc8689#section-3
        //# More than one instance of the TLS-Required header field MUST NOT
        //# appear in a given message.
        let tls_optional = self.tls_required == 1 && self.value.eq_ignore_ascii_case(b"no");
        HeaderFacts { tls_optional, ..self.facts }
    }

    /// Looks at the next piece of content.
    pub(crate) fn watch(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && self.place != Place::Body {
            if self.place == Place::Name {
                piece = self.name(piece);
            } else {
                let end = memchr(b'\n', piece);
                self.keep_value(piece.get(..end.unwrap_or(piece.len())).unwrap_or_default());
                match end {
                    None => return,
                    Some(at) => {
                        piece = piece.get(at.saturating_add(1)..).unwrap_or_default();
                        self.place = Place::Name;
                        self.length = 0;
                    }
                }
            }
        }
    }

    /// Keeps octets of the value that we want to know, if they are some.
    fn keep_value(&mut self, line: &[u8]) {
        if self.in_value {
            let room = VALUE_OCTETS_MAX.saturating_sub(self.value.len());
            self.value.extend(line.iter().filter(|octet| !octet.is_ascii_whitespace()).take(room));
        }
    }

    /// Takes octets of a field name; gives back what is left.
    fn name<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let mut rest = piece;
        while let Some((&octet, behind)) = rest.split_first() {
            if self.length == 0 && self.in_value {
                if octet == b' ' || octet == b'\t' {
                    self.place = Place::Rest;
                    return behind;
                }
                self.in_value = false;
            }
            match octet {
                b'\n' => {
                    // An empty line (or one with nothing but its CR) ends the header.
                    let empty = self.name.get(..self.length).is_none_or(|name| name.is_empty() || name == b"\r");
                    self.place = if empty { Place::Body } else { Place::Name };
                    self.length = 0;
                    return behind;
                }
                b':' => {
                    self.field();
                    self.place = Place::Rest;
                    return behind;
                }
                _ => {
                    let Some(slot) = self.name.get_mut(self.length) else {
                        self.place = Place::Rest;
                        return rest;
                    };
                    *slot = octet.to_ascii_lowercase();
                    self.length = self.length.saturating_add(1);
                }
            }
            rest = behind;
        }
        rest
    }

    fn field(&mut self) {
        match self.name.get(..self.length).unwrap_or_default().trim_ascii_end() {
            b"received" => self.facts.received = self.facts.received.saturating_add(1),
            b"date" => self.facts.date = true,
            b"message-id" => self.facts.message_id = true,
            b"tls-required" => {
                self.tls_required = self.tls_required.saturating_add(1);
                self.in_value = self.tls_required == 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_cut() {
        let message = b"Received: a\r\n\tReceived: no\r\nRECEIVED : b\r\nX-Very-Long-Name-Of-A-Field: x\r\n\
            Date: now\r\nSubject: Message-ID: no\r\n\r\nReceived: body\r\nMessage-ID: body\r\n";
        for step in 1..=message.len() {
            let mut watch = HeaderWatch::default();
            message.chunks(step).for_each(|piece| watch.watch(piece));
            let expected = HeaderFacts { received: 2, date: true, ..HeaderFacts::default() };
            assert_eq!(watch.facts(), expected, "steps of {step}");
        }
    }

    #[test]
    fn a_wish_for_delivery_without_tls_is_read() {
        for (header, expected) in [
            ("TLS-Required: No\r\n\r\n", true),
            ("Subject: x\r\ntls-required:\r\n no \r\nDate: y\r\n\r\n", true),
            ("TLS-Required: No", true),
            ("TLS-Required: None\r\n\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n\r\n", false),
            ("TLS-Required: Yes\r\nX: No\r\n\r\n", false),
            ("TLS-Required:\r\nNo: x\r\n\r\n", false),
            ("Subject: TLS-Required: No\r\n\r\nTLS-Required: No\r\n", false),
        ] {
            for step in 1..=header.len() {
                let mut watch = HeaderWatch::default();
                header.as_bytes().chunks(step).for_each(|piece| watch.watch(piece));
                assert_eq!(watch.facts().tls_optional, expected, "{header:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn no_header_at_all() {
        let mut watch = HeaderWatch::default();
        watch.watch(b"\r\nDate: body\r\n");
        assert_eq!(watch.facts(), HeaderFacts::default());
    }
}
