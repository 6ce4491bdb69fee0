//! The way of an address: its next hop in the queue, and what the next hop means today.

use crate::config::{Config, Route, RouteTls};

/// Begins the next hop of mail that goes by a route; no domain begins so.
const BY_ROUTE: char = '@';

/// What a next hop means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the exchangers of this domain.
    Exchangers(String),
    /// To the server of this route.
    Server(Box<Route>),
    /// A route of this name is not there any more.
    Unknown(String),
}

/// Where mail for a domain (A-labels, lower case) goes next: what it is grouped by in the queue.
pub fn next_hop(config: &Config, domain: &str) -> String {
    match route(config, domain) {
        Some(route) if route.host.is_some() => format!("{BY_ROUTE}{}", route.name),
        _ => domain.to_owned(),
    }
}

/// Whether mail for recipients of a local domain that have no mailbox here goes to another system.
pub fn takes_unknown(config: &Config, domain: &str) -> bool {
    let is_meant = |route: &&Route| route.host.is_some() && route.domains.iter().any(|pattern| pattern == domain);
    config.routes.iter().any(|route| is_meant(&route))
}

fn route<'a>(config: &'a Config, domain: &str) -> Option<&'a Route> {
    config.routes.iter().find(|route| route.is_for(domain))
}

impl Way {
    /// What a next hop means under this configuration.
    pub fn of(config: &Config, hop: &str) -> Self {
        let Some(name) = hop.strip_prefix(BY_ROUTE) else { return Self::Exchangers(hop.to_owned()) };
        match config.routes.iter().find(|route| route.name == name && route.host.is_some()) {
            Some(route) => Self::Server(Box::new(route.clone())),
            None => Self::Unknown(name.to_owned()),
        }
    }

    /// How connections are protected.
    pub fn tls(&self) -> RouteTls {
        match self {
            Self::Server(route) => route.tls,
            Self::Exchangers(_) | Self::Unknown(_) => RouteTls::Opportunistic,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_route_that_fits_is_taken() {
        let text = "hostname = \"a.example\"\ndata_dir = \"/tmp/x\"\n\
            [[route]]\nname = \"own\"\ndomains = [\"b.example\"]\n\
            [[route]]\nname = \"below\"\ndomains = [\".b.example\", \"c.example\"]\nhost = \"relay\"\n\
            [[route]]\nname = \"rest\"\ndomains = [\"*\"]\nhost = \"smart\"\nport = 587\ntls = \"verified\"\n";
        let config = crate::config::parse(text, Path::new("/x")).expect("good");
        assert_eq!(next_hop(&config, "b.example"), "b.example");
        assert_eq!(next_hop(&config, "x.b.example"), "@below");
        assert_eq!(next_hop(&config, "d.example"), "@rest");
        assert!(takes_unknown(&config, "c.example") && !takes_unknown(&config, "d.example"));
        let Way::Server(route) = Way::of(&config, "@rest") else { panic!("a route") };
        assert_eq!((route.port, route.tls), (587, RouteTls::Verified));
        assert_eq!(Way::of(&config, "@gone"), Way::Unknown("gone".into()));
        assert_eq!(Way::of(&config, "b.example"), Way::Exchangers("b.example".into()));
    }
}
