//! A client that believes what it is told, and notices when it was misled.

/// What the client knows of the selected mailbox: the UID of each sequence number, where it has been told.
#[derive(Default)]
struct Known {
    uids: Vec<Option<u32>>,
    /// The last response was FLAGS: an EXISTS that follows begins a newly selected mailbox.
    after_flags: bool,
}

/// Reads everything that was sent. `broken`: it may break off in the middle of a response.
pub(super) fn check(sent: &[u8], broken: bool) {
    let mut known = Known::default();
    let mut rest = sent;
    assert!(sent.starts_with(b"* OK ") || sent.starts_with(b"* BYE "), "no greeting");
    while !rest.is_empty() {
        let Some((response, after)) = response(rest) else {
            assert!(broken, "half a response: {}", String::from_utf8_lossy(rest));
            return;
        };
        known.hear(&response);
        rest = after;
    }
}

/// The text of the next response, with `{}` in the place of literals, and what follows it.
fn response(sent: &[u8]) -> Option<(String, &[u8])> {
    let (mut text, mut rest) = (String::new(), sent);
    loop {
        let end = rest.windows(2).position(|end| end == b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        assert!(!line.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)), "a stray line end or NUL");
        let line = std::str::from_utf8(line).expect("responses are UTF-8");
        let literal = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
        let Some((line, octets)) = literal.and_then(|(line, octets)| Some((line, octets.parse::<usize>().ok()?)))
        else {
            text.push_str(line);
            return Some((text, after));
        };
        text.push_str(line);
        text.push_str("{}");
        rest = after.get(octets..)?;
    }
}

/// Whether this is one list in parentheses, and every literal in it ends where a word may end. Tells when a literal was
/// shorter or longer than announced.
fn is_list(text: &str) -> bool {
    let (mut depth, mut quoted) = (0, false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '\\' if quoted => taken = rest.chars().take(2).map(char::len_utf8).sum(),
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' if depth == 1 => return rest.len() == 1,
            ')' => depth -= 1,
            '{' if !rest.starts_with("{} ") && !rest.starts_with("{})") => return false,
            _ if depth == 0 => return false,
            _ => {}
        }
        rest = &rest[taken..];
    }
    false
}

impl Known {
    fn hear(&mut self, response: &str) {
        let after_flags = std::mem::take(&mut self.after_flags);
        if response.starts_with("+ ") {
            return;
        }
        let Some(untagged) = response.strip_prefix("* ") else {
            let (tag, rest) = response.split_once(' ').expect("a tag and more");
            assert!(!tag.is_empty() && ["OK ", "NO ", "BAD "].iter().any(|word| rest.starts_with(word)), "{response}");
            return;
        };
        self.after_flags = untagged.starts_with("FLAGS (");
        let Some((number, what)) = untagged.split_once(' ') else { return };
        let Ok(number) = number.parse::<usize>() else { return };
        if what == "EXISTS" {
            if after_flags {
                self.uids.clear();
            }
            assert!(number >= self.uids.len(), "EXISTS shrinks: {response}");
            self.uids.resize(number, None);
        } else if what != "RECENT" {
            assert!((1..=self.uids.len()).contains(&number), "there is no such number: {response}");
            if what == "EXPUNGE" {
                self.uids.remove(number - 1);
            } else if let Some(items) = what.strip_prefix("FETCH ") {
                assert!(is_list(items), "no list of items: {response}");
                if let Some(uid) = items.strip_prefix("(UID ") {
                    let digits = uid.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                    self.learn(number - 1, digits.parse().expect("a UID"));
                }
            }
        }
    }

    fn learn(&mut self, at: usize, uid: u32) {
        let known = self.uids[at];
        assert!(known.is_none_or(|known| known == uid), "number {} was {known:?} and is {uid}", at + 1);
        self.uids[at] = Some(uid);
        let lower = self.uids[..at].iter().flatten().next_back();
        let higher = self.uids[at + 1..].iter().flatten().next();
        let ascending = lower.is_none_or(|lower| *lower < uid) && higher.is_none_or(|higher| *higher > uid);
        assert!(ascending, "UIDs do not ascend");
    }
}
