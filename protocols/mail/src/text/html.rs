//! HTML as a person reads it.

use std::borrow::Cow;

use mail_parser::decoders::html::add_html_token;

/// Elements whose content is not shown.
const HIDDEN: [&str; 4] = ["script", "style", "template", "noscript"];

/// Elements within a line of text. All others end a line.
const INLINE: [&str; 37] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins",
    "kbd", "label", "mark", "nobr", "o:p", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong",
    "sub", "sup", "tt", "u", "var", "wbr",
];

/// Longest character reference, in octets.
const REFERENCE_OCTETS_MAX: usize = 40;

/// The text of an HTML document: without tags, comments, scripts and styles, with character references resolved and
/// white space made single. Elements that are no part of a line begin a new one.
pub(super) fn to_text(html: &str) -> String {
    let mut text = Text { out: String::with_capacity(html.len() / 2), space: false };
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (before, markup) = rest.split_at_checked(at).unwrap_or((rest, ""));
        text.add(before);
        rest = match Tag::at_start_of(markup) {
            Some((tag, behind)) => {
                if !tag.is_inline() {
                    text.end_line();
                }
                if tag.hides() { behind_element(behind, &tag.name) } else { behind }
            }
            None if markup.starts_with("<!--") => markup.split_once("-->").map_or("", |(_, behind)| behind),
            None if markup.starts_with("<!") || markup.starts_with("<?") => {
                markup.split_once('>').map_or("", |(_, behind)| behind)
            }
            None => {
                text.add("<");
                markup.get(1..).unwrap_or_default()
            }
        };
    }
    text.add(rest);
    text.out
}

struct Text {
    out: String,
    /// White space came that is not yet written.
    space: bool,
}

impl Text {
    fn add(&mut self, text: &str) {
        for letter in resolved(text).chars() {
            if matches!(letter, ' ' | '\t' | '\r' | '\n' | '\x0c') {
                self.space = true;
            } else {
                if std::mem::take(&mut self.space) && !self.out.is_empty() && !self.out.ends_with('\n') {
                    self.out.push(' ');
                }
                self.out.push(letter);
            }
        }
    }

    fn end_line(&mut self) {
        self.space = false;
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }
}

/// Text with its character references (`&amp;`) resolved.
fn resolved(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut pieces = text.split('&');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_reference = |name: &str| {
            name.len() <= REFERENCE_OCTETS_MAX
                && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'#')
        };
        let reference = piece.split_once(';').filter(|(name, _)| !name.is_empty() && is_reference(name));
        if let Some((name, behind)) = reference {
            add_html_token(&mut out, format!("&{name};").as_bytes(), false);
            out.push_str(behind);
        } else {
            out.push('&');
            out.push_str(piece);
        }
    }
    out.into()
}

struct Tag {
    name: String,
    closes: bool,
}

impl Tag {
    /// The tag that `markup` begins with, and what follows it. A tag that does not end takes all the rest.
    fn at_start_of(markup: &str) -> Option<(Self, &str)> {
        let inner = markup.strip_prefix('<')?;
        let closes = inner.starts_with('/');
        let inner = inner.strip_prefix('/').unwrap_or(inner);
        if !inner.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return None;
        }
        let ends = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '/' | '>');
        let (name, attributes) = inner.split_at_checked(inner.find(ends).unwrap_or(inner.len()))?;
        let mut quote = None;
        let mut after_equals = false;
        let end = attributes.char_indices().find(|(_, letter)| {
            match (quote, letter) {
                (Some(open), _) if open == *letter => quote = None,
                (None, '"' | '\'') if after_equals => quote = Some(*letter),
                (None, '>') => return true,
                _ => {}
            }
            if !letter.is_ascii_whitespace() {
                after_equals = *letter == '=';
            }
            false
        });
        let behind = end.and_then(|(at, _)| attributes.get(at.saturating_add(1)..));
        // A quote that does not end is no quote: then the next bracket ends the tag.
        let behind = behind.or_else(|| attributes.split_once('>').map(|(_, behind)| behind)).unwrap_or_default();
        Some((Self { name: name.to_ascii_lowercase(), closes }, behind))
    }

    fn is_inline(&self) -> bool {
        INLINE.contains(&self.name.as_str())
    }

    fn hides(&self) -> bool {
        !self.closes && HIDDEN.contains(&self.name.as_str())
    }
}

/// What follows the closing tag of an element; nothing when it does not close.
fn behind_element<'a>(mut text: &'a str, name: &str) -> &'a str {
    while let Some((_, candidate)) = text.split_once("</") {
        let named = candidate.split_at_checked(name.len()).filter(|(start, _)| start.eq_ignore_ascii_case(name));
        if let Some((_, behind)) = named {
            return behind.split_once('>').map_or("", |(_, behind)| behind);
        }
        text = candidate;
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (html, text) in [
            ("", ""),
            ("plain", "plain"),
            ("<p>a</p><p>b</p>", "a\nb\n"),
            ("a<b>b</b>c", "abc"),
            ("<div>a</div>b<br>c<br/>d", "a\nb\nc\nd"),
            ("a \r\n <i> b</i>", "a b"),
            ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
            ("a &amp; b &lt;c&gt; &#233;&#xE9;&eacute; &unknown; &", "a & b <c> ééé &unknown; &"),
            ("a&nbsp;b", "a\u{a0}b"),
            ("<a title=\"x > y\" href='>'>z</a>", "z"),
            ("<a title=\"open>z</a>y", "zy"),
            ("<style>p{}</style>a<SCRIPT>if (a</b>) </SCRIPT >b", "a\nb"),
            ("<!-- a <b> -->c<!DOCTYPE html>d<?xml?>e", "cde"),
            ("<title>t</title><script>open", "t\n"),
            ("<td>a</td><td>b</td>", "a\nb\n"),
            ("a<", "a<"),
            ("a<b", "a"),
            ("a</b", "a"),
            ("<!-- open", ""),
            ("é<b>ü</b>日本", "éü日本"),
        ] {
            assert_eq!(to_text(html), text, "{html}");
        }
    }
}
