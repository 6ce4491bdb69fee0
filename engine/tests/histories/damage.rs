//! Damaged stores: what a check finds, and what it can repair.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_engine::{
    Command, InternalDate, Repair,
    kv::{Batch, Durability, Family, Kv, SharedKv, keys, memory::MemoryKv},
};

use rockdove_mail::{Flags, MailboxName, UidSet};

use crate::{
    agree::NOW,
    compare::compare,
    history::{Commands, House, Rng, keeping, mail, name},
    model::{Act, Model, Place},
};

/// A store with a history, and what is in it.
fn lived(seed: u64) -> (Arc<MemoryKv>, Model) {
    let kv = Arc::new(MemoryKv::recording());
    let house = House::open(Arc::clone(&kv) as SharedKv, keeping());
    house.engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
    let (mut commands, mut model) = (Commands::new(seed, 300, true), Model::default());
    for _ in 0..300 {
        let act = commands.next(&model);
        if matches!(act, Act::RemoveAccount { .. }) {
            continue;
        }
        let expected = model.apply(NOW, &act);
        assert_eq!(house.perform(NOW, &act).ok(), expected.ok());
    }
    for act in deleting(&model) {
        let expected = model.apply(NOW, &act);
        assert_eq!(house.perform(NOW, &act).ok(), expected.ok());
    }
    house.engine.collect_parts(NOW * 2, usize::MAX).expect("collects");
    model.accounts.keys().for_each(|account| house.catch_up(*account));
    house.check("before any damage");
    (kv, model)
}

/// Something is expunged, and a mailbox deleted, in the first account.
fn deleting(model: &Model) -> Vec<Act> {
    let (account, state) = model.accounts.first_key_value().expect("an account");
    let (account, mailbox) = (*account, state.mailboxes[0].id);
    let name = name("doomed");
    let content = Arc::new(mail(1, 60));
    let place =
        |mailbox| Place { account, mailbox, trace: Vec::new(), flags: Flags::default(), date: InternalDate::default() };
    let to = vec![place(state.mailboxes[0].name.clone()), place(name.clone())];
    let uids = Some(UidSet::range(state.mailboxes[0].uid_free, u32::MAX));
    vec![
        Act::SetQuota { address: state.address.clone(), quota: None },
        Act::Deliver { content, to },
        Act::Delete { account, name },
        Act::Expunge { account, mailbox, uids, deleted_only: false },
    ]
}

type Row = (Family, Bytes, Bytes);

/// The first row that fits.
fn row(kv: &MemoryKv, fits: impl Fn(&Row) -> bool) -> Row {
    kv.dump().into_iter().find(fits).expect("such a row")
}

fn kind(row: &Row, family: Family, at: usize, kind: u8) -> bool {
    row.0 == family && row.1.get(at) == Some(&kind)
}

fn remove(kv: &MemoryKv, row: &Row) {
    let mut batch = Batch::default();
    batch.delete(row.0, row.1.clone());
    kv.write(&batch, Durability::Synced).expect("written");
}

fn put(kv: &MemoryKv, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
    let mut batch = Batch::default();
    batch.put(family, key, value);
    kv.write(&batch, Durability::Synced).expect("written");
}

/// Turns one bit in the middle.
fn turn(kv: &MemoryKv, row: &Row) {
    let mut value = row.2.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 0x10;
    put(kv, row.0, row.1.clone(), value);
}

struct Damage {
    does: fn(&MemoryKv),
    found: &'static str,
    repair: Repair,
}

const fn repaired(found: &'static str, does: fn(&MemoryKv)) -> Damage {
    Damage { does, found, repair: Repair::Done }
}

const fn told(found: &'static str, does: fn(&MemoryKv)) -> Damage {
    Damage { does, found, repair: Repair::Impossible }
}

