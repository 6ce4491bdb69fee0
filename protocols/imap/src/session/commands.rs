//! Which command may come in which state, and who carries it out.

use super::{ImapSession, State, store::StoreCommand};
use crate::command::{Command, FindForm, FindRequest, ReturnOptions, SearchProgram};

/// The states in which a command may come.
enum When {
    Always,
    NotAuthenticated,
    Authenticated,
    Selected,
}

fn when(command: &Command) -> When {
    match command {
        Command::Capability | Command::Noop | Command::Logout | Command::Id(_) | Command::Language(_) => When::Always,
        Command::StartTls | Command::Login { .. } | Command::Authenticate { .. } => When::NotAuthenticated,
        Command::Enable(_)
        | Command::Unauthenticate
        | Command::Compress(_)
        | Command::Select { .. }
        | Command::Create { .. }
        | Command::Delete(_)
        | Command::Rename { .. }
        | Command::Subscribe(..)
        | Command::List(_)
        | Command::Lsub { .. }
        | Command::Namespace
        | Command::Status { .. }
        | Command::Access(_)
        | Command::Metadata(_)
        | Command::Append(_)
        | Command::MultiSearch(_)
        | Command::Notify(_)
        | Command::Idle => When::Authenticated,
        Command::Check
        | Command::Close
        | Command::Unselect
        | Command::Expunge
        | Command::UidExpunge(_)
        | Command::Search { .. }
        | Command::Find(_)
        | Command::Fetch { .. }
        | Command::Store { .. }
        | Command::Copy { .. } => When::Selected,
    }
}

/// Whether a search is about sequence numbers.
fn names_numbers(program: &SearchProgram) -> bool {
    // `$` stands for messages, not for numbers.
    program.any(&|key| matches!(key, SearchProgram::Sequence(set) if !set.is_saved()))
}

impl ImapSession {
    /// Why this command may not come now.
    fn out_of_place(&self, command: &Command) -> Option<&'static str> {
        match (when(command), &self.state) {
            (When::NotAuthenticated, State::NotAuthenticated(_)) | (When::Always, _) => None,
            (When::NotAuthenticated, _) => Some("you are logged in already"),
            (_, State::NotAuthenticated(_)) => Some("log in first"),
            (When::Selected, State::Authenticated) => Some("select a mailbox first"),
            _ => None,
        }
    }

    /// Carries out a command.
    pub(super) fn command(&mut self, command: Command) {
        if let Some(why) = self.out_of_place(&command) {
            return self.bad(why);
        }
        let Some(command) = self.with_filters(command) else { return };
        self.uid_command = matches!(
            command,
            Command::Fetch { uid: true, .. }
                | Command::Store { uid: true, .. }
                | Command::Search { uid: true, .. }
                | Command::Copy { uid: true, .. }
                | Command::Find(FindRequest { uid: true, .. })
                | Command::UidExpunge(_)
                | Command::MultiSearch(_)
        );
        //= rfc3501#section-7.4.1
        //# An EXPUNGE response MUST NOT be sent when no command is in
        //# progress, nor while responding to a FETCH, STORE, or SEARCH
        //# command.
        self.numbers_stay = match &command {
            //= rfc7162#section-3.2.10.2
            //# However, the VANISHED response MUST NOT be
            //# sent during a UID SEARCH command that contains message numbers in the
            //# search criteria.
            Command::Search { uid, key, .. } => !uid || names_numbers(key),
            Command::Find(find) => !find.uid || names_numbers(&find.key),
            Command::MultiSearch(search) => names_numbers(&search.key),
            Command::Fetch { uid, .. } | Command::Store { uid, .. } => !uid,
            _ => false,
        };
        match command {
            Command::Capability => self.capability(),
            Command::Noop | Command::Check => self.complete("OK done"),
            Command::Logout => self.logout(),
            Command::Id(_) => self.id(),
            Command::Language(ranges) => self.language(&ranges),
            Command::StartTls => self.starttls(),
            Command::Login { login, password } => self.login(login, password),
            Command::Authenticate { mechanism, initial } => self.authenticate(&mechanism, initial.as_deref()),
            Command::Enable(names) => self.enable(&names),
            Command::Compress(mechanism) => self.compress(&mechanism),
            Command::Unauthenticate => self.unauthenticate(),
            command if matches!(when(&command), When::Selected) => self.selected_command(command),
            command => self.mailbox_command(command),
        }
    }

    /// Commands about mailboxes as a whole.
    fn mailbox_command(&mut self, command: Command) {
        match command {
            Command::Select { mailbox, read_only, condstore, resync } => {
                self.select(mailbox, read_only, condstore, resync);
            }
            Command::Create { mailbox, special_use } => self.create(mailbox, special_use),
            Command::Delete(mailbox) => self.delete(mailbox),
            Command::Rename { from, to } => self.rename(from, to),
            Command::Subscribe(mailbox, subscribed) => self.subscribe(mailbox, subscribed),
            Command::List(request) => self.list(request),
            Command::Lsub { reference, pattern } => self.lsub(reference, pattern),
            Command::Namespace => self.namespace(),
            Command::Status { mailbox, items } => self.status(mailbox, items),
            Command::Access(command) => self.access(command),
            Command::Metadata(command) => self.metadata(command),
            Command::MultiSearch(search) => self.multi_search(search),
            Command::Notify(set) => self.notify(set),
            Command::Idle => self.idle(),
            // APPEND does not come as a whole; the others have been dealt with.
            _ => self.bad("not now"),
        }
    }

    /// Commands about messages of the selected mailbox.
    fn selected_command(&mut self, command: Command) {
        match command {
            Command::Close => self.close(),
            Command::Unselect => self.unselect("OK let go"),
            Command::Expunge => self.expunge(None),
            Command::UidExpunge(set) => self.expunge(Some(&set)),
            //= rfc9051#section-6.4.4
            //# If no result
            //# option is specified or empty list of options is specified as "()",
            //# ALL is assumed
            Command::Search { uid, charset, key } if self.rev2 => {
                let returns = ReturnOptions { all: true, ..ReturnOptions::default() };
                self.find(FindRequest { uid, charset, key, form: FindForm::Extended(returns) });
            }
            Command::Search { charset, key, .. } => self.search(charset.as_deref(), &key),
            Command::Find(request) => self.find(request),
            Command::Fetch { set, request, changed_since, vanished, partial, .. } => {
                self.fetch(&set, request, (changed_since, vanished), partial);
            }
            Command::Store { set, update, flags, silent, unchanged_since, .. } => {
                if let Some(uids) = self.messages(&set) {
                    self.store(StoreCommand { uids, update, flags, silent, unchanged_since });
                }
            }
            Command::Copy { remove, set, mailbox, .. } => self.copy(remove, &set, mailbox),
            // The caller has dealt with the others.
            _ => self.bad("not now"),
        }
    }
}
