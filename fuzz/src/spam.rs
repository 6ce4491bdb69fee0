//! Tokens of a message.

use std::collections::BTreeSet;

use rockdove_engine::spam::tokens;

/// Bounded, each once, the same every time, and the same as they are shown.
pub fn spam_tokens(data: &[u8]) {
    let numbers = tokens::numbers(data);
    assert!(numbers.len() <= tokens::TOKENS_MAX);
    assert!(numbers.is_sorted_by(|one, next| one < next));
    assert_eq!(numbers, tokens::numbers(data));
    let mut shown = BTreeSet::new();
    tokens::each(data, &mut |token| {
        shown.insert(tokens::number(token));
        shown.len() < tokens::TOKENS_MAX
    });
    assert!(numbers.into_iter().eq(shown));
}