const DERIVED: &[Damage] = &[
    repaired("texts reach to message", |kv| {
        let (family, key, value) = row(kv, |row| kind(row, Family::Text, 4, keys::TEXT_REACH));
        // Both versions as they are, then a message beyond all.
        put(kv, family, key, [&value[..2], &[0xff, 0xff, 0x7f, 0, 0]].concat());
    }),
    repaired("a page of texts is damaged", |kv| {
        // The longest, so that its middle is text.
        let dump = kv.dump();
        let pages = dump.iter().filter(|row| kind(row, Family::Text, 4, keys::TEXT_PAGE));
        turn(kv, pages.max_by_key(|row| row.2.len()).expect("a page"));
    }),
    repaired("a page of texts is not where it should be", |kv| {
        let (family, key, value) = row(kv, |row| kind(row, Family::Text, 4, keys::TEXT_PAGE));
        let other = [&key[..key.len() - 1], &[key[key.len() - 1] ^ 1]].concat();
        put(kv, family, other, value);
    }),
    repaired("is not there", |kv| {
        for page in kv.dump().iter().filter(|row| kind(row, Family::Text, 4, keys::TEXT_PAGE)) {
            remove(kv, page);
        }
    }),
    repaired("texts of an account that is not there", |kv| {
        put(kv, Family::Text, keys::text_gone(0, 1), Bytes::new());
    }),
    repaired("a list of words cannot be read", |kv| put(kv, Family::Text, keys::text_words(1, 0, 0, 0), vec![9])),
    repaired("the record says of the message what it is not", |kv| {
        // The ENVELOPE of a message that is whole in its record.
        let needs =
            |row: &Row, key: &[u8]| kind(row, Family::Reference, 0, keys::REFERENCE_USE) && row.1.ends_with(&key[..8]);
        let dump = kv.dump();
        let (family, key, value) = row(kv, |row| {
            kind(row, Family::Message, 8, keys::MESSAGE_RECORD) && !dump.iter().any(|other| needs(other, &row.1))
        });
        let at = value.windows(4).position(|octets| octets == b"(NIL").expect("an ENVELOPE without a date");
        let mut value = value.to_vec();
        value[at + 1..at + 4].copy_from_slice(b"\"x\"");
        put(kv, family, key, value);
    }),
    repaired("counters: missing", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_COUNTERS)));
    }),
    repaired("counters: unreadable", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_COUNTERS));
        put(kv, family, key, "?");
    }),
    repaired("counters: Counters", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_COUNTERS));
        put(kv, family, key, vec![1, 1, 1, 0, 0, 0, 0, 0]);
    }),
    repaired("the state: missing", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_STATE)));
    }),
    repaired("the state: Totals", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_STATE));
        put(kv, family, key, vec![1, 1, 1, 1, 1, 0, 0]);
    }),
    repaired("the state: Totals", |kv| {
        // The same, but for what is kept.
        let state = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_STATE) && row.2[0] == 2);
        let mut value = state.2.to_vec();
        let last = value.len() - 1;
        value[last] ^= 1;
        put(kv, state.0, state.1, value);
    }),
    repaired("counters: missing", |kv| {
        let (_, key, _) = row(kv, |row| kind(row, Family::Change, 4, keys::CHANGE_HIDDEN));
        let counters = [&key[..4], &[keys::ACCOUNT_COUNTERS], &key[5..]].concat();
        remove(kv, &row(kv, |row| row.0 == Family::Account && row.1 == counters));
    }),
    repaired("entries beyond the first: missing", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Message, 8, keys::MESSAGE_EXTRA)));
    }),
    repaired("entries beyond the first: 99", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Message, 8, keys::MESSAGE_EXTRA));
        put(kv, family, key, 99_u32.to_le_bytes().to_vec());
    }),
    repaired("should be missing", |kv| put(kv, Family::Message, keys::message_extra(1, 1_000_000), vec![1, 0, 0, 0])),
    repaired("does not have its part", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Reference, 0, keys::REFERENCE_USE)));
    }),
    repaired("does not need it", |kv| put(kv, Family::Reference, keys::part_reference(1, 1, 1_000_000), "")),
    repaired("head is missing", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Reference, 0, keys::REFERENCE_HEAD)));
    }),
    repaired("its hash does not lead to it", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Reference, 0, keys::REFERENCE_HASH)));
    }),
    repaired("the hash leads to no part with these bytes", |kv| {
        put(kv, Family::Reference, keys::part_of_hash(&[7; 32]), 1_u64.to_le_bytes().to_vec());
    }),
    repaired("not marked for collection", |kv| {
        let (family, _, value) = row(kv, |row| row.0 == Family::Part && row.1.ends_with(&[0; 4]));
        put(kv, family, keys::part_chunk(1_000_000, 0), value);
        put(kv, Family::Sys, keys::allocator("part"), [&[1][..], &2_000_000_u64.to_le_bytes()].concat());
    }),
    repaired("the allocator says None", |kv| remove(kv, &row(kv, |row| row.1 == keys::allocator("account")))),
    repaired("the allocator says Some(1)", |kv| {
        put(kv, Family::Sys, keys::allocator("part"), [&[1][..], &1_u64.to_le_bytes()].concat());
    }),
];

