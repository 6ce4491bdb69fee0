//! A connection of the IMAP client that blocks: one command after the other, or several at once.

use std::{
    io::{Read, Write},
    mem,
};

use bytes::Bytes;
use rockdove_imap::client::{Done, Event, ImapClient, Outcome, Tag, Untagged};

use super::TransferError;

/// Octets read at a time.
const READ_OCTETS: usize = 64 * 1024;

/// What carries a connection.
pub(super) trait Carrier: Read + Write + Send {}

impl<T: Read + Write + Send> Carrier for T {}

/// A connection that has been greeted.
pub(super) struct Connection {
    /// The client's side: begin commands here, then [`Connection::finish`] them.
    pub(super) client: ImapClient,
    carrier: Box<dyn Carrier>,
    /// Who is at the other end, for people.
    place: String,
    buffer: Vec<u8>,
    early: Vec<Done>,
}

impl Connection {
    /// Waits for the greeting. Literals of more than `literal_octets_max` octets are passed over.
    pub(super) fn greeted(
        carrier: Box<dyn Carrier>,
        place: &str,
        literal_octets_max: u64,
    ) -> Result<(Self, bool), TransferError> {
        let client = ImapClient::new(literal_octets_max);
        let buffer = vec![0; READ_OCTETS];
        let mut connection = Self { client, carrier, place: place.to_owned(), buffer, early: Vec::new() };
        match connection.event()? {
            Event::Greeting(greeting) if !greeting.refused => Ok((connection, greeting.authenticated)),
            Event::Greeting(greeting) => Err(connection.stopped(format!("the server refuses: {}", greeting.text))),
            event => Err(connection.stopped(format!("a greeting was expected, not {event:?}"))),
        }
    }

    /// Ends the life of this connection in clear: `encrypt` makes what carries the encrypted one. What the server said
    /// in clear is forgotten.
    pub(super) fn encrypted(
        mut self,
        encrypt: impl FnOnce() -> Result<Box<dyn Carrier>, TransferError>,
    ) -> Result<Self, TransferError> {
        self.client.tls_begins();
        self.carrier = encrypt()?;
        Ok(self)
    }

    /// Goes on until this command has ended, and hands on what is told meanwhile.
    pub(super) fn finish(
        &mut self,
        tag: Tag,
        mut told: impl FnMut(Untagged) -> Result<(), TransferError>,
    ) -> Result<Done, TransferError> {
        if let Some(place) = self.early.iter().position(|done| done.tag == tag) {
            return Ok(self.early.swap_remove(place));
        }
        loop {
            match self.event()? {
                Event::Untagged(untagged) => told(untagged)?,
                Event::Done(done) if done.tag == tag => return Ok(done),
                Event::Done(done) => self.early.push(done),
                Event::Greeting(_) => {}
            }
        }
    }

    /// As [`Self::finish`], for a command that has to succeed.
    pub(super) fn succeed(
        &mut self,
        tag: Tag,
        told: impl FnMut(Untagged) -> Result<(), TransferError>,
    ) -> Result<Done, TransferError> {
        let done = self.finish(tag, told)?;
        if done.outcome == Outcome::Ok { Ok(done) } else { Err(self.stopped(done.text)) }
    }

    /// An error of this connection.
    pub(super) fn stopped(&self, why: impl std::fmt::Display) -> TransferError {
        TransferError::stopped(&self.place, why)
    }

    fn event(&mut self) -> Result<Event, TransferError> {
        loop {
            while let Some(octets) = self.client.output() {
                self.carrier.write_all(&octets).map_err(|error| TransferError::stopped(&self.place, error))?;
            }
            let event = self.client.event();
            if let Some(event) = event.map_err(|error| TransferError::stopped(&self.place, error))? {
                return Ok(event);
            }
            // An event may have permitted the next part of a command.
            if let Some(octets) = self.client.output() {
                self.carrier.write_all(&octets).map_err(|error| TransferError::stopped(&self.place, error))?;
                continue;
            }
            self.carrier.flush().map_err(|error| TransferError::stopped(&self.place, error))?;
            let mut buffer = mem::take(&mut self.buffer);
            let count = self.carrier.read(&mut buffer);
            match count {
                Ok(0) => return Err(self.stopped("the server closed the connection")),
                Ok(count) => self.client.receive(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.stopped(error)),
            }
            self.buffer = buffer;
        }
    }
}
