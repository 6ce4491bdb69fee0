//! `check_host()` (section 4).

use std::{net::IpAddr, pin::Pin};

use super::{
    Client, LOOKUPS_MAX, NAMES_MAX, SpfResult, VOID_LOOKUPS_MAX,
    expand::{Values, expand, expand_domain},
    parse::{self, Lengths, Mechanism, Piece, Record},
};
use crate::dns::{DnsFailure, Records, is_name};

/// Why there is no result but an error.
enum Stop {
    Temporary,
    Permanent,
}

impl From<DnsFailure> for Stop {
    fn from(_: DnsFailure) -> Self {
        Self::Temporary
    }
}

type Evaluated<'a> = Pin<Box<dyn Future<Output = Result<Found, Stop>> + Send + 'a>>;

/// What the record of a domain says.
struct Found {
    result: SpfResult,
    /// The name of its explanation, and the domain of the record that names it.
    explanation: Option<(String, String)>,
}

/// One check of one identity.
pub(super) struct Check<'a, R> {
    records: &'a R,
    client: Client<'a>,
    local: &'a str,
    sender_domain: &'a str,
    lookups: usize,
    voids: usize,
    /// The name for `%{p}`, when it was needed.
    validated: Option<String>,
}

impl<'a, R: Records> Check<'a, R> {
    pub(super) fn new(records: &'a R, client: Client<'a>, local: &'a str, sender_domain: &'a str) -> Self {
        let client = Client { ip: client.ip.to_canonical(), ..client };
        Self { records, client, local, sender_domain, lookups: 0, voids: 0, validated: None }
    }

    pub(super) async fn check_host(mut self) -> (SpfResult, Option<String>) {
        let domain = self.sender_domain.strip_suffix('.').unwrap_or(self.sender_domain);
        match self.evaluate(domain.to_owned()).await {
            Ok(found) => {
                let explanation = match found.explanation {
                    Some((name, domain)) => self.explain(&name, &domain).await,
                    None => None,
                };
                (found.result, explanation)
            }
            Err(Stop::Temporary) => (SpfResult::TempError, None),
            Err(Stop::Permanent) => (SpfResult::PermError, None),
        }
    }

