//! What people try on mail servers: smuggling, injection, relaying, measureless input, patience. One conversation each.
#![allow(clippy::disallowed_methods, reason = "a test plays slow clients, with a clock")]

use std::{
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rockdove_tests::{DOMAIN, Door, End, Io, PASSWORD, Pop3, Server, Setup, Sink, Wire, on_both, play};

on_both!(probes_as_conversations, login_behind_starttls_in_one_packet, slow_peers_of_every_kind);

fn probes_as_conversations(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Submission, Door::Pop3]));
    play(&server, Door::Mx, include_str!("../transcripts/probes.txt"));
    play(&server, Door::Submission, include_str!("../transcripts/probes_submission.txt"));
    let messages = Pop3::inbox(&server, "ada");
    let subjects: Vec<&str> = ["Subject: chunk", "Subject: shorter", "Subject: quoted", "Subject: many"].to_vec();
    assert_eq!(messages.len(), subjects.len());
    for (message, subject) in messages.iter().zip(subjects) {
        let text = String::from_utf8_lossy(message).into_owned();
        let header = text.split("\r\n\r\n").next().unwrap_or_default();
        assert!(header.contains(&format!("{subject}\r\n")) || header.ends_with(subject) || subject.ends_with("many"));
        assert!(!header.lines().any(|line| line.starts_with("X-Evil")), "{header}");
        assert!(
            header.starts_with("Return-Path: <") && header.contains("\r\nReceived: from client.example"),
            "{header}"
        );
    }
    assert!(messages[0].ends_with(b"\r\n\r\n.\r\nMAIL FROM:<evil@elsewhere.example>\r\nDATA\r\n.\r\nQUIT\r\nend\r\n"));
    let quoted = String::from_utf8_lossy(&messages[2]).into_owned();
    let path = "Return-Path: <\"a>, <b@c.example> \\\"d\\\\\"@elsewhere.example>\r\n";
    assert!(quoted.starts_with(path), "{quoted}");
    assert!(!server.log().contains('\u{1b}'), "{}", server.log());
    for name in ["ben", "cleo"] {
        assert!(Pop3::inbox(&server, name).is_empty(), "{name}");
    }
}

/// CVE-2011-0411 and its kin: a login that was put behind STARTTLS by somebody on the way.
fn login_behind_starttls_in_one_packet(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Submission, Door::Pop3]));
    let login = STANDARD.encode(format!("\0ada@{DOMAIN}\0{PASSWORD}"));
    let rest = format!("MAIL FROM:<ada@{DOMAIN}>\r\nRCPT TO:<ben@{DOMAIN}>\r\nDATA\r\nevil\r\n.\r\n");
    for group in [
        format!("EHLO x\r\nSTARTTLS\r\nAUTH PLAIN {login}\r\n{rest}"),
        format!("STARTTLS\r\nEHLO x\r\nAUTH PLAIN {login}\r\n{rest}"),
        // The exchange begins in clear and would end behind TLS.
        format!("EHLO x\r\nAUTH PLAIN\r\nSTARTTLS\r\n{login}\r\n{rest}"),
    ] {
        let mut wire = server.connect(Door::Submission);
        assert!(wire.line().starts_with("220 "));
        wire.send(group.as_bytes());
        let mut said = String::new();
        loop {
            let line = wire.try_line().map(|line| String::from_utf8_lossy(&line).into_owned());
            let Ok(line) = line else { break };
            said += &(line.clone() + "\n");
            // Whoever shakes hands now finds that nothing of it was done.
            if line.starts_with("220 ") {
                if wire.secure(&server.certificate_path()).is_ok() {
                    wire.send(b"RCPT TO:<ben@rockdove.test>\r\nQUIT\r\n");
                    let line = wire.line();
                    assert!(line.starts_with("503 ") || line.starts_with("530 "), "{line}");
                }
                break;
            }
        }
        assert!(!said.contains("235 ") && !said.contains("250 2.1.0"), "{group}\n{said}");
    }
    assert!(Pop3::inbox(&server, "ben").is_empty());
}

