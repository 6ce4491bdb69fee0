//! The client's half as conversations: what the server says, what we say, and what became of each recipient. Each runs with
//! what the server says whole, octet by octet, and in pieces.

use std::collections::VecDeque;

use bytes::Bytes;
use rockdove_mail::{Input, Session, Step, Tick, TlsFacts};
use rockdove_smtp::client::{
    ClientAnswer, ClientAsk, ClientConfig, ClientLogin, ClientSession, ClientTls, RecipientResult, Transaction,
    TransactionRecipient,
};

/// How a conversation is led and what it is about.
#[derive(Clone)]
struct Case {
    config: ClientConfig,
    /// Recipients of each transaction.
    transactions: Vec<Vec<&'static str>>,
    content: &'static str,
    smtputf8: bool,
    ask_only: bool,
}

fn case(transactions: &[&[&'static str]]) -> Case {
    let config = ClientConfig { name: "us.example".into(), lmtp: false, tls: ClientTls::Opportunistic, login: None };
    let transactions = transactions.iter().map(|to| to.to_vec()).collect();
    Case { config, transactions, content: "A: b\r\n\r\n.x\r\n", smtputf8: false, ask_only: false }
}

/// The host of a conversation, and what was seen of it: `C:` is what we say, the rest what the host hears.
struct Host<'a> {
    case: &'a Case,
    begun: usize,
    log: Vec<String>,
}

impl Host<'_> {
    fn answer(&mut self, ask: ClientAsk) -> ClientAnswer {
        match ask {
            ClientAsk::Next => self.next(),
            ClientAsk::Content(_) => ClientAnswer::Content(Bytes::from_static(self.case.content.as_bytes()), true),
            ClientAsk::Result(result) => {
                self.log.extend(result.recipients.iter().map(|recipient| match recipient {
                    RecipientResult::Delivered(reply) => format!("delivered: {reply}"),
                    RecipientResult::Refused(reply) => format!("refused: {reply}"),
                    RecipientResult::Lost(stage) => format!("lost: {stage:?}"),
                }));
                ClientAnswer::Noted
            }
            ClientAsk::Unusable(stage, reply) => {
                self.log.push(format!("unusable: {stage:?} {reply}"));
                ClientAnswer::Noted
            }
        }
    }

    fn next(&mut self) -> ClientAnswer {
        let Some(to) = self.case.transactions.get(self.begun) else { return ClientAnswer::Quit };
        self.begun += 1;
        let recipient = |to: &&str| TransactionRecipient { address: (*to).into(), ..TransactionRecipient::default() };
        ClientAnswer::Transaction(Box::new(Transaction {
            reverse_path: "a@us.example".into(),
            recipients: to.iter().map(recipient).collect(),
            size_bytes: self.case.content.len() as u64,
            smtputf8: self.case.smtputf8,
            ask_only: self.case.ask_only,
            ..Transaction::default()
        }))
    }
}

/// Lets a server say these lines and hang up.
fn converse(case: &Case, server: &str, cut: usize) -> Vec<String> {
    let mut session = ClientSession::new(case.config.clone(), false, Tick::default());
    let mut host = Host { case, begun: 0, log: Vec::new() };
    let mut said: VecDeque<&str> = server.split_inclusive('\n').collect();
    let (mut pieces, mut closed) = (VecDeque::new(), false);
    for _ in 0..10_000 {
        match session.poll() {
            Step::Send(bytes) => {
                let text = String::from_utf8_lossy(&bytes.concat()).into_owned();
                host.log.extend(text.lines().map(|line| format!("C: {line}").trim_end().to_owned()));
                session.handle(Tick::default(), Input::Flushed);
            }
            Step::Ask(id, ask) => {
                let answer = host.answer(ask);
                session.handle(Tick::default(), Input::Answered(id, answer));
            }
            Step::StartTls => {
                host.log.push("TLS".into());
                pieces.clear();
                session.handle(Tick::default(), Input::TlsReady(TlsFacts::default()));
            }
            Step::Close => return host.log,
            Step::Idle { receive: true } if !closed => {
                if pieces.is_empty()
                    && let Some(line) = said.pop_front()
                {
                    let line = line.replace('\n', "\r\n");
                    pieces = line.as_bytes().chunks(cut).map(Bytes::copy_from_slice).collect();
                }
                let piece = pieces.pop_front();
                closed = piece.is_none();
                session.handle(Tick::default(), piece.map_or(Input::PeerClosed, Input::Received));
            }
            Step::Idle { .. } | Step::Compress => panic!("it rests: {:?}", host.log),
        }
    }
    panic!("it never ends: {:?}", host.log)
}

