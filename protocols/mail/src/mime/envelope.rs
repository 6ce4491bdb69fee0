//! ENVELOPE (RFC 9051 section 7.5.2).

use super::{address::Writer, imap_string::put_nstring};
use crate::header;

/// What the header gave, in the order of the answer.
struct Envelope {
    date: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    in_reply_to: Option<Vec<u8>>,
    message_id: Option<Vec<u8>>,
    /// From, Sender, Reply-To, To, Cc, Bcc.
    lists: [Option<Writer>; 6],
}

const LISTS: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Bcc"];
/// The first of them that may be spread over several fields; of the others the first field counts.
const REPEATED: usize = 3;

/// The ready ENVELOPE of a header block. Encoded words stay as they are.
pub fn envelope(header_block: &[u8]) -> Vec<u8> {
    let mut seen =
        Envelope { date: None, subject: None, in_reply_to: None, message_id: None, lists: [const { None }; 6] };
    for field in header::iter(header_block) {
        let single = match field.name.to_ascii_lowercase().as_slice() {
            b"date" => &mut seen.date,
            b"subject" => &mut seen.subject,
            b"in-reply-to" => &mut seen.in_reply_to,
            b"message-id" => &mut seen.message_id,
            _ => {
                let mut lists = LISTS.iter().zip(&mut seen.lists).enumerate();
                if let Some((place, (_, list))) = lists.find(|(_, (name, _))| field.is(name))
                    && (place >= REPEATED || list.is_none())
                {
                    list.get_or_insert_with(Writer::new).add(&header::unfold(field.value));
                }
                continue;
            }
        };
        if single.is_none() {
            *single = Some(header::unfold(field.value));
        }
    }
    seen.write()
}

impl Envelope {
    fn write(self) -> Vec<u8> {
        let mut out = vec![b'('];
        put_nstring(&mut out, self.date.as_deref());
        out.push(b' ');
        put_nstring(&mut out, self.subject.as_deref());
        let lists = self.lists.map(|list| list.map_or_else(|| b"NIL".to_vec(), Writer::finish));
        let [from, ..] = &lists;
        for (place, list) in lists.iter().enumerate() {
            //= rfc9051#section-7.5.2
            //# If the Sender or Reply-To header fields are absent in the
            //# [RFC5322] header, or are present but empty, the server sets the
            //# corresponding member of the envelope to be the same value as the
            //# from member (the client is not expected to know how to do this).
            let default = place > 0 && place < REPEATED && list == b"NIL";
            out.push(b' ');
            out.extend_from_slice(if default { from } else { list });
        }
        out.push(b' ');
        put_nstring(&mut out, self.in_reply_to.as_deref());
        out.push(b' ');
        put_nstring(&mut out, self.message_id.as_deref());
        out.push(b')');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes() {
        for (block, expected) in [
            ("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
            (
                "Date: d\r\nSubject: =?utf-8?q?x?=\r\n more\r\nFrom: F <f@x>\r\nTo: a@b\r\nTo: c@d\r\nFrom: g@h\r\n\
                In-Reply-To: <i@j>\r\nMessage-Id:\r\n <k@l>\r\nsubject: second\r\n\r\nDate: body\r\n",
                concat!(
                    r#"("d" "=?utf-8?q?x?= more" (("F" NIL "f" "x")) (("F" NIL "f" "x")) (("F" NIL "f" "x")) "#,
                    r#"((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL "<i@j>" "<k@l>")"#
                ),
            ),
            (
                "From: a@b\r\nSender: s@t\r\nReply-To: \r\nSubject:\r\nCc: c@d\r\nBcc: e@f",
                concat!(
                    r#"(NIL "" ((NIL NIL "a" "b")) ((NIL NIL "s" "t")) ((NIL NIL "a" "b")) NIL "#,
                    r#"((NIL NIL "c" "d")) ((NIL NIL "e" "f")) NIL NIL)"#
                ),
            ),
            ("Subject: caf\u{e9}\r\n\r\n", "(NIL {5}\r\ncafé NIL NIL NIL NIL NIL NIL NIL NIL)"),
        ] {
            assert_eq!(String::from_utf8_lossy(&envelope(block.as_bytes())), expected, "{block}");
        }
    }
}
