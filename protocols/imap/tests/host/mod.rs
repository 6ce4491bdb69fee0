//! A host with a small account, and the reader of transcripts.
//!
//! Lines of a transcript:
//! * `@key value` configures (`@forgotten NAME MODSEQ`: who was expunged up to then is not known); `@begin login` and `@begin select NAME` skip the beginning.
//! * `C: text` is a line of the client with its CRLF; `\r \n \0 \\` and `\xHH` are octets, `{60*x}` repetition. `C> text`
//!   is the same without CRLF.
//! * `S: text` is a line to the client; `...` at its end stands for anything, `~` for a space.
//! * `H: text` is what the host noted.
//! * `! close`, `! starttls`, `! compress` happen; `! eof`, `! shutdown`, `! wait MS` and `! fed` (what was said so far arrives now) are
//!   made to happen; so are `! deliver NAME SUBJECT`, `! flags NAME UID FLAGS`, `! expunge NAME UID`, `! create NAME`,
//!   `! rename NAME NAME`, `! subscribe NAME`, `! unsubscribe NAME`, `! rights NAME LETTERS`, `! delete NAME`,
//!   `! annotate NAME ENTRY VALUE` (`SERVER`: the server; no value removes) and `! unreadable NAME UID` by another client; `! before ASK ...` does it before the next such question is answered, and
//!   `! refuse ASK WHY` refuses it (`broken`: the message breaks off).
//! * Everything else is a comment.

mod account;
pub(crate) mod mailbox;

use std::{collections::VecDeque, fmt::Write as _};

use bytes::Bytes;
use rockdove_imap::{Answer, Ask, ImapConfig, ImapSession, Refusal};
use rockdove_mail::{AskId, Input, ModSeq, Peer, Rights, Session, Step, Tick, TlsFacts};

pub(crate) use self::account::{Account, PASSWORD, SCRAM_SALT, name};

/// How octets are cut, in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cuts {
    Whole,
    Single,
    Random(u64),
}

impl Cuts {
    fn next(&mut self, most: usize) -> usize {
        match self {
            Self::Whole => most,
            Self::Single => 1,
            Self::Random(state) => {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                1 + usize::try_from(*state >> 33).expect("31 bits") % 40
            }
        }
        .min(most)
    }
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts of a connection")]
pub(crate) struct Host {
    pub(crate) session: ImapSession,
    pub(crate) account: Account,
    pub(crate) now: Tick,
    cuts: Cuts,
    /// What was sent, and in lines beginning with `! ` or `H: ` what else happened.
    pub(crate) log: String,
    out: Vec<u8>,
    /// An open watch: of the open mailbox since then, or (`None`) of everything.
    watch: Option<(AskId, Option<ModSeq>)>,
    /// Everything is watched, and this is how often something had happened when the session was told.
    watched_all: Option<u64>,
    /// How often something has happened.
    events: u64,
    /// Orders that wait for a question.
    pub(crate) before: VecDeque<(String, String)>,
    receive: bool,
    handshake: bool,
    /// Compression has begun; what had been sent before is not looked at.
    compressed: bool,
    pub(crate) closed: bool,
}

fn config_of(text: &str) -> (ImapConfig, Peer) {
    let mut config = ImapConfig {
        host_name: "mail.example".to_owned(),
        version: "0.1".to_owned(),
        starttls: true,
        external: false,
        clear_login: true,
        message_size_max: 1_000_000,
        keywords_max: 64,
        other_users: "Other Users",
        public: "Public",
        login_ms_max: 60_000,
        autologout_ms: 1_800_000,
    };
    let mut peer = Peer { remote: None, local: None, tls: None };
    for line in text.lines().filter_map(|line| line.strip_prefix('@')) {
        let (key, value) = line.split_once(' ').expect("@key value");
        match key {
            "clear_login" => config.clear_login = value == "yes",
            "external" => config.external = value == "yes",
            "starttls" => config.starttls = value == "yes",
            "tls" => peer.tls = Some(TlsFacts::default()),
            "keywords_max" => config.keywords_max = value.parse().expect("a number"),
            "size" => config.message_size_max = value.parse().expect("a number"),
            "begin" | "forgotten" | "mailboxes" | "subscribed" | "quota" | "messages" | "rights" => {}
            _ => panic!("unknown setting {key}"),
        }
    }
    (config, peer)
}

fn account_of(text: &str) -> Account {
    let mut account = Account::usual();
    for line in text.lines().filter_map(|line| line.strip_prefix('@')) {
        match line.split_once(' ').expect("@key value") {
            ("mailboxes", names) => {
                account.mailboxes.clear();
                names.split(", ").for_each(|mailbox| account.create(name(mailbox), None));
            }
            ("subscribed", names) => {
                account.subscriptions = names.split(", ").filter(|text| *text != "none").map(name).collect();
            }
            ("forgotten", which) => {
                let (mailbox, modseq) = which.split_once(' ').expect("@forgotten NAME MODSEQ");
                account.mailbox(mailbox).vanished_floor = modseq.parse().expect("a number");
            }
            ("rights", rights) => {
                let (mailbox, letters) = rights.split_once(' ').expect("@rights NAME LETTERS");
                account.rights.insert(name(mailbox), Rights::parse(letters).expect("rights"));
            }
            ("quota", octets) => account.quota_octets = octets.parse().ok(),
            ("messages", count) => {
                let more: u32 = count.parse().expect("a number");
                (0..more).for_each(|number| account.deliver("INBOX", &format!("more {number}"), ""));
            }
            _ => {}
        }
    }
    account
}

impl Host {
    pub(crate) fn new(script: &str, cuts: Cuts) -> Self {
        let (config, peer) = config_of(script);
        let now = Tick { monotonic_ms: 1000, unix_s: 1_794_000_000 };
        let mut host = Self {
            session: ImapSession::new(config, &peer, [7; 32], now),
            account: account_of(script),
            now,
            cuts,
            log: String::new(),
            out: Vec::new(),
            watch: None,
            watched_all: None,
            events: 0,
            before: VecDeque::new(),
            receive: false,
            handshake: false,
            compressed: false,
            closed: false,
        };
        host.drain();
        if let Some(begin) = script.lines().find_map(|line| line.strip_prefix("@begin ")) {
            host.hear(&format!("a LOGIN ann \"{PASSWORD}\"\r\n"));
            if let Some(mailbox) = begin.strip_prefix("select ") {
                host.hear(&format!("a SELECT {mailbox}\r\n"));
            }
            if let Some(mailbox) = begin.strip_prefix("examine ") {
                host.hear(&format!("a EXAMINE {mailbox}\r\n"));
            }
            host.log.clear();
        }
        host
    }

