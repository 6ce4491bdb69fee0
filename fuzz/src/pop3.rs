//! The POP3 session, with a host that has a small maildrop and bad days.

use bytes::Bytes;
use rockdove_mail::{Peer, Tick, TlsFacts, UidSet, sasl::ScramKeys};
use rockdove_pop3::{Answer, Ask, LoginAnswer, Maildrop, OpenError, Pop3Config, Pop3Session};

use crate::converse::{Cuts, Dice, converse, same_in_every_cut, split};

const MESSAGES: [(u32, &[u8]); 4] = [
    (1, b"A: b\r\n\r\n.\r\n..\r\nx\r\n"),
    (2, b""),
    (7, b"no header\n.\n.\r\n\n.x"),
    (4_294_967_295, b"Subject: last\r\n\r\n\r\n.\r"),
];

/// What a conversation came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    sent: Vec<u8>,
    updates: Vec<(UidSet, UidSet)>,
}

/// The host: the same answers to the same questions, in the same order.
struct Host {
    dice: Dice,
    /// Answers fail now and then.
    bad_days: bool,
    opened: bool,
    updates: Vec<(UidSet, UidSet)>,
}

impl Host {
    fn fails(&mut self) -> bool {
        self.bad_days && self.dice.below(8) == 0
    }

    fn login(&mut self, good: bool) -> Answer {
        let fails = self.fails();
        Answer::Login(match good {
            _ if fails => LoginAnswer::TryLater,
            true => LoginAnswer::Accepted,
            false => LoginAnswer::Refused,
        })
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::CheckPassword { login, password, authorize_as } => {
                self.login(!login.is_empty() && !password.as_str().is_empty() && authorize_as.is_none())
            }
            Ask::ScramKeys { login } => {
                assert!(!self.opened, "a login after login");
                let keys =
                    ScramKeys { salt: login.into_bytes(), iterations: 1, stored_key: [1; 32], server_key: [2; 32] };
                Answer::Scram(keys)
            }
            Ask::ScramDone { proven, .. } => self.login(proven),
            Ask::Open if self.fails() => Answer::Opened(Err(OpenError::InUse)),
            Ask::Open => {
                self.opened = true;
                let uids = MESSAGES.iter().map(|(uid, _)| *uid).collect();
                Answer::Opened(Ok(Maildrop { uid_validity: 1, uids, octets: 99 }))
            }
            Ask::Update { delete, seen } => {
                assert!(self.opened && delete.intersection(&seen).is_empty(), "an update out of place");
                self.updates.push((delete, seen));
                Answer::Updated(!self.fails())
            }
            _ if self.fails() => Answer::TryLater,
            Ask::Sizes { uids } => Answer::Sizes(uids.iter().map(u64::from).collect()),
            Ask::Octets { uids } => Answer::Octets(uids.len()),
            Ask::Read { uid, offset, octets_max } => self.read(uid, offset, octets_max),
        }
    }

    fn read(&mut self, uid: u32, offset: u64, octets_max: u64) -> Answer {
        assert!(self.opened && octets_max > 0, "a read out of place");
        let (_, text) = MESSAGES.into_iter().find(|(known, _)| *known == uid).expect("only what the maildrop shows");
        let from = usize::try_from(offset).expect("small");
        let most = usize::try_from(1 + self.dice.below(9)).expect("small");
        let rest = text.get(from..).expect("not behind the end");
        let bytes = Bytes::from_static(&rest[..most.min(rest.len())]);
        Answer::Page { size_bytes: text.len() as u64, bytes }
    }
}

fn run(steer: [u8; 8], input: &[u8], cuts: Cuts) -> Outcome {
    let flag = |bit: u8| steer[0] & bit != 0;
    let config = Pop3Config { host_name: "h".to_owned(), starttls: flag(1), clear_login: !flag(2) };
    let peer = Peer { remote: None, local: None, tls: flag(4).then(TlsFacts::default) };
    let session = Pop3Session::new(config, &peer, [steer[1]; 32], Tick::default());
    let dice = Dice::new(u64::from_le_bytes(steer));
    let mut host = Host { dice, bad_days: flag(8), opened: false, updates: Vec::new() };
    let sent = converse(session, input, cuts, |ask| Some(host.answer(ask)));
    Outcome { sent, updates: host.updates }
}

/// A POP3 session: no panic, no difference between cuts, complete lines, at most one update, nothing removed without
/// QUIT, no answer larger than what was asked for.
pub fn pop3_session(data: &[u8]) {
    let Some((steer, input)) = split(data) else { return };
    let outcome = same_in_every_cut(u64::from_le_bytes(steer), |cuts| run(steer, input, cuts));
    assert!(outcome.sent.starts_with(b"+OK "), "no greeting");
    assert!(outcome.updates.len() <= 1, "two updates");
    let quit = input.to_ascii_uppercase().windows(4).any(|word| word == b"QUIT");
    assert!(quit || outcome.updates.iter().all(|(delete, _)| delete.is_empty()), "removed without QUIT");
    let lines = input.split(|octet| *octet == b'\n').count();
    assert!(outcome.sent.len() <= 400 * (lines + 2), "{} octets for {lines} lines", outcome.sent.len());
}
