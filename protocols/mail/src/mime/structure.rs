//! BODY and BODYSTRUCTURE (RFC 9051 section 7.5.2).

use super::{
    Content, Kind, Parameters, Skeleton,
    imap_string::{put_nstring, put_string},
};

/// What a scan found: the parts, and what their headers say of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Where the parts are.
    pub skeleton: Skeleton,
    /// One for each part.
    contents: Vec<Content>,
}

impl Structure {
    pub(super) fn new(skeleton: Skeleton, contents: Vec<Content>) -> Self {
        Self { skeleton, contents }
    }

    /// What the header of a part says; the place is that in [`Skeleton::parts`].
    pub fn content(&self, place: usize) -> Option<&Content> {
        self.contents.get(place)
    }
}

/// Stands for the parts of a multipart that has none, which the grammar does not allow.
const NO_PART: &[u8] = b"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0)";
/// Stands for an ENVELOPE that is too large.
const NO_ENVELOPE: &[u8] = b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)";

/// The ready BODYSTRUCTURE of a message, or BODY when it is not `extended`.
pub fn body_structure(structure: &Structure, extended: bool) -> Vec<u8> {
    let mut writer = Writer { structure, extended, out: Vec::new() };
    writer.part(0);
    writer.out
}

struct Writer<'a> {
    structure: &'a Structure,
    extended: bool,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn part(&mut self, place: usize) {
        let structure = self.structure;
        let (Some(part), Some(content)) = (structure.skeleton.parts().get(place), structure.content(place)) else {
            self.out.extend_from_slice(NO_PART);
            return;
        };
        self.out.push(b'(');
        match part.kind {
            Kind::Multipart => self.multipart(place, content),
            Kind::Leaf | Kind::Message => self.single(place, part.body.end.saturating_sub(part.body.start), content),
        }
        self.out.push(b')');
    }

    // Never deeper than DEPTH_MAX, which the scanner sees to.
    fn multipart(&mut self, place: usize, content: &Content) {
        let structure = self.structure;
        let before = self.out.len();
        structure.skeleton.children(place).for_each(|child| self.part(child));
        if self.out.len() == before {
            self.out.extend_from_slice(NO_PART);
        }
        self.space();
        put_string(&mut self.out, &content.subtype);
        if self.extended {
            self.space();
            self.parameters(&content.parameters);
            self.placed(content);
        }
    }

    fn single(&mut self, place: usize, octets: u64, content: &Content) {
        put_string(&mut self.out, &content.media_type);
        self.space();
        put_string(&mut self.out, &content.subtype);
        self.space();
        self.parameters(&content.parameters);
        for text in [&content.id, &content.description] {
            self.space();
            put_nstring(&mut self.out, text.as_deref());
        }
        self.space();
        put_string(&mut self.out, &content.transfer_encoding);
        self.number(octets);
        if content.kind() == Kind::Message {
            self.space();
            self.out.extend_from_slice(content.envelope.as_deref().unwrap_or(NO_ENVELOPE));
            self.space();
            self.part(place.saturating_add(1));
            self.number(content.lines);
        } else if content.is("text", "") {
            self.number(content.lines);
        }
        if self.extended {
            self.space();
            put_nstring(&mut self.out, content.md5.as_deref());
            self.placed(content);
        }
    }

    /// Disposition, language and location.
    fn placed(&mut self, content: &Content) {
        self.space();
        match &content.disposition {
            Some((name, parameters)) => {
                self.out.push(b'(');
                put_string(&mut self.out, name);
                self.space();
                self.parameters(parameters);
                self.out.push(b')');
            }
            None => put_nstring(&mut self.out, None),
        }
        self.space();
        self.strings(content.language.iter());
        self.space();
        put_nstring(&mut self.out, content.location.as_deref());
    }

    fn parameters(&mut self, parameters: &Parameters) {
        self.strings(parameters.list.iter().flat_map(|(name, value)| [name, value]));
    }

    /// A list of strings, or `NIL`.
    fn strings<'a>(&mut self, strings: impl Iterator<Item = &'a Vec<u8>>) {
        let mut opener = b'(';
        for text in strings {
            self.out.push(opener);
            opener = b' ';
            put_string(&mut self.out, text);
        }
        self.out.extend_from_slice(if opener == b'(' { b"NIL" } else { b")" });
    }

    fn number(&mut self, number: u64) {
        self.space();
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    fn space(&mut self) {
        self.out.push(b' ');
    }
}
