//! AUTH (RFC 4954) from the client's side.

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use rockdove_mail::sasl_client::{ClientExchange, Credentials};

use super::{ClientLogin, ServerReply};

/// An exchange under way.
pub(super) enum Exchange {
    /// A mechanism with a specification.
    Sasl(Box<ClientExchange>),
    /// LOGIN, which has none: what is still to be said.
    Login(Vec<String>),
}

/// What comes next.
pub(super) enum Turn {
    /// This line.
    Say(String),
    /// The server has let us in.
    Done,
    /// It has not, or must not be believed.
    Failed(ServerReply),
}

impl Exchange {
    /// Begins with the best mechanism that both know. `None`: there is none that may be used here.
    pub(super) fn begin(login: &ClientLogin, mechanisms: &[String]) -> Option<(Self, String)> {
        let offered = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
        let (authorize_as, user, password) = (String::new(), login.login.clone(), login.password.clone());
        let credentials = if offered("SCRAM-SHA-256") {
            Credentials::ScramSha256 { authorize_as, login: user, password, nonce: login.nonce.clone() }
        } else if login.plain && offered("PLAIN") {
            Credentials::Plain { authorize_as, login: user, password }
        } else if login.plain && offered("LOGIN") {
            return Some((Self::Login(vec![password, user]), "AUTH LOGIN\r\n".to_owned()));
        } else {
            return None;
        };
        let mut exchange = ClientExchange::new(credentials);
        let line = format!("AUTH {} {}\r\n", exchange.mechanism(), BASE64.encode(exchange.initial()));
        Some((Self::Sasl(Box::new(exchange)), line))
    }

    /// The server has replied.
    pub(super) fn reply(&mut self, reply: ServerReply) -> Turn {
        match (reply.code, self) {
            (235, Self::Sasl(exchange)) if !exchange.is_complete() => Turn::Failed(ServerReply::new(
                454,
                "4.7.0",
                "the server let us in without proving that it knows the password",
            )),
            (235, _) => Turn::Done,
            (334, Self::Login(words)) => match words.pop() {
                Some(word) => Turn::Say(format!("{}\r\n", BASE64.encode(word))),
                None => Turn::Say("*\r\n".to_owned()),
            },
            (334, Self::Sasl(exchange)) => {
                let challenge = BASE64.decode(reply.text.trim()).unwrap_or_default();
                match exchange.respond(&challenge) {
                    Ok(response) => Turn::Say(format!("{}\r\n", BASE64.encode(response))),
                    Err(error) => Turn::Failed(ServerReply::new(454, "4.7.0", &error.to_string())),
                }
            }
            _ => Turn::Failed(reply),
        }
    }
}
