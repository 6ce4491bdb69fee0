//! Message content: from the peer to the host, and the replies at its end.

use std::sync::Arc;

use bytes::Buf;

use super::{Chunk, SmtpSession, State, Transaction, Waiting};
use crate::{
    Abandoned, Ask, Client, Envelope, Mail, RecipientOutcome, Role, SpoolAnswer,
    command::body_kind,
    data::{LineEnds, Stray},
    intake::Intake,
    limits,
    reply::{self, Reply},
};

impl SmtpSession {
    /// Takes mail data (DATA). False when there is nothing to take.
    pub(super) fn advance_data(&mut self) -> bool {
        if self.input.is_empty() {
            return false;
        }
        let Some(intake) = self.transaction.as_mut().and_then(|transaction| transaction.intake.as_mut()) else {
            self.part(reply::OUT_OF_STEP);
            return true;
        };
        let Intake { dots, content, .. } = &mut **intake;
        let ended = dots.decode(&mut self.input, |piece| content.push(piece));
        if content.size() > limits::DRAIN_OCTETS_MAX.saturating_add(self.config.size_bytes_max) {
            self.part(reply::TOO_BIG);
        } else if ended {
            self.finish();
        } else {
            self.spool(None);
        }
        true
    }

    /// Takes octets of a chunk (BDAT). False when there is nothing to take.
    pub(super) fn advance_chunk(&mut self, mut chunk: Chunk) -> bool {
        if chunk.remaining == 0 {
            self.chunk_done(chunk);
            return true;
        }
        if self.input.is_empty() {
            return false;
        }
        let length = usize::try_from(chunk.remaining).unwrap_or(usize::MAX).min(self.input.len());
        chunk.remaining = chunk.remaining.saturating_sub(length as u64);
        self.state = State::Chunk(chunk);
        let intake = self.transaction.as_mut().and_then(|transaction| transaction.intake.as_mut());
        match intake {
            Some(intake) if chunk.refusal.is_none() => {
                let piece = self.input.split_to(length);
                if let Some(ends) = &mut intake.ends {
                    ends.watch(&piece);
                }
                intake.content.push(piece);
                self.spool(Some(chunk));
            }
            _ => self.input.advance(length),
        }
        true
    }

    /// Hands content to the host when enough of it waits.
    fn spool(&mut self, chunk: Option<Chunk>) {
        let Some(intake) = self.transaction.as_mut().and_then(|transaction| transaction.intake.as_mut()) else {
            return;
        };
        if intake.content.waiting() < limits::SPOOL_OCTETS {
            return;
        }
        intake.content.spooled = true;
        let chunks = intake.content.take();
        self.ask(Ask::Spool(chunks), Waiting::Spool(chunk));
    }

    pub(super) fn spooled(&mut self, chunk: Option<Chunk>, answer: SpoolAnswer) {
        self.state = chunk.map_or(State::Data, State::Chunk);
        let intake = self.transaction.as_mut().and_then(|transaction| transaction.intake.as_mut());
        if let (Some(intake), SpoolAnswer::TryLater) = (intake, answer) {
            intake.content.refuse(reply::STORE_LATER);
        }
    }

    fn chunk_done(&mut self, chunk: Chunk) {
        self.state = State::Command;
        if let Some(refusal) = chunk.refusal {
            return self.refuse_chunk(refusal, chunk.last);
        }
        let refusal = self.intake().and_then(|intake| intake.content.refusal);
        match refusal {
            _ if chunk.last => self.finish(),
            Some(refusal) => {
                self.give_up(Some(refusal));
                self.refuse_chunk(refusal, false);
            }
            None => reply::line(&mut self.out, 250, "2.0.0", format_args!("{} octets received", chunk.size)),
        }
    }

    //= rfc3030#section-2
    //# The resulting state from a failed BDAT command is indeterminate.  A
    //# RSET command MUST be issued to clear the transaction before
    //# additional commands may be sent.
    fn refuse_chunk(&mut self, refusal: Reply, last: bool) {
        let mut recipients = 1;
        if let Some(transaction) = &mut self.transaction {
            transaction.broken = true;
            recipients = transaction.recipients.len().max(1);
        }
        self.say_for(if last { recipients } else { 1 }, refusal);
        self.count_error();
    }

    fn intake(&self) -> Option<&Intake> {
        self.transaction.as_ref().and_then(|transaction| transaction.intake.as_deref())
    }

