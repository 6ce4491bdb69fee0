//! The commands of the client. Each gives its tag; what is to be sent waits in [`ImapClient::output`].

use bytes::Bytes;
use rockdove_mail::{
    SpecialUse, date,
    sasl::encode_line,
    sasl_client::{ClientExchange, Credentials},
};

use super::conversation::{ImapClient, Tag};
use crate::grammar::{is_atom_char, write};

/// Octets that LITERAL- allows without asking (RFC 7888 section 5).
const LITERAL_MINUS_OCTETS_MAX: usize = 4096;

/// A message for APPEND.
#[derive(Clone, Debug)]
pub struct AppendMessage {
    /// Flags and keywords, as they are to stand there; `\Recent` and what is no atom are left out.
    pub flags: Vec<String>,
    /// Seconds since 1970 and the zone east of UTC in minutes.
    pub internal_date: Option<(i64, i16)>,
    /// The message.
    pub octets: Bytes,
}

/// What LIST is to tell beside the names (RFC 5258 section 3.2), where the server can.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListReturn {
    /// `\Subscribed`
    pub subscribed: bool,
    /// What a mailbox is for (RFC 6154).
    pub special_use: bool,
}

/// Whether this is a flag or keyword that can be written.
fn can_be_set(flag: &str) -> bool {
    let name = flag.strip_prefix('\\').unwrap_or(flag);
    !name.is_empty() && name.bytes().all(is_atom_char) && !flag.eq_ignore_ascii_case("\\Recent")
}

/// A command that is being written.
struct Writing {
    tag: Tag,
    text: Vec<u8>,
    asked_for: bool,
}

impl Writing {
    fn word(&mut self, word: &str) -> &mut Self {
        self.text.push(b' ');
        self.text.extend_from_slice(word.as_bytes());
        self
    }

    /// What was written so far is a part, and a literal follows.
    fn literal(&mut self, client: &mut ImapClient, octets: Bytes) {
        let free = client.has("LITERAL+") || client.has("LITERAL-") && octets.len() <= LITERAL_MINUS_OCTETS_MAX;
        // literal8 is for messages with NUL, which a literal cannot hold (RFC 3501 section 9, CHAR8).
        let binary = client.has("BINARY") && memchr::memchr(0, &octets).is_some();
        let head = format!("{}{{{}{}}}\r\n", if binary { "~" } else { "" }, octets.len(), if free { "+" } else { "" });
        self.text.extend_from_slice(head.as_bytes());
        client.push(self.tag, std::mem::take(&mut self.text), self.asked_for);
        client.push(self.tag, octets, !free);
        self.asked_for = false;
    }

    /// `astring`
    fn string(&mut self, client: &mut ImapClient, octets: &[u8]) {
        self.text.push(b' ');
        let quotable = octets.len() <= 1000 && octets.iter().all(|octet| matches!(octet, b' '..=b'~'));
        if quotable {
            write::quoted_or_literal(&mut self.text, octets);
        } else {
            self.literal(client, Bytes::copy_from_slice(octets));
        }
    }

    fn end(mut self, client: &mut ImapClient) -> Tag {
        self.text.extend_from_slice(b"\r\n");
        client.push(self.tag, self.text, self.asked_for);
        self.tag
    }
}

impl ImapClient {
    fn command(&mut self, name: &str) -> Writing {
        let tag = self.begin(None);
        Writing { tag, text: format!("{tag} {name}").into_bytes(), asked_for: false }
    }

    /// A command without arguments: CAPABILITY, NOOP, STARTTLS, CLOSE, LOGOUT.
    pub fn simple(&mut self, name: &str) -> Tag {
        self.command(name).end(self)
    }

    /// LOGIN: name and password as they are.
    pub fn login(&mut self, login: &str, password: &str) -> Tag {
        let mut writing = self.command("LOGIN");
        writing.string(self, login.as_bytes());
        writing.string(self, password.as_bytes());
        writing.end(self)
    }

