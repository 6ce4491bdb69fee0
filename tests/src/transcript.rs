//! Conversations as data.
//!
//! Lines of a transcript: `C: text` is a line of the client with its CRLF (`\r \n \0 \\` and `\xHH` are octets,
//! `{60*x}` is repetition); `C> text` the same without CRLF; `S: text` a line of the server (`*` at the end matches
//! anything); `! tls` begins TLS, `! eof` closes the client's half, `! close` is the server closing; `----` begins the
//! next conversation over a new connection. Everything else is a comment.

use crate::{Door, Server, Wire};

/// Plays every conversation of a transcript at this listener.
pub fn play(server: &Server, door: Door, text: &str) {
    for (number, conversation) in text.split("\n----\n").enumerate() {
        let mut wire = server.connect(door);
        let mut burst = Vec::new();
        for line in conversation.lines() {
            let at = || format!("{door:?}, conversation {}, {line}", number + 1);
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            match kind {
                "C:" | "C>" => {
                    burst.extend(octets(rest));
                    if kind == "C:" {
                        burst.extend_from_slice(b"\r\n");
                    }
                }
                "S:" | "!" => {
                    send(&mut wire, &mut burst);
                    if kind == "S:" {
                        expect(&mut wire, rest, &at());
                    } else {
                        happen(server, &mut wire, rest, &at());
                    }
                }
                _ => {}
            }
        }
        send(&mut wire, &mut burst);
    }
}

/// Lines that belong together go out together.
fn send(wire: &mut Wire, burst: &mut Vec<u8>) {
    if !burst.is_empty() {
        // A server that closed has said why; the next line of the transcript expects it.
        drop(wire.try_send(&std::mem::take(burst)));
    }
}

fn expect(wire: &mut Wire, expected: &str, at: &str) {
    let line = wire.try_line().unwrap_or_else(|error| unreachable!("{at}: {error}"));
    let line = String::from_utf8_lossy(&line).into_owned();
    let same = match expected.strip_suffix('*') {
        Some(start) => line.starts_with(start),
        None => line == expected,
    };
    assert!(same, "{at}\n--- got\n{line}");
}

fn happen(server: &Server, wire: &mut Wire, what: &str, at: &str) {
    match what {
        "tls" => wire.secure(&server.certificate_path()).unwrap_or_else(|error| unreachable!("{at}: {error}")),
        "eof" => wire.half_close(),
        "close" => assert_eq!(wire.rest(), "", "{at}"),
        other => unreachable!("{other} means nothing: {at}"),
    }
}

/// Octets of a client line.
fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = match c {
            '\\' if tail.starts_with('x') => {
                out.push(u8::from_str_radix(&tail[1..3], 16).expect("hexadecimal"));
                &tail[3..]
            }
            '\\' => {
                out.push(match &tail[..1] {
                    "r" => b'\r',
                    "n" => b'\n',
                    "0" => 0,
                    other => other.as_bytes()[0],
                });
                &tail[1..]
            }
            '{' if tail.split_once('}').is_some_and(|(inside, _)| inside.contains('*')) => {
                let (inside, behind) = tail.split_once('}').expect("{count*text}");
                let (count, what) = inside.split_once('*').expect("{count*text}");
                let what = octets(what);
                for _ in 0..count.parse::<u32>().expect("a count") {
                    out.extend_from_slice(&what);
                }
                behind
            }
            _ => {
                out.extend_from_slice(c.to_string().as_bytes());
                tail
            }
        };
    }
    out
}
