//! All checks of one message, in the time that they are given.

use std::{net::IpAddr, time::Duration};

use mail_auth::{ArcOutput, AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator};
use rockdove_smtp::Address;
use tokio::time::timeout;

use super::{
    dmarc::{self, Dmarc, DmarcResult, Identity},
    results::Method,
    signatures::{self, Chain, Signed},
    spf::{self, Client, Spf, SpfResult},
};
use crate::{
    config::{Check, DnsSettings, TrustSettings},
    dns::{Dns, Records, ascii_domain},
};

/// Names of an address that are looked at.
const NAMES_MAX: usize = 5;
/// Domains of authors whose policies are looked at.
const AUTHORS_MAX: usize = 4;

/// A message and who gives it to us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// What it said with HELO or EHLO.
    pub helo: &'a str,
    /// The reverse-path; `None` for `<>`.
    pub reverse_path: Option<&'a Address>,
    /// Our name.
    pub hostname: &'a str,
    /// When its end was received, in seconds since 1970-01-01 00:00 UTC.
    pub received_unix_s: i64,
}

/// What was found out. Checks that are off are `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The name of the address.
    pub iprev: Option<Method>,
    /// SPF of what was said with HELO.
    pub helo: Option<Spf>,
    /// SPF of the sender; `None` for `<>` too.
    pub mail: Option<Spf>,
    /// Signatures.
    pub dkim: Option<Vec<Signed>>,
    /// The chain of those who passed it on.
    pub arc: Option<Chain>,
    /// DMARC of each domain among the authors. Empty when there is no author.
    pub dmarc: Vec<Dmarc>,
    /// There are more authors' domains than are looked at.
    pub many_authors: bool,
}

/// Makes the checks.
pub struct Checker {
    /// `None` when no name server is known.
    tools: Option<(Dns, MessageAuthenticator)>,
}

impl Checker {
    /// Asks the name servers of the settings. Use it on the runtime it was made on.
    pub fn new(settings: &DnsSettings) -> Self {
        let tools = Dns::new(settings).map(|dns| {
            let authenticator = MessageAuthenticator(dns.resolver().clone());
            (dns, authenticator)
        });
        let failed =
            |error| tracing::error!(%error, "mail is not checked: name servers cannot be asked ([dns] servers)");
        Self { tools: tools.map_err(failed).ok() }
    }

    /// Makes the checks that are on, of a message that was read. What is not found out in time is a temporary error. The
    /// second value is for [`seal`](super::seal::seal).
    pub(super) async fn check<'x>(
        &self,
        settings: &TrustSettings,
        arrival: Arrival<'_>,
        message: &'x AuthenticatedMessage<'x>,
    ) -> (Found, ArcOutput<'x>) {
        let (authors, many_authors) = authors(message);
        let mut found = unknown(settings, &arrival, message, &authors);
        let unknown = DkimResult::TempError(Error::Dns(DnsError::Resolver(String::new())));
        let mut chain = ArcOutput::default().with_result(unknown);
        found.many_authors = many_authors;
        if let Some((dns, authenticator)) = &self.tools {
            // Most of the time is for what DMARC works with, the rest for its own questions.
            let limit = settings.time_limit.duration();
            let limits = (limit * 3 / 4, limit / 4);
            gather(dns, authenticator, arrival, message, (&mut found, &mut chain), limits.0).await;
            within(limits.1, apply(dns, &mut found)).await;
        }
        (found, chain)
    }
}

/// Where everything that is wanted could not be found out.
fn unknown(
    settings: &TrustSettings,
    arrival: &Arrival<'_>,
    message: &AuthenticatedMessage<'_>,
    authors: &[String],
) -> Found {
    let on = |check: Check| check != Check::Off;
    let spf = |domain: &str| Spf { domain: domain.to_owned(), result: SpfResult::TempError, explanation: None };
    // DMARC is about what SPF and DKIM find.
    let (spf_on, dkim_on) = (on(settings.spf) || on(settings.dmarc), on(settings.dkim) || on(settings.dmarc));
    let dmarc = |author: &String| Dmarc {
        domain: author.clone(),
        result: DmarcResult::TempError,
        policy: dmarc::Policy::None,
        published: None,
        dkim_aligned: false,
        spf_aligned: false,
    };
    Found {
        iprev: on(settings.iprev).then_some(Method::TempError),
        helo: spf_on.then(|| spf(arrival.helo)),
        mail: arrival.reverse_path.filter(|_| spf_on).map(|path| spf(&path.domain)),
        dkim: dkim_on.then(|| signatures::unknown(message)),
        arc: on(settings.arc).then(|| Chain::unknown(Method::TempError)),
        dmarc: if on(settings.dmarc) { authors.iter().map(dmarc).collect() } else { Vec::new() },
        many_authors: false,
    }
}

