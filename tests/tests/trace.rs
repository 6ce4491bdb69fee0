//! What happened to a message can be asked for afterwards: by whom it concerns, in its order, through a kill.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use rockdove_tests::{DOMAIN, Door, End, Io, Server, Setup, Sink, Talk, at, on_both, wait_for};
use serde_json::Value;

on_both!(
    a_message_is_followed_from_door_to_door,
    interventions_are_told,
    what_was_refused_is_found,
    the_trace_outlives_a_kill_and_can_be_off,
);

fn setup(io: Io, sink: &Sink, retry: &str) -> Setup {
    let route = format!("name = \"test\"\ndomains = [\"*\"]\nhost = \"127.0.0.1\"\nport = {}", sink.address.port());
    let retry = format!("retry_first = \"{retry}\"\nretry_most = \"{retry}\"");
    Setup::new(io, &[Door::Mx, Door::Submission, Door::Imap]).with("outbound", &retry).with("[route]", &route)
}

fn trace(server: &Server, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["trace", "--json"].iter().chain(args).copied().collect();
    let printed = server.rockdove(&args, "").ok();
    serde_json::from_str::<Value>(&printed).expect("JSON").as_array().expect("a list").clone()
}

fn events(traced: &Value) -> &Vec<Value> {
    traced["events"].as_array().expect("a list")
}

/// The words of a message's events, and whom they are about.
fn words(traced: &Value) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    events(traced).iter().map(|event| (text(event, "what"), text(event, "to"))).collect()
}

fn a_message_is_followed_from_door_to_door(io: Io) {
    let sink = Sink::with(
        |address, before| match (address.split('@').next().unwrap_or_default(), before) {
            ("later", 0) => "451 4.2.1 not now",
            ("nobody", _) => "550 5.1.1 no such user",
            _ => "250 2.1.5 ok",
        },
        |_| End::Say("250 2.0.0 taken"),
    );
    let server = Server::start(setup(io, &sink, "1 s"));
    server.rockdove(&["account", "forward", &at("ben"), "--to", "later@far.example", "--keep"], "").ok();
    let content = "Message-ID: <first@client.example>\r\nSubject: hello\r\n\r\ntext";
    Talk::as_ada(&server).send(&[&at("ben"), "nobody@far.example", &at("cleo")], content);
    let is_over = |traced: &Value| {
        let words = words(traced);
        let count = |wanted: &str| words.iter().filter(|(what, _)| what == wanted).count();
        count("sent") == 1 && count("bounced") == 1
    };
    let found = wait_for("the end of its way", || {
        let found = trace(&server, &["--message-id", "first@client.example"]);
        found.first().is_some_and(&is_over).then_some(found)
    });
    assert_eq!(found.len(), 1);
    let happened = words(&found[0]);
    assert_eq!(happened[0], ("accepted".to_owned(), String::new()));
    for (what, to) in [
        ("delivered", at("ben")),
        ("delivered", at("cleo")),
        ("queued", "nobody@far.example".to_owned()),
        ("queued", "later@far.example".to_owned()),
        ("bounced", "nobody@far.example".to_owned()),
        ("deferred", "later@far.example".to_owned()),
        ("sent", "later@far.example".to_owned()),
    ] {
        let count = happened.iter().filter(|event| **event == (what.to_owned(), to.clone())).count();
        assert_eq!(count, 1, "{what} {to}: {happened:?}");
    }
    assert_eq!(happened.len(), 8);
    let of = |what: &str| events(&found[0]).iter().find(|event| event["what"] == what).expect("told").clone();
    assert_eq!(
        (of("accepted")["from"].as_str(), of("accepted")["auth"].as_str()),
        (Some(&*at("ada")), Some(&*at("ada")))
    );
    assert_eq!(of("sent")["reply"], "250 2.0.0 taken");
    assert_eq!(of("deferred")["reply"], "451 4.2.1 not now");
    assert_eq!((&of("delivered")["mailbox"], &of("delivered")["uid"]), (&Value::from("INBOX"), &Value::from("1")));
    let via = |event: &&Value| event["via"] == at("ben");
    assert_eq!(events(&found[0]).iter().filter(via).count(), 1);
    // The same by everybody whom it concerns; the report to its sender is a message of its own that names it.
    let id = found[0]["id"].as_str().expect("an id");
    for args in [["--id", id], ["--to", "LATER@far.example"], ["--ip", "127.0.0.1"]] {
        assert!(trace(&server, &args).contains(&found[0]), "{args:?}");
    }
    assert_eq!(trace(&server, &["--from", &at("ada"), "--to", &at("cleo")]), found);
    assert!(trace(&server, &["--from", &at("ada"), "--to", "x@y.example"]).is_empty());
    assert!(trace(&server, &["--to", &at("cleo"), "--until", "1 h"]).is_empty());
    let reports = trace(&server, &["--from", "", "--to", &at("ada")]);
    assert_eq!(words(&reports[0]), [("accepted".to_owned(), String::new()), ("delivered".to_owned(), at("ada"))]);
    assert!(events(&reports[0])[0]["why"].as_str().is_some_and(|why| why.contains(id)));
    let text = server.rockdove(&["trace", "--id", id], "").ok();
    assert!(text.starts_with(id) && text.contains("  sent  ") && text.contains("to=later@far.example"), "{text}");
}

