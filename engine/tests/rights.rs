//! Shared mailboxes at the engine's door: who may do what, what strangers learn, what survives a restart.

use std::sync::Arc;

use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Engine, EngineError, EngineOptions, InternalDate, MailboxId,
    Outcome, QuotaLimits, StagedMessage,
    kv::{Batch, Durability, Family, Kv as _, keys, memory::MemoryKv},
};
use rockdove_mail::{
    FlagUpdate, Flags, Keyword, MailboxName, Rights, RightsUpdate, SystemFlags, UidSet, search::SearchKey,
};

const NOW: i64 = 1_790_000_000;

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
    ada: AccountId,
    ben: AccountId,
    cas: AccountId,
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).expect("a mailbox name")
}

fn parse(text: &str) -> Rights {
    Rights::parse(text).expect("rights")
}

fn open(kv: &Arc<MemoryKv>) -> Arc<Engine> {
    Engine::open(Arc::clone(kv) as Arc<_>, EngineOptions::default()).expect("opened")
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
    fn new() -> Self {
        let kv = Arc::new(MemoryKv::default());
        let engine = open(&kv);
        engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("a domain");
        let account = |address: &str| {
            let command =
                Command::CreateAccount { address: address.into(), credential: credential(), quota_bytes: None };
            match engine.execute(NOW, command) {
                Ok(Outcome::Account(account)) => account,
                other => panic!("{other:?}"),
            }
        };
        let (ada, ben, cas) = (account("ada@a.example"), account("ben@a.example"), account("cas@a.example"));
        Self { kv, engine, ada, ben, cas }
    }

    fn run(&self, command: Command) -> Outcome {
        self.engine.execute(NOW, command).expect("done")
    }

    fn run_as(&self, actor: AccountId, command: Command) -> Result<Outcome, EngineError> {
        self.engine.execute(NOW, Command::As { actor, command: Box::new(command) })
    }

    fn create(&self, account: AccountId, text: &str) -> MailboxId {
        match self.run(Command::CreateMailbox { account, name: name(text), special_use: None }) {
            Outcome::Mailbox(mailbox) => mailbox,
            other => panic!("{other:?}"),
        }
    }

    fn set(&self, account: AccountId, mailbox: MailboxId, identifier: &str, rights: &str) {
        let (update, rights) = (RightsUpdate::Replace, parse(rights));
        let command = Command::SetRights { account, mailbox, identifier: identifier.into(), update, rights };
        self.run_as(account, command).expect("set");
    }

    fn message(&self, text: &str) -> Arc<StagedMessage> {
        let mut staging = self.engine.stage();
        staging
            .write(format!("Subject: {text}\r\n\r\n{}\r\n", "body ".repeat(text.len() * 400)).as_bytes())
            .expect("room");
        staging.finish().expect("staged")
    }

    fn append(&self, account: AccountId, mailbox: MailboxId, text: &str, flags: Flags) -> Command {
        let message = AppendMessage { message: self.message(text), flags, internal_date: InternalDate::default() };
        Command::Append { account, mailbox, messages: vec![message] }
    }

    /// Flags of every message, in order.
    fn flags(&self, account: AccountId, mailbox: MailboxId) -> Vec<Flags> {
        let view = self.engine.mailbox(account, mailbox).expect("a view");
        view.uids().iter().filter_map(|uid| Some(view.entry(uid)?.flags)).collect()
    }

    fn seen(&self, reader: AccountId) -> Vec<(String, String)> {
        let seen = self.engine.seen_mailboxes(reader).expect("a list");
        assert_eq!(self.engine.seen_mailboxes_cached(reader), Some(seen.clone()));
        seen.into_iter().map(|seen| (seen.name.to_string(), seen.rights.letters())).collect()
    }

    /// The same store, opened anew; it must be whole, and show the same.
    fn reopened(&self) -> Self {
        let engine = open(&self.kv);
        let mut findings = Vec::new();
        engine.fsck(false, &mut |finding| findings.push(finding.to_string())).expect("checked");
        assert_eq!(findings, [""; 0]);
        let (ada, ben, cas) = (self.ada, self.ben, self.cas);
        let again = Self { kv: Arc::clone(&self.kv), engine, ada, ben, cas };
        for account in [ada, ben, cas] {
            assert_eq!(again.seen(account), self.seen(account));
        }
        again
    }
}

