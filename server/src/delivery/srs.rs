//! The sender of mail that is sent on elsewhere (the Sender Rewriting Scheme).
//!
//! The SPF record of a stranger's domain does not name us, so what we send on is sent by an address of ours that has the
//! stranger's inside, with its day and a seal:
//!
//! ```text
//! SRS0=seal=day=domain=local@ours     what comes from the sender itself
//! SRS1=seal=host=rest@ours            what host has rewritten before us: rest is what stood behind its SRS0
//! ```
//!
//! Bounces come back to it and go on to the stranger; with a wrong seal, or when it is older than [`DAYS_MAX`], it is
//! nobody's address. Everything but the seal's own letters is compared without case: some servers change it.

use rockdove_engine::Engine;
use rockdove_smtp::Address;

/// Days for which bounces come back: other servers give up after five, and a report may be late.
const DAYS_MAX: u32 = 21;
/// Days are counted up to here and from 0 again.
const DAYS: u32 = 1_024;
/// What the key is for; with another text it would be another key.
const PURPOSE: &str = "rockdove sender rewriting 1";
/// Octets of a local part that our own RCPT takes back.
const LOCAL_OCTETS_MAX: usize = 256;
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The sender of mail that an address of the domain `ours` sends on; `None` when the sender is one of us, or would not
/// fit.
pub(super) fn rewritten(engine: &Engine, sender: &Address, ours: &str, unix_s: i64) -> Option<Address> {
    if engine.directory().is_local_domain(&sender.domain) {
        return None;
    }
    let local = rewritten_local(&engine.secret(PURPOSE), sender, day(unix_s));
    (local.len() <= LOCAL_OCTETS_MAX).then(|| Address { local, domain: ours.to_owned() })
}

/// Whether an address has the form of one that we have written: nobody else is to be asked about it.
pub fn is_rewritten(address: &Address) -> bool {
    tagged(&address.local).is_some()
}

/// What an address of ours stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Returned {
    /// It is an address like others.
    Ordinary,
    /// This sender, whose mail we have sent on.
    To(Address),
    /// Nobody: the seal is wrong, or it is too old.
    Nobody,
}

/// What an address stands for, if it is one that we have written.
pub(super) fn returned(engine: &Engine, address: &Address, unix_s: i64) -> Returned {
    let Some((kind, rest)) = tagged(&address.local) else { return Returned::Ordinary };
    if !engine.directory().is_local_domain(&address.domain) {
        return Returned::Ordinary;
    }
    original(&engine.secret(PURPOSE), kind, rest, day(unix_s)).map_or(Returned::Nobody, Returned::To)
}

fn day(unix_s: i64) -> u32 {
    u32::try_from(unix_s / 86_400).unwrap_or(0) % DAYS
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    First,
    Later,
}

/// The kind of a rewritten local part, and what follows with its separator.
fn tagged(local: &str) -> Option<(Kind, &str)> {
    let (tag, rest) = local.split_at_checked(4)?;
    let kind = match tag.to_ascii_uppercase().as_str() {
        "SRS0" => Kind::First,
        "SRS1" => Kind::Later,
        _ => return None,
    };
    rest.starts_with(['=', '-', '+']).then_some((kind, rest))
}

fn rewritten_local(key: &[u8; 32], sender: &Address, day: u32) -> String {
    let again = match tagged(&sender.local) {
        Some((Kind::First, rest)) => Some(format!("{}={rest}", sender.domain)),
        // What another has rewritten again goes back to the first of all directly.
        Some((Kind::Later, rest)) => {
            rest.get(1..).and_then(|rest| rest.split_once('=')).map(|(_, body)| body.to_owned())
        }
        None => None,
    };
    if let Some(body) = again {
        return format!("SRS1={}={body}", seal(key, &body));
    }
    let body = format!("{}={}={}", letters(day, 2), sender.domain, sender.local);
    format!("SRS0={}={body}", seal(key, &body))
}

