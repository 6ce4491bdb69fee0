//! The least that is known of a message's form: where its header ends. Stands in until the mail room has its MIME
//! access.

pub(crate) mod mime {
    use std::ops::Range;

    use bytes::Bytes;

    #[derive(Debug, Default)]
    pub(crate) struct Part {
        pub(crate) header: Range<u64>,
        pub(crate) body: Range<u64>,
    }

    #[derive(Debug, Default)]
    pub(crate) struct Skeleton {
        pub(crate) parts: Vec<Part>,
    }

    impl Skeleton {
        pub(crate) fn encode(&self) -> Vec<u8> {
            let part = self.parts.first();
            let ends = part.map_or((0, 0), |part| (part.header.end, part.body.end));
            [ends.0.to_le_bytes(), ends.1.to_le_bytes()].concat()
        }

        pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
            let header = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
            let body = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
            Some(Self { parts: vec![Part { header: 0..header, body: header..body }] })
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Scanner {
        taken: u64,
        tail: Vec<u8>,
        header: Option<u64>,
    }

    impl Scanner {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn push(&mut self, bytes: &[u8]) {
            if self.header.is_none() {
                let known = self.tail.len() as u64;
                self.tail.extend_from_slice(bytes);
                if let Some(at) = memchr::memmem::find(&self.tail, b"\r\n\r\n") {
                    self.header = Some(self.taken - known + at as u64 + 4);
                }
                let cut = self.tail.len().saturating_sub(3);
                self.tail.drain(..cut);
            }
            self.taken += bytes.len() as u64;
        }

        pub(crate) fn finish(self) -> Skeleton {
            let header = self.header.unwrap_or(self.taken);
            Skeleton { parts: vec![Part { header: 0..header, body: header..self.taken }] }
        }
    }

    pub(crate) fn envelope(_header: &[u8]) -> Bytes {
        Bytes::from_static(b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)")
    }

    pub(crate) fn body_structure(_skeleton: &Skeleton, _extended: bool) -> Bytes {
        Bytes::from_static(b"(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 0 0)")
    }
}

pub(crate) mod header {
    pub(crate) fn unfold_decoded(_header: &[u8], _name: &str) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn base_subject(subject: &str) -> String {
        subject.to_lowercase()
    }
}

pub(crate) mod date {
    pub(crate) fn parse_rfc5322(_value: &[u8]) -> Option<(i64, i16)> {
        None
    }
}

pub(crate) mod text {
    use rockdove_mail::search::SearchField;

    pub(crate) fn fold(text: &str) -> String {
        text.to_lowercase()
    }

    pub(crate) fn matches(bytes: &[u8], _: &super::mime::Skeleton, _: &SearchField, needle: &str) -> bool {
        memchr::memmem::find(String::from_utf8_lossy(bytes).to_lowercase().as_bytes(), needle.as_bytes()).is_some()
    }
}
