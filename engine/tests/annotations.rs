//! Annotations of mailboxes and the server at the engine's door: who sees and sets them, limits, crashes, damage.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rockdove_engine::{
    AccountId, Command, Credential, Engine, EngineError, EngineOptions, MailboxId, Outcome,
    kv::{Batch, Durability, Family, Kv as _, keys, memory::MemoryKv},
    store::annotations::{ANNOTATION_OCTETS_MAX, ANNOTATIONS_MAX},
};
use rockdove_mail::{METADATA_VALUE_OCTETS_MAX, MailboxName, MetadataEntry, Rights, RightsUpdate};

const NOW: i64 = 1_790_000_000;

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
    accounts: Vec<AccountId>,
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).expect("a mailbox name")
}

fn entry(text: &str) -> MetadataEntry {
    MetadataEntry::parse(text).expect("an entry")
}

fn open(kv: &Arc<MemoryKv>) -> Arc<Engine> {
    let engine = Engine::open(Arc::clone(kv) as Arc<_>, EngineOptions::default()).expect("opened");
    engine.fsck(false, &mut |finding| panic!("{finding:?}")).expect("checked");
    engine
}

fn credential() -> Credential {
    Credential {
        argon2: "$argon2id$".into(),
        scram_salt: vec![1],
        scram_iterations: 4096,
        scram_stored_key: [0; 32],
        scram_server_key: [0; 32],
    }
}

impl House {
    fn new(kv: MemoryKv) -> Self {
        let kv = Arc::new(kv);
        let engine = open(&kv);
        let run = |command| engine.execute(NOW, command).expect("done");
        run(Command::CreateDomain { domain: "a.example".into() });
        let accounts = ["ada", "ben", "cas"].map(|name| {
            let address = format!("{name}@a.example");
            match run(Command::CreateAccount { address, credential: credential(), quota_bytes: None }) {
                Outcome::Account(account) => account,
                other => panic!("{other:?}"),
            }
        });
        Self { kv, engine, accounts: accounts.to_vec() }
    }

    fn create(&self, account: AccountId, text: &str) -> MailboxId {
        let command = Command::CreateMailbox { account, name: name(text), special_use: None };
        match self.engine.execute(NOW, command) {
            Ok(Outcome::Mailbox(mailbox)) => mailbox,
            other => panic!("{other:?}"),
        }
    }

    fn run_as(&self, actor: AccountId, command: Command) -> Result<Outcome, EngineError> {
        self.engine.execute(NOW, Command::As { actor, command: Box::new(command) })
    }

    fn allow(&self, account: AccountId, mailbox: MailboxId, identifier: &str, rights: &str) {
        let (update, rights) = (RightsUpdate::Replace, Rights::parse(rights).expect("rights"));
        let command = Command::SetRights { account, mailbox, identifier: identifier.into(), update, rights };
        self.run_as(account, command).expect("set");
    }

    fn annotate(
        &self,
        actor: AccountId,
        account: AccountId,
        mailbox: Option<MailboxId>,
        changes: &[(&str, Option<&str>)],
    ) -> Result<Outcome, EngineError> {
        let value = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let entries = changes.iter().map(|(name, text)| (entry(name), text.map(value))).collect();
        self.run_as(actor, Command::Annotate { account, mailbox, entries })
    }

    fn seen(&self, reader: AccountId, account: AccountId, mailbox: MailboxId) -> Result<Vec<String>, EngineError> {
        let seen = self.engine.annotations(reader, account, mailbox);
        assert_eq!(self.engine.annotations_cached(reader, account, mailbox), Some(seen.clone()));
        seen.map(|seen| seen.into_iter().map(shown).collect())
    }

    fn server(&self, reader: AccountId) -> Vec<String> {
        self.engine.server_annotations(reader).expect("annotations").into_iter().map(shown).collect()
    }
}

fn shown((entry, value): (MetadataEntry, Bytes)) -> String {
    format!("{entry}={}", String::from_utf8_lossy(&value))
}

