//! SORT and THREAD answer what a plain reading of RFC 5256 answers, however far the sort keys reach.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the numbers of a history are small")]

#[path = "order/naive.rs"]
mod naive;

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Engine, EngineOptions, InternalDate, MailboxId, MailboxView,
    Outcome,
    kv::{Batch, Durability, Family, Kv, SharedKv, keys, memory::MemoryKv},
};
use rockdove_mail::{
    Flags, UidSet,
    search::{SearchKey, SortCriterion, SortKey, ThreadAlgorithm, ThreadNode},
    text::casemap,
};

use self::naive::Mail;

const NOW: i64 = 1_800_000_000;
const INBOX: MailboxId = MailboxId(1);

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

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Subjects with what a reader sees of them below: their base, and whether they are a reply.
const SUBJECTS: [(&str, &str, bool); 16] = [
    ("", "", false),
    ("Re:", "", true),
    ("hello", "hello", false),
    ("Re: HELLO", "HELLO", true),
    ("[list] Fwd[2]: Hello (fwd)", "Hello", true),
    ("[fwd: hello]", "hello", true),
    ("Grüße", "Grüße", false),
    ("re: =?utf-8?q?GR=C3=9C=C3=9FE?=", "GRÜßE", true),
    ("=?koi8-r?B?8NLJ18XU?=", "Привет", false),
    ("Re: привет", "привет", true),
    ("会議", "会議", false),
    ("_under", "_under", false),
    ("Zebra", "Zebra", false),
    ("zebra", "zebra", false),
    ("[tag]", "[tag]", false),
    ("ｈello", "ｈello", false),
];

/// Addresses with the mailbox and the name that is shown.
const ADDRESSES: [(&str, &str, &str); 8] = [
    ("ada@x.example", "ada", "ada@x.example"),
    ("Bob <bob@y.example>, zoe@x.example", "bob", "Bob"),
    ("\"Zoë, Dr.\" <ZOE@x.example>", "ZOE", "Zoë, Dr."),
    ("=?utf-8?q?=C3=84nne?= <aenne@x.example>", "aenne", "Änne"),
    ("team: a@b, c@d;", "team", "team"),
    ("\"\" <empty@x.example>", "empty", "empty@x.example"),
    ("山田 <yamada@x.example>", "yamada", "山田"),
    ("", "", ""),
];

/// A message, and what a reader sees of it.
fn message(rng: &mut Rng) -> (Vec<u8>, Mail) {
    let mut text = String::new();
    let mut mail = Mail { arrived: NOW - rng.below(40) as i64 * 50_000, ..Mail::default() };
    if rng.below(5) > 0 {
        // Days of 2026 at noon, written in different zones.
        let (day, zone) = (1 + rng.below(20), rng.below(3) as i64);
        mail.sent = Some(1_767_225_600 + (day as i64 - 1) * 86_400 + 12 * 3_600 - zone * 3_600);
        writeln!(text, "Date: {day} Jan 2026 12:00:00 +0{zone}00\r").expect("a string takes all");
    }
    for (name, place) in [("From", 0), ("To", 1), ("Cc", 2)] {
        if rng.below(6) > 0 {
            let (value, mailbox, shown) = rng.pick(&ADDRESSES);
            writeln!(text, "{name}: {value}\r").expect("a string takes all");
            mail.mailboxes[place] = casemap(mailbox);
            mail.shown[place] = casemap(shown);
        }
    }
    if rng.below(6) > 0 {
        let (value, base, is_reply) = rng.pick(&SUBJECTS);
        writeln!(text, "Subject: {value}\r").expect("a string takes all");
        (mail.base, mail.is_reply) = (casemap(base), is_reply);
    }
    let id = |rng: &mut Rng| format!("m{}@x", rng.below(60));
    if rng.below(7) > 0 {
        let id = id(rng);
        let written = if rng.below(6) == 0 { format!("\"{}\"@x", id.trim_end_matches("@x")) } else { id.clone() };
        writeln!(text, "Message-ID: <{written}>\r").expect("a string takes all");
        mail.id = Some(id);
    }
    let references: Vec<String> = (0..rng.below(5)).map(|_| id(rng)).collect();
    if rng.below(3) > 0 {
        let written: Vec<String> = references.iter().map(|id| format!("<{id}>")).collect();
        writeln!(text, "References: {}\r", written.join("\r\n\t")).expect("a string takes all");
        mail.references = references;
    }
    if rng.below(3) == 0 {
        let (first, second) = (id(rng), id(rng));
        writeln!(text, "In-Reply-To: <{first}> of yesterday <{second}>\r").expect("a string takes all");
        if mail.references.is_empty() {
            mail.references = vec![first];
        }
    }
    write!(text, "\r\n{}", "x".repeat(rng.below(5))).expect("a string takes all");
    mail.size = text.len() as u64;
    (text.into_bytes(), mail)
}

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
    account: AccountId,
    /// By UID.
    mails: BTreeMap<u32, Mail>,
}

