//! Distribution lists: who may post, what members get, where bounces go.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use std::collections::BTreeSet;

use rockdove_tests::{DOMAIN, Door, End, Io, Pop3, Server, Setup, Sink, Talk, at, on_both, queue, wait_until};

on_both!(members_get_a_post_once_and_the_owner_its_bounces, rules_are_kept, thousands_of_members_are_one_message,);

fn start(io: Io, sink: &Sink) -> Server {
    let route = format!("name = \"test\"\ndomains = [\"*\"]\nhost = \"127.0.0.1\"\nport = {}", sink.address.port());
    let doors = [Door::Mx, Door::Submission, Door::Pop3];
    Server::start(Setup::new(io, &doors).with("outbound", "retry_first = \"1 s\"").with("[route]", &route))
}

fn members_get_a_post_once_and_the_owner_its_bounces(io: Io) {
    let sink = Sink::with(
        |address, _| if address.starts_with("bad") { "550 5.1.1 no such user" } else { "250 2.1.5 ok" },
        |_| End::Say("250 2.0.0 taken"),
    );
    let server = start(io, &sink);
    let news = at("news");
    server.rockdove(&["list", "add", &news, "--owner", &at("cleo")], "").ok();
    let (ada, ben) = (at("ada"), at("ben"));
    let members = [&*ada, &*ben, "eve@far.example", "fay@far.example", "bad@far.example"];
    server.rockdove(&[&["list", "member", "add", &news][..], &members[..]].concat(), "").ok();
    server.rockdove(&["alias", "add", &at("both"), &news, "fay@far.example"], "").ok();
    Talk::as_ada(&server).send(&[&at("both"), &news, &ben], "From: ada\r\nSubject: all\r\n\r\ntext");
    let received = sink.wait_for(2);
    let sender = at("news-bounces");
    let list = format!("Delivered-To: {news}\r\n");
    for message in &received {
        let text = String::from_utf8_lossy(&message.content).into_owned();
        if message.to == ["fay@far.example"] && message.from == at("ada") {
            assert!(!text.contains("List-Id"), "the alias leads to her too: {text}");
            continue;
        }
        assert_eq!(message.from, sender);
        assert!(text.starts_with(&list), "{text}");
        for wanted in [
            format!("List-Id: <news.{DOMAIN}>\r\n"),
            format!("List-Post: <mailto:{news}>\r\n"),
            format!("List-Unsubscribe: <mailto:news-request@{DOMAIN}?subject=unsubscribe>\r\n"),
        ] {
            assert!(text.contains(&wanted), "{wanted} is not in\n{text}");
        }
        assert!(text.ends_with("From: ada\r\nSubject: all\r\n\r\ntext\r\n"), "{text}");
    }
    let mut served: Vec<&String> = received.iter().flat_map(|message| &message.to).collect();
    served.sort();
    assert_eq!(served, ["eve@far.example", "fay@far.example"], "each once");
    // The bounce of the bad member goes to the owner; who has posted hears nothing.
    wait_until("a bounce", || Pop3::inbox(&server, "cleo").len() == 1);
    let bounce = String::from_utf8_lossy(&Pop3::inbox(&server, "cleo")[0]).into_owned();
    assert!(bounce.contains("Final-Recipient: rfc822; bad@far.example"), "{bounce}");
    let inbox = |name: &str| Pop3::inbox(&server, name);
    assert_eq!((inbox("ada").len(), inbox("ben").len()), (1, 1));
    let copy = String::from_utf8_lossy(&inbox("ada")[0]).into_owned();
    assert!(copy.starts_with(&format!("Return-Path: <{sender}>\r\n")) && copy.contains("\r\nList-Id: "), "{copy}");
    wait_until("an empty queue", || queue(&server).is_empty());
    let shown = server.rockdove(&["list", "show", &news], "").ok();
    assert!(shown.contains("5 members") && shown.contains("    eve@far.example"), "{shown}");
}

