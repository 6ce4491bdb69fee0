//! AUTH (RFC 4954): the SASL exchange in its SMTP dress.

use rockdove_mail::sasl::{self, Exchange, Mechanism, SaslStep};

use super::{MECHANISMS, SmtpSession, State, Waiting, nonce_seed};
use crate::{
    Ask, LoginAnswer, Role, limits,
    reply::{self, Reply},
};

/// An exchange under way.
#[derive(Debug)]
pub(super) struct Attempt {
    exchange: Exchange,
    /// The login, once it is known.
    login: String,
    scram: bool,
}

/// An exchange in which the client proved that it knows the password.
#[derive(Debug)]
pub(super) struct Proved {
    pub(super) login: String,
    authorize_as: Option<String>,
}

impl SmtpSession {
    pub(super) fn auth(&mut self, name: &str, initial: Option<&str>) {
        self.flush = true;
        if let Err(reply) = self.may_auth() {
            return self.refuse(reply);
        }
        let Some(&(_, mechanism)) = MECHANISMS.iter().find(|(known, _)| *known == name) else {
            return self.refuse(reply::BAD_MECHANISM);
        };
        let initial = match initial {
            None => None,
            // RFC 4954 section 4: a single "=" is an initial response of zero length.
            Some("=") => Some(Vec::new()),
            Some(text) => match sasl::decode_line(text.as_bytes()) {
                Ok(Some(response)) => Some(response),
                Ok(None) => return self.refuse(reply::AUTH_CANCELLED),
                Err(_) => return self.refuse(reply::BAD_BASE64),
            },
        };
        self.auth_attempts = self.auth_attempts.saturating_add(1);
        let seed = nonce_seed(&self.seed, self.auth_attempts);
        let (exchange, step) = Exchange::start(mechanism, initial.as_deref(), seed);
        let scram = matches!(mechanism, Mechanism::ScramSha256);
        self.exchange_step(Box::new(Attempt { exchange, login: String::new(), scram }), step);
    }

    fn may_auth(&self) -> Result<(), Reply> {
        if self.config.role != Role::Submission {
            return Err(reply::NO_AUTH);
        }
        if self.login.is_some() {
            return Err(reply::AUTH_ALREADY);
        }
        if self.transaction.is_some() {
            return Err(reply::AUTH_IN_MAIL);
        }
        if self.may_auth_now() { Ok(()) } else { Err(reply::AUTH_NEEDS_TLS) }
    }

    /// A line that is no command but a response of the client.
    pub(super) fn exchange_line(&mut self, line: &[u8]) {
        self.flush = true;
        let decoded = sasl::decode_line(line);
        match std::mem::replace(&mut self.state, State::Command) {
            State::Auth(mut attempt) => match decoded {
                Ok(Some(response)) => {
                    let step = attempt.exchange.respond(&response);
                    self.exchange_step(attempt, step);
                }
                Ok(None) => self.refuse(reply::AUTH_CANCELLED),
                Err(_) => self.refuse(reply::BAD_BASE64),
            },
            State::AuthFinal(proved) => match decoded {
                Ok(Some(response)) if response.is_empty() => self.prove(proved),
                Ok(None) => self.refuse(reply::AUTH_CANCELLED),
                _ => self.refuse(reply::BAD_BASE64),
            },
            other => self.state = other,
        }
    }

    /// Ends an exchange whose line could not be read.
    pub(super) fn end_exchange(&mut self) {
        if matches!(self.state, State::Auth(_) | State::AuthFinal(_)) {
            self.state = State::Command;
        }
    }

    fn exchange_step(&mut self, mut attempt: Box<Attempt>, step: SaslStep) {
        match step {
            SaslStep::Challenge(data) => {
                self.challenge(&data);
                self.state = State::Auth(attempt);
            }
            SaslStep::CheckPassword { login, password, authorize_as } => {
                attempt.login.clone_from(&login);
                self.ask(Ask::Login { login, password, authorize_as }, Waiting::Login(attempt));
            }
            SaslStep::NeedScram { login } => {
                attempt.login.clone_from(&login);
                self.ask(Ask::ScramKeys { login }, Waiting::ScramKeys(attempt));
            }
            SaslStep::Success { login, authorize_as, final_data } => {
                let proved = Box::new(Proved { login, authorize_as });
                match final_data {
                    // RFC 4954 section 4: data that comes with success is sent as a challenge, answered by an empty line.
                    Some(data) => {
                        self.challenge(&data);
                        self.state = State::AuthFinal(proved);
                    }
                    None => self.prove(proved),
                }
            }
            SaslStep::Failed => {
                if attempt.scram && !attempt.login.is_empty() {
                    self.tell(Ask::ScramFailed { login: attempt.login });
                }
                self.login_refused();
            }
        }
    }

    fn challenge(&mut self, data: &[u8]) {
        self.flush = true;
        reply::line(&mut self.out, 334, "", format_args!("{}", sasl::encode_line(data)));
    }

    fn prove(&mut self, proved: Box<Proved>) {
        let ask = Ask::ScramProved { login: proved.login.clone(), authorize_as: proved.authorize_as.clone() };
        self.ask(ask, Waiting::ScramProved(proved));
    }

    pub(super) fn scram_keys(&mut self, mut attempt: Box<Attempt>, keys: sasl::ScramKeys) {
        let step = attempt.exchange.credential(Some(keys));
        self.exchange_step(attempt, step);
    }

    pub(super) fn password_checked(&mut self, attempt: &Attempt, answer: LoginAnswer) {
        self.logged_in(&attempt.login, answer);
    }

    pub(super) fn logged_in(&mut self, login: &str, answer: LoginAnswer) {
        self.flush = true;
        match answer {
            LoginAnswer::Accepted => {
                self.login = Some(login.to_owned());
                // The trace header tells that the sender was authenticated.
                if let Some(client) = &self.client {
                    let mut client = (**client).clone();
                    client.login.clone_from(&self.login);
                    self.client = Some(std::sync::Arc::new(client));
                }
                self.say(reply::LOGGED_IN);
            }
            LoginAnswer::Refused => self.login_refused(),
            LoginAnswer::TryLater => self.say(reply::AUTH_LATER),
        }
    }

    fn login_refused(&mut self) {
        self.refuse(reply::AUTH_REFUSED);
        self.auth_failures = self.auth_failures.saturating_add(1);
        if self.auth_failures >= limits::AUTH_FAILURES_MAX && !self.close {
            self.part(reply::TOO_MANY_ERRORS);
        }
    }
}