fn opened(kv: Arc<MemoryKv>, sort_key_cache_bytes_max: usize) -> Arc<Engine> {
    Engine::open(kv as SharedKv, EngineOptions { sort_key_cache_bytes_max, ..EngineOptions::default() }).expect("opens")
}

impl House {
    fn new(cache: usize) -> Self {
        let kv = Arc::new(MemoryKv::recording());
        let engine = opened(Arc::clone(&kv), cache);
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
        Self { kv, engine, account, mails: BTreeMap::new() }
    }

    fn append(&mut self, texts: Vec<(Vec<u8>, Mail)>) {
        let (mut messages, mut mails) = (Vec::new(), Vec::new());
        for (octets, mail) in texts {
            let mut staging = self.engine.stage();
            staging.write(&octets).expect("taken");
            let internal_date = InternalDate { unix_s: mail.arrived, offset_minutes: 60 };
            let message = staging.finish().expect("staged");
            messages.push(AppendMessage { message, flags: Flags::default(), internal_date });
            mails.push(mail);
        }
        let command = Command::Append { account: self.account, mailbox: INBOX, messages };
        let Ok(Outcome::Appended { uids, .. }) = self.engine.execute(NOW, command) else { panic!("appended") };
        self.mails.extend(uids.into_iter().zip(mails));
    }

    fn expunge(&mut self, uids: &UidSet) {
        let (account, mailbox) = (self.account, INBOX);
        let command = Command::Expunge { account, mailbox, uids: Some(uids.clone()), deleted_only: false };
        self.engine.execute(NOW, command).expect("accepted");
        self.mails.retain(|uid, _| !uids.contains(*uid));
    }

    fn act(&mut self, rng: &mut Rng) {
        match rng.below(9) {
            0..5 => {
                let most = if rng.below(3) == 0 { 80 } else { 8 };
                let count = 1 + rng.below(most);
                self.append((0..count).map(|_| message(rng)).collect());
            }
            5 => {
                let first = 1 + rng.below(300) as u32;
                self.expunge(&UidSet::range(first, first + rng.below(20) as u32));
            }
            6 if rng.below(5) == 0 => self.forget(),
            _ => {
                for _ in 0..rng.below(4) {
                    self.engine.catch_up(self.account, rng.below(3) == 0).expect("a slice");
                }
            }
        }
    }

    fn forget(&self) {
        let mut batch = Batch::default();
        let prefix = keys::account_prefix(self.account.0);
        let end = keys::prefix_end(&prefix);
        batch.delete_range(Family::Text, prefix, end);
        self.kv.write(&batch, Durability::Ordered).expect("written");
    }

    fn catch_up(&self) {
        while self.engine.catch_up(self.account, true).expect("a slice").more {}
    }

    fn view(&self) -> Arc<MailboxView> {
        self.engine.mailbox(self.account, INBOX).expect("a mailbox")
    }

