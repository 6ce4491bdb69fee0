//! MIME access: structure, envelope, header subsets, text.

use bytes::Bytes;
use rockdove_mail::{
    date, header,
    mime::{self, DEPTH_MAX, Kind, PARTS_MAX, Scanner, Section, Skeleton, Structure},
    search::SearchField,
    text,
};

use crate::converse::{Cuts, same_in_every_cut, split};

fn scan(message: &[u8], cuts: Cuts) -> Structure {
    let mut scanner = Scanner::new();
    cuts.pieces(message).iter().for_each(|piece: &Bytes| scanner.push(piece));
    scanner.finish()
}

/// What follows one value of IMAP syntax: a string, a literal, an atom or a list.
fn behind_value(answer: &[u8]) -> Option<&[u8]> {
    let mut rest = answer;
    let mut depth = 0_usize;
    loop {
        rest = match rest.first()? {
            b'(' => {
                depth += 1;
                rest.get(1..)?
            }
            b')' => {
                depth = depth.checked_sub(1)?;
                rest.get(1..)?
            }
            b' ' if depth > 0 => rest.get(1..)?,
            b'"' => behind_quoted(rest.get(1..)?)?,
            b'{' => {
                let end = rest.windows(3).position(|end| end == b"}\r\n")?;
                let length: usize = std::str::from_utf8(rest.get(1..end)?).ok()?.parse().ok()?;
                let (literal, rest) = rest.get(end + 3..)?.split_at_checked(length)?;
                (!literal.contains(&0)).then_some(rest)?
            }
            _ => {
                let length = rest.iter().take_while(|octet| octet.is_ascii_alphanumeric()).count();
                (length > 0).then(|| rest.get(length..))??
            }
        };
        if depth == 0 {
            return Some(rest);
        }
    }
}

fn behind_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        let (octet, rest) = text.split_first()?;
        match octet {
            b'"' => return Some(rest),
            b'\\' if !matches!(rest.first(), Some(b'"' | b'\\')) => return None,
            b'\\' => text = rest.get(1..)?,
            b'\r' | b'\n' | 0 | 0x80.. => return None,
            _ => text = rest,
        }
    }
}

fn is_a_list(answer: &[u8]) {
    let whole = answer.starts_with(b"(") && behind_value(answer).is_some_and(<[u8]>::is_empty);
    assert!(whole, "not one list: {}", String::from_utf8_lossy(answer));
}

/// The parts lie within each other and within the message, and come back from a row.
fn is_sound(skeleton: &Skeleton, octets: u64) {
    let parts = skeleton.parts();
    assert!(parts.len() <= PARTS_MAX && skeleton.root().header.start == 0 && skeleton.root().body.end == octets);
    for (place, part) in parts.iter().enumerate() {
        assert!(part.header.start <= part.header.end && part.header.end == part.body.start, "{part:?}");
        let mut last = part.body.start;
        for child in skeleton.children(place).map(|child| &parts[child]) {
            assert!(last <= child.header.start && child.body.end <= part.body.end, "{child:?} in {part:?}");
            last = child.body.end;
        }
        let children = skeleton.children(place).count();
        assert!(part.kind == Kind::Multipart || children == usize::from(part.kind == Kind::Message), "{part:?}");
    }
    assert_eq!(Skeleton::decode(&skeleton.encode()).as_ref(), Some(skeleton));
    let deep = [1; DEPTH_MAX + 1];
    for depth in 0..deep.len() {
        for section in [Section::Whole, Section::Header, Section::Text, Section::Mime] {
            let range = mime::section(skeleton, &deep[..depth], section);
            assert!(range.is_none_or(|range| range.start <= range.end && range.end <= octets));
        }
    }
}

/// MIME access: no panic, no difference between cuts, parts within the message, answers that are IMAP, subsets of a
/// header that make up the whole.
pub fn mime(data: &[u8]) {
    let Some((steer, message)) = split(data) else { return };
    let structure = same_in_every_cut(u64::from_le_bytes(steer), |cuts| scan(message, cuts));
    let skeleton = &structure.skeleton;
    is_sound(skeleton, message.len() as u64);
    let block = &message[..usize::try_from(skeleton.root().header.end).expect("small")];
    is_a_list(&mime::envelope(block));
    is_a_list(&mime::body_structure(&structure, false));
    is_a_list(&mime::body_structure(&structure, true));
    let (some, others) = (["From", "subject"], true);
    let (with, without) = (header::fields(block, &some, !others), header::fields(block, &some, others));
    let count = |block: &[u8]| header::iter(block).count();
    assert_eq!(count(&with) + count(&without), count(block), "a field is lost");
    for field in header::iter(block) {
        let text = header::decode_words(&header::unfold(field.value));
        assert!(header::base_subject(&text).text.len() <= text.len());
        let folded = text::fold(&text);
        assert_eq!(text::fold(&folded), folded, "folding is not stable");
        std::hint::black_box(date::parse_rfc5322(field.value));
    }
    let mut texts = Vec::new();
    text::visit(message, skeleton, &mut |_, text| {
        texts.push(text::fold(text));
        false
    });
    for text in texts {
        assert!(text::matches(message, skeleton, &SearchField::Text, &text), "a text is not found: {text:?}");
    }
    std::hint::black_box(Skeleton::decode(message));
}
