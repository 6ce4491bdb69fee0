//! The directory through its door: commands in, answers and rows out.

use rockdove_engine::{
    command::{AccountId, Command, Credential, EngineError, Outcome},
    directory::{
        ALIAS_DEPTH_MAX, ALIAS_TARGETS_MAX, Directory, FORWARD_TARGETS_MAX, Resolution, Target, Targets, plan,
    },
    kv::{Durability, Kv, memory::MemoryKv},
};

/// A directory with its rows.
#[derive(Default)]
struct House {
    store: MemoryKv,
    directory: Directory,
}

impl House {
    fn with_domain() -> Self {
        let mut house = Self::default();
        assert_eq!(house.run(&Command::CreateDomain { domain: "Example.ORG".into() }), Ok(Outcome::Done));
        house
    }

    fn run(&mut self, command: &Command) -> Result<Outcome, EngineError> {
        let planned = plan(command, &self.directory, 1_000)?;
        self.store.write(&planned.batch, Durability::Synced)?;
        self.directory = planned.next;
        assert_eq!(Directory::load(&self.store)?, self.directory, "the rows say the same after {command:?}");
        Ok(planned.outcome)
    }

    fn account(&mut self, address: &str) -> Result<Outcome, EngineError> {
        self.run(&Command::CreateAccount { address: address.into(), credential: credential(1), quota_bytes: None })
    }

    fn alias(&mut self, alias: &str, targets: &[&str]) -> Result<Outcome, EngineError> {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        self.run(&Command::SetAlias { alias: alias.into(), targets })
    }

    fn catch_all(&mut self, target: Option<&str>) -> Result<Outcome, EngineError> {
        self.run(&Command::SetCatchAll { domain: "example.org".into(), target: target.map(str::to_owned) })
    }

    /// Who gets mail for an address: ids, and the detail of each.
    fn resolve(&self, address: &str) -> Result<Vec<(u32, Option<String>)>, Resolution> {
        let (local, domain) = address.rsplit_once('@').expect("an address");
        match self.directory.resolve_parts(local, domain) {
            Resolution::Local(targets) => {
                Ok(targets.accounts.into_iter().map(|target| (target.account.0, target.detail)).collect())
            }
            other => Err(other),
        }
    }
}

