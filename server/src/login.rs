//! Who may log in: passwords, and those who guess them.
//!
//! A password is checked on threads of its own, because argon2 takes some 20 ms of a core. One that was right is
//! remembered for a while as a keyed hash under a key of this start, so that the many connections of a client cost
//! argon2 once. Guessers are slowed down by address and by login; what is remembered still opens then, so that nobody
//! is locked out of their own running client by a stranger.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ring::hmac;
use rockdove_engine::{
    AccountId, Credential,
    directory::{PASSWORD_OCTETS_MAX, SCRAM_ITERATIONS, hash_password, verify_password},
};
use rockdove_mail::sasl::ScramKeys;

use crate::{
    config::LoginSettings,
    generations::Generations,
    runtime::{clock, storage::StoragePool},
};

/// Octets of a login name: the longest address of RFC 5321 section 4.5.3.1 (64 + 1 + 255).
pub const LOGIN_OCTETS_MAX: usize = 320;
/// Checks that may wait for one thread: at 20 ms each, the last is answered after about a second.
pub const CHECKS_WAITING_PER_THREAD_MAX: usize = 64;
/// Remembered passwords, twice this at most: about 100 octets each.
pub const REMEMBERED_MAX: usize = 65_536;
/// Addresses and logins with failures that are kept in mind, twice this at most: about 64 octets each.
pub const TRIED_MAX: usize = 65_536;
/// Failures are forgotten when none was added for this long.
pub const FORGET_AFTER_MS: u64 = 15 * 60_000;
/// The first wait after too many failures; each further failure doubles it.
pub const WAIT_FIRST_MS: u64 = 1_000;
/// The longest wait of an address.
pub const WAIT_ADDRESS_MAX_MS: u64 = 5 * 60_000;
/// The longest wait for a login; short, because it also meets its owner at a new device.
pub const WAIT_LOGIN_MAX_MS: u64 = 30_000;

/// The answer to a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Right; this is the account.
    Ok(AccountId),
    /// Wrong, or nobody has this login.
    Refused,
    /// Too many failures before, or too many checks waiting.
    TryLater,
}

/// Finds the account of a login.
pub type Accounts = Box<dyn Fn(&str) -> Option<(AccountId, Credential)> + Send + Sync>;

/// Called once with the outcome, at once or from a thread of the pool.
pub type Done = Box<dyn FnOnce(LoginOutcome) + Send>;

/// Secrets of a login service.
pub struct LoginSecrets {
    /// Made anew at each start: the key of what is remembered.
    pub boot: [u8; 32],
    /// Kept for ever: the source of SCRAM salts for logins that do not exist, which must not change between two tries.
    pub kept: [u8; 32],
}

/// Checks passwords. Clones are handles to the same service.
#[derive(Clone)]
pub struct LoginService {
    shared: Arc<Shared>,
}

struct Shared {
    accounts: Accounts,
    pool: StoragePool,
    waiting_max: usize,
    boot: hmac::Key,
    kept: hmac::Key,
    nobody: Credential,
    remember_ms: u64,
    remembered: Mutex<Generations<[u8; 32], Remembered>>,
    tries: Mutex<Tries>,
}

#[derive(Clone, Copy)]
struct Remembered {
    account: AccountId,
    credential: [u8; 32],
    until_ms: u64,
}

