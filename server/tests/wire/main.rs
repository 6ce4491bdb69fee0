//! Both kinds of wire under the same suite: a toy protocol over real sockets, with peers that behave badly.

#[allow(dead_code, reason = "shared with a measurement")]
mod toy;

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::Duration,
};

use rockdove::{
    net::limits::Limits,
    runtime::wire::{Backend, BackendChoice},
};
use toy::{Client, Server, dial};

/// Runs `test` on every kind of wire this machine has.
fn on_both(test: impl Fn(Backend)) {
    test(Backend::Epoll);
    match BackendChoice::IoUring.settle() {
        Ok(backend) => test(backend),
        Err(error) => eprintln!("only epoll was tested: {error}"),
    }
}

fn roomy() -> Limits {
    Limits::new(10_000, 10_000)
}

fn reset(client: Client<std::net::TcpStream>) {
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(client);
}

#[test]
fn lines_are_answered_whole_and_cut() {
    on_both(|backend| {
        let mut server = Server::start(backend, roomy());
        let mut client = server.connect();
        client.send("echo one\r\necho two\r\n");
        assert_eq!((client.line(), client.line()), ("one".into(), "two".into()));
        for byte in "echo three\r\n".chars() {
            client.send(&byte.to_string());
        }
        assert_eq!(client.line(), "three");
        client.send("later four\r\nlater five\r\n");
        let answers = [client.line(), client.line()];
        assert!(answers.contains(&"four".into()) && answers.contains(&"five".into()));
        client.send("bye\r\n");
        assert_eq!(client.line(), "bye");
        client.ended();
        drop(client);
        server.wait_until_open(0);
        assert_eq!(server.stop(), 0);
    });
}

#[test]
fn a_slow_reader_gets_every_byte() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = server.connect();
        client.send("big 20000000\r\necho after\r\n");
        let mut chunk = vec![0; 200_000];
        let mut early = 0;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(10));
            let count = client.stream.read(&mut chunk).unwrap_or(0);
            assert!(chunk[..count].iter().all(|byte| *byte == b'x'));
            early += count;
        }
        assert_eq!(early + client.line().len(), 20_000_000);
        assert_eq!(client.line(), "after");
    });
}

#[test]
fn large_input_arrives_whole() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = server.connect();
        let text: String = (0..3_000_000).map(|n| char::from(b'a' + u8::try_from(n % 23).expect("small"))).collect();
        client.send("echo ");
        client.send(&text);
        client.send("\r\n");
        assert!(client.line() == text);
    });
}

#[test]
fn the_last_line_arrives_though_input_is_unread() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        for _ in 0..20 {
            let mut client = server.connect();
            client.send("bye\r\n");
            client.send(&"echo never read\r\n".repeat(2000));
            thread::sleep(Duration::from_millis(2));
            assert_eq!(client.line(), "bye");
        }
        server.wait_until_open(0);
    });
}

#[test]
fn nothing_is_lost_when_deadlines_fire_between_reads() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = server.connect();
        client.send("tick 3\r\n");
        let text = "the quick brown fox jumps over the lazy dog";
        for byte in format!("echo {text}\r\n").chars() {
            client.send(&byte.to_string());
            thread::sleep(Duration::from_millis(4));
        }
        assert_eq!(client.line(), text);
        for n in 0..30 {
            client.send(&format!("later {n}\r\n"));
            thread::sleep(Duration::from_millis(1));
            client.send(&format!("echo e{n}\r\n"));
            let answers = [client.line(), client.line()];
            assert!(answers.contains(&n.to_string()) && answers.contains(&format!("e{n}")), "{answers:?}");
        }
        client.send("ticks\r\n");
        assert!(client.line().parse::<usize>().expect("number") > 20);
    });
}

#[test]
fn input_waits_while_the_session_does_not_receive() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = server.connect();
        client.send("block\r\n");
        client.send("echo next\r\n");
        assert_eq!((client.line(), client.line()), ("unblocked".into(), "next".into()));
    });
}

#[test]
fn a_half_closed_peer_is_answered() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = server.connect();
        client.send("echo last words\r\n");
        client.stream.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!((client.line(), client.line()), ("last words".into(), "end".into()));
        client.ended();
        drop(client);
        server.wait_until_open(0);
    });
}

#[test]
fn a_reset_is_noticed_at_rest_and_in_the_middle_of_an_answer() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let client = server.connect();
        server.wait_until_open(1);
        reset(client);
        server.wait_until_open(0);
        let mut client = server.connect();
        client.send("big 50000000\r\n");
        thread::sleep(Duration::from_millis(50));
        reset(client);
        server.wait_until_open(0);
    });
}

