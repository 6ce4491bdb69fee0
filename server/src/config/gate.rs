//! Who may talk to us, and how fast: `[gate]`, `[greylist]`, `[[limit]]` and `[[dnsbl]]`.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::values::{Size, Span};
use crate::net::listeners::{Network, Protocol};

/// Limits; each is looked at for every command that it counts.
const LIMITS_MAX: usize = 64;
/// Lists; each is asked about every client.
const LISTS_MAX: usize = 16;
/// Octets of the name of a limit.
const NAME_OCTETS_MAX: usize = 64;
/// The longest time that a limit is counted over.
const EVERY_MOST: Span = Span::seconds(31 * 24 * 60 * 60);
/// RFC 5321 section 4.5.3.2.1: a client waits 5 minutes for a greeting; what waits long holds a connection.
const GREET_DELAY_MOST: Span = Span::seconds(60);
/// A client may wait no longer than 5 minutes for a reply (RFC 5321 section 4.5.3.2.2).
const ERROR_DELAY_MOST: Span = Span::seconds(2 * 60);

/// `[gate]`: what is asked of clients of other servers before their mail is taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct GateSettings {
    /// Networks that nothing of this is asked of; limits for accounts hold there too.
    pub trusted: Vec<Network>,
    /// How long the greeting of SMTP waits; who speaks before it is sent off.
    pub greet_delay: Span,
    /// Mistakes of a client that are answered at once.
    pub errors_free: u32,
    /// The wait for the reply to the next one, doubled for each one after it.
    pub error_delay: Span,
    /// The longest wait.
    pub error_delay_most: Span,
    /// Nobody may use our name or address in EHLO.
    pub refuse_own_name: bool,
    /// The name in EHLO must be a full host name, or an address in brackets.
    pub helo_strict: bool,
    /// The domain of the sender must exist, and take mail.
    pub check_sender_domain: bool,
    /// Our own domains may not be used as sender domains without a login.
    pub own_domains_need_login: bool,
    /// Mail without a sender has one recipient.
    pub null_sender_one_recipient: bool,
    /// Weights of lists that name a client from which its mail is refused.
    pub dnsbl_refuse_at: i32,
    /// For lists to answer.
    pub dnsbl_timeout: Span,
}

impl Default for GateSettings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1"].map(str::parse);
        Self {
            trusted: loopback.into_iter().flatten().collect(),
            greet_delay: Span::seconds(0),
            errors_free: 10,
            error_delay: Span::seconds(1),
            error_delay_most: Span::seconds(30),
            refuse_own_name: true,
            helo_strict: false,
            check_sender_domain: false,
            own_domains_need_login: false,
            null_sender_one_recipient: false,
            dnsbl_refuse_at: 1,
            dnsbl_timeout: Span::seconds(5),
        }
    }
}

/// `[greylist]`: who is not known yet has to try again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GreylistSettings {
    /// Whether.
    pub enabled: bool,
    /// A second attempt is taken after this time.
    pub delay: Span,
    /// And has to come within this time.
    pub retry_within: Span,
    /// How long what has passed is remembered after it was last seen.
    pub remember: Span,
    /// Passes of a network after which nothing of it waits any more; 0 for never.
    pub passes: u32,
    /// Domains of senders that need not wait; `.example.org` for all below one.
    pub exempt_senders: Vec<String>,
    /// Domains of recipients that nobody waits for.
    pub exempt_recipients: Vec<String>,
}

impl Default for GreylistSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            delay: Span::seconds(5 * 60),
            retry_within: Span::seconds(2 * 24 * 60 * 60),
            remember: Span::seconds(36 * 24 * 60 * 60),
            passes: 5,
            exempt_senders: Vec::new(),
            exempt_recipients: Vec::new(),
        }
    }
}