fn kind(result: Result<Outcome, EngineError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(EngineError::NotFound(_)) => "not found",
        Err(EngineError::NoPermission(_)) => "no permission",
        Err(EngineError::Exists(_)) => "exists",
        Err(EngineError::OverQuota) => "over quota",
        Err(error) => panic!("{error}"),
    }
}

fn seen_flag() -> Flags {
    Flags { system: SystemFlags::SEEN, keywords: Vec::new() }
}

/// Every command of another account on `mailbox` of ada, by its name.
fn commands(house: &House, mailbox: MailboxId, own: MailboxId) -> Vec<(&'static str, Command)> {
    let (account, ben) = (house.ada, house.ben);
    let uids = UidSet::range(1, 1);
    let flags = |system| Flags { system, keywords: Vec::new() };
    let store = |system| Command::StoreFlags {
        account,
        mailbox,
        uids: uids.clone(),
        update: FlagUpdate::Add,
        flags: flags(system),
        unchanged_since: None,
    };
    let across = |from, to, remove| {
        let ((account, from), (to_account, to)) = (from, to);
        Command::CopyAcross { account, from, uids: uids.clone(), to_account, to, remove }
    };
    vec![
        ("append", house.append(account, mailbox, "new", flags(SystemFlags::NONE))),
        ("store seen", store(SystemFlags::SEEN)),
        ("store deleted", store(SystemFlags::DELETED)),
        ("store flagged", store(SystemFlags::FLAGGED)),
        ("copy out", across((account, mailbox), (ben, own), false)),
        ("copy in", across((ben, own), (account, mailbox), false)),
        ("copy within", Command::Copy { account, from: mailbox, uids: uids.clone(), to: mailbox }),
        ("create below", Command::CreateMailbox { account, name: name("Team/new"), special_use: None }),
        (
            "set rights",
            Command::SetRights {
                account,
                mailbox,
                identifier: "cas@a.example".into(),
                update: RightsUpdate::Replace,
                rights: parse("l"),
            },
        ),
        ("move out", across((account, mailbox), (ben, own), true)),
        ("expunge", Command::Expunge { account, mailbox, uids: None, deleted_only: true }),
        ("rename", Command::RenameMailbox { account, from: name("Team"), to: name("Old") }),
        ("delete", Command::DeleteMailbox { account, name: name("Team") }),
    ]
}

#[test]
fn each_command_needs_its_rights_and_no_others() {
    let needs = [
        ("append", "i"),
        ("store seen", "rs"),
        ("store deleted", "rt"),
        ("store flagged", "rw"),
        ("copy out", "r"),
        ("copy in", "i"),
        ("copy within", "ri"),
        ("create below", "k"),
        ("set rights", "a"),
        ("move out", "rte"),
        ("expunge", "e"),
        ("delete", "x"),
    ];
    for (number, (what, rights)) in needs.into_iter().enumerate() {
        // The rights without each one of them, then exactly these, then every right but these.
        let parts = rights.chars().map(|letter| (rights.replace(letter, ""), false));
        let others = Rights::ALL.without(parse(rights)).letters();
        for (granted, enough) in parts.chain([(rights.to_owned(), true), (others, false)]) {
            let house = House::new();
            let team = house.create(house.ada, "Team");
            let own = house.engine.mailboxes(house.ben).expect("a list").by_name(&name("INBOX")).expect("INBOX").id;
            house.run(house.append(house.ada, team, "one", Flags::default()));
            house.run(house.append(house.ben, own, "mine", Flags::default()));
            for (visible, refused) in [("l", "no permission"), ("", "not found")] {
                let granted = format!("{granted}{visible}");
                house.set(house.ada, team, "ben@a.example", &granted);
                let command = commands(&house, team, own).into_iter().find(|(name, _)| *name == what).expect("known").1;
                let expected = match (what, enough) {
                    (_, true) => "ok",
                    // Nobody learns from this whether the parent is there.
                    ("create below", false) => "no permission",
                    // Others of the rights may make it visible by themselves.
                    (_, false) if parse(&granted).contains(Rights::LOOKUP) => "no permission",
                    (_, false) => refused,
                };
                assert_eq!(kind(house.run_as(house.ben, command)), expected, "{number} {what} with {granted:?}");
                if enough {
                    break;
                }
            }
            house.reopened();
        }
    }
}

