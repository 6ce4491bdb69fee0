//! A client that comes back with QRESYNC knows what one that comes for the first time sees, whatever happened meanwhile
//! and whenever the connection was lost.

#[allow(dead_code, unused_imports, reason = "the transcripts make use of more of it")]
mod host;

use std::collections::BTreeMap;

use host::{Account, Cuts, Host};
use proptest::prelude::*;
use rockdove_imap::Ask;

/// What a client keeps of INBOX. It believes what it hears and asks for nothing twice.
#[derive(Default)]
struct Cache {
    /// Flags of each message, as they were told.
    messages: BTreeMap<u32, String>,
    /// UIDs by sequence number, in this connection; `None`: not told yet.
    numbers: Vec<Option<u32>>,
    modseq: u64,
    uid_validity: u32,
}

fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    text.split_once(before)?.1.split(after).next()
}

fn set(text: &str) -> Vec<u32> {
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let range = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        number(first)..=number(last)
    };
    text.split(',').flat_map(range).collect()
}

/// Without `\Recent`, which belongs to a session.
fn kept(flags: &str) -> String {
    let mut flags: Vec<&str> = flags.split(' ').filter(|flag| !flag.is_empty() && *flag != "\\Recent").collect();
    flags.sort_unstable();
    flags.join(" ")
}

impl Cache {
    /// Where a message is, told or not.
    fn place(&self, uid: u32) -> usize {
        let known = self.numbers.iter().position(|known| *known == Some(uid));
        let below = self.numbers.iter().rposition(|known| known.is_some_and(|known| known < uid));
        let at = known.unwrap_or_else(|| below.map_or(0, |at| at + 1));
        assert!(self.numbers.get(at).is_some_and(|there| there.is_none_or(|there| there == uid)), "{uid} has a number");
        at
    }

    /// Asks for messages that were announced.
    fn catch_up(&mut self, host: &mut Host) {
        if self.numbers.iter().any(Option::is_none) {
            let last = self.messages.last_key_value().map_or(0, |(uid, _)| *uid);
            self.hear(&host.hear(&format!("n UID FETCH {}:* (FLAGS)\r\n", last + 1)));
        }
    }

    /// Takes in the answer to one command, as RFC 7162 section 6 tells clients to.
    fn hear(&mut self, heard: &str) {
        let (mut highest, mut told) = (self.modseq, None);
        for line in heard.lines().filter_map(|line| line.strip_prefix("S: ")) {
            if let Some(modseq) = between(line, "[HIGHESTMODSEQ ", ']') {
                told = Some(modseq.parse().expect("a number"));
            }
            if let Some(uid_validity) = between(line, "[UIDVALIDITY ", ']') {
                self.uid_validity = uid_validity.parse().expect("a number");
            }
            let Some(untagged) = line.strip_prefix("* ") else { continue };
            if let Some(uids) = untagged.strip_prefix("VANISHED ") {
                for uid in set(uids.strip_prefix("(EARLIER) ").unwrap_or(uids)) {
                    self.messages.remove(&uid);
                    if !uids.starts_with('(') {
                        self.numbers.remove(self.place(uid));
                    }
                }
            } else if let Some((number, items)) = untagged.split_once(" FETCH ") {
                let uid = between(items, "UID ", ' ').and_then(|uid| uid.trim_end_matches(')').parse().ok());
                let at: usize = number.parse().expect("a number");
                if let Some(uid) = uid {
                    assert!(self.numbers[at - 1].is_none_or(|known| known == uid), "{line}");
                    self.numbers[at - 1] = Some(uid);
                    if let Some(flags) = between(items, "FLAGS (", ')') {
                        self.messages.insert(uid, kept(flags));
                    }
                }
                if let Some(modseq) = between(items, "MODSEQ (", ')') {
                    highest = highest.max(modseq.parse().expect("a number"));
                }
            } else if let Some(exists) = untagged.strip_suffix(" EXISTS") {
                self.numbers.resize(exists.parse().expect("a number"), None);
            }
        }
        self.modseq = told.unwrap_or(highest);
    }
}

/// What is true.
fn truth(account: &Account) -> BTreeMap<u32, String> {
    let mailbox = &account.mailboxes[&host::name("INBOX")].0;
    let flags = |message: &host::mailbox::Message| {
        let flags = &message.facts.flags;
        let mut text = Vec::new();
        rockdove_imap::grammar::write::flag_list(&mut text, flags, false);
        kept(String::from_utf8(text).expect("ASCII").trim_matches(['(', ')']))
    };
    mailbox.messages.iter().map(|(uid, message)| (*uid, flags(message))).collect()
}

