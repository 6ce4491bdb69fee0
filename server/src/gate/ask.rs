//! What names say of clients and senders: asked on a thread of its own, so that nobody else waits.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, spawn_local},
    time::timeout,
};

use super::lists::{Standing, query};
use crate::{
    config::Config,
    dns::{Dns, DnsFailure},
    runtime::side::{Side, SideContext},
    services::Services,
};

/// Questions that wait for their turn; more would be answered too late.
const WAITING_MAX: usize = 4_096;
/// Questions that are asked at once; each has as many lookups as there are lists.
const AT_ONCE_MAX: usize = 256;
/// For the domain of a sender: a client waits 5 minutes for the reply to MAIL (RFC 5321 section 4.5.3.2.2).
const DOMAIN_WAIT: Duration = Duration::from_secs(20);

/// Told once: an answer, or the default one when nobody answers.
pub(super) struct Told<T: Default>(Option<Box<dyn FnOnce(T) + Send>>);

impl<T: Default> Told<T> {
    pub(super) fn new(told: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    fn tell(mut self, answer: T) {
        if let Some(told) = self.0.take() {
            told(answer);
        }
    }
}

impl<T: Default> Drop for Told<T> {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(T::default());
        }
    }
}

/// What is known of the domain of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SenderDomain {
    /// Mail can be sent there.
    Good,
    /// There is no such domain, or nothing that could take mail.
    Nothing,
    /// It says that it takes no mail (RFC 7505).
    NoMail,
    /// It could not be found out.
    #[default]
    Later,
}

/// A question to the thread.
pub(super) enum Question {
    /// What do the lists say of a client?
    Lists(IpAddr, Arc<Config>, Told<Standing>),
    /// Is this the domain of somebody who can be written to?
    Domain(String, Told<SenderDomain>),
}

/// Where questions are given to the thread.
pub(super) struct Door {
    questions: mpsc::Sender<Question>,
    /// Until there is a thread.
    receiver: Mutex<Option<mpsc::Receiver<Question>>>,
}

impl Default for Door {
    fn default() -> Self {
        let (questions, receiver) = mpsc::channel(WAITING_MAX);
        Self { questions, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Door {
    /// Asks. Where too many ask, the default is answered at once.
    pub(super) fn ask(&self, question: Question) {
        if self.questions.try_send(question).is_err() {
            metrics::counter!("rockdove_gate_busy_total").increment(1);
        }
    }
}

/// Starts the thread, once.
///
/// # Errors
/// When the operating system refuses it.
pub fn start(services: &Arc<Services>) -> io::Result<Side> {
    let services = Arc::clone(services);
    Side::start("gate", Box::new(move |context| Box::pin(run(services, context))))
}

async fn run(services: Arc<Services>, mut context: SideContext) {
    let receiver = services.gate.door.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut questions) = receiver else { return };
    let dns = match Dns::new(&services.config().dns) {
        Ok(dns) => Rc::new(dns),
        Err(error) => {
            tracing::error!(%error, "no name can be looked up at the gate ([dns] servers)");
            // Whoever asks is answered with the default.
            questions.close();
            return;
        }
    };
    let turns = Arc::new(Semaphore::new(AT_ONCE_MAX));
    loop {
        tokio::select! {
            _ = context.phase.changed() => return,
            next = next(&mut questions, &turns) => match next {
                Some((question, turn)) => drop(spawn_local(answer(Rc::clone(&dns), question, turn))),
                None => return,
            },
        }
    }
}

async fn next(
    questions: &mut mpsc::Receiver<Question>,
    turns: &Arc<Semaphore>,
) -> Option<(Question, OwnedSemaphorePermit)> {
    // The turn first: a question that was taken out must not be lost when the other branch is taken.
    let turn = Arc::clone(turns).acquire_owned().await.ok()?;
    Some((questions.recv().await?, turn))
}

async fn answer(dns: Rc<Dns>, question: Question, _turn: OwnedSemaphorePermit) {
    match question {
        Question::Lists(address, config, told) => told.tell(standing(dns, address, &config).await),
        Question::Domain(domain, told) => {
            let found = timeout(DOMAIN_WAIT, sender_domain(&dns, &domain)).await;
            told.tell(found.unwrap_or_default());
        }
    }
}

/// Asks every list at once. One that is silent says nothing.
async fn standing(dns: Rc<Dns>, address: IpAddr, config: &Config) -> Standing {
    let (mut standing, mut asked) = (Standing::default(), JoinSet::new());
    for (place, list) in config.dns_lists.iter().enumerate() {
        let (dns, name, limit) = (Rc::clone(&dns), query(address, &list.zone), config.gate.dnsbl_timeout.duration());
        asked.spawn_local(async move { (place, timeout(limit, dns.ipv4(&name)).await) });
    }
    // In the order of the file, however fast they are.
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    for (place, answer) in answers {
        let Some(list) = config.dns_lists.get(place) else { continue };
        match answer {
            Ok(Ok(codes)) => standing.add(list, &codes),
            Ok(Err(DnsFailure::Nothing)) => {}
            Ok(Err(_)) | Err(_) => {
                metrics::counter!("rockdove_dnsbl_silent_total", "zone" => list.zone.clone()).increment(1);
            }
        }
    }
    standing
}

async fn sender_domain(dns: &Dns, domain: &str) -> SenderDomain {
    let exchangers = dns.exchangers(domain, "", &mut |_| 0).await;
    let found = match exchangers {
        // It stands for itself: it must have an address.
        Ok(names) if names == [domain] => dns.addresses(domain).await.map(drop),
        Ok(_) => Ok(()),
        Err(failure) => Err(failure),
    };
    match found {
        Ok(()) => SenderDomain::Good,
        Err(DnsFailure::Nothing) => SenderDomain::Nothing,
        Err(DnsFailure::NoMail) => SenderDomain::NoMail,
        Err(DnsFailure::Later(_)) => SenderDomain::Later,
    }
}
