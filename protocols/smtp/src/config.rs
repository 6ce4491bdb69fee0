//! What a listener decides for all its sessions.

use crate::{Refusal, limits};

/// Which of the three conversations this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Mail from strangers for local recipients (port 25). Never offers AUTH, never relays.
    Mx,
    /// Mail from our own people (RFC 6409; ports 587 and 465). Nothing without AUTH.
    Submission,
    /// Local delivery (RFC 2033): LHLO, and one reply per recipient.
    Lmtp,
}

/// Whether a session may switch to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS is not offered.
    Unavailable,
    /// STARTTLS is offered.
    Available,
    /// Nothing but EHLO, NOOP, STARTTLS and QUIT before TLS (RFC 3207 section 4).
    Required,
}

/// Whether a password may be sent without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearAuth {
    /// Never.
    Never,
    /// From a client on this machine.
    Loopback,
    /// Always: the operator said so.
    Always,
}

/// How a conversation begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// At once.
    Welcome,
    /// After so many milliseconds. Who speaks before is no mail server (RFC 5321 section 4.3.1) and is sent off.
    After(u64),
    /// Not at all: this is said, with code 421 whatever it is, and the connection is closed.
    Refused(Refusal),
}

/// How long replies to mistakes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tarpit {
    /// Mistakes since the last delivered message that are answered at once.
    pub free: u32,
    /// The wait for the reply to the next one, in milliseconds; doubled for each one after it.
    pub first_ms: u64,
    /// The longest wait, in milliseconds.
    pub most_ms: u64,
}

impl Tarpit {
    /// Nothing waits.
    pub const NONE: Self = Self { free: u32::MAX, first_ms: 0, most_ms: 0 };

    /// The wait after so many mistakes, in milliseconds.
    pub(crate) fn wait_ms(self, errors: u32) -> u64 {
        match errors.saturating_sub(self.free) {
            0 => 0,
            over => {
                let doubled = 1_u64.checked_shl(over.saturating_sub(1)).unwrap_or(u64::MAX);
                self.first_ms.saturating_mul(doubled).min(self.most_ms)
            }
        }
    }
}

/// The settings of a session, shared by all sessions of a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which conversation.
    pub role: Role,
    /// Our name, as greeting and trace header show it.
    pub hostname: String,
    /// Octets of one message, at most.
    pub size_bytes_max: u64,
    /// Recipients of one message, at most; RFC 5321 asks for 100.
    pub recipients_max: usize,
    /// Mistakes since the last delivered message before 421.
    pub errors_max: u32,
    /// Messages over one connection, at most.
    pub transactions_max: u32,
    /// STARTTLS.
    pub tls: Tls,
    /// AUTH without TLS.
    pub clear_auth: ClearAuth,
    /// Wait for a command, in milliseconds.
    pub command_ms: u64,
    /// Wait for the next block of message content, in milliseconds.
    pub data_block_ms: u64,
    /// Wait for the end of a message, in milliseconds.
    pub data_total_ms: u64,
    /// The greeting.
    pub greeting: Greeting,
    /// Replies to mistakes.
    pub tarpit: Tarpit,
}

impl Config {
    /// The defaults of `limits` for this role, without TLS.
    pub fn new(role: Role, hostname: &str) -> Self {
        Self {
            role,
            hostname: hostname.to_owned(),
            size_bytes_max: limits::SIZE_BYTES_MAX,
            recipients_max: limits::RECIPIENTS_MAX,
            errors_max: limits::ERRORS_MAX,
            // A local mail transfer agent keeps its LMTP connections; there is nobody to share them with.
            transactions_max: if role == Role::Lmtp { u32::MAX } else { limits::TRANSACTIONS_MAX },
            tls: Tls::Unavailable,
            clear_auth: ClearAuth::Loopback,
            command_ms: limits::COMMAND_MS,
            data_block_ms: limits::DATA_BLOCK_MS,
            data_total_ms: limits::DATA_TOTAL_MS,
            greeting: Greeting::Welcome,
            tarpit: Tarpit::NONE,
        }
    }
}
