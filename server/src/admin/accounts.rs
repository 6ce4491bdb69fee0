//! Adding accounts: hashing their passwords on every core, and committing them in groups.

use std::io;

use crossbeam::channel::{Receiver, bounded};
use rockdove_engine::{
    Command, Credential, EngineError,
    directory::{PASSWORD_OCTETS_MAX, hash_password},
};

use super::{
    execute::{Emit, Host},
    request::{NewAccount, Reply},
};
use crate::runtime::{clock, process, storage::StoragePool};

/// Accounts in one request: with the longest addresses and passwords, still within
/// [`crate::runtime::control::REQUEST_OCTETS_MAX`].
pub const IMPORT_BATCH_MAX: usize = 100;

/// Why a password cannot be used.
pub fn password_problem(password: &str) -> Option<String> {
    if password.is_empty() {
        return Some("the password is empty".to_owned());
    }
    if password.len() > PASSWORD_OCTETS_MAX {
        return Some(format!("the password has more than {PASSWORD_OCTETS_MAX} octets"));
    }
    // SASL PLAIN (RFC 4616) ends a password with NUL, and the commands of POP3 and IMAP end at a line end.
    password.contains(['\0', '\r', '\n']).then(|| "the password has a line end or NUL in it".to_owned())
}

/// What is stored for a password. Takes some 30 ms.
pub(super) fn credential(password: &str) -> Result<Credential, String> {
    if let Some(problem) = password_problem(password) {
        return Err(problem);
    }
    let seed = clock::seed().map_err(|error| format!("no randomness: {error}"))?;
    let (mut salt, mut scram_salt) = ([0; 16], [0; 16]);
    salt.copy_from_slice(&seed[..16]);
    scram_salt.copy_from_slice(&seed[16..]);
    Ok(hash_password(password, salt, scram_salt))
}

/// Adds accounts; each that cannot be is told, with the reason.
pub(super) fn add(host: &Host, accounts: Vec<NewAccount>, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    if accounts.len() > IMPORT_BATCH_MAX {
        return Ok(Err(format!("at most {IMPORT_BATCH_MAX} accounts in one request")));
    }
    let addresses: Vec<String> = accounts.iter().map(|account| account.address.clone()).collect();
    let outcomes = match hash_all(accounts) {
        Ok(hashed) => commit_all(host, hashed),
        Err(error) => return Ok(Err(format!("cannot hash passwords now: {error}"))),
    };
    let mut added = 0;
    let last = addresses.last().cloned().unwrap_or_default();
    for (address, outcome) in addresses.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => added += 1,
            Err(why) => emit(Reply::NotAdded { address, why })?,
        }
    }
    Ok(Ok(if added == 1 { format!("account {last} added") } else { format!("{added} accounts added") }))
}

type Hashed = (NewAccount, Result<Credential, String>);

/// Hashes every password, in the order given.
fn hash_all(accounts: Vec<NewAccount>) -> io::Result<Vec<Hashed>> {
    if let [_] = accounts.as_slice() {
        return Ok(accounts.into_iter().map(hash).collect());
    }
    let pool = StoragePool::start(process::cores())?;
    let jobs: Vec<Receiver<Hashed>> = accounts.into_iter().map(|account| hash_on(&pool, account)).collect();
    let hashed = jobs.iter().map(|job| job.recv().map_err(io::Error::other)).collect();
    pool.stop();
    hashed
}

fn hash(account: NewAccount) -> Hashed {
    let credential = credential(&account.password.0);
    (account, credential)
}

fn hash_on(pool: &StoragePool, account: NewAccount) -> Receiver<Hashed> {
    let (sender, receiver) = bounded(1);
    // A job that was not taken drops its sender, which the receiver notices. One that is not waited for is not missed.
    let queued = pool.run(move || sender.send(hash(account)).unwrap_or_default());
    if let Err(busy) = queued {
        tracing::debug!(%busy, "a password was not hashed");
    }
    receiver
}

/// Submits all and waits for all, so that they share syncs.
fn commit_all(host: &Host, hashed: Vec<Hashed>) -> Vec<Result<(), String>> {
    let now_unix_s = clock::now().unix_s;
    let mut waiting = Vec::with_capacity(hashed.len());
    for (account, credential) in hashed {
        let (sender, receiver) = bounded(1);
        match credential {
            Ok(credential) => {
                let NewAccount { address, quota_bytes, .. } = account;
                let command = Command::CreateAccount { address, credential, quota_bytes };
                let done = move |outcome: Result<_, EngineError>| {
                    let outcome = outcome.map(drop).map_err(|error| format!("{error}{}", advice(&error)));
                    sender.send(outcome).unwrap_or_default();
                };
                host.engine.submit(now_unix_s, command, Box::new(done));
            }
            Err(why) => sender.send(Err(why)).unwrap_or_default(),
        }
        waiting.push(receiver);
    }
    waiting.iter().map(|receiver| wait(host, receiver)).collect()
}

/// Commits until the answer is there; beside a committer thread it only waits a little.
fn wait(host: &Host, answer: &Receiver<Result<(), String>>) -> Result<(), String> {
    loop {
        host.engine.commit_pending(std::time::Duration::ZERO);
        match answer.recv_timeout(std::time::Duration::from_millis(1)) {
            Ok(outcome) => return outcome,
            Err(timeout) if timeout.is_timeout() => {}
            Err(_) => return Err("the answer was lost".to_owned()),
        }
    }
}

fn advice(error: &EngineError) -> &'static str {
    match error {
        EngineError::NotFound(_) => "; add the domain first with `rockdove domain add`",
        EngineError::Exists(_) => "; `rockdove account password` changes the password of an account",
        _ => "",
    }
}
