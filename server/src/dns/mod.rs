//! Names: mail exchangers and addresses of other servers.
//!
//! * What: one caching resolver for the server.
//! * In: domain names; `[dns]` of the configuration.
//! * Out: exchangers in the order to try them, addresses.
//! * Never: takes a name for one that does not exist when it could not be asked for.
//! * Fails: with [`DnsFailure`], which says whether to try again.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::NetError,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, RecordType},
};

use crate::config::DnsSettings;

mod records;

pub use records::{Records, ascii_domain, is_name};

/// Exchangers of a domain that are tried; RFC 5321 section 5.1 asks for two at least.
const EXCHANGERS_MAX: usize = 10;
/// Addresses of an exchanger that are tried.
const ADDRESSES_MAX: usize = 6;

/// Why a name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsFailure {
    /// There is no such name, or nothing of what was asked for.
    Nothing,
    /// The domain says that it takes no mail (RFC 7505).
    NoMail,
    /// It could not be found out now, and why.
    Later(String),
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("the name does not exist or has no address"),
            Self::NoMail => f.write_str("the domain takes no mail"),
            Self::Later(why) => write!(f, "the name cannot be looked up now: {why}"),
        }
    }
}

/// The resolver. Used on the runtime it was made on.
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Asks the name servers of the settings, or those of this machine.
    ///
    /// # Errors
    /// When this machine has no settings that can be read.
    pub fn new(settings: &DnsSettings) -> io::Result<Self> {
        let builder = if settings.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(io::Error::other)?
        } else {
            let servers = settings.servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.timeout = settings.timeout.duration();
        options.attempts = 2;
        options.cache_size = 10_000;
        Ok(Self { resolver: builder.build().map_err(io::Error::other)? })
    }

    /// Names of the servers that take mail for a domain and are better than `ourselves`, the preferred ones first; equal
    /// ones in the order of `dice`, which gives a number below its argument. Empty when we are the best. A domain without exchangers stands for itself (RFC 5321 section 5.1).
    ///
    /// # Errors
    /// When the domain takes no mail, or it cannot be found out.
    pub async fn exchangers(
        &self,
        domain: &str,
        ourselves: &str,
        dice: &mut dyn FnMut(usize) -> usize,
    ) -> Result<Vec<String>, DnsFailure> {
        if domain.starts_with('[') {
            return Ok(vec![domain.to_owned()]);
        }
        let lookup = match self.resolver.lookup(absolute(domain), RecordType::MX).await {
            Ok(lookup) => lookup,
            Err(error) if is_nothing(&error) => return Ok(vec![domain.to_owned()]),
            Err(error) => return Err(DnsFailure::Later(error.to_string())),
        };
        let mut found: Vec<(u16, usize, String)> = Vec::new();
        for record in lookup.answers() {
            if let RData::MX(exchanger) = &record.data {
                let name = exchanger.exchange.to_ascii();
                found.push((exchanger.preference, dice(1 << 16), name.trim_end_matches('.').to_lowercase()));
            }
        }
        if found.is_empty() {
            return Ok(vec![domain.to_owned()]);
        }
        //= rfc5321#section-5.1
        //# If MX records are present, but
        //# none of them are usable, this situation MUST be reported as an error.
        if found.iter().all(|(_, _, name)| name.is_empty()) {
            return Err(DnsFailure::NoMail);
        }
        found.retain(|(_, _, name)| !name.is_empty());
        // RFC 5321 section 5.1: exchangers that are not better than we are would bring the mail back to us.
        if let Some(ours) = found.iter().find(|(_, _, name)| name.eq_ignore_ascii_case(ourselves)).map(|found| found.0)
        {
            found.retain(|(preference, ..)| *preference < ours);
        }
        found.sort();
        Ok(found.into_iter().map(|(_, _, name)| name).take(EXCHANGERS_MAX).collect())
    }

    /// The IPv4 addresses of a name: for lists, whose answers have the form of addresses (RFC 5782).
    ///
    /// # Errors
    /// When there is none, or it cannot be found out.
    pub async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsFailure> {
        let lookup = match self.resolver.lookup(absolute(name), RecordType::A).await {
            Ok(lookup) => lookup,
            Err(error) if is_nothing(&error) => return Err(DnsFailure::Nothing),
            Err(error) => return Err(DnsFailure::Later(error.to_string())),
        };
        let address = |data: &RData| if let RData::A(address) = data { Some(address.0) } else { None };
        Ok(lookup.answers().iter().filter_map(|record| address(&record.data)).collect())
    }

    /// Addresses of a server, those of IPv6 and IPv4 in turn.
    ///
    /// # Errors
    /// When there is none, or it cannot be found out.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let literal = host.trim_matches(['[', ']']);
        if let Ok(address) = literal.strip_prefix("IPv6:").unwrap_or(literal).parse() {
            return Ok(vec![address]);
        }
        let found = match self.resolver.lookup_ip(absolute(host)).await {
            Ok(found) => found,
            Err(error) if is_nothing(&error) => return Err(DnsFailure::Nothing),
            Err(error) => return Err(DnsFailure::Later(error.to_string())),
        };
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = found.iter().partition(IpAddr::is_ipv6);
        let mut addresses = Vec::new();
        for place in 0..six.len().max(four.len()) {
            addresses.extend([&six, &four].into_iter().filter_map(|family| family.get(place)));
        }
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() { Err(DnsFailure::Nothing) } else { Ok(addresses) }
    }
}

/// No search list is used: mail for `example` is not for `example.our.domain`.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn is_nothing(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = address.port();
    tcp.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}
