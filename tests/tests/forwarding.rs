//! Mail that aliases and accounts send on: to whom, how often, and never in a circle.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use rockdove_tests::{
    DOMAIN, Door, End, Io, Pop3, Received, Server, Setup, Sink, Talk, at, on_both, queue, wait_until,
};

on_both!(
    an_alias_leads_here_and_away,
    accounts_send_on_and_keep_or_not,
    what_comes_back_is_refused,
    bounces_are_sent_on_and_end_there,
    senders_are_rewritten_and_bounces_find_back,
    nothing_is_lost_or_sent_twice_through_a_kill,
);

const DOORS: [Door; 4] = [Door::Mx, Door::Submission, Door::Lmtp, Door::Pop3];

/// A server whose mail for others goes to `sink`.
fn start(io: Io, sink: &Sink) -> Server {
    let route = format!("name = \"test\"\ndomains = [\"*\"]\nhost = \"127.0.0.1\"\nport = {}", sink.address.port());
    let soon = "retry_first = \"1 s\"\nretry_most = \"1 s\"";
    Server::start(Setup::new(io, &DOORS).with("outbound", soon).with("[route]", &route))
}

fn recipients(received: &[Received]) -> Vec<&str> {
    let mut all: Vec<&str> = received.iter().flat_map(|message| &message.to).map(String::as_str).collect();
    all.sort_unstable();
    all
}

fn text(message: &Received) -> String {
    String::from_utf8_lossy(&message.content).into_owned()
}

fn an_alias_leads_here_and_away(io: Io) {
    let sink = Sink::start();
    let server = start(io, &sink);
    let (sales, all) = (at("sales"), at("all"));
    server.rockdove(&["alias", "add", &sales, &at("ada"), "eve@far.example", "fay@far.example"], "").ok();
    server.rockdove(&["alias", "add", &all, &sales, "eve@far.example", "gil@other.example", &at("ben")], "").ok();
    let mut talk = Talk::as_stranger(&server, Door::Mx);
    let body = "Subject: an order\r\n\r\n..text\r\nmore";
    let answer = talk.offer("buyer@shop.example", &[&all, &at("ada")], body);
    assert!(answer.starts_with("250"), "{answer}");
    let received = sink.wait_for(2);
    wait_until("an empty queue", || queue(&server).is_empty());
    assert_eq!(sink.received().len(), received.len(), "each domain and each of the two who send on: {received:?}");
    assert_eq!(recipients(&received), ["eve@far.example", "fay@far.example", "gil@other.example"]);
    for message in &received {
        let by = if message.to.contains(&"gil@other.example".to_owned()) { &all } else { &sales };
        assert!(text(message).starts_with(&format!("Delivered-To: {by}\r\nReceived: from elsewhere.example")));
        assert!(text(message).ends_with("Subject: an order\r\n\r\n.text\r\nmore\r\n"), "octet for octet");
        assert!(!text(message).contains("Return-Path"));
    }
    assert_eq!((Pop3::inbox(&server, "ada").len(), Pop3::inbox(&server, "ben").len()), (1, 1));
    // Being led away is no relay: what aliases do not name is refused as before.
    assert!(talk.say("MAIL FROM:<buyer@shop.example>").starts_with("250"));
    assert!(talk.say("RCPT TO:<eve@far.example>").starts_with('5'));
}

