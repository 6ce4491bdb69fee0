//! Columns: the text of a message, fields apart.

use rockdove_mail::{
    mime::Skeleton,
    search::SearchField,
    text::{self, Source},
};

use super::page::{PIECE, Pattern};

/// A kind of text that is kept by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    From,
    To,
    Cc,
    Bcc,
    Subject,
    /// Every other header field.
    Other,
    /// Text of the body, and names of attached files.
    Body,
}

impl Column {
    pub(super) const ALL: [Self; 7] =
        [Self::From, Self::To, Self::Cc, Self::Bcc, Self::Subject, Self::Other, Self::Body];

    /// The number in keys; never changed.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::From => 0,
            Self::To => 1,
            Self::Cc => 2,
            Self::Bcc => 3,
            Self::Subject => 4,
            Self::Other => 5,
            Self::Body => 6,
        }
    }

    /// What every piece of the column begins with: the name of its field. Not among the words of the column, which
    /// otherwise would say that a subject has the word "subject".
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::From => "from: ",
            Self::To => "to: ",
            Self::Cc => "cc: ",
            Self::Bcc => "bcc: ",
            Self::Subject => "subject: ",
            Self::Other | Self::Body => "",
        }
    }

    pub(super) fn of_field(name: &[u8]) -> Self {
        let of = |column: &Self| {
            let own = column.prefix().trim_end_matches(": ");
            !own.is_empty() && name.eq_ignore_ascii_case(own.as_bytes())
        };
        Self::ALL.into_iter().find(of).unwrap_or(Self::Other)
    }

    /// The values of a text of this column: its pieces without the name of the field.
    pub(super) fn values(self, text: &[u8]) -> impl Iterator<Item = &[u8]> {
        let skip = self.prefix().len();
        text.split(|octet| *octet == PIECE).skip(1).map(move |piece| piece.get(skip..).unwrap_or_default())
    }

    /// Whether a needle might be found in, or begin in, the name of the field.
    pub(super) fn prefix_meets(self, needle: &str) -> bool {
        let prefix = self.prefix();
        let begins = |length: usize| needle.get(..length).is_some_and(|start| prefix.ends_with(start));
        prefix.contains(needle) || (1..=needle.len().min(prefix.len())).any(begins)
    }
}

/// The texts of a message, folded, by column. A text is empty when the message has nothing there.
pub(super) type Texts = [Vec<u8>; Column::ALL.len()];

/// `None` when they have more than `bytes_max` octets together.
pub(super) fn texts(message: &[u8], skeleton: &Skeleton, bytes_max: usize) -> Option<Texts> {
    let mut texts = Texts::default();
    let mut left = Some(bytes_max);
    let too_much = text::visit(message, skeleton, &mut |source, piece| {
        let (column, piece) = match source {
            Source::Header(name) => {
                let line = format!("{}: {piece}", String::from_utf8_lossy(name));
                (Column::of_field(name), text::fold(&line))
            }
            Source::Body | Source::FileName => (Column::Body, text::fold(piece)),
        };
        left = left.and_then(|left| left.checked_sub(piece.len() + 1));
        if let Some(text) = texts.get_mut(usize::from(column.number())) {
            text.push(PIECE);
            text.extend_from_slice(piece.as_bytes());
        }
        left.is_none()
    });
    (!too_much).then_some(texts)
}

/// Where a search looks, and for what.
pub(super) struct Target<'n> {
    pub(super) columns: Vec<Column>,
    pub(super) pattern: Pattern<'n>,
    /// Words of the field that the needle must be in are told apart from others by the column alone.
    pub(super) by_column: bool,
}

/// `None` when no message can match.
pub(super) fn target<'n>(field: &SearchField, needle: &'n str) -> Option<Target<'n>> {
    let named = |name: &str| {
        let column = Column::of_field(name.as_bytes());
        let pattern = Pattern::field(name, needle)?;
        Some(Target { columns: vec![column], pattern, by_column: column != Column::Other })
    };
    let anywhere = |columns: &[Column]| {
        Some(Target { columns: columns.to_vec(), pattern: Pattern::anywhere(needle), by_column: true })
    };
    match field {
        SearchField::From => named("from"),
        SearchField::To => named("to"),
        SearchField::Cc => named("cc"),
        SearchField::Bcc => named("bcc"),
        SearchField::Subject => named("subject"),
        SearchField::Header(name) => named(name),
        SearchField::Body => anywhere(&[Column::Body]),
        SearchField::Text => anywhere(&Column::ALL),
    }
}
