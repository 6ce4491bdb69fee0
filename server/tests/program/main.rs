//! The program from outside: starting, refusing, administration with and without a server, reloading, stopping.

mod process;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

use process::{LISTENERS, Place, Said, Talk, dial};
use rockdove_engine::kv::{
    Batch, Durability, Family, Kv as _, keys,
    rocks::{RocksKv, RocksOptions},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};

/// The same story, told to a store without a server and to a running one.
fn administer(place: &Place) {
    let refused = |arguments: &[&str], input: &str, why: &str| {
        let said = place.run_with(arguments, input);
        assert_eq!(said.code, 1, "{arguments:?}: {said:?}");
        assert!(said.err.contains(why) && said.out.is_empty(), "{arguments:?}: {said:?}");
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&place.ok(arguments)).expect("JSON") };
    assert_eq!(json(&["domain", "list", "--json"]), json!([]));
    let add = ["account", "add", "ada@here.example", "--password-stdin"];
    refused(&add, "secret\n", "domain here.example does not exist; add the domain first");
    assert_eq!(place.ok(&["domain", "add", "Here.Example"]), "domain Here.Example added\n");
    refused(&["domain", "add", "here.example"], "", "exists already");
    assert_eq!(place.ok_with(&add, "secret\n"), "account ada@here.example added\n");
    refused(&add, "secret\n", "exists already; `rockdove account password`");
    refused(&["account", "add", "ben@here.example", "--password-stdin"], "\n", "the password is empty");
    place.ok_with(&["account", "add", "ben@here.example", "--quota", "1 GiB", "--password-stdin"], "other");
    place.ok_with(&["account", "password", "ben@here.example", "--password-stdin"], "another\n");
    place.ok(&["account", "quota", "ada@here.example", "2 GiB"]);
    place.ok(&["account", "quota", "ben@here.example", "none"]);
    let accounts = json(&["account", "list", "--json"]);
    let facts: Vec<_> =
        accounts.as_array().expect("a list").iter().map(|a| (&a["address"], &a["quota_bytes"])).collect();
    assert_eq!(facts, [(&json!("ada@here.example"), &json!(2_u64 << 30)), (&json!("ben@here.example"), &Value::Null)]);
    assert_eq!(place.ok(&["account", "list"]), "ada@here.example  quota: 2 GiB\nben@here.example\n");
    let ada = json(&["account", "show", "ADA@here.example", "--json"]);
    assert_eq!((&ada["address"], &ada["messages"]), (&json!("ada@here.example"), &json!(0)));
    refused(&["alias", "add", "team@here.example", "ada@here.example", "x@here.example"], "", "does not exist");
    place.ok(&["alias", "add", "team@here.example", "ada@here.example", "ben@here.example"]);
    let targets = json!(["ada@here.example", "ben@here.example"]);
    let alias = json!([{"address": "team@here.example", "targets": targets}]);
    assert_eq!(json(&["alias", "list", "--json"]), alias);
    assert_eq!(place.ok(&["domain", "catch-all", "here.example"]), "none\n");
    place.ok(&["domain", "catch-all", "here.example", "team@here.example"]);
    assert_eq!(place.ok(&["domain", "catch-all", "here.example"]), "team@here.example\n");
    place.ok(&["domain", "catch-all", "here.example", "--none"]);
    refused(&["domain", "remove", "here.example"], "", "remove them first");
    place.ok(&["alias", "remove", "team@here.example"]);
    place.ok(&["account", "remove", "ada@here.example"]);
    refused(&["account", "remove", "ada@here.example"], "", "does not exist");
    place.ok(&["account", "remove", "ben@here.example"]);
    place.ok(&["domain", "remove", "here.example"]);
    assert_eq!(json(&["account", "list", "--json"]), json!([]));
}

