//! MTA-STS (RFC 8461): what other domains ask for of connections to their exchangers, looked up, fetched and kept.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use rockdove_engine::{Command, Engine, EngineError, MemoKind};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{connect::is_elsewhere, results::Trouble};
use crate::{
    config::Config,
    dns::{Dns, DnsFailure},
    net::{
        https::{Ask, HttpsFailure},
        peer::PeerDialer,
    },
    runtime::clock,
    services::Services,
};

/// Octets of a policy; RFC 8461 section 3.3 suggests 64 KiB.
const POLICY_OCTETS_MAX: usize = 64 * 1024;
/// Patterns of a policy.
const PATTERNS_MAX: usize = 100;
/// The longest life of a policy (RFC 8461 section 3.2).
const MAX_AGE_MOST_S: u64 = 31_557_600;
/// A policy that is older is fetched again although its id has not changed (RFC 8461 section 3.3: daily).
const REFRESH_S: i64 = 24 * 60 * 60;
/// Pause after a policy could not be fetched (RFC 8461 section 3.3: five minutes or longer).
const FETCH_AGAIN_MS: u64 = 5 * 60 * 1000;
/// Domains whose policies are kept in memory.
const DOMAINS_MAX: usize = 10_000;

/// Policies that are looked at in one go when dead ones are removed.
const SWEPT_AT_ONCE: usize = 100;

/// How a policy is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is sent where it cannot be kept to.
    Enforce,
    /// It is only told where it cannot.
    Testing,
    /// Not at all any more.
    None,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) mode: Mode,
    /// Names of exchangers, with `*.` for one label.
    patterns: Vec<String>,
    max_age_s: u64,
    /// Its lines, for reports.
    pub(super) lines: Vec<String>,
}

impl Policy {
    /// Reads a policy (RFC 8461 section 3.2). `None` when it is none.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<String> =
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        let fields = lines.iter().map(|line| line.split_once(':').map(|(key, value)| (key.trim_end(), value.trim())));
        let fields: Vec<(&str, &str)> = fields.collect::<Option<_>>()?;
        // Of a field that may be there once, the first counts.
        let first = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        if first("version")? != "STSv1" {
            return None;
        }
        let mode = match first("mode")? {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            _ => return None,
        };
        let digits =
            first("max_age").filter(|age| !age.is_empty() && age.bytes().all(|digit| digit.is_ascii_digit()))?;
        let max_age_s = digits.parse().unwrap_or(u64::MAX).min(MAX_AGE_MOST_S);
        let patterns: Vec<String> =
            fields.iter().filter(|(key, _)| *key == "mx").map(|(_, value)| value.to_ascii_lowercase()).collect();
        if patterns.len() > PATTERNS_MAX || patterns.is_empty() && mode != Mode::None {
            return None;
        }
        Some(Self { mode, patterns, max_age_s, lines })
    }

    /// Whether an exchanger, in lower case, is one of those that it names (RFC 8461 section 4.1).
    pub(super) fn names(&self, exchanger: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(rest) => exchanger.split_once('.').is_some_and(|(label, behind)| !label.is_empty() && behind == rest),
            None => pattern == exchanger,
        })
    }

    /// The patterns, for reports.
    pub(super) fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

/// The id in the record of a domain. `None` when there is no record, or more than one (RFC 8461 section 3.1).
fn id_of(texts: &[String]) -> Option<&str> {
    let mut records = texts.iter().filter(|text| text.split(';').next().is_some_and(|head| head.trim() == "v=STSv1"));
    let (record, None) = (records.next()?, records.next()) else { return None };
    let id = record.split(';').find_map(|field| field.trim().strip_prefix("id="))?.trim();
    ((1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric())).then_some(id)
}

/// What is kept of a policy.
#[derive(Serialize, Deserialize)]
struct Row {
    id: String,
    fetched_unix_s: i64,
    text: String,
}

#[derive(Clone)]
struct Kept {
    id: String,
    fetched_unix_s: i64,
    policy: Arc<Policy>,
}

impl Kept {
    fn of(row: &[u8]) -> Option<Self> {
        let row: Row = serde_json::from_slice(row).ok()?;
        Some(Self { id: row.id, fetched_unix_s: row.fetched_unix_s, policy: Arc::new(Policy::parse(&row.text)?) })
    }

    fn is_alive(&self, now_unix_s: i64) -> bool {
        let age = u64::try_from(now_unix_s.saturating_sub(self.fetched_unix_s)).unwrap_or(0);
        age < self.policy.max_age_s
    }
}

