//! Histories of accounts that share mailboxes: lists of rights change, commands are given by others, messages go from
//! account to account; against the model with the rights of RFC 4314 on top, through restarts and deaths.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rockdove_engine::{
    AccountId, Command, Engine, EngineError, MailboxId, Outcome,
    kv::{SharedKv, memory::MemoryKv},
};
use rockdove_mail::{FlagUpdate, Flags, MailboxName, Rights, RightsUpdate, SystemFlags, UidSet};

use crate::{
    agree::NOW,
    compare::compare,
    history::{Commands, House, Rng, keeping, name, reason},
    model::{Act, Model, No},
};

/// Something that an account does.
#[derive(Clone, Debug)]
enum Deed {
    /// A command about its own mail or somebody else's.
    Act(Act),
    /// It changes what `whom` may do.
    Allow { account: AccountId, mailbox: MailboxId, whom: AccountId, rights: Rights },
    /// It copies or moves messages to another account.
    Across { account: AccountId, from: MailboxId, uids: UidSet, to_account: AccountId, to: MailboxId, moves: bool },
}

/// The server and its lists of rights.
#[derive(Clone, Debug, Default)]
struct Shared {
    model: Model,
    lists: BTreeMap<(AccountId, MailboxId), BTreeMap<AccountId, Rights>>,
}

const FLAG_RIGHTS: Rights = Rights::SEEN.union(Rights::WRITE).union(Rights::DELETE_MESSAGES);
const MOVE_FROM: Rights = Rights::READ.union(Rights::DELETE_MESSAGES).union(Rights::EXPUNGE);

/// Which flags somebody with these rights changes (RFC 4314 section 4).
fn allowed(rights: Rights, flags: &Flags) -> Flags {
    let mut system = SystemFlags::default();
    for (right, named) in [
        (Rights::SEEN, SystemFlags::SEEN),
        (Rights::DELETE_MESSAGES, SystemFlags::DELETED),
        (Rights::WRITE, SystemFlags::ANSWERED),
        (Rights::WRITE, SystemFlags::FLAGGED),
        (Rights::WRITE, SystemFlags::DRAFT),
    ] {
        if rights.contains(right) && flags.system.contains(named) {
            system = system.union(named);
        }
    }
    let keywords = if rights.contains(Rights::WRITE) { flags.keywords.clone() } else { Vec::new() };
    Flags { system, keywords }
}

fn is_empty(flags: &Flags) -> bool {
    flags.system.is_empty() && flags.keywords.is_empty()
}

impl Shared {
    fn rights(&self, actor: AccountId, account: AccountId, mailbox: MailboxId) -> Rights {
        if actor == account {
            return Rights::ALL;
        }
        self.lists.get(&(account, mailbox)).and_then(|list| list.get(&actor)).copied().unwrap_or_default()
    }

    fn need(&self, actor: AccountId, account: AccountId, mailbox: MailboxId, need: Rights) -> Result<Rights, No> {
        match self.rights(actor, account, mailbox) {
            have if have.contains(need) => Ok(have),
            have if have.contains(Rights::LOOKUP) => Err(No::Permission),
            _ => Err(No::NotFound),
        }
    }

    fn apply(&mut self, actor: AccountId, deed: &Deed) -> Result<Outcome, No> {
        let mut next = self.clone();
        let outcome = next.perform(actor, deed)?;
        *self = next;
        Ok(outcome)
    }

    fn perform(&mut self, actor: AccountId, deed: &Deed) -> Result<Outcome, No> {
        match deed {
            Deed::Act(act) => self.act(actor, act),
            Deed::Allow { account, mailbox, whom, rights } => {
                self.need(actor, *account, *mailbox, Rights::ADMINISTER)?;
                let owner = self.model.accounts.get_mut(account).ok_or(No::NotFound)?;
                owner.by_id(*mailbox)?;
                owner.modseq += 1;
                let list = self.lists.entry((*account, *mailbox)).or_default();
                list.insert(*whom, *rights);
                list.retain(|_, rights| !rights.is_empty());
                Ok(Outcome::Done)
            }
            Deed::Across { account, from, uids, to_account, to, moves } => {
                self.across(actor, (*account, *from, uids), (*to_account, *to), *moves)
            }
        }
    }

