//! The base subject (RFC 5256 section 2.1).

/// What is left of a subject, and whether something of a reply was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseSubject {
    /// Without `Re:`, `Fwd:`, `[list]`, `(fwd)` and their like. In the case it was written in; comparing is up to the
    /// caller.
    pub text: String,
    /// The message is a reply or a forward.
    //= rfc5256#section-3
    //# A message is considered to be a reply or forward if the base
    //# subject extraction rules, applied to the original subject,
    //# remove any of the following: a subj-refwd, a "(fwd)" subj-
    //# trailer, or a subj-fwd-hdr and subj-fwd-trl.
    pub is_reply: bool,
}

/// The base subject of a decoded subject.
pub fn base_subject(subject: &str) -> BaseSubject {
    let subject = spaced(subject);
    let (mut base, mut is_reply) = (subject.as_str(), false);
    loop {
        base = without_leaders(without_trailers(base, &mut is_reply), &mut is_reply);
        match forwarded(base) {
            Some(inner) => (base, is_reply) = (inner, true),
            None => return BaseSubject { text: base.to_owned(), is_reply },
        }
    }
}

//= rfc5256#section-2.1
//# Convert all tabs and continuations to space.  Convert all
//# multiple spaces to a single space.
fn spaced(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    for letter in subject.chars() {
        let letter = if matches!(letter, '\t' | '\r' | '\n') { ' ' } else { letter };
        if letter != ' ' || !text.ends_with(' ') {
            text.push(letter);
        }
    }
    text
}

/// `text` without the ASCII prefix `prefix`, in any case.
fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

//= rfc5256#section-5
//# subj-trailer    = "(fwd)" / WSP
fn without_trailers<'a>(mut text: &'a str, is_reply: &mut bool) -> &'a str {
    loop {
        text = text.trim_end_matches(' ');
        match text.len().checked_sub("(fwd)".len()).and_then(|at| text.split_at_checked(at)) {
            Some((rest, end)) if end.eq_ignore_ascii_case("(fwd)") => (text, *is_reply) = (rest, true),
            _ => return text,
        }
    }
}

//= rfc5256#section-5
//# subj-blob       = "[" *BLOBCHAR "]" *WSP
fn without_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let (_, rest) = inner.split_at_checked(inner.find(['[', ']'])?)?;
    Some(rest.strip_prefix(']')?.trim_start_matches(' '))
}

//= rfc5256#section-5
//# subj-refwd      = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
fn without_refwd(text: &str) -> Option<&str> {
    let rest = without_prefix(text, "re")
        .or_else(|| without_prefix(text, "fwd"))
        .or_else(|| without_prefix(text, "fw"))?
        .trim_start_matches(' ');
    without_blob(rest).unwrap_or(rest).strip_prefix(':')
}

/// Steps 3 to 5: leaders, and blobs that leave something behind them.
fn without_leaders<'a>(mut text: &'a str, is_reply: &mut bool) -> &'a str {
    loop {
        text = text.trim_start_matches(' ');
        // Blobs may stand before a `Re:`; without one they go one by one, which comes to the same as all at once.
        let (mut behind, mut last) = (text, text);
        while let Some(rest) = without_blob(behind) {
            (last, behind) = (behind, rest);
        }
        if let Some(rest) = without_refwd(behind) {
            (text, *is_reply) = (rest, true);
        } else if behind.is_empty() {
            // Blobs alone: the last one is the subject.
            return last;
        } else {
            return behind;
        }
    }
}

/// Step 6: the inside of `[fwd: …]`.
fn forwarded(text: &str) -> Option<&str> {
    without_prefix(text, "[fwd:")?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_subjects() {
        for (subject, base) in [
            ("", ""),
            ("  ", ""),
            ("hello", "hello"),
            ("Hello  \t World ", "Hello World"),
            ("Re: hello", "hello"),
            ("RE: re : Fw: FWD[2]: hello", "hello"),
            ("re [4] : x", "x"),
            ("Re[4]: x", "x"),
            ("re [4]: x", "x"),
            ("[list] hello", "hello"),
            ("[list] [other] Re: [list] hello", "hello"),
            ("[list]", "[list]"),
            ("[a] [b]", "[b]"),
            ("Re: [a] [b]", "[b]"),
            ("Re:", ""),
            ("[list] Re:", ""),
            ("hello (fwd)", "hello"),
            ("hello (FWD) (fwd) ", "hello"),
            ("(fwd)", ""),
            ("[fwd: hello]", "hello"),
            ("[Fwd: [fwd: re: hello (fwd)] (fwd)]", "hello"),
            ("[fwd: hello] more", "more"),
            ("[fwd: [list] hello]", "hello"),
            ("Re: [fwd: Re: hello]", "hello"),
            ("[fwd:]", ""),
            ("[unclosed hello", "[unclosed hello"),
            ("rest", "rest"),
            ("forward: x", "forward: x"),
            ("Réponse: x", "Réponse: x"),
            ("é(fwd)", "é"),
            ("日本(fwd)", "日本"),
            ("re日: x", "re日: x"),
            ("[日本] x", "x"),
        ] {
            assert_eq!(base_subject(subject).text, base, "{subject:?}");
        }
    }

    #[test]
    fn replies() {
        for subject in ["Re: a", "[l] re[2]: a", "a (fwd)", "[fwd: a]", "Re:", "(fwd)", "[fwd: [l] a]"] {
            assert!(base_subject(subject).is_reply, "{subject}");
        }
        for subject in ["", "a", "[l] a", "rest: a", "[fwd: a", "[a] [b]"] {
            assert!(!base_subject(subject).is_reply, "{subject}");
        }
    }

    #[test]
    fn long_subjects_take_linear_time() {
        for piece in ["[x]", "re:", "[x]re:", "[fwd:", "[", "(fwd)", "re[", " \t"] {
            assert!(base_subject(&piece.repeat(60_000)).text.len() <= 60_000 * piece.len());
        }
        let nested = format!("{}x{}", "[fwd:".repeat(20_000), "]".repeat(20_000));
        assert_eq!(base_subject(&nested).text, "x");
    }
}
