//! Transport security of what leaves: DANE, MTA-STS, REQUIRETLS, against name servers, exchangers and web servers of our own.

use std::{fs, net::SocketAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use rockdove_tests::{
    Authority, Bind, DOMAIN, Door, Https, Identity, Io, Manner, PASSWORD, Pop3, Postfix, Received, Server, Setup,
    SignedZone, Signing, Sink, Submission, on_both, program, queue, replies, sha256, wait_until,
};
use serde_json::Value;
use tempfile::NamedTempFile;

on_both!(
    dane_decides,
    policies_are_kept_to,
    mail_that_requires_tls_goes_where_it_is_kept_to,
    mail_that_asks_for_it_goes_anyhow,
    postfix_and_we_trust_each_other,
    others_are_told_how_well_it_went,
    what_is_published_is_looked_up,
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
fn zone(name: &str, signing: Signing, sink: SocketAddr, more: &str) -> SignedZone {
    SignedZone::new(name, signing, &format!("@ IN MX 10 mx\nmx IN A {}\n{more}", sink.ip()))
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

/// A web server with the policy of a domain, and the records that lead to it.
fn policy(authority: &Authority, domain: &str, webs: &mut Exchangers, mode: &str, exchanger: &str) -> (Https, String) {
    let identity = authority.vouch(&[&format!("mta-sts.{domain}")]);
    let text = format!("version: STSv1\r\nmode: {mode}\r\nmx: {exchanger}\r\nmax_age: 86400\r\n");
    let web = Https::start(webs.next(), &identity, &text);
    webs.port = web.address.port();
    let records = format!("_mta-sts IN TXT \"v=STSv1; id=1;\"\nmta-sts IN A {}\n", web.address.ip());
    (web, records)
}

/// A file with the authorities that are trusted.
fn roots(authority: &Authority) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), authority.pem()).expect("written");
    file
}

fn policies_are_kept_to(io: Io) {
    let authority = Authority::new("an authority that we trust");
    let (mut exchangers, mut webs) = (Exchangers::new(), Exchangers::new());
    let cases = [
        ("clear", "enforce", "mx.clear.example", "clear", Some("454 4.7.4")),
        ("expired", "enforce", "mx.expired.example", "expired", Some("451 4.7.5")),
        ("forged", "enforce", "mx.forged.example", "good", None),
        ("gone", "none", "other.gone.example", "wrong", None),
        ("kept", "enforce", "mx.kept.example", "good", None),
        ("pattern", "enforce", "*.pattern.example", "good", None),
        ("testing", "testing", "mx.testing.example", "expired", None),
        ("unnamed", "enforce", "other.unnamed.example", "good", Some("451 4.7.5")),
        ("wrong", "enforce", "mx.wrong.example", "wrong", Some("451 4.7.5")),
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
        let (web, records) = policy(&authority, &domain, &mut webs, mode, exchanger);
        zones.push(zone(&domain, Signing::None, sink.address, &records));
        sinks.push(sink);
        policies.push(web);
    }
    // Whoever has no certificate for the name has no policy to give.
    policies[2].become_other(&authority.vouch(&["elsewhere.example"]));
    let (bind, roots) = (Bind::start(&zones), roots(&authority));
    let sts = format!("tls_roots = \"{}\"\nmta_sts_port = {}", roots.path().display(), webs.port);
    let mut server = Server::start(setup(io, &bind, exchangers.port).with("outbound", &sts));
    for (name, ..) in cases {
        send(&server, &format!("eve@{name}.example"));
    }
    let expected: Vec<(String, &str)> =
        cases.iter().filter_map(|(name, .., reply)| Some((format!("eve@{name}.example"), (*reply)?))).collect();
    wait_until("everything was tried", || {
        replies(&server).len() == expected.len() && replies(&server).iter().all(|(_, reply)| !reply.is_empty())
    });
    for ((address, reply), (expected_address, expected_reply)) in replies(&server).iter().zip(&expected) {
        assert_eq!(address, expected_address);
        assert!(reply.starts_with(expected_reply), "{address}: {reply}");
    }
    for ((name, .., reply), sink) in cases.iter().zip(&sinks) {
        assert_eq!(sink.received().len(), usize::from(reply.is_none()), "{name}");
        assert!(sink.received().iter().all(|message| message.tls), "{name}");
    }
    // What was fetched is kept, over a restart too, whatever becomes of the server that gave it.
    let asked = || policies.iter().map(|web| web.asked().len()).collect::<Vec<_>>();
    assert_eq!(asked(), [1, 1, 0, 1, 1, 1, 1, 1, 1]);
    for web in &policies {
        web.answer("nothing");
    }
    server.stop();
    server.run();
    send(&server, "eve@kept.example");
    sinks[4].wait_for(2);
    server.rockdove(&["queue", "retry", "--next-hop", "unnamed.example"], "").ok();
    wait_until("tried again", || {
        let tasks: Vec<Value> = queue(&server).iter().map(|message| message["tasks"][0].clone()).collect();
        tasks.iter().any(|task| task["next_hop"] == "unnamed.example" && task["attempts"] == 2)
    });
    assert!(sinks[7].received().is_empty());
    assert_eq!(asked(), [1, 1, 0, 1, 1, 1, 1, 1, 1]);
}