/// Whom a limit is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The address of the client; one /64 with IPv6.
    Address,
    /// Its network: a /24, or a /48 with IPv6.
    Network,
    /// The account that has logged in.
    Account,
    /// The domain of the reverse-path.
    SenderDomain,
    /// The domain of a recipient.
    RecipientDomain,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Connections.
    Connections,
    /// Messages that are begun.
    Messages,
    /// Recipients that are accepted.
    Recipients,
    /// Octets of messages that came in whole.
    Octets,
    /// Recipients that do not exist, or are not ours.
    RefusedRecipients,
}

/// `[[limit]]`: a token bucket for each of those that it is kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What it is called in the log and in figures.
    pub name: String,
    /// Where it is kept: SMTP or submission.
    pub protocol: Protocol,
    /// For whom.
    pub per: Per,
    /// Of what.
    pub counted: Counted,
    /// How much in `every`, never 0.
    pub most: u64,
    /// The time in which a bucket that is empty is full again, if `burst` is `most`.
    pub every: Span,
    /// How much at once.
    pub burst: u64,
}

/// `[[dnsbl]]`: a list of clients (RFC 5782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsList {
    /// Where it is asked.
    pub zone: String,
    /// Answers that count.
    pub codes: Vec<Network>,
    /// What being on it weighs; less than 0 for lists of good clients.
    pub weight: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitSection {
    name: String,
    #[serde(default = "smtp")]
    protocol: Protocol,
    per: Option<Per>,
    count: Option<Counted>,
    most: Amount,
    every: Option<Span>,
    burst: Option<Amount>,
}

fn smtp() -> Protocol {
    Protocol::Smtp
}

/// A number, or a size.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Octets(Size),
}

