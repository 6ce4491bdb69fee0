//! Whether a server gives back what it was given: messages are delivered, read by IMAP and by POP3, and compared octet
//! by octet.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{DefaultHasher, Hasher as _},
    rc::Rc,
};

use super::{Pace, Recipients};
use crate::{
    corpus::Corpus,
    failure::{LoadError, Result},
    imap::{Imap, Response},
    login::{Login, Logins},
    pace::{Report, Run, now, open_all},
    pop3::Pop3,
    smtp::{Delivery, Smtp, Transfer},
    target::Target,
};

/// Differences that are described; the rest is counted.
const SHOWN_MAX: u64 = 10;
/// Header fields that a server may put in front of a message it delivers (RFC 5321 section 4.4 and what is usual).
const TRACE_FIELDS: [&str; 8] = [
    "return-path",
    "received",
    "delivered-to",
    "x-original-to",
    "envelope-to",
    "delivery-date",
    "authentication-results",
    "received-spf",
];

/// A run that delivers and reads back.
#[derive(Debug)]
pub struct Verify {
    /// Where messages go.
    pub target: Target,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Where they are read by IMAP.
    pub imap: Option<Target>,
    /// Where they are read by POP3.
    pub pop3: Option<Target>,
    /// The accounts: the first login is that of the first recipient, and so on.
    pub logins: Logins,
    /// Who gets the messages.
    pub recipients: Recipients,
    /// The messages.
    pub corpus: Corpus,
    /// How they are handed over.
    pub transfer: Transfer,
    /// Messages that the server may refuse for all their recipients before the run stops.
    pub refusals_max: u64,
}

/// What every account should have received: how often, by number of the message.
struct Sent {
    /// Numbers of messages by the hash of their octets.
    numbers: HashMap<u64, Vec<usize>>,
    /// One list for each account, counted down while reading.
    accounts: Vec<Vec<u32>>,
}

#[derive(Default)]
struct Tally {
    equal: Cell<u64>,
    different: Cell<u64>,
}

impl Tally {
    fn difference(&self, what: impl FnOnce() -> String) {
        if self.different.get() < SHOWN_MAX {
            eprintln!("{}", what());
        }
        self.different.set(self.different.get() + 1);
    }
}

impl Verify {
    /// Delivers as many messages as the budget counts and reads them back. The figure `differences` of the report is 0
    /// when all is well.
    ///
    /// # Errors
    /// See the head of [`super`]. Differences are no error here.
    pub async fn run(self, name: &str, pace: Pace) -> Result<Report> {
        if self.logins.all().len() != self.recipients.all().len() {
            return Err(LoadError::Usage("there must be one login for each recipient".into()));
        }
        let job = Rc::new(self);
        let mut starts = Vec::new();
        for login in job.logins.all() {
            starts.push(job.start(login).await?);
        }
        let run = Run::begin(name, "messages", pace.budget, pace.quiet);
        let (sent, refused) = job.deliver(&run, pace).await?;
        let mut report = run.report();
        report.also("refused", refused);
        let tally = Tally::default();
        for (account, (login, start)) in job.logins.all().iter().zip(&starts).enumerate() {
            if let Some(target) = &job.imap {
                let expected = sent.accounts[account].clone();
                job.read_imap(target, login, start.uid_next, &sent.numbers, expected, &tally).await?;
            }
            if let Some(target) = &job.pop3 {
                let expected = sent.accounts[account].clone();
                job.read_pop3(target, login, start.messages, &sent.numbers, expected, &tally).await?;
            }
        }
        report.also("equal", tally.equal.get());
        report.also("differences", tally.different.get());
        Ok(report)
    }

    /// What is in an account before.
    async fn start(&self, login: &Login) -> Result<Start> {
        let mut start = Start::default();
        if let Some(target) = &self.imap {
            let mut client = Imap::open(target, login, 0).await?;
            start.uid_next = client.select("INBOX").await?.uid_next;
            client.logout().await?;
        }
        if let Some(target) = &self.pop3 {
            let mut client = Pop3::open(target, login, 0).await?;
            start.messages = client.stat().await?.0;
            client.quit().await?;
        }
        Ok(start)
    }

