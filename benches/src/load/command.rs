//! Any IMAP command, again and again.

use std::{cell::Cell, rc::Rc};

use super::Pace;
use crate::{
    corpus::mix,
    failure::{LoadError, Result},
    imap::{Imap, Outcome, quoted},
    login::Logins,
    pace::{Report, Run, now, open_all, per_second},
    target::Target,
};

/// Stands in a command for the number of a message of the mailbox, another one each time.
const RANDOM: &str = "{random}";

/// A run that repeats a command.
#[derive(Debug)]
pub struct Command {
    /// The server.
    pub target: Target,
    /// Whose mailboxes.
    pub logins: Logins,
    /// The mailbox to select before; none for a command of the authenticated state.
    pub mailbox: Option<String>,
    /// The command without its tag; `{random}` in it is replaced by the number of a message.
    pub command: String,
}

impl Command {
    /// Repeats the command.
    ///
    /// # Errors
    /// See the head of [`super`].
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        // Only to keep line ends out of it.
        quoted(&self.command)?;
        let job = Rc::new(self);
        let first = Rc::clone(&job);
        let clients = open_all(pace.connections, 0, |number| {
            let job = Rc::clone(&first);
            async move { job.open(number).await }
        });
        let clients = clients.await?;
        let run = Run::begin(name, "commands", pace.budget, pace.quiet);
        let responses = Rc::new(Cell::new(0));
        let tasks = clients.into_iter().map(|(client, exists)| {
            let (job, run, responses) = (Rc::clone(&job), Rc::clone(&run), Rc::clone(&responses));
            async move { job.work(&run, client, exists, &responses).await }
        });
        run.crew(tasks).await?;
        let mut report = run.report();
        report.also("command", job.command.clone());
        report.also("responses", responses.get());
        report.also("responses_per_s", per_second(responses.get(), report.seconds));
        Ok(report)
    }

    async fn open(&self, number: usize) -> Result<(Imap, u32)> {
        let mut client = Imap::open(&self.target, self.logins.of(number), number).await?;
        let exists = match &self.mailbox {
            Some(mailbox) => client.select(mailbox).await?.exists,
            None => 0,
        };
        if exists == 0 && self.command.contains(RANDOM) {
            return Err(LoadError::Usage(format!("{RANDOM} needs a mailbox with messages")));
        }
        Ok((client, exists))
    }

    async fn work(&self, run: &Run, mut client: Imap, exists: u32, responses: &Cell<u64>) -> Result<()> {
        while let Some(number) = run.take() {
            let filled = (exists > 0 && self.command.contains(RANDOM)).then(|| {
                let message = mix(number) % u64::from(exists) + 1;
                self.command.replace(RANDOM, &message.to_string())
            });
            let began = now();
            let Outcome { untagged, octets } = client.command(filled.as_ref().unwrap_or(&self.command), |_| ()).await?;
            run.done(began, octets);
            responses.set(responses.get() + untagged);
        }
        client.logout().await
    }
}
