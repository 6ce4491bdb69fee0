//! The IMAP session, with the account of its transcripts, other clients, and bad days.
//!
//! * What: runs a conversation in every cut, and once more while others change the mailboxes.
//! * In: what the stranger sends.
//! * Out: nothing, when all is well.
//! * Never: lets other clients act in the runs that are compared, for there the cuts decide when the host is asked.
//! * Fails: panics when the session does, when a cut changes what is sent, and when the [`client`] would be misled.

#[path = "../../../protocols/imap/tests/host/account.rs"]
#[allow(dead_code, reason = "the transcripts make use of more of it")]
mod account;
mod client;
#[path = "../../../protocols/imap/tests/host/mailbox.rs"]
#[allow(dead_code, reason = "the transcripts make use of more of it")]
mod mailbox;

use account::Account;
use rockdove_imap::{Answer, Ask, ImapConfig, ImapSession, Refusal, fetch::FetchCursor};
use rockdove_mail::{Peer, Tick, TlsFacts};

use crate::converse::{Cuts, Dice, Event, converse_secured, same_in_every_cut, split};

/// Octets of one message.
const MESSAGE_SIZE_MAX: u64 = 96 * 1024;
/// Octets of an input that is also sent octet by octet; longer ones would take too long.
const SINGLE_OCTETS_MAX: usize = 8 * 1024;
/// Changes that others make during IDLE, so that it comes to rest.
const NEWS_MAX: u32 = 20;

/// What a conversation came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    sent: Vec<u8>,
    notes: Vec<String>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Host {
    account: Account,
    dice: Dice,
    /// Answers fail now and then.
    bad_days: bool,
    /// Other clients change the mailboxes.
    others: bool,
    news: u32,
    octets_aim: usize,
    ending_watch: bool,
    /// The watch is on everything.
    watches_all: bool,
    /// A page broke off.
    broken: bool,
}

impl Host {
    fn hear(&mut self, event: Event<Ask>) -> Option<Answer> {
        match event {
            Event::Asked(Ask::WatchAll) => {
                self.watches_all = true;
                let happens = self.others && self.news < NEWS_MAX && self.dice.below(2) == 0;
                if happens {
                    self.news += 1;
                    self.change();
                }
                happens.then_some(Answer::Changed)
            }
            Event::Asked(Ask::Watch { since }) => {
                self.watches_all = false;
                if self.others && self.news < NEWS_MAX && self.dice.below(2) == 0 {
                    self.news += 1;
                    self.change();
                }
                self.account.has_changed(since).then_some(Answer::Changed)
            }
            Event::Asked(Ask::EndWatch) => {
                self.ending_watch = true;
                Some(Answer::Done)
            }
            Event::LeftOpen => {
                let ended = if self.watches_all { Answer::Done } else { Answer::Changed };
                std::mem::take(&mut self.ending_watch).then_some(ended)
            }
            Event::Asked(ask) => Some(self.answer(ask)),
            Event::Secured { .. } => None,
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        // How often these are asked depends on the cuts.
        let by_cut = matches!(ask, Ask::Sync { .. } | Ask::AppendOctets(_) | Ask::AppendAbort);
        if self.others && self.dice.below(3) == 0 {
            self.change();
        }
        if self.bad_days && !by_cut && self.dice.below(12) == 0 {
            return self.fail(&ask);
        }
        let answer = self.account.answer(ask, self.octets_aim);
        // Some messages cannot be read.
        self.broken |= matches!(answer, Answer::Broken);
        answer
    }

    fn fail(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Fetch { cursor, .. } if *cursor != FetchCursor::default() => {
                self.broken = true;
                Answer::Broken
            }
            // The message that was begun is over.
            Ask::AppendEnd { .. } => {
                self.account.answer(Ask::AppendAbort, 0);
                Answer::Refused(Refusal::OverQuota)
            }
            // As the session has to leave the mailbox, so has the host.
            Ask::Select { .. } => {
                self.account.answer(Ask::Unselect, 0);
                Answer::Refused(Refusal::Corrupt)
            }
            _ if self.dice.below(2) == 0 => Answer::Refused(Refusal::TryLater),
            _ => Answer::Refused(Refusal::Limit("not today".to_owned())),
        }
    }

    /// Another client does something in INBOX.
    fn change(&mut self) {
        let uids: Vec<u32> = self.account.mailbox("INBOX").uids().iter().collect();
        let chosen = usize::try_from(self.dice.below(uids.len().max(1) as u64)).expect("small");
        match (self.dice.below(3), uids.get(chosen)) {
            (0, Some(uid)) => self.account.expunge("INBOX", *uid),
            (1, Some(uid)) => self.account.set_flags("INBOX", *uid, ["\\Seen", "$Work $New", ""][chosen % 3]),
            _ => self.account.deliver("INBOX", "news", ""),
        }
    }
}

fn run(steer: [u8; 8], input: &[u8], cuts: Cuts, others: bool) -> Outcome {
    let flag = |bit: u8| steer[0] & bit != 0;
    let config = ImapConfig {
        keywords_max: 64,
        host_name: "h".to_owned(),
        version: "1".to_owned(),
        starttls: flag(1),
        external: false,
        clear_login: !flag(2),
        message_size_max: MESSAGE_SIZE_MAX,
        other_users: "Other Users",
        public: "Public",
        login_ms_max: 60_000,
        autologout_ms: 1_800_000,
    };
    let peer = Peer { remote: None, local: None, tls: flag(4).then(TlsFacts::default) };
    let session = ImapSession::new(config, &peer, [steer[1]; 32], Tick::default());
    let octets_aim = [1, 100, 4_096, 256 * 1024][usize::from(steer[2]) % 4];
    let mut host = Host {
        account: Account::usual(),
        dice: Dice::new(u64::from_le_bytes(steer)),
        bad_days: flag(8),
        others,
        news: 0,
        octets_aim,
        ending_watch: false,
        watches_all: false,
        broken: false,
    };
    // What follows STARTTLS in clear must not be heard, however it came in.
    let sent = converse_secured(session, [input, b"s LOGOUT\r\n"], cuts, |event| host.hear(event));
    client::check(&sent, host.broken);
    Outcome { sent, notes: host.account.notes }
}

/// An IMAP session: no panic, no difference between cuts, responses that are framed as IMAP frames them, sequence numbers
/// that keep pointing at the same message whatever other clients do, nothing heard in clear behind STARTTLS.
pub fn imap_session(data: &[u8]) {
    let Some((steer, input)) = split(data) else { return };
    let seed = u64::from_le_bytes(steer);
    let long = input.len() > SINGLE_OCTETS_MAX;
    same_in_every_cut(seed, |cuts| {
        let cuts = if long && matches!(cuts, Cuts::Single) { Cuts::Random(!seed) } else { cuts };
        run(steer, input, cuts, false)
    });
    run(steer, input, Cuts::Random(seed), true);
}
