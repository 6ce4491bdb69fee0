//! The disk fills up: mail is put off, not lost; reading and making room go on, and so does everything when there is room.
#![allow(clippy::disallowed_methods, reason = "a test waits for another process, so it reads the clock")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rockdove_tests::{DOMAIN, Door, Imap, Io, PASSWORD, Server, Setup, Smtp, on_both};

/// No disk has this much.
const NEVER: &str = "free_space_min = \"8388607 TiB\"";
const ALWAYS: &str = "free_space_min = \"0 B\"";

/// Puts a reserve in force in the running server, and waits until it is.
fn reserve(server: &Server, from: &str, to: &str) {
    let config = fs::read_to_string(server.config_path()).expect("a configuration");
    assert!(config.contains(from), "{config}");
    fs::write(server.config_path(), config.replace(from, to)).expect("written");
    server.signal("HUP");
    let figure = format!("rockdove_store_nearly_full {}", u8::from(to == NEVER));
    let began = Instant::now();
    while !server.rockdove(&["status", "--metrics"], "").ok().contains(&figure) {
        assert!(began.elapsed() < Duration::from_secs(30), "the reserve is not in force");
        thread::sleep(Duration::from_millis(20));
    }
}

fn uids(imap: &mut Imap) -> usize {
    imap.ok("SELECT INBOX")
        .with(" EXISTS")
        .first()
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .expect("EXISTS")
}

fn mail_waits_while_the_disk_is_nearly_full(io: Io) {
    let doors = [Door::Mx, Door::Lmtp, Door::Imap, Door::Pop3];
    let server = Server::start(Setup::new(io, &doors).with("store", ALWAYS));
    let [mut mx, mut lmtp] =
        [Door::Mx, Door::Lmtp].map(|door| Smtp::hello(server.connect(door), door == Door::Lmtp).expect("a greeting"));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    let small = b"Subject: x\r\n\r\ntext\r\n".to_vec();
    let large = [&small[..], &b"a line of a large message\r\n".repeat(40_000)].concat();
    for message in [&small, &large] {
        assert_eq!(mx.deliver(&["ada"], message).expect("answered"), [250]);
    }
    assert_eq!(uids(&mut imap), 2);
    reserve(&server, ALWAYS, NEVER);
    for message in [&small, &large] {
        assert_eq!(mx.deliver(&["ada"], message).expect("answered"), [452]);
        assert_eq!(lmtp.deliver(&["ada", "ben"], message).expect("answered"), [452, 452]);
    }
    for command in
        [format!("APPEND INBOX {{{}+}}\r\n{}", small.len(), String::from_utf8_lossy(&small)), "COPY 1 Archive".into()]
    {
        let reply = imap.try_say(&command).expect("answered");
        assert!(reply.status.starts_with("NO [UNAVAILABLE]"), "{}", reply.status);
    }
    let refused = server.rockdove(&["account", "add", &format!("dora@{DOMAIN}"), "--password-stdin"], PASSWORD);
    assert!(refused.code == Some(1) && refused.err.contains("the disk is nearly full"), "{}", refused.err);
    // What was there is there, and can be read, changed, moved and removed.
    assert_eq!(uids(&mut imap), 2);
    let read = imap.ok("FETCH 2 BODY.PEEK[]").untagged;
    assert!(read[0].windows(large.len()).any(|window| window == large), "the large message is whole");
    imap.ok("STORE 2 +FLAGS (\\Seen)");
    imap.ok("MOVE 1 Archive");
    imap.ok("STORE 1 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    server.fsck();
    reserve(&server, NEVER, ALWAYS);
    assert_eq!(mx.deliver(&["ada"], &large).expect("the same connection goes on"), [250]);
    assert_eq!(lmtp.deliver(&["ada", "ben"], &small).expect("answered"), [250, 250]);
    imap.try_append("INBOX", &small).expect("taken");
    assert_eq!(uids(&mut imap), 3, "and what was refused is not there");
}

on_both!(mail_waits_while_the_disk_is_nearly_full);