fn mail_that_requires_tls_goes_where_it_is_kept_to(io: Io) {
    let far = Server::start(Setup::new(io, &[Door::Mx, Door::Pop3]));
    far.rockdove(&["domain", "add", "far.example"], "").ok();
    far.rockdove(&["account", "add", "eve@far.example", "--password-stdin"], PASSWORD).ok();
    let mut exchangers = Exchangers { port: far.address(Door::Mx).port(), number: 0 };
    let authority = Authority::new("nobody knows this authority");
    let identity = authority.vouch(&["whatever.example"]);
    let (old, unproved) = (exchangers.sink(Some(&identity), false), exchangers.sink(Some(&identity), true));
    let new = exchangers.sink(Some(&identity), true);
    let port = exchangers.port;
    let record = format!("3 1 1 {}", identity.key_hash);
    let both = format!(
        "@ IN MX 10 old\n@ IN MX 20 new\nold IN A {}\nnew IN A {}\n\
         _{port}._tcp.old IN TLSA {record}\n_{port}._tcp.new IN TLSA {record}",
        old.address.ip(),
        new.address.ip()
    );
    let zones = [
        zone(
            "far.example",
            Signing::Good,
            far.address(Door::Mx),
            &tlsa(port, &format!("3 0 1 {}", sha256(&far.certificate()))),
        ),
        zone("old.example", Signing::Good, old.address, &tlsa(port, &record)),
        zone("unproved.example", Signing::None, unproved.address, ""),
        SignedZone::new("both.example", Signing::Good, &both),
    ];
    let bind = Bind::start(&zones);
    let server = Server::start(setup(io, &bind, port));
    let mut clear = Submission::open(&server, Door::Submission);
    assert!(clear.say(&format!("MAIL FROM:<ada@{DOMAIN}> REQUIRETLS")).starts_with("555"));
    let mut submission = Submission::open(&server, Door::Submissions);
    for name in ["far", "old", "unproved", "both"] {
        submission.send(&[&format!("eve@{name}.example")], "REQUIRETLS", "Subject: secret\r\n\r\nwhat nobody may read");
    }
    let received = one_over_tls(&new);
    assert!(received.parameters.contains("REQUIRETLS"), "{}", received.parameters);
    wait_until("two reports", || Pop3::inbox(&server, "ada").len() == 2);
    let mut reports: Vec<String> =
        Pop3::inbox(&server, "ada").iter().map(|report| String::from_utf8_lossy(report).into_owned()).collect();
    reports.sort_by_key(|report| report.contains("eve@unproved.example"));
    for (report, address, status) in
        [(&reports[0], "eve@old.example", "5.7.30"), (&reports[1], "eve@unproved.example", "5.7.10")]
    {
        assert!(report.contains(address) && report.contains(&format!("Status: {status}")), "{report}");
        assert!(report.contains("Subject: secret") && !report.contains("nobody may read"), "{report}");
    }
    wait_until("an empty queue", || queue(&server).is_empty());
    let log = far.log();
    assert!(log.contains("eve@far.example"), "{log}");
    assert!(old.received().is_empty() && unproved.received().is_empty());
}