#[test]
fn shared_ones_are_seen_by_all_who_may_and_private_ones_by_one() {
    let house = House::new(MemoryKv::default());
    let [ada, ben, cas] = house.accounts[..] else { panic!("three") };
    let mailbox = house.create(ada, "Projects");
    let there = Some(mailbox);
    house
        .annotate(ada, ada, there, &[("/shared/comment", Some("ours")), ("/private/comment", Some("mine"))])
        .expect("set");
    assert!(matches!(house.seen(ben, ada, mailbox), Err(EngineError::NotFound(_))), "it is a secret");
    assert!(matches!(house.annotate(ben, ada, there, &[("/shared/comment", None)]), Err(EngineError::NotFound(_))));
    house.allow(ada, mailbox, "ben@a.example", "l");
    assert!(matches!(house.seen(ben, ada, mailbox), Err(EngineError::NoPermission(_))), "l alone does not do");
    let refused = house.annotate(ben, ada, there, &[("/private/comment", Some("no"))]);
    assert!(matches!(refused, Err(EngineError::NoPermission(_))));
    for right in ["r", "s", "w", "i", "p"] {
        house.allow(ada, mailbox, "ben@a.example", &format!("l{right}"));
        assert_eq!(house.seen(ben, ada, mailbox), Ok(vec!["/shared/comment=ours".to_owned()]), "{right}");
    }
    house.annotate(ben, ada, there, &[("/private/comment", Some("ben's")), ("/shared/x", Some("y"))]).expect("set");
    let bens = ["/private/comment=ben's", "/shared/comment=ours", "/shared/x=y"].map(str::to_owned).to_vec();
    let adas = ["/private/comment=mine", "/shared/comment=ours", "/shared/x=y"].map(str::to_owned).to_vec();
    assert_eq!(house.seen(ben, ada, mailbox), Ok(bens.clone()));
    assert_eq!(house.seen(ada, ada, mailbox), Ok(adas));
    assert!(matches!(house.seen(cas, ada, mailbox), Err(EngineError::NotFound(_))));
    // They follow the mailbox, and survive a restart.
    let (from, to) = (name("Projects"), name("Done/Projects"));
    house.run_as(ada, Command::RenameMailbox { account: ada, from, to: to.clone() }).expect("renamed");
    let again = House { engine: open(&house.kv), kv: Arc::clone(&house.kv), accounts: house.accounts.clone() };
    assert_eq!(again.seen(ben, ada, mailbox), Ok(bens));
    // And go with it.
    again.run_as(ada, Command::DeleteMailbox { account: ada, name: to }).expect("deleted");
    let anew = again.create(ada, "Done/Projects");
    assert_eq!(again.seen(ada, ada, anew), Ok(vec![]));
    open(&house.kv);
    let left = house.kv.dump().into_iter().filter(|(family, key, _)| {
        *family == Family::Account && [keys::ACCOUNT_SHARED, keys::ACCOUNT_PRIVATE].contains(&key[4])
    });
    assert_eq!(left.count(), 0);
}

/// Who waits for changes is told, of those of the server as a whole too.
#[test]
fn changes_are_told() {
    let house = House::new(MemoryKv::default());
    let [ada, ben, _] = house.accounts[..] else { panic!("three") };
    let mailbox = house.create(ada, "Projects");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    house.engine.on_change(Box::new(move |notices| {
        listener.lock().expect("lock").extend(notices.iter().map(|notice| (notice.account, notice.mailboxes.clone())));
    }));
    let told = || {
        let mut told = std::mem::take(&mut *heard.lock().expect("lock"));
        told.sort();
        told
    };
    house.annotate(ada, ada, Some(mailbox), &[("/shared/comment", Some("a"))]).expect("set");
    assert_eq!(told(), [(ada, vec![])]);
    house.annotate(ada, ada, None, &[("/private/comment", Some("b"))]).expect("set");
    assert_eq!(told(), [(ada, vec![])]);
    house.annotate(ada, ada, None, &[("/shared/comment", Some("c"))]).expect_err("for administrators");
    assert_eq!(told(), []);
    let entries = ["/shared/comment", "/private/comment"].map(|name| (entry(name), Some(Bytes::from("c")))).to_vec();
    let command = Command::Annotate { account: ben, mailbox: None, entries };
    house.engine.execute(NOW, command).expect("set by the server");
    assert_eq!(told(), [(AccountId::SERVER, vec![]), (ben, vec![])]);
}

#[test]
fn a_renamed_inbox_leaves_a_copy() {
    let house = House::new(MemoryKv::default());
    let ada = house.accounts[0];
    let inbox = house.engine.mailboxes(ada).expect("a list").by_name(&MailboxName::inbox()).expect("INBOX").id;
    house
        .annotate(ada, ada, Some(inbox), &[("/shared/comment", Some("a")), ("/private/comment", Some("b"))])
        .expect("set");
    let command = Command::RenameMailbox { account: ada, from: MailboxName::inbox(), to: name("Old") };
    house.run_as(ada, command).expect("renamed");
    let old = house.engine.mailboxes(ada).expect("a list").by_name(&name("Old")).expect("there").id;
    assert_eq!(house.seen(ada, ada, inbox).expect("seen").len(), 2);
    assert_eq!(house.seen(ada, ada, inbox), house.seen(ada, ada, old));
    open(&house.kv);
}

