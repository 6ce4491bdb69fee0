//! From text to [`Config`], with the place of every mistake.

use std::{
    fmt, fs, io,
    io::Read as _,
    ops::Range,
    path::{Path, PathBuf},
};

use rockdove_smtp::Address;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Config, DnsSettings, ForwardingSettings, GateSettings, GreylistSettings, InspectSettings, LimitSettings,
    ListenAddress, ListenerConfig, LogSettings, LoginSettings, OutboundSettings, Protocol, QuarantineSettings, Route,
    RouteTls, RuntimeSettings, ScanSettings, SpamSettings, StoreSettings, TimeoutSettings, TlsFiles, TlsMode,
    TraceSettings, TrustSettings, gate,
    scan::{ClamdSection, MilterSection, RspamdSection},
    values::Span,
};
use crate::net::listeners::Network;

/// Octets of the file; a longer one is another file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Listeners; each has a socket per worker.
const LISTENERS_MAX: usize = 256;
/// RFC 5321 section 4.5.3.1.7.
const MESSAGE_SIZE_LEAST: u64 = 64 * 1024;
/// The engine keeps messages below 2 GiB; trace headers come on top of what a client sent.
const MESSAGE_SIZE_MOST: u64 = 1 << 30;
/// RFC 5321 section 4.5.3.1.8.
const RECIPIENTS_LEAST: usize = 100;
/// RFC 9051 section 5.4.
const AUTOLOGOUT_LEAST: Span = Span::seconds(30 * 60);
/// Octets of the name of a route.
const ROUTE_NAME_MAX: usize = 64;
/// Threads of one kind; more than any machine has cores.
const THREADS_MAX: usize = 1_024;

/// Something wrong in the configuration, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line and column, from 1; `None` when the file as a whole is meant.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what to do about it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Every problem that was found, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    hostname: Spanned<String>,
    data_dir: Spanned<PathBuf>,
    user: Option<String>,
    group: Option<Spanned<String>>,
    tls: Option<Spanned<TlsSection>>,
    #[serde(default)]
    listener: Vec<Spanned<ListenerSection>>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    timeouts: Placed<TimeoutSettings>,
    #[serde(default)]
    login: LoginSettings,
    #[serde(default)]
    runtime: Placed<RuntimeSettings>,
    #[serde(default)]
    store: StoreSettings,
    #[serde(default)]
    outbound: Placed<OutboundSettings>,
    #[serde(default)]
    route: Vec<Spanned<RouteSection>>,
    #[serde(default)]
    dns: DnsSettings,
    #[serde(default)]
    gate: Placed<GateSettings>,
    #[serde(default)]
    greylist: Placed<GreylistSettings>,
    #[serde(default)]
    limit: Vec<Spanned<gate::LimitSection>>,
    #[serde(default)]
    dnsbl: Vec<Spanned<gate::DnsblSection>>,
    #[serde(default)]
    inspect: InspectSettings,
    clamd: Option<Spanned<ClamdSection>>,
    rspamd: Option<Spanned<RspamdSection>>,
    #[serde(default)]
    milter: Vec<Spanned<MilterSection>>,
    #[serde(default)]
    quarantine: QuarantineSettings,
    #[serde(default)]
    spam: SpamSettings,
    #[serde(default)]
    trust: Placed<TrustSettings>,
    #[serde(default)]
    forwarding: ForwardingSettings,
    #[serde(default)]
    trace: TraceSettings,
    #[serde(default)]
    log: LogSettings,
}

/// A section and where it stands; the default stands nowhere.
struct Placed<T> {
    value: T,
    span: Option<Range<usize>>,
}

type LimitsFile = Placed<LimitSettings>;

