//! Threads beside the workers: the committer, and jobs that come round again and again.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

/// How long the committer waits for work before it looks whether it is to stop.
const COMMIT_WAIT: Duration = Duration::from_millis(100);

/// The thread that writes groups of commands. There is one per engine.
pub struct Committer {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Committer {
    /// Starts it. `commit` waits up to the time given for work and writes one group, as `Engine::commit_pending` does;
    /// it says whether there was any.
    ///
    /// # Errors
    /// When the operating system refuses the thread.
    pub fn start(commit: impl Fn(Duration) -> bool + Send + 'static) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new().name("committer".into()).spawn(move || {
            // When told to stop, everything submitted before is still written and answered.
            while commit(COMMIT_WAIT) || !stop.load(Ordering::Acquire) {}
        })?;
        Ok(Self { stopping, thread })
    }

    /// Writes what is pending and ends the thread. Submit nothing afterwards.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the committer panicked");
        }
    }
}

/// A job that is run again and again on a thread of its own.
pub struct Periodic {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Periodic {
    /// Runs `job` every `pause`, counted from the end of one run to the start of the next.
    ///
    /// # Errors
    /// When the operating system refuses the thread.
    pub fn start(name: &str, pause: Duration, mut job: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                if catch_unwind(AssertUnwindSafe(&mut job)).is_err() {
                    metrics::counter!("rockdove_panics_total", "where" => "background").increment(1);
                    tracing::error!("a background job panicked; it will be tried again");
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Waits for a run in progress and ends the thread.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("a background thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn the_committer_writes_everything_before_it_ends() {
        let (sender, receiver) = bounded(100);
        for n in 0..100 {
            sender.send(n).expect("room");
        }
        let done = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&done);
        let committer = Committer::start(move |wait| {
            let came = receiver.recv_timeout(wait).is_ok();
            count.fetch_add(u32::from(came), Ordering::Relaxed);
            came
        });
        committer.expect("thread").stop();
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_periodic_job_survives_a_panic() {
        let (sender, receiver) = bounded(10);
        let periodic = Periodic::start("test", Duration::from_millis(1), move || {
            sender.try_send(()).unwrap_or_default();
            std::panic::resume_unwind(Box::new("broken"));
        });
        receiver.recv().expect("first run");
        receiver.recv().expect("second run");
        periodic.expect("thread").stop();
    }
}
