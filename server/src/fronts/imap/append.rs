//! APPEND: messages on their way in, stored together when the last one has come.

use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rockdove_engine::{AccountId, AppendMessage, Command, EngineError, InternalDate, Outcome, Staging};
use rockdove_imap::{Answer, Refusal, command::AppendFacts};
use rockdove_mail::{AskId, Flags, MailboxName, Rights, Uid};

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
    /// Messages of this APPEND that came before.
    complete: Vec<AppendMessage>,
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

    /// The message that is coming in is complete.
    fn finish(&mut self, talk: &Conversation, flags: Flags, internal_date: InternalDate) -> Result<(), NoAnswer> {
        self.spool(talk).map_err(|error| talk.refused(&error))?;
        let staging = self.staging.take().unwrap_or_else(|| talk.engine().stage());
        let message = staging.finish().map_err(|error| talk.refused(&error))?;
        self.complete.push(AppendMessage { message, flags, internal_date });
        Ok(())
    }

    /// Octets of the messages that are complete.
    fn octets(&self) -> u64 {
        self.complete.iter().map(|message| message.message.size_bytes()).sum()
    }
}

/// A message that has come and is to be stored.
struct End {
    id: AskId,
    append: Box<Append>,
    facts: (Flags, InternalDate),
    replaces: Option<Uid>,
}

/// Messages that are to be stored in this order, whichever of them is staged first: one job works on them.
#[derive(Default)]
pub(super) struct Ends {
    waiting: VecDeque<End>,
    /// A job works on them.
    worked_on: bool,
}

impl Ends {
    /// Adds one; whether a job is to be started.
    fn add(&mut self, end: End) -> bool {
        self.waiting.push_back(end);
        !std::mem::replace(&mut self.worked_on, true)
    }

    /// The next one; with the last the job ends.
    fn next(&mut self) -> Option<End> {
        let next = self.waiting.pop_front();
        self.worked_on = next.is_some();
        next
    }

    /// No job could be started.
    fn give_up(&mut self) -> VecDeque<End> {
        self.worked_on = false;
        std::mem::take(&mut self.waiting)
    }
}

impl Conversation {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what has come, in its order.
    fn submit_ends(self: &Arc<Self>, answers: &Replier<Answer>) {
        loop {
            // Not in the condition of a loop: the lock would be held while the message is staged.
            let Some(End { id, append, facts, replaces }) = self.ends().next() else { return };
            self.append_submit(id, answers.clone(), append, facts, replaces);
        }
    }

    fn append(&self) -> MutexGuard<'_, Option<Box<Append>>> {
        self.append.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a message of this size may come.
    pub(super) fn append_begin(
        &self,
        name: &MailboxName,
        size_bytes: u64,
        replaces: bool,
        reach: Reach,
    ) -> Result<Answer, NoAnswer> {
        *self.append() = None;
        let (place, _) = self.named(name, Rights::INSERT, reach)?;
        if replaces {
            // How much room there will be is known when the other goes.
            self.may_come(size_bytes)?;
        } else {
            self.may_append(place.account, size_bytes, 0, reach)?;
        }
        *self.append() = Some(Box::new(Append {
            place,
            name: name.clone(),
            staging: None,
            waiting: Vec::new(),
            waiting_octets: 0,
            complete: Vec::new(),
        }));
        Ok(Answer::Done)
    }

    /// Whether there is room for a message of this size, beside others of the same APPEND.
    fn may_append(&self, account: AccountId, size_bytes: u64, before: u64, reach: Reach) -> Result<(), NoAnswer> {
        self.may_come(size_bytes)?;
        let directory = self.engine().directory();
        if directory.account(account).is_none_or(|account| account.quota_bytes.is_none()) {
            return Ok(());
        }
        if reach == Reach::Memory {
            return Err(NoAnswer::NotInMemory);
        }
        let together = before.saturating_add(size_bytes);
        if !delivery::has_room(self.engine(), account, together).map_err(|error| self.refused(&error))? {
            return Err(NoAnswer::Refused(Refusal::OverQuota));
        }
        Ok(())
    }

