//! DMARC (RFC 9989): what the domain of an author wants done with mail that it cannot be shown to have sent.
//!
//! Why not `mail-auth`, which checks signatures for us: 0.13 takes the first of several records where section 4.10 demands
//! that all are discarded, gives up on a record with a wrong tag that section 4.8 says to ignore, lets mail with authors of
//! several domains pass, and does not say whose policy it applied, which reports need.

use std::fmt;

use super::spf::SpfResult;
use crate::dns::{DnsFailure, Records, ascii_domain};

/// Labels from which on names are skipped by a walk up the tree (section 4.10), which bounds it to eight questions.
const LABELS_MANY: usize = 8;
/// Addresses for reports that are taken from a record.
const REPORT_ADDRESSES_MAX: usize = 8;

/// What is to be done with mail that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Policy {
    /// Nothing.
    None,
    /// It is suspicious.
    Quarantine,
    /// It is to be refused.
    Reject,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        })
    }
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DmarcResult {
    /// The domain has no policy.
    None,
    /// The domain has sent it.
    Pass,
    /// It cannot be shown that the domain has sent it.
    Fail,
    /// It could not be found out now.
    TempError,
}

impl fmt::Display for DmarcResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
        })
    }
}

/// Whether a record is that of a public suffix (section 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PublicSuffix {
    Yes,
    No,
    #[default]
    Unsaid,
}

/// Which domains are as good as that of the author (section 4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Alignment {
    /// All of the same organization.
    #[default]
    Relaxed,
    /// None.
    Strict,
}

/// A policy record (section 4.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PolicyRecord {
    /// `p`
    pub p: Policy,
    /// `sp`
    pub sp: Option<Policy>,
    /// `np`
    pub np: Option<Policy>,
    /// `adkim`
    pub dkim: Alignment,
    /// `aspf`
    pub spf: Alignment,
    /// `t=y`
    pub testing: bool,
    /// `rua`: addresses of `mailto:` that want aggregate reports.
    pub rua: Vec<String>,
    public_suffix: PublicSuffix,
    /// Without a valid `p` and without `rua` there is no DMARC (section 4.10.1).
    applies: bool,
}

/// A record and the domain that publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// The domain.
    pub domain: String,
    /// What it publishes.
    pub record: PolicyRecord,
}

/// What was found out about one author's domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dmarc {
    /// The domain.
    pub domain: String,
    /// The result.
    pub result: DmarcResult,
    /// What its owner wants done with mail that fails.
    pub policy: Policy,
    /// Where the policy is from.
    pub published: Option<Published>,
    /// A signature of the domain holds.
    pub dkim_aligned: bool,
    /// The sender of the envelope is of the domain, and SPF passes.
    pub spf_aligned: bool,
}

/// A domain that was shown to have to do with a message, or may be shown when the DNS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    /// The domain.
    pub domain: &'a str,
    /// It could not be found out now.
    pub temporary: bool,
}

impl<'a> Identity<'a> {
    /// Of the result of SPF; `None` when it shows nothing.
    pub(super) fn of_spf(domain: &'a str, result: SpfResult) -> Option<Self> {
        match result {
            SpfResult::Pass => Some(Self { domain, temporary: false }),
            SpfResult::TempError => Some(Self { domain, temporary: true }),
            _ => None,
        }
    }
}

