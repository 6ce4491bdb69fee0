//! What the header of a part says of its content (RFC 2045, RFC 2183, RFC 2231).

use super::{BOUNDARY_OCTETS_MAX, Encoding, Kind};
use crate::{
    header::{self, decode_words},
    text::charset,
};

/// Parameters of one field that are kept.
const PARAMETERS_MAX: usize = 256;

/// What a part is that names no type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Untyped {
    /// `text/plain` (RFC 2045 section 5.2).
    Text,
    /// `message/rfc822`: within a `multipart/digest` (RFC 2046 section 5.1.5).
    Message,
}

/// Type, encoding and disposition of a part, as its header gives them. Names are in the case they were written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// `text` of `text/plain`.
    pub media_type: Vec<u8>,
    /// `plain` of `text/plain`.
    pub subtype: Vec<u8>,
    /// Parameters of the Content-Type.
    pub parameters: Parameters,
    /// Content-ID with its brackets.
    pub id: Option<Vec<u8>>,
    /// Content-Description.
    pub description: Option<Vec<u8>>,
    /// Content-Transfer-Encoding; `7bit` where none is given.
    pub transfer_encoding: Vec<u8>,
    /// Content-MD5.
    pub md5: Option<Vec<u8>>,
    /// Content-Disposition with its parameters.
    pub disposition: Option<(Vec<u8>, Parameters)>,
    /// Content-Language.
    pub language: Vec<Vec<u8>>,
    /// Content-Location.
    pub location: Option<Vec<u8>>,
    /// Ready ENVELOPE of the message inside.
    pub(super) envelope: Option<Vec<u8>>,
    /// Line ends in the body.
    pub(super) lines: u64,
}

impl Content {
    /// Reads the header block of a part that is not in a `multipart/digest`.
    pub fn of_header(block: &[u8]) -> Self {
        Self::read(block, Untyped::Text)
    }

    pub(super) fn read(block: &[u8], untyped: Untyped) -> Self {
        let mut content = Self::default();
        let mut typed = false;
        for field in header::iter(block) {
            let name = field.name.to_ascii_lowercase();
            let Some(name) = name.strip_prefix(b"content-") else { continue };
            let value = header::unfold(field.value);
            // Of several fields of a name the first counts.
            match name {
                b"type" if !typed => {
                    typed = true;
                    content.read_type(&value);
                }
                b"transfer-encoding" if content.transfer_encoding.is_empty() => {
                    content.transfer_encoding = Cursor { rest: &value }.token(b";").to_vec();
                }
                b"id" => keep_first(&mut content.id, &value),
                b"description" => keep_first(&mut content.description, &value),
                b"md5" => keep_first(&mut content.md5, &value),
                b"location" => keep_first(&mut content.location, &value),
                b"disposition" if content.disposition.is_none() => content.disposition = disposition(&value),
                b"language" if content.language.is_empty() => content.language = languages(&value),
                _ => {}
            }
        }
        content.settle(typed, untyped);
        content
    }

    fn read_type(&mut self, value: &[u8]) {
        let mut cursor = Cursor { rest: value };
        let media_type = cursor.token(b"/;");
        if !cursor.take(b'/') {
            return;
        }
        let subtype = cursor.token(b";");
        if is_token(media_type) && is_token(subtype) {
            (self.media_type, self.subtype) = (media_type.to_vec(), subtype.to_vec());
            self.parameters = cursor.parameters();
        }
    }

    //= rfc2045#section-5.2
    //# It is also recommend that this default be assumed when a
    //# syntactically invalid Content-Type header field is encountered.
    /// Fills in defaults.
    fn settle(&mut self, typed: bool, untyped: Untyped) {
        if self.transfer_encoding.is_empty() {
            self.transfer_encoding = b"7bit".to_vec();
        }
        if self.media_type.is_empty() {
            let message = !typed && untyped == Untyped::Message;
            let (media_type, subtype) = if message { ("message", "rfc822") } else { ("text", "plain") };
            (self.media_type, self.subtype) = (media_type.into(), subtype.into());
        } else if self.kind() == Kind::Multipart && self.boundary().is_none() {
            // Without a boundary there are no parts, and a reader can make most of it as text.
            (self.media_type, self.subtype) = ("text".into(), "plain".into());
            self.parameters = Parameters::default();
        }
        if self.is("text", "") && self.parameters.get("charset").is_none() && self.parameters.get("charset*").is_none()
        {
            self.parameters.list.push((b"charset".to_vec(), b"us-ascii".to_vec()));
        }
    }

    /// A part that is not looked into.
    pub(super) fn opaque() -> Self {
        Self {
            media_type: b"application".to_vec(),
            subtype: b"octet-stream".to_vec(),
            transfer_encoding: b"binary".to_vec(),
            ..Self::default()
        }
    }

