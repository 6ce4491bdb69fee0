//! The assembly of a server: from a checked configuration to connections that are served, and back.
//!
//! * What: the start in its order, reloading, the stop in its order; opening the store, binding, logs and metrics.
//! * In: a [`Config`] and the path it came from.
//! * Out: a serving process, until SIGTERM or SIGINT.
//! * Never: knows what a protocol says, or decides about mail.
//! * Fails: before anything is served, with a [`Failure`] that says what to do; later a failed reload keeps what was in
//!   force.

mod carry;
mod door;
mod index;
pub mod journal;
mod learn;
mod listen;
mod reload;
mod room;
pub mod store;
mod trace;
mod upkeep;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rockdove_engine::Engine;

use self::{
    door::GateThreads,
    index::{INDEX_EVERY, Indexer},
    learn::{LEARN_EVERY, Learner},
    listen::Listening,
    reload::Reload,
    room::{LOOK_EVERY, Room},
    store::Store,
};
use crate::{
    admin::{self, Host, ServerFacts},
    backup::checkpoint::Checkpoints,
    config::Config,
    data_dir::DataDir,
    failure::{Failure, refused},
    inspect,
    login::{LoginSecrets, LoginService},
    net::{limits::Limits, serve::Network, tls::TlsSwitch},
    outbound,
    runtime::{
        background::{Committer, Periodic},
        clock,
        control::Control,
        hub::Hub,
        process::{self, Signals},
        side::Side,
        storage::StoragePool,
        wire::Backend,
        workers::{Plan, Running},
    },
    services::Services,
};

/// Descriptors for everything but connections: listeners on every worker, and the files of the store.
const DESCRIPTORS_BESIDE_CONNECTIONS: u64 = 16_384;
/// Storage threads for each core; most of them wait for the disk.
const STORAGE_THREADS_PER_CORE: usize = 4;
/// Pause between two looks for parts that nobody needs any more.
const COLLECT_EVERY: Duration = Duration::from_mins(1);
/// Pause between two looks for what is kept no longer.
const UPKEEP_EVERY: Duration = Duration::from_mins(1);
/// Parts removed in one go; commits wait that long.
const COLLECT_PARTS_MAX: usize = 500;
/// Pause between two looks for checkpoints that a backup has left behind.
const CHECKPOINTS_EVERY: Duration = Duration::from_mins(1);
/// Pause between two tidyings of the recorded figures.
const FIGURES_EVERY: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the server cannot start; nothing has been served then.
pub fn serve(path: &Path, config: Config) -> Result<(), Failure> {
    journal::begin(&config.log);
    let mut signals = Signals::catch().map_err(refused("cannot catch signals"))?;
    let metrics = journal::record_metrics()?;
    raise_descriptors(&config)?;
    let data_dir = DataDir::claim_or_refuse(&config)?;
    let backend = config.runtime.io.settle().map_err(refused("[runtime] io"))?;
    let cores = process::cores();
    let workers = if config.runtime.workers == 0 { cores } else { config.runtime.workers };
    let configured_tls = configured_tls(&config)?;
    let mut listening = listen::bind_all(&config, workers)?;
    become_user(&config)?;
    listening.open_administrators_door(data_dir.administrators_door(), workers)?;
    let tls = Arc::new(match configured_tls {
        Some(tls) => tls,
        None => self_signed(&data_dir, &config)?,
    });
    let store = Store::open(&data_dir, &config)?;
    let threads = Threads::start(&data_dir, &config, store, cores)?;
    let limits = Arc::new(Limits::new(config.limits.connections, config.limits.connections_per_address));
    let carry = carry::carry(&threads.services);
    let network = Network::new(listening.configs.clone(), Some(&tls), Arc::clone(&limits), carry);
    let Listening { bound, sockets, .. } = listening;
    let plan = Plan { backend, listeners: sockets, workers, serve: network.serve() };
    let running = plan.start().map_err(refused("cannot start the workers"))?;
    let (kv, checkpoints) = (Arc::clone(&threads.store.kv), Arc::clone(&threads.checkpoints));
    let services = Arc::clone(&threads.services);
    let facts = ServerFacts::new(backend, Arc::clone(&limits), bound, metrics, kv, checkpoints, services);
    let control = control(&data_dir, &threads.services, facts).map_err(refused("cannot open the control socket"))?;
    announce(backend, workers, &data_dir);
    let grace = config.timeouts.shutdown.duration();
    let mut reload = Reload { path, started: config, data_dir: &data_dir, tls, limits, services: &threads.services };
    signals.wait(|| reload.run());
    stop(running, control, threads, grace);
    Ok(())
}

