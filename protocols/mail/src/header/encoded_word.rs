//! Encoded words (RFC 2047).

use memchr::{memchr, memmem};

use crate::text::{
    charset,
    transfer::{self, Place},
};

/// Longest encoded word that is decoded, in octets. RFC 2047 section 2 allows 75; senders that put a whole subject into
/// one word exist. The limit keeps the search for the end of a word that has none short.
const ENCODED_WORD_OCTETS_MAX: usize = 4096;

/// Encoded words next to each other in one charset. They are joined before the charset is decoded, because some senders
/// cut a character in two.
#[derive(Default)]
struct Run<'a> {
    charset: &'a [u8],
    octets: Vec<u8>,
}

impl Run<'_> {
    fn flush(&mut self, text: &mut String) {
        if !self.octets.is_empty() {
            text.push_str(&charset::decode(self.charset, &self.octets));
            self.octets.clear();
        }
    }
}

/// Decodes the encoded words of an unfolded value. The rest is UTF-8; what is not becomes U+FFFD. What looks like an
/// encoded word and cannot be decoded stays as it is.
pub fn decode_words(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    let mut run = Run::default();
    // `rest` begins where no word was looked for yet, `plain` where the text that is not yet copied begins.
    let (mut rest, mut plain) = (value, value);
    let mut after_word = false;
    while let Some(at) = memmem::find(rest, b"=?") {
        let candidate = rest.get(at..).unwrap_or_default();
        let Some(word) = Word::at_start_of(candidate) else {
            rest = candidate.get(2..).unwrap_or_default();
            continue;
        };
        let before = plain.get(..plain.len().saturating_sub(candidate.len())).unwrap_or_default();
        //= rfc2047#section-6.2
        //# When displaying a particular header field that contains multiple
        //# 'encoded-word's, any 'linear-white-space' that separates a pair of
        //# adjacent 'encoded-word's is ignored.
        if !(after_word && before.iter().all(u8::is_ascii_whitespace)) {
            run.flush(&mut text);
            text.push_str(&String::from_utf8_lossy(before));
        }
        if !word.charset.eq_ignore_ascii_case(run.charset) {
            run.flush(&mut text);
            run.charset = word.charset;
        }
        run.octets.extend_from_slice(&word.octets);
        after_word = true;
        rest = candidate.get(word.length..).unwrap_or_default();
        plain = rest;
    }
    run.flush(&mut text);
    text.push_str(&String::from_utf8_lossy(plain));
    text
}

struct Word<'a> {
    charset: &'a [u8],
    octets: Vec<u8>,
    /// Octets of the word as it was written.
    length: usize,
}

impl<'a> Word<'a> {
    /// The encoded word that `text` begins with.
    fn at_start_of(text: &'a [u8]) -> Option<Self> {
        let text = text.get(..text.len().min(ENCODED_WORD_OCTETS_MAX))?;
        let inner = text.strip_prefix(b"=?")?;
        let (charset, encoding) = inner.split_at_checked(memchr(b'?', inner)?)?;
        // RFC 2231 section 5 puts a language behind the charset.
        let charset = charset.get(..memchr(b'*', charset).unwrap_or(charset.len()))?;
        if charset.is_empty() || !charset.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let [b'?', encoding, b'?', data @ ..] = encoding else { return None };
        let base64 = match encoding {
            b'b' | b'B' => true,
            b'q' | b'Q' => false,
            _ => return None,
        };
        let head = text.len().saturating_sub(data.len());
        // A question mark of its own is not allowed in the text, and found there in Q all the same.
        let end = memmem::find(data, b"?=").filter(|end| !base64 || memchr(b'?', data) == Some(*end))?;
        let data = data.get(..end)?;
        let octets = if base64 {
            let data: Vec<u8> = data.iter().copied().filter(|octet| *octet != b' ').collect();
            mail_parser::decoders::base64::base64_decode(&data)?
        } else {
            transfer::quoted_printable(data, Place::Word)
        };
        Some(Self { charset, octets, length: head.saturating_add(end).saturating_add(2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (value, text) in [
            ("", ""),
            ("plain", "plain"),
            ("=?utf-8?q?a?=", "a"),
            ("=?UTF-8?Q?caf=C3=A9_x?= y", "café x y"),
            ("x =?iso-8859-1?q?=E9?= y =?iso-8859-1?b?6Q==?=", "x é y é"),
            ("[=?utf-8?q?x?=] y", "[x] y"),
            ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?a?=  \t =?iso-8859-1?q?=E9?=", "aé"),
            ("=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
            ("=?utf-8*en?q?a?=", "a"),
            ("=?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=", "テスト"),
            ("=?koi8-r?B?8NLJ18XU?=", "Привет"),
            ("=?utf-8?q?why??=", "why?"),
            ("=?utf-8?b?YQ?=", "a"),
            ("=?utf-8?b?****?= a", "=?utf-8?b?****?= a"),
            ("=?utf-8?x?a?= =?utf-8?q?b", "=?utf-8?x?a?= =?utf-8?q?b"),
            ("=?=?utf-8?q?b?=", "=?b"),
            ("=?unknown-charset?q?=C3=A9?=", "é"),
            ("=?utf-8?q?=?=", "="),
            ("=?utf-8?q?=F?=", "=F"),
            ("=?utf-8?q??= a", " a"),
            ("=?us-ascii?q?a b c?=", "a b c"),
        ] {
            assert_eq!(decode_words(value.as_bytes()), text, "{value}");
        }
        assert_eq!(decode_words(b"a \xff =?utf-8?q?=FF?="), "a \u{fffd} \u{fffd}");
    }

    #[test]
    fn words_without_an_end_are_given_up_soon() {
        for piece in ["=?u?q?", "=?u?b?", "=?", "=?u?b?A?"] {
            let value = piece.repeat(60_000);
            assert!(decode_words(value.as_bytes()).len() <= value.len());
        }
    }
}
