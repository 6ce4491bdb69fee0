//! A name server that knows what a test tells it.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An IPv4 address.
    A([u8; 4]),
    /// An IPv6 address.
    Aaaa([u8; 16]),
    /// An exchanger, with its preference.
    Mx(u16, &'static str),
    /// A text.
    Txt(String),
    /// Nobody ever answers for this name and those below it.
    Silence,
}

impl Record {
    fn number(&self) -> u16 {
        match self {
            Self::A(_) => 1,
            Self::Mx(..) => 15,
            Self::Txt(_) => 16,
            Self::Aaaa(_) => 28,
            Self::Silence => 0,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::A(address) => address.to_vec(),
            Self::Aaaa(address) => address.to_vec(),
            Self::Mx(preference, name) => [preference.to_be_bytes().to_vec(), name_octets(name)].concat(),
            Self::Txt(text) => text.as_bytes().chunks(255).flat_map(string_octets).collect(),
            Self::Silence => Vec::new(),
        }
    }
}

fn string_octets(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")][..], text].concat()
}

fn name_octets(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> = labels.flat_map(|label| string_octets(label.as_bytes())).collect();
    octets.push(0);
    octets
}

/// The server. It lives as long as the test.
#[derive(Debug)]
pub struct Names {
    /// Where it answers.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    /// One that has these records; every other name does not exist.
    pub fn start(records: &[(&str, Record)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let records: Vec<(String, Record)> =
            records.iter().map(|(name, record)| (name.to_lowercase(), record.clone())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        thread::spawn(move || {
            let mut query = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let Some((name, kind, end)) = question(&query[..length]) else { continue };
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
                if let Some(answer) = answer(&query[..end], &records, &name, kind) {
                    socket.send_to(&answer, from).expect("sent");
                }
            }
        });
        Self { address, asked }
    }

    /// The line of `[dns]` that makes a server ask here.
    pub fn setting(&self) -> String {
        format!("servers = [\"{}\"]\ntimeout = \"1 s\"", self.address)
    }

    /// The names that were asked for, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The name in lower case, the type, and where the question ends (RFC 1035 section 4.1.2).
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

fn answer(query: &[u8], records: &[(String, Record)], name: &str, kind: u16) -> Option<Vec<u8>> {
    let below = |zone: &str| name == zone || name.ends_with(&format!(".{zone}"));
    if records.iter().any(|(zone, record)| *record == Record::Silence && below(zone)) {
        return None;
    }
    // A name exists when something is there or below it.
    let exists = records.iter().any(|(known, _)| known == name || known.ends_with(&format!(".{name}")));
    let found: Vec<&Record> = records
        .iter()
        .filter(|(known, _)| known == name)
        .map(|(_, record)| record)
        .filter(|r| r.number() == kind)
        .collect();
    let count = u16::try_from(found.len()).expect("few");
    // An answer with authority, to a question that wanted recursion.
    let flags: u16 = 0x8580 | if exists { 0 } else { 3 };
    let mut octets = query.get(..2)?.to_vec();
    for number in [flags, 1, count, 0, 0] {
        octets.extend_from_slice(&number.to_be_bytes());
    }
    octets.extend_from_slice(query.get(12..)?);
    for record in found {
        let data = record.data();
        // The name of the question, class IN, a minute to live.
        for number in [0xc00c, record.number(), 1, 0, 60, u16::try_from(data.len()).expect("short")] {
            octets.extend_from_slice(&number.to_be_bytes());
        }
        octets.extend_from_slice(&data);
    }
    Some(octets)
}
