//! Mail that leaves: to servers that take it, refuse it, put it off and vanish, and through our own death.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use rockdove_tests::{
    DOMAIN, Door, End, Imap, Io, PASSWORD, Pop3, Received, Server, Setup, Sink, Talk, client_script, on_both, queue,
    wait_for, wait_until,
};

on_both!(
    mail_leaves_and_what_is_refused_comes_back,
    what_was_not_confirmed_is_sent_again,
    a_kill_loses_nothing_and_repeats_nothing_confirmed,
    nothing_is_relayed_for_strangers,
    unknown_recipients_of_a_shared_domain_go_to_the_other_system,
    the_queue_can_be_held_and_emptied,
    servers_of_ours_talk_over_tls,
    what_leaves_is_signed,
    a_full_mailbox_keeps_nothing_from_being_noted,
);

/// A server whose mail for others goes to `sink`, and is tried again soon.
fn setup(io: Io, sink: &Sink, domains: &str) -> Setup {
    Setup::new(io, &[Door::Mx, Door::Submission, Door::Pop3])
        .with("outbound", "retry_first = \"1 s\"\nretry_most = \"1 s\"")
        .with("[route]", &route(sink.address.port(), domains))
}

fn route(port: u16, domains: &str) -> String {
    format!("name = \"test\"\ndomains = [{domains}]\nhost = \"127.0.0.1\"\nport = {port}")
}

fn mail_leaves_and_what_is_refused_comes_back(io: Io) {
    let sink = Sink::with(
        |address, before| match (address.split('@').next().unwrap_or_default(), before) {
            ("nobody", _) => "550 5.1.1 no such user",
            ("later", 0) => "451 4.2.1 not now",
            _ => "250 2.1.5 ok",
        },
        |_| End::Say("250 2.0.0 taken"),
    );
    let server = Server::start(setup(io, &sink, "\"*\""));
    let mut submission = Talk::as_ada(&server);
    let content = "Subject: to all\r\n\r\n..leading dot\r\nlast line";
    let ben = format!("ben@{DOMAIN}");
    submission.send(&["one@a.example", "nobody@a.example", "later@b.example", &ben], content);
    let received = sink.wait_for(2);
    let recipients: Vec<Vec<String>> = received.iter().map(|message| message.to.clone()).collect();
    assert_eq!(recipients, [["one@a.example"], ["later@b.example"]]);
    for message in &received {
        let text = String::from_utf8_lossy(&message.content).into_owned();
        assert!(text.starts_with("Received: from client.example"), "{text}");
        assert!(text.ends_with("Subject: to all\r\n\r\n.leading dot\r\nlast line\r\n"), "{text}");
        assert_eq!(message.from, format!("ada@{DOMAIN}"));
    }
    assert_eq!(Pop3::inbox(&server, "ben").len(), 1);
    wait_until("a report", || Pop3::inbox(&server, "ada").len() == 1);
    let report = String::from_utf8_lossy(&Pop3::inbox(&server, "ada")[0]).into_owned();
    for wanted in
        ["Final-Recipient: rfc822; nobody@a.example", "Status: 5.1.1", "550 5.1.1 no such user", "Subject: to all"]
    {
        assert!(report.contains(wanted), "{wanted} is not in\n{report}");
    }
    assert!(!report.contains("one@a.example\r\nAction"));
    wait_until("an empty queue", || queue(&server).is_empty());
}

fn what_was_not_confirmed_is_sent_again(io: Io) {
    let sink = Sink::with(
        |_, _| "250 2.1.5 ok",
        |before| match before {
            0 => End::HangUp,
            1 => End::Say("451 4.3.0 trouble"),
            _ => End::Say("250 2.0.0 taken"),
        },
    );
    let server = Server::start(setup(io, &sink, "\"*\""));
    Talk::as_ada(&server).send(&["one@a.example"], "Subject: again\r\n\r\ntext");
    let received = sink.wait_for(3);
    assert!(received.iter().all(|message| *message == received[0]));
    wait_until("an empty queue", || queue(&server).is_empty());
    assert_eq!(sink.received().len(), 3);
}

fn a_kill_loses_nothing_and_repeats_nothing_confirmed(io: Io) {
    // The first two are confirmed; then the other side falls silent, and we are killed.
    let sink = Sink::with(
        |_, _| "250 2.1.5 ok",
        |before| if before == 2 { End::Silence } else { End::Say("250 2.0.0 taken") },
    );
    let limited = "retry_first = \"1 s\"\nretry_most = \"1 s\"\nconnections_per_destination = 1";
    let setup = Setup::new(io, &[Door::Submission])
        .with("outbound", limited)
        .with("[route]", &route(sink.address.port(), "\"*\""));
    let mut server = Server::start(setup);
    let mut submission = Talk::as_ada(&server);
    for number in 0..5 {
        submission.send(&[&format!("r{number}@a.example")], &format!("Subject: number {number}\r\n\r\n"));
    }
    sink.wait_for(3);
    wait_until("two confirmed", || queue(&server).len() == 3);
    server.kill();
    server.run();
    let received = sink.wait_for(6);
    wait_until("an empty queue", || queue(&server).is_empty());
    let mut counts = std::collections::BTreeMap::new();
    for message in &received {
        *counts.entry(message.to[0].clone()).or_insert(0) += 1;
    }
    // Only the one that was under way, of which nobody can know whether it was taken, comes twice.
    let twice: Vec<&String> = counts.iter().filter(|(_, count)| **count == 2).map(|(address, _)| address).collect();
    assert_eq!((counts.len(), received.len(), twice.len()), (5, 6, 1), "{counts:?}");
    assert_eq!(twice[0], &received[2].to[0]);
}