/// Groups, rights and public mailboxes, in a place without accounts.
fn share(place: &Place) {
    let refused = |arguments: &[&str], why: &str| {
        let said = place.run_with(arguments, "");
        assert!(said.code == 1 && said.err.contains(why), "{arguments:?}: {said:?}");
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&place.ok(arguments)).expect("JSON") };
    place.ok(&["domain", "add", "here.example"]);
    for address in ["ada@here.example", "ben@here.example"] {
        place.ok_with(&["account", "add", address, "--password-stdin"], "secret\n");
    }
    assert_eq!(place.ok(&["group", "add", "Staff"]), "group Staff added\n");
    refused(&["group", "add", "staff"], "exists already");
    refused(&["group", "add", "a b"], "is not a name for a group");
    place.ok(&["group", "member", "add", "staff", "ben@here.example"]);
    refused(&["group", "member", "add", "crew", "ben@here.example"], "`rockdove group list`");
    assert_eq!(place.ok(&["group", "list"]), "staff  members: ben@here.example\n");
    assert_eq!(json(&["group", "list", "--json"]), json!([{"name": "staff", "members": ["ben@here.example"]}]));
    let set =
        |identifier: &str, rights: &str| place.ok(&["acl", "set", "ada@here.example", "INBOX", identifier, rights]);
    set("group:staff", "lrs");
    set("-ben@here.example", "s");
    set("group:staff", "+w");
    assert_eq!(
        set("group:staff", "-r"),
        "INBOX of ada@here.example: ada@here.example lrswipkxtea, -ben@here.example s, group:staff lsw\n"
    );
    place.ok(&["acl", "remove", "ada@here.example", "INBOX", "-ben@here.example"]);
    let list = json(&["acl", "list", "ada@here.example", "INBOX", "--json"]);
    let line = |identifier: &str, rights: &str| json!({"identifier": identifier, "rights": rights});
    assert_eq!(list, json!([line("ada@here.example", "lrswipkxtea"), line("group:staff", "lsw")]));
    refused(&["acl", "set", "ada@here.example", "INBOX", "zoe@here.example", "l"], "nobody here is called");
    refused(&["acl", "set", "ada@here.example", "INBOX", "anyone", "lz"], "are not rights");
    refused(&["acl", "set", "ada@here.example", "Gone", "anyone", "l"], "does not exist");
    assert_eq!(place.ok(&["domain", "public", "here.example"]), "none\n");
    place.ok(&["domain", "public", "here.example", "ada@here.example"]);
    assert_eq!(place.ok(&["domain", "public", "here.example"]), "ada@here.example\n");
    place.ok(&["group", "remove", "staff"]);
    assert_eq!(json(&["group", "list", "--json"]), json!([]));
    assert!(place.ok(&["fsck"]).ends_with("0 problems\n"));
}

#[test]
fn mailboxes_are_shared_with_and_without_a_server() {
    share(&Place::new());
    let place = Place::new();
    let server = place.serve();
    share(&place);
    assert_eq!(server.stop(), 0);
}

#[test]
fn administration_without_a_server() {
    administer(&Place::new());
}

#[test]
fn administration_of_a_running_server() {
    let place = Place::new();
    let server = place.serve();
    let socket = fs::metadata(place.path().join("data/control.sock")).expect("the control socket");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    administer(&place);
    assert_eq!(server.stop(), 0);
}

#[test]
fn what_was_done_without_a_server_is_there_with_one_and_the_other_way_round() {
    let place = Place::new();
    place.ok(&["domain", "add", "here.example"]);
    let server = place.serve();
    place.ok_with(&["account", "add", "ada@here.example", "--password-stdin"], "secret");
    let pop = server.address("pop3", "starttls");
    assert!(log_in(pop, "ada@here.example", "secret").starts_with("+OK"));
    assert!(log_in(pop, "ada@here.example", "wrong").starts_with("-ERR"));
    assert_eq!(server.stop(), 0);
    assert_eq!(place.ok(&["account", "list"]), "ada@here.example\n");
}

#[test]
fn many_accounts_are_imported_and_those_that_cannot_be_are_named() {
    let place = Place::new();
    place.ok(&["domain", "add", "here.example"]);
    let file = place.path().join("accounts");
    let path = file.to_str().expect("a path");
    let mut lines: String = (100..205).map(|n| ["u", &n.to_string(), "@here.example:pass:word\n"].concat()).collect();
    lines.push_str("\nu100@here.example:again\nx@far.example:secret");
    fs::write(&file, &lines).expect("a file");
    let said = place.run(&["account", "import", path]);
    assert_eq!((said.code, said.out.as_str()), (1, "105 accounts added\n"), "{said:?}");
    assert!(said.err.contains("u100@here.example: account u100@here.example exists already"), "{said:?}");
    assert!(said.err.contains("x@far.example: domain far.example does not exist"), "{said:?}");
    assert_eq!(place.ok(&["account", "list"]).lines().count(), 105);
    let said = place.run_with(&["account", "import", "-"], "a@here.example:x\nno password here\n");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("-:2: expected address:password; nothing was added"), "{said:?}");
    assert_eq!(place.ok(&["account", "list"]).lines().count(), 105);
}

