//! SMTP from the first byte to the stored message, without sockets: session, front, delivery stages, engine in memory.

use std::{path::Path, sync::Arc, task::Context, task::Poll, task::Waker, time::Duration};

use bytes::Bytes;
use rockdove::{
    config,
    fronts::{Front, smtp},
    login::{LoginSecrets, LoginService},
    net::listeners::{ListenAddress, ListenerConfig, Protocol, TlsMode},
    runtime::{
        hub::Hub,
        replier::{self, Replier, Replies},
        storage::StoragePool,
    },
    services::Services,
};
use rockdove_engine::{Command, Engine, EngineOptions, directory::hash_password, kv::memory::MemoryKv};
use rockdove_mail::{Input, MailboxName, Peer, Session, Step, Tick};
use rockdove_smtp::{Answer, SmtpSession};

const CONFIG: &str = "hostname = \"mx.here.example\"\ndata_dir = \"/nowhere\"\n";
const NOW: i64 = 1_794_000_000;

struct Server {
    services: Arc<Services>,
}

impl Server {
    /// Domain here.example with alice, bob (quota of 4,000 octets) and an alias `team` for both.
    fn new() -> Self {
        let engine = Engine::open(Arc::new(MemoryKv::new()), EngineOptions::default()).expect("an engine");
        let run = |command| engine.execute(NOW, command).expect("set up");
        run(Command::CreateDomain { domain: "here.example".into() });
        let credential = hash_password("secret", [1; 16], [2; 16]);
        for (address, quota_bytes) in [("alice@here.example", None), ("bob@here.example", Some(4_000))] {
            run(Command::CreateAccount { address: address.into(), credential: credential.clone(), quota_bytes });
        }
        let targets = vec!["alice@here.example".to_owned(), "bob@here.example".to_owned()];
        run(Command::SetAlias { alias: "team@here.example".into(), targets });
        let alice = engine.directory().account_by_login("alice@here.example").expect("alice").id;
        let name = MailboxName::new("lists").expect("a name");
        run(Command::CreateMailbox { account: alice, name, special_use: None });
        let storage = StoragePool::start(2).expect("threads");
        let config = Arc::new(config::parse(CONFIG, Path::new("test.toml")).expect("a configuration"));
        let directory = Arc::clone(&engine);
        let accounts = Box::new(move |login: &str| {
            directory.directory().account_by_login(login).map(|account| (account.id, account.credential.clone()))
        });
        let secrets = LoginSecrets { boot: [3; 32], kept: [4; 32] };
        let login = LoginService::new(accounts, StoragePool::start(1).expect("a thread"), 1, &secrets, &config.login);
        Self { services: Arc::new(Services::new(engine, storage, login, Hub::new(), config)) }
    }

    fn connect(&self, protocol: Protocol) -> Client {
        let listener = ListenerConfig {
            protocol,
            address: "127.0.0.1:0".parse::<ListenAddress>().expect("an address"),
            tls: TlsMode::None,
            proxy_protocol: false,
            proxy_trusted: Vec::new(),
        };
        let peer = Peer { remote: "127.0.0.1:4711".parse().ok(), local: None, tls: None };
        let now = Tick { monotonic_ms: 0, unix_s: NOW };
        let (session, front) = smtp::open(&self.services, &listener, peer, [9; 32], now);
        let (replier, replies) = replier::pair();
        let mut client = Client { engine: Arc::clone(&self.services.engine), session, front, replier, replies, now };
        assert!(client.say("").starts_with("220 mx.here.example"));
        client
    }

    /// The messages in a mailbox, oldest first.
    fn messages(&self, login: &str, mailbox: &str) -> Vec<String> {
        let engine = &self.services.engine;
        let account = engine.directory().account_by_login(login).expect("an account").id;
        let name = MailboxName::new(mailbox).expect("a name");
        let mailboxes = engine.mailboxes(account).expect("mailboxes");
        let id = mailboxes.by_name(&name).expect("a mailbox").id;
        let view = engine.mailbox(account, id).expect("a view");
        view.uids()
            .iter()
            .map(|uid| {
                let entry = view.entry(uid).expect("an entry");
                let record = engine.record(account, entry.message).expect("a record");
                let bytes = engine.read(account, &record, 0..record.size_bytes).expect("bytes");
                String::from_utf8(bytes.to_vec()).expect("text")
            })
            .collect()
    }
}

