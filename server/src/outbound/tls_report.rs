//! Reports to other domains on how well connections to them were protected (TLS-RPT, RFC 8460).

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use rockdove_engine::{Command, EngineError, MemoKind};
use rockdove_mail::date::{Civil, date_time};
use serde_json::{Value, json};

use super::{
    connect::is_elsewhere,
    results::{self, Counted, DAY_S, Day},
    runner::Runner,
    settle::now_ms,
    sts,
};
use crate::{delivery, dns::DnsFailure, net::https::Ask, runtime::clock};

/// Days and domains looked at in one go.
const AT_ONCE: usize = 100;
/// Addresses of one domain that are told.
const RECIPIENTS_MAX: usize = 8;
/// A report that cannot be handed over is given up after this time.
const GIVE_UP_AFTER_DAYS: i64 = 3;
/// Reports of a day leave over this time after midnight, each domain at its own moment (RFC 8460 section 3).
const SPREAD_S: u64 = 4 * 60 * 60;
/// Octets of a line of Base64.
const BASE64_LINE: usize = 76;
/// Octets of an answer to a report that are read.
const ANSWER_OCTETS_MAX: usize = 64 * 1024;

/// What is told to one domain of one day.
struct Report {
    domain: String,
    id: String,
    day: i64,
    submitter: String,
    from: String,
    packed: Vec<u8>,
}

impl Runner {
    /// Forgets policies of other domains that have no force any more.
    pub(super) async fn sweep_policies(&self) {
        let mut after = String::new();
        loop {
            let (engine, from, now) = (self.engine(), after.clone(), clock::now().unix_s);
            match self.on_storage(move || sts::forget_dead(&engine, now, &from)).await.flatten() {
                Some(last) => after = last,
                None => return,
            }
        }
    }

    /// Sends what is due. `now`: everything, that of today too.
    pub(super) async fn report_protection(self: &Rc<Self>, now: bool) {
        self.results.write(self.services(), true).await;
        let mut after = String::new();
        loop {
            let (engine, from) = (self.engine(), after.clone());
            let Some(names) = self.on_storage(move || engine.memos(MemoKind::TlsResults, &from, AT_ONCE)).await else {
                return;
            };
            let Some(last) = names.last() else { return };
            after.clone_from(last);
            for name in &names {
                let Some((day, domain)) = results::parts(name) else { continue };
                if now || is_due(day, domain, clock::now().unix_s) {
                    self.report_day(name, day, domain).await;
                }
            }
        }
    }

    /// Runs something that waits for the disk. `None`, and a line in the log, when it fails.
    async fn on_storage<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let job = move || drop(tell.send(work()));
        self.services().storage.run(job).ok()?;
        match told.await.ok()? {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!(%error, "policies of other domains and reports to them cannot be looked after now");
                None
            }
        }
    }

    /// Tells a domain what a day has brought, if it wants to know, and forgets it then.
    async fn report_day(self: &Rc<Self>, name: &str, day: i64, domain: &str) {
        let recipients = match self.dns.texts(&format!("_smtp._tls.{domain}")).await {
            Ok(texts) => recipients(&texts),
            Err(DnsFailure::Nothing | DnsFailure::NoMail) => Vec::new(),
            Err(failure) => {
                tracing::debug!(domain, %failure, "whether it wants reports cannot be found out");
                return self.forget_old(name, day).await;
            }
        };
        if recipients.is_empty() {
            return self.forget(name).await;
        }
        let (engine, row) = (self.engine(), name.to_owned());
        let Some(counted) = self.on_storage(move || results::day(&engine, &row)).await else { return };
        let Some(report) = self.compose(day, domain, &counted) else { return };
        let mut told = false;
        for recipient in recipients {
            told |= match recipient {
                Recipient::Mail(address) => self.by_mail(&report, &address).await,
                Recipient::Web(host, path) => self.by_web(&report, &host, &path).await,
            };
        }
        if told { self.forget(name).await } else { self.forget_old(name, day).await }
    }

    async fn forget(&self, name: &str) {
        let (engine, changes) = (self.engine(), vec![(MemoKind::TlsResults, name.to_owned(), None)]);
        let unix_s = clock::now().unix_s;
        self.on_storage(move || engine.execute(unix_s, Command::Memo { changes })).await;
    }

    async fn forget_old(&self, name: &str, day: i64) {
        if clock::now().unix_s.div_euclid(DAY_S) - day > GIVE_UP_AFTER_DAYS {
            self.forget(name).await;
        }
    }

    fn compose(&self, day: i64, domain: &str, counted: &Day) -> Option<Report> {
        let config = self.services().config();
        let from = config.outbound.tls_reports_from.clone();
        let from = from.unwrap_or_else(|| format!("postmaster@{}", config.hostname));
        let id = format!("{day}.{}@{}", blake3_name(domain), config.hostname);
        let text = content(&config.hostname, &from, &id, day, domain, counted).to_string();
        let packed = pack(text.as_bytes()).ok()?;
        Some(Report { domain: domain.to_owned(), id, day, submitter: config.hostname.clone(), from, packed })
    }

    /// Puts a report into the queue, or into a mailbox here.
    async fn by_mail(&self, report: &Report, address: &str) -> bool {
        let (services, to) = (Arc::clone(self.services()), address.to_owned());
        let text = mail(report, address, clock::now().unix_s);
        let unix_s = clock::now().unix_s;
        let posted = self.on_storage(move || {
            let mut staging = services.engine.stage();
            staging.write(text.as_bytes())?;
            let message = staging.finish()?;
            let Some((deliveries, mut outbound)) = delivery::from_the_server(&services, &to, now_ms()) else {
                return Ok(false);
            };
            // RFC 8460 section 5.3: it is to arrive although, or because, nothing else does.
            for outbound in &mut outbound {
                outbound.tls_optional = true;
            }
            let command = Command::Dispatch { message: Some(message), deliveries, outbound, settled: Vec::new() };
            services.engine.execute(unix_s, command).map(|_| true)
        });
        let posted = posted.await == Some(true);
        tracing::info!(domain = report.domain, to = address, posted, "a report on the protection of connections");
        posted
    }

    async fn by_web(&self, report: &Report, host: &str, path: &str) -> bool {
        let config = self.services().config();
        let Ok(answer) = self.dns.addresses(host).await else { return false };
        let may = |address: &IpAddr| config.outbound.loopback || is_elsewhere(*address);
        let port = config.outbound.mta_sts_port;
        let addresses: Vec<SocketAddr> =
            answer.found.into_iter().filter(may).map(|address| SocketAddr::new(address, port)).collect();
        let content = Some((Bytes::from(report.packed.clone()), "application/tlsrpt+gzip"));
        let ask = Ask { host, addresses: &addresses, path, content, octets_max: ANSWER_OCTETS_MAX };
        let answered = self.dialer.https(&ask).await;
        let why = answered.as_ref().err().map(ToString::to_string);
        tracing::info!(domain = report.domain, host, why, "a report on the protection of connections");
        answered.is_ok()
    }
}