    async fn deliver(self: &Rc<Self>, run: &Rc<Run>, pace: Pace) -> Result<(Sent, u64)> {
        let sent = Rc::new(RefCell::new(Sent {
            numbers: HashMap::new(),
            accounts: vec![Vec::new(); self.recipients.all().len()],
        }));
        let refused = Rc::new(Cell::new(0));
        let clients = open_all(pace.connections, 0, |number| {
            let job = Rc::clone(self);
            async move { Smtp::open(&job.target, job.lmtp, None, number).await }
        });
        let tasks = clients.await?.into_iter().map(|mut client| {
            let (job, run) = (Rc::clone(self), Rc::clone(run));
            let (sent, refused) = (Rc::clone(&sent), Rc::clone(&refused));
            async move {
                while let Some(number) = run.take() {
                    job.deliver_one(&run, &mut client, number, &sent, &refused).await?;
                }
                client.quit().await
            }
        });
        run.crew(tasks).await?;
        Ok((sent.replace(Sent { numbers: HashMap::new(), accounts: Vec::new() }), refused.get()))
    }

    async fn deliver_one(
        &self,
        run: &Run,
        client: &mut Smtp,
        number: u64,
        sent: &RefCell<Sent>,
        refused: &Cell<u64>,
    ) -> Result<()> {
        let message = self.corpus.message(number);
        let recipients = self.recipients.of(number);
        let began = now();
        let outcome = client.deliver("verify@load.example", &recipients, &message, self.transfer).await?;
        if let Delivery::Refused { recipients: count, said } = outcome {
            refused.set(refused.get() + 1);
            if count < recipients.len() || refused.get() > self.refusals_max {
                return Err(LoadError::Refused { asked: self.title(number), said });
            }
            return Ok(());
        }
        run.done(began, message.len() as u64);
        let mut sent = sent.borrow_mut();
        let index = usize::try_from(number).unwrap_or_default();
        sent.numbers.entry(hash(&message)).or_default().push(index);
        for account in self.recipients.indexes(number) {
            let counts = &mut sent.accounts[account];
            counts.resize(counts.len().max(index + 1), 0);
            counts[index] += 1;
        }
        Ok(())
    }

    fn title(&self, number: u64) -> String {
        match &self.corpus {
            Corpus::Real(messages) => {
                let index = usize::try_from(number).unwrap_or_default() % messages.len().max(1);
                messages.get(index).map_or_else(String::new, |(name, _)| name.clone())
            }
            Corpus::Generated { .. } => format!("message {number}"),
        }
    }

    async fn read_imap(
        &self,
        target: &Target,
        login: &Login,
        first: u32,
        numbers: &HashMap<u64, Vec<usize>>,
        mut expected: Vec<u32>,
        tally: &Tally,
    ) -> Result<()> {
        let mut client = Imap::open(target, login, 0).await?;
        if client.select("INBOX").await?.uid_next > first {
            let each = |response: &Response| {
                if let Some((number, b"FETCH")) = response.numbered() {
                    let place = format!("IMAP, {}, message {number}", login.user);
                    let octets = response.literal(0).unwrap_or_default();
                    self.compare(&place, octets, numbers, &mut expected, tally);
                }
            };
            client.command(&format!("UID FETCH {first}:* (BODY.PEEK[])"), each).await?;
        }
        self.missing(&format!("IMAP, {}", login.user), &expected, tally);
        client.logout().await
    }

