//! Bringing messages back into an account of a running server, one at a time: what is there, the octets of a message
//! piece by piece, its place.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rockdove_engine::{
    AccountId, AppendMessage, Command, Engine, EngineError, InternalDate, MailboxId, MessageRecord, Outcome, Staging,
};
use rockdove_mail::{Flags, Keyword, MailboxName, SystemFlags};

use super::{
    execute::{Emit, Host},
    request::{MessagePlace, Reply},
};

/// Octets of a message that are read or sent at once: in base64 they fit into a request.
pub const PIECE_OCTETS: usize = 512 * 1024;

/// The message that is being brought back, and the number its sender gave it. There is one at a time.
#[derive(Default)]
pub(super) struct Incoming(Mutex<Option<(u64, Staging)>>);

/// Tells the BLAKE3 and the moment of every message of a mailbox; nothing when there is no such mailbox.
pub(super) fn digests(host: &Host, address: &str, mailbox: &str, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let engine = &host.engine;
    let found = account_of(engine, address).and_then(|account| Ok((account, mailbox_of(engine, account, mailbox)?)));
    let (account, id) = match found {
        Ok((account, Some(id))) => (account, id),
        Ok((_, None)) => return Ok(Ok(String::new())),
        Err(why) => return Ok(Err(why)),
    };
    let view = match engine.mailbox(account, id) {
        Ok(view) => view,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let uids = view.uids();
    for entry in view.entries(&uids) {
        let record = match engine.records_found(account, &[entry.message]) {
            Ok(mut records) => records.pop().flatten(),
            Err(error) => return Ok(Err(error.to_string())),
        };
        // Somebody has removed it since.
        let Some(record) = record else { continue };
        match digest(engine, account, &record) {
            Ok(blake3) => emit(Reply::Digest { blake3, unix_s: entry.internal_date.unix_s })?,
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    Ok(Ok(String::new()))
}

/// BLAKE3 of a message as a client sees it.
pub fn digest(engine: &Engine, account: AccountId, record: &MessageRecord) -> Result<String, EngineError> {
    let mut hasher = blake3::Hasher::new();
    pieces(engine, account, record, &mut |piece| {
        hasher.update(piece);
        Ok::<(), EngineError>(())
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A message as a client sees it, piece by piece; an empty one is one empty piece.
pub fn pieces<E: From<EngineError>>(
    engine: &Engine,
    account: AccountId,
    record: &MessageRecord,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut from: u64 = 0;
    loop {
        let to = record.size_bytes.min(from.saturating_add(PIECE_OCTETS as u64));
        take(&engine.read(account, record, from..to)?)?;
        from = to;
        if from >= record.size_bytes {
            return Ok(());
        }
    }
}

fn account_of(engine: &Engine, address: &str) -> Result<AccountId, String> {
    let directory = engine.directory();
    let account = directory.account_by_login(address).map(|account| account.id);
    account.ok_or_else(|| format!("account {address} does not exist; add it first, with `rockdove account add`"))
}

fn mailbox_of(engine: &Engine, account: AccountId, name: &str) -> Result<Option<MailboxId>, String> {
    let name = MailboxName::new(name).map_err(|error| format!("{name} cannot be a mailbox: {error}"))?;
    let list = engine.mailboxes(account).map_err(|error| error.to_string())?;
    Ok(list.by_name(&name).map(|mailbox| mailbox.id))
}

/// Takes the next piece of message `number`; `first` begins it.
pub(super) fn octets(host: &Host, number: u64, first: bool, octets: &str) -> Result<String, String> {
    let octets = STANDARD.decode(octets).map_err(|error| format!("not base64: {error}"))?;
    let mut incoming = host.incoming.0.lock().unwrap_or_else(PoisonError::into_inner);
    if first {
        *incoming = Some((number, host.engine.stage()));
    }
    match &mut *incoming {
        Some((known, staging)) if *known == number => {
            staging.write(&octets).map(|()| String::new()).map_err(|error| error.to_string())
        }
        _ => Err("another restore is at work; wait for it to end".to_owned()),
    }
}

/// Puts message `number` in its place; durable when this returns.
pub(super) fn message(host: &Host, number: u64, place: &MessagePlace) -> Result<String, String> {
    let incoming = host.incoming.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let staging = match incoming {
        Some((known, staging)) if known == number => staging,
        _ => return Err("another restore is at work; wait for it to end".to_owned()),
    };
    let account = account_of(&host.engine, &place.address)?;
    let said = |error: EngineError| error.to_string();
    let message = staging.finish().map_err(said)?;
    let mailbox = match mailbox_of(&host.engine, account, &place.mailbox)? {
        Some(mailbox) => mailbox,
        None => make_mailbox(host, account, &place.mailbox)?,
    };
    let internal_date = InternalDate { unix_s: place.unix_s, offset_minutes: place.offset_minutes };
    let messages = vec![AppendMessage { message, flags: flags_of(&place.flags)?, internal_date }];
    host.run(Command::Append { account, mailbox, messages }).map(|_| String::new()).map_err(said)
}

fn make_mailbox(host: &Host, account: AccountId, name: &str) -> Result<MailboxId, String> {
    let name = MailboxName::new(name).map_err(|error| format!("{name} cannot be a mailbox: {error}"))?;
    let made = host.run(Command::CreateMailbox { account, name: name.clone(), special_use: None });
    let Outcome::Mailbox(mailbox) = made.map_err(|error| error.to_string())? else {
        return Err("the answer to another question".to_owned());
    };
    // So that the user's client shows it.
    let subscribed = host.run(Command::Subscribe { account, name, subscribed: true });
    subscribed.map(|_| mailbox).map_err(|error| error.to_string())
}

fn flags_of(names: &[String]) -> Result<Flags, String> {
    let mut flags = Flags::default();
    for name in names {
        if let Some(flag) = SystemFlags::from_name(name) {
            flags.system = flags.system.union(flag);
        } else {
            flags.keywords.push(Keyword::new(name).ok_or_else(|| format!("{name} cannot be a flag"))?);
        }
    }
    Ok(flags)
}

/// The names of flags, as [`MessagePlace`] has them.
pub fn names_of(flags: &Flags) -> Vec<String> {
    let system = SystemFlags::NAMES.iter().filter(|(flag, _)| flags.system.contains(*flag));
    let system = system.map(|(_, name)| (*name).to_owned());
    system.chain(flags.keywords.iter().map(|keyword| keyword.as_str().to_owned())).collect()
}
