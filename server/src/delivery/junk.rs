//! Stage three: a message that the inspection or the filter calls junk goes into the mailbox for that.

use rockdove_engine::{AccountId, Command, Engine, EngineError, Outcome};
use rockdove_mail::{MailboxName, SpecialUse};

use super::Job;

/// What the mailbox is called where an account has none.
const NAME: &str = "Junk";

pub(super) fn sort(job: &mut Job, engine: &Engine) {
    for copy in job.copies.iter_mut().filter(|copy| copy.junk || job.verdict.junk) {
        copy.fields.push_str("X-Spam-Flag: YES\r\n");
        match junk_mailbox(engine, copy.account, job.mail.received_unix_s) {
            Ok(mailbox) => copy.mailbox = mailbox,
            Err(error) => {
                tracing::warn!(account = %copy.address, %error, "no mailbox for junk: it goes where other mail goes");
            }
        }
    }
}

/// The mailbox of an account with the special use `\Junk` (RFC 6154); it is made where there is none.
fn junk_mailbox(engine: &Engine, account: AccountId, now_unix_s: i64) -> Result<MailboxName, EngineError> {
    let mailboxes = engine.mailboxes(account)?;
    if let Some(junk) = mailboxes.mailboxes().iter().find(|mailbox| mailbox.special_use == Some(SpecialUse::Junk)) {
        return Ok(junk.name.clone());
    }
    let name = MailboxName::new(NAME).map_err(|error| EngineError::Unavailable(error.to_string()))?;
    if mailboxes.by_name(&name).is_some() {
        return Ok(name);
    }
    let create = Command::CreateMailbox { account, name: name.clone(), special_use: Some(SpecialUse::Junk) };
    match engine.execute(now_unix_s, create) {
        Ok(Outcome::Mailbox(_)) | Err(EngineError::Exists(_)) => Ok(name),
        Ok(_) => Err(EngineError::Unavailable("an answer to another question".to_owned())),
        Err(error) => Err(error),
    }
}
