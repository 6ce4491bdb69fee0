//! How well spam is told from wanted mail.
//!
//! `cargo run -p rockdove-benches --example spam -- HAM SPAM [splits]` takes two folders of messages. For each of several
//! splits (fixed seeds) it learns one half of both, judges the other half, and prints the means: precision, recall and
//! the share of wanted messages called spam at several limits, and the recall where one in a thousand wanted messages is.
//! Once with the messages as they are, and once without what tells the mailing lists of a collection: tags in subjects
//! and the lines that lists add at the end. Fields of lists, of transport and of collectors are never looked at.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement prints shares")]

use std::{borrow::Cow, env, error::Error, path::Path, sync::Arc};

use rockdove_benches::corpus::Corpus;
use rockdove_engine::{
    Engine, EngineOptions,
    kv::{SharedKv, memory::MemoryKv},
    spam::{Class, Learnable},
};

const NOW: i64 = 1_800_000_000;
const SPLITS_DEFAULT: u64 = 10;
const LIMITS: [f64; 6] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Lines at the end of a message in which what a list adds is looked for.
const FOOTER_LINES: usize = 14;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (Some(ham), Some(spam)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: spam HAM SPAM [splits]".into());
    };
    let splits = arguments.get(2).map_or(Ok(SPLITS_DEFAULT), |splits| splits.parse())?;
    for (without_lists, title) in [(false, "as they are"), (true, "without the marks of mailing lists")] {
        let (ham, spam) = (read(Path::new(ham), without_lists)?, read(Path::new(spam), without_lists)?);
        println!("{} wanted and {} unwanted messages, {title}; {splits} splits", ham.len(), spam.len());
        let mut sums = Sums::default();
        for seed in 1..=splits {
            sums.add(&judge_half(&ham, &spam, seed)?);
        }
        sums.print(splits as f64);
    }
    Ok(())
}

fn read(folder: &Path, without_lists: bool) -> Result<Vec<Learnable>> {
    let Corpus::Real(messages) = Corpus::read(folder)? else { return Err("no folder".into()) };
    let messages = messages.into_iter().filter(|(name, _)| !name.ends_with("/cmds"));
    let prepared = messages.map(|(_, message)| {
        Learnable::of(&if without_lists { unmarked(&message) } else { Cow::Borrowed(&message[..]) })
    });
    Ok(prepared.collect())
}

/// A message without the tags in brackets of its subject, and without what a list adds at its end.
fn unmarked(message: &[u8]) -> Cow<'_, [u8]> {
    let end = message.windows(4).position(|octets| octets == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    let (header, body) = message.split_at(end);
    let mut out = Vec::with_capacity(message.len());
    for line in header.split_inclusive(|octet| *octet == b'\n') {
        let mut line = line.to_vec();
        while line.to_ascii_lowercase().starts_with(b"subject:")
            && let Some(open) = line.iter().position(|octet| *octet == b'[')
            && let Some(close) = line.iter().position(|octet| *octet == b']').filter(|close| *close > open)
        {
            line.drain(open..=close);
        }
        out.extend_from_slice(&line);
    }
    let lines: Vec<&[u8]> = body.split_inclusive(|octet| *octet == b'\n').collect();
    let rule = |line: &[u8]| [&b"_____"[..], b"-----", b"=====", b"-- "].iter().any(|rule| line.starts_with(rule));
    let of_list = |lines: &[&[u8]]| {
        let text = String::from_utf8_lossy(&lines.concat()).to_lowercase();
        ["mailing list", "listinfo", "maintainer", "yahoogroups", "unsubscribe", "sponsored by", "list archive"]
            .iter()
            .any(|word| text.contains(word))
    };
    let last = lines.len().saturating_sub(FOOTER_LINES)..lines.len();
    let cut = last.into_iter().find(|at| rule(lines[*at]) && of_list(&lines[*at..])).unwrap_or(lines.len());
    out.extend_from_slice(&lines[..cut].concat());
    out.into()
}

/// The scores of the halves that were not learned.
struct Scores {
    ham: Vec<f64>,
    spam: Vec<f64>,
}

fn judge_half(ham: &[Learnable], spam: &[Learnable], seed: u64) -> Result<Scores> {
    let engine = Engine::open(Arc::new(MemoryKv::new()) as SharedKv, EngineOptions::default())?;
    let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut halves = Vec::new();
    for (class, messages) in [(Class::Ham, ham), (Class::Spam, spam)] {
        let mut messages: Vec<&Learnable> = messages.iter().collect();
        shuffle(&mut messages, &mut dice);
        let (learned, judged) = messages.split_at(messages.len() / 2);
        for some in learned.chunks(256) {
            let some: Vec<Learnable> = some.iter().copied().cloned().collect();
            engine.learn(NOW, None, class, &some)?;
        }
        halves.push(judged.to_vec());
    }
    let scores = |messages: &[&Learnable]| -> Result<Vec<f64>> {
        let score = |message: &&Learnable| {
            let judgement = engine.judge(None, &message.tokens, 1)?.ok_or("nothing was learned")?;
            Ok(judgement.score)
        };
        messages.iter().map(score).collect()
    };
    Ok(Scores { ham: scores(&halves[0])?, spam: scores(&halves[1])? })
}

fn shuffle<T>(all: &mut [T], dice: &mut u64) {
    for last in (1..all.len()).rev() {
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        all.swap(last, usize::try_from(*dice % (last as u64 + 1)).unwrap_or(0));
    }
}

/// Precision, recall and share of wanted messages called spam, at each limit.
#[derive(Default)]
struct Sums {
    at_limits: [[f64; 3]; LIMITS.len()],
    one_in_a_thousand: f64,
}

impl Sums {
    fn add(&mut self, scores: &Scores) {
        let above = |scores: &[f64], limit: f64| scores.iter().filter(|score| **score > limit).count() as f64;
        let share = |part: f64, all: usize| part / all.max(1) as f64;
        for (sums, limit) in self.at_limits.iter_mut().zip(LIMITS) {
            let (right, wrong) = (above(&scores.spam, limit), above(&scores.ham, limit));
            sums[0] += right / (right + wrong).max(1.0);
            sums[1] += share(right, scores.spam.len());
            sums[2] += share(wrong, scores.ham.len());
        }
        let mut ham = scores.ham.clone();
        ham.sort_by(|one, other| other.total_cmp(one));
        let limit = ham.get(ham.len() / 1_000).copied().unwrap_or(1.0);
        self.one_in_a_thousand += share(above(&scores.spam, limit), scores.spam.len());
    }

    fn print(&self, splits: f64) {
        println!("  limit  precision  recall  wanted called spam");
        for (sums, limit) in self.at_limits.iter().zip(LIMITS) {
            let [precision, recall, wrong] = sums.map(|sum| 100.0 * sum / splits);
            println!("  {limit:.2}   {precision:8.2} % {recall:6.1} %  {wrong:.3} %");
        }
        println!(
            "  where 0.1 % of the wanted are called spam: {:.1} % recall",
            100.0 * self.one_in_a_thousand / splits
        );
    }
}
