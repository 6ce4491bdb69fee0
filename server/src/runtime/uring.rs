//! Sockets over tokio-uring.
//!
//! tokio-uring 0.5 does not cancel an operation whose future is dropped, so operations in flight live in the stream.
//! Reads are `MSG_DONTWAIT` after a poll, so none of them waits in the kernel with a buffer. A queued operation names
//! its descriptor by number: closing that number before the kernel saw the operation would aim it at the next
//! connection, hence closing with operations in flight goes through the same queue.

use std::{
    cell::Cell,
    future::Future,
    io,
    marker::PhantomData,
    mem::ManuallyDrop,
    net::Shutdown,
    os::fd::{AsRawFd, IntoRawFd, RawFd},
    pin::Pin,
    ptr,
    task::{Context, Poll, ready},
};

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types::Fd};
use socket2::Socket;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::wire::{Outbox, READ_BUFFER_BYTES, Received, SLICES_MAX, give_back, take_buffer};

/// Submission queue of a worker; a burst beyond it is submitted in several calls.
const SUBMISSIONS: u32 = 1024;
/// Completion queue of a worker; the kernel keeps what does not fit.
const COMPLETIONS: u32 = 8192;

thread_local! {
    /// Whether this thread is inside [`block_on`], where operations may be queued.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Asks the kernel for a ring and for the operations used here.
pub(super) fn probe() -> io::Result<()> {
    let ring = IoUring::new(8)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::PollAdd::CODE, opcode::Recv::CODE, opcode::SendMsg::CODE, opcode::Close::CODE];
    if needed.into_iter().all(|code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel lacks operations (5.6 or later is needed)"))
    }
}

/// Runs `future`, and everything it spawns locally, on a ring of this thread. `keep` is asked at the end: when tasks
/// are left, the ring is leaked, because the kernel may still use buffers of theirs.
pub(super) fn block_on<T>(future: impl Future<Output = T>, keep: impl FnOnce(&T) -> bool) -> io::Result<T> {
    let runtime = ManuallyDrop::new(runtime()?);
    RUNNING.set(true);
    let result = runtime.block_on(future);
    RUNNING.set(false);
    if !keep(&result) {
        drop(ManuallyDrop::into_inner(runtime));
    }
    Ok(result)
}

fn runtime() -> io::Result<tokio_uring::Runtime> {
    let mut tuned = tokio_uring::uring_builder();
    tuned.setup_cqsize(COMPLETIONS).setup_coop_taskrun();
    let tuned = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSIONS).uring_builder(&tuned));
    // Kernels before 5.19 do not know cooperative task running.
    tuned.or_else(|_| {
        let mut plain = tokio_uring::uring_builder();
        plain.setup_cqsize(COMPLETIONS);
        tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSIONS).uring_builder(&plain))
    })
}

/// Gives back the result together with what the operation kept alive.
struct Done<D>(PhantomData<D>);

impl<D> OneshotOutputTransform for Done<D> {
    type Output = (io::Result<usize>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, entry: cqueue::Entry) -> Self::Output {
        let code = entry.result();
        let result = usize::try_from(code).map_err(|_| io::Error::from_raw_os_error(code.wrapping_neg()));
        (result, data)
    }
}

type Flight<D> = InFlightOneshot<D, Done<D>>;

/// Queues an operation. `data` holds whatever the kernel will touch, at an address that does not move.
fn launch<D: 'static>(data: D, entry: squeue::Entry) -> Flight<D> {
    UnsubmittedOneshot::new(data, Done(PhantomData), entry).submit()
}

/// A descriptor and its pending wait for readiness.
struct Watched {
    socket: ManuallyDrop<Socket>,
    poll: Option<Flight<()>>,
}

impl Watched {
    fn new(socket: Socket) -> Self {
        Self { socket: ManuallyDrop::new(socket), poll: None }
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let fd = Fd(self.fd());
        let flight = self.poll.get_or_insert_with(|| {
            let events = u32::from((libc::POLLIN | libc::POLLRDHUP).cast_unsigned());
            launch((), opcode::PollAdd::new(fd, events).build())
        });
        let (result, ()) = ready!(Pin::new(flight).poll(cx));
        self.poll = None;
        Poll::Ready(result.map(drop))
    }

    /// Closes the descriptor; through the queue when operations on it are in flight.
    fn close(&mut self, in_flight: bool) {
        // Fails only when the peer has ended the connection already.
        self.socket.shutdown(Shutdown::Both).unwrap_or_default();
        // SAFETY: called from `drop` only, once; the socket is not used afterwards.
        #[allow(unsafe_code, reason = "the descriptor is closed by the kernel's queue or leaked, not by its owner")]
        let socket = unsafe { ManuallyDrop::take(&mut self.socket) };
        if !in_flight {
            drop(socket);
        } else if RUNNING.get() {
            drop(launch((), opcode::Close::new(Fd(socket.into_raw_fd())).build()));
        } else {
            // The ring is gone with operations left; a leaked number cannot be mistaken for another connection.
            tracing::error!("a connection outlived its worker; its descriptor is leaked");
            let _leaked = socket.into_raw_fd();
        }
    }
}

