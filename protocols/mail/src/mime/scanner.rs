//! Finding the parts while the message streams by.

use memchr::{memchr, memchr_iter};

use super::{
    BOUNDARY_OCTETS_MAX, CONTENT_OCTETS_MAX, Content, DEPTH_MAX, Encoding, HEADER_OCTETS_MAX, Kind, PARTS_MAX, Part,
    Skeleton, Structure, content::Untyped, envelope::envelope,
};

/// Octets at the start of a line that tell a delimiter: the dashes on both sides, the boundary and the line end.
const LINE_HEAD_MAX: usize = BOUNDARY_OCTETS_MAX + 6;

/// Where the body of a [`Kind::Leaf`] begins or ends, told as soon as it is known. Offsets are octets from the start of the
/// message; they never fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A body begins.
    Begins {
        /// Its first octet.
        at: u64,
        /// How it says to be encoded.
        encoding: Encoding,
    },
    /// The body that has begun last ends.
    Ends {
        /// The octet behind it.
        at: u64,
    },
}

/// A part that is not yet at its end.
#[derive(Debug)]
struct Open {
    /// Its place in the list.
    part: usize,
    /// Its header is still coming.
    in_header: bool,
    /// The boundary between the parts of a multipart, until its closing delimiter.
    boundary: Option<Vec<u8>>,
    /// What its parts are without a Content-Type.
    untyped: Untyped,
    /// Line ends before its body.
    lines_before: u64,
}

/// Takes a message in any cuts and finds its parts. Needs memory for one header block and what is known of the parts.
#[derive(Debug)]
pub struct Scanner {
    parts: Vec<Part>,
    contents: Vec<Content>,
    open: Vec<Open>,
    /// Multiparts whose closing delimiter has not come.
    boundaries: usize,
    /// The header block that is coming.
    block: Vec<u8>,
    /// Where in it the line starts that is coming.
    block_line: usize,
    /// The first octets of a line that did not come in one piece.
    head: Vec<u8>,
    /// Octets of that line so far, and the last of them.
    line_octets: u64,
    last_octet: u8,
    /// Where the line starts.
    line_start: u64,
    /// Octets of the line end before it.
    line_end_before: u64,
    /// Line ends before it.
    lines: u64,
    /// What is left of [`CONTENT_OCTETS_MAX`].
    content_left: usize,
    /// Those that nobody has taken; two for each part at most.
    cuts: Vec<Cut>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// At the start of a message.
    pub fn new() -> Self {
        let mut scanner = Self {
            parts: Vec::new(),
            contents: Vec::new(),
            open: Vec::new(),
            boundaries: 0,
            block: Vec::new(),
            block_line: 0,
            head: Vec::new(),
            line_octets: 0,
            last_octet: 0,
            line_start: 0,
            line_end_before: 0,
            lines: 0,
            content_left: CONTENT_OCTETS_MAX,
            cuts: Vec::new(),
        };
        scanner.begin(0, Untyped::Text);
        scanner
    }

