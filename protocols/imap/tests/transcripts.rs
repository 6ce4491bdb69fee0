//! Runs every conversation in `tests/transcripts` in several chunkings: whole, byte by byte, and cut at random places, in
//! both directions. What is sent, and what the host is asked, must not depend on how the octets arrived.

mod host;

use std::{fs, path::Path};

use bytes::Bytes;
use host::{Cuts, Host, PASSWORD, SCRAM_SALT, check_transcript};
use proptest::prelude::*;
use rockdove_imap::{Answer, Ask, ImapSession, limits};
use rockdove_mail::{AskId, Input, Session, Step, sasl};

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder of transcripts")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    names.sort();
    assert!(names.len() >= 50, "transcripts are missing");
    for path in names {
        let text = fs::read_to_string(&path).expect("a transcript");
        // Conversations in one file are separated by lines of dashes.
        for (number, part) in text.split("\n----").enumerate() {
            let part = part.trim_start_matches('-');
            let name = format!("{} part {}", path.file_name().unwrap_or_default().to_string_lossy(), number + 1);
            for cuts in [Cuts::Whole, Cuts::Single].into_iter().chain((0..8).map(Cuts::Random)) {
                check_transcript(&name, part, cuts);
            }
        }
    }
}

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
}

/// A SCRAM-SHA-256 client (RFC 5802 section 3) with the salt and iteration count of the test host.
fn scram_final(password: &str, first_bare: &str, server_first: &str) -> String {
    let nonce = server_first.split(',').next().expect("a nonce");
    let mut salted = [0; 32];
    let rounds = std::num::NonZeroU32::new(4096).expect("not zero");
    ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, SCRAM_SALT, password.as_bytes(), &mut salted);
    let client_key = hmac(&salted, "Client Key");
    let stored_key = ring::digest::digest(&ring::digest::SHA256, &client_key);
    let without_proof = format!("c=biws,{nonce}");
    let signature = hmac(stored_key.as_ref(), &format!("{first_bare},{server_first},{without_proof}"));
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", sasl::encode_line(&proof))
}

/// The challenge in what was heard.
fn challenge(heard: &str) -> String {
    let line = heard.trim_end().strip_prefix("S: + ").expect("a challenge");
    String::from_utf8(sasl::decode_line(line.as_bytes()).expect("base64").expect("not *")).expect("text")
}

/// Logs in by SCRAM, with and without an initial response; gives back the last reply.
fn scram(password: &str, initial: bool, last: &str) -> String {
    let mut host = Host::new("", Cuts::Whole);
    let first = sasl::encode_line(b"n,,n=ann,r=rOprNGfwEbeRWgbNEkqO");
    let heard = if initial {
        host.hear(&format!("a AUTHENTICATE SCRAM-SHA-256 {first}\r\n"))
    } else {
        assert_eq!(host.hear("a AUTHENTICATE SCRAM-SHA-256\r\n"), "S: + \n");
        host.hear(&format!("{first}\r\n"))
    };
    let server_first = challenge(&heard);
    let answer = scram_final(password, "n=ann,r=rOprNGfwEbeRWgbNEkqO", &server_first);
    let heard = host.hear(&format!("{}\r\n", sasl::encode_line(answer.as_bytes())));
    if !heard.starts_with("S: + ") {
        return heard;
    }
    assert!(challenge(&heard).starts_with("v="));
    host.hear(last)
}

#[test]
fn scram_sha_256() {
    for initial in [true, false] {
        assert!(scram(PASSWORD, initial, "\r\n").starts_with("H: scram ann true\nS: a OK [CAPABILITY "));
        assert!(scram("pencils", initial, "").starts_with("H: scram ann false\nS: a NO [AUTHENTICATIONFAILED]"));
        assert_eq!(scram(PASSWORD, initial, "*\r\n"), "S: a BAD the exchange is cancelled\n");
        assert_eq!(scram(PASSWORD, initial, "eA==\r\n"), "S: a BAD an empty response was expected\n");
    }
}

