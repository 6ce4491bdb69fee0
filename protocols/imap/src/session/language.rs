//! LANGUAGE (RFC 5255 section 3). What a person reads here is English in US-ASCII, which i-default is too.

use super::ImapSession;

/// The languages that there are; the first is the one that the administrator prefers.
const LANGUAGES: [&str; 2] = ["en", "i-default"];

/// The language that a range stands for: the longest beginning of it that is one (RFC 4647 section 3.4).
fn matching(range: &str) -> Option<&'static str> {
    if range == "*" || range.eq_ignore_ascii_case("default") {
        return LANGUAGES.first().copied();
    }
    let mut ranges = std::iter::successors(Some(range), |range| range.rsplit_once('-').map(|(shorter, _)| shorter));
    ranges.find_map(|range| LANGUAGES.into_iter().find(|language| language.eq_ignore_ascii_case(range)))
}

impl ImapSession {
    //= rfc5255#section-3.2
    //# If the command succeeds, the server will return human-readable
    //# responses in the first supported language specified.
    //
    //= rfc5255#section-3.2
    //# If there aren't any arguments, the server SHOULD send an untagged
    //# LANGUAGE response listing the languages it supports.
    pub(super) fn language(&mut self, ranges: &[String]) {
        let told = if ranges.is_empty() {
            LANGUAGES.join(" ")
        } else {
            match ranges.iter().find_map(|range| matching(range)) {
                Some(language) => language.to_owned(),
                None => return self.complete("NO there is no such language here"),
            }
        };
        self.untagged(&format!("LANGUAGE ({told})"));
        self.complete("OK done");
    }
}
