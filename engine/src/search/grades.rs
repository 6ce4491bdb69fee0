//! Fuzzy questions to the texts: the lists of words tell how well each message has the words of a needle, and the pages
//! where there is no list.

use std::ops::ControlFlow;

use bytes::Bytes;
use rockdove_mail::search::SearchField;

use super::{
    block::{Hits, Ordinals, Words},
    column::Column,
    fuzzy::{GRADES, Says, Scope, Terms, is_found, weight},
    lookup::{FEW, Index, Verdicts},
    page::Stored,
    reach::{Area, SEGMENT},
};
use crate::{
    command::EngineError,
    kv::{Family, keys},
};

/// The grades of some messages.
pub(super) struct Board {
    /// Ascending.
    messages: Vec<u32>,
    /// As many for each message as there are terms.
    grades: Vec<u16>,
    terms: usize,
    /// The texts do not tell.
    open: Vec<bool>,
}

impl Board {
    fn new(messages: Vec<u32>, terms: usize, open: bool) -> Self {
        let (grades, open) = (vec![0; messages.len() * terms], vec![open; messages.len()]);
        Self { messages, grades, terms, open }
    }

    /// About none of the messages (ascending) is anything known.
    pub(super) fn unknown(messages: Vec<u32>, terms: usize) -> Self {
        Self::new(messages, terms, true)
    }

    fn place(&self, message: u32) -> Option<usize> {
        self.messages.binary_search(&message).ok()
    }

    fn at(&self, place: usize) -> &[u16] {
        self.grades.get(place * self.terms..(place + 1) * self.terms).unwrap_or_default()
    }

    /// The grades of a message, one for each term.
    pub(super) fn of(&self, message: u32) -> &[u16] {
        self.place(message).map_or(&[], |place| self.at(place))
    }

    pub(super) fn still_open(&self) -> Vec<u32> {
        self.messages.iter().zip(&self.open).filter(|(_, open)| **open).map(|(message, _)| *message).collect()
    }

    pub(super) fn set(&mut self, message: u32, grades: &[u16]) {
        if let Some(place) = self.place(message) {
            self.open[place] = false;
            self.grades[place * self.terms..(place + 1) * self.terms].copy_from_slice(grades);
        }
    }

    fn give_up(&mut self, message: u32) {
        if let Some(place) = self.place(message) {
            self.open[place] = true;
        }
    }

    fn raise(&mut self, message: u32, term: usize, grade: u16) {
        if let Some(place) = self.place(message) {
            let known = &mut self.grades[place * self.terms + term];
            *known = grade.max(*known);
        }
    }
}

/// What is asked of one area.
struct Asked<'a> {
    area: Area,
    scope: &'a Scope,
    terms: &'a Terms,
    /// Ascending.
    wanted: &'a [u32],
}

/// Words of a block that say something about one term.
struct TermHits {
    /// By grade.
    words: [Hits; GRADES.len()],
    /// By piece.
    pieces: Vec<Hits>,
}

