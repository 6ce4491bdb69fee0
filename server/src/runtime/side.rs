//! A thread with an event loop of its own beside the workers: for connections that we begin.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::watch, task::LocalSet};

use super::{
    clock::monotonic_ms,
    roster::{Phase, Roster},
};

/// How often a stopping loop looks whether its connections have gone.
const STOP_POLL: Duration = Duration::from_millis(10);
/// How long connections may take to notice that they were cut off.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// Waits here for one thing that is asked of the network: for a command line.
///
/// # Errors
/// When there is no loop to be had, or the work fails.
pub fn block_on<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// What the work of a loop has.
pub struct SideContext {
    /// For its connections.
    pub roster: Rc<Roster>,
    /// How far stopping has come.
    pub phase: watch::Receiver<Phase>,
}

/// The work of a loop: ends when stopping begins.
pub type SideWork = Box<dyn FnOnce(SideContext) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A thread at work.
pub struct Side {
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

impl Side {
    /// Starts it.
    ///
    /// # Errors
    /// When the operating system refuses the thread or its loop.
    pub fn start(name: &str, work: SideWork) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (phase, watcher) = watch::channel(Phase::Running);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let (roster, local) = (Rc::new(Roster::default()), LocalSet::new());
            local.block_on(&runtime, async {
                let context = SideContext { roster: Rc::clone(&roster), phase: watcher.clone() };
                work(context).await;
                wind_down(&roster, watcher).await;
            });
        })?;
        Ok(Self { phase, thread })
    }

    /// Tells every connection to end, waits up to `grace` for them to finish and cuts off the rest.
    pub fn stop(self, grace: Duration) {
        self.phase.send_replace(Phase::Stopping);
        let deadline = monotonic_ms().saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        while monotonic_ms() < deadline && !self.thread.is_finished() {
            thread::sleep(STOP_POLL);
        }
        self.phase.send_replace(Phase::Aborting);
        if self.thread.join().is_err() {
            tracing::error!("a loop panicked");
        }
    }
}

async fn wind_down(roster: &Roster, mut phase: watch::Receiver<Phase>) {
    roster.enter(Phase::Stopping);
    while !roster.is_empty() && *phase.borrow_and_update() != Phase::Aborting {
        tokio::time::sleep(STOP_POLL).await;
    }
    roster.enter(Phase::Aborting);
    let patience = tokio::time::sleep(ABORT_PATIENCE);
    tokio::pin!(patience);
    while !roster.is_empty() && !patience.is_elapsed() {
        tokio::select! {
            () = tokio::time::sleep(STOP_POLL) => {}
            () = &mut patience => {}
        }
    }
}
