//! A server without sockets: engine in memory, services, and connections of session and front.

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use rockdove::{
    config,
    fronts::Front,
    login::{LoginSecrets, LoginService},
    net::listeners::{ListenAddress, ListenerConfig, Protocol, TlsMode},
    runtime::{
        hub::Hub,
        replier::{self, Replier, Replies},
        storage::StoragePool,
    },
    services::Services,
};
use rockdove_engine::{
    AccountId, Command, Engine, EngineOptions,
    directory::hash_password,
    kv::{Batch, Durability, Family, Kv as _, SharedKv, keys, memory::MemoryKv},
};
use rockdove_mail::{Input, MailboxName, Peer, Session, Step, Tick};

const CONFIG: &str = "hostname = \"mx.here.example\"\ndata_dir = \"/nowhere\"\n";
/// When everything happens, in seconds since 1970.
pub(crate) const NOW: i64 = 1_794_000_000;
/// The same moment for sessions.
pub(crate) const TICK: Tick = Tick { monotonic_ms: 0, unix_s: NOW };
/// Seed of every session.
pub(crate) const SEED: [u8; 32] = [9; 32];

/// A server with domain here.example, accounts alice and bob (quota of 4,000 octets), password "secret", an alias `team`
/// for both, and a mailbox `lists` of alice.
pub(crate) struct Server {
    pub(crate) services: Arc<Services>,
    kv: Arc<MemoryKv>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(EngineOptions::default())
    }

    pub(crate) fn with(options: EngineOptions) -> Self {
        let kv = Arc::new(MemoryKv::new());
        let engine = Engine::open(Arc::clone(&kv) as SharedKv, options).expect("an engine");
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
        Self { services: Self::serve(engine), kv }
    }

    fn serve(engine: Arc<Engine>) -> Arc<Services> {
        let storage = StoragePool::start(2).expect("threads");
        let config = Arc::new(config::parse(CONFIG, Path::new("test.toml")).expect("a configuration"));
        let directory = Arc::clone(&engine);
        let accounts = Box::new(move |login: &str| {
            directory.directory().account_by_login(login).map(|account| (account.id, account.credential.clone()))
        });
        let secrets = LoginSecrets { boot: [3; 32], kept: [4; 32] };
        let login = LoginService::new(accounts, StoragePool::start(1).expect("a thread"), 1, &secrets, &config.login);
        let hub = Hub::new();
        let told = hub.clone();
        engine.on_change(Box::new(move |notices| told.publish(notices)));
        Arc::new(Services::new(engine, storage, login, hub, rockdove::inspect::door().0, config))
    }

    pub(crate) fn listener(protocol: Protocol) -> ListenerConfig {
        ListenerConfig {
            protocol,
            address: "127.0.0.1:0".parse::<ListenAddress>().expect("an address"),
            tls: TlsMode::None,
            proxy_protocol: false,
            proxy_trusted: Vec::new(),
            administrator: false,
        }
    }

    pub(crate) fn peer() -> Peer {
        Peer { remote: "127.0.0.1:4711".parse().ok(), local: None, tls: None }
    }

    /// Damages the record of a message.
    #[allow(dead_code, reason = "not every front shows what is damaged")]
    pub(crate) fn damage(&self, account: AccountId, message: u32) {
        let mut batch = Batch::default();
        batch.put(Family::Message, keys::message_record(account.0, message), Bytes::from_static(b"damaged"));
        self.kv.write(&batch, Durability::Synced).expect("written");
    }

    pub(crate) fn account(&self, login: &str) -> AccountId {
        self.services.engine.directory().account_by_login(login).expect("an account").id
    }

    /// The messages in a mailbox, oldest first.
    pub(crate) fn messages(&self, login: &str, mailbox: &str) -> Vec<String> {
        let (engine, account) = (&self.services.engine, self.account(login));
        let name = MailboxName::new(mailbox).expect("a name");
        let mailboxes = engine.mailboxes(account).expect("mailboxes");
        let id = mailboxes.by_name(&name).expect("a mailbox").id;
        let view = engine.mailbox(account, id).expect("a view");
        let message = |uid| {
            let entry = view.entry(uid).expect("an entry");
            let record = engine.record(account, entry.message).expect("a record");
            let bytes = engine.read(account, &record, 0..record.size_bytes).expect("bytes");
            String::from_utf8(bytes.to_vec()).expect("text")
        };
        view.uids().iter().map(message).collect()
    }
}

/// One connection.
pub(crate) struct Client<S: Session, F: Front<S>> {
    engine: Arc<Engine>,
    session: S,
    front: F,
    replier: Replier<S::Answer>,
    replies: Replies<S::Answer>,
    /// Questions that are not answered, and how many of them are not waited for: a watch is answered when there is news.
    open: usize,
    watches: usize,
}

impl<S: Session, F: Front<S>> Client<S, F> {
    pub(crate) fn new(server: &Server, (session, front): (S, F)) -> Self {
        let (replier, replies) = replier::pair();
        Self { engine: Arc::clone(&server.services.engine), session, front, replier, replies, open: 0, watches: 0 }
    }

    /// Sends text (with `\n` for line ends) and gives back what is replied.
    pub(crate) fn say(&mut self, text: &str) -> String {
        self.send(text.replace('\n', "\r\n").into_bytes())
    }

    /// Sends octets and gives back what is replied.
    pub(crate) fn send(&mut self, octets: Vec<u8>) -> String {
        if !octets.is_empty() {
            self.session.handle(TICK, Input::Received(Bytes::from(octets)));
        }
        String::from_utf8(self.drain()).expect("replies are UTF-8")
    }

    /// What has come in the meantime, without being asked.
    #[allow(dead_code, reason = "only IMAP servers speak unasked")]
    pub(crate) fn hear(&mut self) -> String {
        let mut out = Vec::new();
        while let Some((id, answer)) = self.next_answer() {
            self.session.handle(TICK, Input::Answered(id, answer));
            out.extend(self.drain());
        }
        String::from_utf8(out).expect("text")
    }

    /// Goes on until the session wants to hear from the client.
    fn drain(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            match self.session.poll() {
                Step::Send(pieces) => {
                    out.extend(pieces.concat());
                    self.session.handle(TICK, Input::Flushed);
                }
                Step::Ask(id, ask) => {
                    self.open += 1;
                    self.front.ask(id, ask, &self.replier);
                }
                Step::Idle { receive: false } => self.wait(),
                // What was said may still be carried out.
                Step::Idle { receive: true } if self.open > self.watches && self.is_answered() => {}
                Step::Idle { receive: true } | Step::Close => return out,
                Step::StartTls | Step::Compress => panic!("a plain connection"),
            }
        }
    }

    fn next_answer(&mut self) -> Option<(rockdove_mail::AskId, S::Answer)> {
        match self.replies.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                self.open -= 1;
                self.watches = self.watches.min(self.open);
                Some(answer)
            }
            Poll::Pending => None,
        }
    }

    /// Waits for an answer for a while; what is still open then is a watch.
    fn is_answered(&mut self) -> bool {
        for _ in 0..300 {
            if let Some((id, answer)) = self.next_answer() {
                self.session.handle(TICK, Input::Answered(id, answer));
                return true;
            }
            self.engine.commit_pending(Duration::from_millis(1));
        }
        self.watches = self.open;
        false
    }

    fn wait(&mut self) {
        for _ in 0..10_000 {
            if let Some((id, answer)) = self.next_answer() {
                return self.session.handle(TICK, Input::Answered(id, answer));
            }
            self.engine.commit_pending(Duration::from_millis(1));
        }
        panic!("no answer came");
    }
}