#[test]
fn the_server_has_shared_ones_from_administrators_and_everybody_their_own() {
    let house = House::new(MemoryKv::default());
    let [ada, ben, _] = house.accounts[..] else { panic!("three") };
    let admin = "/shared/admin=mailto:postmaster@a.example";
    assert_eq!(house.server(ada), [admin]);
    let change = [("/shared/comment", Some("all")), ("/private/vendor/x/y", Some("own"))];
    assert!(matches!(house.annotate(ada, ada, None, &change), Err(EngineError::NoPermission(_))));
    assert_eq!(house.server(ada), [admin], "all or none");
    house.annotate(ben, ben, None, &change[1..]).expect("set");
    let other = house.annotate(ben, ada, None, &change[1..]);
    assert!(matches!(other, Err(EngineError::NoPermission(_))), "{other:?}");
    house.engine.execute(NOW, Command::CreateGroup { group: "administrators".into() }).expect("a group");
    let member =
        Command::SetGroupMember { group: "administrators".into(), address: "ada@a.example".into(), member: true };
    house.engine.execute(NOW, member).expect("a member");
    house.annotate(ada, ada, None, &change).expect("set");
    let refused = house.annotate(ada, ada, None, &[("/shared/admin", Some("tel:1")), ("/shared/comment", None)]);
    assert!(matches!(refused, Err(EngineError::NoPermission(_))));
    let again = House { engine: open(&house.kv), kv: Arc::clone(&house.kv), accounts: house.accounts.clone() };
    assert_eq!(again.server(ada), ["/private/vendor/x/y=own", admin, "/shared/comment=all"]);
    assert_eq!(again.server(ben), again.server(ada));
    again.annotate(ada, ada, None, &[("/shared/comment", None)]).expect("removed");
    assert_eq!(again.server(ben), ["/private/vendor/x/y=own", admin]);
    open(&house.kv);
}

#[test]
fn limits_are_kept_and_nothing_of_what_is_refused_is_done() {
    let house = House::new(MemoryKv::default());
    let ada = house.accounts[0];
    let mailbox = house.create(ada, "Box");
    let at = Some(mailbox);
    let set = |entries: Vec<(String, usize)>| {
        let entries = entries.into_iter().map(|(name, octets)| (entry(&name), Some(Bytes::from(vec![b'x'; octets]))));
        house.run_as(ada, Command::Annotate { account: ada, mailbox: at, entries: entries.collect() })
    };
    let numbered = |from: usize, to: usize| (from..to).map(|number| (format!("/shared/n/{number}"), 1)).collect();
    set(numbered(0, ANNOTATIONS_MAX)).expect("room");
    let more = set(vec![("/private/a".to_owned(), 1), ("/shared/n/one-more".to_owned(), 1)]);
    assert!(matches!(more, Err(EngineError::Limit(_))));
    assert_eq!(house.seen(ada, ada, mailbox).expect("seen").len(), ANNOTATIONS_MAX);
    set(numbered(0, ANNOTATIONS_MAX)).expect("replaced");
    let large = set(vec![("/private/a".to_owned(), METADATA_VALUE_OCTETS_MAX + 1)]);
    assert!(matches!(large, Err(EngineError::Limit(_))));
    assert!(matches!(set(vec![("/shared/vendor/x".to_owned(), 1)]), Err(EngineError::Invalid(_))));
    // An account as a whole.
    let (mut used, mut boxes) = (0, 0);
    let refused = loop {
        let mailbox = Some(house.create(ada, &format!("b{boxes}")));
        let value = Bytes::from(vec![b'x'; METADATA_VALUE_OCTETS_MAX]);
        let entries = vec![(entry("/shared/large"), Some(value))];
        match house.run_as(ada, Command::Annotate { account: ada, mailbox, entries }) {
            Ok(_) => used += METADATA_VALUE_OCTETS_MAX,
            Err(error) => break error,
        }
        boxes += 1;
    };
    assert!(matches!(refused, EngineError::Limit(_)));
    assert!((ANNOTATION_OCTETS_MAX - 2 * METADATA_VALUE_OCTETS_MAX..=ANNOTATION_OCTETS_MAX).contains(&used), "{used}");
    open(&house.kv);
}