    async fn read_pop3(
        &self,
        target: &Target,
        login: &Login,
        before: u32,
        numbers: &HashMap<u64, Vec<usize>>,
        mut expected: Vec<u32>,
        tally: &Tally,
    ) -> Result<()> {
        let mut client = Pop3::open(target, login, 0).await?;
        let (count, _) = client.stat().await?;
        let mut message = Vec::new();
        for number in before + 1..=count {
            client.ask(std::iter::once(number)).await?;
            client.retrieved(number, &mut message).await?;
            self.compare(&format!("POP3, {}, message {number}", login.user), &message, numbers, &mut expected, tally);
        }
        self.missing(&format!("POP3, {}", login.user), &expected, tally);
        client.quit().await
    }

    /// Finds the message sent that these octets are, trace fields in front not counted.
    fn compare(
        &self,
        place: &str,
        octets: &[u8],
        numbers: &HashMap<u64, Vec<usize>>,
        expected: &mut [u32],
        tally: &Tally,
    ) {
        for start in trace_ends(octets) {
            let rest = octets.get(start..).unwrap_or_default();
            for &index in numbers.get(&hash(rest)).into_iter().flatten() {
                let open = expected.get(index).is_some_and(|&count| count > 0);
                if open && *self.corpus.message(index as u64) == *rest {
                    expected[index] -= 1;
                    tally.equal.set(tally.equal.get() + 1);
                    return;
                }
            }
        }
        tally.difference(|| format!("{place}: {}", self.describe(octets, expected)));
    }

    /// The message still expected that has the most in common with these octets, and where they part.
    fn describe(&self, octets: &[u8], expected: &[u32]) -> String {
        let mut nearest: Option<(usize, usize, usize)> = None;
        for (index, _) in expected.iter().enumerate().filter(|(_, count)| **count > 0) {
            let message = self.corpus.message(index as u64);
            for start in trace_ends(octets) {
                let rest = octets.get(start..).unwrap_or_default();
                let same = rest.iter().zip(message.iter()).take_while(|(got, want)| got == want).count();
                if nearest.is_none_or(|(best, ..)| same > best) {
                    nearest = Some((same, index, start));
                }
            }
        }
        let Some((same, index, start)) = nearest else {
            return "more messages than were sent".into();
        };
        let message = self.corpus.message(index as u64);
        let around = |octets: &[u8], at: usize| {
            let some = octets.get(at.saturating_sub(20)..(at + 20).min(octets.len())).unwrap_or_default();
            format!("{:?}", String::from_utf8_lossy(some))
        };
        let rest = octets.get(start..).unwrap_or_default();
        let (sent, got) = (around(&message, same), around(rest, same));
        format!("{} differs at octet {same}: sent {sent}, read {got}", self.title(index as u64))
    }

    fn missing(&self, place: &str, expected: &[u32], tally: &Tally) {
        for (index, &count) in expected.iter().enumerate() {
            for _ in 0..count {
                tally.difference(|| format!("{place}: {} is missing", self.title(index as u64)));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    uid_next: u32,
    messages: u32,
}

fn hash(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(octets);
    hasher.finish()
}

/// Where the message may begin: at the start, and after each of the trace fields in front.
fn trace_ends(octets: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut at = 0;
    while let Some(end) = trace_field(octets.get(at..).unwrap_or_default()) {
        at += end;
        ends.push(at);
    }
    ends
}

/// Octets of the trace field that these begin with, continuation lines included.
fn trace_field(octets: &[u8]) -> Option<usize> {
    let colon = octets.iter().take(100).position(|&octet| octet == b':')?;
    let name = octets.get(..colon)?;
    if !TRACE_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes())) {
        return None;
    }
    let mut end = 0;
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if end > 0 && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            break;
        }
        end += line.len();
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_begins_after_trace_fields() {
        let octets = b"Return-Path: <>\r\nReceived: from a\r\n\tby b\r\nSubject: x\r\nReceived: no\r\n\r\n";
        assert_eq!(trace_ends(octets), [0, 17, 42]);
        assert_eq!(trace_ends(b"Subject: x\r\n\r\n"), [0]);
        assert_eq!(trace_ends(b""), [0]);
        assert_eq!(trace_ends(b"Received: x"), [0, 11]);
    }
}
