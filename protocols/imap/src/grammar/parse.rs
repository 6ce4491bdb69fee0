//! Commands that any state knows, and which parser the others have.

use rockdove_mail::sasl::Password;

use super::{
    access::access,
    find, mailbox, message,
    metadata::metadata,
    notify, search,
    words::{Names, Words, Wrong, tag_of, utf8},
};
use crate::{
    command::{AppendFacts, Command, Tagged},
    limits::{ID_PAIRS_MAX, ID_VALUE_OCTETS_MAX, LANGUAGES_MAX},
};

/// A command that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCommand {
    /// Its tag; `None`: there is none, the answer is an untagged BAD.
    pub tag: Option<String>,
    /// What is wrong, for the client.
    pub text: String,
}

/// Decodes a whole command ([`Frame::Command`](super::Frame::Command)).
///
/// `command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF`
pub fn parse(command: &[u8], names: Names) -> Result<Tagged, BadCommand> {
    tagged(command, names, |words| {
        let name = words.keyword();
        let command = match name.as_str() {
            "APPEND" => Err("APPEND wants a literal"),
            "REPLACE" => Err("REPLACE wants a literal"),
            _ => by_name(&name, words),
        }?;
        words.end()?;
        Ok(command)
    })
}

/// Decodes APPEND or REPLACE up to its message ([`Frame::Append`](super::Frame::Append)).
pub fn parse_append(head: &[u8], names: Names) -> Result<Tagged, BadCommand> {
    tagged(head, names, |words| {
        let mut name = words.keyword();
        let uid = name == "UID" && words.spaces();
        if uid {
            name = words.keyword();
        }
        let replaces = match name.as_str() {
            "APPEND" if !uid => None,
            "REPLACE" => {
                words.space()?;
                Some((words.one_message()?, uid))
            }
            _ => return Err("there is no such command"),
        };
        let command = mailbox::append(words, replaces)?;
        if words.rest().is_empty() { Ok(command) } else { Err("a literal is misplaced") }
    })
}

/// Decodes what stands before another message of APPEND ([`Frame::AppendNext`](super::Frame::AppendNext)); and whether it
/// is in the UTF8 extension (RFC 6855 section 4), so that a parenthesis follows it.
pub fn parse_append_next(head: &[u8]) -> Result<(AppendFacts, bool), &'static str> {
    let mut words = Words::new(head, Names::default());
    let facts = mailbox::append_message(&mut words)?;
    let utf8 = mailbox::utf8_extension(&mut words)?;
    if words.rest().is_empty() { Ok((facts, utf8)) } else { Err("a literal is misplaced") }
}

