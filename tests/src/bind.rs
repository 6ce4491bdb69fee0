//! Name servers with signed zones below a root of their own, run by BIND.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::program;

/// How long BIND may take to start. Only a hung one takes this long.
const WAIT: Duration = Duration::from_mins(1);

/// Whether a zone can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// It is signed, and the root says by which key.
    Good,
    /// It is not signed, and the root says so.
    None,
    /// It is signed, and this text in it was replaced by that one afterwards.
    Forged(&'static str, &'static str),
}

/// A zone right below the root.
#[derive(Clone, Debug)]
pub struct SignedZone {
    /// Its name, without the last full stop.
    pub name: String,
    /// Its records, as in a zone file, beside SOA and NS.
    pub records: String,
    /// Whether it can be believed.
    pub signing: Signing,
}

impl SignedZone {
    /// A zone.
    pub fn new(name: &str, signing: Signing, records: &str) -> Self {
        Self { name: name.to_owned(), records: records.to_owned(), signing }
    }
}

/// The name server. It ends with the test.
#[derive(Debug)]
pub struct Bind {
    folder: TempDir,
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Bind {
    /// Serves these zones.
    pub fn start(zones: &[SignedZone]) -> Self {
        let folder = tempfile::Builder::new().prefix("rockdove-bind-").tempdir().expect("a folder");
        let mut root =
            String::from("$TTL 60\n. IN SOA ns. host. 1 3600 600 86400 60\n. IN NS ns.\nns. IN A 127.0.0.1\n");
        let mut conf = String::new();
        for zone in zones {
            let SignedZone { name, records, signing } = zone;
            let text = format!(
                "$TTL 60\n$ORIGIN {name}.\n@ IN SOA ns host 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n{records}\n"
            );
            writeln!(root, "{name}. IN NS ns.{name}.\nns.{name}. IN A 127.0.0.1").expect("written");
            let file = if *signing == Signing::None {
                let file = folder.path().join(format!("{name}.zone"));
                fs::write(&file, text).expect("written");
                file
            } else {
                let file = sign(folder.path(), name, &text);
                root.push_str(&fs::read_to_string(folder.path().join(format!("dsset-{name}."))).expect("DS records"));
                file
            };
            if let Signing::Forged(true_text, false_text) = signing {
                let text = fs::read_to_string(&file).expect("a zone");
                assert!(text.contains(true_text), "{true_text} is not in\n{text}");
                fs::write(&file, text.replace(true_text, false_text)).expect("written");
            }
            writeln!(conf, "zone \"{name}\" {{ type primary; file \"{}\"; }};", file.display()).expect("written");
        }
        let file = sign(folder.path(), ".", &root);
        writeln!(conf, "zone \".\" {{ type primary; file \"{}\"; }};", file.display()).expect("written");
        let address = free_port();
        let (child, address) = (serve(folder.path(), address, &conf), address);
        Self { folder, child, address }
    }

    /// The root's key, as `[dns] trust_anchor` wants it.
    pub fn trust_anchor(&self) -> PathBuf {
        self.folder.path().join("anchor")
    }

    /// What a server needs to ask this one and no other.
    pub fn settings(&self) -> String {
        format!(
            "servers = [\"{}\"]\ntrust_anchor = \"{}\"\ndnssec = \"always\"",
            self.address,
            self.trust_anchor().display()
        )
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        // It has nothing to save.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that is free for both kinds of questions.
fn free_port() -> SocketAddr {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Signs a zone with a new key, which is noted as the anchor when it is the root's.
fn sign(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(if name == "." { "root.zone".to_owned() } else { format!("{name}.zone") });
    let place = folder.to_string_lossy();
    let made = program("dnssec-keygen", &["-q", "-K", &place, "-a", "ECDSAP256SHA256", "-f", "KSK", name], b"").ok();
    let key = folder.join(format!("{}.key", made.trim()));
    let key_text = fs::read_to_string(&key).expect("a key");
    let record: String = key_text.lines().filter(|line| !line.starts_with(';')).collect();
    if name == "." {
        fs::write(folder.join("anchor"), format!("{record}\n")).expect("written");
    }
    fs::write(&file, format!("{text}{record}\n")).expect("written");
    let (signed, zone) = (file.with_extension("signed"), file.to_string_lossy());
    let (out, key) = (signed.to_string_lossy(), key.to_string_lossy());
    program("dnssec-signzone", &["-q", "-z", "-K", &place, "-d", &place, "-o", name, "-f", &out, &zone, &key], b"")
        .ok();
    signed
}

fn serve(folder: &Path, address: SocketAddr, zones: &str) -> Child {
    let (conf, port, place) = (folder.join("named.conf"), address.port(), folder.display());
    let options = format!(
        "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
         recursion no; pid-file none; session-keyfile none; dnssec-validation no; notify no; }};\ncontrols {{ }};\n"
    );
    fs::write(&conf, options + zones).expect("written");
    let log = folder.join("log");
    let out = File::create(&log).expect("a log");
    let child = Command::new("named")
        .args(["-g", "-n", "1", "-c"])
        .arg(&conf)
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a log"))
        .stderr(out)
        .spawn();
    let mut child = child.unwrap_or_else(|error| unreachable!("cannot run named: {error}: apt-get install -y bind9"));
    let end = Instant::now() + WAIT;
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.lines().any(|line| line.ends_with(" running")) {
            return child;
        }
        let ended = child.try_wait().expect("a child").is_some();
        assert!(!ended && Instant::now() < end, "named does not start\n{text}");
        thread::sleep(Duration::from_millis(20));
    }
}
