//! Mail that others look at: real scanners find something, refuse, go away in the middle; and mail that is kept apart.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use std::{thread, time::Duration};

use rockdove_tests::{
    DOMAIN, Door, Imap, Io, Kind, PASSWORD, Pop3, Scanner, Server, Setup, Sink, Smtp, eicar, gtube, on_both, program,
    wait_until,
};
use serde_json::Value;

on_both!(
    what_is_infected_is_refused,
    a_scanner_that_goes_away_loses_nothing,
    what_is_not_scanned_says_so,
    rspamd_says_what_is_done,
    milters_say_what_is_done,
    a_milter_changes_the_header,
    what_is_kept_apart_is_let_go_once,
    what_users_send_is_looked_at_too,
    what_was_kept_long_enough_goes,
);

fn with(setup: Setup, section: &'static str, scanner: &Scanner, lines: &str) -> Setup {
    setup.with(section, &format!("address = \"{}\"\n{lines}", scanner.address()))
}

fn setup(io: Io) -> Setup {
    Setup::new(io, &[Door::Mx, Door::Submission, Door::Imap, Door::Pop3])
}

fn message(subject: &str, body: &str) -> String {
    format!("From: eve@far.example\r\nTo: ada@{DOMAIN}\r\nSubject: {subject}\r\n\r\n{body}\r\n")
}

/// The code of the reply behind a message.
fn deliver(server: &Server, to: &[&str], message: &str) -> u16 {
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    smtp.deliver(to, message.as_bytes()).expect("an answer")[0]
}

fn inbox(server: &Server, name: &str) -> Vec<String> {
    Pop3::inbox(server, name).iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect()
}

fn in_junk(server: &Server, name: &str) -> usize {
    let mut imap = Imap::greet(server.connect(Door::Imap)).expect("a greeting");
    imap.ok(&format!("LOGIN {name}@{DOMAIN} \"{PASSWORD}\""));
    let status = imap.ok("STATUS Junk (MESSAGES)").with("STATUS").concat();
    let count = status.rsplit_once("MESSAGES ").expect("a count").1.trim_end_matches(')');
    count.parse().expect("a number")
}

fn quarantine(server: &Server, more: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["quarantine", "list", "--json"].into_iter().chain(more.iter().copied()).collect();
    let printed = server.rockdove(&args, "").ok();
    serde_json::from_str::<Value>(&printed).expect("JSON").as_array().expect("a list").clone()
}

fn number(message: &Value) -> String {
    message["message"].to_string()
}

fn what_is_infected_is_refused(io: Io) {
    let clamd = Scanner::start(Kind::Clamd);
    let server = Server::start(with(setup(io), "clamd", &clamd, ""));
    assert_eq!(deliver(&server, &["ada", "ben"], &message("good", "nothing")), 250);
    assert_eq!(deliver(&server, &["ada", "ben"], &message("bad", &eicar())), 550);
    // In an attachment, and behind more than one chunk.
    let filler = "a line of text\r\n".repeat(20_000);
    assert_eq!(deliver(&server, &["ada"], &message("bad", &format!("{filler}{}", eicar()))), 550);
    let found = inbox(&server, "ada");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("\r\nX-Virus-Status: clean\r\nReceived: from client.example "), "{}", found[0]);
    assert_eq!(inbox(&server, "ben").len(), 1);
    assert!(server.log().contains("Eicar-Test-Signature.UNOFFICIAL"));
    // Larger than clamd takes: it says so, and the message is delivered as not scanned.
    let large = message("large", &"0123456789abcdef\r\n".repeat(80_000));
    assert_eq!(deliver(&server, &["ben"], &large), 250);
    assert!(inbox(&server, "ben")[1].contains("X-Virus-Status: not scanned (larger than 25 MiB)"));
}

