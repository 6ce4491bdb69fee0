//! What is learned of spam: from what users do and from messages that are shown; taken back; through crashes; within bounds.
#![allow(clippy::cast_possible_truncation, reason = "the numbers here are small")]

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Delivery, Engine, EngineOptions, InternalDate, MailboxId, Outcome,
    StagedMessage,
    kv::{Batch, Durability, Family, Kv as _, SharedKv, keys, memory::MemoryKv},
    spam::{Class, Learnable, SpamStatus, tokens},
};
use rockdove_mail::{FlagUpdate, Flags, Keyword, MailboxName, SpecialUse, SystemFlags, UidSet};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const INBOX: MailboxId = MailboxId(1);

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
}

fn spam(number: usize) -> String {
    format!(
        "From: <win{number}@casino.example>\r\nSubject: WINNER number{number}\r\n\r\nclaim your prize money{number} today\r\n"
    )
}

fn ham(number: usize) -> String {
    format!(
        "From: <ann@work.example>\r\nSubject: minutes number{number}\r\n\r\nthe meeting was moved to room{number}\r\n"
    )
}

fn keyword(name: &str) -> Flags {
    Flags { keywords: vec![Keyword::new(name).expect("a keyword")], ..Flags::default() }
}

impl House {
    fn new() -> Self {
        let house = Self::open(Arc::new(MemoryKv::recording()));
        house.run(Command::CreateDomain { domain: "a.example".into() });
        house
    }

    fn open(kv: Arc<MemoryKv>) -> Self {
        Self { engine: Engine::open(Arc::clone(&kv) as SharedKv, EngineOptions::default()).expect("opens"), kv }
    }

    fn run(&self, command: Command) -> Outcome {
        self.engine.execute(NOW, command).expect("accepted")
    }

    fn account(&self, address: &str) -> AccountId {
        let credential = Credential {
            argon2: "!".into(),
            scram_salt: vec![1],
            scram_iterations: 4096,
            scram_stored_key: [1; 32],
            scram_server_key: [2; 32],
        };
        let command = Command::CreateAccount { address: address.into(), credential, quota_bytes: None };
        let Outcome::Account(id) = self.run(command) else { unreachable!("an account") };
        id
    }

    fn mailbox(&self, account: AccountId, special_use: SpecialUse) -> MailboxId {
        let list = self.engine.mailboxes(account).expect("there");
        let found = list.mailboxes().iter().find(|mailbox| mailbox.special_use == Some(special_use));
        found.map(|mailbox| mailbox.id).expect("a new account has it")
    }

    fn staged(&self, mail: &str) -> Arc<StagedMessage> {
        let mut staging = self.engine.stage();
        staging.write(mail.as_bytes()).expect("taken");
        staging.finish().expect("staged")
    }

    /// Delivers to a mailbox, and answers the UID.
    fn deliver(&self, account: AccountId, mailbox: &str, mail: &str) -> UidSet {
        let delivery = Delivery {
            account,
            mailbox: MailboxName::new(mailbox).expect("a name"),
            trace_header: Bytes::from_static(b"Return-Path: <winner@prize.example>\r\n"),
            flags: Flags::default(),
            internal_date: InternalDate::default(),
        };
        let outcome = self.run(Command::Deliver { message: self.staged(mail), deliveries: vec![delivery] });
        let Outcome::Delivered(delivered) = outcome else { unreachable!("delivered") };
        UidSet::range(delivered[0].uid, delivered[0].uid)
    }

    fn moved(&self, account: AccountId, from: MailboxId, uids: UidSet, to: MailboxId) -> UidSet {
        let Outcome::Copied { to, .. } = self.run(Command::Move { account, from, uids, to }) else {
            unreachable!("moved")
        };
        to.into_iter().collect()
    }

    fn flag(&self, account: AccountId, uids: UidSet, flags: Flags) {
        let update = FlagUpdate::Add;
        self.run(Command::StoreFlags { account, mailbox: INBOX, uids, update, flags, unchanged_since: None });
    }

    fn learn_all(&self) {
        while self.engine.learn_waiting(NOW).expect("learns").more {}
    }

    /// Unwanted and wanted messages that were learned.
    fn counts(&self, account: Option<AccountId>) -> (u32, u32) {
        let SpamStatus { spam, ham, waiting, .. } = self.engine.spam_status(account).expect("counted");
        assert_eq!(waiting, 0);
        (spam, ham)
    }