impl Index<'_> {
    /// Which of the messages `wanted` (ascending) are found fuzzily by a folded needle that has words.
    pub(crate) fn ask_fuzzily(
        &self,
        field: &SearchField,
        needle: &str,
        wanted: &[u32],
    ) -> Result<Verdicts, EngineError> {
        let Some(terms) = Terms::new(needle) else { return Ok(Verdicts::default()) };
        let board = self.grades(field, &terms, wanted)?;
        let mut verdicts = Verdicts { yes: Vec::new(), open: board.still_open() };
        for (place, message) in board.messages.iter().enumerate() {
            if !board.open[place] && is_found(board.at(place)) {
                verdicts.yes.push(*message);
            }
        }
        Ok(verdicts)
    }

    /// The grades of the messages `wanted` (ascending), as far as the texts tell.
    pub(super) fn grades(&self, field: &SearchField, terms: &Terms, wanted: &[u32]) -> Result<Board, EngineError> {
        let mut board = Board::new(wanted.to_vec(), terms.count(), false);
        let inside: Vec<u32> = wanted.iter().copied().filter(|message| self.keeps(*message)).collect();
        for message in wanted.iter().filter(|message| !self.keeps(**message)) {
            board.give_up(*message);
        }
        let scope = Scope::of(field);
        let mut rest = &inside[..];
        while let Some(first) = rest.first() {
            let area = self.reach.area(*first);
            let end = area.start().saturating_add(area.span);
            let (these, others) = rest.split_at(rest.partition_point(|message| *message < end));
            rest = others;
            let asked = Asked { area, scope: &scope, terms, wanted: these };
            for column in &scope.columns {
                self.grade_column(&asked, *column, &mut board)?;
            }
        }
        Ok(board)
    }

    fn grade_column(&self, asked: &Asked<'_>, column: Column, board: &mut Board) -> Result<(), EngineError> {
        // Lists of words do not say which field of those in one column a word is of.
        if let Some(tier) = asked.area.tier
            && asked.scope.name.is_none()
            && asked.wanted.len() > FEW
            && self.grade_by_words(asked, (column, tier), board)?.is_some()
        {
            return Ok(());
        }
        self.grade_by_pages(asked, column, board)
    }

    /// `None` when the block is damaged.
    fn grade_by_words(
        &self,
        asked: &Asked<'_>,
        (column, tier): (Column, u8),
        board: &mut Board,
    ) -> Result<Option<()>, EngineError> {
        let area = asked.area;
        let row = self.read.get(Family::Text, &keys::text_words(self.account, column.number(), tier, area.number))?;
        // No message of the block has words here.
        let Some(row) = row else { return Ok(Some(())) };
        let Some(words) = Words::decode(&row) else { return Ok(None) };
        let Some(hits) = hits_of(&words, asked.terms) else { return Ok(None) };
        let mut chunk = |number: u32| -> Result<Option<Bytes>, EngineError> {
            let key = keys::text_postings(self.account, column.number(), tier, area.number, number);
            Ok(self.read.get(Family::Text, &key)?)
        };
        let mut messages_of = |hits: &Hits| -> Result<Option<Ordinals>, EngineError> {
            let mut messages = Ordinals::new(area.span);
            Ok(words.unite(hits, &mut messages, &mut chunk)?.map(|()| messages))
        };
        let mut found: Vec<(usize, u16, Ordinals)> = Vec::new();
        for (term, hits) in hits.iter().enumerate() {
            for (grade, hits) in GRADES.into_iter().zip(&hits.words) {
                let Some(messages) = messages_of(hits)? else { return Ok(None) };
                found.push((term, grade, messages));
            }
            let mut with_all: Option<Ordinals> = None;
            for hits in &hits.pieces {
                let Some(messages) = messages_of(hits)? else { return Ok(None) };
                match &mut with_all {
                    Some(all) => all.intersect(&messages),
                    None => with_all = Some(messages),
                }
            }
            found.extend(with_all.map(|messages| (term, super::fuzzy::INSIDE, messages)));
        }
        for (term, grade, messages) in &found {
            for message in asked.wanted.iter().filter(|message| messages.has(**message - area.start())) {
                board.raise(*message, *term, grade * weight(column));
            }
        }
        Ok(Some(()))
    }

    fn grade_by_pages(&self, asked: &Asked<'_>, column: Column, board: &mut Board) -> Result<(), EngineError> {
        let wanted = |message: &u32| asked.wanted.binary_search(message).is_ok();
        for segment in asked.wanted.chunk_by(|a, b| b / SEGMENT - a / SEGMENT <= 1) {
            let (Some(first), Some(last)) = (segment.first(), segment.last()) else { continue };
            // Pages do not reach from one segment into the next.
            let from = keys::text_page(self.account, column.number(), first / SEGMENT * SEGMENT);
            let to = keys::text_page(self.account, column.number(), last.saturating_add(1));
            let mut readable = true;
            self.read.scan(Family::Text, &from, &to, &mut |_, row| {
                let looked = Stored::decode(row).and_then(|page| {
                    if page.messages.iter().any(|(message, _)| wanted(message)) {
                        let text = page.text()?;
                        for (message, slice) in page.texts(text).filter(|(message, _)| wanted(message)) {
                            let mut grades = vec![0; asked.terms.count()];
                            asked.terms.look_at(asked.scope, column, slice, &mut grades);
                            for (term, grade) in grades.iter().enumerate() {
                                board.raise(message, term, *grade);
                            }
                        }
                    }
                    Some(())
                });
                readable = looked.is_some();
                if readable { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if !readable {
                for message in segment {
                    board.give_up(*message);
                }
            }
        }
        Ok(())
    }
}

/// The words of a block that say something about each term; `None` when the block is damaged.
fn hits_of(words: &Words<'_>, terms: &Terms) -> Option<Vec<TermHits>> {
    let none = |pieces: usize| TermHits { words: Default::default(), pieces: vec![Hits::new(); pieces] };
    let mut hits: Vec<TermHits> = terms.pieces().map(none).collect();
    words.each_place(&mut |word, place| {
        terms.compare(word, &mut |says| match says {
            Says::Grade(term, grade) => {
                if let Some(at) = GRADES.iter().position(|known| *known == grade) {
                    hits[term].words[at].push(place);
                }
            }
            Says::Piece(term, piece) => hits[term].pieces[piece].push(place),
        });
    })?;
    Some(hits)
}