fn credential(salt: u8) -> Credential {
    Credential {
        argon2: "$argon2id$".into(),
        scram_salt: vec![salt; 16],
        scram_iterations: 4_096,
        scram_stored_key: [salt; 32],
        scram_server_key: [salt; 32],
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what may be an error")]
fn to(ids: &[u32]) -> Result<Vec<(u32, Option<String>)>, Resolution> {
    Ok(ids.iter().map(|&id| (id, None)).collect())
}

#[test]
fn accounts_are_found_in_any_case_and_ids_are_never_reused() {
    let mut house = House::with_domain();
    assert_eq!(house.account("Anna@Example.org"), Ok(Outcome::Account(AccountId(1))));
    assert_eq!(house.account("anna@example.org"), Err(EngineError::Exists("account anna@example.org".into())));
    assert_eq!(house.account("bert@example.org"), Ok(Outcome::Account(AccountId(2))));
    let anna = house.directory.account_by_login("ANNA@EXAMPLE.ORG").expect("is there");
    assert_eq!((anna.id, &*anna.address, anna.created_unix_s), (AccountId(1), "Anna@example.org", 1_000));
    assert_eq!(house.resolve("aNNa@example.ORG"), to(&[1]));
    house.run(&Command::RemoveAccount { address: "bert@example.org".into() }).expect("removed");
    assert_eq!(house.resolve("bert@example.org"), Err(Resolution::UnknownRecipient));
    assert_eq!(house.account("bert@example.org"), Ok(Outcome::Account(AccountId(3))), "2 is spent");
    assert_eq!(house.directory.account(AccountId(2)), None);
    assert_eq!(house.directory.accounts().len(), 2);
    assert_eq!(house.directory.account_count(), 2);
}

#[test]
fn credentials_and_quotas_change() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    let address = "Anna@example.org".to_owned();
    house.run(&Command::SetCredential { address: address.clone(), credential: credential(9) }).expect("set");
    house.run(&Command::SetQuota { address, quota_bytes: Some(5) }).expect("set");
    let anna = house.directory.account(AccountId(1)).expect("is there");
    assert_eq!((&anna.credential, anna.quota_bytes), (&credential(9), Some(5)));
    let missing = house.run(&Command::SetQuota { address: "x@example.org".into(), quota_bytes: None });
    assert_eq!(missing, Err(EngineError::NotFound("account x@example.org".into())));
}

#[test]
fn domains_come_and_go_when_empty() {
    let mut house = House::with_domain();
    let create = |domain: &str| Command::CreateDomain { domain: domain.into() };
    let remove = |domain: &str| Command::RemoveDomain { domain: domain.into() };
    assert_eq!(house.run(&create("example.org.")), Err(EngineError::Exists("domain example.org".into())));
    assert!(matches!(house.run(&create("not a domain")), Err(EngineError::Invalid(_))));
    assert_eq!(house.run(&create("b\u{fc}cher.example")), Ok(Outcome::Done));
    assert!(house.directory.is_local_domain("XN--BCHER-KVA.example"));
    house.account("anna@example.org").expect("created");
    house.alias("all@example.org", &["anna@example.org"]).expect("set");
    assert!(matches!(house.run(&remove("example.org")), Err(EngineError::Invalid(_))));
    house.run(&Command::RemoveAccount { address: "anna@example.org".into() }).expect("removed");
    assert!(matches!(house.run(&remove("example.org")), Err(EngineError::Invalid(_))));
    house.run(&Command::RemoveAlias { alias: "ALL@example.org".into() }).expect("removed");
    assert_eq!(house.run(&remove("Example.org")), Ok(Outcome::Done));
    assert_eq!(house.run(&remove("example.org")), Err(EngineError::NotFound("domain example.org".into())));
    assert_eq!(house.resolve("anna@example.org"), Err(Resolution::NotLocal));
    let names: Vec<_> = house.directory.domains().into_iter().map(|domain| domain.name.clone()).collect();
    assert_eq!(names, ["xn--bcher-kva.example"]);
}

#[test]
fn an_alias_reaches_each_account_once_through_other_aliases() {
    let mut house = House::with_domain();
    for name in ["anna", "bert", "cora"] {
        house.account(&format!("{name}@example.org")).expect("created");
    }
    house.alias("Two@example.org", &["bert@example.org", "ANNA@example.org"]).expect("set");
    house.alias("all@example.org", &["cora@example.org", "two@example.org", "anna@example.org"]).expect("set");
    assert_eq!(house.resolve("two@example.org"), to(&[2, 1]));
    assert_eq!(house.resolve("ALL@example.org"), to(&[3, 2, 1]));
    house.run(&Command::RemoveAccount { address: "bert@example.org".into() }).expect("removed");
    assert_eq!(house.resolve("all@example.org"), to(&[3, 1]), "those who are left");
    house.alias("two@example.org", &["anna@example.org"]).expect("replaced");
    assert_eq!(house.resolve("two@example.org"), to(&[1]));
    assert_eq!(house.directory.aliases().len(), 2);
    assert_eq!(house.account("two@example.org"), Err(EngineError::Exists("alias two@example.org".into())));
    assert_eq!(
        house.alias("anna@example.org", &["cora@example.org"]),
        Err(EngineError::Exists("account anna@example.org".into()))
    );
}

#[test]
fn aliases_that_lead_nowhere_are_refused() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    assert!(matches!(house.alias("a@example.org", &["nobody@example.org"]), Err(EngineError::NotFound(_))));
    assert!(matches!(house.alias("a@example.org", &["\"a b\"@elsewhere.example"]), Err(EngineError::Invalid(_))));
    assert!(matches!(house.alias("a@elsewhere.example", &["anna@example.org"]), Err(EngineError::NotFound(_))));
    assert!(matches!(house.alias("a@example.org", &[]), Err(EngineError::Invalid(_))));
    assert!(matches!(house.alias("not an address", &["anna@example.org"]), Err(EngineError::Invalid(_))));
    let many = vec!["anna@example.org"; ALIAS_TARGETS_MAX + 1];
    assert!(matches!(house.alias("a@example.org", &many), Err(EngineError::Limit(_))));
}

