//! Conversations with filters that are written down here, cut in every way.

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_milter::{
    Actions, Change, Disposition, Failure, Judgement, QUIT, Recipient, Reply, Session, Step, Subject,
};

const OFFERED: u32 = 0x1f_f7ff;

fn subject() -> Subject {
    let recipient = |address: &str| Recipient { address: address.to_owned(), parameters: Vec::new() };
    Subject {
        hostname: "mail.rockdove.test".to_owned(),
        daemon_name: "smtp".to_owned(),
        peer: Some("192.0.2.7:2500".parse().expect("an address")),
        peer_name: None,
        helo: "client.example".to_owned(),
        tls: Some(("TLSv1.3".to_owned(), "AES".to_owned())),
        login: None,
        id: "id1".to_owned(),
        reverse_path: "eve@far.example".to_owned(),
        parameters: vec!["SIZE=10".to_owned()],
        recipients: vec![recipient("ada@rockdove.test"), recipient("ben@rockdove.test")],
        octets: Bytes::from_static(b"Subject: one\r\n\ttwo\r\nno field\r\nTo:  ada\r\n\r\nbody\r\nmore\r\n"),
        actions: Actions::ADD_HEADERS | Actions::CHANGE_HEADERS | Actions::QUARANTINE,
    }
}

fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).expect("short").to_be_bytes();
    [&length[..], &[kind], data].concat()
}

fn negotiation(version: u32, actions: u32, protocol: u32) -> Vec<u8> {
    packet(b'O', &[version, actions, protocol].map(u32::to_be_bytes).concat())
}

/// Every packet that was sent, as text.
fn packets(mut sent: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((length, rest)) = sent.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        all.push(rest[..length].escape_ascii().to_string());
        sent = &rest[length..];
    }
    all
}

/// Converses with a filter that says its answers one by one. Gives all that it was told, and the end.
fn converse(subject: Subject, answers: &[Vec<u8>], cut: usize) -> (Vec<String>, Result<Judgement, Failure>) {
    let mut session = Session::new(subject);
    let (mut sent, mut answers) = (Vec::new(), answers.iter());
    loop {
        match session.poll() {
            Step::Send(octets) => sent.extend_from_slice(&octets),
            Step::Receive => {
                let answer = answers.next().unwrap_or_else(|| panic!("no answer after {:?}", packets(&sent)));
                let mut pieces = answer.chunks(cut.max(1)).peekable();
                while let Some(piece) = pieces.next() {
                    session.received(piece);
                    if pieces.peek().is_some() {
                        assert_eq!(session.poll(), Step::Receive);
                    }
                }
            }
            Step::Done(end) => {
                assert_eq!(session.poll(), Step::Done(end.clone().map(|_| Judgement::default())));
                return (packets(&sent), end);
            }
        }
    }
}

fn continues(count: usize) -> Vec<Vec<u8>> {
    vec![packet(b'c', b""); count]
}

