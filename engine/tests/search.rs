//! A search answers what reading every message answers, however far the texts reach.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a history are small")]

use std::{fmt::Write as _, sync::Arc};

use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Engine, EngineOptions, InternalDate, MailboxId, Outcome,
    StagedMessage,
    kv::{Batch, Durability, Family, Kv, SharedKv, keys, memory::MemoryKv},
};
use rockdove_mail::{
    Flags, SystemFlags, UidSet,
    search::{DateField, Day, SearchField, SearchKey},
};

const NOW: i64 = 1_800_000_000;
const INBOX: MailboxId = MailboxId(1);
const ARCHIVE: MailboxId = MailboxId(6);

/// A number is a history: splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const WORDS: [&str; 34] = [
    "linux",
    "kernel",
    "Kernelhacker",
    "free",
    "FREE",
    "software",
    "softwarefree",
    "subject",
    "from",
    "to:",
    "--",
    "a",
    "the",
    "x_1",
    "don’t",
    "Straße",
    "STRASSE",
    "Σίσυφος",
    "привет",
    "café",
    "cafe\u{301}",
    "Tiếng Việt",
    "việt",
    "我们明天在北京开会。请带上文件",
    "北京",
    "会议abc定义",
    "こんにちは世界",
    "안녕하세요",
    "السلام عليكم",
    "สวัสดีครับผมชื่อ",
    "😀👍🏽",
    "e\u{323}\u{302}\u{301}",
    "https://x.example/aVeryLongPathWithoutAnyPunctuationThatGoesOnAndOnForEver0123456789",
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3ODk",
];

fn sentence(rng: &mut Rng, words: usize) -> String {
    let mut text = String::new();
    for _ in 0..rng.below(words) {
        text.push_str(rng.pick(&WORDS));
        text.push_str(rng.pick(&[" ", " ", " ", ", ", "", "\r\n ", ". "]));
    }
    text
}

fn quoted(text: &str, charset_of: impl Fn(char) -> Option<u8>) -> String {
    let mut quoted = String::new();
    for letter in text.chars() {
        let octet = charset_of(letter).unwrap_or(b'?');
        if octet.is_ascii_alphanumeric() || octet == b' ' {
            quoted.push(char::from(octet));
        } else {
            write!(quoted, "={octet:02X}").expect("a string takes all");
        }
    }
    quoted
}

