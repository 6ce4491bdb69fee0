//! The SMTP, submission and LMTP sessions, with a host that knows a few addresses and has bad days.

use std::sync::Arc;

use bytes::Bytes;
use rockdove_mail::{Peer, Tick, TlsFacts, sasl};
use rockdove_smtp::{
    Answer, Ask, BodyKind, ClearAuth, Config, LoginAnswer, Mail, RecipientAnswer, RecipientOutcome, Refusal, Role,
    SenderAnswer, SmtpSession, SpoolAnswer, Tls, limits,
};

use crate::converse::{Cuts, Dice, Event, converse_secured, same_in_every_cut, split};

/// What parts the bytes in clear from those behind STARTTLS: the beginning of a TLS record.
const TLS_RECORD: &[u8] = &[0x16, 0x03];
/// An octet that stands for many, so that short inputs reach the large limits.
const MANY: u8 = 0xff;
const MANY_TIMES: usize = 8 * 1024;
/// Octets of an input with everything spelled out.
const INPUT_OCTETS_MAX: usize = 128 * 1024;
/// Octets of an input that is also sent octet by octet; longer ones would take too long.
const SINGLE_OCTETS_MAX: usize = 8 * 1024;
/// Octets of one message. RFC 5321 section 4.5.3.1.7 asks for more; here it should be reached.
const SIZE_BYTES_MAX: u64 = 96 * 1024;
/// Octets of a reply line with its CRLF (RFC 5321 section 4.5.3.1.5).
const REPLY_LINE_OCTETS_MAX: usize = 512;

/// Replies to STARTTLS.
const TLS_READY: &[u8] = b"220 2.0.0 ";
const TLS_REFUSED: &[u8] = b"503 5.5.1 nothing may follow STARTTLS";

/// A delivered message: what must not depend on how its bytes came in.
#[derive(Debug, PartialEq)]
struct Delivered {
    id: String,
    from: Option<String>,
    to: Vec<String>,
    content: Vec<u8>,
    binary: bool,
    client: Arc<rockdove_smtp::Client>,
    secured: bool,
}

/// What the host says; the session keeps what does not belong into a reply from the client.
fn refusal(code: u16) -> Refusal {
    Refusal { code, status: "9\r\n".to_owned(), text: "no\r\n250 yes \u{e9}".to_owned() }
}

/// What a conversation came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    sent: Vec<u8>,
    delivered: Vec<Delivered>,
}

/// The host: the same answers to the same questions, in the same order.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Host {
    dice: Dice,
    role: Role,
    /// Answers fail now and then.
    bad_days: bool,
    /// And so does taking content, which depends on the cuts.
    bad_spool: bool,
    /// Octets that may come in one piece.
    piece_octets_max: usize,
    spooled: Vec<u8>,
    /// Since the conversation or its TLS began.
    login: Option<String>,
    senders: Vec<String>,
    recipients: Vec<String>,
    secured: bool,
    /// Bytes in clear behind STARTTLS were thrown away.
    lost: bool,
    delivered: Vec<Delivered>,
}

impl Host {
    fn fails(&mut self) -> bool {
        self.bad_days && self.dice.below(8) == 0
    }

    fn hear(&mut self, event: Event<Ask>) -> Option<Answer> {
        match event {
            Event::Asked(ask) => Some(self.answer(ask)),
            Event::LeftOpen => None,
            Event::Secured { lost } => {
                self.lost = lost;
                assert!(!self.secured, "TLS within TLS");
                self.secured = true;
                self.login = None;
                self.senders.clear();
                self.recipients.clear();
                None
            }
        }
    }

