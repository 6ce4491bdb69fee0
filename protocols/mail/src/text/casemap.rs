//! i;unicode-casemap (RFC 5051): the order of strings in SORT, and which subjects are equal in THREAD.

use unicode_normalization::UnicodeNormalization;

/// The form of a string whose octets are compared: title case, decomposed, in UTF-8.
pub fn casemap(text: &str) -> String {
    let mut mapped = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next_if(char::is_ascii) {
        mapped.push(letter.to_ascii_uppercase());
    }
    // Each character is decomposed by itself; order among combining marks is made canonical by all implementations of
    // decomposition, and is here.
    mapped.extend(letters.map(titlecase).nfkd());
    mapped
}

/// The simple title case of a character: the one in UnicodeData.txt, which maps one character to one.
fn titlecase(letter: char) -> char {
    let code = u32::from(letter);
    match letter {
        // Digraphs, whose title case has one capital.
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        // Greek with iota below: eight small letters, then their eight capitals.
        '\u{1f80}'..='\u{1faf}' => char::from_u32(code | 8).unwrap_or(letter),
        'ᾳ' => 'ᾼ',
        'ῃ' => 'ῌ',
        'ῳ' => 'ῼ',
        // Georgian has no title case.
        '\u{10d0}'..='\u{10ff}' => letter,
        _ => {
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(only), None) => only,
                // `ß` and its like have no single capital.
                _ => letter,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_and_ordered() {
        for (one, other) in [
            ("hello", "HeLLo"),
            ("é", "E\u{301}"),
            ("ǆ", "Ǆ"),
            ("ᾳ", "ᾼ"),
            ("привет", "ПРИВЕТ"),
            ("ab\u{e9}", "ABE\u{301}"),
        ] {
            assert_eq!(casemap(one), casemap(other), "{one}");
        }
        for (less, more) in [
            ("", "a"),
            ("a", "B"),
            ("Z", "_"),
            ("z", "_"),
            ("a", "ab"),
            ("ab", "é"),
            ("z", "ß"),
            ("ss", "ß"),
            ("я", "中"),
        ] {
            assert!(casemap(less) < casemap(more), "{less} {more}");
        }
        assert_eq!(casemap("straße"), "STRAßE");
        assert_eq!(casemap("ა"), "ა");
    }
}