    fn act(&mut self, actor: AccountId, act: &Act) -> Result<Outcome, No> {
        let mut act = act.clone();
        match &mut act {
            Act::Append { account, mailbox, messages } => {
                let rights = self.need(actor, *account, *mailbox, Rights::INSERT)?;
                for (_, flags, _) in messages {
                    *flags = allowed(rights, flags);
                }
            }
            Act::Store { account, mailbox, flags, .. } => {
                let rights = self.need(actor, *account, *mailbox, Rights::READ)?;
                let may = allowed(rights, flags);
                if (!is_empty(flags) && is_empty(&may)) || !rights.intersects(FLAG_RIGHTS) {
                    self.need(actor, *account, *mailbox, FLAG_RIGHTS)?;
                }
                *flags = may;
            }
            Act::Copy { account, from, to, .. } => {
                self.need(actor, *account, *from, Rights::READ)?;
                self.need(actor, *account, *to, Rights::INSERT)?;
                return self.copy(actor, &act);
            }
            Act::Move { account, from, to, .. } => {
                self.need(actor, *account, *from, MOVE_FROM)?;
                self.need(actor, *account, *to, Rights::INSERT)?;
                return self.copy(actor, &act);
            }
            Act::Expunge { account, mailbox, .. } => {
                self.need(actor, *account, *mailbox, Rights::EXPUNGE)?;
            }
            Act::Create { account, .. } => return self.create(*account, &act),
            Act::Delete { account, name } if !name.is_inbox() => {
                let owner = &self.model.accounts[account];
                let id = owner.mailboxes[owner.by_name(name).ok_or(No::NotFound)?].id;
                self.need(actor, *account, id, Rights::DELETE_MAILBOX)?;
                self.lists.remove(&(*account, id));
            }
            _ => {}
        }
        self.model.apply(NOW, &act)
    }

    /// A copy within an account has those flags that the actor may set there.
    fn copy(&mut self, actor: AccountId, act: &Act) -> Result<Outcome, No> {
        let (Act::Copy { account, to, .. } | Act::Move { account, to, .. }) = act else { unreachable!("{act:?}") };
        let before = self.model.accounts[account].clone();
        let outcome = self.model.apply(NOW, act)?;
        let rights = self.rights(actor, *account, *to);
        if !rights.contains(FLAG_RIGHTS)
            && let Outcome::Copied { to: uids, .. } = &outcome
        {
            let after = self.model.accounts.get_mut(account).ok_or(No::NotFound)?;
            let place = after.by_id(*to)?;
            let mailbox = &mut after.mailboxes[place];
            // What it has no right to set it does not teach the mailbox either.
            if !rights.contains(Rights::WRITE) {
                mailbox.keywords.clone_from(&before.mailboxes[before.by_id(*to)?].keywords);
            }
            for message in mailbox.messages.iter_mut().filter(|message| uids.contains(&message.uid)) {
                let flags = Flags { system: message.system, keywords: Vec::new() };
                message.system = allowed(rights, &flags).system;
                if !rights.contains(Rights::WRITE) {
                    message.keywords.clear();
                }
            }
        }
        Ok(outcome)
    }

    /// New mailboxes take over the list of the one above them.
    fn create(&mut self, account: AccountId, act: &Act) -> Result<Outcome, No> {
        let known: BTreeSet<MailboxId> =
            self.model.accounts[&account].mailboxes.iter().map(|mailbox| mailbox.id).collect();
        let outcome = self.model.apply(NOW, act)?;
        let owner = &self.model.accounts[&account];
        for mailbox in owner.mailboxes.iter().filter(|mailbox| !known.contains(&mailbox.id)) {
            let above =
                mailbox.name.parent().and_then(|parent| owner.by_name(&parent)).map(|at| owner.mailboxes[at].id);
            let list = above.and_then(|above| self.lists.get(&(account, above)).cloned());
            self.lists.extend(list.map(|list| ((account, mailbox.id), list)));
        }
        Ok(outcome)
    }

    fn across(
        &mut self,
        actor: AccountId,
        (account, from, uids): (AccountId, MailboxId, &UidSet),
        (to_account, to): (AccountId, MailboxId),
        moves: bool,
    ) -> Result<Outcome, No> {
        self.need(actor, account, from, if moves { MOVE_FROM } else { Rights::READ })?;
        let source = &self.model.accounts[&account];
        let mailbox = &source.mailboxes[source.by_id(from)?];
        let picked = mailbox.messages.iter().filter(|message| uids.contains(message.uid));
        let carried: Vec<_> = picked.map(|message| (message.clone(), mailbox.flags(message))).collect();
        let rights = self.need(actor, to_account, to, Rights::INSERT)?;
        let target = self.model.accounts.get_mut(&to_account).ok_or(No::NotFound)?;
        target.room_for(carried.iter().map(|(message, _)| message.content.len() as u64).sum())?;
        let place = target.by_id(to)?;
        target.modseq += u64::from(!carried.is_empty());
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for (message, flags) in carried {
            let may = allowed(rights, &flags);
            let flags = Flags { keywords: target.mailboxes[place].fitting(&may.keywords), ..may };
            gone.push(message.uid);
            let copy = target.new_message(message.content, message.date, &flags, NOW);
            let modseq = target.modseq;
            new.push(target.mailboxes[place].add(copy, modseq));
        }
        let uid_validity = target.mailboxes[place].uid_validity;
        if moves && !gone.is_empty() {
            let source = self.model.accounts.get_mut(&account).ok_or(No::NotFound)?;
            source.modseq += 1;
            let (modseq, place) = (source.modseq, source.by_id(from)?);
            source.mailboxes[place].remove(&gone.iter().copied().collect(), modseq);
        }
        Ok(Outcome::Copied { uid_validity, from: gone, to: new })
    }
}