fn raise_descriptors(config: &Config) -> Result<(), Failure> {
    let wanted = DESCRIPTORS_BESIDE_CONNECTIONS + u64::try_from(config.limits.connections).unwrap_or(u64::MAX / 2);
    let limit = process::raise_descriptor_limit(wanted).map_err(refused("cannot read the limit of descriptors"))?;
    if limit < wanted {
        tracing::warn!(limit, wanted, "few descriptors: raise the limit (LimitNOFILE) or lower limits.connections");
    }
    Ok(())
}

/// The certificate of the configuration, read while we still may.
fn configured_tls(config: &Config) -> Result<Option<TlsSwitch>, Failure> {
    let files = config.tls.as_ref();
    files.map(|files| TlsSwitch::from_files(&files.certificate, &files.key)).transpose().map_err(refused("[tls]"))
}

fn self_signed(data_dir: &DataDir, config: &Config) -> Result<TlsSwitch, Failure> {
    tracing::warn!("no certificate is configured: using a self-signed one, which clients will not trust");
    data_dir.self_signed(&config.hostname).map_err(refused("the self-signed certificate"))
}

/// Stops being root, if we are and the configuration names somebody else.
///
/// # Errors
/// When that is not possible.
pub fn become_user(config: &Config) -> Result<(), Failure> {
    match &config.user {
        Some(user) if process::is_root() => process::drop_privileges(user, config.group.as_deref())
            .map_err(refused(format_args!("cannot become user {user}"))),
        _ => Ok(()),
    }
}

/// What works beside the workers.
struct Threads {
    store: Store,
    services: Arc<Services>,
    committer: Committer,
    periodic: Vec<Periodic>,
    inspect: Side,
    outbound: Side,
    gate: GateThreads,
    checkpoints: Arc<Checkpoints>,
    /// Long runs of the latter end early.
    stopping: Arc<AtomicBool>,
}