/// Whether the day is over and the moment of the domain has come.
fn is_due(day: i64, domain: &str, unix_s: i64) -> bool {
    let hash = blake3::hash(domain.as_bytes());
    let spread = hash.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head) % SPREAD_S);
    unix_s >= (day + 1).saturating_mul(DAY_S).saturating_add(i64::try_from(spread).unwrap_or(0))
}

fn blake3_name(domain: &str) -> String {
    blake3::hash(domain.as_bytes()).to_hex().as_str().get(..16).unwrap_or_default().to_owned()
}

/// Who wants a report.
#[derive(Debug, PartialEq, Eq)]
enum Recipient {
    Mail(String),
    /// A host, and the path there.
    Web(String, String),
}

/// Whom the record of a domain names (RFC 8460 section 3). Nobody when there is no record, or more than one.
fn recipients(texts: &[String]) -> Vec<Recipient> {
    let is_record = |text: &&String| text.split(';').next().is_some_and(|head| head.trim() == "v=TLSRPTv1");
    let mut records = texts.iter().filter(is_record);
    let (Some(record), None) = (records.next(), records.next()) else { return Vec::new() };
    let wanted = record.split(';').find_map(|field| field.trim().strip_prefix("rua="));
    let named = wanted.unwrap_or_default().split(',').filter_map(|uri| recipient(uri.trim()));
    named.take(RECIPIENTS_MAX).collect()
}

fn recipient(uri: &str) -> Option<Recipient> {
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        let address = rest.split_once('?').map_or(rest, |(address, _)| address);
        return Some(Recipient::Mail(decode_percent(address)?));
    }
    if !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let rest = rest.strip_prefix("//")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    // Another port would let a stranger make us knock on any door.
    let is_name = !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.".contains(&c));
    is_name.then(|| Recipient::Web(host.to_owned(), format!("/{path}")))
}

fn decode_percent(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        if *octet == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            octets.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = behind;
        } else {
            octets.push(*octet);
        }
    }
    String::from_utf8(octets).ok()
}

fn pack(octets: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(octets)?;
    packer.finish()
}

/// A report as RFC 8460 section 4.4 has it.
fn content(hostname: &str, from: &str, id: &str, day: i64, domain: &str, counted: &Day) -> Value {
    let from_s = day.saturating_mul(DAY_S);
    let policies: Vec<Value> = counted.policies.iter().map(|policy| policy_content(policy, domain)).collect();
    json!({
        "organization-name": hostname,
        "date-range": {
            "start-datetime": date(from_s),
            "end-datetime": date(from_s + DAY_S - 1),
        },
        "contact-info": from,
        "report-id": id,
        "policies": policies,
    })
}

