//! How well connections to other domains were protected, counted by day and domain (RFC 8460).

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use rockdove_engine::{Command, Engine, EngineError, MemoKind};
use serde::{Deserialize, Serialize};

use super::sts::Policy;
use crate::{
    net::peer::{Doubt, Tlsa},
    runtime::clock,
    services::Services,
};

/// Seconds of a day.
pub(super) const DAY_S: i64 = 24 * 60 * 60;
/// Results are written down this often; a crash takes what came since.
const WRITE_EVERY_MS: u64 = 30_000;
/// Days and domains that wait to be written down; more are not counted.
const WAITING_MAX: usize = 20_000;
/// Policies of one domain on one day, and kinds of trouble of one policy, that are told apart.
const POLICIES_MAX: usize = 8;
const TROUBLES_MAX: usize = 64;

/// What was wrong, in the words of RFC 8460 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    StartTls,
    OtherName,
    Expired,
    NotTrusted,
    Validation,
    Tlsa,
    DnssecInvalid,
    StsPolicyFetch,
    StsPolicyInvalid,
    StsWebpki,
}

impl Trouble {
    pub(super) fn of(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Expired => Self::Expired,
            Doubt::OtherName => Self::OtherName,
            Doubt::NotTrusted => Self::NotTrusted,
            Doubt::NotInDns => Self::Tlsa,
            Doubt::Broken => Self::Validation,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::StartTls => "starttls-not-supported",
            Self::OtherName => "certificate-host-mismatch",
            Self::Expired => "certificate-expired",
            Self::NotTrusted => "certificate-not-trusted",
            Self::Validation => "validation-failure",
            Self::Tlsa => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::StsPolicyFetch => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpki => "sts-webpki-invalid",
        }
    }
}

/// What asks for protection.
#[derive(Clone, Debug)]
pub(super) enum Policed {
    /// Nothing.
    Nothing,
    /// A policy; `None` when it could not be had.
    Sts(Option<Arc<Policy>>),
    /// TLSA records of this exchanger.
    Dane(String, Arc<[Tlsa]>),
}

impl Policed {
    fn counted(&self) -> Counted {
        match self {
            Self::Nothing => Counted { kind: "no-policy-found".to_owned(), ..Counted::default() },
            Self::Sts(policy) => Counted {
                kind: "sts".to_owned(),
                lines: policy.as_ref().map(|policy| policy.lines.clone()).unwrap_or_default(),
                patterns: policy.as_ref().map(|policy| policy.patterns().to_vec()).unwrap_or_default(),
                ..Counted::default()
            },
            Self::Dane(host, records) => Counted {
                kind: "tlsa".to_owned(),
                host: Some(host.clone()),
                lines: records.iter().map(Tlsa::to_string).collect(),
                ..Counted::default()
            },
        }
    }
}

/// What a day has brought of one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Day {
    pub(super) policies: Vec<Counted>,
}

/// What was counted under one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) kind: String,
    /// The exchanger that it is about, where it is not about the domain.
    pub(super) host: Option<String>,
    pub(super) lines: Vec<String>,
    pub(super) patterns: Vec<String>,
    pub(super) good: u64,
    pub(super) bad: u64,
    pub(super) troubles: Vec<Troubles>,
}

/// Connections with the same trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Troubles {
    pub(super) result: String,
    pub(super) exchanger: String,
    pub(super) address: Option<IpAddr>,
    pub(super) from: Option<IpAddr>,
    pub(super) count: u64,
}

impl Day {
    fn policy(&mut self, counted: Counted) -> Option<&mut Counted> {
        let same = |known: &Counted| {
            (&known.kind, &known.host, &known.lines) == (&counted.kind, &counted.host, &counted.lines)
        };
        if let Some(place) = self.policies.iter().position(same) {
            return self.policies.get_mut(place);
        }
        if self.policies.len() >= POLICIES_MAX {
            return None;
        }
        self.policies.push(counted);
        self.policies.last_mut()
    }

    /// Adds what was counted elsewhere.
    fn add(&mut self, other: Self) {
        for counted in other.policies {
            let (good, bad) = (counted.good, counted.bad);
            let (troubles, empty) = (counted.troubles, Counted { good: 0, bad: 0, troubles: Vec::new(), ..counted });
            let Some(known) = self.policy(empty) else { continue };
            known.good = known.good.saturating_add(good);
            known.bad = known.bad.saturating_add(bad);
            for trouble in troubles {
                known.trouble(trouble);
            }
        }
    }
}

impl Counted {
    fn trouble(&mut self, new: Troubles) {
        let same = |known: &&mut Troubles| {
            (&known.result, &known.exchanger, known.address, known.from)
                == (&new.result, &new.exchanger, new.address, new.from)
        };
        if let Some(known) = self.troubles.iter_mut().find(same) {
            known.count = known.count.saturating_add(new.count);
        } else if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(new);
        }
    }
}