/// A message with a bit of everything, broken now and then.
fn message(rng: &mut Rng) -> Vec<u8> {
    let mut message = Vec::new();
    for name in ["From", "to", "Cc", "BCC", "Subject", "SUBJECT", "X-Tag", "List-Id", "Message-ID"] {
        if rng.below(3) > 0 {
            let value = sentence(rng, 5);
            let value = value.trim_ascii().replace("\r\n ", " ");
            message.extend(format!("{name}: {value}\r\n").into_bytes());
        }
    }
    if rng.below(6) == 0 {
        message.extend(b"no field at all\r\n");
    }
    let text = sentence(rng, 30);
    match rng.below(7) {
        0 => message.extend(format!("Content-Type: text/html; charset=utf-8\r\n\r\n<p>{text}<b>x</b>y").into_bytes()),
        1 => {
            message.extend(b"Content-Type: text/plain; charset=iso-8859-1\r\n");
            message.extend(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n");
            message.extend(quoted(&text, |letter| u8::try_from(u32::from(letter)).ok()).into_bytes());
        }
        2 => {
            message.extend(b"Content-Type: text/plain; charset=utf-8\r\n\r\n");
            // Cut in the middle of a character, or nonsense.
            message.extend(&text.as_bytes()[..rng.below(text.len() + 1)]);
            message.extend(b"\xff\xfe\xc3(");
        }
        3 => {
            message.extend(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n");
            message.extend(text.as_bytes());
            message.extend(b"\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner ");
            message.extend(sentence(rng, 4).replace("\r\n ", " ").into_bytes());
            message.extend(
                b"\r\n\r\ninside\r\n--x\r\nContent-Type: image/png; name=\"linux.png\"\r\n\r\nzzz\r\n--x--\r\n",
            );
        }
        4 => message.extend(b"\r\n"),
        5 if rng.below(20) == 0 => {
            // More text than is kept.
            message.extend(b"\r\n");
            message.extend("kernel many words ".repeat(70_000).into_bytes());
        }
        _ => {
            message.extend(b"\r\n");
            message.extend(text.into_bytes());
        }
    }
    message
}

fn needle(rng: &mut Rng) -> String {
    let text = match rng.below(5) {
        0 => return String::new(),
        1 => format!("{}{}", rng.pick(&WORDS), rng.pick(&["", " ", "-"])),
        2 => format!("{}: {}", rng.pick(&["t", "from", "subject", "x-tag", "id"]), rng.pick(&WORDS)),
        _ => sentence(rng, 4).replace("\r\n ", " "),
    };
    let letters: Vec<char> = text.chars().collect();
    let from = rng.below(letters.len() + 1);
    let until = from + rng.below(letters.len() - from + 1);
    let cut: String = letters[from..until].iter().collect();
    if rng.below(4) == 0 { cut.to_uppercase() } else { cut }
}

/// A needle with mistakes.
fn mistyped(rng: &mut Rng) -> String {
    let whole = rng.below(3) > 0;
    let text = if whole { sentence(rng, 3).replace("\r\n ", " ") } else { needle(rng) };
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..rng.below(3) {
        let at = rng.below(letters.len());
        match rng.below(4) {
            0 => letters.insert(at, 'q'),
            1 if at < letters.len() => drop(letters.remove(at)),
            2 if at + 1 < letters.len() => letters.swap(at, at + 1),
            _ if at < letters.len() => letters[at] = 'z',
            _ => {}
        }
    }
    letters.into_iter().collect()
}

fn key(rng: &mut Rng, depth: usize) -> SearchKey {
    let field = |rng: &mut Rng| match rng.below(9) {
        0 => SearchField::From,
        1 => SearchField::To,
        2 => SearchField::Cc,
        3 => SearchField::Bcc,
        4 => SearchField::Subject,
        5 => {
            let names = ["x-tag", "X-TAG", "subject", "list-id", "Message-Id", "x-ta", "", "x:y", "é", "content-type"];
            SearchField::Header(rng.pick(&names).to_owned())
        }
        6 => SearchField::Text,
        _ => SearchField::Body,
    };
    match rng.below(if depth == 0 { 5 } else { 10 }) {
        0 => match rng.below(5) {
            0 => SearchKey::All,
            1 => SearchKey::Flag(SystemFlags::SEEN),
            2 => SearchKey::Uids(UidSet::range(1 + rng.below(50) as u32, 60 + rng.below(400) as u32)),
            3 => SearchKey::Since(DateField::Sent, Day { days_since_epoch: 0 }),
            _ => SearchKey::Larger(rng.below(600) as u64),
        },
        1 => SearchKey::Fuzzy(field(rng), mistyped(rng)),
        2..5 => SearchKey::Text(field(rng), needle(rng)),
        5 => SearchKey::Not(Box::new(key(rng, depth - 1))),
        6 | 7 => SearchKey::Or(Box::new(key(rng, depth - 1)), Box::new(key(rng, depth - 1))),
        _ => SearchKey::And((0..rng.below(4)).map(|_| key(rng, depth - 1)).collect()),
    }
}

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
    account: AccountId,
}

fn opened(kv: Arc<MemoryKv>) -> Arc<Engine> {
    let options = EngineOptions { part_inline_max: 200, ..EngineOptions::default() };
    Engine::open(kv as SharedKv, options).expect("opens")
}

impl House {
    fn new() -> Self {
        let kv = Arc::new(MemoryKv::recording());
        let engine = opened(Arc::clone(&kv));
        engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
        let credential = Credential {
            argon2: "!".into(),
            scram_salt: vec![1],
            scram_iterations: 4096,
            scram_stored_key: [1; 32],
            scram_server_key: [2; 32],
        };
        let command = Command::CreateAccount { address: "u@a.example".into(), credential, quota_bytes: None };
        let Ok(Outcome::Account(account)) = engine.execute(NOW, command) else { panic!("an account") };
        Self { kv, engine, account }
    }

    fn run(&self, command: Command) {
        self.engine.execute(NOW, command).expect("accepted");
    }

    fn stage(&self, octets: &[u8]) -> Arc<StagedMessage> {
        let mut staging = self.engine.stage();
        octets.chunks(100_000).for_each(|octets| staging.write(octets).expect("taken"));
        staging.finish().expect("staged")
    }

    fn append(&self, mailbox: MailboxId, messages: &[Vec<u8>]) {
        let messages = messages.iter().map(|octets| AppendMessage {
            message: self.stage(octets),
            flags: Flags::default(),
            internal_date: InternalDate { unix_s: 0, offset_minutes: 0 },
        });
        self.run(Command::Append { account: self.account, mailbox, messages: messages.collect() });
    }

    fn uids(rng: &mut Rng, most: usize) -> UidSet {
        let first = 1 + rng.below(300) as u32;
        UidSet::range(first, first + rng.below(most) as u32)
    }

    fn act(&self, rng: &mut Rng) {
        let (account, both) = (self.account, [&INBOX, &ARCHIVE]);
        let (from, to) = (*rng.pick(&both), *rng.pick(&both));
        match rng.below(12) {
            0..5 => {
                let count = if rng.below(4) == 0 { 40 } else { 4 };
                let messages: Vec<Vec<u8>> = (0..rng.below(count)).map(|_| message(rng)).collect();
                self.append(from, &messages);
            }
            5 => self.run(Command::Copy { account, from, uids: Self::uids(rng, 20), to }),
            6 => self.run(Command::Move { account, from, uids: Self::uids(rng, 20), to }),
            7 => {
                let most = if rng.below(3) == 0 { 100 } else { 4 };
                let uids = Some(Self::uids(rng, most));
                self.run(Command::Expunge { account, mailbox: from, uids, deleted_only: false });
            }
            8 if rng.below(6) == 0 => self.forget(),
            _ => {
                for _ in 0..rng.below(4) {
                    self.engine.catch_up(account, rng.below(3) == 0).expect("a slice");
                }
            }
        }
    }

    /// All texts are gone, as if they had never been.
    fn forget(&self) {
        let mut batch = Batch::default();
        let prefix = keys::account_prefix(self.account.0);
        let end = keys::prefix_end(&prefix);
        batch.delete_range(Family::Text, prefix, end);
        self.kv.write(&batch, Durability::Ordered).expect("written");
    }

    fn catch_up(&self) -> u32 {
        let mut messages = 0;
        loop {
            let caught = self.engine.catch_up(self.account, true).expect("a slice");
            messages += caught.messages;
            if !caught.more {
                return messages;
            }
        }
    }

    fn texts(&self) -> usize {
        self.kv.dump().iter().filter(|(family, ..)| *family == Family::Text).count()
    }
}

/// Asks `count` random questions of both mailboxes.
fn compare(engine: &Engine, account: AccountId, rng: &mut Rng, count: usize, when: &str) -> usize {
    let mut found = 0;
    for _ in 0..count {
        let (key, mailbox) = (key(rng, 2), *rng.pick(&[&INBOX, &ARCHIVE]));
        let expected = engine.search_by_reading(account, mailbox, &key).expect("read");
        let answer = engine.search(account, mailbox, &key).expect("searched");
        assert_eq!(answer, expected, "{when}: {key:?}");
        found += usize::from(!answer.is_empty());
    }
    found
}

fn check(engine: &Engine, when: &str) {
    engine.fsck(false, &mut |finding| panic!("{when}: {finding}")).expect("can be read");
}

#[test]
fn a_search_answers_what_reading_answers_however_far_the_texts_reach() {
    for seed in 1..=8 {
        let house = House::new();
        let mut rng = Rng(seed);
        let mut found = 0;
        for number in 0..120 {
            house.act(&mut rng);
            let when = format!("seed {seed}, act {number}");
            found += compare(&house.engine, house.account, &mut rng, 3, &when);
            if rng.below(30) == 0 {
                check(&house.engine, &when);
            }
        }
        house.catch_up();
        check(&house.engine, "caught up");
        found += compare(&house.engine, house.account, &mut rng, 150, &format!("seed {seed}, caught up"));
        assert!(found > 150, "seed {seed}: {found} questions found something");
        let texts = house.texts();
        house.forget();
        compare(&house.engine, house.account, &mut rng, 20, "forgotten");
        house.catch_up();
        assert!(house.texts() <= texts, "made anew, there is not more");
        compare(&house.engine, house.account, &mut rng, 20, "made anew");
    }
}

#[test]
fn blocks_are_joined_and_cleared() {
    let house = House::new();
    let mut rng = Rng(99);
    let kinds: Vec<Vec<u8>> = (0..300).map(|_| message(&mut rng)).filter(|octets| octets.len() < 5_000).collect();
    for round in 0..90 {
        let messages: Vec<Vec<u8>> = (0..50).map(|_| kinds[rng.below(kinds.len())].clone()).collect();
        house.append(if round % 5 == 0 { ARCHIVE } else { INBOX }, &messages);
        if round % 7 == 0 {
            house.engine.catch_up(house.account, false).expect("a slice");
        }
    }
    house.catch_up();
    compare(&house.engine, house.account, &mut rng, 60, "joined");
    for _ in 0..3 {
        let first = 1 + rng.below(3_000) as u32;
        let uids = Some(UidSet::range(first, first + 200));
        house.run(Command::Expunge { account: house.account, mailbox: INBOX, uids, deleted_only: false });
        compare(&house.engine, house.account, &mut rng, 20, "expunged");
        house.catch_up();
        compare(&house.engine, house.account, &mut rng, 20, "cleared");
    }
    check(&house.engine, "joined and cleared");
}

#[test]
fn whenever_the_machine_dies_answers_stay_right() {
    for seed in 1..=3 {
        let house = House::new();
        let mut rng = Rng(seed);
        let first = house.kv.writes();
        for _ in 0..90 {
            house.act(&mut rng);
        }
        for writes in (first..=house.kv.writes()).step_by(3) {
            let when = format!("seed {seed}, died after write {writes}");
            let kv = Arc::new(house.kv.crash_image(writes, seed + writes as u64));
            let image = House { engine: opened(Arc::clone(&kv)), kv, account: house.account };
            check(&image.engine, &when);
            compare(&image.engine, image.account, &mut rng, 4, &when);
            image.act(&mut rng);
            image.catch_up();
            compare(&image.engine, image.account, &mut rng, 4, &format!("{when}, caught up"));
        }
    }
}

#[test]
fn what_is_gone_leaves_no_text() {
    let house = House::new();
    let mut rng = Rng(5);
    let messages: Vec<Vec<u8>> = (0..600).map(|_| message(&mut rng)).collect();
    house.append(INBOX, &messages);
    assert_eq!(house.catch_up() as usize + left_out(&house), 600);
    assert!(house.texts() > 20);
    let all = Some(UidSet::range(1, u32::MAX));
    house.run(Command::Expunge { account: house.account, mailbox: INBOX, uids: all, deleted_only: false });
    house.catch_up();
    assert_eq!(house.texts(), 1, "how far they reach");
    house.append(INBOX, &messages[..10]);
    house.catch_up();
    house.run(Command::RemoveAccount { address: "u@a.example".into() });
    assert_eq!(house.engine.catch_up(house.account, true).map(|caught| caught.more), Ok(false));
    while house.engine.sweep_removed(NOW).expect("a slice") {}
    assert_eq!(house.texts(), 0);
}

fn left_out(house: &House) -> usize {
    let of = |(family, key, _): &(Family, bytes::Bytes, bytes::Bytes)| {
        *family == Family::Text && key.get(4) == Some(&keys::TEXT_LEFT_OUT)
    };
    house.kv.dump().iter().filter(|row| of(row)).count()
}

#[test]
fn answers_as_written_down() {
    let house = House::new();
    let mail = |subject: &str, body: &str| {
        format!("Subject: {subject}\r\nX-Ref: <{subject}@x>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}")
            .into_bytes()
    };
    let long = "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789";
    let mut messages = vec![
        mail("one", "free software for all"),
        mail("two", "software that is free; free, software"),
        mail("three", "甲乙天甲乙天甲乙天。乙丙地乙丙地乙丙地"),
        mail("four", "天地甲乙丙天地甲乙丙天地"),
        mail("five", long),
        // Every window of the needle below is here, the needle is not.
        mail("six", "cdefghijklmno xbcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"),
        mail("Subject", "Kernelhacker"),
        mail("eight", "the freest softwares"),
    ];
    messages.extend((0..300).map(|number| mail(&format!("filler{number}"), "nothing to see")));
    house.append(INBOX, &messages);
    let text = |field: SearchField, needle: &str| SearchKey::Text(field, needle.to_owned());
    let questions: Vec<(SearchKey, &[u32])> = vec![
        (text(SearchField::Body, "free software"), &[1]),
        (text(SearchField::Body, "FREE, soft"), &[2]),
        (text(SearchField::Body, "free"), &[1, 2, 8]),
        (text(SearchField::Text, "ree softw"), &[1]),
        (text(SearchField::Body, "甲乙丙"), &[4]),
        (text(SearchField::Body, "甲乙"), &[3, 4]),
        (text(SearchField::Body, "丙"), &[3, 4]),
        (text(SearchField::Body, "地甲乙丙天地甲"), &[4]),
        (text(SearchField::Body, &long[..40]), &[5]),
        (text(SearchField::Body, "cdefghijklmno"), &[5, 6]),
        (text(SearchField::Body, "abcdefghijklmnopqrst"), &[5, 6]),
        (text(SearchField::Body, "9abcdefghijklmnopqrstuvwxyz0"), &[5]),
        (text(SearchField::Body, "ERNELHACK"), &[7]),
        (text(SearchField::Subject, "subject"), &[7]),
        (text(SearchField::Subject, "filler29"), &[38, 299, 300, 301, 302, 303, 304, 305, 306, 307, 308]),
        (text(SearchField::Text, "subject: t"), &[2, 3]),
        (text(SearchField::Header("x-ref".into()), "<two@"), &[2]),
        (text(SearchField::Header("X-Ref".into()), "x-ref"), &[]),
        (text(SearchField::Text, "x-ref: <f"), &[][..]),
    ];
    let fours: Vec<u32> = [4, 5].into_iter().chain(9..=308).collect();
    for caught_up in [false, true] {
        for (key, expected) in &questions {
            let expected = if *key == text(SearchField::Text, "x-ref: <f") { &fours[..] } else { *expected };
            let found = house.engine.search(house.account, INBOX, key).expect("searched");
            assert_eq!(found, expected, "caught up: {caught_up}, {key:?}");
        }
        house.catch_up();
    }
}

#[test]
fn long_texts_are_taken_in_over_several_slices() {
    let house = House::new();
    let long = |number: usize| format!("Subject: n{number}\r\n\r\n{}", "many words ".repeat(80_000)).into_bytes();
    house.append(INBOX, &(0..12).map(long).collect::<Vec<_>>());
    let first = house.engine.catch_up(house.account, false).and_then(|_| house.engine.catch_up(house.account, false));
    let first = first.expect("a slice").messages;
    assert!((1..12).contains(&first), "{first} messages in one slice");
    let all: Vec<u32> = (1..=12).collect();
    let subject = SearchKey::Text(SearchField::Subject, "N".into());
    assert_eq!(house.engine.search(house.account, INBOX, &subject), Ok(all.clone()));
    assert_eq!(house.catch_up() + first, 12);
    assert_eq!(house.engine.search(house.account, INBOX, &subject), Ok(all));
    assert_eq!(left_out(&house), 0);
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let house = House::new();
    let mut rng = Rng(21);
    let messages: Vec<Vec<u8>> = (0..560).map(|_| message(&mut rng)).collect();
    house.append(INBOX, &messages);
    house.catch_up();
    let rows: Vec<_> = house.kv.dump().into_iter().filter(|(family, ..)| *family == Family::Text).collect();
    let write = |key: &bytes::Bytes, row: &[u8]| {
        let mut batch = Batch::default();
        batch.put(Family::Text, key.clone(), row.to_vec());
        house.kv.write(&batch, Durability::Ordered).expect("written");
    };
    for (_, key, row) in rows {
        let mut damaged = row.to_vec();
        match key.get(4) {
            // A bit of the compressed text; the checksum tells.
            Some(&keys::TEXT_PAGE) => damaged[row.len() / 2 + 8] ^= 0x10,
            Some(&(keys::TEXT_REACH | keys::TEXT_WORDS | keys::TEXT_POSTINGS)) => damaged[0] = 9,
            _ => continue,
        }
        write(&key, &damaged);
        compare(&house.engine, house.account, &mut rng, 6, "damaged");
        // Cut short.
        write(&key, &row[..row.len() / 2]);
        compare(&house.engine, house.account, &mut rng, 3, "cut short");
        write(&key, &row);
    }
    check(&house.engine, "whole again");
}

/// What is found fuzzily, with how relevant it is.
fn relevant(house: &House, key: &SearchKey) -> Vec<(u32, u8)> {
    let view = house.engine.mailbox(house.account, INBOX).expect("opened");
    let found = house.engine.search_view(house.account, &view, key).expect("searched").into_iter().collect();
    house.engine.relevancy_view(house.account, &view, key, &found).expect("scored")
}

#[test]
fn words_that_are_alike_are_found_and_ranked() {
    let house = House::new();
    let mail = |subject: &str, body: &str| {
        format!("Subject: {subject}\r\nX-Tag: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}")
            .into_bytes()
    };
    let mut messages = vec![
        mail("IMAP break", "the meeting is in the café"),
        mail("broken imap", "the meetnig is in the cafe"),
        mail("nothing", "a metting, but no such place"),
        mail("Ω", "Schönheit und Straße, « meeting » of kernelhackers"),
        mail("breaks", "imap; kernlhaker"),
        mail("help", "helo 北京会议"),
    ];
    messages.extend((0..300).map(|number| mail(&format!("filler{number}"), "nobody sees this")));
    house.append(INBOX, &messages);
    let fuzzy = |field: SearchField, needle: &str| SearchKey::Fuzzy(field, needle.to_owned());
    let (body, text, subject) = (|| SearchField::Body, || SearchField::Text, || SearchField::Subject);
    let questions: Vec<(SearchKey, &[(u32, u8)])> = vec![
        (fuzzy(body(), "Meeting"), &[(1, 100), (2, 1), (3, 1), (4, 100)]),
        (fuzzy(body(), "CAFE"), &[(1, 100), (2, 100)]),
        (fuzzy(body(), "cafe\u{301}"), &[(1, 100), (2, 100)]),
        (fuzzy(body(), "schonhiet STRASSE"), &[(4, 100)]),
        (fuzzy(body(), "kernelhacker"), &[(4, 100), (5, 1)]),
        (fuzzy(body(), "place such"), &[(3, 100)]),
        (fuzzy(body(), "helo"), &[(6, 100)]),
        (fuzzy(body(), "京会"), &[(6, 100)]),
        (fuzzy(subject(), "break imap"), &[(1, 100)]),
        (fuzzy(subject(), "broke imap"), &[(2, 100)]),
        (fuzzy(subject(), "braek"), &[(1, 100)]),
        (fuzzy(text(), "imap breaks"), &[(1, 1), (5, 100)]),
        (fuzzy(SearchField::Header("x-tag".into()), "brokne"), &[(2, 100)]),
        (fuzzy(SearchField::Header("x-other".into()), "broken"), &[]),
        (fuzzy(text(), "nowhere at all"), &[]),
        (
            SearchKey::Or(Box::new(fuzzy(body(), "metting")), Box::new(fuzzy(body(), "kernelhacker"))),
            // Of four messages three have the one and two the other: 20, 80, 20 + 48 and 12 points.
            &[(1, 12), (3, 100), (4, 82), (5, 1)],
        ),
        (SearchKey::And(vec![fuzzy(body(), "meeting"), fuzzy(subject(), "imap")]), &[(1, 100), (2, 1)]),
        (fuzzy(body(), "--"), &[]),
    ];
    let ask = |(key, _): &(SearchKey, &[(u32, u8)])| relevant(&house, key);
    let read: Vec<Vec<(u32, u8)>> = questions.iter().map(ask).collect();
    house.catch_up();
    for (question, read) in questions.iter().zip(&read) {
        assert_eq!(&ask(question), read, "taken in: {:?}", question.0);
        assert_eq!(&question.1, read, "{:?}", question.0);
    }
}