fn accounts_send_on_and_keep_or_not(io: Io) {
    let sink = Sink::start();
    let server = start(io, &sink);
    let (ada, ben) = (at("ada"), at("ben"));
    server.rockdove(&["account", "forward", &ada, "--to", "eve@far.example", "--to", &ben, "--keep"], "").ok();
    server.rockdove(&["account", "forward", &ben, "--to", "fay@far.example"], "").ok();
    let shown = server.rockdove(&["account", "forward", &ben], "").ok();
    assert!(shown.contains("sent on to: fay@far.example"), "{shown}");
    let mut lmtp = Talk::as_stranger(&server, Door::Lmtp);
    let answer = lmtp.offer("buyer@shop.example", &[&ada], "Subject: one\r\n\r\n");
    assert!(answer.starts_with("250"), "{answer}");
    let received = sink.wait_for(2);
    assert_eq!(recipients(&received), ["eve@far.example", "fay@far.example"]);
    assert_eq!((Pop3::inbox(&server, "ada").len(), Pop3::inbox(&server, "ben").len()), (1, 0));
    // What our own users send to each other is sent on as well, and is nobody's business to bounce twice.
    Talk::as_user(&server, "cleo").offer(&at("cleo"), &[&ben], "Subject: two\r\n\r\n");
    let received = sink.wait_for(3);
    assert_eq!((&*received[2].from, &*received[2].to[0]), (&*at("cleo"), "fay@far.example"));
    server.rockdove(&["account", "forward", &ben, "--none"], "").ok();
    Talk::as_ada(&server).send(&[&ben], "Subject: three\r\n\r\n");
    assert_eq!(Pop3::inbox(&server, "ben").len(), 1);
    wait_until("an empty queue", || queue(&server).is_empty());
    let refused = server.rockdove(&["account", "forward", &ada, "--to", &at("nobody")], "");
    assert_ne!(refused.code, Some(0));
}

fn what_comes_back_is_refused(io: Io) {
    let sink = Sink::start();
    let server = start(io, &sink);
    server.rockdove(&["account", "forward", &at("ada"), "--to", "ada@far.example"], "").ok();
    server.rockdove(&["alias", "add", &at("team"), "team@far.example", &at("ben")], "").ok();
    let mut talk = Talk::as_stranger(&server, Door::Mx);
    talk.offer("a@b.example", &[&at("ada")], "Subject: round\r\n\r\n");
    talk.offer("a@b.example", &[&at("team")], "Subject: round\r\n\r\n");
    let received = sink.wait_for(2);
    // The other side sends both back to us.
    for message in &received {
        let to = if text(message).contains("Delivered-To: ada") { at("Ada") } else { at("team") };
        let answer = talk.offer("a@b.example", &[&to], text(message).trim_end_matches("\r\n"));
        assert!(answer.starts_with("554 5.4.6"), "{answer}");
    }
    // A field in the body, or of somebody else, is no loop.
    let innocent = format!("Subject: no\r\nDelivered-To: other@b.example\r\n\r\nDelivered-To: {}", at("ada"));
    assert!(talk.offer("a@b.example", &[&at("ada")], &innocent).starts_with("250"));
    sink.wait_for(3);
    assert_eq!(Pop3::inbox(&server, "ben").len(), 1, "once");
    wait_until("an empty queue", || queue(&server).is_empty());
    let many = "Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\r\n".repeat(101);
    let answer = talk.offer("a@b.example", &[&at("ada")], &format!("{many}Subject: old\r\n\r\n"));
    assert!(answer.starts_with("554 5.4.6"), "{answer}");
}

fn bounces_are_sent_on_and_end_there(io: Io) {
    let sink = Sink::with(
        |address, _| if address.starts_with("good") { "250 2.1.5 ok" } else { "550 5.1.1 no such user" },
        |_| End::Say("250 2.0.0 taken"),
    );
    let server = start(io, &sink);
    server
        .rockdove(&["account", "forward", &at("ada"), "--to", "good@far.example", "--to", "bad@far.example"], "")
        .ok();
    // A bounce from elsewhere: its null sender stays null, and nobody is told that one of the two refuses it.
    let bounce = "Subject: failed\r\nAuto-Submitted: auto-replied\r\nFrom: postmaster@rockdove.test\r\n\r\n";
    assert!(Talk::as_stranger(&server, Door::Mx).offer("", &[&at("ada")], bounce).starts_with("250"));
    let received = sink.wait_for(1);
    assert_eq!((&*received[0].from, &*received[0].to[0]), ("", "good@far.example"));
    wait_until("an empty queue", || queue(&server).is_empty());
    // One of our own, about mail that ada has sent: it follows her too.
    Talk::as_ada(&server).send(&["nobody@far.example"], "Subject: hello\r\n\r\n");
    let received = sink.wait_for(2);
    assert_eq!((&*received[1].from, &*received[1].to[0]), ("", "good@far.example"));
    assert!(text(&received[1]).contains("Final-Recipient: rfc822; nobody@far.example"), "{}", text(&received[1]));
    wait_until("an empty queue", || queue(&server).is_empty());
    assert_eq!(sink.received().len(), 2);
}

