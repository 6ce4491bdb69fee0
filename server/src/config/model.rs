//! The settings of a server. `docs/configuration.md` explains each; a test holds the two together.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;

use super::{
    DnsList, ForwardingSettings, GateSettings, GreylistSettings, InspectSettings, ListenerConfig, RateLimit,
    ScanSettings, SpamSettings, TraceSettings, TrustSettings,
    values::{Size, Span},
};
use crate::{
    net::limits::{CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_MAX_DEFAULT},
    runtime::wire::BackendChoice,
};

/// Everything the file can say, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Our name in greetings and trace headers.
    pub hostname: String,
    /// Where mail and everything else that is kept lives.
    pub data_dir: PathBuf,
    /// Whom to become after the ports are bound.
    pub user: Option<String>,
    /// Their group; the main one of `user` when it is missing.
    pub group: Option<String>,
    /// The certificate; self-signed when there is none.
    pub tls: Option<TlsFiles>,
    /// Where we listen, never empty.
    pub listeners: Vec<ListenerConfig>,
    /// The file names no listener: these are the defaults, and a machine without IPv6 is no mistake.
    pub listeners_implied: bool,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[timeouts]`.
    pub timeouts: TimeoutSettings,
    /// `[login]`.
    pub login: LoginSettings,
    /// `[runtime]`.
    pub runtime: RuntimeSettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[outbound]`.
    pub outbound: OutboundSettings,
    /// `[[route]]`, in the order of the file.
    pub routes: Vec<Route>,
    /// `[dns]`.
    pub dns: DnsSettings,
    /// `[gate]`.
    pub gate: GateSettings,
    /// `[greylist]`.
    pub greylist: GreylistSettings,
    /// `[[limit]]`, and those that are implied.
    pub rates: Vec<RateLimit>,
    /// `[[dnsbl]]`, in the order of the file.
    pub dns_lists: Vec<DnsList>,
    /// `[inspect]`.
    pub inspect: InspectSettings,
    /// `[spam]`.
    pub spam: SpamSettings,
    /// `[trust]`.
    pub trust: TrustSettings,
    /// `[clamd]`, `[rspamd]`, `[[milter]]` and `[quarantine]`.
    pub scan: ScanSettings,
    /// `[forwarding]`.
    pub forwarding: ForwardingSettings,
    /// `[trace]`.
    pub trace: TraceSettings,
    /// `[log]`.
    pub log: LogSettings,
}

/// Certificate chain and private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, our certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// `[limits]`: how much at once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Octets of one message; RFC 5321 section 4.5.3.1.7 asks for 64 KiB at least. At most 1 GiB.
    pub message_size: Size,
    /// Recipients of one SMTP transaction; RFC 5321 section 4.5.3.1.8 asks for 100 at least.
    pub recipients: usize,
    /// Connections held at once.
    pub connections: usize,
    /// Connections held at once from one address (one /64 with IPv6).
    pub connections_per_address: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            message_size: Size::mib(50),
            recipients: 1_000,
            connections: CONNECTIONS_MAX_DEFAULT,
            connections_per_address: CONNECTIONS_PER_ADDRESS_MAX_DEFAULT,
        }
    }
}

/// `[timeouts]`: how long we wait.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutSettings {
    /// For the next SMTP command; RFC 5321 section 4.5.3.2.7 recommends 5 minutes.
    pub smtp_command: Span,
    /// For the next block of a message; RFC 5321 section 4.5.3.2.5 recommends 3 minutes.
    pub smtp_data_block: Span,
    /// For a whole message.
    pub smtp_data_total: Span,
    /// For an IMAP client to log in.
    pub imap_login: Span,
    /// For the next IMAP command after login; RFC 9051 section 5.4 demands 30 minutes at least.
    pub imap_autologout: Span,
    /// For sessions to end when the server stops.
    pub shutdown: Span,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            smtp_command: Span::seconds(5 * 60),
            smtp_data_block: Span::seconds(3 * 60),
            smtp_data_total: Span::seconds(60 * 60),
            imap_login: Span::seconds(60),
            imap_autologout: Span::seconds(30 * 60),
            shutdown: Span::seconds(20),
        }
    }
}

/// Whether passwords are taken without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClearText {
    /// Never.
    Never,
    /// From clients on this machine.
    #[default]
    Loopback,
    /// Always: whoever is on the way can read them.
    Always,
}

/// `[login]`: passwords and those who guess them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginSettings {
    /// Whether passwords are taken without TLS.
    pub clear_text: ClearText,
    /// How long a verified password is remembered (as a keyed hash, in memory); `"0 s"` for not at all.
    pub remember: Span,
    /// Wrong passwords from one address before it has to wait.
    pub failures_per_address: u32,
    /// Wrong passwords for one login before everyone without a remembered password has to wait.
    pub failures_per_login: u32,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            clear_text: ClearText::default(),
            remember: Span::seconds(10 * 60),
            failures_per_address: 20,
            failures_per_login: 10,
        }
    }
}

/// `[runtime]`: threads and sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    /// How sockets are driven.
    #[serde(deserialize_with = "backend")]
    pub io: BackendChoice,
    /// Threads that serve connections; 0 for one per core.
    pub workers: usize,
    /// Threads that may wait for the disk; 0 for four per core.
    pub storage_threads: usize,
}

fn backend<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BackendChoice, D::Error> {
    match String::deserialize(from)?.as_str() {
        "auto" => Ok(BackendChoice::Auto),
        "io_uring" => Ok(BackendChoice::IoUring),
        "epoll" => Ok(BackendChoice::Epoll),
        other => Err(serde::de::Error::custom(format!("{other:?} is none of \"auto\", \"io_uring\", \"epoll\""))),
    }
}

