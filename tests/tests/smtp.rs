//! SMTP, submission and LMTP against strangers, over real sockets.
#![allow(clippy::disallowed_methods, reason = "a test plays many clients at once, with a clock")]

use std::{
    thread,
    time::{Duration, Instant},
};

use rockdove_tests::{Door, Io, Pop3, Server, Setup, Smtp, Wire, on_both, play};

on_both!(
    conversations,
    lmtp_on_both_sockets,
    nothing_is_smuggled,
    nothing_said_in_clear_survives_starttls,
    clear_passwords_can_be_forbidden,
    the_proxy_header_is_believed_where_configured,
    one_address_has_a_limit,
    the_server_has_a_limit,
    slow_peers_are_sent_off,
    a_thousand_drop_in,
    messages_leave_as_they_came,
);

fn conversations(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Submission, Door::Pop3]));
    play(&server, Door::Mx, include_str!("../transcripts/mx.txt"));
    play(&server, Door::Submission, include_str!("../transcripts/submission.txt"));
    let subjects = |name: &str| -> Vec<String> {
        let messages = Pop3::inbox(&server, name);
        messages.iter().map(|message| header(message, "Subject").unwrap_or_default()).collect()
    };
    assert_eq!(subjects("ada"), ["transcript", "half-closed", "over TLS"]);
    assert_eq!(subjects("ben"), ["submitted"]);
}

/// A header field, unfolded as far as these tests need it.
fn header(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let field = text.lines().take_while(|line| !line.is_empty());
    field.filter_map(|line| line.split_once(": ")).find(|(field, _)| *field == name).map(|(_, value)| value.to_owned())
}

fn lmtp_on_both_sockets(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Lmtp, Door::LmtpUnix, Door::Pop3]));
    play(&server, Door::Lmtp, include_str!("../transcripts/lmtp.txt"));
    play(&server, Door::LmtpUnix, include_str!("../transcripts/lmtp.txt"));
    for name in ["ada", "ben"] {
        assert_eq!(Pop3::inbox(&server, name).len(), 2, "messages of {name}");
    }
}

/// Ends of data that some server somewhere took for one.
const SMUGGLERS: [&str; 10] =
    ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\n.\r", "\r.\n", "\r\n.\r\r\n", "\r\n\0.\r\n"];

fn nothing_is_smuggled(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Pop3]));
    for end in SMUGGLERS {
        let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
        let smuggled = "MAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<ben@rockdove.test>\r\nDATA\r\nevil\r\n.\r\n";
        let group = "MAIL FROM:<a@elsewhere.example>\r\nRCPT TO:<ada@rockdove.test>\r\nDATA\r\n";
        smtp.wire.send(group.as_bytes());
        for code in ["250", "250", "354"] {
            assert!(smtp.wire.line().starts_with(code));
        }
        // The end of the smuggled message is the true end of this one.
        smtp.wire.send(format!("Subject: x\r\n\r\nfirst{end}{smuggled}QUIT\r\n").as_bytes());
        let replies = smtp.wire.rest();
        let expected = if end.contains('\0') { "250 " } else { "550 5.6.11 " };
        let lines: Vec<&str> = replies.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].starts_with(expected) && lines[1].starts_with("221 "),
            "{end:?}: {replies}"
        );
    }
    assert_eq!(Pop3::inbox(&server, "ada").len(), 1, "only the message without stray line ends");
    assert_eq!(Pop3::inbox(&server, "ben").len(), 0, "a smuggled message");
}

fn nothing_said_in_clear_survives_starttls(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Submission, Door::Pop3]));
    for door in [Door::Mx, Door::Submission] {
        let mut smtp = Smtp::hello(server.connect(door), false).expect("a greeting");
        let group = "EHLO injected\r\nMAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<ada@rockdove.test>\r\n";
        smtp.wire.send(format!("STARTTLS\r\n{group}").as_bytes());
        let reply = smtp.wire.line();
        if reply.starts_with("220") {
            smtp.wire.secure(&server.certificate_path()).expect("TLS");
            smtp.wire.send(b"NOOP first\r\nDATA\r\n");
            assert!(smtp.wire.line().starts_with("250 2.0.0"), "the first answer over TLS is to the first command");
            assert!(smtp.wire.line().starts_with("503"), "nothing injected is remembered");
        } else {
            assert!(reply.starts_with("503 5.5.1"), "{reply}");
            assert_eq!(smtp.wire.rest(), "", "nothing behind it is executed");
        }
    }
    // The other way round: a record that is no handshake ends the connection, and nothing is executed.
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    smtp.wire.send(b"STARTTLS\r\n");
    assert!(smtp.wire.line().starts_with("220"));
    smtp.wire.send(b"EHLO in clear\r\n");
    let rest = smtp.wire.rest();
    assert!(!rest.contains("250"), "{rest}");
    assert!(Pop3::inbox(&server, "ada").is_empty());
}

