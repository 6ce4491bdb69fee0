//! Stopping and reloading while clients are at work.
#![allow(clippy::disallowed_methods, reason = "a test plays many clients at once")]

use std::{
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rockdove_tests::{Door, Io, Pop3, Server, Setup, Smtp, on_both};

on_both!(a_stop_under_load_loses_nothing, a_reload_swaps_the_certificate, a_second_server_keeps_off);

const CLIENTS: usize = 10;

/// Delivers until the connection ends; what was acknowledged.
fn deliver_on(
    server: &Server,
    client: usize,
    stopping: &AtomicBool,
) -> io::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut tried, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false)?;
    for number in 0.. {
        let id = format!("{client}-{number}");
        tried.insert(id.clone());
        match smtp.deliver(&["ada"], format!("Subject: {id}\r\n\r\n").as_bytes()) {
            Ok(replies) if replies == [250] => {
                acknowledged.insert(id);
            }
            refused => {
                assert!(stopping.load(Ordering::SeqCst), "refused without reason: {refused:?}");
                break;
            }
        }
    }
    Ok((tried, acknowledged))
}

fn a_stop_under_load_loses_nothing(io: Io) {
    let mut server = Server::start(Setup::new(io, &[Door::Mx, Door::Pop3]));
    let stopping = AtomicBool::new(false);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let (server, stopping) = (&server, &stopping);
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || deliver_on(server, client, stopping))).collect();
        thread::sleep(Duration::from_millis(700));
        stopping.store(true, Ordering::SeqCst);
        server.signal("TERM");
        clients.into_iter().map(|client| client.join().expect("no panic").expect("a greeting")).collect()
    });
    server.await_end();
    server.run();
    let stored = Pop3::inbox(&server, "ada");
    let mut ids = BTreeSet::new();
    for message in &stored {
        let text = String::from_utf8_lossy(message).into_owned();
        let (_, id) = text.split_once("Subject: ").expect("a subject");
        assert!(ids.insert(id.trim().to_owned()), "{id} twice");
    }
    let acknowledged: BTreeSet<String> = outcomes.iter().flat_map(|(_, acknowledged)| acknowledged.clone()).collect();
    let tried: BTreeSet<String> = outcomes.iter().flat_map(|(tried, _)| tried.clone()).collect();
    assert!(acknowledged.len() >= CLIENTS, "there was load");
    assert!(acknowledged.is_subset(&ids), "lost: {:?}", acknowledged.difference(&ids));
    assert!(ids.is_subset(&tried), "invented: {:?}", ids.difference(&tried));
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
        let mut wire = rockdove_tests::Wire::tcp(server.address(Door::Pop3s)).expect("the server listens");
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