#[test]
fn a_filter_that_wants_everything_is_told_everything() {
    let mut answers = vec![negotiation(6, 0x11, 0)];
    // Connect, helo, mail, two recipients, data, two fields, end of header, body.
    answers.extend(continues(10));
    let changes = [
        packet(b'p', b""),
        packet(b'h', b"X-Seen\0by me\0"),
        packet(b'i', b"\0\0\0\0X-First\0yes\0"),
        packet(b'm', b"\0\0\0\x01Subject\0new\0"),
        packet(b'q', b"looks odd\0"),
    ];
    let quarantines = [packet(b'c', b"")];
    answers.extend([changes.concat(), quarantines.concat()]);
    let told = [
        r"O\x00\x00\x00\x06\x00\x00\x001\x00\x1f\xf7\xff",
        r"DCj\x00mail.rockdove.test\x00_\x00[192.0.2.7]\x00{daemon_name}\x00smtp\x00{client_addr}\x00192.0.2.7\x00{client_name}\x00[192.0.2.7]\x00",
        r"C[192.0.2.7]\x004\t\xc4192.0.2.7\x00",
        r"DH{tls_version}\x00TLSv1.3\x00{cipher}\x00AES\x00",
        r"Hclient.example\x00",
        r"DMi\x00id1\x00{mail_addr}\x00eve@far.example\x00",
        r"M<eve@far.example>\x00SIZE=10\x00",
        r"DRi\x00id1\x00{rcpt_addr}\x00ada@rockdove.test\x00",
        r"R<ada@rockdove.test>\x00",
        r"DRi\x00id1\x00{rcpt_addr}\x00ben@rockdove.test\x00",
        r"R<ben@rockdove.test>\x00",
        r"DTi\x00id1\x00",
        "T",
        r"LSubject\x00one\n\ttwo\x00",
        r"LTo\x00 ada\x00",
        r"DNi\x00id1\x00",
        "N",
        r"Bbody\r\nmore\r\n",
        r"DEi\x00id1\x00",
        "E",
    ];
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = {
        let (seen, first) = (field("X-Seen", "by me"), field("X-First", "yes"));
        Judgement {
            disposition: Disposition::Accept,
            quarantine: Some("looks odd".to_owned()),
            changes: vec![
                Change::AddHeader { name: seen.0, value: seen.1 },
                Change::InsertHeader { index: 0, name: first.0, value: first.1 },
                Change::ChangeHeader { index: 1, name: "Subject".to_owned(), value: Some("new".to_owned()) },
            ],
            refused: Vec::new(),
        }
    };
    for cut in [1, 2, 5, 1000] {
        let (said, end) = converse(subject(), &answers, cut);
        assert_eq!(said, told);
        assert_eq!(end, Ok(expected.clone()));
    }
    assert_eq!(packets(QUIT), ["Q"]);
}

#[test]
fn a_filter_is_told_no_more_than_it_wants() {
    // No connect, helo, mail, recipients, data, end of header; fields are not answered, and keep their spaces.
    let protocol = 0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x200 | 0x80 | 0x10_0000;
    let (said, end) = converse(subject(), &[negotiation(6, 0, protocol), packet(b's', b""), packet(b'c', b"")], 9);
    let told = [r"LSubject\x00 one\n\ttwo\x00", r"LTo\x00  ada\x00", r"Bbody\r\nmore\r\n", r"DEi\x00id1\x00", "E"];
    assert_eq!(said[1..], told);
    assert_eq!(end, Ok(Judgement::default()));
    // Nothing but the end: the header is passed over, too.
    let (said, _) = converse(subject(), &[negotiation(2, 0, 0x7f | 0x10_0000), packet(b'c', b"")], 9);
    assert_eq!(said[1..], [r"DEi\x00id1\x00", "E"]);
    // No header, but the body, which begins behind it.
    let (said, _) = converse(subject(), &[negotiation(2, 0, 0x6f), packet(b'c', b""), packet(b'c', b"")], 9);
    assert_eq!(said[1], r"Bbody\r\nmore\r\n");
}