#[test]
fn a_stranger_learns_nothing_from_any_command() {
    let house = House::new();
    let team = house.create(house.ada, "Team");
    house.run(house.append(house.ada, team, "one", Flags::default()));
    let own = house.engine.mailboxes(house.ben).expect("a list").by_name(&name("INBOX")).expect("INBOX").id;
    house.run(house.append(house.ben, own, "mine", Flags::default()));
    let text = |result: Result<Outcome, EngineError>| result.expect_err("refused").to_string();
    let there = commands(&house, team, own);
    let nowhere = commands(&house, MailboxId(4_711), own);
    for ((what, there), (_, nowhere)) in there.into_iter().zip(nowhere) {
        let nowhere = match nowhere {
            Command::DeleteMailbox { account, .. } => Command::DeleteMailbox { account, name: name("Gone") },
            Command::RenameMailbox { account, to, .. } => Command::RenameMailbox { account, from: name("Gone"), to },
            Command::CreateMailbox { account, special_use, .. } => {
                Command::CreateMailbox { account, name: name("Gone/new"), special_use }
            }
            other => other,
        };
        let (there, nowhere) = (text(house.run_as(house.ben, there)), text(house.run_as(house.ben, nowhere)));
        let same = |text: &str| text.replace("Gone", "Team").replace("4711", &team.0.to_string());
        assert_eq!(same(&there), same(&nowhere), "{what}");
    }
    // Nor do names tell: not those of mailboxes, nor those of people.
    let lookup = |text: &str| house.engine.open_named(house.ben, &name(text), Rights::READ);
    for text in [
        "Other Users/ada@a.example/Team",
        "Other Users/ada@a.example/Gone",
        "Other Users/nobody@a.example/Team",
        "Other Users/ada@a.example",
        "Other Users",
        "Public/Team",
    ] {
        let missing = EngineError::NotFound(format!("mailbox {text}"));
        assert_eq!(lookup(text), Err(missing.clone()), "{text}");
        assert_eq!(house.engine.open_named_cached(house.ben, &name(text), Rights::READ), Some(Err(missing)), "{text}");
    }
    assert_eq!(house.seen(house.ben), []);
}

#[test]
fn shared_mailboxes_are_seen_under_the_names_of_their_owners() {
    let house = House::new();
    let (team, plans) = (house.create(house.ada, "Team"), house.create(house.ada, "Team/Plans"));
    house.set(house.ada, team, "BEN@a.example", "lr");
    house.set(house.ada, plans, "ben@a.example", "r");
    house.set(house.ben, house.create(house.ben, "News"), "anyone", "l");
    let see = |text: &str, rights: &str| (text.to_owned(), rights.to_owned());
    assert_eq!(house.seen(house.ben), [see("Other Users/ada@a.example/Team", "lr")]);
    assert_eq!(house.seen(house.cas), [see("Other Users/ben@a.example/News", "l")]);
    let opened = house.engine.open_named(house.ben, &name("Other Users/ada@a.example/Team"), Rights::READ);
    assert_eq!(opened.map(|opened| (opened.account, opened.mailbox)), Ok((house.ada, team)));
    // What cannot be listed can still be read, where that is granted.
    let plans = name("Other Users/ada@a.example/Team/Plans");
    assert!(house.engine.open_named(house.ben, &plans, Rights::READ).is_ok());
    // What one has oneself comes before what others have.
    let mine = house.create(house.ben, "Other Users/ada@a.example/Team");
    let opened = house.engine.open_named(house.ben, &name("Other Users/ada@a.example/Team"), Rights::READ);
    assert_eq!(opened.map(|opened| (opened.account, opened.mailbox)), Ok((house.ben, mine)));
    house.reopened();
    // A name that is taken anew is somebody else's.
    house.run(Command::RemoveAccount { address: "ben@a.example".into() });
    let command =
        Command::CreateAccount { address: "ben@a.example".into(), credential: credential(), quota_bytes: None };
    let Outcome::Account(other) = house.run(command) else { panic!("an account") };
    assert_eq!(house.seen(other), []);
    assert_eq!(house.seen(house.cas), [], "what the account had is gone with it");
    let acl = house.engine.acl(house.ada, team).expect("a list");
    assert_eq!(acl, [("ada@a.example".to_owned(), Rights::ALL)]);
    house.reopened();
}

