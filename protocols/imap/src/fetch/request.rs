//! What a FETCH asks for.

/// The items of a FETCH, in the order in which they were asked, macros resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// The items.
    pub items: Vec<FetchItem>,
}

/// One item (RFC 3501 section 6.4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// UID.
    Uid,
    /// FLAGS.
    Flags,
    /// INTERNALDATE.
    InternalDate,
    /// RFC822.SIZE.
    Size,
    /// ENVELOPE.
    Envelope,
    /// BODY without a section.
    Body,
    /// BODYSTRUCTURE.
    BodyStructure,
    /// MODSEQ (RFC 7162).
    ModSeq,
    /// RFC822: the whole message; sets `\Seen`.
    Rfc822,
    /// RFC822.HEADER.
    Rfc822Header,
    /// RFC822.TEXT; sets `\Seen`.
    Rfc822Text,
    /// BODY[section]<partial>.
    Section {
        /// Which octets.
        section: Section,
        /// First octet and number of octets.
        partial: Option<(u32, u32)>,
        /// BODY.PEEK: leaves `\Seen` alone.
        peek: bool,
    },
}

/// A section of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Part numbers; empty for the message itself.
    pub path: Vec<u32>,
    /// Which octets of the part.
    pub text: SectionText,
}

/// Which octets of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SectionText {
    /// All of its content; of the message: everything.
    #[default]
    All,
    /// HEADER.
    Header,
    /// HEADER.FIELDS, with the names as the client wrote them.
    HeaderFields(Vec<String>),
    /// HEADER.FIELDS.NOT.
    HeaderFieldsNot(Vec<String>),
    /// TEXT.
    Text,
    /// MIME.
    Mime,
}

impl Section {
    /// A section of the message itself.
    pub(super) fn of_message(text: SectionText) -> Self {
        Self { path: Vec::new(), text }
    }
}

impl FetchRequest {
    /// Whether fetching this marks messages as seen.
    pub fn sets_seen(&self) -> bool {
        self.items.iter().any(|item| match item {
            FetchItem::Rfc822 | FetchItem::Rfc822Text => true,
            FetchItem::Section { peek, .. } => !peek,
            _ => false,
        })
    }
}
