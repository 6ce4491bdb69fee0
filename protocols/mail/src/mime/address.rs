//! Address lists of a header, as ENVELOPE shows them (RFC 5322 sections 3.4 and 4.4).
//!
//! Everything is read that can be; what is missing gets the names that other servers give it, because a `NIL` host
//! would mean a group.

use super::{ADDRESSES_MAX, imap_string::put_nstring};

/// Stands where an address has no local part.
const MISSING_MAILBOX: &[u8] = b"MISSING_MAILBOX";
/// Stands where an address has no domain.
const MISSING_DOMAIN: &[u8] = b"MISSING_DOMAIN";

/// What a list is made of.
enum Token<'a> {
    /// A word, with quoting removed. The flag says whether white space or a comment stood before it.
    Word(Vec<u8>, bool),
    /// A comment without its outer brackets.
    Comment(&'a [u8]),
    /// `<`, `>`, `@`, `,`, `;` or `:`.
    Special(u8),
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn advance(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(octets).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// A quoted string without its quotes.
    fn quoted(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        self.advance(1);
        while let [octet, ..] = self.rest {
            self.advance(1);
            match octet {
                b'"' => break,
                b'\\' if !self.rest.is_empty() => text.extend_from_slice(self.advance(1)),
                _ => text.push(*octet),
            }
        }
        text
    }

    fn comment(&mut self) -> &'a [u8] {
        let (mut depth, mut length, mut escaped) = (0_usize, 0_usize, false);
        for octet in self.rest {
            match octet {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'(' => depth = depth.saturating_add(1),
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            length = length.saturating_add(1);
            if depth == 0 {
                break;
            }
        }
        let comment = self.advance(length);
        let inner = comment.strip_prefix(b"(").unwrap_or(comment);
        if depth == 0 { inner.strip_suffix(b")").unwrap_or(inner) } else { inner }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let before = self.rest.len();
        self.rest = self.rest.trim_ascii_start();
        let spaced = self.rest.len() < before;
        let first = *self.rest.first()?;
        Some(match first {
            b'<' | b'>' | b'@' | b',' | b';' | b':' => {
                self.advance(1);
                Token::Special(first)
            }
            b'(' => Token::Comment(self.comment()),
            b'"' => Token::Word(self.quoted(), spaced),
            b'[' => {
                // A domain literal, with what stands in it.
                let end = |octet: &u8| matches!(octet, b']' | b',' | b'>');
                let length = self.rest.iter().position(end).unwrap_or(self.rest.len());
                let closed = self.rest.get(length) == Some(&b']');
                Token::Word(self.advance(length.saturating_add(usize::from(closed))).to_vec(), spaced)
            }
            _ => {
                let end = |octet: &u8| octet.is_ascii_whitespace() || b"<>@,;:(\"[".contains(octet);
                let length = self.rest.iter().position(end).unwrap_or(self.rest.len());
                Token::Word(self.advance(length.max(1)).to_vec(), spaced)
            }
        })
    }
}

/// Where in an address we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before any `<` or `@`: a phrase or a local part.
    Phrase,
    /// Behind `local@`, without brackets.
    Domain,
    /// Behind `<`, at what may be a route.
    AngleStart,
    /// In the route of `<@a,@b:local@domain>`.
    Route,
    /// In the local part within brackets.
    AngleLocal,
    /// In the domain within brackets.
    AngleDomain,
    /// Behind `>`.
    Behind,
}

