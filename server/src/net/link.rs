//! One connection's byte stream: the wire, with TLS and compression over it when there is some, and the time-outs that belong to both.

use std::{
    future::poll_fn,
    io,
    net::Shutdown,
    ops::Deref,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use rockdove_mail::TlsFacts;

use super::{
    compress::Deflate,
    tls::{Handshake, Tls},
};
use crate::runtime::{
    alarm::Alarm,
    clock::monotonic_ms,
    roster::{Phase, Seat},
    wire::{Received, Wire},
};

/// How long a peer may take to accept what is sent, whatever its size. TCP itself gives a lost packet about a minute.
pub const WRITE_PATIENCE_MS: u64 = 60_000;
/// How fast a peer must read on top of that, in octets per second: a modem. Slower readers would hold memory for ever.
pub const WRITE_RATE_MIN: u64 = 512;
/// How long a TLS handshake may take in all.
pub const HANDSHAKE_MS: u64 = 30_000;
/// How long to read on after the last bytes were sent. Closing with unread input makes TCP reset the connection, which
/// can take our last line away from the peer before it was read.
pub const LINGER_MS: u64 = 2_000;
/// How many octets to read on at most.
pub const LINGER_OCTETS_MAX: usize = 256 * 1024;
/// Pieces shorter than this are joined before encryption, because each becomes a TLS record.
const JOIN_BELOW_OCTETS: usize = 4096;

/// One connection's byte stream.
pub struct Link {
    wire: Wire,
    tls: Option<Box<Tls>>,
    /// Above TLS.
    deflate: Option<Box<Deflate>>,
    /// Bytes read from the wire too early, before TLS.
    back: Bytes,
    /// Bytes for the session, decrypted but not given yet.
    clear: Bytes,
    alarm: Alarm,
    seat: Seat,
    /// Output of the TLS layer's own is on its way.
    writing: bool,
    ended: bool,
}

/// Bytes as they came from the wire. Empty: the peer will send no more.
pub(super) enum Raw {
    Back(Bytes),
    Wire(Received),
}

impl Deref for Raw {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Back(bytes) => bytes,
            Self::Wire(received) => received,
        }
    }
}

