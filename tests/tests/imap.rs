//! IMAP over real sockets.

use std::time::Duration;

use rockdove_tests::{Door, Imap, Io, Server, Setup, Smtp, on_both, play};

on_both!(
    conversations,
    injected_commands_are_not_executed,
    clear_passwords_can_be_forbidden,
    appended_messages_leave_as_they_came,
    appends_are_stored_in_the_order_they_come,
    changes_reach_other_sessions,
    slow_peers_are_sent_off,
    searches_answer_while_texts_are_taken_in,
);

fn conversations(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap]));
    play(&server, Door::Imap, include_str!("../transcripts/imap.txt"));
}

fn injected_commands_are_not_executed(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap]));
    let mut wire = server.connect(Door::Imap);
    assert!(wire.line().starts_with("* OK"));
    wire.send(b"a STARTTLS\r\nb LOGIN ada@rockdove.test \"correct horse battery\"\r\n");
    let reply = wire.line();
    if reply.starts_with("a OK") {
        wire.secure(&server.certificate_path()).expect("TLS");
        wire.send(b"c SELECT INBOX\r\n");
        let answer = wire.line();
        assert!(answer.starts_with("c "), "the first answer over TLS is to the first command: {answer}");
        assert!(!answer.starts_with("c OK"), "the login came in clear");
    } else {
        assert!(!wire.rest().contains("b OK"), "nothing behind it is executed");
    }
}

fn clear_passwords_can_be_forbidden(io: Io) {
    let setup = Setup::new(io, &[Door::Imap, Door::Imaps]).with("login", "clear_text = \"never\"");
    let server = Server::start(setup);
    play(&server, Door::Imap, include_str!("../transcripts/imap_clear_never.txt"));
    Imap::login(server.connect(Door::Imaps), "ada").expect("TLS is in use");
    // Nor from elsewhere, whatever is allowed on this machine.
    let server = Server::start(Setup::new(io, &[Door::ImapProxied]));
    let mut wire = server.connect(Door::ImapProxied);
    wire.send(b"PROXY TCP4 198.51.100.7 203.0.113.1 4096 143\r\n");
    let mut imap = Imap::greet(wire).expect("a greeting");
    let capabilities = imap.ok("CAPABILITY").with("CAPABILITY").concat();
    assert!(capabilities.contains("LOGINDISABLED") && capabilities.contains("STARTTLS"), "{capabilities}");
    let refused = imap.try_say("LOGIN ada@rockdove.test \"correct horse battery\"").expect("an answer").status;
    assert!(refused.starts_with("NO"), "{refused}");
    imap.starttls(&server.certificate_path());
    imap.ok("LOGIN ada@rockdove.test \"correct horse battery\"");
}

fn appended_messages_leave_as_they_came(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap]));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    let mut large = b"Subject: large\r\n\r\n".to_vec();
    for number in 0..40_000_u32 {
        large.extend_from_slice(format!("{number} {:x}\r\n", number.wrapping_mul(2_654_435_761)).as_bytes());
    }
    let messages = [
        b"Subject: no end".to_vec(),
        b"Subject: bare\n\nlines\r\nof \xff all kinds\r".to_vec(),
        b"\r\n".to_vec(),
        b"Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8=\r\n \r\nSGVsbG8\r\n".to_vec(),
        large,
    ];
    for message in &messages {
        let reply = imap.try_append("INBOX", message).expect("appended");
        assert!(reply.code("APPENDUID").is_some(), "{reply:?}");
    }
    imap.ok("SELECT INBOX");
    for (number, message) in (1..).zip(&messages) {
        let reply = imap.ok(&format!("FETCH {number} BODY.PEEK[]"));
        let literal = [format!("BODY[] {{{}}}\r\n", message.len()).as_bytes(), message].concat();
        let found = reply.untagged.iter().any(|line| line.windows(literal.len()).any(|window| window == literal));
        assert!(found, "message {number} of {} octets", message.len());
    }
    // Half a literal is no message.
    imap.wire.send(b"x APPEND INBOX {100}\r\n");
    assert!(imap.wire.line().starts_with('+'));
    imap.wire.send(b"Subject: half");
    drop(imap);
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    let status = imap.ok("STATUS INBOX (MESSAGES)").with("STATUS").concat();
    assert!(status.ends_with("(MESSAGES 5)"), "{status}");
}