/// Applies the policy of an author's domain, in the form of [`ascii_domain`].
pub(super) async fn check<R: Records>(
    records: &R,
    author: &str,
    spf: Option<Identity<'_>>,
    dkim: &[Identity<'_>],
) -> Dmarc {
    let mut dmarc = Dmarc {
        domain: author.to_owned(),
        result: DmarcResult::None,
        policy: Policy::None,
        published: None,
        dkim_aligned: false,
        spf_aligned: false,
    };
    if judge(records, &mut dmarc, spf, dkim).await.is_err() {
        dmarc.result = DmarcResult::TempError;
    }
    dmarc
}

async fn judge<R: Records>(
    records: &R,
    dmarc: &mut Dmarc,
    spf: Option<Identity<'_>>,
    dkim: &[Identity<'_>],
) -> Result<(), DnsFailure> {
    let author = dmarc.domain.clone();
    let walk = walk(records, &author).await?;
    let organization = organizational_domain(&walk, &author);
    let own = walk.iter().find(|found| found.domain == author);
    let above = || walk.iter().find(|found| found.domain == organization).or_else(|| walk.last());
    let Some(published) = own.or_else(above).filter(|published| published.record.applies) else { return Ok(()) };
    let record = &published.record;
    dmarc.policy = if own.is_some() { record.p } else { below(records, record, &author).await? };
    if record.testing {
        dmarc.policy = one_less(dmarc.policy);
    }
    dmarc.published = Some(published.clone());
    let mut doubtful = false;
    let mut aligned = false;
    for identity in dkim {
        if is_aligned(records, identity.domain, &author, &organization, record.dkim).await? {
            doubtful |= identity.temporary;
            dmarc.dkim_aligned |= !identity.temporary;
        }
    }
    if let Some(identity) = spf
        && is_aligned(records, identity.domain, &author, &organization, record.spf).await?
    {
        doubtful |= identity.temporary;
        dmarc.spf_aligned = !identity.temporary;
    }
    aligned |= dmarc.dkim_aligned || dmarc.spf_aligned;
    dmarc.result = match (aligned, doubtful) {
        (true, _) => DmarcResult::Pass,
        (false, true) => DmarcResult::TempError,
        (false, false) => DmarcResult::Fail,
    };
    Ok(())
}

/// The policy for a domain below the one that publishes it.
async fn below<R: Records>(records: &R, record: &PolicyRecord, author: &str) -> Result<Policy, DnsFailure> {
    let existing = record.sp.unwrap_or(record.p);
    match record.np {
        Some(missing) if missing != existing => Ok(if records.exists(author).await? { existing } else { missing }),
        _ => Ok(existing),
    }
}

/// Section 4.7, tag `t`.
fn one_less(policy: Policy) -> Policy {
    match policy {
        Policy::Reject => Policy::Quarantine,
        Policy::Quarantine | Policy::None => Policy::None,
    }
}

/// Section 4.4: the same domain, or, when that is not demanded, the same organization.
async fn is_aligned<R: Records>(
    records: &R,
    domain: &str,
    author: &str,
    organization: &str,
    alignment: Alignment,
) -> Result<bool, DnsFailure> {
    let Some(domain) = ascii_domain(domain) else { return Ok(false) };
    if domain == author {
        return Ok(true);
    }
    // An organization is above all its domains: where this is not so, nobody needs to be asked.
    let inside = domain.strip_suffix(organization).is_some_and(|front| front.is_empty() || front.ends_with('.'));
    if alignment == Alignment::Strict || !inside {
        return Ok(false);
    }
    let walk = walk(records, &domain).await?;
    Ok(organizational_domain(&walk, &domain) == organization)
}

/// The records of a domain and those above it, the longest name first (section 4.10).
async fn walk<R: Records>(records: &R, domain: &str) -> Result<Vec<Published>, DnsFailure> {
    let mut found = Vec::new();
    let labels: Vec<&str> = domain.split('.').collect();
    if labels.len() < 2 {
        return Ok(found);
    }
    let mut count = labels.len();
    while count > 0 {
        let name = labels[labels.len() - count..].join(".");
        let texts = records.txt(&format!("_dmarc.{name}")).await?;
        let mut policies = texts.iter().filter_map(|text| policy_record(text));
        // Several are none.
        if let (Some(record), None) = (policies.next(), policies.next()) {
            let ends = record.public_suffix != PublicSuffix::Unsaid;
            found.push(Published { domain: name, record });
            if ends {
                break;
            }
        }
        count = if count >= LABELS_MANY { LABELS_MANY - 1 } else { count - 1 };
    }
    Ok(found)
}

/// The organization that a domain belongs to, by what a walk from it has found (section 4.10.2).
fn organizational_domain(walk: &[Published], start: &str) -> String {
    for found in walk {
        match found.record.public_suffix {
            PublicSuffix::No => return found.domain.clone(),
            PublicSuffix::Yes if found.domain != start => return one_label_below(&found.domain, start),
            PublicSuffix::Yes | PublicSuffix::Unsaid => {}
        }
    }
    walk.last().map_or(start, |found| &found.domain).to_owned()
}

fn one_label_below(suffix: &str, domain: &str) -> String {
    let labels: Vec<&str> = domain.split('.').collect();
    let wanted = suffix.split('.').count() + 1;
    labels[labels.len().saturating_sub(wanted)..].join(".")
}

/// Reads a TXT record; `None` when it is none of DMARC.
pub(super) fn policy_record(text: &[u8]) -> Option<PolicyRecord> {
    let text = String::from_utf8_lossy(text);
    let mut tags = text.split(';').map(|tag| tag.split_once('=').map(|(name, value)| (name.trim(), value.trim())));
    if tags.next()? != Some(("v", "DMARC1")) {
        return None;
    }
    let mut record = PolicyRecord {
        p: Policy::None,
        sp: None,
        np: None,
        dkim: Alignment::Relaxed,
        spf: Alignment::Relaxed,
        testing: false,
        rua: Vec::new(),
        public_suffix: PublicSuffix::Unsaid,
        applies: false,
    };
    let (mut named, mut valid) = (false, true);
    for (name, value) in tags.flatten() {
        let is = |wanted: &str| value.eq_ignore_ascii_case(wanted);
        let policy = policy(value);
        match name {
            "p" => {
                named = policy.is_some();
                record.p = policy.unwrap_or(Policy::None);
            }
            "sp" | "np" => {
                valid &= policy.is_some();
                *(if name == "sp" { &mut record.sp } else { &mut record.np }) = policy;
            }
            "adkim" if is("s") => record.dkim = Alignment::Strict,
            "aspf" if is("s") => record.spf = Alignment::Strict,
            "t" => record.testing = is("y"),
            "psd" if is("y") => record.public_suffix = PublicSuffix::Yes,
            "psd" if is("n") => record.public_suffix = PublicSuffix::No,
            "rua" => record.rua = value.split(',').filter_map(report_address).take(REPORT_ADDRESSES_MAX).collect(),
            _ => {}
        }
    }
    if !(named && valid) {
        (record.p, record.sp, record.np) = (Policy::None, None, None);
    }
    record.applies = (named && valid) || !record.rua.is_empty();
    Some(record)
}

fn policy(value: &str) -> Option<Policy> {
    let named = |policy: &Policy| value.eq_ignore_ascii_case(&policy.to_string());
    [Policy::None, Policy::Quarantine, Policy::Reject].into_iter().find(named)
}

/// The address of a `mailto:` URI, with or without the size that used to be allowed behind it.
fn report_address(uri: &str) -> Option<String> {
    let uri = uri.trim();
    let (scheme, rest) = uri.split_once(':')?;
    let address = rest.split(['!', '?']).next().unwrap_or_default();
    let plain = address.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>()[],;:\\\"%".contains(&octet));
    let parts = address.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && ascii_domain(domain).is_some());
    (scheme.eq_ignore_ascii_case("mailto") && plain && parts.is_some()).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::zone::{Zone, now};

    /// `author spf-domain dkim-domain result policy`, where `-` is none and `?` marks what could not be found out.
    const CASES: &str = "
        a.example a.example - pass reject
        a.example - a.example pass reject
        a.example - - fail reject
        a.example sub.a.example - pass reject
        a.example b.example b.example fail reject
        a.example ?a.example - temperror reject
        a.example ?b.example - fail reject
        a.example ?a.example a.example pass reject
        strict.example sub.strict.example sub.strict.example fail quarantine
        strict.example strict.example - pass quarantine
        sub.a.example - a.example pass none
        sub.a.example - other.a.example pass none
        gone.sp.example - - fail reject
        here.sp.example - - fail quarantine
        own.a.example - - fail quarantine
        test.example - - fail quarantine
        only.example - - fail none
        nothing.example - - none none
        twice.example - - none none
        wrong.example - - none none
        badsp.example - - fail none
        giant.bank.example mega.bank.example - fail reject
        giant.bank.example x.giant.bank.example - pass reject
        new.bank.example - - fail quarantine
        a.mail.n.example b.mail.n.example - pass reject
        a.mail.n.example n.example - fail reject
        a.b.c.d.e.f.g.h.i.j.k.deep.example - deep.example pass reject
        slow.example - - temperror none
        localhost - - none none";

    const ZONE: &str = "
        _dmarc.a.example TXT v=DMARC1; p=reject; sp=none; rua=mailto:r@a.example!10m,https://x.example/, mailto:s@b.example
        _dmarc.own.a.example TXT v=DMARC1;p=quarantine
        _dmarc.strict.example TXT v=DMARC1; p=quarantine; adkim=s; aspf=s
        _dmarc.sp.example TXT v=DMARC1; p=none; sp=quarantine; np=reject
        here.sp.example A 192.0.2.1
        _dmarc.test.example TXT v=DMARC1; p=reject; t=y
        _dmarc.only.example TXT v=DMARC1; rua=mailto:r@only.example
        _dmarc.twice.example TXT v=DMARC1; p=reject
        _dmarc.twice.example TXT v=DMARC1; p=none
        _dmarc.wrong.example TXT v=DMARC2; p=reject
        _dmarc.badsp.example TXT v=DMARC1; p=reject; sp=sometimes; rua=mailto:r@badsp.example
        _dmarc.bank.example TXT v=DMARC1; p=quarantine; psd=y
        _dmarc.giant.bank.example TXT v=DMARC1; p=reject
        _dmarc.mail.n.example TXT v=DMARC1; p=reject; psd=n
        _dmarc.n.example TXT v=DMARC1; p=reject
        _dmarc.deep.example TXT v=DMARC1; p=reject
        _dmarc.slow.example TIMEOUT";

    #[test]
    fn policies_are_applied_as_they_are_published() {
        let zone = Zone::parse(ZONE);
        for case in CASES.lines().map(str::trim).filter(|case| !case.is_empty()) {
            let words: Vec<&str> = case.split(' ').collect();
            let identity = |word: &'static str| {
                let domain = word.trim_start_matches('?');
                (word != "-").then_some(Identity { domain, temporary: word.starts_with('?') })
            };
            let dkim: Vec<Identity<'_>> = identity(words[2]).into_iter().collect();
            let found = now(check(&zone, words[0], identity(words[1]), &dkim));
            assert_eq!(
                (found.result.to_string(), found.policy.to_string().as_str()),
                (words[3].into(), words[4]),
                "{case}"
            );
        }
    }

    #[test]
    fn records_are_read_with_their_mistakes() {
        let record = policy_record(
            b"v = DMARC1 ; p = Reject ; unknown=1; rua=mailto:a%40b@x.example,mailto:@x,mailto:r@x.example!5m",
        );
        let record = record.expect("a record");
        assert_eq!((record.p, record.rua.as_slice()), (Policy::Reject, ["r@x.example".to_owned()].as_slice()));
        for other in ["p=reject; v=DMARC1", "v=dmarc1; p=reject", "v=DMARC10", "", ";", "v=spf1 -all"] {
            assert_eq!(policy_record(other.as_bytes()), None, "{other}");
        }
    }
}
