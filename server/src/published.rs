//! What a domain publishes in fact, beside what it is to publish: `rockdove domain dns --check`.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    config::Config,
    dns::{Answer, Dns, DnsFailure},
    net::{https::Ask, peer::PeerDialer},
    trust::records::DnsRecord,
};

/// The kind of what a web server is to have.
pub(crate) const POLICY: &str = "HTTPS policy";
/// Octets of a policy that are read.
const POLICY_OCTETS_MAX: usize = 64 * 1024;

/// How a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it is to be.
    Good,
    /// There, and other than we would have it.
    Other,
    /// Not there.
    Missing,
    /// It cannot be found out.
    Unknown,
}

/// What was found of one record.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    /// The record that is to be there.
    #[serde(flatten)]
    pub(crate) record: DnsRecord,
    pub(crate) state: State,
    /// What is there instead.
    pub(crate) found: Vec<String>,
    /// What to do.
    pub(crate) advice: String,
}

/// Looks every record up.
pub(crate) async fn check(dns: &Dns, config: &Config, domain: &str, records: &[DnsRecord]) -> Vec<Checked> {
    let mut checked = Vec::with_capacity(records.len());
    for record in records {
        let one = if record.kind == POLICY {
            served_policy(dns, config, domain, record).await
        } else {
            one(dns, record).await
        };
        checked.push(one);
    }
    checked
}

async fn one(dns: &Dns, record: &DnsRecord) -> Checked {
    let outcome = dns.shown(&record.name, record.kind).await;
    let wanted = plain(&record.data);
    let said = |state, found: Vec<String>, advice: String| Checked { record: record.clone(), state, found, advice };
    let Answer { found, secure } = match outcome {
        Ok(answer) => answer,
        Err(DnsFailure::Nothing | DnsFailure::NoMail) => {
            let advice = format!("publish it: {} IN {} {}", record.name, record.kind, record.data);
            return said(State::Missing, Vec::new(), advice);
        }
        Err(DnsFailure::Bogus) => {
            let advice = "the signatures of the zone are wrong: sign it again, or take its DS record away".to_owned();
            return said(State::Unknown, Vec::new(), advice);
        }
        Err(failure) => return said(State::Unknown, Vec::new(), format!("try again: {failure}")),
    };
    // Other texts, addresses and servers may be there beside ours.
    let of_our_kind: Vec<String> = found.into_iter().filter(|found| is_about_the_same(record, found)).collect();
    let is_there = of_our_kind.iter().any(|found| plain(found) == wanted);
    match (is_there, of_our_kind.is_empty(), record.kind) {
        (true, _, "TLSA") if !secure => {
            let advice = "it counts only when DNSSEC vouches for it: sign the zone, and have its DS record published";
            said(State::Other, of_our_kind, advice.to_owned())
        }
        // Two policies for one thing are none.
        (true, _, "TXT") if of_our_kind.len() > 1 => {
            said(State::Other, of_our_kind, "there must be one of them only: remove the others".to_owned())
        }
        (true, ..) => said(State::Good, Vec::new(), String::new()),
        (false, true, _) => {
            let advice = format!("publish it: {} IN {} {}", record.name, record.kind, record.data);
            said(State::Missing, of_our_kind, advice)
        }
        (false, false, _) => {
            let advice = format!("unless you mean it, change it to: {}", record.data);
            said(State::Other, of_our_kind, advice)
        }
    }
}

/// Whether a record that was found has the purpose of ours: of texts, whether it begins with the same version.
fn is_about_the_same(record: &DnsRecord, found: &str) -> bool {
    let version = |text: &str| {
        let text = plain(text);
        text.split([';', ' ']).next().unwrap_or_default().to_owned()
    };
    record.kind != "TXT" || version(&record.data) == version(found)
}

/// A record as it is compared: one string without quotes, in lower case where case means nothing.
fn plain(data: &str) -> String {
    if let Some(text) = data.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let joined = text.replace("\" \"", "");
        return joined.split(';').map(str::trim).collect::<Vec<_>>().join(";").trim_end_matches(';').to_owned();
    }
    data.to_ascii_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the policy is served as others will ask for it.
async fn served_policy(dns: &Dns, config: &Config, domain: &str, record: &DnsRecord) -> Checked {
    let host = format!("mta-sts.{domain}");
    let said = |state, found: Vec<String>, advice: String| Checked { record: record.clone(), state, found, advice };
    let dialer = match roots(config).and_then(|roots| PeerDialer::new(roots.as_deref())) {
        Ok(dialer) => dialer,
        Err(error) => return said(State::Unknown, Vec::new(), format!("certificates cannot be checked: {error}")),
    };
    let addresses: Vec<SocketAddr> = match dns.addresses(&host).await {
        Ok(answer) => {
            answer.found.into_iter().map(|address| SocketAddr::new(address, config.outbound.mta_sts_port)).collect()
        }
        Err(failure) => {
            return said(
                State::Missing,
                Vec::new(),
                format!("publish an address of {host}, and serve the policy there: {failure}"),
            );
        }
    };
    let path = "/.well-known/mta-sts.txt";
    let ask = Ask { host: &host, addresses: &addresses, path, content: None, octets_max: POLICY_OCTETS_MAX };
    match dialer.https(&ask).await {
        Ok(answered) => {
            let text = String::from_utf8_lossy(&answered.content).into_owned();
            let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
            // The mode is its owner's to choose, and how long it holds.
            let named =
                |lines: &[String]| lines.iter().filter(|line| line.starts_with("mx:")).cloned().collect::<Vec<_>>();
            if named(&lines(&text)) == named(&lines(&record.data)) {
                said(State::Good, Vec::new(), String::new())
            } else {
                let advice = "others send only to the exchangers that it names: name this server".to_owned();
                said(State::Other, lines(&text), advice)
            }
        }
        Err(failure) => said(State::Missing, Vec::new(), format!("others cannot have it: {failure}")),
    }
}

/// The authorities of the configuration.
pub(crate) fn roots(config: &Config) -> std::io::Result<Option<Vec<u8>>> {
    config.outbound.tls_roots.as_deref().map(std::fs::read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_compared_by_what_they_say() {
        assert_eq!(plain("\"v=DKIM1; k=rsa; p=aB\" \"cD\""), plain("\"v=DKIM1;k=rsa; p=aBcD;\""));
        assert_eq!(plain("10 Mail.A.example."), plain("10  mail.a.example."));
        let record = |data: &str| DnsRecord { name: "a".into(), kind: "TXT", data: data.into(), why: "" };
        assert!(is_about_the_same(&record("\"v=spf1 mx -all\""), "\"v=spf1 ~all\""));
        assert!(!is_about_the_same(&record("\"v=spf1 mx -all\""), "\"google-site-verification=x\""));
        assert!(is_about_the_same(&record("\"v=DMARC1; p=none\""), "\"v=DMARC1;p=reject\""));
    }
}