fn mail_that_asks_for_it_goes_anyhow(io: Io) {
    let authority = Authority::new("nobody knows this authority");
    let mut exchangers = Exchangers::new();
    let identity = authority.vouch(&["whatever.example"]);
    let (wrong, clear) = (exchangers.sink(Some(&identity), false), exchangers.sink(None, false));
    let record = tlsa(exchangers.port, &format!("3 1 1 {}", "00".repeat(32)));
    let zones = [
        zone("wrong.example", Signing::Good, wrong.address, &record),
        zone("clear.example", Signing::Good, clear.address, &record),
    ];
    let bind = Bind::start(&zones);
    let server = Server::start(setup(io, &bind, exchangers.port));
    let mut submission = Submission::open(&server, Door::Submission);
    let to = ["eve@wrong.example", "eve@clear.example"];
    submission.send(&to, "", "Subject: with care\r\n\r\ntext");
    wait_until("tried", || replies(&server).iter().filter(|(_, reply)| !reply.is_empty()).count() == 2);
    server.rockdove(&["queue", "cancel", "--all"], "").ok();
    submission.send(&to, "", "Subject: your certificate\r\nTLS-Required: No\r\n\r\nis broken");
    assert!(one_over_tls(&wrong).content.ends_with(b"is broken\r\n"));
    assert!(!clear.wait_for(1)[0].tls);
    wait_until("an empty queue", || queue(&server).is_empty());
}

fn postfix_and_we_trust_each_other(io: Io) {
    let authority = Authority::new("nobody knows this authority");
    let mut exchangers = Exchangers::new();
    let identity = authority.vouch(&["mx.postfix.example"]);
    let sink = Sink::start();
    // The port of somebody who has just gone.
    let taken = exchangers.sink(None, false);
    let postfix = Postfix::start(exchangers.next(), &identity, sink.address, "smtp_tls_security_level = none");
    let records = tlsa(exchangers.port, &format!("2 1 1 {}", authority.key_hash()));
    let bind = Bind::start(&[zone("postfix.example", Signing::Good, postfix.address, &records)]);
    let setup = Setup::new(io, &[Door::Submission, Door::Pop3, Door::Mx])
        .with("dns", &bind.settings())
        .with("outbound", &format!("port = {}\nloopback = true", taken.address.port()));
    let server = Server::start(setup);
    send(&server, "eve@postfix.example");
    let received = sink.wait_for(1);
    let text = String::from_utf8_lossy(&received[0].content).into_owned();
    assert!(text.contains("by postfix.example (Postfix)") && text.contains("using TLSv1.3"), "{text}");
    // And back: to the one server that has our certificate.
    let fingerprint: Vec<String> = sha256(&server.certificate())
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect();
    let settings = format!(
        "smtp_tls_security_level = fingerprint\nsmtp_tls_fingerprint_digest = sha256\nsmtp_tls_fingerprint_cert_match = {}",
        fingerprint.join(":")
    );
    let back = Postfix::start(exchangers.next(), &identity, server.address(Door::Mx), &settings);
    back.send("eve@postfix.example", &format!("ada@{DOMAIN}"), "Subject: back\n\nto you\n");
    wait_until("an answer", || Pop3::inbox(&server, "ada").len() == 1);
    let text = String::from_utf8_lossy(&Pop3::inbox(&server, "ada")[0]).into_owned();
    assert!(text.contains("from postfix.example") && text.contains("with ESMTPS"), "{text}");
}

/// What was packed, as JSON.
fn unpacked(packed: &[u8]) -> Value {
    serde_json::from_str(&program("gunzip", &["-c"], packed).ok()).expect("JSON")
}

