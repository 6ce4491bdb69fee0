//! The PROXY protocol, versions 1 and 2: a load balancer tells where a connection truly comes from.

use std::{future::poll_fn, io, net::SocketAddr, task::ready};

use bytes::Bytes;
use ppp::{v1, v2};

use super::link::Link;
use crate::runtime::clock::monotonic_ms;

/// Longest header taken. Version 1 has at most 107 octets; version 2 has 16, the addresses, and additions that no
/// proxy makes longer than a few hundred.
pub const HEADER_OCTETS_MAX: usize = 2048;
/// Longest version 1 header, including CRLF.
const V1_OCTETS_MAX: usize = 107;
/// How long the header may take; the proxy sends it at once.
pub const HEADER_WAIT_MS: u64 = 5_000;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Where a connection comes from and goes to, as the proxy says. `None`: the proxy speaks for itself (a health check).
pub type Told = Option<(SocketAddr, SocketAddr)>;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// Not enough bytes to tell.
    More,
    /// Not a header, or a broken one.
    Bad,
    /// A header of this many bytes.
    Header(usize, Told),
}

/// Reads the header and leaves everything after it to be read from `link`.
///
/// # Errors
/// When the header is missing, broken, too long or too slow.
pub async fn read_header(link: &mut Link) -> io::Result<Told> {
    let deadline = monotonic_ms().saturating_add(HEADER_WAIT_MS);
    let mut seen: Vec<u8> = Vec::new();
    loop {
        let next = poll_fn(|cx| {
            let result = link.poll_raw(cx);
            if result.is_pending() {
                ready!(link.alarm().poll_reached(deadline, cx));
                return std::task::Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "PROXY header too slow")));
            }
            result
        })
        .await?;
        if next.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the PROXY header"));
        }
        seen.extend_from_slice(&next);
        match parse(&seen) {
            Parsed::More if seen.len() < HEADER_OCTETS_MAX => {}
            Parsed::More | Parsed::Bad => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "bad PROXY header"));
            }
            Parsed::Header(octets, told) => {
                link.put_back(Bytes::from(seen).slice(octets..));
                return Ok(told);
            }
        }
    }
}

fn parse(seen: &[u8]) -> Parsed {
    let begins = |start: &[u8]| seen.starts_with(start) || start.starts_with(seen);
    if begins(V2_START) {
        parse_v2(seen)
    } else if begins(V1_START) {
        parse_v1(seen)
    } else {
        Parsed::Bad
    }
}

fn parse_v1(seen: &[u8]) -> Parsed {
    let within = seen.get(..V1_OCTETS_MAX).unwrap_or(seen);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < V1_OCTETS_MAX { Parsed::More } else { Parsed::Bad };
    };
    let octets = end + 2;
    let Ok(header) = v1::Header::try_from(seen.get(..octets).unwrap_or_default()) else { return Parsed::Bad };
    let told = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => Some(pair_v4(&ip)),
        v1::Addresses::Tcp6(ip) => Some(pair_v6(&ip)),
    };
    Parsed::Header(octets, told)
}

fn parse_v2(seen: &[u8]) -> Parsed {
    let header = match v2::Header::try_from(seen) {
        Ok(header) => header,
        Err(v2::ParseError::Incomplete(_) | v2::ParseError::Partial(..)) => return Parsed::More,
        Err(_) => return Parsed::Bad,
    };
    let told = match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some(pair_v4(&ip)),
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some(pair_v6(&ip)),
        _ => None,
    };
    Parsed::Header(header.len(), told)
}

fn pair_v4(ip: &v2::IPv4) -> (SocketAddr, SocketAddr) {
    ((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into())
}

fn pair_v6(ip: &v2::IPv6) -> (SocketAddr, SocketAddr) {
    ((ip.source_address, ip.source_port).into(), (ip.destination_address, ip.destination_port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(source: &str, destination: &str) -> (SocketAddr, SocketAddr) {
        (source.parse().expect("source"), destination.parse().expect("destination"))
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_START.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&u16::try_from(body.len()).expect("short").to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    #[test]
    fn good_headers_are_read_whatever_the_cut() {
        let ip4 = [192, 0, 2, 1, 198, 51, 100, 2, 0, 25, 1, 187];
        let with_addition = [&ip4[..], &[4, 0, 1, 0]].concat();
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25\r\n".to_vec(),
                Some(told("192.0.2.1:4000", "198.51.100.2:25")),
            ),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 25\r\n".to_vec(),
                Some(told("[2001:db8::1]:4000", "[2001:db8::2]:25")),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2(0x21, 0x11, &ip4), Some(told("192.0.2.1:25", "198.51.100.2:443"))),
            (v2(0x21, 0x11, &with_addition), Some(told("192.0.2.1:25", "198.51.100.2:443"))),
            (v2(0x20, 0x00, &[]), None),
        ] {
            for cut in 1..header.len() {
                assert_eq!(parse(&header[..cut]), Parsed::More, "{cut} of {header:?}");
            }
            assert_eq!(parse(&header), Parsed::Header(header.len(), expected));
            let more = [&header[..], b"EHLO x\r\n"].concat();
            assert_eq!(parse(&more), Parsed::Header(header.len(), expected));
        }
    }

    #[test]
    fn bad_headers_are_refused() {
        for bad in [
            &b"EHLO there\r\n"[..],
            b"PROXY TCP4 nonsense\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 70000 25\r\n",
            &[b'P'; 200],
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 3]),
        ] {
            assert_eq!(parse(bad), Parsed::Bad, "{bad:?}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        assert_eq!(parse(&endless), Parsed::Bad);
    }
}
