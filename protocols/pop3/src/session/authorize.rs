//! The AUTHORIZATION state: CAPA, STLS, USER, PASS, AUTH.

use rockdove_mail::{
    Step,
    sasl::{self, Exchange, Mechanism, Password, SaslStep, ScramKeys},
};

use super::{AfterSasl, Doing, Pop3Session, Purpose, SaslTurn};
use crate::{
    ask::{Ask, LoginAnswer, Maildrop, OpenError},
    limits::LOGIN_FAILURES_MAX,
    lines::Line,
    maildrop::OpenMaildrop,
};

/// The mechanisms offered, as SASL names them.
const MECHANISMS: [(&str, Mechanism); 3] =
    [("PLAIN", Mechanism::Plain), ("LOGIN", Mechanism::Login), ("SCRAM-SHA-256", Mechanism::ScramSha256)];

/// Length of the seed of a nonce, in octets.
const NONCE_SEED_OCTETS: usize = 24;

impl Pop3Session {
    /// Whether a password may be sent on this connection as it is now.
    fn may_login(&self) -> bool {
        self.tls || self.config.clear_login
    }

    pub(super) fn capa(&mut self) {
        self.ok("capability list follows");
        for line in ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"] {
            self.out.line(line);
        }
        if self.config.starttls && !self.tls && self.maildrop.is_none() {
            self.out.line("STLS");
        }
        if self.may_login() {
            self.out.line("USER");
            self.out.line(&format!("SASL {}", MECHANISMS.map(|(name, _)| name).join(" ")));
        }
        self.out.line("IMPLEMENTATION Rockdove");
        self.out.line(".");
    }

    pub(super) fn stls(&mut self) {
        if self.tls {
            return self.wrong("TLS is on already");
        }
        if !self.config.starttls {
            return self.wrong("TLS is not available");
        }
        self.ok("begin TLS");
        self.lines.clear();
        self.steps.push_back(Step::StartTls);
        self.doing = Doing::Handshake;
    }

    /// Refuses a login that would show a password to the network.
    fn refuse_clear(&mut self) -> bool {
        if !self.may_login() {
            self.wrong("use STLS first: a password is not taken in clear");
        }
        !self.may_login()
    }

    pub(super) fn user(&mut self, name: String) {
        if self.refuse_clear() {
            return;
        }
        self.user = Some(name);
        // The same for every name, or strangers could find out which exist.
        self.ok("now the password");
    }

    pub(super) fn pass(&mut self, user: Option<String>, password: &str) {
        if self.refuse_clear() {
            return;
        }
        let Some(login) = user else { return self.wrong("USER comes first") };
        let password = Password::new(password.to_owned());
        self.ask(Ask::CheckPassword { login, password, authorize_as: None }, Purpose::Login);
    }

    pub(super) fn auth(&mut self, mechanism: Option<(String, Option<Vec<u8>>)>) {
        if self.refuse_clear() {
            return;
        }
        let Some((name, initial)) = mechanism else {
            self.ok("mechanisms follow");
            for (name, _) in MECHANISMS {
                self.out.line(name);
            }
            return self.out.line(".");
        };
        let Some((_, mechanism)) = MECHANISMS.into_iter().find(|(known, _)| *known == name) else {
            return self.wrong("no such mechanism");
        };
        let initial = match initial.as_deref() {
            None => None,
            // RFC 5034 section 4: an empty initial response is written as an equals sign.
            Some(b"=") => Some(Vec::new()),
            Some(encoded) => match sasl::decode_line(encoded) {
                Ok(Some(decoded)) => Some(decoded),
                _ => return self.wrong("the initial response is not base64"),
            },
        };
        let (exchange, step) = Exchange::start(mechanism, initial.as_deref(), self.nonce_seed());
        self.sasl_step(SaslTurn { exchange, login: None }, step);
    }

    /// A seed for each exchange of the session.
    fn nonce_seed(&mut self) -> [u8; NONCE_SEED_OCTETS] {
        let mut seed = [0; NONCE_SEED_OCTETS];
        for (octet, given) in seed.iter_mut().zip(self.seed) {
            *octet = given;
        }
        // The next exchange of this session starts from another place; octets not handed out keep it unguessable.
        let turn = self.login_failures.wrapping_add(self.errors).wrapping_add(1).to_le_bytes();
        for (octet, turn) in self.seed.iter_mut().zip(turn) {
            *octet = octet.wrapping_add(turn).rotate_left(1);
        }
        seed
    }

    fn sasl_step(&mut self, mut turn: SaslTurn, step: SaslStep) {
        match step {
            SaslStep::Challenge(challenge) => {
                self.out.line(&format!("+ {}", sasl::encode_line(&challenge)));
                self.doing = Doing::SaslLine(Box::new(turn));
            }
            SaslStep::CheckPassword { login, password, authorize_as } => {
                self.ask(Ask::CheckPassword { login, password, authorize_as }, Purpose::Login);
            }
            SaslStep::NeedScram { login } => {
                turn.login = Some(login.clone());
                self.ask(Ask::ScramKeys { login }, Purpose::ScramKeys(turn));
            }
            // POP3 has no place for data in the final reply, so it goes as a challenge that the client answers with an
            // empty line (RFC 4422 section 5).
            SaslStep::Success { login, authorize_as, final_data: Some(data) } => {
                self.out.line(&format!("+ {}", sasl::encode_line(&data)));
                self.doing = Doing::SaslLast(AfterSasl { login, authorize_as });
            }
            SaslStep::Success { login, authorize_as, final_data: None } => self.proven(login, authorize_as),
            SaslStep::Failed => match turn.login {
                Some(login) => self.ask(Ask::ScramDone { login, authorize_as: None, proven: false }, Purpose::Login),
                None => self.login_verdict(LoginAnswer::Refused),
            },
        }
    }

    fn proven(&mut self, login: String, authorize_as: Option<String>) {
        self.ask(Ask::ScramDone { login, authorize_as, proven: true }, Purpose::Login);
    }

    /// What the client says within an exchange: `None` when it is no answer.
    fn sasl_response(&mut self, line: &Line) -> Option<Vec<u8>> {
        let Line::Whole(line) = line else {
            self.wrong("the line is too long");
            return None;
        };
        match sasl::decode_line(line) {
            Ok(Some(response)) => return Some(response),
            Ok(None) => self.wrong("the exchange is cancelled"),
            Err(_) => self.wrong("the response is not base64"),
        }
        None
    }

    pub(super) fn sasl_line(&mut self, mut turn: SaslTurn, line: &Line) {
        if let Some(response) = self.sasl_response(line) {
            let step = turn.exchange.respond(&response);
            self.sasl_step(turn, step);
        }
    }

    pub(super) fn sasl_last(&mut self, after: AfterSasl, line: &Line) {
        match self.sasl_response(line) {
            Some(response) if response.is_empty() => self.proven(after.login, after.authorize_as),
            Some(_) => self.wrong("an empty response was expected"),
            None => {}
        }
    }

    pub(super) fn sasl_keys(&mut self, mut turn: SaslTurn, keys: ScramKeys) {
        let step = turn.exchange.credential(Some(keys));
        self.sasl_step(turn, step);
    }

    pub(super) fn login_verdict(&mut self, verdict: LoginAnswer) {
        match verdict {
            LoginAnswer::Accepted => self.ask(Ask::Open, Purpose::Open),
            LoginAnswer::TryLater => self.err("[SYS/TEMP] the login cannot be checked at the moment"),
            LoginAnswer::Refused => {
                self.login_failures = self.login_failures.saturating_add(1);
                self.err("[AUTH] the login or the password is wrong");
                if self.login_failures >= LOGIN_FAILURES_MAX {
                    self.doing = Doing::Leaving;
                }
            }
        }
    }

    pub(super) fn opened(&mut self, opened: Result<Maildrop, OpenError>) {
        match opened {
            Ok(maildrop) => {
                let open = OpenMaildrop::new(maildrop);
                let text = format!("{} messages ({} octets)", open.count(), open.octets());
                self.maildrop = Some(Box::new(open));
                self.ok(&text);
            }
            //= rfc2449#section-8.1.2
            //# This response code indicates that the authentication was
            //# successful, but the user's maildrop is currently in use (probably
            //# by another POP3 client).
            Err(OpenError::InUse) => self.wrong("[IN-USE] another POP3 session has this maildrop"),
            Err(OpenError::TryLater) => self.err("[SYS/TEMP] the maildrop cannot be opened at the moment"),
        }
    }
}
