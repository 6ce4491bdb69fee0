//! Whatever happens to connections, their descriptors are closed. Alone in its process, because it counts them.

#[path = "wire/toy.rs"]
#[allow(dead_code, reason = "shared with another test")]
mod toy;

use std::{io::Write, thread, time::Duration};

use rockdove::{
    net::limits::Limits,
    runtime::wire::{Backend, BackendChoice},
};
use toy::{Server, dial};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

fn settle_to(count: usize) {
    for _ in 0..500 {
        if descriptors() <= count {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let open = std::fs::read_dir("/proc/self/fd").expect("proc").flatten();
    let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(descriptors() <= count, "{} descriptors, {count} before: {open:?}", descriptors());
}

/// Peers that leave in every way, twenty of each.
fn trouble(server: &Server) {
    for round in 0..20 {
        let mut busy = server.connect();
        busy.send("big 5000000\r\n");
        socket2::SockRef::from(&busy.stream).set_linger(Some(Duration::ZERO)).expect("linger");
        drop(busy);
        let mut ticking = server.connect();
        ticking.send("tick 1\r\nlater x\r\n");
        thread::sleep(Duration::from_millis(round));
        drop(ticking);
        let mut polite = server.connect();
        polite.send("bye\r\n");
        assert_eq!(polite.line(), "bye");
        drop(polite);
        let mut broken = dial(server.addresses[1]);
        broken.write_all(b"\x16\x03\x01\x02\x00nonsense").expect("write");
        drop(broken);
        let mut panicking = server.connect();
        panicking.send("panic\r\n");
    }
}

#[test]
fn every_descriptor_is_closed() {
    let backends = [Some(Backend::Epoll), BackendChoice::IoUring.settle().ok()];
    for backend in backends.into_iter().flatten() {
        // Once per process, the runtime opens a pair of sockets for signals.
        drop(Server::start(backend, Limits::default()));
        let before = descriptors();
        let mut server = Server::start(backend, Limits::new(10_000, 10_000));
        drop(server.connect());
        server.wait_until_open(0);
        let at_rest = descriptors();
        trouble(&server);
        server.wait_until_open(0);
        settle_to(at_rest);
        let idle: Vec<_> = (0..50).map(|_| server.connect()).collect();
        drop(idle);
        assert_eq!(server.stop(), 0);
        settle_to(before);
    }
}