#[test]
fn loops_and_long_chains_end() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    house.alias("a0@example.org", &["anna@example.org"]).expect("set");
    for step in 1..ALIAS_DEPTH_MAX {
        house.alias(&format!("a{step}@example.org"), &[&format!("a{}@example.org", step - 1)]).expect("set");
    }
    let last = format!("a{}@example.org", ALIAS_DEPTH_MAX - 1);
    assert_eq!(house.resolve(&last), to(&[1]));
    assert!(matches!(house.alias("more@example.org", &[&last]), Err(EngineError::Invalid(_))), "one too many");
    assert!(matches!(house.alias("a0@example.org", &["A0@example.org"]), Err(EngineError::Invalid(_))));
    assert!(matches!(house.alias("a0@example.org", &["a3@example.org"]), Err(EngineError::Invalid(_))));
    assert!(matches!(house.alias("a0@example.org", &["a3+x@example.org"]), Err(EngineError::Invalid(_))));
    assert_eq!(house.resolve("a5@example.org"), to(&[1]), "nothing has changed");
    // Made too long from below: refused in whole rather than delivered to some.
    house.alias("b@example.org", &["anna@example.org"]).expect("set");
    house.alias("a0@example.org", &["b@example.org"]).expect("set");
    assert_eq!(house.resolve(&last), Err(Resolution::UnknownRecipient));
    house.run(&Command::RemoveAccount { address: "anna@example.org".into() }).expect("removed");
    assert_eq!(house.resolve("a0@example.org"), Err(Resolution::UnknownRecipient), "nobody is left");
}

#[test]
fn a_detail_goes_to_the_name_before_it() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    house.account("bert+own@example.org").expect("created");
    house.alias("all@example.org", &["anna@example.org", "bert+own@example.org"]).expect("set");
    house.alias("lists@example.org", &["anna+lists@example.org"]).expect("set");
    let with = |id, detail: &str| Ok(vec![(id, Some(detail.to_owned()))]);
    assert_eq!(house.resolve("anna+News.Now@example.org"), with(1, "News.Now"));
    assert_eq!(house.resolve("anna+a+b@example.org"), with(1, "a+b"));
    assert_eq!(house.resolve("anna+@example.org"), Err(Resolution::UnknownRecipient));
    assert_eq!(house.resolve("bert+own@example.org"), to(&[2]), "the whole name comes first");
    assert_eq!(house.resolve("bert+other@example.org"), Err(Resolution::UnknownRecipient));
    assert_eq!(house.resolve("lists@example.org"), with(1, "lists"));
    assert_eq!(house.resolve("lists+mine@example.org"), with(1, "mine"), "the sender's detail is the one that counts");
    assert_eq!(house.resolve("all+x@example.org"), Ok(vec![(1, Some("x".into())), (2, Some("x".into()))]));
}

