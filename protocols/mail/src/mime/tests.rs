//! Structure as data, in every cut.

use imap_codec::{
    ResponseCodec,
    decode::Decoder,
    imap_types::{
        fetch::MessageDataItem,
        response::{Data, Response},
    },
};
use proptest::prelude::*;

use super::*;

/// Scans in cuts of this many octets; what is told on the way must agree with what is known in the end.
fn scan(message: &[u8], cut: usize) -> Structure {
    let (mut scanner, mut pushed, mut settled, mut cuts) = (Scanner::new(), 0, 0, Vec::new());
    let mut header_end = None;
    for piece in message.chunks(cut.max(1)) {
        scanner.push(piece);
        pushed += piece.len() as u64;
        for cut in scanner.take_cuts() {
            let (Cut::Begins { at, .. } | Cut::Ends { at }) = cut;
            assert!((settled..=pushed).contains(&at), "{cut:?} after {settled} of {pushed} octets");
            settled = at;
            cuts.push(cut);
        }
        assert!((settled..=pushed).contains(&scanner.settled()), "{} of {pushed} octets", scanner.settled());
        settled = scanner.settled();
        header_end = header_end.or(scanner.header_end());
    }
    let structure = scanner.finish();
    let leaves = structure.skeleton.parts().iter().filter(|part| part.kind == Kind::Leaf);
    let ends: Vec<Cut> = leaves
        .flat_map(|part| {
            [Cut::Begins { at: part.body.start, encoding: part.encoding }, Cut::Ends { at: part.body.end }]
        })
        .collect();
    assert!(ends.starts_with(&cuts), "{cuts:?} of {ends:?}");
    assert!(ends.get(cuts.len()).is_none_or(|cut| {
        let (Cut::Begins { at, .. } | Cut::Ends { at }) = cut;
        *at >= settled
    }));
    assert!(header_end.is_none_or(|end| end == structure.skeleton.root().header.end));
    structure
}

/// Scans in several cuts, and holds what must be true of every message.
fn scanned(message: &[u8]) -> Structure {
    let whole = scan(message, message.len());
    for cut in [1, 2, 3, 7, 64] {
        assert_eq!(scan(message, cut), whole, "cuts of {cut}: {:?}", String::from_utf8_lossy(message));
    }
    let skeleton = &whole.skeleton;
    assert_eq!((skeleton.root().header.start, skeleton.root().body.end), (0, message.len() as u64));
    for (place, part) in skeleton.parts().iter().enumerate() {
        assert!(part.header.start <= part.header.end && part.header.end == part.body.start);
        assert!(part.body.start <= part.body.end);
        let mut last = part.body.start;
        for child in skeleton.children(place) {
            let child = &skeleton.parts()[child];
            assert!(child.header.start >= last && child.body.end <= part.body.end, "{part:?} {child:?}");
            last = child.body.end;
        }
        let children = skeleton.children(place).count();
        assert!(match part.kind {
            Kind::Leaf => children == 0,
            Kind::Message => children == 1,
            Kind::Multipart => true,
        });
    }
    let row = skeleton.encode();
    assert_eq!(Skeleton::decode(&row).as_ref(), Some(skeleton));
    (0..row.len()).for_each(|end| assert_eq!(Skeleton::decode(&row[..end]), None));
    whole
}

fn as_rfc3501(mut item: Vec<u8>) -> Vec<u8> {
    let (global, rfc822) = (b"\"message\" \"global\"", b"\"message\" \"rfc822\"");
    while let Some(at) = memchr::memmem::find(&item, global) {
        item[at..at + global.len()].copy_from_slice(rfc822);
    }
    item
}

/// Whether an independent reader of the IMAP grammar takes what we write about a message.
fn is_grammatical(message: &[u8], structure: &Structure) {
    let header = structure.skeleton.root().header.clone();
    let header = &message[usize::try_from(header.start).expect("small")..usize::try_from(header.end).expect("small")];
    let items = [
        [b"ENVELOPE ", envelope(header).as_slice()].concat(),
        [b"BODY ", body_structure(structure, false).as_slice()].concat(),
        [b"BODYSTRUCTURE ", body_structure(structure, true).as_slice()].concat(),
    ];
    for item in items {
        // That reader knows RFC 3501, where only `message/rfc822` shows what is in it.
        let item = as_rfc3501(item);
        let answer = [b"* 1 FETCH (", item.as_slice(), b")\r\n"].concat();
        let text = String::from_utf8_lossy(&answer);
        match ResponseCodec::default().decode(&answer) {
            Ok((rest, Response::Data(Data::Fetch { items, .. }))) => {
                assert!(rest.is_empty() && items.as_ref().len() == 1, "{text}");
                let known = matches!(
                    items.as_ref()[0],
                    MessageDataItem::Envelope(_) | MessageDataItem::Body(_) | MessageDataItem::BodyStructure(_)
                );
                assert!(known, "{text}");
            }
            other => unreachable!("{text}: {other:?}"),
        }
    }
}