const GROUND: &[Damage] = &[
    told("a chunk is damaged", |kv| turn(kv, &row(kv, |row| row.0 == Family::Part))),
    told("none of its bytes are there", |kv| {
        // The first one is short: it is the only one.
        remove(kv, &row(kv, |row| row.0 == Family::Part && row.1.ends_with(&[0; 4]) && row.2.len() < 50_000));
    }),
    told("a chunk is missing before this one", |kv| {
        let (_, key, _) = row(kv, |row| row.0 == Family::Part && row.1.ends_with(&[1]));
        let first = [&key[..8], &[0; 4]].concat();
        remove(kv, &row(kv, |row| row.0 == Family::Part && row.1 == first));
    }),
    told("its bytes are not what was stored", |kv| {
        turn(kv, &row(kv, |row| kind(row, Family::Reference, 0, keys::REFERENCE_HEAD)));
    }),
    told("is not there", |kv| remove(kv, &row(kv, |row| kind(row, Family::Message, 8, keys::MESSAGE_RECORD)))),
    told("the message record cannot be read", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Message, 8, keys::MESSAGE_RECORD));
        put(kv, family, key, vec![9]);
    }),
    told("the row of entries cannot be read", |kv| {
        let (family, key, value) = row(kv, |row| row.0 == Family::Segment);
        put(kv, family, key, value.slice(..value.len() - 1));
    }),
    told("the entries are of a mailbox that is not there", |kv| {
        remove(kv, &row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_MAILBOX)));
    }),
    told("has no INBOX", |kv| remove(kv, &row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_MAILBOX)))),
    told("the mailbox row cannot be read", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_MAILBOX));
        put(kv, family, key, "?");
    }),
    told("has the name of mailbox", |kv| {
        let (family, key, value) = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_MAILBOX));
        put(kv, family, [&key[..5], &[0, 0, 0, 99]].concat(), value);
    }),
    told("is not a mailbox name", |kv| {
        put(kv, Family::Account, vec![0, 0, 0, 1, keys::ACCOUNT_SUBSCRIPTION, b'/'], "");
    }),
    told("nobody knows this row", |kv| put(kv, Family::Account, vec![0, 0, 0, 1, 77], "")),
    told("nobody knows this row", |kv| put(kv, Family::Sys, vec![77], "")),
    told("nobody knows this row", |kv| put(kv, Family::Reference, vec![2, 1], "")),
    told("the key is too short", |kv| put(kv, Family::Segment, vec![1, 1], "")),
    told("not newer than what comes before", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Segment, 12, keys::SEGMENT_DELTA));
        let (start, base) = (key.slice(..12), far_base());
        put(kv, family, [&start[..], &[keys::SEGMENT_BASE]].concat(), base);
    }),
    told("expunged entries cannot be read", |kv| {
        let (family, key, value) = row(kv, |row| kind(row, Family::Change, 4, keys::CHANGE_KEPT));
        put(kv, family, key, value.slice(..value.len() - 1));
    }),
    told("expunged entries of a mailbox that is not there", |kv| {
        let (family, key, value) = row(kv, |row| kind(row, Family::Change, 4, keys::CHANGE_KEPT));
        let other = [&key[..21], &[0, 1, 0, 0], &key[25..]].concat();
        remove(kv, &(family, key, Bytes::new()));
        put(kv, family, other, value);
    }),
    told("the row of a deleted mailbox cannot be read", |kv| {
        let (family, key, _) = row(kv, |row| kind(row, Family::Change, 4, keys::CHANGE_HIDDEN));
        put(kv, family, key, "?");
    }),
    told("the entries are of a mailbox that is not there", |kv| {
        for row in kv.dump().into_iter().filter(|row| kind(row, Family::Change, 4, keys::CHANGE_HIDDEN)) {
            remove(kv, &row);
        }
    }),
    told("the mailbox is there and deleted", |kv| {
        let (_, key, _) = row(kv, |row| kind(row, Family::Account, 4, keys::ACCOUNT_MAILBOX));
        let (family, _, hidden) = row(kv, |row| kind(row, Family::Change, 4, keys::CHANGE_HIDDEN));
        put(kv, family, [&key[..4], &[keys::CHANGE_HIDDEN], &key[5..]].concat(), hidden);
    }),
    told("nobody knows this row", |kv| put(kv, Family::Change, vec![0, 0, 0, 1, 77], "")),
    told("the account is there and is being removed", |kv| put(kv, Family::Sys, keys::leaving(1), "")),
    told("the directory has no such account", |kv| remove(kv, &row(kv, |row| row.1 == keys::account(1)))),
    told("the account has no rows", |kv| {
        for row in kv.dump() {
            if [Family::Account, Family::Segment, Family::Message, Family::Change].contains(&row.0)
                && row.1.starts_with(&[0, 0, 0, 1])
            {
                remove(kv, &row);
            }
        }
    }),
];

