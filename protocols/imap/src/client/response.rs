//! What servers say.

use std::borrow::Cow;

use rockdove_mail::date;

use super::{
    reader::Piece,
    value::{Value, Values},
};
use crate::grammar::utf7;

/// A response code (RFC 3501 section 7.1): `[UIDVALIDITY 3857529045]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Its name, upper case.
    pub name: String,
    /// What follows it, as it stands there.
    pub argument: String,
}

/// A mailbox in LIST or LSUB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Attributes as they stand there, such as `\HasNoChildren`.
    pub attributes: Vec<String>,
    /// What stands between levels; `None` in a flat name space.
    pub delimiter: Option<char>,
    /// The name as it stands there, to be given back as it is; [`levels`] tells what it means.
    pub name: Vec<u8>,
    /// Whether this was LSUB.
    pub lsub: bool,
}

impl Listed {
    /// Whether there is this attribute, in any case.
    pub fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|given| given.eq_ignore_ascii_case(attribute))
    }
}

/// A body or a section of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Its octets.
    Octets(Vec<u8>),
    /// It has so many octets, more than are taken.
    TooLarge(u64),
    /// `NIL`: the server has none to give.
    Absent,
}

/// What FETCH tells of a message; what it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The sequence number.
    pub number: u32,
    /// UID
    pub uid: Option<u32>,
    /// FLAGS as they stand there.
    pub flags: Option<Vec<String>>,
    /// INTERNALDATE: seconds since 1970 and the zone east of UTC in minutes.
    pub internal_date: Option<(i64, i16)>,
    /// RFC822.SIZE in octets; some servers only estimate it.
    pub size: Option<u64>,
    /// `BODY[...]`, `BINARY[...]` or `RFC822...`: the last one, if there are several.
    pub body: Option<Body>,
}

/// A response that does not end a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untagged {
    /// `OK`, `NO`, `BAD`, `BYE` or `PREAUTH`.
    State {
        /// Which one, upper case.
        state: String,
        /// The response code.
        code: Option<Code>,
        /// For people.
        text: String,
    },
    /// CAPABILITY, upper case.
    Capability(Vec<String>),
    /// LIST and LSUB.
    List(Listed),
    /// FLAGS
    Flags(Vec<String>),
    /// EXISTS
    Exists(u32),
    /// EXPUNGE
    Expunge(u32),
    /// SEARCH
    Search(Vec<u32>),
    /// STATUS: the mailbox's name as it stands there, and items with their numbers.
    Status(Vec<u8>, Vec<(String, u64)>),
    /// NAMESPACE: prefix and delimiter of the names that are the account's own.
    Namespace(Vec<(Vec<u8>, Option<char>)>),
    /// FETCH
    Fetch(Fetched),
    /// Anything else, its text up to the first literal.
    Other(String),
}

/// What ends a command, or asks for more of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    Untagged(Untagged),
    Continue(Vec<u8>),
    Tagged { tag: String, state: String, code: Option<Code>, text: String },
}