/// Answers that are longer than what is written at a time.
#[test]
fn many_numbers() {
    let mut host = Host::new("@begin select INBOX\n@messages 5000", Cuts::Whole);
    let numbers: Vec<_> = (1..=5004).map(|number| number.to_string()).collect();
    assert_eq!(host.hear("a SEARCH ALL\r\n"), format!("S: * SEARCH {}\nS: a OK done\n", numbers.join(" ")));
    let heard = host.hear("a STORE 1,3:5002 +FLAGS.SILENT (\\Deleted)\r\nb UID EXPUNGE 1:5005\r\n");
    // UID 5005 is number 4999.
    let expunged: String =
        (3..=4999).rev().chain([1]).flat_map(|number| ["S: * ".to_owned(), format!("{number} EXPUNGE\n")]).collect();
    assert_eq!(heard, format!("S: a OK done\n{expunged}S: * 5 RECENT\nS: b OK done\n"));
    assert_eq!(host.hear("c UID SEARCH ALL\r\n"), "S: * SEARCH 5 5006 5007 5008 5009 5010\nS: c OK done\n");
}

/// Takes every step until the session waits, with the questions that were asked; sent octets are counted.
fn drain(host: &mut Host, sent: &mut Vec<u8>) -> (Vec<(AskId, Ask)>, bool) {
    let mut asked = Vec::new();
    loop {
        match host.session.poll() {
            Step::Send(pieces) => {
                sent.extend(pieces.concat());
                host.session.handle(host.now, Input::Flushed);
            }
            Step::Ask(id, ask) => asked.push((id, ask)),
            Step::Idle { receive } => return (asked, receive),
            step => panic!("{step:?} was not expected"),
        }
    }
}

/// While the host works, the client is not listened to; a page is sent before the next one is asked for.
#[test]
fn one_page_at_a_time() {
    let mut host = Host::new("@begin select INBOX", Cuts::Whole);
    let mut sent = Vec::new();
    host.session.handle(host.now, Input::Received(Bytes::from_static(b"a FETCH 1 BODY.PEEK[]\r\nb NOOP\r\n")));
    let (asked, receive) = drain(&mut host, &mut sent);
    assert!(matches!(asked.as_slice(), [(_, Ask::Fetch { .. })]) && !receive && sent.is_empty());
    let page = Bytes::from(vec![b'x'; 300_000]);
    let cursor = rockdove_imap::fetch::FetchCursor::default();
    let answer = Answer::Page { octets: vec![page], next: Some(cursor), missing: 0, unknown_cte: false };
    host.session.handle(host.now, Input::Answered(asked[0].0, answer));
    assert!(matches!(host.session.poll(), Step::Send(_)));
    host.session.handle(host.now, Input::Flushed);
    let (asked, receive) = drain(&mut host, &mut sent);
    assert!(matches!(asked.as_slice(), [(_, Ask::Fetch { .. })]) && !receive);
    // An answer that nobody waits for changes nothing.
    host.session.handle(host.now, Input::Answered(AskId(4711), Answer::Broken));
    assert!(drain(&mut host, &mut sent).0.is_empty());
}

/// A message is passed on in pieces of bounded size, and none is taken in while the last one is being written.
#[test]
fn appended_octets_are_passed_on() {
    let mut host = Host::new("@begin login", Cuts::Whole);
    let mut sent = Vec::new();
    host.session.handle(host.now, Input::Received(Bytes::from_static(b"a APPEND Archive {300000+}\r\n")));
    let (asked, _) = drain(&mut host, &mut sent);
    host.session.handle(host.now, Input::Answered(asked[0].0, Answer::Done));
    let (mut handed_over, mut received) = (0, 0);
    loop {
        let (asked, receive) = drain(&mut host, &mut sent);
        match asked.into_iter().next() {
            Some((id, Ask::AppendOctets(pieces))) => {
                let octets: usize = pieces.iter().map(Bytes::len).sum();
                assert!(octets as u64 <= limits::APPEND_OCTETS_AIM && !receive);
                handed_over += octets;
                host.session.handle(host.now, Input::Answered(id, Answer::Done));
            }
            Some((_, ask)) => {
                assert!(matches!(ask, Ask::AppendEnd { .. }) && handed_over == 300_000);
                return;
            }
            None => {
                assert!(receive);
                let octets = if received < 300_000 { vec![b'x'; 30_000] } else { b"\r\n".to_vec() };
                received += octets.len();
                host.session.handle(host.now, Input::Received(octets.into()));
            }
        }
    }
}

/// Hundreds of thousands of these wait at the same time.
#[test]
fn a_session_is_small() {
    assert!(size_of::<ImapSession>() <= 392, "{} octets", size_of::<ImapSession>());
}

