//! The commands: their order, and what each says and does.

use std::sync::Arc;

use super::{Chunk, MECHANISMS, SmtpSession, State, Transaction, Waiting};
use crate::{
    Address, Ask, BodyKind, ClearAuth, Client, Recipient, RecipientAnswer, Refusal, Role, SenderAnswer, Tls,
    command::{Command, RcptPath, body_kind, needs_utf8},
    intake::Intake,
    limits,
    parameter::{MailParameters, RcptParameters},
    reply::{self, Reply},
};

impl SmtpSession {
    pub(super) fn command(&mut self, command: Command) {
        // A chunk is read to its end even when the command is refused: its octets are not commands.
        if let Command::Bdat { size, last } = command {
            return self.bdat(size, last);
        }
        if let Err(reply) = self.may_come_now(&command) {
            self.flush = true;
            return self.refuse(reply);
        }
        if self.is_idle(&command) {
            return;
        }
        match command {
            Command::Helo(name) => self.hello(name, false),
            Command::Ehlo(name) | Command::Lhlo(name) => self.hello(name, true),
            Command::Mail { reverse_path, parameters } => self.mail(reverse_path, parameters),
            Command::Rcpt { recipient, parameters } => self.rcpt(recipient, parameters),
            Command::Data => self.data(),
            Command::Rset => {
                self.forget_transaction();
                self.say(reply::OK);
            }
            Command::Noop => self.say_now(reply::OK),
            Command::Quit => self.part(reply::BYE),
            Command::Vrfy => self.say_now(reply::NOT_SAYING),
            Command::Help => self.say_now(reply::HELP),
            Command::Expn => {
                self.flush = true;
                self.refuse(reply::NOT_IMPLEMENTED);
            }
            Command::StartTls => self.starttls(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_deref()),
            Command::Bdat { .. } => {}
        }
    }

    /// What must have happened before a command: the right greeting, TLS, a login.
    fn may_come_now(&self, command: &Command) -> Result<(), Reply> {
        let lmtp = self.config.role == Role::Lmtp;
        match command {
            Command::Helo(_) | Command::Ehlo(_) if lmtp => return Err(reply::NOT_THIS_ROLE),
            Command::Lhlo(_) if !lmtp => return Err(reply::NOT_LMTP),
            Command::Ehlo(_) | Command::Lhlo(_) | Command::Noop | Command::Quit | Command::StartTls => return Ok(()),
            _ => {}
        }
        //= rfc3207#section-4
        //# 530 Must issue a STARTTLS command first
        if self.config.tls == Tls::Required && self.peer.tls.is_none() {
            return Err(reply::TLS_FIRST);
        }
        let mail =
            matches!(command, Command::Mail { .. } | Command::Rcpt { .. } | Command::Data | Command::Bdat { .. });
        let hello_missing = self.client.is_none() && (mail || matches!(command, Command::Auth { .. }));
        if hello_missing {
            return Err(if lmtp { reply::SAY_LHLO } else { reply::SAY_HELLO });
        }
        let talk = matches!(command, Command::Vrfy | Command::Expn);
        if self.config.role == Role::Submission && self.login.is_none() && (mail || talk) {
            return Err(reply::LOGIN_FIRST);
        }
        Ok(())
    }

    /// Counts commands that move no mail; true when there were too many.
    fn is_idle(&mut self, command: &Command) -> bool {
        if matches!(command, Command::Mail { .. } | Command::Rcpt { .. } | Command::Data | Command::Quit) {
            return false;
        }
        self.idle_commands = self.idle_commands.saturating_add(1);
        if self.idle_commands <= limits::IDLE_COMMANDS_MAX {
            return false;
        }
        self.part(reply::TOO_MANY_IDLE);
        true
    }

    /// Says something that RFC 2920 section 3.2 does not let wait.
    fn say_now(&mut self, reply: Reply) {
        self.flush = true;
        self.say(reply);
    }

    fn forget_transaction(&mut self) {
        self.give_up(None);
        self.transaction = None;
    }

    fn hello(&mut self, name: String, extended: bool) {
        //= rfc5321#section-4.1.4
        //# the SMTP server MUST clear all buffers
        //# and reset the state exactly as if a RSET command had been issued.
        self.forget_transaction();
        self.flush = true;
        self.client = Some(Arc::new(Client {
            role: self.config.role,
            name: name.clone(),
            extended,
            remote: self.peer.remote,
            tls: self.peer.tls.clone(),
            login: self.login.clone(),
        }));
        if self.config.role == Role::Mx {
            return self.ask(Ask::Hello { name }, Waiting::Hello { extended });
        }
        self.welcome(extended);
    }