impl<T: Default> Default for Placed<T> {
    fn default() -> Self {
        Self { value: T::default(), span: None }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(from)?;
        let span = Some(spanned.span());
        Ok(Self { value: spanned.into_inner(), span })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsSection {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerSection {
    protocol: Protocol,
    address: Spanned<ListenAddress>,
    tls: Option<Spanned<TlsMode>>,
    proxy_protocol: Option<Spanned<bool>>,
    #[serde(default)]
    proxy_trusted: Vec<Network>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteSection {
    name: String,
    domains: Vec<String>,
    host: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    tls: RouteTls,
    #[serde(default)]
    lmtp: bool,
    login: Option<String>,
    password_file: Option<PathBuf>,
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// Every problem found.
pub fn read(path: &Path) -> Result<Config, Problems> {
    let failed = |error: io::Error| {
        let advice = if error.kind() == io::ErrorKind::NotFound {
            "; write one (docs/configuration.md has a short example) or name another with --config"
        } else {
            ""
        };
        let what = format!("cannot read the configuration: {error}{advice}");
        Problems(vec![Problem { path: path.into(), place: None, what }])
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("it has more than {FILE_BYTES_MAX} octets"))));
    }
    parse(&text, path)
}

/// Checks the text of a file; `path` is for messages, and relative paths in the text start in its folder.
///
/// # Errors
/// Every problem found.
pub fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    let mut check = Check { text, path, problems: Vec::new() };
    let file: File = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            check.say(error.span(), error.message().to_owned());
            return Err(Problems(check.problems));
        }
    };
    let config = check.config(file);
    if check.problems.is_empty() {
        Ok(config)
    } else {
        check.problems.sort_by_key(|problem| problem.place);
        Err(Problems(check.problems))
    }
}

