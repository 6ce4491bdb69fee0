//! Rspamd: messages are given to its HTTP interface (`/checkv2`), which scores them and says what is to be done.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header::HeaderValue};
use rockdove_smtp::{Address, Client, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Arrival, Verdict, http,
    scanner::{self, Link, NoAnswer},
    stages::{Tools, Work},
};
use crate::config::{Config, RspamdSettings};

/// The field that says what was found.
const FIELD: &str = "X-Rspamd-Status";
/// Octets of an answer.
const ANSWER_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Fields that it may add.
const FIELDS_MAX: usize = 50;
/// Octets of a field that it may add.
const FIELD_OCTETS_MAX: usize = 8 * 1024;
/// Names of symbols in our field.
const SYMBOLS_MAX: usize = 30;
/// Characters of a line of our field.
const LINE_CHARACTERS: usize = 76;

/// What it answers; it says much more.
#[derive(Debug, Deserialize)]
struct Answer {
    action: String,
    #[serde(default)]
    score: f64,
    #[serde(default)]
    required_score: f64,
    #[serde(default)]
    symbols: serde_json::Map<String, Value>,
    #[serde(default)]
    messages: serde_json::Map<String, Value>,
    #[serde(default)]
    milter: Wishes,
}

/// What a milter in its place would do.
#[derive(Debug, Default, Deserialize)]
struct Wishes {
    #[serde(default)]
    add_headers: serde_json::Map<String, Value>,
}

pub(super) fn wants(config: &Config, client: &Client) -> bool {
    config.scan.rspamd.as_ref().is_some_and(|rspamd| scanner::wants(&rspamd.scanner, client))
}

pub(super) fn run<'a>(tools: &'a Tools, arrival: &'a Arrival, verdict: &'a mut Verdict) -> Work<'a> {
    Box::pin(async move {
        let Some(settings) = &arrival.config.scan.rspamd else { return };
        match scanner::ask(&tools.turns, &settings.scanner, arrival, |link| check(link, arrival)).await {
            Ok(answer) => act(&answer, settings, verdict),
            Err(why) => scanner::unanswered(&settings.scanner, FIELD, &why, verdict),
        }
    })
}

async fn check(link: Link, arrival: &Arrival) -> Result<Answer, NoAnswer> {
    let request = request(arrival).map_err(|error| NoAnswer::Failed(error.to_string()))?;
    let answer = http::exchange(link, request, ANSWER_OCTETS_MAX).await?;
    serde_json::from_slice(&answer).map_err(|error| NoAnswer::Failed(format!("its answer cannot be read: {error}")))
}

/// The message, with its envelope in the header of the request.
fn request(arrival: &Arrival) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let (envelope, client) = (&arrival.envelope, &arrival.envelope.client);
    let mut request = Request::post("/checkv2")
        .header("Host", "rspamd")
        .header("Content-Length", arrival.octets.len())
        .header("Connection", "close");
    let sender = envelope.reverse_path.as_ref().map(Address::to_string).unwrap_or_default();
    let mut facts = vec![
        ("Queue-Id", envelope.id.clone()),
        ("MTA-Name", arrival.config.hostname.clone()),
        ("From", sender),
        ("Helo", client.name.clone()),
    ];
    facts.extend(arrival.address().map(|address| ("IP", address.to_string())));
    facts.extend(client.login.clone().map(|login| ("User", login)));
    facts.extend(client.tls.as_ref().map(|tls| ("TLS-Version", tls.version.as_str().to_owned())));
    facts.extend(envelope.recipients.iter().map(|recipient| ("Rcpt", recipient.address.to_string())));
    for (name, value) in facts {
        // What no header can have, Rspamd does not need to know.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(arrival.octets.clone()))
}

/// Does what it says.
fn act(answer: &Answer, settings: &RspamdSettings, verdict: &mut Verdict) {
    verdict.fields.push_str(&status(answer));
    for (name, value) in &answer.milter.add_headers {
        add(name, value, verdict);
    }
    let text = ["smtp_message"].iter().find_map(|key| answer.messages.get(*key)).and_then(Value::as_str);
    let score = format!("spam score {:.1}", answer.score);
    match answer.action.as_str() {
        "add header" | "rewrite subject" => verdict.junk = true,
        "reject" => {
            let why = text.map_or_else(|| format!("the message looks like spam ({score})"), scanner::plain);
            scanner::found(settings.reject, &why, "5.7.1", verdict);
        }
        "soft reject" | "greylist" => {
            let text = text.map_or_else(|| "not now, try again later".to_owned(), scanner::plain);
            verdict.refusal = Some(Refusal { code: 451, status: "4.7.1".to_owned(), text });
        }
        // Nothing is thrown away without somebody having been told.
        "quarantine" | "discard" => scanner::quarantine(&format!("rspamd: {}, {score}", answer.action), verdict),
        _ => {}
    }
}