    /// Takes the next octets.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let in_header = self.in_header();
            if !in_header && self.boundaries == 0 {
                // Nothing can begin any more: what is left is counted.
                return self.count(bytes);
            }
            let length = memchr(b'\n', bytes).map(|at| at.saturating_add(1));
            let (piece, rest) = bytes.split_at_checked(length.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
            if in_header {
                let room = HEADER_OCTETS_MAX.saturating_add(1).saturating_sub(self.block.len());
                self.block.extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
            }
            if self.line_octets == 0 && length.is_some() {
                self.line(piece, piece.len() as u64, if piece.ends_with(b"\r\n") { 2 } else { 1 });
            } else {
                self.partial(piece, length.is_some());
            }
            bytes = rest;
        }
    }

    /// The bodies of leaves that have begun or ended since this was asked last, in the order of the document.
    pub fn take_cuts(&mut self) -> Vec<Cut> {
        std::mem::take(&mut self.cuts)
    }

    /// No cut to come is before this octet. What came behind it may yet turn out to be a delimiter, or the line end
    /// before one.
    pub fn settled(&self) -> u64 {
        let end = self.line_start.saturating_add(self.line_octets);
        if self.boundaries == 0 && !self.in_header() {
            return end;
        }
        let line = self.line_start.saturating_sub(self.line_end_before);
        let body = self.open.last().and_then(|open| self.parts.get(open.part)).map_or(0, |part| part.body.start);
        if self.line_octets == 0 || self.may_delimit() {
            return line.max(body);
        }
        // The last octet may be half of the line end.
        end.saturating_sub(u64::from(self.last_octet == b'\r')).max(body)
    }

    /// The line that comes in pieces may be a delimiter.
    fn may_delimit(&self) -> bool {
        if self.head.len() >= LINE_HEAD_MAX {
            return self.delimiter(&self.head).is_some();
        }
        self.head.starts_with(b"--") || b"--".starts_with(&self.head)
    }

    /// Where the header of the message ends, its empty line included, once that has come.
    pub fn header_end(&self) -> Option<u64> {
        let root = self.open.first().filter(|open| !open.in_header)?;
        self.parts.get(root.part).map(|part| part.header.end)
    }

    fn in_header(&self) -> bool {
        self.open.last().is_some_and(|open| open.in_header)
    }

    /// Takes octets that are body to the end of the message.
    fn count(&mut self, bytes: &[u8]) {
        self.lines = self.lines.saturating_add(memchr_iter(b'\n', bytes).count() as u64);
        self.line_start = self.line_start.saturating_add(bytes.len() as u64);
    }

    /// Takes a piece of a line that does not come whole.
    fn partial(&mut self, piece: &[u8], ends: bool) {
        let room = LINE_HEAD_MAX.saturating_sub(self.head.len());
        self.head.extend_from_slice(piece.get(..piece.len().min(room)).unwrap_or_default());
        self.line_octets = self.line_octets.saturating_add(piece.len() as u64);
        if ends {
            let before = piece.len().checked_sub(2).and_then(|at| piece.get(at).copied());
            let cr = before.unwrap_or(self.last_octet) == b'\r';
            self.end_line(if cr { 2 } else { 1 });
        } else {
            self.last_octet = piece.last().copied().unwrap_or(self.last_octet);
        }
    }

    /// Ends a line that came in pieces.
    fn end_line(&mut self, line_end: u64) {
        let head = std::mem::take(&mut self.head);
        let octets = std::mem::take(&mut self.line_octets);
        self.last_octet = 0;
        self.line(&head, octets, line_end);
        self.head = head;
        self.head.clear();
    }

    /// A whole line: its first octets, all its octets, and how many of them are its line end.
    fn line(&mut self, head: &[u8], octets: u64, line_end: u64) {
        let (start, end) = (self.line_start, self.line_start.saturating_add(octets));
        let content = octets.saturating_sub(line_end);
        let text = head.get(..head.len().min(usize::try_from(content).unwrap_or(usize::MAX))).unwrap_or(head);
        let delimiter = self.delimiter(text);
        if let Some((place, _)) = delimiter {
            self.block.truncate(self.block_line);
            self.end_parts(place.saturating_add(1), start, self.line_end_before);
        }
        self.lines = self.lines.saturating_add(u64::from(line_end > 0));
        self.line_start = end;
        self.line_end_before = line_end;
        match delimiter {
            Some((place, closes)) => self.between(place, closes, end),
            None if content == 0 && line_end > 0 && self.in_header() => self.end_header(end),
            None => {}
        }
        self.block_line = self.block.len();
    }

    //= rfc2046#section-5.1.1
    //# Boundary string comparisons must compare the
    //# boundary value with the beginning of each candidate line.  An exact
    //# match of the entire candidate line is not required; it is sufficient
    //# that the boundary appear in its entirety following the CRLF.
    /// The multipart that a line delimits (its place among the open parts), and whether it closes it. Of several
    /// boundaries that the line begins with, the longest counts, and of equal ones the innermost.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        if self.boundaries == 0 || self.parts.len() >= PARTS_MAX {
            return None;
        }
        let line = line.strip_prefix(b"--")?;
        let mut found: Option<(usize, usize)> = None;
        for (place, open) in self.open.iter().enumerate() {
            if let Some(boundary) = &open.boundary
                && line.starts_with(boundary)
                && found.is_none_or(|(_, length)| length <= boundary.len())
            {
                found = Some((place, boundary.len()));
            }
        }
        let (place, length) = found?;
        Some((place, line.get(length..).is_some_and(|rest| rest.starts_with(b"--"))))
    }

    /// Behind a delimiter line.
    fn between(&mut self, place: usize, closes: bool, at: u64) {
        let Some(open) = self.open.get_mut(place) else { return };
        if closes {
            open.boundary = None;
            self.boundaries = self.boundaries.saturating_sub(1);
        } else {
            let untyped = open.untyped;
            self.begin(at, untyped);
        }
    }

    /// A part begins with its header.
    fn begin(&mut self, at: u64, untyped: Untyped) {
        self.open.push(Open {
            part: self.parts.len(),
            in_header: true,
            boundary: None,
            untyped,
            lines_before: self.lines,
        });
        self.parts.push(Part { header: at..at, body: at..at, ..Part::default() });
        self.contents.push(Content::default());
        self.block.clear();
    }

    /// The header of the innermost part is at its end; its body begins.
    fn end_header(&mut self, at: u64) {
        let block = std::mem::take(&mut self.block);
        let mut content = self.read_content(&block);
        self.keep_envelope(&block);
        self.block = block;
        self.block.clear();
        let full = self.open.len() >= DEPTH_MAX || self.parts.len() >= PARTS_MAX;
        if full && content.kind() != Kind::Leaf {
            content = Content::opaque();
        }
        let Some(open) = self.open.last_mut() else { return };
        open.in_header = false;
        open.lines_before = self.lines;
        let (kind, encoding) = (content.kind(), content.encoding());
        if kind == Kind::Multipart {
            open.boundary = content.boundary();
            open.untyped = content.untyped();
            self.boundaries = self.boundaries.saturating_add(usize::from(open.boundary.is_some()));
        }
        if kind == Kind::Leaf {
            self.cuts.push(Cut::Begins { at, encoding });
        }
        if let Some(part) = self.parts.get_mut(open.part) {
            *part = Part { header: part.header.start..at, body: at..at, kind, encoding, descendants: 0 };
        }
        if let Some(slot) = self.contents.get_mut(open.part) {
            *slot = content;
        }
        if kind == Kind::Message {
            self.begin(at, Untyped::Text);
        }
    }

    /// What the header says of the innermost part; opaque when it, or all together, is too much.
    fn read_content(&mut self, block: &[u8]) -> Content {
        let untyped = self.open.last().map_or(Untyped::Text, |open| open.untyped);
        if block.len() > HEADER_OCTETS_MAX {
            return Content::opaque();
        }
        let content = Content::read(block, untyped);
        match self.content_left.checked_sub(content.octets()) {
            Some(left) => {
                self.content_left = left;
                content
            }
            None => Content::opaque(),
        }
    }

    /// When the innermost part is the message in a `message/rfc822`, that one shows its ENVELOPE.
    fn keep_envelope(&mut self, block: &[u8]) {
        let Some(around) = self.open.len().checked_sub(2).and_then(|at| self.open.get(at)) else { return };
        if self.parts.get(around.part).is_none_or(|part| part.kind != Kind::Message) {
            return;
        }
        let envelope = envelope(block.get(..block.len().min(HEADER_OCTETS_MAX)).unwrap_or_default());
        if let Some(left) = self.content_left.checked_sub(envelope.len())
            && let Some(content) = self.contents.get_mut(around.part)
        {
            self.content_left = left;
            content.envelope = Some(envelope);
        }
    }

    //= rfc2046#section-5.1.1
    //# The CRLF preceding the boundary delimiter line is conceptually
    //# attached to the boundary so that it is possible to have a part that
    //# does not end with a CRLF (line break).
    /// Ends the parts inside the first `keep` open ones, at a line that has a line end of `line_end` octets before it.
    fn end_parts(&mut self, keep: usize, at: u64, line_end: u64) {
        // An empty part right behind the delimiter of an inner multipart starts behind that line end; it stays inside.
        let mut inner_end = 0;
        while self.open.len() > keep {
            if let Some(open) = self.open.last()
                && open.in_header
            {
                let start = self.parts.get(open.part).map_or(at, |part| part.header.start);
                self.end_header(at.saturating_sub(line_end).max(start));
                continue;
            }
            let Some(open) = self.open.pop() else { return };
            self.boundaries = self.boundaries.saturating_sub(usize::from(open.boundary.is_some()));
            let inside = self.parts.len().saturating_sub(open.part).saturating_sub(1);
            let Some(part) = self.parts.get_mut(open.part) else { continue };
            let end = at.saturating_sub(line_end).max(part.body.start).max(inner_end);
            inner_end = end;
            part.body.end = end;
            part.descendants = inside;
            if part.kind == Kind::Leaf {
                self.cuts.push(Cut::Ends { at: end });
            }
            let shared_line_end = line_end > 0 && end < at;
            let lines = self.lines.saturating_sub(open.lines_before).saturating_sub(u64::from(shared_line_end));
            if let Some(content) = self.contents.get_mut(open.part) {
                content.lines = lines;
            }
        }
    }

    /// The message is at its end.
    pub fn finish(mut self) -> Structure {
        if self.line_octets > 0 {
            self.end_line(0);
        }
        self.end_parts(0, self.line_start, 0);
        Structure::new(Skeleton::new(self.parts), self.contents)
    }
}