/// Values by mailbox, by who sees them, and by name.
type Model = BTreeMap<(MailboxId, Option<AccountId>, String), String>;

/// Random changes against a map; for every write of the history the machine dies after it.
#[test]
fn random_changes_agree_with_a_map_through_crashes() {
    let mut state = 20_261_125_u64;
    let mut dice = move |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let house = House::new(MemoryKv::recording());
    let ada = house.accounts[0];
    let mailboxes = [house.create(ada, "one"), house.create(ada, "two")];
    for mailbox in mailboxes {
        house.allow(ada, mailbox, "anyone", "lr");
    }
    let mut model = Model::new();
    let mut moments = BTreeSet::from([BTreeMap::new()]);
    for turn in 0..200 {
        let (mailbox, actor) = (mailboxes[usize::try_from(dice(2)).expect("small")], house.accounts[turn % 3]);
        let mut changes = Vec::new();
        for _ in 0..=dice(3) {
            let scope = ["/shared", "/private"][usize::from(dice(2) == 0)];
            changes.push((format!("{scope}/{}", dice(4)), (dice(3) > 0).then(|| turn.to_string())));
        }
        let borrowed: Vec<(&str, Option<&str>)> =
            changes.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        house.annotate(actor, ada, Some(mailbox), &borrowed).expect("set");
        for (name, value) in changes {
            let whose = name.starts_with("/private").then_some(actor);
            match value {
                Some(value) => model.insert((mailbox, whose, name), value),
                None => model.remove(&(mailbox, whose, name)),
            };
        }
        for reader in &house.accounts {
            let mine = model
                .iter()
                .filter(|((place, whose, _), _)| *place == mailbox && whose.is_none_or(|who| who == *reader));
            let expected: Vec<String> = mine.map(|((.., name), value)| format!("{name}={value}")).collect();
            let mut seen = house.seen(*reader, ada, mailbox).expect("seen");
            let mut expected = expected;
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "turn {turn}");
        }
        moments.insert(model.clone());
    }
    let writes = house.kv.writes();
    for died in (0..=writes).rev().take(220) {
        let kv = Arc::new(house.kv.crash_image(died, 7));
        let engine = open(&kv);
        let mut found = Model::new();
        for mailbox in mailboxes {
            for reader in &house.accounts {
                for (entry, value) in engine.annotations(*reader, ada, mailbox).unwrap_or_default() {
                    let whose = entry.to_string().starts_with("/private").then_some(*reader);
                    found.insert((mailbox, whose, entry.to_string()), String::from_utf8_lossy(&value).into_owned());
                }
            }
        }
        assert!(moments.contains(&found), "after {died} writes there is half a command");
    }
}

#[test]
fn damaged_rows_are_found() {
    let house = House::new(MemoryKv::default());
    let ada = house.accounts[0];
    let mailbox = house.create(ada, "Box");
    house.annotate(ada, ada, Some(mailbox), &[("/shared/comment", Some("x"))]).expect("set");
    let missing = keys::shared_annotation(ada.0, 4_000, "/comment");
    let elsewhere = keys::private_annotation(ada.0, 0, ada.0 + 1, "/comment");
    let no_name = keys::shared_annotation(ada.0, mailbox.0, "/a//b");
    let upper = keys::private_annotation(ada.0, mailbox.0, ada.0, "/A");
    let server = keys::server_annotation("/x/");
    let account = Family::Account;
    for (family, key, row) in [
        (account, missing, &b"\x01x"[..]),
        (account, elsewhere, b"\x01x"),
        (account, no_name, b"\x01x"),
        (account, upper, b"\x01x"),
        (account, keys::shared_annotation(ada.0, mailbox.0, "/comment"), b"\x02x"),
        (Family::Sys, server, b"\x01x"),
    ] {
        let kv = Arc::new(MemoryKv::default());
        let mut batch = Batch::default();
        for (family, key, row) in house.kv.dump() {
            batch.put(family, key, row);
        }
        kv.write(&batch, Durability::Synced).expect("written");
        let engine = open(&kv);
        let mut batch = Batch::default();
        batch.put(family, key.clone(), row.to_vec());
        kv.write(&batch, Durability::Synced).expect("written");
        let mut findings = Vec::new();
        engine.fsck(true, &mut |finding| findings.push(finding)).expect("checked");
        assert!(!findings.is_empty(), "{family:?} {key:?}");
    }
}
