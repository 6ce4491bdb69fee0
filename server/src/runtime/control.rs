//! The control socket: lines in, lines out, over a unix socket that only its owner may use.
//!
//! Each connection has a thread of its own, because what is asked may take minutes; there are few.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

/// Octets of one request: a batch of accounts fits.
pub const REQUEST_OCTETS_MAX: usize = 1 << 20;
/// Octets of one reply: the metrics of a large server fit.
pub const REPLY_OCTETS_MAX: usize = 64 << 20;
/// Connections at once; an operator has a few.
pub const CONNECTIONS_MAX: usize = 16;
/// How long a client may be silent, or not read.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause after the kernel could not accept a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How often a stopping socket looks whether its connections have gone.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Takes one reply to the client.
pub type SendReply<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Answers one request, given without its line end, with any number of replies. An error ends the connection.
pub type Answer = dyn Fn(&[u8], SendReply<'_>) -> io::Result<()> + Send + Sync;

/// A control socket that is served.
pub struct Control {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    listener: Socket,
    stopping: AtomicBool,
    /// A handle to each open connection.
    open: Mutex<BTreeMap<u64, UnixStream>>,
    answer: Box<Answer>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, UnixStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Opens the socket at `path` and serves it. What is in its place is removed, so the caller must own the folder.
    ///
    /// # Errors
    /// When the socket cannot be made, or the operating system refuses the thread.
    pub fn start(path: &Path, answer: Box<Answer>) -> io::Result<Self> {
        let listener = listen(path)?;
        let shared = Arc::new(Shared { listener, stopping: AtomicBool::new(false), open: Mutex::default(), answer });
        let here = Arc::clone(&shared);
        let thread = thread::Builder::new().name("control".into()).spawn(move || accept(&here))?;
        Ok(Self { shared, thread })
    }

    /// Takes no more requests and waits up to `patience` for those in progress. Gives the number still in progress.
    pub fn stop(self, patience: Duration) -> usize {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the thread that waits in accept; on a socket that is closed already there is nothing to wake.
        self.shared.listener.shutdown(Shutdown::Both).unwrap_or_default();
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
        for stream in self.shared.open().values() {
            stream.shutdown(Shutdown::Read).unwrap_or_default();
        }
        let deadline =
            super::clock::monotonic_ms().saturating_add(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        while !self.shared.open().is_empty() && super::clock::monotonic_ms() < deadline {
            thread::sleep(STOP_POLL);
        }
        self.shared.open().len()
    }
}

fn listen(path: &Path) -> io::Result<Socket> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    listener.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so there is no moment in which others could.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.listen(16)?;
    Ok(listener)
}

fn accept(shared: &Arc<Shared>) {
    let mut number = 0;
    while !shared.stopping.load(Ordering::Acquire) {
        match shared.listener.accept() {
            Ok((socket, _)) => {
                number += 1;
                if let Err(error) = begin(shared, UnixStream::from(socket), number) {
                    tracing::warn!(%error, "an administration command cannot be served");
                }
            }
            Err(_) if shared.stopping.load(Ordering::Acquire) => return,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept, pausing");
                thread::sleep(ACCEPT_BACKOFF);
            }
        }
    }
}

/// Takes its connection from the register when it is dropped, also by a panic.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open().remove(&self.number);
        if thread::panicking() {
            metrics::counter!("rockdove_panics_total", "where" => "control").increment(1);
            tracing::error!("an administration command panicked; its connection is closed");
        }
    }
}

fn begin(shared: &Arc<Shared>, stream: UnixStream, number: u64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    {
        let mut open = shared.open();
        if open.len() >= CONNECTIONS_MAX {
            return Err(io::Error::other(format!("{CONNECTIONS_MAX} are being served already")));
        }
        open.insert(number, stream.try_clone()?);
    }
    let place = Place { shared: Arc::clone(shared), number };
    thread::Builder::new().name(format!("control-{number}")).spawn(move || {
        if let Err(error) = converse(&place.shared, &stream) {
            tracing::debug!(%error, "a connection to the control socket was lost");
        }
    })?;
    Ok(())
}

