//! The way into another server: the connection, TLS, the login.

use std::{
    fmt,
    io::Write as _,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use rockdove_imap::client::Outcome;
use rockdove_mail::{
    sasl::{Password, encode_line},
    sasl_client::Credentials,
};

use super::{
    TransferError,
    connection::{Carrier, Connection},
};
use crate::{net::tls::TlsDialer, runtime::clock};

/// How long a server may take for a connection, and for its next octets: large mailboxes take some time to open.
const PATIENCE: Duration = Duration::from_mins(5);

/// How a connection is protected.
#[derive(Clone)]
pub enum Protection {
    /// TLS from the first octet on (port 993).
    Implicit(TlsDialer),
    /// TLS after STARTTLS (port 143).
    StartTls(TlsDialer),
    /// None; only to this machine itself.
    NoneOnLoopback,
}

/// What proves who logs in.
pub enum Secret {
    /// A password.
    Password(Password),
    /// An access token of OAuth 2.0, for XOAUTH2.
    Token(Password),
}

/// Another server, and a login there.
pub struct Server {
    /// Its name or address; the certificate must be for it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How connections are protected.
    pub protection: Protection,
    /// The login.
    pub login: String,
    /// Whose mail is wanted when it is not the login's own (a master login).
    pub authorize_as: Option<String>,
    /// What proves it.
    pub secret: Secret,
    /// Messages of more octets are passed over.
    pub message_octets_max: u64,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = self.authorize_as.as_deref().unwrap_or(&self.login);
        write!(f, "{whose} at {}:{}", self.host, self.port)
    }
}

/// Connects and logs in.
pub(super) fn connect(server: &Server) -> Result<Connection, TransferError> {
    let place = format!("{}:{}", server.host, server.port);
    let failed = |error: &dyn fmt::Display| TransferError::stopped(&place, error);
    let stream = reach(server).map_err(|error| failed(&error))?;
    let mut encrypted = true;
    let carrier: Box<dyn Carrier> = match &server.protection {
        Protection::Implicit(dialer) => {
            let stream = stream.try_clone().map_err(|error| failed(&error))?;
            Box::new(dialer.dial(&server.host, stream).map_err(|error| failed(&error))?)
        }
        _ => Box::new(stream.try_clone().map_err(|error| failed(&error))?),
    };
    let (mut connection, mut authenticated) = Connection::greeted(carrier, &place, server.message_octets_max)?;
    match &server.protection {
        Protection::Implicit(_) => {}
        Protection::StartTls(dialer) => {
            if authenticated {
                // PREAUTH before TLS would leave no way to encrypt; it may come from somebody in the middle.
                return Err(connection.stopped("the server does not allow TLS: it says that we are logged in"));
            }
            let tag = connection.client.simple("STARTTLS");
            connection.succeed(tag, |_| Ok(()))?;
            connection = connection.encrypted(|| {
                let encrypted = dialer.dial(&server.host, stream).map_err(|error| failed(&error))?;
                Ok(Box::new(encrypted))
            })?;
            authenticated = false;
        }
        Protection::NoneOnLoopback => encrypted = false,
    }
    if !authenticated {
        log_in(&mut connection, server, encrypted)?;
    }
    let tag = connection.client.simple("CAPABILITY");
    connection.succeed(tag, |_| Ok(()))?;
    Ok(connection)
}

/// Tries every address of the host.
fn reach(server: &Server) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for address in (server.host.as_str(), server.port).to_socket_addrs()? {
        if matches!(server.protection, Protection::NoneOnLoopback) && !address.ip().to_canonical().is_loopback() {
            let why = format!("{address} is not this machine, and nothing protects the connection");
            last = std::io::Error::new(std::io::ErrorKind::PermissionDenied, why);
            continue;
        }
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                stream.flush()?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The ways to log in that the server offers, the best one first.
fn ways(connection: &Connection, server: &Server) -> Result<Vec<Option<Credentials>>, TransferError> {
    let login = server.login.clone();
    let authorize_as = server.authorize_as.clone().unwrap_or_default();
    let password = match &server.secret {
        Secret::Token(token) => {
            return Ok(vec![Some(Credentials::XOAuth2 { login, token: token.as_str().to_owned() })]);
        }
        Secret::Password(password) => password.as_str().to_owned(),
    };
    let mut ways = Vec::new();
    if connection.client.has("AUTH=SCRAM-SHA-256") {
        let seed = clock::seed().map_err(|error| connection.stopped(error))?;
        let nonce = encode_line(&seed);
        let (login, authorize_as, password) = (login.clone(), authorize_as.clone(), password.clone());
        ways.push(Some(Credentials::ScramSha256 { authorize_as, login, password, nonce }));
    }
    if connection.client.has("AUTH=PLAIN") {
        let authorize_as = authorize_as.clone();
        ways.push(Some(Credentials::Plain { authorize_as, login, password }));
    } else if authorize_as.is_empty() && !connection.client.has("LOGINDISABLED") {
        // LOGIN
        ways.push(None);
    }
    Ok(ways)
}

fn log_in(connection: &mut Connection, server: &Server, encrypted: bool) -> Result<(), TransferError> {
    if !connection.client.knows_capabilities() {
        let tag = connection.client.simple("CAPABILITY");
        connection.succeed(tag, |_| Ok(()))?;
    }
    let mut refusal = "the server offers no way to log in that we know".to_owned();
    for way in ways(connection, server)? {
        let proves_nothing_in_clear = matches!(way, Some(Credentials::ScramSha256 { .. }));
        let tag = match (way, &server.secret) {
            (Some(credentials), _) => connection.client.authenticate(credentials),
            (None, Secret::Password(password) | Secret::Token(password)) => {
                connection.client.login(&server.login, password.as_str())
            }
        };
        let done = connection.finish(tag, |_| Ok(()))?;
        if done.outcome == Outcome::Ok {
            return Ok(());
        }
        refusal = format!("the login of {} is refused: {}", server.login, done.text);
        // Some servers offer SCRAM to logins for which they have no keys. Where nobody can read it, the password may
        // be shown to the server itself.
        if !(proves_nothing_in_clear && encrypted) {
            break;
        }
    }
    Err(connection.stopped(refusal))
}
