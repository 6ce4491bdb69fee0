//! One HTTP/1.1 exchange with a scanner.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, rt};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::scanner::{Link, NoAnswer};

/// Octets read at once.
const READ_OCTETS: usize = 16 * 1024;

/// A connection as hyper wants it.
struct Stream(Link);

impl rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut space = [0; READ_OCTETS];
        let most = into.remaining().min(READ_OCTETS);
        let mut read = ReadBuf::new(space.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut self.get_mut().0).poll_read(context, &mut read))?;
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

/// Sends a request and gives the body of the answer, which must be 200 and have at most `most` octets.
pub(super) async fn exchange(link: Link, request: Request<Full<Bytes>>, most: usize) -> Result<Bytes, NoAnswer> {
    let failed = |error: hyper::Error| NoAnswer::Failed(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(Stream(link)).await.map_err(failed)?;
    let answered = async move {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        if status != hyper::StatusCode::OK {
            return Err(NoAnswer::Failed(format!("it answered {status}")));
        }
        let body = Limited::new(answer.into_body(), most).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| NoAnswer::Failed(error.to_string()))
    };
    // The connection is worked on beside its request, and goes when that is answered.
    tokio::pin!(answered);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut answered => answer,
        ended = &mut connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(failed(error)),
        },
    }
}