fn policy_content(counted: &Counted, domain: &str) -> Value {
    let details: Vec<Value> = counted
        .troubles
        .iter()
        .map(|trouble| {
            let mut detail = json!({ "result-type": trouble.result, "failed-session-count": trouble.count });
            let known = [
                ("sending-mta-ip", trouble.from.map(|from| from.to_string())),
                ("receiving-mx-hostname", Some(trouble.exchanger.clone()).filter(|name| !name.is_empty())),
                ("receiving-ip", trouble.address.map(|address| address.to_string())),
            ];
            for (name, value) in known {
                if let Some(value) = value {
                    detail[name] = Value::String(value);
                }
            }
            detail
        })
        .collect();
    let mut policy = json!({
        "policy-type": counted.kind,
        // The owner of TLSA records is the exchanger that they are about (RFC 8460 section 1.1).
        "policy-domain": counted.host.as_deref().unwrap_or(domain),
    });
    if !counted.lines.is_empty() {
        policy["policy-string"] = json!(counted.lines);
    }
    if !counted.patterns.is_empty() {
        policy["mx-host"] = json!(counted.patterns);
    }
    let mut whole = json!({
        "policy": policy,
        "summary": {
            "total-successful-session-count": counted.good,
            "total-failure-session-count": counted.bad,
        },
    });
    if !details.is_empty() {
        whole["failure-details"] = json!(details);
    }
    whole
}

/// A moment as RFC 3339 has it, in UTC.
fn date(unix_s: i64) -> String {
    let (day, second) = (unix_s.div_euclid(DAY_S), unix_s.rem_euclid(DAY_S));
    let Civil { year, month, day } = Civil::from_days_since_epoch(i32::try_from(day).unwrap_or(i32::MAX));
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The mail that carries a report (RFC 8460 section 5.3).
fn mail(report: &Report, to: &str, now_unix_s: i64) -> String {
    let Report { domain, id, day, submitter, from, packed } = report;
    let (begin, boundary) = (day.saturating_mul(DAY_S), format!("=_tlsrpt_{}", blake3_name(id)));
    let (end, date) = (begin + DAY_S - 1, date_time(now_unix_s));
    let mut text = format!(
        "From: <{from}>\r\n\
         To: <{to}>\r\n\
         Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}>\r\n\
         Date: {date}\r\n\
         Message-ID: <tlsrpt.{id}>\r\n\
         TLS-Report-Domain: {domain}\r\n\
         TLS-Report-Submitter: {submitter}\r\n\
         TLS-Required: No\r\n\
         Auto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         How connections from {submitter} to the mail servers of {domain} were protected.\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: application/tlsrpt+gzip\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n\tfilename=\"{submitter}!{domain}!{begin}!{end}.json.gz\"\r\n\
         \r\n"
    );
    let encoded = BASE64.encode(packed);
    for line in encoded.as_bytes().chunks(BASE64_LINE) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push_str("\r\n");
    }
    text + "\r\n--" + &boundary + "--\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::results::Troubles;

    #[test]
    fn records_name_those_who_want_reports() {
        let of = |texts: &[&str]| recipients(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let mail = |address: &str| Recipient::Mail(address.to_owned());
        assert_eq!(
            of(&["v=TLSRPTv1; rua=mailto:a%2Bb@c.example?subject=x,https://r.example/v1/tls"]),
            [mail("a+b@c.example"), Recipient::Web("r.example".into(), "/v1/tls".into())]
        );
        for nobody in [
            &["v=TLSRPTv1;rua=mailto:a@b", "v=TLSRPTv1;rua=mailto:c@d"][..],
            &["v=TLSRPTv2;rua=mailto:a@b"],
            &["v=TLSRPTv1;rua=http://a/"],
            &["v=TLSRPTv1;rua=https://a:22/"],
            &["v=TLSRPTv1;rua=mailto:a%4"],
            &["v=TLSRPTv1"],
        ] {
            assert_eq!(of(nobody), [], "{nobody:?}");
        }
    }

    #[test]
    fn reports_are_what_the_rfc_shows() {
        let troubles = vec![Troubles {
            result: "certificate-expired".into(),
            exchanger: "mx1.c.example".into(),
            address: "192.0.2.1".parse().ok(),
            from: "192.0.2.9".parse().ok(),
            count: 3,
        }];
        let lines = vec!["version: STSv1".into(), "mode: testing".into()];
        let counted = Counted { kind: "sts".into(), lines, good: 5, bad: 3, troubles, ..Counted::default() };
        let value =
            content("mail.a.example", "x@a.example", "1@a", 16_892, "c.example", &Day { policies: vec![counted] });
        assert_eq!(value["date-range"]["start-datetime"], "2016-04-01T00:00:00Z");
        assert_eq!(value["date-range"]["end-datetime"], "2016-04-01T23:59:59Z");
        let policy = &value["policies"][0];
        assert_eq!(policy["policy"]["policy-domain"], "c.example");
        assert_eq!(policy["policy"]["policy-string"], json!(["version: STSv1", "mode: testing"]));
        assert_eq!(policy["summary"]["total-failure-session-count"], 3);
        assert_eq!(policy["failure-details"][0]["receiving-ip"], "192.0.2.1");
        assert_eq!(date(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn days_are_reported_when_they_are_over() {
        assert!(!is_due(10, "a.example", 11 * DAY_S - 1));
        assert!(is_due(10, "a.example", 11 * DAY_S + 4 * 60 * 60));
    }
}
