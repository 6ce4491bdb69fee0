//! Asking the texts: words first, then the pages of those messages about which words do not tell.

use std::{collections::BTreeSet, ops::ControlFlow};

use bytes::Bytes;
use rockdove_mail::search::SearchField;

use super::{
    block::{Hits, Ordinals, Words},
    column::{Column, Target, target},
    page::Stored,
    reach::{Area, Reach, SEGMENT},
    words::{Lookups, lookups},
};
use crate::{
    command::EngineError,
    kv::{Family, Read, keys},
};

/// So few messages are looked at one by one, without the words.
pub(super) const FEW: usize = 16;

/// What the texts say about some messages; those in neither list do not match.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    /// They match. Ascending.
    pub(crate) yes: Vec<u32>,
    /// Their text is not kept, or cannot be read. Ascending.
    pub(crate) open: Vec<u32>,
}

/// The texts of an account at one moment.
pub(crate) struct Index<'a> {
    pub(super) read: &'a dyn Read,
    pub(super) account: u32,
    pub(super) reach: Reach,
    left_out: BTreeSet<u32>,
}

/// What the words of a block say.
struct Candidates {
    sure: Ordinals,
    maybe: Ordinals,
}

/// One question, and what is known so far about the messages of one area.
struct Question<'a> {
    area: Area,
    target: &'a Target<'a>,
    lookups: Option<&'a Lookups>,
    needle: &'a str,
    undecided: Ordinals,
    yes: Ordinals,
    open: Ordinals,
}

impl Question<'_> {
    fn settle(&mut self, yes: &Ordinals) {
        let mut yes = yes.clone();
        yes.intersect(&self.undecided);
        self.yes.unite(&yes);
        self.undecided.subtract(&yes);
    }

    fn give_up(&mut self, open: &Ordinals) {
        let mut open = open.clone();
        open.intersect(&self.undecided);
        self.open.unite(&open);
        self.undecided.subtract(&open);
    }
}

impl<'a> Index<'a> {
    /// `None` when the account has no texts that this version can use.
    pub(crate) fn open(read: &'a dyn Read, account: u32) -> Result<Option<Self>, EngineError> {
        let Some(reach) = Reach::load(read, account)? else { return Ok(None) };
        let left_out = listed(read, account, keys::TEXT_LEFT_OUT, usize::MAX)?;
        Ok(Some(Self { read, account, reach, left_out }))
    }

    /// Whether the text of a message is kept.
    pub(super) fn keeps(&self, message: u32) -> bool {
        message < self.reach.next && !self.left_out.contains(&message)
    }

    /// Which of the messages `wanted` (ascending) have a folded needle in a field.
    pub(crate) fn ask(&self, field: &SearchField, needle: &str, wanted: &[u32]) -> Result<Verdicts, EngineError> {
        let mut verdicts = Verdicts::default();
        let Some(target) = target(field, needle) else { return Ok(verdicts) };
        let kept = |message: &u32| self.keeps(*message);
        let (inside, open): (Vec<u32>, Vec<u32>) = wanted.iter().partition(|message| kept(message));
        verdicts.open = open;
        if needle.is_empty() && matches!(field, SearchField::Body | SearchField::Text) {
            verdicts.yes = inside;
            return Ok(verdicts);
        }
        let by_name = || match field {
            SearchField::Header(name) if !target.by_column => lookups(&format!("{}: ", name.to_ascii_lowercase())),
            _ => None,
        };
        let lookups = lookups(needle).or_else(by_name);
        let mut rest = &inside[..];
        while let Some(first) = rest.first() {
            let area = self.reach.area(*first);
            let end = area.start().saturating_add(area.span);
            let (these, others) = rest.split_at(rest.partition_point(|message| *message < end));
            rest = others;
            let mut undecided = Ordinals::new(area.span);
            for message in these {
                undecided.insert(message - area.start());
            }
            let none = Ordinals::new(area.span);
            let (target, lookups) = (&target, lookups.as_ref());
            let (yes, open) = (none.clone(), none);
            let mut question = Question { area, target, lookups, needle, undecided, yes, open };
            self.answer(&mut question)?;
            verdicts.yes.extend(question.yes.iter().map(|ordinal| area.start() + ordinal));
            verdicts.open.extend(question.open.iter().map(|ordinal| area.start() + ordinal));
        }
        verdicts.open.sort_unstable();
        Ok(verdicts)
    }

