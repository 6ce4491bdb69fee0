//! Aggregate reports of DMARC (RFC 9990): counts kept in the store, and sent when their period is over.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use mail_auth::report::Report;
use rockdove_engine::{Command, Engine, EngineError, MemoKind, memo::MEMO_OCTETS_MAX};
use tokio::{sync::oneshot, time::sleep};

use super::{
    aggregate::{Counts, Kept},
    dmarc,
};
use crate::{
    delivery,
    dns::{Dns, DnsFailure, Records, ascii_domain},
    runtime::clock,
    services::Services,
};

/// How often counts are written, unless periods are shorter; what was counted since is lost when the server dies.
const WRITE_EVERY: Duration = Duration::from_mins(1);
/// Names of memos read at once.
const PAGE: usize = 100;
/// Seconds after which a report is given up whose recipients could not be asked.
const LATE_S_MAX: u64 = 3 * 86_400;
/// Reports that wait; what is found about more domains is not counted.
const DOMAINS_MAX: usize = 20_000;

/// Writes counts and sends reports, for ever.
pub(super) async fn run(services: Arc<Services>, counts: &RefCell<Counts>) {
    let Ok(dns) = Dns::new(&services.config().dns) else { return };
    loop {
        let period = services.config().trust.report_period.duration();
        sleep(WRITE_EVERY.min(period)).await;
        write(&services, counts).await;
        send_due(&services, &dns).await;
    }
}

/// Writes what was counted.
pub(super) async fn write(services: &Arc<Services>, counts: &RefCell<Counts>) {
    let taken = counts.borrow_mut().take();
    if taken.is_empty() {
        return;
    }
    let kept = blocking(services, move |engine| keep(engine, taken)).await;
    if let Err(error) = kept {
        tracing::warn!(%error, "counts for DMARC reports are lost");
    }
}

/// Does something on the storage pool.
async fn blocking<T: Send + 'static>(
    services: &Arc<Services>,
    work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let (engine, (tell, told)) = (Arc::clone(&services.engine), oneshot::channel());
    let busy = || EngineError::Unavailable("the storage pool is busy".to_owned());
    services.storage.run(move || drop(tell.send(work(&engine)))).map_err(|_| busy())?;
    told.await.map_err(|_| busy())?
}

fn name(begin: u64, domain: &str) -> String {
    format!("{begin:012} {domain}")
}

fn keep(engine: &Engine, taken: BTreeMap<(u64, String), Kept>) -> Result<(), EngineError> {
    let mut changes = Vec::new();
    let mut known = engine.memos(MemoKind::DmarcCounts, "", DOMAINS_MAX)?.len();
    for ((begin, domain), counted) in taken {
        let name = name(begin, &domain);
        let before = engine.memo(MemoKind::DmarcCounts, &name)?;
        if before.is_none() {
            known += 1;
            if known > DOMAINS_MAX {
                metrics::counter!("rockdove_dmarc_report_lines_left_out_total").increment(1);
                continue;
            }
        }
        let kept = match before.and_then(|octets| read(&octets)) {
            Some(mut kept) => {
                kept.add(counted);
                kept
            }
            None => counted,
        };
        let octets = serde_json::to_vec(&kept).unwrap_or_default();
        if octets.len() <= MEMO_OCTETS_MAX {
            changes.push((MemoKind::DmarcCounts, name, Some(Bytes::from(octets))));
        }
    }
    engine.execute(clock::now().unix_s, Command::Memo { changes }).map(drop)
}

fn read(octets: &[u8]) -> Option<Kept> {
    serde_json::from_slice(octets).ok()
}

/// Sends the reports of periods that are over.
async fn send_due(services: &Arc<Services>, dns: &Dns) {
    let now = u64::try_from(clock::now().unix_s).unwrap_or(0);
    let mut after = String::new();
    loop {
        let from = after.clone();
        let names = blocking(services, move |engine| engine.memos(MemoKind::DmarcCounts, &from, PAGE)).await;
        let Ok(names) = names else { return };
        let Some(last) = names.last() else { return };
        after.clone_from(last);
        for name in names {
            match send(services, dns, &name, now).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(report = name, %error, "a DMARC report is not sent now"),
            }
        }
    }
}

/// Sends one report, or gives it up; false when its period is not over.
async fn send(services: &Arc<Services>, dns: &Dns, name: &str, now: u64) -> Result<bool, EngineError> {
    let wanted = name.to_owned();
    let octets = blocking(services, move |engine| engine.memo(MemoKind::DmarcCounts, &wanted)).await?;
    let kept = octets.and_then(|octets| read(&octets));
    let mut recipients = Vec::new();
    if let Some(kept) = &kept {
        let end = kept.report.date_range_end();
        if end >= now {
            return Ok(false);
        }
        for address in &kept.rua {
            match wants(dns, kept.report.domain(), address).await {
                Ok(true) => recipients.push(address.clone()),
                Err(_) if now - end < LATE_S_MAX => return Ok(true),
                Ok(false) | Err(_) => {}
            }
        }
    }
    let (sender, name) = (Arc::clone(services), name.to_owned());
    blocking(services, move |engine| {
        if let Some(kept) = kept {
            for to in recipients {
                post(&sender, &kept.report, &to)?;
            }
        }
        let changes = vec![(MemoKind::DmarcCounts, name, None)];
        engine.execute(clock::now().unix_s, Command::Memo { changes }).map(drop)
    })
    .await?;
    Ok(true)
}

/// Whether an address is the domain's own, or has said that it takes the domain's reports (RFC 9990 section 4).
async fn wants<R: Records>(records: &R, domain: &str, address: &str) -> Result<bool, DnsFailure> {
    let Some(to) = address.rsplit_once('@').and_then(|(_, to)| ascii_domain(to)) else { return Ok(false) };
    if dmarc::same_organization(records, domain, &to).await? {
        return Ok(true);
    }
    let texts = records.txt(&format!("{domain}._report._dmarc.{to}")).await?;
    Ok(texts.iter().any(|text| dmarc::policy_record(text).is_some()))
}

/// Puts one report into the queue, or into a mailbox of ours. May block.
fn post(services: &Services, report: &Report, to: &str) -> Result<(), EngineError> {
    let config = services.config();
    let Some(from) = &config.trust.report_from else { return Ok(()) };
    let id = format!("{}.{}@{}", report.date_range_begin(), report.domain(), config.hostname);
    let report = report.clone().with_version(1.0).with_org_name(&config.hostname).with_email(from).with_report_id(id);
    let mut content = Vec::new();
    report
        .write_rfc5322(&config.hostname, from.as_str(), std::iter::once(to), &mut content)
        .map_err(|error| EngineError::Invalid(error.to_string()))?;
    let mut staging = services.engine.stage();
    staging.write(&content)?;
    let message = staging.finish()?;
    let now = clock::now().unix_s;
    let now_ms = u64::try_from(now).unwrap_or(0).saturating_mul(1000);
    let Some((deliveries, outbound)) = delivery::from_the_server(services, to, now_ms) else { return Ok(()) };
    let command = Command::Dispatch { message: Some(message), deliveries, outbound, settled: Vec::new() };
    services.engine.execute(now, command)?;
    metrics::counter!("rockdove_dmarc_reports_sent_total").increment(1);
    tracing::info!(domain = report.domain(), to, "a DMARC report is sent");
    Ok(())
}
