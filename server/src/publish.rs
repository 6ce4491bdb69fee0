//! The commands about what a domain publishes: `rockdove domain dkim` and `rockdove domain dns`.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use crate::{
    admin::{Link, Reply, Request},
    cli::{ListFormat, print, simply},
    config,
    failure::Failure,
    show::Show,
    trust::records::records,
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

/// Prints every record that a domain is to publish.
pub(crate) fn dns(path: &Path, domain: &str, as_json: bool) -> Result<(), Failure> {
    let config = config::read(path)?;
    let mut link = Link::open(&config)?;
    let mut keys = Vec::new();
    link.ask(Request::DkimList { domain: domain.to_owned() }, &mut |reply| {
        if let Reply::Dkim(key) = reply {
            keys.push((key.selector, key.record));
        }
        Ok(())
    })?;
    let records = records(domain, &config.hostname, &keys);
    if as_json {
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