#[test]
fn large_bodies_come_in_pieces_until_the_filter_has_enough() {
    let mut large = subject();
    large.octets = Bytes::from([b"A: b\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat());
    let wanted = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x200;
    let chunks = |said: &[String]| said.iter().filter(|packet| packet.starts_with('B')).map(String::len).collect();
    let mut answers = vec![negotiation(6, 0, wanted)];
    answers.extend(continues(5));
    let (said, _) = converse(large.clone(), &answers, 9);
    let sizes: Vec<usize> = chunks(&said);
    assert_eq!(sizes, [65_536, 65_536, 65_536, 3_396]);
    let answers = [negotiation(6, 0, wanted | 0x400), packet(b'c', b""), packet(b's', b""), packet(b'a', b"")];
    let (said, end) = converse(large.clone(), &answers, 9);
    let sizes: Vec<usize> = chunks(&said);
    assert_eq!((sizes.len(), end), (2, Ok(Judgement::default())));
    let (said, _) = converse(large, &[negotiation(6, 0, wanted | 0x8_0000), packet(b'c', b"")], 9);
    let sizes: Vec<usize> = chunks(&said);
    assert_eq!(sizes.len(), 4);
}

#[test]
fn refusals() {
    let reply = |code, status: &str, text: &str| Reply { code, status: status.into(), text: text.into() };
    let refused = |reply: Reply| Ok(Judgement { disposition: Disposition::Refuse(reply), ..Judgement::default() });
    let no = reply(550, "5.7.1", "the message was refused by a filter");
    let later = reply(451, "4.7.1", "the message cannot be taken now, try again later");
    for (continued, last, expected) in [
        (0, packet(b'r', b""), refused(no.clone())),
        (1, packet(b't', b""), refused(later)),
        (2, packet(b'y', b"552 5.3.4 too large\0"), refused(reply(552, "5.3.4", "too large"))),
        (2, packet(b'a', b""), Ok(Judgement::default())),
        (5, packet(b'd', b""), Ok(Judgement { disposition: Disposition::Discard, ..Judgement::default() })),
        (10, [packet(b'h', b"A\0b\0"), packet(b'r', b"")].concat(), refused(no.clone())),
        (3, packet(b'y', b"250 fine\0"), Err(Failure::Unexpected('y'))),
        (3, packet(b'4', b""), Err(Failure::Gone)),
        (3, packet(b'h', b"A\0b\0"), Err(Failure::Unexpected('h'))),
        (10, packet(b'b', b"another body"), Err(Failure::Unexpected('b'))),
        (10, packet(b'+', b"eve@far.example\0"), Err(Failure::NotOffered("AddRecipient(\"eve@far.example\")".into()))),
        (10, b"\0\0\0\0".to_vec(), Err(Failure::Length)),
    ] {
        let mut answers = vec![negotiation(6, 1, 0)];
        answers.extend(continues(continued));
        answers.push(last);
        assert_eq!(converse(subject(), &answers, 3).1, expected);
    }
    // One recipient is refused, the other is not.
    let mut answers = vec![negotiation(6, 1, 0)];
    answers.extend(continues(3));
    answers.push(packet(b'y', b"550 5.1.1 not here\0"));
    answers.extend(continues(7));
    let judgement = Judgement { refused: vec![(0, reply(550, "5.1.1", "not here"))], ..Judgement::default() };
    assert_eq!(converse(subject(), &answers, 3).1, Ok(judgement));
    // Both are.
    let mut answers = vec![negotiation(6, 1, 0)];
    answers.extend(continues(3));
    answers.extend(vec![packet(b'r', b""); 2]);
    assert_eq!(converse(subject(), &answers, 3).1, refused(no));
}

#[test]
fn negotiations() {
    for (answer, expected) in [
        (negotiation(7, 0, 0), Failure::Version(7)),
        (negotiation(1, 0, 0), Failure::Version(1)),
        (negotiation(6, 0x40, 0), Failure::NotOffered("actions 0x40".into())),
        (negotiation(6, 0, 0x800), Failure::NotOffered("protocol 0x800".into())),
        (packet(b'O', b"\0\0\0\x06"), Failure::Unexpected('O')),
        (packet(b'c', b""), Failure::Unexpected('c')),
    ] {
        assert_eq!(converse(subject(), &[answer], 2).1, Err(expected));
    }
    // What later versions put behind is passed over.
    let longer = packet(b'O', &[[6, 0, 0x7f].map(u32::to_be_bytes).concat(), b"more".to_vec()].concat());
    assert!(converse(subject(), &[longer, packet(b'c', b""), packet(b'c', b"")], 2).1.is_ok());
}

proptest! {
    #[test]
    fn whatever_a_filter_says_it_ends(
        protocol in any::<u32>(),
        said in proptest::collection::vec(("[+24abcdefhilmpqrsty-]", ".{0,20}"), 0..40),
    ) {
        let mut session = Session::new(subject());
        session.received(&negotiation(6, 0x31, protocol & OFFERED));
        for (kind, data) in said {
            session.received(&packet(kind.as_bytes()[0], data.as_bytes()));
        }
        let steps = (0..200).map(|_| session.poll()).find(|step| !matches!(step, Step::Send(_)));
        prop_assert!(matches!(steps, Some(Step::Receive | Step::Done(_))));
    }
}
