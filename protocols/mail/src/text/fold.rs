//! Case folding for search: what i;unicode-casemap (RFC 5051) makes equal is equal here, and some more.

use unicode_normalization::UnicodeNormalization;

/// Text in the form in which it is compared. Texts that differ in case only, or in how a character is composed, have the
/// same form; the form of the form is itself, and the form of two texts joined is that of each joined, but for marks
/// at the seam.
///
/// RFC 5051 maps single characters (title case, then decomposition), which leaves `ß` and `ẞ`, and `ς` and `σ` after a
/// lower-case search, apart. Here each decomposed character goes through its full upper case to lower case, so `ß`,
/// `ẞ`, `SS` and `ss` meet, and `Σ`, `σ` and `ς` too. `İ` is an `i` with a dot above; `ı` is an `i`, as there.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    // ASCII characters stand for themselves, and nothing is reordered across them, so the runs between them are apart.
    while !rest.is_empty() {
        let (plain, behind) = split_run(rest, true);
        let start = folded.len();
        folded.push_str(plain);
        if let Some(plain) = folded.get_mut(start..) {
            plain.make_ascii_lowercase();
        }
        let (other, behind) = split_run(behind, false);
        let cased = other.nfkd().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        // The lower case of an upper case may be a composed character again.
        folded.extend(cased.nfkd());
        rest = behind;
    }
    folded
}

/// The characters that `text` begins with and that are ASCII, or are not, and the rest.
fn split_run(text: &str, ascii: bool) -> (&str, &str) {
    let end = text.bytes().position(|octet| octet.is_ascii() != ascii).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal() {
        for group in [
            &["hello", "HELLO", "Hello", "ｈｅｌｌｏ"][..],
            &["Straße", "STRASSE", "strasse", "STRAẞE"],
            &["ΣΊΣΥΦΟΣ", "Σίσυφος", "σίσυφος", "σίσυφοσ"],
            &["É", "é", "E\u{301}", "e\u{301}"],
            &["ﬁ", "fi", "FI"],
            &["ǅ", "Ǆ", "ǆ", "dž"],
            &["K", "k", "\u{212a}"],
            &["Å", "\u{212b}", "å"],
            &["ſ", "s", "S"],
            &["ı", "I", "i"],
            &["İ", "i\u{307}"],
            &["ᾳ", "ᾼ", "αι"],
            &["ПРИВЕТ", "привет"],
            &["ԱՒ", "աւ", "և", "եւ"][2..],
            &["\u{13a0}", "\u{ab70}"],
            &["１", "1", "①"],
        ] {
            for text in group {
                assert_eq!(fold(text), fold(group[0]), "{text}");
            }
        }
        assert_ne!(fold("a"), fold("ä"));
        assert_eq!(fold(""), "");
    }

    #[test]
    fn runs_are_folded_as_the_whole() {
        let text = "Ünïcödé TEXT \u{301}a\u{345}\u{301}b \u{323}\u{307}É\u{323}ZZ";
        let whole = text.nfkd().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        assert_eq!(fold(text), whole.nfkd().collect::<String>());
        assert_eq!(fold("abc ÀÉ xyz ß"), "abc a\u{300}e\u{301} xyz ss");
    }

    #[test]
    fn every_character_has_a_stable_form() {
        for letter in '\0'..=char::MAX {
            let text = letter.to_string();
            let folded = fold(&text);
            assert_eq!(fold(&folded), folded, "{letter:?}");
            for other in [text.to_uppercase(), text.to_lowercase(), text.nfkd().collect(), text.nfc().collect()] {
                assert_eq!(fold(&other), folded, "{letter:?} as {other:?}");
            }
        }
    }
}