/// What takes messages out of every mailbox.
const STRAYS: &[Damage] = &[
    repaired("is in no mailbox", |kv| {
        let gone = kv.dump().into_iter().filter(|row| row.0 == Family::Segment && row.1.starts_with(&[0, 0, 0, 1]));
        for row in gone {
            remove(kv, &row);
        }
    }),
    repaired("is in no mailbox", |kv| {
        for row in kv.dump().into_iter().filter(|row| kind(row, Family::Change, 4, keys::CHANGE_KEPT)) {
            remove(kv, &row);
        }
    }),
];

/// A base row without entries, of a mod-sequence that no change has reached.
fn far_base() -> Vec<u8> {
    [&[1][..], &(u64::MAX / 4).to_le_bytes(), &[0, 0, 0, 0]].concat()
}

fn findings(house: &House, repair: bool) -> Vec<(String, Repair)> {
    let mut found = Vec::new();
    let summary = house
        .engine
        .fsck(repair, &mut |finding| found.push((finding.to_string(), finding.repair)))
        .expect("the store can be read");
    assert_eq!(summary.findings, found.len() as u64);
    assert_eq!(summary.is_clean(), found.iter().all(|(_, repair)| *repair == Repair::Done));
    found
}

#[test]
fn derived_rows_are_repaired_whatever_happened_to_them() {
    let (kv, model) = lived(5);
    for damage in DERIVED {
        let damaged = Arc::new(kv.crash_image(kv.writes(), 0));
        (damage.does)(&damaged);
        let house = House::open(damaged as SharedKv, keeping());
        let before = findings(&house, false);
        let named = |(text, _): &&(String, Repair)| text.contains(damage.found);
        assert!(before.iter().any(|found| named(&found)), "{}: {before:#?}", damage.found);
        assert!(before.iter().all(|(_, repair)| *repair == Repair::Possible), "{}: {before:#?}", damage.found);
        assert!(findings(&house, true).iter().all(|(_, repair)| *repair == damage.repair), "{}", damage.found);
        house.check(damage.found);
        compare(&house.engine, &model, &mut Rng(1), damage.found);
    }
}

#[test]
fn damaged_ground_is_told_and_left_alone() {
    let (kv, _) = lived(5);
    for damage in GROUND {
        let damaged = Arc::new(kv.crash_image(kv.writes(), 0));
        (damage.does)(&damaged);
        let house = House::open(Arc::clone(&damaged) as SharedKv, keeping());
        let before = findings(&house, false);
        let named = |(text, repair): &(String, Repair)| text.contains(damage.found) && *repair == damage.repair;
        assert!(before.iter().any(named), "{}: {before:#?}", damage.found);
        findings(&house, true);
        let ground = |kv: &MemoryKv| {
            let derived = |row: &Row| {
                kind(row, Family::Account, 4, keys::ACCOUNT_STATE)
                    || kind(row, Family::Account, 4, keys::ACCOUNT_COUNTERS)
                    || kind(row, Family::Message, 8, keys::MESSAGE_EXTRA)
                    || matches!(row.0, Family::Reference | Family::Text)
            };
            kv.dump().into_iter().filter(|row| !derived(row)).collect::<Vec<_>>()
        };
        let untouched = kv.crash_image(kv.writes(), 0);
        (damage.does)(&untouched);
        assert!(ground(&damaged) == ground(&untouched), "{}: ground was changed", damage.found);
        let after = findings(&house, false);
        assert!(after.iter().any(named), "{}: {after:#?}", damage.found);
        assert!(after.iter().all(|(_, repair)| *repair == Repair::Impossible), "{}: {after:#?}", damage.found);
        // Whatever is asked now is answered, or refused with a reason.
        for account in house.engine.directory().accounts() {
            let Ok(list) = house.engine.mailboxes(account.id) else { continue };
            for mailbox in list.mailboxes() {
                let Ok(view) = house.engine.mailbox(account.id, mailbox.id) else { continue };
                for entry in view.changed_since(0) {
                    let Ok(record) = house.engine.record(account.id, entry.message) else { continue };
                    drop(house.engine.read(account.id, &record, 0..u64::MAX));
                }
            }
        }
    }
}

