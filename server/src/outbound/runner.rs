//! The loop: takes what is due, and holds connections to where it goes.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rockdove_engine::{Command, Engine, EngineError, Lease};
use rockdove_smtp::client::{ClientConfig, ClientLogin, ClientSession, ServerReply, Stage};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    attempt::Attempt,
    connect::{Dialers, Target, connect, targets},
    front::OutboundFront,
    route::Way,
    settle::{self, Came, Told, now_ms},
};
use crate::{
    config::{Config, RouteTls},
    dns::Dns,
    net::{
        drive::{ConnContext, Ended, drive},
        link::Link,
    },
    runtime::{
        clock,
        roster::{Phase, Roster},
        side::{Side, SideContext},
    },
    services::Services,
};

/// Tasks taken from the queue at once.
const LEASES_AT_ONCE: usize = 512;
/// Tasks of one destination that wait here for each of its connections.
const WAITING_PER_CONNECTION: usize = 4;
/// The longest sleep: clocks are set, and settings change.
const SLEEP_MOST: Duration = Duration::from_secs(30);
/// Pause after a destination could not be used, doubled for each failure after it up to [`COOL_MOST_MS`].
const COOL_FIRST_MS: u64 = 15_000;
const COOL_MOST_MS: u64 = 15 * 60_000;
/// Pause before a result is noted once more that could not be.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// Starts the loop on a thread of its own.
///
/// # Errors
/// When the thread, the resolver or the cryptography is not to be had.
pub fn start(services: &Arc<Services>) -> io::Result<Side> {
    let services = Arc::clone(services);
    // What can fail is tried here, where the start can still be refused.
    let dialers = Dialers::new()?;
    Side::start("outbound", Box::new(move |context| Box::pin(run(services, dialers, context))))
}

async fn run(services: Arc<Services>, dialers: Dialers, context: SideContext) {
    let dns = match Dns::new(&services.config().dns) {
        Ok(dns) => dns,
        Err(error) => return tracing::error!(%error, "no mail leaves: name servers cannot be asked ([dns] servers)"),
    };
    let wake = Arc::new(Notify::new());
    let woken = Arc::clone(&wake);
    services.engine.on_queue(Box::new(move || woken.notify_one()));
    let runner = Rc::new(Runner {
        services,
        dns,
        dialers,
        roster: context.roster,
        wake,
        hops: RefCell::default(),
        connections: Cell::new(0),
        handle: Handle::current(),
    });
    runner.run(context.phase).await;
}

/// What is known of a destination.
#[derive(Default)]
struct Hop {
    /// Taken from the queue, and not begun.
    waiting: VecDeque<Lease>,
    connections: usize,
    /// Not used before this moment, in milliseconds since 1970.
    cool_until_ms: u64,
    failures: u32,
}

pub(super) struct Runner {
    services: Arc<Services>,
    dns: Dns,
    dialers: Dialers,
    roster: Rc<Roster>,
    wake: Arc<Notify>,
    hops: RefCell<BTreeMap<String, Hop>>,
    connections: Cell<usize>,
    handle: Handle,
}

