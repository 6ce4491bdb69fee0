//! The administrator's door to an account, as a client uses it: IMAP over the unix socket of the running server.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use bytes::Bytes;
use rockdove_imap::client::{Done, Event, ImapClient, Outcome, Tag, Untagged};
use rockdove_mail::sasl_client::Credentials;

use super::TransferError;
use crate::{
    config::Config,
    data_dir::administrators_door,
    failure::{Failure, refused},
    runtime::clock::{monotonic_ms, pause},
};

/// How long the server may think about a command. A disk that is slow is waited for, a server that hangs is not.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long another session in the account is waited for; less than the server waits for a login.
const IN_USE_MS_MAX: u64 = 20_000;
/// How long between two looks whether it has gone.
const IN_USE_PAUSE: Duration = Duration::from_millis(20);
/// Octets that are read at once.
const READ_OCTETS: usize = 64 << 10;
/// What is in the store is taken, whatever the limit for new messages is; a literal of IMAP cannot be longer than this.
const LITERAL_OCTETS_MAX: u64 = u32::MAX as u64;

/// A conversation about one account.
pub(super) struct Door {
    stream: UnixStream,
    client: ImapClient,
    buffer: Vec<u8>,
}

impl Door {
    /// Opens the account with this address.
    ///
    /// # Errors
    /// [`Failure::NoServer`] when none runs; when we may not, or there is no such account.
    pub(super) fn open(config: &Config, address: &str) -> Result<Self, Failure> {
        let path = administrators_door(&config.data_dir);
        let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Failure::NoServer(format!("no server is running with data_dir {}", config.data_dir.display()))
            }
            ErrorKind::PermissionDenied => Failure::Refused(format!(
                "cannot use {}: {error}; run this as root or as the user of the server",
                path.display()
            )),
            _ => refused(format_args!("cannot use {}", path.display()))(error),
        })?;
        let patience = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        patience.map_err(refused(path.display()))?;
        let client = ImapClient::new(LITERAL_OCTETS_MAX);
        let mut door = Self { stream, client, buffer: vec![0; READ_OCTETS] };
        match door.event()? {
            Event::Greeting(greeting) if !greeting.refused => {}
            Event::Greeting(greeting) => return Err(Failure::Refused(format!("the server says: {}", greeting.text))),
            _ => return Err(Failure::Refused("the server does not greet".to_owned())),
        }
        let done = door.login(address)?;
        if done.outcome == Outcome::Ok {
            Ok(door)
        } else {
            Err(Failure::Refused(format!("account {address}: {}", done.text)))
        }
    }

    /// Becomes the account. A session that is still in it is waited for: when its client was killed, the server carries
    /// out what that had sent, and only then is it known what the account has.
    fn login(&mut self, address: &str) -> Result<Done, TransferError> {
        let began = monotonic_ms();
        loop {
            let tag = self.client.authenticate(Credentials::External { authorize_as: address.to_owned() });
            let done = self.run(tag, &mut |_| Ok(()))?;
            let in_use = done.code.as_ref().is_some_and(|code| code.name == "INUSE");
            if !in_use || monotonic_ms().saturating_sub(began) >= IN_USE_MS_MAX {
                return Ok(done);
            }
            pause(IN_USE_PAUSE);
        }
    }

    /// The client, to give a command to.
    pub(super) fn client(&mut self) -> &mut ImapClient {
        &mut self.client
    }

    /// Sends what was commanded and takes what the server tells until the command ends, however it does.
    ///
    /// # Errors
    /// When the connection breaks, or `take` fails.
    pub(super) fn run(
        &mut self,
        tag: Tag,
        take: &mut dyn FnMut(Untagged) -> Result<(), TransferError>,
    ) -> Result<Done, TransferError> {
        loop {
            match self.event()? {
                Event::Untagged(untagged) => take(untagged)?,
                Event::Done(done) if done.tag == tag => return Ok(done),
                Event::Done(_) | Event::Greeting(_) => {}
            }
        }
    }

    /// [`Self::run`], and an error when the command is refused.
    pub(super) fn ok(
        &mut self,
        what: &str,
        tag: Tag,
        take: &mut dyn FnMut(Untagged) -> Result<(), TransferError>,
    ) -> Result<Done, TransferError> {
        let done = self.run(tag, take)?;
        if done.outcome == Outcome::Ok { Ok(done) } else { Err(TransferError::stopped(what, done.text)) }
    }

    fn event(&mut self) -> Result<Event, TransferError> {
        let lost = |error| TransferError::stopped("the connection to the server", error);
        loop {
            if let Some(event) =
                self.client.event().map_err(|error| TransferError::stopped("the connection to the server", error))?
            {
                return Ok(event);
            }
            while let Some(octets) = self.client.output() {
                self.stream.write_all(&octets).map_err(lost)?;
            }
            let count = match self.stream.read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(lost(error)),
            };
            if count == 0 {
                return Err(lost(ErrorKind::UnexpectedEof.into()));
            }
            self.client.receive(Bytes::copy_from_slice(self.buffer.get(..count).unwrap_or_default()));
        }
    }
}
