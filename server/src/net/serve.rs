//! From an accepted socket to a driven session: counting, PROXY header, TLS from the start.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use metrics::{counter, gauge};
use rockdove_mail::{Peer, Tick};
use socket2::TcpKeepalive;

use super::{
    drive::{ConnContext, Ended},
    limits::{Admitted, Limits, Refused, farewell},
    link::Link,
    listeners::{ListenerConfig, TlsMode},
    proxy,
    tls::{Handshake, TlsSwitch},
};
use crate::runtime::{
    clock, process,
    workers::{Accepted, Serve},
};

/// A silent TCP peer is asked after this long whether it still lives; phones and routers vanish without a word.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(5);
/// And again at this interval, until the kernel gives up.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);

/// A connection that is ready for its protocol.
pub struct Opening {
    /// The listener it came in on.
    pub listener: Arc<ListenerConfig>,
    /// Who is there.
    pub peer: Peer,
    /// Fresh randomness for the session.
    pub seed: [u8; 32],
    /// The present moment.
    pub now: Tick,
    /// The byte stream.
    pub link: Link,
    /// For [`super::drive::drive`].
    pub context: Arc<ConnContext>,
}

/// Opens the session and the front of a connection's protocol, and drives them to the end.
pub type Carry = dyn Fn(Opening) -> Pin<Box<dyn Future<Output = Ended>>> + Send + Sync;

/// Everything the network needs to serve connections.
pub struct Network {
    doors: Vec<Door>,
    limits: Arc<Limits>,
    carry: Arc<Carry>,
}

struct Door {
    listener: Arc<ListenerConfig>,
    context: Arc<ConnContext>,
}

impl Network {
    /// Serves `listeners`, in the order in which their sockets are given to the workers. The metrics recorder must be
    /// installed before.
    pub fn new(
        listeners: Vec<ListenerConfig>,
        tls: Option<&Arc<TlsSwitch>>,
        limits: Arc<Limits>,
        carry: Arc<Carry>,
    ) -> Arc<Self> {
        let door = |listener: ListenerConfig| {
            let protocol = listener.protocol.name();
            let context = ConnContext {
                tls: tls.filter(|_| listener.tls != TlsMode::None).cloned().map(Handshake::Accept),
                received: counter!("rockdove_received_octets_total", "protocol" => protocol),
                sent: counter!("rockdove_sent_octets_total", "protocol" => protocol),
            };
            Door { listener: Arc::new(listener), context: Arc::new(context) }
        };
        Arc::new(Self { doors: listeners.into_iter().map(door).collect(), limits, carry })
    }

    /// The function for [`crate::runtime::workers::Plan::serve`].
    pub fn serve(self: &Arc<Self>) -> Arc<Serve> {
        let network = Arc::clone(self);
        Arc::new(move |accepted| Box::pin(Arc::clone(&network).serve_one(accepted)))
    }

    async fn serve_one(self: Arc<Self>, accepted: Accepted) {
        let Some(door) = self.doors.get(accepted.listener) else { return };
        let protocol = door.listener.protocol.name();
        counter!("rockdove_connections_total", "protocol" => protocol).increment(1);
        let _open = Open::new(protocol);
        let remote = accepted.remote.as_socket();
        // Boxed, because what happens once at the beginning must not make every idle connection larger.
        let prepared = Box::pin(self.prepare(door, accepted)).await;
        let how = match prepared {
            Ok(Some((opening, admitted))) => {
                let ended = (self.carry)(opening).await;
                drop(admitted);
                match ended {
                    Ended::Closed => "closed",
                    Ended::Lost(error) => lost(protocol, remote, &error),
                }
            }
            Ok(None) => "refused",
            Err(error) => lost(protocol, remote, &error),
        };
        counter!("rockdove_connections_ended_total", "protocol" => protocol, "how" => how).increment(1);
    }

    async fn prepare(&self, door: &Door, accepted: Accepted) -> io::Result<Option<(Opening, Admitted)>> {
        let mut remote = accepted.remote.as_socket();
        let mut local = accepted.wire.socket().local_addr()?.as_socket();
        if remote.is_some() {
            tune(&accepted)?;
        }
        if door.listener.administrator && !process::is_administrator(process::peer_user(accepted.wire.socket())?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not an administrator"));
        }
        let mut link = Link::new(accepted.wire, accepted.seat);
        let mut admitted = match self.limits.enter() {
            Ok(admitted) => admitted,
            Err(why) => return refuse(link, door, why).await,
        };
        if expects_proxy_header(&door.listener, remote) {
            let told = proxy::read_header(&mut link).await.inspect_err(|_| {
                counter!("rockdove_proxy_headers_bad_total").increment(1);
            })?;
            if let Some((source, destination)) = told {
                (remote, local) = (Some(source), Some(destination));
            }
        }
        if let Some(address) = remote
            && let Err(why) = admitted.come_from(address.ip())
        {
            return refuse(link, door, why).await;
        }
        let tls = match (&door.context.tls, door.listener.tls) {
            (Some(switch), TlsMode::Implicit) => Some(link.start_tls(switch).await.inspect_err(|_| {
                counter!("rockdove_tls_handshakes_failed_total").increment(1);
            })?),
            (None, TlsMode::Implicit) => return Err(io::Error::other("TLS from the start, but no certificate")),
            _ => None,
        };
        let opening = Opening {
            listener: Arc::clone(&door.listener),
            peer: Peer { remote, local, tls },
            seed: clock::seed()?,
            now: clock::now(),
            link,
            context: Arc::clone(&door.context),
        };
        Ok(Some((opening, admitted)))
    }
}

fn expects_proxy_header(listener: &ListenerConfig, remote: Option<SocketAddr>) -> bool {
    let trusted = |address: IpAddr| listener.proxy_trusted.iter().any(|network| network.contains(address));
    // On a unix socket only local programs can speak, and the operator has said that a proxy does.
    listener.proxy_protocol && remote.is_none_or(|remote| trusted(remote.ip()))
}

fn tune(accepted: &Accepted) -> io::Result<()> {
    let socket = accepted.wire.socket();
    // Answers are written whole; waiting to fill a packet would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))
}

/// Says why and closes. Under TLS from the start nothing can be said that would be worth a handshake.
async fn refuse<T>(mut link: Link, door: &Door, why: Refused) -> io::Result<Option<T>> {
    let protocol = door.listener.protocol;
    counter!("rockdove_connections_refused_total", "protocol" => protocol.name(), "reason" => why.name()).increment(1);
    if door.listener.tls != TlsMode::Implicit {
        link.send(vec![Bytes::from_static(farewell(protocol))]).await?;
    }
    // A full server does not wait for the peer to close; nothing is unread yet that could turn the close into a reset.
    if why == Refused::Address {
        link.finish().await;
    }
    Ok(None)
}

fn lost(protocol: &'static str, remote: Option<SocketAddr>, error: &io::Error) -> &'static str {
    tracing::debug!(protocol, remote = remote.map(tracing::field::display), %error, "connection lost");
    match error.kind() {
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::InvalidData => "bad",
        io::ErrorKind::ConnectionAborted => "stopped",
        _ => "lost",
    }
}

/// Counts a connection as open while it lives, also when its task panics.
struct Open {
    protocol: &'static str,
}

impl Open {
    fn new(protocol: &'static str) -> Self {
        gauge!("rockdove_connections", "protocol" => protocol).increment(1);
        Self { protocol }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("rockdove_connections", "protocol" => self.protocol).decrement(1);
    }
}