    fn evaluate(&mut self, domain: String) -> Evaluated<'_> {
        Box::pin(async move {
            let Some(record) = self.fetch(&domain).await? else {
                return Ok(Found { result: SpfResult::None, explanation: None });
            };
            for directive in &record.directives {
                if self.matches(&directive.mechanism, &domain).await? {
                    let explanation = match (&record.explanation, directive.result) {
                        (Some(text), SpfResult::Fail) => Some((self.target(text, &domain).await, domain)),
                        _ => None,
                    };
                    return Ok(Found { result: directive.result, explanation });
                }
            }
            let Some(redirect) = &record.redirect else {
                return Ok(Found { result: SpfResult::Neutral, explanation: None });
            };
            self.count_lookup()?;
            let target = self.target(redirect, &domain).await;
            let found = self.evaluate(target).await?;
            if found.result == SpfResult::None { Err(Stop::Permanent) } else { Ok(found) }
        })
    }

    /// The record of a domain (sections 4.3 to 4.6).
    async fn fetch(&mut self, domain: &str) -> Result<Option<Record>, Stop> {
        if !is_name(domain) || !domain.contains('.') {
            return Ok(None);
        }
        let texts = self.records.txt(domain).await?;
        let mut found = texts.iter().filter_map(|text| parse::after_version(text));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(terms), None) => parse::record(terms).map(Some).ok_or(Stop::Permanent),
            (Some(_), Some(_)) => Err(Stop::Permanent),
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => return Ok(true),
            Mechanism::Ip4(network, length) => return Ok(within(self.client.ip, IpAddr::V4(*network), *length)),
            Mechanism::Ip6(network, length) => return Ok(within(self.client.ip, IpAddr::V6(*network), *length)),
            _ => self.count_lookup()?,
        }
        match mechanism {
            Mechanism::Include(text) => {
                let target = self.target(text, domain).await;
                match self.evaluate(target).await?.result {
                    SpfResult::Pass => Ok(true),
                    SpfResult::None => Err(Stop::Permanent),
                    _ => Ok(false),
                }
            }
            Mechanism::A(text, lengths) => {
                let target = self.optional_target(text, domain).await;
                self.is_at(&target, *lengths).await
            }
            Mechanism::Mx(text, lengths) => {
                let target = self.optional_target(text, domain).await;
                self.is_exchanger(&target, *lengths).await
            }
            Mechanism::Ptr(text) => {
                let target = self.optional_target(text, domain).await;
                let below = format!(".{target}");
                let names = self.validated_names().await;
                Ok(names.iter().any(|name| name.eq_ignore_ascii_case(&target) || ends_with(name, &below)))
            }
            Mechanism::Exists(text) => {
                let target = self.target(text, domain).await;
                let found = !self.records.ipv4(&target).await?.is_empty();
                self.count_void(!found)?;
                Ok(found)
            }
            Mechanism::All | Mechanism::Ip4(..) | Mechanism::Ip6(..) => Ok(false),
        }
    }

    fn count_lookup(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > LOOKUPS_MAX { Err(Stop::Permanent) } else { Ok(()) }
    }

    fn count_void(&mut self, is_void: bool) -> Result<(), Stop> {
        self.voids += usize::from(is_void);
        if self.voids > VOID_LOOKUPS_MAX { Err(Stop::Permanent) } else { Ok(()) }
    }

    /// Addresses of a name, of the client's version.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        Ok(match self.client.ip {
            IpAddr::V4(_) => self.records.ipv4(name).await?.into_iter().map(IpAddr::V4).collect(),
            IpAddr::V6(_) => self.records.ipv6(name).await?.into_iter().map(IpAddr::V6).collect(),
        })
    }

    async fn is_at(&mut self, name: &str, lengths: Lengths) -> Result<bool, Stop> {
        let addresses = self.addresses(name).await?;
        self.count_void(addresses.is_empty())?;
        let ip = self.client.ip;
        let length = if ip.is_ipv4() { lengths.four } else { lengths.six };
        Ok(addresses.into_iter().any(|address| within(ip, address, length)))
    }

    async fn is_exchanger(&mut self, domain: &str, lengths: Lengths) -> Result<bool, Stop> {
        let exchangers = self.records.mx(domain).await?;
        self.count_void(exchangers.is_empty())?;
        if exchangers.len() > NAMES_MAX {
            return Err(Stop::Permanent);
        }
        for exchanger in exchangers {
            if self.is_at(&exchanger, lengths).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names of the client that lead back to it (section 5.5). Trouble is no name.
    async fn validated_names(&self) -> Vec<String> {
        let names = self.records.ptr(self.client.ip).await.unwrap_or_default();
        let mut validated = Vec::new();
        for name in names.into_iter().take(NAMES_MAX) {
            if self.addresses(&name).await.unwrap_or_default().contains(&self.client.ip) {
                validated.push(name);
            }
        }
        validated
    }

    async fn optional_target(&mut self, text: &[Piece], domain: &str) -> String {
        if text.is_empty() { domain.to_owned() } else { self.target(text, domain).await }
    }

    /// The domain that a text stands for.
    async fn target(&mut self, text: &[Piece], domain: &str) -> String {
        self.find_validated(text, domain).await;
        expand_domain(text, &self.values(domain))
    }

    fn values<'b>(&'b self, domain: &'b str) -> Values<'b> {
        Values {
            client: self.client,
            local: self.local,
            sender_domain: self.sender_domain,
            domain,
            validated: self.validated.as_deref().unwrap_or("unknown"),
        }
    }

    /// Looks for what `%{p}` stands for, when the text has one: the domain itself, one below it, or any (section 7.3).
    async fn find_validated(&mut self, text: &[Piece], domain: &str) {
        let needs = |piece: &Piece| matches!(piece, Piece::Macro(what) if what.letter == b'p');
        if self.validated.is_some() || !text.iter().any(needs) {
            return;
        }
        let names = self.validated_names().await;
        let below = format!(".{domain}");
        let same = names.iter().find(|name| name.eq_ignore_ascii_case(domain));
        let name = same.or_else(|| names.iter().find(|name| ends_with(name, &below))).or_else(|| names.first());
        self.validated = Some(name.map_or("unknown", String::as_str).to_owned());
    }

    /// The explanation at a name (section 6.2). Trouble is no explanation.
    async fn explain(&mut self, name: &str, domain: &str) -> Option<String> {
        let texts = self.records.txt(name).await.ok()?;
        let [text] = texts.as_slice() else { return None };
        let text = std::str::from_utf8(text).ok()?;
        let pieces = parse::macro_string(text, true)?;
        self.find_validated(&pieces, domain).await;
        let explanation = expand(&pieces, &self.values(domain));
        explanation.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()).then_some(explanation)
    }
}

fn ends_with(name: &str, end: &str) -> bool {
    name.len().checked_sub(end.len()).and_then(|at| name.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// Whether the first `length` bits of two addresses are the same.
fn within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let same = |difference: u128, bits: u32| length == 0 || difference >> bits.saturating_sub(length) == 0;
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => same(u128::from(address.to_bits() ^ network.to_bits()), 32),
        (IpAddr::V6(address), IpAddr::V6(network)) => same(address.to_bits() ^ network.to_bits(), 128),
        _ => false,
    }
}
