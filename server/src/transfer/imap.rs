//! Mail from another server, by IMAP, over several connections.
//!
//! First one connection lists the mailboxes and the UIDs in them; then each connection takes pieces of that list from the
//! front and fetches their messages. What [`Noted`] knows to be safe is not fetched. What the server does not give is
//! told, message by message; a connection that breaks is made anew and goes on where it was.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam::channel::{Receiver, Sender, bounded};
use rockdove_imap::{
    client::{Body, Fetched, Untagged},
    grammar::write,
};
use rockdove_mail::{Uid, UidSet};

use super::{
    InternalDate, Item, Place, Places, Source, SourceMailbox, Total, TransferError,
    connection::Connection,
    date_of_header,
    dial::{self, Server},
    noted::{Noted, place_of},
    remote::{self, Mailbox},
    too_large,
};
use crate::runtime::storage::StoragePool;

/// Messages that are asked for at once: a command of moderate length, and not too much to be asked for again.
const MESSAGES_AT_ONCE: usize = 100;
/// Connections made anew for one piece before it is given up.
const RETRIES_MAX: u32 = 3;

/// What is to be pulled.
pub struct ImapSettings {
    /// Where from.
    pub server: Server,
    /// Connections at the same time, at least one.
    pub parallel: usize,
    /// Mailboxes to be pulled, their levels joined by `/`; all when there are none.
    pub only: Vec<String>,
    /// Mailboxes to be left out, with those below them.
    pub exclude: Vec<String>,
    /// Where what is done is noted.
    pub state_file: PathBuf,
}

/// Another server as a source.
pub struct ImapSource {
    mailboxes: Vec<SourceMailbox>,
    total: Total,
    remote: Arc<[Mailbox]>,
    noted: Noted,
    /// What was given and is not settled: mailbox and UID.
    given: VecDeque<(usize, Uid)>,
    settled: u64,
    /// What could not even be listed, to be told first.
    troubles: VecDeque<TransferError>,
    arriving: Option<Receiver<Arrival>>,
    pool: StoragePool,
}

/// What a connection hands over.
enum Arrival {
    Message { mailbox: usize, uid: Uid, item: Item },
    Trouble(TransferError),
}

/// Messages of one mailbox that are fetched together.
struct Piece {
    mailbox: usize,
    uids: UidSet,
}

/// What all connections share.
struct Work {
    server: Server,
    remote: Arc<[Mailbox]>,
    pieces: Mutex<VecDeque<Piece>>,
}

impl ImapSource {
    /// Logs in, lists what is there, and begins to fetch what is not noted as safe; `place` tells how far the mailbox
    /// of the target is that one of the source goes to.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the login, or does not tell what it has.
    pub fn open(
        settings: ImapSettings,
        place: &dyn Fn(&SourceMailbox) -> Option<Place>,
    ) -> Result<Self, TransferError> {
        let ImapSettings { server, parallel, only, exclude, state_file } = settings;
        let mut noted = Noted::read(&state_file, &server.to_string())?;
        let mut connection = dial::connect(&server)?;
        let listed = remote::list(&mut connection)?;
        let wanted = |mailbox: &SourceMailbox| {
            let shown = mailbox.levels.join("/");
            (only.is_empty() || only.iter().any(|name| is_named(&shown, name)))
                && !exclude.iter().any(|name| is_at_or_below(&shown, name))
        };
        let listed: Vec<_> = listed.into_iter().filter(|(mailbox, _)| wanted(mailbox)).collect();
        let (mut pieces, mut remote, mut total) = (VecDeque::new(), Vec::new(), (0, 0));
        let mut troubles = VecDeque::new();
        for (mailbox, wire_name) in listed.iter().filter(|(mailbox, _)| mailbox.selectable) {
            let (opened, sizes) = match remote::enumerate(&mut connection, mailbox, wire_name)? {
                Ok(enumerated) => enumerated,
                Err(refusal) => {
                    let why = format!("the server does not let us in: {refusal}");
                    troubles.push_back(TransferError::passed_over(mailbox.levels.join("/"), why));
                    continue;
                }
            };
            let done = noted.done(wire_name, opened.uid_validity, place(mailbox));
            let wanted: Vec<(Uid, u64)> = sizes.into_iter().filter(|(uid, _)| !done.contains(*uid)).collect();
            total.0 += wanted.len() as u64;
            total.1 += wanted.iter().map(|(_, size)| *size).sum::<u64>();
            pieces.extend(
                wanted
                    .chunks(MESSAGES_AT_ONCE)
                    .map(|piece| Piece { mailbox: remote.len(), uids: piece.iter().map(|(uid, _)| *uid).collect() }),
            );
            remote.push(opened);
        }
        let remote: Arc<[Mailbox]> = remote.into();
        let work = Arc::new(Work { server, remote: Arc::clone(&remote), pieces: Mutex::new(pieces) });
        let (pool, arriving) = start(&work, parallel.max(1), connection)?;
        Ok(Self {
            mailboxes: listed.into_iter().map(|(mailbox, _)| mailbox).collect(),
            total: Total { messages: Some(total.0), octets: Some(total.1) },
            remote,
            noted,
            given: VecDeque::new(),
            settled: 0,
            troubles,
            arriving: Some(arriving),
            pool,
        })
    }
}