fn a_scanner_that_goes_away_loses_nothing(io: Io) {
    let mut clamd = Scanner::start(Kind::Clamd);
    let server = Server::start(with(setup(io), "clamd", &clamd, ""));
    clamd.pause();
    let answer = thread::scope(|scope| {
        let waits = scope.spawn(|| deliver(&server, &["ada"], &message("in the middle", "text")));
        thread::sleep(Duration::from_millis(500));
        assert!(!waits.is_finished(), "it waits for the scanner");
        clamd.kill();
        waits.join().expect("answered")
    });
    assert_eq!(answer, 451);
    assert_eq!(deliver(&server, &["ada"], &message("while it is down", "text")), 451);
    assert!(inbox(&server, "ada").is_empty());
    clamd.run();
    assert_eq!(deliver(&server, &["ada"], &message("again", "text")), 250);
    assert_eq!(inbox(&server, "ada").len(), 1);
}

fn what_is_not_scanned_says_so(io: Io) {
    let mut clamd = Scanner::start(Kind::Clamd);
    let lines = "on_failure = \"mark\"\ninfected = \"mark\"\ntimeout = \"2 s\"\nsize_max = \"1 KiB\"";
    let server = Server::start(with(setup(io), "clamd", &clamd, lines));
    assert_eq!(deliver(&server, &["ada"], &message("bad", &eicar())), 250);
    assert_eq!((inbox(&server, "ada").len(), in_junk(&server, "ada")), (0, 1));
    assert_eq!(deliver(&server, &["ada"], &message("large", &"x".repeat(2_000))), 250);
    clamd.pause();
    assert_eq!(deliver(&server, &["ada"], &message("slow", "text")), 250);
    clamd.kill();
    assert_eq!(deliver(&server, &["ada"], &message("gone", "text")), 250);
    let found = inbox(&server, "ada");
    let why =
        ["not scanned (larger than 1 KiB)", "not scanned (clamd has no answer)", "not scanned (clamd has no answer)"];
    assert_eq!(found.len(), why.len());
    for (message, why) in found.iter().zip(why) {
        assert!(message.contains(&format!("\r\nX-Virus-Status: {why}\r\n")), "{message}");
    }
}

fn rspamd_says_what_is_done(io: Io) {
    let mut rspamd = Scanner::start(Kind::Rspamd);
    let server = Server::start(with(setup(io), "rspamd", &rspamd, "timeout = \"20 s\""));
    assert_eq!(deliver(&server, &["ada"], &message("good", "nothing")), 250);
    assert_eq!(deliver(&server, &["ada"], &message("spam", &gtube('X'))), 550);
    assert_eq!(deliver(&server, &["ada"], &message("perhaps", &gtube('Y'))), 250);
    let found = inbox(&server, "ada");
    assert_eq!((found.len(), in_junk(&server, "ada")), (1, 1));
    assert!(found[0].contains("\r\nX-Rspamd-Status: no action; score="), "{}", found[0]);
    rspamd.kill();
    assert_eq!(deliver(&server, &["ada"], &message("gone", "text")), 451);
    assert_eq!(inbox(&server, "ada").len(), 1);
}

fn milters_say_what_is_done(io: Io) {
    let mut milter = Scanner::start(Kind::Milter);
    let server = Server::start(with(setup(io), "[milter]", &milter, "name = \"test\""));
    let body = "a line\r\n.a dot\r\n".repeat(10_000);
    assert_eq!(deliver(&server, &["ada", "ben"], &message("add", &body)), 250);
    for (wish, code) in [("reject", 550), ("reply", 554), ("later", 451), ("discard", 250), ("quarantine", 250)] {
        assert_eq!(deliver(&server, &["ada"], &message(wish, "text")), code, "{wish}");
    }
    // One recipient is refused, so the message is: its sender must know.
    assert_eq!(deliver(&server, &["ada", "cleo"], &message("fine", "text")), 550);
    let found = inbox(&server, "ada");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("\r\nX-Milter: one\r\n\ttwo\r\nReceived: from client.example "), "{}", found[0]);
    assert!(found[0].ends_with(&format!("\r\n\r\n{body}\r\n")));
    assert!(inbox(&server, "cleo").is_empty());
    // What Sendmail's library understood.
    let told = milter.told();
    let (first, expected) = (&told[0], program("sha256sum", &[], format!("{body}\r\n").as_bytes()).ok());
    assert_eq!(first["address"], "127.0.0.1");
    assert_eq!(
        (&first["helo"], &first["sender"]),
        (&Value::from("client.example"), &"<sender@elsewhere.example>".into())
    );
    assert_eq!(first["recipients"], serde_json::json!([format!("<ada@{DOMAIN}>"), format!("<ben@{DOMAIN}>")]));
    assert_eq!(first["fields"][2], serde_json::json!(["Subject", "add"]));
    assert_eq!(first["j"], format!("mail.{DOMAIN}"));
    assert_eq!(first["body"].as_str(), expected.split(' ').next());
    // What was to be thrown away is there.
    let reasons: Vec<Value> = quarantine(&server, &[]).iter().map(|message| message["reason"].clone()).collect();
    assert_eq!(reasons, ["test: to be discarded", "test: it looks odd"]);
    milter.kill();
    assert_eq!(deliver(&server, &["ada"], &message("gone", "text")), 451);
}