fn nothing_is_lost_or_sent_twice_through_a_kill(io: Io) {
    let sink = Sink::with(
        |address, before| if address.starts_with("slow") && before == 0 { "451 4.2.1 not now" } else { "250 ok" },
        |_| End::Say("250 2.0.0 taken"),
    );
    let mut server = start(io, &sink);
    server.rockdove(&["account", "forward", &at("ada"), "--to", "slow@far.example", "--keep"], "").ok();
    assert!(
        Talk::as_stranger(&server, Door::Mx)
            .offer("a@b.example", &[&at("ada")], "Subject: x\r\n\r\n")
            .starts_with("250")
    );
    server.kill();
    server.run();
    let received = sink.wait_for(1);
    wait_until("an empty queue", || queue(&server).is_empty());
    assert_eq!((received.len(), sink.received().len()), (1, 1));
    assert_eq!(Pop3::inbox(&server, "ada").len(), 1);
}

fn senders_are_rewritten_and_bounces_find_back(io: Io) {
    let sink = Sink::with(
        |address, _| if address.starts_with("bad") { "550 5.1.1 no such user" } else { "250 2.1.5 ok" },
        |_| End::Say("250 2.0.0 taken"),
    );
    let server = start(io, &sink);
    server.rockdove(&["account", "forward", &at("ada"), "--to", "ada@far.example"], "").ok();
    server.rockdove(&["account", "forward", &at("ben"), "--to", "bad@far.example"], "").ok();
    let mut talk = Talk::as_stranger(&server, Door::Mx);
    assert!(talk.offer("Buyer@shop.example", &[&at("ada")], "Subject: x\r\n\r\n").starts_with("250"));
    let sender = sink.wait_for(1)[0].from.clone();
    assert!(sender.starts_with("SRS0=") && sender.ends_with(&format!("=shop.example=Buyer@{DOMAIN}")), "{sender}");
    // A bounce finds back, also from a server that has changed the case.
    for to in [sender.clone(), sender.to_lowercase()] {
        assert!(talk.offer("", &[&to], "Subject: failed\r\n\r\n").starts_with("250"), "{to}");
    }
    let received = sink.wait_for(3);
    let mut back: Vec<(&str, &str)> = received[1..].iter().map(|message| (&*message.from, &*message.to[0])).collect();
    back.sort_unstable();
    assert_eq!(back, [("", "Buyer@shop.example"), ("", "buyer@shop.example")]);
    // Nothing else does, and nobody can make such an address.
    let answer = talk.offer("spam@b.example", &[&sender], "Subject: buy\r\n\r\n");
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
    assert!(talk.say("MAIL FROM:<>").starts_with("250"));
    for forged in [sender.replace("Buyer", "other"), format!("SRS0=AAAAAAAA=AA=shop.example=x@{DOMAIN}")] {
        let answer = talk.say(&format!("RCPT TO:<{forged}>"));
        assert!(answer.starts_with("550"), "{answer}");
    }
    talk.say("RSET");
    // What is refused where it was sent on to comes back to the sender itself.
    assert!(talk.offer("buyer@shop.example", &[&at("ben")], "Subject: y\r\n\r\n").starts_with("250"));
    let received = sink.wait_for(4);
    assert_eq!((&*received[3].from, &*received[3].to[0]), ("", "buyer@shop.example"));
    assert!(text(&received[3]).contains("bad@far.example"), "{}", text(&received[3]));
    wait_until("an empty queue", || queue(&server).is_empty());
}
