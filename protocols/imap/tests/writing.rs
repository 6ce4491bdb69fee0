//! What is written: names, strings, flags, sets, numbers; and LIST patterns.

use proptest::prelude::*;
use rockdove_imap::{
    Numbers,
    command::{Command, SequenceSet},
    grammar::{Names, matches, parse, write},
};
use rockdove_mail::{Flags, Keyword, MailboxName, SystemFlags, UidSet};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn mailbox_names() {
    for (name, want) in [
        ("INBOX", "INBOX"),
        ("work/2026", "work/2026"),
        ("Sent Mail", "\"Sent Mail\""),
        ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ("R&D", "R&-D"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("日本語/台北", "&ZeVnLIqe-/&U,BTFw-"),
        ("😀", "&2D3eAA-"),
        ("a(b", "\"a(b\""),
        ("nil", "\"nil\""),
        ("", "\"\""),
    ] {
        assert_eq!(written(|out| write::mailbox_name(out, name, Names::ModifiedUtf7)), want);
    }
    for (name, want) in [
        ("INBOX", "INBOX"),
        ("R&D", "R&D"),
        ("Entw&APw-rfe", "Entw&APw-rfe"),
        ("日本語/台 \"北", "\"日本語/台 \\\"北\""),
        ("NIL", "\"NIL\""),
    ] {
        assert_eq!(written(|out| write::mailbox_name(out, name, Names::Utf8)), want);
    }
}

#[test]
fn strings() {
    let long = "x".repeat(1025);
    for (text, want) in [
        ("", "\"\"".to_owned()),
        ("a b", "\"a b\"".to_owned()),
        ("a\"\\", "\"a\\\"\\\\\"".to_owned()),
        ("a\r\nb", "{4}\r\na\r\nb".to_owned()),
        ("ä", "{2}\r\nä".to_owned()),
        ("a\0b\r", "{4}\r\na b\r".to_owned()),
        (&long, format!("{{1025}}\r\n{long}")),
    ] {
        assert_eq!(written(|out| write::quoted_or_literal(out, text.as_bytes())), want);
    }
    assert_eq!(written(|out| write::nstring(out, None)), "NIL");
    assert_eq!(written(|out| write::nstring(out, Some(b"NIL"))), "\"NIL\"");
    assert_eq!(written(|out| write::astring(out, b"a]b")), "\"a]b\"");
}

#[test]
fn flags_sets_and_numbers() {
    let keyword = |name| Keyword::new(name).expect("a keyword");
    let mut flags = Flags::system(SystemFlags::ALL);
    flags.keywords = vec![keyword("$Junk"), keyword("b")];
    let want = "(\\Answered \\Flagged \\Deleted \\Seen \\Draft \\Recent $Junk b)";
    assert_eq!(written(|out| write::flag_list(out, &flags, true)), want);
    assert_eq!(written(|out| write::flag_list(out, &Flags::default(), false)), "()");
    assert_eq!(written(|out| write::flag_list(out, &Flags::default(), true)), "(\\Recent)");
    let uids: UidSet = [1, 2, 3, 5, 7, 8, u32::MAX].into_iter().collect();
    assert_eq!(written(|out| write::uid_set(out, &uids)), "1:3,5,7:8,4294967295");
    assert_eq!(written(|out| write::uid_set(out, &UidSet::new())), "");
    assert_eq!(written(|out| write::numbers(out, [1, 20, 300])), "1 20 300");
    for number in [0, 9, 10, u64::MAX] {
        assert_eq!(written(|out| write::number(out, number)), number.to_string());
    }
    assert_eq!(written(|out| write::date_time(out, (837_596_665, -420))), "\"17-Jul-1996 02:44:25 -0700\"");
}

#[test]
fn patterns() {
    for (pattern, name, want) in [
        ("*", "", true),
        ("*", "a/b/c", true),
        ("%", "a", true),
        ("%", "a/b", false),
        ("%/%", "a/b", true),
        ("%/%", "a/b/c", false),
        ("a*", "a/b/c", true),
        ("a%", "ab", true),
        ("a%", "ab/c", false),
        ("*c", "a/b/c", true),
        ("%c", "a/b/c", false),
        ("a/%/c", "a/b/c", true),
        ("*%", "a/b", true),
        ("%*", "a/b", true),
        ("%%", "a/b", false),
        ("*b*b", "abab", true),
        ("*b*b", "aba", false),
        ("a", "A", false),
        ("inbox", "INBOX", true),
        ("InBox/%", "INBOX/a", true),
        ("inbox/A", "INBOX/a", false),
        ("in%", "INBOX", true),
        ("inboxes", "INBOXES", false),
        ("", "a", false),
        ("", "", true),
        ("%ü", "Menü", true),
        ("abc", "ab", false),
    ] {
        assert_eq!(matches(pattern, name), want, "{pattern} on {name}");
    }
}

#[test]
fn hostile_patterns_take_no_time() {
    let name = "a".repeat(1000);
    assert!(!matches(&format!("{}b", "*a%a".repeat(499)), &name));
    assert!(!matches(&format!("{}b", "*%".repeat(32_000)), &name));
    assert!(matches(&"*%".repeat(32_000), &name));
}

/// What `matches` means, as simply as it can be said.
fn simply(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| simply(rest, &name[at..])),
        Some((b'%', rest)) => {
            (0..=name.len()).take_while(|at| !name[..*at].contains(&b'/')).any(|at| simply(rest, &name[at..]))
        }
        Some((octet, rest)) => name.first() == Some(octet) && simply(rest, &name[1..]),
    }
}

