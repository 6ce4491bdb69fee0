//! Our half of the milter protocol against a filter that says anything.

use bytes::Bytes;
use rockdove_mail::header;
use rockdove_milter::{Actions, CHANGES_MAX, Failure, Judgement, Recipient, Session, Step, Subject, rewrite};

use crate::converse::{Cuts, split};

/// Steps of a conversation before it counts as one that never rests.
const STEPS_MAX: usize = 100_000;
const HEADER: &[u8] = b"  odd\r\nSubject: x\r\n\ty\r\nno field\r\nTo:a\r\nX-A: \r\n";

/// Whatever a filter says, however it is cut: the same end, whole packets, and a header that stays one.
pub fn milter(data: &[u8]) {
    let Some((steer, said)) = split(data) else { return };
    let mut ends = Vec::new();
    for cuts in Cuts::all(u64::from_le_bytes(steer)) {
        ends.push(converse(steer, said, cuts));
    }
    assert!(ends.windows(2).all(|two| two[0] == two[1]), "the cuts of what came in change the outcome");
}

fn subject(steer: [u8; 8]) -> Subject {
    let recipient = |number: u8| Recipient { address: format!("r{number}@a.example"), parameters: Vec::new() };
    Subject {
        hostname: "mail.example".to_owned(),
        daemon_name: "smtp".to_owned(),
        peer: (steer[0] & 1 == 1).then(|| "192.0.2.7:25".parse().expect("an address")),
        peer_name: None,
        helo: "client\0.example".to_owned(),
        tls: None,
        login: None,
        id: "id".to_owned(),
        reverse_path: String::new(),
        parameters: Vec::new(),
        recipients: (0..=steer[1] % 3).map(recipient).collect(),
        octets: Bytes::from([HEADER, b"\r\nbody\r\n"].concat()),
        actions: Actions(u32::from(steer[2]) & 0x3d),
    }
}

/// How it ended; `None` when the filter said too little.
fn converse(steer: [u8; 8], said: &[u8], cuts: Cuts) -> Option<Result<Judgement, Failure>> {
    let mut session = Session::new(subject(steer));
    let (mut pieces, mut sent) = (cuts.pieces(said), Vec::new());
    for _ in 0..STEPS_MAX {
        match session.poll() {
            Step::Send(octets) => sent.extend_from_slice(&octets),
            Step::Receive => session.received(&pieces.pop_front()?),
            Step::Done(end) => {
                whole_packets(&sent);
                if let Ok(judgement) = &end {
                    assert!(judgement.changes.len() <= CHANGES_MAX);
                    let changed = rewrite(HEADER, &judgement.changes);
                    let fields: usize = header::iter(&changed).map(|field| field.raw.len()).sum();
                    assert_eq!(fields, changed.len(), "the header ends too early");
                }
                return Some(end);
            }
        }
    }
    unreachable!("it never rests")
}

fn whole_packets(mut sent: &[u8]) {
    while let Some((length, rest)) = sent.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        assert!(length > 0 && rest.len() >= length, "a packet that is cut off");
        sent = &rest[length..];
    }
    assert!(sent.is_empty());
}
