//! The order of things, and what a filter may leave out of it (`SMFIP_*`).

/// Where a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Negotiate,
    Connect,
    Helo,
    Mail,
    Recipient(usize),
    Data,
    Header,
    EndOfHeader,
    Body,
    EndOfMessage,
}

/// Skipping the rest of a body.
const SKIP: u32 = 0x400;
/// The space behind the colon of a field belongs to its value.
pub(crate) const LEADING_SPACE: u32 = 0x10_0000;
/// What we can do: leave out any stage, go without any answer, and the two above.
pub(crate) const OFFERED: u32 = 0x1
    | 0x2
    | 0x4
    | 0x8
    | 0x10
    | 0x20
    | 0x40
    | 0x80
    | 0x100
    | 0x200
    | SKIP
    | 0x1000
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x4_0000
    | 0x8_0000
    | LEADING_SPACE;

impl Stage {
    /// The flag of a filter that does not want to be told, and of one that does not answer.
    pub(crate) const fn flags(self) -> (u32, u32) {
        match self {
            Self::Negotiate | Self::EndOfMessage => (0, 0),
            Self::Connect => (0x1, 0x1000),
            Self::Helo => (0x2, 0x2000),
            Self::Mail => (0x4, 0x4000),
            Self::Recipient(_) => (0x8, 0x8000),
            Self::Data => (0x200, 0x1_0000),
            Self::Header => (0x20, 0x80),
            Self::EndOfHeader => (0x40, 0x4_0000),
            Self::Body => (0x10, 0x8_0000),
        }
    }
}