fn nothing_is_relayed_for_strangers(io: Io) {
    let sink = Sink::start();
    let server = Server::start(setup(io, &sink, "\"*\""));
    let mut wire = Talk { wire: server.connect(Door::Mx) };
    wire.reply();
    wire.say("EHLO stranger.example");
    assert!(wire.say("MAIL FROM:<a@b.example>").starts_with("250"));
    let probes = [
        "one@a.example".to_owned(),
        format!("one%a.example@{DOMAIN}"),
        format!("@{DOMAIN}:one@a.example"),
        format!("\"one@a.example\"@{DOMAIN}"),
        format!("a.example!one@{DOMAIN}"),
        "one@[127.0.0.1]".to_owned(),
    ];
    for probe in &probes {
        let answer = wire.say(&format!("RCPT TO:<{probe}>"));
        assert!(answer.starts_with('5'), "{probe}: {answer}");
    }
    // Nor for whoever has not logged in at the submission door.
    let mut wire = Talk { wire: server.connect(Door::Submission) };
    wire.reply();
    wire.say("EHLO stranger.example");
    let answer = wire.say(&format!("MAIL FROM:<ada@{DOMAIN}>"));
    assert!(answer.starts_with("530"), "{answer}");
    assert!(sink.received().is_empty());
}

fn unknown_recipients_of_a_shared_domain_go_to_the_other_system(io: Io) {
    let sink = Sink::start();
    let server = Server::start(setup(io, &sink, &format!("\"{DOMAIN}\"")));
    let mut wire = Talk { wire: server.connect(Door::Mx) };
    wire.reply();
    wire.say("EHLO elsewhere.example");
    assert!(wire.say("MAIL FROM:<a@b.example>").starts_with("250"));
    for name in ["ada", "dora"] {
        assert!(wire.say(&format!("RCPT TO:<{name}@{DOMAIN}>")).starts_with("250"));
    }
    assert!(wire.say("RCPT TO:<x@a.example>").starts_with('5'), "other domains are none of ours");
    assert!(wire.say("DATA").starts_with("354"));
    assert!(wire.say("Subject: for both\r\n\r\ntext\r\n.").starts_with("250"));
    let received = sink.wait_for(1);
    assert_eq!(received[0].to, [format!("dora@{DOMAIN}")]);
    assert_eq!(received[0].from, "a@b.example");
    assert_eq!(Pop3::inbox(&server, "ada").len(), 1);
}

fn the_queue_can_be_held_and_emptied(io: Io) {
    let sink =
        Sink::with(|_, before| if before == 0 { "451 4.2.1 not now" } else { "250 ok" }, |_| End::Say("250 taken"));
    let slow = "retry_first = \"1 h\"\nretry_most = \"1 h\"";
    let setup = Setup::new(io, &[Door::Submission])
        .with("outbound", slow)
        .with("[route]", &route(sink.address.port(), "\"*\""));
    let server = Server::start(setup);
    let mut submission = Talk::as_ada(&server);
    for number in 0..3 {
        submission.send(&[&format!("r{number}@a.example")], &format!("Subject: number {number}\r\n\r\n"));
    }
    let attempts = |message: &serde_json::Value| message["tasks"][0]["attempts"].as_u64();
    wait_until("three put off", || {
        let waiting = queue(&server);
        waiting.len() == 3 && waiting.iter().all(|message| attempts(message) == Some(1))
    });
    let waiting = queue(&server);
    assert_eq!(waiting[0]["subject"], "number 0");
    assert_eq!(waiting[0]["owner"], format!("ada@{DOMAIN}"));
    assert_eq!(waiting[0]["tasks"][0]["recipients"][0]["reply"], "451 4.2.1 not now");
    let number = |place: usize| waiting[place]["message"].to_string();
    server.rockdove(&["queue", "hold", &number(0)], "").ok();
    server.rockdove(&["queue", "cancel", &number(1)], "").ok();
    server.rockdove(&["queue", "retry", "--next-hop", "@test"], "").ok();
    let received = sink.wait_for(1);
    assert_eq!(received[0].to, ["r2@a.example"]);
    wait_until("one left", || queue(&server).len() == 1);
    assert_eq!(queue(&server)[0]["tasks"][0]["held"], true);
    server.rockdove(&["queue", "release", "--all"], "").ok();
    sink.wait_for(2);
    wait_until("an empty queue", || queue(&server).is_empty());
}