impl LoginService {
    /// A service that checks on `pool`, which has `threads` threads and no other work.
    pub fn new(
        accounts: Accounts,
        pool: StoragePool,
        threads: usize,
        secrets: &LoginSecrets,
        settings: &LoginSettings,
    ) -> Self {
        let boot = hmac::Key::new(hmac::HMAC_SHA256, &secrets.boot);
        let kept = hmac::Key::new(hmac::HMAC_SHA256, &secrets.kept);
        // Nobody knows this password; its hash costs as much as anyone's.
        let unknown = hex(&tag(&boot, &[b"nobody"]));
        let nobody = hash_password(&unknown, [0x5a; 16], [0xa5; 16]);
        let shared = Shared {
            accounts,
            pool,
            waiting_max: threads.max(1) * CHECKS_WAITING_PER_THREAD_MAX,
            boot,
            kept,
            nobody,
            remember_ms: settings.remember.ms,
            remembered: Mutex::new(Generations::new(REMEMBERED_MAX)),
            tries: Mutex::new(Tries::new(settings.failures_per_address, settings.failures_per_login)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Changes how many failures are free, from now on.
    pub fn change(&self, settings: &LoginSettings) {
        let mut tries = self.shared.tries();
        tries.free_per_address = settings.failures_per_address;
        tries.free_per_login = settings.failures_per_login;
    }

    /// Checks a password and calls `done` once: at once when the answer is known, else from a thread of the pool. A
    /// login that does not exist takes as long as a wrong password.
    pub fn check(&self, peer: Option<IpAddr>, login: &str, password: &str, done: Done) {
        let shared = &self.shared;
        let now_ms = clock::monotonic_ms();
        let name = folded(login);
        if login.len() > LOGIN_OCTETS_MAX || password.len() > PASSWORD_OCTETS_MAX {
            shared.tries().failed(peer, &name, now_ms);
            return finish(LoginOutcome::Refused, done);
        }
        if shared.tries().address_waits(peer, now_ms) {
            return finish(LoginOutcome::TryLater, done);
        }
        let found = (shared.accounts)(login);
        if let Some(account) = shared.recall(found.as_ref(), password, now_ms) {
            return finish(LoginOutcome::Ok(account), done);
        }
        if shared.tries().login_waits(&name, now_ms) || shared.pool.waiting() >= shared.waiting_max {
            return finish(LoginOutcome::TryLater, done);
        }
        // Kept in a cell that both the job and the refusal of the pool can empty.
        let done = Arc::new(Mutex::new(Some(done)));
        let (job_shared, job_done) = (Arc::clone(shared), Arc::clone(&done));
        let password = password.to_owned();
        let busy = shared.pool.run(move || {
            let outcome = job_shared.verify(peer, &name, found, &password);
            wipe(password);
            finish_once(outcome, &job_done);
        });
        if busy.is_err() {
            finish_once(LoginOutcome::TryLater, &done);
        }
    }

    /// SCRAM keys of a login. One that does not exist, or has to wait, gets keys that nothing proves, always the same.
    pub fn scram(&self, peer: Option<IpAddr>, login: &str) -> ScramKeys {
        let shared = &self.shared;
        let now_ms = clock::monotonic_ms();
        let name = folded(login);
        let waits = {
            let tries = shared.tries();
            tries.address_waits(peer, now_ms) || tries.login_waits(&name, now_ms)
        };
        // Looked up in every case, so that the time taken does not tell.
        let found = (shared.accounts)(login);
        let made_up = |what: &[u8]| tag(&shared.kept, &[what, name.as_bytes()]);
        let salt = made_up(b"scram salt");
        match found {
            Some((_, credential)) if !waits => ScramKeys {
                salt: credential.scram_salt,
                iterations: credential.scram_iterations,
                stored_key: credential.scram_stored_key,
                server_key: credential.scram_server_key,
            },
            Some((_, credential)) => ScramKeys {
                salt: credential.scram_salt,
                iterations: credential.scram_iterations,
                stored_key: made_up(b"scram stored key"),
                server_key: made_up(b"scram server key"),
            },
            None => ScramKeys {
                salt: salt[..16].to_vec(),
                iterations: SCRAM_ITERATIONS,
                stored_key: made_up(b"scram stored key"),
                server_key: made_up(b"scram server key"),
            },
        }
    }

    /// The account of a login, if there is one.
    pub fn account(&self, login: &str) -> Option<AccountId> {
        (self.shared.accounts)(login).map(|(account, _)| account)
    }

    /// Counts a failure that happened elsewhere: a SCRAM proof that was wrong.
    pub fn failed(&self, peer: Option<IpAddr>, login: &str) {
        let name = folded(login);
        self.shared.tries().failed(peer, &name, clock::monotonic_ms());
        tracing::info!(login = name, peer = peer.map(tracing::field::display), "login refused");
        count(LoginOutcome::Refused);
    }

    /// Notes that a SCRAM proof was right.
    pub fn succeeded(&self, peer: Option<IpAddr>, login: &str) {
        self.shared.tries().succeeded(peer, &folded(login));
        metrics::counter!("rockdove_logins_total", "result" => "ok").increment(1);
    }

    /// Finishes the checks that wait and ends the threads.
    pub fn stop(&self) {
        self.shared.pool.stop();
    }
}

impl Shared {
    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> MutexGuard<'_, Generations<[u8; 32], Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a right password is remembered by. A keyed hash is looked up, so the time of the search tells nothing.
    fn token(&self, account: AccountId, password: &str) -> [u8; 32] {
        tag(&self.boot, &[b"password", &account.0.to_be_bytes(), password.as_bytes()])
    }

    fn recall(&self, found: Option<&(AccountId, Credential)>, password: &str, now_ms: u64) -> Option<AccountId> {
        let (account, credential) = found?;
        let known = self.remembered().get(&self.token(*account, password))?;
        // Another password since then makes what was remembered worthless.
        let same = known.credential == tag(&self.boot, &[b"credential", credential.argon2.as_bytes()]);
        (same && known.account == *account && now_ms < known.until_ms).then_some(*account)
    }

    /// Runs on a thread of the pool.
    fn verify(
        &self,
        peer: Option<IpAddr>,
        name: &str,
        found: Option<(AccountId, Credential)>,
        password: &str,
    ) -> LoginOutcome {
        let now_ms = clock::monotonic_ms();
        // Much may have happened while this waited: the same password found right, or too many found wrong.
        if let Some(account) = self.recall(found.as_ref(), password, now_ms) {
            return LoginOutcome::Ok(account);
        }
        {
            let tries = self.tries();
            if tries.address_waits(peer, now_ms) || tries.login_waits(name, now_ms) {
                return LoginOutcome::TryLater;
            }
        }
        let right = verify_password(found.as_ref().map_or(&self.nobody, |(_, credential)| credential), password);
        match found {
            Some((account, credential)) if right => {
                self.tries().succeeded(peer, name);
                if self.remember_ms > 0 {
                    let known = Remembered {
                        account,
                        credential: tag(&self.boot, &[b"credential", credential.argon2.as_bytes()]),
                        until_ms: now_ms.saturating_add(self.remember_ms),
                    };
                    let token = self.token(account, password);
                    self.remembered().put(token, known);
                }
                LoginOutcome::Ok(account)
            }
            _ => {
                self.tries().failed(peer, name, clock::monotonic_ms());
                tracing::info!(login = name, peer = peer.map(tracing::field::display), "login refused");
                LoginOutcome::Refused
            }
        }
    }
}

/// How a login is compared, near enough for counting and for made-up keys.
fn folded(login: &str) -> String {
    let cut = login.char_indices().nth(LOGIN_OCTETS_MAX).map_or(login.len(), |(at, _)| at);
    login.get(..cut).unwrap_or(login).to_lowercase()
}

fn finish(outcome: LoginOutcome, done: Done) {
    count(outcome);
    done(outcome);
}

fn finish_once(outcome: LoginOutcome, done: &Mutex<Option<Done>>) {
    let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(done) = done {
        finish(outcome, done);
    }
}

fn count(outcome: LoginOutcome) {
    let result = match outcome {
        LoginOutcome::Ok(_) => "ok",
        LoginOutcome::Refused => "refused",
        LoginOutcome::TryLater => "later",
    };
    metrics::counter!("rockdove_logins_total", "result" => result).increment(1);
}

/// Keyed hash of pieces, each with its length before it, so that no two lists of pieces look the same.
fn tag(key: &hmac::Key, pieces: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_be_bytes());
        context.update(piece);
    }
    <[u8; 32]>::try_from(context.sign().as_ref()).unwrap_or_default()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}

/// Leaves no copy of a password behind where it can be helped.
fn wipe(password: String) {
    let mut octets = password.into_bytes();
    octets.fill(0);
    std::hint::black_box(&octets);
}

/// Failures of one address or login.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    last_ms: u64,
    waits_until_ms: u64,
}