impl Runner {
    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(super) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.services.engine)
    }

    async fn run(self: Rc<Self>, mut phase: watch::Receiver<Phase>) {
        while *phase.borrow_and_update() == Phase::Running {
            self.take_due();
            self.connect_all();
            let sleep = self.sleep();
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                _ = phase.changed() => {}
            }
        }
        for (_, hop) in self.hops.borrow_mut().iter_mut() {
            hop.waiting.drain(..).for_each(|lease| self.services.engine.return_lease(&lease));
        }
    }

    /// Until something is due, or a destination may be used again.
    fn sleep(&self) -> Duration {
        let now = now_ms();
        let due = self.services.engine.queue_use().next_due_ms.filter(|due| *due > now);
        let cool = self.hops.borrow().values().map(|hop| hop.cool_until_ms).filter(|until| *until > now).min();
        let next = [due, cool].into_iter().flatten().min().map(|at| Duration::from_millis(at.saturating_sub(now)));
        next.unwrap_or(SLEEP_MOST).clamp(Duration::from_millis(50), SLEEP_MOST)
    }

    fn take_due(&self) {
        let (config, now) = (self.services.config(), now_ms());
        let most = config.outbound.connections_per_destination.saturating_mul(WAITING_PER_CONNECTION);
        let hops = &mut *self.hops.borrow_mut();
        // What failed long ago is forgotten.
        hops.retain(|_, hop| {
            hop.connections > 0 || !hop.waiting.is_empty() || hop.cool_until_ms.saturating_add(COOL_MOST_MS) > now
        });
        let mut wanted = |name: &str| match hops.get(name) {
            Some(hop) if hop.cool_until_ms > now => 0,
            Some(hop) => most.saturating_sub(hop.waiting.len()),
            None => most,
        };
        match self.services.engine.lease(now, LEASES_AT_ONCE, &mut wanted) {
            Ok(leases) => {
                for lease in leases {
                    hops.entry(lease.state.next_hop.clone()).or_default().waiting.push_back(lease);
                }
            }
            Err(error) => tracing::error!(%error, "the queue cannot be read"),
        }
    }

    /// As many connections as there is work for, within the limits.
    fn connect_all(self: &Rc<Self>) {
        let config = self.services.config();
        let mut begun = Vec::new();
        for (name, hop) in self.hops.borrow_mut().iter_mut() {
            let wanted = hop.waiting.len().min(config.outbound.connections_per_destination);
            while hop.connections < wanted && self.connections.get() < config.outbound.connections {
                hop.connections += 1;
                self.connections.set(self.connections.get() + 1);
                begun.push(name.clone());
            }
        }
        for name in begun {
            let runner = Rc::clone(self);
            drop(tokio::task::spawn_local(async move {
                let _connected = Connected { runner: Rc::clone(&runner), hop: name.clone() };
                runner.serve(&name).await;
            }));
        }
    }

    /// The next task for a destination: one that waits here, or one that is due.
    pub(super) fn take(&self, name: &str) -> Option<Lease> {
        if let Some(lease) = self.hops.borrow_mut().get_mut(name).and_then(|hop| hop.waiting.pop_front()) {
            return Some(lease);
        }
        if self.roster.phase() != Phase::Running {
            return None;
        }
        let mut wanted = |hop: &str| usize::from(hop == name);
        self.services.engine.lease(now_ms(), 1, &mut wanted).ok()?.pop()
    }

    /// One connection after the other to the servers of a destination, until one has taken what there was.
    async fn serve(self: &Rc<Self>, name: &str) {
        let config = self.services.config();
        let way = Way::of(&config, name);
        let mut seed = clock::seed().unwrap_or_default();
        let mut dice = |sides: usize| {
            seed = *blake3::hash(&seed).as_bytes();
            usize::from(u16::from_le_bytes([seed[0], seed[1]])) % sides.max(1)
        };
        let mut last = match targets(&self.dns, &config, &way, &mut dice).await {
            Ok(targets) => {
                let mut last = (String::new(), ServerReply::new(451, "4.4.1", "no server could be reached"));
                for target in targets {
                    match self.try_target(name, &config, &way, &target).await {
                        Ok(()) => return self.worked(name),
                        Err(reply) => last = (target.name, reply),
                    }
                    if self.hops.borrow().get(name).is_none_or(|hop| hop.waiting.is_empty()) {
                        return;
                    }
                }
                last
            }
            Err(reply) => (String::new(), reply),
        };
        // A whole server that says no does not speak of the recipients: another day it may say yes.
        if last.1.is_permanent() && !last.0.is_empty() {
            last.1.code = 451;
            last.1.status = last.1.status.map(|status| status.replacen('5', "4", 1));
        }
        self.failed(name, &last.0, &last.1);
    }

    async fn try_target(
        self: &Rc<Self>,
        name: &str,
        config: &Arc<Config>,
        way: &Way,
        target: &Target,
    ) -> Result<(), ServerReply> {
        let first = self.converse(name, config, way, target, false).await;
        match first {
            // RFC 7435: encryption that fails is no reason to keep mail back that may go without.
            Err((Stage::Tls, _)) if way.tls() == RouteTls::Opportunistic => {
                self.converse(name, config, way, target, true).await.map_err(|(_, reply)| reply)
            }
            other => other.map_err(|(_, reply)| reply),
        }
    }

    /// One connection from beginning to end. `Err` when the server was not ready for mail.
    async fn converse(
        self: &Rc<Self>,
        name: &str,
        config: &Arc<Config>,
        way: &Way,
        target: &Target,
        clear: bool,
    ) -> Result<(), (Stage, ServerReply)> {
        let unreachable = |error: io::Error| {
            let text = format!("{} ({}): {error}", target.name, target.address.ip());
            (Stage::Greeting, ServerReply::new(451, "4.4.1", &text))
        };
        let (handshake, tls) = self.dialers.protection(way.tls(), target, clear).map_err(unreachable)?;
        let wire = connect(config, target).await.map_err(unreachable)?;
        metrics::counter!("rockdove_outbound_connections_total").increment(1);
        let mut link = Link::new(wire, Rc::clone(&self.roster).join().await);
        let implicit = way.tls() == RouteTls::Implicit;
        if let (true, Some(handshake)) = (implicit, &handshake) {
            link.start_tls(handshake).await.map_err(unreachable)?;
        }
        let attempt = Attempt::default();
        let session = ClientSession::new(client_config(config, way, tls), implicit, clock::now());
        let (hop, target_here) = (name.to_owned(), target.clone());
        let front = OutboundFront { runner: Rc::clone(self), hop, target: target_here, attempt: attempt.clone() };
        let context = ConnContext {
            tls: handshake,
            received: metrics::counter!("rockdove_received_octets_total", "protocol" => "outbound"),
            sent: metrics::counter!("rockdove_sent_octets_total", "protocol" => "outbound"),
        };
        let ended = Box::pin(drive(link, session, front, &context)).await;
        let lost_at = self.put_down(&attempt, &target.name);
        match attempt.unusable() {
            Some(unusable) => Err(unusable),
            None if attempt.was_ready() => Ok(()),
            None => {
                let why = match ended {
                    Ended::Lost(error) => error.to_string(),
                    Ended::Closed => "the connection was closed".to_owned(),
                };
                // Nothing was said before the handshake that a server could mind.
                let stage = if context.tls.is_some() && !implicit { Stage::Tls } else { lost_at };
                Err((stage, ServerReply::new(451, "4.4.2", &format!("{}: {why}", target.name))))
            }
        }
    }

    /// What a connection was working on when it was lost waits again.
    fn put_down(&self, attempt: &Attempt, server: &str) -> Stage {
        let Some(work) = attempt.end() else { return Stage::Greeting };
        let came = Came::nothing(&work.lease, &settle::lost(Stage::Envelope), server);
        self.settle(work.lease, came, || {});
        Stage::Envelope
    }

    /// A destination can be used.
    fn worked(&self, name: &str) {
        if let Some(hop) = self.hops.borrow_mut().get_mut(name) {
            (hop.failures, hop.cool_until_ms) = (0, 0);
        }
    }

    /// A destination cannot be used now: what waits for it is put off, or given up.
    fn failed(&self, name: &str, server: &str, reply: &ServerReply) {
        let waiting = match self.hops.borrow_mut().get_mut(name) {
            Some(hop) => {
                hop.failures = hop.failures.saturating_add(1);
                let pause = COOL_FIRST_MS.checked_shl(hop.failures.min(16) - 1).unwrap_or(COOL_MOST_MS);
                hop.cool_until_ms = now_ms().saturating_add(pause.min(COOL_MOST_MS));
                std::mem::take(&mut hop.waiting)
            }
            None => return,
        };
        tracing::info!(hop = name, server, %reply, waiting = waiting.len(), "a destination cannot be used");
        for lease in waiting {
            let came = Came::nothing(&lease, reply, server);
            self.settle(lease, came, || {});
        }
    }

    /// Makes durable what came of a lease, however often it takes, then calls `then`.
    pub(super) fn settle(&self, lease: Lease, came: Came, then: impl FnOnce() + Send + 'static) {
        let wake = Arc::clone(&self.wake);
        let told = move || {
            then();
            wake.notify_one();
        };
        note(Note {
            services: Arc::clone(&self.services),
            handle: self.handle.clone(),
            lease,
            came,
            then: Box::new(told),
        });
    }
}