#[test]
fn the_status_tells_what_is_listened_on_in_fact() {
    let place = Place::new();
    let said = place.run(&["status"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("no server is running"), "{said:?}");
    let lmtp = place.path().join("lmtp.sock");
    let unix = format!("[[listener]]\nprotocol = \"lmtp\"\naddress = \"unix:{}\"\n", lmtp.display());
    place.configure(&format!("{LISTENERS}{unix}"));
    let server = place.serve();
    let held = dial(server.address("smtp", "starttls"));
    Talk::new(&held).line();
    let status = server.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["connections"], 1);
    assert!(status["pid"].is_u64() && status["uptime_s"].is_u64());
    assert!(["io_uring", "epoll"].contains(&status["backend"].as_str().expect("a name")));
    let listeners = status["listeners"].as_array().expect("listeners");
    let kinds: Vec<_> = listeners.iter().map(|l| (l["protocol"].as_str(), l["tls"].as_str())).collect();
    let expected = [("smtp", "starttls"), ("pop3", "implicit"), ("pop3", "starttls"), ("lmtp", "none")];
    assert_eq!(kinds, expected.map(|(protocol, tls)| (Some(protocol), Some(tls))));
    assert_eq!(listeners[3]["address"], format!("unix:{}", lmtp.display()));
    assert!(!listeners[0]["address"].as_str().expect("an address").ends_with(":0"));
    assert!(place.ok(&["status"]).starts_with("Rockdove "));
    let metrics = place.ok(&["status", "--metrics"]);
    assert!(metrics.contains("rockdove_connections{protocol=\"smtp\"} 1\n"), "{metrics}");
    assert!(metrics.contains("rockdove_store_table_bytes "), "{metrics}");
    assert_eq!(server.stop(), 0);
    assert_eq!(place.run(&["status"]).code, 3);
}

#[test]
fn a_mistake_is_refused_with_file_line_and_column() {
    let place = Place::new();
    assert_eq!(place.ok(&["check"]), "ok\n");
    place.configure("[limits]\nrecipients = 3\n[[listener]]\nprotocol = \"smtp\"\naddress = \"here\"\n");
    for command in ["check", "serve", "status"] {
        let said = place.run(&[command]);
        assert_eq!(said.code, 2, "{command}: {said:?}");
        let expected = format!("{}:11:11: ", place.config().display());
        assert!(said.err.contains(&expected), "{command}: {said:?}");
    }
    let Said { code, err, .. } = place.run(&["no-such-command"]);
    assert_eq!((code, err.contains("no-such-command")), (2, true));
    fs::remove_file(place.config()).expect("removed");
    let said = place.run(&["serve"]);
    assert!(said.code == 2 && said.err.contains("docs/configuration.md"), "{said:?}");
}

