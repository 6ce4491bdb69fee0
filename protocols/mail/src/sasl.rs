//! The server's side of SASL (RFC 4422): PLAIN (RFC 4616), LOGIN and SCRAM-SHA-256 (RFC 5802, RFC 7677).
//!
//! An [`Exchange`] is a value. It asks for what it cannot know (is this the password? what are the keys of this login?)
//! through [`SaslStep`]s and never looks anything up.

use std::{fmt, num::NonZeroU32};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

/// Octets of a hash, and so of every key of SCRAM-SHA-256.
const KEY_OCTETS: usize = 32;

/// The mechanisms we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: everything in one message.
    Plain,
    /// The old two questions of some clients; no RFC.
    Login,
    /// RFC 7677: the password itself is never sent.
    ScramSha256,
}

/// A password on its way to be checked. Never shown, and overwritten when dropped.
#[derive(PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes a password.
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        let mut octets = std::mem::take(&mut self.0).into_bytes();
        octets.fill(0);
        // Keeps the compiler from finding out that nobody reads the zeros.
        std::hint::black_box(&octets);
    }
}

/// What the host says about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginAnswer {
    /// The client is who it says it is.
    Accepted,
    /// It is not, or it may not act as the authorization identity.
    Refused,
    /// It cannot be told at the moment.
    TryLater,
}

/// What SCRAM needs of an account (RFC 5802 section 5.1).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Salt.
    pub salt: Vec<u8>,
    /// Iteration count.
    pub iterations: u32,
    /// StoredKey.
    pub stored_key: [u8; KEY_OCTETS],
    /// ServerKey.
    pub server_key: [u8; KEY_OCTETS],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(hidden)")
    }
}

/// What an exchange wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum SaslStep {
    /// Send this to the client, and give its answer to [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// Is this the password? Tell [`Exchange::verified`].
    CheckPassword {
        /// Authentication identity.
        login: String,
        /// The password.
        password: Password,
        /// Authorization identity, when it was given.
        authorize_as: Option<String>,
    },
    /// Give the keys of this login, or made-up ones that are always the same, to [`Exchange::credential`].
    NeedScram {
        /// Authentication identity.
        login: String,
    },
    /// The client has proved who it is.
    Success {
        /// Authentication identity.
        login: String,
        /// Authorization identity, when it was given.
        authorize_as: Option<String>,
        /// The server's last word, to be sent to the client before the protocol says that all is well.
        final_data: Option<Vec<u8>>,
    },
    /// The exchange has failed.
    Failed,
}

/// One exchange.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    nonce_seed: [u8; 24],
}

enum State {
    Plain,
    LoginName,
    LoginPassword { login: String },
    Checking { login: String, authorize_as: Option<String> },
    ScramFirst,
    ScramKeys(Box<ScramClient>),
    ScramFinal(Box<ScramClient>, ScramKeys),
    Over,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State(hidden)")
    }
}

/// What a SCRAM client said first, and what was answered.
struct ScramClient {
    login: String,
    authorize_as: Option<String>,
    gs2_header: String,
    first_bare: String,
    nonce: String,
    server_first: String,
}

impl Exchange {
    /// Begins an exchange. `initial` is the client's initial response, when it came with the command; `nonce_seed` is
    /// fresh randomness.
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>, nonce_seed: [u8; 24]) -> (Self, SaslStep) {
        let (state, question): (_, &[u8]) = match mechanism {
            Mechanism::Plain => (State::Plain, b""),
            Mechanism::Login => (State::LoginName, b"Username:"),
            Mechanism::ScramSha256 => (State::ScramFirst, b""),
        };
        let mut exchange = Self { state, nonce_seed };
        let step = match initial {
            Some(response) => exchange.respond(response),
            None => SaslStep::Challenge(question.to_vec()),
        };
        (exchange, step)
    }

    /// Takes the client's decoded response to the last challenge.
    pub fn respond(&mut self, response: &[u8]) -> SaslStep {
        let state = std::mem::replace(&mut self.state, State::Over);
        let Ok(text) = std::str::from_utf8(response) else { return SaslStep::Failed };
        match state {
            State::Plain => self.plain(text),
            State::LoginName if !text.is_empty() => {
                self.state = State::LoginPassword { login: text.to_owned() };
                SaslStep::Challenge(b"Password:".to_vec())
            }
            State::LoginPassword { login } => self.check(login, text, None),
            State::ScramFirst => match ScramClient::read(text) {
                Some(client) => {
                    let login = client.login.clone();
                    self.state = State::ScramKeys(Box::new(client));
                    SaslStep::NeedScram { login }
                }
                None => SaslStep::Failed,
            },
            State::ScramFinal(client, keys) => client.finish(&keys, text).unwrap_or(SaslStep::Failed),
            _ => SaslStep::Failed,
        }
    }

    /// Gives the keys asked for by [`SaslStep::NeedScram`]; without keys the exchange fails.
    pub fn credential(&mut self, keys: Option<ScramKeys>) -> SaslStep {
        match (std::mem::replace(&mut self.state, State::Over), keys) {
            (State::ScramKeys(mut client), Some(keys)) => {
                client.nonce.push_str(&encode_line(&self.nonce_seed));
                client.server_first = format!("r={},s={},i={}", client.nonce, encode_line(&keys.salt), keys.iterations);
                let challenge = client.server_first.clone().into_bytes();
                self.state = State::ScramFinal(client, keys);
                SaslStep::Challenge(challenge)
            }
            _ => SaslStep::Failed,
        }
    }

    /// Tells whether the password of [`SaslStep::CheckPassword`] was right.
    pub fn verified(&mut self, right: Result<(), ()>) -> SaslStep {
        match (std::mem::replace(&mut self.state, State::Over), right) {
            (State::Checking { login, authorize_as }, Ok(())) => {
                SaslStep::Success { login, authorize_as, final_data: None }
            }
            _ => SaslStep::Failed,
        }
    }

    //= rfc4616#section-2
    //# message   = [authzid] UTF8NUL authcid UTF8NUL passwd
    fn plain(&mut self, text: &str) -> SaslStep {
        let mut fields = text.split('\0');
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(other), Some(login), Some(password), None) if !login.is_empty() => {
                let authorize_as = (!other.is_empty()).then(|| other.to_owned());
                self.check(login.to_owned(), password, authorize_as)
            }
            _ => SaslStep::Failed,
        }
    }

    fn check(&mut self, login: String, password: &str, authorize_as: Option<String>) -> SaslStep {
        if password.is_empty() {
            return SaslStep::Failed;
        }
        self.state = State::Checking { login: login.clone(), authorize_as: authorize_as.clone() };
        SaslStep::CheckPassword { login, password: Password::new(password.to_owned()), authorize_as }
    }
}