    /// Says something; gives back what happened then.
    pub(crate) fn hear(&mut self, text: &str) -> String {
        self.settle();
        self.log.clear();
        self.feed(Input::Received(Bytes::copy_from_slice(text.as_bytes())));
        self.settle();
        self.log.clone()
    }

    /// Everything that has happened: what was sent, and what the host noted. Which came first depends on the cut.
    pub(crate) fn heard(mut self) -> (Vec<String>, Vec<String>) {
        self.settle();
        self.log.lines().map(str::to_owned).partition(|line| line.starts_with("S:"))
    }

    /// Whether this message is there.
    pub(crate) fn has(&self, mailbox: &str, uid: u32) -> bool {
        self.account.mailboxes.get(&name(mailbox)).is_some_and(|(mailbox, _)| mailbox.messages.contains_key(&uid))
    }

    pub(crate) fn receive(&mut self, mut octets: &[u8]) {
        self.compressed = false;
        while !octets.is_empty() && !self.closed && !self.handshake && !self.compressed {
            assert!(self.receive, "the session waits, but nobody has anything to do");
            let (now, later) = octets.split_at(self.cuts.next(octets.len()));
            self.feed(Input::Received(Bytes::copy_from_slice(now)));
            octets = later;
        }
        // What else came in clear never reaches the session.
        if std::mem::take(&mut self.handshake) {
            self.feed(Input::TlsReady(TlsFacts::default()));
        }
    }

    pub(crate) fn feed(&mut self, input: Input<Answer>) {
        if !self.closed {
            self.session.handle(self.now, input);
            self.drain();
        }
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll() {
                Step::Send(pieces) => {
                    self.out.extend(pieces.concat());
                    self.session.handle(self.now, Input::Flushed);
                }
                Step::Ask(id, ask) => self.asked(id, ask),
                Step::StartTls => {
                    self.note("! starttls");
                    self.handshake = true;
                }
                Step::Compress => {
                    self.note("! compress");
                    self.compressed = true;
                }
                Step::Close => {
                    self.note("! close");
                    self.closed = true;
                    return;
                }
                Step::Idle { receive } => {
                    self.receive = receive;
                    return;
                }
            }
        }
    }