#[derive(Default)]
struct Known {
    /// What is in the store has been looked at.
    read: bool,
    kept: Option<Kept>,
    /// When it may be fetched again after that has failed.
    fetch_from_ms: u64,
}

/// What is known of a domain, and what was wrong when it was looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The policy to keep to.
    pub(super) policy: Option<Arc<Policy>>,
    /// A policy was announced and could not be had.
    pub(super) trouble: Option<Trouble>,
}

/// The policies.
#[derive(Default)]
pub(super) struct Policies {
    domains: RefCell<BTreeMap<String, Rc<Mutex<Known>>>>,
}

/// What the policies need of their surroundings.
pub(super) struct Surroundings<'a> {
    pub(super) services: &'a Arc<Services>,
    pub(super) config: &'a Config,
    pub(super) dns: &'a Dns,
    pub(super) dialer: &'a PeerDialer,
}

impl Policies {
    /// The policy of a domain that is in force now.
    pub(super) async fn of(&self, around: &Surroundings<'_>, domain: &str) -> Found {
        let known = self.known(domain);
        // One looks it up, the others wait for what it finds.
        let mut known = known.lock().await;
        if !known.read {
            known.kept = read(around.services, domain).await;
            known.read = true;
        }
        let now = clock::now().unix_s;
        known.kept = known.kept.take().filter(|kept| kept.is_alive(now));
        let mut trouble = None;
        match around.dns.texts(&format!("_mta-sts.{domain}")).await {
            Ok(texts) => {
                if let Some(id) = id_of(&texts) {
                    trouble = self.refresh(&mut known, around, domain, id).await;
                }
            }
            // RFC 8461 section 5.1: what is kept stays in force as long as it lives.
            Err(DnsFailure::Nothing | DnsFailure::NoMail) => {}
            Err(failure) => tracing::debug!(domain, %failure, "no record for MTA-STS can be had"),
        }
        let policy = known.kept.as_ref().map(|kept| Arc::clone(&kept.policy));
        Found { policy: policy.filter(|policy| policy.mode != Mode::None), trouble }
    }

    fn known(&self, domain: &str) -> Rc<Mutex<Known>> {
        let mut domains = self.domains.borrow_mut();
        if domains.len() >= DOMAINS_MAX {
            // What somebody waits for stays; the rest is read again from the store.
            domains.retain(|_, known| Rc::strong_count(known) > 1);
        }
        Rc::clone(domains.entry(domain.to_owned()).or_default())
    }

    async fn refresh(&self, known: &mut Known, around: &Surroundings<'_>, domain: &str, id: &str) -> Option<Trouble> {
        let now = clock::now();
        let fresh = known
            .kept
            .as_ref()
            .is_some_and(|kept| kept.id == id && now.unix_s.saturating_sub(kept.fetched_unix_s) < REFRESH_S);
        if fresh || now.monotonic_ms < known.fetch_from_ms {
            return None;
        }
        match fetch(around, domain).await {
            Ok((text, policy)) => {
                let row = Row { id: id.to_owned(), fetched_unix_s: now.unix_s, text };
                keep(around.services, domain, serde_json::to_vec(&row).ok());
                known.kept = Some(Kept { id: row.id, fetched_unix_s: now.unix_s, policy: Arc::new(policy) });
                None
            }
            Err((trouble, why)) => {
                tracing::warn!(domain, why, "a policy for mail to this domain cannot be had (MTA-STS)");
                known.fetch_from_ms = now.monotonic_ms.saturating_add(FETCH_AGAIN_MS);
                Some(trouble)
            }
        }
    }
}

/// Forgets what has no force any more, among those behind `after`. Gives the last that was looked at. May block.
pub(super) fn forget_dead(engine: &Engine, now_unix_s: i64, after: &str) -> Result<Option<String>, EngineError> {
    let names = engine.memos(MemoKind::StsPolicy, after, SWEPT_AT_ONCE)?;
    let mut changes = Vec::new();
    for name in &names {
        let row = engine.memo(MemoKind::StsPolicy, name)?;
        if row.is_some_and(|row| Kept::of(&row).is_none_or(|kept| !kept.is_alive(now_unix_s))) {
            changes.push((MemoKind::StsPolicy, name.clone(), None));
        }
    }
    if !changes.is_empty() {
        engine.execute(now_unix_s, Command::Memo { changes })?;
    }
    Ok(names.last().cloned())
}