/// Whether a mailbox has this name, INBOX in any case.
fn is_named(shown: &str, name: &str) -> bool {
    shown == name || shown == "INBOX" && name.eq_ignore_ascii_case("INBOX")
}

/// Whether a mailbox has this name or is below the one that has it.
fn is_at_or_below(shown: &str, name: &str) -> bool {
    is_named(shown, name) || shown.strip_prefix(name).is_some_and(|below| below.starts_with('/'))
}

/// Starts the connections; the first is the one that is open.
fn start(
    work: &Arc<Work>,
    parallel: usize,
    first: Connection,
) -> Result<(StoragePool, Receiver<Arrival>), TransferError> {
    let refused = |error: &dyn std::fmt::Display| TransferError::stopped("this machine", error);
    let pool = StoragePool::start(parallel).map_err(|error| refused(&error))?;
    // As many messages wait as there are connections, so memory is bounded by both and the size of a message.
    let (sender, arriving) = bounded(parallel);
    let mut first = Some(first);
    for _ in 0..parallel {
        let (work, sender, first) = (Arc::clone(work), sender.clone(), first.take());
        pool.run(move || work.run(first, &sender)).map_err(|error| refused(&error))?;
    }
    Ok((pool, arriving))
}

impl Work {
    /// Fetches pieces until there are none, or nobody wants them.
    fn run(&self, mut connection: Option<Connection>, sender: &Sender<Arrival>) {
        let mut open = None;
        loop {
            let piece = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(Piece { mailbox, mut uids }) = piece else { return };
            let mut failures = 0;
            while !uids.is_empty() {
                let Err(error) = self.fetch(&mut connection, &mut open, mailbox, &mut uids, sender) else { break };
                (connection, open) = (None, None);
                failures += 1;
                if failures > RETRIES_MAX {
                    // The next ones would fail as well; who goes on later begins here. Nobody may be there to hear it.
                    sender.send(Arrival::Trouble(error)).unwrap_or_default();
                    return;
                }
            }
        }
    }

    /// Fetches the messages of these UIDs, and takes out of them what has been handed over.
    fn fetch(
        &self,
        connection: &mut Option<Connection>,
        open: &mut Option<usize>,
        mailbox: usize,
        uids: &mut UidSet,
        sender: &Sender<Arrival>,
    ) -> Result<(), TransferError> {
        let Some(from) = self.remote.get(mailbox) else { return Ok(()) };
        let mut live = match connection.take() {
            Some(live) => live,
            None => dial::connect(&self.server)?,
        };
        if *open != Some(mailbox) {
            let uid_validity = remote::examine(&mut live, &from.wire_name)?.uid_validity;
            if uid_validity != from.uid_validity {
                let why = "the mailbox was made anew while it was read; begin again";
                return Err(TransferError::stopped(from.shown(), why));
            }
            *open = Some(mailbox);
        }
        let mut set = Vec::new();
        write::uid_set(&mut set, uids);
        let set = String::from_utf8_lossy(&set).into_owned();
        let tag = live.client.uid_fetch(&set, "UID FLAGS INTERNALDATE BODY.PEEK[]");
        let done = live.finish(tag, |untagged| {
            let Untagged::Fetch(Fetched { uid: Some(uid), flags, internal_date, body: Some(body), .. }) = untagged
            else {
                return Ok(());
            };
            if !uids.contains(uid) {
                return Ok(());
            }
            uids.remove(uid);
            let arrival = self.arrival(mailbox, from, uid, (flags, internal_date, body));
            sender.send(arrival).map_err(|_| TransferError::stopped(from.shown(), "nobody takes the messages"))
        })?;
        for uid in uids.iter() {
            let why = format!("the server did not give it: {}", done.text);
            let trouble = TransferError::passed_over(format!("{}, UID {uid}", from.shown()), why);
            sender.send(Arrival::Trouble(trouble)).map_err(|_| TransferError::stopped("here", "nobody listens"))?;
        }
        *uids = UidSet::new();
        *connection = Some(live);
        Ok(())
    }