struct Client {
    engine: Arc<Engine>,
    session: SmtpSession,
    front: smtp::SmtpFront,
    replier: Replier<Answer>,
    replies: Replies<Answer>,
    now: Tick,
}

impl Client {
    /// Sends text (with `\n` for line ends) and gives back what is replied.
    fn say(&mut self, text: &str) -> String {
        let mut out = Vec::new();
        if !text.is_empty() {
            self.session.handle(self.now, Input::Received(Bytes::from(text.replace('\n', "\r\n"))));
        }
        loop {
            match self.session.poll() {
                Step::Send(pieces) => out.extend(pieces.concat()),
                Step::Ask(id, ask) => self.front.ask(id, ask, &self.replier),
                Step::Idle { receive: false } => self.wait(),
                Step::Idle { receive: true } | Step::Close => break,
                Step::StartTls => panic!("no TLS here"),
            }
        }
        String::from_utf8(out).expect("replies are UTF-8")
    }

    fn wait(&mut self) {
        for _ in 0..10_000 {
            let context = Context::from_waker(Waker::noop());
            if let Poll::Ready((id, answer)) = self.replies.poll_next(&context) {
                return self.session.handle(self.now, Input::Answered(id, answer));
            }
            self.engine.commit_pending(Duration::from_millis(1));
        }
        panic!("no answer came");
    }

    /// Codes of the replies, one per line of reply.
    fn codes(&mut self, text: &str) -> Vec<u16> {
        let replies = self.say(text);
        replies.lines().map(|line| line[..3].parse().expect("a code")).collect()
    }
}

#[test]
fn lmtp_delivers_one_copy_per_account_byte_for_byte() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Lmtp);
    client.say("LHLO client.example\n");
    let codes = client.codes(
        "MAIL FROM:<from@far.example>\nRCPT TO:<alice@here.example>\nRCPT TO:<team@here.example>\n\
         RCPT TO:<nobody@here.example>\nRCPT TO:<alice@far.example>\nDATA\n",
    );
    assert_eq!(codes, [250, 250, 250, 550, 554, 354]);
    assert_eq!(client.codes("Subject: one\n\n..dot\nbody\n.\n"), [250, 250]);
    for login in ["alice@here.example", "bob@here.example"] {
        let messages = server.messages(login, "INBOX");
        assert_eq!(messages.len(), 1, "{login}");
        let message = &messages[0];
        let trace =
            format!("Return-Path: <from@far.example>\r\nDelivered-To: {login}\r\nReceived: from client.example");
        assert!(message.starts_with(&trace), "{message}");
        assert!(message.contains(" ([127.0.0.1])\r\n\tby mx.here.example with LMTP\r\n\tid "), "{message}");
        assert!(message.ends_with("\r\nSubject: one\r\n\r\n.dot\r\nbody\r\n"), "{message}");
    }
}

#[test]
fn a_detail_names_a_mailbox_only_when_it_is_there() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Lmtp);
    client.say("LHLO x\n");
    for detail in ["lists", "Lists", "nothing", "lists/x"] {
        let text = format!("MAIL FROM:<>\nRCPT TO:<alice+{detail}@here.example>\nDATA\nX: {detail}\n.\n");
        assert_eq!(client.codes(&text), [250, 250, 354, 250], "{detail}");
    }
    assert_eq!(server.messages("alice@here.example", "lists").len(), 1);
    assert_eq!(server.messages("alice@here.example", "INBOX").len(), 3);
    assert!(server.messages("alice@here.example", "lists")[0].starts_with("Return-Path: <>\r\n"));
}

#[test]
fn a_full_mailbox_is_refused_alone_on_lmtp_and_for_all_on_mx() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Lmtp);
    client.say("LHLO x\n");
    let big = "x".repeat(5_000);
    let text = format!("MAIL FROM:<>\nRCPT TO:<alice@here.example>\nRCPT TO:<bob@here.example>\nDATA\n{big}\n.\n");
    assert_eq!(client.codes(&text), [250, 250, 250, 354, 250, 452]);
    assert_eq!(server.messages("alice@here.example", "INBOX").len(), 1);
    assert!(server.messages("bob@here.example", "INBOX").is_empty());
    let mut client = server.connect(Protocol::Smtp);
    client.say("HELO x\n");
    assert_eq!(client.codes(&text), [250, 250, 250, 354, 452]);
    assert_eq!(server.messages("alice@here.example", "INBOX").len(), 1, "all or none");
    let announced = "MAIL FROM:<> SIZE=5000\nRCPT TO:<bob@here.example>\nRCPT TO:<alice@here.example>\nRSET\n";
    assert_eq!(client.codes(announced), [250, 452, 250, 250]);
}

