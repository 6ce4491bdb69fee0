//! The workers: one thread per core, each with its own ring, its own listening sockets and its own connections.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Sender, unbounded};
use socket2::{SockAddr, Socket};
use tokio::{sync::watch, task::LocalSet};

use super::{
    epoll,
    roster::{Phase, Roster, Seat},
    uring,
    wire::{Backend, Wire},
};

/// Pause after the kernel had no descriptor or memory for a new connection; accepting at once would only spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Connections taken from one listener before others get their turn.
const ACCEPT_BURST_MAX: usize = 64;
/// How often a stopping worker looks whether its connections have gone.
const STOP_POLL: Duration = Duration::from_millis(10);
/// How long connections may take to notice that they were cut off.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);
/// Stack of a worker; futures live on the heap.
const STACK_BYTES: usize = 2 << 20;

/// A connection that came in.
pub struct Accepted {
    /// Index of the listener in [`Plan::listeners`].
    pub listener: usize,
    /// The connection.
    pub wire: Wire,
    /// Where it came from.
    pub remote: SockAddr,
    /// Its task's place among the worker's connections.
    pub seat: Seat,
}

/// Serves one connection from beginning to end, on the worker that accepted it.
pub type Serve = dyn Fn(Accepted) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// What the workers are to do.
pub struct Plan {
    /// How sockets are driven.
    pub backend: Backend,
    /// For each listener its listening sockets, one per worker. The number of workers is that of the shortest list.
    pub listeners: Vec<Vec<Socket>>,
    /// Number of workers.
    pub workers: usize,
    /// What to do with a connection.
    pub serve: Arc<Serve>,
}

/// Workers at work.
pub struct Running {
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<usize>>,
}

impl Plan {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the kernel refuses a thread or a ring.
    pub fn start(self) -> io::Result<Running> {
        let (phase, watcher) = watch::channel(Phase::Running);
        let (started, starts) = unbounded();
        let mut listeners: Vec<_> = self.listeners.into_iter().map(Vec::into_iter).collect();
        let mut threads = Vec::with_capacity(self.workers);
        for number in 0..self.workers.max(1) {
            let sockets = listeners.iter_mut().map(Iterator::next).collect::<Vec<_>>();
            let sockets =
                sockets.into_iter().enumerate().filter_map(|(index, socket)| Some((index, socket?))).collect();
            let worker =
                Worker { backend: self.backend, sockets, serve: Arc::clone(&self.serve), phase: watcher.clone() };
            let thread = thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK_BYTES);
            let started = started.clone();
            threads.push(thread.spawn(move || worker.run(&started))?);
        }
        // A worker that could not start would leave connections unanswered in its share of the sockets.
        for _ in &threads {
            starts.recv().map_err(io::Error::other)??;
        }
        Ok(Running { phase, threads })
    }
}

impl Running {
    /// Stops accepting, tells every session, waits up to `grace` for them to finish, cuts off the rest and ends the
    /// workers. Gives the number of connections that were cut off.
    pub fn stop(self, grace: Duration) -> usize {
        self.phase.send_replace(Phase::Stopping);
        let deadline =
            super::clock::monotonic_ms().saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        while super::clock::monotonic_ms() < deadline && self.threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(STOP_POLL);
        }
        self.phase.send_replace(Phase::Aborting);
        let ended = self.threads.into_iter().map(JoinHandle::join);
        ended.map(|result| result.inspect_err(|_| tracing::error!("a worker panicked")).unwrap_or(0)).sum()
    }
}

struct Worker {
    backend: Backend,
    sockets: Vec<(usize, Socket)>,
    serve: Arc<Serve>,
    phase: watch::Receiver<Phase>,
}

/// How a worker ended.
struct Ending {
    cut_off: usize,
    left: usize,
}

impl Worker {
    /// Runs to the end and gives the number of connections cut off. Tells `started` once whether it could begin.
    fn run(self, started: &Sender<io::Result<()>>) -> usize {
        let ending = match self.backend {
            Backend::IoUring => uring::block_on(self.serve_until_stopped(started), |ending| ending.left > 0),
            Backend::Epoll => epoll_block_on(self.serve_until_stopped(started)),
        };
        match ending {
            Ok(ending) => ending.cut_off,
            Err(error) => {
                // The starter may have given up over another worker; then nobody listens.
                started.send(Err(error)).unwrap_or_default();
                0
            }
        }
    }

    fn listen(&mut self, roster: &Rc<Roster>) -> io::Result<Vec<tokio::task::JoinHandle<()>>> {
        let mut loops = Vec::new();
        for (listener, socket) in std::mem::take(&mut self.sockets) {
            let ear = Ear::new(self.backend, socket)?;
            let serve = Arc::clone(&self.serve);
            let accepting = Accepting { backend: self.backend, ear, listener, serve, roster: Rc::clone(roster) };
            loops.push(tokio::task::spawn_local(accepting.run(self.phase.clone())));
        }
        Ok(loops)
    }

