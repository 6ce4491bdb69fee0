//! FETCH responses, whole and in pages of every size.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_imap::{
    Numbers, ObjectId,
    command::Command,
    fetch::{
        FetchCursor, FetchFailure, FetchNews, FetchRequest, MessageFacts, MessageSource, Rendered, SectionText,
        render_page,
    },
    grammar::{Names, parse},
};
use rockdove_mail::{Flags, Keyword, SystemFlags, UidSet, mime::Encoding, text};

const HEADER: &[u8] = b"From: ann@example.com\r\nSubject: a\r\n folded one\r\nto: bob\r\nX-Y: z\r\n\r\n";
const BODY: &[u8] = b"Hello,\r\n.\r\nbye\r\n";

/// Messages, with what goes wrong with some.
#[derive(Default)]
struct Store {
    messages: BTreeMap<u32, (MessageFacts, Vec<u8>, u64)>,
    /// How their content is encoded.
    encoding: Encoding,
    /// Its facts are not there any more.
    gone: Option<u32>,
    /// It cannot be read from this octet on.
    unreadable: Option<(u32, u64)>,
}

impl Store {
    fn two() -> Self {
        let mut messages = Self::default();
        let mut flags = Flags::system(SystemFlags::SEEN);
        flags.keywords = vec![Keyword::new("$Work").expect("a keyword")];
        messages.add(4, flags, 10, BODY);
        messages.add(9, Flags::default(), 20, b"");
        messages
    }

    fn add(&mut self, uid: u32, flags: Flags, modseq: u64, body: &[u8]) {
        let octets = [HEADER, body].concat();
        let email_id = ObjectId { account: 3, number: uid };
        let facts = MessageFacts {
            flags,
            modseq,
            internal_date: (837_596_665, -420),
            size_bytes: octets.len() as u64,
            email_id,
            save_date_unix_s: 1_420_134_653,
        };
        self.messages.insert(uid, (facts, octets, HEADER.len() as u64));
    }

    fn ready(&self, uid: u32, text: &'static [u8]) -> Result<Bytes, FetchFailure> {
        match self.unreadable {
            Some((known, _)) if known == uid => Err(FetchFailure::Unreadable),
            _ => Ok(Bytes::from_static(text)),
        }
    }

    fn numbers(&self) -> Numbers {
        Numbers::new(self.messages.keys().copied().collect())
    }
}

impl MessageSource for Store {
    fn facts(&mut self, uid: u32) -> Option<MessageFacts> {
        self.messages.get(&uid).filter(|_| self.gone != Some(uid)).map(|(facts, ..)| facts.clone())
    }

    fn envelope(&mut self, uid: u32) -> Result<Bytes, FetchFailure> {
        self.ready(uid, b"(\"envelope\")")
    }

    fn body(&mut self, uid: u32) -> Result<Bytes, FetchFailure> {
        self.ready(uid, b"(\"body\")")
    }

    fn body_structure(&mut self, uid: u32) -> Result<Bytes, FetchFailure> {
        self.ready(uid, b"(\"structure\")")
    }

    fn preview(&mut self, uid: u32, lazy: bool) -> Result<Option<String>, FetchFailure> {
        self.ready(uid, b"").map(|_| (!lazy).then(|| "caf\u{e9} \"x\"".to_owned()))
    }

    fn section(&mut self, uid: u32, path: &[u32], text: &SectionText) -> Result<Option<Range<u64>>, FetchFailure> {
        let (_, octets, header) = self.messages.get(&uid).ok_or(FetchFailure::Gone)?;
        let length = octets.len() as u64;
        Ok(match (path, text) {
            ([], SectionText::All) => Some(0..length),
            ([], SectionText::Text) | ([1], SectionText::All) => Some(*header..length),
            ([], SectionText::Mime) => None,
            ([], _) => Some(0..*header),
            _ => None,
        })
    }

    fn content(&mut self, uid: u32, path: &[u32]) -> Result<Option<(Range<u64>, Encoding)>, FetchFailure> {
        let encoding = if path.is_empty() { Encoding::Identity } else { self.encoding };
        Ok(self.section(uid, path, &SectionText::All)?.map(|range| (range, encoding)))
    }

    fn read(&mut self, uid: u32, range: Range<u64>) -> Result<Bytes, FetchFailure> {
        if self.unreadable.is_some_and(|(known, from)| known == uid && range.end > from) {
            return Err(FetchFailure::Unreadable);
        }
        let (_, octets, _) = self.messages.get(&uid).ok_or(FetchFailure::Gone)?;
        let at = |offset: u64| usize::try_from(offset).expect("small");
        Ok(Bytes::copy_from_slice(&octets[at(range.start)..at(range.end)]))
    }
}