    /// Whether a message of this size is taken at all.
    fn may_come(&self, size_bytes: u64) -> Result<(), NoAnswer> {
        let size_max = self.engine().options().message_size_max;
        if size_bytes > size_max {
            return Err(NoAnswer::Refused(Refusal::Limit(format!("a message has at most {size_max} octets"))));
        }
        self.engine().takes_in().map_err(|error| self.refused(&error))
    }

    /// One message is complete; may another of this size come?
    fn append_another(&self, flags: Flags, date: InternalDate, size_bytes: u64) -> Result<Answer, NoAnswer> {
        let mut append = self.append().take().ok_or(NoAnswer::Refused(Refusal::TryLater))?;
        append.finish(self, flags, date)?;
        self.may_append(append.place.account, size_bytes, append.octets(), Reach::Disk)?;
        *self.append() = Some(append);
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
        mut append: Box<Append>,
        (flags, internal_date): (Flags, InternalDate),
        replaces: Option<Uid>,
    ) {
        if let Err(refused) = append.finish(self, flags, internal_date) {
            return answers.reply(id, refused.into_answer());
        }
        let Append { place, complete: mut messages, name, .. } = *append;
        let sizes: Vec<u64> = messages.iter().map(|message| message.message.size_bytes()).collect();
        let Place { account, mailbox } = place;
        let command = match (replaces, messages.pop()) {
            (Some(uid), Some(message)) => self.place().map(|from| Command::Replace {
                account,
                mailbox,
                message,
                from_account: from.account,
                from: from.mailbox,
                uid,
            }),
            (_, last) => {
                messages.extend(last);
                Ok(Command::Append { account, mailbox, messages })
            }
        };
        let command = match command.and_then(|command| self.given_by_user(command)) {
            Ok(command) => command,
            Err(refused) => return answers.reply(id, refused.into_answer()),
        };
        let talk = Arc::clone(self);
        let done = Box::new(move |result: Result<Outcome, EngineError>| {
            let by = (talk.who.address(), talk.who.peer());
            match result {
                Ok(Outcome::Appended { uid_validity, uids }) => {
                    // The answer first: whoever waits for it need not wait for the log.
                    answers.reply(id, Answer::Appended { uid_validity, uids: uids.iter().copied().collect() });
                    for (uid, size_bytes) in uids.into_iter().zip(sizes) {
                        delivery::appended(talk.engine(), &by, &name, (uid_validity, uid), size_bytes);
                    }
                }
                Ok(_) => answers.reply(id, Answer::Refused(Refusal::TryLater)),
                Err(error) => {
                    answers.reply(id, talk.refused(&error).into_answer());
                    delivery::refused_append(talk.engine(), &by, &name, sizes.iter().sum(), &error);
                }
            }
        });
        self.engine().submit(clock::now().unix_s, command, done);
    }
}

/// The internal date: now, unless the client has said another.
fn internal_date(date: Option<(i64, i16)>) -> InternalDate {
    let (unix_s, offset_minutes) = date.unwrap_or_else(|| (clock::now().unix_s, 0));
    InternalDate { unix_s, offset_minutes }
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

    pub(super) fn append_next(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        flags: Flags,
        date: Option<(i64, i16)>,
        size_bytes: u64,
    ) {
        let date = internal_date(date);
        self.job(id, replier, move |talk, answers| {
            let answer = talk.append_another(flags, date, size_bytes);
            answers.reply(id, answer.unwrap_or_else(NoAnswer::into_answer));
        });
    }

    pub(super) fn append_end(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        (flags, date): AppendFacts,
        replaces: Option<Uid>,
    ) {
        let Some(append) = self.talk.append().take() else {
            return replier.reply(id, Answer::Refused(Refusal::TryLater));
        };
        let end = End { id, append, facts: (flags, internal_date(date)), replaces };
        if !self.talk.ends().add(end) {
            return;
        }
        let (talk, answers) = (Arc::clone(&self.talk), replier.clone());
        if self.talk.who.services().storage.run(move || talk.submit_ends(&answers)).is_err() {
            for End { id, .. } in self.talk.ends().give_up() {
                replier.reply(id, Answer::Refused(Refusal::TryLater));
            }
        }
    }

    pub(super) fn append_abort(&self, id: AskId, replier: &Replier<Answer>) {
        // What the store was given is no longer referred to and will be collected.
        let given_up = self.talk.append().take();
        drop(given_up);
        replier.reply(id, Answer::Done);
    }
}