    /// Asks for random orders and both kinds of threads, of all messages or some.
    fn compare(&self, rng: &mut Rng, when: &str) {
        let view = self.view();
        let first = rng.below(200) as u32;
        let uids = if rng.below(2) == 0 { UidSet::range(1, u32::MAX) } else { UidSet::range(first, first + 150) };
        let mails: Vec<(u32, &Mail)> =
            self.mails.iter().filter(|(uid, _)| uids.contains(**uid)).map(|(uid, mail)| (*uid, mail)).collect();
        let key = SearchKey::Uids(uids);
        for _ in 0..2 {
            let criteria: Vec<SortCriterion> = (0..=rng.below(3))
                .map(|_| SortCriterion { key: rng.pick(&KEYS), reverse: rng.below(2) == 0 })
                .collect();
            let found = self.engine.sort_view(self.account, &view, &key, &criteria).expect("sorted");
            assert_eq!(found, naive::sorted(&mails, &criteria), "{when}: {criteria:?}");
        }
        for algorithm in [ThreadAlgorithm::OrderedSubject, ThreadAlgorithm::References] {
            let found = self.engine.thread_view(self.account, &view, &key, algorithm).expect("threaded");
            assert_eq!(written(&found), naive::threads(&mails, algorithm), "{when}: {algorithm:?}");
        }
    }

    fn check(&self, when: &str) {
        self.engine.fsck(false, &mut |finding| panic!("{when}: {finding}")).expect("can be read");
    }
}

const KEYS: [SortKey; 9] = [
    SortKey::Arrival,
    SortKey::Cc,
    SortKey::Date,
    SortKey::DisplayFrom,
    SortKey::DisplayTo,
    SortKey::From,
    SortKey::Size,
    SortKey::Subject,
    SortKey::To,
];

/// `parent[child child[...]]`, `?` for nobody.
fn written(nodes: &[ThreadNode]) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for (at, node) in nodes.iter().enumerate() {
        while depth > node.depth {
            text.push(']');
            depth -= 1;
        }
        if depth < node.depth {
            text.push('[');
            depth = node.depth;
        } else if at > 0 {
            text.push(' ');
        }
        text.push_str(&node.uid.map_or_else(|| "?".to_owned(), |uid| uid.to_string()));
        let siblings = nodes[at + 1..].iter().take_while(|other| other.depth >= node.depth);
        let before = nodes[..at].iter().rev().take_while(|other| other.depth >= node.depth);
        let alone = !siblings.chain(before).any(|other| other.depth == node.depth);
        assert_eq!(node.only_child, alone && node.depth > 0, "{nodes:?} at {at}");
    }
    text + &"]".repeat(depth as usize)
}

#[test]
fn orders_and_threads_are_those_of_the_rfc() {
    for seed in 1..=12 {
        let mut house = House::new(if seed % 2 == 0 { 0 } else { 1024 * 1024 });
        let mut rng = Rng(seed);
        for number in 0..60 {
            house.act(&mut rng);
            house.compare(&mut rng, &format!("seed {seed}, act {number}"));
        }
        house.catch_up();
        house.check("caught up");
        house.compare(&mut rng, "caught up");
        house.forget();
        house.compare(&mut rng, "forgotten");
        house.catch_up();
        house.compare(&mut rng, "made anew");
        house.check("made anew");
    }
}

#[test]
fn sort_keys_that_cannot_be_read_change_no_answer() {
    let mut house = House::new(0);
    let mut rng = Rng(77);
    house.append((0..600).map(|_| message(&mut rng)).collect());
    house.catch_up();
    let is_sheet = |key: &[u8]| key.get(4) == Some(&keys::TEXT_PAGE) && key.get(5).is_some_and(|column| *column >= 16);
    let rows: Vec<_> =
        house.kv.dump().into_iter().filter(|(family, key, _)| *family == Family::Text && is_sheet(key)).collect();
    assert!(rows.len() > 6);
    for (_, key, row) in rows {
        for damaged in [&row[..row.len() / 2], &[], b"\x09"] {
            let mut batch = Batch::default();
            batch.put(Family::Text, key.clone(), damaged.to_vec());
            house.kv.write(&batch, Durability::Ordered).expect("written");
            house.compare(&mut rng, "damaged");
        }
        let mut findings = 0;
        house.engine.fsck(false, &mut |_| findings += 1).expect("can be read");
        assert!(findings > 0, "fsck sees a damaged page of sort keys");
        let mut batch = Batch::default();
        batch.put(Family::Text, key.clone(), row.to_vec());
        house.kv.write(&batch, Durability::Ordered).expect("written");
    }
    house.check("whole again");
}