/// `[store]`: the store's share of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Memory that the caches of the store are measured by (about two fifths of it is used); all that the machine or the
    /// container has when missing.
    pub memory: Option<Size>,
    /// Mail is refused, for the sender to try again, while less than this is free on the disk of the store.
    pub free_space_min: Size,
    /// For how long deleted mail can be had again; `"0 s"` for not at all.
    pub undelete_for: Span,
    /// Octets of it in one account; what went first is removed first.
    pub undelete_bytes_max: Size,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            memory: None,
            free_space_min: Size::mib(512),
            undelete_for: Span::seconds(14 * 24 * 60 * 60),
            undelete_bytes_max: Size::mib(1_024),
        }
    }
}

/// `[outbound]`: mail that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// After this time a message is given up and its sender told; RFC 5321 section 4.5.4.1 recommends 4 to 5 days.
    pub expire: Span,
    /// After this time the sender is told that a message waits.
    pub warn_after: Span,
    /// Pause before the second attempt; doubled for each one after it.
    pub retry_first: Span,
    /// The longest pause between two attempts.
    pub retry_most: Span,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once to one destination.
    pub connections_per_destination: usize,
    /// For a server to accept a connection.
    pub connect: Span,
    /// Where exchangers listen.
    pub port: u16,
    /// Exchangers may be on this machine: for tests.
    pub loopback: bool,
    /// The address that connections come from; the system's choice when missing.
    pub source_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source_v6: Option<Ipv6Addr>,
    /// Policies of other domains (MTA-STS, RFC 8461) are looked up and kept to.
    pub mta_sts: bool,
    /// Where policies are served.
    pub mta_sts_port: u16,
    /// Certificate authorities that are trusted beside those of this system, PEM.
    pub tls_roots: Option<PathBuf>,
    /// Others are told once a day how well connections to them were protected (TLS-RPT, RFC 8460).
    pub tls_reports: bool,
    /// Who sends these reports; `postmaster@` and the host name when missing.
    pub tls_reports_from: Option<String>,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            expire: Span::seconds(5 * 24 * 60 * 60),
            warn_after: Span::seconds(4 * 60 * 60),
            retry_first: Span::seconds(5 * 60),
            retry_most: Span::seconds(4 * 60 * 60),
            connections: 500,
            connections_per_destination: 10,
            connect: Span::seconds(30),
            port: 25,
            loopback: false,
            source_v4: None,
            source_v6: None,
            mta_sts: true,
            mta_sts_port: 443,
            tls_roots: None,
            tls_reports: true,
            tls_reports_from: None,
        }
    }
}

/// How mail for some domains leaves when it does not go to their exchangers.
#[derive(Clone, PartialEq, Eq)]
pub struct Route {
    /// What it is called in the queue.
    pub name: String,
    /// Domains, `.example.org` for all below one, `*` for all. A local domain: for recipients that have no mailbox here.
    pub domains: Vec<String>,
    /// The server: a name or an address; `None` for the exchangers of the domain.
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
    /// How connections to it are protected.
    pub tls: RouteTls,
    /// It speaks LMTP.
    pub lmtp: bool,
    /// The login there.
    pub login: Option<(String, String)>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let login = self.login.as_ref().map(|(login, _)| login);
        f.debug_struct("Route")
            .field("name", &self.name)
            .field("host", &self.host)
            .field("login", &login)
            .finish_non_exhaustive()
    }
}

impl Route {
    /// Whether it is for a domain, in lower case.
    pub fn is_for(&self, domain: &str) -> bool {
        self.domains.iter().any(|pattern| {
            pattern == "*" || pattern == domain || (pattern.starts_with('.') && domain.ends_with(pattern.as_str()))
        })
    }
}

/// How connections of a route are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteTls {
    /// Not at all.
    None,
    /// STARTTLS where it is offered; whoever answers is believed.
    #[default]
    Opportunistic,
    /// STARTTLS, and the server must prove its name.
    Verified,
    /// From the first octet, and the server must prove its name.
    Implicit,
}

/// Whether DNSSEC signatures are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dnssec {
    /// Where the name servers pass them on.
    #[default]
    Auto,
    /// Always: without them no name is found.
    Always,
    /// Never, and so DANE is not used.
    Never,
}

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSettings {
    /// Name servers, as in `127.0.0.1:53`; those of this machine when empty.
    pub servers: Vec<SocketAddr>,
    /// For a name server to answer.
    pub timeout: Span,
    /// Whether signatures are checked.
    pub dnssec: Dnssec,
    /// DNSKEY records that are trusted instead of the root's.
    pub trust_anchor: Option<PathBuf>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Span::seconds(5), dnssec: Dnssec::Auto, trust_anchor: None }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures of the server.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And one line per message event.
    #[default]
    Info,
    /// And one per connection.
    Debug,
    /// And more.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `[log]`: written to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How much.
    pub level: LogLevel,
    /// How.
    pub format: LogFormat,
}

/// The settings that differ between two configurations and that a running server cannot change.
pub fn not_live(running: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("data_dir", running.data_dir != new.data_dir),
        ("user", running.user != new.user),
        ("group", running.group != new.group),
        ("listener", running.listeners != new.listeners),
        ("runtime", running.runtime != new.runtime),
        ("store.memory", running.store.memory != new.store.memory),
        ("outbound", running.outbound != new.outbound),
        ("dns", running.dns != new.dns),
        ("inspect.memory", running.inspect.memory != new.inspect.memory),
        ("log", running.log != new.log),
        ("timeouts.shutdown", running.timeouts.shutdown != new.timeouts.shutdown),
        ("login.remember", running.login.remember != new.login.remember),
    ];
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