    fn asked(&mut self, id: AskId, ask: Ask) {
        let debug = format!("{ask:?}");
        let kind = debug.split([' ', '(', '{']).next().expect("a word");
        while let Some(at) = self.before.iter().position(|(wanted, _)| wanted == kind) {
            let (_, order) = self.before.remove(at).expect("there");
            if order == "refuse broken" {
                return self.session.handle(self.now, Input::Answered(id, Answer::Broken));
            }
            if let Some(why) = order.strip_prefix("refuse ") {
                return self.session.handle(self.now, Input::Answered(id, Answer::Refused(refusal(why))));
            }
            self.order(&order);
        }
        match ask {
            Ask::Watch { since } => {
                assert!(self.watch.is_none(), "two watches");
                (self.watch, self.watched_all) = (Some((id, Some(since))), None);
                self.look_again();
            }
            Ask::WatchAll => {
                assert!(self.watch.is_none(), "two watches");
                self.watch = Some((id, None));
                self.look_again();
            }
            Ask::EndWatch => {
                if let Some((watch, since)) = self.watch.take() {
                    let ended = if since.is_some() { Answer::Changed } else { Answer::Done };
                    self.session.handle(self.now, Input::Answered(watch, ended));
                }
                self.session.handle(self.now, Input::Answered(id, Answer::Done));
            }
            ask => {
                assert!(self.watch.is_none(), "{kind} is asked during a watch");
                let looks = ["Mailboxes", "Statuses", "Status", "Sync", "Fetch", "Search", "Vanished", "MetadataMarks"];
                self.events += u64::from(!looks.contains(&kind));
                let octets_aim = self.cuts.next(10_000);
                let answer = self.account.answer(ask, octets_aim);
                for note in std::mem::take(&mut self.account.notes) {
                    self.note(&format!("H: {note}"));
                }
                self.session.handle(self.now, Input::Answered(id, answer));
            }
        }
    }

    /// Another client or the operator does something.
    fn order(&mut self, order: &str) {
        let mut words = order.splitn(4, ' ');
        let (what, mailbox) = (words.next().expect("a word"), words.next().expect("a mailbox"));
        let third = words.next().unwrap_or_default();
        let uid = || third.parse().expect("a UID");
        self.events += 1;
        match what {
            "deliver" => self.account.deliver(mailbox, third, ""),
            "flags" => self.account.set_flags(mailbox, uid(), words.next().unwrap_or_default()),
            "expunge" => self.account.expunge(mailbox, uid()),
            "delete" => {
                self.account.mailboxes.remove(&name(mailbox));
            }
            "create" => self.account.create(name(mailbox), None),
            "rename" => self.account.rename(&name(mailbox), name(third)).expect("renamed"),
            "subscribe" => {
                self.account.subscriptions.push(name(mailbox));
                self.account.subscriptions.sort();
            }
            "unsubscribe" => self.account.subscriptions.retain(|known| *known != name(mailbox)),
            "rights" => {
                self.account.rights.insert(name(mailbox), Rights::parse(third).expect("rights"));
            }
            "annotate" => {
                let place = (mailbox != "SERVER").then(|| name(mailbox));
                self.account.annotate(place, third, words.next().unwrap_or_default());
            }
            "unreadable" => self.account.mailbox(mailbox).unreadable.push(uid()),
            _ => panic!("{order} is no order"),
        }
    }

    fn look_again(&mut self) {
        let Some((watch, since)) = self.watch else { return };
        let changed = match since {
            Some(since) => self.account.has_changed(since),
            None => self.watched_all != Some(self.events),
        };
        if changed {
            self.watch = None;
            self.watched_all = since.is_none().then_some(self.events);
            self.session.handle(self.now, Input::Answered(watch, Answer::Changed));
        }
    }

    /// Writes what was sent so far into the log.
    pub(crate) fn settle(&mut self) {
        let out = std::mem::take(&mut self.out);
        for line in String::from_utf8_lossy(&out).split_terminator("\r\n") {
            let space = if line.is_empty() { "" } else { " " };
            writeln!(self.log, "S:{space}{}", line.replace('\n', "\\n").replace('\r', "\\r")).expect("written");
        }
    }

    fn note(&mut self, what: &str) {
        self.settle();
        writeln!(self.log, "{what}").expect("written");
    }