#[test]
fn a_catch_all_takes_what_nobody_else_does() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    house.account("bert@example.org").expect("created");
    assert!(matches!(house.catch_all(Some("nobody@example.org")), Err(EngineError::NotFound(_))));
    house.catch_all(Some("Bert@example.org")).expect("set");
    assert_eq!(house.resolve("anna@example.org"), to(&[1]));
    assert_eq!(house.resolve("whoever+x@example.org"), to(&[2]));
    house.run(&Command::RemoveAccount { address: "bert@example.org".into() }).expect("removed");
    assert_eq!(house.resolve("whoever@example.org"), Err(Resolution::UnknownRecipient));
    house.catch_all(None).expect("cleared");
    assert_eq!(house.resolve("whoever@example.org"), Err(Resolution::UnknownRecipient));
    assert_eq!(house.resolve("anna@elsewhere.example"), Err(Resolution::NotLocal));
}

#[test]
fn the_postmaster_is_always_somebody() {
    let mut house = House::with_domain();
    house.run(&Command::CreateDomain { domain: "empty.example".into() }).expect("created");
    assert_eq!(house.resolve("postmaster@example.org"), Err(Resolution::UnknownRecipient), "there is nobody at all");
    assert_eq!(house.directory.resolve_postmaster(), Resolution::UnknownRecipient);
    for name in ["anna", "bert", "cora"] {
        house.account(&format!("{name}@example.org")).expect("created");
    }
    assert_eq!(house.resolve("PostMaster@example.org"), to(&[1]), "the oldest account");
    assert_eq!(house.resolve("postmaster@empty.example"), to(&[1]), "the oldest account of the server");
    let anna = Target { account: AccountId(1), address: "anna@example.org".into(), detail: None };
    assert_eq!(
        house.directory.resolve_postmaster(),
        Resolution::Local(Targets { accounts: vec![anna], onward: Vec::new() })
    );
    house.run(&Command::RemoveAccount { address: "anna@example.org".into() }).expect("removed");
    assert_eq!(house.resolve("postmaster@example.org"), to(&[2]));
    house.catch_all(Some("cora@example.org")).expect("set");
    assert_eq!(house.resolve("postmaster@example.org"), to(&[3]), "a catch-all comes first");
    house.alias("postmaster@example.org", &["bert@example.org"]).expect("set");
    assert_eq!(house.resolve("postmaster@example.org"), to(&[2]), "an alias comes before both");
    assert_eq!(house.resolve("postmaster+x@empty.example"), Err(Resolution::UnknownRecipient));
}

#[test]
fn names_beyond_ascii_are_one_however_they_are_written() {
    let mut house = House::with_domain();
    house.account("jose\u{301}@example.org").expect("created");
    assert_eq!(house.resolve("JOS\u{c9}@example.org"), to(&[1]));
    assert!(matches!(house.account("jos\u{e9}@example.org"), Err(EngineError::Exists(_))));
    assert!(matches!(house.account("\"a b\"@example.org"), Err(EngineError::Invalid(_))), "no address needs quotes");
}

#[test]
fn a_large_directory_stays_quick() {
    let mut directory = Directory::default();
    let create = Command::CreateDomain { domain: "example.org".into() };
    directory = plan(&create, &directory, 0).expect("planned").next;
    for number in 0..20_000 {
        let address = format!("user{number}@example.org");
        let command = Command::CreateAccount { address, credential: credential(1), quota_bytes: None };
        // Each change is made to a copy while the old one is still held, as the committer and its readers do.
        let planned = plan(&command, &directory, 0).expect("planned");
        assert_eq!(planned.batch.changes.len(), 2);
        directory = planned.next;
    }
    assert_eq!(directory.account_count(), 20_000);
    assert_eq!(directory.account_by_login("USER12345@example.org").map(|account| account.id), Some(AccountId(12_346)));
}

#[test]
fn a_damaged_row_is_named() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    let mut batch = rockdove_engine::kv::Batch::default();
    batch.put(rockdove_engine::kv::Family::Sys, rockdove_engine::kv::keys::account(1), "nonsense");
    house.store.write(&batch, Durability::Synced).expect("written");
    assert!(matches!(Directory::load(&house.store), Err(EngineError::Corrupt(_))));
}