impl ScramClient {
    /// Reads the client's first message (RFC 5802 section 7).
    fn read(text: &str) -> Option<Self> {
        // "p=": the client insists on channel binding, which was not offered. "y": it could have done it.
        let rest = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,"))?;
        let (other, first_bare) = rest.split_once(',')?;
        let authorize_as = match other.strip_prefix("a=") {
            Some(name) => Some(saslname(name)?),
            None if other.is_empty() => None,
            None => return None,
        };
        let mut fields = first_bare.split(',');
        // An extension that must be understood ("m=") cannot be; it would stand here.
        let login = saslname(fields.next()?.strip_prefix("n=")?)?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        if login.is_empty() || nonce.is_empty() || !nonce.bytes().all(|octet| octet.is_ascii_graphic()) {
            return None;
        }
        let gs2_header = text.strip_suffix(first_bare)?.to_owned();
        let (first_bare, nonce) = (first_bare.to_owned(), nonce.to_owned());
        Some(Self { login, authorize_as, gs2_header, first_bare, nonce, server_first: String::new() })
    }

    /// Reads the client's last message and checks its proof (RFC 5802 section 3).
    fn finish(self, keys: &ScramKeys, text: &str) -> Option<SaslStep> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let binding = STANDARD.decode(fields.next()?.strip_prefix("c=")?).ok()?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        if binding != self.gs2_header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == KEY_OCTETS)?;
        let message = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let signature = mac(&keys.stored_key, message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(proof, mask)| proof ^ mask).collect();
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        if !bool::from(stored_key.as_ref().ct_eq(&keys.stored_key)) {
            return None;
        }
        let server_signature = encode_line(&mac(&keys.server_key, message.as_bytes()));
        Some(SaslStep::Success {
            login: self.login,
            authorize_as: self.authorize_as,
            final_data: Some(format!("v={server_signature}").into_bytes()),
        })
    }
}

/// A name in SCRAM: `=2C` is a comma, `=3D` an equals sign, and no other equals sign may stand there.
fn saslname(name: &str) -> Option<String> {
    let mut pieces = name.split('=');
    let mut decoded = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        decoded.push(sign);
        decoded.push_str(rest);
    }
    Some(decoded)
}

pub(crate) fn mac(key: &[u8], message: &[u8]) -> [u8; KEY_OCTETS] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut octets = [0; KEY_OCTETS];
    for (octet, given) in octets.iter_mut().zip(tag.as_ref()) {
        *octet = *given;
    }
    octets
}

/// A password as RFC 4013 wants it, as far as it matters between a client and us: other spaces become a space,
/// soft hyphens and joiners vanish. Characters are not recomposed; clients send what keyboards make, which is composed.
fn prepared(password: &str) -> String {
    let space =
        |c: char| matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}');
    let nothing =
        |c: &char| !matches!(c, '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}');
    password.chars().filter(nothing).map(|c| if space(c) { ' ' } else { c }).collect()
}

/// `SaltedPassword` (RFC 5802 section 3). Zero iterations count as one.
pub(crate) fn salted(password: &str, salt: &[u8], iterations: u32) -> [u8; KEY_OCTETS] {
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let mut salted = [0; KEY_OCTETS];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepared(password).as_bytes(), &mut salted);
    salted
}