#[track_caller]
fn check(case: &Case, server: &str, expected: &str) {
    for cut in [usize::MAX, 1, 7] {
        let found = converse(case, server, cut);
        assert_eq!(found, expected.lines().map(str::trim).collect::<Vec<_>>(), "cut {cut}");
    }
}

const PIPELINING: &str = "220 hi\n250-x\n250-PIPELINING\n250 SIZE 100\n";
const HELLO: &str = "C: EHLO us.example\n";

#[test]
fn a_group_is_sent_at_once_and_each_reply_belongs_to_its_command() {
    check(
        &case(&[&["x@a", "y@a", "z@a"]]),
        &(PIPELINING.to_owned() + "250 ok\n250 ok\n550 5.1.1 no such user\n250 ok\n354 go\n250 2.0.0 taken\n221 bye\n"),
        &(HELLO.to_owned()
            + "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: RCPT TO:<y@a>\nC: RCPT TO:<z@a>\nC: DATA\n\
               C: A: b\nC: \nC: ..x\nC: .\n\
               delivered: 250 2.0.0 taken\nrefused: 550 5.1.1 no such user\ndelivered: 250 2.0.0 taken\nC: QUIT"),
    );
}

#[test]
fn without_pipelining_each_reply_is_awaited() {
    check(
        &case(&[&["x@a", "y@a"]]),
        "220 hi\n502 what\n250 x\n250 ok\n250 ok\n451 4.2.1 later\n354 go\n250 taken\n221 bye\n",
        &(HELLO.to_owned()
            + "C: HELO us.example\nC: MAIL FROM:<a@us.example>\nC: RCPT TO:<x@a>\nC: RCPT TO:<y@a>\nC: DATA\n\
               C: A: b\nC: \nC: ..x\nC: .\ndelivered: 250 taken\nrefused: 451 4.2.1 later\nC: QUIT"),
    );
}

#[test]
fn content_that_is_refused_does_not_harm_the_next_message() {
    check(
        &case(&[&["x@a"], &["y@a"]]),
        &(PIPELINING.to_owned()
            + "250 ok\n250 ok\n452 4.3.1 no room\n250 reset\n250 ok\n250 ok\n354 go\n250 taken\n221 bye\n"),
        &(HELLO.to_owned()
            + "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: DATA\nC: RSET\nrefused: 452 4.3.1 no room\n\
               C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<y@a>\nC: DATA\n\
               C: A: b\nC: \nC: ..x\nC: .\ndelivered: 250 taken\nC: QUIT"),
    );
}

#[test]
fn a_server_can_be_asked_without_sending_anything() {
    let mut asking = case(&[&["x@a", "y@a"], &["z@a"]]);
    asking.ask_only = true;
    let rest = "250 ok\n250 ok\n550 5.1.1 no\n250 reset\n250 ok\n451 4.7.1 grey\n250 reset\n221 bye\n";
    let expected = "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: RCPT TO:<y@a>\nC: RSET\n\
                    delivered: 250 reset\nrefused: 550 5.1.1 no\n\
                    C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<z@a>\nC: RSET\nrefused: 451 4.7.1 grey\nC: QUIT";
    check(&asking, &(PIPELINING.to_owned() + rest), &(HELLO.to_owned() + expected));
    let plain = "220 hi\n250-x\n250 SIZE 100\n".to_owned() + rest;
    check(&asking, &plain, &(HELLO.to_owned() + expected));
    // A sender that is refused says nothing of the recipients, and is told for each.
    let refused = PIPELINING.to_owned() + "550 5.7.1 not you\n503 what\n503 what\n250 reset\n421 bye\n";
    let both = "refused: 550 5.7.1 not you\nrefused: 550 5.7.1 not you\n";
    let begun = "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: RCPT TO:<y@a>\nC: RSET\n";
    let next = "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<z@a>\nrefused: 421 bye";
    check(&asking, &refused, &(HELLO.to_owned() + begun + both + next));
}

