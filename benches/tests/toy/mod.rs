//! A mail server just large enough for the load generator to be tested against: everything in memory, everyone may log
//! in with the password `secret`, a message to `nobody@x` is refused.

mod imap;
mod pop3;
mod smtp;

use std::{cell::RefCell, collections::BTreeMap, future::Future, rc::Rc, sync::Arc, time::Duration};

use rockdove_benches::{failure::Result, link::Link};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::{net::TcpListener, sync::watch, task::spawn_local};

pub(crate) const PASSWORD: &str = "secret";
const TRACE: &[u8] = b"Return-Path: <>\r\nReceived: from a\r\n\tby b; Thu, 1 Jan 2026 12:00:00 +0000\r\n";

/// The server.
pub(crate) struct Toy {
    mailboxes: RefCell<BTreeMap<String, Vec<Vec<u8>>>>,
    arrived: watch::Sender<u64>,
    spoil: Option<u64>,
    tls: Arc<ServerConfig>,
}

/// Where it listens.
pub(crate) struct Doors {
    pub(crate) smtp: String,
    pub(crate) lmtp: String,
    pub(crate) imap: String,
    pub(crate) imaps: String,
    pub(crate) pop3: String,
    /// Accepts and says nothing.
    pub(crate) silent: String,
}

impl Toy {
    /// With `spoil` the n-th message delivered is not stored as it came.
    pub(crate) async fn open(spoil: Option<u64>) -> (Rc<Self>, Doors) {
        let (mailboxes, arrived) = (RefCell::default(), watch::channel(0).0);
        let toy = Rc::new(Self { mailboxes, arrived, spoil, tls: server_config() });
        let doors = Doors {
            smtp: toy.listen(|toy, link| smtp::serve(toy, link, false)).await,
            lmtp: toy.listen(|toy, link| smtp::serve(toy, link, true)).await,
            imap: toy.listen(|toy, link| imap::serve(toy, link, false)).await,
            imaps: toy.listen(|toy, link| imap::serve(toy, link, true)).await,
            pop3: toy.listen(pop3::serve).await,
            silent: toy.listen(|_, mut link| async move { link.line(&mut Vec::new()).await }).await,
        };
        (toy, doors)
    }

    async fn listen<F>(self: &Rc<Self>, serve: impl Fn(Rc<Self>, Link) -> F + 'static) -> String
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let toy = Rc::clone(self);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                let session = serve(Rc::clone(&toy), Link::accepted(stream, Duration::from_mins(1)));
                // A client that goes away ends its session, nothing else.
                spawn_local(async move { drop(session.await) });
            }
        });
        address
    }

    /// Messages of a mailbox.
    pub(crate) fn messages(&self, address: &str) -> Vec<Vec<u8>> {
        self.mailboxes.borrow().get(address).cloned().unwrap_or_default()
    }

    /// Messages of all mailboxes.
    pub(crate) fn count(&self) -> usize {
        self.mailboxes.borrow().values().map(Vec::len).sum()
    }

    fn deliver(&self, address: &str, message: &[u8]) {
        let mut stored = [TRACE, message].concat();
        let number = *self.arrived.borrow() + 1;
        if self.spoil == Some(number)
            && let Some(last) = stored.iter_mut().rfind(|octet| octet.is_ascii_alphabetic())
        {
            *last ^= 0x20;
        }
        self.keep(address, stored);
    }

    fn keep(&self, address: &str, stored: Vec<u8>) {
        self.mailboxes.borrow_mut().entry(address.to_owned()).or_default().push(stored);
        self.arrived.send_modify(|count| *count += 1);
    }
}

/// The next line without its CRLF.
async fn line(link: &mut Link) -> Result<String> {
    let mut line = Vec::new();
    link.line(&mut line).await?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn server_config() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).expect("a configuration"))
}