fn original(key: &[u8; 32], kind: Kind, rest: &str, today: u32) -> Option<Address> {
    let (given, body) = rest.get(1..)?.split_once('=')?;
    // Hashes are compared in constant time.
    if blake3::hash(given.to_ascii_uppercase().as_bytes()) != blake3::hash(seal(key, body).as_bytes()) {
        return None;
    }
    let (first, behind) = body.split_once('=')?;
    match kind {
        Kind::First => {
            let age = (today + DAYS).checked_sub(number(first)?)? % DAYS;
            let (domain, local) = behind.split_once('=')?;
            (age <= DAYS_MAX).then(|| Address { local: local.to_owned(), domain: domain.to_owned() })
        }
        Kind::Later => Some(Address { local: format!("SRS0{behind}"), domain: first.to_owned() }),
    }
}

/// Forty bits: nobody tries so many recipients.
fn seal(key: &[u8; 32], body: &str) -> String {
    let hash = blake3::keyed_hash(key, body.to_lowercase().as_bytes());
    let bits = hash.as_bytes().iter().take(5).fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
    (0..8).rev().map(|place| letter(bits >> (5 * place))).collect()
}

fn letter(bits: u64) -> char {
    char::from(LETTERS[usize::from(bits.to_le_bytes()[0] & 31)])
}

fn letters(number: u32, count: u32) -> String {
    (0..count).rev().map(|place| letter(u64::from(number) >> (5 * place))).collect()
}

fn number(letters: &str) -> Option<u32> {
    let value = |octet: u8| LETTERS.iter().position(|letter| *letter == octet.to_ascii_uppercase());
    let add = |sum: u32, octet: u8| Some(sum * 32 + u32::try_from(value(octet)?).ok()?);
    (letters.len() == 2).then(|| letters.bytes().try_fold(0, add))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    fn back(local: &str, today: u32) -> Option<Address> {
        let (kind, rest) = tagged(local).expect("rewritten");
        original(&KEY, kind, rest, today)
    }

    #[test]
    fn a_sender_comes_back_for_a_while() {
        for sender in ["a@b.example", "a=b-c+d@b.example", "\"a b\"@b.example", "j\u{f6}rg@b.example"] {
            let sender = address(sender);
            for day in [0, 5, 1_010, 1_023] {
                let local = rewritten_local(&KEY, &sender, day);
                assert!(local.starts_with("SRS0="), "{local}");
                for age in [0, 1, DAYS_MAX] {
                    assert_eq!(back(&local, (day + age) % DAYS), Some(sender.clone()));
                }
                assert_eq!(back(&local, (day + DAYS_MAX + 1) % DAYS), None, "too old");
                assert_eq!(back(&local, (day + DAYS - 1) % DAYS), None, "from tomorrow");
            }
        }
    }

    #[test]
    fn case_may_change_and_nothing_else() {
        let local = rewritten_local(&KEY, &address("Ann@B.example"), 9);
        assert!(back(&local.to_lowercase(), 9).is_some());
        assert_eq!(rewritten_local(&[8; 32], &address("Ann@B.example"), 9)[14..], local[14..], "only the seal differs");
        for (at, _) in local.char_indices().skip(5) {
            let mut other = local.clone();
            other.replace_range(at..=at, if &local[at..=at] == "x" { "y" } else { "x" });
            assert_ne!(back(&other, 9), Some(address("Ann@B.example")), "{other}");
        }
        for broken in ["SRS0=", "SRS0==", "SRS0=AAAA", "SRS1=AAAA=b", "SRS0=AAAAAAAA=AJ=b.example=a"] {
            assert_eq!(back(broken, 9), None, "{broken}");
        }
        assert_eq!(tagged("SRS0"), None);
        assert_eq!(tagged("srs0x=a"), None);
        assert_eq!(tagged("\u{fc}\u{fc}SRS0"), None);
    }

    #[test]
    fn what_others_have_rewritten_goes_back_to_the_first() {
        let first = address("SRS0=HHHH=TT=b.example=a@one.example");
        let second = Address { local: rewritten_local(&KEY, &first, 1), domain: "two.example".into() };
        assert!(second.local.starts_with("SRS1=") && second.local.ends_with("=one.example==HHHH=TT=b.example=a"));
        assert_eq!(back(&second.local, 700), Some(first.clone()), "the first looks at its own day");
        let third = rewritten_local(&KEY, &second, 2);
        assert_eq!(back(&third, 2), Some(first));
        let dashed = address("SRS0-HH-TT-b.example-a@one.example");
        assert_eq!(back(&rewritten_local(&KEY, &dashed, 1), 1), Some(dashed));
    }
}
