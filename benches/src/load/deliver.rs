//! Messages by SMTP or LMTP.

use std::rc::Rc;

use super::Pace;
use crate::{
    corpus::Corpus,
    failure::{LoadError, Result},
    login::Logins,
    names,
    pace::{Report, Run, now, open_all},
    smtp::{Delivery, Smtp, Transfer},
    target::Target,
};

/// Who gets the messages: they take turns.
#[derive(Clone, Debug)]
pub struct Recipients {
    all: Vec<String>,
    per_message: usize,
}

impl Recipients {
    /// Expands a list as [`names::expand`] does; a message goes to `per_message` of them, 0 for all.
    ///
    /// # Errors
    /// As [`names::expand`].
    pub fn new(list: &str, per_message: usize) -> Result<Self> {
        let all = names::expand(list)?;
        let per_message = if per_message == 0 { all.len() } else { per_message.min(all.len()) };
        Ok(Self { all, per_message })
    }

    /// Whom the message of this number goes to, as indexes into [`Recipients::all`].
    pub fn indexes(&self, number: u64) -> impl Iterator<Item = usize> + use<> {
        let (count, each) = (self.all.len(), self.per_message);
        let first = usize::try_from(number % count.max(1) as u64).unwrap_or_default() * each;
        (first..first + each).map(move |index| index % count)
    }

    /// Whom the message of this number goes to.
    pub fn of(&self, number: u64) -> Vec<&str> {
        self.indexes(number).filter_map(|index| self.all.get(index)).map(String::as_str).collect()
    }

    /// All of them.
    pub fn all(&self) -> &[String] {
        &self.all
    }
}

/// A run that delivers.
#[derive(Debug)]
pub struct Deliver {
    /// The server.
    pub target: Target,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Who logs in before sending.
    pub logins: Option<Logins>,
    /// The messages.
    pub corpus: Corpus,
    /// Who sends them.
    pub reverse_path: String,
    /// Who gets them.
    pub recipients: Recipients,
    /// How they are handed over.
    pub transfer: Transfer,
    /// After so many messages a connection is replaced by a new one; 0 for never.
    pub messages_per_connection: u64,
}

impl Deliver {
    /// Delivers.
    ///
    /// # Errors
    /// See the head of [`super`].
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        let job = Rc::new(self);
        let first = Rc::clone(&job);
        let clients = open_all(pace.connections, 0, |number| {
            let job = Rc::clone(&first);
            async move { job.open(number).await }
        });
        let clients = clients.await?;
        let run = Run::begin(name, "messages", pace.budget, pace.quiet);
        let tasks = clients.into_iter().enumerate().map(|(number, client)| {
            let (job, run) = (Rc::clone(&job), Rc::clone(&run));
            async move { job.work(&run, client, number).await }
        });
        run.crew(tasks).await?;
        Ok(run.report())
    }

    async fn open(&self, number: usize) -> Result<Smtp> {
        let login = self.logins.as_ref().map(|logins| logins.of(number));
        Smtp::open(&self.target, self.lmtp, login, number).await
    }

    async fn work(&self, run: &Run, mut client: Smtp, connection: usize) -> Result<()> {
        let mut sent = 0;
        while let Some(number) = run.take() {
            if self.messages_per_connection > 0 && sent == self.messages_per_connection {
                client.quit().await?;
                client = self.open(connection).await?;
                sent = 0;
            }
            let message = self.corpus.message(number);
            let recipients = self.recipients.of(number);
            let began = now();
            let outcome = client.deliver(&self.reverse_path, &recipients, &message, self.transfer).await?;
            if let Delivery::Refused { said, .. } = outcome {
                return Err(LoadError::Refused {
                    asked: format!("message {number} to {}", recipients.join(", ")),
                    said,
                });
            }
            run.done(began, message.len() as u64);
            sent += 1;
        }
        client.quit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_take_turns() {
        let two = Recipients::new("u{1..3}", 2).expect("recipients");
        assert_eq!([two.of(0), two.of(1), two.of(3)], [["u1", "u2"], ["u3", "u1"], ["u1", "u2"]]);
        assert_eq!(Recipients::new("a,b", 0).expect("recipients").of(7), ["a", "b"]);
    }
}