impl Amount {
    fn value(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Octets(size) => size.bytes,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsblSection {
    zone: String,
    codes: Option<Vec<Network>>,
    #[serde(default = "one")]
    weight: i32,
}

fn one() -> i32 {
    1
}

/// Says what is wrong, and where.
pub(super) type Say<'a> = &'a mut dyn FnMut(Range<usize>, String);

/// Limits that are kept unless the file says otherwise: far above what any person or server sends.
pub(super) fn implied_limits() -> Vec<RateLimit> {
    let limit = |name: &str, protocol, per, counted, most, every_s| RateLimit {
        name: name.to_owned(),
        protocol,
        per,
        counted,
        most,
        every: Span::seconds(every_s),
        burst: most,
    };
    vec![
        limit("connections", Protocol::Smtp, Per::Address, Counted::Connections, 6_000, 600),
        limit("messages", Protocol::Smtp, Per::Network, Counted::Messages, 12_000, 600),
        limit("guesses", Protocol::Smtp, Per::Address, Counted::RefusedRecipients, 1_000, 600),
        limit("account-messages", Protocol::Submission, Per::Account, Counted::Messages, 1_000, 3_600),
        limit("account-recipients", Protocol::Submission, Per::Account, Counted::Recipients, 10_000, 86_400),
    ]
}

/// The limits of the file, and of the implied ones those that it does not name.
pub(super) fn limits(sections: Vec<Spanned<LimitSection>>, say: Say<'_>) -> Vec<RateLimit> {
    let mut limits = implied_limits();
    let mut named: Vec<String> = Vec::new();
    if let Some(one_too_many) = sections.get(LIMITS_MAX) {
        say(one_too_many.span(), format!("at most {LIMITS_MAX} limits"));
    }
    for section in sections {
        let (span, section) = (section.span(), section.into_inner());
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        if section.name.is_empty() || section.name.len() > NAME_OCTETS_MAX || !section.name.bytes().all(plain) {
            say(span.clone(), "limit.name: letters, digits, \"-\", \"_\" and \".\"".to_owned());
        }
        if named.contains(&section.name) {
            say(span.clone(), format!("there are two limits called {}: give each its own name", section.name));
        }
        named.push(section.name.clone());
        let implied = limits.iter().position(|limit| limit.name == section.name).map(|at| limits.remove(at));
        if section.most.value() > 0 {
            limits.extend(limit(section, implied.as_ref(), &span, say));
        }
    }
    limits
}

fn limit(section: LimitSection, implied: Option<&RateLimit>, span: &Range<usize>, say: Say<'_>) -> Option<RateLimit> {
    let per = section.per.or(implied.map(|limit| limit.per));
    let counted = section.count.or(implied.map(|limit| limit.counted));
    let every = section.every.or(implied.map(|limit| limit.every));
    let (Some(per), Some(counted), Some(every)) = (per, counted, every) else {
        say(span.clone(), format!("the limit {} needs per, count, most and every", section.name));
        return None;
    };
    let protocol = implied.map_or(section.protocol, |limit| limit.protocol);
    if every < Span::seconds(1) || every > EVERY_MOST {
        say(span.clone(), format!("limit.every: from \"1 s\" to \"{EVERY_MOST}\""));
        return None;
    }
    if let Some(why) = senseless(protocol, per, counted) {
        say(span.clone(), format!("limit {}: {why}", section.name));
        return None;
    }
    let most = section.most.value();
    let burst = section.burst.map_or(most, Amount::value).max(1);
    Some(RateLimit { name: section.name, protocol, per, counted, most, every, burst })
}

/// Why a limit could never be kept.
fn senseless(protocol: Protocol, per: Per, counted: Counted) -> Option<&'static str> {
    let place = matches!(per, Per::Address | Per::Network);
    match (protocol, per, counted) {
        (Protocol::Smtp, Per::Account, _) => Some("accounts are known on submission only"),
        (Protocol::Smtp | Protocol::Submission, Per::RecipientDomain, counted) if counted != Counted::Recipients => {
            Some("recipients are all that can be counted for the domain of a recipient")
        }
        (Protocol::Smtp | Protocol::Submission, _, Counted::Connections | Counted::RefusedRecipients) if !place => {
            Some("connections and refused recipients are counted for addresses and networks")
        }
        (Protocol::Smtp | Protocol::Submission, ..) => None,
        _ => Some("protocol is smtp or submission"),
    }
}

/// The lists of the file.
pub(super) fn dns_lists(sections: Vec<Spanned<DnsblSection>>, say: Say<'_>) -> Vec<DnsList> {
    if let Some(one_too_many) = sections.get(LISTS_MAX) {
        say(one_too_many.span(), format!("at most {LISTS_MAX} lists"));
    }
    let mut lists = Vec::new();
    for section in sections {
        let (span, section) = (section.span(), section.into_inner());
        let zone = section.zone.trim_end_matches('.').to_ascii_lowercase();
        let letter = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
        // The reversed address of IPv6 goes before it: 32 digits with their dots.
        if zone.len() > 253 - 64 || !zone.split('.').all(label) {
            say(span, format!("{:?} is not the name of a zone, as in \"list.example.org\"", section.zone));
            continue;
        }
        let codes = section.codes.unwrap_or_else(|| "127.0.0.0/16".parse().into_iter().collect());
        lists.push(DnsList { zone, codes, weight: section.weight });
    }
    lists
}

/// What is wrong with `[gate]`.
pub(super) fn check_gate(gate: &GateSettings) -> Vec<String> {
    let mut wrong = Vec::new();
    if gate.greet_delay > GREET_DELAY_MOST {
        wrong.push(format!("gate.greet_delay: at most \"{GREET_DELAY_MOST}\""));
    }
    if gate.error_delay > gate.error_delay_most || gate.error_delay_most > ERROR_DELAY_MOST {
        let what = format!("gate.error_delay: not more than error_delay_most, which is at most \"{ERROR_DELAY_MOST}\"");
        wrong.push(what);
    }
    if gate.dnsbl_refuse_at < 1 {
        wrong.push("gate.dnsbl_refuse_at: at least 1, or everybody would be refused".to_owned());
    }
    wrong
}

/// What is wrong with `[greylist]`.
pub(super) fn check_greylist(greylist: &GreylistSettings) -> Option<String> {
    let good = greylist.delay < greylist.retry_within && greylist.retry_within <= greylist.remember;
    (!good).then(|| "greylist: delay must be less than retry_within, and that not more than remember".to_owned())
}
