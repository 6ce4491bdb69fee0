//! Administration: what an operator asks of a server, running or not.
//!
//! * What: typed requests and replies, one function that carries them out, and the two ways to reach it: over the control
//!   socket of the running server, or on the store opened here when none runs.
//! * In: a [`Request`].
//! * Out: [`Reply`] values; the last of a request is `Done`, `Refused` or `Checked`.
//! * Never: changes the store behind the back of a running server.
//! * Fails: with a refusal that says what to do; nothing has changed then.

mod accounts;
mod backup;
mod dkim;
mod execute;
mod facts;
mod forwarding;
mod gate;
mod link;
mod lists;
mod quarantine;
mod queue;
mod request;
mod sharing;
mod spam;
mod stats;
mod trace;
mod undelete;

pub use accounts::{IMPORT_BATCH_MAX, password_problem};
pub use execute::{Emit, Host, InForce, ServerFacts, answer, backend_name, execute};
pub use link::{Link, Reach};
pub use quarantine::{QuarantineRequest, QuarantineWish, QuarantinedFacts};
pub use request::{
    AccountFacts, AccountUse, AclLine, AliasFacts, CheckFacts, DeletedMailboxFacts, DeletedMessageFacts, DkimFacts,
    DomainFacts, EventFacts, GroupFacts, ListFacts, ListenerFacts, NewAccount, QueueEdit, QueueFilter, QueueHopFacts,
    QueueStatus, QueuedFacts, Reply, Request, Secret, SpamFacts, SpamMessage, SpamVerdict, SpokenToken, Status,
    StorageFacts, TraceFacts, TraceFilter, UndeleteFilter,
};
