//! Conversations of the client with servers of all kinds, in `tests/client/*.txt`, each run whole, octet by octet and
//! randomly cut. What the client sends and understands must not depend on how the octets arrived.
//!
//! `> command` is what the client is told to do, `C:` what it must send, `S:` what the server says, `=` what the client
//! must make of it. In `C:` and `S:` lines end with CRLF, `\0`, `\r`, `\n`, `\xNN` and `\\` are octets, and a `\` at the
//! end of a line takes its CRLF away.

use std::{fmt::Write as _, fs, path::Path};

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_imap::client::{AppendMessage, Body, Event, ImapClient, ListReturn, Untagged, levels};
use rockdove_mail::{SpecialUse, sasl_client::Credentials};

const LITERAL_OCTETS_MAX: u64 = 1000;

fn unescaped(text: &str) -> Vec<u8> {
    let (mut octets, mut rest) = (Vec::new(), text);
    while let Some((plain, after)) = rest.split_once('\\') {
        octets.extend_from_slice(plain.as_bytes());
        if after.is_empty() {
            return octets;
        }
        let (kind, tail) = after.split_at(1);
        rest = tail;
        match kind {
            "0" => octets.push(0),
            "r" => octets.push(b'\r'),
            "n" => octets.push(b'\n'),
            "\\" => octets.push(b'\\'),
            "x" => {
                octets.push(u8::from_str_radix(&tail[..2], 16).expect("two hexadecimal digits"));
                rest = &tail[2..];
            }
            other => panic!("\\{other} is not known"),
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    octets.extend_from_slice(b"\r\n");
    octets
}

/// Octets as the files write them, without the CRLF at the end.
fn escaped(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        match octet {
            b'\\' => text.push_str("\\\\"),
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            0 => text.push_str("\\0"),
            b' '..=b'~' => text.push(char::from(*octet)),
            other => write!(text, "\\x{other:02x}").expect("a string"),
        }
    }
    text
}

/// Does what a line tells: words are separated by spaces, `_` stands for a space within a word.
fn tell(client: &mut ImapClient, line: &str) {
    let words: Vec<String> = line.split(' ').map(|word| word.replace('_', " ")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if *words.as_slice() == ["tls"] {
        return client.tls_begins();
    }
    match *words.as_slice() {
        ["login", login, password] => client.login(login, password),
        ["plain", login, password] => client.authenticate(Credentials::Plain {
            authorize_as: String::new(),
            login: login.into(),
            password: password.into(),
        }),
        ["scram", login, password, nonce] => client.authenticate(Credentials::ScramSha256 {
            authorize_as: String::new(),
            login: login.into(),
            password: password.into(),
            nonce: nonce.into(),
        }),
        ["xoauth2", login, token] => {
            client.authenticate(Credentials::XOAuth2 { login: login.into(), token: token.into() })
        }
        ["external", authorize_as] => client.authenticate(Credentials::External { authorize_as: authorize_as.into() }),
        ["list", pattern] => client.list(pattern, ListReturn { subscribed: true, special_use: true }),
        ["lsub", pattern] => client.lsub(pattern),
        ["examine", name] => client.open(&unescaped(&format!("{name}\\")), true),
        ["select", name] => client.open(&unescaped(&format!("{name}\\")), false),
        ["status", name, items] => client.status(name.as_bytes(), items),
        ["fetch", set, items] => client.uid_fetch(set, items),
        ["create", name, special_use] => client.create(name.as_bytes(), SpecialUse::from_name(special_use)),
        ["subscribe", name] => client.subscribe(name.as_bytes()),
        ["append", name, ref rest @ ..] => {
            let message = |pair: &[&str]| AppendMessage {
                flags: pair[0].split_ascii_whitespace().map(str::to_owned).collect(),
                internal_date: Some((837_593_065, -420)),
                octets: unescaped(&format!("{}\\", pair[1])).into(),
            };
            client.append(name.as_bytes(), &rest.chunks(2).map(message).collect::<Vec<_>>())
        }
        [name] => client.simple(name),
        _ => panic!("{line}: not a command"),
    };
}

fn shown(event: &Event) -> String {
    match event {
        Event::Untagged(Untagged::Fetch(fetched)) => {
            let mut text = format!("fetch {}", fetched.number);
            let mut add = |what: &str, value: Option<String>| {
                if let Some(value) = value {
                    write!(text, " {what} {value}").expect("a string");
                }
            };
            add("uid", fetched.uid.map(|uid| uid.to_string()));
            add("flags", fetched.flags.as_ref().map(|flags| format!("({})", flags.join(" "))));
            add("date", fetched.internal_date.map(|date| format!("{date:?}")));
            add("size", fetched.size.map(|size| size.to_string()));
            add(
                "body",
                fetched.body.as_ref().map(|body| match body {
                    Body::Octets(octets) => format!("{:?}", escaped(octets)),
                    other => format!("{other:?}"),
                }),
            );
            text
        }
        Event::Untagged(Untagged::List(listed)) => {
            let what = if listed.lsub { "lsub" } else { "list" };
            let levels = levels(&listed.name, listed.delimiter);
            format!("{what} ({}) {:?} {levels:?}", listed.attributes.join(" "), escaped(&listed.name))
        }
        Event::Untagged(untagged) => format!("{untagged:?}"),
        Event::Done(done) => {
            let code = done.code.as_ref().map(|code| format!(" [{} {}]", code.name, code.argument)).unwrap_or_default();
            format!("{} {:?}{code} {}", done.tag, done.outcome, done.text)
        }
        Event::Greeting(greeting) => format!("{greeting:?}"),
    }
}

/// How long the next pieces are: all, one octet, or what a generator of small numbers says.
#[derive(Clone, Copy, Debug)]
enum Cuts {
    Whole,
    Single,
    Random(u32),
}

impl Cuts {
    fn next(&mut self, of: usize) -> usize {
        match self {
            Self::Whole => of,
            Self::Single => 1,
            Self::Random(state) => {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                of.min(usize::try_from(*state >> 27).expect("5 bits") + 1)
            }
        }
    }
}

/// Both sides' lines: what was told and said, and behind it what the client sent and understood.
fn heard(part: &str, mut cuts: Cuts) -> String {
    let mut client = ImapClient::new(LITERAL_OCTETS_MAX);
    let mut log = String::new();
    let mut lines = part.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(log, "{line}").expect("a string");
            tell(&mut client, command);
        } else if let Some(text) = line.strip_prefix("S: ") {
            writeln!(log, "{line}").expect("a string");
            let mut said = unescaped(text);
            // What one server sends at once is one piece when nothing is cut.
            while let Some(more) = lines.next_if(|line| line.starts_with("S: ")) {
                writeln!(log, "{more}").expect("a string");
                said.extend(unescaped(&more[3..]));
            }
            let mut events = Vec::new();
            while !said.is_empty() {
                let rest = said.split_off(cuts.next(said.len()));
                client.receive(Bytes::from(std::mem::replace(&mut said, rest)));
                loop {
                    match client.event() {
                        Ok(Some(event)) => events.push(format!("= {}\n", shown(&event))),
                        Ok(None) => break,
                        Err(error) => {
                            events.push(format!("= error: {error}\n"));
                            log.push_str(&events.concat());
                            return log;
                        }
                    }
                }
            }
            log.push_str(&events.concat());
        }
        let mut sent = Vec::new();
        while let Some(octets) = client.output() {
            sent.extend_from_slice(&octets);
        }
        let mut rest = sent.as_slice();
        while !rest.is_empty() {
            let end = rest.windows(2).position(|pair| pair == b"\r\n");
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            let open = if end.is_none() { "\\" } else { "" };
            writeln!(log, "C: {}{open}", escaped(line)).expect("a string");
            rest = after.get(2..).unwrap_or_default();
        }
    }
    log
}

