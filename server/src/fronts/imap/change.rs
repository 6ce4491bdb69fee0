//! What changes mailboxes and messages: one command of the engine each, answered when it is durable.

use std::sync::Arc;

use rockdove_engine::{AccountId, Command, EngineError, MailboxId, Outcome, rights::Named};
use rockdove_imap::{Answer, Ask, ObjectId, Refusal};
use rockdove_mail::{AskId, MailboxName, Rights, UidSet};

use super::{Conversation, ImapFront, NoAnswer, Reach};
use crate::{fronts::Replier, runtime::clock};

impl ImapFront {
    /// Questions that change something.
    pub(super) fn ask_change(&self, id: AskId, ask: Ask, replier: &Replier<Answer>) {
        match ask {
            Ask::Create { mailbox, special_use } => self.manage(id, replier, move |talk| {
                // Whether somebody is there is told no more than whether they let one in.
                let Named { owner: account, name } = talk.owner_of(&mailbox, Refusal::NoPermission)?;
                Ok(Command::CreateMailbox { account, name, special_use })
            }),
            Ask::Delete { mailbox } => self.manage(id, replier, move |talk| {
                let Named { owner: account, name } = talk.owner_of(&mailbox, Refusal::NoSuchMailbox)?;
                Ok(Command::DeleteMailbox { account, name })
            }),
            Ask::Rename { from, to } => self.manage(id, replier, move |talk| talk.renaming(&from, &to)),
            Ask::Subscribe { mailbox: name, subscribed } => self.manage(id, replier, move |talk| {
                // Everybody has subscriptions of their own, by the names that they see.
                Ok(Command::Subscribe { account: talk.account()?, name, subscribed })
            }),
            Ask::SetQuota { root, limits } => self.manage(id, replier, move |talk| talk.limiting(&root, &limits)),
            Ask::SetRights { mailbox, identifier, update, rights } => self.manage(id, replier, move |talk| {
                let (place, _) = talk.named(&mailbox, Rights::ADMINISTER, Reach::Disk)?;
                let (account, mailbox) = (place.account, place.mailbox);
                Ok(Command::SetRights { account, mailbox, identifier, update, rights })
            }),
            Ask::SetMetadata { mailbox, entries } => {
                self.manage(id, replier, move |talk| talk.annotating(mailbox.as_ref(), entries));
            }
            Ask::Store { uids, update, flags, unchanged_since } => self.change(id, replier, move |talk| {
                let place = talk.place()?;
                let (account, mailbox) = (place.account, place.mailbox);
                Ok(Command::StoreFlags { account, mailbox, uids, update, flags, unchanged_since })
            }),
            Ask::Expunge { uids } => self.change(id, replier, move |talk| {
                let place = talk.place()?;
                Ok(Command::Expunge { account: place.account, mailbox: place.mailbox, uids, deleted_only: true })
            }),
            Ask::Copy { uids, mailbox, remove } => {
                self.change(id, replier, move |talk| talk.copying(uids, &mailbox, remove));
            }
            // Everything else was answered before.
            _ => replier.reply(id, Answer::Refused(Refusal::TryLater)),
        }
    }

    /// Changes mailboxes as a whole.
    fn manage(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        command: impl FnOnce(&Conversation) -> Result<Command, NoAnswer> + Send + 'static,
    ) {
        self.command(id, replier, Refusal::NoSuchMailbox, command);
    }

    /// Changes messages of the open mailbox.
    fn change(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        command: impl FnOnce(&Conversation) -> Result<Command, NoAnswer> + Send + 'static,
    ) {
        self.command(id, replier, Refusal::MailboxGone, command);
    }

    /// Hands a command to the engine; planning it may read the disk.
    fn command(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        missing: Refusal,
        command: impl FnOnce(&Conversation) -> Result<Command, NoAnswer> + Send + 'static,
    ) {
        self.job(id, replier, move |talk, answers| {
            match command(talk).and_then(|command| talk.given_by_user(command)) {
                Ok(command) => talk.submit(id, answers, command, missing),
                Err(refused) => answers.reply(id, refused.into_answer()),
            }
        });
    }
}

impl Conversation {
    /// A command that is carried out with the rights of the user.
    pub(super) fn given_by_user(&self, command: Command) -> Result<Command, NoAnswer> {
        Ok(Command::As { actor: self.account()?, command: Box::new(command) })
    }

    /// Whose mailbox a name means, and its name there; `nobodys` when it is nobody's.
    fn owner_of(&self, name: &MailboxName, nobodys: Refusal) -> Result<Named, NoAnswer> {
        let named = self.engine().owner_of(self.account()?, name).map_err(|error| self.refused(&error))?;
        named.ok_or(NoAnswer::Refused(nobodys))
    }

