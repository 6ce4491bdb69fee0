//! Lists of clients in the DNS (RFC 5782): what is asked, and what the answers come to.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use crate::config::DnsList;

/// The name that a list is asked for (RFC 5782 sections 2.1 and 2.4).
pub(super) fn query(address: IpAddr, zone: &str) -> String {
    let mut name = String::new();
    let mut label = |label: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        name.write_fmt(label).unwrap_or_default();
    };
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().iter().rev().for_each(|octet| label(format_args!("{octet}."))),
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                label(format_args!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
        }
    }
    name + zone
}

/// What lists say of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The sum of the weights of the lists that it is on.
    pub(super) weight: i32,
    /// Zones of those that speak against it.
    pub(super) against: Vec<String>,
}

impl Standing {
    /// Adds what a list answered; nothing where it did not.
    pub(super) fn add(&mut self, list: &DnsList, answer: &[Ipv4Addr]) {
        let counts = |code: &Ipv4Addr| list.codes.iter().any(|codes| codes.contains(IpAddr::V4(*code)));
        if !answer.iter().any(counts) {
            return;
        }
        self.weight = self.weight.saturating_add(list.weight);
        if list.weight > 0 {
            self.against.push(list.zone.clone());
        }
    }

    /// Whether lists speak for it.
    pub(super) fn is_good(&self) -> bool {
        self.weight < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_reversed() {
        let v6 = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.l.example";
        for (address, name) in [
            ("192.0.2.99", "99.2.0.192.l.example"),
            ("::ffff:192.0.2.99", "99.2.0.192.l.example"),
            ("4321:0:1:2:3:4:567:89ab", v6),
        ] {
            assert_eq!(query(address.parse().expect("an address"), "l.example"), name);
        }
    }

    #[test]
    fn weights_of_answers_that_count_are_added() {
        let list = |zone: &str, codes: &[&str], weight| DnsList {
            zone: zone.to_owned(),
            codes: codes.iter().map(|code| code.parse().expect("a network")).collect(),
            weight,
        };
        let mut standing = Standing::default();
        let bad = list("bad.example", &["127.0.0.2", "127.0.0.4/30"], 3);
        standing.add(&bad, &[]);
        standing.add(&bad, &[Ipv4Addr::new(127, 255, 255, 254), Ipv4Addr::new(127, 0, 0, 3)]);
        assert_eq!(standing, Standing::default(), "answers that say nothing");
        standing.add(&bad, &[Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::new(127, 0, 0, 7)]);
        assert_eq!((standing.weight, standing.is_good()), (3, false));
        standing.add(&list("good.example", &["127.0.0.0/16"], -5), &[Ipv4Addr::new(127, 0, 10, 1)]);
        assert_eq!((standing.weight, standing.is_good()), (-2, true));
        assert_eq!(standing.against, ["bad.example"]);
    }
}
