//! From a next hop to connections: which servers, at which addresses, protected how.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use rockdove_smtp::client::{ClientTls, ServerReply};
use socket2::Socket;
use tokio::net::TcpSocket;

use super::{
    results::{Policed, Results, Trouble},
    route::Way,
    sts::{Mode, Policies, Policy, Surroundings},
};
use crate::{
    config::{Config, Route, RouteTls},
    dns::{Dns, DnsFailure},
    net::{
        peer::{Identity, PeerDialer, Shown, Tlsa},
        tls::Handshake,
    },
    runtime::wire::{Backend, Wire},
};

/// How connections to a server are protected, and who wants it so.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// A route of the configuration.
    Route(RouteTls),
    /// Nobody asks for anything: encryption where it is offered.
    Opportunistic,
    /// A policy that names the server (RFC 8461).
    Sts(Arc<Policy>),
    /// TLSA records of the server (RFC 7672); without any it encrypts and need not prove who it is.
    Dane(Arc<[Tlsa]>),
}

impl Security {
    /// Whether nothing is sent where it cannot be had.
    pub(super) fn insists(&self) -> bool {
        match self {
            Self::Route(tls) => matches!(tls, RouteTls::Verified | RouteTls::Implicit),
            Self::Opportunistic => false,
            Self::Sts(policy) => policy.mode == Mode::Enforce,
            Self::Dane(_) => true,
        }
    }

    /// Whether connections begin with TLS.
    pub(super) fn is_implicit(&self) -> bool {
        matches!(self, Self::Route(RouteTls::Implicit))
    }
}

/// A server to try.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its name, for certificates, reports and the log.
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) security: Security,
    /// It is known to be a server of the domain by more than the word of DNS (RFC 8689 section 4.2.1).
    pub(super) vouched: bool,
}

/// The servers of a way, in the order to try them.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Those that mail may go to.
    pub(super) good: Vec<Target>,
    /// All of them without anything that is asked for, for mail whose sender wants it so (RFC 8689 section 3). Empty where
    /// nothing is asked for.
    pub(super) anyhow: Vec<Target>,
    /// Why there is none, or fewer than there could be.
    pub(super) last: Option<ServerReply>,
}

impl Targets {
    /// Notes why a server is none. What may pass is more than what is for good: one of them may take it tomorrow.
    fn without(&mut self, reply: ServerReply) {
        if self.last.as_ref().is_none_or(ServerReply::is_permanent) {
            self.last = Some(reply);
        }
    }

    fn push(&mut self, name: &str, addresses: &[SocketAddr], security: &Security, vouched: bool) {
        let target = |address: &SocketAddr, security: &Security| Target {
            name: name.to_owned(),
            address: *address,
            security: security.clone(),
            vouched,
        };
        self.good.extend(addresses.iter().map(|address| target(address, security)));
    }

    fn push_anyhow(&mut self, name: &str, addresses: &[SocketAddr]) {
        let target = |address: &SocketAddr| Target {
            name: name.to_owned(),
            address: *address,
            security: Security::Opportunistic,
            vouched: false,
        };
        self.anyhow.extend(addresses.iter().map(target));
    }
}

/// An exchanger with its addresses.
struct Found {
    name: String,
    addresses: Vec<SocketAddr>,
    /// Its TLSA records, when it has some that count.
    tlsa: Option<Arc<[Tlsa]>>,
    /// DNSSEC says that it is an exchanger of the domain.
    vouched: bool,
}

/// The server of a route, at each of its addresses. It may be anywhere.
///
/// # Errors
/// A reply in the place of its own, when it has none.
pub(super) async fn of_route(dns: &Dns, route: &Route) -> Result<Vec<Target>, ServerReply> {
    let name = route.host.clone().unwrap_or_default();
    let answer = dns.addresses(&name).await.map_err(|failure| reply(&name, &failure))?;
    let target = |address: IpAddr| Target {
        name: name.clone(),
        address: SocketAddr::new(address, route.port),
        security: Security::Route(route.tls),
        vouched: true,
    };
    Ok(answer.found.into_iter().map(target).collect())
}

