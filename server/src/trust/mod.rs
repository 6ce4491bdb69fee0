//! Whether mail is what it says it is: signing what leaves, checking what comes in.
//!
//! * What: keys for DKIM, signatures, and the records that a domain publishes about its mail; SPF, DKIM, DMARC, ARC and the
//!   names of addresses for mail from elsewhere, and what is done about what they find.
//! * In: keys of the directory, messages in the queue; messages in memory, answers of the DNS, `[trust]`.
//! * Out: header fields, lines for a zone file; Authentication-Results, Junk, a refusal.
//! * Never: shows or logs a private key, signs for a domain that is not ours, or mail that none of our users has sent;
//!   lets anybody else write results in our name.
//! * Fails: mail that cannot be signed leaves without a signature, and the log says so; a check that cannot be made is a
//!   temporary error, and `on_temporary_error` says what becomes of the mail.

pub mod dkim;
mod dmarc;
mod forged;
mod judge;
pub mod records;
mod results;
mod seal;
mod signatures;
pub mod spf;
mod verify;
#[cfg(test)]
mod zone;

use std::net::SocketAddr;

use mail_auth::AuthenticatedMessage;
use rockdove_engine::Engine;
use rockdove_smtp::{Client, Recipient, Role};

pub use forged::Forged;
pub use verify::Checker;

use crate::{
    config::{Check, Config},
    delivery::{self, recipient_targets},
    inspect::{self, Verdict},
};

/// Whether what this client sends is checked.
pub fn wanted(config: &Config, client: &Client) -> bool {
    let trust = &config.trust;
    let on = [trust.iprev, trust.spf, trust.dkim, trust.dmarc, trust.arc].iter().any(|check| *check != Check::Off);
    client.role == Role::Mx && on && !is_exempt(config, client.remote)
}

/// Whether what this client sends may have results in our name that are not from us. What comes by LMTP has been looked at
/// by ourselves or by somebody in front of us.
pub fn may_forge(config: &Config, role: Role, remote: Option<SocketAddr>) -> bool {
    match role {
        Role::Mx => !is_exempt(config, remote),
        Role::Submission => true,
        Role::Lmtp => false,
    }
}

/// The names in Authentication-Results that nobody else may use.
pub fn our_names(config: &Config) -> Vec<String> {
    [Some(config.hostname.clone()), config.trust.authserv_id.clone()].into_iter().flatten().collect()
}

fn is_exempt(config: &Config, remote: Option<SocketAddr>) -> bool {
    remote.is_none_or(|remote| config.trust.exempt.iter().any(|network| network.contains(remote.ip())))
}

/// Checks a message and adds what follows to its verdict.
pub async fn inspect(checker: &Checker, engine: &Engine, arrival: &inspect::Arrival, verdict: &mut Verdict) {
    let Some(address) = arrival.address() else { return };
    let settings = &arrival.config.trust;
    let facts = verify::Arrival {
        address,
        helo: &arrival.envelope.client.name,
        reverse_path: arrival.envelope.reverse_path.as_ref(),
        hostname: &arrival.config.hostname,
        received_unix_s: arrival.received_unix_s,
    };
    let message = AuthenticatedMessage::parse(&arrival.octets).unwrap_or_default();
    let (found, chain) = Box::pin(checker.check(settings, facts, &message)).await;
    let judgement = judge::judge(settings, &facts, &found);
    let results = judge::results(settings, &facts, &found, &judgement);
    verdict.fields.push_str(&results.field());
    verdict.junk |= judgement.junk;
    verdict.refusal = judgement.refusal;
    if verdict.refusal.is_none()
        && let Some(domain) = passes_on(engine, arrival)
    {
        let keys = engine.directory().signing_keys(domain);
        verdict.seal = seal::seal(&keys, &message, &chain, results.body()).unwrap_or_default();
    }
}

/// The domain of ours that passes the message on, if one does.
fn passes_on<'a>(engine: &Engine, arrival: &'a inspect::Arrival) -> Option<&'a str> {
    let directory = engine.directory();
    let leaves = |recipient: &&Recipient| {
        let resolution = recipient_targets(&directory, &recipient.address, &arrival.config.hostname);
        delivery::passes_on(&resolution)
    };
    arrival.envelope.recipients.iter().find(leaves).map(|recipient| recipient.address.domain.as_str())
}
