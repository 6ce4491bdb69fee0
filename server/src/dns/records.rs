//! Single records by their type: what mail says about itself in the DNS.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hickory_resolver::{
    TokioResolver,
    proto::rr::{Name, RData, RecordType},
};

use super::{Dns, DnsFailure, is_nothing};

/// Octets of a name (RFC 1035 section 3.1), as text and without the last full stop.
const NAME_OCTETS_MAX: usize = 253;
/// Octets of a label (RFC 1035 section 3.1).
const LABEL_OCTETS_MAX: usize = 63;

/// What SPF, DMARC and the like ask the DNS for. What does not exist is an empty answer, and so is what is asked for under
/// a name that cannot exist; an error is [`DnsFailure::Later`].
pub trait Records: Sync {
    /// The strings of each TXT record, joined.
    fn txt(&self, name: &str) -> impl Future<Output = Result<Vec<Vec<u8>>, DnsFailure>> + Send;
    /// Addresses of version 4.
    fn ipv4(&self, name: &str) -> impl Future<Output = Result<Vec<Ipv4Addr>, DnsFailure>> + Send;
    /// Addresses of version 6.
    fn ipv6(&self, name: &str) -> impl Future<Output = Result<Vec<Ipv6Addr>, DnsFailure>> + Send;
    /// Names of mail exchangers, without the last full stop.
    fn mx(&self, name: &str) -> impl Future<Output = Result<Vec<String>, DnsFailure>> + Send;
    /// Names of an address, without the last full stop.
    fn ptr(&self, address: IpAddr) -> impl Future<Output = Result<Vec<String>, DnsFailure>> + Send;
    /// Whether a name exists, with or without records (RFC 8020).
    fn exists(&self, name: &str) -> impl Future<Output = Result<bool, DnsFailure>> + Send;
}

impl Dns {
    /// The resolver below, for libraries that bring their own questions.
    pub fn resolver(&self) -> &TokioResolver {
        &self.resolver
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, DnsFailure> {
        let Some(name) = wire_name(name) else { return Ok(Vec::new()) };
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) => Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
            Err(error) if is_nothing(&error) => Ok(Vec::new()),
            Err(error) => Err(DnsFailure::Later(error.to_string())),
        }
    }
}

impl Records for Dns {
    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsFailure> {
        let records = self.records(name, RecordType::TXT).await?;
        let text = |record| if let RData::TXT(text) = record { Some(text.txt_data.concat()) } else { None };
        Ok(records.into_iter().filter_map(text).collect())
    }

    async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsFailure> {
        let records = self.records(name, RecordType::A).await?;
        let address = |record| if let RData::A(address) = record { Some(address.0) } else { None };
        Ok(records.into_iter().filter_map(address).collect())
    }

    async fn ipv6(&self, name: &str) -> Result<Vec<Ipv6Addr>, DnsFailure> {
        let records = self.records(name, RecordType::AAAA).await?;
        let address = |record| if let RData::AAAA(address) = record { Some(address.0) } else { None };
        Ok(records.into_iter().filter_map(address).collect())
    }

    async fn mx(&self, name: &str) -> Result<Vec<String>, DnsFailure> {
        let records = self.records(name, RecordType::MX).await?;
        let name = |record| if let RData::MX(mx) = record { Some(text_name(&mx.exchange)) } else { None };
        Ok(records.into_iter().filter_map(name).collect())
    }

    async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, DnsFailure> {
        let records = self.records(&reverse_name(address), RecordType::PTR).await?;
        let name = |record| if let RData::PTR(name) = record { Some(text_name(&name.0)) } else { None };
        Ok(records.into_iter().filter_map(name).collect())
    }

    async fn exists(&self, name: &str) -> Result<bool, DnsFailure> {
        let Some(name) = wire_name(name) else { return Ok(false) };
        match self.resolver.lookup(name, RecordType::A).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_nx_domain() => Ok(false),
            Err(error) if is_nothing(&error) => Ok(true),
            Err(error) => Err(DnsFailure::Later(error.to_string())),
        }
    }
}

/// Whether text can be asked for: labels of 1 to 63 octets, 253 in all.
pub fn is_name(name: &str) -> bool {
    let label = |label: &str| (1..=LABEL_OCTETS_MAX).contains(&label.len());
    name.len() <= NAME_OCTETS_MAX && name.split('.').all(label)
}

/// A domain as the DNS has it: in lower case, with A-labels (RFC 5890), without the last full stop. `None` when it cannot
/// be one.
pub fn ascii_domain(domain: &str) -> Option<String> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.is_ascii() {
        return is_name(domain).then(|| domain.to_ascii_lowercase());
    }
    Name::from_utf8(domain).ok().map(|name| text_name(&name)).filter(|name| is_name(name))
}

/// The labels as they are: a backslash or a space is part of a label here, not an escape.
fn wire_name(name: &str) -> Option<Name> {
    let name = ascii_domain(name)?;
    let mut wire = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    wire.set_fqdn(true);
    Some(wire)
}

fn text_name(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// The name below which the names of an address are (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(six) => {
            let mut name = String::new();
            for octet in six.octets().iter().rev() {
                // Writing to a string cannot fail.
                write!(name, "{:x}.{:x}.", octet & 15, octet >> 4).unwrap_or_default();
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_can_be_asked_for() {
        for (text, expected) in [
            ("Example.ORG", Some("example.org")),
            ("example.org.", Some("example.org")),
            ("m\u{fc}ller.example", Some("xn--mller-kva.example")),
            ("a..example", None),
            ("", None),
            (".example", None),
            ("a b\\c.example", Some("a b\\c.example")),
        ] {
            assert_eq!(ascii_domain(text).as_deref(), expected, "{text}");
        }
        assert!(ascii_domain(&"a".repeat(64)).is_none());
        assert!(ascii_domain(&"a.".repeat(127)).is_some());
        assert!(ascii_domain(&"a.".repeat(128)).is_none());
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(reverse_name(IpAddr::from([192, 0, 2, 1])), "1.2.0.192.in-addr.arpa");
        let six: IpAddr = "2001:db8::1".parse().expect("an address");
        assert_eq!(reverse_name(six), format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    }
}