/// Lines that lead deep into a session, so that random input does not only meet "there is no such command".
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"a LOGIN ann \"open sesame\"\r\n",
        b"a AUTHENTICATE PLAIN\r\n",
        b"AGFubgBvcGVuIHNlc2FtZQ==\r\n",
        b"*\r\n",
        b"a SELECT INBOX\r\n",
        b"a EXAMINE INBOX (CONDSTORE)\r\n",
        b"a SELECT nowhere\r\n",
        b"a FETCH 1:* (FLAGS UID BODY[])\r\n",
        b"a UID FETCH 1:* (FLAGS BODY.PEEK[TEXT]) (CHANGEDSINCE 102)\r\n",
        b"a STORE 2 +FLAGS (\\Deleted $x)\r\n",
        b"a UID STORE 1:* (UNCHANGEDSINCE 103) -FLAGS.SILENT (\\Seen)\r\n",
        b"a SEARCH OR SEEN MODSEQ 103\r\n",
        b"a UID SEARCH TEXT {3}\r\n",
        b"one\r\n",
        b"a COPY 1:2 Archive\r\n",
        b"a UID MOVE 4:9 Archive\r\n",
        b"a EXPUNGE\r\n",
        b"a UID EXPUNGE 1:*\r\n",
        b"a CLOSE\r\n",
        b"a UNSELECT\r\n",
        b"a IDLE\r\n",
        b"DONE\r\n",
        b"a APPEND INBOX (\\Seen) {10}\r\n",
        b"a APPEND Archive {10+}\r\n",
        b"a APPEND nowhere {10+}\r\n",
        b"0123456789\r\n",
        b"0123456789",
        b"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" % RETURN (STATUS (SIZE))\r\n",
        b"a CREATE {5+}\r\na/b/c\r\n",
        b"a DELETE Archive\r\n",
        b"a DELETE INBOX\r\n",
        b"a RENAME INBOX b\r\n",
        b"a STATUS INBOX (MESSAGES HIGHESTMODSEQ)\r\n",
        b"a NOOP\r\n",
        b"a ENABLE UTF8=ACCEPT IMAP4rev2\r\n",
        b"a UNAUTHENTICATE\r\n",
        b"a APPEND Archive UTF8 (~{10+}\r\n",
        b")\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"{",
        b"\xff",
    ];
    prop_oneof![
        19 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn beginning() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["@starttls no", "@begin login", "@begin select INBOX"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_input_in_any_cut_gives_the_same(
        pieces in proptest::collection::vec(likely(), 0..60),
        begin in beginning(),
        seed in any::<u64>(),
    ) {
        let input = pieces.concat();
        let heard = |cuts| {
            let mut host = Host::new(begin, cuts);
            host.receive(&input);
            host.feed(Input::PeerClosed);
            host.heard()
        };
        let whole = heard(Cuts::Whole);
        prop_assert_eq!(&whole, &heard(Cuts::Single));
        prop_assert_eq!(&whole, &heard(Cuts::Random(seed)));
    }

    #[test]
    fn nothing_panics_with_odd_inputs(
        pieces in proptest::collection::vec((likely(), 0..24_u8), 0..40),
        begin in beginning(),
    ) {
        let mut host = Host::new(begin, Cuts::Whole);
        for (piece, odd) in pieces {
            host.feed(Input::Received(Bytes::from(piece)));
            match odd {
                0 => host.feed(Input::Flushed),
                1 => {
                    host.now = host.session.deadline().unwrap_or(host.now);
                    host.feed(Input::DeadlinePassed);
                }
                2 => host.feed(Input::Answered(AskId(u64::MAX), Answer::Done)),
                3 if host.has("INBOX", 5) => host.happen("expunge INBOX 5"),
                4 if host.has("INBOX", 9) => host.happen("flags INBOX 9 (\\Answered)"),
                5 if host.has("INBOX", 9) => host.happen("deliver INBOX more"),
                6 => host.happen("delete Archive"),
                7 => host.feed(Input::ShuttingDown),
                _ => {}
            }
        }
        host.feed(Input::ShuttingDown);
        host.feed(Input::PeerClosed);
        prop_assert!(host.closed || host.session.deadline().is_some());
    }
}
