//! Stage six: the header each copy gets in front (RFC 5321 section 4.4).

use bytes::Bytes;
use rockdove_engine::{Engine, directory::ListRecord};
use rockdove_mail::date::date_time;
use rockdove_smtp::{Address, Role, received};

use super::{Job, list};

//= rfc5321#section-4.4
//# When the delivery SMTP server makes the "final delivery" of a
//# message, it inserts a return-path line at the beginning of the mail
//# data.
/// What was found out stands above our `Received`, which tells where it was found out (RFC 8601 section 4.1).
pub(super) fn trace(job: &mut Job, engine: &Engine) {
    let directory = engine.directory();
    let envelope = &job.mail.envelope;
    let return_path = envelope.reverse_path.as_ref().map(Address::to_string).unwrap_or_default();
    let (missing, found) = (missing_fields(job), &job.verdict.fields);
    let headers: Vec<Bytes> = job
        .copies
        .iter()
        .map(|copy| {
            let recipient = copy.recipients.first().and_then(|recipient| envelope.recipients.get(*recipient));
            let recipient = recipient.map(|recipient| recipient.address.to_string()).unwrap_or_default();
            let received = received(envelope, &job.config.hostname, Some(&recipient), job.mail.received_unix_s);
            let (delivered_to, own) = (&copy.address, &copy.fields);
            let list = copy.list.as_deref().and_then(|list| directory.list(list));
            let bounces = list.map(ListRecord::bounce_address);
            let return_path = bounces.as_ref().unwrap_or(&return_path);
            let list = list.map(|list| list::fields(&directory, &list.address)).unwrap_or_default();
            Bytes::from(format!(
                "Return-Path: <{return_path}>\r\nDelivered-To: {delivered_to}\r\n{own}{found}{received}{list}{missing}"
            ))
        })
        .collect();
    for (copy, header) in job.copies.iter_mut().zip(headers) {
        copy.trace_header = header;
    }
}

/// What a submitted message must have and lacks (RFC 6409 sections 8.2 and 8.3). Mail from elsewhere is left as it is.
pub(super) fn missing_fields(job: &Job) -> String {
    let (header, unix_s) = (job.mail.header, job.mail.received_unix_s);
    let submitted = job.mail.envelope.client.role == Role::Submission;
    let field = |missing: bool, field: String| if submitted && missing { field } else { String::new() };
    let message_id = format!("Message-ID: <{}.{unix_s}@{}>\r\n", job.mail.envelope.id, job.config.hostname);
    let date = format!("Date: {}\r\n", date_time(unix_s));
    field(!header.message_id, message_id) + &field(!header.date, date)
}
