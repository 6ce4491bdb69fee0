//! Fuzzy searching (RFC 6203): words that are alike, and how well a message matches.
//!
//! A text has a needle when, in any order, it has each of the needle's words: whole, inside another one, or with one
//! letter wrong in words of five letters or more, two in words of nine or more. Accents make no difference. What is
//! compared are the words that blocks list; a message that is read is cut in the same way, so both find the same.

use std::borrow::Cow;

use memchr::memmem;
use rockdove_mail::search::{SearchField, SearchKey};

use super::{
    KeptTexts,
    column::{Column, Texts, texts},
    grades::Board,
    lookup::Index,
    page::PIECE,
    scan::{Messages, prepared},
    words::{PIECE_MARK, each_word, pieces, runs},
};
use crate::{
    command::EngineError,
    store::{MessageRecord, segment::Row},
};

/// Words of a needle that are looked for; more say hardly more.
const TERMS_MAX: usize = 16;
/// Pieces of one word of a needle that are looked for: bits of a number.
const PIECES_MAX: usize = 64;
/// Letters of words that may have something wrong: as many octets as an uncut word can have, and what may be missing.
const LETTERS_MAX: usize = 50;

/// How well a word is found, from worst to best.
pub(super) const GRADES: [u16; 4] = [1, 2, 4, 8];
const TWO_WRONG: u16 = GRADES[0];
const ONE_WRONG: u16 = GRADES[1];
/// Inside another word.
pub(super) const INSIDE: u16 = GRADES[2];
const WHOLE: u16 = GRADES[3];

/// How well each word of a needle is found in a message, weighed by where; 0: not at all.
pub(super) type Grades = Vec<u16>;

/// Whether a message matches in which these grades were found.
pub(super) fn is_found(grades: &[u16]) -> bool {
    !grades.contains(&0)
}

/// What a word in this column counts.
pub(super) const fn weight(column: Column) -> u16 {
    match column {
        Column::Subject => 4,
        Column::From | Column::To | Column::Cc | Column::Bcc => 3,
        Column::Body => 2,
        Column::Other => 1,
    }
}

/// One word of a needle.
struct Term {
    plain: String,
    letters: Vec<char>,
    /// Letters that may be wrong.
    slack: usize,
    /// A text with all of these in pieces of long words has the word, as it was written.
    pieces: Vec<Vec<u8>>,
}

/// The words of a needle.
pub(super) struct Terms(Vec<Term>);

/// A word without accents. Folded text is decomposed, so that these stand alone.
fn unaccented(word: &str) -> Cow<'_, str> {
    let is_accent = |letter: char| matches!(letter, '\u{300}'..='\u{36f}');
    if word.is_ascii() || !word.contains(is_accent) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(word.chars().filter(|letter| !is_accent(*letter)).collect())
}

impl Term {
    fn new(run: &str) -> Self {
        let plain = unaccented(run).into_owned();
        let letters: Vec<char> = plain.chars().collect();
        let slack = match letters.len() {
            0..5 => 0,
            5..9 => 1,
            _ => 2,
        };
        let (mut pieces, _) = pieces(run);
        pieces.truncate(PIECES_MAX);
        Self { plain, letters, slack, pieces }
    }

    /// The best grade that a word without accents has; 0: they are not alike.
    fn grade(&self, word: &str) -> u16 {
        if word == self.plain {
            return WHOLE;
        }
        let parts = || word.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if memmem::find(word.as_bytes(), self.plain.as_bytes()).is_some() {
            // Quotes and dashes beyond ASCII are in the words of a text.
            return if parts().any(|part| part == self.plain) { WHOLE } else { INSIDE };
        }
        if self.slack == 0 {
            return 0;
        }
        let nearest = parts().filter_map(|part| distance(&self.letters, part, self.slack)).min();
        nearest.map_or(0, |wrong| if wrong <= 1 { ONE_WRONG } else { TWO_WRONG })
    }
}

/// Letters to be put in, taken out, replaced, or swapped with their neighbour, to make a word of these; `None`: more than
/// `most`.
fn distance(letters: &[char], word: &str, most: usize) -> Option<usize> {
    let least = letters.len().saturating_sub(most);
    if word.len() < least || (word.is_ascii() && word.len() > letters.len() + most) {
        return None;
    }
    let mut other = ['\0'; LETTERS_MAX];
    let mut count = 0;
    for letter in word.chars() {
        *other.get_mut(count)? = letter;
        count += 1;
    }
    let other = &other[..count];
    if letters.len() > LETTERS_MAX || letters.len().abs_diff(count) > most {
        return None;
    }
    let mut rows = [[0_usize; LETTERS_MAX + 1]; 3];
    rows[1] = std::array::from_fn(|column| column);
    for (at, letter) in letters.iter().enumerate() {
        let [before_last, last, row] = &mut rows;
        row[0] = at + 1;
        let mut least = row[0];
        for (column, against) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != against);
            let mut best = replaced.min(last[column + 1] + 1).min(row[column] + 1);
            if at > 0 && column > 0 && other[column - 1] == *letter && letters[at - 1] == *against {
                best = best.min(before_last[column - 1] + 1);
            }
            row[column + 1] = best;
            least = least.min(best);
        }
        if least > most {
            return None;
        }
        rows.rotate_left(1);
    }
    Some(rows[1][count]).filter(|wrong| *wrong <= most)
}

