//! What a message is judged by: words, pairs of words, addresses, hosts, names of files, and how it is built.
//!
//! The same octets always give the same tokens, so what was learned of a message can be taken back. Raise
//! [`VERSION`] when a message gives other tokens.

use std::collections::HashSet;

use rockdove_mail::{
    header,
    mime::{Content, Encoding, Kind, Part, Scanner, Skeleton},
    text,
};
use twox_hash::XxHash3_64;

/// Version of the tokens.
pub(crate) const VERSION: u8 = 1;

/// Octets of a message that are looked at. Mass mail is small; what lies behind costs time and tells little more.
pub const OCTETS_MAX: usize = 256 * 1024;

/// Different tokens of a message that count, the first ones. Half of all messages have fewer than 400.
pub const TOKENS_MAX: usize = 2_048;

/// Characters of a word.
const WORD_MIN: usize = 3;
const WORD_MAX: usize = 24;
/// Words of a header field that are looked at.
const FIELD_WORDS_MAX: usize = 64;
/// Characters of a link: hosts have at most 253.
const LINK_CHARACTERS_MAX: usize = 512;
/// Hosts of links in one part.
const LINKS_MAX: usize = 256;

/// Shows every token of a message to `note`, some of them more than once, until it answers false.
pub fn each(message: &[u8], note: &mut dyn FnMut(&str) -> bool) {
    let message = message.get(..OCTETS_MAX).unwrap_or(message);
    let mut scanner = Scanner::new();
    scanner.push(message);
    let skeleton = scanner.finish().skeleton;
    let mut tokens = Tokens { note, done: false, token: String::new() };
    tokens.header(message, &skeleton);
    for part in skeleton.parts() {
        if tokens.done {
            return;
        }
        tokens.part(message, part);
    }
}

/// The number of a token.
pub fn number(token: &str) -> u64 {
    XxHash3_64::oneshot(token.as_bytes())
}

/// The tokens of a message as numbers, each once, at most [`TOKENS_MAX`].
pub fn numbers(message: &[u8]) -> Vec<u64> {
    let mut seen = HashSet::new();
    let mut numbers = Vec::new();
    each(message, &mut |token| {
        let number = number(token);
        if seen.insert(number) {
            numbers.push(number);
        }
        numbers.len() < TOKENS_MAX
    });
    numbers.sort_unstable();
    numbers
}

struct Tokens<'n> {
    note: &'n mut dyn FnMut(&str) -> bool,
    /// Enough of them.
    done: bool,
    token: String,
}

