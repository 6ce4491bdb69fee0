//! From a next hop to connections: which servers, at which addresses, protected how.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use rockdove_smtp::client::{ClientTls, ServerReply};
use socket2::Socket;
use tokio::net::TcpSocket;

use super::route::Way;
use crate::{
    config::{Config, RouteTls},
    dns::{Dns, DnsFailure},
    net::tls::{Handshake, TlsDialer},
    runtime::wire::{Backend, Wire},
};

/// A server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its name, for certificates, reports and the log.
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

/// The servers of a way, in the order to try them.
///
/// # Errors
/// A reply in the place of theirs, when there is none.
pub(super) async fn targets(
    dns: &Dns,
    config: &Config,
    way: &Way,
    dice: &mut dyn FnMut(usize) -> usize,
) -> Result<Vec<Target>, ServerReply> {
    let (names, port, anywhere) = match way {
        Way::Exchangers(domain) => {
            let names =
                dns.exchangers(domain, &config.hostname, dice).await.map_err(|failure| reply(domain, &failure))?;
            (names, config.outbound.port, config.outbound.loopback)
        }
        Way::Server(route) => (route.host.iter().cloned().collect(), route.port, true),
        Way::Unknown(name) => {
            let text = format!("there is no route {name} in the configuration any more");
            return Err(ServerReply::new(451, "4.3.5", &text));
        }
    };
    let (mut targets, mut last): (Vec<Target>, Option<ServerReply>) = (Vec::new(), None);
    // We are the best exchanger ourselves, and have no mailbox for it.
    let mut here = names.is_empty();
    for name in names {
        match dns.addresses(&name).await {
            Ok(addresses) => {
                let (good, bad): (Vec<IpAddr>, Vec<IpAddr>) =
                    addresses.into_iter().partition(|address| anywhere || is_elsewhere(*address));
                here |= !bad.is_empty();
                targets.extend(
                    good.into_iter()
                        .map(|address| Target { name: name.clone(), address: SocketAddr::new(address, port) }),
                );
            }
            // What may pass is more than what is for good: one of them may take it tomorrow.
            Err(failure) if last.as_ref().is_none_or(ServerReply::is_permanent) => last = Some(reply(&name, &failure)),
            Err(_) => {}
        }
    }
    if !targets.is_empty() {
        return Ok(targets);
    }
    if here && last.as_ref().is_none_or(ServerReply::is_permanent) {
        return Err(ServerReply::new(550, "5.4.6", "mail for this domain would come back to this server"));
    }
    Err(last.unwrap_or_else(|| ServerReply::new(550, "5.1.2", "the domain has no server that takes mail")))
}

/// Whether an address can be another machine's. One that we can listen on is ours, under whatever name.
fn is_elsewhere(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let ours = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !ours && UdpSocket::bind((address, 0)).is_err()
}

fn reply(name: &str, failure: &DnsFailure) -> ServerReply {
    match failure {
        DnsFailure::Nothing => {
            ServerReply::new(550, "5.1.2", &format!("{name}: the name does not exist, or has no address"))
        }
        // The codes of RFC 7505 section 4.
        DnsFailure::NoMail => ServerReply::new(556, "5.1.10", &format!("{name}: the domain takes no mail")),
        DnsFailure::Later(why) => ServerReply::new(451, "4.4.3", &format!("{name}: {why}")),
    }
}

/// Opens a connection.
pub(super) async fn connect(config: &Config, target: &Target) -> io::Result<Wire> {
    let limit = config.outbound.connect.duration().max(Duration::from_millis(1));
    let (socket, source) = match target.address {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, config.outbound.source_v4.map(IpAddr::V4)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, config.outbound.source_v6.map(IpAddr::V6)),
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let connecting = tokio::time::timeout(limit, socket.connect(target.address));
    let stream = connecting.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    stream.set_nodelay(true)?;
    Wire::new(Backend::Epoll, Socket::from(stream.into_std()?))
}

/// How we shake hands, made once.
pub(super) struct Dialers {
    anyone: TlsDialer,
    verified: TlsDialer,
}

impl Dialers {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { anyone: TlsDialer::unverified()?, verified: TlsDialer::new(None)? })
    }

    /// The handshake with a target, and what the session is to want. `clear`: TLS has failed, and is not needed.
    pub(super) fn protection(
        &self,
        tls: RouteTls,
        target: &Target,
        clear: bool,
    ) -> io::Result<(Option<Handshake>, ClientTls)> {
        let verified = || self.verified.target(&target.name).map(Handshake::Connect);
        Ok(match tls {
            RouteTls::None => (None, ClientTls::Never),
            RouteTls::Opportunistic if clear => (None, ClientTls::Never),
            RouteTls::Opportunistic => {
                // A name that no certificate could have is no obstacle: nobody is checked.
                let target = self.anyone.target(&target.name).or_else(|_| self.anyone.target("mail.invalid"))?;
                (Some(Handshake::Connect(target)), ClientTls::Opportunistic)
            }
            RouteTls::Verified => (Some(verified()?), ClientTls::Required),
            RouteTls::Implicit => (Some(verified()?), ClientTls::Never),
        })
    }
}
