//! What is done about what was found.

use rockdove_smtp::Refusal;

use super::{
    dmarc::{Dmarc, DmarcResult, Policy},
    results::{Method, Results},
    signatures::Signed,
    spf::SpfResult,
    verify::{Arrival, Found},
};
use crate::config::{Check, OnTemporaryError, TrustSettings};

/// What is done with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The message belongs into Junk.
    pub junk: bool,
    /// It is not taken.
    pub refusal: Option<Refusal>,
    /// Why a policy of DMARC was not applied, in words for results.
    pub overridden: Option<String>,
}

/// Applies the settings to what was found.
pub(super) fn judge(settings: &TrustSettings, arrival: &Arrival<'_>, found: &Found) -> Judgement {
    let mut judgement = Judgement { overridden: overridden(settings, found), ..Judgement::default() };
    let refusals = [
        temporary(settings, found),
        dmarc(settings, arrival, found, &mut judgement),
        spf(settings, arrival, found),
        dkim(settings, found),
        arc(settings, found),
        iprev(settings, arrival, found),
    ];
    judgement.refusal = refusals.into_iter().flatten().next();
    judgement
}

/// The results as a field for the head of the message.
pub(super) fn results(
    settings: &TrustSettings,
    arrival: &Arrival<'_>,
    found: &Found,
    judgement: &Judgement,
) -> Results {
    let mut results = Results::new(settings.authserv_id.as_deref().unwrap_or(arrival.hostname));
    if let Some(iprev) = found.iprev {
        results.iprev(iprev, arrival.address);
    }
    if settings.spf != Check::Off {
        if let Some(helo) = &found.helo {
            results.spf_helo(helo);
        }
        if let (Some(mail), Some(path)) = (&found.mail, arrival.reverse_path) {
            results.spf_mail(mail, &path.to_string());
        }
    }
    if let Some(dkim) = found.dkim.as_ref().filter(|_| settings.dkim != Check::Off) {
        results.dkim(dkim);
    }
    if let Some(chain) = &found.arc {
        results.arc(chain, arrival.address);
    }
    for dmarc in &found.dmarc {
        let applied = judgement.overridden.as_deref().filter(|_| dmarc.result == DmarcResult::Fail);
        results.dmarc(dmarc, applied);
    }
    results
}

/// Whether somebody we trust says that DMARC passed before the message was changed on its way.
fn overridden(settings: &TrustSettings, found: &Found) -> Option<String> {
    let witness = found.arc.as_ref()?.witness(&settings.trusted_sealers)?;
    let failed = found.dmarc.iter().any(|dmarc| dmarc.result == DmarcResult::Fail);
    failed.then(|| format!("passed at {witness} by its ARC seal"))
}

fn refusal(code: u16, status: &str, text: String) -> Refusal {
    Refusal { code, status: status.to_owned(), text }
}

/// What is made worse by waiting is not put off: only what counts for something is.
fn temporary(settings: &TrustSettings, found: &Found) -> Option<Refusal> {
    if settings.on_temporary_error != OnTemporaryError::Defer {
        return None;
    }
    let counts = |check: Check, failed: bool| check == Check::Enforce && failed;
    let sender = found.mail.as_ref().or(found.helo.as_ref());
    if counts(settings.spf, sender.is_some_and(|spf| spf.result == SpfResult::TempError)) {
        return Some(refusal(451, "4.7.24", "SPF of the sender cannot be checked now, try again later".to_owned()));
    }
    let doubtful = |dmarc: &Dmarc| dmarc.result == DmarcResult::TempError;
    if counts(settings.dmarc, found.dmarc.iter().any(doubtful)) {
        return Some(refusal(
            451,
            "4.7.1",
            "the DMARC policy of the author cannot be had now, try again later".to_owned(),
        ));
    }
    let unknown = |signed: &Signed| signed.result == Method::TempError;
    if counts(settings.dkim, found.dkim.iter().flatten().any(unknown) && no_signature_holds(found)) {
        return Some(refusal(451, "4.7.20", "the signature cannot be checked now, try again later".to_owned()));
    }
    None
}

fn dmarc(settings: &TrustSettings, arrival: &Arrival<'_>, found: &Found, judgement: &mut Judgement) -> Option<Refusal> {
    if settings.dmarc != Check::Enforce {
        return None;
    }
    // Reports of failed deliveries are the only mail that may have no author.
    judgement.junk |= found.many_authors || (found.dmarc.is_empty() && arrival.reverse_path.is_some());
    if judgement.overridden.is_some() {
        return None;
    }
    let failed = found.dmarc.iter().filter(|dmarc| dmarc.result == DmarcResult::Fail);
    let worst = failed.max_by_key(|dmarc| dmarc.policy)?;
    match worst.policy {
        Policy::None => None,
        Policy::Quarantine => {
            judgement.junk = true;
            None
        }
        Policy::Reject => Some(refusal(
            550,
            "5.7.1",
            format!("the DMARC policy of {} refuses mail that it has not sent", worst.domain),
        )),
    }
}

fn spf(settings: &TrustSettings, arrival: &Arrival<'_>, found: &Found) -> Option<Refusal> {
    let sender = found.mail.as_ref().or(found.helo.as_ref()).filter(|_| settings.spf == Check::Enforce)?;
    let address = arrival.address;
    match sender.result {
        SpfResult::Fail => {
            Some(refusal(550, "5.7.23", format!("SPF: {} does not let {address} send its mail", sender.domain)))
        }
        _ => None,
    }
}

fn no_signature_holds(found: &Found) -> bool {
    found.dkim.iter().flatten().all(|signed| signed.result != Method::Pass)
}

fn dkim(settings: &TrustSettings, found: &Found) -> Option<Refusal> {
    let signed = found.dkim.as_ref().filter(|_| settings.dkim == Check::Enforce)?;
    let settled = signed.iter().all(|signed| signed.result != Method::TempError);
    if signed.is_empty() || !settled || !no_signature_holds(found) {
        return None;
    }
    Some(refusal(550, "5.7.20", "no DKIM signature of the message holds".to_owned()))
}

fn arc(settings: &TrustSettings, found: &Found) -> Option<Refusal> {
    let chain = found.arc.as_ref().filter(|_| settings.arc == Check::Enforce)?;
    match chain.result {
        Method::Pass | Method::None | Method::TempError => None,
        _ => Some(refusal(550, "5.7.29", "the ARC chain of the message is broken".to_owned())),
    }
}

fn iprev(settings: &TrustSettings, arrival: &Arrival<'_>, found: &Found) -> Option<Refusal> {
    let result = found.iprev.filter(|_| settings.iprev == Check::Enforce)?;
    match result {
        Method::Fail | Method::PermError => {
            Some(refusal(550, "5.7.25", format!("no name of {} leads back to it", arrival.address)))
        }
        _ => None,
    }
}
