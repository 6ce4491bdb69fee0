//! Stage two: how likely the message is unwanted, for each copy by what the server and its account have learned.
//!
//! ```text
//! X-Spam-Score: 0.9731
//! X-Spam-Status: Yes, score=0.9731 required=0.8000
//! X-Spam-Flag: YES                                      where the copy goes into the mailbox for junk
//! ```

use rockdove_engine::{
    AccountId, Engine, EngineError, StagedMessage,
    spam::{Judgement, tokens},
};
use rockdove_mail::{MetadataEntry, MetadataScope};
use rockdove_smtp::{Refusal, Role};

use super::Job;
use crate::config::{Score, SpamSettings};

/// The annotation of the server by which an account says `off` (RFC 5464).
pub(super) const SWITCH: &str = "/vendor/rockdove/spam";

/// Answers a refusal where the message is unwanted by everybody, and so much that it is not taken. Mail of our own users
/// is theirs to answer for, and what comes by LMTP has been judged.
pub(super) fn judge(job: &mut Job, engine: &Engine, message: &StagedMessage) -> Option<Refusal> {
    let settings = &job.config.spam;
    if !settings.enabled || job.mail.envelope.client.role != Role::Mx {
        return None;
    }
    let accounts: Vec<AccountId> = job.copies.iter().map(|copy| copy.account).collect();
    let judgements = match judgements(engine, message, &accounts, settings.learned_least) {
        Ok(judgements) => judgements?,
        Err(error) => {
            tracing::warn!(id = %job.mail.envelope.id, %error, "a message was not judged");
            return None;
        }
    };
    let mut least = None;
    for (copy, judgement) in job.copies.iter_mut().zip(judgements) {
        let Some(judgement) = judgement else {
            least = Some(Score::new(0.0));
            continue;
        };
        let score = Score::new(judgement.score);
        let unwanted = score > settings.junk_above;
        copy.fields = fields(score, settings, unwanted);
        let off = unwanted && is_off(engine, copy.account);
        copy.junk = unwanted && !off;
        let counted = if off { Score::new(0.0) } else { score };
        least = Some(least.map_or(counted, |least: Score| least.min(counted)));
        let verdict = if unwanted { "spam" } else { "ham" };
        metrics::counter!("rockdove_spam_judged_total", "verdict" => verdict).increment(1);
    }
    // Mail that leads elsewhere is for others to judge.
    let all_here = job.leaving.is_empty() && job.onward.is_empty();
    least.filter(|least| all_here && *least > settings.reject_above)?;
    metrics::counter!("rockdove_spam_rejected_total").increment(1);
    let text = "the message looks like spam".to_owned();
    Some(Refusal { code: 550, status: "5.7.1".to_owned(), text })
}

/// What each account thinks of a message; `None` while nobody has learned enough to say anything.
fn judgements(
    engine: &Engine,
    message: &StagedMessage,
    accounts: &[AccountId],
    least: u32,
) -> Result<Option<Vec<Option<Judgement>>>, EngineError> {
    if accounts.is_empty() || !engine.has_learned(accounts, least)? {
        return Ok(None);
    }
    let tokens = tokens::numbers(&engine.staged_start(message, tokens::OCTETS_MAX as u64)?);
    engine.judge_each(accounts, &tokens, least).map(Some)
}

fn fields(score: Score, settings: &SpamSettings, unwanted: bool) -> String {
    let (word, limit) = (if unwanted { "Yes" } else { "No" }, settings.junk_above);
    format!("X-Spam-Score: {score}\r\nX-Spam-Status: {word}, score={score} required={limit}\r\n")
}

/// Whether an account wants nothing sorted. Who cannot be asked has not said so.
fn is_off(engine: &Engine, account: AccountId) -> bool {
    let said = || -> Result<bool, EngineError> {
        let annotations = engine.server_annotations(account)?;
        let is_switch = |entry: &MetadataEntry| entry.scope() == MetadataScope::Private && entry.path() == SWITCH;
        Ok(annotations.iter().any(|(entry, value)| is_switch(entry) && value.eq_ignore_ascii_case(b"off")))
    };
    said().unwrap_or(false)
}
