//! A preview of a message (RFC 8970): the beginning of what its author wrote.

use super::{charset, decode, html, slice};
use crate::mime::{Content, Kind, Part, Skeleton};

/// Characters of a preview.
///
//= rfc8970#section-3.3
//# The server SHOULD limit the length of the preview text to 200 preview
//# characters.
pub const PREVIEW_CHARACTERS_MAX: usize = 200;

/// Octets at the beginning of a message that a preview is made from. What comes before the text of a person is small.
pub const PREVIEW_OCTETS_MAX: usize = 256 * 1024;

/// The preview of a message, from its first [`PREVIEW_OCTETS_MAX`] octets (more are not looked at): of the first text of
/// its body, plain before HTML; what the author wrote, or else what was quoted; in one line. Empty when there is no text.
pub fn preview(message: &[u8], skeleton: &Skeleton) -> String {
    let message = message.get(..PREVIEW_OCTETS_MAX.min(message.len())).unwrap_or_default();
    let mut of_html = String::new();
    for part in skeleton.parts().iter().filter(|part| part.kind == Kind::Leaf) {
        let content = Content::of_header(slice(message, &part.header).unwrap_or_default());
        let is_html = content.is("text", "html");
        if content.file_name().is_some()
            || !(is_html || content.is("text", "plain"))
            || (is_html && !of_html.is_empty())
        {
            continue;
        }
        let text = text_of(message, part, &content).map(|text| shortened(&text)).unwrap_or_default();
        match text {
            text if text.is_empty() => {}
            text if is_html => of_html = text,
            text => return text,
        }
    }
    of_html
}

/// The text of a part as far as there is a message; whole lines only, because half a line may decode to nonsense.
fn text_of(message: &[u8], part: &Part, content: &Content) -> Option<String> {
    let start = usize::try_from(part.body.start).ok().filter(|start| *start <= message.len())?;
    let whole = usize::try_from(part.body.end).is_ok_and(|end| end <= message.len());
    let end = usize::try_from(part.body.end).unwrap_or(usize::MAX).min(message.len());
    let mut body = message.get(start..end)?;
    if !whole && let Some(last) = memchr::memrchr(b'\n', body) {
        body = body.get(..last)?;
    }
    let octets = decode(body, part.encoding)?;
    let text = charset::decode(content.parameters.get("charset").unwrap_or_default(), &octets);
    Some(if content.is("text", "html") { html::to_text(&text) } else { text.into_owned() })
}

/// In one line what was written here; when nothing was, what was quoted.
fn shortened(text: &str) -> String {
    let own = one_line(text.lines().filter(|line| !is_quote(line)));
    if own.is_empty() { one_line(text.lines().map(|line| line.trim_start_matches(['>', ' ']))) } else { own }
}

/// A quoted line, or the line that says whom a quotation is of.
fn is_quote(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('>')
        || (line.ends_with(':') && (line.contains('@') || line.contains("wrote") || line.contains("schrieb")))
}

/// Whether the line is nothing but a rule (`----`, `====`, `****`).
fn is_rule(line: &str) -> bool {
    line.len() >= 3 && line.chars().all(|letter| matches!(letter, '-' | '=' | '*' | '_' | '~' | '#' | '+' | '.'))
}

/// Words with one space between them, up to the signature.
fn one_line<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    let mut line_of_all = String::new();
    let mut characters = 0_usize;
    // RFC 3676 section 4.3: a line of `-- ` separates the signature.
    let lines = lines.take_while(|line| !matches!(line.trim_end_matches('\r'), "-- " | "--"));
    for word in lines.map(str::trim).filter(|line| !is_rule(line)).flat_map(str::split_whitespace) {
        if characters > 0 {
            line_of_all.push(' ');
            characters = characters.saturating_add(1);
        }
        // Marks that no one sees hold places open in mass mail.
        for letter in word.chars().filter(|letter| !is_invisible(*letter)) {
            if characters >= PREVIEW_CHARACTERS_MAX {
                return line_of_all.trim_end().to_owned();
            }
            line_of_all.push(letter);
            characters = characters.saturating_add(1);
        }
        if line_of_all.ends_with(' ') {
            line_of_all.pop();
            characters = characters.saturating_sub(1);
        }
    }
    line_of_all
}

fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{34f}' | '\u{200b}' | '\u{2007}' | '\u{2060}' | '\u{feff}' | '\u{fffc}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::Scanner;

    fn of(message: &str) -> String {
        let mut scanner = Scanner::new();
        scanner.push(message.as_bytes());
        preview(message.as_bytes(), &scanner.finish().skeleton)
    }

    #[test]
    fn previews() {
        for (message, expected) in [
            ("Subject: x\r\n\r\n", ""),
            ("\r\nHello\r\n  there,\r\n\r\n\tfriend\r\n-- \r\nAda\r\n", "Hello there, friend"),
            ("\r\nOn Monday, Bob <bob@x> wrote:\r\n> old\r\n> words\r\n\r\nNew words\r\n", "New words"),
            ("\r\n> only\r\n>> quoted\r\n", "only quoted"),
            ("\r\n=====\r\nNews\r\n-----\r\n", "News"),
            ("Content-Type: text/html\r\n\r\n<style>p{}</style><p>Hi&nbsp;<b>you</b></p>\u{200b}", "Hi you"),
            (
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nCaf=C3=A9",
                "Café",
            ),
            ("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=", ""),
            (
                "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html\r\n\
                --b\r\n\r\nplain\r\n--b--\r\n",
                "plain",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename=a.txt\r\n\
                \r\nnot this\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>this\r\n--b--\r\n",
                "this",
            ),
        ] {
            assert_eq!(of(message), expected, "{message}");
        }
    }

    #[test]
    fn long_ones_are_cut() {
        let text = of(&format!("\r\n{}", "wörd ".repeat(200)));
        assert_eq!(text.chars().count(), 199, "a word's end and no space behind it");
        assert_eq!(of(&format!("\r\n{}", "é".repeat(500))).chars().count(), PREVIEW_CHARACTERS_MAX);
        let line = format!("{}\r\n", "word ".repeat(10));
        assert_eq!(of(&format!("\r\n{}", line.repeat(20_000))).chars().count(), 199);
    }
}