    fn arrival(
        &self,
        mailbox: usize,
        from: &Mailbox,
        uid: Uid,
        (flags, internal_date, body): (Option<Vec<String>>, Option<(i64, i16)>, Body),
    ) -> Arrival {
        let passed_over =
            |why: String| Arrival::Trouble(TransferError::passed_over(format!("{}, UID {uid}", from.shown()), why));
        let octets = match body {
            Body::Octets(octets) => octets,
            Body::TooLarge(octets) => {
                let most = usize::try_from(self.server.message_octets_max).unwrap_or(usize::MAX);
                return passed_over(too_large(octets, most));
            }
            Body::Absent => return passed_over("the server has it in its list, but does not give it".to_owned()),
        };
        let told = internal_date.map(|(unix_s, offset_minutes)| InternalDate { unix_s, offset_minutes });
        let internal_date = told.or_else(|| date_of_header(&octets));
        let Some(internal_date) = internal_date else {
            return passed_over("nobody tells when it came: no INTERNALDATE, no Date".to_owned());
        };
        let mut flags = flags.unwrap_or_default();
        flags.retain(|flag| !flag.eq_ignore_ascii_case("\\Recent"));
        let item = Item { mailbox: from.levels.clone(), flags, internal_date, octets };
        Arrival::Message { mailbox, uid, item }
    }
}

impl Source for ImapSource {
    fn next(&mut self) -> Result<Option<Item>, TransferError> {
        if let Some(trouble) = self.troubles.pop_front() {
            return Err(trouble);
        }
        match self.arriving.as_ref().and_then(|arriving| arriving.recv().ok()) {
            Some(Arrival::Message { mailbox, uid, item }) => {
                self.given.push_back((mailbox, uid));
                Ok(Some(item))
            }
            Some(Arrival::Trouble(error)) => Err(error),
            None => Ok(None),
        }
    }

    fn total(&self) -> Option<Total> {
        Some(self.total)
    }

    fn mailboxes(&self) -> Vec<SourceMailbox> {
        self.mailboxes.clone()
    }

    fn settled(&mut self, given: u64, places: &Places) -> Result<(), TransferError> {
        let count = usize::try_from(given.saturating_sub(self.settled)).unwrap_or(usize::MAX).min(self.given.len());
        let mut uids: Vec<UidSet> = vec![UidSet::new(); self.remote.len()];
        for (mailbox, uid) in self.given.drain(..count) {
            if let Some(uids) = uids.get_mut(mailbox) {
                uids.insert(uid);
            }
        }
        self.settled += count as u64;
        for (mailbox, uids) in self.remote.iter().zip(&uids).filter(|(_, uids)| !uids.is_empty()) {
            // Where the target does not tell what it has, the messages are looked at again next time.
            if let Some(place) = place_of(places, &mailbox.levels) {
                self.noted.add(&mailbox.wire_name, mailbox.uid_validity, uids, place);
            }
        }
        if count > 0 { self.noted.write() } else { Ok(()) }
    }
}

impl Drop for ImapSource {
    fn drop(&mut self) {
        // The connections find that nobody takes what they bring, and end.
        self.arriving = None;
        self.pool.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_mailboxes_and_what_is_below() {
        assert!(is_named("INBOX", "inbox") && !is_named("Lists/rust", "Lists") && !is_named("lists", "Lists"));
        assert!(is_at_or_below("INBOX", "inbox") && is_at_or_below("Lists/rust", "Lists"));
        assert!(!is_at_or_below("Lists2", "Lists") && !is_at_or_below("Lists", "Lists/rust"));
    }
}