    /// The message is complete: refuse it, or ask the host to deliver it.
    fn finish(&mut self) {
        self.flush = true;
        self.state = State::Command;
        let Some(refusal) = self.intake().map(refusal) else {
            return self.part(reply::OUT_OF_STEP);
        };
        if let Some(refusal) = refusal {
            self.give_up(Some(refusal));
            let recipients = self.transaction.take().map_or(1, |transaction| transaction.recipients.len());
            self.say_for(recipients, refusal);
            return self.count_error();
        }
        let client = self.client_facts();
        let Some(mut transaction) = self.transaction.take() else {
            return;
        };
        let Some(mut intake) = transaction.intake.take() else {
            return;
        };
        let (recipients, id) = (transaction.recipients.len(), transaction.id.clone());
        let mail = Mail {
            envelope: envelope(*transaction, client),
            chunks: intake.content.take(),
            size_bytes: intake.content.size(),
            header: intake.content.header(),
            received_unix_s: self.now.unix_s,
        };
        self.ask(Ask::Deliver(Box::new(mail)), Waiting::Deliver { recipients, id });
    }

    /// Who is at the other end. A message is only taken behind EHLO, so the facts are there.
    fn client_facts(&self) -> Arc<Client> {
        self.client.clone().unwrap_or_else(|| {
            Arc::new(Client {
                role: self.config.role,
                name: String::new(),
                extended: false,
                remote: self.peer.remote,
                tls: self.peer.tls.clone(),
                login: self.login.clone(),
            })
        })
    }

    /// One reply for the message, or on LMTP one for each recipient.
    fn say_for(&mut self, recipients: usize, reply: Reply) {
        let times = if self.config.role == Role::Lmtp { recipients } else { 1 };
        (0..times).for_each(|_| reply.write(&mut self.out));
    }

    pub(super) fn delivered(&mut self, recipients: usize, id: &str, outcomes: &[RecipientOutcome]) {
        self.errors = 0;
        self.idle_commands = 0;
        self.flush = true;
        let missing = std::iter::repeat(&RecipientOutcome::TryLater);
        let outcomes = outcomes.iter().chain(missing).take(recipients).cloned();
        if self.config.role == Role::Lmtp {
            return outcomes.for_each(|outcome| self.say_outcome(outcome, id));
        }
        let worst = outcomes.reduce(|worst, next| if worst == RecipientOutcome::Delivered { next } else { worst });
        let outcome = match worst.unwrap_or(RecipientOutcome::TryLater) {
            // The client sends again and is told by RCPT which recipient it is.
            RecipientOutcome::UnknownRecipient => RecipientOutcome::TryLater,
            outcome => outcome,
        };
        self.say_outcome(outcome, id);
    }

    fn say_outcome(&mut self, outcome: RecipientOutcome, id: &str) {
        match outcome {
            RecipientOutcome::Refused(refusal) => reply::refuse(&mut self.out, &refusal),
            RecipientOutcome::Delivered => {
                reply::line(&mut self.out, 250, "2.0.0", format_args!("delivered, id {id}"));
            }
            RecipientOutcome::UnknownRecipient => self.say(reply::NO_SUCH_USER),
            RecipientOutcome::OverQuota => self.say(reply::OVER_QUOTA),
            RecipientOutcome::TryLater => self.say(reply::STORE_LATER),
        }
    }

    /// Lets go of the content of the message under way, and tells the host where it must know: because it holds some of
    /// it, or because the message was refused.
    pub(super) fn give_up(&mut self, refusal: Option<Reply>) {
        let client = self.client_facts();
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let Some(intake) = transaction.intake.take() else {
            return;
        };
        if refusal.is_none() && !intake.content.spooled {
            return;
        }
        let envelope = Envelope {
            id: transaction.id.clone(),
            reverse_path: transaction.reverse_path.clone(),
            recipients: transaction.recipients.clone(),
            body: body_kind(&transaction.parameters),
            smtputf8: transaction.parameters.smtputf8,
            return_content: transaction.parameters.return_content,
            envelope_id: transaction.parameters.envelope_id.clone(),
            client,
        };
        self.flush = true;
        self.tell(Ask::Abandon(Box::new(Abandoned { envelope, refusal: refusal.map(|reply| reply.to_string()) })));
    }
}

/// Why a complete message is refused, if it is.
fn refusal(intake: &Intake) -> Option<Reply> {
    let stray = intake.dots.stray().or_else(|| intake.ends.as_ref().and_then(LineEnds::finish));
    intake
        .content
        .refusal
        .or(stray.map(|stray| match stray {
            Stray::BareLf => reply::DATA_BARE_LF,
            Stray::BareCr => reply::DATA_BARE_CR,
        }))
        .or((intake.content.header().received > limits::RECEIVED_FIELDS_MAX).then_some(reply::LOOP))
}

fn envelope(transaction: Transaction, client: Arc<Client>) -> Envelope {
    Envelope {
        id: transaction.id,
        reverse_path: transaction.reverse_path,
        recipients: transaction.recipients,
        body: body_kind(&transaction.parameters),
        smtputf8: transaction.parameters.smtputf8,
        return_content: transaction.parameters.return_content,
        envelope_id: transaction.parameters.envelope_id,
        client,
    }
}
