//! The terminals of the grammar (RFC 3501 section 9), read from a whole command.

use std::borrow::Cow;

use rockdove_mail::{Flags, Keyword, SystemFlags};

use crate::{
    command::SequenceSet,
    limits::{FLAGS_MAX, TAG_OCTETS_MAX},
};

/// What is wrong with a command: a text for the client.
pub(super) type Wrong = &'static str;

/// A command as far as it has not been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
    names: Names,
}

/// How mailbox names travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// In modified UTF-7 (RFC 3501 section 5.1.3).
    #[default]
    ModifiedUtf7,
    /// In UTF-8, also between quotes: the client has enabled UTF8=ACCEPT (RFC 6855) or `IMAP4rev2` (RFC 9051 section 5.1).
    Utf8,
}

/// `tag = 1*<any ASTRING-CHAR except "+">`
fn is_tag_char(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(&octet)
}

/// `ATOM-CHAR = <any CHAR except atom-specials>`
pub(crate) fn is_atom_char(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"(){%*\"\\]".contains(&octet)
}

/// `ASTRING-CHAR = ATOM-CHAR / resp-specials`, and what clients send although they should quote it: wildcards, `\` and
/// 8-bit octets. Nothing that could be mistaken for the end of the word.
fn is_lenient_astring_char(octet: u8) -> bool {
    octet > b' ' && octet != 0x7f && !b"(){\"".contains(&octet)
}

/// The tag at the beginning of a command, where there is one.
pub(super) fn tag_of(command: &[u8]) -> Option<String> {
    Words::new(command, Names::default()).tag().ok()
}

impl<'a> Words<'a> {
    pub(super) fn new(command: &'a [u8], names: Names) -> Self {
        Self { rest: command, names }
    }

    pub(super) fn names(&self) -> Names {
        self.names
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn advance(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(octets).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        self.advance(self.rest.iter().position(|octet| !wanted(*octet)).unwrap_or(self.rest.len()))
    }

    /// Takes this octet if it is next.
    pub(super) fn eat(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        if found {
            self.advance(1);
        }
        found
    }

    /// Takes this text, in any case, if it is next.
    pub(super) fn eat_text(&mut self, text: &str) -> bool {
        let found = self.rest.get(..text.len()).is_some_and(|next| next.eq_ignore_ascii_case(text.as_bytes()));
        if found {
            self.advance(text.len());
        }
        found
    }

    pub(super) fn expect(&mut self, octet: u8, wrong: Wrong) -> Result<(), Wrong> {
        if self.eat(octet) { Ok(()) } else { Err(wrong) }
    }

    /// `SP`; more of them are not worth a quarrel.
    pub(super) fn space(&mut self) -> Result<(), Wrong> {
        if self.spaces() { Ok(()) } else { Err("a space is missing") }
    }

    /// Any spaces, also none; tells whether there were some.
    pub(super) fn spaces(&mut self) -> bool {
        !self.take_while(|octet| octet == b' ').is_empty()
    }

    /// The end of the command, after spaces that mean nothing.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        self.spaces();
        if self.rest.is_empty() { Ok(()) } else { Err("there is too much behind the arguments") }
    }

    /// `tag = 1*<any ASTRING-CHAR except "+">`
    pub(super) fn tag(&mut self) -> Result<String, Wrong> {
        let tag = self.take_while(is_tag_char);
        if tag.is_empty() || tag.len() > TAG_OCTETS_MAX || self.peek().is_some_and(|next| !b" \r\n".contains(&next)) {
            return Err("a command begins with a tag");
        }
        Ok(ascii(tag))
    }

    /// A word of the grammar, upper case: letters, digits and `.`, `-`, `+`, `=`, `_`, `/`.
    pub(super) fn keyword(&mut self) -> String {
        ascii(self.take_while(|octet| octet.is_ascii_alphanumeric() || b".-+=_/".contains(&octet))).to_ascii_uppercase()
    }

    /// `atom = 1*ATOM-CHAR`
    pub(super) fn atom(&mut self) -> Result<String, Wrong> {
        let atom = self.take_while(is_atom_char);
        if atom.is_empty() { Err("an atom is missing") } else { Ok(ascii(atom)) }
    }

