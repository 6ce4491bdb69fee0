//! The commands about spam: `rockdove spam`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use rockdove_engine::spam::{Learnable, tokens};
use serde_json::json;

use crate::{
    admin::{Link, Reply, Request, SpamMessage, SpamVerdict},
    cli::{print, simply},
    config,
    failure::Failure,
    show::Show,
    transfer::{TransferError, loose},
};

/// Messages in one request: each has some kilobytes of tokens, forty at most.
const AT_ONCE: usize = 16;
/// Tokens that a test shows.
const TOKENS_SHOWN: usize = 20;

#[derive(Debug, Subcommand)]
pub(crate) enum SpamAction {
    /// Learn messages from files: one message, an mbox, or folders of these.
    Train(Train),
    /// Take back what was learned of messages in files.
    Forget(Forget),
    /// Tell how much was learned.
    Status {
        #[command(flatten)]
        whose: Whose,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Judge messages, and tell which of their words speak loudest.
    Test {
        /// Files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        whose: Whose,
        /// Print one JSON object per message.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// For this account alone, instead of the whole server.
    #[arg(long, value_name = "ADDRESS")]
    account: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// They are unwanted.
    #[arg(long, required_unless_present = "ham", conflicts_with = "ham")]
    spam: bool,
    /// They are wanted.
    #[arg(long)]
    ham: bool,
    /// Files or folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Files or folders.
    #[arg(required_unless_present = "all")]
    paths: Vec<PathBuf>,
    /// Everything that was learned, from users too.
    #[arg(long, conflicts_with = "paths")]
    all: bool,
    #[command(flatten)]
    whose: Whose,
}

/// What came of several requests.
#[derive(Default)]
struct Sum {
    learned: u64,
    forgotten: u64,
    known: u64,
    complaints: Vec<String>,
}

impl SpamAction {
    /// Does what was typed.
    pub(crate) fn run(self, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Status { whose, json } => {
                simply(path, Request::SpamStatus { account: whose.account }, Show::new(json))
            }
            Self::Train(Train { spam, paths, whose, .. }) => {
                let sum = say(path, &paths, &|messages| Request::SpamLearn {
                    account: whose.account.clone(),
                    spam,
                    messages,
                })?;
                sum.print(&format!("{} learned, {} were known", sum.learned, sum.known))
            }
            Self::Forget(Forget { all: true, whose, .. }) => {
                simply(path, Request::SpamForgetAll { account: whose.account }, Show::new(false))
            }
            Self::Forget(Forget { paths, whose, .. }) => {
                let sum =
                    say(path, &paths, &|messages| Request::SpamForget { account: whose.account.clone(), messages })?;
                sum.print(&format!("{} forgotten, {} were not known", sum.forgotten, sum.known))
            }
            Self::Test { paths, whose, json } => test(path, &paths, &whose, json),
        }
    }
}

impl Sum {
    fn print(&self, line: &str) -> Result<(), Failure> {
        print(&format!("{line}\n"))?;
        if self.complaints.is_empty() { Ok(()) } else { Err(Failure::Refused(self.complaints.join("\n"))) }
    }
}

fn message_octets_max(config: &config::Config) -> usize {
    usize::try_from(config.limits.message_size.bytes).unwrap_or(usize::MAX)
}

/// Gives all messages to the server, some at once.
fn say(path: &Path, paths: &[PathBuf], request: &dyn Fn(Vec<SpamMessage>) -> Request) -> Result<Sum, Failure> {
    let config = config::read(path)?;
    let mut link = Link::open(&config)?;
    let (mut sum, mut batch, mut complaints) = (Sum::default(), Vec::new(), Vec::new());
    let mut give = |batch: Vec<SpamMessage>| -> Result<(), Failure> {
        link.ask(request(batch), &mut |reply| {
            if let Reply::SpamLearned { learned, forgotten, known } = reply {
                sum.learned += u64::from(learned);
                sum.forgotten += u64::from(forgotten);
                sum.known += u64::from(known);
            }
            Ok(())
        })?;
        Ok(())
    };
    for path in paths {
        let mut visit = |octets: Vec<u8>| -> Result<(), Failure> {
            let Learnable { digest, tokens } = Learnable::of(&octets);
            batch.push(SpamMessage { digest, tokens });
            if batch.len() == AT_ONCE { give(std::mem::take(&mut batch)) } else { Ok(()) }
        };
        loose::each(path, message_octets_max(&config), &mut visit, &mut |error: &TransferError| {
            complaints.push(error.to_string());
        })?;
    }
    if !batch.is_empty() {
        give(batch)?;
    }
    sum.complaints = complaints;
    Ok(sum)
}

fn test(path: &Path, paths: &[PathBuf], whose: &Whose, json: bool) -> Result<(), Failure> {
    let config = config::read(path)?;
    let mut link = Link::open(&config)?;
    let mut complaints = Vec::new();
    for path in paths {
        let mut visit = |octets: Vec<u8>| -> Result<(), Failure> {
            let words = words(&octets);
            let tokens = tokens::numbers(&octets);
            let mut verdict = None;
            link.ask(Request::SpamTest { account: whose.account.clone(), tokens }, &mut |reply| {
                if let Reply::SpamVerdict(found) = reply {
                    verdict = Some(found);
                }
                Ok(())
            })?;
            let Some(verdict) = verdict else { return Ok(()) };
            print(&if json { as_json(path, &verdict, &words) } else { as_text(path, &verdict, &words) })
        };
        loose::each(path, message_octets_max(&config), &mut visit, &mut |error: &TransferError| {
            complaints.push(error.to_string());
        })?;
    }
    if complaints.is_empty() { Ok(()) } else { Err(Failure::Refused(complaints.join("\n"))) }
}

/// The tokens of a message by their numbers.
fn words(message: &[u8]) -> BTreeMap<u64, String> {
    let mut words = BTreeMap::new();
    tokens::each(message, &mut |token| {
        words.insert(tokens::number(token), token.to_owned());
        words.len() < tokens::TOKENS_MAX
    });
    words
}

/// The tokens that say most, with the words they are.
fn loudest<'w>(verdict: &SpamVerdict, words: &'w BTreeMap<u64, String>) -> Vec<(&'w str, u32, u32, f64)> {
    let mut tokens = verdict.tokens.clone();
    tokens.sort_by(|one, other| (other.probability - 0.5).abs().total_cmp(&(one.probability - 0.5).abs()));
    let named = tokens
        .iter()
        .filter_map(|spoken| Some((words.get(&spoken.token)?.as_str(), spoken.spam, spoken.ham, spoken.probability)));
    named.take(TOKENS_SHOWN).collect()
}

fn as_text(path: &Path, verdict: &SpamVerdict, words: &BTreeMap<u64, String>) -> String {
    let Some(score) = verdict.score else {
        return format!("{}: nothing was learned yet of unwanted, or of wanted messages\n", path.display());
    };
    let known = verdict.tokens.len();
    let mut text = format!("{}: score {score:.4}, {known} of {} tokens known\n", path.display(), words.len());
    for (word, spam, ham, probability) in loudest(verdict, words) {
        let word: String = word.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
        // Writing to a String cannot fail.
        writeln!(text, "  {probability:.4}  {spam:6} unwanted {ham:6} wanted  {word}").unwrap_or_default();
    }
    text
}

fn as_json(path: &Path, verdict: &SpamVerdict, words: &BTreeMap<u64, String>) -> String {
    let tokens: Vec<_> = loudest(verdict, words)
        .into_iter()
        .map(|(token, spam, ham, probability)| {
            json!({ "token": token, "spam": spam, "ham": ham, "probability": probability })
        })
        .collect();
    let known = verdict.tokens.len();
    format!("{}\n", json!({ "path": path, "score": verdict.score, "known": known, "tokens": tokens }))
}