    fn renaming(&self, from: &MailboxName, to: &MailboxName) -> Result<Command, NoAnswer> {
        let Named { owner: account, name: old } = self.owner_of(from, Refusal::NoSuchMailbox)?;
        let target = self.engine().owner_of(self.account()?, to).map_err(|error| self.refused(&error))?;
        let Some(Named { name: new, .. }) = target.filter(|target| target.owner == account) else {
            // Told only of a mailbox that may be seen; and the same whether anybody is there or not.
            self.named(from, Rights::DELETE_MAILBOX, Reach::Disk)?;
            let why = "a mailbox stays with its owner; create another and move the messages";
            return Err(NoAnswer::Refused(Refusal::Cannot(why.to_owned())));
        };
        Ok(Command::RenameMailbox { account, from: old, to: new })
    }

    fn copying(&self, uids: UidSet, name: &MailboxName, remove: bool) -> Result<Command, NoAnswer> {
        let (from, (to, _)) = (self.place()?, self.named(name, Rights::INSERT, Reach::Disk)?);
        let (account, to_account, from, to) = (from.account, to.account, from.mailbox, to.mailbox);
        if account != to_account {
            return Ok(Command::CopyAcross { account, from, uids, to_account, to, remove });
        }
        Ok(if remove { Command::Move { account, from, uids, to } } else { Command::Copy { account, from, uids, to } })
    }

    /// Hands a command to the engine. `missing` is the refusal when something it names is not there.
    fn submit(self: &Arc<Self>, id: AskId, answers: Replier<Answer>, command: Command, missing: Refusal) {
        let (target, owner, annotates) = (target_of(&command), creates_for(&command), annotates(&command));
        let talk = Arc::clone(self);
        let done = Box::new(move |result: Result<Outcome, EngineError>| {
            let answer = match result {
                Ok(Outcome::Mailbox(mailbox)) => owner
                    .map_or(Answer::Done, |owner| Answer::Created(ObjectId { account: owner.0, number: mailbox.0 })),
                Ok(outcome) => talk.answer_of(outcome),
                Err(EngineError::Limit(_)) if annotates => Answer::Refused(Refusal::TooManyAnnotations),
                Err(error) => {
                    let target_gone = target.is_some_and(|(account, id)| talk.is_gone(account, id));
                    let missing = if target_gone { Refusal::NoSuchMailbox } else { missing };
                    Answer::Refused(talk.refusal(&error, missing))
                }
            };
            answers.reply(id, answer);
        });
        self.engine().submit(clock::now().unix_s, command, done);
    }

    fn is_gone(&self, account: AccountId, mailbox: MailboxId) -> bool {
        self.list(account, Reach::Memory).is_ok_and(|list| list.by_id(mailbox).is_none())
    }

    fn answer_of(&self, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Stored(stored) => {
                let changed = stored.rows.iter().filter(|row| stored.modseq > 0 && row.modseq == stored.modseq);
                Answer::Stored {
                    uids: stored.rows.iter().map(|row| row.uid).collect(),
                    changed: changed.map(|row| row.uid).collect(),
                    modified: stored.modified,
                    modseq: stored.modseq,
                    keywords: self.renew(),
                }
            }
            Outcome::Copied { uid_validity, from, to } => {
                Answer::Copied { uid_validity, from: from.into_iter().collect(), to: to.into_iter().collect() }
            }
            Outcome::Expunged { uids, .. } => {
                self.renew();
                Answer::Expunged(uids)
            }
            _ => Answer::Done,
        }
    }
}

/// Whose mailbox a command makes.
fn creates_for(command: &Command) -> Option<AccountId> {
    match command {
        Command::As { command, .. } => creates_for(command),
        Command::CreateMailbox { account, .. } => Some(*account),
        _ => None,
    }
}

/// Whether a command sets annotations.
fn annotates(command: &Command) -> bool {
    match command {
        Command::As { command, .. } => annotates(command),
        command => matches!(command, Command::Annotate { .. }),
    }
}

/// Where a command puts messages of a mailbox.
fn target_of(command: &Command) -> Option<(AccountId, MailboxId)> {
    match command {
        Command::As { command, .. } => target_of(command),
        Command::Copy { account, to, .. }
        | Command::Move { account, to, .. }
        | Command::CopyAcross { to_account: account, to, .. } => Some((*account, *to)),
        _ => None,
    }
}