#[test]
fn groups_and_negative_rights_count_at_once() {
    let house = House::new();
    let team = house.create(house.ada, "Team");
    let member =
        |address: &str, member| Command::SetGroupMember { group: "staff".into(), address: address.into(), member };
    let Outcome::Group(first) = house.run(Command::CreateGroup { group: "Staff".into() }) else { panic!("a group") };
    house.run(member("ben@a.example", true));
    house.run(member("cas@a.example", true));
    house.set(house.ada, team, "group:STAFF", "lrs");
    house.set(house.ada, team, "-cas@a.example", "s");
    let rights = |account| house.engine.rights(account, house.ada, team).expect("rights").letters();
    assert_eq!((rights(house.ben), rights(house.cas)), ("lrs".to_owned(), "lr".to_owned()));
    let acl = house.engine.acl(house.ada, team).expect("a list");
    let acl: Vec<(&str, String)> = acl.iter().map(|(name, rights)| (name.as_str(), rights.letters())).collect();
    let all = Rights::ALL.letters();
    assert_eq!(acl, [("ada@a.example", all), ("-cas@a.example", "s".to_owned()), ("group:staff", "lrs".to_owned())]);
    house.reopened();
    house.run(member("ben@a.example", false));
    assert_eq!(rights(house.ben), "");
    house.run(Command::RemoveGroup { group: "staff".into() });
    assert_eq!(rights(house.cas), "");
    let Outcome::Group(second) = house.run(Command::CreateGroup { group: "staff".into() }) else { panic!("a group") };
    assert!(second > first, "a number is never given out again");
    house.run(member("cas@a.example", true));
    assert_eq!(rights(house.cas), "", "the group of the same name is another group");
    house.reopened();
}

#[test]
fn public_mailboxes_belong_to_the_domain() {
    let house = House::new();
    house.run(Command::CreateDomain { domain: "b.example".into() });
    let command =
        Command::CreateAccount { address: "zoe@b.example".into(), credential: credential(), quota_bytes: None };
    let Outcome::Account(zoe) = house.run(command) else { panic!("an account") };
    let news = house.create(house.ada, "News");
    house.set(house.ada, news, "anyone", "lr");
    let public = |address: Option<&str>| Command::SetPublicAccount {
        domain: "A.example".into(),
        address: address.map(str::to_owned),
    };
    house.run(public(Some("ada@a.example")));
    assert_eq!(house.seen(house.ben), [("Public/News".to_owned(), "lr".to_owned())]);
    assert_eq!(house.seen(zoe), [("Other Users/ada@a.example/News".to_owned(), "lr".to_owned())]);
    let opened = house.engine.open_named(house.ben, &name("Public/News"), Rights::READ).expect("opened");
    assert_eq!((opened.account, opened.mailbox), (house.ada, news));
    house.reopened();
    house.run(public(None));
    assert_eq!(house.seen(house.ben), [("Other Users/ada@a.example/News".to_owned(), "lr".to_owned())]);
    house.reopened();
}

#[test]
fn flags_that_one_may_not_set_are_left_out() {
    let house = House::new();
    let team = house.create(house.ada, "Team");
    let all = Flags { system: SystemFlags::ALL, keywords: vec![Keyword::new("$Todo").expect("a keyword")] };
    house.set(house.ada, team, "ben@a.example", "lris");
    house.run_as(house.ben, house.append(house.ada, team, "one", all.clone())).expect("appended");
    assert_eq!(house.flags(house.ada, team), [seen_flag()]);
    assert!(house.engine.mailbox(house.ada, team).expect("a view").keywords().is_empty(), "nothing was learnt");
    let store = |update, flags: &Flags| Command::StoreFlags {
        account: house.ada,
        mailbox: team,
        uids: UidSet::range(1, 9),
        update,
        flags: flags.clone(),
        unchanged_since: None,
    };
    house.run(store(FlagUpdate::Replace, &all));
    house.run_as(house.ben, store(FlagUpdate::Replace, &Flags::default())).expect("stored");
    let rest = Flags { system: SystemFlags::ALL.without(SystemFlags::SEEN), keywords: all.keywords.clone() };
    assert_eq!(house.flags(house.ada, team), std::slice::from_ref(&rest));
    // A copy of a message brings the flags that may be set there.
    let own = house.create(house.ben, "Mine");
    house.run(house.append(house.ben, own, "two", all));
    let uids = UidSet::range(1, 1);
    let across =
        Command::CopyAcross { account: house.ben, from: own, uids, to_account: house.ada, to: team, remove: true };
    let outcome = house.run_as(house.ben, across).expect("moved");
    assert!(matches!(outcome, Outcome::Copied { from, to, .. } if from == [1] && to == [2]));
    assert_eq!(house.flags(house.ada, team), [rest, seen_flag()]);
    assert_eq!(house.flags(house.ben, own), []);
    let found = house.engine.search_by_reading(house.ada, team, &SearchKey::All).expect("found");
    assert_eq!(found, [1, 2]);
    let view = house.engine.mailbox(house.ada, team).expect("a view");
    let record = house.engine.record(house.ada, view.entry(2).expect("there").message).expect("a record");
    let text = house.engine.read(house.ada, &record, 0..14).expect("octets");
    assert_eq!(&text[..], b"Subject: two\r\n");
    house.reopened();
}

