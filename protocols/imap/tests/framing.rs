//! Where commands begin and end, however the octets arrive.

use bytes::Bytes;
use proptest::prelude::*;
use rockdove_imap::{
    grammar::{Frame, Frames},
    limits::{COMMAND_OCTETS_MAX, SKIP_OCTETS_MAX},
};

/// What comes of a stream, for a session that refuses messages for `no` and takes the others.
#[derive(Debug, PartialEq)]
enum Event {
    Frame(Frame),
    Message(Vec<u8>),
}

#[derive(Default)]
struct Reader {
    frames: Frames,
    events: Vec<Event>,
    /// Octets of a message to come, and those that have.
    message: Option<(u64, Vec<u8>)>,
}

impl Reader {
    fn hear(&mut self, octets: &[u8]) {
        self.frames.push(Bytes::copy_from_slice(octets));
        loop {
            if let Some((left, mut message)) = self.message.take() {
                let taken = self.frames.take_octets(left.min(7)).concat();
                let left = left - taken.len() as u64;
                message.extend_from_slice(&taken);
                if left == 0 {
                    self.events.push(Event::Message(message));
                } else {
                    self.message = Some((left, message));
                    if taken.is_empty() {
                        return;
                    }
                }
                continue;
            }
            let Some(frame) = self.frames.next() else { return };
            if let Frame::Append { head, octets, synchronising, .. }
            | Frame::AppendNext { head, octets, synchronising, .. } = &frame
            {
                match (head.windows(3).any(|word| word == b" no"), synchronising) {
                    (false, _) => self.message = Some((*octets, Vec::new())),
                    (true, true) => self.frames.refuse_append(),
                    // Asking for the next frame throws the octets away.
                    (true, false) => {}
                }
            }
            self.events.push(Event::Frame(frame));
        }
    }
}

fn events(pieces: &[&[u8]]) -> Vec<Event> {
    let mut reader = Reader::default();
    for piece in pieces {
        reader.hear(piece);
    }
    reader.events
}

fn command(text: &'static str) -> Event {
    Event::Frame(Frame::Command(Bytes::from_static(text.as_bytes())))
}

fn too_long(tag: Option<&str>, fatal: bool) -> Event {
    Event::Frame(Frame::TooLong { tag: tag.map(str::to_owned), fatal })
}

fn append(head: &'static str, octets: u64, synchronising: bool) -> Event {
    Event::Frame(Frame::Append { head: Bytes::from_static(head.as_bytes()), octets, synchronising, binary: false })
}

fn next(head: &'static str, octets: u64, synchronising: bool, binary: bool) -> Event {
    Event::Frame(Frame::AppendNext { head: Bytes::from_static(head.as_bytes()), octets, synchronising, binary })
}

fn tail(text: &'static str) -> Event {
    Event::Frame(Frame::AppendTail(Bytes::from_static(text.as_bytes())))
}

fn all_cases() -> Vec<(Vec<u8>, Vec<Event>)> {
    let mut all = cases();
    all.extend(several_messages());
    all
}

/// Several messages in one APPEND, and a `literal8`.
fn several_messages() -> Vec<(Vec<u8>, Vec<Event>)> {
    let message = |text: &str| Event::Message(text.as_bytes().to_vec());
    vec![
        (
            b"a APPEND x {1+}\r\na {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n".to_vec(),
            vec![
                append("a APPEND x ", 1, false),
                message("a"),
                next(" ", 8, false, false),
                message("b NOOP\r\n"),
                tail(""),
                command("c NOOP"),
            ],
        ),
        (
            b"a APPEND x {1}\r\na (\\Seen) ~{2}\r\n\0\n no {3}\r\nb NOOP\r\n".to_vec(),
            vec![
                append("a APPEND x ", 1, true),
                message("a"),
                next(" (\\Seen) ", 2, true, true),
                message("\0\n"),
                next(" no ", 3, true, false),
                command("b NOOP"),
            ],
        ),
    ]
}

