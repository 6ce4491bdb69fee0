//! Carrying out a request, whichever way it came.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use rockdove_engine::{
    AccountRecord, Command, Directory, Engine, EngineError, Outcome,
    archive::{Finding, RebuildSummary},
    kv::rocks::RocksKv,
};

use super::{
    accounts, backup, dkim, forwarding, gate, lists, quarantine, queue,
    request::{
        AccountFacts, AccountUse, AliasFacts, CheckFacts, DomainFacts, ListenerFacts, QueueStatus, Reply, Request,
        Status,
    },
    sharing, spam, stats, trace, undelete,
};
use crate::{
    backup::checkpoint::Checkpoints,
    config::Config,
    net::{limits::Limits, listeners::ListenerConfig},
    runtime::{clock, control::SendReply, wire::Backend},
    services::Services,
};

/// Takes one reply towards whoever asked.
pub type Emit<'a> = &'a mut dyn FnMut(Reply) -> io::Result<()>;

/// What requests are carried out on.
pub struct Host {
    pub(super) engine: Arc<Engine>,
    pub(super) server: Option<ServerFacts>,
    pub(super) config: InForce,
}

/// Gives the configuration in force.
pub type InForce = Box<dyn Fn() -> Arc<Config> + Send + Sync>;

/// What a running server knows of itself.
pub struct ServerFacts {
    backend: Backend,
    limits: Arc<Limits>,
    listeners: Vec<ListenerConfig>,
    metrics: PrometheusHandle,
    pub(super) kv: Arc<RocksKv>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) services: Arc<Services>,
    started_ms: u64,
    /// What waits in the queue, and when it was counted.
    queue: Mutex<(Option<u64>, QueueStatus)>,
}

/// How old the figures of the queue may be: counting takes a while when a million messages wait.
const QUEUE_AGE_MS: u64 = 10_000;

/// The name of a backend, as in the configuration.
pub fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::IoUring => "io_uring",
        Backend::Epoll => "epoll",
    }
}

impl ServerFacts {
    /// A server that begins to serve now, with the addresses that its `listeners` have in fact.
    pub fn new(
        backend: Backend,
        limits: Arc<Limits>,
        listeners: Vec<ListenerConfig>,
        metrics: PrometheusHandle,
        kv: Arc<RocksKv>,
        checkpoints: Arc<Checkpoints>,
        services: Arc<Services>,
    ) -> Self {
        let (started_ms, queue) = (clock::monotonic_ms(), Mutex::default());
        Self { backend, limits, listeners, metrics, kv, checkpoints, services, started_ms, queue }
    }

    fn status(&self, engine: &Engine) -> Status {
        let listener = |listener: &ListenerConfig| ListenerFacts {
            protocol: listener.protocol.name().to_owned(),
            tls: listener.tls.name().to_owned(),
            address: listener.address.to_string(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: clock::monotonic_ms().saturating_sub(self.started_ms) / 1_000,
            backend: backend_name(self.backend).to_owned(),
            pid: std::process::id(),
            connections: self.limits.total(),
            listeners: self.listeners.iter().map(listener).collect(),
            queue: self.count_queue(engine, 0),
        }
    }

    /// What waits, counted at most so many milliseconds ago.
    fn count_queue(&self, engine: &Engine, age_ms: u64) -> QueueStatus {
        let mut counted = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic_ms();
        if age_ms == 0 || counted.0.is_none_or(|at| now.saturating_sub(at) > age_ms) {
            *counted = (Some(now), queue::status(engine));
        }
        counted.1
    }

    fn metrics(&self, engine: &Engine) -> String {
        let (figures, queue) = (self.kv.figures(), self.count_queue(engine, QUEUE_AGE_MS));
        let shown = [
            ("rockdove_store_table_bytes", figures.table_bytes),
            ("rockdove_store_blob_bytes", figures.blob_bytes),
            ("rockdove_store_search_bytes", figures.search_bytes),
            ("rockdove_store_trace_bytes", figures.trace_bytes),
            ("rockdove_store_blob_garbage_bytes", figures.blob_garbage_bytes),
            ("rockdove_store_write_buffer_bytes", figures.write_buffer_bytes),
            ("rockdove_store_block_cache_bytes", figures.block_cache_bytes),
            ("rockdove_store_compaction_debt_bytes", figures.compaction_debt_bytes),
            ("rockdove_store_background_errors", figures.background_errors),
            ("rockdove_store_write_stopped", u64::from(figures.write_stopped)),
            ("rockdove_queue_messages", queue.messages),
            ("rockdove_queue_recipients", queue.recipients),
            ("rockdove_queue_recipients_due", queue.due),
            ("rockdove_queue_recipients_held", queue.held),
            ("rockdove_queue_oldest_seconds", queue.oldest_s),
        ];
        for (name, value) in shown {
            // Exact up to 2^53, which is 8 PiB.
            #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
            gauge!(name).set(value as f64);
        }
        self.metrics.render()
    }
}

impl Host {
    /// `server` is `None` when the store is open only for this administration command.
    pub fn new(engine: Arc<Engine>, server: Option<ServerFacts>, config: InForce) -> Self {
        Self { engine, server, config }
    }

