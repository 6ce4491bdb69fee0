//! Dying at every write, and a disk that is full for a while.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rockdove_engine::{
    Command, EngineError, EngineOptions, Outcome,
    kv::{KvError, SharedKv, memory::MemoryKv},
};

use crate::{
    agree::NOW,
    compare::{compare, compare_account},
    history::{Commands, House, Rng, keeping, reason},
    model::{Act, Model},
};

fn opened(kv: Arc<MemoryKv>) -> House {
    House::open(kv as SharedKv, keeping())
}

fn prepared(kv: &Arc<MemoryKv>) -> House {
    let house = opened(Arc::clone(kv));
    house.engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
    house
}

/// The place of a command in its group, and what came of it.
type Answer = (usize, Result<Outcome, EngineError>);

/// What was acknowledged by the time of a write.
struct Moment {
    writes: usize,
    model: Model,
}

/// Performs commands in groups of up to four, each group with one write, and remembers the state after every group.
fn lived(kv: &Arc<MemoryKv>, seed: u64, groups: usize) -> (Vec<Moment>, Commands) {
    let house = prepared(kv);
    let mut commands = Commands::new(seed, 60, true);
    let mut model = Model::default();
    let mut moments = vec![Moment { writes: kv.writes(), model: model.clone() }];
    for number in 0..groups {
        let answers = Arc::new(Mutex::new(Vec::<Answer>::new()));
        let mut expected = Vec::new();
        for place in 0..=commands.rng.below(4) {
            let act = commands.next(&model);
            expected.push(model.apply(NOW, &act));
            let command = house.command(&act).expect("staged");
            let answers = Arc::clone(&answers);
            let done = Box::new(move |answer| answers.lock().expect("whole").push((place, answer)));
            house.engine.submit(NOW, command, done);
            // What comes next may name what this one creates, which nobody sees before it is written.
            if !matches!(act, Act::Append { .. } | Act::Store { .. } | Act::Expunge { .. } | Act::Deliver { .. }) {
                break;
            }
        }
        while house.engine.commit_pending(Duration::ZERO) {}
        let mut answers = std::mem::take(&mut *answers.lock().expect("whole"));
        answers.sort_by_key(|(place, _)| *place);
        for ((_, answer), expected) in answers.iter().zip(&expected) {
            let answer = answer.as_ref().map_err(|error| reason(error).expect("a refusal"));
            assert_eq!(answer, expected.as_ref().map_err(|no| *no), "seed {seed}, group {number}");
        }
        moments.push(Moment { writes: kv.writes(), model: model.clone() });
        if commands.rng.one_in(6) {
            for account in model.accounts.keys() {
                house.engine.catch_up(*account, true).expect("a slice");
            }
        }
        if commands.rng.one_in(10) {
            house.engine.collect_parts(NOW * 2, 50).expect("collects");
        }
        if commands.rng.one_in(4) {
            house.engine.sweep_removed(NOW).expect("a slice");
        }
    }
    (moments, commands)
}

#[test]
fn whenever_the_machine_dies_nothing_acknowledged_is_lost_and_nothing_is_half() {
    for seed in 1..=3 {
        let kv = Arc::new(MemoryKv::recording());
        let (moments, commands) = lived(&kv, seed, 90);
        let first = moments[0].writes;
        for writes in first..=kv.writes() {
            let when = format!("seed {seed}, died after write {writes}");
            let image = Arc::new(kv.crash_image(writes, seed + writes as u64));
            let house = opened(Arc::clone(&image));
            house.check(&when);
            let at = moments.partition_point(|moment| moment.writes <= writes) - 1;
            let mut model = moments[at].model.clone();
            let mut rng = Rng(writes as u64);
            compare(&house.engine, &model, &mut rng, &when);
            // It goes on as if nothing had happened. What was staged and not delivered is collected.
            let mut more = Commands { rng: Rng(writes as u64), ..commands.clone() };
            for _ in 0..4 {
                let act = more.next(&model);
                let expected = model.apply(NOW + 1, &act);
                let outcome = house.perform(NOW + 1, &act);
                assert_eq!(outcome.map_err(|error| reason(&error).expect("a refusal")), expected, "{when}: {act:?}");
            }
            house.sweep();
            house.engine.collect_parts(NOW * 2, usize::MAX).expect("collects");
            model.accounts.keys().for_each(|account| house.catch_up(*account));
            compare(&house.engine, &model, &mut rng, &when);
            house.check(&when);
        }
    }
}