/// StoredKey and ServerKey of a password (RFC 5802 section 3). Zero iterations count as one.
pub fn scram_keys(password: &str, salt: &[u8], iterations: u32) -> ([u8; KEY_OCTETS], [u8; KEY_OCTETS]) {
    let salted = salted(password, salt, iterations);
    let mut stored_key = [0; KEY_OCTETS];
    let client_key = mac(&salted, b"Client Key");
    for (octet, given) in stored_key.iter_mut().zip(digest::digest(&digest::SHA256, &client_key).as_ref()) {
        *octet = *given;
    }
    (stored_key, mac(&salted, b"Server Key"))
}

/// A line of an exchange that is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

impl fmt::Display for NotBase64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not base64")
    }
}

impl std::error::Error for NotBase64 {}

/// Decodes a line from the client: `None` when it cancels the exchange with `*`.
pub fn decode_line(line: &[u8]) -> Result<Option<Vec<u8>>, NotBase64> {
    if line == b"*" {
        return Ok(None);
    }
    STANDARD.decode(line).map(Some).map_err(|_| NotBase64)
}

/// Encodes a challenge as a line for the client.
pub fn encode_line(challenge: &[u8]) -> String {
    STANDARD.encode(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_has_three_fields() {
        let start = |initial: &[u8]| Exchange::start(Mechanism::Plain, Some(initial), [0; 24]);
        let (mut exchange, step) = start(b"boss\0ann\0pw");
        let password = Password::new("pw".into());
        let (login, authorize_as) = ("ann".to_owned(), Some("boss".to_owned()));
        assert_eq!(
            step,
            SaslStep::CheckPassword { login: login.clone(), password, authorize_as: authorize_as.clone() }
        );
        assert_eq!(exchange.verified(Ok(())), SaslStep::Success { login, authorize_as, final_data: None });
        assert_eq!(exchange.verified(Ok(())), SaslStep::Failed);
        for bad in [&b"ann\0pw"[..], b"\0\0pw", b"\0ann\0", b"\0ann\0pw\0", b"\0\xff\0pw", b""] {
            assert_eq!(start(bad).1, SaslStep::Failed, "{bad:?}");
        }
    }

    /// The example of RFC 7677 section 3.
    #[test]
    fn scram_known_answer() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let (stored_key, server_key) = scram_keys("pencil", &salt, 4096);
        let keys = ScramKeys { salt, iterations: 4096, stored_key, server_key };
        let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let (mut exchange, step) = Exchange::start(Mechanism::ScramSha256, Some(first), [0; 24]);
        assert_eq!(step, SaslStep::NeedScram { login: "user".into() });
        assert!(matches!(exchange.credential(Some(keys.clone())), SaslStep::Challenge(_)));
        // The nonce of the example is no base64 of 24 octets, so it is put in its place here.
        let State::ScramFinal(client, _) = &mut exchange.state else { unreachable!("the last message is awaited") };
        client.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        client.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", client.nonce);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let want = SaslStep::Success {
            login: "user".into(),
            authorize_as: None,
            final_data: Some(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec()),
        };
        assert_eq!(exchange.respond(last.as_bytes()), want);
    }

    #[test]
    fn scram_refuses_what_is_not_right() {
        for first in
            ["p=tls-unique,,n=u,r=x", "n,,m=x,n=u,r=x", "n,,n=,r=x", "n,,n=u", "n,,n=a=b,r=x", "n,b,n=u,r=x", ""]
        {
            let (_, step) = Exchange::start(Mechanism::ScramSha256, Some(first.as_bytes()), [0; 24]);
            assert_eq!(step, SaslStep::Failed, "{first}");
        }
        assert_eq!(saslname("a=2Cb=3D"), Some("a,b=".into()));
        let keys = ScramKeys { salt: vec![1], iterations: 1, stored_key: [1; 32], server_key: [2; 32] };
        let (mut exchange, _) = Exchange::start(Mechanism::ScramSha256, Some(b"n,,n=u,r=x"), [0; 24]);
        assert!(matches!(exchange.credential(Some(keys)), SaslStep::Challenge(_)));
        let nonce = format!("x{}", encode_line(&[0; 24]));
        let last = format!("c=biws,r={nonce},p={}", encode_line(&[0; 32]));
        assert_eq!(exchange.respond(last.as_bytes()), SaslStep::Failed);
    }

    #[test]
    fn login_asks_twice() {
        let (mut exchange, step) = Exchange::start(Mechanism::Login, None, [0; 24]);
        assert_eq!(step, SaslStep::Challenge(b"Username:".to_vec()));
        assert_eq!(exchange.respond(b"ann"), SaslStep::Challenge(b"Password:".to_vec()));
        assert!(matches!(exchange.respond(b"pw"), SaslStep::CheckPassword { .. }));
        assert_eq!(exchange.respond(b"more"), SaslStep::Failed);
    }

    #[test]
    fn lines_are_base64_or_a_star() {
        assert_eq!(decode_line(b"*"), Ok(None));
        assert_eq!(decode_line(b""), Ok(Some(Vec::new())));
        assert_eq!(decode_line(b"YQ=="), Ok(Some(b"a".to_vec())));
        assert_eq!(decode_line(b"YQ"), Err(NotBase64));
    }
}