fn interventions_are_told(io: Io) {
    let sink =
        Sink::with(|_, before| if before == 0 { "451 4.2.1 not now" } else { "250 ok" }, |_| End::Say("250 taken"));
    let server = Server::start(setup(io, &sink, "1 h"));
    Talk::as_ada(&server).send(&["one@a.example", "two@a.example"], "Subject: x\r\n\r\n");
    wait_for("put off", || {
        let found = trace(&server, &["--to", "two@a.example"]);
        words(found.first()?).iter().any(|(what, to)| what == "deferred" && to == "two@a.example").then_some(())
    });
    let status = server.status();
    let queue = &status["queue"];
    assert_eq!((&queue["messages"], &queue["recipients"], &queue["due"]), (&1.into(), &2.into(), &0.into()));
    server.rockdove(&["queue", "hold", "--all"], "").ok();
    assert_eq!(server.status()["queue"]["held"], 2);
    server.rockdove(&["queue", "release", "--all"], "").ok();
    let found = wait_for("sent", || {
        let found = trace(&server, &["--to", "two@a.example"]);
        words(found.first()?).iter().any(|(what, to)| what == "sent" && to == "two@a.example").then_some(found)
    });
    let happened: Vec<String> = words(&found[0]).into_iter().map(|(what, _)| what).collect();
    for what in ["held", "released"] {
        assert_eq!(happened.iter().filter(|word| *word == what).count(), 1, "{happened:?}");
    }
    let held = events(&found[0]).iter().find(|event| event["what"] == "held").expect("told");
    assert_eq!((held["by"].as_str(), held["from"].as_str()), (Some("administrator"), Some(&*at("ada"))));
    let metrics = server.rockdove(&["status", "--metrics"], "").ok();
    assert!(metrics.contains("rockdove_queue_recipients_held"), "{metrics}");
}

fn what_was_refused_is_found(io: Io) {
    let sink = Sink::start();
    let server = Server::start(setup(io, &sink, "1 s"));
    let mut talk = Talk::as_stranger(&server, Door::Mx);
    assert!(talk.say("MAIL FROM:<a@b.example>").starts_with("250"));
    assert!(talk.say(&format!("RCPT TO:<nobody@{DOMAIN}>")).starts_with('5'));
    let found = trace(&server, &["--to", &at("nobody")]);
    assert_eq!((found.len(), found[0]["id"].as_str()), (1, Some("")));
    assert_eq!(events(&found[0])[0]["why"], "no such recipient");
    // In DATA: more hops than a message may have.
    let many = "Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\r\n".repeat(101);
    assert!(talk.say("RSET").starts_with("250"));
    assert!(talk.offer("a@b.example", &[&at("ada")], &format!("{many}\r\n")).starts_with("554"));
    let found = trace(&server, &["--to", &at("ada")]);
    assert_eq!(words(&found[0]), [("refused".to_owned(), at("ada"))]);
    assert!(events(&found[0])[0]["why"].as_str().is_some_and(|why| why.contains("loop")), "{found:?}");
    assert_eq!(trace(&server, &["--from", "a@b.example", "--ip", "127.0.0.1"]), found);
}

fn the_trace_outlives_a_kill_and_can_be_off(io: Io) {
    let sink = Sink::start();
    let mut server = Server::start(setup(io, &sink, "1 s"));
    let mut talk = Talk::as_stranger(&server, Door::Mx);
    assert!(talk.offer("a@b.example", &[&at("ada")], "Subject: x\r\n\r\n").starts_with("250"));
    let before = trace(&server, &["--to", &at("ada")]);
    assert_eq!(before.len(), 1);
    server.kill();
    // Beside no server as well.
    assert_eq!(trace(&server, &["--to", &at("ada")]), before);
    server.run();
    assert_eq!(trace(&server, &["--to", &at("ada")]), before, "asking has written it");
    let off = Server::start(setup(io, &sink, "1 s").with("trace", "keep = \"0 s\""));
    let mut talk = Talk::as_stranger(&off, Door::Mx);
    assert!(talk.offer("a@b.example", &[&at("ada")], "Subject: x\r\n\r\n").starts_with("250"));
    assert!(trace(&off, &[]).is_empty());
}
