//! One connection at the gate.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rockdove_engine::{AccountId, directory::domain_key};
use rockdove_mail::Peer;
use rockdove_smtp::{Address, Greeting, Refusal, Tarpit};

use super::{
    Gate,
    ask::{Question, SenderDomain, Told},
    buckets::{Charge, Over},
    count,
    grey::{Greeted, Triple},
    lists::Standing,
    names::{self, BadName},
    now_s, place, refusal,
};
use crate::{
    config::{Config, Counted, Per},
    net::listeners::Protocol,
    services::Services,
};

/// Local parts that everybody may write to, also to ask why they may not write to others (RFC 5321 section 4.5.1, RFC
/// 2142).
const OPEN_TO_ALL: [&str; 2] = ["postmaster", "abuse"];

/// Told why not, once.
type Done = Box<dyn FnOnce(Option<Refusal>) + Send>;

/// What the gate knows of one connection. Clones are handles to the same.
#[derive(Clone)]
pub struct Visitor(Arc<Facts>);

struct Facts {
    services: Arc<Services>,
    config: Arc<Config>,
    protocol: Protocol,
    remote: Option<IpAddr>,
    local: Option<IpAddr>,
    /// Nothing is asked of it but what concerns its account.
    trusted: bool,
    lists: Mutex<Lists>,
    transaction: Mutex<Transaction>,
}

/// The transaction under way.
#[derive(Default)]
struct Transaction {
    sender: Option<Address>,
    accepted: usize,
}

/// Called with what lists say.
type WhenKnown = Box<dyn FnOnce(&Standing) + Send>;

