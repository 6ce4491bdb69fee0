//! The client's side of SASL (RFC 4422): PLAIN (RFC 4616), SCRAM-SHA-256 (RFC 7677), EXTERNAL and XOAUTH2.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest;
use subtle::ConstantTimeEq;

use crate::sasl::{mac, salted};

/// Iterations that are done for a server: a hundred times what is usual, and still less than a second.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

/// Iterations below which an attacker in the middle is more likely than an old server (RFC 7677 section 4).
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;

/// How to log in, with its secrets. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The password itself; only for connections that nobody can read.
    Plain {
        /// Whose mail is wanted, when it is not the login's own (a master login); else empty.
        authorize_as: String,
        /// The login.
        login: String,
        /// Its password.
        password: String,
    },
    /// Proves that the password is known without sending it.
    ScramSha256 {
        /// Whose mail is wanted, when it is not the login's own; else empty.
        authorize_as: String,
        /// The login.
        login: String,
        /// Its password.
        password: String,
        /// A fresh random nonce: printable US-ASCII without commas.
        nonce: String,
    },
    /// The connection itself tells who this is (RFC 4422 appendix A).
    External {
        /// Whose mail is wanted; empty for that of the connection's owner.
        authorize_as: String,
    },
    /// An access token of OAuth 2.0, as Gmail and Outlook take it.
    XOAuth2 {
        /// The login.
        login: String,
        /// The access token.
        token: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.mechanism())
    }
}

impl Credentials {
    /// The name of the mechanism.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::ScramSha256 { .. } => "SCRAM-SHA-256",
            Self::External { .. } => "EXTERNAL",
            Self::XOAuth2 { .. } => "XOAUTH2",
        }
    }
}

/// Why a client gives an exchange up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslClientError {
    /// The server said what the mechanism does not know.
    Unexpected,
    /// What the server said is for another client, or it asks for too little or too much work.
    Refused(&'static str),
    /// The server refused; its words.
    Server(String),
    /// The server does not know the password either: it is not the one it claims to be.
    ServerUnproven,
}

impl fmt::Display for SaslClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected => f.write_str("the server's challenge is not one of this mechanism"),
            Self::Refused(why) => f.write_str(why),
            Self::Server(text) => write!(f, "the server refuses: {text}"),
            Self::ServerUnproven => f.write_str("the server could not prove that it knows the password"),
        }
    }
}

impl std::error::Error for SaslClientError {}

/// One exchange. Feed it the decoded challenges; it gives the responses, to be encoded.
pub struct ClientExchange {
    credentials: Credentials,
    state: State,
}

enum State {
    First,
    /// SCRAM: the server's first message is awaited.
    ScramFirst,
    /// SCRAM: the server's signature is awaited, and has to be this.
    ScramFinal([u8; 32]),
    Done,
    Failed,
}