/// Finds the servers of ways.
pub(super) struct Finder<'a> {
    pub(super) around: Surroundings<'a>,
    pub(super) policies: &'a Policies,
    pub(super) results: &'a Results,
}

impl Finder<'_> {
    /// The servers of a way.
    ///
    /// # Errors
    /// A reply in the place of theirs, when there is none.
    pub(super) async fn targets(
        &self,
        way: &Way,
        dice: &mut dyn FnMut(usize) -> usize,
    ) -> Result<Targets, ServerReply> {
        let mut targets = Targets::default();
        let here = match way {
            Way::Exchangers(domain) => self.exchangers(domain, dice, &mut targets).await?,
            Way::Server(route) => {
                targets.good = of_route(self.around.dns, route).await?;
                false
            }
            Way::Unknown(name) => {
                let text = format!("there is no route {name} in the configuration any more");
                return Err(ServerReply::new(451, "4.3.5", &text));
            }
        };
        if !targets.good.is_empty() || !targets.anyhow.is_empty() {
            return Ok(targets);
        }
        if here && targets.last.as_ref().is_none_or(ServerReply::is_permanent) {
            return Err(ServerReply::new(550, "5.4.6", "mail for this domain would come back to this server"));
        }
        let nobody = || ServerReply::new(550, "5.1.2", "the domain has no server that takes mail");
        Err(targets.last.unwrap_or_else(nobody))
    }

    /// Addresses of a server that may be tried, and whether DNSSEC vouches for them. `None` when it has none.
    async fn addresses(&self, name: &str, targets: &mut Targets) -> Option<(Vec<SocketAddr>, bool)> {
        let outbound = &self.around.config.outbound;
        match self.around.dns.addresses(name).await {
            Ok(answer) => {
                let good = answer.found.into_iter().filter(|address| outbound.loopback || is_elsewhere(*address));
                let addresses = good.map(|address| SocketAddr::new(address, outbound.port)).collect();
                Some((addresses, answer.secure))
            }
            Err(failure) => {
                targets.without(reply(name, &failure));
                None
            }
        }
    }

    /// The exchangers of a domain. Says whether one of them is this machine.
    async fn exchangers(
        &self,
        domain: &str,
        dice: &mut dyn FnMut(usize) -> usize,
        targets: &mut Targets,
    ) -> Result<bool, ServerReply> {
        let (config, dns) = (self.around.config, self.around.dns);
        let answer = dns.exchangers(domain, &config.hostname, dice).await.map_err(|failure| reply(domain, &failure))?;
        // We are the best exchanger ourselves, and have no mailbox for it.
        let mut here = answer.found.is_empty();
        let mut found = Vec::new();
        for name in answer.found {
            let Some((addresses, secure)) = self.addresses(&name, targets).await else { continue };
            here |= addresses.is_empty();
            if addresses.is_empty() {
                continue;
            }
            // RFC 7672 section 2.2: where the addresses are not signed, TLSA records are not asked for.
            let tlsa = if answer.secure && secure { dns.tlsa(&name, config.outbound.port).await } else { Ok(None) };
            match tlsa {
                Ok(tlsa) => {
                    // That a domain has no exchangers is only as sure as what else is in its zone.
                    let vouched = answer.secure && (secure || name != domain);
                    found.push(Found { name, addresses, tlsa: tlsa.map(Arc::from), vouched });
                }
                // Section 2.1.2: such a server is not to be used, and what it asks for must not be guessed.
                Err(failure) => {
                    self.results.trouble(
                        domain,
                        &Policed::Dane(name.clone(), Arc::from([])),
                        (&name, None),
                        Trouble::DnssecInvalid,
                    );
                    targets.push_anyhow(&name, &addresses);
                    targets.without(ServerReply::new(451, "4.7.5", &format!("{name}: its TLSA records: {failure}")));
                }
            }
        }
        self.secure(domain, &found, targets).await;
        Ok(here)
    }

    /// Decides how each exchanger is to be protected.
    async fn secure(&self, domain: &str, found: &[Found], targets: &mut Targets) {
        // RFC 8461 section 2: where DANE is in use, what a policy says does not count.
        let wanted = self.around.config.outbound.mta_sts && found.iter().any(|found| found.tlsa.is_none());
        let policy = if wanted {
            let known = self.policies.of(&self.around, domain).await;
            if let Some(trouble) = known.trouble {
                self.results.trouble(domain, &Policed::Sts(known.policy.clone()), ("", None), trouble);
            }
            known.policy
        } else {
            None
        };
        for Found { name, addresses, tlsa, vouched } in found {
            let security = match (tlsa, &policy) {
                (Some(records), _) => Security::Dane(Arc::clone(records)),
                (None, Some(policy)) if policy.names(name) => Security::Sts(Arc::clone(policy)),
                (None, Some(policy)) => {
                    let policed = Policed::Sts(Some(Arc::clone(policy)));
                    self.results.trouble(domain, &policed, (name, None), Trouble::Validation);
                    if policy.mode == Mode::Enforce {
                        let text = format!("{name}: the policy of {domain} does not name this exchanger (MTA-STS)");
                        targets.without(ServerReply::new(451, "4.7.5", &text));
                        targets.push_anyhow(name, addresses);
                        continue;
                    }
                    Security::Opportunistic
                }
                (None, None) => Security::Opportunistic,
            };
            if security.insists() {
                targets.push_anyhow(name, addresses);
            }
            let vouched = *vouched || matches!(security, Security::Sts(_));
            targets.push(name, addresses, &security, vouched);
        }
    }
}