    /// Runs one command of the engine.
    pub(super) fn run(&self, command: Command) -> Result<Outcome, EngineError> {
        self.engine.execute(clock::now().unix_s, command)
    }
}

/// Answers one line of the control socket.
///
/// # Errors
/// When a reply cannot be sent.
pub fn answer(host: &Host, line: &[u8], send: SendReply<'_>) -> io::Result<()> {
    let mut emit = |reply: Reply| send(&serde_json::to_vec(&reply)?);
    match serde_json::from_slice(line) {
        Ok(request) => execute(host, request, &mut emit),
        Err(error) => emit(Reply::Refused(format!(
            "the server does not know this request ({error}); use the rockdove command of its version, {}",
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

/// Carries out one request; the last reply to `emit` is one that [`Reply::is_last`].
///
/// # Errors
/// When `emit` does.
pub fn execute(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<()> {
    let done = match carry_out(host, request, emit)? {
        Ok(line) => Reply::Done(line),
        Err(error) => Reply::Refused(error),
    };
    // Where no server runs, nobody else does.
    if host.server.is_none()
        && let Err(error) = host.engine.write_trace()
    {
        tracing::warn!(%error, "what was done is not in the trace");
    }
    emit(done)
}

/// The line of a success or the reason of a refusal; what lies before them goes to `emit`. A long flat match.
fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let asked = request.clone();
    let result = match request {
        Request::Status | Request::Metrics | Request::TlsReports => return facts(host, &request, emit),
        Request::DomainList | Request::AccountList | Request::AliasList | Request::GroupList => {
            return list(host, &request, emit);
        }
        Request::AclSet { .. }
        | Request::AclList { .. }
        | Request::GroupAdd { .. }
        | Request::GroupRemove { .. }
        | Request::GroupMember { .. }
        | Request::DomainPublic { .. } => sharing::carry_out(host, request, emit)?,
        Request::AccountAdd { accounts } => return accounts::add(host, accounts, emit),
        Request::AccountShow { address } => return show(host, &address, emit),
        Request::Fsck { repair } => return fsck(host, repair, emit),
        Request::Rebuild => return Ok(rebuild(host)),
        Request::Checkpoint => return backup::checkpoint(host, emit),
        Request::Stats => return stats::stats(host, emit),
        Request::UndeleteList { .. } | Request::UndeleteRestore { .. } | Request::UndeletePurge { .. } => {
            return undelete::carry_out(host, request, emit);
        }
        Request::ListSet { .. }
        | Request::ListRemove { .. }
        | Request::ListShow { .. }
        | Request::ListMembers { .. } => return lists::carry_out(host, request, emit),
        Request::Trace { filter } => return trace::trace(host, filter, emit),
        Request::DkimCreate { .. }
        | Request::DkimList { .. }
        | Request::DkimActivate { .. }
        | Request::DkimRemove { .. } => return dkim::carry_out(host, request, emit),
        Request::Quarantine(wanted) => return quarantine::carry_out(host, &wanted, emit),
        Request::QueueList { .. } | Request::QueueShow { .. } | Request::QueueHops | Request::QueueEdit { .. } => {
            return queue::carry_out(host, request, emit);
        }
        Request::GateRefill { who } => return Ok(gate::refill(host, &who)),
        Request::SpamStatus { .. }
        | Request::SpamLearn { .. }
        | Request::SpamForget { .. }
        | Request::SpamForgetAll { .. }
        | Request::SpamTest { .. } => return spam::carry_out(host, request, emit),
        Request::DomainAdd { .. }
        | Request::DomainRemove { .. }
        | Request::DomainCatchAll { .. }
        | Request::AccountRemove { .. }
        | Request::AccountPassword { .. }
        | Request::AccountQuota { .. } => change(host, request),
        Request::AccountForward { .. } | Request::AliasAdd { .. } | Request::AliasRemove { .. } => {
            forwarding::carry_out(host, request)
        }
    };
    Ok(result.map_err(|error| format!("{error}{}", advice(&asked, &error))))
}

/// A change that is one command.
fn change(host: &Host, request: Request) -> Result<String, EngineError> {
    let plain = |command: Command, line: String| host.run(command).map(|_| line);
    match request {
        Request::DomainAdd { name } => {
            plain(Command::CreateDomain { domain: name.clone() }, format!("domain {name} added"))
        }
        Request::DomainRemove { name } => {
            plain(Command::RemoveDomain { domain: name.clone() }, format!("domain {name} removed"))
        }
        Request::DomainCatchAll { name, address } => {
            let line = address.as_ref().map_or_else(
                || format!("mail for unknown addresses of {name} is refused"),
                |address| format!("mail for unknown addresses of {name} goes to {address}"),
            );
            plain(Command::SetCatchAll { domain: name, target: address }, line)
        }
        Request::AccountRemove { address } => {
            plain(Command::RemoveAccount { address: address.clone() }, format!("account {address} removed"))
        }
        Request::AccountPassword { address, password } => match accounts::credential(&password.0) {
            Ok(credential) => {
                let line = format!("password of {address} changed");
                plain(Command::SetCredential { address, credential }, line)
            }
            Err(why) => Err(EngineError::Invalid(why)),
        },
        Request::AccountQuota { address, quota_bytes } => {
            let line = format!("quota of {address} changed");
            plain(Command::SetQuota { address, quota_bytes }, line)
        }
        _ => Err(EngineError::Invalid("no such change".to_owned())),
    }
}

/// What to do about a refusal, where it is not plain.
fn advice(request: &Request, error: &EngineError) -> &'static str {
    match (request, error) {
        (Request::DomainRemove { .. } | Request::DomainCatchAll { .. }, EngineError::NotFound(_)) => {
            "; `rockdove domain list` shows what there is"
        }
        (Request::AccountRemove { .. } | Request::AccountPassword { .. }, EngineError::NotFound(_)) => {
            "; `rockdove account list` shows what there is"
        }
        (Request::GroupRemove { .. } | Request::GroupMember { .. }, EngineError::NotFound(_)) => {
            "; `rockdove group list` shows what there is"
        }
        (Request::AliasAdd { .. } | Request::AliasRemove { .. }, EngineError::NotFound(_)) => {
            "; `rockdove alias list` and `rockdove account list` show what there is"
        }
        _ => "",
    }
}

fn facts(host: &Host, request: &Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let Some(server) = &host.server else {
        return Ok(Err("no server is running".to_owned()));
    };
    if *request == Request::TlsReports {
        server.services.tls_reports_wanted.notify_one();
        return Ok(Ok("what was counted so far is being reported; the log tells to whom".to_owned()));
    }
    emit(match request {
        Request::Metrics => Reply::Metrics(server.metrics(&host.engine)),
        _ => Reply::Status(server.status(&host.engine)),
    })?;
    Ok(Ok(String::new()))
}

fn list(host: &Host, request: &Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let directory = host.engine.directory();
    match request {
        Request::DomainList => directory.domains().into_iter().try_for_each(|domain| {
            let (name, catch_all) = (domain.name.clone(), domain.catch_all.clone());
            let public = directory.public_account(&name).and_then(|account| directory.account(account));
            let public = public.map(|account| account.address.clone());
            emit(Reply::Domain(DomainFacts { name, catch_all, public, created_unix_s: domain.created_unix_s }))
        })?,
        Request::GroupList => sharing::groups(&directory, emit)?,
        Request::AliasList => directory.aliases().into_iter().try_for_each(|alias| {
            emit(Reply::Alias(AliasFacts { address: alias.address.clone(), targets: alias.targets.clone() }))
        })?,
        _ => directory
            .accounts()
            .into_iter()
            .try_for_each(|account| emit(Reply::Account(account_facts(&directory, account))))?,
    }
    Ok(Ok(String::new()))
}

fn fsck(host: &Host, repair: bool, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let mut lost = None;
    let mut report = |finding: Finding| {
        if lost.is_none() {
            lost = emit(Reply::Finding(finding.to_string())).err();
        }
    };
    let checked = host.engine.fsck(repair, &mut report);
    if let Some(error) = lost {
        return Err(error);
    }
    match checked {
        Ok(summary) => {
            emit(Reply::Checked(CheckFacts {
                accounts: summary.accounts,
                mailboxes: summary.mailboxes,
                entries: summary.entries,
                messages: summary.messages,
                queued: summary.queued,
                events: summary.events,
                quarantined: summary.quarantined,
                parts: summary.parts,
                findings: summary.findings,
                repaired: summary.repaired,
            }))?;
            Ok(Ok(String::new()))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn rebuild(host: &Host) -> Result<String, String> {
    let RebuildSummary { accounts, parts, rows } = host.engine.rebuild(None).map_err(|error| error.to_string())?;
    Ok(format!("rebuilt: {accounts} accounts, {parts} parts, {rows} rows written"))
}

fn account_facts(directory: &Directory, account: &AccountRecord) -> AccountFacts {
    let forward = directory.forward(account.id);
    AccountFacts {
        address: account.address.clone(),
        id: account.id.0,
        quota_bytes: account.quota_bytes,
        created_unix_s: account.created_unix_s,
        forward: forward.map(|forward| forward.targets.clone()).unwrap_or_default(),
        keeps: forward.is_none_or(|forward| forward.keep),
    }
}

fn show(host: &Host, address: &str, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let directory = host.engine.directory();
    let Some(account) = directory.account_by_login(address) else {
        return Ok(Err(format!("account {address} does not exist; `rockdove account list` shows what there is")));
    };
    emit(Reply::Account(account_facts(&directory, account)))?;
    match host.engine.quota(account.id).and_then(|usage| Ok((usage, host.engine.deleted_use(account.id)?))) {
        Ok((usage, deleted)) => {
            emit(Reply::Use(AccountUse {
                used_bytes: usage.used_bytes,
                messages: usage.messages,
                deleted_bytes: deleted.bytes,
                deleted_messages: deleted.messages,
            }))?;
            Ok(Ok(String::new()))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}