/// Domains in From, each once.
fn authors(message: &AuthenticatedMessage<'_>) -> (Vec<String>, bool) {
    let mut domains: Vec<String> = Vec::new();
    for address in &message.from {
        if let Some(domain) = address.rsplit_once('@').and_then(|(_, domain)| ascii_domain(domain))
            && !domains.contains(&domain)
        {
            domains.push(domain);
        }
    }
    let many = domains.len() > AUTHORS_MAX;
    domains.truncate(AUTHORS_MAX);
    (domains, many)
}

/// Waits for an answer, but not for long.
async fn within(limit: Duration, work: impl Future<Output = ()>) {
    if timeout(limit, work).await.is_err() {
        metrics::counter!("rockdove_trust_timeouts_total").increment(1);
    }
}

/// Everything but DMARC, at the same time.
async fn gather<'x>(
    dns: &Dns,
    authenticator: &MessageAuthenticator,
    arrival: Arrival<'_>,
    message: &'x AuthenticatedMessage<'x>,
    (found, output): (&mut Found, &mut ArcOutput<'x>),
    limit: Duration,
) {
    let client =
        Client { ip: arrival.address, helo: arrival.helo, receiver: arrival.hostname, unix_s: arrival.received_unix_s };
    let Found { iprev, helo, mail, dkim, arc, .. } = found;
    tokio::join!(
        within(limit, async {
            if let Some(iprev) = iprev {
                *iprev = check_iprev(dns, arrival.address).await;
            }
        }),
        within(limit, async {
            if let Some(helo) = helo {
                *helo = spf::check_helo(dns, client).await;
            }
        }),
        within(limit, async {
            if let (Some(mail), Some(path)) = (mail, arrival.reverse_path) {
                *mail = spf::check_mail(dns, client, &path.local, &path.domain).await;
            }
        }),
        within(limit, async {
            if let Some(dkim) = dkim {
                *dkim = signatures::check_dkim(authenticator, message).await;
            }
        }),
        within(limit, async {
            if let Some(arc) = arc {
                (*arc, *output) = signatures::check_arc(authenticator, message).await;
            }
        }),
    );
}

/// DMARC, from what SPF and DKIM have found.
async fn apply(dns: &Dns, found: &mut Found) {
    let Found { helo, mail, dkim, dmarc, .. } = found;
    let sender = mail.as_ref().or(helo.as_ref());
    let spf = sender.and_then(|spf| Identity::of_spf(&spf.domain, spf.result));
    let signed: Vec<Identity<'_>> = dkim.iter().flatten().filter_map(identity).collect();
    for author in dmarc {
        *author = dmarc::check(dns, &author.domain, spf, &signed).await;
    }
}

fn identity(signed: &Signed) -> Option<Identity<'_>> {
    let temporary = signed.result == Method::TempError;
    (temporary || signed.result == Method::Pass).then_some(Identity { domain: &signed.domain, temporary })
}

/// Whether a name of the address leads back to it (RFC 8601 section 2.7.3).
async fn check_iprev(dns: &Dns, address: IpAddr) -> Method {
    let Ok(names) = dns.ptr(address).await else { return Method::TempError };
    if names.is_empty() {
        return Method::PermError;
    }
    let mut result = Method::Fail;
    for name in names.into_iter().take(NAMES_MAX) {
        let back = match address {
            IpAddr::V4(four) => dns.ipv4(&name).await.map(|found| found.contains(&four)),
            IpAddr::V6(six) => dns.ipv6(&name).await.map(|found| found.contains(&six)),
        };
        match back {
            Ok(true) => return Method::Pass,
            Ok(false) => {}
            Err(_) => result = Method::TempError,
        }
    }
    result
}