#[test]
fn what_is_abandoned_or_expunged_leaves_no_bytes_behind() {
    let kv = Arc::new(MemoryKv::recording());
    let (moments, _) = lived(&kv, 7, 60);
    let house = opened(kv);
    for account in moments.last().expect("the last").model.accounts.values() {
        house.engine.execute(NOW, Command::RemoveAccount { address: account.address.clone() }).expect("removed");
    }
    house.sweep();
    house.engine.collect_parts(NOW * 2, usize::MAX).expect("collects");
    let summary = house.engine.fsck(false, &mut |finding| panic!("{finding}")).expect("can be read");
    assert_eq!((summary.accounts, summary.messages, summary.parts), (0, 0, 0));
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    for seed in 1..=6 {
        let kv = Arc::new(MemoryKv::recording());
        let house = prepared(&kv);
        let mut commands = Commands::new(seed, 40, true);
        let mut rng = Rng(seed);
        let mut model = Model::default();
        let mut refused = 0;
        for number in 0..400 {
            let act = commands.next(&model);
            let when = format!("seed {seed}, command {number}, {act:.0?}");
            if rng.one_in(4) {
                kv.fail_write(rng.below(3), KvError::Busy("no space left".to_owned()));
            }
            let Ok(command) = house.command(&act) else {
                // Its bytes did not even come in.
                refused += 1;
                continue;
            };
            match house.engine.execute(NOW, command) {
                Err(EngineError::Unavailable(_)) => {
                    refused += 1;
                    model.fail(NOW, &act);
                }
                outcome => {
                    let outcome = outcome.map_err(|error| reason(&error).expect("a refusal"));
                    assert_eq!(outcome, model.apply(NOW, &act), "{when}");
                }
            }
            if rng.one_in(10) {
                for account in act.accounts().into_iter().filter(|id| model.accounts.contains_key(id)) {
                    compare_account(&house.engine, &model, account, &mut rng, &when);
                }
            }
        }
        assert!(refused > 20, "seed {seed}: {refused} refused");
        kv.heal();
        house.engine.collect_parts(NOW * 2, usize::MAX).expect("collects");
        house.check("after the last fault");
        compare(&house.engine, &model, &mut rng, "after the last fault");
        compare(&opened(kv).engine, &model, &mut rng, "opened again");
    }
}

#[test]
fn a_group_that_fails_takes_what_stands_on_it_and_nothing_else() {
    let kv = Arc::new(MemoryKv::recording());
    let options = EngineOptions { group_commands_max: 2, ..keeping() };
    let house = House::open(Arc::clone(&kv) as SharedKv, options);
    house.engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
    let mut model = Model::default();
    for address in ["a@a.example", "b@a.example", "c@a.example"] {
        let act = Act::AddAccount { address: address.into(), quota: None };
        assert_eq!(house.perform(NOW, &act).ok(), model.apply(NOW, &act).ok());
    }
    let ids: Vec<_> = model.accounts.keys().copied().collect();
    let answers: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    // The first group is of the accounts 0 and 1; it fails. So does what comes later for these, not what is for 2.
    for (place, account) in [0, 1, 2, 0, 2, 1].into_iter().enumerate() {
        let name = rockdove_mail::MailboxName::new(&format!("n{place}")).expect("a name");
        let command = Command::CreateMailbox { account: ids[account], name, special_use: None };
        let answers = Arc::clone(&answers);
        let done =
            Box::new(move |answer: Result<Outcome, _>| answers.lock().expect("whole").push((place, answer.is_ok())));
        house.engine.submit(NOW, command, done);
    }
    kv.fail_write(0, KvError::Busy("no space left".to_owned()));
    while house.engine.commit_pending(Duration::ZERO) {}
    let answers: BTreeSet<_> = answers.lock().expect("whole").iter().copied().collect();
    assert_eq!(answers, [(0, false), (1, false), (2, true), (3, false), (4, true), (5, false)].into());
    house.check("afterwards");
    let names = |account: usize| house.engine.mailboxes(ids[account]).expect("there").mailboxes().len();
    assert_eq!((names(0), names(1), names(2)), (6, 6, 8));
}
