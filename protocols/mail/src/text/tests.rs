//! What is read and found, as data.

use super::*;
use crate::mime::{Scanner, part};

fn skeleton(message: &[u8]) -> Skeleton {
    let mut scanner = Scanner::new();
    scanner.push(message);
    scanner.finish().skeleton
}

#[test]
fn parts() {
    for (message, expected) in [
        (&b""[..], Some("")),
        (b"Subject: x\r\n\r\nbody\r\n", Some("body\r\n")),
        (b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\ncaf\xe9", Some("café")),
        (b"Content-Type: text/plain; charset=\"UTF-8\"\r\n\r\ncaf\xc3\xa9", Some("café")),
        (b"\r\ncaf\xc3\xa9", Some("café")),
        (b"\r\ncaf\xe9", Some("café")),
        (b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xff", Some("\u{fffd}")),
        (b"Content-Transfer-Encoding: Base64\r\n\r\nY2Fm\r\nw6k=\r\n", Some("café")),
        (b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=\r\n=A9", Some("café")),
        (b"Content-Transfer-Encoding: x-uuencode\r\n\r\nabc", None),
        (b"Content-Type: text/html\r\n\r\n<p>a <b>b</b>&eacute;</p>", Some("a bé\n")),
        (b"Content-Type: text/html; charset=utf-16le\r\n\r\n<\0b\0>\0a\0", Some("a")),
        (b"Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR", Some("BEGIN:VCALENDAR")),
        (b"Content-Type: message/delivery-status\r\n\r\nStatus: 5.1.1", Some("Status: 5.1.1")),
        (b"Content-Type: image/png\r\n\r\nabc", None),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--", None),
        (b"Content-Type: message/rfc822\r\n\r\nA: b", None),
        (b"Content-Type: multipart/mixed\r\n\r\nno boundary", Some("no boundary")),
    ] {
        let skeleton = skeleton(message);
        let text = of_part(message, skeleton.root());
        assert_eq!(text.as_deref(), expected, "{}", String::from_utf8_lossy(message));
    }
    // offsets that are not of this message
    let other = skeleton(b"A: b\r\n\r\nbody");
    assert_eq!(of_part(b"A: b\r\n\r\n", other.root()), None);
}

const MESSAGE: &str = "From: =?utf-8?q?J=C3=B8rgen?= <j@x.example>\r\nTo: Ann\r\n <ann@x.example>, Bob <bob@x.example>\r\n\
    Cc: c@x.example\r\nSubject: caf\u{e9} =?utf-8?b?w6k=?=\r\nX-Tag: one\r\nx-tag: TWO\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\npreamble\r\n\
    --x\r\n\r\nplain text\r\n\
    --x\r\nContent-Type: text/html\r\n\r\n<i class=hidden>ital</i>ic\r\n\
    --x\r\nContent-Type: multipart/digest; boundary=y\r\n\r\n\
    --y\r\n\r\nSubject: =?utf-8?q?inn=C3=A9r?=\r\n\r\ndigested\r\n--y--\r\n\
    --x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''r%C3%A9sum%C3%A9.pdf\r\n\
    Content-Transfer-Encoding: base64\r\n\r\ncGRm\r\n--x--\r\nepilogue\r\n";

#[test]
fn fields_are_searched() {
    use SearchField::{Bcc, Body, Cc, From, Header, Subject, Text, To};
    let skeleton = skeleton(MESSAGE.as_bytes());
    for (field, needle, found) in [
        (From, "JØRGEN", true),
        (From, "jørgen <j@", true),
        (From, "ann", false),
        (To, "ann <ann@x", true),
        (To, "bob@X.EXAMPLE", true),
        (To, "", true),
        (Cc, "c@", true),
        (Bcc, "", false),
        (Bcc, "c", false),
        (Subject, "CAFÉ É", true),
        (Subject, "cafe\u{301}", true),
        (Subject, "cafee", false),
        (Header("X-TAG".into()), "two", true),
        (Header("X-Tag".into()), "", true),
        (Header("X-Tag".into()), "three", false),
        (Header("X-Ta".into()), "", false),
        (Header("Subject".into()), "inner", false),
        (Body, "Plain", true),
        (Body, "italic", true),
        (Body, "hidden", false),
        (Body, "digested", true),
        (Body, "subject: innér", true),
        (Body, "RÉSUMÉ.pdf", true),
        (Body, "cGRm", false),
        (Body, "jørgen", false),
        (Body, "", true),
        (Body, "preamble", false),
        (Text, "x-tag: two", true),
        (Text, "to: ann", true),
        (Text, "digested", true),
        (Text, "", true),
        (Text, "nothing of this", false),
    ] {
        let needle = fold(needle);
        assert_eq!(matches(MESSAGE.as_bytes(), &skeleton, &field, &needle), found, "{field:?} {needle}");
        let header = &MESSAGE.as_bytes()[..usize::try_from(skeleton.root().header.end).expect("small")];
        if !matches!(field, Body | Text) {
            assert_eq!(matches(header, &skeleton, &field, &needle), found, "in the header alone: {field:?} {needle}");
        }
    }
}

#[test]
fn everything_is_shown_once_and_in_order() {
    let skeleton = skeleton(MESSAGE.as_bytes());
    let mut seen = Vec::new();
    let stopped = visit(MESSAGE.as_bytes(), &skeleton, &mut |source, text| {
        seen.push(match source {
            Source::Header(name) => format!("{}={text}", String::from_utf8_lossy(name)),
            Source::Body => format!("body={text}"),
            Source::FileName => format!("file={text}"),
        });
        false
    });
    assert!(!stopped);
    assert_eq!(
        seen,
        [
            "From=Jørgen <j@x.example>",
            "To=Ann <ann@x.example>, Bob <bob@x.example>",
            "Cc=c@x.example",
            "Subject=café é",
            "X-Tag=one",
            "x-tag=TWO",
            "Content-Type=multipart/mixed; boundary=x",
            "body=plain text",
            "body=italic",
            "body=Subject: innér",
            "body=digested",
            "file=résumé.pdf",
        ]
    );
    let mut count = 0;
    assert!(visit(MESSAGE.as_bytes(), &skeleton, &mut |_, _| {
        count += 1;
        count == 3
    }));
    assert_eq!(count, 3);
    assert_eq!(part(&skeleton, &[2]).and_then(|part| of_part(MESSAGE.as_bytes(), part)).as_deref(), Some("italic"));
}

#[test]
fn documents_that_never_end_take_linear_time() {
    for piece in ["<a =\"", "<", "<!--", "<style>", "</style", "&a", "&#", "<a b='", "<p>&amp;", "(", "\u{345}\u{301}"]
    {
        let html = piece.repeat(100_000);
        let message = format!("Content-Type: text/html\r\n\r\n{html}");
        let text = of_part(message.as_bytes(), skeleton(message.as_bytes()).root()).expect("text");
        assert!(text.len() <= 2 * html.len());
        assert!(fold(&text).len() <= 4 * html.len());
    }
}