impl Failures {
    fn add(self, now_ms: u64, free: u32, wait_max_ms: u64) -> Self {
        let forgotten = now_ms.saturating_sub(self.last_ms) > FORGET_AFTER_MS;
        let count = if forgotten { 1 } else { self.count.saturating_add(1) };
        let over = count.saturating_sub(free);
        let wait_ms = match over {
            0 => 0,
            over => WAIT_FIRST_MS.checked_shl(over - 1).unwrap_or(u64::MAX).clamp(WAIT_FIRST_MS, wait_max_ms),
        };
        Self { count, last_ms: now_ms, waits_until_ms: now_ms.saturating_add(wait_ms) }
    }
}

/// Who failed how often.
struct Tries {
    free_per_address: u32,
    free_per_login: u32,
    addresses: Generations<IpAddr, Failures>,
    logins: Generations<String, Failures>,
}

impl Tries {
    fn new(free_per_address: u32, free_per_login: u32) -> Self {
        let (addresses, logins) = (Generations::new(TRIED_MAX), Generations::new(TRIED_MAX));
        Self { free_per_address, free_per_login, addresses, logins }
    }

    /// What is counted for an address: one /64 is one customer. This machine is not counted: there sit our own proxies
    /// and tools, and all their users.
    fn counted(peer: Option<IpAddr>) -> Option<IpAddr> {
        let address = peer?.to_canonical();
        if address.is_loopback() {
            return None;
        }
        Some(match address {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    fn address_waits(&self, peer: Option<IpAddr>, now_ms: u64) -> bool {
        let failures = Self::counted(peer).and_then(|address| self.addresses.get(&address));
        failures.is_some_and(|failures| now_ms < failures.waits_until_ms)
    }

    fn login_waits(&self, name: &str, now_ms: u64) -> bool {
        self.logins.get(name).is_some_and(|failures| now_ms < failures.waits_until_ms)
    }

    fn failed(&mut self, peer: Option<IpAddr>, name: &str, now_ms: u64) {
        if let Some(address) = Self::counted(peer) {
            let failures = self.addresses.get(&address).unwrap_or_default();
            self.addresses.put(address, failures.add(now_ms, self.free_per_address, WAIT_ADDRESS_MAX_MS));
        }
        let failures = self.logins.get(name).unwrap_or_default();
        self.logins.put(name.to_owned(), failures.add(now_ms, self.free_per_login, WAIT_LOGIN_MAX_MS));
    }

    /// The address keeps its count: one right password must not buy more guesses at others.
    fn succeeded(&mut self, _peer: Option<IpAddr>, name: &str) {
        self.logins.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().map(Some).expect("address")
    }

    #[test]
    fn failures_make_addresses_and_logins_wait_longer_and_longer() {
        let mut tries = Tries::new(3, 2);
        let guesser = address("192.0.2.1");
        for n in 0..3 {
            assert!(!tries.address_waits(guesser, 0), "{n}");
            tries.failed(guesser, &format!("user{n}"), 0);
        }
        assert!(!tries.address_waits(guesser, 0));
        tries.failed(guesser, "anna", 0);
        assert!(tries.address_waits(guesser, WAIT_FIRST_MS - 1));
        assert!(!tries.address_waits(guesser, WAIT_FIRST_MS));
        for _ in 0..40 {
            tries.failed(guesser, "anna", 1_000);
        }
        assert!(tries.address_waits(guesser, 1_000 + WAIT_ADDRESS_MAX_MS - 1));
        assert!(!tries.address_waits(guesser, 1_000 + WAIT_ADDRESS_MAX_MS));
        assert!(tries.login_waits("anna", 1_000 + WAIT_LOGIN_MAX_MS - 1));
        assert!(!tries.login_waits("anna", 1_000 + WAIT_LOGIN_MAX_MS));
        assert!(!tries.login_waits("user1", 1_000), "others go free");
        assert!(!tries.address_waits(address("192.0.2.2"), 1_000), "others go free");
        tries.failed(guesser, "anna", 1_001 + FORGET_AFTER_MS);
        assert!(!tries.address_waits(guesser, 1_001 + FORGET_AFTER_MS), "old failures are forgotten");
        tries.failed(guesser, "bob", 0);
        tries.succeeded(guesser, "bob");
        assert!(tries.logins.get("bob").is_none());
    }

    #[test]
    fn neighbours_in_a_network_count_together_and_this_machine_does_not() {
        assert_eq!(Tries::counted(address("2001:db8::1")), Tries::counted(address("2001:db8::ffff:1")));
        assert_ne!(Tries::counted(address("2001:db8::1")), Tries::counted(address("2001:db8:0:1::1")));
        assert_eq!(Tries::counted(address("::ffff:192.0.2.1")), address("192.0.2.1"));
        for ours in [None, address("127.0.0.1"), address("::1"), address("::ffff:127.0.0.1")] {
            assert_eq!(Tries::counted(ours), None);
        }
    }
}
