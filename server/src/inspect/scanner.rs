//! What all scanners have in common: connections to them, limits, and what happens when they cannot be asked.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rockdove_smtp::{Client, Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::Semaphore,
};

use super::{Arrival, Direction, Verdict, direction};
use crate::config::{OnFailure, OnFound, Scanner, ScannerAddress, Whose};

/// Octets of a reason that others gave.
const REASON_OCTETS_MAX: usize = 200;

/// A connection to a scanner.
pub(super) enum Link {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Link {
    async fn open(address: &ScannerAddress) -> io::Result<Self> {
        match address {
            ScannerAddress::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            ScannerAddress::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Who may be connected to scanners now.
#[derive(Default)]
pub(super) struct Turns(RefCell<BTreeMap<(String, usize), Arc<Semaphore>>>);

impl Turns {
    /// By name and limit: with another limit in the configuration, what is under way ends under the old one.
    fn of(&self, scanner: &Scanner) -> Arc<Semaphore> {
        let mut turns = self.0.borrow_mut();
        turns.retain(|(name, limit), _| *name != scanner.name || *limit == scanner.connections);
        let permits = scanner.connections.min(Semaphore::MAX_PERMITS);
        let key = (scanner.name.clone(), scanner.connections);
        Arc::clone(turns.entry(key).or_insert_with(|| Arc::new(Semaphore::new(permits))))
    }
}

/// Why a scanner has no answer.
pub(super) enum NoAnswer {
    /// The message is larger than it takes.
    TooLarge,
    /// It cannot be asked, or said something that cannot be understood.
    Failed(String),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Whether a scanner looks at what this client sends.
pub(super) fn wants(scanner: &Scanner, client: &Client) -> bool {
    scanner.mail.contains(&match direction(client) {
        Direction::Incoming => Whose::Incoming,
        Direction::Submission => Whose::Submission,
    })
}

/// Connects to a scanner when it is this message's turn, and asks. All of it within the time for it.
pub(super) async fn ask<T, W>(
    turns: &Turns,
    scanner: &Scanner,
    arrival: &Arrival,
    work: impl FnOnce(Link) -> W,
) -> Result<T, NoAnswer>
where
    W: Future<Output = Result<T, NoAnswer>>,
{
    if arrival.octets.len() as u64 > scanner.size_max.bytes {
        return Err(NoAnswer::TooLarge);
    }
    let all = async {
        let turn = turns.of(scanner).acquire_owned().await.map_err(|_| NoAnswer::Failed("no turn".to_owned()))?;
        let answer = work(Link::open(&scanner.address).await?).await;
        drop(turn);
        answer
    };
    let timed = tokio::time::timeout(scanner.timeout.duration(), all).await;
    let answer = timed.unwrap_or_else(|_| Err(NoAnswer::Failed(format!("no answer within {}", scanner.timeout))));
    if let Err(NoAnswer::Failed(why)) = &answer {
        metrics::counter!("rockdove_scanner_failures_total", "scanner" => scanner.name.clone()).increment(1);
        tracing::warn!(id = %arrival.envelope.id, scanner = %scanner.name, address = %scanner.address, %why, "a scanner has no answer");
    }
    answer
}

/// What becomes of a message that a scanner has no answer for. `field`: the header field that says so.
pub(super) fn unanswered(scanner: &Scanner, field: &str, why: &NoAnswer, verdict: &mut Verdict) {
    match why {
        NoAnswer::TooLarge => {
            verdict.add(field, &format!("not scanned (larger than {})", scanner.size_max));
        }
        NoAnswer::Failed(_) if scanner.on_failure == OnFailure::Mark => {
            verdict.add(field, &format!("not scanned ({} has no answer)", scanner.name));
        }
        NoAnswer::Failed(_) => {
            let text = "the message cannot be scanned now, try again later".to_owned();
            verdict.refusal = Some(Refusal { code: 451, status: "4.7.1".to_owned(), text });
        }
    }
}

/// What becomes of a message that should not be delivered.
pub(super) fn found(what: OnFound, why: &str, status: &str, verdict: &mut Verdict) {
    match what {
        OnFound::Reject => {
            verdict.refusal = Some(Refusal { code: 550, status: status.to_owned(), text: why.to_owned() });
        }
        OnFound::Quarantine => quarantine(why, verdict),
        OnFound::Mark => verdict.junk = true,
    }
}

/// The message is kept apart. The first reason counts.
pub(super) fn quarantine(why: &str, verdict: &mut Verdict) {
    verdict.quarantine.get_or_insert_with(|| plain(why));
}

/// What another program said, as a header field and a reply can have it.
pub(super) fn plain(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' });
    printable.take(REASON_OCTETS_MAX).collect::<String>().trim().to_owned()
}
