//! Names of mailboxes as names of files, and back.
//!
//! Octets that a file name must not have stand as `%` and two hexadecimal digits. A level that cannot be written so (it
//! is too long, or differs only in case from another) gets a name that ends in `%~` and a number; what it is called in
//! truth is told beside.

use std::collections::{BTreeMap, BTreeSet};

/// Octets of one name; file systems take 255, and something is added to some.
const NAME_OCTETS_MAX: usize = 180;
/// Octets of a whole path within an export; systems take 4,096 with what is above it.
const PATH_OCTETS_MAX: usize = 1_500;
/// Endings that files of an export have themselves, or that mean something to a reader of one of the formats.
const ENDINGS: [&str; 4] = [".mbox", ".sbd", ".eml", ".json"];

/// A level as a file name. [`unescape`] is its inverse.
pub(super) fn escape(level: &str) -> String {
    let ends = ENDINGS.iter().find(|end| {
        let tail = level.len().checked_sub(end.len()).and_then(|at| level.get(at..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    });
    let dot = ends.map(|end| level.len() - end.len());
    let mut name = String::with_capacity(level.len());
    for (at, c) in level.char_indices() {
        let ends_badly = matches!(c, ' ' | '.') && at + 1 == level.len();
        if (c == '.' && (at == 0 || Some(at) == dot)) || ends_badly || is_special(c) {
            let mut octets = [0; 4];
            for octet in c.encode_utf8(&mut octets).bytes() {
                name.extend(["%", &format!("{octet:02X}")]);
            }
        } else {
            name.push(c);
        }
    }
    name
}

fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '%' | '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// The level that has this file name.
pub(super) fn unescape(name: &str) -> String {
    let name = name.rsplit_once("%~").filter(|(_, number)| is_number(number)).map_or(name, |(cut, _)| cut);
    let mut level = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(octet) = coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            level.push(octet);
            rest = after.get(2..).unwrap_or_default();
        } else {
            level.push(*first);
            rest = after;
        }
    }
    String::from_utf8(level).unwrap_or_else(|_| name.to_owned())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// Where a mailbox lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// The path, its parts joined by `/`.
    pub(super) path: String,
    /// Whether the path alone tells the name of the mailbox.
    pub(super) exact: bool,
}

/// Which mailbox lies where; no two in places that a file system could take for one.
#[derive(Default)]
pub(super) struct Folders {
    known: BTreeMap<Vec<String>, Folder>,
    taken: BTreeSet<String>,
}

impl Folders {
    /// The folder of a mailbox below those of the levels above it.
    pub(super) fn nested(&mut self, mailbox: &[String]) -> Folder {
        let mut folder = Folder { path: String::new(), exact: true };
        for depth in 1..=mailbox.len() {
            let prefix = mailbox.get(..depth).unwrap_or(mailbox);
            folder = if let Some(known) = self.known.get(prefix) {
                known.clone()
            } else {
                let wish = escape(prefix.last().map_or("", String::as_str));
                let made = self.take(&folder, &wish);
                self.known.insert(prefix.to_vec(), made.clone());
                made
            };
        }
        folder
    }

    /// The folder of a mailbox beside all others, by the name it would have if it could.
    pub(super) fn flat(&mut self, mailbox: &[String], wish: &str) -> Folder {
        if let Some(known) = self.known.get(mailbox) {
            return known.clone();
        }
        let made = self.take(&Folder { path: String::new(), exact: true }, wish);
        self.known.insert(mailbox.to_vec(), made.clone());
        made
    }

    fn take(&mut self, above: &Folder, wish: &str) -> Folder {
        let below = |name: &str| if above.path.is_empty() { name.to_owned() } else { format!("{}/{name}", above.path) };
        let path = below(wish);
        // A name of dots alone would be another folder; `escape` never writes one.
        let fits = !wish.is_empty() && wish.len() <= NAME_OCTETS_MAX && path.len() <= PATH_OCTETS_MAX;
        if fits && self.taken.insert(folded(&path)) {
            return Folder { path, exact: above.exact };
        }
        let mut octets = if path.len() <= PATH_OCTETS_MAX { wish.len().min(NAME_OCTETS_MAX) } else { 0 };
        while !wish.is_char_boundary(octets) {
            octets -= 1;
        }
        let stem = wish.get(..octets).unwrap_or_default();
        let mut number = 1_u64;
        loop {
            let path = below(&format!("{stem}%~{number}"));
            if self.taken.insert(folded(&path)) {
                return Folder { path, exact: false };
            }
            number += 1;
        }
    }
}

/// What file systems that know no case, and no composed characters, make of a name.
fn folded(path: &str) -> String {
    rockdove_mail::text::fold(path)
}