fn cases() -> Vec<(Vec<u8>, Vec<Event>)> {
    let go_on = || Event::Frame(Frame::Continue);
    let message = |text: &str| Event::Message(text.as_bytes().to_vec());
    vec![
        (b"a NOOP\r\nb NOOP\nc NOOP".to_vec(), vec![command("a NOOP"), command("b NOOP")]),
        (b"\r\n\n".to_vec(), vec![command(""), command("")]),
        (b"a LOGIN {3}\r\nann {2+}\r\n\r\n\r\nb".to_vec(), vec![go_on(), command("a LOGIN {3}\r\nann {2+}\r\n\r\n")]),
        (b"a LOGIN {0}\r\n {0+}\r\n\r\n".to_vec(), vec![go_on(), command("a LOGIN {0}\r\n {0+}\r\n")]),
        // What only looks like an announcement.
        (b"a LOGIN {3}\r\n{4 x}\r\n".to_vec(), vec![go_on(), command("a LOGIN {3}\r\n{4 x}")]),
        (b"a LOGIN {3}\r\nx{4}\r\n".to_vec(), vec![go_on(), command("a LOGIN {3}\r\nx{4}")]),
        (
            b"a {-1}\r\nb {}\r\nc {+}\r\nd {3++}\r\ne 3}\r\n".to_vec(),
            vec![command("a {-1}"), command("b {}"), command("c {+}"), command("d {3++}"), command("e 3}")],
        ),
        (
            b"a APPEND x {5}\r\nab\r\nc\r\nb NOOP\r\n".to_vec(),
            vec![append("a APPEND x ", 5, true), message("ab\r\nc"), tail(""), command("b NOOP")],
        ),
        (
            b"a append {1}\r\nx (\\Seen) {3+}\r\nabc\r\n".to_vec(),
            vec![go_on(), append("a append {1}\r\nx (\\Seen) ", 3, false), message("abc"), tail("")],
        ),
        (b"a APPEND x {0}\r\n\r\n".to_vec(), vec![append("a APPEND x ", 0, true), message(""), tail("")]),
        (b"a APPEND no {9}\r\nb NOOP\r\n".to_vec(), vec![append("a APPEND no ", 9, true), command("b NOOP")]),
        (
            b"a APPEND no {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n".to_vec(),
            vec![append("a APPEND no ", 8, false), tail(""), command("c NOOP")],
        ),
        (b"a LOGIN {70000}\r\nb NOOP\r\n".to_vec(), vec![too_long(Some("a"), false), command("b NOOP")]),
        (
            [&b"a LOGIN {70000+}\r\n"[..], &vec![b'\n'; 70_000], b" {2+}\r\n\r\n {70000}\r\nb NOOP\r\n"].concat(),
            vec![too_long(Some("a"), false), command("b NOOP")],
        ),
        (b"a LOGIN {2000000+}\r\nb NOOP\r\n".to_vec(), vec![too_long(Some("a"), true)]),
        (
            b"a LOGIN {99999999999999999999999999}\r\nb NOOP\r\n".to_vec(),
            vec![too_long(Some("a"), false), command("b NOOP")],
        ),
        (
            [&b"a "[..], &vec![b'x'; COMMAND_OCTETS_MAX], b"\r\nb NOOP\r\n"].concat(),
            vec![too_long(Some("a"), false), command("b NOOP")],
        ),
        (
            [&b"a "[..], &vec![b'x'; COMMAND_OCTETS_MAX], b" {7+}\r\nb NOOP\n\r\nc NOOP\r\n"].concat(),
            vec![too_long(Some("a"), false), command("c NOOP")],
        ),
        ([&vec![b'('; COMMAND_OCTETS_MAX][..], b"\r\n"].concat(), vec![too_long(None, false)]),
        (vec![b'x'; usize::try_from(SKIP_OCTETS_MAX).expect("small") + 1], vec![too_long(None, true)]),
    ]
}

#[test]
fn the_cut_does_not_matter() {
    for (input, want) in all_cases() {
        let shown = String::from_utf8_lossy(&input[..input.len().min(60)]).into_owned();
        assert_eq!(events(&[&input]), want, "whole: {shown:?}");
        let single: Vec<&[u8]> = input.chunks(if input.len() > 200 { 4099 } else { 1 }).collect();
        assert_eq!(events(&single), want, "in pieces: {shown:?}");
        let near_the_ends = (1..input.len()).filter(|at| *at < 100 || *at + 100 > input.len());
        for at in near_the_ends {
            let (before, after) = input.split_at(at);
            assert_eq!(events(&[before, after]), want, "cut at {at}: {shown:?}");
        }
    }
}

#[test]
fn lines_of_exactly_the_limit() {
    let line = |octets: usize| [&b"a "[..], &vec![b'x'; octets - 4], b"\r\n"].concat();
    assert!(matches!(events(&[&line(COMMAND_OCTETS_MAX)])[..], [Event::Frame(Frame::Command(_))]));
    assert_eq!(events(&[&line(COMMAND_OCTETS_MAX + 1)]), [too_long(Some("a"), false)]);
}

#[test]
fn line_mode() {
    for cut in 1..24 {
        let mut frames = Frames::default();
        let (mut lines, input) = (Vec::new(), b"DONE\r\n12345678\r\n123456789\n123456789\r\n1\n");
        for piece in input.chunks(cut) {
            frames.push(Bytes::copy_from_slice(piece));
            while let Some(line) = frames.next_line(10) {
                lines.push(
                    line.map_or_else(|_| "too long".to_owned(), |line| String::from_utf8_lossy(&line).into_owned()),
                );
            }
        }
        assert_eq!(lines, ["DONE", "12345678", "123456789", "too long", "1"], "in pieces of {cut}");
        frames.push(Bytes::from_static(b"a NOOP\r\n"));
        assert_eq!(frames.next(), Some(Frame::Command(Bytes::from_static(b"a NOOP"))));
        assert!(frames.is_drained());
    }
}

#[test]
fn nothing_is_kept_across_starttls() {
    for before in ["a LOGIN {5}\r\nab", "a NO", "a APPEND x {5}\r\nab", "a NOOP\r\nb NOOP\r\n"] {
        let mut frames = Frames::default();
        frames.push(Bytes::from_static(before.as_bytes()));
        frames.next();
        frames.clear();
        assert!(frames.is_drained());
        frames.push(Bytes::from_static(b"x NOOP\r\n"));
        assert_eq!(frames.next(), Some(Frame::Command(Bytes::from_static(b"x NOOP"))));
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let long = [&b"e LOGIN {66000+}\r\n"[..], &vec![b'y'; 66_000]].concat();
    let pieces: Vec<Vec<u8>> = [
        &b"a NOOP\r\n"[..],
        b"b APPEND x {9}\r\n",
        b"b APPEND no {9+}\r\n",
        b"c LOGIN {4}\r\n",
        b"{3+}\r\n",
        b"{3}",
        b"\r\n",
        b"\n",
        b" ",
        b"d",
        &vec![b'x'; 66_000],
        &long,
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_stream_in_any_cut(input in stream(), cuts in prop::collection::vec(1usize..30_000, 1..8)) {
        let whole = events(&[&input]);
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &input[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let length = cuts.next().map_or(1, |cut| cut % (rest.len().min(90) + if rest.len() > 1_000 { 29_000 } else { 1 }));
            let (now, later) = rest.split_at(length.clamp(1, rest.len()));
            pieces.push(now);
            rest = later;
        }
        prop_assert_eq!(events(&pieces), whole);
    }
}
