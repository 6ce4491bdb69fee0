//! What a domain publishes about its mail: lines for its zone file.

use serde::Serialize;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsRecord {
    /// Its name, without the last full stop.
    pub name: String,
    /// `MX`, `TXT` or `SRV`.
    pub kind: &'static str,
    /// Its data, as in a zone file.
    pub data: String,
    /// What it is good for.
    pub why: &'static str,
}

/// Octets of one string of a TXT record (RFC 1035 section 3.3).
const STRING_OCTETS_MAX: usize = 255;

/// The records of a domain whose mail is at `hostname`. `keys`: selectors and what is published of their keys.
pub fn records(domain: &str, hostname: &str, keys: &[(String, String)]) -> Vec<DnsRecord> {
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
        let records = records("a.example", "mail.a.example", &[("s1".into(), "x".repeat(300))]);
        let key = records.iter().find(|record| record.name == "s1._domainkey.a.example").expect("there");
        assert_eq!(key.data, format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
        assert!(records.iter().any(|record| record.kind == "MX" && record.data == "10 mail.a.example."));
    }
}
