//! Connections that log in by IMAP and go away.

use std::rc::Rc;

use super::Pace;
use crate::{
    failure::Result,
    imap::Imap,
    login::Logins,
    pace::{Report, Run, now},
    target::Target,
};

/// A run that connects, logs in and logs out.
#[derive(Debug)]
pub struct LogInAndOut {
    /// The server.
    pub target: Target,
    /// Who.
    pub logins: Logins,
}

impl LogInAndOut {
    /// Logs in and out; TLS handshakes are part of the time.
    ///
    /// # Errors
    /// See the head of [`super`].
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        let job = Rc::new(self);
        let run = Run::begin(name, "logins", pace.budget, pace.quiet);
        let tasks = (0..pace.connections).map(|_| {
            let (job, run) = (Rc::clone(&job), Rc::clone(&run));
            async move {
                while let Some(number) = run.take() {
                    let number = usize::try_from(number).unwrap_or_default();
                    let began = now();
                    Imap::open(&job.target, job.logins.of(number), number).await?.logout().await?;
                    run.done(began, 0);
                }
                Ok(())
            }
        });
        run.crew(tasks).await?;
        Ok(run.report())
    }
}
