//! Conversations as data: every file in `transcripts/`, cut in several ways, with the same outcome.
//!
//! `C:` a line from the client, `C-` octets without a line end, `C*N x` a line of N times x; `S:` a line to the client
//! (`S|` one that ends with LF alone, a `~` at the end stands for a space); `!eof`, `!tls` what the host tells; `!update`,
//! `!closed` what the session asked of the host; `!clear_login no`, `!gone UID`, `!cut UID` settings.

use std::{collections::VecDeque, fs, path::Path};

use bytes::Bytes;
use rockdove_mail::{
    AskId, Input, Peer, Session, Step, Tick, TlsFacts, UidSet,
    sasl::{self, ScramKeys},
};
use rockdove_pop3::{Answer, Ask, LoginAnswer, Maildrop, OpenError, Pop3Config, Pop3Session};

const MESSAGES: [(u32, &[u8]); 3] = [
    (4, b"Subject: one\r\n\r\n.\r\n.dot\r\n..two\r\nthe last line\r\nend of the message\r\n"),
    (5, b"Subject: two\r\n\r\na bare LF, then a dot\n.\n.\r\nand more\r\n"),
    (9, b"Subject: three\r\n\r\nno line end at the end of this one"),
];

/// Octets after which a message that is `!cut` cannot be read any more.
const CUT_AT: u64 = 16;

/// How octets are cut, in both directions.
#[derive(Clone, Copy, Debug)]
enum Cuts {
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
                1 + usize::try_from(*state >> 33).expect("31 bits") % 12
            }
        }
        .min(most)
    }
}

struct Host {
    session: Pop3Session,
    cuts: Cuts,
    sent: Vec<u8>,
    events: VecDeque<String>,
    login: String,
    gone: Option<u32>,
    cut: Option<u32>,
    receive: bool,
    handshake: bool,
    closed: bool,
}

impl Host {
    fn new(script: &str, cuts: Cuts) -> Self {
        let setting = |name: &str| script.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let config = Pop3Config {
            host_name: "mail.example".to_owned(),
            starttls: true,
            clear_login: setting("!clear_login") != Some("no"),
        };
        let peer = Peer { remote: None, local: None, tls: None };
        Self {
            session: Pop3Session::new(config, &peer, [7; 32], Tick::default()),
            cuts,
            sent: Vec::new(),
            events: VecDeque::new(),
            login: String::new(),
            gone: setting("!gone").map(|uid| uid.parse().expect("a UID")),
            cut: setting("!cut").map(|uid| uid.parse().expect("a UID")),
            receive: false,
            handshake: false,
            closed: false,
        }
    }

