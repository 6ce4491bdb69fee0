//! The reply of a filter that refuses: what the client is told.

/// Octets of a text that are kept.
const TEXT_OCTETS_MAX: usize = 512;

/// A reply to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 4xx or 5xx.
    pub code: u16,
    /// The enhanced status code (RFC 2034), of the same class.
    pub status: String,
    /// The text, one line of printable characters.
    pub text: String,
}

impl Reply {
    /// What is said when a filter refuses without a text of its own.
    pub(crate) fn refused() -> Self {
        Self { code: 550, status: "5.7.1".to_owned(), text: "the message was refused by a filter".to_owned() }
    }

    /// The same for a refusal that may pass.
    pub(crate) fn deferred() -> Self {
        let text = "the message cannot be taken now, try again later";
        Self { code: 451, status: "4.7.1".to_owned(), text: text.to_owned() }
    }

    /// 5xx: trying again does not help.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// Reads `550 5.7.1 text`, also of several lines. `None` when it is no refusal.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let said = String::from_utf8_lossy(data.strip_suffix(b"\0").unwrap_or(data)).into_owned();
        let (mut code, mut status, mut text) = (None, None, String::new());
        for line in said.split(['\r', '\n']).filter(|line| !line.trim().is_empty()) {
            let (digits, rest) = line.split_at_checked(3)?;
            let number: u16 = digits.parse().ok().filter(|code| (400..600).contains(code))?;
            if *code.get_or_insert(number) != number || !(rest.is_empty() || rest.starts_with([' ', '-'])) {
                return None;
            }
            let mut words = rest.get(1..).unwrap_or_default().trim();
            if let Some((first, others)) = words.split_once(' ').or(Some((words, "")))
                && is_status(first, digits)
            {
                status.get_or_insert_with(|| first.to_owned());
                words = others;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(words);
        }
        let code = code?;
        let class = if code < 500 { "4.7.1" } else { "5.7.1" };
        // A percent sign is doubled on its way, because Sendmail takes the text for a format.
        let text = text.replace("%%", "%");
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let end = (0..=TEXT_OCTETS_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = text.get(..end).unwrap_or_default().to_owned();
        Some(Self { code, status: status.unwrap_or_else(|| class.to_owned()), text })
    }
}

/// Whether a word is an enhanced status code of the class of a code.
fn is_status(word: &str, code: &str) -> bool {
    let numbers: Vec<&str> = word.split('.').collect();
    let small = |number: &&str| (1..=3).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_digit());
    numbers.len() == 3 && numbers.iter().all(small) && numbers.first().is_some_and(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        for (said, expected) in [
            ("550 5.7.1 no\0", Some((550, "5.7.1", "no"))),
            ("451 later", Some((451, "4.7.1", "later"))),
            ("554", Some((554, "5.7.1", ""))),
            ("550-5.7.9 one\r\n550 5.7.9 100%% two", Some((550, "5.7.9", "one 100% two"))),
            ("550 4.7.1 another class", Some((550, "5.7.1", "4.7.1 another class"))),
            ("550 a\x07b", Some((550, "5.7.1", "ab"))),
            ("250 fine", None),
            ("550-a\r\n451 b", None),
            ("5", None),
            ("", None),
            ("55x", None),
            ("550x", None),
        ] {
            let reply = Reply::parse(said.as_bytes());
            let reply = reply.as_ref().map(|reply| (reply.code, reply.status.as_str(), reply.text.as_str()));
            assert_eq!(reply, expected, "{said:?}");
        }
        let long = format!("550 {}", "é".repeat(1000));
        assert_eq!(Reply::parse(long.as_bytes()).expect("a reply").text.len(), TEXT_OCTETS_MAX);
    }
}