    async fn serve_until_stopped(mut self, started: &Sender<io::Result<()>>) -> Ending {
        let roster = Rc::new(Roster::default());
        let (ears, start) = match self.listen(&roster) {
            Ok(ears) => (ears, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let failed = start.is_err();
        if started.send(start).is_err() || failed {
            return Ending { cut_off: 0, left: 0 };
        }
        // The sender lives until the workers have ended; its loss means the same as an order to abort.
        let stopping = self.phase.wait_for(|phase| *phase != Phase::Running).await.map(|phase| *phase);
        for ear in ears {
            if ear.await.is_err() {
                tracing::error!("an accept loop panicked");
            }
        }
        if stopping.is_ok() {
            roster.enter(Phase::Stopping);
            while !roster.is_empty() && *self.phase.borrow() < Phase::Aborting && self.phase.has_changed().is_ok() {
                tokio::time::sleep(STOP_POLL).await;
            }
        }
        let cut_off = roster.len();
        roster.enter(Phase::Aborting);
        let waits = ABORT_PATIENCE.as_millis() / STOP_POLL.as_millis();
        for _ in 0..waits {
            if roster.is_empty() {
                break;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
        Ending { cut_off, left: roster.len() }
    }
}

fn epoll_block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

/// Runs `future` as a worker would: with sockets of `backend` and local tasks. For tests and measurements.
///
/// # Errors
/// When the kernel refuses a ring.
pub fn block_on<T>(backend: Backend, future: impl Future<Output = T>) -> io::Result<T> {
    match backend {
        Backend::IoUring => uring::block_on(future, |_| false),
        Backend::Epoll => epoll_block_on(future),
    }
}

/// Readiness of a listening socket.
enum Ear {
    IoUring(uring::Ear),
    Epoll(epoll::Ear),
}

impl Ear {
    fn new(backend: Backend, socket: Socket) -> io::Result<Self> {
        Ok(match backend {
            Backend::IoUring => Self::IoUring(uring::Ear::new(socket)?),
            Backend::Epoll => Self::Epoll(epoll::Ear::new(socket)?),
        })
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::IoUring(ear) => ear.poll_readable(cx),
            Self::Epoll(ear) => ear.poll_readable(cx),
        }
    }

    /// One waiting connection; `WouldBlock` when there is none.
    async fn accept(&mut self) -> io::Result<(Socket, SockAddr)> {
        let socket = match self {
            Self::IoUring(ear) => ear.socket(),
            Self::Epoll(ear) => ear.socket(),
        };
        let result = socket.accept();
        if let (Self::Epoll(ear), Err(error)) = (&mut *self, &result)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            poll_fn(|cx| {
                ear.clear(cx);
                Poll::Ready(())
            })
            .await;
        }
        result
    }
}

/// The accept loop of one listener on one worker.
///
/// It waits for readiness and then calls `accept`, so there is never an accept in flight that could swallow a
/// connection when the loop ends.
struct Accepting {
    backend: Backend,
    ear: Ear,
    listener: usize,
    serve: Arc<Serve>,
    roster: Rc<Roster>,
}

impl Accepting {
    async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let ended = phase.wait_for(|phase| *phase != Phase::Running);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                _ = &mut ended => return,
                ready = poll_fn(|cx| self.ear.poll_readable(cx)) => {
                    if let Err(error) = ready {
                        tracing::error!(%error, "waiting for connections failed");
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                    }
                }
            }
            self.accept_burst().await;
            tokio::task::yield_now().await;
        }
    }

    async fn accept_burst(&mut self) {
        for _ in 0..ACCEPT_BURST_MAX {
            match self.ear.accept().await {
                Ok((socket, remote)) => self.begin(socket, remote),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if no_room(&error) => {
                    metrics::counter!("rockdove_accept_backoff_total").increment(1);
                    tracing::warn!(%error, "no room for a new connection, pausing");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    return;
                }
                // The peer gave up before it was accepted, or the network below is troubled: the next may be well.
                Err(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
            }
        }
    }

    fn begin(&self, socket: Socket, remote: SockAddr) {
        let wire = match Wire::new(self.backend, socket) {
            Ok(wire) => wire,
            Err(error) => {
                tracing::warn!(%error, "a new connection cannot be watched");
                return;
            }
        };
        let (listener, serve, roster) = (self.listener, Arc::clone(&self.serve), Rc::clone(&self.roster));
        // The task boxes once more what it awaits, so that its own future stays small for every protocol.
        drop(tokio::task::spawn_local(async move {
            let seat = roster.join().await;
            let _panic_counted = CountPanic;
            serve(Accepted { listener, wire, remote, seat }).await;
        }));
    }
}

fn no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// A panic ends one connection, not the worker; it is counted when the task unwinds.
struct CountPanic;

impl Drop for CountPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            metrics::counter!("rockdove_panics_total", "where" => "connection").increment(1);
            tracing::error!("a connection's task panicked; the connection is closed");
        }
    }
}
