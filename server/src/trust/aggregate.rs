//! What DMARC found, counted by period and domain, for aggregate reports (RFC 9990).

use std::collections::BTreeMap;

use mail_auth::report::{
    ActionDisposition, Alignment as Aligned, DKIMAuthResult, Discovery, Disposition, DkimResult,
    DmarcResult as Evaluated, PolicyOverride, PolicyOverrideReason, PolicyPublished, Record, Report, SPFAuthResult,
    SPFDomainScope, SpfResult as SpfWord,
};
use serde::{Deserialize, Serialize};

use super::{
    dmarc::{Alignment, Dmarc, DmarcResult, Policy, PolicyRecord, Published},
    judge::Judgement,
    results::Method,
    signatures::Signed,
    spf::{Spf, SpfResult},
    verify::{Arrival, Found},
};
use crate::config::{Check, TrustSettings};

/// Domains that wait in memory to be written; what is found about more is not counted.
const DOMAINS_MAX: usize = 2_000;
/// Different lines of one report.
const RECORDS_MAX: usize = 300;
/// Signatures of one line (RFC 9990 section 3.1.1.9 asks for those that matter).
const SIGNATURES_MAX: usize = 3;

/// What is known for one report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Addresses that want it.
    pub(super) rua: Vec<String>,
    /// The policy and the lines.
    pub(super) report: Report,
}

impl Kept {
    /// Adds what was counted elsewhere; lines that have no room are left out.
    pub(super) fn add(&mut self, other: Self) {
        let records = std::mem::take(&mut self.report.record);
        // The policy and the addresses are the newest ones.
        *self = other;
        for record in records {
            self.count(record);
        }
    }

    fn count(&mut self, record: Record) {
        let same = |known: &&mut Record| {
            known.identifiers == record.identifiers
                && known.auth_results == record.auth_results
                && known.row.source_ip == record.row.source_ip
                && known.row.policy_evaluated == record.row.policy_evaluated
        };
        let has_room = self.report.record.len() < RECORDS_MAX;
        match self.report.record.iter_mut().find(same) {
            Some(known) => known.row.count = known.row.count.saturating_add(record.row.count),
            None if has_room => self.report.record.push(record),
            None => metrics::counter!("rockdove_dmarc_report_lines_left_out_total").increment(1),
        }
    }
}

/// Counts until somebody takes them, by the first second of their period and the domain.
#[derive(Debug, Default)]
pub(super) struct Counts {
    kept: BTreeMap<(u64, String), Kept>,
}

impl Counts {
    /// Notes what was found about a message and done with it.
    pub(super) fn note(
        &mut self,
        settings: &TrustSettings,
        arrival: &Arrival<'_>,
        found: &Found,
        judgement: &Judgement,
    ) {
        let period_s = (settings.report_period.ms / 1000).max(1);
        let unix_s = u64::try_from(arrival.received_unix_s).unwrap_or(0);
        let begin = unix_s - unix_s % period_s;
        for dmarc in &found.dmarc {
            let Some(published) = dmarc.published.as_ref().filter(|published| !published.record.rua.is_empty()) else {
                continue;
            };
            if dmarc.result == DmarcResult::TempError {
                continue;
            }
            let key = (begin, published.domain.clone());
            if self.kept.len() >= DOMAINS_MAX && !self.kept.contains_key(&key) {
                metrics::counter!("rockdove_dmarc_report_lines_left_out_total").increment(1);
                continue;
            }
            let kept = self.kept.entry(key).or_insert_with(|| fresh(published, begin, begin + period_s - 1));
            kept.count(line(settings.dmarc, arrival, found, judgement, dmarc));
        }
    }

    /// All of it, which is then forgotten.
    pub(super) fn take(&mut self) -> BTreeMap<(u64, String), Kept> {
        std::mem::take(&mut self.kept)
    }
}

fn fresh(published: &Published, begin: u64, end: u64) -> Kept {
    let policy = policy_published(&published.domain, &published.record);
    let report = Report::new().with_date_range_begin(begin).with_date_range_end(end).with_policy_published(policy);
    Kept { rua: published.record.rua.clone(), report }
}