/// The tree: header and body of each part by their text, `*` for a body that has parts, indented by depth.
fn tree(message: &str) -> String {
    fn draw(message: &str, skeleton: &Skeleton, place: usize, depth: usize, out: &mut String) {
        let part = &skeleton.parts()[place];
        let text = |range: &std::ops::Range<u64>| {
            let (start, end) =
                (usize::try_from(range.start).expect("small"), usize::try_from(range.end).expect("small"));
            message[start..end].replace("\r\n", "/").replace('\n', "|")
        };
        let (header, body) = (text(&part.header), text(&part.body));
        let body = if part.kind == Kind::Leaf { format!("={body}") } else { "*".to_owned() };
        out.extend([" ".repeat(depth), header, body, "\n".to_owned()]);
        skeleton.children(place).for_each(|child| draw(message, skeleton, child, depth + 1, out));
    }
    let structure = scanned(message.as_bytes());
    is_grammatical(message.as_bytes(), &structure);
    let mut out = String::new();
    draw(message, &structure.skeleton, 0, 0, &mut out);
    out
}

const MIXED: &str = "Content-Type: multipart/mixed; boundary=x\r\n\r\n";

#[test]
fn trees() {
    for (message, expected) in [
        ("", "=\n"),
        ("\r\n", "/=\n"),
        ("\r\nbody", "/=body\n"),
        ("A: b", "A: b=\n"),
        ("A: b\r\n\r\nbody\r\n", "A: b//=body/\n"),
        ("A: b\n\nbody\n--x\n", "A: b||=body|--x|\n"),
        // RFC 2046 section 5.1.1: the line end before a delimiter belongs to it
        (
            &format!(
                "{MIXED}preamble\r\n--x\r\n\r\none\r\n\r\n--x  \r\nB: c\r\n\r\ntwo\r\n--x--\r\nepilogue\r\n--x\r\n"
            ),
            "Content-Type: multipart/mixed; boundary=x//*\n /=one/\n B: c//=two\n",
        ),
        // no close delimiter, bare line feeds, no body, no header
        (
            "Content-Type: multipart/mixed; boundary=x\n\n--x\n\n--x\nA: b\n--x\nA: b\n\n--x\n--x\n\nend\n",
            "Content-Type: multipart/mixed; boundary=x||*\n |=\n A: b=\n A: b||=\n =\n |=end|\n",
        ),
        (&format!("{MIXED}no part"), "Content-Type: multipart/mixed; boundary=x//*\n"),
        (&format!("{MIXED}--x--"), "Content-Type: multipart/mixed; boundary=x//*\n"),
        (&format!("{MIXED}--x"), "Content-Type: multipart/mixed; boundary=x//*\n =\n"),
        ("Content-Type: multipart/mixed\r\n\r\n--x\r\n", "Content-Type: multipart/mixed//=--x/\n"),
        // the delimiter of an outer part ends the inner ones; of boundaries that match, the longest counts
        (
            &format!(
                "{MIXED}--x\r\nContent-Type: multipart/alternative; boundary=xy\r\n\r\n--xy\r\n\r\na\r\n--x\r\n\r\nb\r\n\
                --xy\r\n\r\n--x--\r\n"
            ),
            "Content-Type: multipart/mixed; boundary=x//*\n \
            Content-Type: multipart/alternative; boundary=xy//*\n  /=a\n /=b\n /=\n",
        ),
        // messages, also where the type goes without saying
        (
            &format!("{MIXED}--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\nt\r\n--x--\r\n"),
            "Content-Type: multipart/mixed; boundary=x//*\n Content-Type: message/rfc822//*\n  Subject: s//=t\n",
        ),
        (
            "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nA: b\r\n\r\nc\r\n--x\r\nContent-Type: text/x\r\n\r\nd",
            "Content-Type: multipart/digest; boundary=x//*\n /*\n  A: b//=c\n Content-Type: text/x//=d\n",
        ),
        (
            &format!("{MIXED}--x\r\nContent-Type: message/rfc822\r\n--x\r\nContent-Type: message/global\r\n\r\n--x--"),
            "Content-Type: multipart/mixed; boundary=x//*\n Content-Type: message/rfc822*\n  =\n \
            Content-Type: message/global//*\n  =\n",
        ),
        (
            "Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\r\n--a b\r\n\r\nc\r\n--a b--",
            "Content-Type: message/rfc822//*\n Content-Type: multipart/mixed; boundary=\"a b\"//*\n  /=c\n",
        ),
        // a line that only looks like a delimiter
        (
            &format!("{MIXED}--x\r\n\r\n --x\r\n-x\r\n--X\r\n--x"),
            "Content-Type: multipart/mixed; boundary=x//*\n /= --x/-x/--X\n =\n",
        ),
    ] {
        assert_eq!(tree(message), expected, "{message}");
    }
}