fn set(text: &str) -> SequenceSet {
    match parse(format!("a UID EXPUNGE {text}").as_bytes(), Names::default()).expect("a set").command {
        Command::UidExpunge(set) => set,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn sequence_sets() {
    let numbers = Numbers::new([3, 4, 5, 9, 11, 12].into_iter().collect());
    let uids = |text: &str| set(text).uids(&numbers).map(|uids| written(|out| write::uid_set(out, &uids)));
    for (text, want) in [
        ("1", "3"),
        ("1:2,3:4", "3:5,9"),
        ("*", "12"),
        ("*:1", "3:5,9,11:12"),
        ("6:5,1,1", "3,11:12"),
        ("2:*", "4:5,9,11:12"),
    ] {
        assert_eq!(uids(text), Ok(want.to_owned()), "{text}");
    }
    for text in ["7", "1:7", "1,4294967295"] {
        assert!(uids(text).is_err(), "{text}");
    }
    assert!(set("*").uids(&Numbers::default()).is_err());
    assert!(set("1:*").uids(&Numbers::default()).is_err());
    for (text, largest, want) in [
        ("5", None, "5"),
        ("5:*", Some(3), "3:5"),
        ("*", Some(3), "3"),
        ("1:*,7", None, "7"),
        ("9:7,8,1", Some(12), "1,7:9"),
        ("1:4294967295", Some(1), "1:4294967295"),
    ] {
        assert_eq!(written(|out| write::uid_set(out, &set(text).uid_set(largest))), want, "{text}");
    }
}

#[test]
fn values_of_annotations() {
    for (value, want) in [
        (None, "NIL"),
        (Some(&b""[..]), "\"\""),
        (Some(b"NIL"), "\"NIL\""),
        (Some(b"a\r\nb"), "{4}\r\na\r\nb"),
        (Some(b"a\0b"), "~{3}\r\na\0b"),
    ] {
        assert_eq!(written(|out| write::value(out, value)), want);
    }
}

proptest! {
    #[test]
    fn patterns_mean_what_they_say(pattern in "[ab/*%]{0,8}", name in "[ab/]{0,8}") {
        prop_assert_eq!(matches(&pattern, &name), simply(pattern.as_bytes(), name.as_bytes()));
    }

    #[test]
    fn names_come_back(name in "\\PC{1,40}", utf8 in any::<bool>()) {
        let names = if utf8 { Names::Utf8 } else { Names::ModifiedUtf7 };
        if let Ok(name) = MailboxName::new(&name) {
            let text = written(|out| write::mailbox_name(out, name.as_str(), names));
            prop_assert!(utf8 || text.is_ascii());
            let Command::Delete(Ok(back)) = parse(format!("a DELETE {text}").as_bytes(), names).expect("a command").command else {
                unreachable!("{text}")
            };
            prop_assert_eq!(back, name);
        }
    }

    #[test]
    fn numbers_and_uids(uids in prop::collection::btree_set(1u32..200, 0..60)) {
        let numbers = Numbers::new(uids.iter().copied().collect());
        prop_assert_eq!(numbers.exists() as usize, uids.len());
        for (number, uid) in (1..).zip(&uids) {
            prop_assert_eq!(numbers.uid(number), Some(*uid));
            prop_assert_eq!(numbers.number(*uid), Some(number));
        }
        prop_assert_eq!(numbers.uid(0), None);
        prop_assert_eq!(numbers.uid(numbers.exists() + 1), None);
        for uid in (1..200).filter(|uid| !uids.contains(uid)) {
            prop_assert_eq!(numbers.number(uid), None);
        }
    }
}
