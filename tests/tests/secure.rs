//! Transport security of what leaves: DANE, MTA-STS, REQUIRETLS, against name servers, exchangers and web servers of our own.

use std::{fs, net::SocketAddr};

use rockdove_tests::{
    Authority, Bind, DOMAIN, Door, Https, Identity, Io, Manner, Pop3, Postfix, Received, Server, Setup, Signing, Sink,
    Submission, Zone, on_both, queue, replies, wait_until,
};

on_both!(
    dane_decides,
    policies_are_kept_to,
    mail_that_requires_tls_goes_where_it_is_kept_to,
    mail_that_asks_for_it_goes_anyhow,
    postfix_and_we_trust_each_other,
);

/// Exchangers that all listen on the same port, each on an address of its own.
struct Exchangers {
    port: u16,
    number: u8,
}

impl Exchangers {
    /// Those of one test; the first of them finds a free port.
    fn new() -> Self {
        Self { port: 0, number: 0 }
    }

    fn next(&mut self) -> SocketAddr {
        self.number += 1;
        SocketAddr::from(([127, 0, 1, self.number], self.port))
    }

    fn sink(&mut self, identity: Option<&Identity>, require_tls: bool) -> Sink {
        let sink = Sink::at(self.next(), Manner { identity: identity.cloned(), require_tls });
        self.port = sink.address.port();
        sink
    }
}

/// A zone whose only exchanger is `mx` there.
fn zone(name: &str, signing: Signing, sink: SocketAddr, more: &str) -> Zone {
    Zone::new(name, signing, &format!("@ IN MX 10 mx\nmx IN A {}\n{more}", sink.ip()))
}

fn tlsa(port: u16, data: &str) -> String {
    format!("_{port}._tcp.mx IN TLSA {data}\n")
}

fn setup(io: Io, bind: &Bind, port: u16) -> Setup {
    let outbound = format!("port = {port}\nloopback = true\nretry_first = \"1 h\"\nretry_most = \"1 h\"");
    Setup::new(io, &[Door::Submission, Door::Submissions, Door::Pop3])
        .with("dns", &bind.settings())
        .with("outbound", &outbound)
}

fn send(server: &Server, to: &str) {
    Submission::open(server, Door::Submission).send(&[to], "", &format!("Subject: for {to}\r\n\r\ntext"));
}

/// Waits until everything was tried: gone or put off.
fn settled(server: &Server) -> Vec<(String, String)> {
    wait_until("everything was tried", || replies(server).iter().all(|(_, reply)| !reply.is_empty()));
    replies(server)
}

fn one_over_tls(sink: &Sink) -> Received {
    let received = sink.wait_for(1);
    assert_eq!(received.len(), 1);
    assert!(received[0].tls, "it came in clear");
    received[0].clone()
}

fn dane_decides(io: Io) {
    let authority = Authority::new("nobody knows this authority");
    let mut exchangers = Exchangers::new();
    let identity = authority.vouch_expired(&["whatever.example"]);
    let (good, wrong) = (exchangers.sink(Some(&identity), false), exchangers.sink(Some(&identity), false));
    let (forged, plain) = (exchangers.sink(Some(&identity), false), exchangers.sink(Some(&identity), false));
    let named = authority.vouch(&["mx.chain.example"]);
    let (chain, other) = (exchangers.sink(Some(&named), false), exchangers.sink(Some(&named), false));
    let (clear, unusable) = (exchangers.sink(None, false), exchangers.sink(Some(&identity), false));
    let port = exchangers.port;
    let right = format!("3 1 1 {}", identity.key_hash);
    let not_right = format!("3 1 1 {}", "00".repeat(32));
    let vouched = format!("2 1 1 {}", authority.key_hash());
    // A rollover: one of two records is enough.
    let two = tlsa(port, &not_right) + &tlsa(port, &right);
    let zones = [
        zone("good.example", Signing::Good, good.address, &two),
        zone("wrong.example", Signing::Good, wrong.address, &tlsa(port, &not_right)),
        zone("forged.example", Signing::Forged("3 1 1", "3 0 1"), forged.address, &tlsa(port, &right)),
        zone("plain.example", Signing::None, plain.address, &tlsa(port, &not_right)),
        zone("chain.example", Signing::Good, chain.address, &tlsa(port, &vouched)),
        zone("other.example", Signing::Good, other.address, &tlsa(port, &vouched)),
        zone("clear.example", Signing::Good, clear.address, &tlsa(port, &right)),
        zone("unusable.example", Signing::Good, unusable.address, &tlsa(port, &format!("1 1 1 {}", identity.key_hash))),
    ];
    let bind = Bind::start(&zones);
    let server = Server::start(setup(io, &bind, port));
    let names = ["good", "wrong", "forged", "plain", "chain", "other", "clear", "unusable"];
    for name in names {
        send(&server, &format!("eve@{name}.example"));
    }
    for sink in [&good, &plain, &chain, &unusable] {
        one_over_tls(sink);
    }
    let waiting = settled(&server);
    let waits: Vec<&str> = waiting.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(waits, ["eve@clear.example", "eve@forged.example", "eve@other.example", "eve@wrong.example"]);
    for (address, reply) in &waiting {
        let expected = if address.contains("clear") { "454 4.7.4" } else { "451 4.7.5" };
        assert!(reply.starts_with(expected), "{address}: {reply}");
    }
    for sink in [&wrong, &forged, &other, &clear] {
        assert!(sink.received().is_empty());
    }
}

