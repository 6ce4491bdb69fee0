//! The command about DMARC reports that others have sent: `rockdove domain reports`.

use std::{fmt::Write as _, path::Path};

use mail_auth::report::{ActionDisposition, DmarcResult, Error, Record, Report};
use rockdove_mail::date;
use serde_json::json;

use crate::{
    cli::print,
    config,
    failure::Failure,
    transfer::{Source as _, TransferError, account_source::AccountSource},
};

/// Octets of one report behind its compression.
const REPORT_OCTETS_MAX: usize = 32 << 20;

/// Prints the aggregate reports (RFC 7489, RFC 9990) in an account: in these mailboxes, or all; of this domain, or all.
///
/// # Errors
/// When no server runs, or the account or a mailbox does not exist.
pub(crate) fn show(
    path: &Path,
    address: &str,
    mailboxes: &[String],
    domain: Option<&str>,
    as_json: bool,
) -> Result<(), Failure> {
    let config = config::read(path)?;
    let mut source = AccountSource::open(&config, address, mailboxes)?;
    let (mut reports, mut unreadable) = (Vec::new(), 0_usize);
    loop {
        let octets = match source.next() {
            Ok(Some(item)) => item.octets,
            Ok(None) => break,
            Err(TransferError::PassedOver { .. }) => continue,
            Err(stopped) => return Err(stopped.into()),
        };
        match Report::parse_rfc5322(&octets, REPORT_OCTETS_MAX) {
            Ok(report) if domain.is_none_or(|domain| report.domain().eq_ignore_ascii_case(domain)) => {
                reports.push(report);
            }
            // Other mail.
            Ok(_) | Err(Error::NoReportsFound | Error::MailParseError) => {}
            Err(_) => unreadable += 1,
        }
    }
    reports.sort_by_key(|report| (report.date_range_begin(), report.org_name().to_owned()));
    if as_json {
        return print(&format!("{:#}\n", json!(reports)));
    }
    let mut text = String::new();
    for report in &reports {
        describe(report, &mut text);
    }
    if unreadable > 0 {
        writeln!(text, "{unreadable} messages look like reports and cannot be read").unwrap_or_default();
    }
    if text.is_empty() {
        text.push_str("there are no reports\n");
    }
    print(&text)
}

/// One line for the report, and one for each that is not all right.
fn describe(report: &Report, text: &mut String) {
    let day = |unix_s: u64| {
        let days = i32::try_from(unix_s / 86_400).unwrap_or(0);
        let day = date::Civil::from_days_since_epoch(days);
        format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)
    };
    let passed = |record: &&Record| {
        record.dmarc_dkim_result() == DmarcResult::Pass || record.dmarc_spf_result() == DmarcResult::Pass
    };
    let count =
        |records: &mut dyn Iterator<Item = &Record>| -> u64 { records.map(|record| u64::from(record.count())).sum() };
    let all = count(&mut report.records().iter());
    let good = count(&mut report.records().iter().filter(passed));
    let (begin, end) = (day(report.date_range_begin()), day(report.date_range_end()));
    let (domain, who) = (plain(report.domain()), plain(report.org_name()));
    writeln!(text, "{begin} to {end}  {domain}  by {who}: {all} messages, {good} pass").unwrap_or_default();
    for record in report.records().iter().filter(|record| !passed(record)) {
        let address = record.source_ip().map_or_else(|| "?".to_owned(), |address| address.to_string());
        let done = match record.action_disposition() {
            ActionDisposition::Quarantine => "quarantined",
            ActionDisposition::Reject => "refused",
            ActionDisposition::None | ActionDisposition::Pass | ActionDisposition::Unspecified => "delivered",
        };
        let (count, from, sender) = (record.count(), plain(record.header_from()), plain(record.envelope_from()));
        writeln!(text, "    {count:6}  {address}  From: {from}  sender: {sender}  {done}").unwrap_or_default();
    }
}

/// Text of a stranger for a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(255).collect()
}
