//! Whether mail is what it says it is: SPF, DKIM, DMARC, ARC and the names of addresses, by the results that are written
//! down and by what becomes of the mail.
#![allow(clippy::disallowed_methods, reason = "a test waits for other processes, with a clock")]

use std::{fs, path::Path};

use rockdove_tests::{
    DOMAIN, Door, Imap, Io, PASSWORD, Pop3, Server, Setup, Sink, Smtp, Wire, Zone, dkim_tool, on_both, program,
};

on_both!(
    results_say_what_the_domains_say,
    policies_are_enforced,
    signatures_are_checked,
    many_signatures_cost_no_more_than_a_few,
    what_is_passed_on_is_sealed,
    what_cannot_be_found_out_is_said_or_put_off,
    nobody_writes_results_in_our_name,
    trusted_sealers_are_believed,
);

/// Where mail comes from that the domains of the tests know.
const KNOWN: &str = "192.0.2.1";
/// Somebody else.
const STRANGER: &str = "198.51.100.9";

/// Domains and their policies.
const ZONE: &str = "
    192.0.2.1 PTR mail.a.example
    mail.a.example A 192.0.2.1
    mail.a.example TXT v=spf1 a -all
    a.example TXT v=spf1 a:mail.a.example -all
    _dmarc.a.example TXT v=DMARC1; p=reject; sp=none; rua=mailto:r@a.example
    soft.example TXT v=spf1 ~all
    _dmarc.soft.example TXT v=DMARC1; p=quarantine
    strict.example TXT v=spf1 ip4:192.0.2.1 -all
    _dmarc.strict.example TXT v=DMARC1; p=reject; aspf=s; adkim=s
    in.example TXT v=spf1 include:a.example -all
    to.example TXT v=spf1 redirect=a.example
    loop.example TXT v=spf1 include:loop.example -all
    void.example TXT v=spf1 a:x1.void.example a:x2.void.example a:x3.void.example -all
    broken.example SERVFAIL
    silent.example TIMEOUT
    _dmarc.silent.example TIMEOUT";

struct Sent {
    replies: Vec<String>,
}

impl Sent {
    fn last(&self) -> &str {
        self.replies.last().expect("a reply")
    }
}