fn rules_are_kept(io: Io) {
    let sink = Sink::start();
    let server = start(io, &sink);
    let news = at("news");
    server.rockdove(&["list", "add", &news, "--owner", &at("cleo")], "").ok();
    let mut talk = Talk::as_stranger(&server, Door::Mx);
    let post = "Subject: x\r\n\r\n";
    let answer = talk.offer("eve@far.example", &[&news], post);
    assert!(answer.starts_with("550 5.2.4"), "nobody is there: {answer}");
    server.rockdove(&["list", "member", "add", &news, "Eve@far.example", &at("ada")], "").ok();
    let taken = |talk: &mut Talk, from: &str, content: &str| talk.offer(from, &[&news], content);
    assert!(taken(&mut talk, "eve@FAR.example", post).starts_with("250"), "a member");
    let answer = taken(&mut talk, "fay@far.example", post);
    assert!(answer.starts_with("550 5.7.2") && answer.contains("only members"), "{answer}");
    server.rockdove(&["list", "set", &news, "--posting", "owner", "--allow", "fay@far.example"], "").ok();
    assert!(taken(&mut talk, "fay@far.example", post).starts_with("250"), "who is named");
    assert!(taken(&mut talk, &at("cleo"), post).starts_with("250"), "the owner");
    let answer = taken(&mut talk, "eve@far.example", post);
    assert!(answer.starts_with("550 5.7.2") && answer.contains("only its owner"), "{answer}");
    server.rockdove(&["list", "set", &news, "--posting", "anyone"], "").ok();
    assert!(taken(&mut talk, "who@ever.example", post).starts_with("250"));
    assert!(taken(&mut talk, "", post).starts_with("550 5.7.2"), "no bounces");
    assert!(
        taken(&mut talk, "a@b.example", &format!("Auto-Submitted: auto-replied\r\n{post}")).starts_with("550 5.7.2")
    );
    let again = format!("List-Id: News <news.{DOMAIN}>\r\n{post}");
    assert!(taken(&mut talk, "a@b.example", &again).starts_with("554 5.4.6"), "it was here before");
    assert!(taken(&mut talk, "a@b.example", &format!("List-Id: <other.{DOMAIN}>\r\n{post}")).starts_with("250"));
    assert!(talk.offer("a@b.example", &[&at("news-owner")], post).starts_with("250"));
    assert_eq!(Pop3::inbox(&server, "cleo").len(), 1);
    assert_eq!(Pop3::inbox(&server, "ada").len(), 5);
    // A member without room keeps the post from nobody.
    server.rockdove(&["account", "quota", &at("ada"), "1 B"], "").ok();
    assert!(taken(&mut talk, "a@b.example", post).starts_with("250"));
    assert_eq!(Pop3::inbox(&server, "ada").len(), 5);
    sink.wait_for(6);
    let refused = server.rockdove(&["trace", "--to", &at("ada"), "--limit", "1"], "").ok();
    assert!(refused.contains("the mailbox of a member is full"), "{refused}");
    server.rockdove(&["list", "remove", &news], "").ok();
    assert!(talk.say("MAIL FROM:<a@b.example>").starts_with("250"));
    assert!(talk.say(&format!("RCPT TO:<{news}>")).starts_with("550"));
    wait_until("an empty queue", || queue(&server).is_empty());
}

fn thousands_of_members_are_one_message(io: Io) {
    let sink = Sink::start();
    let mut server = start(io, &sink);
    let news = at("news");
    server.rockdove(&["list", "add", &news, "--owner", &at("cleo"), "--posting", "anyone"], "").ok();
    let members: Vec<String> = (0..3_000).map(|number| format!("m{number}@far.example")).collect();
    for some in members.chunks(1_000) {
        let mut args = vec!["list", "member", "add", &news];
        args.extend(some.iter().map(String::as_str));
        server.rockdove(&args, "").ok();
    }
    server.stop();
    server.run();
    let body = "a line of text\r\n".repeat(1_000);
    let answer =
        Talk::as_stranger(&server, Door::Mx).offer("a@b.example", &[&news], &format!("Subject: x\r\n\r\n{body}"));
    assert!(answer.starts_with("250"), "{answer}");
    server.kill();
    server.run();
    wait_until("an empty queue", || queue(&server).is_empty());
    let received = sink.received();
    let served: BTreeSet<&String> = received.iter().flat_map(|message| &message.to).collect();
    assert_eq!(served.len(), members.len());
    assert!(received.iter().all(|message| message.to.len() <= 100));
}