/// Gives a deed to the engine.
fn give(house: &House, shared: &Shared, actor: AccountId, deed: &Deed) -> Result<Outcome, EngineError> {
    let command = match deed.clone() {
        Deed::Act(act) => house.command(&act)?,
        Deed::Allow { account, mailbox, whom, rights } => {
            let identifier = shared.model.accounts[&whom].address.clone();
            Command::SetRights { account, mailbox, identifier, update: RightsUpdate::Replace, rights }
        }
        Deed::Across { account, from, uids, to_account, to, moves: remove } => {
            Command::CopyAcross { account, from, uids, to_account, to, remove }
        }
    };
    house.engine.execute(NOW, Command::As { actor, command: Box::new(command) })
}

fn compare_rights(engine: &Engine, shared: &Shared, when: &str) {
    for (account, owner) in &shared.model.accounts {
        for mailbox in &owner.mailboxes {
            for actor in shared.model.accounts.keys() {
                let expected = shared.rights(*actor, *account, mailbox.id);
                let there = engine.rights(*actor, *account, mailbox.id);
                assert_eq!(there, Ok(expected), "{when}: {actor:?} in {account:?} {}", mailbox.name);
            }
        }
    }
    for reader in shared.model.accounts.keys() {
        let mut expected: Vec<(MailboxName, Rights)> = Vec::new();
        for ((account, mailbox), list) in &shared.lists {
            let owner = &shared.model.accounts[account];
            let rights = list.get(reader).copied().unwrap_or_default();
            if rights.contains(Rights::LOOKUP) {
                let own = &owner.mailboxes[owner.by_id(*mailbox).expect("a list of a mailbox")].name;
                expected.push((name(&format!("Other Users/{}/{own}", owner.address)), rights));
            }
        }
        expected.sort();
        let seen = engine.seen_mailboxes(*reader).expect("a list");
        let seen: Vec<_> = seen.into_iter().map(|seen| (seen.name, seen.rights)).collect();
        assert_eq!(seen, expected, "{when}: what {reader:?} sees");
    }
}

/// Makes up deeds.
struct Deeds {
    commands: Commands,
}

impl Deeds {
    fn rights(rng: &mut Rng) -> Rights {
        let bits = rng.next() as u16 | rng.next() as u16;
        let some = Rights::from_bits(bits & Rights::ALL.bits()).expect("rights");
        match rng.below(6) {
            0 => Rights::NONE,
            1 => Rights::ALL,
            2 => some.without(Rights::LOOKUP),
            _ => some | Rights::LOOKUP | Rights::READ,
        }
    }

    fn next(&mut self, shared: &Shared) -> (AccountId, Deed) {
        let ids: Vec<AccountId> = shared.model.accounts.keys().copied().collect();
        let rng = &mut self.commands.rng;
        let actor = *rng.pick(&ids);
        let place = |rng: &mut Rng| {
            let account = *rng.pick(&ids);
            let owner = &shared.model.accounts[&account];
            let mailbox = rng.pick(&owner.mailboxes[..owner.mailboxes.len().min(8)]);
            (account, if rng.one_in(60) { MailboxId(9_999) } else { mailbox.id }, mailbox.uid_next)
        };
        if rng.one_in(6) {
            let (account, mailbox, _) = place(rng);
            let others: Vec<AccountId> = ids.iter().copied().filter(|id| *id != account).collect();
            let (whom, rights) = (*rng.pick(&others), Self::rights(rng));
            let actor = if rng.one_in(4) { actor } else { account };
            return (actor, Deed::Allow { account, mailbox, whom, rights });
        }
        if rng.one_in(5) {
            let (account, from, uid_next) = place(rng);
            let (to_account, to, _) = place(rng);
            let first = 1 + rng.below(uid_next as usize) as u32;
            let (uids, moves) = (UidSet::range(first, first + rng.below(4) as u32), rng.one_in(2));
            if account != to_account {
                return (actor, Deed::Across { account, from, uids, to_account, to, moves });
            }
        }
        loop {
            let act = self.commands.next(&shared.model);
            let actor = *self.commands.rng.pick(&ids);
            let fits = match &act {
                Act::Append { messages, .. } => messages.len() < 40,
                Act::Copy { .. } | Act::Move { .. } | Act::Expunge { .. } | Act::Delete { .. } => true,
                // With some of the rights, replacing flags changes some of them: that has a test of its own.
                Act::Store { account, update, .. } => *update != FlagUpdate::Replace || *account == actor,
                Act::Create { .. } => false,
                _ => continue,
            };
            match act {
                Act::Create { account, .. } => return (account, Deed::Act(act)),
                act if fits => return (actor, Deed::Act(act)),
                _ => {}
            }
        }
    }
}