impl House {
    fn forward(&mut self, address: &str, targets: &[&str], keep: bool) -> Result<Outcome, EngineError> {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        self.run(&Command::SetForward { address: address.into(), targets, keep })
    }

    /// Ids of accounts, and addresses elsewhere with who leads there.
    fn both(&self, address: &str) -> (Vec<u32>, Vec<(String, String)>) {
        let (local, domain) = address.rsplit_once('@').expect("an address");
        let Resolution::Local(targets) = self.directory.resolve_parts(local, domain) else {
            return (Vec::new(), Vec::new());
        };
        let accounts = targets.accounts.iter().map(|target| target.account.0).collect();
        (accounts, targets.onward.into_iter().map(|onward| (onward.address, onward.by)).collect())
    }
}

fn onward(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(address, by)| (address.to_owned(), by.to_owned())).collect()
}

#[test]
fn aliases_lead_away_too_and_to_each_address_once() {
    let mut house = House::with_domain();
    house.account("anna@example.org").expect("created");
    let targets = ["anna@example.org", "Eve@Far.example", "eve@far.example", "Eve@far.example"];
    house.alias("sales@example.org", &targets).expect("set");
    house.alias("all@example.org", &["sales@example.org", "Eve@far.example"]).expect("set");
    let sales = "sales@example.org";
    let away = onward(&[("Eve@far.example", sales), ("eve@far.example", sales)]);
    assert_eq!(house.both("SALES@example.org"), (vec![1], away.clone()), "local parts of others have their case");
    assert_eq!(house.both("all@example.org"), (vec![1], away));
    house.run(&Command::CreateDomain { domain: "far.example".into() }).expect("ours now");
    assert_eq!(house.both("all@example.org"), (vec![1], vec![]), "nobody of that name is here");
}

#[test]
fn accounts_send_mail_on_and_lose_none() {
    let mut house = House::with_domain();
    for name in ["anna", "bert", "cora"] {
        house.account(&format!("{name}@example.org")).expect("created");
    }
    let (anna, bert) = ("anna@example.org", "bert@example.org");
    house.forward(anna, &["a@far.example", bert], false).expect("set");
    assert_eq!(house.both("anna+x@example.org"), (vec![2], onward(&[("a@far.example", anna)])));
    assert!(house.directory.has_address(AccountId(1), "anna", "example.org"), "it is hers all the same");
    assert!(!house.directory.has_address(AccountId(2), "anna", "example.org"), "and is not his");
    house.forward(anna, &["a@far.example"], true).expect("set");
    assert_eq!(house.both(anna), (vec![1], onward(&[("a@far.example", anna)])));
    // Two who send everything to each other: what leads back to somebody stays there.
    house.forward(anna, &[bert], false).expect("set");
    house.forward(bert, &[anna], false).expect("set");
    assert_eq!((house.both(anna), house.both(bert)), ((vec![1], vec![]), (vec![2], vec![])));
    house.forward(bert, &["b@far.example", "cora@example.org"], false).expect("set");
    house.alias("all@example.org", &[anna, bert, "cora@example.org"]).expect("set");
    assert_eq!(house.both("all@example.org"), (vec![3], onward(&[("b@far.example", bert)])));
    for wrong in [&["nobody@example.org"][..], &["x"], &["a b@far.example"]] {
        assert!(house.forward(anna, wrong, true).is_err(), "{wrong:?}");
    }
    let many = vec!["a@far.example"; FORWARD_TARGETS_MAX + 1];
    assert!(matches!(house.forward(anna, &many, true), Err(EngineError::Limit(_))));
    house.forward(anna, &[], false).expect("nothing any more");
    assert_eq!(house.both(anna), (vec![1], vec![]));
    house.run(&Command::RemoveAccount { address: bert.into() }).expect("removed");
    assert_eq!(house.directory.forward(AccountId(2)), None);
}