    /// Whether it is of that type, in any case. An empty subtype stands for every one.
    pub fn is(&self, media_type: &str, subtype: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type.as_bytes())
            && (subtype.is_empty() || self.subtype.eq_ignore_ascii_case(subtype.as_bytes()))
    }

    /// What such a part holds.
    pub fn kind(&self) -> Kind {
        if self.is("multipart", "") {
            Kind::Multipart
        } else if self.is("message", "rfc822") || self.is("message", "global") {
            Kind::Message
        } else {
            Kind::Leaf
        }
    }

    /// How the body is encoded.
    pub fn encoding(&self) -> Encoding {
        Encoding::from_name(&self.transfer_encoding)
    }

    /// Name of the attached file, decoded.
    pub fn file_name(&self) -> Option<String> {
        let disposed = self.disposition.as_ref().and_then(|(_, parameters)| parameters.decoded("filename"));
        disposed.or_else(|| self.parameters.decoded("name"))
    }

    /// The boundary, when there is a usable one.
    pub(super) fn boundary(&self) -> Option<Vec<u8>> {
        let boundary = match self.parameters.get("boundary") {
            Some(boundary) => boundary.trim_ascii_end().to_vec(),
            None => self.parameters.decoded("boundary")?.into_bytes(),
        };
        (1..=BOUNDARY_OCTETS_MAX).contains(&boundary.len()).then_some(boundary)
    }

    /// What its parts are without a type.
    pub(super) fn untyped(&self) -> Untyped {
        if self.is("multipart", "digest") { Untyped::Message } else { Untyped::Text }
    }

    /// Octets of memory it takes, roughly.
    pub(super) fn octets(&self) -> usize {
        let listed = |parameters: &Parameters| -> usize {
            let pair = |(name, value): &(Vec<u8>, Vec<u8>)| name.len().saturating_add(value.len()).saturating_add(64);
            parameters.list.iter().map(pair).fold(0, usize::saturating_add)
        };
        let optional = [&self.id, &self.description, &self.md5, &self.location];
        let texts = optional.into_iter().flatten().chain([&self.media_type, &self.subtype, &self.transfer_encoding]);
        texts
            .map(Vec::len)
            .chain(self.language.iter().map(|tag| tag.len().saturating_add(32)))
            .chain(self.disposition.iter().map(|(name, parameters)| name.len().saturating_add(listed(parameters))))
            .fold(listed(&self.parameters), usize::saturating_add)
    }
}

fn keep_first(slot: &mut Option<Vec<u8>>, value: &[u8]) {
    if slot.is_none() && !value.is_empty() {
        *slot = Some(value.to_vec());
    }
}

fn disposition(value: &[u8]) -> Option<(Vec<u8>, Parameters)> {
    let mut cursor = Cursor { rest: value };
    let name = cursor.token(b";");
    is_token(name).then(|| (name.to_vec(), cursor.parameters()))
}

fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let mut cursor = Cursor { rest: value };
    let mut tags = Vec::new();
    while tags.len() < PARAMETERS_MAX {
        let tag = cursor.token(b",");
        if !tag.is_empty() {
            tags.push(tag.to_vec());
        }
        cursor.skip_to(b',');
        if !cursor.take(b',') {
            break;
        }
    }
    tags
}

//= rfc2045#section-5.1
//# token := 1*<any (US-ASCII) CHAR except SPACE, CTLs,
//#             or tspecials>
fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(octet))
}

/// Parameters of a field, in order. The pieces of a long value (RFC 2231 section 3) are put together; a value with a
/// charset (section 4) stays encoded under a name that ends with `*`, so that it can be handed on as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub(super) list: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Parameters {
    /// The value of the first parameter of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.list.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }

    /// The value as text: RFC 2231 decoded, or RFC 2047, which does not belong here and is used all the same.
    pub fn decoded(&self, name: &str) -> Option<String> {
        let Some(value) = self.get(&format!("{name}*")) else {
            return self.get(name).map(decode_words);
        };
        let mut pieces = value.splitn(3, |octet| *octet == b'\'');
        let (charset, _language, text) = (pieces.next()?, pieces.next(), pieces.next());
        Some(match text {
            Some(text) => charset::decode(charset, &percent_decoded(text)).into_owned(),
            None => charset::decode(b"utf-8", &percent_decoded(value)).into_owned(),
        })
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        if let (b'%', Some((digits, further))) = (octet, behind.split_at_checked(2))
            && let Some(value) = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            octets.push(value);
            rest = further;
        } else {
            octets.push(*octet);
        }
    }
    octets
}