/// Counts that are not written down yet.
#[derive(Default)]
pub(super) struct Results {
    waiting: RefCell<BTreeMap<String, Day>>,
    written_ms: Cell<u64>,
    /// They are being written down.
    writing: Rc<Cell<bool>>,
}

/// The name of a day of a domain: days sort before domains.
pub(super) fn name(unix_s: i64, domain: &str) -> String {
    format!("{:08} {domain}", unix_s.div_euclid(DAY_S))
}

/// The day and the domain of a name.
pub(super) fn parts(name: &str) -> Option<(i64, &str)> {
    let (day, domain) = name.split_once(' ')?;
    Some((day.parse().ok()?, domain))
}

impl Results {
    /// A connection was as it should be.
    pub(super) fn success(&self, domain: &str, policed: &Policed) {
        self.count(domain, policed, |counted| counted.good = counted.good.saturating_add(1));
    }

    /// One was not, or could not be made. `server`: its name, and the addresses of both sides.
    pub(super) fn trouble(
        &self,
        domain: &str,
        policed: &Policed,
        (exchanger, addresses): (&str, Option<(IpAddr, IpAddr)>),
        trouble: Trouble,
    ) {
        metrics::counter!("rockdove_outbound_tls_trouble_total", "what" => trouble.name()).increment(1);
        tracing::info!(
            domain,
            server = exchanger,
            what = trouble.name(),
            "a connection is not protected as it should be"
        );
        self.count(domain, policed, |counted| {
            counted.bad = counted.bad.saturating_add(1);
            counted.trouble(Troubles {
                result: trouble.name().to_owned(),
                exchanger: exchanger.to_owned(),
                address: addresses.map(|(address, _)| address),
                from: addresses.map(|(_, from)| from),
                count: 1,
            });
        });
    }

    fn count(&self, domain: &str, policed: &Policed, change: impl FnOnce(&mut Counted)) {
        let mut waiting = self.waiting.borrow_mut();
        let name = name(clock::now().unix_s, domain);
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&name) {
            return;
        }
        if let Some(counted) = waiting.entry(name).or_default().policy(policed.counted()) {
            change(counted);
        }
    }

    /// Writes down what waits, when it is time or `now`. Resolves when that is done.
    pub(super) async fn write(&self, services: &Arc<Services>, now: bool) {
        let at = clock::monotonic_ms();
        let is_due = now || at.saturating_sub(self.written_ms.get()) >= WRITE_EVERY_MS;
        if !is_due || self.writing.get() || self.waiting.borrow().is_empty() {
            return;
        }
        self.written_ms.set(at);
        self.writing.set(true);
        let waiting = self.waiting.take();
        let (tell, told) = tokio::sync::oneshot::channel();
        let engine = Arc::clone(&services.engine);
        let unix_s = clock::now().unix_s;
        let job = move || drop(tell.send(write_down(&engine, unix_s, waiting)));
        let outcome = match services.storage.run(job) {
            Ok(()) => told.await.map_err(|_| "the server stops".to_owned()),
            Err(_) => Err("too much else is to be done".to_owned()),
        };
        self.writing.set(false);
        if let Err(why) = outcome.and_then(|written| written.map_err(|error| error.to_string())) {
            tracing::warn!(why, "how well connections were protected could not be written down");
        }
    }
}

fn write_down(engine: &Engine, unix_s: i64, waiting: BTreeMap<String, Day>) -> Result<(), EngineError> {
    let mut changes = Vec::with_capacity(waiting.len());
    for (name, new) in waiting {
        let mut day = day(engine, &name)?;
        day.add(new);
        let row = serde_json::to_vec(&day).map_err(|error| EngineError::Invalid(error.to_string()))?;
        changes.push((MemoKind::TlsResults, name, Some(Bytes::from(row))));
    }
    engine.execute(unix_s, Command::Memo { changes }).map(|_| ())
}

/// What was counted on a day. May block.
pub(super) fn day(engine: &Engine, name: &str) -> Result<Day, EngineError> {
    let row = engine.memo(MemoKind::TlsResults, name)?;
    Ok(row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_added_up() {
        let trouble = |result: &str, count| Troubles { result: result.into(), count, ..Troubles::default() };
        let counted = |good, bad, troubles| Counted { kind: "sts".into(), good, bad, troubles, ..Counted::default() };
        let mut day = Day { policies: vec![counted(1, 2, vec![trouble("a", 2)])] };
        day.add(Day { policies: vec![counted(3, 2, vec![trouble("a", 1), trouble("b", 1)])] });
        assert_eq!(day.policies, [counted(4, 4, vec![trouble("a", 3), trouble("b", 1)])]);
        let kept: Day = serde_json::from_slice(&serde_json::to_vec(&day).expect("JSON")).expect("JSON");
        assert_eq!(kept, day);
        assert_eq!(parts(&name(86_400 * 20_000 + 5, "a.example")), Some((20_000, "a.example")));
    }
}
