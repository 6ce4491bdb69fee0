//! Postfix, as it stands in the world: it takes mail over STARTTLS and sends it on to where a test wants it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Identity, program};

/// How long Postfix may take to start. Only a hung one takes this long.
const WAIT: Duration = Duration::from_mins(1);
/// Where Debian keeps its example of the processes.
const MASTER: &str = "/etc/postfix/master.cf";

/// A running Postfix in a folder of its own. It stops with the test.
#[derive(Debug)]
pub struct Postfix {
    folder: TempDir,
    /// Where it takes mail.
    pub address: SocketAddr,
}

impl Postfix {
    /// One that listens there as `identity` and sends everything on to `relay`. `settings`: more lines of `main.cf`. Must
    /// run as root: Postfix changes users.
    pub fn start(address: SocketAddr, identity: &Identity, relay: SocketAddr, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("rockdove-postfix-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let [config, queue, data] = ["etc", "queue", "data"].map(|name| {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("a folder");
            path.to_string_lossy().into_owned()
        });
        program("chown", &["postfix", &data], b"").ok();
        let (chain, key) = identity.write(Path::new(&config), "server");
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\nmyhostname = postfix.example\n\
             mydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
             relayhost = [{}]:{}\nsmtp_host_lookup = native\nmaillog_file =\nsyslog_name = rockdove-test\n\
             smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\n\
             smtpd_tls_received_header = yes\nsmtp_tls_session_cache_database =\nsmtp_bind_address = 127.0.0.1\n{settings}\n",
            relay.ip(),
            relay.port(),
            chain.display(),
            key.display(),
        );
        fs::write(Path::new(&config).join("main.cf"), main).expect("written");
        fs::write(Path::new(&config).join("master.cf"), master(address)).expect("written");
        if let Ok(maps) = fs::read("/etc/postfix/dynamicmaps.cf") {
            fs::write(Path::new(&config).join("dynamicmaps.cf"), maps).expect("written");
        }
        let postfix = Self { folder, address };
        program("postfix", &["-c", &config, "start"], b"").ok();
        let end = Instant::now() + WAIT;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "postfix does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        postfix
    }

    /// Hands it a message as a program of its own machine does.
    pub fn send(&self, from: &str, to: &str, message: &str) {
        let config = self.folder.path().join("etc");
        program("sendmail", &["-C", &config.to_string_lossy(), "-i", "-f", from, to], message.as_bytes()).ok();
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let config = self.folder.path().join("etc");
        // What is left of it goes with its folder.
        drop(program("postfix", &["-c", &config.to_string_lossy(), "stop"], b""));
    }
}

/// Debian's processes, none of them in a chroot, whose folder would lack what the system's has.
fn master(address: SocketAddr) -> String {
    let example = fs::read_to_string(MASTER).unwrap_or_else(|error| unreachable!("{MASTER}: {error}"));
    let mut text = format!("{address} inet n - n - - smtpd\n");
    for line in example.lines() {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(char::is_alphabetic) && words.len() > 7 && words[..2] != ["smtp", "inet"] {
            words[4] = "n";
            text += &words.join(" ");
            text.push('\n');
        } else if line.starts_with(char::is_whitespace) {
            text += line;
            text.push('\n');
        }
    }
    text
}