/// A result that is to be noted.
struct Note {
    services: Arc<Services>,
    handle: Handle,
    lease: Lease,
    came: Came,
    then: Box<dyn FnOnce() + Send>,
}

fn note(note: Note) {
    let services = Arc::clone(&note.services);
    let shared = Arc::new(std::sync::Mutex::new(Some(note)));
    let here = Arc::clone(&shared);
    let busy = services.storage.run(move || {
        let Some(note) = here.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() else { return };
        let planned = settle::command(&note.services, &note.lease, &note.came);
        let engine = Arc::clone(&note.services.engine);
        submit(&engine, planned, note);
    });
    if busy.is_err()
        && let Some(note) = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    {
        again(note);
    }
}

fn submit(engine: &Arc<Engine>, planned: Result<(Command, Told), EngineError>, note: Note) {
    match planned {
        Ok((command, told)) => {
            let telling = Arc::clone(engine);
            let done = move |outcome: Result<_, EngineError>| match outcome {
                Ok(outcome) => {
                    (note.then)();
                    told.tell(&telling, &outcome);
                }
                Err(error) => {
                    tracing::warn!(message = note.lease.message.0, %error, "what came of mail could not be noted; trying again");
                    again(note);
                }
            };
            engine.submit(clock::now().unix_s, command, Box::new(done));
        }
        Err(error) => {
            tracing::warn!(message = note.lease.message.0, %error, "what came of mail could not be noted; trying again");
            again(note);
        }
    }
}