pub(super) struct Stream {
    watched: Watched,
    read: Option<Flight<Vec<u8>>>,
    write: Write,
    /// The last read filled its buffer, so there is probably more: read without waiting for readiness.
    more_likely: bool,
}

enum Write {
    None,
    Waiting(Outbox),
    Flying(Flight<Box<Sending>>),
}

impl Stream {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        // With O_NONBLOCK the kernel would answer EAGAIN instead of finishing a write later.
        socket.set_nonblocking(false)?;
        Ok(Self { watched: Watched::new(socket), read: None, write: Write::None, more_likely: false })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.watched.socket
    }

    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read.is_some() || self.more_likely {
            return Poll::Ready(Ok(()));
        }
        self.watched.poll_readable(cx)
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        loop {
            if self.read.is_none() {
                ready!(self.poll_readable(cx))?;
                self.read = Some(launch_read(self.watched.fd()));
            }
            match ready!(self.poll_read_in_flight(cx)) {
                Some(Err(error)) if would_block(&error) => {}
                Some(result) => return Poll::Ready(result),
                None => {}
            }
        }
    }

    pub(super) fn poll_read_in_flight(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Received>>> {
        let Some(flight) = &mut self.read else { return Poll::Ready(None) };
        let (result, mut buffer) = ready!(Pin::new(flight).poll(cx));
        self.read = None;
        self.more_likely = matches!(result, Ok(READ_BUFFER_BYTES));
        Poll::Ready(Some(match result {
            Ok(count) => {
                // SAFETY: the kernel has filled `count` bytes, at most the capacity it was told, of an empty vector.
                #[allow(unsafe_code, reason = "the vector cannot know what the kernel wrote")]
                unsafe {
                    buffer.set_len(count);
                }
                Ok(Received::new(buffer))
            }
            Err(error) => {
                give_back(buffer);
                Err(error)
            }
        }))
    }

    pub(super) fn begin_write(&mut self, outbox: Outbox) {
        self.write = Write::Waiting(outbox);
    }

    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut sending = match std::mem::replace(&mut self.write, Write::None) {
                Write::None => return Poll::Ready(Ok(())),
                Write::Waiting(outbox) => Box::new(Sending::new(outbox)),
                Write::Flying(mut flight) => {
                    let Poll::Ready((result, mut sending)) = Pin::new(&mut flight).poll(cx) else {
                        self.write = Write::Flying(flight);
                        return Poll::Pending;
                    };
                    match result {
                        Ok(count) => sending.outbox.advance(count),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                    sending
                }
            };
            if sending.outbox.left().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let message = sending.describe();
            let entry = opcode::SendMsg::new(Fd(self.watched.fd()), message);
            let flags = libc::MSG_NOSIGNAL.cast_unsigned();
            self.write = Write::Flying(launch(sending, entry.flags(flags).build()));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let flying = matches!(self.write, Write::Flying(_));
        self.watched.close(self.watched.poll.is_some() || self.read.is_some() || flying);
    }
}

fn launch_read(fd: RawFd) -> Flight<Vec<u8>> {
    let mut buffer = take_buffer();
    let length = u32::try_from(READ_BUFFER_BYTES).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(Fd(fd), buffer.as_mut_ptr(), length).flags(libc::MSG_DONTWAIT).build();
    launch(buffer, entry)
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What the kernel looks at while it sends: kept at one address, in a box, until it is done.
struct Sending {
    outbox: Outbox,
    slices: Vec<libc::iovec>,
    message: libc::msghdr,
}

impl Sending {
    fn new(outbox: Outbox) -> Self {
        // SAFETY: msghdr is plain data of integers and pointers, for which all zeroes is a valid empty message.
        #[allow(unsafe_code, reason = "msghdr has private padding on some targets and no other constructor")]
        let message = unsafe { std::mem::zeroed() };
        Self { outbox, slices: Vec::new(), message }
    }

    /// Describes what is left to the kernel. Valid while the box lives and is not described again.
    fn describe(&mut self) -> *const libc::msghdr {
        self.slices.clear();
        self.slices.extend(
            self.outbox
                .left()
                .iter()
                .take(SLICES_MAX)
                .map(|slice| libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }),
        );
        self.message.msg_iov = self.slices.as_mut_ptr();
        self.message.msg_iovlen = self.slices.len();
        ptr::from_ref(&self.message)
    }
}

/// Readiness of a listening socket.
pub(super) struct Ear {
    watched: Watched,
}

impl Ear {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        // The workers call accept themselves after a poll, and must not be held there when another was faster.
        socket.set_nonblocking(true)?;
        Ok(Self { watched: Watched::new(socket) })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.watched.socket
    }

    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched.poll_readable(cx)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.watched.close(self.watched.poll.is_some());
    }
}
