//! A host with a small directory, and the reader of transcripts.
//!
//! Lines of a transcript: `@key value` configures; `C: text` is a line of the client with its CRLF (`\r \n \0 \\` and
//! `\xHH` are octets, `{60*x}` is repetition); `C> text` the same without CRLF; `S: text` a line of the server (`*` at
//! the end matches anything); `H: text` what the host was asked beyond simple checks; `! close`, `! starttls`, `! eof`,
//! `! shutdown`, `! wait MS`, `! fed` (what was said so far arrives now) say what happens. Everything else is a comment.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use rockdove_mail::{AskId, Input, Peer, Session, Step, Tick, TlsFacts, sasl};
use rockdove_smtp::{
    Address, Answer, Ask, ClearAuth, Config, Greeting, LoginAnswer, Mail, RecipientAnswer, RecipientOutcome, Refusal,
    Role, SenderAnswer, SmtpSession, SpoolAnswer, Tarpit, Tls,
};

/// Salt of every SCRAM login; the password is "pencil".
pub(crate) const SCRAM_SALT: &[u8] = b"W22ZaJ0SNY7soEsUEjb6gQ";

pub(crate) struct Host {
    pub(crate) session: SmtpSession,
    pub(crate) now: Tick,
    role: Role,
    /// Replies, and in lines beginning with `! ` or `H: ` what else happened.
    log: String,
    out: Vec<u8>,
    spooled: Vec<u8>,
    closed: bool,
}

fn config_of(text: &str) -> (Config, Peer) {
    let mut config = Config::new(Role::Mx, "mx.here.example");
    let mut peer = Peer { remote: "192.0.2.7:4000".parse().ok(), local: None, tls: None };
    for line in text.lines().filter_map(|line| line.strip_prefix('@')) {
        let (key, value) = line.split_once(' ').expect("@key value");
        let number = || value.parse::<u32>().expect("a number");
        match key {
            "role" => {
                let role = match value {
                    "mx" => Role::Mx,
                    "submission" => Role::Submission,
                    _ => Role::Lmtp,
                };
                config = Config { tls: config.tls, ..Config::new(role, "mx.here.example") };
            }
            "tls" if value == "on" => peer.tls = Some(facts()),
            "tls" => config.tls = if value == "required" { Tls::Required } else { Tls::Available },
            "clear_auth" if value == "always" => config.clear_auth = ClearAuth::Always,
            "clear_auth" => config.clear_auth = ClearAuth::Never,
            "peer" => peer.remote = value.parse().ok(),
            "size" => config.size_bytes_max = u64::from(number()),
            "recipients" => config.recipients_max = number() as usize,
            "errors" => config.errors_max = number(),
            "transactions" => config.transactions_max = number(),
            "greet_after" => config.greeting = Greeting::After(u64::from(number())),
            "refused" => config.greeting = Greeting::Refused(refusal(554, value)),
            "tarpit" => {
                let mut numbers = value.split(' ').map(|number| number.parse::<u64>().expect("three numbers"));
                let mut next = || numbers.next().expect("three numbers");
                let free = u32::try_from(next()).expect("a small number");
                config.tarpit = Tarpit { free, first_ms: next(), most_ms: next() };
            }
            _ => panic!("unknown setting {key}"),
        }
    }
    (config, peer)
}

fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into(), server_name: None }
}

impl Host {
    pub(crate) fn new(config: &str) -> Self {
        let (config, peer) = config_of(config);
        let now = Tick { monotonic_ms: 1000, unix_s: 1_794_000_000 };
        let role = config.role;
        let session = SmtpSession::new(Arc::new(config), peer, [7; 32], now);
        let mut host =
            Self { session, now, role, log: String::new(), out: Vec::new(), spooled: Vec::new(), closed: false };
        host.drain();
        host
    }

    /// Everything said to `input`, cut into chunks of `step` octets (0: random lengths from `seed`).
    pub(crate) fn converse(mut self, input: &[u8], step: usize, seed: u64) -> String {
        self.feed_cut(input, step, &mut seed.max(1));
        self.feed(Input::PeerClosed);
        self.settle();
        self.log
    }

    /// Says something; gives back what happened then.
    pub(crate) fn hear(&mut self, text: &str) -> String {
        self.settle();
        self.log.clear();
        self.feed(Input::Received(Bytes::copy_from_slice(text.as_bytes())));
        self.settle();
        self.log.clone()
    }

    /// The challenge that was heard last, decoded.
    pub(crate) fn last_challenge(&self) -> String {
        let line = self.log.trim_end().rsplit_once("S: 334 ").expect("a challenge").1;
        let decoded = sasl::decode_line(line.as_bytes()).expect("base64").expect("not *");
        String::from_utf8(decoded).expect("text")
    }

