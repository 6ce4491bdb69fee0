//! The named limits of a POP3 conversation, each with its reason.

/// Longest command line with its CRLF. RFC 2449 section 4 asks for exactly this much.
pub const COMMAND_OCTETS_MAX: usize = 255;

/// Longest line of a SASL exchange with its CRLF. RFC 5034 leaves it to the mechanisms; this is what RFC 4954 section 4
/// asks of SMTP, and far more than any mechanism offered here sends.
pub const SASL_LINE_OCTETS_MAX: usize = 12_288;

/// Octets of a message asked for at a time: large enough to keep a link busy, small enough to hold one per connection.
pub const PAGE_OCTETS_MAX: u64 = 256 * 1024;

/// Octets of a message asked for at a time by TOP, which mostly wants the header.
pub const TOP_PAGE_OCTETS_MAX: u64 = 16 * 1024;

/// Messages whose sizes are asked for at a time by LIST.
pub const SIZES_PAGE_MESSAGES_MAX: u32 = 2_048;

/// Answers are gathered up to about this many octets before they are sent, so that a thousand pipelined commands do not
/// cost a thousand writes, nor their answers unbounded memory.
pub const SEND_OCTETS_AIM: usize = 32 * 1024;

/// Lines of one page that begin with a dot and are stuffed by slicing. With more, copying the page is cheaper.
pub const STUFFED_SLICES_MAX: usize = 64;

/// Commands that may be wrong (unknown, malformed, out of place) before the connection is closed.
pub const ERRORS_MAX: u32 = 20;

/// Logins that may fail before the connection is closed.
pub const LOGIN_FAILURES_MAX: u32 = 3;

/// From the greeting to a login, in milliseconds; absolute, so that a trickle of octets does not extend it. RFC 1939's
/// ten minutes are about inactivity; a stranger gets less, as everywhere.
pub const AUTHORIZATION_MS_MAX: u64 = 3 * 60 * 1000;

/// Silence after login before the connection is closed, in milliseconds. RFC 1939 section 3: at least ten minutes.
pub const INACTIVITY_MS_MAX: u64 = 10 * 60 * 1000;