/// What is not noted would be sent twice: there is no giving up.
fn again(later: Note) {
    let handle = later.handle.clone();
    drop(handle.spawn(async move {
        tokio::time::sleep(NOTE_AGAIN).await;
        note(later);
    }));
}

/// Counts a connection while it is there.
struct Connected {
    runner: Rc<Runner>,
    hop: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.runner.connections.set(self.runner.connections.get().saturating_sub(1));
        if let Some(hop) = self.runner.hops.borrow_mut().get_mut(&self.hop) {
            hop.connections = hop.connections.saturating_sub(1);
        }
        self.runner.wake.notify_one();
    }
}

pub(super) fn client_config(config: &Config, way: &Way, tls: rockdove_smtp::client::ClientTls) -> ClientConfig {
    let Way::Server(route) = way else {
        return ClientConfig { name: config.hostname.clone(), lmtp: false, tls, login: None };
    };
    let nonce = blake3::hash(&clock::seed().unwrap_or_default()).to_hex().to_string();
    let here = route.host.as_deref().and_then(|host| host.parse::<std::net::IpAddr>().ok());
    let plain =
        matches!(route.tls, RouteTls::Verified | RouteTls::Implicit) || here.is_some_and(|host| host.is_loopback());
    let login = route.login.as_ref().map(|(login, password)| ClientLogin {
        login: login.clone(),
        password: password.clone(),
        plain,
        nonce,
    });
    ClientConfig { name: config.hostname.clone(), lmtp: route.lmtp, tls, login }
}