/// What lists say, or who waits for it.
enum Lists {
    Asked(Option<WhenKnown>),
    Known(Standing),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visitor {
    /// A connection that begins. Lists are asked at once, so that their answers are there when they are needed.
    pub fn new(services: &Arc<Services>, config: &Arc<Config>, protocol: Protocol, peer: &Peer) -> Self {
        let remote = peer.remote.map(|remote| remote.ip().to_canonical());
        let known = |address: IpAddr| config.gate.trusted.iter().any(|network| network.contains(address));
        let trusted = protocol == Protocol::Lmtp || remote.is_none_or(known);
        let asks = protocol == Protocol::Smtp && !trusted && !config.dns_lists.is_empty();
        let lists = if asks { Lists::Asked(None) } else { Lists::Known(Standing::default()) };
        let visitor = Self(Arc::new(Facts {
            services: Arc::clone(services),
            config: Arc::clone(config),
            protocol,
            remote,
            local: peer.local.map(|local| local.ip().to_canonical()),
            trusted,
            lists: Mutex::new(lists),
            transaction: Mutex::default(),
        }));
        if let Some(address) = remote.filter(|_| asks) {
            let later = visitor.clone();
            let told = Told::new(move |standing| later.lists_known(&standing));
            visitor.gate().door.ask(Question::Lists(address, Arc::clone(config), told));
        }
        visitor
    }

    fn gate(&self) -> &Gate {
        &self.0.services.gate
    }

    /// How the conversation begins.
    pub fn greeting(&self) -> Greeting {
        if let Err(refusal) = self.take(Counted::Connections, 1, None, None) {
            self.log("", &refusal.text);
            return Greeting::Refused(refusal);
        }
        match self.0.config.gate.greet_delay.ms {
            ms if ms > 0 && self.0.protocol == Protocol::Smtp && !self.0.trusted => Greeting::After(ms),
            _ => Greeting::Welcome,
        }
    }

    /// How long replies to mistakes wait.
    pub fn tarpit(&self) -> Tarpit {
        let gate = &self.0.config.gate;
        if self.0.trusted {
            return Tarpit::NONE;
        }
        Tarpit { free: gate.errors_free, first_ms: gate.error_delay.ms, most_ms: gate.error_delay_most.ms }
    }

    /// Whether the client may go on, by the name that it gives itself.
    pub fn hello(&self, name: &str) -> Option<Refusal> {
        let (gate, hostname) = (&self.0.config.gate, &self.0.config.hostname);
        if self.0.trusted {
            return None;
        }
        let why = match names::check(name, hostname, self.0.local, gate.helo_strict, gate.refuse_own_name)? {
            BadName::Ours => "that is the name of this server, not yours",
            BadName::NotFull => "say your full host name, or your address in brackets",
        };
        count("name");
        self.log("", &format!("{why} ({name})"));
        Some(refusal(550, "5.7.1", why.to_owned()))
    }

    /// Whether a message may begin. `account`: who has logged in.
    pub fn sender(&self, address: Option<&Address>, account: Option<AccountId>, done: Done) {
        *locked(&self.0.transaction) = Transaction { sender: address.cloned(), accepted: 0 };
        let found = self.own_domain(address).or_else(|| self.message_begins(account).err());
        if found.is_some() {
            return self.sender_done(found, done);
        }
        let facts = &self.0;
        let wanted = facts.config.gate.check_sender_domain && facts.protocol == Protocol::Smtp && !facts.trusted;
        let domain = address.filter(|address| wanted && !address.domain.starts_with('['));
        match domain.map(|address| &address.domain) {
            Some(domain) if !facts.services.engine.directory().is_local_domain(domain) => {
                let Some(domain) = domain_key(domain) else {
                    return self.sender_done(bad_domain(SenderDomain::Nothing), done);
                };
                let later = self.clone();
                let told = Told::new(move |found| later.sender_done(bad_domain(found), done));
                self.gate().door.ask(Question::Domain(domain, told));
            }
            _ => done(None),
        }
    }

    fn sender_done(&self, refusal: Option<Refusal>, done: Done) {
        if let Some(refusal) = &refusal {
            self.log("", &refusal.text);
        }
        done(refusal);
    }

    /// Our own domains are for those who log in, where the operator says so.
    fn own_domain(&self, address: Option<&Address>) -> Option<Refusal> {
        let wanted = self.0.config.gate.own_domains_need_login && self.0.protocol == Protocol::Smtp && !self.0.trusted;
        let address = address.filter(|_| wanted)?;
        if !self.0.services.engine.directory().is_local_domain(&address.domain) {
            return None;
        }
        count("own domain");
        Some(refusal(550, "5.7.1", "log in to send as an address of this domain".to_owned()))
    }

    fn message_begins(&self, account: Option<AccountId>) -> Result<(), Refusal> {
        if let Err(too_many) = self.take(Counted::RefusedRecipients, 0, account, None) {
            return Err(Refusal { code: 421, ..too_many });
        }
        self.take(Counted::Octets, 0, account, None)?;
        self.take(Counted::Messages, 1, account, None)
    }

    /// Whether a recipient that belongs here may have the message.
    pub fn recipient(&self, address: &Address, account: Option<AccountId>, done: Done) {
        let facts = &self.0;
        let (null, accepted) = {
            let transaction = locked(&facts.transaction);
            (transaction.sender.is_none(), transaction.accepted)
        };
        if facts.protocol != Protocol::Smtp || facts.trusted {
            return done(self.recipient_counted(address, account));
        }
        if facts.config.gate.null_sender_one_recipient && null && accepted > 0 {
            count("null sender");
            return done(Some(refusal(452, "4.5.3", "mail without a sender has one recipient".to_owned())));
        }
        if OPEN_TO_ALL.iter().any(|open| address.local.eq_ignore_ascii_case(open)) {
            return done(self.recipient_counted(address, account));
        }
        let (later, address) = (self.clone(), address.clone());
        self.when_lists_known(Box::new(move |standing| {
            let refused = later.listed(standing).or_else(|| later.greylisted(standing, &address));
            done(refused.or_else(|| later.recipient_counted(&address, account)));
        }));
    }

    fn recipient_counted(&self, address: &Address, account: Option<AccountId>) -> Option<Refusal> {
        let refused = self.take(Counted::Recipients, 1, account, Some(address)).err();
        locked(&self.0.transaction).accepted += usize::from(refused.is_none());
        refused
    }

    /// A recipient was refused for good: somebody may be guessing.
    pub fn recipient_refused(&self) {
        self.overdraw(Counted::RefusedRecipients, 1, None);
    }

    /// A message came in whole.
    pub fn content(&self, octets: u64, account: Option<AccountId>) {
        self.overdraw(Counted::Octets, octets, account);
    }

    fn listed(&self, standing: &Standing) -> Option<Refusal> {
        if standing.weight < self.0.config.gate.dnsbl_refuse_at {
            return None;
        }
        count("listed");
        let address = self.0.remote.map(|remote| remote.to_string()).unwrap_or_default();
        Some(refusal(550, "5.7.1", format!("{address} is listed by {}", standing.against.join(", "))))
    }

    fn greylisted(&self, standing: &Standing, recipient: &Address) -> Option<Refusal> {
        let settings = &self.0.config.greylist;
        let remote = self.0.remote.filter(|_| settings.enabled && !standing.is_good())?;
        let sender = locked(&self.0.transaction).sender.clone();
        let domain = |address: &Address| address.domain.to_lowercase();
        if sender.as_ref().is_some_and(|sender| names::is_one_of(&domain(sender), &settings.exempt_senders))
            || names::is_one_of(&domain(recipient), &settings.exempt_recipients)
        {
            return None;
        }
        let triple = Triple {
            network: &place::neighbourhood(remote).to_string(),
            sender: &sender.as_ref().map(lasting).unwrap_or_default(),
            recipient: &recipient.to_string().to_lowercase(),
        };
        match self.gate().memory().greylist.look(settings, triple, now_s()) {
            Greeted::Pass => None,
            Greeted::Wait(seconds) => {
                count("greylisted");
                Some(refusal(451, "4.7.1", format!("greylisted, try again in {}", time(seconds))))
            }
        }
    }

    /// Calls back with what lists say, at once where it is known.
    fn when_lists_known(&self, then: WhenKnown) {
        let known = match &mut *locked(&self.0.lists) {
            Lists::Asked(waiting) => {
                *waiting = Some(then);
                return;
            }
            Lists::Known(standing) => standing.clone(),
        };
        then(&known);
    }

    fn lists_known(&self, standing: &Standing) {
        let before = std::mem::replace(&mut *locked(&self.0.lists), Lists::Known(standing.clone()));
        if let Lists::Asked(Some(waiting)) = before {
            waiting(standing);
        }
    }

    fn charges(
        &self,
        counted: Counted,
        units: u64,
        account: Option<AccountId>,
        recipient: Option<&Address>,
    ) -> Vec<Charge<'_>> {
        let facts = &self.0;
        let remote = facts.remote.filter(|_| !facts.trusted);
        let sender = locked(&facts.transaction).sender.as_ref().map(|sender| sender.domain.to_lowercase());
        let rates = facts.config.rates.iter();
        let rates = rates.filter(|rate| rate.protocol == facts.protocol && rate.counted == counted);
        let whose = |per: Per| match per {
            Per::Address => remote.map(|remote| place::client(remote).to_string()),
            Per::Network => remote.map(|remote| place::network(remote).to_string()),
            Per::Account => account.map(|account| account.0.to_string()),
            Per::SenderDomain => sender.clone().filter(|_| remote.is_some()),
            Per::RecipientDomain => {
                recipient.filter(|_| remote.is_some()).map(|recipient| recipient.domain.to_lowercase())
            }
        };
        rates.filter_map(|rate| Some(Charge { limit: rate, whose: whose(rate.per)?, units })).collect()
    }