struct Check<'a> {
    text: &'a str,
    path: &'a Path,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn say(&mut self, span: Option<Range<usize>>, what: String) {
        let place = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            (before.matches('\n').count() + 1, before.get(line_start..).unwrap_or_default().chars().count() + 1)
        });
        self.problems.push(Problem { path: self.path.into(), place, what });
    }

    /// A path in the file, as seen from the folder of the file.
    fn resolve(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.into(), |folder| folder.join(path))
    }

    fn config(&mut self, file: File) -> Config {
        self.check_hostname(&file.hostname);
        if file.user.is_none()
            && let Some(group) = &file.group
        {
            self.say(Some(group.span()), "group without user: set user too, or remove group".to_owned());
        }
        self.check_limits(&file.limits);
        self.check_timeouts(&file.timeouts);
        self.check_runtime(&file.runtime);
        if file.data_dir.as_ref().as_os_str().is_empty() {
            self.say(Some(file.data_dir.span()), "data_dir is empty: name the folder that keeps the mail".to_owned());
        }
        let data_dir = self.resolve(file.data_dir.as_ref());
        let tls = self.tls(file.tls);
        let listeners_implied = file.listener.is_empty();
        let listeners = if listeners_implied { implied_listeners(&data_dir) } else { self.listeners(file.listener) };
        self.check_outbound(&file.outbound);
        self.check_trust(&file.trust, file.inspect.timeout);
        let routes = self.routes(file.route);
        let scan = self.scanners(file.clamd, file.rspamd, file.milter, file.quarantine);
        self.check_gate(&file.gate, &file.greylist);
        let mut say = |span, what| self.say(Some(span), what);
        let (rates, dns_lists) = (gate::limits(file.limit, &mut say), gate::dns_lists(file.dnsbl, &mut say));
        Config {
            hostname: file.hostname.into_inner(),
            data_dir,
            user: file.user,
            group: file.group.map(Spanned::into_inner),
            tls,
            listeners,
            listeners_implied,
            limits: file.limits.value,
            timeouts: file.timeouts.value,
            login: file.login,
            runtime: file.runtime.value,
            store: file.store,
            outbound: OutboundSettings {
                tls_roots: file.outbound.value.tls_roots.as_deref().map(|path| self.resolve(path)),
                ..file.outbound.value
            },
            routes,
            dns: DnsSettings {
                trust_anchor: file.dns.trust_anchor.as_deref().map(|path| self.resolve(path)),
                ..file.dns
            },
            gate: file.gate.value,
            greylist: file.greylist.value,
            rates,
            dns_lists,
            inspect: file.inspect,
            spam: file.spam,
            trust: file.trust.value,
            scan,
            forwarding: file.forwarding,
            trace: file.trace,
            log: file.log,
        }
    }

    fn check_hostname(&mut self, hostname: &Spanned<String>) {
        let name = hostname.as_ref();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            let what =
                format!("{name:?} is not a host name: write the full name of this server, as in \"mail.example.org\"");
            self.say(Some(hostname.span()), what);
        }
    }

    fn check_limits(&mut self, limits: &LimitsFile) {
        let (span, limits) = (&limits.span, &limits.value);
        if limits.message_size.bytes < MESSAGE_SIZE_LEAST {
            let least = super::Size { bytes: MESSAGE_SIZE_LEAST };
            self.say(span.clone(), format!("limits.message_size: at least \"{least}\" (RFC 5321 section 4.5.3.1.7)"));
        }
        if limits.message_size.bytes > MESSAGE_SIZE_MOST {
            let most = super::Size { bytes: MESSAGE_SIZE_MOST };
            self.say(span.clone(), format!("limits.message_size: at most \"{most}\""));
        }
        if limits.recipients < RECIPIENTS_LEAST {
            let what = format!("limits.recipients: at least {RECIPIENTS_LEAST} (RFC 5321 section 4.5.3.1.8)");
            self.say(span.clone(), what);
        }
        if limits.connections == 0 || limits.connections_per_address == 0 {
            self.say(span.clone(), "limits.connections and limits.connections_per_address: at least 1".to_owned());
        }
    }

    fn check_timeouts(&mut self, timeouts: &Placed<TimeoutSettings>) {
        let (span, timeouts) = (&timeouts.span, &timeouts.value);
        if timeouts.imap_autologout < AUTOLOGOUT_LEAST {
            let what = format!("timeouts.imap_autologout: at least \"{AUTOLOGOUT_LEAST}\" (RFC 9051 section 5.4)");
            self.say(span.clone(), what);
        }
        let named = [
            ("smtp_command", timeouts.smtp_command),
            ("smtp_data_block", timeouts.smtp_data_block),
            ("smtp_data_total", timeouts.smtp_data_total),
            ("imap_login", timeouts.imap_login),
        ];
        for (name, wait) in named {
            if wait < Span::seconds(1) {
                self.say(span.clone(), format!("timeouts.{name}: at least \"1 s\", or nobody could be served"));
            }
        }
    }

    fn check_runtime(&mut self, runtime: &Placed<RuntimeSettings>) {
        if runtime.value.workers > THREADS_MAX || runtime.value.storage_threads > THREADS_MAX {
            let what =
                format!("runtime.workers and runtime.storage_threads: at most {THREADS_MAX}, or 0 to follow the cores");
            self.say(runtime.span.clone(), what);
        }
    }

    fn check_trust(&mut self, trust: &Placed<TrustSettings>, timeout: Span) {
        let (span, trust) = (&trust.span, &trust.value);
        if trust.time_limit < Span::seconds(1) || trust.time_limit >= timeout {
            let what = format!("trust.time_limit: at least \"1 s\", and less than inspect.timeout (\"{timeout}\")");
            self.say(span.clone(), what);
        }
        let address = trust.report_from.as_deref().map(Address::parse);
        if address.is_some_and(|address| address.is_err()) {
            self.say(span.clone(), "trust.report_from: an address, as in \"dmarc@example.org\"".to_owned());
        }
        if trust.report_period < Span::seconds(1) {
            self.say(span.clone(), "trust.report_period: at least \"1 s\"".to_owned());
        }
        if trust.authserv_id.as_deref().is_some_and(|id| {
            id.is_empty() || !id.bytes().all(|octet| octet.is_ascii_graphic() && !b"\"();".contains(&octet))
        }) {
            self.say(span.clone(), "trust.authserv_id: a name, as in \"example.org\"".to_owned());
        }
    }

    fn check_outbound(&mut self, outbound: &Placed<OutboundSettings>) {
        let (span, outbound) = (&outbound.span, &outbound.value);
        if outbound.connections == 0 || outbound.connections_per_destination == 0 {
            let what = "outbound.connections and outbound.connections_per_destination: at least 1".to_owned();
            self.say(span.clone(), what);
        }
        if outbound.retry_first < Span::seconds(1) || outbound.retry_most < outbound.retry_first {
            let what = "outbound.retry_first: at least \"1 s\", and not more than outbound.retry_most".to_owned();
            self.say(span.clone(), what);
        }
        if outbound.expire < outbound.retry_first {
            self.say(span.clone(), "outbound.expire: at least outbound.retry_first".to_owned());
        }
    }

    fn scanners(
        &mut self,
        clamd: Option<Spanned<ClamdSection>>,
        rspamd: Option<Spanned<RspamdSection>>,
        milters: Vec<Spanned<MilterSection>>,
        quarantine: QuarantineSettings,
    ) -> ScanSettings {
        let first = clamd.as_ref().map(Spanned::span).or_else(|| rspamd.as_ref().map(Spanned::span));
        let span = first.or_else(|| milters.first().map(Spanned::span));
        let scan = ScanSettings {
            clamd: clamd.map(|section| section.into_inner().settings()),
            rspamd: rspamd.map(|section| section.into_inner().settings()),
            milters: milters.into_iter().map(|section| section.into_inner().settings()).collect(),
            quarantine,
        };
        for problem in scan.problems() {
            self.say(span.clone(), problem);
        }
        scan
    }

    fn check_gate(&mut self, gate: &Placed<GateSettings>, greylist: &Placed<GreylistSettings>) {
        for what in gate::check_gate(&gate.value) {
            self.say(gate.span.clone(), what);
        }
        if let Some(what) = gate::check_greylist(&greylist.value) {
            self.say(greylist.span.clone(), what);
        }
    }

    fn routes(&mut self, sections: Vec<Spanned<RouteSection>>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for section in sections {
            let span = section.span();
            let RouteSection { name, domains, host, port, tls, lmtp, login, password_file } = section.into_inner();
            let is_plain = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
            if !is_plain || name.len() > ROUTE_NAME_MAX {
                self.say(Some(span.clone()), "route.name: letters, digits, \"-\", \"_\" and \".\"".to_owned());
            }
            if routes.iter().any(|route| route.name == name) {
                self.say(Some(span.clone()), format!("there are two routes called {name}: give each its own name"));
            }
            if domains.is_empty() {
                self.say(Some(span.clone()), "route.domains: name at least one, or \"*\"".to_owned());
            }
            let login = match (login, password_file) {
                (Some(login), Some(file)) => self.password(&file, &span).map(|password| (login, password)),
                (None, None) => None,
                _ => {
                    self.say(Some(span.clone()), "a route needs both login and password_file, or neither".to_owned());
                    None
                }
            };
            if host.is_none() && (login.is_some() || lmtp || port.is_some()) {
                self.say(Some(span.clone()), "route.host: say which server this is about".to_owned());
            }
            let domains = domains.into_iter().map(|domain| domain.to_lowercase()).collect();
            let port = port.unwrap_or(match (lmtp, tls) {
                (true, _) => 24,
                (false, RouteTls::Implicit) => 465,
                (false, _) => 25,
            });
            routes.push(Route { name, domains, host, port, tls, lmtp, login });
        }
        routes
    }

    /// The first line of a file.
    fn password(&mut self, file: &Path, span: &Range<usize>) -> Option<String> {
        let path = self.resolve(file);
        match fs::read_to_string(&path) {
            Ok(text) => Some(text.lines().next().unwrap_or_default().to_owned()),
            Err(error) => {
                self.say(Some(span.clone()), format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }

    fn tls(&mut self, section: Option<Spanned<TlsSection>>) -> Option<TlsFiles> {
        let section = section?;
        let span = section.span();
        match section.into_inner() {
            TlsSection { certificate: Some(certificate), key: Some(key) } => {
                let files = TlsFiles { certificate: self.resolve(&certificate), key: self.resolve(&key) };
                for file in [&files.certificate, &files.key] {
                    if !file.is_file() {
                        let what =
                            format!("there is no file {}: name a PEM file that this user can read", file.display());
                        self.say(Some(span.clone()), what);
                    }
                }
                Some(files)
            }
            TlsSection { certificate: None, key: None } => None,
            _ => {
                self.say(Some(span), "tls needs both certificate and key, or neither (self-signed)".to_owned());
                None
            }
        }
    }

    fn listeners(&mut self, sections: Vec<Spanned<ListenerSection>>) -> Vec<ListenerConfig> {
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        if let Some(one_too_many) = sections.get(LISTENERS_MAX) {
            self.say(Some(one_too_many.span()), format!("at most {LISTENERS_MAX} listeners"));
        }
        for section in sections {
            let section = section.into_inner();
            let address = section.address.as_ref();
            let any_port = matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0);
            if !any_port && listeners.iter().any(|other| other.address == *address) {
                let what = format!("{address} is listened on twice: give each listener its own address");
                self.say(Some(section.address.span()), what);
            }
            listeners.push(self.listener(section));
        }
        listeners
    }

    fn listener(&mut self, section: ListenerSection) -> ListenerConfig {
        let unix = matches!(section.address.as_ref(), ListenAddress::Unix(_));
        if let Some(tls) = &section.tls
            && unix
            && *tls.as_ref() != TlsMode::None
        {
            self.say(Some(tls.span()), "TLS on a unix socket has no use: remove tls here".to_owned());
        }
        if let Some(proxy) = &section.proxy_protocol
            && *proxy.as_ref()
            && !unix
            && section.proxy_trusted.is_empty()
        {
            let what = "proxy_protocol needs proxy_trusted: name the proxies, as in [\"10.0.0.5\"]".to_owned();
            self.say(Some(proxy.span()), what);
        }
        let tls_default = if unix || section.protocol == Protocol::Lmtp { TlsMode::None } else { TlsMode::StartTls };
        ListenerConfig {
            protocol: section.protocol,
            address: section.address.into_inner(),
            tls: section.tls.map_or(tls_default, Spanned::into_inner),
            proxy_protocol: section.proxy_protocol.is_some_and(Spanned::into_inner),
            proxy_trusted: section.proxy_trusted,
            administrator: false,
        }
    }
}

/// The ports that mail has everywhere, on IPv4 and IPv6, and a unix socket for local delivery.
fn implied_listeners(data_dir: &Path) -> Vec<ListenerConfig> {
    let ports = [
        (Protocol::Smtp, 25, TlsMode::StartTls),
        (Protocol::Submission, 587, TlsMode::StartTls),
        (Protocol::Submission, 465, TlsMode::Implicit),
        (Protocol::Imap, 143, TlsMode::StartTls),
        (Protocol::Imap, 993, TlsMode::Implicit),
        (Protocol::Pop3, 110, TlsMode::StartTls),
        (Protocol::Pop3, 995, TlsMode::Implicit),
    ];
    let listener = |protocol, address, tls| ListenerConfig {
        protocol,
        address,
        tls,
        proxy_protocol: false,
        proxy_trusted: Vec::new(),
        administrator: false,
    };
    let mut listeners = Vec::new();
    for (protocol, port, tls) in ports {
        listeners.push(listener(protocol, ListenAddress::Tcp((std::net::Ipv4Addr::UNSPECIFIED, port).into()), tls));
        listeners.push(listener(protocol, ListenAddress::Tcp((std::net::Ipv6Addr::UNSPECIFIED, port).into()), tls));
    }
    listeners.push(listener(Protocol::Lmtp, ListenAddress::Unix(data_dir.join("lmtp.sock")), TlsMode::None));
    listeners
}
