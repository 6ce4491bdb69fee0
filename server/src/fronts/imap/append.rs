//! APPEND: a message on its way in.

use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use rockdove_engine::{AppendMessage, Command, EngineError, InternalDate, Outcome, StagedMessage, Staging};
use rockdove_imap::{Answer, Refusal};
use rockdove_mail::{AskId, Flags, MailboxName, Rights};

use super::{Conversation, ImapFront, NoAnswer, Reach, mailbox::Place};
use crate::{delivery, fronts::Replier, runtime::clock};

/// Octets that may wait in memory before the first are handed to the store: most messages are smaller, and then all the
/// work is one job.
const WAITING_OCTETS_MAX: usize = 64 * 1024;

/// A message that is coming in.
pub(super) struct Append {
    place: Place,
    name: MailboxName,
    /// What the store has; `None` while everything waits.
    staging: Option<Staging>,
    waiting: Vec<Bytes>,
    waiting_octets: usize,
}

impl Append {
    fn add(&mut self, chunks: Vec<Bytes>) {
        self.waiting_octets += chunks.iter().map(Bytes::len).sum::<usize>();
        self.waiting.extend(chunks);
    }

    /// Hands what waits to the store. May block.
    fn spool(&mut self, talk: &Conversation) -> Result<(), EngineError> {
        let staging = self.staging.get_or_insert_with(|| talk.engine().stage());
        self.waiting_octets = 0;
        delivery::spool(staging, &std::mem::take(&mut self.waiting))
    }

    fn finish(mut self, talk: &Conversation) -> Result<(Arc<StagedMessage>, Place, MailboxName), NoAnswer> {
        let place = self.place;
        self.spool(talk).map_err(|error| talk.refused(&error))?;
        let staging = self.staging.unwrap_or_else(|| talk.engine().stage());
        let message = staging.finish().map_err(|error| talk.refused(&error))?;
        Ok((message, place, self.name))
    }
}

impl Conversation {
    fn append(&self) -> MutexGuard<'_, Option<Box<Append>>> {
        self.append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message of this size may come.
    pub(super) fn append_begin(&self, name: &MailboxName, size_bytes: u64, reach: Reach) -> Result<Answer, NoAnswer> {
        *self.append() = None;
        let (place, _) = self.named(name, Rights::INSERT, reach)?;
        let size_max = self.engine().options().message_size_max;
        if size_bytes > size_max {
            return Err(NoAnswer::Refused(Refusal::Limit(format!("a message has at most {size_max} octets"))));
        }
        let directory = self.engine().directory();
        if directory.account(place.account).is_some_and(|account| account.quota_bytes.is_some()) {
            if reach == Reach::Memory {
                return Err(NoAnswer::NotInMemory);
            }
            if !delivery::has_room(self.engine(), place.account, size_bytes).map_err(|error| self.refused(&error))? {
                return Err(NoAnswer::Refused(Refusal::OverQuota));
            }
        }
        *self.append() =
            Some(Box::new(Append { place, name: name.clone(), staging: None, waiting: Vec::new(), waiting_octets: 0 }));
        Ok(Answer::Done)
    }

    /// Spools what waits. What fails once stays failed: the message is given up.
    fn append_spool(&self) -> Result<Answer, NoAnswer> {
        let mut append = self.append().take().ok_or(NoAnswer::Refused(Refusal::TryLater))?;
        append.spool(self).map_err(|error| self.refused(&error))?;
        *self.append() = Some(append);
        Ok(Answer::Done)
    }

    fn append_submit(
        self: &Arc<Self>,
        id: AskId,
        answers: Replier<Answer>,
        append: Append,
        flags: Flags,
        internal_date: InternalDate,
    ) {
        let (message, place, name) = match append.finish(self) {
            Ok(finished) => finished,
            Err(refused) => return answers.reply(id, refused.into_answer()),
        };
        let size_bytes = message.size_bytes();
        let messages = vec![AppendMessage { message, flags, internal_date }];
        let command = Command::Append { account: place.account, mailbox: place.mailbox, messages };
        let command = match self.given_by_user(command) {
            Ok(command) => command,
            Err(refused) => return answers.reply(id, refused.into_answer()),
        };
        let talk = Arc::clone(self);
        let done = Box::new(move |result: Result<Outcome, EngineError>| {
            let by = || (talk.who.address(), talk.who.peer());
            match result {
                Ok(Outcome::Appended { uid_validity, uids }) => {
                    let uid = uids.first().copied().unwrap_or_default();
                    // The answer first: whoever waits for it need not wait for the log.
                    answers.reply(id, Answer::Appended { uid_validity, uid });
                    delivery::appended(&by(), &name, (uid_validity, uid), size_bytes);
                }
                Ok(_) => answers.reply(id, Answer::Refused(Refusal::TryLater)),
                Err(error) => {
                    answers.reply(id, talk.refused(&error).into_answer());
                    delivery::refused_append(&by(), &name, size_bytes, &error);
                }
            }
        });
        self.engine().submit(clock::now().unix_s, command, done);
    }
}

impl ImapFront {
    pub(super) fn append_octets(&self, id: AskId, replier: &Replier<Answer>, chunks: Vec<Bytes>) {
        let waits = self.talk.append().as_mut().map(|append| {
            append.add(chunks);
            append.waiting_octets <= WAITING_OCTETS_MAX
        });
        if waits == Some(true) {
            return replier.reply(id, Answer::Done);
        }
        self.job(id, replier, move |talk, answers| {
            answers.reply(id, talk.append_spool().unwrap_or_else(NoAnswer::into_answer));
        });
    }

    pub(super) fn append_end(&self, id: AskId, replier: &Replier<Answer>, flags: Flags, date: Option<(i64, i16)>) {
        let Some(append) = self.talk.append().take() else {
            return replier.reply(id, Answer::Refused(Refusal::TryLater));
        };
        let (unix_s, offset_minutes) = date.unwrap_or_else(|| (clock::now().unix_s, 0));
        let date = InternalDate { unix_s, offset_minutes };
        self.job(id, replier, move |talk, answers| talk.append_submit(id, answers, *append, flags, date));
    }

    pub(super) fn append_abort(&self, id: AskId, replier: &Replier<Answer>) {
        // What the store was given is no longer referred to and will be collected.
        let given_up = self.talk.append().take();
        drop(given_up);
        replier.reply(id, Answer::Done);
    }
}
