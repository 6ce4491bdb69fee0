//! The host's half of a connection to another server.

use std::rc::Rc;

use rockdove_engine::{EngineError, Lease};
use rockdove_mail::AskId;
use rockdove_smtp::client::{ClientAnswer, ClientAsk, ClientSession, RecipientResult, ServerReply, TransactionResult};

use super::{attempt::Attempt, runner::Runner, settle};
use crate::fronts::{Front, Replier};

pub(super) struct OutboundFront {
    pub(super) runner: Rc<Runner>,
    pub(super) hop: String,
    /// Whom we talk to, for the log.
    pub(super) server: String,
    pub(super) attempt: Attempt,
}

impl Front<ClientSession> for OutboundFront {
    fn ask(&mut self, id: AskId, ask: ClientAsk, replier: &Replier<ClientAnswer>) {
        match ask {
            ClientAsk::Next => self.next(id, replier),
            ClientAsk::Content(octets) => self.content(id, octets, replier),
            ClientAsk::Result(result) => {
                let Some(work) = self.attempt.take() else { return replier.reply(id, ClientAnswer::Noted) };
                if !self.attempt.is_last() && is_unfit(&work.lease, &result) {
                    self.attempt.is_unfit_for(work.lease);
                    return replier.reply(id, ClientAnswer::Noted);
                }
                let later = replier.clone();
                let outcome = settle::Came::of(&work, &result, &self.server);
                self.runner.settle(work.lease, outcome, move || later.reply(id, ClientAnswer::Noted));
            }
            ClientAsk::Unusable(stage, reply) => {
                self.attempt.set_unusable(stage, *reply);
                replier.reply(id, ClientAnswer::Noted);
            }
        }
    }
}

impl OutboundFront {
    fn next(&self, id: AskId, replier: &Replier<ClientAnswer>) {
        self.attempt.is_ready();
        let Some(lease) = self.next_fit() else { return replier.reply(id, ClientAnswer::Quit) };
        let (engine, attempt, later) = (self.runner.engine(), self.attempt.clone(), replier.clone());
        let (kept, unread) = (lease.clone(), lease.clone());
        let busy = self.runner.services().storage.run(move || match attempt.begin(&engine, lease) {
            Ok(transaction) => later.reply(id, ClientAnswer::Transaction(Box::new(transaction))),
            Err(error) => {
                tracing::error!(message = unread.message.0, %error, "mail cannot be read from the queue");
                // What is damaged stays out of the way until the next start; `fsck` tells more.
                if matches!(error, EngineError::Unavailable(_)) {
                    engine.return_lease(&unread);
                }
                later.reply(id, ClientAnswer::Quit);
            }
        });
        if busy.is_err() {
            self.runner.engine().return_lease(&kept);
            replier.reply(id, ClientAnswer::Quit);
        }
    }

    /// The next lease that this server is good enough for.
    fn next_fit(&self) -> Option<Lease> {
        loop {
            let (own, others) = self.attempt.own();
            let lease = own.or_else(|| if others { self.runner.take(&self.hop) } else { None })?;
            if !needs_proof(&lease) || self.attempt.is_proved() {
                return Some(lease);
            }
            if self.attempt.is_last() {
                let reply = ServerReply::new(550, "5.7.10", "no server of the domain has proved who it is over TLS");
                let came = settle::Came::nothing(&lease, &reply, &self.server);
                self.runner.settle(lease, came, || {});
            } else {
                self.attempt.is_unfit_for(lease);
            }
        }
    }

    fn content(&self, id: AskId, octets: usize, replier: &Replier<ClientAnswer>) {
        let (engine, attempt, later) = (self.runner.engine(), self.attempt.clone(), replier.clone());
        let busy = self.runner.services().storage.run(move || match attempt.content(&engine, octets) {
            Ok((content, last)) => later.reply(id, ClientAnswer::Content(content, last)),
            Err(error) => {
                tracing::error!(%error, "the content of mail cannot be read from the queue");
                later.reply(id, ClientAnswer::NoContent);
            }
        });
        if busy.is_err() {
            replier.reply(id, ClientAnswer::NoContent);
        }
    }
}

/// Whether mail needs a server that has proved who it is. A report does not: better it arrives (RFC 8689 section 5).
fn needs_proof(lease: &Lease) -> bool {
    lease.envelope.require_tls && !lease.envelope.reverse_path.is_empty()
}

/// Whether a server has refused mail because it does not know what REQUIRETLS means; another one may.
fn is_unfit(lease: &Lease, result: &TransactionResult) -> bool {
    let unknown = |result: &RecipientResult| matches!(result, RecipientResult::Refused(reply) if reply.status.as_deref() == Some("5.7.30"));
    needs_proof(lease) && result.recipients.iter().all(unknown)
}
