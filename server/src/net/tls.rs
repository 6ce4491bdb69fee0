//! TLS 1.2 and 1.3 by rustls: certificates that can be replaced while serving, and the state of one connection.

use std::{
    fs, io,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use rockdove_mail::TlsFacts;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// Clear bytes encrypted before they are written: bounds the memory of one send.
pub(super) const SEND_CHUNK_BYTES: usize = 64 * 1024;

/// The certificate in use; clones of the `Arc` around it share a replacement.
pub struct TlsSwitch {
    current: RwLock<Arc<ServerConfig>>,
}

impl TlsSwitch {
    /// Uses a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together.
    pub fn new(chain_pem: &[u8], key_pem: &[u8]) -> io::Result<Self> {
        Ok(Self { current: RwLock::new(server_config(chain_pem, key_pem)?) })
    }

    /// Reads the chain and the key from files.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should; the error names it.
    pub fn from_files(chain: &Path, key: &Path) -> io::Result<Self> {
        let (chain_pem, key_pem) = (read_named(chain)?, read_named(key)?);
        Self::new(&chain_pem, &key_pem).map_err(|error| {
            io::Error::new(error.kind(), format!("{} and {}: {error}", chain.display(), key.display()))
        })
    }

    /// Replaces the certificate for connections to come; those that are up keep theirs.
    pub fn replace(&self, with: Self) {
        let new = with.current.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn accept(&self) -> io::Result<Tls> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Tls { connection: connection.into() })
    }
}

/// Whose side of the handshake is ours.
#[derive(Clone)]
pub enum Handshake {
    /// The server's.
    Accept(Arc<TlsSwitch>),
    /// The client's.
    Connect(TlsTarget),
}

impl Handshake {
    pub(super) fn begin(&self) -> io::Result<Tls> {
        match self {
            Self::Accept(switch) => switch.accept(),
            Self::Connect(target) => {
                let connection = ClientConnection::new(Arc::clone(&target.config), target.name.clone());
                Ok(Tls { connection: connection.map_err(io::Error::other)?.into() })
            }
        }
    }
}

/// A server that is to prove its name, or need not.
#[derive(Clone)]
pub struct TlsTarget {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl TlsTarget {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name }
    }
}

fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn server_config(chain_pem: &[u8], key_pem: &[u8]) -> io::Result<Arc<ServerConfig>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let chain = CertificateDer::pem_slice_iter(chain_pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| invalid(format!("bad certificate: {error}")))?;
    if chain.is_empty() {
        return Err(invalid("there is no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| invalid(format!("bad private key: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| invalid(error.to_string()))?;
    // Sessions are resumed by tickets, so the server remembers nothing per client.
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    // A mail client opens connections one by one; the second ticket would only cost bytes.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Makes a self-signed certificate for a first start: the chain and the key, both PEM.
///
/// # Errors
/// When a name is not a DNS name or an address.
pub fn self_signed(names: Vec<String>) -> io::Result<(String, String)> {
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

/// The TLS state of one connection. Bytes go in and come out; it knows no socket.
pub(super) struct Tls {
    connection: rustls::Connection,
}

impl Tls {
    pub(super) fn handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes received bytes. Adds what they decrypt to to `clear`; says whether the peer has closed its side.
    pub(super) fn feed(&mut self, mut received: &[u8], clear: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            if !received.is_empty() {
                self.connection.read_tls(&mut received)?;
            }
            let state = self.connection.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let count = state.plaintext_bytes_to_read();
            if count > 0 {
                let old = clear.len();
                clear.resize(old + count, 0);
                self.connection.reader().read_exact(clear.get_mut(old..).unwrap_or_default())?;
            }
            if received.is_empty() || state.peer_has_closed() {
                return Ok(state.peer_has_closed());
            }
        }
    }

    /// Encrypts at most [`SEND_CHUNK_BYTES`] from the front of `clear` and says how many were taken.
    pub(super) fn encrypt(&mut self, clear: &[u8]) -> io::Result<usize> {
        self.connection.writer().write(clear.get(..SEND_CHUNK_BYTES).unwrap_or(clear))
    }

    /// Says good-bye in the next output.
    pub(super) fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// What is to be sent to the peer now, if anything.
    pub(super) fn output(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out)?;
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    pub(super) fn facts(&self) -> TlsFacts {
        let version = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".into(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".into(),
            other => format!("{other:?}"),
        };
        let suite = self.connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let server_name = match &self.connection {
            rustls::Connection::Server(connection) => connection.server_name().map(str::to_owned),
            rustls::Connection::Client(_) => None,
        };
        TlsFacts { version, cipher: suite.unwrap_or_default().into(), server_name }
    }
}

/// What connections to other servers are checked against.
#[derive(Clone)]
pub struct TlsDialer {
    config: Arc<ClientConfig>,
}

impl TlsDialer {
    /// Trusts the authorities that this system trusts and, beside them, those in `more_pem`.
    ///
    /// # Errors
    /// When there is nobody to trust, or `more_pem` does not hold certificates.
    pub fn new(more_pem: Option<&[u8]>) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .with_root_certificates(roots(more_pem)?)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// The server of this name, for a handshake to come.
    ///
    /// # Errors
    /// When it is no name that a certificate could have.
    pub fn target(&self, server_name: &str) -> io::Result<TlsTarget> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
        Ok(TlsTarget { config: Arc::clone(&self.config), name })
    }

    /// Shakes hands with the server of this name. Blocks.
    ///
    /// # Errors
    /// When the server cannot prove its name, or the connection fails.
    pub fn dial(&self, server_name: &str, mut stream: TcpStream) -> io::Result<TlsStream> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(TlsStream(StreamOwned::new(connection, stream)))
    }
}

/// The authorities that this system trusts, and those in `more_pem`.
pub(super) fn roots(more_pem: Option<&[u8]>) -> io::Result<RootCertStore> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut roots = RootCertStore::empty();
    // One certificate of the system that cannot be read takes nothing from the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(more_pem.unwrap_or_default()) {
        let certificate = certificate.map_err(|error| invalid(format!("bad certificate: {error}")))?;
        roots.add(certificate).map_err(|error| invalid(format!("bad certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("this system trusts no certificate authority".into()));
    }
    Ok(roots)
}

/// An encrypted connection to another server, which blocks.
pub struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for TlsStream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_are_checked() {
        let (chain, key) = self_signed(vec!["mail.example.org".into()]).expect("certificate");
        let (_, other_key) = self_signed(vec!["mail.example.org".into()]).expect("certificate");
        let switch = TlsSwitch::new(chain.as_bytes(), key.as_bytes()).expect("good pair");
        assert!(TlsSwitch::new(chain.as_bytes(), other_key.as_bytes()).is_err());
        assert!(TlsSwitch::new(b"", key.as_bytes()).is_err());
        assert!(TlsSwitch::new(chain.as_bytes(), b"").is_err());
        let error = TlsSwitch::from_files(Path::new("/no/such/file"), Path::new("/no")).err().expect("error");
        assert!(error.to_string().contains("/no/such/file"));
        let before = Arc::clone(&switch.current.read().expect("lock"));
        switch.replace(TlsSwitch::new(chain.as_bytes(), key.as_bytes()).expect("good pair"));
        assert!(!Arc::ptr_eq(&before, &switch.current.read().expect("lock")));
    }
}