fn others_are_told_how_well_it_went(io: Io) {
    let authority = Authority::new("an authority that we trust");
    let mut exchangers = Exchangers::new();
    let identity = authority.vouch_expired(&["mx.wrong.example"]);
    let (wrong, reports) = (exchangers.sink(Some(&identity), false), exchangers.sink(None, false));
    let web = Https::start("127.0.0.1:0".parse().expect("an address"), &authority.vouch(&["web.reports.example"]), "");
    let port = exchangers.port;
    let record = format!("3 1 1 {}", "00".repeat(32));
    let wants = "_smtp._tls IN TXT \"v=TLSRPTv1; rua=mailto:tls@reports.example,https://web.reports.example/v1\"\n";
    let zones = [
        zone("wrong.example", Signing::Good, wrong.address, &(tlsa(port, &record) + wants)),
        zone("reports.example", Signing::None, reports.address, "web IN A 127.0.0.1\n"),
    ];
    let (bind, roots) = (Bind::start(&zones), roots(&authority));
    let settings = format!(
        "tls_roots = \"{}\"\nmta_sts_port = {}\ntls_reports_from = \"tls@{DOMAIN}\"",
        roots.path().display(),
        web.address.port()
    );
    let mut server = Server::start(setup(io, &bind, port).with("outbound", &settings));
    server.rockdove(&["domain", "dkim", "create", DOMAIN, "--selector", "one"], "").ok();
    send(&server, "eve@wrong.example");
    settled(&server);
    // What was counted outlives a restart.
    server.stop();
    server.run();
    server.rockdove(&["queue", "tls-reports"], "").ok();
    let received = reports.wait_for(1);
    assert_eq!((received[0].from.as_str(), &*received[0].to), ("", &["tls@reports.example".to_owned()][..]));
    let text = String::from_utf8_lossy(&received[0].content).into_owned();
    for wanted in ["DKIM-Signature: ", "TLS-Report-Domain: wrong.example", "report-type=\"tlsrpt\"", "TLS-Required: No"]
    {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    let (_, packed) = text.split_once("json.gz\"\r\n\r\n").expect("a part");
    let packed = packed.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n", "");
    let report = unpacked(&BASE64.decode(packed).expect("Base64"));
    let policy = &report["policies"][0];
    assert_eq!(policy["policy"]["policy-type"], "tlsa", "{report}");
    assert_eq!(policy["policy"]["policy-domain"], "mx.wrong.example");
    assert_eq!(policy["policy"]["policy-string"][0], record.as_str());
    assert_eq!(policy["summary"]["total-failure-session-count"], 1);
    assert_eq!(policy["failure-details"][0]["result-type"], "tlsa-invalid");
    assert_eq!(policy["failure-details"][0]["receiving-ip"], wrong.address.ip().to_string());
    wait_until("the same by HTTPS", || !web.asked().is_empty());
    let (request, content) = web.asked()[0].clone();
    assert_eq!(request, "POST /v1 HTTP/1.1");
    assert_eq!(unpacked(&content), report);
    // Nothing is told twice.
    server.rockdove(&["queue", "tls-reports"], "").ok();
    server.rockdove(&["queue", "retry", "--all"], "").ok();
    wait_until("tried again", || queue(&server).iter().any(|message| message["tasks"][0]["attempts"] == 2));
    assert_eq!((reports.received().len(), web.asked().len()), (1, 1));
}

fn what_is_published_is_looked_up(io: Io) {
    let records = format!(
        "@ IN MX 10 mail\nmail IN A 127.0.0.1\n@ IN TXT \"v=spf1 ~all\"\n@ IN TXT \"verification=1\"\n\
         _dmarc IN TXT \"v=DMARC1;p=quarantine; rua=mailto:postmaster@{DOMAIN}\"\n\
         _25._tcp.mail IN TLSA 3 1 1 {}\n_imaps._tcp IN SRV 0 1 993 mail\n",
        "00".repeat(32)
    );
    let bind = Bind::start(&[SignedZone::new(DOMAIN, Signing::Good, &records)]);
    let server = Server::start(setup(io, &bind, 25));
    let ran = server.rockdove(&["domain", "dns", DOMAIN, "--check", "--ca", "ca.example", "--json"], "");
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    let checked: Value = serde_json::from_str(&ran.out).expect("JSON");
    let state = |kind: &str, name: &str| {
        let is_meant = |one: &&Value| one["kind"] == kind && one["name"] == name;
        let one = checked.as_array().expect("a list").iter().find(is_meant);
        one.unwrap_or_else(|| unreachable!("no {kind} {name} in {checked:#}"))["state"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert_eq!(state("MX", DOMAIN), "good");
    assert_eq!(state("TXT", DOMAIN), "other");
    assert_eq!(state("TXT", &format!("_dmarc.{DOMAIN}")), "good");
    assert_eq!(state("TLSA", &format!("_25._tcp.mail.{DOMAIN}")), "other");
    assert_eq!(state("SRV", &format!("_imaps._tcp.{DOMAIN}")), "good");
    assert_eq!(state("SRV", &format!("_pop3s._tcp.{DOMAIN}")), "missing");
    assert_eq!(state("CAA", &format!("mail.{DOMAIN}")), "missing");
    assert_eq!(state("HTTPS policy", &format!("mta-sts.{DOMAIN}")), "missing");
    let told = server.rockdove(&["domain", "dns", DOMAIN, "--check"], "").out;
    assert!(told.contains("missing  TXT    _mta-sts.") && told.contains("publish it: _mta-sts."), "{told}");
    let zone = server.rockdove(&["domain", "dns", DOMAIN], "").ok();
    assert!(zone.contains(";   mode: testing") && zone.contains("IN TLSA 3 1 1 "), "{zone}");
}
