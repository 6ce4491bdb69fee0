//! What the engine knows of a message's structure, through its door.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_engine::{
    Command, Credential, Delivery, Engine, EngineOptions, InternalDate, MessageRecord, Outcome,
    kv::{SharedKv, memory::MemoryKv},
};
use rockdove_mail::{
    Flags, MailboxName,
    mime::{Section, section},
    search::{DateField, Day, SearchField, SearchKey},
};

const TRACE: &str = "Received: by here\r\n";
const MESSAGE: &str = "Subject: =?utf-8?q?Stra=C3=9Fe?=\r\nFrom: Joe <a@b.example>\r\n\
    Date: Thu, 1 Jan 1970 23:30:00 -0100\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
    <p>caf=E9 <b>au</b> lait</p>\r\n\
    --x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nhello\r\n\
    --x\r\nContent-Type: image/png; name=holiday.png\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--x--\r\n";

struct House {
    engine: Arc<Engine>,
    account: rockdove_engine::AccountId,
    mailbox: rockdove_engine::MailboxId,
}

fn house_with(message: &str) -> House {
    let kv: SharedKv = Arc::new(MemoryKv::default());
    let engine = Engine::open(kv, EngineOptions::default()).expect("opens");
    let run = |command| engine.execute(1, command).expect("accepted");
    run(Command::CreateDomain { domain: "a.example".into() });
    let credential = Credential {
        argon2: "!".into(),
        scram_salt: vec![1],
        scram_iterations: 4096,
        scram_stored_key: [1; 32],
        scram_server_key: [2; 32],
    };
    let command = Command::CreateAccount { address: "u@a.example".into(), credential, quota_bytes: None };
    let Outcome::Account(account) = run(command) else { unreachable!("an account") };
    let mut staging = engine.stage();
    message.as_bytes().chunks(7).for_each(|piece| staging.write(piece).expect("taken"));
    let delivery = Delivery {
        account,
        mailbox: MailboxName::inbox(),
        trace_header: Bytes::from_static(TRACE.as_bytes()),
        flags: Flags::default(),
        internal_date: InternalDate { unix_s: 0, offset_minutes: 0 },
    };
    run(Command::Deliver { message: staging.finish().expect("staged"), deliveries: vec![delivery] });
    let list = engine.mailboxes(account).expect("there");
    let mailbox = list.by_name(&MailboxName::inbox()).expect("INBOX").id;
    House { engine, account, mailbox }
}

impl House {
    fn record(&self) -> Arc<MessageRecord> {
        let view = self.engine.mailbox(self.account, self.mailbox).expect("view");
        let message = view.entry(1).expect("there").message;
        self.engine.record(self.account, message).expect("record")
    }

    fn finds(&self, key: &SearchKey) -> bool {
        self.engine.search(self.account, self.mailbox, key).expect("searched") == [1]
    }
}

#[test]
fn records_know_the_structure() {
    let house = house_with(MESSAGE);
    let record = house.record();
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&record.envelope).starts_with("(\"Thu, 1 Jan 1970 23:30:00 -0100\" \"=?utf-8?q?Stra=C3=9Fe?=\" "));
    assert!(text(&record.body).ends_with(") \"mixed\")"));
    assert!(text(&record.body_structure).ends_with(") \"mixed\" (\"boundary\" \"x\") NIL NIL NIL)"));
    assert_eq!(record.sent().map(|sent| (sent.unix_s, sent.offset_minutes)), Some((88_200, -60)));
    let skeleton = record.skeleton();
    let read = |numbers: &[u32], wanted| {
        let range = section(&skeleton, numbers, wanted).expect("a section");
        text(&house.engine.read(house.account, &record, range).expect("readable"))
    };
    assert_eq!(read(&[], Section::Whole), format!("{TRACE}{MESSAGE}"));
    assert_eq!(skeleton.root().header, record.header);
    assert!(read(&[], Section::Header).starts_with(TRACE));
    assert!(read(&[], Section::Text).starts_with("--x\r\n"));
    assert_eq!(read(&[1], Section::Whole), "<p>caf=E9 <b>au</b> lait</p>");
    assert_eq!(read(&[2], Section::Header), "Subject: inner\r\n\r\n");
    assert_eq!(read(&[2, 1], Section::Whole), "hello");
    assert_eq!(read(&[3], Section::Whole), "aGVsbG8=");
}

#[test]
fn search_reads_what_a_person_reads() {
    let house = house_with(MESSAGE);
    for (field, needle, found) in [
        (SearchField::Subject, "strasse", true),
        (SearchField::Subject, "STRAẞE", true),
        (SearchField::Subject, "utf-8", false),
        (SearchField::From, "JOE", true),
        (SearchField::To, "", false),
        (SearchField::Header("received".into()), "here", true),
        (SearchField::Header("X-None".into()), "", false),
        (SearchField::Body, "CAFÉ AU LAIT", true),
        (SearchField::Body, "<b>", false),
        (SearchField::Body, "hello", true),
        (SearchField::Body, "subject: inner", true),
        (SearchField::Body, "holiday", true),
        (SearchField::Body, "strasse", false),
        (SearchField::Text, "subject: strasse", true),
        (SearchField::Text, "au lait", true),
        (SearchField::Text, "aGVsbG8=", false),
    ] {
        assert_eq!(house.finds(&SearchKey::Text(field.clone(), needle.into())), found, "{field:?} {needle}");
    }
    // "disregarding time and timezone": the day as the sender wrote it
    let day = |days_since_epoch| Day { days_since_epoch };
    assert!(house.finds(&SearchKey::On(DateField::Sent, day(0))));
    assert!(!house.finds(&SearchKey::Since(DateField::Sent, day(1))));
}
