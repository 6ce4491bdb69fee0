//! Deleted mail comes back: expunged over IMAP and POP3, in deleted mailboxes, with the command beside the server.

use rockdove_tests::{Door, Imap, Io, Pop3, Server, Setup, on_both};
use serde_json::Value;

on_both!(deleted_mail_comes_back, deleted_mail_is_not_kept_when_nobody_wants_it,);

fn append(imap: &mut Imap, mailbox: &str, subject: &str) {
    let mail = format!("Subject: {subject}\r\n\r\nbody\r\n");
    imap.try_append(mailbox, mail.as_bytes()).expect("appended");
}

fn listed(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let ran = server.rockdove(&[&["undelete", "list", "ada@rockdove.test", "--json"], arguments].concat(), "");
    serde_json::from_str(&ran.out).expect("JSON")
}

fn restore(server: &Server, arguments: &[&str]) -> String {
    server.rockdove(&[&["undelete", "restore", "ada@rockdove.test"], arguments].concat(), "").out
}

fn deleted_mail_comes_back(io: Io) {
    let mut server = Server::start(Setup::new(io, &[Door::Imap, Door::Pop3]));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.ok("CREATE plans");
    for (mailbox, subject) in [("INBOX", "one"), ("INBOX", "two"), ("plans", "three"), ("plans", "four")] {
        append(&mut imap, mailbox, subject);
    }
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 +FLAGS (\\Deleted \\Flagged $Important)");
    imap.ok("EXPUNGE");
    imap.ok("DELETE plans");
    let mut pop = Pop3::login(&server, "ada");
    assert!(pop.say("DELE 1").starts_with("+OK") && pop.say("QUIT").starts_with("+OK"));
    assert_eq!(listed(&server, &[]).len(), 5, "a mailbox and four messages");
    let one = listed(&server, &["--subject", "ONE"]);
    assert_eq!((one.len(), &one[0]["mailbox"], &one[0]["subject"]), (1, &"INBOX".into(), &"one".into()));
    let id = one[0]["message"].to_string();
    assert_eq!(restore(&server, &["--message", &id]), "1 messages and 0 mailboxes restored\n");
    assert_eq!(restore(&server, &["--message", &id]), "0 messages and 0 mailboxes restored\n");
    imap.ok("NOOP");
    let flags = imap.ok("FETCH 1 (UID FLAGS)").with("FETCH").concat();
    assert!(flags.contains("UID 3") && flags.contains("\\Flagged") && flags.contains("$Important"), "{flags}");
    assert!(!flags.contains("\\Deleted"), "{flags}");
    assert_eq!(restore(&server, &["--mailbox", "plans"]), "2 messages and 1 mailboxes restored\n");
    assert_eq!(imap.ok("STATUS plans (MESSAGES)").with("MESSAGES 2").len(), 1);
    assert_eq!(restore(&server, &["--since", "1 h", "--to", "found"]), "1 messages and 0 mailboxes restored\n");
    assert_eq!(imap.ok("STATUS found (MESSAGES)").with("MESSAGES 1").len(), 1);
    imap.ok("DELETE found");
    let shown = server.rockdove(&["account", "show", "ada@rockdove.test"], "").out;
    assert!(shown.contains("can be had again: 1 messages"), "{shown}");
    let purged = server.rockdove(&["undelete", "purge", "ada@rockdove.test"], "").out;
    assert_eq!(purged, "1 deleted messages removed for good\n");
    assert_eq!(listed(&server, &[]), [] as [Value; 0]);
    server.stop();
    server.fsck();
}

fn deleted_mail_is_not_kept_when_nobody_wants_it(io: Io) {
    let mut server = Server::start(Setup::new(io, &[Door::Imap]).with("store", "undelete_for = \"0 s\""));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    append(&mut imap, "INBOX", "one");
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    assert_eq!(listed(&server, &[]), [] as [Value; 0]);
    server.stop();
    server.fsck();
}
