//! The session kit: what every protocol conversation looks like to the server that carries it.
//!
//! A session is a plain value. It never reads a socket, a clock or a random source; the host feeds it [`Input`]s and
//! drains [`Step`]s until it answers [`Step::Idle`]. Time comes in as a [`Tick`], randomness as a seed at creation.
//!
//! The contract, which the one `drive` loop of the server relies on:
//! 1. The host calls [`Session::poll`] until it returns [`Step::Idle`] or [`Step::Close`], then waits, then calls
//!    [`Session::handle`] once, then drains again. A new session is polled before the first `handle` (it greets).
//! 2. After [`Step::Send`] the host writes every byte and then feeds [`Input::Flushed`] before it polls again, so a
//!    session that wants to produce a large answer in pages waits for `Flushed` before it asks for the next page.
//! 3. Every [`Step::Ask`] is answered exactly once, in any order, with [`Input::Answered`] and the same [`AskId`].
//!    A session may drop interest in an answer; it then ignores it when it comes.
//! 4. After [`Step::StartTls`] the host throws away every byte it received in clear that the session had not been
//!    given, performs the handshake and feeds [`Input::TlsReady`]. The session forgets what it buffered.
//! 5. After [`Step::Compress`] the host goes on at once. Nothing that a peer sends before it has been told may follow,
//!    so the session forgets what it buffered.
//! 6. After [`Step::Close`] the session is dropped.

use std::net::SocketAddr;

use bytes::Bytes;

/// A moment, as the host sees it: a monotonic clock for time-outs and the calendar for dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick {
    /// Milliseconds since an arbitrary start; never goes back.
    pub monotonic_ms: u64,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_s: i64,
}

impl Tick {
    /// The moment `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self {
            monotonic_ms: self.monotonic_ms.saturating_add(ms),
            unix_s: self.unix_s.saturating_add(i64::try_from(ms / 1000).unwrap_or(i64::MAX)),
        }
    }

    /// Whether this moment is at or after `deadline` on the monotonic clock.
    pub fn reached(self, deadline: Self) -> bool {
        self.monotonic_ms >= deadline.monotonic_ms
    }
}

/// Names one question of a session, so that its answer finds it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// What the TLS layer agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// Name of the cipher suite.
    pub cipher: String,
    /// Server name the client asked for (SNI), when it named one.
    pub server_name: Option<String>,
}

/// Who is at the other end, and how they came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address of the client (from the PROXY header where one was accepted); `None` on a unix socket.
    pub remote: Option<SocketAddr>,
    /// Our own address on this connection; `None` on a unix socket.
    pub local: Option<SocketAddr>,
    /// Set when the connection began with TLS (implicit TLS).
    pub tls: Option<TlsFacts>,
}

impl Peer {
    /// Whether the client sits on this machine: a loopback address or a unix socket.
    pub fn is_loopback(&self) -> bool {
        self.remote.is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

/// What the host tells a session.
#[derive(Debug)]
pub enum Input<A> {
    /// Bytes from the peer, in clear.
    Received(Bytes),
    /// The peer will send no more.
    PeerClosed,
    /// Everything sent so far has been handed to the operating system.
    Flushed,
    /// The handshake asked for by [`Step::StartTls`] is done.
    TlsReady(TlsFacts),
    /// The answer to an earlier [`Step::Ask`].
    Answered(AskId, A),
    /// The moment named by [`Session::deadline`] has come.
    DeadlinePassed,
    /// The server is stopping: say good-bye, finish what was acknowledged, close.
    ShuttingDown,
}

/// What a session wants next.
#[derive(Debug)]
pub enum Step<Q> {
    /// Write these bytes, in order.
    Send(Vec<Bytes>),
    /// Answer this question.
    Ask(AskId, Q),
    /// Switch the connection to TLS.
    StartTls,
    /// From the next octet on what is sent is compressed, and what is received is to be decompressed (RFC 4978).
    Compress,
    /// Close the connection.
    Close,
    /// Nothing to do until the next input. With `receive: false` the host must not read from the peer (back-pressure).
    Idle {
        /// Whether the host may read from the peer.
        receive: bool,
    },
}

/// One protocol conversation, without I/O.
pub trait Session {
    /// Questions only the host can answer.
    type Ask;
    /// The answers.
    type Answer;

    /// Takes one input. Total: a bad peer gets a reply or a close, never an error or a panic.
    fn handle(&mut self, now: Tick, input: Input<Self::Answer>);

    /// The next step. Drain to [`Step::Idle`] before the next `handle`.
    fn poll(&mut self) -> Step<Self::Ask>;

    /// When the session wants [`Input::DeadlinePassed`], if at all.
    fn deadline(&self) -> Option<Tick>;
}
