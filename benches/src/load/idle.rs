//! Connections that rest in IDLE: what they cost, and how soon they hear of new mail.

use std::{cell::RefCell, rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Pace, Recipients};
use crate::{
    corpus::generate,
    failure::{LoadError, Result},
    imap::Imap,
    latencies::Latencies,
    login::Logins,
    memory::{self, Memory, Whose},
    pace::{Report, Run, now, open_all},
    smtp::{Delivery, Smtp, Transfer},
    target::Target,
};

/// Recipients of one message; RFC 5321 section 4.5.3.1.8 lets every server take as many.
const RECIPIENTS_MAX: usize = 100;
/// Octets of the message that wakes them.
const WAKE_BYTES: usize = 1_024;

/// A message to all who rest.
#[derive(Debug)]
pub struct Wake {
    /// The server that takes it.
    pub target: Target,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Every mailbox that someone rests in.
    pub recipients: Recipients,
    /// Until all must have been told.
    pub within: Duration,
}

/// A run that holds idle connections. The pace's connections are those held; its count does not matter.
#[derive(Debug)]
pub struct Idle {
    /// The server.
    pub target: Target,
    /// Who.
    pub logins: Logins,
    /// In which mailbox.
    pub mailbox: String,
    /// New connections a second; 0 for as many as go.
    pub ramp_per_s: u32,
    /// Between the last connection and the measuring of memory.
    pub settle: Duration,
    /// How long all are held after that.
    pub hold: Duration,
    /// Whose memory is measured.
    pub whose: Option<Whose>,
    /// A message to all of them at the end.
    pub wake: Option<Wake>,
}

impl Idle {
    /// Holds them. The operations reported are the connections: from connecting to IDLE.
    ///
    /// # Errors
    /// See the head of [`super`]; also when the message does not reach everyone in time.
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        let before = self.whose.map(memory::read).transpose()?;
        let job = Rc::new(self);
        let run = Run::begin(name, "connections", pace.budget, pace.quiet);
        let held = Rc::new(RefCell::new(Vec::new()));
        let opening = {
            let (job, run, held) = (Rc::clone(&job), Rc::clone(&run), Rc::clone(&held));
            async move {
                let open = |number| Rc::clone(&job).open(Rc::clone(&run), number);
                *held.borrow_mut() = open_all(pace.connections, job.ramp_per_s, open).await?;
                Ok(())
            }
        };
        run.crew([opening]).await?;
        let mut report = run.report();
        sleep(job.settle).await;
        if let (Some(before), Some(whose)) = (before, job.whose) {
            memory_figures(&mut report, before, memory::read(whose)?, pace.connections);
        }
        sleep(job.hold).await;
        let clients = held.take();
        if let Some(wake) = &job.wake {
            wake_all(&mut report, wake, clients, pace).await?;
        }
        Ok(report)
    }

    async fn open(self: Rc<Self>, run: Rc<Run>, number: usize) -> Result<Imap> {
        if run.take().is_none() {
            return Err(LoadError::Usage("the time was over before all connections were up".into()));
        }
        let began = now();
        let mut client = Imap::open(&self.target, self.logins.of(number), number).await?;
        client.select(&self.mailbox).await?;
        client.idle().await?;
        run.done(began, 0);
        Ok(client)
    }
}

fn memory_figures(report: &mut Report, before: Memory, after: Memory, connections: usize) {
    let each = |before: u64, after: u64| after.saturating_sub(before) * 1024 / connections.max(1) as u64;
    report.also("memory_before", json!(before));
    report.also("memory_after", json!(after));
    report.also("pss_bytes_per_connection", each(before.pss_kib, after.pss_kib));
    report.also("rss_bytes_per_connection", each(before.rss_kib, after.rss_kib));
}

/// Delivers, and measures for each connection the time from the first octet of the delivery to its `EXISTS`.
async fn wake_all(report: &mut Report, wake: &Wake, clients: Vec<Imap>, pace: Pace) -> Result<()> {
    let mut sender = Smtp::open(&wake.target, wake.lmtp, None, 0).await?;
    let told = Rc::new(RefCell::new(Latencies::default()));
    let run = Run::begin("wake", "connections told", pace.budget, pace.quiet);
    let began = now();
    let waiting = clients.into_iter().map(|mut client| {
        let (run, told) = (Rc::clone(&run), Rc::clone(&told));
        async move {
            client.new_mail().await?;
            told.borrow_mut().add(began.elapsed());
            run.done(began, 0);
            Ok(client)
        }
    });
    // Whoever was told stays until all are: hanging up would be work for the server.
    let listening = open_all_now(waiting.collect());
    let delivering = async {
        for (number, some) in wake.recipients.all().chunks(RECIPIENTS_MAX).enumerate() {
            let recipients: Vec<&str> = some.iter().map(String::as_str).collect();
            let message = generate(WAKE_BYTES, 0, number as u64);
            let outcome = sender.deliver("", &recipients, &message, Transfer::Stepwise).await?;
            if let Delivery::Refused { said, .. } = outcome {
                return Err(LoadError::Refused { asked: "the message that wakes all".into(), said });
            }
        }
        Ok(())
    };
    let both = async { tokio::try_join!(listening, delivering) };
    let ended = timeout(wake.within, both).await;
    let all = ended.map_err(|_| {
        let count = run.report().operations;
        LoadError::Broken(format!("after {:?} only {count} connections were told of the message", wake.within))
    })?;
    drop(all?);
    report.also("told", json!(run.report().operations));
    report.also("told_us", json!(told.borrow().percentiles()));
    Ok(())
}

async fn open_all_now<F>(mut waiting: Vec<F>) -> Result<Vec<Imap>>
where
    F: Future<Output = Result<Imap>> + 'static,
{
    let mut set = tokio::task::JoinSet::new();
    for one in waiting.drain(..) {
        set.spawn_local(one);
    }
    let mut clients = Vec::new();
    while let Some(ended) = set.join_next().await {
        clients.push(ended.map_err(|error| LoadError::Broken(error.to_string()))??);
    }
    Ok(clients)
}