fn converse(shared: &Shared, stream: &UnixStream) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), BufWriter::new(stream));
    while let Some(request) = read_line(&mut reader, REQUEST_OCTETS_MAX)? {
        (shared.answer)(&request, &mut |reply| write_line(&mut writer, reply))?;
        writer.flush()?;
        if shared.stopping.load(Ordering::Acquire) {
            break;
        }
    }
    Ok(())
}

/// A line without its end; `None` when the peer has ended.
fn read_line(reader: &mut impl BufRead, octets_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let most = u64::try_from(octets_max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= octets_max => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line has more than {octets_max} octets")))
        }
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn write_line(writer: &mut impl Write, line: &[u8]) -> io::Result<()> {
    writer.write_all(line)?;
    writer.write_all(b"\n")
}

/// The client's end of a control socket.
pub struct Caller {
    reader: BufReader<UnixStream>,
}

impl Caller {
    /// Connects to the server that serves `path`.
    ///
    /// # Errors
    /// When nobody does, or we may not.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(UnixStream::connect(path)?) })
    }

    /// Sends a request of one line.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        let mut line = Vec::with_capacity(request.len() + 1);
        write_line(&mut line, request)?;
        self.reader.get_mut().write_all(&line)
    }

    /// Waits for a reply, as long as it takes.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn reply(&mut self) -> io::Result<Vec<u8>> {
        let line = read_line(&mut self.reader, REPLY_OCTETS_MAX)?;
        line.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Box<Answer> {
        Box::new(|request, send| match request {
            b"panic" => std::panic::resume_unwind(Box::new("asked for")),
            b"twice" => send(b"one").and_then(|()| send(b"two")),
            other => send(other),
        })
    }

    #[test]
    fn lines_are_answered_in_order_by_a_socket_of_its_owner_only() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("control.sock");
        fs::write(&path, "left over").expect("file");
        let control = Control::start(&path, echo()).expect("socket");
        assert_eq!(fs::metadata(&path).expect("socket").permissions().mode() & 0o777, 0o600);
        let mut caller = Caller::connect(&path).expect("connected");
        for (request, replies) in [("hello", vec!["hello"]), ("twice", vec!["one", "two"]), ("", vec![""])] {
            caller.ask(request.as_bytes()).expect("asked");
            for reply in replies {
                assert_eq!(caller.reply().expect("reply"), reply.as_bytes());
            }
        }
        assert_eq!(control.stop(Duration::from_secs(5)), 0);
        assert!(caller.reply().is_err());
        assert!(Caller::connect(&path).is_err());
    }

    #[test]
    fn a_bad_client_ends_only_its_own_connection() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("control.sock");
        let control = Control::start(&path, echo()).expect("socket");
        let mut panicking = Caller::connect(&path).expect("connected");
        panicking.ask(b"panic").expect("asked");
        assert!(panicking.reply().is_err());
        let mut endless = UnixStream::connect(&path).expect("connected");
        // The server closes in the middle, which may meet us while we still write.
        endless.write_all(&vec![b'x'; REQUEST_OCTETS_MAX + 2]).unwrap_or_default();
        assert_eq!(endless.read(&mut [0; 1]).unwrap_or(0), 0);
        let mut held: Vec<_> = (0..=CONNECTIONS_MAX).map(|_| Caller::connect(&path).expect("connected")).collect();
        let mut one_too_many = held.pop().expect("the last");
        assert!(one_too_many.reply().is_err());
        let mut last = held.pop().expect("one that is served");
        last.ask(b"alive").expect("asked");
        assert_eq!(last.reply().expect("reply"), b"alive");
        assert_eq!(control.stop(Duration::from_secs(5)), 0);
    }
}