/// A message by another server, as one that speaks through a proxy of ours.
fn send(server: &Server, from_address: &str, helo: &str, sender: &str, to: &str, message: &[u8]) -> Sent {
    let mut wire = server.connect(Door::MxProxied);
    wire.send(format!("PROXY TCP4 {from_address} 203.0.113.1 4096 25\r\n").as_bytes());
    let mut replies = vec![reply(&mut wire)];
    for line in
        [format!("EHLO {helo}"), format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{to}@{DOMAIN}>"), "DATA".into()]
    {
        wire.send(format!("{line}\r\n").as_bytes());
        replies.push(reply(&mut wire));
    }
    wire.send(message);
    wire.send(b".\r\n");
    replies.push(reply(&mut wire));
    Sent { replies }
}

fn reply(wire: &mut Wire) -> String {
    loop {
        let line = wire.line();
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

fn setup(io: Io, zone: &Zone, settings: &str) -> Setup {
    Setup::new(io, &[Door::MxProxied, Door::Mx, Door::Pop3, Door::Imap, Door::Submission])
        .with("dns", &zone.setting())
        .with("trust", settings)
}

fn letter(from: &str, subject: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: ada@{DOMAIN}\r\nSubject: {subject}\r\n\r\ntext\r\n").into_bytes()
}

/// The newest message of an INBOX, as text.
fn newest(server: &Server, name: &str) -> String {
    let messages = Pop3::inbox(server, name);
    String::from_utf8_lossy(messages.last().expect("a message")).into_owned()
}

/// Our Authentication-Results of a message, unfolded.
fn results(message: &str) -> String {
    let header = message.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n\t", " ");
    let ours = format!("Authentication-Results: mail.{DOMAIN};");
    let fields: Vec<&str> = header.lines().filter(|line| line.starts_with(&ours)).collect();
    assert_eq!(fields.len(), 1, "{message}");
    fields[0].to_owned()
}

/// `address | HELO | sender | From | what is among the results`
const RESULTS: &str = r#"
192.0.2.1 | mail.a.example | x@a.example | x@a.example | iprev=pass policy.iprev=192.0.2.1; spf=pass smtp.helo=mail.a.example; spf=pass smtp.mailfrom=x@a.example; dkim=none; arc=none smtp.remote-ip=192.0.2.1; dmarc=pass header.from=a.example policy.dmarc=reject
198.51.100.9 | mail.a.example | x@a.example | x@a.example | iprev=permerror policy.iprev=198.51.100.9; spf=fail smtp.helo=mail.a.example; spf=fail smtp.mailfrom=x@a.example; dkim=none; arc=none smtp.remote-ip=198.51.100.9; dmarc=fail header.from=a.example policy.dmarc=reject
198.51.100.9 | x.soft.example | x@soft.example | y@other.example | spf=none smtp.helo=x.soft.example; spf=softfail smtp.mailfrom=x@soft.example; dkim=none; arc=none smtp.remote-ip=198.51.100.9; dmarc=none header.from=other.example
192.0.2.1 | x | x@in.example | x@sub.a.example | spf=none smtp.helo=x; spf=pass smtp.mailfrom=x@in.example; dkim=none; arc=none smtp.remote-ip=192.0.2.1; dmarc=fail header.from=sub.a.example policy.dmarc=none
192.0.2.1 | x | x@to.example | x@to.example | spf=pass smtp.mailfrom=x@to.example
192.0.2.1 | x | x@loop.example | x@to.example | spf=permerror smtp.mailfrom=x@loop.example
192.0.2.1 | x | x@void.example | x@to.example | spf=permerror smtp.mailfrom=x@void.example
192.0.2.1 | x | x@sub.strict.example | x@strict.example | dmarc=fail header.from=strict.example policy.dmarc=reject
192.0.2.1 | x | x@strict.example | x@strict.example | dmarc=pass header.from=strict.example policy.dmarc=reject
192.0.2.1 | mail.a.example |  | x@a.example | spf=pass smtp.helo=mail.a.example; dkim=none; arc=none smtp.remote-ip=192.0.2.1; dmarc=pass header.from=a.example policy.dmarc=reject
192.0.2.1 | x | x@broken.example | x@broken.example | spf=temperror smtp.mailfrom=x@broken.example
192.0.2.1 | x | "a b;c"@to.example | x@a.example, y@strict.example | smtp.mailfrom="\"a b;c\"@to.example"; dkim=none; arc=none smtp.remote-ip=192.0.2.1; dmarc=fail header.from=a.example policy.dmarc=reject; dmarc=fail header.from=strict.example policy.dmarc=reject
"#;

fn results_say_what_the_domains_say(io: Io) {
    let zone = Zone::start(ZONE);
    let server = Server::start(setup(io, &zone, "dmarc = \"mark\""));
    for line in RESULTS.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [address, helo, sender, from, expected] = words[..] else { unreachable!("{line}") };
        let sent = send(&server, address, helo, sender, "ada", &letter(from, "results"));
        assert!(sent.last().starts_with("250 "), "{sender}: {}", sent.last());
        let message = newest(&server, "ada");
        assert!(message.contains(&format!("\r\nAuthentication-Results: mail.{DOMAIN};\r\n")), "{message}");
        let found = results(&message);
        assert!(found.contains(expected), "{line}\nfound  {found}");
    }
    // Our own side is not checked: this machine, and who logs in.
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    smtp.deliver(&["ben"], &letter("x@a.example", "from here")).expect("delivered");
    assert!(!newest(&server, "ben").contains("Authentication-Results"));
}

fn in_junk(server: &Server, name: &str) -> bool {
    let mut imap = Imap::greet(server.connect(Door::Imap)).expect("a greeting");
    imap.ok(&format!("LOGIN {name}@{DOMAIN} \"{PASSWORD}\""));
    let listed = imap.ok("LIST \"\" Junk").with("LIST").concat();
    !listed.is_empty() && imap.ok("STATUS Junk (MESSAGES)").with("STATUS").concat().ends_with("(MESSAGES 1)")
}

fn policies_are_enforced(io: Io) {
    let zone = Zone::start(ZONE);
    let server = Server::start(setup(io, &zone, "spf = \"enforce\"\ndkim = \"enforce\"\niprev = \"mark\""));
    let refused = |address: &str, sender: &str, from: &str, code: &str| {
        let sent = send(&server, address, "x", sender, "ada", &letter(from, "refused"));
        assert!(sent.last().starts_with(code), "{sender} {from}: {}", sent.last());
    };
    refused(STRANGER, "x@nothing.example", "x@a.example", "550 5.7.1 ");
    refused(STRANGER, "x@a.example", "x@nothing.example", "550 5.7.23 ");
    // One author is enough to be refused for.
    refused(STRANGER, "x@nothing.example", "x@nothing.example, x@a.example", "550 5.7.1 ");
    refused(STRANGER, "x@nothing.example", "x@nothing.example\r\nFrom: x@a.example", "550 5.7.1 ");
    let signed = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=rsa; h=to; bh=YQ==; b=YQ==\r\n";
    let message = [&signed[..], &letter("x@nothing.example", "h= without From")].concat();
    let sent = send(&server, STRANGER, "x", "x@nothing.example", "ada", &message);
    assert!(sent.last().starts_with("550 5.7.20 "), "{}", sent.last());
    assert!(Pop3::inbox(&server, "ada").is_empty());
    // Quarantine is Junk; so is what has no author.
    for (name, from) in [("ada", "x@soft.example"), ("ben", "nobody")] {
        assert!(!in_junk(&server, name));
        let sent = send(&server, STRANGER, "x", "x@nothing.example", name, &letter(from, "junk"));
        assert!(sent.last().starts_with("250 "), "{}", sent.last());
        assert!(in_junk(&server, name), "{from}");
    }
    let sent = send(&server, KNOWN, "x", "x@a.example", "cleo", &letter("x@a.example", "good"));
    assert!(sent.last().starts_with("250 "), "{}", sent.last());
    assert!(results(&newest(&server, "cleo")).contains("dmarc=pass"));
}

/// Keys of dkimpy, published for these domains.
fn published(folder: &Path, zone: &Zone, domains: &[&str]) -> Vec<String> {
    let keys = dkim_tool(&["keys", &folder.to_string_lossy()], b"").ok();
    let record = |domain: &&str| {
        let line = |key: &str| key.split_once(' ').map(|(name, text)| format!("{name}._domainkey.{domain} TXT {text}"));
        keys.lines().filter_map(line).collect::<Vec<_>>()
    };
    let records: Vec<String> = domains.iter().flat_map(record).collect();
    zone.add(&records.join("\n"));
    records
}

fn tool(args: &[&str], message: &[u8]) -> Vec<u8> {
    dkim_tool(args, message).ok().into_bytes()
}

/// `options of the signer | From | what is replaced | by what | reply | what is among the results`. The signer is dkimpy.
const SIGNATURES: &str = "
rsa a.example | x@a.example | | | 250 | dkim=pass header.d=a.example header.s=rsa header.a=rsa-sha256 header.b=
rsa a.example simple | x@a.example | | | 250 | dkim=pass header.d=a.example header.s=rsa
ed25519 a.example | x@a.example | | | 250 | dkim=pass header.d=a.example header.s=ed25519 header.a=ed25519-sha256
rsa sub.a.example | x@a.example | | | 250 | dmarc=pass header.from=a.example policy.dmarc=reject
rsa other.example | x@other.example | | | 250 | dmarc=none header.from=other.example
rsa a.example | x@a.example | text | texT | 550 5.7.1 |
rsa a.example | x@a.example | signed | signeD | 550 5.7.1 |
rsa a.example | x@a.example | From: x | From: y@b.example~From: x | 550 5.7.1 |
rsa a.example | x@a.example | s=rsa | s=none | 550 5.7.1 |
rsa a.example length | x@a.example | | | 550 5.7.1 |
rsa a.example sha1 | x@a.example | | | 550 5.7.1 |
rsa other.example | x@a.example | | | 550 5.7.1 |
rsa other.example | x@other.example | ~text | ~other | 250 | dkim=fail reason=\"the body was changed\" header.d=other.example header.s=rsa
rsa other.example | x@other.example | signed | other | 250 | dkim=fail reason=\"the signature does not fit\"
rsa other.example | x@other.example | s=rsa | s=ed25519 | 250 | dkim=fail
rsa other.example | x@other.example | s=rsa | s=none | 250 | dkim=permerror reason=\"there is no key\"
rsa other.example | x@other.example | s=rsa | s=revoked | 250 | dkim=fail reason=\"the key is revoked\"
rsa other.example sha1 | x@other.example | | | 250 | dkim=policy reason=\"rsa-sha1 is not safe\"
rsa other.example length | x@other.example | | | 250 | dkim=policy reason=\"signs only a part of the body\"
";

fn signatures_are_checked(io: Io) {
    let zone = Zone::start(ZONE);
    let server = Server::start(setup(io, &zone, "spf = \"off\""));
    let folder = server.path("keys");
    fs::create_dir(&folder).expect("a folder");
    published(&folder, &zone, &["a.example", "sub.a.example", "other.example"]);
    zone.add("revoked._domainkey.other.example TXT v=DKIM1; p=");
    let folder = folder.to_string_lossy().into_owned();
    for line in SIGNATURES.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split('|').map(str::trim).collect();
        let [options, from, old, new, code, expected] = words[..] else { unreachable!("{line}") };
        let options: Vec<&str> = ["sign", &folder].into_iter().chain(options.split(' ')).collect();
        let message = String::from_utf8(tool(&options, &letter(from, "a  signed\r\n\tsubject"))).expect("UTF-8");
        let lines = |text: &str| text.replace('~', "\r\n");
        assert!(message.contains(&lines(old)), "{line}");
        let message = if old.is_empty() { message } else { message.replacen(&lines(old), &lines(new), 1) };
        let sent = send(&server, STRANGER, "x", "x@nothing.example", "ada", message.as_bytes());
        assert!(sent.last().starts_with(code), "{line}: {}\n{message}", sent.last());
        if code == "250" {
            let found = results(&newest(&server, "ada"));
            assert!(found.contains(expected), "{line}\nfound  {found}\n{message}");
        }
    }
}

fn many_signatures_cost_no_more_than_a_few(io: Io) {
    let zone = Zone::start(ZONE);
    let server = Server::start(setup(io, &zone, ""));
    let folder = server.path("keys");
    fs::create_dir(&folder).expect("a folder");
    published(&folder, &zone, &["a.example"]);
    let folder = folder.to_string_lossy().into_owned();
    let plain = letter("x@a.example", "many");
    let by_rsa = tool(&["sign", &folder, "rsa", "a.example"], &plain);
    let signature = &by_rsa[..by_rsa.len() - plain.len()];
    let many = [&signature.repeat(40)[..], &tool(&["sign", &folder, "ed25519", "a.example"], &plain)].concat();
    let sent = send(&server, STRANGER, "x", "x@nothing.example", "ada", &many);
    assert!(sent.last().starts_with("250"), "{}", sent.last());
    let found = results(&newest(&server, "ada"));
    assert_eq!(found.matches("dkim=pass").count(), 8, "{found}");
    assert_eq!(found.matches("too many signatures").count(), 33, "{found}");
}

fn what_cannot_be_found_out_is_said_or_put_off(io: Io) {
    let zone = Zone::start(ZONE);
    let limits = "time_limit = \"3 s\"";
    let server = Server::start(setup(io, &zone, limits));
    let sent = send(&server, KNOWN, "mail.a.example", "x@silent.example", "ada", &letter("x@a.example", "late"));
    assert!(sent.last().starts_with("550 5.7.1 "), "{}", sent.last());
    let sent = send(&server, KNOWN, "mail.a.example", "x@a.example", "ada", &letter("x@silent.example", "late"));
    assert!(sent.last().starts_with("250 "), "{}", sent.last());
    let found = results(&newest(&server, "ada"));
    assert!(found.contains("spf=pass smtp.mailfrom=x@a.example"), "{found}");
    assert!(found.contains("dmarc=temperror header.from=silent.example"), "{found}");
    let settings = format!("{limits}\non_temporary_error = \"defer\"\nspf = \"enforce\"");
    let server = Server::start(setup(io, &zone, &settings));
    let sent = send(&server, KNOWN, "mail.a.example", "x@silent.example", "ada", &letter("x@b.example", "late"));
    assert!(sent.last().starts_with("451 4.7.24 "), "{}", sent.last());
    let sent = send(&server, KNOWN, "mail.a.example", "x@a.example", "ada", &letter("x@silent.example", "late"));
    assert!(sent.last().starts_with("451 4.7.1 "), "{}", sent.last());
    assert!(Pop3::inbox(&server, "ada").is_empty());
}

fn nobody_writes_results_in_our_name(io: Io) {
    let zone = Zone::start(ZONE);
    let server = Server::start(setup(io, &zone, "authserv_id = \"our.example\""));
    let fields = format!(
        "Authentication-Results: our.example; dmarc=pass\r\nauthentication-results: (c)\r\n mail.{DOMAIN} 1; spf=pass\r\n\
         Authentication-Results: elsewhere.example; spf=pass\r\n"
    );
    let large = "0123456789abcdef\r\n".repeat(60_000);
    for body in ["text\r\n", &large] {
        let message = format!("{fields}From: x@b.example\r\nSubject: forged\r\n\r\n{body}");
        let sent = send(&server, STRANGER, "x", "x@nothing.example", "ada", message.as_bytes());
        assert!(sent.last().starts_with("250 "), "{}", sent.last());
        let found = newest(&server, "ada");
        let expected = fields
            .replace("Authentication-Results: our", "Untrusted-Auth-Results: our")
            .replace("authentication-results:", "Untrusted-Auth-Results:");
        let end = format!("{expected}From: x@b.example\r\nSubject: forged\r\n\r\n{body}");
        assert!(found.ends_with(&end), "{}", &found[..found.len().min(2_000)]);
        assert_eq!(found.matches("\r\nAuthentication-Results: our.example;").count(), 1);
    }
    // A gateway of ours is believed.
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    smtp.deliver(&["ben"], format!("{fields}\r\n").as_bytes()).expect("delivered");
    assert!(newest(&server, "ben").ends_with(&format!("{fields}\r\n")));
}

fn trusted_sealers_are_believed(io: Io) {
    let zone = Zone::start(ZONE);
    let server = Server::start(setup(io, &zone, "trusted_sealers = [\"list.example\"]"));
    let folder = server.path("keys");
    fs::create_dir(&folder).expect("a folder");
    published(&folder, &zone, &["a.example", "list.example", "evil.example"]);
    let folder = folder.to_string_lossy().into_owned();
    let sealed = |domain: &str, heard: &str, message: &[u8]| {
        let results = format!("Authentication-Results: mx.{domain}; {heard} header.from=a.example\r\n");
        let sealed = tool(&["seal", &folder, domain, &format!("mx.{domain}")], &[results.as_bytes(), message].concat());
        assert!(sealed.starts_with(b"ARC-Seal"));
        sealed
    };
    let plain = letter("x@a.example", "[list] changed");
    let by_list = sealed("list.example", "dmarc=pass", &plain);
    let twice = sealed("list.example", "arc=pass; dmarc=fail", &by_list);
    for (message, code, expected) in [
        (by_list.clone(), "250", "dmarc=fail reason=\"passed at list.example by its ARC seal\" header.from=a.example"),
        (twice, "250", "arc=pass smtp.remote-ip=198.51.100.9"),
        (sealed("evil.example", "dmarc=pass", &plain), "550 5.7.1 ", ""),
        (sealed("evil.example", "arc=pass; dmarc=pass", &by_list), "550 5.7.1 ", ""),
        ([&by_list[..], b"and more\r\n"].concat(), "550 5.7.1 ", ""),
        (plain, "550 5.7.1 ", ""),
    ] {
        let sent = send(&server, STRANGER, "x", "x@nothing.example", "ada", &message);
        assert!(sent.last().starts_with(code), "{}\n{}", sent.last(), String::from_utf8_lossy(&message));
        if code == "250" {
            let found = results(&newest(&server, "ada"));
            assert!(found.contains(expected), "wanted {expected}\nfound  {found}");
        }
    }
}

fn what_is_passed_on_is_sealed(io: Io) {
    let (sink, zone) = (Sink::start(), Zone::start(ZONE));
    let route = format!(
        "name = \"test\"\ndomains = [\"{DOMAIN}\"]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"",
        sink.address.port()
    );
    let server = Server::start(setup(io, &zone, "").with("[route]", &route));
    server.rockdove(&["domain", "dkim", "create", DOMAIN, "--selector", "one"], "").ok();
    let folder = server.path("keys");
    fs::create_dir(&folder).expect("a folder");
    let mut records = published(&folder, &zone, &["a.example", "list.example"]);
    let keys = server.rockdove(&["domain", "dkim", "list", DOMAIN, "--json"], "").ok();
    let keys: serde_json::Value = serde_json::from_str(&keys).expect("JSON");
    records.push(format!("one._domainkey.{DOMAIN} TXT {}", keys[0]["record"].as_str().expect("a record")));
    let known = server.path("zone");
    fs::write(&known, records.join("\n")).expect("written");
    let folder = folder.to_string_lossy().into_owned();
    let signed = tool(&["sign", &folder, "rsa", "a.example"], &letter("x@a.example", "for  another\r\n system"));
    let heard = b"Authentication-Results: mx.list.example; dmarc=pass header.from=a.example\r\n";
    let sealed = tool(&["seal", &folder, "list.example", "mx.list.example"], &[&heard[..], &signed].concat());
    for (place, (message, set)) in [(&signed, "i=1"), (&sealed, "i=2")].into_iter().enumerate() {
        let sent = send(&server, STRANGER, "x", "x@nothing.example", "dora", message);
        assert!(sent.last().starts_with("250 "), "{}", sent.last());
        let received = sink.wait_for(place + 1).remove(place).content;
        let text = String::from_utf8_lossy(&received).into_owned();
        let results = format!("ARC-Authentication-Results: {set}; mail.{DOMAIN}; dmarc=pass header.from=a.example");
        assert!(text.contains(&results), "{text}");
        assert!(received.ends_with(message), "{text}");
        let checked = tool(&["check", &known.to_string_lossy()], &received);
        let checked = String::from_utf8(checked).expect("UTF-8");
        assert!(checked.contains("dkim pass\narc pass"), "{checked}\n{text}");
    }
}

#[test]
fn another_reading_of_spf_agrees_with_our_cases() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (script, cases) = (tests.join("clients/spf_cases.py"), tests.join("../server/src/trust/spf/cases.txt"));
    // Debian's pyspf is for Debian's Python.
    let ran = program("/usr/bin/python3", &["-B", &script.to_string_lossy(), &cases.to_string_lossy()], b"").ok();
    assert!(ran.trim().parse::<u32>().expect("a count") > 60, "{ran}");
}