#[test]
fn conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    let mut names: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("entry").path()).collect();
    names.sort();
    assert!(names.len() >= 6, "conversations are missing");
    for path in names {
        let text = fs::read_to_string(&path).expect("a conversation");
        for (number, part) in text.split("\n----").enumerate() {
            let part = part.trim_start_matches('-');
            let wanted: String = part
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .flat_map(|l| [l, "\n"])
                .collect();
            for cuts in [Cuts::Whole, Cuts::Single].into_iter().chain((0..8).map(Cuts::Random)) {
                let got = heard(part, cuts);
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                assert!(got == wanted, "{file} part {number}, {cuts:?}. It went:\n{got}\ninstead of:\n{wanted}");
            }
        }
    }
}

/// What a literal announces is not set aside before it has come, and too long a line is an end.
#[test]
fn memory_is_bounded() {
    let mut client = ImapClient::new(u64::MAX);
    client.receive(Bytes::from_static(b"* OK hi\r\n* 1 FETCH (BODY[] {18446744073709551615}\r\nabc"));
    assert!(matches!(client.event(), Ok(Some(Event::Greeting(_)))));
    assert_eq!(client.event(), Ok(None));
    assert!(client.in_the_middle());
    let mut client = ImapClient::new(1);
    client.receive(Bytes::from_static(b"* OK hi\r\n* SEARCH"));
    assert!(matches!(client.event(), Ok(Some(Event::Greeting(_)))));
    let more = Bytes::from(vec![b' '; 600_000]);
    client.receive(more.clone());
    assert_eq!(client.event(), Ok(None));
    client.receive(more);
    assert!(client.event().is_err());
}

/// Lists nested without end are refused without recursing after them.
#[test]
fn nesting_is_bounded() {
    let mut client = ImapClient::new(1);
    let line = format!("* OK hi\r\n* 1 FETCH (X {})\r\n", "(".repeat(500_000));
    client.receive(line.into());
    assert!(matches!(client.event(), Ok(Some(Event::Greeting(_)))));
    assert!(matches!(client.event(), Ok(Some(Event::Untagged(Untagged::Other(_))))));
}

proptest! {
    /// Whatever a server says, the client neither panics nor stops taking.
    #[test]
    fn total(lines in prop::collection::vec("(\\* [0-9]{0,3} ?(FETCH|LIST|OK|STATUS) |r1 OK|\\+ )?[ -~]{0,40}(\\{[0-9]{1,2}\\})?", 0..8)) {
        let mut client = ImapClient::new(40);
        client.receive(Bytes::from_static(b"* OK hi\r\n"));
        client.authenticate(Credentials::External { authorize_as: String::new() });
        client.receive((lines.join("\r\n") + "\r\n").into());
        while let Ok(Some(_)) = client.event() {
            while client.output().is_some() {}
        }
    }

    /// A name is the same after it has been written and read.
    #[test]
    fn names_come_back(names in prop::collection::vec("[^/\\x00-\\x1f]{1,8}", 1..4)) {
        let wire = ImapClient::wire_name(&names, Some('/'));
        prop_assert_eq!(levels(&wire, Some('/')), names);
    }
}
