//! The client side of IMAP (RFC 9051), as far as a load generator needs it.

use std::ops::Range;

use crate::{
    failure::{LoadError, Result},
    link::Link,
    login::Login,
    target::{Target, TlsMode},
};

/// Octets of one literal; larger than any message a server takes.
const LITERAL_BYTES_MAX: usize = 1 << 30;

/// One response with its literals, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// All octets, the last CRLF included.
    pub octets: Vec<u8>,
    /// Where the literals' octets are.
    pub literals: Vec<Range<usize>>,
}

impl Response {
    /// The octets of a literal, counted from 0.
    pub fn literal(&self, index: usize) -> Option<&[u8]> {
        self.octets.get(self.literals.get(index)?.clone())
    }

    /// Number and name of `* 12 EXISTS` and the like.
    pub fn numbered(&self) -> Option<(u32, &[u8])> {
        let rest = self.octets.strip_prefix(b"* ")?;
        let mut words = rest.split(|octet| b" \r\n".contains(octet));
        let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some((number, words.next()?))
    }

    /// Everything after `* NAME `, when this is an untagged response of that name.
    pub fn named(&self, name: &str) -> Option<&[u8]> {
        let rest = self.octets.strip_prefix(b"* ")?;
        let (word, rest) = rest.split_at_checked(name.len())?;
        let ends = rest.first().is_none_or(|octet| b" \r\n".contains(octet));
        (word.eq_ignore_ascii_case(name.as_bytes()) && ends).then(|| rest.trim_ascii())
    }
}

/// The count of octets when a literal follows this line: `{12}`, `{12+}`, `~{12}` at its end.
pub fn literal_after(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"\r\n")?.strip_suffix(b"}")?;
    let open = inside.iter().rposition(|&octet| octet == b'{')?;
    let digits = inside.get(open + 1..)?;
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if all { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// Whether the rest of a line is text for people, which may end like a literal without being one.
fn is_text(line: &[u8]) -> bool {
    if line.first() != Some(&b'*') {
        return true;
    }
    let name = line.get(2..).unwrap_or_default().split(|octet| b" \r\n".contains(octet)).next().unwrap_or_default();
    [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|text| name.eq_ignore_ascii_case(text))
}

/// What one command brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Untagged responses.
    pub untagged: u64,
    /// Octets of all responses.
    pub octets: u64,
}

/// What is known of a selected mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Messages.
    pub exists: u32,
    /// The UID the next message gets, at least.
    pub uid_next: u32,
}

/// A session that is logged in.
pub struct Imap {
    link: Link,
    tag: u64,
    response: Response,
}

impl Imap {
    /// Connects, begins TLS as wanted and logs in.
    ///
    /// # Errors
    /// When the server refuses any of it.
    pub async fn open(target: &Target, login: &Login, number: usize) -> Result<Self> {
        let link = Link::connect(target, number).await?;
        let mut imap = Self { link, tag: 0, response: Response::default() };
        imap.receive().await?;
        if imap.response.named("OK").is_none() {
            return Err(LoadError::refused("the connection", &imap.response.octets));
        }
        if target.tls == TlsMode::Starttls {
            imap.command("STARTTLS", |_| ()).await?;
            imap.link.start_tls(target).await?;
        }
        let tag = imap.next_tag();
        let line = format!("{tag} LOGIN {} {}\r\n", quoted(&login.user)?, quoted(&login.password)?);
        imap.link.send(line.as_bytes()).await?;
        imap.finish(&tag, &format!("LOGIN {}", login.user), &mut |_| ()).await?;
        Ok(imap)
    }

    fn next_tag(&mut self) -> String {
        self.tag += 1;
        format!("L{}", self.tag)
    }