/// A part of a parameter value, as written.
struct Piece {
    name: Vec<u8>,
    /// Which piece of a long value it is.
    number: Option<u16>,
    /// It is percent-encoded.
    extended: bool,
    value: Vec<u8>,
}

impl Piece {
    fn new(name: &[u8], value: Vec<u8>) -> Self {
        let mut levels = name.split(|octet| *octet == b'*');
        let base = levels.next().unwrap_or_default();
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let (number, extended) = match (levels.next(), levels.next(), levels.next()) {
            (Some(b""), None, None) => (None, true),
            (Some(digits), None, None) => (number(digits), false),
            (Some(digits), Some(b""), None) => (number(digits), number(digits).is_some()),
            _ => (None, false),
        };
        if number.is_none() && !extended {
            return Self { name: name.to_vec(), number: None, extended: false, value };
        }
        Self { name: base.to_vec(), number, extended, value }
    }

    fn encoded(&self) -> Vec<u8> {
        if self.extended {
            return self.value.clone();
        }
        let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
        let one = |octet: &u8| if plain(octet) { vec![*octet] } else { format!("%{octet:02X}").into_bytes() };
        self.value.iter().flat_map(one).collect()
    }
}

/// Puts long values together.
fn joined(mut pieces: Vec<Piece>) -> Parameters {
    let mut list = Vec::new();
    for at in 0..pieces.len() {
        let Some(first) = pieces.get(at) else { break };
        match first.number {
            None => {
                let star: &[u8] = if first.extended { b"*" } else { b"" };
                list.push(([first.name.as_slice(), star].concat(), first.value.clone()));
            }
            Some(_) if first.name.is_empty() => {}
            Some(_) => {
                let name = first.name.clone();
                let mut run: Vec<&Piece> = pieces.iter().skip(at).collect();
                run.retain(|piece| piece.number.is_some() && piece.name.eq_ignore_ascii_case(&name));
                run.sort_by_key(|piece| piece.number);
                run.dedup_by_key(|piece| piece.number);
                let extended = run.iter().any(|piece| piece.extended);
                let mut value = Vec::new();
                if run.first().is_some_and(|piece| extended && !piece.extended) {
                    value.extend_from_slice(b"''");
                }
                for (expected, piece) in (0..).zip(&run) {
                    if piece.number != Some(expected) {
                        break;
                    }
                    value.extend_from_slice(&if extended { piece.encoded() } else { piece.value.clone() });
                }
                list.push(([name.as_slice(), if extended { b"*" } else { b"" }].concat(), value));
                // Its other pieces are done with.
                for piece in pieces.iter_mut().skip(at.saturating_add(1)) {
                    if piece.number.is_some() && piece.name.eq_ignore_ascii_case(&name) {
                        piece.name.clear();
                    }
                }
            }
        }
    }
    Parameters { list }
}