    fn feed_cut(&mut self, mut input: &[u8], step: usize, seed: &mut u64) {
        while !input.is_empty() {
            let length = if step > 0 {
                step
            } else {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                1 + usize::try_from(*seed >> 59).expect("five bits")
            };
            let (piece, rest) = input.split_at(length.min(input.len()));
            self.feed(Input::Received(Bytes::copy_from_slice(piece)));
            input = rest;
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
                Step::Ask(id, ask) => self.answer(id, ask),
                Step::Compress => unreachable!("SMTP does not compress"),
                Step::StartTls => {
                    self.note("! starttls");
                    self.session.handle(self.now, Input::TlsReady(facts()));
                }
                Step::Close => {
                    self.note("! close");
                    self.closed = true;
                    return;
                }
                Step::Idle { .. } => return,
            }
        }
    }

    /// Writes the replies so far into the log.
    fn settle(&mut self) {
        let out = std::mem::take(&mut self.out);
        for line in String::from_utf8(out).expect("replies are UTF-8").split_terminator("\r\n") {
            assert!(!line.contains(['\r', '\n']), "a line end inside a reply: {line:?}");
            writeln!(self.log, "S: {line}").expect("written");
        }
    }

    fn note(&mut self, what: &str) {
        self.settle();
        writeln!(self.log, "{what}").expect("written");
    }

    fn answer(&mut self, id: AskId, ask: Ask) {
        let answer = match ask {
            Ask::Login { login, password, authorize_as } => {
                let good = login == "alice@here.example" && password.as_str() == "secret";
                let mine = authorize_as.is_none_or(|other| other == login);
                Answer::Login(match login.as_str() {
                    "later@here.example" => LoginAnswer::TryLater,
                    _ if good && mine => LoginAnswer::Accepted,
                    _ => LoginAnswer::Refused,
                })
            }
            Ask::ScramKeys { .. } => {
                let salt = SCRAM_SALT.to_vec();
                let (stored_key, server_key) = sasl::scram_keys("pencil", &salt, 4096);
                Answer::ScramKeys(sasl::ScramKeys { salt, iterations: 4096, stored_key, server_key })
            }
            Ask::ScramProved { login, .. } => {
                self.note(&format!("H: scram proved {login}"));
                Answer::Login(LoginAnswer::Accepted)
            }
            Ask::ScramFailed { login } => {
                self.note(&format!("H: scram failed {login}"));
                Answer::Noted
            }
            Ask::Hello { name } => Answer::Hello(match name.as_str() {
                "mx.here.example" => Some(refusal(550, "that is my name")),
                "later.example" => Some(refusal(451, "not now")),
                "flood.example" => Some(refusal(421, "enough of you")),
                _ => None,
            }),
            Ask::Sender { address } => Answer::Sender(self.sender(address)),
            Ask::Recipient { address, .. } => Answer::Recipient(recipient(&address)),
            Ask::Spool(pieces) => {
                self.spooled.extend(pieces.concat());
                let bad = self.spooled.starts_with(b"SPOOLFAIL");
                Answer::Spooled(if bad { SpoolAnswer::TryLater } else { SpoolAnswer::Taken })
            }
            Ask::Deliver(mail) => Answer::Delivered(self.deliver(&mail)),
            Ask::Abandon(abandoned) => {
                self.spooled.clear();
                let why = abandoned.refusal.as_deref().map_or("gone", |why| &why[..9]);
                self.note(&format!("H: abandon {}", why.trim_end()));
                Answer::Noted
            }
        };
        self.session.handle(self.now, Input::Answered(id, answer));
    }

    fn sender(&self, address: Option<Address>) -> SenderAnswer {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        match address.as_str() {
            "bad@far.example" => SenderAnswer::Refused(refusal(550, "no such domain")),
            "flood@far.example" => SenderAnswer::Refused(refusal(421, "enough of you")),
            // What a host says stays one line, and a refusal.
            "odd@far.example" => SenderAnswer::Refused(refusal(250, "a\r\n250 b\u{e9}\0")),
            "" | "alice@here.example" | "al@here.example" => SenderAnswer::Accepted,
            _ if self.role == Role::Submission => SenderAnswer::NotYours,
            _ => SenderAnswer::Accepted,
        }
    }

    fn deliver(&mut self, mail: &Mail) -> Vec<RecipientOutcome> {
        let mut content = std::mem::take(&mut self.spooled);
        mail.chunks.iter().for_each(|piece| content.extend_from_slice(piece));
        assert_eq!(content.len() as u64, mail.size_bytes, "the size of the message");
        let envelope = &mail.envelope;
        let from = envelope.reverse_path.as_ref().map(Address::to_string).unwrap_or_default();
        let to: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        let shown = if content.len() > 200 {
            format!("{} octets", content.len())
        } else {
            String::from_utf8_lossy(&content).escape_debug().to_string()
        };
        self.note(&format!("H: deliver from=<{from}> to=<{}> {shown}", to.join(">,<")));
        let outcome = |address: &String| match address.as_str() {
            "slow@here.example" => RecipientOutcome::TryLater,
            "brim@here.example" => RecipientOutcome::OverQuota,
            "gone@here.example" => RecipientOutcome::UnknownRecipient,
            _ => RecipientOutcome::Delivered,
        };
        to.iter().map(outcome).collect()
    }
}

