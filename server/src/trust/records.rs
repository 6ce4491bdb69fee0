//! What a domain publishes about its mail: lines for its zone file.

use serde::Serialize;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsRecord {
    /// Its name, without the last full stop.
    pub name: String,
    /// `MX`, `TXT`, `SRV`, `TLSA`, `CAA`, or `HTTPS policy` for a text that a web server is to have.
    pub kind: &'static str,
    /// Its data, as in a zone file.
    pub data: String,
    /// What it is good for.
    pub why: &'static str,
}

/// Octets of one string of a TXT record (RFC 1035 section 3.3).
const STRING_OCTETS_MAX: usize = 255;

/// What is known of a domain and of the server that has its mail.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The domain.
    pub domain: &'a str,
    /// Our name.
    pub hostname: &'a str,
    /// Selectors, and what is published of their keys.
    pub keys: &'a [(String, String)],
    /// SHA-256 of the public key of our certificate.
    pub certificate_key: Option<&'a [u8]>,
    /// The certificate authority that may vouch for us, by its domain.
    pub authority: Option<&'a str>,
}

/// The records of a domain.
pub fn records(facts: &Facts<'_>) -> Vec<DnsRecord> {
    let Facts { domain, hostname, keys, .. } = *facts;
    let record = |name: String, kind, data: String, why| DnsRecord { name, kind, data, why };
    let mut records = vec![
        record(domain.to_owned(), "MX", format!("10 {hostname}."), "mail for the domain comes here"),
        record(domain.to_owned(), "TXT", text("v=spf1 mx -all"), "SPF: only this server sends for the domain"),
    ];
    for (selector, published) in keys {
        let name = format!("{selector}._domainkey.{domain}");
        records.push(record(name, "TXT", text(published), "DKIM: others can check our signatures"));
    }
    let report = format!("mailto:postmaster@{domain}");
    let policy = format!("v=DMARC1; p=quarantine; rua={report}");
    records.push(record(format!("_dmarc.{domain}"), "TXT", text(&policy), "DMARC: what others do with forgeries"));
    let reports = format!("v=TLSRPTv1; rua={report}");
    let why = "TLS-RPT: others report trouble with encryption";
    records.push(record(format!("_smtp._tls.{domain}"), "TXT", text(&reports), why));
    records.extend(transport(facts));
    let services =
        [("submissions", 465), ("submission", 587), ("imaps", 993), ("imap", 143), ("pop3s", 995), ("pop3", 110)];
    for (service, port) in services {
        let data = format!("0 1 {port} {hostname}.");
        records.push(record(
            format!("_{service}._tcp.{domain}"),
            "SRV",
            data,
            "mail clients find us (RFC 6186, RFC 8314)",
        ));
    }
    records
}

/// What makes others encrypt, and sure of whom they talk to.
fn transport(facts: &Facts<'_>) -> Vec<DnsRecord> {
    let Facts { domain, hostname, certificate_key, authority, .. } = *facts;
    let record = |name: String, kind, data: String, why| DnsRecord { name, kind, data, why };
    let policy = policy(hostname);
    // Another policy needs another id: that is how others learn of it.
    let id: String = blake3::hash(policy.as_bytes()).to_hex().as_str().chars().take(16).collect();
    let why = "MTA-STS: there is a policy; change the id whenever it changes";
    let mut records = vec![
        record(format!("_mta-sts.{domain}"), "TXT", text(&format!("v=STSv1; id={id}")), why),
        record(
            format!("mta-sts.{domain}"),
            "HTTPS policy",
            policy,
            "MTA-STS: https://mta-sts and the domain serves this as /.well-known/mta-sts.txt (text/plain); when the reports \
             have shown no trouble for some weeks, change the mode to enforce",
        ),
    ];
    if let Some(key) = certificate_key {
        let hash = key.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"));
        let why = "DANE: in a signed zone, others insist on our key; renew the certificate with the same key, or publish the \
                   new one beside this a day before";
        records.push(record(format!("_25._tcp.{hostname}"), "TLSA", format!("3 1 1 {hash}"), why));
    }
    if let Some(authority) = authority {
        let why = "CAA: no other authority gives certificates for our name";
        records.push(record(hostname.to_owned(), "CAA", format!("0 issue \"{authority}\""), why));
    }
    records
}

/// The policy to begin with.
fn policy(hostname: &str) -> String {
    format!("version: STSv1\nmode: testing\nmx: {hostname}\nmax_age: 604800\n")
}

/// The strings of a TXT record.
fn text(value: &str) -> String {
    let strings: Vec<String> = value
        .as_bytes()
        .chunks(STRING_OCTETS_MAX)
        .map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece).replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    strings.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        let keys = [("s1".into(), "x".repeat(300))];
        let facts = Facts {
            domain: "a.example",
            hostname: "mail.a.example",
            keys: &keys,
            certificate_key: Some(&[0xab; 32]),
            authority: Some("ca.example"),
        };
        let records = records(&facts);
        let tlsa = records.iter().find(|record| record.kind == "TLSA").expect("there");
        assert_eq!((&*tlsa.name, &tlsa.data), ("_25._tcp.mail.a.example", &format!("3 1 1 {}", "ab".repeat(32))));
        assert!(
            records.iter().any(|record| record.name == "mail.a.example" && record.data == "0 issue \"ca.example\"")
        );
        let key = records.iter().find(|record| record.name == "s1._domainkey.a.example").expect("there");
        assert_eq!(key.data, format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
        assert!(records.iter().any(|record| record.kind == "MX" && record.data == "10 mail.a.example."));
    }
}
