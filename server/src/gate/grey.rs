//! Greylisting (RFC 6647): a client that is not known is asked to try again, which senders of junk seldom do.
//!
//! What is remembered: the triple of network, sender and recipient, and how often a network has passed.

use super::{Key, key};
use crate::{config::GreylistSettings, generations::Generations};

/// Triples and networks that are remembered, twice this at most: some 60 octets each. What was not seen for longest goes
/// first.
const SEEN_MAX: usize = 131_072;

/// What is known of a triple or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Seconds since 1970; when the triple was first seen, or last began anew.
    pub(super) first_s: u64,
    /// When it was seen last.
    pub(super) last_s: u64,
    /// How often it has passed.
    pub(super) passes: u32,
}

/// Who is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Triple<'a> {
    pub(super) network: &'a str,
    /// In lower case; empty for `<>`.
    pub(super) sender: &'a str,
    /// In lower case.
    pub(super) recipient: &'a str,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeted {
    /// It passes.
    Pass,
    /// It is to try again after this many seconds.
    Wait(u64),
}

/// Everything that is remembered.
pub(super) struct Greylist(Generations<Key, Seen>);

impl Default for Greylist {
    fn default() -> Self {
        Self(Generations::new(SEEN_MAX))
    }
}

impl Greylist {
    /// Looks at a recipient of a message, and remembers it.
    pub(super) fn look(&mut self, settings: &GreylistSettings, triple: Triple<'_>, now_s: u64) -> Greeted {
        let (remember_s, network) = (settings.remember.ms / 1000, key(&["network", triple.network]));
        let fresh = |seen: &Seen| now_s.saturating_sub(seen.last_s) <= remember_s;
        let known = self.0.get(&network).filter(fresh);
        let passed = known.map_or(0, |seen| seen.passes);
        if settings.passes > 0 && passed >= settings.passes {
            self.note(network, known, now_s, 0);
            return Greeted::Pass;
        }
        let triple = key(&["triple", triple.network, triple.sender, triple.recipient]);
        let before = self.0.get(&triple).filter(fresh).filter(|seen| {
            // A first attempt counts for a while only; what has passed counts as long as it is remembered.
            seen.passes > 0 || now_s.saturating_sub(seen.first_s) <= settings.retry_within.ms / 1000
        });
        let since_s = before.map_or(now_s, |seen| seen.first_s.min(now_s));
        let wait_s = (settings.delay.ms / 1000).saturating_sub(now_s.saturating_sub(since_s));
        if wait_s > 0 && before.is_none_or(|seen| seen.passes == 0) {
            self.note(triple, before, now_s, 0);
            return Greeted::Wait(wait_s);
        }
        // A network has passed when something of it has waited and come again, not for each message that follows.
        if before.is_some_and(|seen| seen.passes == 0) {
            self.note(network, known, now_s, 1);
        }
        self.note(triple, before, now_s, 1);
        Greeted::Pass
    }

    fn note(&mut self, key: Key, before: Option<Seen>, now_s: u64, passes: u32) {
        let before = before.unwrap_or(Seen { first_s: now_s, last_s: now_s, passes: 0 });
        let seen =
            Seen { first_s: before.first_s.min(now_s), last_s: now_s, passes: before.passes.saturating_add(passes) };
        self.0.put(key, seen);
    }

    /// What is remembered, for the file.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Key, &Seen)> {
        self.0.entries()
    }

    /// Something from the file.
    pub(super) fn restore(&mut self, key: Key, seen: Seen) {
        self.0.put(key, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    const DAY: u64 = 86_400;

    fn settings() -> GreylistSettings {
        GreylistSettings { delay: Span::seconds(300), passes: 2, ..GreylistSettings::default() }
    }

    fn triple<'a>(network: &'a str, sender: &'a str) -> Triple<'a> {
        Triple { network, sender, recipient: "ada@here.example" }
    }

    #[test]
    fn who_comes_again_passes() {
        let (settings, mut list) = (settings(), Greylist::default());
        let mut look = |triple, now| list.look(&settings, triple, now);
        let a = triple("192.0.2.0", "a@far.example");
        assert_eq!(look(a, 1_000), Greeted::Wait(300));
        assert_eq!(look(a, 1_100), Greeted::Wait(200), "trying at once does not make it longer");
        assert_eq!(look(triple("198.51.100.0", "a@far.example"), 1_290), Greeted::Wait(300), "another network");
        assert_eq!(look(a, 1_300), Greeted::Pass);
        assert_eq!(look(a, 1_301), Greeted::Pass, "and from then on");
        assert_eq!(look(a, 1_301 + 30 * DAY), Greeted::Pass, "while it is seen");
        assert_eq!(look(a, 1_301 + 67 * DAY), Greeted::Wait(300), "but not for ever");
        let late = triple("203.0.113.0", "late@far.example");
        assert_eq!(look(late, 0), Greeted::Wait(300));
        assert_eq!(look(late, 2 * DAY + 1), Greeted::Wait(300), "too late");
    }

    #[test]
    fn a_network_that_passes_often_waits_no_more() {
        let (settings, mut list) = (settings(), Greylist::default());
        let mut look = |sender, now| list.look(&settings, triple("192.0.2.0", sender), now);
        for sender in ["a@far.example", "b@far.example"] {
            assert_eq!(look(sender, 0), Greeted::Wait(300));
            assert_eq!(look(sender, 400), Greeted::Pass);
            assert_eq!(look(sender, 401), Greeted::Pass);
        }
        assert_eq!(look("c@far.example", 500), Greeted::Pass);
        assert_eq!(look("d@far.example", 500 + 37 * DAY), Greeted::Wait(300), "it is forgotten like anybody else");
    }

    #[test]
    fn without_a_delay_nobody_waits() {
        let settings = GreylistSettings { delay: Span::seconds(0), ..settings() };
        assert_eq!(Greylist::default().look(&settings, triple("x", "y"), 5), Greeted::Pass);
    }
}
