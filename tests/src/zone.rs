//! A name server on loopback that says what a test wants.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Octets of a question, and of an answer by UDP.
const PACKET_OCTETS_MAX: usize = 4096;
/// Where the name of the question begins; answers point there.
const NAME_AT: usize = 12;
/// Seconds for which an answer may be remembered.
const TTL: u32 = 60;

/// The server. It lives as long as the test.
#[derive(Debug)]
pub struct Zone {
    /// Where it listens, by UDP and TCP.
    pub address: SocketAddr,
    names: Arc<Mutex<Names>>,
}

/// Records by name, in lower case.
type Names = BTreeMap<String, Vec<Record>>;

#[derive(Clone, Debug)]
enum Record {
    /// Type and data.
    Data(u16, Vec<u8>),
    /// It says SERVFAIL.
    Broken,
    /// It says nothing.
    Silent,
}

fn locked(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Zone {
    /// Lines of `NAME TYPE DATA` with the types A, AAAA, MX, TXT, PTR, CNAME, and `TYPEnnn` with data in hexadecimal; or
    /// `NAME SERVFAIL`, or `NAME TIMEOUT`. Of a PTR the name is an address. Other names do not exist.
    pub fn start(lines: &str) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
            // The port may be taken for TCP; then another is tried.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")) {
                break (udp, tcp);
            }
        };
        let zone = Self { address: udp.local_addr().expect("an address"), names: Arc::default() };
        zone.add(lines);
        let names = Arc::clone(&zone.names);
        thread::spawn(move || {
            let mut packet = [0; PACKET_OCTETS_MAX];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                if let Some(answer) = answer(&locked(&names), &packet[..length]) {
                    // A client that has gone is no news here.
                    udp.send_to(&answer, from).unwrap_or_default();
                }
            }
        });
        let names = Arc::clone(&zone.names);
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let names = Arc::clone(&names);
                thread::spawn(move || serve(stream, &names).unwrap_or_default());
            }
        });
        zone
    }

    /// More records. What was asked for before may be remembered by who asked.
    pub fn add(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, rest) = line.split_once(' ').expect("a type");
            let (kind, data) = rest.split_once(' ').unwrap_or((rest, ""));
            let name = if kind == "PTR" { reverse_name(name) } else { name.to_lowercase() };
            locked(&self.names).entry(name).or_default().push(record(kind, data));
        }
    }

    /// The line of `[dns]` that lets a server ask here.
    pub fn setting(&self) -> String {
        format!("servers = [\"{}\"]\ntimeout = \"1 s\"", self.address)
    }
}

fn reverse_name(address: &str) -> String {
    if let Ok(four) = address.parse::<Ipv4Addr>() {
        let [a, b, c, d] = four.octets();
        return format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    }
    let six: Ipv6Addr = address.parse().expect("an address");
    let nibbles = six.octets().into_iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4));
    nibbles.collect::<Vec<String>>().concat() + "ip6.arpa"
}

fn record(kind: &str, data: &str) -> Record {
    match kind {
        "A" => Record::Data(1, data.parse::<Ipv4Addr>().expect("an address").octets().to_vec()),
        "CNAME" => Record::Data(5, wire_name(data)),
        "PTR" => Record::Data(12, wire_name(data)),
        "MX" => {
            let (preference, host) = data.split_once(' ').expect("a preference");
            let preference: u16 = preference.parse().expect("a preference");
            Record::Data(15, [&preference.to_be_bytes()[..], &wire_name(host)].concat())
        }
        "TXT" => {
            let string = |piece: &[u8]| [&[u8::try_from(piece.len()).expect("short")][..], piece].concat();
            Record::Data(16, data.as_bytes().chunks(255).map(string).collect::<Vec<_>>().concat())
        }
        "AAAA" => Record::Data(28, data.parse::<Ipv6Addr>().expect("an address").octets().to_vec()),
        "SERVFAIL" => Record::Broken,
        "TIMEOUT" => Record::Silent,
        other => {
            let kind = other.strip_prefix("TYPE").and_then(|kind| kind.parse().ok()).expect("a type");
            let octet = |at: usize| u8::from_str_radix(&data[at..at + 2], 16).expect("hexadecimal");
            Record::Data(kind, (0..data.len()).step_by(2).map(octet).collect())
        }
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("short"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn serve(mut stream: TcpStream, names: &Mutex<Names>) -> std::io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut packet)?;
        let answer = answer(&locked(names), &packet);
        if let Some(answer) = answer {
            stream.write_all(&u16::try_from(answer.len()).expect("short").to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }
}

/// The answer to a question; `None` to say nothing.
fn answer(names: &Names, packet: &[u8]) -> Option<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), NAME_AT);
    while let Some(length @ 1..) = packet.get(at).map(|length| usize::from(*length)) {
        labels.push(String::from_utf8_lossy(packet.get(at + 1..=at + length)?).to_lowercase());
        at += length + 1;
    }
    let question = packet.get(NAME_AT..at + 5)?;
    let kind = u16::from_be_bytes([*packet.get(at + 1)?, *packet.get(at + 2)?]);
    let name = labels.join(".");
    let found = names.get(&name);
    let is = |wanted: fn(&Record) -> bool| found.is_some_and(|found| found.iter().any(wanted));
    if is(|record| matches!(record, Record::Silent)) {
        return None;
    }
    let (mut code, mut records) = (0_u8, Vec::new());
    if is(|record| matches!(record, Record::Broken)) {
        code = 2;
    } else if found.is_some() {
        follow(names, &name, kind, &mut records);
    } else if !names.keys().any(|known| known.ends_with(&format!(".{name}"))) {
        code = 3;
    }
    // What was asked, that this is an answer with authority, and how many records it has.
    let mut out = vec![packet[0], packet[1], 0x84 | (packet[2] & 1), 0x80 | code, 0, 1];
    out.extend_from_slice(&u16::try_from(records.len()).expect("few").to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(question);
    for record in records {
        out.extend_from_slice(&record);
    }
    Some(out)
}

/// The records of a type, behind an alias where there is one.
fn follow(names: &Names, name: &str, kind: u16, out: &mut Vec<Vec<u8>>) {
    for record in names.get(name).into_iter().flatten() {
        let Record::Data(of, data) = record else { continue };
        if *of != kind && *of != 5 {
            continue;
        }
        let mut wire = wire_name(name);
        wire.extend_from_slice(&of.to_be_bytes());
        wire.extend_from_slice(&1_u16.to_be_bytes());
        wire.extend_from_slice(&TTL.to_be_bytes());
        wire.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
        wire.extend_from_slice(data);
        out.push(wire);
        if *of == 5 && kind != 5 && out.len() < 8 {
            let mut target = Vec::new();
            let mut at = 0;
            while let Some(length @ 1..) = data.get(at).map(|length| usize::from(*length)) {
                target.push(String::from_utf8_lossy(&data[at + 1..=at + length]).to_lowercase());
                at += length + 1;
            }
            follow(names, &target.join("."), kind, out);
        }
    }
}
