//! Spam: what users say of their mail over IMAP is learned, like mail is sorted then, and everything can be taken back.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rockdove_tests::{Door, Imap, Io, Server, Setup, Smtp, on_both};
use serde_json::Value;

on_both!(
    users_teach_by_moving_and_like_mail_is_sorted,
    files_are_learned_tested_and_forgotten,
    what_is_surely_spam_can_be_refused,
    nothing_is_judged_where_it_is_switched_off,
    what_users_say_outlives_a_kill,
);

/// How long something may take that happens in the background.
const WAIT: Duration = Duration::from_mins(1);
const ADA: &str = "ada@rockdove.test";

fn setup(io: Io, settings: &str) -> Setup {
    Setup::new(io, &[Door::Mx, Door::Imap, Door::Lmtp]).with("spam", settings)
}

fn spam(number: usize) -> String {
    format!(
        "From: <winner{number}@casino.example>\r\nTo: <ada@rockdove.test>\r\nSubject: You are a WINNER {number}\r\n\
         Message-ID: <{number}@casino.example>\r\n\r\n\
         Claim your cash prize money{number} today at http://www.casino.example/claim{number} dear friend!!!\r\n"
    )
}

fn ham(number: usize) -> String {
    format!(
        "From: Ann <ann@work.example>\r\nTo: <ada@rockdove.test>\r\nSubject: minutes of meeting {number}\r\n\
         Message-ID: <{number}@work.example>\r\n\r\n\
         The meeting about budget{number} was moved to Thursday, the agenda is below. Regards, Ann\r\n"
    )
}

/// Delivers from another server; the last reply.
fn deliver(server: &Server, mail: &str) -> u16 {
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("greeted");
    smtp.deliver(&["ada"], mail.as_bytes()).expect("answered")[0]
}

fn imap(server: &Server) -> Imap {
    Imap::login(server.connect(Door::Imap), "ada").expect("logged in")
}

fn count(imap: &mut Imap, mailbox: &str) -> u64 {
    let answer = imap.ok(&format!("STATUS {mailbox} (MESSAGES)")).with("MESSAGES").concat();
    let number: String =
        answer.split_once("MESSAGES ").expect("a count").1.chars().take_while(char::is_ascii_digit).collect();
    number.parse().expect("a number")
}

fn status(server: &Server, arguments: &[&str]) -> (u64, u64) {
    let printed = server.rockdove(&[&["spam", "status", "--json"], arguments].concat(), "").ok();
    let value: Value = serde_json::from_str(&printed).expect("JSON");
    (value["spam"].as_u64().expect("a count"), value["ham"].as_u64().expect("a count"))
}

fn wait_for(server: &Server, arguments: &[&str], expected: (u64, u64)) {
    let end = Instant::now() + WAIT;
    while status(server, arguments) != expected {
        assert!(Instant::now() < end, "{expected:?} expected, {:?} learned", status(server, arguments));
        thread::sleep(Duration::from_millis(50));
    }
}

/// Learns five of both: spam by moving it, what is wanted by answering it.
fn teach(server: &Server, imap: &mut Imap) {
    for number in 0..5 {
        assert_eq!((deliver(server, &spam(number)), deliver(server, &ham(number))), (250, 250));
    }
    imap.ok("SELECT INBOX");
    let found = imap.ok("SEARCH SUBJECT WINNER").with("SEARCH").concat();
    let places = found.trim_start_matches("SEARCH").trim().replace(' ', ",");
    assert!(!places.is_empty(), "{found}");
    imap.ok("STORE 1:* +FLAGS ($Important)");
    imap.ok(&format!("MOVE {places} Junk"));
    imap.ok("STORE 1:* +FLAGS (\\Answered)");
    wait_for(server, &[], (5, 5));
    wait_for(server, &["--account", ADA], (5, 5));
}

fn users_teach_by_moving_and_like_mail_is_sorted(io: Io) {
    let mut server = Server::start(setup(io, "learned_least = 5"));
    let mut imap = imap(&server);
    teach(&server, &mut imap);
    assert_eq!(deliver(&server, &spam(10)), 250);
    assert_eq!(deliver(&server, &ham(10)), 250);
    assert_eq!((count(&mut imap, "INBOX"), count(&mut imap, "Junk")), (6, 6));
    // One who wants nothing sorted says so.
    imap.ok("SETMETADATA \"\" (/private/vendor/rockdove/spam \"off\")");
    assert_eq!(deliver(&server, &spam(11)), 250);
    assert_eq!((count(&mut imap, "INBOX"), count(&mut imap, "Junk")), (7, 6));
    imap.ok("SETMETADATA \"\" (/private/vendor/rockdove/spam NIL)");
    // What comes by LMTP has been looked at.
    let mut lmtp = Smtp::hello(server.connect(Door::Lmtp), true).expect("greeted");
    assert_eq!(lmtp.deliver(&["ada"], spam(12).as_bytes()).expect("answered"), [250]);
    assert_eq!((count(&mut imap, "INBOX"), count(&mut imap, "Junk")), (8, 6));
    imap.ok("SELECT Junk");
    let fields = "BODY.PEEK[HEADER.FIELDS (X-Spam-Flag X-Spam-Status X-Spam-Score)]";
    let header = imap.ok(&format!("FETCH 6 {fields}")).with("FETCH").concat();
    assert!(header.contains("X-Spam-Flag: YES") && header.contains("X-Spam-Status: Yes, score="), "{header}");
    // The server learns nothing from itself, and from the user that it was wrong.
    imap.ok("MOVE 6 INBOX");
    wait_for(&server, &[], (5, 6));
    // What was learned of a message is taken back when it comes back.
    imap.ok("MOVE 5 INBOX");
    wait_for(&server, &["--account", ADA], (4, 7));
    imap.ok("SELECT INBOX");
    let header = imap.ok(&format!("FETCH 6 {fields}")).with("FETCH").concat();
    assert!(header.contains("X-Spam-Status: No, score=") && !header.contains("YES"), "{header}");
    imap.ok("STORE 6 +FLAGS ($Junk)");
    wait_for(&server, &[], (5, 7));
    server.stop();
    server.fsck();
}