#[test]
fn structures() {
    for (message, body, extended) in [
        ("", r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)"#, " NIL NIL NIL NIL)"),
        (
            "Content-Type: TEXT/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <i>\r\n\
            Content-Description: d\r\nContent-Language: en\r\nContent-Disposition: inline\r\nContent-MD5: m\r\n\
            Content-Location: l\r\n\r\na\r\nb",
            r#"("TEXT" "html" ("charset" "utf-8") "<i>" "d" "base64" 4 1)"#,
            r#" "m" ("inline" NIL) ("en") "l")"#,
        ),
        (
            "Content-Type: image/png; name=\"a\\\"b\"\r\nContent-Disposition: attachment; filename*=utf-8''%C3%A9\r\n\r\nx",
            r#"("image" "png" ("name" "a\"b") NIL NIL "7bit" 1)"#,
            r#" NIL ("attachment" ("filename*" "utf-8''%C3%A9")) NIL NIL)"#,
        ),
        (
            "Content-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\na\r\nb\r\n",
            concat!(
                r#"("message" "rfc822" NIL NIL NIL "7bit" 20 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL) "#,
                r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 2) 4)"#
            ),
            " NIL NIL NIL NIL)",
        ),
        (
            "Content-Type: multipart/mixed; boundary=x\r\nContent-Language: de, en\r\n\r\n--x\r\n\r\na\r\n--x--\r\n",
            r#"(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) "mixed")"#,
            r#" ("boundary" "x") NIL ("de" "en") NIL)"#,
        ),
        (
            MIXED,
            r#"(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")"#,
            r#" ("boundary" "x") NIL NIL NIL)"#,
        ),
    ] {
        let structure = scanned(message.as_bytes());
        is_grammatical(message.as_bytes(), &structure);
        let text = |extended| String::from_utf8(body_structure(&structure, extended)).expect("ASCII");
        assert_eq!(text(false), body, "{message}");
        if !body.contains("message") && structure.skeleton.root().kind == Kind::Leaf {
            assert_eq!(text(true), format!("{}{extended}", body.trim_end_matches(')')), "{message}");
        } else {
            assert!(text(true).ends_with(extended), "{message}: {}", text(true));
        }
    }
}

