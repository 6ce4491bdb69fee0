//! Words: how a text is cut, and what the words of a text that has a needle must look like.
//!
//! A *run* is a stretch of letters, digits, `_` and everything beyond ASCII. A run of ordinary length is a word, whole.
//! A long one (a line of base64, a tracking id), and one in a script that is written without spaces, is cut into
//! *pieces* that overlap: windows of ASCII, pairs of other characters. So a needle without separators is in a text
//! exactly when it is in one of the words, or, as far as the pieces reach, in one of them.

/// A run of more octets is cut into pieces.
const RUN_BYTES_MAX: usize = 48;
/// The same for runs in scripts that are written without spaces.
const UNSPACED_BYTES_MAX: usize = 12;
/// Octets of a window.
const WINDOW_BYTES: usize = 24;
/// Octets from one window to the next.
const WINDOW_STEP: usize = 12;
/// Every stretch of this many octets is whole in a window.
const WINDOW_REACH: usize = WINDOW_BYTES - WINDOW_STEP + 1;
/// Begins a piece in the list of words, so that pieces come behind all words; no UTF-8 has it.
pub(super) const PIECE_MARK: u8 = 0xfe;
/// Runs of a needle that are looked up; the others are left to the verification.
const LOOKUPS_MAX: usize = 4;

const fn is_word_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_' || !octet.is_ascii()
}

/// The runs of a text, each with its place.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text.get(at..)?.iter().position(|octet| is_word_octet(*octet))?;
        let start = at;
        let rest = text.get(start..)?;
        let length = rest.iter().position(|octet| !is_word_octet(*octet)).unwrap_or(rest.len());
        at += length;
        Some((start, rest.get(..length)?))
    })
}

/// Han, Kana, Thai and their neighbours, by the first octet of a character (U+0E00 to U+0FFF, U+1000 to U+1FFF but for
/// Hangul's parts, which are written with spaces, and all from U+2E80 to U+FFFF).
fn is_unspaced(run: &str) -> bool {
    run.chars().any(|letter| {
        matches!(letter, '\u{e00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
    })
}

/// ASCII and other stretches of a run, in turn.
fn stretches(run: &str) -> impl Iterator<Item = &str> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let ascii = rest.bytes().next()?.is_ascii();
        let end = rest.bytes().position(|octet| octet.is_ascii() != ascii).unwrap_or(rest.len());
        let (stretch, behind) = rest.split_at_checked(end)?;
        rest = behind;
        Some(stretch)
    })
}

/// Pairs of neighbouring characters; a single character alone.
fn pairs(stretch: &str) -> impl Iterator<Item = &str> {
    let ends: Vec<usize> = stretch.char_indices().map(|(at, letter)| at + letter.len_utf8()).collect();
    let count = ends.len().max(2) - 1;
    (0..count).filter_map(move |place| {
        let start = if place == 0 { 0 } else { *ends.get(place - 1)? };
        stretch.get(start..*ends.get(place + 1).or(ends.last())?)
    })
}

/// Tells the words of a value; a word may come several times.
pub(super) fn each_word(value: &[u8], tell: &mut dyn FnMut(&[u8])) {
    let mut piece = Vec::with_capacity(WINDOW_BYTES + 1);
    for (_, run) in runs(value) {
        let plain = run.is_ascii();
        let text = if plain { None } else { std::str::from_utf8(run).ok() };
        let cut = run.len() > RUN_BYTES_MAX || (run.len() > UNSPACED_BYTES_MAX && text.is_some_and(is_unspaced));
        if !cut {
            tell(run);
            continue;
        }
        let mut tell_piece = |octets: &[u8]| {
            piece.clear();
            piece.push(PIECE_MARK);
            piece.extend_from_slice(octets);
            tell(&piece);
        };
        for stretch in stretches(std::str::from_utf8(run).unwrap_or_default()) {
            if stretch.is_ascii() {
                let octets = stretch.as_bytes();
                let mut start = 0;
                while let Some(rest) = octets.get(start..).filter(|rest| !rest.is_empty()) {
                    tell_piece(rest.get(..WINDOW_BYTES).unwrap_or(rest));
                    if rest.len() <= WINDOW_BYTES {
                        break;
                    }
                    start += WINDOW_STEP;
                }
            } else {
                pairs(stretch).for_each(|pair| tell_piece(pair.as_bytes()));
            }
        }
    }
}

/// One run of a needle, and how words show that a text may have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    /// In one of the words, separators (`ff`) included where the run must end or begin.
    pub(super) word: Vec<u8>,
    /// Or each of these in some piece.
    pub(super) pieces: Vec<Vec<u8>>,
    /// A piece that has it shows that the text has the run.
    pub(super) pieces_are_exact: bool,
}

