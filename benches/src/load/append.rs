//! Messages by IMAP APPEND.

use std::{collections::VecDeque, rc::Rc};

use super::Pace;
use crate::{
    corpus::Corpus,
    failure::Result,
    imap::Imap,
    login::Logins,
    pace::{Report, Run, now, open_all},
    target::Target,
};

/// A run that appends.
#[derive(Debug)]
pub struct Append {
    /// The server.
    pub target: Target,
    /// Whose mailboxes.
    pub logins: Logins,
    /// Where to.
    pub mailbox: String,
    /// The messages.
    pub corpus: Corpus,
    /// How many APPENDs may be under way on a connection.
    pub depth: usize,
    /// Octets are sent without waiting for the server's leave (LITERAL+); with a depth above 1 always.
    pub literal_plus: bool,
}

impl Append {
    /// Appends.
    ///
    /// # Errors
    /// See the head of [`super`].
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        let job = Rc::new(self);
        let first = Rc::clone(&job);
        let clients = open_all(pace.connections, 0, |number| {
            let job = Rc::clone(&first);
            async move { Imap::open(&job.target, job.logins.of(number), number).await }
        });
        let clients = clients.await?;
        let run = Run::begin(name, "messages", pace.budget, pace.quiet);
        let tasks = clients.into_iter().map(|client| {
            let (job, run) = (Rc::clone(&job), Rc::clone(&run));
            async move { job.work(&run, client).await }
        });
        run.crew(tasks).await?;
        Ok(run.report())
    }

    async fn work(&self, run: &Run, mut client: Imap) -> Result<()> {
        let wait = self.depth <= 1 && !self.literal_plus;
        let mut under_way = VecDeque::new();
        loop {
            let next = if under_way.len() < self.depth.max(1) { run.take() } else { None };
            if let Some(number) = next {
                let message = self.corpus.message(number);
                let began = now();
                let tag = client.append(&self.mailbox, &message, wait).await?;
                under_way.push_back((tag, began, message.len() as u64));
            } else if let Some((tag, began, octets)) = under_way.pop_front() {
                client.appended(&tag).await?;
                run.done(began, octets);
            } else {
                return client.logout().await;
            }
        }
    }
}
