//! HTTPS that we ask for: one request, one answer, within limits of time and size. Nothing is followed anywhere else.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, header, rt::ReadBufCursor};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::peer::{Doubt, Identity, PeerDialer};

/// For a server to accept a connection and shake hands.
const CONNECT: Duration = Duration::from_secs(20);
/// For everything; RFC 8461 section 3.3 suggests a minute.
const WHOLE: Duration = Duration::from_mins(1);
/// Octets copied at once.
const COPY_OCTETS: usize = 8 * 1024;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The server's name, which it must prove.
    pub host: &'a str,
    /// Where it may be; tried in this order.
    pub addresses: &'a [SocketAddr],
    /// Path and query.
    pub path: &'a str,
    /// What is sent, and its media type; `None` to fetch something.
    pub content: Option<(Bytes, &'a str)>,
    /// Octets of an answer that are read.
    pub octets_max: usize,
}

/// An answer that says yes.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its media type, in lower case.
    pub media_type: String,
    /// Its content.
    pub content: Bytes,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpsFailure {
    /// The server has not proved its name.
    Untrusted(Doubt),
    /// It said something else than yes.
    Status(u16),
    /// It could not be reached, or its answer could not be read.
    Unreachable(String),
}

impl fmt::Display for HttpsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted(doubt) => write!(f, "the certificate proves nothing ({doubt:?})"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

fn unreachable(error: impl fmt::Display) -> HttpsFailure {
    HttpsFailure::Unreachable(error.to_string())
}

impl PeerDialer {
    /// Asks a server.
    ///
    /// # Errors
    /// When it does not prove its name, cannot be reached, or does not say yes.
    pub async fn https(&self, ask: &Ask<'_>) -> Result<Answered, HttpsFailure> {
        let whole = tokio::time::timeout(WHOLE, async {
            let mut last = unreachable("it has no address");
            for address in ask.addresses {
                match tokio::time::timeout(CONNECT, self.connect(ask.host, *address)).await {
                    Ok(Ok(stream)) => return exchange(stream, ask).await,
                    Ok(Err(failure)) => last = failure,
                    Err(_) => last = unreachable("no answer"),
                }
            }
            Err(last)
        });
        whole.await.unwrap_or_else(|_| Err(unreachable("the answer takes too long")))
    }

    async fn connect(&self, host: &str, address: SocketAddr) -> Result<TlsStream<TcpStream>, HttpsFailure> {
        let (target, shown) = self.target(host, Identity::Name, true).map_err(unreachable)?;
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        let connected = TlsConnector::from(target.config).connect(target.name, stream).await;
        connected.map_err(|error| match shown.get() {
            Some(Err(doubt)) => HttpsFailure::Untrusted(doubt),
            _ => unreachable(error),
        })
    }
}

async fn exchange(stream: TlsStream<TcpStream>, ask: &Ask<'_>) -> Result<Answered, HttpsFailure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Io(stream)).await.map_err(unreachable)?;
    // It ends with the sender, whatever became of the request.
    drop(tokio::spawn(connection));
    let mut request = Request::builder()
        .method(if ask.content.is_some() { Method::POST } else { Method::GET })
        .uri(ask.path)
        .header(header::HOST, ask.host)
        .header(header::USER_AGENT, "Rockdove")
        .header(header::ACCEPT, "*/*");
    let mut content = Bytes::new();
    if let Some((octets, media_type)) = &ask.content {
        request = request.header(header::CONTENT_TYPE, *media_type);
        content = octets.clone();
    }
    let request = request.body(Full::new(content)).map_err(unreachable)?;
    let response = sender.send_request(request).await.map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() {
        return Err(HttpsFailure::Status(status.as_u16()));
    }
    let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
    let body = Limited::new(response.into_body(), ask.octets_max).collect().await;
    Ok(Answered { media_type, content: body.map_err(unreachable)?.to_bytes() })
}

/// A connection as hyper wants it.
struct Io(TlsStream<TcpStream>);

impl hyper::rt::Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut octets = [0; COPY_OCTETS];
        let room = into.remaining().min(COPY_OCTETS);
        let mut read = ReadBuf::new(&mut octets[..room]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