impl ClientExchange {
    /// Begins an exchange.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, state: State::First }
    }

    /// The name of the mechanism.
    pub fn mechanism(&self) -> &'static str {
        self.credentials.mechanism()
    }

    /// The first message: the initial response, or the answer to an empty challenge.
    pub fn initial(&mut self) -> Vec<u8> {
        self.state = State::Done;
        match &self.credentials {
            Credentials::Plain { authorize_as, login, password } => {
                [authorize_as.as_bytes(), login.as_bytes(), password.as_bytes()].join(&0)
            }
            Credentials::ScramSha256 { .. } => {
                self.state = State::ScramFirst;
                let (header, bare) = self.scram_first();
                (header + &bare).into_bytes()
            }
            Credentials::External { authorize_as } => authorize_as.clone().into_bytes(),
            Credentials::XOAuth2 { login, token } => {
                format!("user={login}\x01auth=Bearer {token}\x01\x01").into_bytes()
            }
        }
    }

    /// The response to a challenge.
    ///
    /// # Errors
    /// When the exchange is to be given up. It then gives up every time.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslClientError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::First if challenge.is_empty() => Ok(self.initial()),
            State::ScramFirst => self.scram_final(challenge),
            State::ScramFinal(signature) => {
                let given = challenge.strip_prefix(b"v=").and_then(|given| STANDARD.decode(given).ok());
                match given {
                    Some(given) if bool::from(given.ct_eq(&signature)) => {
                        self.state = State::Done;
                        Ok(Vec::new())
                    }
                    Some(_) => Err(SaslClientError::ServerUnproven),
                    None => Err(SaslClientError::Server(String::from_utf8_lossy(challenge).into_owned())),
                }
            }
            // XOAUTH2 tells why it refuses in a challenge, which is to be answered by nothing.
            State::Done if matches!(self.credentials, Credentials::XOAuth2 { .. }) => Ok(Vec::new()),
            _ => Err(SaslClientError::Unexpected),
        }
    }

    /// Whether a success may be believed now: the mechanism has come to its end.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The GS2 header and the bare first message (RFC 5802 section 7).
    fn scram_first(&self) -> (String, String) {
        let Credentials::ScramSha256 { authorize_as, login, nonce, .. } = &self.credentials else {
            return (String::new(), String::new());
        };
        let header = match authorize_as.as_str() {
            "" => "n,,".to_owned(),
            name => format!("n,a={},", saslname(name)),
        };
        (header, format!("n={},r={nonce}", saslname(login)))
    }

    fn scram_final(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslClientError> {
        let Credentials::ScramSha256 { password, nonce, .. } = &self.credentials else {
            return Err(SaslClientError::Unexpected);
        };
        let server_first = std::str::from_utf8(challenge).map_err(|_| SaslClientError::Unexpected)?;
        let (server_nonce, salt, iterations) = read_first(server_first).ok_or(SaslClientError::Unexpected)?;
        if server_nonce.len() <= nonce.len() || !server_nonce.starts_with(nonce.as_str()) {
            return Err(SaslClientError::Refused("the server's nonce does not continue ours"));
        }
        if !(SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&iterations) {
            return Err(SaslClientError::Refused("the server names an unreasonable number of iterations"));
        }
        let (header, bare) = self.scram_first();
        let without_proof = format!("c={},r={server_nonce}", STANDARD.encode(header));
        let message = format!("{bare},{server_first},{without_proof}");
        let salted = salted(password, &salt, iterations);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = mac(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        self.state = State::ScramFinal(mac(&mac(&salted, b"Server Key"), message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes())
    }
}

/// Nonce, salt and iterations of the server's first message.
fn read_first(text: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut fields = text.split(',');
    let nonce = fields.next()?.strip_prefix("r=")?;
    let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
    let iterations = fields.next()?.strip_prefix("i=")?.parse().ok()?;
    Some((nonce, salt, iterations))
}

/// A name in SCRAM: `,` is written `=2C`, `=` is written `=3D`.
fn saslname(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::{Exchange, Mechanism, SaslStep, ScramKeys, scram_keys};

    fn scram(login: &str, authorize_as: &str, password: &str, nonce: &str) -> ClientExchange {
        let (login, authorize_as) = (login.to_owned(), authorize_as.to_owned());
        let (password, nonce) = (password.to_owned(), nonce.to_owned());
        ClientExchange::new(Credentials::ScramSha256 { authorize_as, login, password, nonce })
    }

    /// The example of RFC 7677 section 3.
    #[test]
    fn scram_known_answer() {
        let mut client = scram("user", "", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(client.initial(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(client.respond(first).as_deref(), Ok(last));
        assert!(!client.is_complete());
        assert_eq!(client.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(Vec::new()));
        assert!(client.is_complete());
    }

    #[test]
    fn our_two_sides_understand_each_other() {
        for (login, authorize_as, right) in [("a=b,c", "", true), ("boss", "an,n=", true), ("ann", "", false)] {
            let mut client = scram(login, authorize_as, if right { "pencil" } else { "pen" }, "abc");
            let (mut server, step) = Exchange::start(Mechanism::ScramSha256, Some(&client.initial()), [7; 24]);
            assert_eq!(step, SaslStep::NeedScram { login: login.into() });
            let (stored_key, server_key) = scram_keys("pencil", b"salt", 4096);
            let keys = ScramKeys { salt: b"salt".to_vec(), iterations: 4096, stored_key, server_key };
            let SaslStep::Challenge(first) = server.credential(Some(keys)) else { panic!("a challenge was expected") };
            match server.respond(&client.respond(&first).expect("a response")) {
                SaslStep::Success { authorize_as: given, final_data: Some(last), .. } if right => {
                    assert_eq!(given.unwrap_or_default(), authorize_as);
                    assert_eq!(client.respond(&last), Ok(Vec::new()));
                    assert!(client.is_complete());
                }
                SaslStep::Failed if !right => {}
                step => panic!("{step:?} for {login}"),
            }
        }
    }

    #[test]
    fn scram_does_not_go_on_with_a_stranger() {
        let after_first = |first: &str| {
            let mut client = scram("u", "", "p", "abc");
            client.initial();
            client.respond(first.as_bytes())
        };
        for first in ["r=xyz1,s=eA==,i=4096", "r=abc,s=eA==,i=4096", "r=abcd,s=eA==,i=1", "r=abcd,s=eA==,i=4000000000"]
        {
            assert!(matches!(after_first(first), Err(SaslClientError::Refused(_))), "{first}");
        }
        for first in ["", "e=other-error", "m=x,r=abcd,s=eA==,i=4096", "r=abcd,s=!,i=4096", "r=abcd,s=eA==,i=-1"] {
            assert_eq!(after_first(first), Err(SaslClientError::Unexpected), "{first}");
        }
        let mut client = scram("u", "", "p", "abc");
        client.initial();
        client.respond(b"r=abcd,s=eA==,i=4096").expect("a response");
        let unproven = format!("v={}", STANDARD.encode([0; 32]));
        assert_eq!(client.respond(unproven.as_bytes()), Err(SaslClientError::ServerUnproven));
        assert_eq!(client.respond(b""), Err(SaslClientError::Unexpected));
        assert!(!client.is_complete());
    }

    #[test]
    fn the_others_need_one_message() {
        let plain = |authorize_as: &str| Credentials::Plain {
            authorize_as: authorize_as.into(),
            login: "ann".into(),
            password: "pw".into(),
        };
        assert_eq!(format!("{:?}", plain("")), "Credentials(PLAIN)");
        let mut client = ClientExchange::new(plain("boss"));
        assert_eq!(client.respond(b""), Ok(b"boss\0ann\0pw".to_vec()));
        assert_eq!(client.respond(b""), Err(SaslClientError::Unexpected));
        let mut client = ClientExchange::new(Credentials::XOAuth2 { login: "ann".into(), token: "t".into() });
        assert_eq!(client.initial(), b"user=ann\x01auth=Bearer t\x01\x01");
        assert_eq!(client.respond(b"{\"status\":\"401\"}"), Ok(Vec::new()));
        let mut client = ClientExchange::new(Credentials::External { authorize_as: "ann@x".into() });
        assert_eq!(client.initial(), b"ann@x");
    }
}
