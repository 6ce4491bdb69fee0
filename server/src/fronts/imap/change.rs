//! What changes mailboxes and messages: one command of the engine each, answered when it is durable.

use std::sync::Arc;

use rockdove_engine::{AccountId, Command, EngineError, MailboxId, Outcome};
use rockdove_imap::{Answer, Ask, ObjectId, Refusal};
use rockdove_mail::{AskId, MailboxName, UidSet};

use super::{Conversation, ImapFront, NoAnswer, Reach};
use crate::{fronts::Replier, runtime::clock};

impl ImapFront {
    /// Questions that change something.
    pub(super) fn ask_change(&self, id: AskId, ask: Ask, replier: &Replier<Answer>) {
        match ask {
            Ask::Create { mailbox: name, special_use } => {
                let command = move |account| Command::CreateMailbox { account, name, special_use };
                self.manage(id, replier, command);
            }
            Ask::Delete { mailbox: name } => {
                self.manage(id, replier, move |account| Command::DeleteMailbox { account, name });
            }
            Ask::Rename { from, to } => {
                self.manage(id, replier, move |account| Command::RenameMailbox { account, from, to });
            }
            Ask::Subscribe { mailbox: name, subscribed } => {
                self.manage(id, replier, move |account| Command::Subscribe { account, name, subscribed });
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

    /// Changes the mailboxes of the account.
    fn manage(
        &self,
        id: AskId,
        replier: &Replier<Answer>,
        command: impl FnOnce(AccountId) -> Command + Send + 'static,
    ) {
        self.command(id, replier, Refusal::NoSuchMailbox, move |talk| Ok(command(talk.account()?)));
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
        self.job(id, replier, move |talk, answers| match command(talk) {
            Ok(command) => talk.submit(id, answers, command, missing),
            Err(refused) => answers.reply(id, refused.into_answer()),
        });
    }
}

impl Conversation {
    fn copying(&self, uids: UidSet, name: &MailboxName, remove: bool) -> Result<Command, NoAnswer> {
        let (from, to) = (self.place()?, self.named(name, Reach::Disk)?);
        let (account, from, to) = (from.account, from.mailbox, to.mailbox);
        Ok(if remove { Command::Move { account, from, uids, to } } else { Command::Copy { account, from, uids, to } })
    }

    /// Hands a command to the engine. `missing` is the refusal when something it names is not there.
    fn submit(self: &Arc<Self>, id: AskId, answers: Replier<Answer>, command: Command, missing: Refusal) {
        let target = match &command {
            Command::Copy { account, to, .. } | Command::Move { account, to, .. } => Some((*account, *to)),
            _ => None,
        };
        let talk = Arc::clone(self);
        let done = Box::new(move |result: Result<Outcome, EngineError>| {
            let answer = match result {
                Ok(outcome) => talk.answer_of(outcome),
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
            Outcome::Mailbox(mailbox) => match self.account() {
                Ok(account) => Answer::Created(ObjectId { account: account.0, number: mailbox.0 }),
                Err(refused) => refused.into_answer(),
            },
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
