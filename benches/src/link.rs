//! One connection, in clear or under TLS, read by lines and by counts.
//!
//! The generator shares the machine with the server it measures, so a connection at rest holds no buffer, and everything
//! is read through one scratch buffer per thread.

use std::{
    cell::RefCell,
    io,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::{
    io::{Interest, Ready},
    net::{TcpSocket, TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    failure::{LoadError, Result},
    target::{Place, Target, TlsMode},
};

/// Octets of one line; no server needs longer ones, and a broken one must not fill the memory.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Octets that may wait unread while we are still sending.
const UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Octets read from a socket at once.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(into),
            Self::Unix(stream) => stream.try_read(into),
        }
    }

    fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(octets),
            Self::Unix(stream) => stream.try_write(octets),
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }
}

/// A connection.
pub struct Link {
    socket: Socket,
    tls: Option<Box<Connection>>,
    input: Vec<u8>,
    /// Octets of `input` that are consumed.
    taken: usize,
    patience: Duration,
}

impl Link {
    /// Connects, and begins TLS when that comes with the connection. `number` chooses the local address.
    ///
    /// # Errors
    /// When there is no connection within the target's patience, or no TLS.
    pub async fn connect(target: &Target, number: usize) -> Result<Self> {
        let connecting = async {
            Ok(match &target.place {
                Place::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
                Place::Tcp(address) => Socket::Tcp(dial(*address, source(target, number)).await?),
            })
        };
        let socket = timeout(target.patience, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let socket = socket.map_err(LoadError::io(format!("connecting to {:?}", target.place)))?;
        let mut link = Self::over(socket, target.patience);
        if target.tls == TlsMode::Implicit {
            link.start_tls(target).await?;
        }
        Ok(link)
    }

    /// The server's side of a connection that was accepted, for servers in tests.
    pub fn accepted(stream: TcpStream, patience: Duration) -> Self {
        Self::over(Socket::Tcp(stream), patience)
    }

    fn over(socket: Socket, patience: Duration) -> Self {
        Self { socket, tls: None, input: Vec::new(), taken: 0, patience }
    }

    /// Begins TLS as the client.
    ///
    /// # Errors
    /// When the handshake fails or takes too long, or octets came in clear before it.
    pub async fn start_tls(&mut self, target: &Target) -> Result<()> {
        let connection = ClientConnection::new(Arc::clone(&target.config), target.name.clone());
        let connection = connection.map_err(|error| LoadError::Broken(format!("TLS: {error}")))?;
        self.handshake(connection.into()).await
    }

    /// Begins TLS as the server.
    ///
    /// # Errors
    /// As [`Link::start_tls`].
    pub async fn accept_tls(&mut self, config: Arc<ServerConfig>) -> Result<()> {
        let connection = ServerConnection::new(config).map_err(|error| LoadError::Broken(format!("TLS: {error}")))?;
        self.handshake(connection.into()).await
    }

    async fn handshake(&mut self, mut connection: Connection) -> Result<()> {
        if self.taken < self.input.len() {
            return Err(LoadError::broken("octets in clear after STARTTLS", &self.input[self.taken..]));
        }
        // Buffers grow as needed; a limit would only have to be worked around.
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection));
        loop {
            self.flush_tls().await?;
            if self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
                return Ok(());
            }
            self.fill_within(Some(self.patience)).await?;
        }
    }

    /// Sends everything. Reads what comes meanwhile, so that two full pipes never wait for each other.
    ///
    /// # Errors
    /// When the connection breaks, or the server neither takes nor sends anything for too long.
    pub async fn send(&mut self, octets: &[u8]) -> Result<()> {
        match &mut self.tls {
            None => self.send_raw(octets).await,
            Some(tls) => {
                tls.writer().write_all(octets).map_err(LoadError::io("TLS"))?;
                self.flush_tls().await
            }
        }
    }

    async fn flush_tls(&mut self) -> Result<()> {
        let mut out = Vec::new();
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut out).map_err(LoadError::io("TLS"))?;
            }
        }
        self.send_raw(&out).await
    }

    async fn send_raw(&mut self, mut octets: &[u8]) -> Result<()> {
        while !octets.is_empty() {
            match self.socket.try_write(octets) {
                Ok(count) => octets = octets.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wait = self.socket.ready(Interest::READABLE | Interest::WRITABLE);
                    let ready = timeout(self.patience, wait).await;
                    let ready = ready.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                    if ready.map_err(LoadError::io("sending"))?.is_readable() {
                        self.take_in()?;
                    }
                    if self.input.len() - self.taken > UNREAD_BYTES_MAX {
                        return Err(LoadError::Broken("the server sends more than it was asked for".into()));
                    }
                }
                Err(error) => return Err(LoadError::Io("sending".into(), error)),
            }
        }
        Ok(())
    }

    /// Reads once if something is there; says whether it was.
    fn take_in(&mut self) -> Result<bool> {
        SCRATCH.with_borrow_mut(|scratch| match self.socket.try_read(scratch) {
            Ok(0) => Err(LoadError::Io("reading".into(), io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                let received = scratch.get(..count).unwrap_or_default();
                match &mut self.tls {
                    None => self.input.extend_from_slice(received),
                    Some(tls) => decrypt(tls, received, &mut self.input).map_err(LoadError::io("TLS"))?,
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(LoadError::Io("reading".into(), error)),
        })
    }

    /// Waits for more input; `None` waits for ever.
    async fn fill_within(&mut self, patience: Option<Duration>) -> Result<()> {
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        } else if self.taken > SCRATCH_BYTES {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        while !self.take_in()? {
            let wait = self.socket.ready(Interest::READABLE);
            let ready = match patience {
                None => wait.await,
                Some(patience) => timeout(patience, wait).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            };
            ready.map_err(LoadError::io("waiting for the server"))?;
        }
        if self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            self.flush_tls().await?;
        }
        Ok(())
    }

    /// Waits until there is something to read, for as long as it takes, and holds no buffer meanwhile.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn rest(&mut self) -> Result<()> {
        while self.taken == self.input.len() {
            self.input = Vec::new();
            self.taken = 0;
            self.fill_within(None).await?;
        }
        Ok(())
    }

    /// Appends the next line with its CRLF.
    ///
    /// # Errors
    /// When the connection ends, the server is silent for too long, or the line has no end within 16 MiB.
    pub async fn line(&mut self, into: &mut Vec<u8>) -> Result<()> {
        let mut scanned = self.taken;
        loop {
            let fresh = self.input.get(scanned..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                let end = scanned + at + 1;
                into.extend_from_slice(self.input.get(self.taken..end).unwrap_or_default());
                self.taken = end;
                return Ok(());
            }
            let waiting = self.input.len() - self.taken;
            if waiting > LINE_BYTES_MAX {
                return Err(LoadError::broken("a line without an end", &self.input[self.taken..]));
            }
            self.fill_within(Some(self.patience)).await?;
            scanned = self.taken + waiting;
        }
    }

    /// Appends exactly `count` octets.
    ///
    /// # Errors
    /// When the connection ends or the server is silent for too long.
    pub async fn octets(&mut self, mut count: usize, into: &mut Vec<u8>) -> Result<()> {
        loop {
            let there = self.input.get(self.taken..).unwrap_or_default();
            let some = there.len().min(count);
            into.extend_from_slice(there.get(..some).unwrap_or_default());
            self.taken += some;
            count -= some;
            if count == 0 {
                return Ok(());
            }
            self.fill_within(Some(self.patience)).await?;
        }
    }
}

fn source(target: &Target, number: usize) -> Option<IpAddr> {
    if target.sources.is_empty() { None } else { target.sources.get(number % target.sources.len()).copied() }
}

async fn dial(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind((source, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn decrypt(tls: &mut Connection, mut received: &[u8], clear: &mut Vec<u8>) -> io::Result<()> {
    while !received.is_empty() {
        tls.read_tls(&mut received)?;
        let state = tls.process_new_packets();
        let count = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?.plaintext_bytes_to_read();
        let old = clear.len();
        clear.resize(old + count, 0);
        tls.reader().read_exact(clear.get_mut(old..).unwrap_or_default())?;
    }
    Ok(())
}
