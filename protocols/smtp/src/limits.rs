//! Every limit of the SMTP server session, with its reason and the RFC's minimum.

/// Octets of a command line with its CRLF. RFC 5321 section 4.5.3.1.4 asks for 512; SIZE (26), BODY (17), AUTH (500),
/// SMTPUTF8 (10), REQUIRETLS (11) and the DSN parameters (ENVID 107, ORCPT 508, NOTIFY 28) add to that: about 1,700 in all.
pub const COMMAND_LINE_OCTETS_MAX: usize = 2_048;

/// Octets of a line of an AUTH exchange, initial response included. RFC 4954 section 4 asks for 12,288.
pub const AUTH_LINE_OCTETS_MAX: usize = 12_288;

/// Octets of an over-long line that are thrown away while looking for its CRLF, before the peer is sent off.
pub const LINE_DISCARD_OCTETS_MAX: usize = 1024 * 1024;

/// Octets of message content waiting in the session before they are handed to the host. Bounds the memory of a
/// connection that receives a message; a smaller message reaches the host in one piece.
pub const SPOOL_OCTETS: usize = 64 * 1024;

/// A piece of message content shorter than this is copied together with its neighbours instead of being kept as a slice:
/// a slice keeps its whole receive buffer alive, so many short ones would hold much more memory than they carry.
pub const SLICE_OCTETS_MIN: usize = 2 * 1024;

/// Replies are sent when this many octets are waiting, even in the middle of a pipelined group.
pub const REPLY_OCTETS_PENDING: usize = 8 * 1024;

/// Octets of a refused message (too large, broken lines) that are still read and thrown away, so that the reply comes at
/// the right place; a peer that sends more gets the reply at once and is sent off.
pub const DRAIN_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// Received fields a message may carry. RFC 5321 section 6.3: "normally at least 100".
pub const RECEIVED_FIELDS_MAX: u32 = 100;

/// Default for recipients of one message. RFC 5321 section 4.5.3.1.8 asks for 100; lists on the same site send more.
pub const RECIPIENTS_MAX: usize = 1_000;

/// Default for octets of one message: 50 MiB, what large providers take. RFC 5321 section 4.5.3.1.7 asks for 64 KiB.
pub const SIZE_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// Default for mistakes (syntax, order, refused recipients, failed logins) since the last delivered message.
pub const ERRORS_MAX: u32 = 20;

/// Commands that move no mail (NOOP, RSET, VRFY, HELP, EHLO, EXPN) since the last delivered message.
pub const IDLE_COMMANDS_MAX: u32 = 200;

/// Failed logins on one connection before it is closed.
pub const AUTH_FAILURES_MAX: u32 = 3;

/// Default for messages over one connection; a sender with more to say connects again, perhaps to a calmer worker.
pub const TRANSACTIONS_MAX: u32 = 10_000;

/// Default wait for a command. RFC 5321 section 4.5.3.2.7: at least 5 minutes.
pub const COMMAND_MS: u64 = 5 * 60 * 1000;

/// Default wait for the next block of message content. RFC 5321 section 4.5.3.2.5 gives a client 3 minutes to send one.
pub const DATA_BLOCK_MS: u64 = 5 * 60 * 1000;

/// Default for a whole message from DATA (or the first BDAT) to its end: 50 MiB over a 64 kbit/s line.
pub const DATA_TOTAL_MS: u64 = 2 * 60 * 60 * 1000;

/// Longest wait for an answer of the host. RFC 5321 section 4.5.3.2.6: a client waits 10 minutes for the reply to its
/// message; later nobody would hear it, and a connection whose answer was lost must not stay for ever.
pub const ANSWER_MS: u64 = 10 * 60 * 1000;

/// Octets of an ENVID (RFC 3461 section 5.4).
pub const ENVID_OCTETS_MAX: usize = 100;

/// Octets of an ORCPT (RFC 3461 section 5.3).
pub const ORCPT_OCTETS_MAX: usize = 500;

/// Octets of the name a client gives with EHLO. RFC 5321 section 4.5.3.1.2: a domain has at most 255.
pub const CLIENT_NAME_OCTETS_MAX: usize = 255;
