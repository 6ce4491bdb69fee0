//! The loop: takes what is due, and holds connections to where it goes.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fs, io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rockdove_engine::{Command, Engine, Lease};
use rockdove_smtp::client::ServerReply;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    results::Results,
    settle::{self, Came, now_ms},
    sts::Policies,
};
use crate::{
    config::Config,
    dns::Dns,
    net::peer::PeerDialer,
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
/// Pause between two looks for reports that are due.
const REPORT_EVERY_MS: u64 = 10 * 60_000;
/// Pause before a result is noted once more that could not be.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// Starts the loop on a thread of its own.
///
/// # Errors
/// When the thread, the resolver or the cryptography is not to be had.
pub fn start(services: &Arc<Services>) -> io::Result<Side> {
    let services = Arc::clone(services);
    // What can fail is tried here, where the start can still be refused.
    let dialer = dialer(&services.config())?;
    Side::start("outbound", Box::new(move |context| Box::pin(run(services, dialer, context))))
}

/// Who servers are is found out so.
pub(super) fn dialer(config: &Config) -> io::Result<PeerDialer> {
    let roots = config.outbound.tls_roots.as_deref().map(|path| {
        fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    });
    PeerDialer::new(roots.transpose()?.as_deref())
}

async fn run(services: Arc<Services>, dialer: PeerDialer, context: SideContext) {
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
        dialer,
        policies: Policies::default(),
        results: Results::default(),
        roster: context.roster,
        wake,
        hops: RefCell::default(),
        connections: Cell::new(0),
        report_from_ms: Cell::new(0),
        reporting: Cell::new(false),
        report_wanted: Cell::new(false),
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
    pub(super) dns: Dns,
    pub(super) dialer: PeerDialer,
    pub(super) policies: Policies,
    pub(super) results: Results,
    pub(super) roster: Rc<Roster>,
    wake: Arc<Notify>,
    hops: RefCell<BTreeMap<String, Hop>>,
    connections: Cell<usize>,
    /// When reports on the protection of connections are looked for next, and whether they are being sent.
    report_from_ms: Cell<u64>,
    reporting: Cell<bool>,
    report_wanted: Cell<bool>,
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
            self.results.write(&self.services, false).await;
            self.report(false);
            let sleep = self.sleep();
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                () = self.services.tls_reports_wanted.notified() => self.report(true),
                _ = phase.changed() => {}
            }
        }
        self.results.write(&self.services, true).await;
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

    /// Begins to send reports on the protection of connections, when it is time or an administrator wants them.
    fn report(self: &Rc<Self>, now: bool) {
        let at = clock::monotonic_ms();
        let is_due = self.services.config().outbound.tls_reports && at >= self.report_from_ms.get();
        // A wish that comes while reports are being sent is for what those have passed over.
        if now {
            self.report_wanted.set(true);
        }
        if self.reporting.get() {
            return;
        }
        let now = self.report_wanted.replace(false);
        if now || is_due {
            self.reporting.set(true);
            self.report_from_ms.set(at.saturating_add(REPORT_EVERY_MS));
            let runner = Rc::clone(self);
            drop(tokio::task::spawn_local(async move {
                runner.report_protection(now).await;
                runner.sweep_policies().await;
                runner.reporting.set(false);
                runner.wake.notify_one();
            }));
        }
    }

    /// Whether something waits here for a destination.
    pub(super) fn has_waiting(&self, name: &str) -> bool {
        self.hops.borrow().get(name).is_some_and(|hop| !hop.waiting.is_empty())
    }

    /// What waits here for a destination and is to go there whatever it asks for.
    pub(super) fn take_optional(&self, name: &str) -> Vec<Lease> {
        let mut hops = self.hops.borrow_mut();
        let Some(hop) = hops.get_mut(name) else { return Vec::new() };
        let (optional, rest): (VecDeque<Lease>, VecDeque<Lease>) =
            std::mem::take(&mut hop.waiting).into_iter().partition(|lease| lease.envelope.tls_optional);
        hop.waiting = rest;
        optional.into()
    }

    /// A destination can be used.
    pub(super) fn worked(&self, name: &str) {
        if let Some(hop) = self.hops.borrow_mut().get_mut(name) {
            (hop.failures, hop.cool_until_ms) = (0, 0);
        }
    }

    /// A destination cannot be used now: what waits for it is put off, or given up.
    pub(super) fn failed(&self, name: &str, server: &str, reply: &ServerReply) {
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
        let command = settle::command(&note.services, &note.lease, &note.came);
        let engine = Arc::clone(&note.services.engine);
        submit(&engine, command, note);
    });
    if busy.is_err()
        && let Some(note) = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    {
        again(note);
    }
}

fn submit(engine: &Arc<Engine>, command: Result<Command, rockdove_engine::EngineError>, note: Note) {
    match command {
        Ok(command) => {
            let done = move |outcome: Result<_, rockdove_engine::EngineError>| match outcome {
                Ok(_) => (note.then)(),
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
