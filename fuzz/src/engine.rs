//! The engine on a store in memory: messages cut into parts, and a mailbox under any history.

use std::{collections::BTreeMap, sync::Arc};

use rockdove_engine::{
    AccountId, AppendMessage, Command, Credential, Engine, EngineOptions, InternalDate, MailboxId, Outcome,
    StagedMessage,
    kv::{SharedKv, memory::MemoryKv},
};
use rockdove_mail::{FlagUpdate, Flags, SystemFlags, Uid, UidSet};

const NOW: i64 = 1_800_000_000;
const INBOX: MailboxId = MailboxId(1);
/// Octets of a message that is looked at.
const MESSAGE_OCTETS_MAX: usize = 256 * 1024;
/// Steps of a history.
const STEPS_MAX: usize = 400;

struct House {
    kv: Arc<MemoryKv>,
    engine: Arc<Engine>,
    account: AccountId,
}

impl House {
    fn new() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let engine = open(&kv);
        run(&engine, Command::CreateDomain { domain: "a.example".into() });
        let credential = Credential {
            argon2: "!".into(),
            scram_salt: vec![1],
            scram_iterations: 4096,
            scram_stored_key: [1; 32],
            scram_server_key: [2; 32],
        };
        let command = Command::CreateAccount { address: "a@a.example".into(), credential, quota_bytes: None };
        let Outcome::Account(account) = run(&engine, command) else { unreachable!("an account") };
        Self { kv, engine, account }
    }

    fn append(&self, message: &Arc<StagedMessage>, flags: Flags) -> Uid {
        let message = AppendMessage { message: Arc::clone(message), flags, internal_date: InternalDate::default() };
        let command = Command::Append { account: self.account, mailbox: INBOX, messages: vec![message] };
        let Outcome::Appended { uids, .. } = run(&self.engine, command) else { unreachable!("appended") };
        uids[0]
    }

    fn fsck(&self) {
        let mut found = Vec::new();
        let summary = self.engine.fsck(false, &mut |finding| found.push(finding.to_string())).expect("looked");
        assert!(summary.is_clean(), "{found:?}");
    }
}

fn open(kv: &Arc<MemoryKv>) -> Arc<Engine> {
    Engine::open(Arc::clone(kv) as SharedKv, EngineOptions::default()).expect("opens")
}

fn run(engine: &Engine, command: Command) -> Outcome {
    engine.execute(NOW, command).expect("carried out")
}

/// Any octets, in any pieces, come back as they were; so does what stands beside them; and nothing is left of them.
pub fn parts(data: &[u8]) {
    let Some((&[cut, repeat], message)) = data.split_first_chunk::<2>() else { return };
    // Few octets make a message large enough to be cut.
    let message = message.repeat(usize::from(repeat) + 1);
    let message = &message[..message.len().min(MESSAGE_OCTETS_MAX)];
    let house = House::new();
    let staged = |octets: &[u8], piece: usize| {
        let mut staging = house.engine.stage();
        for piece in octets.chunks(piece) {
            staging.write(piece).expect("taken");
        }
        staging.finish().expect("staged")
    };
    let pieces = [usize::from(cut) + 1, message.len().max(1)];
    let uids = pieces.map(|piece| house.append(&staged(message, piece), Flags::default()));
    let view = house.engine.mailbox(house.account, INBOX).expect("a mailbox");
    for uid in uids {
        let entry = view.entry(uid).expect("there");
        let record = house.engine.record(house.account, entry.message).expect("a record");
        let read = house.engine.read(house.account, &record, 0..u64::MAX).expect("read");
        assert_eq!(read, message);
        let middle = (message.len() / 3) as u64..(message.len() / 2) as u64;
        let read = house.engine.read(house.account, &record, middle.clone()).expect("read");
        assert_eq!(read.len() as u64, middle.end - middle.start);
    }
    house.fsck();
    let account = house.account;
    run(
        &house.engine,
        Command::Expunge { account, mailbox: INBOX, uids: Some(uids.into_iter().collect()), deleted_only: false },
    );
    while house.engine.collect_parts(NOW + 10_000_000, 100).expect("collected") > 0 {}
    house.fsck();
    assert_eq!(house.engine.quota(account).expect("read").messages, 0);
}

/// Appends, flags, expunges, removals from memory and starts in any order leave a mailbox as the model says.
pub fn mailbox(data: &[u8]) {
    let mut house = House::new();
    let mut staging = house.engine.stage();
    staging.write(b"Subject: x\r\n\r\ntext\r\n").expect("taken");
    let message = staging.finish().expect("staged");
    let mut model: BTreeMap<Uid, u8> = BTreeMap::new();
    let mut last = 0;
    for step in data.chunks_exact(4).take(STEPS_MAX) {
        let &[kind, from, to, flags] = step else { continue };
        let bits = flags & 0b1_1111;
        match kind % 6 {
            0 | 1 => {
                // Many at once, so that a history passes the end of a segment.
                for _ in 0..=from % 64 {
                    last = house.append(&message, flags_of(bits));
                    assert!(model.insert(last, bits).is_none(), "a UID came twice");
                }
            }
            2 | 3 => {
                let uids = range(last, from, to);
                let update = [FlagUpdate::Add, FlagUpdate::Remove, FlagUpdate::Replace][usize::from(kind / 6) % 3];
                for (_, has) in model.iter_mut().filter(|(uid, _)| uids.contains(**uid)) {
                    *has = match update {
                        FlagUpdate::Add => *has | bits,
                        FlagUpdate::Remove => *has & !bits,
                        FlagUpdate::Replace => bits,
                    };
                }
                run(
                    &house.engine,
                    Command::StoreFlags {
                        account: house.account,
                        mailbox: INBOX,
                        uids,
                        update,
                        flags: flags_of(bits),
                        unchanged_since: None,
                    },
                );
            }
            4 => {
                let uids = range(last, from, to);
                model.retain(|uid, _| !uids.contains(*uid));
                let (account, uids) = (house.account, Some(uids));
                run(&house.engine, Command::Expunge { account, mailbox: INBOX, uids, deleted_only: false });
            }
            _ => house.engine = open(&house.kv),
        }
        check(&house, &model);
    }
    house.fsck();
}

/// UIDs from a share of the last one to another.
fn range(last: Uid, from: u8, to: u8) -> UidSet {
    let share = |part: u8| u32::try_from(u64::from(last) * u64::from(part) / 255).unwrap_or(0).max(1);
    let (from, to) = (share(from.min(to)), share(from.max(to)));
    (from..=to).collect()
}

fn flags_of(bits: u8) -> Flags {
    Flags { system: SystemFlags::from_bits(bits), ..Flags::default() }
}

fn check(house: &House, model: &BTreeMap<Uid, u8>) {
    let view = house.engine.mailbox(house.account, INBOX).expect("a mailbox");
    let uids: Vec<Uid> = view.uids().iter().collect();
    assert_eq!(uids, model.keys().copied().collect::<Vec<_>>());
    for (uid, bits) in model {
        assert_eq!(view.entry(*uid).map(|entry| entry.flags), Some(flags_of(*bits)), "UID {uid}");
    }
}