fn clear_passwords_can_be_forbidden(io: Io) {
    let doors = [Door::Submission, Door::Submissions, Door::Pop3];
    let server = Server::start(Setup::new(io, &doors).with("login", "clear_text = \"never\""));
    play(&server, Door::Submission, include_str!("../transcripts/submission_clear_never.txt"));
    play(&server, Door::Pop3, include_str!("../transcripts/pop3_clear_never.txt"));
    let mut smtp = Smtp::hello(server.connect(Door::Submissions), false).expect("a greeting");
    smtp.wire.send(b"AUTH PLAIN AGFkYUByb2NrZG92ZS50ZXN0AGNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\n");
    assert!(smtp.wire.line().starts_with("235"));
}

/// A version 2 header for a client at 198.51.100.7.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\x00\x71\x01\x10\0\0\x19";
/// A version 1 header for the same.
const PROXY_V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4096 25\r\n";

fn proxied(server: &Server, door: Door, head: &[u8]) -> Wire {
    let mut wire = server.connect(door);
    wire.send(head);
    wire
}

fn the_proxy_header_is_believed_where_configured(io: Io) {
    let doors =
        [Door::MxProxied, Door::MxProxiedElsewhere, Door::Mx, Door::SubmissionProxied, Door::Pop3Proxied, Door::Pop3];
    let server = Server::start(Setup::new(io, &doors));
    for head in [PROXY_V1, PROXY_V2] {
        let mut smtp = Smtp::hello(proxied(&server, Door::MxProxied, head), false).expect("a greeting");
        smtp.deliver(&["ada"], b"Subject: proxied\r\n\r\n").expect("delivered");
        // Whoever comes from elsewhere cannot log in without TLS.
        let mut wire = proxied(&server, Door::SubmissionProxied, head);
        wire.send(b"EHLO x\r\nAUTH PLAIN AGFkYUByb2NrZG92ZS50ZXN0AGNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\nQUIT\r\n");
        let replies = wire.rest();
        assert!(replies.contains("538 5.7.11") && !replies.contains("AUTH SCRAM"), "{replies}");
        let mut wire = proxied(&server, Door::Pop3Proxied, head);
        wire.send(b"USER ada@rockdove.test\r\nQUIT\r\n");
        let replies = wire.rest();
        assert!(replies.contains("-ERR use STLS first"), "{replies}");
    }
    for message in Pop3::inbox(&server, "ada") {
        let text = String::from_utf8_lossy(&message).into_owned();
        assert!(text.contains("198.51.100.7"), "the trace header names the true client: {text}");
    }
    // Without a header, with a broken one or with half of one nobody is served there.
    for head in [&b"EHLO x\r\n"[..], b"PROXY TCP4 nonsense\r\n", b"PROXY TCP4 198.51.100.7"] {
        let mut wire = proxied(&server, Door::MxProxied, head);
        wire.half_close();
        assert_eq!(wire.rest(), "", "{:?}", head.escape_ascii().to_string());
    }
    // Where it is not configured, or this machine is not trusted, a header is only a bad command.
    for door in [Door::Mx, Door::MxProxiedElsewhere] {
        let mut wire = proxied(&server, door, PROXY_V1);
        assert!(wire.line().starts_with("220 "));
        let answer = wire.line();
        assert!(answer.starts_with("500 ") || answer.starts_with("421 "), "{answer}");
    }
}

fn one_address_has_a_limit(io: Io) {
    let doors = [Door::MxProxied, Door::Pop3Proxied];
    let server = Server::start(Setup::new(io, &doors).with("limits", "connections_per_address = 3"));
    let mut held: Vec<Wire> = (0..3).map(|_| proxied(&server, Door::MxProxied, PROXY_V2)).collect();
    assert!(held.iter_mut().all(|wire| wire.line().starts_with("220 ")));
    assert!(proxied(&server, Door::MxProxied, PROXY_V2).rest().starts_with("421 4.3.2 "));
    assert!(proxied(&server, Door::Pop3Proxied, PROXY_V2).rest().starts_with("-ERR [SYS/TEMP] "));
    // Others are served, and so is this one when it has let go.
    let other = b"PROXY TCP4 198.51.100.8 203.0.113.1 4096 25\r\n";
    assert!(proxied(&server, Door::MxProxied, other).line().starts_with("220 "));
    held.clear();
    let began = Instant::now();
    while !proxied(&server, Door::MxProxied, PROXY_V2).line().starts_with("220 ") {
        assert!(began.elapsed() < Duration::from_secs(20), "the count does not come down");
    }
}

