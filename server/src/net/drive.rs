//! The one loop that carries every protocol.

use std::{future::poll_fn, io, task::Poll};

use bytes::Bytes;
use metrics::Counter;
use rockdove_mail::{Input, Session, Step, Tick};

use super::{link::Link, tls::Handshake};
use crate::{
    fronts::Front,
    runtime::{
        clock::now,
        replier::{self, Replies},
        roster::Phase,
    },
};

/// What the loop needs to know beside the session: the same for every connection of a listener.
pub struct ConnContext {
    /// The handshake of STARTTLS; `None` when there is none, and then no session may ask for it.
    pub tls: Option<Handshake>,
    /// Octets received for sessions.
    pub received: Counter,
    /// Octets sent by sessions.
    pub sent: Counter,
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The session closed it.
    Closed,
    /// It was lost, or the peer broke the rules below the protocol.
    Lost(io::Error),
}

/// Drives `session` over `link` until one of them ends it.
pub async fn drive<S: Session, F: Front<S>>(
    mut link: Link,
    mut session: S,
    mut front: F,
    context: &ConnContext,
) -> Ended
where
    S::Answer: Send,
{
    let (replier, mut replies) = replier::pair();
    let mut waiting = Waiting::default();
    loop {
        let done = match session.poll() {
            Step::Send(bytes) => {
                context.sent.increment(bytes.iter().map(|piece| piece.len() as u64).sum());
                link.send(bytes).await.map(|()| session.handle(now(), Input::Flushed))
            }
            Step::Ask(id, ask) => {
                front.ask(id, ask, &replier);
                Ok(())
            }
            Step::StartTls => {
                let facts = Box::pin(start_tls(&mut link, context)).await;
                facts.map(|facts| session.handle(now(), Input::TlsReady(facts)))
            }
            Step::Compress => {
                link.compress();
                Ok(())
            }
            Step::Idle { receive } => {
                let deadline = session.deadline();
                let input = poll_fn(|cx| waiting.poll(&mut link, &mut replies, receive, deadline, cx)).await;
                input.map(|input| {
                    if let Input::Received(bytes) = &input {
                        context.received.increment(bytes.len() as u64);
                    }
                    session.handle(now(), input);
                })
            }
            Step::Close => {
                // What the session and the front hold (watches, staged mail) is let go before the peer's good-bye.
                drop((session, front, replies));
                Box::pin(link.finish()).await;
                return Ended::Closed;
            }
        };
        if let Err(error) = done {
            return Ended::Lost(error);
        }
    }
}

async fn start_tls(link: &mut Link, context: &ConnContext) -> io::Result<rockdove_mail::TlsFacts> {
    let Some(handshake) = &context.tls else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "STARTTLS without a certificate"));
    };
    link.discard_clear().await;
    link.start_tls(handshake).await
}

/// What an idle session has been told already and is not told again.
#[derive(Default)]
struct Waiting {
    told_stopping: bool,
    told_ended: bool,
    passed: Option<Tick>,
}

impl Waiting {
    /// The next input: an answer, the order to stop, the deadline, or bytes. Bytes come last, so that a peer that never
    /// stops sending can hold off neither.
    fn poll<A>(
        &mut self,
        link: &mut Link,
        replies: &mut Replies<A>,
        receive: bool,
        deadline: Option<Tick>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<Input<A>>> {
        match link.phase() {
            Phase::Aborting => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops")));
            }
            Phase::Stopping if !self.told_stopping => {
                self.told_stopping = true;
                return Poll::Ready(Ok(Input::ShuttingDown));
            }
            _ => {}
        }
        if let Poll::Ready((id, answer)) = replies.poll_next(cx) {
            return Poll::Ready(Ok(Input::Answered(id, answer)));
        }
        if let Some(at) = deadline.filter(|at| self.passed != Some(*at))
            && link.alarm().poll_reached(at.monotonic_ms, cx).is_ready()
        {
            self.passed = Some(at);
            return Poll::Ready(Ok(Input::DeadlinePassed));
        }
        if !receive || self.told_ended {
            return Poll::Pending;
        }
        link.poll_input(cx).map_ok(|input: Option<Bytes>| {
            self.told_ended = input.is_none();
            input.map_or(Input::PeerClosed, Input::Received)
        })
    }
}