fn tagged(
    command: &[u8],
    names: Names,
    decode: impl FnOnce(&mut Words<'_>) -> Result<Command, Wrong>,
) -> Result<Tagged, BadCommand> {
    let mut words = Words::new(command, names);
    let bad = |text: Wrong| BadCommand { tag: tag_of(command), text: text.to_owned() };
    let tag = words.tag().map_err(bad)?;
    words.space().map_err(|_| bad("a command is missing"))?;
    Ok(Tagged { tag, command: decode(&mut words).map_err(bad)? })
}

/// A command by its name; reads its arguments.
fn by_name(name: &str, words: &mut Words<'_>) -> Result<Command, Wrong> {
    match name {
        "CAPABILITY" => Ok(Command::Capability),
        "NOOP" => Ok(Command::Noop),
        "LOGOUT" => Ok(Command::Logout),
        "STARTTLS" => Ok(Command::StartTls),
        // command-auth =/ "UNAUTHENTICATE" (RFC 8437)
        "UNAUTHENTICATE" => Ok(Command::Unauthenticate),
        "NAMESPACE" => Ok(Command::Namespace),
        "IDLE" => Ok(Command::Idle),
        "CHECK" => Ok(Command::Check),
        "CLOSE" => Ok(Command::Close),
        "UNSELECT" => Ok(Command::Unselect),
        "EXPUNGE" => Ok(Command::Expunge),
        "ID" => arguments(words, id),
        "LOGIN" => arguments(words, login),
        "AUTHENTICATE" => arguments(words, authenticate),
        // compress = "COMPRESS" SP algorithm (RFC 4978)
        "COMPRESS" => arguments(words, |words| Ok(Command::Compress(words.atom()?.to_ascii_uppercase()))),
        "ENABLE" => enable(words),
        "LANGUAGE" => language(words),
        "SELECT" => arguments(words, |words| mailbox::select(words, false)),
        "EXAMINE" => arguments(words, |words| mailbox::select(words, true)),
        "CREATE" => arguments(words, mailbox::create),
        "DELETE" => arguments(words, |words| mailbox::mailbox(words).map(Command::Delete)),
        "RENAME" => arguments(words, mailbox::rename),
        "SUBSCRIBE" => arguments(words, |words| Ok(Command::Subscribe(mailbox::mailbox(words)?, true))),
        "UNSUBSCRIBE" => arguments(words, |words| Ok(Command::Subscribe(mailbox::mailbox(words)?, false))),
        "LIST" => arguments(words, mailbox::list),
        "LSUB" => arguments(words, mailbox::lsub),
        "STATUS" => arguments(words, mailbox::status),
        "ESEARCH" => arguments(words, find::esearch),
        "NOTIFY" => arguments(words, notify::notify),
        "UID" => arguments(words, uid),
        _ => on_messages(name, words, false)
            .or_else(|| access(name, words))
            .or_else(|| metadata(name, words))
            .unwrap_or(Err("there is no such command")),
    }
}

/// `uid = "UID" SP (copy / fetch / search / store)`; `uid-expunge = "UID" SP "EXPUNGE" SP sequence-set` (RFC 4315);
/// RFC 7377 section 2 shows ESEARCH behind UID too, although its grammar has it alone.
fn uid(words: &mut Words<'_>) -> Result<Command, Wrong> {
    match words.keyword().as_str() {
        "EXPUNGE" => arguments(words, |words| words.sequence_set().map(Command::UidExpunge)),
        "ESEARCH" => arguments(words, find::esearch),
        "REPLACE" => Err("REPLACE wants a literal"),
        name => on_messages(name, words, true).unwrap_or(Err("there is no such UID command")),
    }
}

fn on_messages(name: &str, words: &mut Words<'_>, uid: bool) -> Option<Result<Command, Wrong>> {
    Some(match name {
        "SEARCH" => arguments(words, |words| search::search(words, uid)),
        "SORT" => arguments(words, |words| find::sort(words, uid)),
        "THREAD" => arguments(words, |words| find::thread(words, uid)),
        "FETCH" => arguments(words, |words| message::fetch(words, uid)),
        "STORE" => arguments(words, |words| message::store(words, uid)),
        "COPY" => arguments(words, |words| message::copy(words, uid, false)),
        "MOVE" => arguments(words, |words| message::copy(words, uid, true)),
        _ => return None,
    })
}

fn arguments<'a>(
    words: &mut Words<'a>,
    read: impl FnOnce(&mut Words<'a>) -> Result<Command, Wrong>,
) -> Result<Command, Wrong> {
    words.space().map_err(|_| "arguments are missing")?;
    read(words)
}

/// `login = "LOGIN" SP userid SP password`; `userid = astring`; `password = astring`
fn login(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let login = words.text()?;
    words.space()?;
    Ok(Command::Login { login, password: Password::new(words.text()?) })
}

/// `authenticate = "AUTHENTICATE" SP auth-type [SP (base64 / "=")]` (RFC 4959)
fn authenticate(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let mechanism = words.atom()?.to_ascii_uppercase();
    words.spaces();
    let initial = if words.rest().is_empty() { None } else { Some(words.astring()?.into_owned()) };
    Ok(Command::Authenticate { mechanism, initial })
}

/// `enable = "ENABLE" 1*(SP capability)` (RFC 5161)
fn enable(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let mut capabilities = Vec::new();
    while words.spaces() && !words.rest().is_empty() {
        capabilities.push(words.atom()?.to_ascii_uppercase());
    }
    if capabilities.is_empty() { Err("arguments are missing") } else { Ok(Command::Enable(capabilities)) }
}

/// `language-cmd = "LANGUAGE" *(SP lang-range-quoted)`; `lang-range-quoted = astring` (RFC 5255)
fn language(words: &mut Words<'_>) -> Result<Command, Wrong> {
    let mut ranges = Vec::new();
    while words.spaces() && !words.rest().is_empty() {
        if ranges.len() >= LANGUAGES_MAX {
            return Err("the list is too long");
        }
        ranges.push(words.text()?);
    }
    Ok(Command::Language(ranges))
}

/// `id = "ID" SP id-params-list`; `id-params-list = "(" *(string SP nstring) ")" / nil` (RFC 2971)
fn id(words: &mut Words<'_>) -> Result<Command, Wrong> {
    if words.eat_text("NIL") {
        return Ok(Command::Id(Vec::new()));
    }
    let short = |text: String| if text.len() > ID_VALUE_OCTETS_MAX { Err("a value is too long") } else { Ok(text) };
    let pairs = words.list(ID_PAIRS_MAX, |words| {
        let field = utf8(words.string()?).and_then(short)?;
        words.space()?;
        let value = words.nstring()?.map(|value| utf8(value).and_then(short)).transpose()?;
        Ok((field, value))
    })?;
    Ok(Command::Id(pairs))
}
