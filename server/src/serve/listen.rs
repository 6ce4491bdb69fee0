//! Binding what the configuration lists.

use std::{fs, io, net::Ipv6Addr, path::PathBuf, time::Duration};

use socket2::Socket;

use crate::{
    config::Config,
    failure::{Failure, refused},
    net::listeners::{BACKLOG_DEFAULT, Bound, ListenAddress, ListenerConfig, bind},
    runtime::clock,
};

/// How often an address that is in use is tried again, and the pause before each try. The kernel closes the sockets of a
/// server that was killed behind its back, when its `io_uring` is taken down: seconds later when it had much memory.
const BIND_AGAIN_MAX: usize = 50;
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Listeners that are open.
pub(super) struct Listening {
    /// As configured, in the order of `sockets`.
    pub(super) configs: Vec<ListenerConfig>,
    /// With the addresses that they have in fact.
    pub(super) bound: Vec<ListenerConfig>,
    /// One list of sockets for each, one socket for each worker.
    pub(super) sockets: Vec<Vec<Socket>>,
}

/// Opens every listener for `workers` workers.
pub(super) fn bind_all(config: &Config, workers: usize) -> Result<Listening, Failure> {
    let mut listening = Listening { configs: Vec::new(), bound: Vec::new(), sockets: Vec::new() };
    for listener in &config.listeners {
        match bind_patiently(listener, workers) {
            Ok(bound) => listening.add(listener, bound),
            Err(_) if config.listeners_implied && is_ipv6(&listener.address) && !has_ipv6() => {
                tracing::info!(address = %listener.address, "this machine has no IPv6, not listening there");
            }
            Err(error) => return Err(Failure::Refused(format!("{error}{}", advice(&error)))),
        }
    }
    Ok(listening)
}

/// Opens a listener; waits a little for somebody who leaves.
fn bind_patiently(listener: &ListenerConfig, workers: usize) -> io::Result<Bound> {
    let open = || bind(&listener.address, listener.mode(), workers, BACKLOG_DEFAULT);
    let mut opened = open();
    for number in 0..BIND_AGAIN_MAX {
        match &opened {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
        if number == 0 {
            tracing::warn!(address = %listener.address, "in use; waiting for whoever listens there to leave");
        }
        clock::pause(BIND_AGAIN_AFTER);
        opened = open();
    }
    opened
}

impl Listening {
    /// Opens the administrator's door, to be called as the user that serves: the socket belongs to it. It is not listed
    /// as a listener, for it is always there.
    pub(super) fn open_administrators_door(&mut self, path: PathBuf, workers: usize) -> Result<(), Failure> {
        // The folder is ours alone, so what is there is of an earlier run; after a kill the kernel may need a moment more to
        // close it, and it still seems to answer.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(path.display())(error)),
            _ => {}
        }
        let door = ListenerConfig::administrator(path);
        let bound = bind(&door.address, door.mode(), workers, BACKLOG_DEFAULT);
        let bound = bound.map_err(refused("the administrator's door to accounts"))?;
        self.configs.push(door);
        self.sockets.push(bound.sockets);
        Ok(())
    }

    fn add(&mut self, listener: &ListenerConfig, bound: Bound) {
        let in_fact = ListenerConfig { address: bound.address, ..listener.clone() };
        tracing::info!(
            protocol = listener.protocol.name(),
            tls = listener.tls.name(),
            address = %in_fact.address,
            "listening"
        );
        self.configs.push(listener.clone());
        self.bound.push(in_fact);
        self.sockets.push(bound.sockets);
    }
}

fn is_ipv6(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(address) if address.is_ipv6())
}

/// Whether this machine has IPv6 at all.
fn has_ipv6() -> bool {
    bind(&ListenAddress::Tcp((Ipv6Addr::UNSPECIFIED, 0).into()), 0, 1, 1).is_ok()
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: stop it, or choose another address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root: start as root and set user",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}