    fn tell(&mut self, input: Input<Answer>) {
        self.session.handle(Tick::default(), input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.session.poll() {
                Step::Send(bytes) => {
                    self.sent.extend(bytes.concat());
                    self.session.handle(Tick::default(), Input::Flushed);
                }
                Step::Ask(id, ask) => self.answer(id, ask),
                Step::StartTls => self.handshake = true,
                Step::Compress => unreachable!("POP3 does not compress"),
                Step::Close => {
                    self.events.push_back("!closed".to_owned());
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

    fn answer(&mut self, id: AskId, ask: Ask) {
        let sizes = |uids: &UidSet| -> Vec<u64> {
            let wanted = MESSAGES.iter().filter(|(uid, _)| uids.contains(*uid));
            wanted.map(|(_, text)| text.len() as u64).collect()
        };
        let answer = match ask {
            Ask::CheckPassword { login, password, .. } => {
                self.login = login;
                Answer::Login(match self.login.as_str() {
                    "down" => LoginAnswer::TryLater,
                    "ann" | "busy" | "unlucky" if password.as_str() == "open sesame" => LoginAnswer::Accepted,
                    _ => LoginAnswer::Refused,
                })
            }
            Ask::ScramKeys { .. } => {
                let (stored_key, server_key) = sasl::scram_keys("open sesame", b"salt", 4096);
                Answer::Scram(ScramKeys { salt: b"salt".to_vec(), iterations: 4096, stored_key, server_key })
            }
            Ask::ScramDone { proven: true, .. } => Answer::Login(LoginAnswer::Accepted),
            Ask::ScramDone { .. } => Answer::Login(LoginAnswer::Refused),
            Ask::Open if self.login == "busy" => Answer::Opened(Err(OpenError::InUse)),
            Ask::Open => {
                let uids: UidSet = MESSAGES.iter().map(|(uid, _)| *uid).collect();
                let octets = sizes(&uids).iter().sum();
                Answer::Opened(Ok(Maildrop { uid_validity: 77, uids, octets }))
            }
            Ask::Sizes { uids } => Answer::Sizes(sizes(&uids)),
            Ask::Octets { uids } => Answer::Octets(sizes(&uids).iter().sum()),
            Ask::Read { uid, offset, octets_max } => self.read(uid, offset, octets_max),
            Ask::Update { delete, seen } => {
                let list = |set: &UidSet| set.iter().map(|uid| uid.to_string()).collect::<Vec<_>>().join(",");
                self.events.push_back(format!("!update delete={} seen={}", list(&delete), list(&seen)));
                Answer::Updated(self.login != "unlucky")
            }
        };
        self.session.handle(Tick::default(), Input::Answered(id, answer));
    }

    fn read(&mut self, uid: u32, offset: u64, octets_max: u64) -> Answer {
        if self.gone == Some(uid) {
            return Answer::Gone;
        }
        let (_, text) = MESSAGES.into_iter().find(|(known, _)| *known == uid).expect("a message of the maildrop");
        let mut end = text.len() as u64;
        if self.cut == Some(uid) {
            if offset >= CUT_AT {
                return Answer::TryLater;
            }
            end = CUT_AT;
        }
        let most = usize::try_from((end - offset).min(octets_max)).expect("small");
        let from = usize::try_from(offset).expect("small");
        let bytes = Bytes::from_static(&text[from..from + self.cuts.next(most)]);
        Answer::Page { size_bytes: text.len() as u64, bytes }
    }

    fn receive(&mut self, mut octets: &[u8]) {
        // What a client sends in clear behind STLS never reaches the session.
        while !octets.is_empty() && !self.closed && !self.handshake {
            assert!(self.receive, "the session waits, but nobody has anything to do");
            let (now, later) = octets.split_at(self.cuts.next(octets.len()));
            self.tell(Input::Received(Bytes::copy_from_slice(now)));
            octets = later;
        }
    }
}

/// What the client says and hears, in turns.
#[derive(Default)]
struct Turn {
    client: Vec<u8>,
    server: Vec<u8>,
    orders: Vec<String>,
}

fn turns(script: &str) -> Vec<Turn> {
    let mut turns = vec![Turn::default()];
    for line in script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mark, rest) = line.split_at(2);
        let text = rest.strip_prefix(' ').unwrap_or(rest).replace('~', " ");
        let last = turns.last_mut().expect("never empty");
        let turn = if mark.starts_with('C') && !(last.server.is_empty() && last.orders.is_empty()) {
            turns.push(Turn::default());
            turns.last_mut().expect("just pushed")
        } else {
            last
        };
        match mark {
            "C:" => turn.client.extend(format!("{text}\r\n").as_bytes()),
            "C-" => turn.client.extend(text.as_bytes()),
            "C*" => {
                let (count, what) = text.split_once(' ').expect("C*N x");
                turn.client.extend(format!("{}\r\n", what.repeat(count.parse().expect("a number"))).as_bytes());
            }
            "S:" => turn.server.extend(format!("{text}\r\n").as_bytes()),
            "S|" => turn.server.extend(format!("{text}\n").as_bytes()),
            _ => turn.orders.push(line.to_owned()),
        }
    }
    turns
}

fn run(name: &str, script: &str, cuts: Cuts) {
    let mut host = Host::new(script, cuts);
    host.drain();
    for turn in turns(script) {
        host.receive(&turn.client);
        let heard = std::mem::take(&mut host.sent);
        let context = format!("{name}, {cuts:?}, after {:?}", String::from_utf8_lossy(&turn.client));
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&turn.server), "{context}");
        for order in &turn.orders {
            match order.split(' ').next().expect("a word") {
                "!eof" => host.tell(Input::PeerClosed),
                "!tls" => {
                    assert!(std::mem::take(&mut host.handshake), "{context}: no handshake was asked for");
                    host.tell(Input::TlsReady(TlsFacts::default()));
                }
                "!update" | "!closed" => assert_eq!(host.events.pop_front().as_ref(), Some(order), "{context}"),
                "!clear_login" | "!gone" | "!cut" => {}
                other => unreachable!("{name}: {other} is no order"),
            }
        }
    }
    assert!(host.events.is_empty() && host.sent.is_empty(), "{name}: more happened: {:?}", host.events);
}

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let script = fs::read_to_string(&path).expect("text");
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        for cuts in [Cuts::Whole, Cuts::Single].into_iter().chain((0..20).map(Cuts::Random)) {
            run(&name, &script, cuts);
        }
        count += 1;
    }
    assert!(count >= 10, "the transcripts were not found");
}
