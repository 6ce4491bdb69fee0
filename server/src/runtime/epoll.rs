//! Sockets over tokio's epoll.

use std::{
    io::{self, ErrorKind, IoSlice},
    net::Shutdown,
    task::{Context, Poll, ready},
};

use socket2::Socket;
use tokio::io::{Interest, unix::AsyncFd};

use super::wire::{Outbox, READ_BUFFER_BYTES, Received, SLICES_MAX, take_buffer};

pub(super) struct Stream {
    socket: AsyncFd<Socket>,
    outbox: Option<Outbox>,
}

impl Stream {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // SAFETY: the socket owns its descriptor and closes it only when it is dropped, after the registration has ended.
        #[allow(unsafe_code, reason = "tokio cannot know that a socket keeps its descriptor")]
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket, outbox: None })
    }

    pub(super) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx).map_ok(|mut guard| guard.retain_ready())
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let mut buffer = take_buffer();
            match guard.try_io(|socket| receive(socket.get_ref(), &mut buffer)) {
                Ok(Ok(())) => return Poll::Ready(Ok(Received::new(buffer))),
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => drop(Received::new(buffer)),
            }
        }
    }

    pub(super) fn begin_write(&mut self, outbox: Outbox) {
        self.outbox = Some(outbox);
    }

    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(outbox) = self.outbox.as_mut().filter(|outbox| !outbox.left().is_empty()) {
            let mut guard = ready!(self.socket.poll_write_ready(cx))?;
            match guard.try_io(|socket| send(socket.get_ref(), outbox)) {
                Ok(Ok(count)) => outbox.advance(count),
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
        self.outbox = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Fails only when the peer has ended the connection already.
        self.socket().shutdown(Shutdown::Both).unwrap_or_default();
    }
}

fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    let count = socket.recv(&mut buffer.spare_capacity_mut()[..READ_BUFFER_BYTES])?;
    // SAFETY: the kernel has filled `count` bytes of the spare capacity of an empty vector.
    #[allow(unsafe_code, reason = "the vector cannot know what the kernel wrote")]
    unsafe {
        buffer.set_len(count);
    }
    Ok(())
}

fn send(socket: &Socket, outbox: &Outbox) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut used = 0;
    for (slice, bytes) in slices.iter_mut().zip(outbox.left()) {
        *slice = IoSlice::new(bytes);
        used += 1;
    }
    socket.send_vectored_with_flags(&slices[..used], libc::MSG_NOSIGNAL)
}

/// Readiness of a listening socket.
pub(super) struct Ear {
    socket: AsyncFd<Socket>,
}

impl Ear {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // SAFETY: the socket owns its descriptor and closes it only when it is dropped, after the registration has ended.
        #[allow(unsafe_code, reason = "tokio cannot know that a socket keeps its descriptor")]
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? };
        Ok(Self { socket })
    }

    pub(super) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx).map_ok(|mut guard| guard.retain_ready())
    }

    /// Forgets the readiness, after the socket said that nobody waits.
    pub(super) fn clear(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Ok(mut guard)) = self.socket.poll_read_ready(cx) {
            guard.clear_ready();
        }
    }
}