/// Reads a structured field from left to right.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn advance(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(octets).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if !self.rest.starts_with(b"(") {
                return;
            }
            let (mut depth, mut length, mut escaped) = (0_usize, 0_usize, false);
            for octet in self.rest {
                length = length.saturating_add(1);
                match octet {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'(' => depth = depth.saturating_add(1),
                    b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            self.advance(length);
        }
    }

    fn take(&mut self, octet: u8) -> bool {
        self.skip_space();
        let found = self.rest.first() == Some(&octet);
        self.advance(usize::from(found));
        found
    }

    /// A word up to white space, a comment or one of `ends`.
    fn token(&mut self, ends: &[u8]) -> &'a [u8] {
        self.skip_space();
        let ends_here = |octet: &u8| octet.is_ascii_whitespace() || *octet == b'(' || ends.contains(octet);
        let length = self.rest.iter().position(ends_here).unwrap_or(self.rest.len());
        self.advance(length)
    }

    fn skip_to(&mut self, octet: u8) {
        let length = self.rest.iter().position(|known| *known == octet).unwrap_or(self.rest.len());
        self.advance(length);
    }

    /// Everything of the form `; name=value` that is left.
    fn parameters(&mut self) -> Parameters {
        let mut pieces = Vec::new();
        while !self.rest.is_empty() && pieces.len() < PARAMETERS_MAX {
            self.skip_to(b';');
            if !self.take(b';') {
                break;
            }
            let name = self.token(b"=;");
            if self.take(b'=') && !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                let value = self.value();
                pieces.push(Piece::new(name, value));
            }
        }
        joined(pieces)
    }

    /// A quoted string, or what stands up to the next semicolon without comments: file names with spaces are written
    /// without quotes too often.
    fn value(&mut self) -> Vec<u8> {
        self.skip_space();
        let mut value = Vec::new();
        if self.rest.starts_with(b"\"") {
            self.advance(1);
            while let Some((octet, rest)) = self.rest.split_first() {
                self.rest = rest;
                match octet {
                    b'"' => break,
                    b'\\' if !rest.is_empty() => value.extend_from_slice(self.advance(1)),
                    _ => value.push(*octet),
                }
            }
            return value;
        }
        while let Some(octet) = self.rest.first().filter(|octet| **octet != b';') {
            if *octet == b'(' && (value.is_empty() || value.ends_with(b" ")) {
                self.skip_space();
            } else {
                value.push(if *octet == b'\t' { b' ' } else { *octet });
                self.advance(1);
            }
        }
        value.truncate(value.trim_ascii_end().len());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parameters: &Parameters) -> String {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let pairs = parameters.list.iter().map(|(name, value)| format!("{}={}", text(name), text(value)));
        pairs.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn types() {
        for (value, expected) in [
            ("text/plain", "text/plain charset=us-ascii"),
            ("Text/HTML; Charset=\"utf-8\"", "Text/HTML Charset=utf-8"),
            ("text/plain; charset=us-ascii (Plain text)", "text/plain charset=us-ascii"),
            ("text / plain ; charset = x", "text/plain charset=x"),
            ("(c) text/(d)plain(e);(f)a(g)=(h)\"b\"(i)", "text/plain a=b|charset=us-ascii"),
            ("text", "text/plain charset=us-ascii"),
            ("text/", "text/plain charset=us-ascii"),
            ("/plain", "text/plain charset=us-ascii"),
            ("text plain", "text/plain charset=us-ascii"),
            ("", "text/plain charset=us-ascii"),
            ("image/png; name=my file(1).png; x", "image/png name=my file(1).png"),
            ("image/png; name=\"a\\\"b;c\"; b=\"open", "image/png name=a\"b;c|b=open"),
            ("image/png;; ;a=1;=2;b", "image/png a=1"),
            ("a/b; n*0=x; n*1=y", "a/b n=xy"),
            ("a/b; n*1=y; N*0=x; n*3=z", "a/b n=xy"),
            ("a/b; n*=utf-8'en'%C3%A9", "a/b n*=utf-8'en'%C3%A9"),
            ("a/b; n*0*=utf-8''%C3; n*1*=%A9; n*2=\" %\"", "a/b n*=utf-8''%C3%A9%20%25"),
            ("a/b; n*0=a; n*1*=%20b", "a/b n*=''a%20b"),
            ("a/b; n*x=1; n**=2; *0=3", "a/b n*x=1|n**=2"),
            ("multipart/mixed", "text/plain charset=us-ascii"),
            ("multipart/mixed; boundary=\"\"", "text/plain charset=us-ascii"),
            ("multipart/mixed; boundary*0=\"a \"; boundary*1=b", "multipart/mixed boundary=a b"),
            ("message/rfc822", "message/rfc822 "),
        ] {
            let content = Content::of_header(format!("Content-Type: {value}\r\n\r\n").as_bytes());
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            let (media_type, subtype) = (text(&content.media_type), text(&content.subtype));
            assert_eq!(format!("{media_type}/{subtype} {}", shown(&content.parameters)), expected, "{value}");
        }
    }

    #[test]
    fn the_rest() {
        let content = Content::of_header(
            b"content-id: <a@b>\r\nContent-Transfer-Encoding : BASE64 (x)\r\nCONTENT-DESCRIPTION: a\r\n b\r\n\
            Content-Disposition: attachment; filename*0*=iso-8859-1''%E9; filename*1=t%C3\r\n\
            Content-Language: en, (x) de ,,fr\r\nContent-MD5: x\r\nContent-Location: http://x/\r\nContent-ID: 2\r\n\
            Content-Type: text/plain; name=\"=?utf-8?q?=C3=A9?=\"\r\n\r\n",
        );
        assert_eq!(content.id.as_deref(), Some(&b"<a@b>"[..]));
        assert_eq!(content.encoding(), Encoding::Base64);
        assert_eq!(content.description.as_deref(), Some(&b"a b"[..]));
        assert_eq!(content.language, [b"en", b"de", b"fr"]);
        assert_eq!(content.md5.as_deref(), Some(&b"x"[..]));
        assert_eq!(content.location.as_deref(), Some(&b"http://x/"[..]));
        assert_eq!(content.file_name().as_deref(), Some("ét%C3"));
        assert_eq!(content.parameters.decoded("name").as_deref(), Some("é"));
        assert!(Content::of_header(b"Content-Disposition: ;x=y\r\n").disposition.is_none());
        let many = format!("Content-Type: a/b{}", ";a*0=b".repeat(40_000));
        assert_eq!(Content::of_header(many.as_bytes()).parameters.list.len(), 1);
    }
}
