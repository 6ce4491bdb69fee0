//! AUTHENTICATE (RFC 3501 section 6.2.2) with an initial response (RFC 4959).

use rockdove_mail::sasl::{self, Exchange, Mechanism, SaslStep, ScramKeys};

use super::{Doing, ImapSession, State, purpose::Purpose};
use crate::ask::{Ask, LoginAnswer};

/// The mechanisms offered, as SASL names them.
pub(super) const MECHANISMS: [(&str, Mechanism); 3] =
    [("PLAIN", Mechanism::Plain), ("LOGIN", Mechanism::Login), ("SCRAM-SHA-256", Mechanism::ScramSha256)];

/// The mechanism of the administrator's door.
const EXTERNAL: &str = "EXTERNAL";

/// Length of the seed of a nonce, in octets.
const NONCE_SEED_OCTETS: usize = 24;

/// A SASL exchange that waits for the client.
pub(super) enum SaslTurn {
    /// It goes on. The login is set once a SCRAM exchange has named it.
    Exchange(Exchange, Option<String>),
    /// The server's last word is sent; the client's empty line is awaited.
    Proven { login: String, authorize_as: Option<String> },
    /// The account is awaited (RFC 4422 appendix A).
    External,
}

/// Octets of the account's name in EXTERNAL: the longest address of RFC 5321 section 4.5.3.1 (64 + 1 + 255).
const EXTERNAL_OCTETS_MAX: usize = 320;

impl ImapSession {
    pub(super) fn authenticate(&mut self, mechanism: &str, initial: Option<&[u8]>) {
        let external = self.config.external && mechanism == EXTERNAL;
        if !external && self.refuse_clear() {
            return;
        }
        let mechanism = MECHANISMS.into_iter().find(|(known, _)| *known == mechanism);
        if mechanism.is_none() && !external {
            return self.complete("NO [CANNOT] there is no such mechanism here");
        }
        let initial = match initial {
            None => None,
            //= rfc4959#section-3
            //# To send a zero-
            //# length initial response, the client MUST send a single pad character
            //# ("=").
            Some(b"=") => Some(Vec::new()),
            Some(encoded) => match sasl::decode_line(encoded) {
                Ok(Some(decoded)) => Some(decoded),
                _ => return self.bad("the initial response is not base64"),
            },
        };
        let Some((_, mechanism)) = mechanism else {
            return match initial {
                Some(response) => self.external(&response),
                None => self.challenge(b"", SaslTurn::External),
            };
        };
        let (exchange, step) = Exchange::start(mechanism, initial.as_deref(), self.nonce_seed());
        self.sasl_step(exchange, None, step);
    }

    /// The response of EXTERNAL: whose account it is to be.
    //= rfc4422#appendix-A.1
    //# initial-response = authz-id-string
    //# authz-id-string = *( UTF8-char-no-nul )
    fn external(&mut self, response: &[u8]) {
        match std::str::from_utf8(response) {
            // An empty one would mean the identity of the client itself, and an administrator has no mailboxes.
            Ok(account) if (1..=EXTERNAL_OCTETS_MAX).contains(&account.len()) && !account.contains('\0') => {
                self.ask(Ask::External { authorize_as: account.to_owned() }, Purpose::Login);
            }
            _ => self.login_verdict(LoginAnswer::Refused),
        }
    }

    /// A seed for each exchange of the session.
    fn nonce_seed(&mut self) -> [u8; NONCE_SEED_OCTETS] {
        let mut seed = [0; NONCE_SEED_OCTETS];
        let State::NotAuthenticated(stranger) = &mut self.state else { return seed };
        for (octet, given) in seed.iter_mut().zip(stranger.seed) {
            *octet = given;
        }
        // The next exchange of this session starts from another place; octets not handed out keep it unguessable.
        let turn = self.next_ask.wrapping_add(u64::from(self.errors)).wrapping_add(1).to_le_bytes();
        for (octet, turn) in stranger.seed.iter_mut().zip(turn) {
            *octet = octet.wrapping_add(turn).rotate_left(1);
        }
        seed
    }

    fn sasl_step(&mut self, exchange: Exchange, login: Option<String>, step: SaslStep) {
        match step {
            SaslStep::Challenge(challenge) => self.challenge(&challenge, SaslTurn::Exchange(exchange, login)),
            SaslStep::CheckPassword { login, password, authorize_as } => {
                self.ask(Ask::CheckPassword { login, password, authorize_as }, Purpose::Login);
            }
            SaslStep::NeedScram { login } => {
                let turn = SaslTurn::Exchange(exchange, Some(login.clone()));
                self.ask(Ask::ScramKeys { login }, Purpose::ScramKeys(Box::new(turn)));
            }
            // IMAP has no place for data in the tagged response, so it goes as a challenge that the client answers with
            // an empty line (RFC 4422 section 5).
            SaslStep::Success { login, authorize_as, final_data: Some(data) } => {
                self.challenge(&data, SaslTurn::Proven { login, authorize_as });
            }
            SaslStep::Success { login, authorize_as, final_data: None } => {
                self.ask(Ask::ScramDone { login, authorize_as, proven: true }, Purpose::Login);
            }
            SaslStep::Failed => match login {
                Some(login) => self.ask(Ask::ScramDone { login, authorize_as: None, proven: false }, Purpose::Login),
                None => self.login_verdict(LoginAnswer::Refused),
            },
        }
    }

    fn challenge(&mut self, challenge: &[u8], turn: SaslTurn) {
        let line = format!("+ {}", sasl::encode_line(challenge));
        self.out.line(&line);
        self.doing = Doing::Sasl(Box::new(turn));
    }

    /// The client's next word in an exchange.
    pub(super) fn take_sasl_line(&mut self, turn: Box<SaslTurn>) -> bool {
        if self.is_over(false) {
            return true;
        }
        let Some(line) = self.take_line() else {
            let over = self.is_over(true);
            if !over {
                self.doing = Doing::Sasl(turn);
            }
            return over;
        };
        let Ok(line) = line else {
            self.bad("the response is too long");
            return true;
        };
        match sasl::decode_line(&line) {
            Ok(Some(response)) => self.sasl_response(*turn, &response),
            //= rfc3501#section-6.2.2
            //# If the client wishes to cancel an
            //# authentication exchange, it issues a line consisting of a single
            //# "*".  If the server receives such a response, it MUST reject the
            //# AUTHENTICATE command by sending a tagged BAD response.
            Ok(None) => self.bad("the exchange is cancelled"),
            Err(_) => self.bad("the response is not base64"),
        }
        true
    }

    fn sasl_response(&mut self, turn: SaslTurn, response: &[u8]) {
        match turn {
            SaslTurn::Exchange(mut exchange, login) => {
                let step = exchange.respond(response);
                self.sasl_step(exchange, login, step);
            }
            SaslTurn::Proven { login, authorize_as } if response.is_empty() => {
                self.ask(Ask::ScramDone { login, authorize_as, proven: true }, Purpose::Login);
            }
            SaslTurn::External => self.external(response),
            SaslTurn::Proven { .. } => self.bad("an empty response was expected"),
        }
    }

    pub(super) fn sasl_keys(&mut self, turn: SaslTurn, keys: ScramKeys) {
        let SaslTurn::Exchange(mut exchange, login) = turn else { return };
        let step = exchange.credential(Some(keys));
        self.sasl_step(exchange, login, step);
    }
}
