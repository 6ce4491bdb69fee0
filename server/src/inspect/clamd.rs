//! `ClamAV`: messages are streamed to `clamd` (INSTREAM), which says what is in them.

use std::io;

use rockdove_smtp::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Arrival, Verdict,
    scanner::{self, Link, NoAnswer},
    stages::{Tools, Work},
};
use crate::config::Config;

/// The field that says what was found.
const FIELD: &str = "X-Virus-Status";
/// Octets of one chunk.
const CHUNK_OCTETS: usize = 128 * 1024;
/// Octets of an answer.
const ANSWER_OCTETS_MAX: u64 = 4 * 1024;
/// What it says of a stream that is larger than its `StreamMaxLength`.
const TOO_LARGE: &str = "size limit exceeded";

pub(super) fn wants(config: &Config, client: &Client) -> bool {
    config.scan.clamd.as_ref().is_some_and(|clamd| scanner::wants(&clamd.scanner, client))
}

pub(super) fn run<'a>(tools: &'a Tools, arrival: &'a Arrival, verdict: &'a mut Verdict) -> Work<'a> {
    Box::pin(async move {
        let Some(settings) = &arrival.config.scan.clamd else { return };
        let work = |link| scan(link, &arrival.octets);
        match scanner::ask(&tools.turns, &settings.scanner, arrival, work).await {
            Ok(None) => verdict.add(FIELD, "clean"),
            Ok(Some(name)) => {
                tracing::info!(id = %arrival.envelope.id, virus = %name, "infected");
                verdict.add(FIELD, &format!("infected ({name})"));
                let why = format!("the message is infected: {name}");
                scanner::found(settings.infected, &why, "5.7.1", verdict);
            }
            Err(why) => scanner::unanswered(&settings.scanner, FIELD, &why, verdict),
        }
    })
}

/// The name of what is in the message, if there is something.
async fn scan(mut link: Link, octets: &[u8]) -> Result<Option<String>, NoAnswer> {
    // It may have its answer, and hang up, before it has had all.
    let sent = stream(&mut link, octets).await;
    let mut answer = Vec::new();
    let received = link.take(ANSWER_OCTETS_MAX).read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let answer = answer.trim_end_matches(['\0', '\n']);
    if answer.is_empty() {
        sent.and(received)?;
        return Err(NoAnswer::Failed("it hung up without an answer".to_owned()));
    }
    understood(answer)
}

async fn stream(link: &mut Link, octets: &[u8]) -> io::Result<()> {
    link.write_all(b"zINSTREAM\0").await?;
    for chunk in octets.chunks(CHUNK_OCTETS) {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        link.write_all(&length.to_be_bytes()).await?;
        link.write_all(chunk).await?;
    }
    link.write_all(&[0; 4]).await?;
    link.flush().await
}

fn understood(answer: &str) -> Result<Option<String>, NoAnswer> {
    let said = answer.split_once(": ").map_or(answer, |(_, said)| said);
    match said.strip_suffix(" FOUND") {
        Some(name) => Ok(Some(scanner::plain(name))),
        None if said == "OK" => Ok(None),
        None if answer.contains(TOO_LARGE) => Err(NoAnswer::TooLarge),
        None => Err(NoAnswer::Failed(format!("it said {:?}", scanner::plain(answer)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let name = |answer: &str| match understood(answer) {
            Ok(found) => found.unwrap_or_else(|| "clean".to_owned()),
            Err(NoAnswer::TooLarge) => "too large".to_owned(),
            Err(NoAnswer::Failed(_)) => "failed".to_owned(),
        };
        for (answer, expected) in [
            ("stream: OK", "clean"),
            ("stream: Eicar-Test-Signature FOUND", "Eicar-Test-Signature"),
            ("stream: Odd\r\nName FOUND", "Odd  Name"),
            ("INSTREAM size limit exceeded. ERROR", "too large"),
            ("stream: Can't open file ERROR", "failed"),
            ("UNKNOWN COMMAND", "failed"),
            ("", "failed"),
        ] {
            assert_eq!(name(answer), expected, "{answer:?}");
        }
    }
}