#[test]
fn previews_are_the_same_whether_kept_or_made() {
    let mut house = House::new(1024 * 1024);
    let mut rng = Rng(3);
    let mail =
        |text: &str| (format!("Subject: x\r\n\r\n{text}").into_bytes(), Mail { arrived: NOW, ..Mail::default() });
    let mut texts = vec![mail("Hello\r\n> old\r\nyou"), mail(""), mail(&"lorem ipsum ".repeat(90_000))];
    texts.extend((0..300).map(|_| message(&mut rng)));
    house.append(texts);
    let ids: Vec<_> = house.view().entries(&UidSet::range(1, u32::MAX)).map(|entry| entry.message).collect();
    let made: Vec<String> = ids
        .iter()
        .map(|id| {
            let record = house.engine.record(house.account, *id).expect("a record");
            house.engine.preview(house.account, &record).expect("a preview")
        })
        .collect();
    assert_eq!(made[..2], ["Hello you", ""]);
    assert_eq!(made[2].chars().count(), 200);
    assert_eq!(house.engine.previews_kept(house.account, &ids), Ok(vec![None; ids.len()]));
    house.catch_up();
    let kept = house.engine.previews_kept(house.account, &ids).expect("read");
    assert_eq!(kept, made.into_iter().map(Some).collect::<Vec<_>>());
    house.check("caught up");
}

#[test]
fn threads_as_written_down() {
    let mut house = House::new(1024);
    let mail = |day: i64, subject: &str, id: &str, references: &str| {
        let text = format!("Subject: {subject}\r\nMessage-ID: <{id}>\r\nReferences: {references}\r\n\r\n");
        (text.into_bytes(), Mail { arrived: NOW + day, ..Mail::default() })
    };
    house.append(vec![
        mail(1, "one", "a", ""),
        mail(2, "Re: one", "b", "<a>"),
        // Its parent is not there, and the parent's parent is.
        mail(3, "Re: one", "d", "<a> <c>"),
        // Two children of nobody.
        mail(4, "two", "e", "<x>"),
        mail(5, "three", "f", "<x>"),
        // A loop.
        mail(6, "loop", "g", "<h>"),
        mail(7, "Re: loop", "h", "<g>"),
        // The id of another message, and its subject.
        mail(8, "one", "a", ""),
        mail(9, "Re: alone", "i", ""),
        mail(10, "alone", "j", ""),
    ]);
    let view = house.view();
    for _ in 0..2 {
        let threads = |algorithm| {
            written(&house.engine.thread_view(house.account, &view, &SearchKey::All, algorithm).expect("threaded"))
        };
        assert_eq!(threads(ThreadAlgorithm::References), "?[1[2 3] 8] ?[4 5] 7[6] 10[9]");
        assert_eq!(threads(ThreadAlgorithm::OrderedSubject), "1[2 3 8] 4 5 6[7] 9[10]");
        house.catch_up();
    }
}

#[test]
fn deep_and_hostile_threads_take_no_time_and_no_stack() {
    let mut house = House::new(8 * 1024 * 1024);
    let count = 5_000;
    let text = |id: usize, reference: usize| {
        format!("Message-ID: <{id}@x>\r\nReferences: <{reference}@x>\r\n\r\n").into_bytes()
    };
    let mail = || Mail { arrived: NOW, ..Mail::default() };
    house.append((0..count).map(|id| (text(id, id + 1), mail())).collect());
    house.catch_up();
    let view = house.view();
    let found = house.engine.thread_view(house.account, &view, &SearchKey::All, ThreadAlgorithm::References);
    assert_eq!(found.expect("threaded").last().expect("a message").depth as usize, count - 1);
}