fn refusal(code: u16, text: &str) -> Refusal {
    Refusal { code, status: format!("{}.7.1", code / 100), text: text.to_owned() }
}

fn recipient(address: &Address) -> RecipientAnswer {
    if !address.domain.eq_ignore_ascii_case("here.example") && address.local != "postmaster" {
        return RecipientAnswer::NotLocal;
    }
    match address.local.as_str() {
        "alice" | "bob" | "slow" | "brim" | "gone" | "postmaster" | "a b" | "dörte" => RecipientAnswer::Accepted,
        "full" => RecipientAnswer::OverQuota,
        "later" => RecipientAnswer::TryLater,
        "grey" => RecipientAnswer::Refused(refusal(451, "greylisted")),
        "listed" => RecipientAnswer::Refused(refusal(550, "you are listed")),
        _ => RecipientAnswer::UnknownRecipient,
    }
}

/// Octets of a client line.
fn octets(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = match c {
            '\\' if tail.starts_with('x') => {
                out.push(u8::from_str_radix(&tail[1..3], 16).expect("hexadecimal"));
                &tail[3..]
            }
            '\\' => {
                out.push(match &tail[..1] {
                    "r" => b'\r',
                    "n" => b'\n',
                    "0" => 0,
                    other => other.as_bytes()[0],
                });
                &tail[1..]
            }
            '{' => {
                let (inside, behind) = tail.split_once('}').expect("{count*text}");
                let (count, what) = inside.split_once('*').expect("{count*text}");
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

pub(crate) fn check_transcript(name: &str, text: &str) {
    for (how, step, seed) in [("whole", usize::MAX, 0), ("byte by byte", 1, 0), ("random", 0, 1), ("random", 0, 99)] {
        let mut host = Host::new(text);
        let mut seed = seed;
        let mut burst = Vec::new();
        let mut expected = Vec::new();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            match kind {
                "C:" | "C>" => {
                    compare(name, how, &mut host, &mut expected);
                    burst.extend(octets(rest));
                    if kind == "C:" {
                        burst.extend_from_slice(b"\r\n");
                    }
                }
                "S:" | "H:" | "!" => {
                    host.feed_cut(&std::mem::take(&mut burst), step, &mut seed);
                    if !happen(&mut host, name, how, line, &mut expected) {
                        expected.push(line.to_owned());
                    }
                }
                _ => {}
            }
        }
        host.feed_cut(&burst, step, &mut seed);
        compare(name, how, &mut host, &mut expected);
    }
}

/// Makes happen what a `!` line says, unless it is something to expect.
fn happen(host: &mut Host, name: &str, how: &str, line: &str, expected: &mut Vec<String>) -> bool {
    if !line.starts_with('!') {
        return false;
    }
    let input = match line.split(' ').nth(1) {
        // The bytes so far arrive before the next ones.
        Some("fed") => return true,
        Some("eof") => Input::PeerClosed,
        Some("shutdown") => Input::ShuttingDown,
        Some("wait") => {
            let ms = line.split(' ').nth(2).and_then(|ms| ms.parse().ok()).expect("! wait MS");
            compare(name, how, host, expected);
            host.now = host.now.plus_ms(ms);
            Input::DeadlinePassed
        }
        _ => return false,
    };
    compare(name, how, host, expected);
    host.feed(input);
    true
}

fn compare(name: &str, how: &str, host: &mut Host, expected: &mut Vec<String>) {
    if expected.is_empty() {
        return;
    }
    host.settle();
    let log = std::mem::take(&mut host.log);
    let got: Vec<&str> = log.lines().collect();
    let same = got.len() == expected.len()
        && got.iter().zip(expected.iter()).all(|(got, expected)| match expected.strip_suffix('*') {
            Some(start) => got.starts_with(start),
            None => got == expected,
        });
    assert!(same, "{name}, {how}\n--- expected\n{}\n--- got\n{log}", expected.join("\n"));
    expected.clear();
}
