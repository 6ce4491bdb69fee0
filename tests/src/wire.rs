//! A blocking connection in clear or over TLS, read line by line.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// How long a reply may take. Only a hung server takes this long.
const WAIT: Duration = Duration::from_secs(30);

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between two of the others.
    None,
}

/// The client's end of a connection.
pub struct Wire {
    stream: Stream,
    received: Vec<u8>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    /// Connects to a port.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, WAIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        Ok(Self { stream: Stream::Tcp(stream), received: Vec::new() })
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(WAIT))?;
        Ok(Self { stream: Stream::Unix(stream), received: Vec::new() })
    }

    /// Begins TLS, trusting the certificate in this file alone. What was received in clear and not read is an answer
    /// to something that came too early, and wrong.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn secure(&mut self, certificate: &Path) -> io::Result<()> {
        assert!(self.received.is_empty(), "in clear behind STARTTLS: {:?}", self.received.escape_ascii().to_string());
        let Stream::Tcp(tcp) = std::mem::replace(&mut self.stream, Stream::None) else {
            unreachable!("TLS begins on TCP, once");
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(tls_config(certificate), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// The certificate the server showed.
    pub fn certificate(&self) -> Vec<u8> {
        let Stream::Tls(stream) = &self.stream else { unreachable!("TLS is in use") };
        stream.conn.peer_certificates().and_then(<[_]>::first).expect("a certificate").to_vec()
    }

    /// Sends octets.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn try_send(&mut self, octets: &[u8]) -> io::Result<()> {
        let stream: &mut dyn Write = match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream,
            Stream::None => return Err(io::ErrorKind::NotConnected.into()),
        };
        stream.write_all(octets)?;
        stream.flush()
    }

    /// Sends octets to a server that is there.
    pub fn send(&mut self, octets: &[u8]) {
        self.try_send(octets).expect("the server reads");
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let stream: &mut dyn Read = match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream,
            Stream::None => return Err(io::ErrorKind::NotConnected.into()),
        };
        let read = stream.read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// A line without its CRLF.
    ///
    /// # Errors
    /// When the connection ends before it.
    pub fn try_line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.received.drain(..searched + at + 2).collect();
                line.truncate(searched + at);
                return Ok(line);
            }
            searched = self.received.len().saturating_sub(1);
            if self.more()? == 0 {
                let rest = self.received.escape_ascii().to_string();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed behind {rest:?}")));
            }
        }
    }

    /// A line of a server that is there.
    pub fn line(&mut self) -> String {
        String::from_utf8_lossy(&self.try_line().expect("a line")).into_owned()
    }

    /// So many octets.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn try_octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < count {
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    /// Everything up to the end of the connection, however it ends.
    pub fn rest(&mut self) -> String {
        loop {
            match self.more() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => {
                    unreachable!("the server keeps the connection open: {:?}", self.received.escape_ascii().to_string())
                }
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&mut self) {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write).expect("open"),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write).expect("open"),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.conn.complete_io(&mut stream.sock).expect("open");
                stream.sock.shutdown(Shutdown::Write).expect("open");
            }
            Stream::None => {}
        }
    }
}

/// The certificate in a PEM file.
pub fn certificate_of(path: &Path) -> Vec<u8> {
    let pem = fs::read(path).expect("a certificate");
    CertificateDer::from_pem_slice(&pem).expect("PEM").to_vec()
}

fn tls_config(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate_of(certificate).into()).expect("a certificate to trust");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
