//! The host's half of a connection to another server.

use std::rc::Rc;

use rockdove_engine::EngineError;
use rockdove_mail::AskId;
use rockdove_smtp::client::{ClientAnswer, ClientAsk, ClientSession};

use super::{attempt::Attempt, connect::Target, runner::Runner, settle};
use crate::fronts::{Front, Replier};

pub(super) struct OutboundFront {
    pub(super) runner: Rc<Runner>,
    pub(super) hop: String,
    /// Whom we talk to.
    pub(super) target: Target,
    pub(super) attempt: Attempt,
}

impl Front<ClientSession> for OutboundFront {
    fn ask(&mut self, id: AskId, ask: ClientAsk, replier: &Replier<ClientAnswer>) {
        match ask {
            ClientAsk::Next => self.next(id, replier),
            ClientAsk::Content(octets) => self.content(id, octets, replier),
            ClientAsk::Result(result) => {
                let Some(work) = self.attempt.take() else { return replier.reply(id, ClientAnswer::Noted) };
                let later = replier.clone();
                let outcome = settle::Came::of(&work, &result, &self.target);
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
        let Some(lease) = self.runner.take(&self.hop) else { return replier.reply(id, ClientAnswer::Quit) };
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
