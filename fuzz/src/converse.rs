//! One conversation between a stranger's bytes and a session, with a scripted host.

use std::collections::VecDeque;

use bytes::Bytes;
use rockdove_mail::{AskId, Input, Session, Step, Tick, TlsFacts};

/// Steps that a session may take for one input, and for each octet of it, before it counts as one that never rests.
const STEPS_MAX: usize = 10_000;

/// A small source of numbers that look random.
#[derive(Clone, Copy)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// How what the stranger sends is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cuts {
    /// Not at all.
    Whole,
    /// After every octet.
    Single,
    /// By chance.
    Random(u64),
}

impl Cuts {
    pub(crate) fn all(seed: u64) -> [Self; 3] {
        [Self::Whole, Self::Single, Self::Random(seed)]
    }

    pub(crate) fn pieces(self, input: &[u8]) -> VecDeque<Bytes> {
        let mut dice = Dice::new(if let Self::Random(seed) = self { seed } else { 0 });
        let (mut pieces, mut rest) = (VecDeque::new(), input);
        while !rest.is_empty() {
            let length = match self {
                Self::Whole => rest.len(),
                Self::Single => 1,
                Self::Random(_) => usize::try_from(1 + dice.below(40)).unwrap_or(1).min(rest.len()),
            };
            let (now, later) = rest.split_at(length);
            pieces.push_back(Bytes::copy_from_slice(now));
            rest = later;
        }
        pieces
    }
}

/// Splits what a fuzzer gives into what steers and what is sent.
pub(crate) fn split(data: &[u8]) -> Option<([u8; 8], &[u8])> {
    let (steer, sent) = data.split_first_chunk::<8>()?;
    Some((*steer, sent))
}

/// What a host hears of a conversation.
pub(crate) enum Event<Q> {
    /// A question.
    Asked(Q),
    /// Before the last question is answered: what about the oldest one that was left open?
    LeftOpen,
    /// From here on the conversation runs over TLS.
    Secured {
        /// Bytes sent in clear that the session has not been given were lost.
        lost: bool,
    },
}

/// Lets a stranger send `input` and close; returns everything the session sent. The host answers each question at once.
/// When TLS is begun, what the stranger has not sent yet is lost, as it came in clear, and the conversation ends.
pub(crate) fn converse<S: Session>(
    session: S,
    input: &[u8],
    cuts: Cuts,
    mut answer: impl FnMut(S::Ask) -> Option<S::Answer>,
) -> Vec<u8> {
    converse_secured(session, [input, &[]], cuts, |event| match event {
        Event::Asked(ask) => answer(ask),
        Event::LeftOpen | Event::Secured { .. } => None,
    })
}

/// As [`converse`], with what the stranger sends in clear and what it sends when TLS is begun.
pub(crate) fn converse_secured<S: Session>(
    mut session: S,
    [clear, secured]: [&[u8]; 2],
    cuts: Cuts,
    mut host: impl FnMut(Event<S::Ask>) -> Option<S::Answer>,
) -> Vec<u8> {
    let steps_max = STEPS_MAX * (clear.len() + secured.len() + 10);
    let mut pieces = cuts.pieces(clear);
    let mut sent = Vec::new();
    let mut unanswered: VecDeque<AskId> = VecDeque::new();
    let mut due: VecDeque<(AskId, S::Answer)> = VecDeque::new();
    let (mut steps, mut peer_closed) = (0_usize, false);
    loop {
        steps += 1;
        assert!(steps < steps_max, "the session never comes to rest");
        match session.poll() {
            Step::Send(bytes) => {
                assert!(!bytes.iter().all(Bytes::is_empty), "an empty send");
                sent.extend(bytes.concat());
                session.handle(Tick::default(), Input::Flushed);
            }
            Step::Ask(id, ask) => {
                let answer = host(Event::Asked(ask));
                let late = if unanswered.is_empty() { None } else { host(Event::LeftOpen) };
                if let (Some(first), Some(late)) = (unanswered.front().copied(), late) {
                    unanswered.pop_front();
                    due.push_back((first, late));
                }
                match answer {
                    Some(answer) if due.is_empty() => session.handle(Tick::default(), Input::Answered(id, answer)),
                    Some(answer) => due.push_back((id, answer)),
                    None => unanswered.push_back(id),
                }
            }
            Step::Idle { .. } if !due.is_empty() => {
                if let Some((id, answer)) = due.pop_front() {
                    session.handle(Tick::default(), Input::Answered(id, answer));
                }
            }
            Step::StartTls => {
                let lost = !pieces.is_empty();
                pieces = cuts.pieces(secured);
                host(Event::Secured { lost });
                session.handle(Tick::default(), Input::TlsReady(TlsFacts::default()));
            }
            // What follows would be compressed.
            Step::Compress => pieces.clear(),
            Step::Close => return sent,
            Step::Idle { receive } => {
                assert!(receive || !unanswered.is_empty(), "the session waits for nothing");
                match pieces.pop_front() {
                    Some(piece) => session.handle(Tick::default(), Input::Received(piece)),
                    None if peer_closed => {
                        // It has been told that nobody is there any more; time does the rest.
                        let deadline = session.deadline().expect("a session that lingers has a deadline");
                        session.handle(deadline, Input::DeadlinePassed);
                    }
                    None => {
                        peer_closed = true;
                        session.handle(Tick::default(), Input::PeerClosed);
                    }
                }
            }
        }
    }
}

/// Runs a conversation in every cut; the outcome must be the same.
pub(crate) fn same_in_every_cut<T: PartialEq + std::fmt::Debug>(seed: u64, run: impl Fn(Cuts) -> T) -> T {
    let whole = run(Cuts::Whole);
    for cuts in Cuts::all(seed) {
        let other = run(cuts);
        assert!(other == whole, "{cuts:?} changes the outcome:\n{other:?}\nbut whole:\n{whole:?}");
    }
    whole
}
