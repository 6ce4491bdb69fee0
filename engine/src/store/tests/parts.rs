//! Parts: what is stored of a message, and how often.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::{House, NOW, deliver, mail};
use crate::{
    command::{AccountId, AppendMessage, Command, InternalDate, MailboxId, Outcome},
    kv::{Family, keys},
    store::{Staging, frame::FRAME_BYTES_MAX, parts::PART_GRACE_S},
};

/// Octets that nothing compresses.
fn noise(seed: &str, octets: usize) -> Vec<u8> {
    let mut noise = vec![0; octets];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// Octets in base64, in lines.
fn encoded(octets: &[u8], line: usize, line_end: &str) -> String {
    let text = STANDARD.encode(octets);
    let lines: Vec<&str> = text.as_bytes().chunks(line).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    lines.join(line_end) + line_end
}

/// A message with an attachment.
fn with_attachment(subject: &str, attachment: &str) -> Vec<u8> {
    format!(
        "Subject: {subject}\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\n\r\nSee {subject}.\r\n--cut\r\n\
         Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n{attachment}--cut--\r\n"
    )
    .into_bytes()
}

impl House {
    fn part_bytes(&self) -> usize {
        self.kv.dump().iter().filter(|(family, _, _)| *family == Family::Part).map(|(_, _, row)| row.len()).sum()
    }

    /// Parts whose content is known by its hash.
    fn parts(&self) -> usize {
        let is_hash = |key: &[u8]| key.first() == Some(&keys::REFERENCE_HASH);
        self.kv.dump().iter().filter(|(family, key, _)| *family == Family::Reference && is_hash(key)).count()
    }

    fn check(&self) {
        let mut findings = Vec::new();
        self.engine.fsck(false, &mut |finding| findings.push(finding.to_string())).expect("can be read");
        assert!(findings.is_empty(), "{findings:#?}");
    }

    fn put(&self, account: AccountId, mailbox: MailboxId, bytes: &[u8]) {
        let uid = self.append(account, mailbox, bytes, rockdove_mail::Flags::default());
        let entry = self.engine.mailbox(account, mailbox).expect("view").entry(uid).expect("there");
        assert!(self.whole(account, entry.message) == bytes, "it comes out as it went in");
    }

    fn empty(&self, account: AccountId, mailbox: MailboxId) {
        self.run(Command::Expunge { account, mailbox, uids: None, deleted_only: false });
    }
}

#[test]
fn an_attachment_is_stored_once_and_decoded() {
    let (house, accounts) = House::with_accounts(2);
    let inboxes: Vec<_> = accounts.iter().map(|account| house.mailbox(*account, "INBOX")).collect();
    let attachment = noise("pdf", 600_000);
    for (number, (line, line_end)) in [(76, "\r\n"), (76, "\n"), (60, "\r\n"), (1_000, "\r\n")].into_iter().enumerate()
    {
        let message = with_attachment(&format!("m{number}"), &encoded(&attachment, line, line_end));
        house.put(accounts[number % 2], inboxes[number % 2], &message);
        assert_eq!((house.parts(), house.rows(Family::Part)), (1, 3), "lines of {line}");
    }
    assert!(house.part_bytes() < 600_200);
    // As it is, it is another part: nothing may depend on what its header says.
    let raw = with_attachment("raw", &(String::from_utf8_lossy(&mail("x", 5_000)) + "\r\n"));
    house.put(accounts[0], inboxes[0], &raw);
    assert_eq!(house.parts(), 2);
    house.check();
    house.empty(accounts[0], inboxes[0]);
    assert_eq!(house.engine.collect_parts(NOW + PART_GRACE_S + 1, 10), Ok(1), "the other account needs one");
    house.check();
    house.empty(accounts[1], inboxes[1]);
    assert_eq!(house.engine.collect_parts(NOW + PART_GRACE_S + 1, 10), Ok(1));
    assert_eq!(house.rows(Family::Part) + house.rows(Family::Reference), 0);
}

#[test]
fn broken_base64_comes_out_as_it_went_in() {
    let (house, accounts) = House::with_accounts(1);
    let inbox = house.mailbox(accounts[0], "INBOX");
    let good = encoded(&noise("b", 50_000), 76, "\r\n");
    let put = |body: &str| house.put(accounts[0], inbox, &with_attachment("b", body));
    for at in [0, 1, 77, 4_000, 30_000, good.len() - 1] {
        for with in ["", "\r\n", "\n", " ", "=", "\r", "*", "\0", "--", "\r\n\r\n"] {
            put(&[&good[..at], with, &good[at..]].concat());
            put(&[&good[..at], with, &good[(at + 1).min(good.len())..]].concat());
        }
    }
    put(&good.replace("\r\n", " \r\n"));
    put(&good.repeat(3));
    put(&(good.clone() + "\r\nA mailing list added this footer.\r\n"));
    house.check();
}

#[test]
fn one_large_mail_to_a_thousand_is_stored_once() {
    let (house, accounts) = House::with_accounts(1_000);
    let attachment = noise("large", 5_000_000);
    let message = with_attachment("to all", &encoded(&attachment, 76, "\r\n"));
    let mut staging = house.engine.stage();
    for bytes in message.chunks(64 * 1024) {
        staging.write(bytes).expect("taken");
        assert!(staging.memory_bytes() + FRAME_BYTES_MAX <= Staging::MEMORY_BYTES_MAX, "{}", staging.memory_bytes());
    }
    let staged = staging.finish().expect("staged");
    assert!(staged.part_bytes() == 0, "nothing of the attachment is in memory");
    let writes = house.kv.writes();
    let deliveries: Vec<_> =
        accounts.iter().map(|account| deliver(*account, &format!("Delivered-To: {}\r\n", account.0))).collect();
    let Outcome::Delivered(delivered) = house.run(Command::Deliver { message: staged, deliveries }) else { panic!() };
    assert_eq!(house.kv.writes(), writes + 1, "one batch, one sync");
    assert_eq!((house.parts(), house.rows(Family::Part)), (1, 5_000_000_usize.div_ceil(FRAME_BYTES_MAX)));
    assert!(house.part_bytes() < 5_001_000);
    let last = accounts.last().expect("one");
    let whole = house.whole(*last, delivered.last().expect("one").message);
    assert!(whole == [format!("Delivered-To: {}\r\n", last.0).as_bytes(), &message].concat());
}

#[test]
fn copies_and_moves_write_no_bodies() {
    let (house, accounts) = House::with_accounts(1);
    let (account, from) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    let to = house.mailbox(account, "Archive");
    house.put(account, from, &with_attachment("x", &encoded(&noise("x", 9_000), 76, "\r\n")));
    house.put(account, from, &mail("small", 100));
    let stored = |house: &House| -> Vec<_> {
        let is_body = |family: Family, key: &[u8]| match family {
            Family::Part | Family::Reference => true,
            Family::Message => key.last() == Some(&keys::MESSAGE_RECORD),
            _ => false,
        };
        house.kv.dump().into_iter().filter(|(family, key, _)| is_body(*family, key)).collect()
    };
    let before = stored(&house);
    for command in [
        Command::Copy { account, from, uids: rockdove_mail::UidSet::range(1, 2), to },
        Command::Move { account, from, uids: rockdove_mail::UidSet::range(1, 2), to },
    ] {
        let writes = house.kv.writes();
        house.run(command);
        assert_eq!(house.kv.writes(), writes + 1);
        let written = house.kv.families_written(writes);
        assert!(!written.contains(&Family::Part) && !written.contains(&Family::Reference), "{written:?}");
        assert!(stored(&house) == before, "no record and no part is another");
    }
    house.check();
}

#[test]
fn equal_parts_in_flight_become_one() {
    let (house, accounts) = House::with_accounts(1);
    let (account, mailbox) = (accounts[0], house.mailbox(accounts[0], "INBOX"));
    for octets in [6_000, 400_000] {
        let attachment = encoded(&noise("flight", octets), 76, "\r\n");
        let [first, second] = ["a", "b"].map(|subject| house.stage(&with_attachment(subject, &attachment)));
        assert_eq!(first.parts(), second.parts());
        // The first goes without having been delivered; the second needs the rows all the same.
        drop(first);
        assert_eq!(house.engine.collect_parts(NOW, 10), Ok(0));
        let internal_date = InternalDate { unix_s: NOW, offset_minutes: 0 };
        let append = |message| AppendMessage { message, flags: rockdove_mail::Flags::default(), internal_date };
        let third = house.stage(&with_attachment("c", &attachment));
        house.run(Command::Append { account, mailbox, messages: vec![append(second), append(third)] });
        house.check();
        assert_eq!(house.parts(), 1);
        // One that is being needed again is not collected, whatever its mark says.
        house.empty(account, mailbox);
        let again = house.stage(&with_attachment("d", &attachment));
        assert_eq!(house.engine.collect_parts(NOW * 2, 10), Ok(0));
        house.run(Command::Append { account, mailbox, messages: vec![append(again)] });
        assert_eq!(house.engine.collect_parts(NOW * 2, 10), Ok(0));
        assert_eq!(house.parts(), 1);
        house.check();
        house.empty(account, mailbox);
        assert_eq!(house.engine.collect_parts(NOW * 2, 10), Ok(1));
        assert_eq!(house.rows(Family::Part) + house.rows(Family::Reference), 0);
    }
}

#[test]
fn what_is_in_memory_of_a_message_is_bounded() {
    let (house, accounts) = House::with_accounts(1);
    let inbox = house.mailbox(accounts[0], "INBOX");
    let part = |body: &str| format!("--b\r\n\r\n{body}\r\n");
    let multipart = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let bodies = [
        multipart.to_owned() + &part(&"x".repeat(3_000)).repeat(300),
        multipart.to_owned() + &part(&"y".repeat(5_000)).repeat(300),
        multipart.to_owned() + &part("").repeat(20_000),
        multipart.to_owned() + &part(&encoded(&noise("z", 120_000), 76, "\r\n")).repeat(5),
        format!("A: {}\r\n\r\n", "h".repeat(900_000)),
        "B: c\r\n".repeat(150_000) + "\r\nbody",
        multipart.to_owned() + &part(&"-".repeat(900_000)),
        multipart.to_owned() + "--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + &"QUJD".repeat(200_000),
    ];
    for (number, message) in bodies.iter().enumerate() {
        for cut in [1_000, 70_000] {
            let mut staging = house.engine.stage();
            for bytes in message.as_bytes().chunks(cut) {
                staging.write(bytes).expect("taken");
                let held = staging.memory_bytes();
                assert!(held + FRAME_BYTES_MAX <= Staging::MEMORY_BYTES_MAX, "message {number}: {held}");
            }
            staging.finish().expect("staged");
        }
        house.put(accounts[0], inbox, message.as_bytes());
    }
    house.check();
}

#[test]
fn figures_tell_what_is_stored_and_saved() {
    let (house, accounts) = House::with_accounts(3);
    let message = with_attachment("all", &encoded(&noise("figures", 300_000), 76, "\r\n"));
    let deliveries = accounts.iter().map(|account| deliver(*account, "A: b\r\n")).collect();
    house.run(Command::Deliver { message: house.stage(&message), deliveries });
    let inbox = house.mailbox(accounts[0], "INBOX");
    house.put(accounts[0], inbox, &message);
    house.put(accounts[0], inbox, &mail("small", 10));
    let staged = house.stage(&mail("not delivered", 300_000));
    let stats = house.engine.stats().expect("adds up");
    let rows = |family: Family| -> u64 {
        let dump = house.kv.dump();
        dump.iter().filter(|row| row.0 == family).map(|(_, key, row)| (key.len() + row.len()) as u64).sum()
    };
    let stored: u64 = 300_000 + 2 * 13;
    let whole = stats.whole;
    assert_eq!((whole.messages, whole.parts, whole.part_bytes), (5, 1, stored));
    assert_eq!((whole.record_bytes, whole.repeated_bytes), (rows(Family::Message), 3 * stored));
    let small = mail("small", 10).len() as u64;
    assert_eq!(whole.message_bytes, 4 * message.len() as u64 + 3 * 6 + small);
    let sum = i128::from(whole.stored_bytes() + whole.repeated_bytes) + i128::from(whole.packing_saved_bytes());
    assert_eq!(sum, i128::from(whole.message_bytes));
    assert_eq!(stats.domains["a.example"], whole);
    let (address, first) = &stats.accounts[&accounts[0]];
    assert_eq!((address.as_str(), first.messages, first.parts, first.repeated_bytes), ("u0@a.example", 3, 1, stored));
    let (_, second) = &stats.accounts[&accounts[1]];
    assert_eq!((second.messages, second.part_bytes, second.repeated_bytes), (1, stored, 0));
    assert!(stats.waiting_bytes > 100_000);
    drop(staged);
    house.engine.collect_parts(NOW, 10).expect("collects");
    assert_eq!(house.engine.stats().expect("adds up").waiting_bytes, 0);
}

/// Pieces of a message that the cutting may trip over.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &str| Just(text.as_bytes().to_vec());
    let attachment =
        (any::<u8>(), 0_usize..20_000, prop_oneof![Just(76_usize), Just(4), Just(77), Just(50_000)], any::<bool>());
    prop_oneof![
        text("--b\r\n"),
        text("\r\n--b\r\n"),
        text("\r\n--b--\r\n"),
        text("\n--b\nContent-Transfer-Encoding: base64\n\n"),
        text("--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        text("--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\n"),
        text("\r\n"),
        text("\r"),
        attachment.prop_map(|(seed, octets, line, bare)| {
            encoded(&noise(&seed.to_string(), octets), line, if bare { "\n" } else { "\r\n" }).into_bytes()
        }),
        (any::<u8>(), 0_usize..9_000).prop_map(|(seed, octets)| noise(&seed.to_string(), octets)),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_message_comes_out_as_it_went_in(
        fragments in proptest::collection::vec(fragment(), 0..12),
        is_multipart: bool,
        cuts in proptest::collection::vec(1_usize..30_000, 1..6),
        ranges in proptest::collection::vec((any::<u32>(), any::<u32>()), 8),
        part_inline_max in prop_oneof![Just(4_096_usize), Just(16), Just(1), Just(16_384)],
    ) {
        let start = if is_multipart { "Content-Type: multipart/mixed; boundary=b\r\n\r\n" } else { "Content-Transfer-Encoding: base64\r\n\r\n" };
        let message = [start.as_bytes(), &fragments.concat()].concat();
        let house = House::new(crate::engine::EngineOptions { part_inline_max, ..crate::engine::EngineOptions::default() });
        house.run(Command::CreateDomain { domain: "a.example".into() });
        let account = house.account("a@a.example");
        let mut staging = house.engine.stage();
        let (mut rest, mut cut) = (&message[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (some, more) = rest.split_at(rest.len().min(*cut.next().expect("endless")));
            staging.write(some).expect("taken");
            rest = more;
        }
        let staged = staging.finish().expect("staged");
        let whole = house.stage(&message);
        prop_assert_eq!(whole.shared(), staged.shared(), "how it came in makes no difference");
        let Outcome::Delivered(delivered) = house.run(Command::Deliver { message: staged, deliveries: vec![deliver(account, "A: b\r\n")] }) else { panic!() };
        let message = [b"A: b\r\n", &message[..]].concat();
        prop_assert!(house.whole(account, delivered[0].message) == message);
        let record = house.engine.record(account, delivered[0].message).expect("record");
        for (start, length) in ranges {
            let start = start as usize % (message.len() + 1);
            let end = start + length as usize % (message.len() - start + 1);
            let cut = house.engine.read(account, &record, start as u64..end as u64).expect("readable");
            prop_assert!(cut == message[start..end], "{}..{}", start, end);
        }
        house.check();
    }
}