#[test]
fn messages_in_no_mailbox_are_put_into_one() {
    let (kv, _) = lived(5);
    for damage in STRAYS {
        let damaged = Arc::new(kv.crash_image(kv.writes(), 0));
        (damage.does)(&damaged);
        let house = House::open(Arc::clone(&damaged) as SharedKv, keeping());
        let strays = |found: &[(String, Repair)], how: Repair| {
            found.iter().filter(|(text, repair)| text.contains(damage.found) && *repair == how).count()
        };
        let before = findings(&house, false);
        let lost = strays(&before, Repair::Possible);
        assert!(lost > 0, "{before:#?}");
        let repaired = findings(&house, true);
        assert_eq!(strays(&repaired, damage.repair), lost, "{repaired:#?}");
        house.check(damage.found);
        let mut recovered = 0;
        for account in house.engine.directory().accounts() {
            let list = house.engine.mailboxes(account.id).expect("readable");
            let name = MailboxName::new("Recovered").expect("a name");
            let Some(mailbox) = list.by_name(&name) else { continue };
            let view = house.engine.mailbox(account.id, mailbox.id).expect("readable");
            for entry in view.changed_since(0) {
                let record = house.engine.record(account.id, entry.message).expect("there");
                let octets = house.engine.read(account.id, &record, 0..u64::MAX).expect("readable");
                assert_eq!((octets.len() as u64, entry.save_date_unix_s), (record.size_bytes, 0));
                recovered += 1;
            }
        }
        assert_eq!(recovered, lost);
    }
}

#[test]
fn rebuilding_a_sound_store_changes_nothing() {
    let (kv, model) = lived(6);
    let house = House::open(Arc::clone(&kv) as SharedKv, keeping());
    // Texts go, and are made again by catching up.
    let rows = || kv.dump().into_iter().filter(|row| row.0 != Family::Text).collect::<Vec<_>>();
    let before = rows();
    let rebuilt = house.engine.rebuild(None).expect("rebuilds");
    assert!(rows() == before);
    assert!(kv.dump() == before);
    assert_eq!(rebuilt.accounts, model.accounts.len() as u64);
    for account in model.accounts.keys() {
        house.catch_up(*account);
        house.check("texts made again");
        house.engine.rebuild(Some(*account)).expect("rebuilds");
    }
    assert!(rows() == before);
}

#[test]
fn everything_derived_can_be_thrown_away_and_rebuilt() {
    let (kv, model) = lived(6);
    let is_state = |row: &Row| kind(row, Family::Account, 4, keys::ACCOUNT_STATE) || row.0 == Family::Text;
    let before: Vec<Row> = kv.dump().into_iter().filter(|row| !is_state(row)).collect();
    for row in kv.dump() {
        let derived = is_state(&row)
            || kind(&row, Family::Account, 4, keys::ACCOUNT_COUNTERS)
            || kind(&row, Family::Message, 8, keys::MESSAGE_EXTRA)
            || matches!(row.0, Family::Reference | Family::Text);
        if derived {
            remove(&kv, &row);
        }
    }
    let mut house = House::open(Arc::clone(&kv) as SharedKv, keeping());
    house.engine.rebuild(None).expect("rebuilds");
    house.check("rebuilt");
    let after: Vec<Row> = kv.dump().into_iter().filter(|row| !is_state(row)).collect();
    assert!(after == before, "but for what is given out next, the rows are the same");
    compare(&house.engine, &model, &mut Rng(2), "rebuilt");
    house.reopen();
    compare(&house.engine, &model, &mut Rng(2), "rebuilt and opened again");
}