impl Threads {
    fn start(data_dir: &DataDir, config: &Config, store: Store, cores: usize) -> Result<Self, Failure> {
        let failed = || refused("cannot start a thread");
        let engine = &store.engine;
        let storage_threads = match config.runtime.storage_threads {
            0 => cores * STORAGE_THREADS_PER_CORE,
            threads => threads,
        };
        let hub = Hub::new();
        let publisher = hub.clone();
        engine.on_change(Box::new(move |notices| publisher.publish(notices)));
        let committing = Arc::clone(engine);
        let committer = Committer::start(move |wait| committing.commit_pending(wait)).map_err(failed())?;
        let storage = StoragePool::start(storage_threads).map_err(failed())?;
        let login = login_service(data_dir, config, engine, cores)?;
        let (door, arrivals) = inspect::door();
        let services = Services::new(Arc::clone(engine), storage, login, hub, door, Arc::new(config.clone()));
        let services = Arc::new(services);
        let room = Room::new(data_dir.store(), &services);
        let collecting = Arc::clone(engine);
        let indexer = Indexer::new(engine);
        let learner = Learner::new(&services);
        let checkpoints = Arc::new(Checkpoints::new(data_dir));
        let sweeping = Arc::clone(&checkpoints);
        let (removing, stopping) = (Arc::clone(&services), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&stopping);
        let (tracing_of, mut swept) = (Arc::clone(&services), 0);
        trace::run(&tracing_of, &mut swept);
        let periodic = vec![
            Periodic::start("collector", COLLECT_EVERY, move || collect(&collecting)).map_err(failed())?,
            Periodic::start("upkeep", UPKEEP_EVERY, move || upkeep::run(&removing, &stop)).map_err(failed())?,
            Periodic::start("indexer", INDEX_EVERY, move || indexer.run()).map_err(failed())?,
            Periodic::start("learner", LEARN_EVERY, move || learner.run()).map_err(failed())?,
            Periodic::start("checkpoints", CHECKPOINTS_EVERY, move || sweeping.sweep()).map_err(failed())?,
            Periodic::start("room", LOOK_EVERY, move || room.look()).map_err(failed())?,
            Periodic::start("trace", trace::WRITE_EVERY, move || trace::run(&tracing_of, &mut swept))
                .map_err(failed())?,
            Periodic::start("figures", FIGURES_EVERY, journal::tidy).map_err(failed())?,
        ];
        let inspect = inspect::start(&services, arrivals).map_err(failed())?;
        let outbound = outbound::start(&services).map_err(refused("mail cannot leave"))?;
        let gate = GateThreads::start(&services, data_dir.gate_memory()).map_err(failed())?;
        Ok(Self { store, services, committer, periodic, inspect, outbound, gate, checkpoints, stopping })
    }

    /// Ends them, each after what feeds it.
    fn stop(self, grace: Duration) {
        self.inspect.stop(grace);
        self.outbound.stop(grace);
        self.gate.stop(grace);
        self.stopping.store(true, Ordering::Release);
        self.periodic.into_iter().for_each(Periodic::stop);
        self.services.login.stop();
        self.services.storage.stop();
        self.committer.stop();
        trace::run(&self.services, &mut 0);
    }
}

fn login_service(
    data_dir: &DataDir,
    config: &Config,
    engine: &Arc<Engine>,
    threads: usize,
) -> Result<LoginService, Failure> {
    let kept = data_dir.login_key().map_err(refused("the secret of logins"))?;
    let boot = clock::seed().map_err(refused("no randomness"))?;
    let pool = StoragePool::start(threads).map_err(refused("cannot start a thread"))?;
    let directory = Arc::clone(engine);
    let accounts = Box::new(move |login: &str| {
        directory.directory().account_by_login(login).map(|account| (account.id, account.credential.clone()))
    });
    Ok(LoginService::new(accounts, pool, threads, &LoginSecrets { boot, kept }, &config.login))
}

fn collect(engine: &Engine) {
    loop {
        match engine.collect_parts(clock::now().unix_s, COLLECT_PARTS_MAX) {
            Ok(COLLECT_PARTS_MAX) => {}
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "parts that nobody needs were not removed; trying again soon"),
        }
    }
}

fn control(data_dir: &DataDir, services: &Arc<Services>, facts: ServerFacts) -> io::Result<Control> {
    let in_force = Arc::clone(services);
    let host = Host::new(Arc::clone(&services.engine), Some(facts), Box::new(move || in_force.config()));
    Control::start(&data_dir.control_socket(), Box::new(move |line, send| admin::answer(&host, line, send)))
}

fn announce(backend: Backend, workers: usize, data_dir: &DataDir) {
    let version = env!("CARGO_PKG_VERSION");
    let io = admin::backend_name(backend);
    tracing::info!(version, io, workers, process = std::process::id(), store = %data_dir.store().display(), "serving");
}

/// Connections first, then what they used.
fn stop(running: Running, control: Control, threads: Threads, grace: Duration) {
    tracing::info!("stopping");
    let cut_off = running.stop(grace);
    let unfinished = control.stop(grace);
    threads.stop(grace);
    tracing::info!(cut_off, unfinished, "stopped");
}