fn files_are_learned_tested_and_forgotten(io: Io) {
    let mut server = Server::start(setup(io, "learned_least = 3"));
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("spam/deep");
    fs::create_dir_all(&folder).expect("made");
    for number in 0..3 {
        fs::write(folder.join(number.to_string()), spam(number).replace("\r\n", "\n")).expect("written");
    }
    let line = "From ann Thu Nov 26 10:00:00 2026\n";
    let messages: Vec<String> = (0..20).map(|number| ham(number).replace("\r\n", "\n")).collect();
    let mbox = messages.iter().fold(String::new(), |mbox, message| mbox + line + message + "\n");
    fs::write(place.path().join("ham.mbox"), mbox).expect("written");
    fs::write(place.path().join("new"), spam(9)).expect("written");
    let path = |name: &str| place.path().join(name).display().to_string();
    let train = |class: &str, name: &str| server.rockdove(&["spam", "train", class, &path(name)], "").ok();
    assert_eq!(train("--spam", "spam"), "3 learned, 0 were known\n");
    assert_eq!(train("--spam", "spam"), "0 learned, 3 were known\n");
    assert_eq!(train("--ham", "ham.mbox"), "20 learned, 0 were known\n");
    assert_eq!(status(&server, &[]), (3, 20));
    assert_eq!(status(&server, &["--account", ADA]), (0, 0));
    let tested = server.rockdove(&["spam", "test", &path("new"), "--json"], "").ok();
    let tested: Value = serde_json::from_str(&tested).expect("JSON");
    assert!(tested["score"].as_f64().expect("judged") > 0.9, "{tested}");
    let shown = server.rockdove(&["spam", "test", &path("new")], "").ok();
    assert!(shown.contains("prize") && shown.contains("unwanted"), "{shown}");
    assert_eq!(deliver(&server, &spam(9)), 250);
    assert_eq!(count(&mut imap(&server), "Junk"), 1);
    let forget = |arguments: &[&str]| server.rockdove(&[&["spam", "forget"], arguments].concat(), "").ok();
    assert_eq!(forget(&[&path("spam/deep/1"), &path("new")]), "1 forgotten, 1 were not known\n");
    assert_eq!(status(&server, &[]), (2, 20));
    server.rockdove(&["spam", "train", "--ham", &path("new"), "--account", ADA], "").ok();
    assert_eq!((status(&server, &[]), status(&server, &["--account", ADA])), ((2, 20), (0, 1)));
    forget(&["--all"]);
    assert_eq!((status(&server, &[]), status(&server, &["--account", ADA])), ((0, 0), (0, 1)));
    assert_eq!(server.rockdove(&["spam", "status", "--account", "eve@rockdove.test"], "").code, Some(1));
    server.stop();
    server.fsck();
}

fn what_is_surely_spam_can_be_refused(io: Io) {
    let mut server = Server::start(setup(io, "learned_least = 5\nreject_above = 0.9"));
    let mut imap = imap(&server);
    teach(&server, &mut imap);
    assert_eq!((deliver(&server, &spam(10)), deliver(&server, &ham(10))), (550, 250));
    assert_eq!((count(&mut imap, "INBOX"), count(&mut imap, "Junk")), (6, 5));
    server.stop();
    server.fsck();
}

fn nothing_is_judged_where_it_is_switched_off(io: Io) {
    let mut server = Server::start(setup(io, "enabled = false\nlearned_least = 1"));
    let mut imap = imap(&server);
    for number in 0..3 {
        assert_eq!((deliver(&server, &spam(number)), deliver(&server, &ham(number))), (250, 250));
    }
    imap.ok("SELECT INBOX");
    imap.ok("MOVE 1,3 Junk");
    imap.ok("STORE 1:* +FLAGS ($NotJunk)");
    assert_eq!(deliver(&server, &spam(4)), 250);
    assert_eq!((count(&mut imap, "INBOX"), count(&mut imap, "Junk")), (5, 2));
    assert_eq!(status(&server, &[]), (0, 0));
    server.stop();
    server.fsck();
}

fn what_users_say_outlives_a_kill(io: Io) {
    let mut server = Server::start(setup(io, "learned_least = 5"));
    let mut imap = imap(&server);
    for number in 0..5 {
        assert_eq!(deliver(&server, &spam(number)), 250);
    }
    imap.ok("SELECT INBOX");
    imap.ok("MOVE 1:5 Junk");
    server.kill();
    server.run();
    wait_for(&server, &[], (5, 0));
    server.kill();
    server.run();
    wait_for(&server, &["--account", ADA], (5, 0));
    server.stop();
    server.fsck();
}