    fn score(&self, account: Option<AccountId>, mail: &str) -> Option<f64> {
        let tokens = tokens::numbers(mail.as_bytes());
        self.engine.judge(account, &tokens, 3).expect("judged").map(|judgement| judgement.score)
    }

    fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let rows = self.kv.dump().into_iter().filter(|(family, ..)| *family == Family::Spam);
        rows.map(|(_, key, row)| (key, row)).collect()
    }

    fn check(&self) {
        let summary = self.engine.fsck(false, &mut |finding| panic!("{finding}")).expect("looked");
        assert!(summary.is_clean());
    }
}

#[test]
fn users_teach_by_moving_and_take_it_back() {
    let house = House::new();
    let (ada, ben) = (house.account("ada@a.example"), house.account("ben@a.example"));
    let junk = house.mailbox(ada, SpecialUse::Junk);
    assert_eq!(house.score(Some(ada), &spam(9)), None);
    let mut last = UidSet::new();
    for number in 0..4 {
        let uids = house.deliver(ada, "INBOX", &spam(number));
        last = house.moved(ada, INBOX, uids, junk);
        let uids = house.deliver(ada, "INBOX", &ham(number));
        house.flag(ada, uids, Flags::system(SystemFlags::ANSWERED));
    }
    house.learn_all();
    assert_eq!(house.counts(Some(ada)), (4, 4));
    assert_eq!(house.counts(None), (4, 4));
    assert_eq!(house.counts(Some(ben)), (0, 0));
    for account in [None, Some(ada), Some(ben)] {
        assert!(house.score(account, &spam(9)).expect("enough") > 0.9);
        assert!(house.score(account, &ham(9)).expect("enough") < 0.1);
    }
    // What the trace header says is not of the message.
    let trace_word = "From: <x@y.example>\r\n\r\nprize.example\r\n";
    assert!(house.score(None, trace_word).expect("enough") > 0.4);

    // Told again what is known, and flagged on the way: counted once.
    let uids = house.moved(ada, junk, last, INBOX);
    let last = house.moved(ada, INBOX, uids, junk);
    house.learn_all();
    assert_eq!(house.counts(None), (4, 4));
    let back = house.moved(ada, junk, last, INBOX);
    house.learn_all();
    assert_eq!(house.counts(None), (3, 5), "what was learned of it as unwanted is taken back");
    house.flag(ada, back.clone(), keyword("$Junk"));
    house.learn_all();
    assert_eq!(house.counts(None), (4, 4));
    house.flag(ada, back.clone(), keyword("NonJunk"));
    house.learn_all();
    assert_eq!(house.counts(Some(ada)), (3, 5));
    // Thrown away, and gone for good: what was learned stays.
    let trash = house.mailbox(ada, SpecialUse::Trash);
    let gone = house.moved(ada, INBOX, back, trash);
    house.run(Command::Expunge { account: ada, mailbox: trash, uids: Some(gone), deleted_only: false });
    house.learn_all();
    assert_eq!(house.counts(None), (3, 5));
    house.check();
}

#[test]
fn nobody_learns_from_what_the_server_has_sorted() {
    let house = House::new();
    let ada = house.account("ada@a.example");
    let (junk, trash) = (house.mailbox(ada, SpecialUse::Junk), house.mailbox(ada, SpecialUse::Trash));
    let first = house.deliver(ada, "Junk", &spam(1));
    let second = house.deliver(ada, "Junk", &ham(2));
    house.learn_all();
    assert_eq!(house.counts(None), (0, 0));
    house.moved(ada, junk, first, trash);
    house.learn_all();
    assert_eq!(house.counts(None), (0, 0), "thrown away");
    house.moved(ada, junk, second, INBOX);
    house.learn_all();
    assert_eq!(house.counts(None), (0, 1), "it was sorted wrongly");
    let messages = vec![AppendMessage {
        message: house.staged(&spam(3)),
        flags: Flags::default(),
        internal_date: InternalDate::default(),
    }];
    house.run(Command::Append { account: ada, mailbox: junk, messages });
    house.learn_all();
    assert_eq!(house.counts(Some(ada)), (1, 1), "a user has put it there");
    house.check();
}