#[derive(Clone, Debug)]
enum Event {
    Deliver,
    Flags(usize, &'static str),
    Expunge(usize),
    /// Another client acts while the command is carried out.
    Before(&'static str, Box<Event>),
    Command(&'static str),
    /// The connection is lost; the client comes back.
    Lost,
    /// Expunges so far are forgotten.
    Forget,
}

const COMMANDS: [&str; 12] = [
    "NOOP",
    "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
    "UID FETCH 1:* (UID FLAGS)",
    "FETCH 1:* (UID FLAGS)",
    "FETCH 1 (UID FLAGS BODY[TEXT])",
    "STORE 1 +FLAGS (\\Draft)",
    "STORE 1 -FLAGS (\\Draft)",
    "UID STORE 1:* +FLAGS (\\Answered)",
    "SEARCH 1",
    "UID SEARCH ALL",
    "EXPUNGE",
    "UID MOVE 4:6 Archive",
];

fn event() -> impl Strategy<Value = Event> {
    let other = prop_oneof![
        Just(Event::Deliver),
        (any::<usize>(), prop::sample::select(vec!["", "\\Seen", "\\Deleted", "$Work"]))
            .prop_map(|(which, flags)| Event::Flags(which, flags)),
        any::<usize>().prop_map(Event::Expunge),
    ];
    let asks = prop::sample::select(vec!["Fetch", "Store", "Sync", "Vanished", "Search"]);
    prop_oneof![
        4 => other.clone(),
        3 => (asks, other).prop_map(|(ask, event)| Event::Before(ask, Box::new(event))),
        6 => prop::sample::select(COMMANDS.to_vec()).prop_map(Event::Command),
        2 => Just(Event::Lost),
        1 => Just(Event::Forget),
    ]
}

/// What somebody else does, as an order to the host.
fn order(account: &Account, event: &Event) -> Option<String> {
    let uids: Vec<u32> = truth(account).into_keys().collect();
    let chosen = |which: usize| uids.get(which % uids.len().max(1));
    match event {
        Event::Flags(which, flags) => chosen(*which).map(|uid| format!("flags INBOX {uid} ({flags})")),
        Event::Expunge(which) => chosen(*which).map(|uid| format!("expunge INBOX {uid}")),
        _ => Some("deliver INBOX more".to_owned()),
    }
}

/// Comes (back) to the mailbox, and asks for messages that it has never heard of.
fn come(account: Account, cache: &mut Cache) -> Host {
    let mut host = Host::new("@begin login", Cuts::Whole);
    host.account = account;
    host.hear("e ENABLE QRESYNC\r\n");
    cache.numbers.clear();
    let last = cache.messages.last_key_value().map_or(0, |(uid, _)| *uid);
    let resync = if cache.modseq == 0 {
        String::new()
    } else {
        let known = if last > 0 { format!(" 1:{last}") } else { String::new() };
        format!(" (QRESYNC ({} {}{known}))", cache.uid_validity, cache.modseq)
    };
    let heard = host.hear(&format!("s SELECT INBOX{resync}\r\n"));
    assert!(heard.contains("S: s OK"), "{heard}");
    cache.hear(&heard);
    for (number, uid) in cache.numbers.iter_mut().zip(cache.messages.keys()) {
        *number = Some(*uid);
    }
    cache.catch_up(&mut host);
    host
}

fn check(events: &[Event]) {
    let mut cache = Cache::default();
    let mut host = come(Account::usual(), &mut cache);
    for event in events {
        match event {
            Event::Command(command) => {
                let heard = host.hear(&format!("c {command}\r\n"));
                cache.hear(&heard);
                host.before.clear();
                cache.catch_up(&mut host);
            }
            Event::Before(ask, event) => {
                if let Some(order) = order(&host.account, event)
                    && host.before.is_empty()
                {
                    host.before.push_back(((*ask).to_owned(), order));
                }
            }
            Event::Lost => {
                let Host { mut account, .. } = host;
                account.answer(Ask::Unselect, 0);
                host = come(account, &mut cache);
                assert_eq!(cache.messages, truth(&host.account));
            }
            Event::Forget => {
                let mailbox = host.account.mailbox("INBOX");
                mailbox.vanished_floor = mailbox.highest_modseq;
            }
            event => {
                if let Some(order) = order(&host.account, event) {
                    host.happen(&order);
                }
            }
        }
    }
    let Host { mut account, .. } = host;
    account.answer(Ask::Unselect, 0);
    let host = come(account, &mut cache);
    assert_eq!(cache.messages, truth(&host.account));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn who_comes_back_knows_what_is_there(events in prop::collection::vec(event(), 0..40)) {
        check(&events);
    }
}