#[test]
fn a_second_server_is_refused() {
    let place = Place::new();
    let server = place.serve();
    let said = place.run(&["serve"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("is in use by another Rockdove (process "), "{said:?}");
    // Another store, but the same port.
    let other = Place::new();
    let taken = server.address("smtp", "starttls");
    other.configure(&format!("[[listener]]\nprotocol = \"smtp\"\naddress = \"{taken}\"\n"));
    let said = other.run(&["serve"]);
    assert!(said.code == 1 && said.err.contains("another program listens there"), "{said:?}");
    assert_eq!(server.stop(), 0);
    // A lock that was left behind by a crash is none.
    let server = place.serve();
    drop(server);
    assert_eq!(place.serve().stop(), 0);
}

#[test]
fn a_stopping_server_says_good_bye() {
    let place = Place::new();
    let server = place.serve();
    let mut smtp = Talk::new(dial(server.address("smtp", "starttls")));
    assert!(smtp.line().starts_with("220 "));
    assert_eq!(server.stop(), 0);
    assert!(smtp.line().starts_with("421 "));
    assert_eq!(smtp.line(), "");
}

/// Takes any certificate and remembers it.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<u8>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("lock") = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a server shows, and its first line.
fn meet(address: std::net::SocketAddr) -> (Vec<u8>, String) {
    let seen = Arc::new(Seen::default());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = ServerName::try_from("mail.here.example").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let line = Talk::new(StreamOwned::new(client, dial(address))).line();
    let certificate = seen.0.lock().expect("lock").clone();
    (certificate, line)
}

fn write_certificate(folder: &Path) {
    let (chain, key) = rockdove::net::tls::self_signed(vec!["mail.here.example".to_owned()]).expect("a certificate");
    fs::write(folder.join("chain.pem"), chain).expect("written");
    fs::write(folder.join("key.pem"), key).expect("written");
}

#[test]
fn a_hangup_reloads_the_certificate_and_the_live_settings() {
    let place = Place::new();
    write_certificate(place.path());
    let tls = "[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n";
    place.configure(&format!("{tls}{LISTENERS}"));
    let mut server = place.serve();
    let (pop, smtp) = (server.address("pop3", "implicit"), server.address("smtp", "starttls"));
    let (first, line) = meet(pop);
    assert!(line.starts_with("+OK"), "{line}");
    let size = || {
        let mut talk = Talk::new(dial(smtp));
        talk.line();
        let mut reply = talk.say("EHLO x");
        while !reply.contains("SIZE") {
            reply = talk.line();
        }
        reply.split(' ').nth(1).expect("a number").to_owned()
    };
    assert_eq!(size(), (50_u64 << 20).to_string());

    write_certificate(place.path());
    place.configure(&format!("{tls}{LISTENERS}[limits]\nmessage_size = \"1 MiB\"\n[log]\nlevel = \"debug\"\n"));
    server.signal("HUP");
    let warned = server.wait_for("after a restart");
    assert!(warned.contains("log"), "{warned}");
    server.wait_for("reloaded");
    let (second, _) = meet(pop);
    assert_ne!(first, second);
    assert_eq!(size(), (1_u64 << 20).to_string());

    // With a mistake everything stays.
    place.configure(&format!("{tls}{LISTENERS}[limits]\nmessage_size = \"1 KiB\"\n"));
    server.signal("HUP");
    assert!(server.wait_for("not reloaded").contains("rockdove.toml:"));
    fs::write(place.path().join("key.pem"), "nothing").expect("written");
    place.configure(&format!("{tls}{LISTENERS}"));
    server.signal("HUP");
    server.wait_for("not reloaded");
    assert_eq!(meet(pop).0, second);
    assert_eq!(size(), (1_u64 << 20).to_string());
    assert_eq!(server.stop(), 0);
}

/// Logs in over POP3 and gives the last line.
fn log_in(address: std::net::SocketAddr, login: &str, password: &str) -> String {
    let mut pop = Talk::new(dial(address));
    pop.line();
    pop.say(&format!("USER {login}"));
    pop.say(&format!("PASS {password}"))
}

#[test]
fn a_demo_has_three_accounts_and_finds_them_again() {
    // Its own ports may be taken on this machine; a configuration that is there is kept.
    let place = Place::new();
    let folder = place.path().to_str().expect("a path").to_owned();
    let mut cards = Vec::new();
    for _ in 0..2 {
        let server = place.start(&["demo", &folder]);
        let pop = server.address("pop3", "starttls");
        let card = fs::read_to_string(place.path().join("card.txt")).expect("a card");
        for name in ["ada", "ben", "cleo"] {
            let login = format!("{name}@rockdove.test");
            let line = card.lines().find(|line| line.trim_start().starts_with(&login)).expect("on the card");
            let password = line.split_whitespace().last().expect("a password");
            assert!(log_in(pop, &login, password).starts_with("+OK"));
        }
        let (code, printed) = server.end();
        assert_eq!((code, &printed), (0, &card));
        cards.push(card);
    }
    assert_eq!(cards[0], cards[1]);
}

#[test]
fn as_root_it_becomes_its_user_and_the_data_belongs_to_that_user() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    // A folder that others may enter, as /var/lib is.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    place.configure_head("user = \"nobody\"\n", LISTENERS);
    let ours = fs::metadata(place.path()).expect("the folder").uid();
    let expected = if ours == 0 { rockdove::runtime::process::ids_of("nobody", None).expect("nobody").0 } else { ours };
    let owners = || {
        let owner = |name: &str| fs::metadata(place.path().join("data").join(name)).expect(name).uid();
        ["", "rockdove.lock", "store", "store/CURRENT"].map(owner)
    };
    place.ok(&["domain", "add", "here.example"]);
    assert_eq!(owners(), [expected; 4]);
    let server = place.serve();
    place.ok_with(&["account", "add", "ada@here.example", "--password-stdin"], "secret");
    let pid = server.status()["pid"].as_u64().expect("a process");
    assert_eq!(fs::metadata(format!("/proc/{pid}")).expect("the process").uid(), expected);
    assert_eq!(server.stop(), 0);
    place.ok(&["account", "remove", "ada@here.example"]);
    assert_eq!(owners(), [expected; 4]);
}