/// A peer that sends an octet now and then is sent off by the time that a command or a message may take in all.
fn slow_peers_of_every_kind(io: Io) {
    let timeouts = "smtp_command = \"1 s\"\nsmtp_data_block = \"1 s\"\nsmtp_data_total = \"2 s\"";
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Submission]).with("timeouts", timeouts));
    let envelope = "HELO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<ada@rockdove.test>\r\n";
    let login = "HELO x\r\nAUTH LOGIN\r\n";
    let peers = [
        (Door::Mx, format!("{envelope}BDAT 100000 LAST\r\n"), "0123456789"),
        (Door::Mx, format!("{envelope}BDAT 10\r\n0123456789BDAT 50"), "0"),
        (Door::Submission, login.to_owned(), "A"),
        (Door::Submission, "EHLO x\r\nSTARTTLS\r\n".to_owned(), "\u{16}"),
    ];
    thread::scope(|scope| {
        for (door, at_once, dribble) in &peers {
            let server = &server;
            scope.spawn(move || {
                let mut wire = server.connect(*door);
                wire.send(at_once.as_bytes());
                let (began, mut octets) = (Instant::now(), dribble.bytes().cycle());
                while octets.next().is_some_and(|octet| wire.try_send(&[octet]).is_ok()) {
                    assert!(began.elapsed() < Duration::from_secs(60), "{at_once:?} may dribble for ever");
                    thread::sleep(Duration::from_millis(50));
                }
                let said = wire.rest();
                // Within a handshake there is nothing to say it with.
                let handshake = at_once.contains("STARTTLS");
                assert!(handshake || said.contains("421 4.4.2 ") || said.is_empty(), "{at_once:?}: {said}");
            });
        }
    });
}

#[test]
fn recipients_beyond_the_limit_are_put_off_and_the_others_served() {
    let server = Server::start(Setup::new(Io::Epoll, &[Door::Mx, Door::Pop3]).with("limits", "recipients = 100"));
    let mut wire = server.connect(Door::Mx);
    wire.send(
        format!("HELO x\r\nMAIL FROM:<a@b.example>\r\n{}DATA\r\n", "RCPT TO:<ada@rockdove.test>\r\n".repeat(300))
            .as_bytes(),
    );
    let replies: Vec<String> = (0..304).map(|_| wire.line()).collect();
    let count = |code: &str| replies.iter().filter(|reply| reply.starts_with(code)).count();
    assert_eq!((count("250 2.1.5"), count("452 4.5.3"), count("354")), (100, 200, 1));
    wire.send(b"Subject: one copy\r\n\r\n.\r\n");
    assert!(wire.line().starts_with("250 2.0.0"));
    assert_eq!(Pop3::inbox(&server, "ada").len(), 1);
}

/// RFC 3461: ENVID and ORCPT are coded, and what comes out of the code must not become lines of a report.
#[test]
fn coded_line_ends_make_no_lines_in_reports() {
    let sink = Sink::with(|_, _| "550 5.1.1 no such user", |_| End::Say("250 taken"));
    let route = format!("name = \"test\"\ndomains = [\"*\"]\nhost = \"127.0.0.1\"\nport = {}", sink.address.port());
    let server = Server::start(Setup::new(Io::Epoll, &[Door::Submission, Door::Pop3]).with("[route]", &route));
    let mut wire = server.connect(Door::Submission);
    let login = STANDARD.encode(format!("\0ada@{DOMAIN}\0{PASSWORD}"));
    wire.send(format!("HELO x\r\nAUTH PLAIN {login}\r\n").as_bytes());
    for code in ["220 ", "250 ", "235 "] {
        assert!(wire.line().starts_with(code));
    }
    let evil = "x+0D+0AX-Evil:+20yes+0D+0A+0D+0Abody";
    wire.send(
        format!(
            "MAIL FROM:<ada@{DOMAIN}> ENVID={evil}\r\nRCPT TO:<nobody@far.example> ORCPT=rfc822;{evil}\r\nDATA\r\n"
        )
        .as_bytes(),
    );
    for code in ["250 ", "250 ", "354 "] {
        assert!(wire.line().starts_with(code));
    }
    wire.send(b"Subject: x\r\n\r\ntext\r\n.\r\n");
    assert!(wire.line().starts_with("250 "));
    let report = wait_for_report(&server);
    assert!(report.contains("Status: 5.1.1"), "{report}");
    assert!(!report.lines().any(|line| line.starts_with("X-Evil")), "{report}");
}

fn wait_for_report(server: &Server) -> String {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(report) = Pop3::inbox(server, "ada").first() {
            return String::from_utf8_lossy(report).into_owned();
        }
        assert!(Instant::now() < end, "no report came");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whoever reads no replies is not given memory to send commands into.
#[test]
fn who_does_not_listen_is_not_heard() {
    let server = Server::start(Setup::new(Io::Epoll, &[Door::Mx]).with("timeouts", "smtp_command = \"2 s\""));
    let mut wire: Wire = server.connect(Door::Mx);
    let group = "EHLO x\r\n".repeat(2_000);
    wire.send(group.as_bytes());
    let replies = wire.rest();
    assert!(replies.contains("421 4.7.0 too many commands that move no mail"), "{}", replies.len());
    assert_eq!(replies.matches("250 HELP").count(), 200);
}