impl Raw {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Back(bytes) => bytes,
            Self::Wire(received) => received.into_bytes(),
        }
    }
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl Link {
    /// A connection in clear, whose task sits on `seat`.
    pub fn new(wire: Wire, seat: Seat) -> Self {
        let (back, clear) = (Bytes::new(), Bytes::new());
        Self {
            wire,
            tls: None,
            deflate: None,
            back,
            clear,
            alarm: Alarm::default(),
            seat,
            writing: false,
            ended: false,
        }
    }

    /// How far the worker's stopping has come; the task is woken when it changes.
    pub fn phase(&self) -> Phase {
        self.seat.phase()
    }

    /// The socket's options and addresses.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The connection's alarm.
    pub(super) fn alarm(&mut self) -> &mut Alarm {
        &mut self.alarm
    }

    /// Puts bytes back, to be read first.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.back = bytes;
    }

    fn go_on(&self) -> io::Result<()> {
        if self.seat.phase() == Phase::Aborting {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops"));
        }
        Ok(())
    }

    /// Bytes below TLS.
    pub(super) fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Raw>> {
        self.go_on()?;
        if !self.back.is_empty() {
            return Poll::Ready(Ok(Raw::Back(std::mem::take(&mut self.back))));
        }
        self.wire.poll_read(cx).map_ok(Raw::Wire)
    }

    async fn raw_before(&mut self, deadline_ms: u64, what: &'static str) -> io::Result<Raw> {
        poll_fn(|cx| match self.poll_raw(cx) {
            Poll::Pending => self.alarm.poll_reached(deadline_ms, cx).map(|()| Err(too_slow(what))),
            ready @ Poll::Ready(_) => ready,
        })
        .await
    }

    /// From now on what is sent is compressed, and what is received is decompressed.
    pub fn compress(&mut self) {
        self.deflate = Some(Box::new(Deflate::new()));
    }

    /// Bytes for the session; `None` when the peer will send no more.
    ///
    /// # Errors
    /// When the connection is lost, the peer breaks TLS or compression, or the worker aborts.
    pub fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(deflate) = &mut self.deflate {
                if let Some(clear) = deflate.inflate()? {
                    return Poll::Ready(Ok(Some(clear)));
                }
                if deflate.is_over() {
                    return Poll::Ready(Ok(None));
                }
            }
            match (ready!(self.poll_decrypted(cx))?, &mut self.deflate) {
                (Some(received), Some(deflate)) => deflate.feed(received),
                (input, _) => return Poll::Ready(Ok(input)),
            }
        }
    }

    /// Bytes above TLS.
    fn poll_decrypted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.writing {
                ready!(self.wire.poll_written(cx))?;
                self.writing = false;
            }
            if !self.clear.is_empty() {
                return Poll::Ready(Ok(Some(std::mem::take(&mut self.clear))));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let raw = ready!(self.poll_raw(cx))?;
            if raw.is_empty() {
                self.ended = true;
            } else if self.tls.is_some() {
                self.decrypt(&raw, cx)?;
            } else {
                return Poll::Ready(Ok(Some(raw.into_bytes())));
            }
        }
    }

    fn decrypt(&mut self, raw: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut clear = Vec::new();
        let fed = tls.feed(raw, &mut clear);
        self.clear = clear.into();
        if let Some(output) = tls.output()? {
            self.wire.begin_write(vec![output]);
            self.writing = self.wire.poll_written(cx)?.is_pending();
        }
        self.ended |= fed?;
        Ok(())
    }

    /// Writes everything in order, encrypted if need be.
    ///
    /// # Errors
    /// When the connection is lost, the peer reads too slowly, or the worker aborts.
    pub async fn send(&mut self, bytes: Vec<Bytes>) -> io::Result<()> {
        let bytes = match &mut self.deflate {
            Some(deflate) => deflate.deflate(&bytes)?,
            None => bytes,
        };
        let octets: usize = bytes.iter().map(Bytes::len).sum();
        let allowance_ms = u64::try_from(octets).unwrap_or(u64::MAX).saturating_mul(1000) / WRITE_RATE_MIN;
        let deadline_ms = monotonic_ms().saturating_add(WRITE_PATIENCE_MS).saturating_add(allowance_ms);
        if self.writing {
            self.flush(deadline_ms).await?;
        }
        if self.tls.is_some() {
            for piece in joined(bytes) {
                self.send_encrypted(&piece, deadline_ms).await?;
            }
            return Ok(());
        }
        self.wire.begin_write(bytes);
        self.flush(deadline_ms).await
    }

    async fn send_encrypted(&mut self, mut clear: &[u8], deadline_ms: u64) -> io::Result<()> {
        while !clear.is_empty() {
            let Some(tls) = &mut self.tls else { return Err(io::Error::other("TLS has gone")) };
            let taken = tls.encrypt(clear)?;
            clear = clear.get(taken..).unwrap_or_default();
            if let Some(output) = tls.output()? {
                self.wire.begin_write(vec![output]);
                self.flush(deadline_ms).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self, deadline_ms: u64) -> io::Result<()> {
        poll_fn(|cx| {
            self.go_on()?;
            match self.wire.poll_written(cx) {
                Poll::Pending => {
                    self.alarm.poll_reached(deadline_ms, cx).map(|()| Err(too_slow("the peer reads too slowly")))
                }
                ready @ Poll::Ready(_) => ready,
            }
        })
        .await?;
        self.writing = false;
        Ok(())
    }

    /// Throws away what was received in clear but not given to the session. What a man in the middle put behind the
    /// STARTTLS command must not be taken for something said under TLS (RFC 3207 section 6).
    pub async fn discard_clear(&mut self) {
        self.back = Bytes::new();
        self.clear = Bytes::new();
        // A read begun before the command was answered can only hold bytes sent in clear.
        if let Some(Ok(read)) = poll_fn(|cx| self.wire.poll_read_in_flight(cx)).await {
            self.ended |= read.is_empty();
        }
    }

    /// Performs our side of the TLS handshake.
    ///
    /// # Errors
    /// When the peer does not, within [`HANDSHAKE_MS`].
    pub async fn start_tls(&mut self, handshake: &Handshake) -> io::Result<TlsFacts> {
        let mut tls = Box::new(handshake.begin()?);
        let deadline_ms = monotonic_ms().saturating_add(HANDSHAKE_MS);
        let mut clear = Vec::new();
        loop {
            if let Some(output) = tls.output()? {
                self.wire.begin_write(vec![output]);
                self.flush(deadline_ms).await?;
            }
            if !tls.handshaking() {
                break;
            }
            let raw = self.raw_before(deadline_ms, "TLS handshake too slow").await?;
            if raw.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed during the TLS handshake"));
            }
            match tls.feed(&raw, &mut clear) {
                Ok(ended) => self.ended |= ended,
                Err(error) => {
                    // The alert tells the peer why; whether it arrives does not matter any more.
                    if let Ok(Some(alert)) = tls.output() {
                        self.wire.begin_write(vec![alert]);
                        self.flush(deadline_ms).await.unwrap_or_default();
                    }
                    return Err(error);
                }
            }
        }
        self.clear = clear.into();
        let facts = tls.facts();
        self.tls = Some(tls);
        Ok(facts)
    }

    /// Closes so that the last bytes sent arrive: ends our side, then reads on for a while until the peer ends its own.
    pub async fn finish(mut self) {
        let deadline_ms = monotonic_ms().saturating_add(LINGER_MS);
        if let Some(tls) = &mut self.tls {
            tls.close();
            if let Ok(Some(output)) = tls.output() {
                self.wire.begin_write(vec![output]);
                if self.flush(deadline_ms).await.is_err() {
                    return;
                }
            }
        }
        self.wire.shutdown(Shutdown::Write);
        let mut octets = 0;
        while !self.ended && octets < LINGER_OCTETS_MAX {
            match self.raw_before(deadline_ms, "the peer does not close").await {
                Ok(raw) if !raw.is_empty() => octets += raw.len(),
                _ => return,
            }
        }
    }
}

/// Joins neighbouring short pieces.
fn joined(pieces: Vec<Bytes>) -> impl Iterator<Item = Bytes> {
    let mut pieces = pieces.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = pieces.next()?;
        if first.len() >= JOIN_BELOW_OCTETS || pieces.peek().is_none_or(|next| next.len() >= JOIN_BELOW_OCTETS) {
            return Some(first);
        }
        let mut joint = first.to_vec();
        while let Some(next) = pieces.next_if(|next| joint.len() + next.len() <= 4 * JOIN_BELOW_OCTETS) {
            joint.extend_from_slice(&next);
        }
        Some(joint.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_keeps_every_byte_in_order() {
        let sizes = [1, 2, 5000, 3, 20_000, 4000, 4000, 4000, 4000, 4000, 1];
        let pieces = sizes.iter().zip(b'a'..).map(|(size, letter)| Bytes::from(vec![letter; *size]));
        let pieces: Vec<Bytes> = pieces.collect();
        let all = pieces.concat();
        let joined: Vec<Bytes> = joined(pieces).collect();
        assert_eq!(joined.concat(), all);
        assert!(joined.len() < sizes.len());
    }
}