#[test]
fn sections() {
    // The example of RFC 9051 section 6.4.5.1.
    let message = "\
HEADER\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n\
--a\r\nContent-Type: text/plain\r\n\r\n1\r\n\
--a\r\nContent-Type: application/octet-stream\r\n\r\n2\r\n\
--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: 3\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
--b\r\n\r\n3.1\r\n--b\r\nContent-Type: image/x\r\n\r\n3.2\r\n--b--\r\n\
--a\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n\
--c\r\nContent-Type: image/gif\r\n\r\n4.1\r\n\
--c\r\nContent-Type: message/rfc822\r\n\r\nSubject: 4.2\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n\
--d\r\nContent-Type: text/plain\r\n\r\n4.2.1\r\n\
--d\r\nContent-Type: multipart/alternative; boundary=e\r\n\r\n\
--e\r\n\r\n4.2.2.1\r\n--e\r\nContent-Type: text/richtext\r\n\r\n4.2.2.2\r\n--e--\r\n--d--\r\n--c--\r\n\
--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: 5\r\n\r\n5.1\r\n--a--\r\n";
    let skeleton = scanned(message.as_bytes()).skeleton;
    let text = |numbers: &[u32], wanted| {
        let range = section(&skeleton, numbers, wanted)?;
        Some(&message[usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small")])
    };
    for (numbers, expected) in [
        (&[1][..], "1"),
        (&[2], "2"),
        (&[3, 1], "3.1"),
        (&[3, 2], "3.2"),
        (&[4, 1], "4.1"),
        (&[4, 2, 1], "4.2.1"),
        (&[4, 2, 2, 1], "4.2.2.1"),
        (&[4, 2, 2, 2], "4.2.2.2"),
        (&[5], "Subject: 5\r\n\r\n5.1"),
        (&[5, 1], "5.1"),
    ] {
        assert_eq!(text(numbers, Section::Whole), Some(expected), "{numbers:?}");
    }
    for numbers in [&[0][..], &[6], &[1, 1], &[3, 3], &[4, 3], &[4, 1, 1], &[5, 2], &[5, 1, 1], &[u32::MAX]] {
        assert_eq!(part(&skeleton, numbers), None, "{numbers:?}");
    }
    assert_eq!(text(&[], Section::Whole), Some(message));
    assert!(
        text(&[], Section::Header).is_some_and(|header| header.starts_with("HEADER") && header.ends_with("=a\r\n\r\n"))
    );
    assert!(text(&[], Section::Text).is_some_and(|body| body.starts_with("--a\r\n")));
    assert_eq!(text(&[], Section::Mime), None);
    assert_eq!(text(&[1], Section::Mime), Some("Content-Type: text/plain\r\n\r\n"));
    assert_eq!(text(&[1], Section::Header), None);
    assert_eq!(text(&[4], Section::Text), None);
    assert_eq!(text(&[5], Section::Header), Some("Subject: 5\r\n\r\n"));
    assert_eq!(text(&[5], Section::Text), Some("5.1"));
    assert_eq!(text(&[5, 1], Section::Mime), Some("Subject: 5\r\n\r\n"));
    assert!(text(&[3], Section::Header).is_some_and(|header| header.starts_with("Subject: 3\r\n")));
    // a message that is no multipart has a part 1; one that is a message has that message's parts below it
    let single = scanned(b"A: b\r\n\r\nbody").skeleton;
    assert_eq!(section(&single, &[1], Section::Whole), Some(8..12));
    assert_eq!(section(&single, &[1], Section::Mime), Some(0..8));
    assert_eq!(part(&single, &[1, 1]), None);
    let nested = scanned(b"Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nbody").skeleton;
    assert_eq!(section(&nested, &[1, 1], Section::Whole), Some(40..44));
    assert_eq!(section(&nested, &[1], Section::Header), Some(32..40));
}

#[test]
fn a_prefix_moves_everything() {
    let skeleton = scanned(b"Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nbody").skeleton.behind_prefix(100);
    assert_eq!((skeleton.root().header.clone(), skeleton.root().body.clone()), (0..132, 132..144));
    assert_eq!(section(&skeleton, &[1, 1], Section::Whole), Some(140..144));
}

#[test]
fn many_parts() {
    let all = format!("{MIXED}{}--x--\r\n", "--x\r\n\r\na\r\n".repeat(PARTS_MAX - 1));
    let structure = scan(all.as_bytes(), 4096);
    assert_eq!(structure.skeleton.parts().len(), PARTS_MAX);
    assert_eq!(scan(all.as_bytes(), 1), structure);
    let last = section(&structure.skeleton, &[9_999], Section::Whole).expect("the last part");
    assert_eq!(last.end - last.start, 1 + "\r\n--x--\r\n".len() as u64, "no delimiter counts behind the limit");
    let more = scan(format!("{MIXED}{}", "--x\r\n".repeat(50_000)).as_bytes(), 4096);
    assert_eq!(more.skeleton.parts().len(), PARTS_MAX);
    assert_eq!(Skeleton::decode(&more.skeleton.encode()), Some(more.skeleton));
}

#[test]
fn deep_parts() {
    for (piece, count) in [("Content-Type: message/rfc822\r\n\r\n", 1000), ("Content-Type: message/rfc822\n\n", 99)] {
        let message = piece.repeat(count);
        let structure = scanned(message.as_bytes());
        assert_eq!(structure.skeleton.parts().len(), DEPTH_MAX.min(count + 1));
        assert!(body_structure(&structure, true).len() < 20_000);
    }
    let level = |number: usize| format!("Content-Type: multipart/mixed; boundary=b{number}.\r\n\r\n--b{number}.\r\n");
    let message: String = (0..500).map(level).collect();
    assert_eq!(scanned(message.as_bytes()).skeleton.parts().len(), DEPTH_MAX);
}

#[test]
fn large_headers() {
    let long =
        format!("{MIXED}--x\r\nContent-Type: text/plain;{}\r\n\r\nbody\r\n--x--\r\n", " ".repeat(HEADER_OCTETS_MAX));
    let structure = scan(long.as_bytes(), 1000);
    assert!(
        body_structure(&structure, false).starts_with(b"((\"application\" \"octet-stream\" NIL NIL NIL \"binary\" 4) ")
    );
    // many parts with much to say: together they are bounded
    let part = format!("--x\r\nContent-Type: a/b; c=\"{}\"\r\n\r\n", "d".repeat(100_000));
    let structure = scan(format!("{MIXED}{}", part.repeat(100)).as_bytes(), 4096);
    assert!(body_structure(&structure, true).len() < CONTENT_OCTETS_MAX + 20_000);
    let part = format!("--x\r\nContent-Type: message/rfc822\r\n\r\nTo: {}\r\n\r\n", "a,".repeat(100_000));
    let structure = scan(format!("{MIXED}{}", part.repeat(100)).as_bytes(), 4096);
    assert!(body_structure(&structure, true).len() < CONTENT_OCTETS_MAX + 20_000);
}

#[test]
fn damaged_rows() {
    for row in [
        &b""[..],
        b"\x01",
        b"\x02\x01\0\0\0\0\0",
        b"\x01\x01\0\0\0\0",
        b"\x01\x01\0\0\0\0\0\0",
        b"\x01\x00",
        b"\x01\x01\x03\0\0\0\0",
        b"\x01\x01\x02\0\0\0\0",
        b"\x01\x02\x01\0\0\0\0\0\0\0\0\0",
        b"\x01\x01\x01\x01\0\0\0",
        b"\x01\x01\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\0",
        b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        assert_eq!(Skeleton::decode(row), None, "{row:x?}");
    }
    assert_eq!(Skeleton::decode(b"\x01\x01\0\0\0\0\0"), Some(Skeleton::default()));
}

/// Lines that messages are made of, so that random ones have a structure.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"Content-Type: multipart/mixed; boundary=x".to_vec()),
        Just(b"Content-Type: multipart/digest;\r\n boundary=\"xy\"".to_vec()),
        Just(b"Content-Type: message/rfc822".to_vec()),
        Just(b"Content-Type: text/plain; charset*0=\"; a".to_vec()),
        Just(b"Content-Disposition: attachment; filename*0*=utf-8''%e9; filename*1=\"\xe9\0\"".to_vec()),
        Just(b"From: g: \"a\" <@r:b@c>, (d \xe9) e@f;".to_vec()),
        Just(b"Subject: \xe9\0\r".to_vec()),
        Just(b"--x".to_vec()),
        Just(b"--x--".to_vec()),
        Just(b"--xy".to_vec()),
        Just(b"--xy--".to_vec()),
        Just(Vec::new()),
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let lines = proptest::collection::vec((line(), prop_oneof![Just("\r\n"), Just("\n")]), 0..40);
    lines.prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end.into()].concat()).collect())
}

proptest! {
    #[test]
    fn any_message_has_a_structure(message in message(), end in 0_usize..3) {
        let message = &message[..message.len().saturating_sub(end)];
        let structure = scanned(message);
        if structure.skeleton.parts().len() < 4 {
            is_grammatical(message, &structure);
        }
        let _ = body_structure(&structure, true);
    }

    #[test]
    fn any_row_is_read_without_panic(row: Vec<u8>) {
        if let Some(skeleton) = Skeleton::decode(&[&[1], row.as_slice()].concat()) {
            for place in 0..skeleton.parts().len() {
                prop_assert!(skeleton.children(place).all(|child| child < skeleton.parts().len()));
            }
        }
    }

    #[test]
    fn any_header_has_an_envelope(header: Vec<u8>) {
        let block = [b"From: ", header.as_slice(), b"\r\nTo: ", header.as_slice(), b"\r\nSubject: ", header.as_slice()].concat();
        is_grammatical(&block, &scan(&block, 10));
    }
}
