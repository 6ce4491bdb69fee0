//! How long and how often: the budget of a run, its progress on standard error and its report.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    future::Future,
    io::IsTerminal as _,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    failure::{LoadError, Result},
    latencies::{Latencies, Percentiles},
};

/// Connections that are being opened at the same time; more would only measure the backlog.
const OPENING_MAX: usize = 64;
/// Between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// When a run ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Operations.
    pub count: u64,
    /// Time; operations that have begun are ended.
    pub time: Duration,
}

/// A run that is under way. Operations are counted in the unit it names.
#[derive(Debug)]
pub struct Run {
    name: String,
    unit: &'static str,
    budget: Budget,
    quiet: bool,
    begun: Instant,
    taken: Cell<u64>,
    done: Cell<u64>,
    octets: Cell<u64>,
    latencies: RefCell<Latencies>,
}

impl Run {
    /// The clock starts now.
    pub fn begin(name: &str, unit: &'static str, budget: Budget, quiet: bool) -> Rc<Self> {
        Rc::new(Self {
            name: name.to_owned(),
            unit,
            budget,
            quiet,
            begun: now(),
            taken: Cell::default(),
            done: Cell::default(),
            octets: Cell::default(),
            latencies: RefCell::default(),
        })
    }

    /// The number of the next operation, counted from 0; `None` when the budget is used up.
    pub fn take(&self) -> Option<u64> {
        let number = self.taken.get();
        if number >= self.budget.count || self.begun.elapsed() >= self.budget.time {
            return None;
        }
        self.taken.set(number + 1);
        Some(number)
    }

    /// An operation that began then has ended; `octets` of messages or responses went with it.
    pub fn done(&self, began: Instant, octets: u64) {
        self.latencies.borrow_mut().add(began.elapsed());
        self.done.set(self.done.get() + 1);
        self.octets.set(self.octets.get() + octets);
    }

    /// What was measured.
    pub fn report(&self) -> Report {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        let latencies = self.latencies.borrow();
        Report {
            run: self.name.clone(),
            unit: self.unit,
            operations: self.done.get(),
            seconds: (seconds * 1e6).round() / 1e6,
            rate_per_s: per_second(self.done.get(), seconds),
            octets: self.octets.get(),
            octets_per_s: per_second(self.octets.get(), seconds),
            latency_us: latencies.percentiles(),
            also: BTreeMap::new(),
        }
    }

    async fn progress(self: Rc<Self>) {
        let mut ticks = interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let terminal = std::io::stderr().is_terminal();
        loop {
            ticks.tick().await;
            let (done, seconds) = (self.done.get(), self.begun.elapsed().as_secs_f64());
            if seconds > 0.5 && !self.quiet {
                let rate = per_second(done, seconds);
                let (front, end) = if terminal { ("\r\x1b[K", "") } else { ("", "\n") };
                eprint!("{front}{}: {done} {}, {rate:.0}/s, {seconds:.0} s{end}", self.name, self.unit);
            }
        }
    }

    /// Lets `tasks` work until all are done, showing the progress.
    ///
    /// # Errors
    /// The first error of any; the others are then stopped.
    pub async fn crew<F>(self: &Rc<Self>, tasks: impl IntoIterator<Item = F>) -> Result<()>
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let mut crew = JoinSet::new();
        for task in tasks {
            crew.spawn_local(task);
        }
        let mut progress = JoinSet::new();
        progress.spawn_local(Rc::clone(self).progress());
        let ended = all(&mut crew).await;
        if std::io::stderr().is_terminal() && !self.quiet {
            eprint!("\r\x1b[K");
        }
        ended.map(drop)
    }
}

/// Awaits all tasks of a set; their results in the order they ended.
async fn all<T: 'static>(crew: &mut JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(crew.len());
    while let Some(ended) = crew.join_next().await {
        results.push(ended.map_err(|error| LoadError::Broken(format!("a task broke off: {error}")))??);
    }
    Ok(results)
}

/// Opens `count` connections, at most `per_second` a second when that is not 0, in any order.
///
/// # Errors
/// The first error of any.
pub async fn open_all<T, F>(count: usize, per_second: u32, open: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    T: 'static,
    F: Future<Output = Result<T>> + 'static,
{
    let slots = Rc::new(Semaphore::new(OPENING_MAX));
    let mut ticks = (per_second > 0).then(|| interval(Duration::from_secs(1) / per_second));
    let mut crew = JoinSet::new();
    for number in 0..count {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let slot = Rc::clone(&slots);
        let opening = open(number);
        crew.spawn_local(async move {
            let slot = slot.acquire().await.map_err(|error| LoadError::Broken(error.to_string()))?;
            let opened = opening.await;
            drop(slot);
            opened
        });
    }
    all(&mut crew).await
}

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which one.
    pub run: String,
    /// What an operation is.
    pub unit: &'static str,
    /// Operations that ended.
    pub operations: u64,
    /// How long it took, connections opened before.
    pub seconds: f64,
    /// Operations a second.
    pub rate_per_s: f64,
    /// Octets of messages or responses.
    pub octets: u64,
    /// Octets a second.
    pub octets_per_s: f64,
    /// How long operations took, in microseconds.
    pub latency_us: Percentiles,
    /// What else this kind of run measures.
    #[serde(flatten)]
    pub also: BTreeMap<&'static str, Value>,
}

impl Report {
    /// Adds a figure.
    pub fn also(&mut self, name: &'static str, value: impl Into<Value>) {
        self.also.insert(name, value.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, unit, operations, seconds, rate_per_s, .. } = self;
        writeln!(
            f,
            "{run}: {operations} {unit} in {seconds:.2} s, {rate_per_s:.1}/s, {:.2} MB/s",
            self.octets_per_s / 1e6
        )?;
        let ms = |us: f64| us / 1e3;
        let Percentiles { p50, p90, p99, max } = self.latency_us;
        write!(f, "  took p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms(p50), ms(p90), ms(p99), ms(max))?;
        for (name, value) in &self.also {
            write!(f, "\n  {name}: {value}")?;
        }
        Ok(())
    }
}

/// The clock of the load generator.
#[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// A count over a time, to one decimal place.
#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
pub fn per_second(count: u64, seconds: f64) -> f64 {
    (count as f64 / seconds.max(1e-9) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stays_within_its_budget() {
        let run = Run::begin("x", "things", Budget { count: 2, time: Duration::from_mins(1) }, true);
        assert_eq!([run.take(), run.take(), run.take()], [Some(0), Some(1), None]);
        run.done(now(), 10);
        assert_eq!((run.report().operations, run.report().octets), (1, 10));
        let run = Run::begin("x", "things", Budget { count: 2, time: Duration::ZERO }, true);
        assert_eq!(run.take(), None);
    }

    #[test]
    fn reports_are_json() {
        let run = Run::begin("x", "things", Budget { count: 1, time: Duration::ZERO }, true);
        let mut report = run.report();
        report.also("responses", 5);
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["run"], "x");
        assert_eq!(json["responses"], 5);
        assert_eq!(json["latency_us"]["p50"], 0.0);
    }
}