    /// AUTHENTICATE, with an initial response where the server takes one (RFC 4959).
    pub fn authenticate(&mut self, credentials: Credentials) -> Tag {
        let mut exchange = ClientExchange::new(credentials);
        let mut line = format!("AUTHENTICATE {}", exchange.mechanism());
        if self.has("SASL-IR") {
            let initial = exchange.initial();
            line.push(' ');
            line.push_str(&if initial.is_empty() { "=".to_owned() } else { encode_line(&initial) });
        }
        let tag = self.begin(Some(exchange));
        self.push(tag, format!("{tag} {line}\r\n"), false);
        tag
    }

    /// LIST of all mailboxes that match; what cannot be told beside is not asked for.
    pub fn list(&mut self, pattern: &str, wanted: ListReturn) -> Tag {
        let mut writing = self.command("LIST \"\"");
        writing.string(self, pattern.as_bytes());
        let mut returned = Vec::new();
        if wanted.subscribed && self.has("LIST-EXTENDED") {
            returned.push("SUBSCRIBED");
        }
        if wanted.special_use && self.has("LIST-EXTENDED") && self.has("SPECIAL-USE") {
            returned.push("SPECIAL-USE");
        }
        if !returned.is_empty() {
            writing.word(&format!("RETURN ({})", returned.join(" ")));
        }
        writing.end(self)
    }

    /// LSUB: what is subscribed to.
    pub fn lsub(&mut self, pattern: &str) -> Tag {
        let mut writing = self.command("LSUB \"\"");
        writing.string(self, pattern.as_bytes());
        writing.end(self)
    }

    /// SELECT or, to change nothing, EXAMINE. The name as the server writes it.
    pub fn open(&mut self, mailbox: &[u8], read_only: bool) -> Tag {
        let mut writing = self.command(if read_only { "EXAMINE" } else { "SELECT" });
        writing.string(self, mailbox);
        writing.end(self)
    }

    /// STATUS with these items, such as `UIDVALIDITY UIDNEXT`.
    pub fn status(&mut self, mailbox: &[u8], items: &str) -> Tag {
        let mut writing = self.command("STATUS");
        writing.string(self, mailbox);
        writing.word(&format!("({items})"));
        writing.end(self)
    }

    /// UID FETCH of these items, such as `UID FLAGS BODY.PEEK[]`, of the messages of a `sequence-set`.
    pub fn uid_fetch(&mut self, set: &str, items: &str) -> Tag {
        self.command(&format!("UID FETCH {set} ({items})")).end(self)
    }

    /// CREATE; what the mailbox is for is told where the server can take it (RFC 6154 section 3).
    pub fn create(&mut self, mailbox: &[u8], special_use: Option<SpecialUse>) -> Tag {
        let mut writing = self.command("CREATE");
        writing.string(self, mailbox);
        if let Some(special_use) = special_use.filter(|_| self.has("CREATE-SPECIAL-USE")) {
            writing.word(&format!("(USE ({}))", special_use.name()));
        }
        writing.end(self)
    }

    /// SUBSCRIBE
    pub fn subscribe(&mut self, mailbox: &[u8]) -> Tag {
        let mut writing = self.command("SUBSCRIBE");
        writing.string(self, mailbox);
        writing.end(self)
    }

    /// APPEND of one message or, to servers with MULTIAPPEND (RFC 3502), of several: all are stored or none is.
    pub fn append(&mut self, mailbox: &[u8], messages: &[AppendMessage]) -> Tag {
        let mut writing = self.command("APPEND");
        writing.string(self, mailbox);
        for message in messages {
            let flags: Vec<&str> = message.flags.iter().map(String::as_str).filter(|flag| can_be_set(flag)).collect();
            writing.word(&format!("({}) ", flags.join(" ")));
            if let Some((unix_s, offset_minutes)) = message.internal_date {
                writing.text.extend_from_slice(date::imap(unix_s, offset_minutes).as_bytes());
                writing.text.push(b' ');
            }
            writing.literal(self, message.octets.clone());
        }
        writing.end(self)
    }

    /// A mailbox's name as it is written to a server: modified UTF-7, levels joined by its delimiter.
    pub fn wire_name(levels: &[String], delimiter: Option<char>) -> Vec<u8> {
        let delimiter = delimiter.map_or_else(String::new, String::from);
        let mut name = Vec::new();
        crate::grammar::utf7::encode(&mut name, &levels.join(&delimiter));
        name
    }
}
