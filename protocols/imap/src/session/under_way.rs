//! APPENDs whose messages have come and are not durable yet: the next one may come meanwhile, so that a client that does
//! not wait for each answer (RFC 9051 section 5.5) has many of them made durable by one sync.

use std::collections::VecDeque;

use rockdove_mail::AskId;

use super::{Doing, ImapSession};
use crate::{
    ask::{Answer, Refusal},
    grammar::{Frame, write},
    limits::{APPENDS_UNDER_WAY_MAX, APPENDS_UNDER_WAY_OCTETS_MAX},
};

/// What is under way, in the order of the commands. There is none without an APPEND.
#[derive(Default)]
pub(super) struct UnderWay {
    appends: VecDeque<UnderWayAppend>,
    /// Octets of their messages.
    octets: u64,
    /// The next frame, which is not an APPEND: it waits until nothing is under way.
    next: Option<Frame>,
}

struct UnderWayAppend {
    id: AskId,
    tag: String,
    octets: u64,
    /// Text of the tagged response, once it is known.
    answer: Option<String>,
}

impl UnderWay {
    fn is_full(&self) -> bool {
        self.appends.len() >= APPENDS_UNDER_WAY_MAX || self.octets >= APPENDS_UNDER_WAY_OCTETS_MAX
    }

    /// The first, when it is answered: its tag and the text.
    fn take_answered(&mut self) -> Option<(String, String)> {
        let answered = self.appends.pop_front_if(|append| append.answer.is_some())?;
        self.octets = self.octets.saturating_sub(answered.octets);
        Some((answered.tag, answered.answer?))
    }
}

impl ImapSession {
    /// The message of the command in progress has come; `id` asks that it be stored.
    pub(super) fn append_under_way(&mut self, id: AskId, octets: u64) {
        let tag = std::mem::take(&mut self.tag);
        let under_way = self.under_way.get_or_insert_default();
        under_way.octets = under_way.octets.saturating_add(octets);
        under_way.appends.push_back(UnderWayAppend { id, tag, octets, answer: None });
        self.doing = Doing::Commands;
    }

    /// Whether an APPEND is not answered yet.
    pub(super) fn appends_wait(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| !under_way.appends.is_empty())
    }

    /// The next frame that may be looked at: while APPENDs are under way another one, otherwise any.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        if !self.appends_wait() {
            let held_back = self.under_way.take().and_then(|under_way| under_way.next);
            return held_back.or_else(|| self.frames.next());
        }
        let under_way = self.under_way.as_mut()?;
        if under_way.is_full() || under_way.next.is_some() {
            return None;
        }
        let frame = self.frames.next()?;
        if matches!(frame, Frame::Append { .. }) {
            return Some(frame);
        }
        under_way.next = Some(frame);
        None
    }

    /// Notes the answer, if it is for one of them, and tells the client what can be told: in the order of the commands.
    pub(super) fn append_answered(&mut self, id: AskId, answer: &Answer) -> bool {
        let Some(under_way) = &mut self.under_way else { return false };
        let Some(append) = under_way.appends.iter_mut().find(|append| append.id == id) else { return false };
        append.answer = Some(text(answer));
        if let Answer::Appended { uid_validity, uids } = answer {
            self.note_own(*uid_validity, uids);
        }
        while let Some((tag, text)) = self.under_way.as_mut().and_then(|under_way| under_way.take_answered()) {
            let current = std::mem::replace(&mut self.tag, tag);
            if self.appends_wait() || !matches!(self.doing, Doing::Commands) {
                self.tagged(&text);
                self.tag = current;
            } else {
                // With the last one the client hears what has changed.
                self.complete(text);
            }
        }
        true
    }
}

/// What is said about a message that was to be stored.
fn text(answer: &Answer) -> String {
    match answer {
        Answer::Appended { uid_validity, uids } => {
            let mut set = Vec::new();
            write::uid_set(&mut set, uids);
            format!("OK [APPENDUID {uid_validity} {}] stored", String::from_utf8_lossy(&set))
        }
        Answer::Refused(refusal) => refusal.text(true),
        _ => Refusal::TryLater.text(true),
    }
}