/// What the words of a text with the needle must have: all of these.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookups {
    pub(super) all: Vec<Lookup>,
    /// The needle is a single run, so that a word with it shows that the text has it.
    pub(super) single: bool,
}

/// `None` for a needle without a run, about which words say nothing.
pub(super) fn lookups(needle: &str) -> Option<Lookups> {
    let mut found: Vec<(usize, &[u8])> = runs(needle.as_bytes()).collect();
    let single = matches!(found[..], [(_, run)] if run.len() == needle.len());
    // The longest say most.
    found.sort_by_key(|(_, run)| std::cmp::Reverse(run.len()));
    found.truncate(LOOKUPS_MAX);
    if found.len() > 1 {
        let longest = found.first().map_or(0, |(_, run)| run.len());
        found.retain(|(_, run)| run.len() >= longest.min(3));
    }
    let all: Vec<Lookup> = found.into_iter().map(|(at, run)| lookup(needle, at, run)).collect();
    (!all.is_empty()).then_some(Lookups { all, single })
}

fn lookup(needle: &str, at: usize, run: &[u8]) -> Lookup {
    let mut word = Vec::with_capacity(run.len() + 2);
    if at > 0 {
        word.push(super::page::PIECE);
    }
    word.extend_from_slice(run);
    if at + run.len() < needle.len() {
        word.push(super::page::PIECE);
    }
    let (pieces, pieces_are_exact) = pieces(run_text(run));
    Lookup { word, pieces, pieces_are_exact }
}

fn run_text(run: &[u8]) -> &str {
    std::str::from_utf8(run).unwrap_or_default()
}

/// What each must be in some piece of a text that has the run in long words, and whether one that has shows it.
pub(super) fn pieces(run: &str) -> (Vec<Vec<u8>>, bool) {
    let mut pieces = Vec::new();
    let mut exact = true;
    for (number, stretch) in stretches(run).enumerate() {
        exact &= number == 0;
        if stretch.is_ascii() {
            exact &= stretch.len() <= WINDOW_REACH;
            pieces.push(stretch.as_bytes().iter().copied().take(WINDOW_REACH).collect());
        } else {
            pieces.extend(pairs(stretch).map(|pair| pair.as_bytes().to_vec()));
            exact &= stretch.chars().nth(2).is_none();
        }
    }
    (pieces, exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each_word(text.as_bytes(), &mut |word| {
            let (mark, word) = word.strip_prefix(&[PIECE_MARK]).map_or(("", word), |piece| ("+", piece));
            words.push(format!("{mark}{}", std::str::from_utf8(word).expect("cut between characters")));
        });
        words
    }

    #[test]
    fn texts_are_cut() {
        assert_eq!(words("a1_b, don’t  (x@y.z)"), ["a1_b", "don’t", "x", "y", "z"]);
        assert_eq!(words("привет,мир 你好"), ["привет", "мир", "你好"]);
        assert_eq!(words("a你好世界b c"), ["+a", "+你好", "+好世", "+世界", "+b", "c"]);
        let long: String = ('a'..='z').chain('a'..='z').collect();
        assert_eq!(
            words(&long),
            [
                "+abcdefghijklmnopqrstuvwx",
                "+mnopqrstuvwxyzabcdefghij",
                "+yzabcdefghijklmnopqrstuv",
                "+klmnopqrstuvwxyz"
            ]
        );
        assert_eq!(words("-- . !"), [""; 0]);
    }

    #[test]
    fn every_stretch_of_a_text_is_found_by_its_words() {
        let texts = [
            "the quick brown fox, jumps",
            "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz",
            "我们明天在北京开会。请带上 x2 文件abc定义",
            "abcdefghijklmnopqrstuvwxyz我abcdefghijklmnopqrstuvwxyz你们abcdefgh",
            "สวัสดีครับผมชื่อ",
            "tie\u{302}\u{301}ng vie\u{323}\u{302}t 😀😀 a😀b",
        ];
        for text in texts {
            let mut words: Vec<Vec<u8>> = Vec::new();
            each_word(text.as_bytes(), &mut |word| words.push(word.to_vec()));
            let whole: Vec<Vec<u8>> = words.iter().map(|word| [&[0xff], &word[..], &[0xff]].concat()).collect();
            let has = |needle: &[u8], piece: bool| {
                whole
                    .iter()
                    .any(|word| (word[1] == PIECE_MARK) == piece && memchr::memmem::find(word, needle).is_some())
            };
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            for (number, from) in places.iter().enumerate() {
                for until in &places[number + 1..] {
                    let needle = &text[*from..*until];
                    let Some(lookups) = lookups(needle) else { continue };
                    for lookup in &lookups.all {
                        let found = has(&lookup.word, false) || lookup.pieces.iter().all(|piece| has(piece, true));
                        assert!(found, "{needle:?} in {text:?}: {lookup:?}");
                    }
                }
            }
        }
    }
}