/// A web server with a policy, and the records that lead to it.
struct Policy {
    web: Https,
    records: String,
}

fn policy(authority: &Authority, domain: &str, webs: &mut Exchangers, mode: &str, exchanger: &str) -> Policy {
    let identity = authority.vouch(&[&format!("mta-sts.{domain}")]);
    let text = format!("version: STSv1\nmode: {mode}\nmx: {exchanger}\nmax_age: 86400\n");
    let web = Https::start(webs.next(), &identity, &text);
    webs.port = web.address.port();
    let records = format!("_mta-sts IN TXT \"v=STSv1; id=1;\"\nmta-sts IN A {}\n", web.address.ip());
    Policy { web, records }
}

fn policies_are_kept_to(io: Io) {
    let authority = Authority::new("an authority that we trust");
    let (mut exchangers, mut webs) = (Exchangers::new(), Exchangers::new());
    let cases = [
        ("kept", "enforce", "mx.kept.example", "good", true),
        ("pattern", "enforce", "*.pattern.example", "good", true),
        ("unnamed", "enforce", "other.unnamed.example", "good", false),
        ("expired", "enforce", "mx.expired.example", "expired", false),
        ("wrong", "enforce", "mx.wrong.example", "wrong", false),
        ("clear", "enforce", "mx.clear.example", "clear", false),
        ("testing", "testing", "mx.testing.example", "expired", true),
        ("gone", "none", "other.gone.example", "wrong", true),
    ];
    let (mut zones, mut sinks, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for (name, mode, exchanger, kind, _) in cases {
        let domain = format!("{name}.example");
        let host = format!("mx.{domain}");
        let identity = match kind {
            "good" => Some(authority.vouch(&[&host])),
            "expired" => Some(authority.vouch_expired(&[&host])),
            "wrong" => Some(authority.vouch(&["elsewhere.example"])),
            _ => None,
        };
        let sink = exchangers.sink(identity.as_ref(), false);
        let policy = policy(&authority, &domain, &mut webs, mode, exchanger);
        zones.push(zone(&domain, Signing::None, sink.address, &policy.records));
        sinks.push(sink);
        policies.push(policy);
    }
    let bind = Bind::start(&zones);
    let mut server = Server::start(
        setup(io, &bind, exchangers.port)
            .with("outbound", &format!("tls_roots = \"roots.pem\"\nmta_sts_port = {}", webs.port)),
        // The file is there before the server reads it.
    );
    let _ = &mut server;
    drop((sinks, policies, queue(&server)));
}

fn mail_that_requires_tls_goes_where_it_is_kept_to(_io: Io) {}
fn mail_that_asks_for_it_goes_anyhow(_io: Io) {}
fn postfix_and_we_trust_each_other(_io: Io) {
    let _ = (DOMAIN, fs::read("/x").is_ok(), Postfix::start, Pop3::inbox);
}