    fn answer(&self, question: &mut Question<'_>) -> Result<(), EngineError> {
        for column in &question.target.columns {
            let few = question.undecided.iter().nth(FEW).is_none();
            let in_names = matches!(question.target.pattern, super::page::Pattern::Anywhere(_))
                && column.prefix_meets(question.needle);
            let mut maybe = question.undecided.clone();
            if let (Some(lookups), false, Some(tier)) = (question.lookups, few || in_names, question.area.tier)
                && let Some(found) = self.candidates(question, (*column, tier), lookups)?
            {
                if question.target.by_column {
                    question.settle(&found.sure);
                } else {
                    maybe.intersect(&found.sure);
                    self.verify(question, *column, &maybe)?;
                    maybe = question.undecided.clone();
                }
                maybe.intersect(&found.maybe);
                maybe.intersect(&question.undecided);
            }
            self.verify(question, *column, &maybe)?;
        }
        Ok(())
    }

    /// `None` when the block is damaged.
    fn candidates(
        &self,
        question: &Question<'_>,
        (column, tier): (Column, u8),
        lookups: &Lookups,
    ) -> Result<Option<Candidates>, EngineError> {
        let (area, column) = (question.area, column.number());
        let none = Ordinals::new(area.span);
        let mut found = Candidates { sure: none.clone(), maybe: none.clone() };
        let key = keys::text_words(self.account, column, tier, area.number);
        let Some(row) = self.read.get(Family::Text, &key)? else { return Ok(Some(found)) };
        let Some(words) = Words::decode(&row) else { return Ok(None) };
        let mut chunk = |number: u32| -> Result<Option<Bytes>, EngineError> {
            let key = keys::text_postings(self.account, column, tier, area.number, number);
            Ok(self.read.get(Family::Text, &key)?)
        };
        let mut messages_of = |hits: Option<Hits>| -> Result<Option<Ordinals>, EngineError> {
            let Some(hits) = hits else { return Ok(None) };
            let mut messages = Ordinals::new(area.span);
            Ok(words.unite(&hits, &mut messages, &mut chunk)?.map(|()| messages))
        };
        let mut all = question.undecided.clone();
        for lookup in &lookups.all {
            let Some(mut in_words) = messages_of(words.find(&lookup.word, false))? else { return Ok(None) };
            let mut in_pieces = question.undecided.clone();
            for piece in &lookup.pieces {
                if !in_pieces.is_empty() {
                    let Some(messages) = messages_of(words.find(piece, true))? else { return Ok(None) };
                    in_pieces.intersect(&messages);
                }
            }
            if lookups.single {
                found.sure = in_words.clone();
                if lookup.pieces_are_exact {
                    found.sure.unite(&in_pieces);
                }
            }
            in_words.unite(&in_pieces);
            all.intersect(&in_words);
        }
        all.subtract(&found.sure);
        found.maybe = all;
        Ok(Some(found))
    }

    /// Looks at the texts themselves.
    fn verify(&self, question: &mut Question<'_>, column: Column, these: &Ordinals) -> Result<(), EngineError> {
        let start = question.area.start();
        let messages: Vec<u32> = these.iter().map(|ordinal| start + ordinal).collect();
        for segment in messages.chunk_by(|a, b| b / SEGMENT - a / SEGMENT <= 1) {
            let (Some(first), Some(last)) = (segment.first(), segment.last()) else { continue };
            // Pages do not reach from one segment into the next.
            let from = keys::text_page(self.account, column.number(), first / SEGMENT * SEGMENT);
            let to = keys::text_page(self.account, column.number(), last.saturating_add(1));
            let mut yes = Ordinals::new(question.area.span);
            let mut readable = true;
            self.read.scan(Family::Text, &from, &to, &mut |_, row| {
                readable &= look_at(row, question.target, start, these, &mut yes).is_some();
                if readable { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            question.settle(&yes);
            if !readable {
                let mut open = Ordinals::new(question.area.span);
                for message in segment {
                    open.insert(message - start);
                }
                question.give_up(&open);
            }
        }
        Ok(())
    }
}

/// Looks at a page for the messages `these`; `None` when it is damaged.
fn look_at(row: &[u8], target: &Target<'_>, start: u32, these: &Ordinals, yes: &mut Ordinals) -> Option<()> {
    let page = Stored::decode(row)?;
    let wanted = |message: u32| message.checked_sub(start).filter(|ordinal| these.has(*ordinal));
    if !page.messages.iter().any(|(message, _)| wanted(*message).is_some()) {
        return Some(());
    }
    let text = page.text()?;
    for (message, slice) in page.texts(text) {
        if let Some(ordinal) = wanted(message)
            && target.pattern.is_in(slice)
        {
            yes.insert(ordinal);
        }
    }
    Some(())
}

/// Messages that have a row of this kind; up to `limit` of them.
pub(super) fn listed(read: &dyn Read, account: u32, kind: u8, limit: usize) -> Result<BTreeSet<u32>, EngineError> {
    let prefix = keys::text_kind(account, kind);
    let mut found = BTreeSet::new();
    read.scan(Family::Text, &prefix, &keys::prefix_end(&prefix), &mut |key, _| {
        found.extend(keys::KeyReader::new(key.get(prefix.len()..).unwrap_or_default()).u32());
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}
