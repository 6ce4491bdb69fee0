//! Listening sockets: what the configuration says about one, and opening it for every worker.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::{fs::FileTypeExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections the kernel holds for us before they are accepted; it takes the smaller of this and `net.core.somaxconn`.
pub const BACKLOG_DEFAULT: i32 = 4096;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Mail from other servers (RFC 5321).
    Smtp,
    /// Mail from our users (RFC 6409).
    Submission,
    /// Local delivery (RFC 2033).
    Lmtp,
    /// IMAP (RFC 9051, RFC 3501).
    Imap,
    /// POP3 (RFC 1939).
    Pop3,
}

impl Protocol {
    /// The name, as in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Submission => "submission",
            Self::Lmtp => "lmtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When TLS begins on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Never.
    #[default]
    None,
    /// When the client asks for it.
    StartTls,
    /// At once (RFC 8314).
    Implicit,
}

impl TlsMode {
    /// The name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
        }
    }
}

/// Where a listener listens: `192.0.2.1:25`, `[::]:143` or `unix:/run/rockdove/lmtp.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// TCP; port 0 for any.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("{text:?}: the path of a unix socket must begin with /"))
            };
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| format!("{text:?} is not an address: expected 192.0.2.1:25, [2001:db8::1]:25 or unix:/path"))
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether `address` lies in the range; IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.prefix_bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network: expected 10.0.0.0/8, 2001:db8::/32 or one address");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?,
            None => most,
        };
        Ok(Self { address, prefix_bits })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// One `[[listener]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where.
    pub address: ListenAddress,
    /// When TLS begins.
    #[serde(default)]
    pub tls: TlsMode,
    /// Whether connections from `proxy_trusted` begin with a PROXY header.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Who may send PROXY headers. Others are served under their own address.
    #[serde(default)]
    pub proxy_trusted: Vec<Network>,
    /// The administrator's door to accounts: a unix socket for root and the server's own user. No configuration makes
    /// one; the server does.
    #[serde(skip)]
    pub administrator: bool,
}

impl ListenerConfig {
    /// The administrator's door at `path`.
    pub fn administrator(path: PathBuf) -> Self {
        Self {
            protocol: Protocol::Imap,
            address: ListenAddress::Unix(path),
            tls: TlsMode::None,
            proxy_protocol: false,
            proxy_trusted: Vec::new(),
            administrator: true,
        }
    }

    /// Who may connect to a unix socket.
    pub fn mode(&self) -> u32 {
        // Any local program may deliver, as any may connect to a loopback port; tighten the directory to restrict it.
        if self.administrator { 0o600 } else { 0o666 }
    }
}

/// An open listener: one socket for each worker.
pub struct Bound {
    /// The sockets, ready to accept.
    pub sockets: Vec<Socket>,
    /// Where it listens in fact (the port, when any was asked for).
    pub address: ListenAddress,
}

/// Opens `address` for `workers` workers. With TCP the kernel spreads connections over the sockets; a unix socket gets
/// these permissions.
///
/// # Errors
/// When the address is taken or not ours; the error names it.
pub fn bind(address: &ListenAddress, unix_mode: u32, workers: usize, backlog: i32) -> io::Result<Bound> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, workers, backlog).map_err(named),
        ListenAddress::Unix(path) => bind_unix(path, unix_mode, workers, backlog).map_err(named),
    }
}

fn bind_tcp(wanted: SocketAddr, workers: usize, backlog: i32) -> io::Result<Bound> {
    let mut address = wanted;
    if wanted.port() != 0 {
        // With SO_REUSEPORT another server of the same user would share its connections with us, silently.
        let probe = tcp_socket(wanted)?;
        probe.bind(&wanted.into())?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers.max(1) {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(socket);
    }
    Ok(Bound { sockets, address: ListenAddress::Tcp(address) })
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are configured separately; neither takes the other's port.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32, workers: usize, backlog: i32) -> io::Result<Bound> {
    let address = SockAddr::unix(path)?;
    // A socket left by an earlier run is in the way; one that still answers, or any other file, is not ours to remove.
    if let Ok(found) = fs::symlink_metadata(path)
        && found.file_type().is_socket()
        && Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(&address).is_err()
    {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address)?;
    // Nobody can connect before `listen`, so there is no moment in which others could.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(socket.try_clone()?);
    }
    sockets.push(socket);
    Ok(Bound { sockets, address: ListenAddress::Unix(path.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("::/0", "::1", "127.0.0.1"),
        ] {
            let network: Network = network.parse().expect("network");
            assert!(network.contains(inside.parse().expect("address")), "{network:?} {inside}");
            assert!(!network.contains(outside.parse().expect("address")), "{network:?} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().expect("directory");
        let address = ListenAddress::Unix(directory.path().join("lmtp.sock"));
        let bound = bind(&address, 0o666, 2, 16).expect("first");
        assert_eq!(bound.sockets.len(), 2);
        assert!(bind(&address, 0o666, 1, 16).is_err());
        drop(bound);
        bind(&address, 0o666, 1, 16).expect("again");
    }

    #[test]
    fn a_port_is_not_shared_with_another_server() {
        let bound = bind(&"127.0.0.1:0".parse().expect("address"), 0o666, 2, 16).expect("bound");
        let error = bind(&bound.address, 0o666, 1, 16).err().expect("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let address = bound.address.clone();
        drop(bound);
        bind(&address, 0o666, 2, 16).expect("free again");
    }

    #[test]
    fn every_worker_gets_the_same_port() {
        let bound = bind(&"127.0.0.1:0".parse().expect("address"), 0o666, 3, 16).expect("bound");
        let ports = bound.sockets.iter().map(|s| s.local_addr().expect("local").as_socket().expect("tcp").port());
        let mut ports: Vec<u16> = ports.collect();
        ports.dedup();
        assert_eq!(ports.len(), 1);
        assert_ne!(ports[0], 0);
    }
}