async fn read(services: &Arc<Services>, domain: &str) -> Option<Kept> {
    let (engine, domain) = (Arc::clone(&services.engine), domain.to_owned());
    let (tell, told) = tokio::sync::oneshot::channel();
    let job = move || drop(tell.send(engine.memo(MemoKind::StsPolicy, &domain)));
    services.storage.run(job).ok()?;
    Kept::of(&told.await.ok()?.ok()??)
}

/// Keeps a row, or forgets it.
fn keep(services: &Services, domain: &str, row: Option<Vec<u8>>) {
    let changes = vec![(MemoKind::StsPolicy, domain.to_owned(), row.map(Bytes::from))];
    let domain = domain.to_owned();
    services.engine.submit(
        clock::now().unix_s,
        Command::Memo { changes },
        Box::new(move |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(domain, %error, "a policy cannot be kept: it will be fetched again after the next start");
            }
        }),
    );
}

async fn fetch(around: &Surroundings<'_>, domain: &str) -> Result<(String, Policy), (Trouble, String)> {
    let host = format!("mta-sts.{domain}");
    let failed = |why: String| (Trouble::StsPolicyFetch, why);
    let answer = around.dns.addresses(&host).await.map_err(|failure| failed(failure.to_string()))?;
    let may = |address: &IpAddr| around.config.outbound.loopback || is_elsewhere(*address);
    let port = around.config.outbound.mta_sts_port;
    let addresses: Vec<SocketAddr> =
        answer.found.into_iter().filter(may).map(|address| SocketAddr::new(address, port)).collect();
    let ask = Ask {
        host: &host,
        addresses: &addresses,
        path: "/.well-known/mta-sts.txt",
        content: None,
        octets_max: POLICY_OCTETS_MAX,
    };
    let answered = around.dialer.https(&ask).await.map_err(|failure| match failure {
        HttpsFailure::Untrusted(_) => (Trouble::StsWebpki, failure.to_string()),
        HttpsFailure::Status(_) | HttpsFailure::Unreachable(_) => failed(failure.to_string()),
    })?;
    let invalid = |why: &str| (Trouble::StsPolicyInvalid, why.to_owned());
    if !answered.media_type.starts_with("text/plain") {
        return Err(invalid("its media type is not text/plain"));
    }
    let text = String::from_utf8(answered.content.to_vec()).map_err(|_| invalid("it is no text"))?;
    let policy = Policy::parse(&text).ok_or_else(|| invalid("it is no policy"))?;
    Ok((text, policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: Mail.a.example\r\nmx: *.b.example\r\nmax_age: 604800\r\n";

    #[test]
    fn policies_are_read() {
        let policy = Policy::parse(GOOD).expect("good");
        assert_eq!((policy.mode, policy.max_age_s), (Mode::Enforce, 604_800));
        for (name, expected) in [
            ("mail.a.example", true),
            ("x.mail.a.example", false),
            ("x.b.example", true),
            ("b.example", false),
            ("y.x.b.example", false),
            (".b.example", false),
        ] {
            assert_eq!(policy.names(name), expected, "{name}");
        }
        let long = Policy::parse("version: STSv1\nmode: none\nmax_age: 99999999999999999999999\nx: y\n").expect("good");
        assert_eq!((long.mode, long.max_age_s), (Mode::None, MAX_AGE_MOST_S));
        for bad in [
            "",
            "version: STSv2\nmode: none\nmax_age: 1",
            "version: STSv1\nmode: enforce\nmax_age: 1",
            "version: STSv1\nmode: perhaps\nmx: a\nmax_age: 1",
            "version: STSv1\nmode: testing\nmx: a\nmax_age: -1",
            "version: STSv1\nmode: testing\nmx: a",
            "<html>\nversion: STSv1\nmode: none\nmax_age: 1",
        ] {
            assert_eq!(Policy::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn records_are_read() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(id_of(&texts(&["x", "v=STSv1; id=20260101;"])), Some("20260101"));
        assert_eq!(id_of(&texts(&["v=STSv1;id=1"])), Some("1"));
        for bad in
            [&["v=STSv1; id=1", "v=STSv1; id=2"][..], &["v=STSv10; id=1"], &["v=STSv1"], &["v=STSv1; id=a b"], &[]]
        {
            assert_eq!(id_of(&texts(bad)), None, "{bad:?}");
        }
    }
}