#[test]
fn the_store_is_checked_with_and_without_a_server() {
    let place = Place::new();
    place.ok(&["domain", "add", "here.example"]);
    place.ok_with(&["account", "add", "ada@here.example", "--password-stdin"], "secret");
    let clean = || assert!(place.ok(&["fsck"]).ends_with("\n0 problems\n"));
    clean();
    let server = place.serve();
    clean();
    assert!(place.ok(&["rebuild"]).starts_with("rebuilt: 1 accounts, 0 parts, "));
    assert_eq!(server.stop(), 0);
    clean();
    lose_counters(&place.path().join("data/store"));
    let said = place.run(&["fsck"]);
    assert_eq!((said.code, said.err.as_str()), (4, ""), "{said:?}");
    assert!(said.out.starts_with("account 1: mailbox 1: ") && said.out.ends_with("\n1 problems\n"), "{said:?}");
    let said = place.run(&["fsck", "--repair"]);
    assert!(said.code == 0 && said.out.ends_with("\n1 repaired\n0 problems\n"), "{said:?}");
    clean();
}

#[test]
fn figures_tell_what_is_stored() {
    let place = Place::new();
    place.ok(&["domain", "add", "here.example"]);
    place.ok_with(&["account", "add", "ada@here.example", "--password-stdin"], "secret");
    let server = place.serve();
    let mut smtp = Talk::new(dial(server.address("smtp", "starttls")));
    smtp.line();
    for line in ["HELO x", "MAIL FROM:<>", "RCPT TO:<ada@here.example>", "DATA"] {
        smtp.say(line);
    }
    let body = "The same line again and again.\r\n".repeat(1_000);
    assert!(smtp.say(&format!("Subject: x\r\n\r\n{body}.")).starts_with("250 "));
    let figures = || serde_json::from_str::<Value>(&place.ok(&["stats", "--json"])).expect("JSON");
    let running = figures();
    assert!(running[0]["disk_bytes"].is_u64() && running[0]["waiting_bytes"] == 0, "{running}");
    assert_eq!(server.stop(), 0);
    let told = figures();
    for (number, (of, name)) in
        [("store", ""), ("domain", "here.example"), ("account", "ada@here.example")].iter().enumerate()
    {
        let line = &told[number];
        assert_eq!((line["of"].as_str(), line["name"].as_str()), (Some(*of), Some(*name)));
        assert_eq!((&line["messages"], &line["parts"]), (&1.into(), &1.into()));
        let octets = |name: &str| line[name].as_i64().expect("a number");
        let stored = octets("record_bytes") + octets("part_bytes");
        let saved = octets("deduplication_saved_bytes") + octets("packing_saved_bytes");
        assert_eq!(stored + saved, octets("message_bytes"));
        assert!(octets("packing_saved_bytes") > 30_000 && octets("message_bytes") > 32_000, "{line}");
    }
    let text = place.ok(&["stats"]);
    assert!(text.starts_with("store: 1 messages of ") && text.contains("\nada@here.example: 1 messages of "), "{text}");
}

/// Removes the counters of the first mailbox, which are derived, behind everybody's back.
fn lose_counters(store: &Path) {
    let kv = RocksKv::open(store, &RocksOptions::default()).expect("the store");
    let mut batch = Batch::default();
    batch.delete(Family::Account, keys::counters(1, 1));
    kv.write(&batch, Durability::Synced).expect("written");
}

#[test]
fn logs_can_be_json() {
    let place = Place::new();
    place.configure(&format!("{LISTENERS}[log]\nformat = \"json\"\n"));
    place.ok(&["domain", "add", "here.example"]);
    place.ok_with(&["account", "add", "ada@here.example", "--password-stdin"], "secret");
    let mut server = place.serve();
    let mut smtp = Talk::new(dial(server.address("smtp", "starttls")));
    smtp.line();
    for line in ["HELO x", "MAIL FROM:<>", "RCPT TO:<ada@here.example>", "DATA"] {
        smtp.say(line);
    }
    assert!(smtp.say("Subject: x\r\n\r\nhello\r\n.").starts_with("250 "));
    let line = server.wait_for("\"delivered\"");
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&event["account"], &event["uid"]), (&json!("ada@here.example"), &json!(1)));
    assert_eq!(server.stop(), 0);
}
