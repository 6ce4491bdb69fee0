//! The storage pool: threads that may block on the store, so that connections never do.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// Jobs that may wait for one storage thread. More would only make every answer late, and the wait is memory.
pub const JOBS_WAITING_PER_THREAD_MAX: usize = 1024;

/// Stack of a storage thread: parsing deep MIME and searching happen here.
const STACK_BYTES: usize = 4 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// Too much work is waiting, or the server is stopping: answer "try again later".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much work is waiting, try again later")
    }
}

impl std::error::Error for Busy {}

/// A fixed number of threads that run jobs, begun in the order they came. Clones are handles to the same pool.
#[derive(Clone)]
pub struct StoragePool {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` ends one thread.
    jobs: Sender<Option<Job>>,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl StoragePool {
    /// Starts `threads` threads (at least one).
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let (sender, receiver) = bounded(threads * JOBS_WAITING_PER_THREAD_MAX);
        let mut handles = Vec::with_capacity(threads);
        for number in 0..threads {
            let receiver = receiver.clone();
            let thread = thread::Builder::new().name(format!("storage-{number}")).stack_size(STACK_BYTES);
            handles.push(thread.spawn(move || work(&receiver))?);
        }
        let shared = Shared { jobs: sender, stopping: AtomicBool::new(false), threads: Mutex::new(handles) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs `job` on one of the threads, soon.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full or the pool is stopping; the job is dropped without having run.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(Busy);
        }
        match self.shared.jobs.try_send(Some(Box::new(job))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                metrics::counter!("rockdove_storage_busy_total").increment(1);
                Err(Busy)
            }
        }
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.shared.jobs.len()
    }

    /// Takes no more jobs, finishes those it has, and ends the threads.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in &threads {
            if self.shared.jobs.send(None).is_err() {
                break;
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a storage thread ended with a panic");
            }
        }
    }
}

fn work(jobs: &Receiver<Option<Job>>) {
    while let Ok(Some(job)) = jobs.recv() {
        // One broken job must not take the thread, and with it everyone else's work, along.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            metrics::counter!("rockdove_panics_total", "where" => "storage").increment(1);
            tracing::error!("a storage job panicked; its question stays unanswered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finishes_what_it_took_and_refuses_when_full_or_stopping() {
        let pool = StoragePool::start(1).expect("pool");
        let (go, wait) = bounded::<()>(0);
        let done = Arc::new(Mutex::new(0));
        pool.run(move || assert!(wait.recv().is_err())).expect("first job");
        while pool.waiting() > 0 {
            thread::yield_now();
        }
        for _ in 0..JOBS_WAITING_PER_THREAD_MAX {
            let done = Arc::clone(&done);
            pool.run(move || *done.lock().expect("lock") += 1).expect("room");
        }
        assert_eq!(pool.run(|| ()), Err(Busy));
        drop(go);
        pool.stop();
        assert_eq!(*done.lock().expect("lock"), JOBS_WAITING_PER_THREAD_MAX);
        assert_eq!(pool.run(|| ()), Err(Busy));
    }

    #[test]
    fn survives_a_panicking_job() {
        let pool = StoragePool::start(1).expect("pool");
        pool.run(|| std::panic::resume_unwind(Box::new("broken"))).expect("room");
        let (sender, receiver) = bounded(1);
        pool.run(move || sender.send(7).expect("receiver waits")).expect("room");
        assert_eq!(receiver.recv(), Ok(7));
        pool.stop();
    }
}
