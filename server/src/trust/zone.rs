//! A DNS in memory, and futures that never wait: for tests.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::dns::{DnsFailure, Records, ascii_domain};

/// Records by name. A name without a type cannot be found out about.
#[derive(Default)]
pub(super) struct Zone {
    names: BTreeMap<String, Vec<(String, String)>>,
}

impl Zone {
    /// Lines of `NAME TYPE DATA`; `NAME TIMEOUT` for a name that nobody answers for. `\xNN` is an octet of a text.
    pub(super) fn parse(lines: &str) -> Self {
        let mut zone = Self::default();
        for line in lines.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()) {
            zone.add(line);
        }
        zone
    }

    pub(super) fn add(&mut self, line: &str) {
        let (name, rest) = line.trim_start().split_once(' ').expect("a type");
        let (kind, data) = rest.split_once(' ').unwrap_or((rest, ""));
        let records = self.names.entry(name.trim_end_matches('.').to_lowercase()).or_default();
        records.push((kind.to_owned(), data.to_owned()));
    }

    fn all(&self, name: &str, kind: &str) -> Result<Vec<String>, DnsFailure> {
        let Some(name) = ascii_domain(name) else { return Ok(Vec::new()) };
        let records = self.names.get(&name).map(Vec::as_slice).unwrap_or_default();
        let of = |kind: &str| -> Vec<String> {
            records.iter().filter(|record| record.0 == kind).map(|record| record.1.clone()).collect()
        };
        if let Some(target) = of("CNAME").first().filter(|target| **target != name) {
            return self.all(target, kind);
        }
        match of(kind) {
            found if found.iter().any(|data| data == "TIMEOUT") => Err(DnsFailure::Later("no answer".to_owned())),
            found if found.is_empty() && records.iter().any(|record| record.0 == "TIMEOUT") => {
                Err(DnsFailure::Later("no answer".to_owned()))
            }
            found => Ok(found),
        }
    }
}

fn octets(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).expect("hexadecimal"));
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    out
}

impl Records for Zone {
    async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsFailure> {
        Ok(self.all(name, "TXT")?.iter().map(|text| octets(text)).collect())
    }

    async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsFailure> {
        Ok(self.all(name, "A")?.iter().map(|address| address.parse().expect("an address")).collect())
    }

    async fn ipv6(&self, name: &str) -> Result<Vec<Ipv6Addr>, DnsFailure> {
        Ok(self.all(name, "AAAA")?.iter().map(|address| address.parse().expect("an address")).collect())
    }

    async fn mx(&self, name: &str) -> Result<Vec<String>, DnsFailure> {
        let host = |data: &String| data.split_once(' ').map_or(String::new(), |(_, host)| host.to_owned());
        Ok(self.all(name, "MX")?.iter().map(host).collect())
    }

    async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, DnsFailure> {
        self.all(&address.to_string(), "PTR")
    }

    async fn exists(&self, name: &str) -> Result<bool, DnsFailure> {
        let below = format!(".{name}");
        Ok(self.names.keys().any(|known| known == name || known.ends_with(&below)))
    }
}

/// The result of a future that has nothing to wait for.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("it waits"),
    }
}