fn request(items: &str) -> FetchRequest {
    match parse(format!("a FETCH 1 {items}").as_bytes(), Names::default()).expect("a command").command {
        Command::Fetch { request, .. } => request,
        other => unreachable!("{other:?}"),
    }
}

/// All pages of these messages.
fn pages(
    messages: &mut Store,
    uids: &UidSet,
    items: &str,
    changed_since: Option<u64>,
    octets_aim: usize,
) -> (Vec<Rendered>, Result<(), FetchFailure>) {
    let (request, numbers, recent) = (request(items), messages.numbers(), UidSet::range(9, u32::MAX));
    let (mut pages, mut cursor) = (Vec::new(), FetchCursor::default());
    loop {
        assert!(pages.len() < 100_000, "the pages never end");
        let rendered = render_page(uids, &request, &numbers, &recent, changed_since, cursor, octets_aim, messages);
        match rendered {
            Ok(page) => {
                let next = page.next;
                pages.push(page);
                match next {
                    Some(next) => cursor = next,
                    None => return (pages, Ok(())),
                }
            }
            Err(failure) => return (pages, Err(failure)),
        }
    }
}

fn text(pages: &[Rendered]) -> String {
    let octets: Vec<u8> = pages.iter().flat_map(|page| page.octets.concat()).collect();
    String::from_utf8(octets).expect("UTF-8")
}

fn missing(pages: &[Rendered]) -> u32 {
    pages.iter().map(|page| page.missing).sum()
}

#[test]
fn items() {
    let whole = format!("{}{}", String::from_utf8_lossy(HEADER), String::from_utf8_lossy(BODY));
    let header = String::from_utf8_lossy(HEADER).into_owned();
    let cases: Vec<(&str, String)> = vec![
        ("UID", "UID 4".to_owned()),
        ("FLAGS", "FLAGS (\\Seen $Work)".to_owned()),
        ("FAST", "FLAGS (\\Seen $Work) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 83".to_owned()),
        ("(MODSEQ UID)", "MODSEQ (10) UID 4".to_owned()),
        ("(EMAILID THREADID)", "EMAILID (M3-4) THREADID NIL".to_owned()),
        ("ENVELOPE", "ENVELOPE (\"envelope\")".to_owned()),
        ("(BODY BODYSTRUCTURE)", "BODY (\"body\") BODYSTRUCTURE (\"structure\")".to_owned()),
        ("BODY.PEEK[]", format!("BODY[] {{83}}\r\n{whole}")),
        ("RFC822", format!("RFC822 {{83}}\r\n{whole}")),
        ("RFC822.HEADER", format!("RFC822.HEADER {{67}}\r\n{header}")),
        ("RFC822.TEXT", "RFC822.TEXT {16}\r\nHello,\r\n.\r\nbye\r\n".to_owned()),
        ("body[text]<0.5>", "BODY[TEXT]<0> {5}\r\nHello".to_owned()),
        ("BODY[TEXT]<3.500>", "BODY[TEXT]<3> {13}\r\nlo,\r\n.\r\nbye\r\n".to_owned()),
        ("BODY[TEXT]<16.1>", "BODY[TEXT]<16> \"\"".to_owned()),
        ("BODY[TEXT]<4294967295.4294967295>", "BODY[TEXT]<4294967295> \"\"".to_owned()),
        ("BODY[1]", "BODY[1] {16}\r\nHello,\r\n.\r\nbye\r\n".to_owned()),
        ("(BODY[2.1.MIME] UID)", "BODY[2.1.MIME] NIL UID 4".to_owned()),
        ("BODY[7]<0.5>", "BODY[7]<0> NIL".to_owned()),
        (
            "BODY.PEEK[HEADER.FIELDS (SUBJECT \"To\" {1+}\r\nx)]",
            "BODY[HEADER.FIELDS (SUBJECT To x)] {36}\r\nSubject: a\r\n folded one\r\nto: bob\r\n\r\n".to_owned(),
        ),
        (
            "BODY[HEADER.FIELDS.NOT (subject from \"a b\")]",
            "BODY[HEADER.FIELDS.NOT (subject from \"a b\")] {19}\r\nto: bob\r\nX-Y: z\r\n\r\n".to_owned(),
        ),
        ("BODY[HEADER.FIELDS (none)]", "BODY[HEADER.FIELDS (none)] {2}\r\n\r\n".to_owned()),
        ("BODY[HEADER.FIELDS (to)]<4.3>", "BODY[HEADER.FIELDS (to)]<4> {3}\r\nbob".to_owned()),
        ("BODY[1.HEADER.FIELDS (to)]", "BODY[1.HEADER.FIELDS (to)] NIL".to_owned()),
    ];
    for (items, want) in cases {
        let (pages, outcome) = pages(&mut Store::two(), &UidSet::range(4, 4), items, None, 100_000);
        assert_eq!((text(&pages), outcome), (format!("* 1 FETCH ({want})\r\n"), Ok(())), "{items}");
        assert_eq!((pages.len(), pages[0].octets.len()), (1, 1), "small answers are one buffer");
    }
}

