//! A toy protocol, a server for it, and a client.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rockdove::{
    fronts::{Front, Replier},
    net::{
        drive::{Ended, drive},
        limits::Limits,
        listeners::{ListenAddress, ListenerConfig, Protocol, TlsMode, bind},
        serve::{Network, Opening},
        tls::{TlsSwitch, self_signed},
    },
    runtime::{
        wire::Backend,
        workers::{Plan, Running},
    },
};
use rockdove_mail::{AskId, Input, Session, Step, Tick};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// Lines in, lines out.
#[derive(Default)]
struct Toy {
    buffer: BytesMut,
    out: Vec<Step<String>>,
    next_ask: u64,
    deadline: Option<Tick>,
    every_ms: Option<u64>,
    passed: usize,
    blocked: bool,
}

impl Toy {
    fn greeting(peer: Option<SocketAddr>) -> Self {
        let mut toy = Self::default();
        toy.say(&format!("hello {}", peer.map_or("nobody".into(), |peer| peer.to_string())));
        toy
    }

    fn say(&mut self, line: &str) {
        self.out.push(Step::Send(vec![Bytes::from(line.to_owned()), Bytes::from_static(b"\r\n")]));
    }

    fn line(&mut self, now: Tick, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "echo" => self.say(rest),
            "big" => self.say(&"x".repeat(rest.parse().expect("count"))),
            "later" => {
                self.next_ask += 1;
                self.out.push(Step::Ask(AskId(self.next_ask), rest.to_owned()));
            }
            "block" => {
                self.blocked = true;
                self.out.push(Step::Ask(AskId(0), "unblocked".into()));
            }
            "tick" => {
                self.every_ms = rest.parse().ok();
                self.deadline = self.every_ms.map(|ms| now.plus_ms(ms));
            }
            "ticks" => self.say(&self.passed.to_string()),
            "tls" => {
                self.say("go");
                self.out.push(Step::StartTls);
            }
            "panic" => std::panic::resume_unwind(Box::new("asked for")),
            "bye" => {
                self.say("bye");
                self.out.push(Step::Close);
            }
            _ => self.say("what?"),
        }
    }

    fn lines(&mut self, now: Tick) {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            if self.blocked || matches!(self.out.last(), Some(Step::StartTls)) {
                // What stands behind the command stays in the buffer: for later, or to be forgotten when TLS is ready.
                return;
            }
            let line = self.buffer.split_to(end + 1);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.line(now, &line);
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

impl Session for Toy {
    type Ask = String;
    type Answer = String;

    fn handle(&mut self, now: Tick, input: Input<String>) {
        match input {
            Input::Received(bytes) => {
                assert!(!self.blocked, "bytes in spite of receive: false");
                self.buffer.extend_from_slice(&bytes);
                self.lines(now);
            }
            Input::PeerClosed => {
                self.say("end");
                self.out.push(Step::Close);
            }
            Input::TlsReady(facts) => {
                self.buffer.clear();
                self.say(&format!("secure {}", facts.version));
            }
            Input::Answered(_, text) => {
                self.blocked = false;
                self.say(&text);
                self.lines(now);
            }
            Input::DeadlinePassed => {
                self.passed += 1;
                self.deadline = self.every_ms.map(|ms| now.plus_ms(ms));
            }
            Input::ShuttingDown => {
                self.say("closing");
                self.out.push(Step::Close);
            }
            Input::Flushed => {}
        }
    }

    fn poll(&mut self) -> Step<String> {
        if self.out.is_empty() { Step::Idle { receive: !self.blocked } } else { self.out.remove(0) }
    }

    fn deadline(&self) -> Option<Tick> {
        self.deadline
    }
}

/// Answers after a moment, from another thread.
struct Later;

impl Front<Toy> for Later {
    fn ask(&mut self, id: AskId, ask: String, replier: &Replier<String>) {
        let replier = replier.clone();
        let thread = thread::Builder::new().spawn(move || {
            thread::sleep(Duration::from_millis(20));
            replier.reply(id, ask);
        });
        thread.expect("thread");
    }
}

/// Counts itself out when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A running server with three listeners: STARTTLS, TLS from the start, and behind a proxy.
pub(crate) struct Server {
    running: Option<Running>,
    /// The listeners' addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    open: Arc<AtomicUsize>,
    roots: Arc<RootCertStore>,
}

fn listener(tls: TlsMode, proxy_protocol: bool) -> ListenerConfig {
    ListenerConfig {
        protocol: Protocol::Imap,
        address: "127.0.0.1:0".parse().expect("address"),
        tls,
        proxy_protocol,
        proxy_trusted: vec!["127.0.0.1".parse().expect("network")],
        administrator: false,
    }
}

impl Server {
    pub(crate) fn start(backend: Backend, limits: Limits) -> Self {
        let (chain, key) = self_signed(vec!["mail.test".into()]).expect("certificate");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(chain.as_bytes()).expect("pem")).expect("root");
        let tls = Arc::new(TlsSwitch::new(chain.as_bytes(), key.as_bytes()).expect("certificate"));
        let configs =
            vec![listener(TlsMode::StartTls, false), listener(TlsMode::Implicit, false), listener(TlsMode::None, true)];
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for config in &configs {
            let bound = bind(&config.address, config.mode(), 2, 512).expect("bind");
            if let ListenAddress::Tcp(address) = bound.address {
                addresses.push(address);
            }
            listeners.push(bound.sockets);
        }
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        let carry = move |opening: Opening| -> Pin<Box<dyn Future<Output = Ended>>> {
            count.fetch_add(1, Ordering::SeqCst);
            let counted = Counted(Arc::clone(&count));
            Box::pin(async move {
                let _counted = counted;
                drive(opening.link, Toy::greeting(opening.peer.remote), Later, &opening.context).await
            })
        };
        let network = Network::new(configs, Some(&tls), Arc::new(limits), Arc::new(carry));
        let plan = Plan { backend, listeners, workers: 2, serve: network.serve() };
        Self { running: Some(plan.start().expect("workers")), addresses, open, roots: Arc::new(roots) }
    }

    /// A greeted client in clear.
    pub(crate) fn connect(&self) -> Client<TcpStream> {
        let mut client = Client::new(dial(self.addresses[0]));
        assert!(client.line().starts_with("hello 127.0.0.1:"));
        client
    }

    /// Wraps a connection in TLS.
    pub(crate) fn tls(&self, stream: TcpStream) -> Client<StreamOwned<ClientConnection, TcpStream>> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        let name = ServerName::try_from("mail.test").expect("name");
        Client::new(StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("client"), stream))
    }

    /// Waits until exactly `count` sessions are open.
    pub(crate) fn wait_until_open(&self, count: usize) {
        for _ in 0..500 {
            if self.open.load(Ordering::SeqCst) == count {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.open.load(Ordering::SeqCst), count, "open sessions");
    }

    pub(crate) fn stop(&mut self) -> usize {
        self.running.take().expect("running").stop(Duration::from_secs(3))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_millis(500));
        }
    }
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("write");
        self.stream.flush().expect("flush");
    }

    pub(crate) fn line(&mut self) -> String {
        let mut chunk = vec![0; 65536];
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + end).collect();
                return String::from_utf8(line).expect("text").trim_end().to_owned();
            }
            searched = self.read.len();
            let count = match self.stream.read(&mut chunk) {
                // The kernel's work for a ring this thread once had interrupts reads that have a time-out.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("read"),
            };
            assert_ne!(count, 0, "closed; had {:?}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&chunk[..count]);
        }
    }

    /// Expects the end of the stream and nothing before it.
    pub(crate) fn ended(&mut self) {
        let mut rest = std::mem::take(&mut self.read);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

/// Wraps a connection in TLS without looking at the certificate.
pub(crate) fn insecure_tls(stream: TcpStream) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
        Arc::new(config)
    });
    let name = ServerName::try_from("mail.test").expect("name");
    Client::new(StreamOwned::new(ClientConnection::new(Arc::clone(&CONFIG), name).expect("client"), stream))
}

#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
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