    /// Makes happen what a `!` line says, unless it is something to expect.
    pub(crate) fn happen(&mut self, order: &str) {
        let (what, rest) = order.split_once(' ').unwrap_or((order, ""));
        match what {
            "fed" => {}
            "eof" => self.feed(Input::PeerClosed),
            "shutdown" => self.feed(Input::ShuttingDown),
            "wait" => {
                self.now = self.now.plus_ms(rest.parse().expect("! wait MS"));
                self.feed(Input::DeadlinePassed);
            }
            "before" => {
                let (ask, order) = rest.split_once(' ').expect("! before ASK ORDER");
                self.before.push_back((ask.to_owned(), order.to_owned()));
            }
            "refuse" => {
                let (ask, why) = rest.split_once(' ').expect("! refuse ASK WHY");
                self.before.push_back((ask.to_owned(), format!("refuse {why}")));
            }
            _ => {
                self.order(order);
                self.look_again();
                self.drain();
            }
        }
    }
}

fn refusal(why: &str) -> Refusal {
    match why {
        "later" => Refusal::TryLater,
        "quota" => Refusal::OverQuota,
        "permission" => Refusal::NoPermission,
        "corrupt" => Refusal::Corrupt,
        "gone" => Refusal::MailboxGone,
        "limit" => Refusal::Limit("too\r\nmany".to_owned()),
        _ => panic!("{why} is no refusal"),
    }
}

/// Octets of a client line.
fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = match (c, tail.split_once('}').and_then(|(inside, behind)| Some((inside.split_once('*')?, behind)))) {
            ('\\', _) if tail.starts_with('x') => {
                out.push(u8::from_str_radix(&tail[1..3], 16).expect("hexadecimal"));
                &tail[3..]
            }
            ('\\', _) if tail.starts_with(['r', 'n', '0', '\\']) => {
                out.push(match &tail[..1] {
                    "r" => b'\r',
                    "n" => b'\n',
                    "0" => 0,
                    _ => b'\\',
                });
                &tail[1..]
            }
            ('{', Some(((count, what), behind))) if count.parse::<u32>().is_ok() => {
                (0..count.parse().expect("a count")).for_each(|_: u32| out.extend(octets(what)));
                behind
            }
            _ => {
                out.extend(c.to_string().as_bytes());
                tail
            }
        };
    }
    out
}

/// Runs one conversation in one way of cutting.
pub(crate) fn check_transcript(name: &str, text: &str, cuts: Cuts) {
    let mut host = Host::new(text, cuts);
    let (mut burst, mut expected) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !matches!(kind, "C:" | "C>" | "S:" | "H:" | "!") {
            continue;
        }
        let expects = matches!(kind, "S:" | "H:") || matches!(rest, "close" | "starttls" | "compress");
        if expects {
            host.receive(&std::mem::take(&mut burst));
            // A space at the end is written as a tilde.
            expected.push(line.strip_suffix('~').map_or_else(|| line.to_owned(), |line| format!("{line} ")));
            continue;
        }
        if kind == "!" {
            host.receive(&std::mem::take(&mut burst));
        }
        if burst.is_empty() {
            compare(name, cuts, &mut host, &mut expected);
        }
        match kind {
            "!" => host.happen(rest),
            "C:" => burst.extend([octets(rest), b"\r\n".to_vec()].concat()),
            _ => burst.extend(octets(rest)),
        }
    }
    host.receive(&burst);
    compare(name, cuts, &mut host, &mut expected);
    assert!(host.before.is_empty(), "{name}: never asked: {:?}", host.before);
}

fn compare(name: &str, cuts: Cuts, host: &mut Host, expected: &mut Vec<String>) {
    host.settle();
    let log = std::mem::take(&mut host.log);
    // The host may be asked before the answer to the command before has been sent, or after.
    let halves = |notes: bool| {
        let mut got = log.lines().filter(move |line| line.starts_with("H:") == notes);
        let mut expected = expected.iter().filter(move |line| line.starts_with("H:") == notes);
        std::iter::from_fn(move || match (got.next(), expected.next()) {
            (None, None) => None,
            pair => Some(pair),
        })
    };
    let same = halves(true).chain(halves(false)).all(|(got, expected)| match (got, expected) {
        (Some(got), Some(expected)) => match expected.strip_suffix("...") {
            Some(start) => got.starts_with(start),
            None => got == expected,
        },
        _ => false,
    });
    assert!(same, "{name}, {cuts:?}\n--- expected\n{}\n--- got\n{log}", expected.join("\n"));
    expected.clear();
}
