//! Maildrops read by POP3.

use std::{cell::Cell, rc::Rc};

use super::Pace;
use crate::{
    failure::Result,
    login::Logins,
    pace::{Report, Run, now},
    pop3::Pop3,
    target::Target,
};

/// A run that logs in, asks STAT and retrieves messages, again and again. Connections take the logins in turn; a server
/// lets only one session into a maildrop at a time, so there should be as many logins as connections.
#[derive(Debug)]
pub struct Maildrop {
    /// The server.
    pub target: Target,
    /// Whose maildrops.
    pub logins: Logins,
    /// Messages retrieved in a session at most.
    pub retrieve_max: u32,
    /// RETR commands that may be under way (PIPELINING, RFC 2449).
    pub depth: u32,
}

impl Maildrop {
    /// Retrieves. The unit is the message; sessions are counted beside.
    ///
    /// # Errors
    /// See the head of [`super`].
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        let job = Rc::new(self);
        let run = Run::begin(name, "messages", pace.budget, pace.quiet);
        let sessions = Rc::new(Cell::new(0_u64));
        let tasks = (0..pace.connections).map(|connection| {
            let (job, run, sessions) = (Rc::clone(&job), Rc::clone(&run), Rc::clone(&sessions));
            async move {
                while job.session(&run, connection).await? {
                    sessions.set(sessions.get() + 1);
                }
                Ok(())
            }
        });
        run.crew(tasks).await?;
        let mut report = run.report();
        report.also("sessions", sessions.get());
        Ok(report)
    }

    /// One session; says whether it was worth it and another may follow.
    async fn session(&self, run: &Run, connection: usize) -> Result<bool> {
        let mut client = Pop3::open(&self.target, self.logins.of(connection), connection).await?;
        let (count, _) = client.stat().await?;
        let last = count.min(self.retrieve_max);
        let mut message = Vec::new();
        let (mut next, mut over) = (1, last == 0);
        while next <= last && !over {
            let mut asked = next;
            while asked <= last && asked - next < self.depth.max(1) {
                if run.take().is_none() {
                    over = true;
                    break;
                }
                asked += 1;
            }
            let began = now();
            client.ask(next..asked).await?;
            for number in next..asked {
                client.retrieved(number, &mut message).await?;
                run.done(began, message.len() as u64);
            }
            next = asked;
        }
        client.quit().await?;
        Ok(!over)
    }
}