#[test]
fn a_panic_ends_one_connection_only() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut others: Vec<_> = (0..4).map(|_| server.connect()).collect();
        let mut client = server.connect();
        client.send("panic\r\n");
        client.ended();
        for other in &mut others {
            other.send("echo alive\r\n");
            assert_eq!(other.line(), "alive");
        }
        server.wait_until_open(4);
    });
}

#[test]
fn tls_from_the_start_and_by_starttls() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = server.tls(dial(server.addresses[1]));
        assert!(client.line().starts_with("hello "));
        client.send("big 3000000\r\necho after\r\n");
        assert_eq!((client.line().len(), client.line()), (3_000_000, "after".into()));
        let text = "t".repeat(1_000_000);
        client.send(&format!("echo {text}\r\n"));
        assert!(client.line() == text);
        client.send("bye\r\n");
        assert_eq!(client.line(), "bye");
        client.ended();

        let mut clear = server.connect();
        clear.send("tls\r\n");
        assert_eq!(clear.line(), "go");
        let mut client = server.tls(clear.stream);
        assert_eq!(client.line(), "secure TLSv1.3");
        client.send("later under TLS\r\n");
        assert_eq!(client.line(), "under TLS");
    });
}

#[test]
fn bytes_put_behind_starttls_in_clear_are_dropped() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut clear = server.connect();
        clear.send("tls\r\necho injected\r\n");
        assert_eq!(clear.line(), "go");
        let mut client = server.tls(clear.stream);
        assert_eq!(client.line(), "secure TLSv1.3");
        client.send("echo honest\r\n");
        assert_eq!(client.line(), "honest");
    });
}

#[test]
fn nonsense_instead_of_tls_ends_the_connection() {
    on_both(|backend| {
        let mut server = Server::start(backend, roomy());
        let mut stream = dial(server.addresses[1]);
        stream.write_all(b"EHLO in clear, but long enough for a TLS record header\r\n").expect("write");
        let mut rest = Vec::new();
        // The alert may or may not arrive before the reset.
        stream.read_to_end(&mut rest).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&rest).contains("hello"));
        assert_eq!(server.stop(), 0);
    });
}

#[test]
fn proxy_headers_name_the_client() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = Client::new(dial(server.addresses[2]));
        client.send("PROXY TCP4 192.0.2.9 198.51.100.1 4000 143\r\necho first\r\n");
        assert_eq!((client.line(), client.line()), ("hello 192.0.2.9:4000".into(), "first".into()));
        let mut client = Client::new(dial(server.addresses[2]));
        for byte in "PROXY TCP6 2001:db8::9 2001:db8::1 4000 143\r\n".chars() {
            client.send(&byte.to_string());
        }
        assert_eq!(client.line(), "hello [2001:db8::9]:4000");
        let mut client = Client::new(dial(server.addresses[2]));
        client.send("EHLO without header\r\n");
        client.ended();
    });
}

#[test]
fn a_slow_proxy_header_is_not_waited_for() {
    on_both(|backend| {
        let server = Server::start(backend, roomy());
        let mut client = Client::new(dial(server.addresses[2]));
        client.send("PROXY TCP4 ");
        client.ended();
    });
}

#[test]
fn too_many_connections_are_refused_politely() {
    on_both(|backend| {
        let server = Server::start(backend, Limits::new(2, 1));
        let proxied = |address: &str| {
            let mut client = Client::new(dial(server.addresses[2]));
            client.send(&format!("PROXY TCP4 {address} 198.51.100.1 4000 143\r\n"));
            let greeting = client.line();
            (client, greeting)
        };
        let (_first, greeting) = proxied("192.0.2.9");
        assert!(greeting.starts_with("hello"));
        let (mut same, greeting) = proxied("192.0.2.9");
        assert!(greeting.starts_with("* BYE "), "{greeting}");
        same.ended();
        drop(same);
        thread::sleep(Duration::from_millis(100));
        let (_second, greeting) = proxied("192.0.2.10");
        assert!(greeting.starts_with("hello"));
        let mut third = Client::new(dial(server.addresses[0]));
        assert!(third.line().starts_with("* BYE "));
        third.ended();
    });
}

#[test]
fn stopping_tells_every_session_and_cuts_off_who_does_not_go() {
    on_both(|backend| {
        let mut server = Server::start(backend, roomy());
        let mut idle: Vec<_> = (0..100).map(|_| server.connect()).collect();
        let mut busy = server.connect();
        busy.send("big 100000000\r\n");
        thread::sleep(Duration::from_millis(100));
        thread::scope(|scope| {
            let stopping = scope.spawn(|| server.stop());
            for client in &mut idle {
                assert_eq!(client.line(), "closing");
                client.ended();
            }
            drop(idle);
            assert_eq!(stopping.join().expect("stopped"), 1, "the one that does not read is cut off");
        });
    });
}