    fn logged_in(&mut self, login: String, good: bool) -> Answer {
        assert_eq!(self.role, Role::Submission, "a login on {:?}", self.role);
        assert_eq!(self.login, None, "a login after login");
        let fails = self.fails();
        Answer::Login(match good {
            _ if fails => LoginAnswer::TryLater,
            true => {
                self.login = Some(login);
                LoginAnswer::Accepted
            }
            false => LoginAnswer::Refused,
        })
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::Login { login, password, authorize_as } => {
                let good = login.contains("alice") && password.as_str() == "secret" && authorize_as.is_none();
                self.logged_in(login, good)
            }
            Ask::ScramKeys { login } => Answer::ScramKeys(sasl::ScramKeys {
                salt: login.into_bytes(),
                iterations: 4096,
                stored_key: [1; 32],
                server_key: [2; 32],
            }),
            // The keys belong to no password.
            Ask::ScramProved { .. } => unreachable!("a proof of nothing"),
            Ask::ScramFailed { .. } => Answer::Noted,
            Ask::Hello { .. } => Answer::Hello(self.fails().then(|| refusal(550))),
            Ask::Sender { address } => {
                assert!(self.role != Role::Submission || self.login.is_some(), "a sender before login");
                self.senders.extend(address.as_ref().map(ToString::to_string));
                Answer::Sender(match address.as_ref().map(|address| address.local.as_str()) {
                    _ if self.fails() => SenderAnswer::TryLater,
                    Some("mallory") => SenderAnswer::NotYours,
                    Some("flood") => SenderAnswer::Refused(refusal(451)),
                    _ => SenderAnswer::Accepted,
                })
            }
            Ask::Recipient { address, .. } => Answer::Recipient(match address.local.as_str() {
                _ if self.fails() => RecipientAnswer::TryLater,
                _ if !address.domain.eq_ignore_ascii_case("here.example") => RecipientAnswer::NotLocal,
                "full" => RecipientAnswer::OverQuota,
                "nobody" => RecipientAnswer::UnknownRecipient,
                "grey" => RecipientAnswer::Refused(refusal(451)),
                "close" => RecipientAnswer::Refused(refusal(421)),
                _ => {
                    self.recipients.push(address.to_string());
                    RecipientAnswer::Accepted
                }
            }),
            Ask::Spool(pieces) => {
                self.take(&pieces);
                let fails = self.bad_spool && self.dice.below(4) == 0;
                Answer::Spooled(if fails { SpoolAnswer::TryLater } else { SpoolAnswer::Taken })
            }
            Ask::Deliver(mail) => Answer::Delivered(self.deliver(*mail)),
            Ask::Abandon(_) => {
                self.spooled.clear();
                Answer::Noted
            }
        }
    }

    fn take(&mut self, pieces: &[Bytes]) {
        let octets: usize = pieces.iter().map(Bytes::len).sum();
        // A held-back CRLF may come on top.
        assert!(octets < limits::SPOOL_OCTETS + self.piece_octets_max + 4, "{octets} octets waited in the session");
        for piece in pieces {
            self.spooled.extend_from_slice(piece);
        }
    }

    fn deliver(&mut self, mail: Mail) -> Vec<RecipientOutcome> {
        self.take(&mail.chunks);
        let content = std::mem::take(&mut self.spooled);
        assert_eq!(content.len() as u64, mail.size_bytes, "the size of the message");
        assert!(mail.size_bytes <= SIZE_BYTES_MAX, "a message above the limit");
        let envelope = mail.envelope;
        assert_eq!(envelope.client.login, self.login, "the login of the message");
        assert!(self.role != Role::Submission || self.login.is_some(), "a submission without login");
        let from = envelope.reverse_path.map(|address| address.to_string());
        let asked = self.role == Role::Lmtp || from.as_ref().is_none_or(|from| self.senders.contains(from));
        assert!(asked, "a sender nobody asked about since TLS began");
        let to: Vec<String> = envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        assert!(
            !to.is_empty() && to.iter().all(|to| self.recipients.contains(to)),
            "a recipient that was not accepted"
        );
        assert!(!self.secured || envelope.client.tls.is_some(), "what was said in clear is remembered behind STARTTLS");
        let outcomes =
            to.iter().map(|_| if self.fails() { RecipientOutcome::TryLater } else { RecipientOutcome::Delivered });
        let outcomes = outcomes.collect();
        let binary = envelope.body == BodyKind::BinaryMime;
        let (id, client, secured) = (envelope.id, envelope.client, self.secured);
        self.delivered.push(Delivered { id, from, to, content, binary, client, secured });
        outcomes
    }
}

/// The bytes in clear and those behind STARTTLS.
fn phases(input: &[u8]) -> [Vec<u8>; 2] {
    let mut spelled = Vec::new();
    for octet in input {
        let times = if *octet == MANY { MANY_TIMES } else { 1 };
        if spelled.len() + times > INPUT_OCTETS_MAX {
            break;
        }
        spelled.extend(std::iter::repeat_n(if *octet == MANY { b'x' } else { *octet }, times));
    }
    let at = spelled.windows(TLS_RECORD.len()).position(|window| window == TLS_RECORD);
    let secured = at.map_or_else(Vec::new, |at| spelled.split_off(at).split_off(TLS_RECORD.len()));
    [spelled, secured]
}

fn config(steer: [u8; 8]) -> (Config, Peer) {
    let flag = |bit: u8| steer[0] & bit != 0;
    let role = [Role::Mx, Role::Submission, Role::Lmtp][usize::from(steer[1]) % 3];
    let config = Config {
        size_bytes_max: SIZE_BYTES_MAX,
        recipients_max: 4,
        errors_max: u32::from(steer[2]),
        transactions_max: 5,
        tls: [Tls::Available, Tls::Unavailable, Tls::Required][usize::from(steer[1] / 3) % 3],
        clear_auth: if flag(1) { ClearAuth::Always } else { ClearAuth::Never },
        ..Config::new(role, "h.example")
    };
    (config, Peer { remote: None, local: None, tls: flag(4).then(TlsFacts::default) })
}

