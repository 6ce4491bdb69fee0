//! Stopping and reloading while clients are at work.
#![allow(clippy::disallowed_methods, reason = "a test plays many clients at once")]

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rockdove_tests::{Door, Imap, Io, Pop3, Server, Setup, Smtp, Wire, on_both};

on_both!(a_stop_under_load_loses_nothing, a_reload_swaps_the_certificate, a_second_server_keeps_off);

/// Clients that deliver, and as many that append.
const CLIENTS: usize = 8;

/// What clients asked for and what was acknowledged, by the ids of the messages.
#[derive(Default)]
struct Book {
    tried: Mutex<BTreeSet<String>>,
    acknowledged: Mutex<BTreeSet<String>>,
}

fn ids(set: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    set.lock().expect("no panic")
}

/// Sends messages until the server refuses or goes, which it may only do when it has been told to stop.
fn send_until_the_end(book: &Book, who: &str, stopping: &AtomicBool, mut send: impl FnMut(&[u8]) -> io::Result<()>) {
    for number in 0.. {
        let id = format!("{who}-{number}");
        ids(&book.tried).insert(id.clone());
        if let Err(why) = send(format!("Subject: {id}\r\n\r\n").as_bytes()) {
            assert!(stopping.load(Ordering::SeqCst), "{who} is refused without reason: {why}");
            return;
        }
        ids(&book.acknowledged).insert(id);
    }
}

fn deliver(server: &Server, client: usize, book: &Book, stopping: &AtomicBool) {
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    send_until_the_end(book, &format!("delivered-{client}"), stopping, |message| {
        let replies = smtp.deliver(&["ada"], message)?;
        if replies == [250] { Ok(()) } else { Err(io::Error::other(format!("{replies:?}"))) }
    });
}

fn append(server: &Server, client: usize, book: &Book, stopping: &AtomicBool) {
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    send_until_the_end(book, &format!("appended-{client}"), stopping, |message| {
        imap.try_append("INBOX", message).map(drop)
    });
}

fn a_stop_under_load_loses_nothing(io: Io) {
    let mut server = Server::start(Setup::new(io, &[Door::Mx, Door::Imap, Door::Pop3]));
    let (book, stopping) = (Book::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (server, book, stopping) = (&server, &book, &stopping);
        for client in 0..CLIENTS {
            scope.spawn(move || deliver(server, client, book, stopping));
            scope.spawn(move || append(server, client, book, stopping));
        }
        thread::sleep(Duration::from_millis(700));
        stopping.store(true, Ordering::SeqCst);
        server.signal("TERM");
    });
    server.await_end();
    server.run();
    let mut stored = BTreeSet::new();
    for message in Pop3::inbox(&server, "ada") {
        let text = String::from_utf8_lossy(&message).into_owned();
        let (_, id) = text.split_once("Subject: ").expect("a subject");
        assert!(stored.insert(id.trim().to_owned()), "{id} twice");
    }
    let (acknowledged, tried) = (ids(&book.acknowledged), ids(&book.tried));
    for kind in ["delivered-", "appended-"] {
        assert!(acknowledged.iter().filter(|id| id.starts_with(kind)).count() > CLIENTS, "there was load: {kind}");
    }
    assert!(acknowledged.is_subset(&stored), "lost: {:?}", acknowledged.difference(&stored).collect::<Vec<_>>());
    assert!(stored.is_subset(&tried), "invented: {:?}", stored.difference(&tried).collect::<Vec<_>>());
}

fn a_reload_swaps_the_certificate(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Pop3, Door::Pop3s]));
    let first = server.certificate();
    let mut before = server.connect(Door::Pop3s);
    assert!(before.line().starts_with("+OK"));
    let mut clear = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    assert_eq!(before.certificate(), first);
    server.new_certificate();
    let second = server.certificate();
    assert_ne!(first, second);
    server.signal("HUP");
    let shown = || {
        let mut wire = Wire::tcp(server.address(Door::Pop3s)).expect("the server listens");
        // Until the reload is done the handshake fails, because the client trusts the new certificate alone.
        wire.secure(&server.certificate_path()).map(|()| wire.certificate())
    };
    let swapped = (0..500).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        shown().ok()
    });
    assert_eq!(swapped, Some(second.clone()));
    // Whoever was connected stays; a STARTTLS from now on shows the new one.
    before.send(b"CAPA\r\n");
    assert!(before.line().starts_with("+OK"));
    assert_eq!(clear.deliver(&["ada"], b"Subject: x\r\n\r\n").expect("delivered"), [250]);
    clear.wire.send(b"STARTTLS\r\n");
    assert!(clear.wire.line().starts_with("220"));
    clear.wire.secure(&server.certificate_path()).expect("TLS");
    assert_eq!(clear.wire.certificate(), second);
}

fn a_second_server_keeps_off(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx]));
    let second = server.rockdove(&["serve"], "");
    assert_ne!(second.code, Some(0), "{second:?}");
    assert!(!second.err.is_empty(), "it says why");
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    assert_eq!(smtp.deliver(&["ada"], b"Subject: x\r\n\r\n").expect("delivered"), [250]);
}