/// What a word of a text says about a needle.
pub(super) enum Says {
    /// The term is found in it, so well.
    Grade(usize, u16),
    /// This piece of the term is in it.
    Piece(usize, usize),
}

impl Terms {
    /// `None` for a folded needle without words.
    pub(super) fn new(needle: &str) -> Option<Self> {
        let mut terms: Vec<Term> = Vec::new();
        for (_, run) in runs(needle.as_bytes()) {
            let term = Term::new(std::str::from_utf8(run).unwrap_or_default());
            if !term.plain.is_empty() && terms.len() < TERMS_MAX && terms.iter().all(|known| known.plain != term.plain)
            {
                terms.push(term);
            }
        }
        (!terms.is_empty()).then_some(Self(terms))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// How many pieces each term has.
    pub(super) fn pieces(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|term| term.pieces.len())
    }

    /// Compares a word, or a piece of one, with all terms.
    pub(super) fn compare(&self, word: &[u8], tell: &mut dyn FnMut(Says)) {
        if let Some(piece) = word.strip_prefix(&[PIECE_MARK]) {
            for (number, term) in self.0.iter().enumerate() {
                for (at, wanted) in term.pieces.iter().enumerate() {
                    if memmem::find(piece, wanted).is_some() {
                        tell(Says::Piece(number, at));
                    }
                }
            }
            return;
        }
        let Ok(word) = std::str::from_utf8(word) else { return };
        let word = unaccented(word);
        for (number, term) in self.0.iter().enumerate() {
            let grade = term.grade(&word);
            if grade > 0 {
                tell(Says::Grade(number, grade));
            }
        }
    }

    /// Raises grades to what the text of a column gives.
    pub(super) fn look_at(&self, scope: &Scope, column: Column, text: &[u8], grades: &mut [u16]) {
        let weight = weight(column);
        let mut found: Vec<u64> = vec![0; self.count()];
        let mut raise = |term: usize, grade: u16| grades[term] = grades[term].max(grade * weight);
        scope.each_value(column, text, &mut |value| {
            each_word(value, &mut |word| {
                self.compare(word, &mut |says| match says {
                    Says::Grade(term, grade) => raise(term, grade),
                    Says::Piece(term, piece) => found[term] |= 1 << piece,
                });
            });
        });
        for (number, (pieces, found)) in self.pieces().zip(found).enumerate() {
            if pieces > 0 && found.count_ones() as usize == pieces {
                raise(number, INSIDE);
            }
        }
    }

    /// The grades of a message whose octets these are.
    fn in_texts(&self, scope: &Scope, texts: &Texts) -> Grades {
        let mut grades = vec![0; self.count()];
        for column in &scope.columns {
            if let Some(text) = texts.get(usize::from(column.number())) {
                self.look_at(scope, *column, text, &mut grades);
            }
        }
        grades
    }

    /// The grades of a message, by reading it; of the header alone where the field is one.
    pub(super) fn in_message(&self, field: &SearchField, octets: &[u8], record: &MessageRecord) -> Grades {
        let scope = Scope::of(field);
        let texts = texts(octets, &record.skeleton(), usize::MAX);
        texts.map_or_else(|| vec![0; self.count()], |texts| self.in_texts(&scope, &texts))
    }
}

/// Where to look.
pub(super) struct Scope {
    pub(super) columns: Vec<Column>,
    /// Only in values of fields that begin with this, name and colon.
    pub(super) name: Option<Vec<u8>>,
}

impl Scope {
    pub(super) fn of(field: &SearchField) -> Self {
        let named = |name: &str| match Column::of_field(name.as_bytes()) {
            Column::Other => {
                Self { columns: vec![Column::Other], name: Some(format!("{}: ", name.to_lowercase()).into_bytes()) }
            }
            column => Self { columns: vec![column], name: None },
        };
        match field {
            SearchField::From => named("from"),
            SearchField::To => named("to"),
            SearchField::Cc => named("cc"),
            SearchField::Bcc => named("bcc"),
            SearchField::Subject => named("subject"),
            SearchField::Header(name) => named(name),
            SearchField::Body => Self { columns: vec![Column::Body], name: None },
            SearchField::Text => Self { columns: Column::ALL.to_vec(), name: None },
        }
    }

    fn each_value(&self, column: Column, text: &[u8], tell: &mut dyn FnMut(&[u8])) {
        match &self.name {
            None => column.values(text).for_each(tell),
            Some(name) => {
                text.split(|octet| *octet == PIECE).filter_map(|piece| piece.strip_prefix(&name[..])).for_each(tell);
            }
        }
    }
}

