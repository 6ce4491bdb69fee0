//! What a FETCH asks for.

use rockdove_mail::{Uid, UidSet};

/// The items of a FETCH, in the order in which they were asked, macros resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// The items.
    pub items: Vec<FetchItem>,
    /// What some of the messages are told with besides; nothing that was asked.
    pub news: Option<FetchNews>,
}

/// Items that belong to some of the messages only: the flags of those that this FETCH has marked as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchNews {
    /// The messages.
    pub uids: UidSet,
    /// The items, behind those that were asked.
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
    /// EMAILID (RFC 8474).
    EmailId,
    /// THREADID (RFC 8474): always `NIL`.
    ThreadId,
    /// SAVEDATE (RFC 8514).
    SaveDate,
    /// PREVIEW (RFC 8970).
    Preview {
        /// LAZY: only when it is there already.
        lazy: bool,
    },
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
        partial: Option<(u64, u64)>,
        /// BODY.PEEK: leaves `\Seen` alone.
        peek: bool,
    },
    /// BINARY[part]<partial> (RFC 3516): content without its transfer encoding.
    Binary {
        /// Part numbers; empty for the message itself.
        path: Vec<u32>,
        /// First octet and number of octets, of those that are decoded.
        partial: Option<(u64, u64)>,
        /// BINARY.PEEK: leaves `\Seen` alone.
        peek: bool,
    },
    /// BINARY.SIZE[part]: octets that BINARY has.
    BinarySize {
        /// Part numbers; empty for the message itself.
        path: Vec<u32>,
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
    /// The items of every message and those of some.
    pub fn all_items(&self) -> impl Iterator<Item = &FetchItem> {
        self.items.iter().chain(self.news.iter().flat_map(|news| &news.items))
    }

    /// The items of this message.
    pub(super) fn items_of(&self, uid: Uid) -> impl Iterator<Item = &FetchItem> {
        let news = self.news.as_ref().filter(|news| news.uids.contains(uid));
        self.items.iter().chain(news.into_iter().flat_map(|news| &news.items))
    }

    /// Whether fetching this marks messages as seen.
    pub fn sets_seen(&self) -> bool {
        self.items.iter().any(|item| match item {
            FetchItem::Rfc822 | FetchItem::Rfc822Text => true,
            FetchItem::Section { peek, .. } | FetchItem::Binary { peek, .. } => !peek,
            _ => false,
        })
    }
}