struct Life {
    house: House,
    shared: Shared,
    deeds: Deeds,
}

impl Life {
    fn new(kv: SharedKv, seed: u64) -> Self {
        let house = House::open(kv, keeping());
        house.engine.execute(NOW, Command::CreateDomain { domain: "a.example".into() }).expect("accepted");
        let mut shared = Shared::default();
        for address in ["ada@a.example", "ben@a.example", "cas@a.example"] {
            let act = Act::AddAccount { address: address.into(), quota: None };
            assert_eq!(house.perform(NOW, &act).ok(), shared.model.apply(NOW, &act).ok());
        }
        Self { house, shared, deeds: Deeds { commands: Commands::new(seed, 30, false) } }
    }

    /// One deed, with the same outcome in both. Why it was refused, and whether somebody else than the owner did it.
    fn live(&mut self, when: &str) -> (Option<No>, bool) {
        let (actor, deed) = self.deeds.next(&self.shared);
        let when = format!("{when}, {actor:?} {deed:.200?}");
        let outcome = give(&self.house, &self.shared, actor, &deed);
        let expected = self.shared.apply(actor, &deed);
        let outcome = outcome.map_err(|error| reason(&error).unwrap_or_else(|| panic!("{when}: {error}")));
        assert_eq!(outcome, expected, "{when}");
        let foreign = match &deed {
            Deed::Act(act) => act.accounts().iter().any(|account| *account != actor),
            Deed::Allow { account, .. } => *account != actor,
            Deed::Across { .. } => true,
        };
        (expected.err(), foreign)
    }

    fn compare(&self, rng: &mut Rng, when: &str) {
        compare(&self.house.engine, &self.shared.model, rng, when);
        compare_rights(&self.house.engine, &self.shared, when);
        self.house.check(when);
    }
}

#[test]
fn shared_mailboxes_agree_with_the_model() {
    let (mut refused, mut done_by_others) = (Vec::new(), 0);
    for seed in 101..=104 {
        let mut life = Life::new(Arc::new(MemoryKv::new()), seed);
        let mut rng = Rng(seed);
        for number in 0..1_500 {
            let when = format!("seed {seed}, deed {number}");
            let (no, foreign) = life.live(&when);
            done_by_others += u32::from(foreign && no.is_none());
            refused.extend(no);
            if rng.one_in(100) {
                life.house.reopen();
            }
            if rng.one_in(60) {
                life.house.engine.collect_parts(NOW, 100).expect("collects");
            }
            if rng.one_in(80) {
                life.compare(&mut rng, &when);
            }
        }
        life.compare(&mut rng, "at the end");
    }
    assert!(done_by_others > 500, "only {done_by_others} commands were given by others and carried out");
    for reason in [No::NotFound, No::Permission] {
        assert!(refused.iter().filter(|no| **no == reason).count() > 100, "{reason:?} is too rare");
    }
}

#[test]
fn whenever_the_machine_dies_shared_mailboxes_are_whole() {
    for seed in 111..=112 {
        let kv = Arc::new(MemoryKv::recording());
        let mut life = Life::new(Arc::clone(&kv) as SharedKv, seed);
        let mut moments = vec![(kv.writes(), life.shared.clone())];
        for number in 0..150 {
            life.live(&format!("seed {seed}, deed {number}"));
            moments.push((kv.writes(), life.shared.clone()));
        }
        for writes in moments[0].0..=kv.writes() {
            let when = format!("seed {seed}, died after write {writes}");
            let image = Arc::new(kv.crash_image(writes, seed + writes as u64));
            let at = moments.partition_point(|(written, _)| *written <= writes) - 1;
            let mut again = Life {
                house: House::open(image as SharedKv, keeping()),
                shared: moments[at].1.clone(),
                deeds: Deeds { commands: Commands::new(writes as u64, 30, false) },
            };
            let mut rng = Rng(writes as u64);
            again.compare(&mut rng, &when);
            for _ in 0..4 {
                again.live(&when);
            }
            again.compare(&mut rng, &when);
        }
    }
}