#[test]
fn large_messages_are_spooled() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Smtp);
    client.say("EHLO x\n");
    let start = "MAIL FROM:<>\nRCPT TO:<alice@here.example>\nDATA\n";
    assert_eq!(client.codes(start), [250, 250, 354]);
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef\n".repeat(1_000);
    let mut expected = "Subject: large\r\n\r\n".to_owned();
    client.say("Subject: large\n\n");
    for _ in 0..40 {
        client.say(&line);
        expected.push_str(&line.replace('\n', "\r\n"));
    }
    assert_eq!(client.codes(".\n"), [250]);
    assert!(server.messages("alice@here.example", "INBOX")[0].ends_with(&expected));
    // Given up in the middle: nothing is left of it, and the next message is whole.
    client.say(start);
    (0..4).for_each(|_| drop(client.say(&line)));
    assert_eq!(client.codes("bare\rCR\n.\n"), [550]);
    assert_eq!(client.codes(&format!("{start}small\n.\n")), [250, 250, 354, 250]);
    let messages = server.messages("alice@here.example", "INBOX");
    assert_eq!(messages.len(), 2);
    assert!(messages[1].ends_with("\r\nsmall\r\n") && messages[1].len() < 1_000);
}

#[test]
fn submission_needs_a_login_and_adds_what_is_missing() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Submission);
    client.say("EHLO laptop.example\n");
    assert_eq!(client.codes("MAIL FROM:<alice@here.example>\n"), [530]);
    // alice@here.example with a wrong password, then with "secret"
    assert_eq!(client.codes("AUTH PLAIN AGFsaWNlQGhlcmUuZXhhbXBsZQB3cm9uZw==\n"), [535]);
    assert_eq!(client.codes("AUTH PLAIN AGFsaWNlQGhlcmUuZXhhbXBsZQBzZWNyZXQ=\n"), [235]);
    assert_eq!(client.codes("MAIL FROM:<bob@here.example>\n"), [553]);
    assert_eq!(client.codes("MAIL FROM:<team@here.example>\nRSET\n"), [250, 250]);
    let replies = client.say("MAIL FROM:<alice@here.example>\nRCPT TO:<friend@far.example>\n");
    assert!(replies.ends_with("554 5.7.1 delivery to other domains is not enabled on this server\r\n"), "{replies}");
    assert_eq!(client.codes("RCPT TO:<bob@here.example>\nDATA\nSubject: x\n\nhello\n.\n"), [250, 354, 250]);
    let message = &server.messages("bob@here.example", "INBOX")[0];
    assert!(message.contains(" with ESMTPA\r\n"), "{message}");
    assert!(message.contains("\r\nMessage-ID: <") && message.contains("\r\nDate: "), "{message}");
    let complete = "MAIL FROM:<alice@here.example>\nRCPT TO:<bob@here.example>\nDATA\n\
                    Date: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <own@laptop.example>\n\nhello\n.\n";
    assert_eq!(client.codes(complete), [250, 250, 354, 250]);
    let message = &server.messages("bob@here.example", "INBOX")[1];
    assert_eq!(message.matches("Message-ID:").count(), 1, "{message}");
    assert_eq!(message.matches("\r\nDate:").count(), 1, "{message}");
}

#[test]
fn nobody_relays() {
    let server = Server::new();
    for protocol in [Protocol::Smtp, Protocol::Lmtp] {
        let mut client = server.connect(protocol);
        client.say(if protocol == Protocol::Lmtp { "LHLO x\n" } else { "EHLO x\n" });
        client.say("MAIL FROM:<alice@here.example>\n");
        for (recipient, code) in [
            ("victim@far.example", 554),
            ("victim%far.example@here.example", 550),
            ("far.example!victim@here.example", 550),
            ("\"victim@far.example\"@here.example", 550),
            ("@here.example:victim@far.example", 554),
            ("victim@[127.0.0.1]", 554),
            ("victim@here.example.far.example", 554),
            ("@far.example:alice@here.example", 250),
            ("ALICE@Here.Example", 250),
            ("Postmaster", 250),
        ] {
            assert_eq!(client.codes(&format!("RCPT TO:<{recipient}>\n")), [code], "{recipient}");
        }
    }
}