#[test]
fn what_goes_before_it_is_learned_is_not_learned() {
    let house = House::new();
    let (ada, ben) = (house.account("ada@a.example"), house.account("ben@a.example"));
    let junk = house.mailbox(ada, SpecialUse::Junk);
    let uids = house.deliver(ada, "INBOX", &spam(1));
    let there = house.moved(ada, INBOX, uids, junk);
    house.run(Command::Expunge { account: ada, mailbox: junk, uids: Some(there), deleted_only: false });
    let uids = house.deliver(ben, "INBOX", &spam(2));
    house.moved(ben, INBOX, uids, house.mailbox(ben, SpecialUse::Junk));
    house.run(Command::RemoveAccount { address: "ben@a.example".into() });
    house.learn_all();
    assert_eq!(house.counts(None), (0, 0));
    while house.engine.sweep_removed(NOW).expect("a slice") {}
    assert!(house.rows().is_empty());
    house.check();
}

#[test]
fn an_account_takes_its_own_lessons_with_it() {
    let house = House::new();
    let (ada, ben) = (house.account("ada@a.example"), house.account("ben@a.example"));
    let teach = |account, class, mails: &[String]| {
        let messages: Vec<Learnable> = mails.iter().map(|mail| Learnable::of(mail.as_bytes())).collect();
        house.engine.learn(NOW, account, class, &messages).expect("learns")
    };
    let (spams, hams): (Vec<_>, Vec<_>) = (0..6).map(|number| (spam(number), ham(number))).unzip();
    assert_eq!(teach(None, Class::Spam, &spams).learned, 6);
    assert_eq!(teach(None, Class::Ham, &hams).learned, 6);
    // Ada likes what others do not.
    teach(Some(ada), Class::Ham, &spams);
    teach(Some(ada), Class::Spam, &hams);
    assert!(house.score(Some(ben), &spam(9)).expect("enough") > 0.9);
    assert!(house.score(Some(ada), &spam(9)).expect("enough") < 0.3);
    house.run(Command::RemoveAccount { address: "ada@a.example".into() });
    assert!(house.engine.learn(NOW, Some(ada), Class::Ham, &[Learnable::of(b"x")]).is_err());
    while house.engine.sweep_removed(NOW).expect("a slice") {}
    assert!(house.rows().iter().all(|(key, _)| key.starts_with(&[0xff; 4])));
    assert_eq!(house.counts(None), (6, 6));
    house.engine.forget_all(None).expect("forgets");
    assert!(house.rows().is_empty());
    house.check();
}

#[test]
fn a_crash_loses_no_word_of_a_user_and_counts_none_twice() {
    let house = House::new();
    let ada = house.account("ada@a.example");
    let junk = house.mailbox(ada, SpecialUse::Junk);
    let begin = house.kv.writes();
    let mut last = UidSet::new();
    for number in 0..3 {
        let uids = house.deliver(ada, "INBOX", &spam(number));
        last = house.moved(ada, INBOX, uids, junk);
        house.engine.learn_waiting(NOW).expect("learns");
    }
    house.moved(ada, junk, last, INBOX);
    house.learn_all();
    assert_eq!(house.counts(None), (2, 1));
    for writes in begin..=house.kv.writes() {
        for seed in 0..3 {
            let image = House::open(Arc::new(house.kv.crash_image(writes, seed)));
            image.check();
            image.learn_all();
            // Every message in Junk was learned, each once; the one outside was, once it had been moved back.
            let inside = image.engine.mailbox(ada, junk).expect("there").exists();
            let (spam, ham) = image.counts(Some(ada));
            assert_eq!((spam, image.counts(None)), (inside, (spam, ham)), "after {writes} writes");
            image.check();
        }
    }
}

#[test]
fn tokens_that_are_old_and_rare_go_first() {
    let house = House::new();
    let teach = |now, mail: String| {
        house.engine.learn(now, None, Class::Spam, &[Learnable::of(mail.as_bytes())]).expect("learns");
    };
    for number in 0..50 {
        teach(NOW, spam(number));
        teach(NOW + 100 * DAY, ham(number));
    }
    let before = house.engine.spam_status(None).expect("counted").tokens as usize;
    let mut scope = Some(0);
    while let Some(from) = scope {
        scope = house.engine.age_spam_to(NOW + 101 * DAY, from, before - 40, 10).expect("ages");
    }
    let after = house.engine.spam_status(None).expect("counted").tokens as usize;
    assert_eq!(after, before - (before - (before - 40) / 10 * 9));
    // Nothing was learned as wanted, so nothing is said; teach it one.
    house.engine.learn(NOW, None, Class::Ham, &[Learnable::of(b"\r\nother\r\n")]).expect("learns");
    let missing = |mail: fn(usize) -> String| -> usize {
        let of_one = |number| {
            let tokens = tokens::numbers(mail(number).as_bytes());
            tokens.len() - house.engine.speak(None, &tokens, 0).expect("read").map_or(0, |spoken| spoken.len())
        };
        (0..50).map(of_one).sum()
    };
    assert_eq!((missing(ham), missing(spam)), (0, before - after), "the new ones and those seen often are all there");
    house.check();
}