fn policy_published(domain: &str, record: &PolicyRecord) -> PolicyPublished {
    let aligned = |alignment| match alignment {
        Alignment::Relaxed => Aligned::Relaxed,
        Alignment::Strict => Aligned::Strict,
    };
    let below = record.sp.unwrap_or(record.p);
    PolicyPublished {
        domain: domain.to_owned(),
        adkim: aligned(record.dkim),
        aspf: aligned(record.spf),
        p: disposition(record.p),
        sp: disposition(below),
        np: disposition(record.np.unwrap_or(below)),
        testing: record.testing,
        discovery_method: Discovery::Treewalk,
        ..PolicyPublished::default()
    }
}

fn disposition(policy: Policy) -> Disposition {
    match policy {
        Policy::None => Disposition::None,
        Policy::Quarantine => Disposition::Quarantine,
        Policy::Reject => Disposition::Reject,
    }
}

fn line(check: Check, arrival: &Arrival<'_>, found: &Found, judgement: &Judgement, dmarc: &Dmarc) -> Record {
    let evaluated = |aligned| if aligned { Evaluated::Pass } else { Evaluated::Fail };
    let (action, reason) = action(check, judgement, dmarc);
    let sender = arrival.reverse_path.map(|path| path.domain.to_ascii_lowercase()).unwrap_or_default();
    let mut record = Record::new()
        .with_source_ip(arrival.address)
        .with_count(1)
        .with_action_disposition(action)
        .with_dmarc_dkim_result(evaluated(dmarc.dkim_aligned))
        .with_dmarc_spf_result(evaluated(dmarc.spf_aligned))
        .with_envelope_from(sender)
        .with_header_from(&dmarc.domain);
    if let Some(reason) = reason {
        record = record.with_policy_override_reason(reason);
    }
    for signed in found.dkim.iter().flatten().filter(|signed| !signed.domain.is_empty()).take(SIGNATURES_MAX) {
        record = record.with_dkim_auth_result(dkim(signed));
    }
    match (&found.mail, &found.helo) {
        (Some(mail), _) => record.with_spf_auth_result(spf(mail, SPFDomainScope::MailFrom)),
        (None, Some(helo)) => record.with_spf_auth_result(spf(helo, SPFDomainScope::Helo)),
        (None, None) => record,
    }
}

/// What DMARC has led to, and why when it is not what the policy says.
fn action(check: Check, judgement: &Judgement, dmarc: &Dmarc) -> (ActionDisposition, Option<PolicyOverrideReason>) {
    if dmarc.result == DmarcResult::Pass {
        return (ActionDisposition::Pass, None);
    }
    if dmarc.policy == Policy::None {
        return (ActionDisposition::None, None);
    }
    if let Some(why) = &judgement.overridden {
        let reason = PolicyOverrideReason::new(PolicyOverride::TrustedForwarder).with_comment(why);
        return (ActionDisposition::None, Some(reason));
    }
    if check != Check::Enforce {
        return (ActionDisposition::None, Some(PolicyOverrideReason::new(PolicyOverride::LocalPolicy)));
    }
    match dmarc.policy {
        Policy::Reject => (ActionDisposition::Reject, None),
        Policy::Quarantine | Policy::None => (ActionDisposition::Quarantine, None),
    }
}

fn dkim(signed: &Signed) -> DKIMAuthResult {
    let result = match signed.result {
        Method::None => DkimResult::None,
        Method::Pass => DkimResult::Pass,
        Method::Fail => DkimResult::Fail,
        Method::Policy => DkimResult::Policy,
        Method::Neutral => DkimResult::Neutral,
        Method::TempError => DkimResult::TempError,
        Method::PermError => DkimResult::PermError,
    };
    DKIMAuthResult::new().with_domain(&signed.domain).with_selector(&signed.selector).with_result(result)
}

fn spf(spf: &Spf, scope: SPFDomainScope) -> SPFAuthResult {
    let result = match spf.result {
        SpfResult::None => SpfWord::None,
        SpfResult::Neutral => SpfWord::Neutral,
        SpfResult::Pass => SpfWord::Pass,
        SpfResult::Fail => SpfWord::Fail,
        SpfResult::SoftFail => SpfWord::SoftFail,
        SpfResult::TempError => SpfWord::TempError,
        SpfResult::PermError => SpfWord::PermError,
    };
    SPFAuthResult::new().with_domain(spf.domain.to_ascii_lowercase()).with_scope(scope).with_result(result)
}