    /// `astring = 1*ASTRING-CHAR / string`
    pub(super) fn astring(&mut self) -> Result<Cow<'a, [u8]>, Wrong> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => match self.take_while(is_lenient_astring_char) {
                [] => Err("an argument is missing"),
                atom => Ok(Cow::Borrowed(atom)),
            },
        }
    }

    /// An `astring` that is UTF-8.
    pub(super) fn text(&mut self) -> Result<String, Wrong> {
        self.astring().and_then(utf8)
    }

    /// `string = quoted / literal`
    pub(super) fn string(&mut self) -> Result<Cow<'a, [u8]>, Wrong> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => Err("a string is missing"),
        }
    }

    /// `nstring = string / nil`
    pub(super) fn nstring(&mut self) -> Result<Option<Cow<'a, [u8]>>, Wrong> {
        match self.peek() {
            Some(b'"' | b'{') => self.string().map(Some),
            _ if self.eat_text("NIL") => Ok(None),
            _ => Err("a string or NIL is missing"),
        }
    }

    /// `quoted = DQUOTE *QUOTED-CHAR DQUOTE`; `QUOTED-CHAR = <any TEXT-CHAR except quoted-specials> / "\" quoted-specials`
    ///
    /// A `\` before anything else stands for itself: clients write `"DOMAIN\user"`.
    ///
    //= rfc6855#section-3
    //# When this extended quoting mechanism is used by the client, the
    //# server MUST reject, with a "BAD" response, any octet sequences with
    //# the high bit set that fail to comply with the formal syntax
    //# requirements of UTF-8 [RFC3629].
    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Wrong> {
        let text = self.quoted_octets()?;
        if std::str::from_utf8(&text).is_ok() { Ok(text) } else { Err("a string is not UTF-8") }
    }

    fn quoted_octets(&mut self) -> Result<Cow<'a, [u8]>, Wrong> {
        self.advance(1);
        let plain = self.take_while(|octet| !b"\"\\\r\n\0".contains(&octet));
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        loop {
            text.extend_from_slice(self.take_while(|octet| !b"\"\\\r\n\0".contains(&octet)));
            if self.eat(b'"') {
                return Ok(Cow::Owned(text));
            }
            if !self.eat(b'\\') {
                return Err("a quoted string has no end");
            }
            match self.peek() {
                Some(special @ (b'"' | b'\\')) => {
                    self.advance(1);
                    text.push(special);
                }
                _ => text.push(b'\\'),
            }
        }
    }

    /// `literal = "{" number ["+"] "}" CRLF *CHAR8`
    fn literal(&mut self) -> Result<&'a [u8], Wrong> {
        match self.literal8()? {
            //= rfc3501#section-9
            //# CHAR8           = %x01-ff
            //#                    ; any OCTET except NUL, %x00
            text if text.contains(&0) => Err("a literal contains NUL"),
            text => Ok(text),
        }
    }

    /// What follows `~` in `literal8 = "~{" number ["+"] "}" CRLF *OCTET` (RFC 4466).
    pub(super) fn literal8(&mut self) -> Result<&'a [u8], Wrong> {
        const WRONG: Wrong = "a literal is malformed";
        self.expect(b'{', WRONG)?;
        let octets = usize::try_from(self.number64()?).map_err(|_| WRONG)?;
        self.eat(b'+');
        self.expect(b'}', WRONG)?;
        self.eat(b'\r');
        self.expect(b'\n', WRONG)?;
        if octets > self.rest.len() {
            return Err(WRONG);
        }
        Ok(self.advance(octets))
    }

    fn digits(&mut self) -> Result<&'a [u8], Wrong> {
        match self.take_while(|octet| octet.is_ascii_digit()) {
            [] => Err("a number is missing"),
            digits => Ok(digits),
        }
    }

    /// `number64 = 1*DIGIT`, at most 63 bits (RFC 9051 section 9).
    pub(super) fn number64(&mut self) -> Result<u64, Wrong> {
        self.digits()?
            .iter()
            .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))))
            .filter(|number| *number <= i64::MAX.unsigned_abs())
            .ok_or("a number is too large")
    }

    /// `number = 1*DIGIT`, at most 32 bits.
    pub(super) fn number(&mut self) -> Result<u32, Wrong> {
        self.number64().and_then(|number| u32::try_from(number).map_err(|_| "a number is too large"))
    }

    /// `nz-number = digit-nz *DIGIT`
    pub(super) fn nz_number(&mut self) -> Result<u32, Wrong> {
        match self.number()? {
            0 => Err("a number must not be zero"),
            number => Ok(number),
        }
    }

    /// `sequence-set = (seq-number / seq-range) *("," sequence-set)`; `seq-range = seq-number ":" seq-number`;
    /// `seq-number = nz-number / "*"`; `sequence-set =/ "$"` (RFC 5182)
    pub(super) fn sequence_set(&mut self) -> Result<SequenceSet, Wrong> {
        let before = self.rest.len();
        let mut ranges = Vec::new();
        //= rfc5182#section-3
        //# sequence-set        =/ seq-last-command
        if self.eat(b'$') {
            return Ok(SequenceSet { ranges, text_octets: 1 });
        }
        loop {
            let first = self.seq_number()?;
            let last = if self.eat(b':') { self.seq_number()? } else { first };
            ranges.push((first, last));
            if !self.eat(b',') {
                return Ok(SequenceSet { ranges, text_octets: before.saturating_sub(self.rest.len()) });
            }
        }
    }

    /// A set of one `seq-number`.
    pub(super) fn one_message(&mut self) -> Result<SequenceSet, Wrong> {
        let before = self.rest.len();
        let number = self.seq_number()?;
        Ok(SequenceSet { ranges: vec![(number, number)], text_octets: before.saturating_sub(self.rest.len()) })
    }

    fn seq_number(&mut self) -> Result<Option<u32>, Wrong> {
        if self.eat(b'*') { Ok(None) } else { self.nz_number().map(Some) }
    }

    /// `"(" [element *(SP element)] ")"`, lenient about spaces.
    pub(super) fn list<T>(
        &mut self,
        most: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        self.expect(b'(', "a parenthesis is missing")?;
        let mut elements = Vec::new();
        loop {
            let separated = self.spaces() || elements.is_empty();
            if self.eat(b')') {
                return Ok(elements);
            }
            if !separated {
                return Err("a space or a parenthesis is missing");
            }
            if elements.len() >= most {
                return Err("the list is too long");
            }
            elements.push(element(self)?);
        }
    }

    /// `flag-list = "(" [flag *(SP flag)] ")"`; without parentheses `flag *(SP flag)`. `\Recent` is dropped.
    pub(super) fn flags(&mut self) -> Result<Flags, Wrong> {
        let mut flags = Flags::default();
        if self.peek() == Some(b'(') {
            self.list(FLAGS_MAX, |words| words.flag(&mut flags))?;
            return Ok(flags);
        }
        loop {
            self.flag(&mut flags)?;
            self.spaces();
            if self.rest.is_empty() {
                return Ok(flags);
            }
            if flags.keywords.len() > FLAGS_MAX {
                return Err("the list is too long");
            }
        }
    }

    /// `flag = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" / flag-keyword / flag-extension`
    fn flag(&mut self, flags: &mut Flags) -> Result<(), Wrong> {
        if !self.eat(b'\\') {
            let keyword = Keyword::new(&self.atom()?).ok_or("a keyword is not acceptable")?;
            if !flags.keywords.contains(&keyword) {
                flags.keywords.push(keyword);
            }
            return Ok(());
        }
        let name = format!("\\{}", self.atom().map_err(|_| "there is no such system flag")?);
        match SystemFlags::from_name(&name) {
            Some(flag) => flags.system = flags.system.union(flag),
            None if name.eq_ignore_ascii_case("\\Recent") => {}
            None => return Err("there is no such system flag"),
        }
        Ok(())
    }
}

/// Octets that are UTF-8 (US-ASCII is).
pub(super) fn utf8(octets: Cow<'_, [u8]>) -> Result<String, Wrong> {
    String::from_utf8(octets.into_owned()).map_err(|_| "a string is not UTF-8")
}

/// Octets that are known to be US-ASCII.
fn ascii(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
