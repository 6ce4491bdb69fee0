//! The commands about what a domain publishes: `rockdove domain dkim` and `rockdove domain dns`.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use crate::{
    admin::{Link, Reply, Request},
    cli::{ListFormat, print, simply},
    config::{self, Config},
    dns::Dns,
    failure::{Failure, refused},
    net::peer::first_key_hash,
    published::{self, POLICY, State},
    runtime::side::block_on,
    show::Show,
    trust::records::{DnsRecord, Facts, records},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DkimAction {
    /// Make a key and sign the mail of the domain with it. Prints the record to publish.
    Create {
        /// The domain.
        domain: String,
        /// Where the key is published; made from the date when missing.
        #[arg(long)]
        selector: Option<String>,
        /// Make an Ed25519 key, beside an RSA key: many servers do not know it yet.
        #[arg(long)]
        ed25519: bool,
        /// Do not sign with it yet: publish it first, and activate it a day later.
        #[arg(long)]
        inactive: bool,
    },
    /// List the keys of a domain and the records to publish.
    List {
        /// The domain.
        domain: String,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Sign with a key from now on.
    Activate {
        /// The domain.
        domain: String,
        /// Its selector.
        selector: String,
    },
    /// Do not sign with a key any more. Keep its record for a week: mail that it has signed is still under way.
    Deactivate {
        /// The domain.
        domain: String,
        /// Its selector.
        selector: String,
    },
    /// Remove a key.
    Remove {
        /// The domain.
        domain: String,
        /// Its selector.
        selector: String,
    },
}

impl DkimAction {
    /// Does what was typed.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        let text = Show::new(false);
        match self {
            Self::Create { domain, selector, ed25519, inactive } => {
                simply(path, Request::DkimCreate { domain, selector, ed25519, active: !inactive }, text)
            }
            Self::List { domain, format } => simply(path, Request::DkimList { domain }, Show::list(format.json)),
            Self::Activate { domain, selector } => {
                simply(path, Request::DkimActivate { domain, selector, active: true }, text)
            }
            Self::Deactivate { domain, selector } => {
                simply(path, Request::DkimActivate { domain, selector, active: false }, text)
            }
            Self::Remove { domain, selector } => simply(path, Request::DkimRemove { domain, selector }, text),
        }
    }
}

/// What `rockdove domain dns` was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct DnsArgs {
    /// The domain.
    name: String,
    /// Look every record up, and say what differs and what to do about it. Exit code 4 when something is to be done.
    #[arg(long)]
    check: bool,
    /// The certificate authority that may vouch for this server, as in letsencrypt.org: adds the CAA record.
    #[arg(long, value_name = "DOMAIN")]
    ca: Option<String>,
    #[command(flatten)]
    format: ListFormat,
}

/// Prints every record that a domain is to publish, or how those are that it does publish.
pub(crate) fn dns(path: &Path, args: &DnsArgs) -> Result<(), Failure> {
    let config = config::read(path)?;
    let domain = args.name.as_str();
    let mut link = Link::open(&config)?;
    let mut keys = Vec::new();
    link.ask(Request::DkimList { domain: domain.to_owned() }, &mut |reply| {
        if let Reply::Dkim(key) = reply {
            keys.push((key.selector, key.record));
        }
        Ok(())
    })?;
    let certificate_key = config.tls.as_ref().map(|files| key_of(&files.certificate)).transpose()?;
    let records = records(&Facts {
        domain,
        hostname: &config.hostname,
        keys: &keys,
        certificate_key: certificate_key.as_deref(),
        authority: args.ca.as_deref(),
    });
    if args.check {
        return check(&config, args, &records);
    }
    if args.format.json {
        return print(&format!("{:#}\n", json!(records)));
    }
    let mut text = String::new();
    let mut why = "";
    for record in &records {
        if record.why != why {
            why = record.why;
            text.push_str("; ");
            text.push_str(why);
            text.push('\n');
        }
        if record.kind == POLICY {
            record.data.lines().for_each(|line| text.extend([";   ", line, "\n"]));
            continue;
        }
        for piece in [&record.name, ". 3600 IN ", record.kind, " ", &record.data, "\n"] {
            text.push_str(piece);
        }
    }
    if keys.is_empty() {
        text.push_str("; there is no signing key yet: rockdove domain dkim create ");
        text.push_str(domain);
        text.push('\n');
    }
    print(&text)
}

/// The hash of the public key of the first certificate in a file.
fn key_of(path: &Path) -> Result<Vec<u8>, Failure> {
    let named = |error: std::io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let pem = std::fs::read(path).map_err(named)?;
    first_key_hash(&pem).ok_or_else(|| named(std::io::Error::other("there is no certificate in it")))
}

fn check(config: &Config, args: &DnsArgs, records: &[DnsRecord]) -> Result<(), Failure> {
    let checked = block_on(async {
        let dns = Dns::new(&config.dns)?;
        Ok(published::check(&dns, config, &args.name, records).await)
    });
    let checked = checked.map_err(refused("the name servers cannot be asked"))?;
    if args.format.json {
        print(&format!("{:#}\n", json!(checked)))?;
    } else {
        let mut text = String::new();
        for one in &checked {
            let state = match one.state {
                State::Good => "good",
                State::Other => "other",
                State::Missing => "missing",
                State::Unknown => "unknown",
            };
            text.extend([format!("{state:8} {:6} {}\n", one.record.kind, one.record.name)]);
            one.found.iter().for_each(|found| text.extend(["         there is: ", found, "\n"]));
            if !one.advice.is_empty() {
                text.extend(["         ", &one.advice, "\n"]);
            }
        }
        print(&text)?;
    }
    if checked.iter().all(|one| one.state == State::Good) { Ok(()) } else { Err(Failure::Found) }
}