fn servers_of_ours_talk_over_tls(io: Io) {
    let other = Server::start(Setup::new(io, &[Door::Mx, Door::Imap]).with("log", "level = \"info\""));
    let port = other.address(Door::Mx).port();
    let setup = Setup::new(io, &[Door::Submission]).with("[route]", &route(port, "\"far.example\""));
    let server = Server::start(setup);
    other.rockdove(&["domain", "add", "far.example"], "").ok();
    other.rockdove(&["account", "add", "eve@far.example", "--password-stdin"], PASSWORD).ok();
    let body = "a line of text\r\n".repeat(100_000);
    Talk::as_ada(&server).send(&["eve@far.example"], &format!("Subject: secret\r\n\r\n{body}end"));
    wait_until("delivered", || {
        let mut imap = Imap::greet(other.connect(Door::Imap)).expect("a greeting");
        imap.ok(&format!("LOGIN eve@far.example \"{PASSWORD}\""));
        imap.ok("STATUS INBOX (MESSAGES)").with("STATUS").concat().ends_with("(MESSAGES 1)")
    });
    // The answer comes before the line of the log.
    let line = |log: &str| log.lines().find(|line| line.contains("accepted")).map(str::to_owned);
    let accepted = wait_for("a line", || line(&other.log()));
    assert!(accepted.contains("TLSv1.3"), "{accepted}");
}

fn what_leaves_is_signed(io: Io) {
    let sink = Sink::start();
    let server = Server::start(setup(io, &sink, "\"*\""));
    server.rockdove(&["domain", "dkim", "create", DOMAIN, "--selector", "one"], "").ok();
    server.rockdove(&["domain", "dkim", "create", DOMAIN, "--selector", "two", "--ed25519"], "").ok();
    server.rockdove(&["domain", "dkim", "create", DOMAIN, "--selector", "three", "--inactive"], "").ok();
    let mut submission = Talk::as_ada(&server);
    let header = format!("From: Ada <ada@{DOMAIN}>\r\nTo: eve@far.example\r\nSubject: a  folded\r\n\tsubject");
    submission.send(&["eve@far.example"], &format!("{header}\r\n\r\n  text  with \t spaces \r\n..\r\n\r\n\r\n"));
    let large = "0123456789 ".repeat(20_000);
    submission.send(&["eve@far.example"], &format!("{header}\r\n\r\n{large}"));
    // Nobody lends the name of another to what they send.
    let foreign = header.replace("ada@", "ben@");
    submission.send(&["eve@far.example"], &format!("{foreign}\r\n\r\nfor a friend"));
    let received = sink.wait_for(3);
    let is_foreign = |message: &&Received| message.content.ends_with(b"for a friend\r\n");
    let text = String::from_utf8_lossy(&received.iter().find(is_foreign).expect("sent").content).into_owned();
    assert!(!text.contains("DKIM-Signature"), "{text}");
    let keys = server.path("keys.json");
    std::fs::write(&keys, server.rockdove(&["domain", "dkim", "list", DOMAIN, "--json"], "").ok()).expect("written");
    for (number, message) in received.iter().filter(|message| !is_foreign(message)).enumerate() {
        let file = server.path(&format!("message{number}"));
        std::fs::write(&file, &message.content).expect("written");
        let (file, keys) = (file.to_string_lossy().into_owned(), keys.to_string_lossy().into_owned());
        let mut selectors: Vec<String> =
            client_script("dkim_check.py", &[&file, &keys]).ok().lines().map(str::to_owned).collect();
        selectors.sort();
        assert_eq!(selectors, ["one", "two"]);
    }
    let zone = server.rockdove(&["domain", "dns", DOMAIN], "").ok();
    for wanted in ["one._domainkey.", "v=DKIM1; k=ed25519; p=", "MX 10 mail.", "v=spf1 mx -all", "v=DMARC1"] {
        assert!(zone.contains(wanted), "{wanted} is not in\n{zone}");
    }
    server.rockdove(&["domain", "dkim", "remove", DOMAIN, "three"], "").ok();
}

fn a_full_mailbox_keeps_nothing_from_being_noted(io: Io) {
    let sink = Sink::with(
        |address, _| if address.starts_with("nobody") { "550 5.1.1 no such user" } else { "250 2.1.5 ok" },
        |_| End::Say("250 2.0.0 taken"),
    );
    let server = Server::start(setup(io, &sink, "\"*\""));
    let ada = format!("ada@{DOMAIN}");
    server.rockdove(&["account", "quota", &ada, "1 B"], "").ok();
    Talk::as_ada(&server).send(&["one@a.example", "nobody@a.example"], "Subject: x\r\n\r\n");
    wait_until("an empty queue", || queue(&server).is_empty());
    assert_eq!(sink.received().len(), 1);
    assert_eq!(Pop3::inbox(&server, "ada").len(), 1, "the report is there all the same");
}