fn run(steer: [u8; 8], phases: &[Vec<u8>; 2], cuts: Cuts, bad_spool: bool) -> Outcome {
    let (config, peer) = config(steer);
    let role = config.role;
    let [clear, secured] = phases;
    let mut host = Host {
        dice: Dice::new(u64::from_le_bytes(steer)),
        role,
        bad_days: steer[0] & 8 != 0,
        bad_spool,
        piece_octets_max: match cuts {
            Cuts::Whole => clear.len().max(secured.len()),
            Cuts::Single => 1,
            Cuts::Random(_) => 40,
        },
        spooled: Vec::new(),
        login: None,
        senders: Vec::new(),
        recipients: Vec::new(),
        secured: false,
        lost: false,
        delivered: Vec::new(),
    };
    let session = SmtpSession::new(Arc::new(config), peer, [steer[3]; 32], Tick::default());
    let sent = converse_secured(session, [clear, secured], cuts, |event| host.hear(event));
    check_replies(&sent);
    check_delivered(phases, &host.delivered);
    before_injection(sent, host)
}

/// The outcome up to a STARTTLS that more bytes in clear follow. Whether the session has them in hand (it then refuses
/// and closes) or the server throws them away depends on the cuts, and both are right.
fn before_injection(mut sent: Vec<u8>, host: Host) -> Outcome {
    let reply = if host.lost { TLS_READY } else { TLS_REFUSED };
    let mut delivered = host.delivered;
    if let Some(at) = sent.windows(reply.len()).position(|window| window == reply) {
        sent.truncate(at);
        delivered.retain(|mail| !mail.secured);
    }
    Outcome { sent, delivered }
}

/// Every line is a reply line of its own or of its group (RFC 5321 section 4.2.1), and none is too long.
fn check_replies(sent: &[u8]) {
    let text = std::str::from_utf8(sent).expect("replies are UTF-8");
    assert!(text.starts_with("220 ") && text.ends_with("\r\n"), "no greeting, or half a line: {text:?}");
    let mut group: Option<&str> = None;
    for line in text.split_terminator("\r\n") {
        assert!(!line.contains(|c: char| c.is_control()), "a control character in {line:?}");
        let (code, rest) = line.split_at_checked(3).expect("a code");
        assert!(code.bytes().all(|digit| digit.is_ascii_digit()), "no code in {line:?}");
        assert!(group.is_none_or(|of| of == code), "{line:?} in a group of others");
        assert!(rest.starts_with([' ', '-']), "no space behind the code in {line:?}");
        group = rest.starts_with('-').then_some(code);
        // A challenge repeats the nonce of the client.
        let most = if code == "334" { limits::AUTH_LINE_OCTETS_MAX } else { REPLY_LINE_OCTETS_MAX };
        assert!(line.len() + 2 <= most, "a reply of {} octets", line.len());
    }
    assert_eq!(group, None, "half a group");
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| window.eq_ignore_ascii_case(needle)).count()
}

/// Whether `part` can be had from `whole` by leaving out octets.
fn is_left_of(part: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|wanted| rest.any(|octet| octet == wanted))
}

fn has_stray(content: &[u8]) -> bool {
    let lf = |(at, octet): (usize, &u8)| *octet == b'\n' && (at == 0 || content[at - 1] != b'\r');
    let cr = |(at, octet): (usize, &u8)| *octet == b'\r' && content.get(at + 1) != Some(&b'\n');
    content.iter().enumerate().any(|place| lf(place) || cr(place))
}

fn check_delivered(phases: &[Vec<u8>; 2], delivered: &[Delivered]) {
    for (phase, secured) in phases.iter().zip([false, true]) {
        let here: Vec<&Delivered> = delivered.iter().filter(|mail| mail.secured == secured).collect();
        if here.is_empty() {
            continue;
        }
        let ends = count(phase, b"\r\n.\r\n") + count(phase, b"LAST");
        assert!(here.len() <= ends, "{} messages with {ends} ends of data", here.len());
        for mail in here {
            assert!(is_left_of(&mail.content, phase), "content that nobody sent");
            assert!(is_left_of(mail.client.name.as_bytes(), phase), "a name from before TLS");
            assert!(mail.binary || !has_stray(&mail.content), "a bare CR or LF went through");
        }
    }
}

/// An SMTP session of any role: no panic, no difference between cuts, replies that RFC 5321 allows, nothing delivered
/// without its end of data or with a bare CR or LF, nobody served who was not asked about, bounded waiting content,
/// nothing kept across STARTTLS.
pub fn smtp_session(data: &[u8]) {
    let Some((steer, input)) = split(data) else { return };
    let phases = phases(input);
    let seed = u64::from_le_bytes(steer);
    let long = phases.iter().map(Vec::len).sum::<usize>() > SINGLE_OCTETS_MAX;
    same_in_every_cut(seed, |cuts| {
        let cuts = if long && matches!(cuts, Cuts::Single) { Cuts::Random(!seed) } else { cuts };
        run(steer, &phases, cuts, false)
    });
    run(steer, &phases, Cuts::Random(seed), true);
}
