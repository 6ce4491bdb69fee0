//! The thread that inspections wait on.

use std::{io, rc::Rc, sync::Arc};

use bytes::Bytes;
use rockdove_smtp::RecipientOutcome;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::timeout,
};

use super::{
    Arrival, Verdict,
    room::{Room, later},
    scanner::Turns,
    stages::{self, Tools},
};
use crate::{
    delivery::{self, Arrived, Done},
    runtime::side::{Side, SideContext},
    services::Services,
    trust::Checker,
};

/// Messages that wait for their inspection or are in it; each is staged already. More would only be late.
const WAITING_MAX: usize = 10_000;

/// A staged message, and whom to tell what became of it.
pub struct Waiting {
    /// The message; its verdict is still to come.
    pub arrived: Arrived,
    /// Told at the end.
    pub done: Done,
}

/// Where messages are given to the thread. Clones lead to the same thread.
#[derive(Clone)]
pub struct Door(mpsc::Sender<Waiting>);

impl Door {
    /// Hands a message over; it is delivered or refused when it has been looked at. Where too many wait, it is refused at
    /// once.
    pub fn enter(&self, waiting: Waiting) {
        if let Err(refused) = self.0.try_send(waiting) {
            metrics::counter!("rockdove_inspect_busy_total").increment(1);
            refuse(refused.into_inner());
        }
    }
}

/// The other side of the [`Door`].
pub struct Arrivals(mpsc::Receiver<Waiting>);

/// A way in before there is a thread behind it.
pub fn door() -> (Door, Arrivals) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Door(sender), Arrivals(receiver))
}

/// Starts the thread.
///
/// # Errors
/// When the operating system refuses it.
pub fn start(services: &Arc<Services>, arrivals: Arrivals) -> io::Result<Side> {
    let services = Arc::clone(services);
    Side::start("inspect", Box::new(move |context| Box::pin(run(services, arrivals, context))))
}

struct Inspector {
    services: Arc<Services>,
    tools: Tools,
    room: Room,
}

/// Begins what comes in, until the server stops. What is under way then is not accepted: its sender keeps it.
async fn run(services: Arc<Services>, mut arrivals: Arrivals, mut context: SideContext) {
    let room = Room::new(services.config().inspect.memory.bytes);
    let checker = Checker::new(&services.config().dns);
    let tools = Tools { checker, engine: Arc::clone(&services.engine), turns: Turns::default() };
    let inspector = Rc::new(Inspector { services, tools, room });
    loop {
        tokio::select! {
            _ = context.phase.changed() => return,
            waiting = arrivals.0.recv() => match waiting {
                Some(waiting) => drop(spawn_local(inspect(Rc::clone(&inspector), waiting))),
                None => return,
            },
        }
    }
}

async fn inspect(inspector: Rc<Inspector>, waiting: Waiting) {
    let Waiting { mut arrived, done } = waiting;
    // A task of its own, so that a fault in a stage ends nothing but the one inspection.
    let found = spawn_local(find(Rc::clone(&inspector), arrival_of(&arrived), Arc::clone(&arrived.message)));
    arrived.verdict = found.await.unwrap_or_else(|fault| {
        tracing::error!(id = %arrived.mail.envelope.id, %fault, "an inspection failed; the message is refused for now");
        refusal()
    });
    let (engine, recipients) = (Arc::clone(&inspector.services.engine), arrived.mail.envelope.recipients.len());
    let (told, answer) = oneshot::channel();
    // The answer comes from the job, or from here when the pool is too busy to take it.
    let job = move || delivery::deliver(&engine, arrived, Box::new(move |outcomes| drop(told.send(outcomes))));
    let outcomes = match inspector.services.storage.run(job) {
        Ok(()) => answer.await.ok(),
        Err(_) => None,
    };
    done(outcomes.unwrap_or_else(|| vec![RecipientOutcome::TryLater; recipients]));
}

/// The arrival without its octets.
fn arrival_of(arrived: &Arrived) -> Arrival {
    Arrival {
        envelope: arrived.mail.envelope.clone(),
        octets: Bytes::new(),
        received_unix_s: arrived.mail.received_unix_s,
        config: Arc::clone(&arrived.config),
        owner: arrived.owner,
    }
}

fn refusal() -> Verdict {
    Verdict { refusal: Some(later("the message cannot be inspected now, try again later")), ..Verdict::default() }
}

/// Brings the message into memory, when there is room for it, and runs the stages.
async fn find(inspector: Rc<Inspector>, mut arrival: Arrival, message: Arc<rockdove_engine::StagedMessage>) -> Verdict {
    let limit = arrival.config.inspect.timeout.duration();
    let Ok(Some(_room)) = timeout(limit, inspector.room.take(message.size_bytes())).await else {
        metrics::counter!("rockdove_inspect_busy_total").increment(1);
        return refusal();
    };
    let (engine, (tell, told)) = (Arc::clone(&inspector.services.engine), oneshot::channel());
    let read = move || drop(tell.send(engine.staged_octets(&message)));
    if inspector.services.storage.run(read).is_err() {
        return refusal();
    }
    match told.await {
        Ok(Ok(octets)) => arrival.octets = octets,
        Ok(Err(error)) => {
            tracing::warn!(id = %arrival.envelope.id, %error, "a message cannot be read for its inspection");
            return refusal();
        }
        Err(_) => return refusal(),
    }
    stages::run(&inspector.tools, &arrival).await
}

fn refuse(waiting: Waiting) {
    let recipients = waiting.arrived.mail.envelope.recipients.len();
    (waiting.done)(vec![RecipientOutcome::TryLater; recipients]);
}