/// Whether an address can be another machine's. One that we can listen on is ours, under whatever name.
pub(super) fn is_elsewhere(address: IpAddr) -> bool {
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
        DnsFailure::Bogus => ServerReply::new(451, "4.7.5", &format!("{name}: {failure}")),
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

/// What a connection begins with.
pub(super) struct Protection {
    pub(super) handshake: Option<Handshake>,
    /// What the session is to want.
    pub(super) tls: ClientTls,
    /// What the server will have shown.
    pub(super) shown: Shown,
}

/// How a connection to a target is protected. `clear`: TLS has failed, and is not needed.
///
/// # Errors
/// When the target has no name that a certificate could have, and that matters.
pub(super) fn protection(dialer: &PeerDialer, way: &Way, target: &Target, clear: bool) -> io::Result<Protection> {
    let dial = |identity: Identity, insist: bool, tls: ClientTls| {
        let (target, shown) = dialer.target(&target.name, identity, insist)?;
        Ok(Protection { handshake: Some(Handshake::Connect(target)), tls, shown })
    };
    let insists = target.security.insists();
    let in_clear = || Protection { handshake: None, tls: ClientTls::Never, shown: Shown::default() };
    match &target.security {
        Security::Route(RouteTls::None) => Ok(in_clear()),
        _ if clear && !insists => Ok(in_clear()),
        Security::Route(RouteTls::Implicit) => dial(Identity::Name, true, ClientTls::Never),
        Security::Route(RouteTls::Verified) => dial(Identity::Name, true, ClientTls::Required),
        Security::Route(RouteTls::Opportunistic) | Security::Opportunistic => {
            dial(Identity::Name, false, ClientTls::Opportunistic)
        }
        Security::Sts(_) if insists => dial(Identity::Name, true, ClientTls::Required),
        Security::Sts(_) => dial(Identity::Name, false, ClientTls::Opportunistic),
        Security::Dane(records) if records.is_empty() => dial(Identity::Name, false, ClientTls::Required),
        Security::Dane(records) => {
            let domain = if let Way::Exchangers(domain) = way { domain.as_str() } else { target.name.as_str() };
            dial(Identity::Dns(Arc::clone(records), domain.to_owned()), true, ClientTls::Required)
        }
    }
}
