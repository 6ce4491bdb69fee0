//! The gate: who may talk to the server, and how fast, seen by clients from everywhere.
#![allow(clippy::disallowed_methods, reason = "a test waits, with a clock")]

use std::{
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rockdove_tests::{DOMAIN, Door, Io, Names, PASSWORD, Pop3, Record, Server, Setup, Wire, on_both};

on_both!(who_speaks_before_the_greeting_is_sent_off, mistakes_wait_for_their_replies);

/// A conversation, line by line.
struct Client {
    wire: Wire,
}

impl Client {
    /// A client from somewhere, through a proxy that says so; the greeting is not read.
    fn silent(server: &Server, from: &str) -> Self {
        let mut wire = server.connect(Door::MxProxied);
        let (family, to) = if from.contains(':') { ("TCP6", "2001:db8::25") } else { ("TCP4", "203.0.113.25") };
        wire.send(format!("PROXY {family} {from} {to} 4096 25\r\n").as_bytes());
        Self { wire }
    }

    /// The same behind the greeting.
    fn from(server: &Server, from: &str) -> Self {
        let mut client = Self::silent(server, from);
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        assert!(client.say("EHLO mail.far.example").starts_with("250 "));
        client
    }

    /// A user who has logged in.
    fn submitting(server: &Server, name: &str) -> Self {
        let mut client = Self { wire: server.connect(Door::Submission) };
        client.reply();
        client.say("EHLO client.example");
        let login = STANDARD.encode(format!("\0{name}@{DOMAIN}\0{PASSWORD}"));
        assert!(client.say(&format!("AUTH PLAIN {login}")).starts_with("235 "));
        client
    }

    fn reply(&mut self) -> String {
        loop {
            let line = self.wire.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    fn say(&mut self, line: &str) -> String {
        self.wire.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// The replies to MAIL and RCPT, and the transaction is over.
    fn attempt(&mut self, sender: &str, recipient: &str) -> [String; 2] {
        let replies = [format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{recipient}>")].map(|line| self.say(&line));
        assert!(self.say("RSET").starts_with("250 "));
        replies
    }

    /// Delivers a message; the last reply.
    fn deliver(&mut self, sender: &str, recipient: &str, content: &str) -> String {
        for line in [format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{recipient}>"), "DATA".to_owned()] {
            let reply = self.say(&line);
            if !reply.starts_with(['2', '3']) {
                return reply;
            }
        }
        self.say(&format!("{content}\r\n."))
    }
}

const ADA: &str = "ada@rockdove.test";
const HERE: &str = "192.0.2.7";
const NEIGHBOUR: &str = "192.0.2.8";
const FAR: &str = "198.51.100.7";

fn setup() -> Setup {
    Setup::new(Io::Epoll, &[Door::Mx, Door::MxProxied, Door::Submission, Door::Pop3])
}

fn starts(replies: &[String; 2], mail: &str, rcpt: &str) {
    assert!(replies[0].starts_with(mail) && replies[1].starts_with(rcpt), "{replies:?}, not {mail} and {rcpt}");
}

fn metrics(server: &Server) -> String {
    server.rockdove(&["status", "--metrics"], "").ok()
}

/// A limit that gives back nothing while the test runs.
fn limit(name: &str, per: &str, count: &str, most: u32) -> String {
    format!("name = \"{name}\"\nper = \"{per}\"\ncount = \"{count}\"\nmost = {most}\nevery = \"30 d\"")
}

#[test]
fn messages_of_an_address_have_a_rate_that_survives_a_restart() {
    let mut server = Server::start(setup().with("[limit]", &limit("few", "address", "messages", 2)));
    let mut client = Client::from(&server, HERE);
    for _ in 0..2 {
        assert!(client.deliver("a@far.example", ADA, "Subject: x\r\n").starts_with("250 "));
    }
    let refused = client.say("MAIL FROM:<a@far.example>");
    assert!(refused.starts_with("450 4.7.1 too many messages from your address, try again in "), "{refused}");
    assert!(refused.ends_with(" h (few)"), "{refused}");
    assert!(Client::from(&server, NEIGHBOUR).deliver("a@far.example", ADA, "x").starts_with("250 "));
    // Our own machines have none.
    let mut here = Client { wire: server.connect(Door::Mx) };
    here.reply();
    here.say("HELO x");
    for _ in 0..5 {
        assert!(here.deliver("a@far.example", ADA, "x").starts_with("250 "));
    }
    assert!(metrics(&server).contains("rockdove_rate_limited_total{limit=\"few\"} 1"), "{}", metrics(&server));
    assert!(server.log().contains("too many messages from your address"), "{}", server.log());
    server.stop();
    server.run();
    assert!(Client::from(&server, HERE).say("MAIL FROM:<b@far.example>").starts_with("450 4.7.1 "));
    assert_eq!(Pop3::inbox(&server, "ada").len(), 8);
}

#[test]
fn an_account_has_a_rate_wherever_it_sits() {
    let limits = format!(
        "name = \"account-messages\"\nmost = 3\nevery = \"30 d\"\n[[limit]]\n{}",
        limit("account-people", "account", "recipients", 4) + "\nprotocol = \"submission\""
    );
    let mut server = Server::start(setup().with("[limit]", &limits));
    let mut ada = Client::submitting(&server, "ada");
    ada.say("MAIL FROM:<ada@rockdove.test>");
    for _ in 0..4 {
        assert!(ada.say("RCPT TO:<ben@rockdove.test>").starts_with("250 "));
    }
    let refused = ada.say("RCPT TO:<ben@rockdove.test>");
    assert!(refused.starts_with("450 4.7.1 too many recipients of this account"), "{refused}");
    assert!(ada.say("DATA").starts_with("354 "));
    assert!(ada.say("Subject: to four of five\r\n.").starts_with("250 "), "those who were accepted get it");
    let mut again = Client::submitting(&server, "ada");
    for _ in 0..2 {
        assert!(again.say("MAIL FROM:<>").starts_with("250 "), "a message without a sender counts as well");
        again.say("RSET");
    }
    assert!(again.say("MAIL FROM:<ada@rockdove.test>").starts_with("450 4.7.1 too many messages of this account"));
    assert!(Client::submitting(&server, "ben").deliver("ben@rockdove.test", ADA, "x").starts_with("250 "));
    server.stop();
    server.run();
    assert!(Client::submitting(&server, "ada").say("MAIL FROM:<ada@rockdove.test>").starts_with("450 4.7.1 "));
    assert_eq!((Pop3::inbox(&server, "ada").len(), Pop3::inbox(&server, "ben").len()), (1, 1));
}

#[test]
fn connections_octets_guesses_and_domains_have_rates() {
    let limits = [
        limit("connections", "network", "connections", 6),
        limit("octets", "sender_domain", "octets", 2_000),
        limit("guesses", "address", "refused_recipients", 2),
        limit("people", "recipient_domain", "recipients", 5),
    ];
    let server = Server::start(setup().with("[limit]", &limits.join("\n[[limit]]\n")));
    let mut client = Client::from(&server, HERE);
    assert!(client.deliver("a@far.example", ADA, &"x".repeat(900)).starts_with("250 "));
    assert!(client.deliver("b@Far.example", ADA, &"x".repeat(5_000)).starts_with("250 "), "known only when it is here");
    let refused = client.say("MAIL FROM:<c@far.example>");
    assert!(refused.starts_with("450 4.7.1 too many octets of this sender's domain"), "{refused}");
    assert!(client.deliver("c@other.example", ADA, "x").starts_with("250 "));
    // Guessing.
    let mut guesser = Client::from(&server, NEIGHBOUR);
    guesser.say("MAIL FROM:<a@guess.example>");
    for _ in 0..3 {
        assert!(guesser.say("RCPT TO:<nobody@rockdove.test>").starts_with("550 5.1.1 "));
    }
    guesser.say("RSET");
    let refused = guesser.say("MAIL FROM:<a@guess.example>");
    assert!(refused.starts_with("421 4.7.1 too many recipients that do not exist from your address"), "{refused}");
    assert_eq!(guesser.wire.rest(), "");
    // Recipients of a domain, whoever they come from.
    let mut other = Client::from(&server, FAR);
    starts(&other.attempt("x@one.example", ADA), "250 ", "250 ");
    starts(&other.attempt("x@two.example", ADA), "250 ", "250 ");
    starts(&other.attempt("x@three.example", ADA), "250 ", "450 4.7.1 too many recipients for this domain");
    // Connections of a network: two so far.
    let held: Vec<Client> = (10..14).map(|n| Client::from(&server, &format!("192.0.2.{n}"))).collect();
    let mut late = Client::silent(&server, "192.0.2.99");
    let refused = late.wire.rest();
    assert!(refused.starts_with("421 4.7.1 too many connections from your network"), "{refused}");
    drop((held, Client::from(&server, FAR)));
}

fn who_speaks_before_the_greeting_is_sent_off(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::MxProxied]).with("gate", "greet_delay = \"2 s\""));
    let mut hasty = Client::silent(&server, FAR);
    hasty.wire.send(b"EHLO x\r\nMAIL FROM:<a@far.example>\r\n");
    let said = hasty.wire.rest();
    assert!(said.starts_with("421 4.7.0 ") && said.lines().count() == 1, "{said}");
    let began = Instant::now();
    let mut patient = Client::from(&server, FAR);
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(patient.say("MAIL FROM:<a@far.example>").starts_with("250 "));
    // Our own machines need not wait.
    let began = Instant::now();
    let mut here = Client { wire: server.connect(Door::Mx) };
    assert!(here.reply().starts_with("220 ") && began.elapsed() < Duration::from_secs(2));
}

fn mistakes_wait_for_their_replies(io: Io) {
    let gate = "errors_free = 1\nerror_delay = \"1 s\"\nerror_delay_most = \"1 s\"";
    let server = Server::start(Setup::new(io, &[Door::MxProxied]).with("gate", gate));
    let mut client = Client::from(&server, FAR);
    assert!(client.say("X").starts_with("500 "));
    let began = Instant::now();
    client.wire.send(b"X\r\nNOOP\r\n");
    assert!(client.reply().starts_with("500 ") && began.elapsed() >= Duration::from_secs(1));
    assert!(client.reply().starts_with("250 "), "what was said meanwhile is not lost");
}

#[test]
fn lists_speak_against_clients_and_for_them() {
    let names = Names::start(&[
        ("7.2.0.192.bad.example", Record::A([127, 0, 0, 4])),
        ("8.2.0.192.bad.example", Record::A([127, 0, 0, 9])),
        ("7.100.51.198.bad.example", Record::A([127, 255, 255, 254])),
        ("9.2.0.192.bad.example", Record::A([127, 0, 0, 4])),
        ("9.2.0.192.good.example", Record::A([127, 0, 3, 1])),
        (
            &format!("{}8.b.d.0.1.0.0.2.bad.example", "1.0.0.0.".to_owned() + &"0.".repeat(20)),
            Record::A([127, 0, 0, 2]),
        ),
        ("bad.example", Record::Txt("a list".to_owned())),
        ("dead.example", Record::Silence),
    ]);
    let lists = "zone = \"bad.example\"\ncodes = [\"127.0.0.0/29\"]\nweight = 2\n\
                 [[dnsbl]]\nzone = \"good.example\"\nweight = -3\n[[dnsbl]]\nzone = \"dead.example\"\nweight = 9";
    let setup = setup()
        .with("[dnsbl]", lists)
        .with("dns", &names.setting())
        .with("gate", "dnsbl_timeout = \"1 s\"")
        .with("greylist", "enabled = true");
    let server = Server::start(setup);
    let mut listed = Client::from(&server, HERE);
    starts(&listed.attempt("a@far.example", ADA), "250 ", "550 5.7.1 192.0.2.7 is listed by bad.example");
    starts(&listed.attempt("a@far.example", "nobody@rockdove.test"), "250 ", "550 5.1.1 ");
    starts(&listed.attempt("a@far.example", "Postmaster"), "250 ", "250 ");
    let mut six = Client::from(&server, "2001:db8::1");
    starts(&six.attempt("a@far.example", ADA), "250 ", "550 5.7.1 2001:db8::1 is listed by bad.example");
    // A code that does not count, a list that wants not to be asked: not known, and so greylisted.
    for from in [NEIGHBOUR, FAR] {
        starts(&Client::from(&server, from).attempt("a@far.example", ADA), "250 ", "451 4.7.1 greylisted");
    }
    // Bad weighs less than good.
    let mut good = Client::from(&server, "192.0.2.9");
    assert!(good.deliver("a@far.example", ADA, "x").starts_with("250 "));
    let asked = names.asked();
    assert!(!asked.iter().any(|name| name.starts_with("1.0.0.127")), "this machine is not asked about: {asked:?}");
    assert!(metrics(&server).contains("rockdove_gate_refused_total{why=\"listed\"} 2"), "{}", metrics(&server));
    assert!(server.log().contains("192.0.2.7 is listed by bad.example"));
}

#[test]
fn who_is_not_known_tries_again() {
    let grey = "enabled = true\ndelay = \"1 s\"\npasses = 2\nexempt_senders = [\".friend.example\"]";
    let mut server = Server::start(setup().with("greylist", grey));
    let mut client = Client::from(&server, HERE);
    let first = client.attempt("a+tag1@far.example", ADA);
    starts(&first, "250 ", "451 4.7.1 greylisted, try again in 1 s");
    starts(&client.attempt("a@mail.friend.example", ADA), "250 ", "250 ");
    server.stop();
    server.run();
    thread::sleep(Duration::from_secs(1));
    // The second attempt comes from a neighbour, and with another tag.
    let mut client = Client::from(&server, NEIGHBOUR);
    assert!(client.deliver("a+tag2@far.example", ADA, "Subject: a\r\n").starts_with("250 "));
    starts(&client.attempt("a@far.example", "ben@rockdove.test"), "250 ", "451 4.7.1 ");
    starts(&Client::from(&server, FAR).attempt("a@far.example", ADA), "250 ", "451 4.7.1 ");
    thread::sleep(Duration::from_secs(1));
    starts(&client.attempt("a@far.example", "ben@rockdove.test"), "250 ", "250 ");
    starts(&client.attempt("stranger@else.example", "ben@rockdove.test"), "250 ", "250 ");
    starts(&Client::from(&server, FAR).attempt("a@far.example", "cleo@rockdove.test"), "250 ", "451 4.7.1 ");
    // Users are not asked, and a damaged memory is as good as none.
    assert!(Client::submitting(&server, "ben").deliver("ben@rockdove.test", ADA, "x").starts_with("250 "));
    server.stop();
    std::fs::write(server.path("data/gate.memory"), b"rockdove gate 1\nnonsense").expect("written");
    server.run();
    let mut client = Client::from(&server, HERE);
    starts(&client.attempt("stranger@else.example", "ben@rockdove.test"), "250 ", "451 4.7.1 ");
    assert!(server.log().contains("the gate begins anew"), "{}", server.log());
    assert_eq!(Pop3::inbox(&server, "ada").len(), 2);
}

#[test]
fn domains_of_senders_must_exist() {
    let names = Names::start(&[
        ("mx.example", Record::Mx(10, "mail.mx.example")),
        ("host.example", Record::A([192, 0, 2, 1])),
        ("six.example", Record::Aaaa([0x20; 16])),
        ("text.example", Record::Txt("nothing else".to_owned())),
        ("nomail.example", Record::Mx(0, ".")),
        ("silent.example", Record::Silence),
        ("xn--strae-oqa.example", Record::Mx(10, "mail.mx.example")),
    ]);
    let server = Server::start(setup().with("dns", &names.setting()).with("gate", "check_sender_domain = true"));
    let mut client = Client::from(&server, FAR);
    for (sender, mail) in [
        ("a@mx.example", "250 "),
        ("a@HOST.example", "250 "),
        ("a@six.example", "250 "),
        ("", "250 "),
        ("a@[198.51.100.7]", "250 "),
        ("someone@rockdove.test", "250 "),
        ("a@no.example", "550 5.1.8 "),
        ("a@text.example", "550 5.1.8 "),
        ("a@nomail.example", "550 5.7.27 "),
        ("a@silent.example", "451 4.1.8 "),
    ] {
        let reply = client.say(&format!("MAIL FROM:<{sender}>"));
        assert!(reply.starts_with(mail), "{sender}: {reply}");
        client.say("RSET");
    }
    assert!(client.say("MAIL FROM:<a@straße.example> SMTPUTF8").starts_with("250 "));
    // Neither our users nor our own machines are asked.
    assert!(Client::submitting(&server, "ada").deliver("ada@rockdove.test", ADA, "x").starts_with("250 "));
    let mut here = Client { wire: server.connect(Door::Mx) };
    here.reply();
    here.say("HELO x");
    assert!(here.say("MAIL FROM:<a@no.example>").starts_with("250 "));
}

#[test]
fn names_and_senders_of_ours_are_not_for_strangers() {
    let gate = "own_domains_need_login = true\nnull_sender_one_recipient = true\nhelo_strict = true";
    let server = Server::start(setup().with("gate", gate));
    let mut client = Client::silent(&server, FAR);
    client.reply();
    for name in ["mail.rockdove.test", "MAIL.Rockdove.Test.", "[203.0.113.25]", "203.0.113.25", "localhost", "x..y"] {
        let reply = client.say(&format!("EHLO {name}"));
        assert!(reply.starts_with("550 5.7.1 "), "{name}: {reply}");
    }
    assert!(client.say("MAIL FROM:<>").starts_with("503 "), "not greeted yet");
    assert!(client.say("EHLO [198.51.100.7]").starts_with("250 "));
    assert!(client.say("MAIL FROM:<ada@ROCKDOVE.test>").starts_with("550 5.7.1 "));
    assert!(client.say("MAIL FROM:<>").starts_with("250 "));
    assert!(client.say("RCPT TO:<ada@rockdove.test>").starts_with("250 "));
    assert!(client.say("RCPT TO:<ben@rockdove.test>").starts_with("452 4.5.3 "));
    assert!(client.say("RSET").starts_with("250 "));
    assert!(client.deliver("", "ben@rockdove.test", "x").starts_with("250 "));
    assert!(client.say("MAIL FROM:<x@far.example>").starts_with("250 "));
    for name in ["ada", "ben"] {
        assert!(client.say(&format!("RCPT TO:<{name}@rockdove.test>")).starts_with("250 "));
    }
    // A user may be anybody to a program on this machine, and says what it is called.
    assert!(Client::submitting(&server, "ada").deliver("ada@rockdove.test", ADA, "x").starts_with("250 "));
    let mut here = Client { wire: server.connect(Door::Mx) };
    here.reply();
    assert!(here.say("HELO mail.rockdove.test").starts_with("250 "));
    assert!(here.say("MAIL FROM:<ada@rockdove.test>").starts_with("250 "));
}