/// The fuzzy conditions that a message can owe its place among the found ones to.
fn conditions<'k>(key: &'k SearchKey, found: &mut Vec<(&'k SearchField, &'k str)>) {
    match key {
        SearchKey::And(keys) => keys.iter().for_each(|key| conditions(key, found)),
        SearchKey::Or(a, b) => [a, b].into_iter().for_each(|key| conditions(key, found)),
        SearchKey::Fuzzy(field, needle) => found.push((field, needle)),
        _ => {}
    }
}

/// How relevant each of these messages is among all of them, from 1 to 100.
///
/// A word counts by how well it is found, where, and by how few of the messages have it. Texts and messages give the same
/// numbers.
pub(crate) fn relevancy(
    rows: &[Row],
    key: &SearchKey,
    messages: &dyn Messages,
    texts: KeptTexts<'_>,
) -> Result<Vec<u8>, EngineError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let key = prepared(key);
    let mut asked = Vec::new();
    conditions(&key, &mut asked);
    let index = match texts {
        Some((read, account)) if !asked.is_empty() => Index::open(read, account)?,
        _ => None,
    };
    let mut scores = vec![0_u64; rows.len()];
    for (field, needle) in asked {
        let Some(terms) = Terms::new(needle) else { continue };
        let graded = graded(rows, (field, &terms), messages, index.as_ref())?;
        for term in 0..terms.count() {
            let alike = graded.iter().filter(|grades| grades[term] > 0).count().max(1);
            let rarity = 1 + u64::from((rows.len() * 16 / alike).ilog2());
            for (score, grades) in scores.iter_mut().zip(&graded).filter(|(_, grades)| is_found(grades)) {
                *score += u64::from(grades[term]) * rarity;
            }
        }
    }
    Ok(spread(&scores))
}

/// The grades of each row.
fn graded(
    rows: &[Row],
    (field, terms): (&SearchField, &Terms),
    messages: &dyn Messages,
    index: Option<&Index<'_>>,
) -> Result<Vec<Grades>, EngineError> {
    let mut wanted: Vec<u32> = rows.iter().map(|row| row.message).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut board = match index {
        Some(index) => index.grades(field, terms, &wanted)?,
        None => Board::unknown(wanted.clone(), terms.count()),
    };
    let header_only = !matches!(field, SearchField::Body | SearchField::Text);
    for message in board.still_open() {
        let grades = match messages.record(message)? {
            Some(record) => terms.in_message(field, &messages.bytes(&record, header_only)?, &record),
            None => vec![0; terms.count()],
        };
        board.set(message, &grades);
    }
    Ok(rows.iter().map(|row| board.of(row.message).to_vec()).collect())
}

//= rfc6203#section-4
//# The
//# relevancy scores SHOULD use the full 1-100 range, so that clients can
//# show them to users in a meaningful way, e.g., as a percentage value.
fn spread(scores: &[u64]) -> Vec<u8> {
    let (least, most) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
    let of = |score: &u64| match (score - least) * 99 / (most - least).max(1) {
        _ if most == least => 100,
        part => u8::try_from(part + 1).unwrap_or(100),
    };
    scores.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_are_wrong_are_counted() {
        for (one, other, most, expected) in [
            ("linux", "linux", 1, Some(0)),
            ("linux", "linxu", 1, Some(1)),
            ("linux", "linu", 1, Some(1)),
            ("linux", "lynux", 1, Some(1)),
            ("linux", "glinux", 1, Some(1)),
            ("linux", "lynx", 1, None),
            ("kernelhacker", "krnelhakcer", 2, Some(2)),
            ("kernelhacker", "krnlhakcer", 2, None),
            ("привет", "превет", 1, Some(1)),
        ] {
            let letters: Vec<char> = one.chars().collect();
            assert_eq!(distance(&letters, other, most), expected, "{one} {other}");
        }
    }

    #[test]
    fn words_are_graded() {
        let grade = |needle: &str, word: &str| Term::new(needle).grade(&unaccented(word));
        assert_eq!(grade("cafe", "cafe\u{301}"), WHOLE);
        assert_eq!(grade("cafe\u{301}", "cafe"), WHOLE);
        assert_eq!(grade("linux", "“linux”"), WHOLE);
        assert_eq!(grade("inu", "linux"), INSIDE);
        assert_eq!(grade("linux", "linxu"), ONE_WRONG);
        assert_eq!(grade("linux", "“linxu”"), ONE_WRONG);
        assert_eq!(grade("kernelhacker", "kernlhaker"), TWO_WRONG);
        assert_eq!(grade("help", "helo"), 0);
    }

    #[test]
    fn scores_use_the_whole_range() {
        assert_eq!(spread(&[5, 7, 6]), [1, 100, 50]);
        assert_eq!(spread(&[3, 3]), [100, 100]);
        assert!(spread(&[]).is_empty());
    }
}
