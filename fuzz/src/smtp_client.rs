//! The client's half of SMTP against a server that says anything.

use bytes::Bytes;
use rockdove_mail::{Input, Session, Step, Tick, TlsFacts};
use rockdove_smtp::{
    BodyKind,
    client::{
        ClientAnswer, ClientAsk, ClientConfig, ClientLogin, ClientSession, ClientTls, RecipientResult, Transaction,
        TransactionRecipient,
    },
};

use crate::converse::{Cuts, split};

/// Steps of a conversation before it counts as one that never rests.
const STEPS_MAX: usize = 100_000;
/// Transactions that are given to it.
const TRANSACTIONS_MAX: usize = 3;
const CONTENT: &[u8] = b"Subject: x\r\n\r\n.dot\nbare\rbare\r\n..\r\n.\r\nQUIT\r\nend";

/// Whatever a server says, every recipient gets exactly one result, what is sent are whole lines, and the end comes.
pub fn smtp_client(data: &[u8]) {
    let Some((steer, said)) = split(data) else { return };
    let mut results = Vec::new();
    for cuts in Cuts::all(u64::from_le_bytes(steer)) {
        results.push(converse(steer, said, cuts));
    }
    assert!(results.windows(2).all(|two| two[0] == two[1]), "the cuts of what came in change the outcome");
}

fn config(steer: [u8; 8]) -> ClientConfig {
    let login =
        ClientLogin { login: "ada".into(), password: "secret".into(), plain: steer[1] & 1 == 0, nonce: "nonce".into() };
    ClientConfig {
        name: "client.example".into(),
        lmtp: steer[0] & 1 == 1,
        tls: [ClientTls::Never, ClientTls::Opportunistic, ClientTls::Required][usize::from(steer[2]) % 3],
        login: (steer[3] & 1 == 1).then_some(login),
    }
}

fn transaction(steer: [u8; 8]) -> Transaction {
    let recipient = |number: u8| TransactionRecipient {
        address: if number == 3 { "bad>address".into() } else { format!("r{number}@a.example") },
        ..TransactionRecipient::default()
    };
    Transaction {
        reverse_path: "ada@b.example".into(),
        recipients: (0..=steer[4] % 5).map(recipient).collect(),
        size_bytes: CONTENT.len() as u64,
        body: [BodyKind::SevenBit, BodyKind::EightBitMime, BodyKind::BinaryMime][usize::from(steer[5]) % 3],
        smtputf8: steer[6] & 1 == 1,
        require_tls: steer[6] & 6 == 6,
        ..Transaction::default()
    }
}

/// What became of each transaction.
fn converse(steer: [u8; 8], said: &[u8], cuts: Cuts) -> Vec<Vec<RecipientResult>> {
    let mut session = ClientSession::new(config(steer), false, Tick::default());
    let mut pieces = cuts.pieces(said);
    let (mut results, mut begun, mut given, mut closed) = (Vec::new(), 0, 0, false);
    let mut sent = Vec::new();
    for _ in 0..STEPS_MAX {
        match session.poll() {
            Step::Send(bytes) => {
                sent.extend(bytes.concat());
                session.handle(Tick::default(), Input::Flushed);
            }
            Step::Ask(id, ask) => {
                let answer = match ask {
                    ClientAsk::Next if begun < TRANSACTIONS_MAX => {
                        (begun, given) = (begun + 1, 0);
                        ClientAnswer::Transaction(Box::new(transaction(steer)))
                    }
                    ClientAsk::Next => ClientAnswer::Quit,
                    ClientAsk::Content(_) => {
                        let piece = &CONTENT[given..(given + 7).min(CONTENT.len())];
                        given += piece.len();
                        ClientAnswer::Content(Bytes::from_static(piece), given == CONTENT.len())
                    }
                    ClientAsk::Result(result) => {
                        assert_eq!(result.recipients.len(), transaction(steer).recipients.len());
                        results.push(result.recipients);
                        ClientAnswer::Noted
                    }
                    ClientAsk::Unusable(..) => ClientAnswer::Noted,
                };
                session.handle(Tick::default(), Input::Answered(id, answer));
            }
            // Nothing more can come: what was said in clear is not looked at any more.
            Step::StartTls => {
                pieces.clear();
                session.handle(Tick::default(), Input::TlsReady(TlsFacts::default()));
            }
            Step::Close => {
                assert_eq!(results.len(), begun, "every transaction has a result");
                whole_lines(&sent, steer);
                return results;
            }
            Step::Idle { receive: true } if !closed => {
                let piece = pieces.pop_front();
                closed = piece.is_none();
                session.handle(Tick::default(), piece.map_or(Input::PeerClosed, Input::Received));
            }
            Step::Idle { .. } | Step::Compress => unreachable!("it neither goes on nor ends"),
        }
    }
    unreachable!("it never rests")
}

/// No bare CR and no bare LF, unless chunks are counted.
fn whole_lines(sent: &[u8], steer: [u8; 8]) {
    if usize::from(steer[5]) % 3 == 2 {
        return;
    }
    let before = |at: usize| at.checked_sub(1).and_then(|at| sent.get(at));
    for (at, octet) in sent.iter().enumerate() {
        match octet {
            b'\n' => assert_eq!(before(at), Some(&b'\r'), "a bare LF"),
            b'\r' => assert_eq!(sent.get(at + 1), Some(&b'\n'), "a bare CR"),
            _ => {}
        }
    }
}