#[test]
fn mail_data_that_nobody_receives_is_empty() {
    check(
        &case(&[&["x@a"]]),
        &(PIPELINING.to_owned() + "250 ok\n550 5.1.1 no\n354 go\n554 nobody\n221 bye\n"),
        &(HELLO.to_owned()
            + "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: DATA\nC: .\nrefused: 550 5.1.1 no\nC: QUIT"),
    );
}

#[test]
fn a_lost_connection_says_how_far_it_was() {
    let begun = HELLO.to_owned() + "C: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: DATA\n";
    let to_one = case(&[&["x@a"]]);
    check(&to_one, "", "unusable: Greeting 421 4.4.2 the server has closed the connection");
    check(&to_one, "554 5.7.1 go away\n", "unusable: Greeting 554 5.7.1 go away");
    check(&to_one, PIPELINING, &(begun.clone() + "lost: Envelope"));
    let content = begun.clone() + "C: A: b\nC: \nC: ..x\nC: .\n";
    check(&to_one, &(PIPELINING.to_owned() + "250 ok\n250 ok\n354 go\n"), &(content + "lost: End"));
    check(&to_one, &(PIPELINING.to_owned() + "421 4.3.2 closing\n"), &(begun + "refused: 421 4.3.2 closing"));
}

#[test]
fn what_came_in_clear_is_forgotten_and_required_tls_is_required() {
    let offer = "220 hi\n250-x\n250 STARTTLS\n220 go\n";
    let begun = HELLO.to_owned() + "C: STARTTLS\nTLS\n" + HELLO;
    check(&case(&[&["x@a"]]), offer, &(begun + "unusable: Hello 421 4.4.2 the server has closed the connection"));
    let mut required = case(&[&["x@a"]]);
    required.config.tls = ClientTls::Required;
    let why = "unusable: Tls 454 4.7.4 the server does not offer STARTTLS, which is required";
    check(&required, PIPELINING, &(HELLO.to_owned() + why));
    check(
        &required,
        "220 hi\n250-x\n250 STARTTLS\n454 4.7.0 no\n",
        &(HELLO.to_owned() + "C: STARTTLS\nunusable: Tls 454 4.7.0 no"),
    );
}

#[test]
fn passwords_are_not_said_in_clear() {
    let mut with_login = case(&[&["x@a"]]);
    let login = ClientLogin { login: "ada".into(), password: "secret".into(), plain: false, nonce: "n".into() };
    with_login.config.login = Some(login);
    let why = "unusable: Login 454 4.7.0 the server offers no way to log in that may be used here";
    check(&with_login, "220 hi\n250-x\n250 AUTH PLAIN LOGIN\n", &(HELLO.to_owned() + why));
}

#[test]
fn a_server_that_cannot_take_a_message_is_not_given_it() {
    let mut large = case(&[&["x@a"]]);
    large.content = "A: b\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    let why = "refused: 552 5.3.4 the message is larger than the next server takes\nC: QUIT";
    check(&large, &(PIPELINING.to_owned() + "221 bye\n"), &(HELLO.to_owned() + why));
    let mut unicode = case(&[&["ü@ö"]]);
    unicode.smtputf8 = true;
    let why = "refused: 550 5.6.7 the next server does not offer SMTPUTF8, which the message needs\nC: QUIT";
    check(&unicode, &(PIPELINING.to_owned() + "221 bye\n"), &(HELLO.to_owned() + why));
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let mut lmtp = case(&[&["x@a", "y@a", "z@a"]]);
    lmtp.config.lmtp = true;
    check(
        &lmtp,
        &(PIPELINING.to_owned() + "250 ok\n250 ok\n550 5.1.1 no\n250 ok\n354 go\n250 taken\n452 4.2.2 full\n221 bye\n"),
        "C: LHLO us.example\nC: MAIL FROM:<a@us.example> SIZE=12\nC: RCPT TO:<x@a>\nC: RCPT TO:<y@a>\nC: RCPT TO:<z@a>\n\
         C: DATA\nC: A: b\nC: \nC: ..x\nC: .\n\
         delivered: 250 taken\nrefused: 550 5.1.1 no\nrefused: 452 4.2.2 full\nC: QUIT",
    );
}
