//! How many connections are held at once, in total and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::listeners::Protocol;

/// Connections held at once when the configuration says nothing: one descriptor and some 20 KiB each.
pub const CONNECTIONS_MAX_DEFAULT: usize = 100_000;
/// Connections from one address when the configuration says nothing: an office behind one address, several per user.
pub const CONNECTIONS_PER_ADDRESS_MAX_DEFAULT: usize = 1_000;

/// The count of connections.
pub struct Limits {
    total_max: AtomicUsize,
    per_address_max: AtomicUsize,
    total: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The server holds as many connections as it may.
    Total,
    /// The address holds as many connections as it may.
    Address,
}

impl Refused {
    /// The name of the reason, in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(CONNECTIONS_MAX_DEFAULT, CONNECTIONS_PER_ADDRESS_MAX_DEFAULT)
    }
}

impl Limits {
    /// Limits with nobody connected.
    pub fn new(total_max: usize, per_address_max: usize) -> Self {
        Self {
            total_max: AtomicUsize::new(total_max),
            per_address_max: AtomicUsize::new(per_address_max),
            total: AtomicUsize::new(0),
            by_address: Mutex::default(),
        }
    }

    /// Changes the limits for connections to come.
    pub fn change(&self, total_max: usize, per_address_max: usize) {
        self.total_max.store(total_max, Ordering::Relaxed);
        self.per_address_max.store(per_address_max, Ordering::Relaxed);
    }

    /// Connections now.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one connection in, before it is known where it truly comes from.
    ///
    /// # Errors
    /// [`Refused::Total`] when the server is full.
    pub fn enter(self: &Arc<Self>) -> Result<Admitted, Refused> {
        let admitted = Admitted { limits: Arc::clone(self), address: None };
        // The value dropped on refusal takes its count away again.
        if self.total.fetch_add(1, Ordering::Relaxed) < self.total_max.load(Ordering::Relaxed) {
            Ok(admitted)
        } else {
            Err(Refused::Total)
        }
    }
}

/// A counted connection; dropping it counts it out.
pub struct Admitted {
    limits: Arc<Limits>,
    address: Option<IpAddr>,
}

impl Admitted {
    /// Counts the connection to its address; for IPv6 to the /64, which is one customer. Loopback is not limited: there
    /// sit our own proxies and tools.
    ///
    /// # Errors
    /// [`Refused::Address`] when the address has too many.
    pub fn come_from(&mut self, address: IpAddr) -> Result<(), Refused> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Ok(());
        }
        let address = match address {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        };
        let mut by_address = self.limits.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= self.limits.per_address_max.load(Ordering::Relaxed) {
            if *count == 0 {
                by_address.remove(&address);
            }
            return Err(Refused::Address);
        }
        *count += 1;
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.limits.total.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else { return };
        let mut by_address = self.limits.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// What a refused client is told, in words its protocol has for it.
pub fn farewell(protocol: Protocol) -> &'static [u8] {
    match protocol {
        //= rfc5321#section-4.2.2
        //# 421  <domain> Service not available, closing transmission channel
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
            b"421 4.3.2 Too many connections, try again later\r\n"
        }
        //= rfc9051#section-7.1.5
        //# as one of three possible greetings at connection startup, indicating that the server is not willing to
        //# accept a connection from this client.
        Protocol::Imap => b"* BYE [UNAVAILABLE] Too many connections, try again later\r\n",
        Protocol::Pop3 => b"-ERR [SYS/TEMP] Too many connections, try again later\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_and_out() {
        let limits = Arc::new(Limits::new(3, 1));
        let mut first = limits.enter().expect("room");
        let mut second = limits.enter().expect("room");
        let third = limits.enter().expect("room");
        assert_eq!(limits.enter().err(), Some(Refused::Total));
        drop(third);
        first.come_from("2001:db8::1".parse().expect("address")).expect("first from there");
        let same_customer = "2001:db8::ffff".parse().expect("address");
        assert_eq!(second.come_from(same_customer), Err(Refused::Address));
        drop(first);
        second.come_from(same_customer).expect("room again");
        drop(second);
        assert_eq!(limits.total(), 0);
        assert!(limits.by_address.lock().expect("lock").is_empty());
    }
}