    /// Takes from the buckets, or says why not.
    fn take(
        &self,
        counted: Counted,
        units: u64,
        account: Option<AccountId>,
        recipient: Option<&Address>,
    ) -> Result<(), Refusal> {
        let charges = self.charges(counted, units, account, recipient);
        if charges.is_empty() {
            return Ok(());
        }
        let taken = self.gate().memory().buckets.take(&charges, now_s());
        taken.map_err(|Over { limit, wait_s }| {
            metrics::counter!("rockdove_rate_limited_total", "limit" => limit.name.clone()).increment(1);
            count("rate");
            let (what, of) = words(counted, limit.per);
            refusal(450, "4.7.1", format!("too many {what} {of}, try again in {} ({})", time(wait_s), limit.name))
        })
    }

    fn overdraw(&self, counted: Counted, units: u64, account: Option<AccountId>) {
        let charges = self.charges(counted, units, account, None);
        if !charges.is_empty() {
            self.gate().memory().buckets.overdraw(&charges, now_s());
        }
    }

    fn log(&self, to: &str, why: &str) {
        let from = locked(&self.0.transaction).sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let peer = self.0.remote.map(tracing::field::display);
        tracing::info!(from, to, peer, protocol = self.0.protocol.name(), why, "refused");
    }
}

/// Why the domain of a sender is not taken.
fn bad_domain(found: SenderDomain) -> Option<Refusal> {
    let (code, status, text) = match found {
        SenderDomain::Good => return None,
        SenderDomain::Nothing => (550, "5.1.8", "the domain of the sender does not exist, or takes no mail"),
        //= rfc7505#section-4.2
        //# 550 5.7.27 Sender address has null MX
        SenderDomain::NoMail => (550, "5.7.27", "the domain of the sender takes no mail"),
        SenderDomain::Later => (451, "4.1.8", "the domain of the sender cannot be looked up now, try again later"),
    };
    count("sender domain");
    Some(refusal(code, status, text.to_owned()))
}

/// A sender without what changes from message to message: tags behind `+`, and numbers.
fn lasting(address: &Address) -> String {
    let local = address.local.split('+').next().unwrap_or_default();
    let local: String = local.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    format!("{local}@{}", address.domain).to_lowercase()
}

fn words(counted: Counted, per: Per) -> (&'static str, &'static str) {
    let what = match counted {
        Counted::Connections => "connections",
        Counted::Messages => "messages",
        Counted::Recipients => "recipients",
        Counted::Octets => "octets",
        Counted::RefusedRecipients => "recipients that do not exist",
    };
    let of = match per {
        Per::Address => "from your address",
        Per::Network => "from your network",
        Per::Account => "of this account",
        Per::SenderDomain => "of this sender's domain",
        Per::RecipientDomain => "for this domain",
    };
    (what, of)
}

/// A time for people.
fn time(seconds: u64) -> String {
    match seconds {
        0..=120 => format!("{seconds} s"),
        121..=7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}