impl Tokens<'_> {
    fn put(&mut self, pieces: &[&str]) {
        if self.done {
            return;
        }
        self.token.clear();
        self.token.extend(pieces.iter().copied());
        self.done = !(self.note)(&self.token);
    }

    fn header(&mut self, message: &[u8], skeleton: &Skeleton) {
        let block = octets(message, &skeleton.root().header);
        for field in header::iter(block) {
            let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
            let value = || header::decode_words(&header::unfold(field.value));
            match name.as_str() {
                "subject" => self.subject(&value()),
                "from" | "reply-to" => self.address(&name, &value()),
                "to" | "cc" => self.recipients(&name, &value()),
                "x-mailer" | "user-agent" => self.words("mailer", &value()),
                "message-id" => self.message_id(&value()),
                _ => {}
            }
        }
        for name in EXPECTED {
            if !header::iter(block).any(|field| field.is(name)) {
                self.put(&["no:", name]);
            }
        }
    }

    fn subject(&mut self, subject: &str) {
        self.words("subject", &text::fold(subject));
        let letters = subject.chars().filter(|letter| letter.is_alphabetic()).count();
        let capitals = subject.chars().filter(|letter| letter.is_uppercase()).count();
        if letters >= 8 && capitals * 10 > letters * 8 {
            self.put(&["subject:is in capitals"]);
        }
        for mark in ['!', '?', '$', '%'] {
            if subject.contains(mark) {
                self.put(&["subject:has ", mark.encode_utf8(&mut [0; 4])]);
            }
        }
        if subject.contains("    ") {
            self.put(&["subject:has a gap"]);
        }
    }

    /// Words of a field and pairs of them.
    fn words(&mut self, kind: &str, value: &str) {
        let mut before = "";
        for word in value.split_whitespace().take(FIELD_WORDS_MAX).map(trimmed).filter(|word| !word.is_empty()) {
            let word = word.get(..64).unwrap_or(word);
            self.put(&[kind, ":", word]);
            if !before.is_empty() {
                self.put(&[kind, ":", before, " ", word]);
            }
            before = word;
        }
    }

    fn address(&mut self, kind: &str, value: &str) {
        let value = text::fold(value);
        for word in value.split_whitespace().take(FIELD_WORDS_MAX).map(trimmed).filter(|word| !word.is_empty()) {
            match word.rsplit_once('@') {
                Some((_, domain)) => {
                    self.put(&[kind, ":", word]);
                    self.domain(kind, domain);
                }
                None => self.put(&[kind, ":", word]),
            }
        }
    }

    /// A domain and those above it.
    fn domain(&mut self, kind: &str, domain: &str) {
        let mut rest = domain.trim_matches('.');
        for _ in 0..4 {
            self.put(&[kind, "@", rest]);
            match rest.split_once('.') {
                Some((_, above)) => rest = above,
                None => break,
            }
        }
    }

    fn recipients(&mut self, kind: &str, value: &str) {
        let count = value.matches('@').count();
        let count = match count {
            0 => "none",
            1 => "one",
            2..=5 => "few",
            _ => "many",
        };
        self.put(&[kind, ":", count]);
    }

    fn message_id(&mut self, value: &str) {
        let Some((left, domain)) = value.trim_matches(['<', '>']).rsplit_once('@') else {
            return self.put(&["id:without domain"]);
        };
        self.domain("id", &domain.to_ascii_lowercase());
        let shape: String = left.chars().take(24).map(shape).collect();
        self.put(&["id:", &shape]);
    }

    fn part(&mut self, message: &[u8], part: &Part) {
        let content = Content::of_header(octets(message, &part.header));
        let kind = |octets: &[u8]| String::from_utf8_lossy(octets).to_ascii_lowercase();
        self.put(&["part:", &kind(&content.media_type), "/", &kind(&content.subtype)]);
        if let Some(charset) = content.parameters.get("charset") {
            self.put(&["charset:", &kind(charset)]);
        }
        if part.kind == Kind::Leaf {
            self.put(&["encoding:", encoding(part.encoding)]);
        }
        if let Some(name) = content.file_name() {
            let name = text::fold(&name);
            self.put(&["file:", &name]);
            if let Some((_, extension)) = name.rsplit_once('.') {
                self.put(&["file:.", extension]);
            }
        }
        if let Some(written) = text::written(message, part) {
            if written.html {
                self.markup(&written.text);
            }
            self.text(&written.shown());
        }
    }

    /// The hosts that HTML leads to. Its tags tell less than they mislead: wanted mass mail has the same.
    fn markup(&mut self, html: &str) {
        for (at, scheme_end) in html.match_indices("://").take(LINKS_MAX) {
            let rest = html.get(at + scheme_end.len()..).unwrap_or_default();
            self.link(beginning_of_link(rest));
        }
    }

    /// A link without its scheme.
    fn link(&mut self, link: &str) {
        let link = link.to_lowercase();
        let (place, path) = link.split_once(['/', '?', '#']).unwrap_or((&link, ""));
        let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
        let (host, port) = host.split_once(':').unwrap_or((host, ""));
        if host.is_empty() {
            return;
        }
        if !port.is_empty() {
            self.put(&["link:has a port"]);
        }
        if host.starts_with(|first: char| first.is_ascii_digit()) && host.ends_with(|last: char| last.is_ascii_digit())
        {
            self.put(&["link:is a number"]);
        }
        self.domain("link", host.get(..64).unwrap_or(host));
        for word in path.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.len() >= 3).take(8) {
            self.put(&["link:", word.get(..WORD_MAX).unwrap_or(word)]);
        }
    }

    fn text(&mut self, text: &str) {
        self.capitals(text);
        for word in text::fold(text).split_whitespace() {
            if self.done {
                return;
            }
            if let Some((_, link)) = word.split_once("://") {
                self.link(beginning_of_link(link));
                continue;
            }
            let word = trimmed(word);
            match word.chars().count() {
                0..WORD_MIN => {}
                WORD_MIN..=WORD_MAX => self.put(&[word]),
                length => self.long_word(word, length),
            }
        }
    }

    /// Words that are written in capitals.
    fn capitals(&mut self, text: &str) {
        for word in text.split_whitespace().map(trimmed) {
            let lower = word.chars().any(char::is_lowercase);
            if !lower && (4..=WORD_MAX).contains(&word.len()) && word.chars().any(char::is_uppercase) {
                self.put(&["capitals:", word]);
            }
        }
    }

    fn long_word(&mut self, word: &str, length: usize) {
        if let Some((_, domain)) = word.rsplit_once('@') {
            self.domain("mail", domain.get(..64).unwrap_or(domain));
        } else if word.is_ascii() {
            let length = (length / 10 * 10).min(100).to_string();
            self.put(&["long:", word.get(..1).unwrap_or_default(), &length]);
        } else {
            // A script without spaces: every two characters.
            let letters: Vec<char> = word.chars().take(512).collect();
            for pair in letters.windows(2) {
                self.put(&[&pair.iter().collect::<String>()]);
            }
        }
    }
}

/// Fields that an ordinary message has.
const EXPECTED: [&str; 6] = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version"];

fn octets<'m>(message: &'m [u8], range: &std::ops::Range<u64>) -> &'m [u8] {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(message.len());
    message.get(start..end).unwrap_or_default()
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Identity => "identity",
        Encoding::Base64 => "base64",
        Encoding::QuotedPrintable => "quoted-printable",
        Encoding::Unknown => "unknown",
    }
}

/// A word without the marks around it, but with those that say something.
fn trimmed(word: &str) -> &str {
    let mark = |letter: char| !letter.is_alphanumeric() && !matches!(letter, '$' | '!' | '%' | '€' | '£');
    word.trim_matches(mark)
}

fn shape(letter: char) -> char {
    match letter {
        'a'..='z' => 'a',
        'A'..='Z' => 'A',
        '0'..='9' => '9',
        other => other,
    }
}

/// A link up to where it ends in a text, or is long enough to be told from others.
fn beginning_of_link(text: &str) -> &str {
    let end = text.char_indices().take(LINK_CHARACTERS_MAX).find(|(_, letter)| !is_of_link(*letter));
    let end = end.or_else(|| text.char_indices().nth(LINK_CHARACTERS_MAX));
    text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or_default()
}

fn is_of_link(letter: char) -> bool {
    letter.is_alphanumeric() || ".-_/:@%?=&#~+".contains(letter)
}
