//! Sockets with owned buffers, the same over `io_uring` and over epoll.
//!
//! The rules every user may rely on, whichever implementation is below:
//! * [`Wire::poll_read`] waits for readiness without a buffer; only when bytes are there is one taken from the worker's
//!   pool. A wire at rest owns no buffer.
//! * Every method may be polled, left alone and polled again later: an operation in flight belongs to the wire, not to
//!   the future that asked for it, so nothing is lost when a deadline or an answer wins a race.
//! * Dropping a wire shuts the socket down first, so that what is in flight ends and the descriptor closes.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::Shutdown,
    ops::Deref,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use socket2::Socket;

use super::{epoll, uring};

/// Size of a read buffer. One TLS record fits.
pub const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Read buffers a worker keeps for the next read; the rest is freed.
const POOL_BUFFERS_MAX: usize = 64;
/// Up to here received bytes are copied out, so that a session which keeps half a command does not pin a read buffer.
const COPY_OUT_BYTES_MAX: usize = 4096;
/// Slices handed to the kernel in one call.
pub(super) const SLICES_MAX: usize = 64;

/// Which implementation carries the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// tokio-uring.
    IoUring,
    /// tokio with epoll.
    Epoll,
}

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// `io_uring` when the kernel allows it, else epoll.
    #[default]
    Auto,
    /// `io_uring`, or refuse to start.
    IoUring,
    /// epoll.
    Epoll,
}

impl BackendChoice {
    /// Settles the choice by asking the kernel, and logs one line when that means falling back.
    ///
    /// # Errors
    /// When `io_uring` is demanded and the kernel refuses it.
    pub fn settle(self) -> io::Result<Backend> {
        if self == Self::Epoll {
            return Ok(Backend::Epoll);
        }
        match uring::probe() {
            Ok(()) => Ok(Backend::IoUring),
            Err(reason) if self == Self::Auto => {
                tracing::warn!(%reason, "io_uring is not available, using epoll");
                Ok(Backend::Epoll)
            }
            Err(reason) => Err(io::Error::new(reason.kind(), format!("io_uring is not available: {reason}"))),
        }
    }
}

/// A connected stream socket, TCP or unix.
pub struct Wire {
    socket: Inner,
}

enum Inner {
    IoUring(uring::Stream),
    Epoll(epoll::Stream),
}

impl Wire {
    /// Takes a connected socket. Must be called on the worker that will use it.
    ///
    /// # Errors
    /// When the kernel refuses to watch the socket.
    pub fn new(backend: Backend, socket: Socket) -> io::Result<Self> {
        let socket = match backend {
            Backend::IoUring => Inner::IoUring(uring::Stream::new(socket)?),
            Backend::Epoll => Inner::Epoll(epoll::Stream::new(socket)?),
        };
        Ok(Self { socket })
    }

    /// Ready when bytes, the end of the stream or an error can be read.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Inner::IoUring(stream) => stream.poll_readable(cx),
            Inner::Epoll(stream) => stream.poll_readable(cx),
        }
    }

    /// Waits for bytes and reads what is there. Empty means the peer will send no more.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        match &mut self.socket {
            Inner::IoUring(stream) => stream.poll_read(cx),
            Inner::Epoll(stream) => stream.poll_read(cx),
        }
    }

    /// The result of a read that is already in flight, once it is done; `None` when there is none. Never starts one.
    pub fn poll_read_in_flight(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Received>>> {
        match &mut self.socket {
            Inner::IoUring(stream) => stream.poll_read_in_flight(cx),
            Inner::Epoll(_) => Poll::Ready(None),
        }
    }

    /// Hands over bytes to be written in order. To be followed by [`Wire::poll_written`]; one write at a time.
    pub fn begin_write(&mut self, bytes: Vec<Bytes>) {
        let outbox = Outbox::new(bytes);
        match &mut self.socket {
            Inner::IoUring(stream) => stream.begin_write(outbox),
            Inner::Epoll(stream) => stream.begin_write(outbox),
        }
    }

    /// Ready when everything handed to [`Wire::begin_write`] is with the kernel, or with the error that prevents it.
    pub fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Inner::IoUring(stream) => stream.poll_written(cx),
            Inner::Epoll(stream) => stream.poll_written(cx),
        }
    }

    /// See [`Wire::poll_readable`].
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// See [`Wire::poll_read`].
    pub async fn read(&mut self) -> io::Result<Received> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Writes everything, in order.
    pub async fn write_all(&mut self, bytes: Vec<Bytes>) -> io::Result<()> {
        self.begin_write(bytes);
        poll_fn(|cx| self.poll_written(cx)).await
    }

    /// Ends one or both directions. Operations in flight end soon after `Both`.
    pub fn shutdown(&self, how: Shutdown) {
        // ENOTCONN after a reset: the direction has ended already.
        self.socket().shutdown(how).unwrap_or_default();
    }

    /// The socket below, for its addresses and options.
    pub fn socket(&self) -> &Socket {
        match &self.socket {
            Inner::IoUring(stream) => stream.socket(),
            Inner::Epoll(stream) => stream.socket(),
        }
    }
}

/// Bytes just read, in a buffer of the worker's pool that goes back there when this is dropped.
pub struct Received {
    buffer: Vec<u8>,
}

impl Received {
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        Self { buffer }
    }

    /// The bytes on their own: copied when few, else together with the buffer.
    pub fn into_bytes(mut self) -> Bytes {
        if self.buffer.len() <= COPY_OUT_BYTES_MAX {
            Bytes::copy_from_slice(&self.buffer)
        } else {
            Bytes::from(std::mem::take(&mut self.buffer))
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.buffer));
    }
}

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer of [`READ_BUFFER_BYTES`].
pub(super) fn take_buffer() -> Vec<u8> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(READ_BUFFER_BYTES))
}

pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() < READ_BUFFER_BYTES {
        return;
    }
    buffer.clear();
    POOL.with_borrow_mut(|pool| {
        if pool.len() < POOL_BUFFERS_MAX {
            pool.push(buffer);
        }
    });
}

/// Bytes on their way out.
pub(super) struct Outbox {
    slices: Vec<Bytes>,
    first: usize,
}

impl Outbox {
    fn new(mut slices: Vec<Bytes>) -> Self {
        slices.retain(|slice| !slice.is_empty());
        Self { slices, first: 0 }
    }

    /// What is left, in order.
    pub(super) fn left(&self) -> &[Bytes] {
        self.slices.get(self.first..).unwrap_or_default()
    }

    /// Notes that the kernel took `count` bytes; what has gone is freed.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(slice) = self.slices.get_mut(self.first) {
            if count < slice.len() {
                slice.advance(count);
                return;
            }
            count -= slice.len();
            *slice = Bytes::new();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_advances_over_slices() {
        let mut outbox = Outbox::new(vec![Bytes::from("ab"), Bytes::new(), Bytes::from("cde")]);
        outbox.advance(1);
        assert_eq!(outbox.left(), [Bytes::from("b"), Bytes::from("cde")]);
        outbox.advance(2);
        assert_eq!(outbox.left(), [Bytes::from("de")]);
        outbox.advance(2);
        assert!(outbox.left().is_empty());
    }

    #[test]
    fn small_reads_do_not_keep_the_buffer() {
        let mut buffer = take_buffer();
        buffer.extend_from_slice(b"hello");
        let place = buffer.as_ptr();
        let bytes = Received::new(buffer).into_bytes();
        assert_eq!(bytes, "hello");
        let again = take_buffer();
        assert_eq!(again.as_ptr(), place, "the buffer went back to the pool");
    }
}