#[test]
fn new_mailboxes_inherit_and_deleted_ones_leave_nothing() {
    let house = House::new();
    let team = house.create(house.ada, "Team");
    house.set(house.ada, team, "ben@a.example", "lrkx");
    let below = Command::CreateMailbox { account: house.ada, name: name("Team/a/b"), special_use: None };
    house.run_as(house.ben, below).expect("created");
    let names: Vec<String> = house.seen(house.ben).into_iter().map(|(name, _)| name).collect();
    let at = |text: &str| format!("Other Users/ada@a.example/{text}");
    assert_eq!(names, [at("Team"), at("Team/a"), at("Team/a/b")]);
    house.reopened();
    let rename = Command::RenameMailbox { account: house.ada, from: name("Team/a"), to: name("Team/c") };
    house.run_as(house.ben, rename).expect("renamed");
    for text in ["Team/c/b", "Team/c", "Team"] {
        house.run_as(house.ben, Command::DeleteMailbox { account: house.ada, name: name(text) }).expect("deleted");
    }
    assert_eq!(house.seen(house.ben), []);
    house.create(house.ada, "Team");
    assert_eq!(house.seen(house.ben), [], "a new mailbox of the name is another mailbox");
    house.reopened();
}

#[test]
fn what_others_put_into_a_mailbox_counts_for_its_owner() {
    let house = House::new();
    let team = house.create(house.ada, "Team");
    house.set(house.ada, team, "ben@a.example", "lri");
    let limits = QuotaLimits { bytes: None, messages: Some(1), mailboxes: Some(7) };
    let set = Command::SetQuotaLimits { account: house.ada, limits };
    assert_eq!(kind(house.run_as(house.ben, set.clone())), "no permission");
    house.run(Command::CreateGroup { group: "administrators".into() });
    let group = || "administrators".to_owned();
    house.run(Command::SetGroupMember { group: group(), address: "ben@a.example".into(), member: true });
    house.run_as(house.ben, set).expect("an administrator may");
    house.run_as(house.ben, house.append(house.ada, team, "one", Flags::default())).expect("room for one");
    assert_eq!(kind(house.run_as(house.ben, house.append(house.ada, team, "two", Flags::default()))), "over quota");
    let create = Command::CreateMailbox { account: house.ada, name: name("More"), special_use: None };
    assert_eq!(kind(house.run_as(house.ada, create)), "over quota");
    let other = Command::CreateGroup { group: "more".into() };
    assert_eq!(kind(house.run_as(house.ben, other)), "no permission", "nothing else is open to them");
    house.reopened();
}

#[test]
fn damaged_and_stray_rows_of_rights_are_told() {
    let house = House::new();
    let team = house.create(house.ada, "Team");
    house.set(house.ada, team, "ben@a.example", "lr");
    for (mailbox, kind, row, what) in [
        (team.0, 2, &[1, 0xff, 0xff, 0, 0][..], "the row of rights cannot be read"),
        (team.0, 9, &[1, 1, 0, 0, 0], "the row of rights cannot be read"),
        (4_711, 2, &[1, 1, 0, 0, 0], "the rights are of a mailbox that is not there"),
    ] {
        let key = keys::rights(house.ada.0, mailbox, kind, 7);
        let mut batch = Batch::default();
        batch.put(Family::Account, key.clone(), row.to_vec());
        house.kv.write(&batch, Durability::Synced).expect("written");
        let mut findings = Vec::new();
        house.engine.fsck(false, &mut |finding| findings.push(finding.what)).expect("checked");
        assert_eq!(findings, [what]);
        let mut batch = Batch::default();
        batch.delete(Family::Account, key);
        house.kv.write(&batch, Durability::Synced).expect("written");
    }
    house.engine.rebuild(None).expect("rebuilt");
    house.reopened();
}