/// A client that does not wait: small and large messages, one that is refused, another command behind them.
fn appends_are_stored_in_the_order_they_come(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap]));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.ok("SELECT INBOX");
    let mut commands = Vec::new();
    for number in 0..200_usize {
        let mailbox = if number == 77 { "Nowhere" } else { "INBOX" };
        let message = format!("Subject: number {number}\r\n\r\n{}", "text\r\n".repeat(number % 7 * 4_000));
        commands.extend(format!("p{number} APPEND {mailbox} {{{}+}}\r\n{message}\r\n", message.len()).into_bytes());
    }
    commands.extend_from_slice(b"last STATUS INBOX (MESSAGES)\r\n");
    // The answers are read meanwhile, or neither side could go on.
    let mut tags = Vec::new();
    for piece in commands.chunks(100_000) {
        imap.wire.send(piece);
    }
    while tags.last().is_none_or(|tag| tag != "last OK") {
        let line = imap.wire.line();
        if !line.starts_with('*') {
            tags.push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        } else if line.starts_with("* STATUS") {
            assert!(line.contains("MESSAGES 199"), "every APPEND before it is done: {line}");
        }
    }
    let expected = (0..200).map(|number| format!("p{number} {}", if number == 77 { "NO" } else { "OK" }));
    let (refused, stored): (Vec<String>, Vec<String>) = expected.partition(|tag| tag.ends_with("NO"));
    tags.pop();
    // What is refused may be told before what waits for the disk.
    assert!(tags.contains(&refused[0]));
    assert_eq!(tags.into_iter().filter(|tag| *tag != refused[0]).collect::<Vec<_>>(), stored);
    let reply = imap.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").untagged.concat();
    let text = String::from_utf8_lossy(&reply).into_owned();
    let numbers: Vec<usize> =
        text.split("number ").skip(1).filter_map(|rest| rest.lines().next()?.parse().ok()).collect();
    assert_eq!(numbers, (0..200).filter(|number| *number != 77).collect::<Vec<_>>());
    drop(imap);
    server.fsck();
}

fn changes_reach_other_sessions(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap, Door::Mx]));
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    for number in 1..=3 {
        smtp.deliver(&["ada"], format!("Subject: {number}\r\n\r\n").as_bytes()).expect("delivered");
    }
    let mut watcher = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    let mut changer = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    watcher.ok("SELECT INBOX");
    changer.ok("SELECT INBOX");
    watcher.wire.send(b"w IDLE\r\n");
    assert!(watcher.wire.line().starts_with('+'));
    changer.ok("STORE 2 +FLAGS (\\Flagged)");
    let line = watcher.wire.line();
    assert!(line.starts_with("* 2 FETCH (") && line.contains("\\Flagged"), "{line}");
    changer.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    changer.ok("EXPUNGE");
    // The flag and the removal may be told together.
    let mut line = watcher.wire.line();
    while line.starts_with("* 1 FETCH") {
        line = watcher.wire.line();
    }
    assert_eq!(line, "* 1 EXPUNGE");
    smtp.deliver(&["ada"], b"Subject: 4\r\n\r\n").expect("delivered");
    let mut line = watcher.wire.line();
    while line.ends_with(" RECENT") {
        line = watcher.wire.line();
    }
    assert_eq!(line, "* 3 EXISTS");
    watcher.wire.send(b"DONE\r\n");
    while !watcher.wire.line().starts_with("w OK") {}
}

fn slow_peers_are_sent_off(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap, Door::Imaps]).with("timeouts", "imap_login = \"1 s\""));
    // Nothing at all, half a command, half a literal, half a SASL exchange.
    for start in ["", "a NOO", "a LOGIN {3}\r\nad", "a AUTHENTICATE PLAIN\r\n"] {
        let mut wire = server.connect(Door::Imap);
        wire.send(start.as_bytes());
        let said = wire.rest();
        assert!(said.contains("* BYE"), "{start:?}: {said}");
    }
    // Who has logged in may be silent.
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    std::thread::sleep(Duration::from_millis(1_500));
    imap.ok("NOOP");
}

fn searches_answer_while_texts_are_taken_in(io: Io) {
    const MESSAGES: usize = 300;
    let mut server = Server::start(Setup::new(io, &[Door::Imap]));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    for number in 1..=MESSAGES {
        let message = format!("Subject: report {number}\r\n\r\nKernelhacker{number} uses free software\r\n");
        imap.try_append("INBOX", message.as_bytes()).expect("appended");
    }
    let ask = |imap: &mut Imap| {
        imap.ok("SELECT INBOX");
        let mut search = |key: &str| imap.ok(&format!("UID SEARCH {key}")).with("SEARCH").concat();
        assert_eq!(search("BODY ERNELHACKER12"), "SEARCH 12 120 121 122 123 124 125 126 127 128 129");
        assert_eq!(search("SUBJECT \"port 299\""), "SEARCH 299");
        assert_eq!(search("TEXT \"free soft\" NOT UID 2:*"), "SEARCH 1");
        assert_eq!(search("TEXT nowhere"), "SEARCH");
    };
    ask(&mut imap);
    let taken_in = |server: &Server| {
        let metrics = server.rockdove(&["status", "--metrics"], "").ok();
        metrics.contains(&format!("\nrockdove_indexed_messages_total {MESSAGES}\n"))
    };
    for _ in 0..200 {
        if taken_in(&server) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(taken_in(&server), "in the background");
    ask(&mut imap);
    server.fsck();
    server.kill();
    server.run();
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    ask(&mut imap);
    server.fsck();
}