    pub(super) fn hello_checked(&mut self, extended: bool, refusal: Option<&Refusal>) {
        self.flush = true;
        let Some(refusal) = refusal else {
            return self.welcome(extended);
        };
        self.client = None;
        self.refuse_as_told(refusal);
    }

    fn welcome(&mut self, extended: bool) {
        let config = Arc::clone(&self.config);
        if !extended {
            return reply::line(&mut self.out, 250, "", format_args!("{}", config.hostname));
        }
        let size = format!("SIZE {}", config.size_bytes_max);
        let auth = self.auth_line();
        let mut texts = vec![config.hostname.as_str(), &size, "PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING"];
        texts.extend(["BINARYMIME", "ENHANCEDSTATUSCODES", "DSN"]);
        if self.tls_offered() {
            texts.push("STARTTLS");
        }
        texts.extend(auth.as_deref());
        texts.push("HELP");
        reply::lines(&mut self.out, 250, texts);
    }

    /// The AUTH line of EHLO, where AUTH may be used now.
    fn auth_line(&self) -> Option<String> {
        if self.config.role != Role::Submission || self.login.is_some() || !self.may_auth_now() {
            return None;
        }
        let names = MECHANISMS.iter().map(|(name, _)| *name);
        Some(names.fold("AUTH".to_owned(), |line, name| line + " " + name))
    }

    /// Whether a password may travel over this connection as it is.
    pub(super) fn may_auth_now(&self) -> bool {
        self.peer.tls.is_some()
            || self.config.tls != Tls::Required
                && match self.config.clear_auth {
                    ClearAuth::Never => false,
                    ClearAuth::Loopback => self.peer.is_loopback(),
                    ClearAuth::Always => true,
                }
    }

    fn starttls(&mut self) {
        self.flush = true;
        if self.peer.tls.is_some() {
            return self.refuse(reply::TLS_ALREADY);
        }
        if !self.tls_offered() {
            return self.refuse(reply::NO_TLS);
        }
        //= rfc3207#section-4
        //# If the SMTP client is using pipelining as defined in RFC 2920, the
        //# STARTTLS command must be the last command in a group.
        if !self.input.is_empty() {
            return self.part(reply::TLS_PIPELINED);
        }
        self.forget_transaction();
        self.say(reply::START_TLS);
        self.state = State::Handshake;
        self.start_tls = true;
    }

    fn mail(&mut self, reverse_path: Option<Address>, parameters: MailParameters) {
        if self.transaction.is_some() {
            return self.refuse(reply::NESTED_MAIL);
        }
        if self.transactions >= self.config.transactions_max {
            return self.part(reply::TOO_MANY_MESSAGES);
        }
        if parameters.size.is_some_and(|size| size > self.config.size_bytes_max) {
            return self.refuse(reply::TOO_BIG);
        }
        let id = self.next_message_id();
        let transaction =
            Box::new(Transaction { reverse_path, parameters, recipients: Vec::new(), id, intake: None, broken: false });
        if self.config.role == Role::Lmtp {
            self.transaction = Some(transaction);
            return self.say(reply::SENDER_OK);
        }
        let address = transaction.reverse_path.clone();
        self.ask(Ask::Sender { address }, Waiting::Sender(transaction));
    }

    /// Names a message: unpredictable enough not to collide, the same for the same seed.
    fn next_message_id(&mut self) -> String {
        const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        self.transactions = self.transactions.saturating_add(1);
        let step = u64::from(self.transactions).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The nonces of SCRAM come from the other end of the seed.
        let seed = self.seed.last_chunk().map_or(0, |tail| u64::from_be_bytes(*tail));
        let mut bits = seed.wrapping_add(step);
        let mut id = String::with_capacity(13);
        for _ in 0..13 {
            let letter = LETTERS.get(usize::try_from(bits & 31).unwrap_or_default()).copied().unwrap_or(b'0');
            id.push(char::from(letter));
            bits >>= 5;
        }
        id
    }

    pub(super) fn sender_checked(&mut self, transaction: Box<Transaction>, answer: SenderAnswer) {
        match answer {
            SenderAnswer::Accepted => {
                self.transaction = Some(transaction);
                self.say(reply::SENDER_OK);
            }
            SenderAnswer::NotYours => self.refuse(reply::NOT_YOUR_ADDRESS),
            SenderAnswer::TryLater => self.say(reply::SENDER_LATER),
            SenderAnswer::Refused(refusal) => self.refuse_as_told(&refusal),
        }
    }