/// Writes one list of addresses.
pub(super) struct Writer {
    out: Vec<u8>,
    addresses: usize,
    in_group: bool,
    place: Place,
    phrase: Vec<u8>,
    comment: Option<Vec<u8>>,
    route: Vec<u8>,
    local: Option<Vec<u8>>,
    domain: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            out: Vec::new(),
            addresses: 0,
            in_group: false,
            place: Place::Phrase,
            phrase: Vec::new(),
            comment: None,
            route: Vec::new(),
            local: None,
            domain: Vec::new(),
        }
    }

    /// Adds the unfolded value of a field.
    pub(super) fn add(&mut self, value: &[u8]) {
        for token in (Tokens { rest: value }) {
            match token {
                Token::Word(word, spaced) => self.word(&word, spaced),
                Token::Comment(text) => self.comment = Some(text.trim_ascii().to_vec()),
                Token::Special(special) => self.special(special),
            }
        }
        self.end_address();
        self.end_group();
    }

    /// The list in brackets, or `NIL` when it is empty.
    pub(super) fn finish(self) -> Vec<u8> {
        if self.out.is_empty() { b"NIL".to_vec() } else { [b"(", self.out.as_slice(), b")"].concat() }
    }

    fn word(&mut self, word: &[u8], spaced: bool) {
        let text = match self.place {
            Place::Phrase => {
                if spaced && !self.phrase.is_empty() {
                    self.phrase.push(b' ');
                }
                &mut self.phrase
            }
            Place::Domain | Place::AngleDomain => &mut self.domain,
            Place::Route => &mut self.route,
            Place::AngleStart | Place::AngleLocal => {
                self.place = Place::AngleLocal;
                let local = self.local.get_or_insert_default();
                if spaced && !local.is_empty() {
                    local.push(b' ');
                }
                local
            }
            Place::Behind => return,
        };
        text.extend_from_slice(word);
    }

    fn special(&mut self, special: u8) {
        match (special, self.place) {
            (b'<', Place::Phrase | Place::Domain) => {
                // What looked like an address before the brackets was a name.
                if let Some(local) = self.local.take() {
                    self.phrase = [local.as_slice(), b"@", &std::mem::take(&mut self.domain)].concat();
                }
                self.place = Place::AngleStart;
            }
            (b'@', Place::Phrase) => {
                self.local = Some(std::mem::take(&mut self.phrase));
                self.place = Place::Domain;
            }
            (b'@', Place::AngleStart) => {
                self.route.push(b'@');
                self.place = Place::Route;
            }
            (b'@' | b',', Place::Route) => self.route.push(special),
            (b':', Place::Route) => self.place = Place::AngleStart,
            (b'>', Place::Route | Place::AngleStart | Place::AngleLocal | Place::AngleDomain) => {
                self.place = Place::Behind;
            }
            (b'@', Place::AngleLocal) => self.place = Place::AngleDomain,
            (b'@', Place::Domain | Place::AngleDomain) => {
                // `a@b@c`: the last one parts the domain.
                let domain = std::mem::take(&mut self.domain);
                self.local.get_or_insert_default().extend_from_slice(&[b"@", domain.as_slice()].concat());
            }
            (b':', Place::Phrase) if !self.in_group => self.begin_group(),
            (b',', _) => self.end_address(),
            (b';', _) => {
                self.end_address();
                self.end_group();
            }
            // Anything else is out of place, and kept where a word would go.
            (b':', Place::Phrase | Place::Domain | Place::AngleLocal | Place::AngleDomain) => self.word(b":", false),
            _ => {}
        }
    }

    /// Counts what is written; false when it is enough.
    fn may_write(&mut self) -> bool {
        self.addresses = self.addresses.saturating_add(1);
        self.addresses <= ADDRESSES_MAX
    }

    fn put(&mut self, parts: [Option<&[u8]>; 4]) {
        for (opener, part) in [b"(", b" ", b" ", b" "].into_iter().zip(parts) {
            self.out.extend_from_slice(opener);
            put_nstring(&mut self.out, part);
        }
        self.out.push(b')');
    }

    fn begin_group(&mut self) {
        let name = std::mem::take(&mut self.phrase);
        self.comment = None;
        if self.may_write() {
            self.in_group = true;
            self.put([None, None, Some(&name), None]);
        }
    }

    fn end_group(&mut self) {
        if std::mem::take(&mut self.in_group) {
            self.put([None; 4]);
        }
    }

    fn end_address(&mut self) {
        let place = std::mem::replace(&mut self.place, Place::Phrase);
        let (phrase, comment) = (std::mem::take(&mut self.phrase), self.comment.take());
        let (route, local) = (std::mem::take(&mut self.route), self.local.take());
        let domain = std::mem::take(&mut self.domain);
        if place == Place::Phrase && phrase.is_empty() || !self.may_write() {
            return;
        }
        // A word alone is a local part without domain.
        let (name, local) = if place == Place::Phrase { (Vec::new(), Some(phrase)) } else { (phrase, local) };
        let name = if name.is_empty() { comment } else { Some(name) };
        let local = local.filter(|local| !local.is_empty());
        self.put([
            name.as_deref().filter(|name| !name.is_empty()),
            Some(route.as_slice()).filter(|route| !route.is_empty()),
            Some(local.as_deref().unwrap_or(MISSING_MAILBOX)),
            Some(if domain.is_empty() { MISSING_DOMAIN } else { &domain }),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(value: &str) -> String {
        let mut writer = Writer::new();
        writer.add(value.as_bytes());
        String::from_utf8_lossy(&writer.finish()).into_owned()
    }

    #[test]
    fn lists() {
        for (value, expected) in [
            ("", "NIL"),
            (" , ,", "NIL"),
            ("(just a comment)", "NIL"),
            ("a@b", r#"((NIL NIL "a" "b"))"#),
            ("a@b, c@d", r#"((NIL NIL "a" "b")(NIL NIL "c" "d"))"#),
            ("Joe Q. Public <john.q@x.example>", r#"(("Joe Q. Public" NIL "john.q" "x.example"))"#),
            (r#""Giant; \"Big\" Box" <a@b>"#, r#"(("Giant; \"Big\" Box" NIL "a" "b"))"#),
            ("a@b (Joe (the) Man)", r#"(("Joe (the) Man" NIL "a" "b"))"#),
            ("Name <a@b> (comment)", r#"(("Name" NIL "a" "b"))"#),
            ("<@x,@y:a@b>", r#"((NIL "@x,@y" "a" "b"))"#),
            ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", r#"(("Pete" NIL "pete" "silly.test"))"#),
            ("a . b @ c . d", r#"((NIL NIL "a . b" "c.d"))"#),
            ("\"a b\"@c", r#"((NIL NIL "a b" "c"))"#),
            ("a@[192.0.2.1]", r#"((NIL NIL "a" "[192.0.2.1]"))"#),
            ("=?utf-8?q?J=C3=B8?= =?utf-8?q?e?= <a@b>", r#"(("=?utf-8?q?J=C3=B8?= =?utf-8?q?e?=" NIL "a" "b"))"#),
            ("undisclosed-recipients:;", r#"((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))"#),
            (
                "A Group(Some people): Chris Jones <c@x>, joe@y, John <jdoe@z>; k@l",
                concat!(
                    r#"((NIL NIL "A Group" NIL)("Chris Jones" NIL "c" "x")(NIL NIL "joe" "y")("John" NIL "jdoe" "z")"#,
                    r#"(NIL NIL NIL NIL)(NIL NIL "k" "l"))"#
                ),
            ),
            ("g: a@b", r#"((NIL NIL "g" NIL)(NIL NIL "a" "b")(NIL NIL NIL NIL))"#),
            ("g: h: a@b;", r#"((NIL NIL "g" NIL)(NIL NIL "h: a" "b")(NIL NIL NIL NIL))"#),
            (":;", r#"((NIL NIL "" NIL)(NIL NIL NIL NIL))"#),
            ("root", r#"((NIL NIL "root" "MISSING_DOMAIN"))"#),
            ("foo bar", r#"((NIL NIL "foo bar" "MISSING_DOMAIN"))"#),
            ("<>", r#"((NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))"#),
            ("Name <>", r#"(("Name" NIL "MISSING_MAILBOX" "MISSING_DOMAIN"))"#),
            ("<root>", r#"((NIL NIL "root" "MISSING_DOMAIN"))"#),
            ("@b", r#"((NIL NIL "MISSING_MAILBOX" "b"))"#),
            ("a@b@c", r#"((NIL NIL "a@b" "c"))"#),
            ("a@b <c@d>", r#"(("a@b" NIL "c" "d"))"#),
            ("<a@b", r#"((NIL NIL "a" "b"))"#),
            ("<a@b> <c@d>", r#"((NIL NIL "a" "b"))"#),
            ("a@b>", r#"((NIL NIL "a" "b"))"#),
            ("\"open", r#"((NIL NIL "open" "MISSING_DOMAIN"))"#),
            ("a@b (open", r#"(("open" NIL "a" "b"))"#),
            (
                "<<<>>>@@@;;;:::,,,",
                r#"((NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN")(NIL NIL "" NIL)(NIL NIL "::" "MISSING_DOMAIN")(NIL NIL NIL NIL))"#,
            ),
        ] {
            assert_eq!(list(value), expected, "{value}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let text = list(&"a,".repeat(100_000));
        assert_eq!(text.matches("MISSING_DOMAIN").count(), ADDRESSES_MAX);
        assert!(list(&"(".repeat(100_000)).len() == 3);
        assert!(list(&"g:;".repeat(100_000)).len() < ADDRESSES_MAX * 40);
    }
}