fn a_milter_changes_the_header(io: Io) {
    let milter = Scanner::start(Kind::Milter);
    let server = Server::start(with(setup(io), "[milter]", &milter, "name = \"test\""));
    let attachment = "QUJD".repeat(19).as_str().to_owned() + "\r\n";
    let text = message("change", &attachment.repeat(2_000)).replace("Subject:", "X-Secret: yes\r\nSubject:");
    assert_eq!(deliver(&server, &["ada"], &text), 250);
    let (found, expected) =
        (inbox(&server, "ada"), text.replace("X-Secret: yes\r\nSubject: change", "Subject: changed"));
    let expected = expected.replacen("\r\n\r\n", "\r\nX-Milter: changed it\r\n\r\n", 1);
    assert!(found[0].ends_with(&expected), "{}", &found[0][..600]);
}

fn what_is_kept_apart_is_let_go_once(io: Io) {
    let clamd = Scanner::start(Kind::Clamd);
    let mut server = Server::start(with(setup(io), "clamd", &clamd, "infected = \"quarantine\""));
    let text = message("bad", &format!("{}{}", "a line of text\r\n".repeat(2_000), eicar()));
    assert_eq!(deliver(&server, &["ada", "ben"], &text), 250);
    assert_eq!(deliver(&server, &["ben"], &message("another", &eicar())), 250);
    assert!(inbox(&server, "ada").is_empty() && inbox(&server, "ben").is_empty());
    server.fsck();
    server.kill();
    server.fsck();
    server.run();
    let kept = quarantine(&server, &[]);
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0]["recipients"], serde_json::json!([format!("ada@{DOMAIN}"), format!("ben@{DOMAIN}")]));
    assert_eq!((&kept[0]["subject"], &kept[0]["sender"]), (&"bad".into(), &"sender@elsewhere.example".into()));
    assert_eq!(kept[0]["reason"], "the message is infected: Eicar-Test-Signature.UNOFFICIAL");
    assert_eq!(kept[0]["helo"], "client.example");
    let (ada, cleo) = (format!("ada@{DOMAIN}"), format!("cleo@{DOMAIN}"));
    assert_eq!(quarantine(&server, &["--account", &ada]).len(), 1);
    assert!(quarantine(&server, &["--account", &cleo]).is_empty());
    let shown = server.rockdove(&["quarantine", "show", &number(&kept[0]), "--json"], "").ok();
    assert!(shown.contains("X-Virus-Status: infected (Eicar-Test-Signature.UNOFFICIAL)"), "{shown}");
    assert_eq!(server.rockdove(&["quarantine", "release", &number(&kept[0]), "--account", &cleo], "").code, Some(1));
    // Ada has hers; Ben's is still kept.
    server.rockdove(&["quarantine", "release", &number(&kept[0]), "--account", &ada], "").ok();
    let again = server.rockdove(&["quarantine", "release", &number(&kept[0]), "--account", &ada], "");
    assert_ne!(again.code, Some(0), "she has it already");
    server.kill();
    server.run();
    let found = inbox(&server, "ada");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("Return-Path: <sender@elsewhere.example>\r\nDelivered-To: ada@"), "{}", found[0]);
    assert!(found[0].contains("Received: from client.example ([127.0.0.1])\r\n\tby mail."), "{}", found[0]);
    assert!(found[0].ends_with(&format!("X-Virus-Status: infected (Eicar-Test-Signature.UNOFFICIAL)\r\n{text}")));
    assert_eq!(quarantine(&server, &[])[0]["recipients"], serde_json::json!([format!("ben@{DOMAIN}")]));
    server.rockdove(&["quarantine", "delete", &number(&kept[1])], "").ok();
    // Without a running server, too.
    server.stop();
    server.rockdove(&["quarantine", "release", "--all"], "").ok();
    server.fsck();
    server.run();
    assert_eq!(inbox(&server, "ben").len(), 1);
    assert!(quarantine(&server, &[]).is_empty());
}