    fn rcpt(&mut self, recipient: RcptPath, parameters: RcptParameters) {
        let Some(transaction) = &self.transaction else {
            return self.refuse(reply::NEED_MAIL);
        };
        if transaction.intake.is_some() || transaction.broken {
            return self.refuse(reply::NO_DATA_AFTER_BDAT);
        }
        if transaction.recipients.len() >= self.config.recipients_max {
            return self.say(reply::TOO_MANY_RECIPIENTS);
        }
        let address = match recipient {
            //= rfc5321#section-4.5.1
            //# Any system that includes an SMTP server supporting mail relaying or
            //# delivery MUST support the reserved mailbox "postmaster" as a case-
            //# insensitive local name.
            RcptPath::Postmaster => {
                Address { local: "postmaster".to_owned(), domain: self.config.hostname.to_ascii_lowercase() }
            }
            RcptPath::Address(address) => address,
        };
        if !transaction.parameters.smtputf8 && needs_utf8(&address) {
            return self.refuse(reply::SENDER_NEEDS_UTF8);
        }
        let size_declared = transaction.parameters.size;
        let recipient = Recipient {
            address: address.clone(),
            notify: parameters.notify,
            original_recipient: parameters.original_recipient,
        };
        self.ask(Ask::Recipient { address, size_declared }, Waiting::Recipient(Box::new(recipient)));
    }

    pub(super) fn recipient_checked(&mut self, recipient: Recipient, answer: RecipientAnswer) {
        let reply = match answer {
            RecipientAnswer::Accepted => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push(recipient);
                }
                return self.say(reply::RECIPIENT_OK);
            }
            RecipientAnswer::UnknownRecipient => reply::NO_SUCH_USER,
            RecipientAnswer::NotLocal if self.config.role == Role::Submission => reply::NO_OTHER_DOMAINS,
            RecipientAnswer::NotLocal => reply::RELAY_DENIED,
            RecipientAnswer::OverQuota => return self.say(reply::OVER_QUOTA),
            RecipientAnswer::TryLater => return self.say(reply::RECIPIENT_LATER),
            RecipientAnswer::Refused(refusal) => return self.refuse_as_told(&refusal),
        };
        self.say(reply);
        // A local transfer agent may bring any number of stale recipients; a stranger may be guessing addresses.
        if self.config.role != Role::Lmtp {
            self.count_error();
        }
    }

    fn data(&mut self) {
        self.flush = true;
        let no_recipients = self.need_recipients();
        let size_max = self.config.size_bytes_max;
        let Some(transaction) = &mut self.transaction else {
            return self.refuse(reply::NEED_MAIL);
        };
        if transaction.intake.is_some() || transaction.broken {
            return self.refuse(reply::NO_DATA_AFTER_BDAT);
        }
        //= rfc3030#section-3
        //# BINARYMIME cannot be used with the DATA command.
        if body_kind(&transaction.parameters) == BodyKind::BinaryMime {
            return self.refuse(reply::NO_DATA_FOR_BINARY);
        }
        if transaction.recipients.is_empty() {
            return self.refuse(no_recipients);
        }
        transaction.intake = Some(Box::new(Intake::new(size_max, self.now, false)));
        self.state = State::Data;
        self.say(reply::GO_AHEAD);
    }

    fn need_recipients(&self) -> Reply {
        if self.config.role == Role::Lmtp { reply::NEED_RCPT_LMTP } else { reply::NEED_RCPT }
    }

    fn bdat(&mut self, size: u64, last: bool) {
        let refusal = self.may_come_now(&Command::Bdat { size, last }).err().or_else(|| self.chunk_refusal());
        if refusal.is_none() {
            self.begin_chunks(size);
        }
        // Too much to be worth reading: the reply comes at once, and is the last.
        if size > limits::DRAIN_OCTETS_MAX && (refusal.is_some() || size > self.config.size_bytes_max) {
            return self.part(refusal.unwrap_or(reply::TOO_BIG));
        }
        self.state = State::Chunk(Chunk { size, remaining: size, last, refusal });
    }

    fn chunk_refusal(&self) -> Option<Reply> {
        let Some(transaction) = &self.transaction else {
            return Some(reply::NEED_MAIL);
        };
        if transaction.broken {
            return Some(reply::BROKEN);
        }
        transaction.recipients.is_empty().then(|| self.need_recipients())
    }

    /// Makes room for a chunk; one that cannot fit refuses the message before it is read.
    fn begin_chunks(&mut self, size: u64) {
        let (now, size_max) = (self.now, self.config.size_bytes_max);
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let watch_lines = body_kind(&transaction.parameters) != BodyKind::BinaryMime;
        let intake = transaction.intake.get_or_insert_with(|| Box::new(Intake::new(size_max, now, watch_lines)));
        if !intake.content.fits(size) {
            intake.content.refuse(reply::TOO_BIG);
        }
    }
}
