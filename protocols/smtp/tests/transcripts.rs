//! Runs every conversation in `tests/transcripts` in three chunkings: whole, byte by byte, and cut at random places.
//! The replies, and what the host is asked, must not depend on how the bytes arrived.

mod host;

use std::{fs, path::Path};

use bytes::Bytes;
use host::{Host, check_transcript};
use proptest::prelude::*;
use rockdove_mail::{Input, Session, Tick, sasl};

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder of transcripts")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    names.sort();
    assert!(names.len() >= 10, "transcripts are missing");
    for path in names {
        let text = fs::read_to_string(&path).expect("a transcript");
        // Conversations in one file are separated by lines of dashes.
        for (number, part) in text.split("\n----").enumerate() {
            let part = part.trim_start_matches('-');
            let name = format!("{} part {}", path.file_name().unwrap_or_default().to_string_lossy(), number + 1);
            check_transcript(&name, part);
        }
    }
}

/// RFC 3207 section 6 and CVE-2011-0411: what follows STARTTLS in clear must never be taken for what came through TLS.
#[test]
fn nothing_may_follow_starttls_in_clear() {
    let input = b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@b.example>\r\n";
    let log = Host::new("@role mx\n@tls available").converse(input, usize::MAX, 0);
    assert!(log.ends_with("S: 503 5.5.1 nothing may follow STARTTLS before its reply; closing connection\n! close\n"));
    assert!(!log.contains("! starttls") && !log.contains("sender ok"));
}

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
}

/// A SCRAM-SHA-256 client (RFC 5802 section 3) with the salt and iteration count of the test host.
fn scram_final(password: &str, first_bare: &str, server_first: &str) -> String {
    let nonce = server_first.split(',').next().expect("a nonce");
    let mut salted = [0; 32];
    let rounds = std::num::NonZeroU32::new(4096).expect("not zero");
    let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
    ring::pbkdf2::derive(algorithm, rounds, host::SCRAM_SALT, password.as_bytes(), &mut salted);
    let client_key = hmac(&salted, "Client Key");
    let stored_key = ring::digest::digest(&ring::digest::SHA256, &client_key);
    let without_proof = format!("c=biws,{nonce}");
    let signature = hmac(stored_key.as_ref(), &format!("{first_bare},{server_first},{without_proof}"));
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", sasl::encode_line(&proof))
}

/// Logs in by SCRAM, with and without an initial response; gives back the last reply.
fn scram(password: &str, initial: bool, last: &str) -> String {
    let mut host = Host::new("@role submission\n@tls on");
    let first = sasl::encode_line(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    host.hear("EHLO x\r\n");
    if initial {
        host.hear(&format!("AUTH SCRAM-SHA-256 {first}\r\n"));
    } else {
        assert_eq!(host.hear("AUTH SCRAM-SHA-256\r\n"), "S: 334 \n");
        host.hear(&format!("{first}\r\n"));
    }
    let challenge = host.last_challenge();
    assert!(challenge.starts_with("r=rOprNGfwEbeRWgbNEkqO") && challenge.ends_with(",i=4096"), "{challenge}");
    let answer = scram_final(password, "n=user,r=rOprNGfwEbeRWgbNEkqO", &challenge);
    let said = host.hear(&format!("{}\r\n", sasl::encode_line(answer.as_bytes())));
    if !said.starts_with("S: 334") {
        return said;
    }
    assert!(host.last_challenge().starts_with("v="));
    host.hear(last)
}

#[test]
fn scram_sha_256() {
    for initial in [true, false] {
        assert_eq!(scram("pencil", initial, "\r\n"), "H: scram proved user\nS: 235 2.7.0 authentication succeeded\n");
        let wrong = "S: 535 5.7.8 authentication credentials invalid\nH: scram failed user\n";
        assert_eq!(scram("pencils", initial, ""), wrong);
        assert_eq!(scram("pencil", initial, "*\r\n"), "S: 501 5.7.0 authentication cancelled\n");
    }
}

/// Lines that lead deep into a session, so that random input does not only meet "command not recognized".
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"EHLO x\r\n",
        b"LHLO x\r\n",
        b"HELO x\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"RCPT TO:<bob@here.example>\r\n",
        b"RCPT TO:<alice@here.example> NOTIFY=NEVER\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"..\r\n",
        b"BDAT 3\r\n",
        b"BDAT 5 LAST\r\n",
        b"BDAT 0 LAST\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN\r\n",
        b"*\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9cg==\r\n",
        b"QUIT\r\n",
        b"\r",
        b"\n",
        b".",
        b"\0",
        b"\xff",
        b"MAIL FROM:<> BODY=BINARYMIME SIZE=10\r\n",
        b"Received: x\r\n",
        b"AGFsaWNlQGhlcmUuZXhhbXBsZQBzZWNyZXQ=\r\n",
    ];
    prop_oneof![
        9 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_input_in_any_cut_gives_the_same(
        pieces in proptest::collection::vec(likely(), 0..60),
        role in 0..3_u8,
        seed in any::<u64>(),
    ) {
        let input = pieces.concat();
        let config = ["@role mx", "@role submission", "@role lmtp"][usize::from(role)];
        // STARTTLS followed by anything in the same chunk is refused on purpose, so TLS is not offered here.
        let whole = Host::new(config).converse(&input, usize::MAX, 0);
        let bytewise = Host::new(config).converse(&input, 1, 0);
        let random = Host::new(config).converse(&input, 0, seed);
        prop_assert_eq!(&whole, &bytewise);
        prop_assert_eq!(&whole, &random);
    }

    #[test]
    fn nothing_panics_with_tls_and_odd_inputs(pieces in proptest::collection::vec(likely(), 0..40), odd in any::<u64>()) {
        let mut host = Host::new("@role submission\n@tls available");
        for (index, piece) in pieces.into_iter().enumerate() {
            host.feed(Input::Received(Bytes::from(piece)));
            match (odd >> (index % 64)) & 7 {
                0 => host.feed(Input::Flushed),
                1 => {
                    let late = host.session.deadline().map_or(Tick::default(), |at| at);
                    host.now = late;
                    host.feed(Input::DeadlinePassed);
                }
                _ => {}
            }
        }
        host.feed(Input::ShuttingDown);
        host.feed(Input::PeerClosed);
    }
}