#[test]
fn messages_of_a_set() {
    let mut messages = Store::two();
    messages.add(11, Flags::default(), 30, b"x");
    let all = UidSet::range(1, u32::MAX - 1);
    let both = "* 1 FETCH (UID 4 BODY[TEXT] {16}\r\nHello,\r\n.\r\nbye\r\n)\r\n* 2 FETCH (UID 9 BODY[TEXT] \"\")\r\n";
    let known = messages.messages.keys().copied().collect();
    let (all_pages, _) = pages(&mut messages, &known, "(UID BODY[TEXT])", None, 100_000);
    assert_eq!(text(&all_pages), format!("{both}* 3 FETCH (UID 11 BODY[TEXT] {{1}}\r\nx)\r\n"));
    let (changed, _) = pages(&mut messages, &known, "(FLAGS MODSEQ)", Some(10), 100_000);
    let want = "* 2 FETCH (FLAGS (\\Recent) MODSEQ (20))\r\n* 3 FETCH (FLAGS (\\Recent) MODSEQ (30))\r\n";
    assert_eq!(text(&changed), want);
    // Unchanged messages are not missing; unknown ones are.
    assert_eq!(missing(&changed), 0);
    let numbers = messages.numbers();
    let page =
        render_page(&all, &request("UID"), &numbers, &all, None, FetchCursor::default(), 1_000_000, &mut messages);
    let page = page.expect("a page");
    assert!(page.next.is_some(), "a page looks at a bounded number of messages");
    assert_eq!(text(&[page]), "* 1 FETCH (UID 4)\r\n* 2 FETCH (UID 9)\r\n* 3 FETCH (UID 11)\r\n");
}

#[test]
fn news_of_some() {
    let mut messages = Store::two();
    messages.add(11, Flags::default(), 30, b"x");
    let (known, numbers): (UidSet, _) = (messages.messages.keys().copied().collect(), messages.numbers());
    let flags = request("(FLAGS MODSEQ)").items;
    let news = Some(FetchNews { uids: [4, 11, 12].into_iter().collect(), items: flags });
    let request = FetchRequest { news, ..request("(UID BODY[TEXT])") };
    let want = "* 1 FETCH (UID 4 BODY[TEXT] {16}\r\nHello,\r\n.\r\nbye\r\n FLAGS (\\Seen $Work) MODSEQ (10))\r\n\
                * 2 FETCH (UID 9 BODY[TEXT] \"\")\r\n* 3 FETCH (UID 11 BODY[TEXT] {1}\r\nx FLAGS () MODSEQ (30))\r\n";
    for octets_aim in [1, 30, 100, 100_000] {
        let (mut pages, mut cursor) = (Vec::new(), Some(FetchCursor::default()));
        while let Some(from) = cursor {
            let recent = UidSet::new();
            let page = render_page(&known, &request, &numbers, &recent, None, from, octets_aim, &mut messages);
            let page = page.expect("a page");
            cursor = page.next;
            pages.push(page);
        }
        assert_eq!(text(&pages), want, "pages of {octets_aim}");
    }
}

#[test]
fn gone_and_unreadable() {
    let known = UidSet::range(4, 4).union(&UidSet::range(9, 9));
    let second = "* 2 FETCH (UID 9 BODY[TEXT] \"\")\r\n";
    let mut messages = Store { gone: Some(4), ..Store::two() };
    let (gone, outcome) = pages(&mut messages, &known, "(UID BODY[TEXT])", None, 1000);
    assert_eq!((text(&gone).as_str(), missing(&gone), outcome), (second, 1, Ok(())));
    // Before its response went out, a message is left out whole; the ones before it stay.
    let mut messages = Store { unreadable: Some((9, 0)), ..Store::two() };
    let (half, outcome) = pages(&mut messages, &known, "(UID FLAGS ENVELOPE)", None, 1000);
    let first = "* 1 FETCH (UID 4 FLAGS (\\Seen $Work) ENVELOPE (\"envelope\"))\r\n";
    assert_eq!((text(&half).as_str(), missing(&half), outcome), (first, 1, Ok(())));
}

fn large() -> Store {
    let mut messages = Store::two();
    let body: Vec<u8> = (0..100_000u32).map(|at| b'a' + u8::try_from(at % 26).expect("small")).collect();
    messages.add(20, Flags::default(), 40, &body);
    messages.add(21, Flags::default(), 50, &body[..20_000]);
    messages
}