    /// Reads one response.
    async fn receive(&mut self) -> Result<()> {
        let Self { link, response, .. } = self;
        response.octets.clear();
        response.literals.clear();
        link.line(&mut response.octets).await?;
        if is_text(&response.octets) {
            return Ok(());
        }
        while let Some(count) = literal_after(&response.octets) {
            if count > LITERAL_BYTES_MAX {
                return Err(LoadError::Broken(format!("a literal of {count} octets")));
            }
            let start = response.octets.len();
            link.octets(count, &mut response.octets).await?;
            response.literals.push(start..start + count);
            let line_start = response.octets.len();
            link.line(&mut response.octets).await?;
            // The literal may itself end like the announcement of one.
            if literal_after(response.octets.get(line_start..).unwrap_or_default()).is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Reads up to the tagged response, which must be OK.
    async fn finish(&mut self, tag: &str, asked: &str, each: &mut dyn FnMut(&Response)) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        loop {
            self.receive().await?;
            outcome.octets += self.response.octets.len() as u64;
            let octets = self.response.octets.as_slice();
            if octets.starts_with(b"* ") {
                if self.response.named("BYE").is_some() && !asked.eq_ignore_ascii_case("LOGOUT") {
                    return Err(LoadError::refused(asked, octets));
                }
                outcome.untagged += 1;
                each(&self.response);
                continue;
            }
            let rest = octets.strip_prefix(tag.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
            return match rest {
                Some(rest) if rest.starts_with(b"OK") => Ok(outcome),
                Some(rest) if rest.starts_with(b"NO") || rest.starts_with(b"BAD") => {
                    Err(LoadError::refused(asked, rest))
                }
                _ => Err(LoadError::broken("a response", octets)),
            };
        }
    }

    /// Sends a command without its tag and shows every untagged response to `each`.
    ///
    /// # Errors
    /// When the server does not say OK.
    pub async fn command(&mut self, command: &str, mut each: impl FnMut(&Response)) -> Result<Outcome> {
        let tag = self.next_tag();
        self.link.send(format!("{tag} {command}\r\n").as_bytes()).await?;
        self.finish(&tag, command, &mut each).await
    }

    /// Selects a mailbox.
    ///
    /// # Errors
    /// When the server does not let us.
    pub async fn select(&mut self, mailbox: &str) -> Result<Selected> {
        let mut selected = Selected { exists: 0, uid_next: 1 };
        let command = format!("SELECT {}", quoted(mailbox)?);
        self.command(&command, |response| {
            if let Some((exists, b"EXISTS")) = response.numbered() {
                selected.exists = exists;
            }
            let code = response.named("OK").and_then(|rest| rest.strip_prefix(b"[UIDNEXT "));
            let digits = code.and_then(|code| code.split(|&octet| octet == b']').next());
            if let Some(number) = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()) {
                selected.uid_next = number;
            }
        })
        .await?;
        Ok(selected)
    }

    /// Starts APPEND of a message. With `wait` the server's leave is awaited before the octets are sent; without, the
    /// server must know LITERAL+ (RFC 7888). The tag says which [`Imap::appended`] belongs to it.
    ///
    /// # Errors
    /// When the server does not want the message.
    pub async fn append(&mut self, mailbox: &str, message: &[u8], wait: bool) -> Result<String> {
        let tag = self.next_tag();
        let plus = if wait { "" } else { "+" };
        let mut octets = format!("{tag} APPEND {} {{{}{plus}}}\r\n", quoted(mailbox)?, message.len()).into_bytes();
        if wait {
            self.link.send(&octets).await?;
            self.go_ahead("APPEND").await?;
            octets.clear();
        }
        octets.extend_from_slice(message);
        octets.extend_from_slice(b"\r\n");
        self.link.send(&octets).await?;
        Ok(tag)
    }

    /// Awaits the end of an APPEND.
    ///
    /// # Errors
    /// When it failed.
    pub async fn appended(&mut self, tag: &str) -> Result<Outcome> {
        self.finish(tag, "APPEND", &mut |_| ()).await
    }

    async fn go_ahead(&mut self, asked: &str) -> Result<()> {
        loop {
            self.receive().await?;
            let octets = self.response.octets.as_slice();
            if octets.starts_with(b"+") {
                return Ok(());
            }
            if !octets.starts_with(b"* ") || self.response.named("BYE").is_some() {
                return Err(LoadError::refused(asked, octets));
            }
        }
    }

    /// Begins IDLE (RFC 2177).
    ///
    /// # Errors
    /// When the server does not let us.
    pub async fn idle(&mut self) -> Result<()> {
        let tag = self.next_tag();
        self.link.send(format!("{tag} IDLE\r\n").as_bytes()).await?;
        self.go_ahead("IDLE").await
    }

    /// In IDLE: waits as long as it takes for `* n EXISTS`. Whatever else comes, such as `* OK Still here`, is read over.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn new_mail(&mut self) -> Result<u32> {
        loop {
            self.response = Response::default();
            self.link.rest().await?;
            self.receive().await?;
            if self.response.named("BYE").is_some() {
                return Err(LoadError::refused("IDLE", &self.response.octets));
            }
            if let Some((exists, b"EXISTS")) = self.response.numbered() {
                return Ok(exists);
            }
        }
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the connection breaks before the server's goodbye.
    pub async fn logout(mut self) -> Result<()> {
        self.command("LOGOUT", |_| ()).await.map(drop)
    }
}

/// A quoted string (RFC 9051 section 4.3).
///
/// # Errors
/// When the text has octets that cannot be quoted.
pub fn quoted(text: &str) -> Result<String> {
    if text.contains(['\r', '\n', '\0']) {
        return Err(LoadError::Usage(format!("{text:?} cannot be sent in a line")));
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> Response {
        Response { octets: text.as_bytes().to_vec(), literals: Vec::new() }
    }

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        for (line, want) in [
            (&b"* 1 FETCH (BODY[] {12}\r\n"[..], Some(12)),
            (b"* 1 FETCH (BINARY[] ~{0}\r\n", Some(0)),
            (b"{5+}\r\n", Some(5)),
            (b"* 1 FETCH (UID 1)\r\n", None),
            (b"{}\r\n", None),
            (b"{+}\r\n", None),
            (b"{-1}\r\n", None),
            (b"{12}", None),
            (b"{12} \r\n", None),
            (b"{99999999999999999999999}\r\n", None),
        ] {
            assert_eq!(literal_after(line), want, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn text_for_people_announces_nothing() {
        assert!(is_text(b"* OK see {5}\r\n") && is_text(b"* bye {5}\r\n") && is_text(b"L1 NO {5}\r\n"));
        assert!(!is_text(b"* 1 FETCH (BODY[] {5}\r\n") && !is_text(b"* OKAY {5}\r\n"));
    }

    #[test]
    fn untagged_responses_are_told_apart() {
        assert_eq!(response("* 12 EXISTS\r\n").numbered(), Some((12, &b"EXISTS"[..])));
        assert_eq!(response("* 12 FETCH (UID 1)\r\n").numbered(), Some((12, &b"FETCH"[..])));
        assert_eq!(response("* SEARCH 1 2\r\n").numbered(), None);
        assert_eq!(response("* SEARCH 1 2\r\n").named("SEARCH"), Some(&b"1 2"[..]));
        assert_eq!(response("* SEARCH\r\n").named("search"), Some(&b""[..]));
        assert_eq!(response("* SEARCHES 1\r\n").named("SEARCH"), None);
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted(r#"a"b\c"#).expect("quoted"), r#""a\"b\\c""#);
        assert!(quoted("a\r\nb").is_err());
    }
}