/// Our field: action, score and the symbols that weigh something.
fn status(answer: &Answer) -> String {
    let (action, score, required) = (scanner::plain(&answer.action), answer.score, answer.required_score);
    let mut field = format!("{FIELD}: {action}; score={score:.2} required={required:.2}");
    let weight = |value: &Value| value.get("score").and_then(Value::as_f64).unwrap_or_default();
    let mut symbols: Vec<(&String, f64)> =
        answer.symbols.iter().map(|(name, value)| (name, weight(value))).filter(|(_, weight)| *weight != 0.0).collect();
    symbols.sort_by(|(_, one), (_, other)| other.abs().total_cmp(&one.abs()));
    let mut column = field.len();
    for (number, (name, weight)) in symbols.into_iter().take(SYMBOLS_MAX).enumerate() {
        let word = format!("{}({weight:.2})", scanner::plain(name).replace([' ', ','], "_"));
        let before = if number == 0 { ";" } else { "," };
        field.push_str(before);
        if column + word.len() + 2 > LINE_CHARACTERS {
            field.push_str("\r\n\t");
            column = 8;
        } else {
            field.push(' ');
        }
        column += word.len() + 2;
        field.push_str(&word);
    }
    field.push_str("\r\n");
    field
}

/// A field that it wants added: a value, an object with a value, or a list of these.
fn add(name: &str, value: &Value, verdict: &mut Verdict) {
    let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    let count = verdict.fields.matches('\n').count();
    match value {
        Value::Array(values) if is_name => values.iter().take(FIELDS_MAX).for_each(|value| add(name, value, verdict)),
        Value::Object(object) => {
            if let Some(value) = object.get("value") {
                add(name, value, verdict);
            }
        }
        Value::String(text) if is_name && count < FIELDS_MAX => {
            let lines = text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
            let text: Vec<String> = lines.map(|line| line.chars().filter(|c| !c.is_control()).collect()).collect();
            let text = text.join("\r\n\t");
            if text.len() <= FIELD_OCTETS_MAX {
                verdict.add(name, &text);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OnFailure, OnFound, Scanner, ScannerAddress, Size, Span};

    fn settings(reject: OnFound) -> RspamdSettings {
        let scanner = Scanner {
            name: "rspamd".to_owned(),
            address: ScannerAddress::Tcp("127.0.0.1".to_owned(), 11333),
            mail: Vec::new(),
            timeout: Span::seconds(1),
            connections: 1,
            size_max: Size::mib(1),
            on_failure: OnFailure::Defer,
        };
        RspamdSettings { scanner, reject }
    }

    fn verdict(answer: &str, reject: OnFound) -> Verdict {
        let mut verdict = Verdict::default();
        act(&serde_json::from_str(answer).expect("an answer"), &settings(reject), &mut verdict);
        verdict
    }

    #[test]
    fn actions() {
        let code = |verdict: &Verdict| verdict.refusal.as_ref().map(|refusal| refusal.code);
        for (action, reject, junk, refused, kept) in [
            ("no action", OnFound::Reject, false, None, false),
            ("add header", OnFound::Reject, true, None, false),
            ("rewrite subject", OnFound::Reject, true, None, false),
            ("greylist", OnFound::Reject, false, Some(451), false),
            ("soft reject", OnFound::Reject, false, Some(451), false),
            ("reject", OnFound::Reject, false, Some(550), false),
            ("reject", OnFound::Quarantine, false, None, true),
            ("reject", OnFound::Mark, true, None, false),
            ("discard", OnFound::Reject, false, None, true),
            ("quarantine", OnFound::Reject, false, None, true),
            ("something new", OnFound::Reject, false, None, false),
        ] {
            let verdict = verdict(&format!("{{\"action\": \"{action}\", \"score\": 1}}"), reject);
            let found = (verdict.junk, code(&verdict), verdict.quarantine.is_some());
            assert_eq!(found, (junk, refused, kept), "{action} {reject:?}");
        }
    }

    #[test]
    fn fields() {
        let answer = r#"{
            "action": "no action", "score": -0.5, "required_score": 15,
            "symbols": {"ZERO": {"score": 0}, "LITTLE": {"score": 0.1}, "MUCH": {"score": -2.5}},
            "milter": {"add_headers": {
                "X-One": "a\r\nEvil: b", "X Bad": "c", "X-Two": {"value": "d", "order": 1}, "X-Many": ["e", {"value": "f"}]
            }}
        }"#;
        let expected = "X-Rspamd-Status: no action; score=-0.50 required=15.00; MUCH(-2.50),\r\n\tLITTLE(0.10)\r\n\
            X-Many: e\r\nX-Many: f\r\nX-One: a\r\n\tEvil: b\r\nX-Two: d\r\n";
        assert_eq!(verdict(answer, OnFound::Reject).fields, expected);
    }
}
