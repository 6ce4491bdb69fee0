//! Passwords: what is stored of them, and how one is checked.

use std::num::NonZeroU32;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version, password_hash::phc::PasswordHash,
};
use ring::{digest, hmac, pbkdf2};

use crate::command::Credential;

/// Memory of one argon2id hash, in KiB. 19 MiB with two passes is what OWASP asks for at least; a login takes about
/// 20 ms of one core, which is why verified passwords are remembered for a short time elsewhere.
pub const ARGON2_MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const ARGON2_PASSES: u32 = 2;
/// Lanes of one hash: logins run side by side already.
pub const ARGON2_LANES: u32 = 1;
/// Octets of the hash.
pub const ARGON2_OUTPUT_OCTETS: usize = 32;
/// Iterations of SCRAM-SHA-256: RFC 7677 section 4 asks for 4,096 at least, and clients must repeat them at each login.
pub const SCRAM_ITERATIONS: u32 = 10_000;
/// Octets of a password that are looked at; a longer one is refused.
pub const PASSWORD_OCTETS_MAX: usize = 1_024;

/// What opens nothing: stored when a password cannot be hashed.
const LOCKED: &str = "!";

/// Makes what is stored for a password. `salt` and `scram_salt` are fresh random octets. A password longer than
/// [`PASSWORD_OCTETS_MAX`] yields a credential that no password opens.
pub fn hash_password(password: &str, salt: [u8; 16], scram_salt: [u8; 16]) -> Credential {
    let usable = password.len() <= PASSWORD_OCTETS_MAX;
    let argon2 = if usable { argon2_string(password, salt) } else { None };
    let (scram_stored_key, scram_server_key) = scram_keys(password, &scram_salt);
    Credential {
        argon2: argon2.unwrap_or_else(|| LOCKED.to_owned()),
        scram_salt: scram_salt.to_vec(),
        scram_iterations: SCRAM_ITERATIONS,
        scram_stored_key,
        scram_server_key,
    }
}

fn argon2_string(password: &str, salt: [u8; 16]) -> Option<String> {
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(ARGON2_OUTPUT_OCTETS)).ok()?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = hasher.hash_password_with_salt(password.as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

/// StoredKey and ServerKey of RFC 5802 section 3, with SHA-256.
fn scram_keys(password: &str, salt: &[u8]) -> ([u8; 32], [u8; 32]) {
    let iterations = NonZeroU32::new(SCRAM_ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let octets = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).unwrap_or_default();
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    (octets(stored_key.as_ref()), octets(hmac::sign(&key, b"Server Key").as_ref()))
}

/// Whether the password is right. Takes about 20 ms of one core, right or wrong.
pub fn verify_password(credential: &Credential, password: &str) -> bool {
    if password.len() > PASSWORD_OCTETS_MAX {
        return false;
    }
    PasswordHash::new(&credential.argon2)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_opens_and_no_other() {
        let credential = hash_password("corre\u{e7}t horse", [7; 16], [8; 16]);
        assert!(credential.argon2.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", credential.argon2);
        assert!(verify_password(&credential, "corre\u{e7}t horse"));
        assert!(!verify_password(&credential, "correct horse"));
        assert!(!verify_password(&credential, ""));
        assert_ne!(credential.argon2, hash_password("corre\u{e7}t horse", [9; 16], [8; 16]).argon2);
    }

    /// Compared with what Python's hashlib makes of the same password, salt and count.
    #[test]
    fn scram_keys_are_those_of_another_implementation() {
        let (stored, server) = scram_keys("pencil", b"salt salt salt s");
        assert_eq!(
            (hex(&stored), hex(&server)),
            (
                "2ea89e766a19381c57074c7a602c315a5c346fb17c79430e9c359dce9a5203cb".to_owned(),
                "6ae1ee73d07c775c613773473a653dd6c8495e683a55645c3e1bf07982fd13dd".to_owned()
            )
        );
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
    }

    #[test]
    fn nothing_opens_a_locked_credential() {
        let long = "a".repeat(PASSWORD_OCTETS_MAX + 1);
        let credential = hash_password(&long, [7; 16], [8; 16]);
        for password in [&long, "", LOCKED, &long[1..]] {
            assert!(!verify_password(&credential, password));
        }
    }
}
