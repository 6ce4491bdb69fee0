//! Milters: mail filters as Sendmail and Postfix know them, asked about the whole message.

use bytes::Bytes;
use rockdove_mail::header;
use rockdove_milter::{
    Actions, Change, Disposition, Judgement, QUIT, Recipient, Reply, Session, Step, Subject, rewrite,
};
use rockdove_smtp::{Address, BodyKind, Client, Refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Arrival, Direction, Verdict,
    scanner::{self, Link, NoAnswer},
    stages::{Tools, Work},
};
use crate::config::Config;

/// The field that says that a milter was not asked.
const FIELD: &str = "X-Milter-Status";
/// Octets read at once.
const READ_OCTETS: usize = 8 * 1024;

pub(super) fn wants(config: &Config, client: &Client) -> bool {
    config.scan.milters.iter().any(|milter| scanner::wants(&milter.scanner, client))
}

pub(super) fn run<'a>(tools: &'a Tools, arrival: &'a Arrival, verdict: &'a mut Verdict) -> Work<'a> {
    Box::pin(async move {
        for milter in &arrival.config.scan.milters {
            if verdict.refusal.is_some() || !scanner::wants(&milter.scanner, &arrival.envelope.client) {
                continue;
            }
            // Each sees what the one before it has made of the message.
            let octets = verdict.octets.clone().unwrap_or_else(|| arrival.octets.clone());
            let subject = subject(arrival, octets.clone());
            match scanner::ask(&tools.turns, &milter.scanner, arrival, |link| converse(link, subject)).await {
                Ok(judgement) => act(judgement, &milter.scanner.name, arrival, &octets, verdict),
                Err(why) => scanner::unanswered(&milter.scanner, FIELD, &why, verdict),
            }
        }
    })
}

fn subject(arrival: &Arrival, octets: Bytes) -> Subject {
    let (envelope, client) = (&arrival.envelope, &arrival.envelope.client);
    let daemon_name = match arrival.direction() {
        Direction::Incoming => "smtp",
        Direction::Submission => "submission",
    };
    let mut parameters = vec![format!("SIZE={}", octets.len())];
    match envelope.body {
        BodyKind::SevenBit => {}
        BodyKind::EightBitMime => parameters.push("BODY=8BITMIME".to_owned()),
        BodyKind::BinaryMime => parameters.push("BODY=BINARYMIME".to_owned()),
    }
    if envelope.smtputf8 {
        parameters.push("SMTPUTF8".to_owned());
    }
    let recipients = envelope.recipients.iter();
    Subject {
        hostname: arrival.config.hostname.clone(),
        daemon_name: daemon_name.to_owned(),
        peer: client.remote,
        peer_name: None,
        helo: client.name.clone(),
        tls: client.tls.as_ref().map(|tls| (tls.version.as_str().to_owned(), tls.cipher.as_str().to_owned())),
        login: client.login.clone(),
        id: envelope.id.clone(),
        reverse_path: envelope.reverse_path.as_ref().map(Address::to_string).unwrap_or_default(),
        parameters,
        recipients: recipients
            .map(|recipient| Recipient { address: recipient.address.to_string(), parameters: Vec::new() })
            .collect(),
        octets,
        actions: Actions::ADD_HEADERS | Actions::CHANGE_HEADERS | Actions::QUARANTINE,
    }
}

async fn converse(mut link: Link, subject: Subject) -> Result<Judgement, NoAnswer> {
    let mut session = Session::new(subject);
    let mut space = [0; READ_OCTETS];
    loop {
        match session.poll() {
            Step::Send(octets) => link.write_all(&octets).await?,
            Step::Receive => match link.read(&mut space).await? {
                0 => return Err(NoAnswer::Failed("it hung up in the middle".to_owned())),
                count => session.received(space.get(..count).unwrap_or_default()),
            },
            Step::Done(end) => {
                // It has said what it had to say; a farewell that does not arrive changes nothing.
                drop(link.write_all(QUIT).await);
                return end.map_err(|failure| NoAnswer::Failed(failure.to_string()));
            }
        }
    }
}

fn refusal(reply: Reply) -> Refusal {
    Refusal { code: reply.code, status: reply.status, text: reply.text }
}

/// Does what a milter says.
fn act(judgement: Judgement, name: &str, arrival: &Arrival, octets: &Bytes, verdict: &mut Verdict) {
    match judgement.disposition {
        Disposition::Accept => {}
        Disposition::Refuse(reply) => verdict.refusal = Some(refusal(reply)),
        // Nothing is thrown away without somebody having been told.
        Disposition::Discard => scanner::quarantine(&format!("{name}: to be discarded"), verdict),
    }
    // There is one reply for all recipients, and none of them may be left out without its sender knowing.
    if let Some((place, reply)) = judgement.refused.into_iter().next() {
        let mut refusal = refusal(reply);
        if let Some(recipient) = arrival.envelope.recipients.get(place) {
            refusal.text = format!("{}: {}", recipient.address, refusal.text);
        }
        verdict.refusal = Some(refusal);
    }
    if let Some(why) = judgement.quarantine {
        scanner::quarantine(&format!("{name}: {why}"), verdict);
    }
    change(&judgement.changes, octets, verdict);
}

/// Fields that are added go before the message, as all of ours do. Where fields change, the header is another.
fn change(changes: &[Change], octets: &Bytes, verdict: &mut Verdict) {
    let changes_fields = changes.iter().any(|change| matches!(change, Change::ChangeHeader { .. }));
    if changes_fields {
        let end: usize = header::iter(octets).map(|field| field.raw.len()).sum();
        let (block, rest) = octets.split_at_checked(end).unwrap_or((octets, &[]));
        verdict.octets = Some([&rewrite(block, changes), rest].concat().into());
        return;
    }
    let added: String = changes
        .iter()
        .filter_map(|change| match change {
            Change::AddHeader { name, value } | Change::InsertHeader { name, value, .. } => {
                let space = if value.starts_with([' ', '\t']) { "" } else { " " };
                Some(format!("{name}:{space}{value}\r\n"))
            }
            _ => None,
        })
        .collect();
    verdict.fields.push_str(&added);
}
