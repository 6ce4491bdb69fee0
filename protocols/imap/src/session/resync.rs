//! Quick resynchronisation (RFC 7162 section 3.2): who has gone and what has changed since the client was here.

use rockdove_mail::{ModSeq, Uid, UidSet};

use super::{
    Doing, ImapSession,
    fetch::Fetching,
    purpose::{After, Purpose},
    select::highest,
};
use crate::{
    ask::Ask,
    command::Resync,
    fetch::{FetchItem, FetchRequest},
    grammar::write,
    limits::NUMBERS_PIECE_MAX,
    numbers::Numbers,
};

/// VANISHED (EARLIER) and the FETCH that follows it.
pub(super) struct Vanishing {
    /// What the client asks about; then who has gone of it.
    uids: UidSet,
    /// The responses up to this one are written.
    next: Uid,
    then: Box<Fetching>,
}

impl Vanishing {
    /// Whether a SELECT is not over yet.
    pub(super) fn is_selecting(&self) -> bool {
        matches!(self.then.after, After::Selected(_))
    }
}

/// What the client may have to be told of: the UIDs that it knows, behind the last message of which it is sure.
///
//= rfc7162#section-3.2.5.2
//# Thus, if the Nth message number in the first set in the list is 4,
//# and the Nth UID in the second set in the list is 8, and the mailbox's
//# fourth message has UID 8, then no UIDs equal to or less than 8 are
//# present in the VANISHED response.
fn unsure(resync: &Resync, known: &UidSet, numbers: &Numbers) -> UidSet {
    let Some((at, uids)) = &resync.matching else { return known.clone() };
    let mut sure = 0;
    let (at, uids) = (at.uid_set(None), uids.uid_set(None));
    let pairs = each(&at, numbers.exists()).zip(each(&uids, Uid::MAX));
    for (number, uid) in pairs {
        if numbers.uid(number) == Some(uid) {
            sure = uid;
        }
    }
    known.intersection(&UidSet::range(sure.saturating_add(1), Uid::MAX))
}

/// The numbers of a set up to a limit: no more steps than there are messages.
fn each(set: &UidSet, most: u32) -> impl Iterator<Item = u32> + '_ {
    set.ranges().iter().flat_map(|(first, last)| *first..=*last).take_while(move |number| *number <= most)
}

impl ImapSession {
    /// The mailbox is open; the client was here before.
    pub(super) fn resynchronise(&mut self, resync: &Resync, uid_next: Uid, text: &'static str) {
        let Some(open) = self.open() else { return };
        //= rfc7162#section-3.2.5.1
        //# If the
        //# client did not provide the list of UIDs, the server acts as if the
        //# client has specified "1:<maxuid>", where <maxuid> is the mailbox's
        //# UIDNEXT value minus 1.
        let known = match &resync.known {
            Some(set) => set.uid_set(None),
            None if uid_next > 1 => UidSet::range(1, uid_next.saturating_sub(1)),
            None => UidSet::new(),
        };
        let items = vec![FetchItem::Uid, FetchItem::Flags, FetchItem::ModSeq];
        let request = FetchRequest { items, news: None };
        let uids = known.intersection(open.numbers.uids());
        let within = unsure(resync, &known, &open.numbers);
        let mut fetching = Box::new(Fetching::new(uids, request, After::Selected(text)));
        fetching.changed_since = Some(resync.modseq);
        self.ask_vanished(within, fetching);
    }

    /// Tells who has gone of `within` since the mod-sequence of the FETCH, then fetches.
    pub(super) fn ask_vanished(&mut self, within: UidSet, then: Box<Fetching>) {
        let since = then.changed_since.unwrap_or_default();
        self.ask(Ask::Vanished { since }, Purpose::Vanished(Box::new(Vanishing { uids: within, next: 0, then })));
    }

    pub(super) fn vanished(&mut self, mut vanishing: Box<Vanishing>, gone: &UidSet) {
        let Some(open) = self.open() else { return };
        // A message that still has a number is told of when it loses it.
        vanishing.uids = gone.intersection(&vanishing.uids).difference(open.numbers.uids());
        self.doing = Doing::Vanishing(vanishing);
    }

    pub(super) fn tell_vanished(&mut self, mut vanishing: Box<Vanishing>) {
        match self.write_vanished("VANISHED (EARLIER) ", &vanishing.uids, vanishing.next) {
            Some(next) => {
                vanishing.next = next;
                self.doing = Doing::Vanishing(vanishing);
            }
            None => self.begin_fetch(vanishing.then),
        }
    }

    /// Writes one VANISHED response with the UIDs from `first` on; where there are too many for one, it gives back where
    /// the next one begins.
    pub(super) fn write_vanished(&mut self, response: &str, uids: &UidSet, first: Uid) -> Option<Uid> {
        let at = uids.ranges().partition_point(|range| range.1 < first);
        let ranges = uids.ranges().get(at..).unwrap_or_default();
        let now = ranges.get(..NUMBERS_PIECE_MAX).unwrap_or(ranges);
        if now.is_empty() {
            return None;
        }
        let mut piece = UidSet::new();
        for (first, last) in now {
            piece.insert_range(*first, *last);
        }
        self.out.text.extend_from_slice(b"* ");
        self.out.text.extend_from_slice(response.as_bytes());
        write::uid_set(&mut self.out.text, &piece);
        self.out.end_line();
        ranges.get(NUMBERS_PIECE_MAX).map(|range| range.0)
    }

    /// The end of a command that has removed messages; the changes are told.
    ///
    //= rfc7162#section-3.2.7
    //# If at least one message got expunged and QRESYNC was enabled,
    //# the server MUST send the updated per-mailbox modification sequence
    //# using the HIGHESTMODSEQ response code
    pub(super) fn removed(&mut self) {
        match self.open().map(|open| open.highest_modseq) {
            Some(modseq) if self.qresync => self.tagged(&format!("OK [HIGHESTMODSEQ {}] done", highest(modseq))),
            _ => self.tagged("OK done"),
        }
    }

    /// The end of a command whose changes have been told, but for removals that may not be told now.
    //= rfc7162#section-3.2
    //# In particular, this means that if the server
    //# sends MODSEQ FETCH data items while EXPUNGE (or VANISHED) replies
    //# with lower mod-sequences being delayed, the server MUST send the
    //# HIGHESTMODSEQ response code with a lower value than the EXPUNGE's
    //# mod-sequence.
    pub(super) fn tagged_after_news(&mut self, text: &str) {
        let delayed =
            self.open().filter(|open| !open.vanished.is_empty()).map(|open: &_| -> ModSeq { open.told_modseq });
        if let Some(modseq) = delayed.filter(|_| self.condstore) {
            self.untagged(&format!("OK [HIGHESTMODSEQ {}] removals are told later", highest(modseq)));
        }
        self.tagged(text);
    }
}