#[test]
fn broken_in_a_literal() {
    let known = UidSet::range(4, 4).union(&UidSet::range(20, 21));
    // Within the first page nothing of it has gone out yet.
    let mut messages = Store { unreadable: Some((20, 90_000)), ..large() };
    let (whole, outcome) = pages(&mut messages, &known, "(UID BODY[])", None, 1_000_000);
    assert_eq!((missing(&whole), outcome), (1, Ok(())));
    assert!(text(&whole).contains("* 4 FETCH (UID 21 ") && !text(&whole).contains("* 3 FETCH"));
    // Later there is no way back.
    let (half, outcome) = pages(&mut messages, &known, "(UID BODY[])", None, 30_000);
    assert_eq!(outcome, Err(FetchFailure::Unreadable));
    assert!(text(&half).contains("* 3 FETCH (UID 20 BODY[] {100067}\r\n"));
}

#[test]
fn pages_are_about_as_large_as_they_should_be() {
    let mut messages = large();
    let known: UidSet = messages.messages.keys().copied().collect();
    for aim in [1, 1_000, 20_000, 64 * 1024] {
        let (all, _) = pages(&mut messages, &known, "(UID BODY[] BODY[HEADER])", None, aim);
        for page in &all {
            let octets = page.octets.iter().map(Bytes::len).sum::<usize>();
            assert!(octets > 0 && octets <= aim + 16 * 1024 + 400, "{octets} octets with an aim of {aim}");
        }
    }
}

/// Content of several pieces, decoded in pages of every size, is what it is when decoded as a whole.
#[test]
fn decoded_in_pages() {
    let mut octets: Vec<u8> =
        (0..200_000u32).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) % 251 + 1).expect("an octet")).collect();
    for has_nul in [false, true] {
        let mut encoded = base64(&octets);
        encoded.extend_from_slice(b"\r\n-- \r\nbehind the padding\r\n");
        let mut messages = Store { encoding: Encoding::Base64, ..Store::default() };
        messages.add(1, Flags::default(), 1, &encoded);
        assert_eq!(text::decode(&encoded, Encoding::Base64).as_deref(), Some(&octets[..]));
        let uids = UidSet::range(1, 1);
        for (items, first, most) in
            [("BINARY.PEEK[1]", 0, 200_000), ("BINARY[1]<0.10>", 0, 10), ("BINARY[1]<65530.70000>", 65_530, 70_000)]
        {
            let part = &octets[first..first + most];
            let tilde = if part.contains(&0) { "~" } else { "" };
            let partial = if items.contains('<') { format!("<{first}>") } else { String::new() };
            let wanted =
                [format!("* 1 FETCH (BINARY[1]{partial} {tilde}{{{most}}}\r\n").as_bytes(), part, b")\r\n"].concat();
            for aim in [1, 70_000, 1_000_000] {
                assert!(whole(pages(&mut messages, &uids, items, None, aim)) == wanted, "{items} {aim} {has_nul}");
            }
        }
        let size = whole(pages(&mut messages, &uids, "BINARY.SIZE[1]", None, 1));
        assert_eq!(String::from_utf8_lossy(&size), "* 1 FETCH (BINARY.SIZE[1] 200000)\r\n");
        octets[70_000] = 0;
    }
}

fn whole((pages, outcome): (Vec<Rendered>, Result<(), FetchFailure>)) -> Vec<u8> {
    outcome.expect("all pages");
    pages.iter().flat_map(|page| page.octets.concat()).collect()
}

fn base64(octets: &[u8]) -> Vec<u8> {
    let encoded = rockdove_mail::sasl::encode_line(octets);
    encoded.as_bytes().chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However a FETCH is cut into pages, it says the same.
    #[test]
    fn pages_add_up(
        aim in prop_oneof![1usize..200, 1_000usize..300_000],
        chosen in prop::sample::subsequence(vec![
            "UID", "FLAGS", "BODY[]", "BODY[TEXT]<10.50000>", "BODY[HEADER.FIELDS (To)]", "ENVELOPE", "BODY[9]", "RFC822",
            "BODY[TEXT]<1.17000>",
        ], 1..9).prop_shuffle(),
    ) {
        let items = format!("({})", chosen.join(" "));
        let mut messages = large();
        let known: UidSet = messages.messages.keys().copied().collect();
        let (one, _) = pages(&mut messages, &known, &items, None, usize::MAX);
        prop_assert_eq!(one.len(), 1);
        let (many, outcome) = pages(&mut messages, &known, &items, None, aim);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert!(text(&one) == text(&many), "pages of {} differ for {}", aim, items);
    }
}
