//! Keys that mail is signed with.

use std::io;

use rockdove_engine::{
    Command,
    directory::{SigningAlgorithm, SigningKeyRecord},
};
use rockdove_mail::date;

use super::{
    execute::{Emit, Host},
    request::{DkimFacts, Reply, Request},
};
use crate::{runtime::clock, trust::dkim};

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    match request {
        Request::DkimCreate { domain, selector, ed25519, active } => {
            let algorithm = if ed25519 { SigningAlgorithm::Ed25519 } else { SigningAlgorithm::RsaSha256 };
            create(host, &domain, selector, algorithm, active, emit)
        }
        Request::DkimList { domain } => {
            let keys = host.engine.directory().signing_keys(&domain);
            keys.iter().try_for_each(|key| emit(Reply::Dkim(facts(key))))?;
            Ok(Ok(if keys.is_empty() { format!("{domain} has no signing key") } else { String::new() }))
        }
        Request::DkimActivate { domain, selector, active } => {
            let Some(key) = find(host, &domain, &selector) else { return Ok(Err(missing(&domain, &selector))) };
            let key = Box::new(SigningKeyRecord { active, ..key });
            let what = if active { "is signed" } else { "is not signed any more" };
            Ok(run(host, Command::SetSigningKey { key }, format!("mail of {domain} {what} with {selector}")))
        }
        Request::DkimRemove { domain, selector } => {
            let line = format!("signing key {selector} of {domain} removed");
            Ok(run(host, Command::RemoveSigningKey { domain, selector }, line))
        }
        _ => Ok(Err("not a request about signing keys".to_owned())),
    }
}

fn run(host: &Host, command: Command, line: String) -> Result<String, String> {
    host.run(command).map(|_| line).map_err(|error| error.to_string())
}

fn find(host: &Host, domain: &str, selector: &str) -> Option<SigningKeyRecord> {
    let keys = host.engine.directory().signing_keys(domain);
    keys.iter().find(|key| key.selector.eq_ignore_ascii_case(selector)).map(|key| SigningKeyRecord::clone(key))
}

fn missing(domain: &str, selector: &str) -> String {
    format!("{domain} has no signing key {selector}; `rockdove domain dkim list {domain}` shows what there is")
}

fn create(
    host: &Host,
    domain: &str,
    selector: Option<String>,
    algorithm: SigningAlgorithm,
    active: bool,
    emit: Emit<'_>,
) -> io::Result<Result<String, String>> {
    let created_unix_s = clock::now().unix_s;
    let selector = selector.unwrap_or_else(|| {
        let kind = if algorithm == SigningAlgorithm::Ed25519 { "ed" } else { "rsa" };
        let day = date::Civil::from_days_since_epoch(i32::try_from(created_unix_s / 86_400).unwrap_or(0));
        format!("{kind}{:04}{:02}{:02}", day.year, day.month, day.day)
    });
    if find(host, domain, &selector).is_some() {
        return Ok(Err(format!("{domain} has a signing key {selector} already; name another with --selector")));
    }
    let (private, public) = match dkim::generate(algorithm) {
        Ok(halves) => halves,
        Err(error) => return Ok(Err(format!("cannot make a key: {error}"))),
    };
    let domain = domain.to_owned();
    let key = SigningKeyRecord { domain, selector, algorithm, active, created_unix_s, private, public };
    let shown = Reply::Dkim(facts(&key));
    match host.run(Command::SetSigningKey { key: Box::new(key) }) {
        Ok(_) => {
            emit(shown)?;
            Ok(Ok(String::new()))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn facts(key: &SigningKeyRecord) -> DkimFacts {
    let algorithm = match key.algorithm {
        SigningAlgorithm::RsaSha256 => "rsa",
        SigningAlgorithm::Ed25519 => "ed25519",
    };
    DkimFacts {
        domain: key.domain.clone(),
        selector: key.selector.clone(),
        algorithm: algorithm.to_owned(),
        active: key.active,
        created_unix_s: key.created_unix_s,
        record: dkim::record(key),
    }
}