/// A message that `ada` submits; the code of the reply.
fn submit(server: &Server, to: &str, message: &str) -> u16 {
    let url = format!("smtp://{}", server.address(Door::Submission));
    let (user, from, to) = (format!("ada@{DOMAIN}:{PASSWORD}"), format!("<ada@{DOMAIN}>"), format!("<{to}>"));
    let args = ["-sv", "--url", &url, "--user", &user, "--mail-from", &from, "--mail-rcpt", &to, "--upload-file", "-"];
    let ran = program("curl", &args, message.as_bytes());
    let codes = ran.err.lines().filter_map(|line| line.strip_prefix("< ")?.get(..3)?.parse().ok());
    let codes: Vec<u16> = codes.collect();
    let data = codes.iter().position(|code| *code == 354).unwrap_or_else(|| panic!("no DATA: {}", ran.err));
    codes[data + 1]
}

fn what_users_send_is_looked_at_too(io: Io) {
    let (clamd, sink) = (Scanner::start(Kind::Clamd), Sink::start());
    let port = sink.address.port();
    let route = format!("name = \"test\"\ndomains = [\"*\"]\nhost = \"127.0.0.1\"\nport = {port}");
    let setup = with(setup(io), "clamd", &clamd, "infected = \"quarantine\"").with("[route]", &route);
    let server = Server::start(setup);
    assert_eq!(submit(&server, "eve@far.example", &message("good", "text")), 250);
    let sent = sink.wait_for(1);
    assert!(String::from_utf8_lossy(&sent[0].content).starts_with("X-Virus-Status: clean\r\n"));
    assert_eq!(submit(&server, "eve@far.example", &message("bad", &eicar())), 250);
    let kept = quarantine(&server, &[]);
    assert_eq!((kept.len(), &kept[0]["login"]), (1, &format!("ada@{DOMAIN}").into()));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(sink.received().len(), 1, "it does not leave");
    server.rockdove(&["quarantine", "release", &number(&kept[0])], "").ok();
    let sent = sink.wait_for(2);
    assert_eq!(sent[1].to, ["eve@far.example"]);
    let text = String::from_utf8_lossy(&sent[1].content).into_owned();
    assert!(text.starts_with("Received: from") && text.contains("Message-ID: <"), "{text}");
    assert_eq!(text.matches("Received:").count(), 1, "{text}");
}

fn what_was_kept_long_enough_goes(io: Io) {
    let clamd = Scanner::start(Kind::Clamd);
    let setup = with(setup(io), "clamd", &clamd, "infected = \"quarantine\"");
    let server = Server::start(setup.with("quarantine", "keep = \"1 min\"\nmessages_max = 1"));
    assert_eq!(deliver(&server, &["ada"], &message("bad", &eicar())), 250);
    assert_eq!(deliver(&server, &["ada"], &message("one too many", &eicar())), 452);
    wait_until("it is deleted", || quarantine(&server, &[]).is_empty());
    assert_eq!(deliver(&server, &["ada"], &message("there is room again", &eicar())), 250);
}