#[test]
fn what_another_version_has_learned_counts_as_nothing_and_goes() {
    let house = House::new();
    let teach = |number| {
        house.engine.learn(NOW, None, Class::Spam, &[Learnable::of(spam(number).as_bytes())]).expect("learns");
    };
    teach(1);
    let mut batch = Batch::default();
    batch.put(Family::Spam, keys::spam_totals(keys::SPAM_SERVER), vec![1, 0xfe, 7, 7]);
    house.kv.write(&batch, Durability::Synced).expect("written");
    assert_eq!(house.counts(None), (0, 0));
    house.check();
    teach(1);
    let fresh = House::new();
    fresh.engine.learn(NOW, None, Class::Spam, &[Learnable::of(spam(1).as_bytes())]).expect("learns");
    assert_eq!(house.rows(), fresh.rows());
    house.check();
}

#[test]
fn damage_is_found() {
    for (key, row) in [
        (keys::spam_token(keys::SPAM_SERVER, 1), vec![9, 0, 0]),
        (keys::spam_token(keys::SPAM_SERVER, 1), vec![0, 0, 0]),
        (keys::spam_token(keys::SPAM_SERVER, 1), vec![1]),
        (keys::spam_totals(keys::SPAM_SERVER), vec![1]),
        (keys::spam_totals(77), vec![1, 1, 1, 1]),
        (keys::spam_message(keys::SPAM_SERVER, 3), vec![1, 1, 1]),
        (keys::spam_digest(keys::SPAM_SERVER, &[3; 16]), vec![1, 1, 9]),
        (keys::spam_waiting(1, 1), vec![3]),
        (keys::spam_kind(keys::SPAM_SERVER, 9), vec![]),
        (Bytes::from_static(b"x"), vec![]),
    ] {
        let house = House::new();
        let mut batch = Batch::default();
        batch.put(Family::Spam, key.clone(), row);
        house.kv.write(&batch, Durability::Synced).expect("written");
        let mut found = 0;
        let summary = house.engine.fsck(true, &mut |_| found += 1).expect("looked");
        assert!(found > 0 && !summary.is_clean(), "{key:?}");
    }
}

fn mails() -> impl Strategy<Value = Vec<(Option<bool>, usize)>> {
    prop::collection::vec((prop::option::weighted(0.7, any::<bool>()), 0_usize..6), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However often and in whatever order messages are learned, learned otherwise and forgotten: what is there is what
    /// learning the last words about them at once gives.
    #[test]
    fn only_the_last_word_about_a_message_counts(acts in mails(), together in 1_usize..5) {
        let house = House::new();
        let mail = |number: usize| Learnable::of(if number.is_multiple_of(2) { spam(number) } else { ham(number) }.as_bytes());
        let mut last = BTreeMap::new();
        for acts in acts.chunk_by(|(one, _), (other, _)| one == other) {
            for some in acts.chunks(together) {
                let messages: Vec<Learnable> = some.iter().map(|(_, number)| mail(*number)).collect();
                match some[0].0 {
                    Some(unwanted) => {
                        let class = if unwanted { Class::Spam } else { Class::Ham };
                        house.engine.learn(NOW, None, class, &messages).expect("learns");
                    }
                    None => drop(house.engine.forget(NOW, None, &messages).expect("forgets")),
                }
                last.extend(some.iter().map(|(said, number)| (*number, *said)));
            }
        }
        let fresh = House::new();
        for (number, said) in last {
            if let Some(unwanted) = said {
                let class = if unwanted { Class::Spam } else { Class::Ham };
                fresh.engine.learn(NOW, None, class, &[mail(number)]).expect("learns");
            }
        }
        prop_assert_eq!(house.rows(), fresh.rows());
        house.check();
    }
}