fn the_server_has_a_limit(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Imap]).with("limits", "connections = 3"));
    let mut held: Vec<Wire> = (0..3).map(|_| server.connect(Door::Mx)).collect();
    assert!(held.iter_mut().all(|wire| wire.line().starts_with("220 ")));
    assert!(server.connect(Door::Mx).rest().starts_with("421 4.3.2 "));
    assert!(server.connect(Door::Imap).rest().starts_with("* BYE [UNAVAILABLE] "));
}

fn slow_peers_are_sent_off(io: Io) {
    let setup = Setup::new(io, &[Door::Mx])
        .with("timeouts", "smtp_command = \"1 s\"\nsmtp_data_block = \"1 s\"\nsmtp_data_total = \"2 s\"");
    let server = Server::start(setup);
    let silent = "";
    let group = "HELO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<ada@rockdove.test>\r\nDATA\r\n";
    // What is said at once, and what follows octet by octet for ever.
    let peers = [
        (silent, silent),
        (silent, "NOOP and so on "),
        (group, silent),
        (group, "one word and another "),
        (group, "x\r\n"),
    ];
    thread::scope(|scope| {
        for (at_once, dribble) in peers {
            let server = &server;
            scope.spawn(move || {
                let mut wire = server.connect(Door::Mx);
                wire.send(at_once.as_bytes());
                let began = Instant::now();
                let mut octets = dribble.bytes().cycle();
                // Sending fails once the server has closed; what it said before is what counts.
                while began.elapsed() < Duration::from_secs(8)
                    && octets.next().is_none_or(|octet| wire.try_send(&[octet]).is_ok())
                {
                    if dribble.is_empty() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(50));
                }
                assert!(began.elapsed() < Duration::from_secs(8), "{dribble:?} is listened to for ever");
                let said = wire.rest();
                // A reset may outrun the last words to a peer that goes on sending.
                assert!(said.contains("421 4.4.2") || !dribble.is_empty(), "{dribble:?}: {said}");
            });
        }
    });
    assert!(server.connect(Door::Mx).line().starts_with("220 "), "others are served");
}

fn a_thousand_drop_in(io: Io) {
    let doors = [Door::Mx, Door::Pop3, Door::Imap, Door::Imaps];
    let server = Server::start(Setup::new(io, &doors));
    for (number, door) in doors.into_iter().cycle().take(1_000).enumerate() {
        let mut wire = server.connect(door);
        if number % 3 == 0 {
            wire.send(b"STARTTLS\r\nSTLS\r\nDATA {100}\r\n");
        }
    }
    let began = Instant::now();
    while server.status()["connections"].as_u64() != Some(0) {
        assert!(began.elapsed() < Duration::from_secs(20), "connections stay: {}", server.status());
        thread::sleep(Duration::from_millis(50));
    }
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    assert_eq!(smtp.deliver(&["ada"], b"Subject: still here\r\n\r\n").expect("delivered"), [250]);
}

/// Content that is easily changed on the way: dots, 8-bit octets, NUL, long lines, no header, large.
fn odd_messages() -> Vec<Vec<u8>> {
    let mut large = b"Subject: large\r\n\r\n".to_vec();
    for number in 0..40_000_u32 {
        large.extend_from_slice(format!("{number} {:x}\r\n", number.wrapping_mul(2_654_435_761)).as_bytes());
    }
    vec![
        b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n".to_vec(),
        b"\r\n".to_vec(),
        b"no header at all\r\n".to_vec(),
        b"Subject: \xc3\xbc \xff\r\n\r\n\x80\x81\0\x7f\r\n".to_vec(),
        [b"Subject: long\r\n\r\n", "x".repeat(70_000).as_bytes(), b"\r\n"].concat(),
        b"Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n \r\nSGVsbG8\r\n".to_vec(),
        large,
    ]
}

fn messages_leave_as_they_came(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Lmtp, Door::Pop3]));
    let messages = odd_messages();
    for (door, name) in [(Door::Mx, "ada"), (Door::Lmtp, "ben")] {
        let mut smtp = Smtp::hello(server.connect(door), door == Door::Lmtp).expect("a greeting");
        for message in &messages {
            assert_eq!(smtp.deliver(&[name], message).expect("delivered"), [250]);
        }
        let stored = Pop3::inbox(&server, name);
        assert_eq!(stored.len(), messages.len());
        for (stored, sent) in stored.iter().zip(&messages) {
            let trace = format!(
                "Return-Path: <sender@elsewhere.example>\r\nDelivered-To: {name}@rockdove.test\r\nReceived: from "
            );
            assert!(stored.starts_with(trace.as_bytes()), "{}", String::from_utf8_lossy(stored));
            assert!(stored.ends_with(sent), "{} octets came, {} left", sent.len(), stored.len());
        }
    }
}
