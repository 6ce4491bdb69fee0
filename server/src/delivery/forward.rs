//! Stage three: mail that aliases and accounts of ours send on to addresses elsewhere.

use std::collections::BTreeMap;

use bytes::Bytes;
use rockdove_engine::{AccountId, Outbound, OutboundRecipient, queue::NotifyWhen};
use rockdove_mail::header;
use rockdove_smtp::{Address, RecipientOutcome, Refusal, received};

use super::{
    Job,
    leave::{envelope_of, mail_domain, notify_when},
    trace::missing_fields,
};
use crate::{config::Config, outbound};

/// An address elsewhere that a message is sent on to.
pub(super) struct Onward {
    pub(super) address: String,
    /// The alias or account of ours that sends it there.
    pub(super) by: String,
    /// Position of the recipient that led here.
    pub(super) recipient: usize,
}

/// Refuses what was sent on before and has come back: it would come again.
pub(super) fn check_loops(job: &mut Job, block: &[u8]) {
    if job.onward.is_empty() {
        return;
    }
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let been: Vec<String> = header::unfold_decoded(block, DELIVERED_TO);
    let back = |onward: &&Onward| been.iter().any(|address| same(address, &onward.by));
    let recipients: Vec<usize> = job.onward.iter().filter(back).map(|onward| onward.recipient).collect();
    job.fail(&recipients, &RecipientOutcome::Refused(came_back()));
    job.drop_refused();
}

fn came_back() -> Refusal {
    let text = "mail for this recipient is sent on and has come back, it is going round in a loop";
    Refusal { code: 554, status: "5.4.6".to_owned(), text: text.to_owned() }
}

/// The field that tells through which addresses a message came.
const DELIVERED_TO: &str = "Delivered-To";

/// What is sent on: an envelope for each alias or account that does it.
pub(super) fn forward(job: &Job, config: &Config, owner: Option<AccountId>) -> Vec<Outbound> {
    let mut by: BTreeMap<&str, Vec<&Onward>> = BTreeMap::new();
    for onward in &job.onward {
        by.entry(&onward.by).or_default().push(onward);
    }
    by.into_iter().filter_map(|(by, onward)| envelope(job, config, owner, by, &onward)).collect()
}

fn envelope(job: &Job, config: &Config, owner: Option<AccountId>, by: &str, onward: &[&Onward]) -> Option<Outbound> {
    let first = job.mail.envelope.recipients.get(onward.first()?.recipient)?;
    let recipients: Vec<OutboundRecipient> =
        onward.iter().filter_map(|one| outbound_recipient(job, config, one, onward.len() == 1)).collect();
    let (hostname, unix_s) = (&job.config.hostname, job.mail.received_unix_s);
    let trace = received(&job.mail.envelope, hostname, Some(&first.address.to_string()), unix_s);
    let prefix = Bytes::from(format!(
        "{DELIVERED_TO}: {by}\r\n{trace}{}{}{}",
        job.verdict.seal,
        job.verdict.fields,
        missing_fields(job)
    ));
    let outbound = Outbound { recipients, ..envelope_of(job, owner, prefix) };
    let smtputf8 = outbound.smtputf8 || outbound.recipients.iter().any(|recipient| !recipient.address.is_ascii());
    (!outbound.recipients.is_empty()).then_some(Outbound { smtputf8, ..outbound })
}

fn outbound_recipient(job: &Job, config: &Config, onward: &Onward, alone: bool) -> Option<OutboundRecipient> {
    let recipient = job.mail.envelope.recipients.get(onward.recipient)?;
    let address = Address::parse(&onward.address).ok()?;
    let notify = notify_when(recipient.notify);
    //= rfc3461#section-5.2.7.3
    //# The NOTIFY
    //# parameter is propagated to the forwarding addresses, except that
    //# it any SUCCESS keyword is removed.
    // The same where a copy stays here: that copy is the delivery.
    let kept = job.copies.iter().any(|copy| copy.recipients.contains(&onward.recipient));
    let notify = NotifyWhen { success: notify.success && alone && !kept, ..notify };
    let original = recipient.original_recipient.as_deref().map(str::to_owned);
    Some(OutboundRecipient {
        next_hop: outbound::next_hop(config, &mail_domain(&address)?),
        address: address.to_string(),
        notify,
        original_recipient: original.or_else(|| original_recipient(&recipient.address.to_string())),
    })
}

/// ORCPT for a recipient whose sender gave none (RFC 3461 section 5.2.1); `None` for one that is not ASCII.
fn original_recipient(address: &str) -> Option<String> {
    let plain = |octet: u8| octet.is_ascii_graphic() && octet != b'+' && octet != b'=';
    let xtext = |octet: u8| if plain(octet) { char::from(octet).to_string() } else { format!("+{octet:02X}") };
    address.is_ascii().then(|| format!("rfc822;{}", address.bytes().map(xtext).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn original_recipients_are_xtext() {
        assert_eq!(original_recipient("a+b=c@x.example"), Some("rfc822;a+2Bb+3Dc@x.example".to_owned()));
        assert_eq!(original_recipient("\"a b\"@x.example"), Some("rfc822;\"a+20b\"@x.example".to_owned()));
        assert_eq!(original_recipient("j\u{f6}rg@x.example"), None);
    }
}
