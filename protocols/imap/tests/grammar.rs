//! What commands mean, as data: every file in `grammar/`.
//!
//! `C:` a command (`<crlf>`, `<cr>`, `<lf>` and `<hh>` stand for octets); `=` what it means, `!` with which words and tag
//! it is refused. A command without either is only to be understood.

use std::{fmt::Write, fs, path::Path};

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_imap::{
    command::{Command, Tagged},
    grammar::{BadCommand, Frame, Frames, Names, parse, parse_append},
};

fn octets(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        octets.extend_from_slice(&rest.as_bytes()[..at]);
        let inside = rest[at + 1..].split('>').next().expect("at least one");
        let stands_for = match inside {
            "crlf" => Some(vec![b'\r', b'\n']),
            "cr" => Some(vec![b'\r']),
            "lf" => Some(vec![b'\n']),
            _ if inside.len() == 2 => u8::from_str_radix(inside, 16).ok().map(|octet| vec![octet]),
            _ => None,
        };
        if let Some(some) = stands_for {
            octets.extend(some);
            rest = &rest[at + inside.len() + 2..];
        } else {
            octets.push(b'<');
            rest = &rest[at + 1..];
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    octets
}

/// The one command in these octets, framed and parsed.
fn understood(octets: &[u8]) -> Result<Tagged, BadCommand> {
    let mut frames = Frames::default();
    frames.push(Bytes::copy_from_slice(octets));
    frames.push(Bytes::from_static(b"\r\n"));
    loop {
        match frames.next().expect("a whole command") {
            Frame::Continue => {}
            Frame::Command(command) => return parse(&command, Names::default()),
            Frame::Append { head, .. } => return parse_append(&head, Names::default()),
            other => unreachable!("{other:?}"),
        }
    }
}

fn shown(result: &Result<Tagged, BadCommand>) -> String {
    match result {
        Ok(Tagged { command: Command::Id(pairs), .. }) => format!("= Id({pairs:?})"),
        Ok(tagged) => format!("= {:?}", tagged.command),
        Err(bad) => format!("! {} ({})", bad.text, bad.tag.as_deref().unwrap_or("no tag")),
    }
}

#[test]
fn commands_mean_what_the_tables_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grammar");
    let (mut wrong, mut count) = (String::new(), 0);
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let text = fs::read_to_string(&path).expect("file");
        let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("C: ").or_else(|| (line == "C:").then_some("")) else {
                unreachable!("{}: {line}", path.display())
            };
            let result = understood(&octets(command));
            let got = shown(&result);
            count += 1;
            let want = lines.next_if(|line| !line.starts_with("C:"));
            if want.map_or(result.is_err(), |want| want != got) {
                writeln!(wrong, "{}\n{line}\n{got}\n", path.display()).expect("a string");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 300, "only {count} commands");
}

#[test]
fn passwords_are_what_was_written() {
    let mut cases: Vec<(&[u8], &str)> = Vec::new();
    cases.push((b"secret", "secret"));
    cases.push((b"\"se\\\"cr\\\\et\\x\"", "se\"cr\\et\\x"));
    cases.push((b"\"\"", ""));
    cases.push((b"{6+}\r\na\r\nb\"c", "a\r\nb\"c"));
    cases.push((b"p]a%s*s\\", "p]a%s*s\\"));
    cases.push((b"NIL", "NIL"));
    cases.push(("\"größe\"".as_bytes(), "größe"));
    for (written, meant) in cases {
        let tagged = understood(&[b"a LOGIN ann ", written].concat()).expect("good");
        let Command::Login { password, .. } = tagged.command else { unreachable!("not a login") };
        assert_eq!(password.as_str(), meant);
    }
}

#[test]
fn tags_come_back() {
    for tag in ["a", "A001", "a.b", "a]b", "1"] {
        assert_eq!(understood(format!("{tag} NOOP").as_bytes()).expect("good").tag, tag);
    }
    assert!(understood(format!("{} NOOP", "a".repeat(128)).as_bytes()).is_ok());
    assert_eq!(understood(format!("{} NOOP", "a".repeat(129)).as_bytes()).expect_err("too long").tag, None);
}

#[test]
fn limits_hold() {
    let cases = [
        ("a FETCH 1 (", "UID ", 512, ")"),
        ("a FETCH 1 BODY[", "1.", 128, "HEADER]"),
        ("a SEARCH ", "ALL ", 2_048, ""),
        ("a SEARCH ", "NOT ", 255, "ALL"),
        ("a STORE 1 FLAGS (", "k ", 256, ")"),
        ("a ID (", "\"k\" NIL ", 30, ")"),
        ("a LIST \"\" (", "% ", 256, ")"),
    ];
    for (before, repeated, most, after) in cases {
        let command = |times: usize| format!("{before}{}{after}", repeated.repeat(times));
        assert!(understood(command(most).as_bytes()).is_ok(), "{most} times {repeated}");
        assert!(understood(command(most + 1).as_bytes()).is_err(), "{most} times {repeated} and one more");
    }
    let deep = |levels: usize| format!("a SEARCH {}ALL{}", "(".repeat(levels), ")".repeat(levels));
    assert!(understood(deep(255).as_bytes()).is_ok());
    assert!(understood(deep(30_000).as_bytes()).is_err());
}

fn likely() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"a ",
        b"UID ",
        b"FETCH ",
        b"STORE ",
        b"SEARCH ",
        b"LIST ",
        b"APPEND ",
        b"SELECT ",
        b"ID ",
        b"CREATE ",
        b"1:*,3 ",
        b"(",
        b")",
        b"[",
        b"]",
        b"<0.1>",
        b"{3+}\r\nabc",
        b"{0}\r\n",
        b"{9}\r\n",
        b"\"",
        b"\\",
        b"\"q\" ",
        b"BODY.PEEK[",
        b"HEADER.FIELDS ",
        b"1.",
        b"FLAGS ",
        b"+FLAGS.SILENT ",
        b"\\Seen ",
        b"CHANGEDSINCE ",
        b"OR ",
        b"NOT ",
        b"TEXT ",
        b"BEFORE ",
        b"1-Jan-2020 ",
        b"RETURN ",
        b"STATUS ",
        b"&AOQ-",
        b"&",
        b"*",
        b"\xff",
        b"\0",
        b" ",
        b"\r",
        b"\n",
        b"99999999999999999999 ",
        b"USE ",
        b"MODSEQ ",
    ];
    let word = prop_oneof![8 => prop::sample::select(words).prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec(word, 0..20).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn nothing_panics(command in likely()) {
        for bad in [parse(&command, Names::default()).err(), parse_append(&command, Names::default()).err()].into_iter().flatten() {
            prop_assert!(!bad.text.is_empty());
            prop_assert!(bad.tag.is_none_or(|tag| command.starts_with(tag.as_bytes())));
        }
    }
}