/// The levels of a mailbox's name in UTF-8. Names in modified UTF-7 are decoded, others taken for UTF-8 or, if they are
/// not, for ISO 8859-1.
pub fn levels(name: &[u8], delimiter: Option<char>) -> Vec<String> {
    let name = utf7::decode(name).map_or_else(|| name.iter().copied().map(char::from).collect(), Cow::into_owned);
    match delimiter {
        Some(delimiter) => name.split(delimiter).filter(|level| !level.is_empty()).map(str::to_owned).collect(),
        None => vec![name],
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn upper(octets: &[u8]) -> String {
    text(octets).to_ascii_uppercase()
}

/// Reads a response. `None`: it is none, not even one of a kind that is not known.
pub(super) fn read(pieces: Vec<Piece>) -> Option<Response> {
    let Some(Piece::Text(line)) = pieces.first() else { return None };
    if let Some(rest) = line.strip_prefix(b"+") {
        return Some(Response::Continue(rest.strip_prefix(b" ").unwrap_or(rest).to_vec()));
    }
    let whole = text(line);
    let mut values = Values::new(pieces);
    let tag = values.word();
    let word = upper(&values.word());
    if tag != b"*" {
        let known = matches!(word.as_str(), "OK" | "NO" | "BAD");
        let (code, text) = resp_text(values.rest());
        return (known && !tag.is_empty()).then(|| Response::Tagged { tag: self::text(&tag), state: word, code, text });
    }
    let untagged = match word.parse() {
        Ok(number) => numbered(number, &mut values),
        Err(_) => named(&word, &mut values),
    };
    Some(Response::Untagged(untagged.unwrap_or(Untagged::Other(whole))))
}

/// `resp-text = ["[" resp-text-code "]" SP] text`
fn resp_text(rest: &[u8]) -> (Option<Code>, String) {
    let rest = text(rest);
    let rest = rest.trim_start();
    let Some((code, text)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) else {
        return (None, rest.to_owned());
    };
    let (name, argument) = code.split_once(' ').unwrap_or((code, ""));
    let code = Code { name: name.to_ascii_uppercase(), argument: argument.trim().to_owned() };
    (Some(code), text.trim_start().to_owned())
}

fn numbered(number: u32, values: &mut Values) -> Option<Untagged> {
    match upper(&values.word()).as_str() {
        "EXISTS" => Some(Untagged::Exists(number)),
        "EXPUNGE" => Some(Untagged::Expunge(number)),
        "FETCH" => fetched(number, values).map(Untagged::Fetch),
        _ => None,
    }
}

fn named(word: &str, values: &mut Values) -> Option<Untagged> {
    match word {
        "OK" | "NO" | "BAD" | "BYE" | "PREAUTH" => {
            let (code, text) = resp_text(values.rest());
            Some(Untagged::State { state: word.to_owned(), code, text })
        }
        "CAPABILITY" => Some(Untagged::Capability(words(&upper(values.rest())))),
        "LIST" | "LSUB" => listed(values, word == "LSUB").map(Untagged::List),
        "FLAGS" => flags(values.value()?).map(Untagged::Flags),
        "SEARCH" => {
            let numbers = words(&text(values.rest()));
            Some(Untagged::Search(numbers.iter().map_while(|number| number.parse().ok()).collect()))
        }
        "STATUS" => status(values),
        "NAMESPACE" => namespace(values.value()?).map(Untagged::Namespace),
        _ => None,
    }
}

/// The words of a capability list.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn status(values: &mut Values) -> Option<Untagged> {
    let name = values.value()?.octets()?;
    let Value::List(list) = values.value()? else { return None };
    let mut list = list.into_iter();
    let mut items = Vec::new();
    while let (Some(item), Some(number)) = (list.next(), list.next()) {
        if let (Some(item), Some(number)) = (item.octets(), number.number()) {
            items.push((upper(&item), number));
        }
    }
    Some(Untagged::Status(name, items))
}

/// The first of the three lists (RFC 2342 section 5).
fn namespace(personal: Value) -> Option<Vec<(Vec<u8>, Option<char>)>> {
    let Value::List(list) = personal else { return Some(Vec::new()) };
    let one = |value| {
        let Value::List(pair) = value else { return None };
        let mut pair = pair.into_iter();
        Some((pair.next()?.octets()?, pair.next().and_then(delimiter)))
    };
    list.into_iter().map(one).collect()
}

fn delimiter(value: Value) -> Option<char> {
    text(&value.octets()?).chars().next()
}

fn listed(values: &mut Values, lsub: bool) -> Option<Listed> {
    let attributes = flags(values.value()?)?;
    let delimiter = delimiter(values.value()?);
    values.at_end();
    // A name that should have been quoted and is not goes on to the end of the line; extensions begin with "(".
    let rest = values.rest();
    let bare = !rest.is_empty() && !rest.starts_with(b"\"") && !rest.contains(&b'(');
    let name = if bare { rest.trim_ascii_end().to_vec() } else { values.value()?.octets()? };
    Some(Listed { attributes, delimiter, name, lsub })
}

fn flags(list: Value) -> Option<Vec<String>> {
    let Value::List(list) = list else { return None };
    Some(list.into_iter().filter_map(Value::octets).map(|flag| text(&flag)).collect())
}

fn fetched(number: u32, values: &mut Values) -> Option<Fetched> {
    let mut fetched = Fetched { number, ..Fetched::default() };
    if !values.eat(b'(') {
        return None;
    }
    while !values.eat(b')') {
        let item = upper(&values.word());
        if item.is_empty() {
            return None;
        }
        let value = values.value()?;
        match item.as_str() {
            "UID" => fetched.uid = value.number().and_then(|uid| u32::try_from(uid).ok()),
            "RFC822.SIZE" => fetched.size = value.number(),
            "FLAGS" => fetched.flags = flags(value),
            "INTERNALDATE" => fetched.internal_date = value.octets().and_then(|date| internal_date(&date)),
            "RFC822" | "RFC822.HEADER" | "RFC822.TEXT" => fetched.body = Some(body(value)),
            _ if item.starts_with("BODY[") || item.starts_with("BINARY[") => fetched.body = Some(body(value)),
            _ => {}
        }
    }
    Some(fetched)
}

fn body(value: Value) -> Body {
    match value {
        Value::Atom(octets) | Value::String(octets) => Body::Octets(octets),
        Value::TooLarge(octets) => Body::TooLarge(octets),
        Value::Nil | Value::List(_) => Body::Absent,
    }
}

/// As RFC 3501 writes it, and as servers do that put a space too many or too few, or write the date of a header.
fn internal_date(date: &[u8]) -> Option<(i64, i16)> {
    let date = date.trim_ascii();
    let quoted = [b"\"", date, b"\""].concat();
    date::parse_imap(&quoted).or_else(|| date::parse_rfc5322(date))
}
